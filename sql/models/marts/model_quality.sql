{{ config(materialized='view') }}

select * from {{ source('lake', 'model_quality') }}

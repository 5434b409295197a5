{{ config(materialized='view') }}

select * from {{ source('lake', 'run_report') }}

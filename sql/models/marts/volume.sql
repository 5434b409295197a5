{{ config(materialized='view') }}

select
    cohort_date as created_date,
    counted,
    source,
    channel,
    product,
    language,
    team,
    feedback_type,
    need,
    sentiment,
    priority,
    numerator as record_count
from {{ ref('metrics_daily') }}
where metric = 'volume'

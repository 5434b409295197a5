{{ config(materialized='view') }}

select
    cohort_date as rated_date,
    source,
    channel,
    team,
    need,
    numerator as satisfied_count,
    denominator as rated_count,
    value as csat,
    ci_low,
    ci_high,
    is_small_sample
from {{ ref('metrics_daily') }}
where metric = 'csat'

{{ config(materialized='view') }}

select
    cohort_date as rated_date,
    source,
    channel,
    team,
    need,
    (value_sum_squares + numerator) / 2 as promoter_count,
    (value_sum_squares - numerator) / 2 as detractor_count,
    denominator as rated_count,
    value as nps,
    ci_low,
    ci_high,
    is_small_sample
from {{ ref('metrics_daily') }}
where metric = 'nps'

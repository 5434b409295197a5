{{ config(materialized='view') }}

select
    cohort_date as rated_date,
    source,
    channel,
    team,
    need,
    numerator as easy_count,
    denominator as rated_count,
    value as ces,
    ci_low,
    ci_high,
    value_sum as score_sum,
    value_sum / value_count as mean_score,
    is_small_sample
from {{ ref('metrics_daily') }}
where metric = 'ces'

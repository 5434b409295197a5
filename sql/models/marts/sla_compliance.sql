{{ config(materialized='view') }}

select
    cohort_date as decided_date,
    sla_metric,
    clock,
    source,
    channel,
    team,
    need,
    priority,
    numerator as met_count,
    denominator - numerator as breached_count,
    value as compliance,
    ci_low,
    ci_high,
    is_small_sample
from {{ ref('metrics_daily') }}
where metric = 'sla'

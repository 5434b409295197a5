{{ config(materialized='view') }}

select
    metric,
    clock,
    cohort,
    cohort_date,
    source,
    channel,
    team,
    need,
    value_sum as minutes_sum,
    value_sum_squares as minutes_sum_squares,
    value_count as case_count,
    value as mean_minutes,
    ci_low,
    ci_high,
    is_small_sample
from {{ ref('metrics_daily') }}
where
    metric in (
        'first_reply', 'total_reply', 'first_resolution', 'full_resolution',
        'requester_wait', 'agent_wait', 'agent_work', 'on_hold', 'solve'
    )
    and dialect = 'house'

{{ config(materialized='view') }}

select
    cohort_date as snapshot_date,
    source,
    channel,
    team,
    need,
    priority,
    age_band,
    numerator as case_count
from {{ ref('metrics_daily') }}
where metric = 'backlog'

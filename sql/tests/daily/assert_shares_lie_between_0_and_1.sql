-- Shares of the touched days have 0 <= numerator <= denominator.
select metrics.*
from {{ ref('metrics_daily') }} as metrics
semi join {{ ref('int_touched_days') }} as days
    on metrics.cohort_date = days.day
where
    metrics.denominator is not null
    and metrics.metric <> 'nps'
    and (
        metrics.numerator < 0
        or metrics.numerator > metrics.denominator
    )

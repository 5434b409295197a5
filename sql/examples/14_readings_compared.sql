-- How far do the readings of house, Zendesk, Fivetran and Mozilla differ?
-- house、Zendesk、Fivetran、Mozilla 的口径相差多少？
select
    metric,
    clock,
    dialect,
    coalesce(
        sum(numerator) / sum(denominator), sum(value_sum) / sum(value_count)
    ) as value
from metrics_daily
where metric in ('reopen', 'first_reply', 'full_resolution', 'one_touch')
group by all
order by metric, clock, dialect

-- How did NPS move from month to month?
-- 净推荐值逐月如何变化？
with

summed as (

    select
        date_trunc('month', cohort_date)::date as month,
        sum(numerator) as numerator,
        sum(denominator) as denominator,
        sum(value_sum_squares) as value_sum_squares
    from metrics_daily
    where metric = 'nps'
    group by month

)

select
    month,
    denominator as answers,
    metric_value('nps', numerator, denominator, null, null, null) as nps,
    metric_low('nps', numerator, denominator, null, value_sum_squares, null) as low,
    metric_high('nps', numerator, denominator, null, value_sum_squares, null) as high
from summed
order by month

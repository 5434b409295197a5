-- What were median and 90 % quantile of resolutions, week by week?
-- 每周解决时长的中位数与 90% 分位数是多少？
select
    period_date as week_of,
    value_count as cases,
    median / 60 as median_hours,
    p90 / 60 as p90_hours
from quality_control
where
    measure = 'resolution'
    and clock = 'calendar'
    and period = 'week'
    and dimension = 'all'
order by week_of desc
limit 12

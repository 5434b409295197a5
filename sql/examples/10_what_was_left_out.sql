-- What do metrics leave out, and why?
-- 指标没有计入什么，为什么？
select
    counted,
    exclusion_reason,
    sum(numerator) as records
from metrics_daily
where metric = 'excluded'
group by all
order by records desc

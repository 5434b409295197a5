-- Are customers less satisfied when their case is passed from agent to agent?
-- 工单转手越多，客户是否越不满意？
select
    least(handoff_count, 3) as handoffs,
    count(*) as cases,
    count(csat_satisfied) as rated,
    avg(csat_satisfied::int) as csat,
    median(full_resolution_minutes) / 60 as median_hours
from cases
where not is_excluded
group by handoffs
order by handoffs

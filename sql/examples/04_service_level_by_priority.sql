-- How often was each promise kept, by priority?
-- 各项服务承诺按优先级的达标率是多少？
select
    sla_metric,
    priority,
    sum(met_count) as met,
    sum(breached_count) as breached,
    sum(met_count) / (sum(met_count) + sum(breached_count)) as compliance
from sla_compliance
group by all
order by compliance

-- Did every row of the last run end up somewhere: accepted, quarantined, duplicate or unchanged?
-- 最近一次运行的每一行是否都有去处：接收、隔离、重复或未变？
select
    step,
    source,
    entity,
    count_in,
    count_out,
    count_quarantined,
    count_duplicate,
    count_unchanged,
    is_closed
from run_report
where run_id = (select max_by(run_id, started_at) from run_report)
order by started_at, source, entity

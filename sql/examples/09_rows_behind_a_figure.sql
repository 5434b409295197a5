-- Which question lists the records behind each row of the metrics of the last day?
-- 最近一天每个指标行背后的记录，用哪条查询可以列出？
select
    metric,
    team,
    value,
    rows_query(metrics_daily) as query
from metrics_daily
where cohort_date = (
    select max(cohort_date) from metrics_daily where metric = 'first_reply'
)
order by metric, team

-- How fast were the cases of each opening week solved (not: of each solving week)?
-- 按创建周（而不是解决周）看，工单多快得到解决？
select
    date_trunc('week', opened_date)::date as opened_week,
    sum(value_count) as solved_cases,
    sum(value_sum) / sum(value_count) / 60 as mean_hours
from metric_records
where metric = 'full_resolution' and clock = 'calendar'
group by opened_week
order by opened_week desc

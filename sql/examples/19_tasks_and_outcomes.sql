-- What came of the follow-up tasks of each rule?
-- 每条跟进规则的任务结果如何？
select
    rule,
    status,
    count(*) as tasks,
    count(*) filter (where due_at < now() and status in ('open', 'in_progress')) as overdue
from follow_up_tasks
group by all
order by rule, tasks desc

-- At which hours and weekdays do cases come in, and how long do they wait for a reply then?
-- 工单在哪些钟点和星期几进来，那时要等多久才有回复？
select
    isodow(opened_at at time zone time_zone) as weekday,
    hour(opened_at at time zone time_zone) as hour,
    count(*) as cases,
    median(first_reply_minutes) as median_minutes
from cases
where not is_excluded
group by all
order by cases desc
limit 20

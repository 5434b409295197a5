-- How long do customers wait for a first reply, by need, on both clocks?
-- 各类需求的客户等首次回复要多久（自然时间与工作时间）？
select
    need,
    clock,
    sum(case_count) as cases,
    sum(minutes_sum) / sum(case_count) as mean_minutes
from response_times
where metric = 'first_reply'
group by all
order by need, clock

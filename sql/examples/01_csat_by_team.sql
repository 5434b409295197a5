-- How satisfied were the customers of each team in the last 28 days, and how sure is that?
-- 近 28 天各团队的客户满意度是多少，有多可靠？
with

summed as (

    select
        team,
        sum(satisfied_count) as satisfied,
        sum(rated_count) as rated
    from csat
    where rated_date > (select max(rated_date) from csat) - 28
    group by team

)

select
    team,
    rated,
    metric_value('csat', satisfied, rated, null, null, null) as csat,
    metric_low('csat', satisfied, rated, null, null, null) as low,
    metric_high('csat', satisfied, rated, null, null, null) as high
from summed
order by csat desc

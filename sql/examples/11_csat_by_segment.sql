-- How satisfied is each segment of customers?
-- 各客户分群的满意度如何？
select
    member as segment,
    sum(numerator) as satisfied,
    sum(denominator) as rated,
    sum(numerator) / sum(denominator) as csat
from metrics_by
where dimension = 'segment' and metric = 'csat'
group by member
order by rated desc

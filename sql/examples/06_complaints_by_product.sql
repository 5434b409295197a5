-- Which products draw the most complaints, and which share of what is said about them?
-- 哪些产品投诉最多，占其反馈的多少？
select
    product,
    sum(record_count) filter (where feedback_type = 'complaint') as complaints,
    sum(record_count) as feedback,
    complaints / feedback as share
from volume
where counted = 'feedback' and product is not null
group by product
order by complaints desc nulls last
limit 10

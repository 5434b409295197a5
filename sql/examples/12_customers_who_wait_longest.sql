-- Which customers waited longest in solved cases, and for how many cases?
-- 哪些客户在已解决的工单中等得最久？
select
    records.customer_id,
    customers.display_name,
    count(*) as cases,
    sum(records.value_sum) / 60 as hours_waited
from metric_records as records
left join customers on records.customer_id = customers.customer_id
where
    records.metric = 'requester_wait'
    and records.clock = 'calendar'
    and records.left_out_reason is null
group by all
order by hours_waited desc
limit 20

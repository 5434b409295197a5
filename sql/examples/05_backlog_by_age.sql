-- How old are the cases that stood unsolved at the end of the last day?
-- 最近一天结束时，未解决的工单有多久了？
select
    age_band,
    sum(case_count) as cases
from backlog
where snapshot_date = (select max(snapshot_date) from backlog)
group by age_band
order by min(case
    when age_band like '0-%' then 0 else try_cast(regexp_extract(age_band, '\d+') as int)
end)

-- On which days did first replies leave their control limits or show a run?
-- 哪些天的首次回复时长失控？
select
    cohort_date,
    dimension,
    member,
    value as minutes,
    lower_limit,
    upper_limit,
    rule,
    side
from control_charts
where metric = 'first_reply' and statistic = 'median' and rule is not null
order by cohort_date desc, rule

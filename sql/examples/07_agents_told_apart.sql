-- Which agents have the best CSAT, and from whom can they not be told apart?
-- 哪些客服满意度最高？与哪些人的差别可能只是偶然？
select
    place,
    display_name,
    denominator as rated,
    value as csat,
    ci_low,
    ci_high,
    is_like_best,
    len(indistinct_from) as indistinct_count
from agent_ranking
where dimension = 'agent' and metric = 'csat'
order by place, display_name

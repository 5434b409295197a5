-- What did the customers say in cases that they rated badly?
-- 给差评的客户在工单里说了什么？
select
    cases.source_case_id,
    cases.team,
    cases.csat_score,
    feedback.feedback_type,
    feedback.need,
    coalesce(feedback.summary, left(feedback.body, 80)) as said
from cases
inner join feedback on cases.case_id = feedback.case_id
where cases.csat_satisfied = false and not cases.is_excluded
order by cases.last_solved_at desc, feedback.created_at
limit 50

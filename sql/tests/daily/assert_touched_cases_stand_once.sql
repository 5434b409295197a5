-- Every touched case stands in cases exactly once.
select
    touched.case_id,
    count(cases.case_id) as row_count
from {{ ref('int_touched_cases') }} as touched
left join {{ ref('cases') }} as cases on touched.case_id = cases.case_id
group by touched.case_id
having row_count <> 1

{# Empty at first: every rule in models/follow_up adds its rows (post-hook). -#}

select
    null::varchar as rule,
    null::varchar as reason,
    null::varchar as reason_zh,
    null::varchar[] as evidence,
    null::varchar as customer_id,
    null::varchar as case_id,
    null::varchar as feedback_id,
    null::varchar as team,
    null::varchar as need,
    null::varchar as priority,
    null::varchar as language,
    null::double as score,
    null::timestamptz as occurred_at,
    null::timestamptz as due_basis_at,
    null::double as due_minutes,
    null::timestamptz as due_at,
    null::varchar as suggested_action,
    null::varchar as suggested_action_zh,
    null::varchar as url
where false

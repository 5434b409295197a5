with

run as (

    select * from {{ source('run', 'current') }}

),

sla_events as (

    select * from {{ ref('sla_events') }}
    where is_active and not is_excluded and metric = 'first_reply'

),

cases as (

    select * from {{ ref('cases') }}

),

customers as (

    select * from {{ ref('customers') }}

),

at_risk as (

    select
        cases.*,
        sla_events.policy,
        sla_events.target_minutes,
        sla_events.breach_at,
        {{ minutes_between('run.as_of', 'sla_events.breach_at') }} / 60
            as hours_left
    from sla_events
    inner join cases on sla_events.case_id = cases.case_id
    cross join run
    where
        hours_left <= {{ threshold('hours') }}
        and hours_left >= -24 * {{ threshold('days_breached') }}

),

final as (

    select
        if(
            at_risk.hours_left > 0,
            format(
                'First reply due in {} (target {:.0f} minutes, '
                'policy {}).',
                {{ say_hours('at_risk.hours_left') }},
                at_risk.target_minutes,
                at_risk.policy
            ),
            format(
                'First reply overdue by {} (target {:.0f} minutes, '
                'policy {}).',
                {{ say_hours('-at_risk.hours_left') }},
                at_risk.target_minutes,
                at_risk.policy
            )
        ) as reason,
        if(
            at_risk.hours_left > 0,
            format(
                '首次回复将在 {}后超时（目标 {:.0f} 分钟，规则 {}）。',
                {{ say_hours('at_risk.hours_left', 'zh') }},
                at_risk.target_minutes,
                at_risk.policy
            ),
            format(
                '首次回复已超时 {}（目标 {:.0f} 分钟，规则 {}）。',
                {{ say_hours('-at_risk.hours_left', 'zh') }},
                at_risk.target_minutes,
                at_risk.policy
            )
        ) as reason_zh,
        [at_risk.case_id] as evidence,
        at_risk.customer_id,
        at_risk.case_id,
        at_risk.opening_feedback_id as feedback_id,
        at_risk.team,
        at_risk.need,
        coalesce(at_risk.priority, 'normal') as priority,
        at_risk.language,
        {{ task_score(
            priority_weight('at_risk.priority'),
            '1 - at_risk.hours_left / ' ~ threshold('hours'),
            'customers.is_vip'
        ) }} as score,
        at_risk.opened_at as occurred_at,
        at_risk.breach_at as due_at,
        'Send the first reply now.' as suggested_action,
        '请立即给出首次回复。' as suggested_action_zh,
        at_risk.url
    from at_risk
    left join customers on at_risk.customer_id = customers.customer_id

)

select * from final

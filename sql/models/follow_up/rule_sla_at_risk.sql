with

run as (

    select * from {{ source('run', 'current') }}

),

sla_events as (

    select * from {{ ref('sla_events') }}
    where
        is_active
        and not is_paused
        and not is_excluded
        and metric <> 'first_reply'

),

cases as (

    select * from {{ ref('cases') }}
    where {{ is_unsolved('status') }}

),

customers as (

    select * from {{ ref('customers') }}

),

-- {{ ref('rule_first_reply_at_risk') }} has added its cases by then: whoever
-- replies first sees what else is promised.
raised as (

    select case_id from {{ ref('follow_up_candidates') }}
    where rule = 'first_reply_at_risk'

),

at_risk as (

    select
        cases.*,
        sla_events.metric,
        sla_events.policy,
        sla_events.target_minutes,
        sla_events.started_at,
        sla_events.breach_at,
        {{ minutes_between('run.as_of', 'sla_events.breach_at') }} / 60
            as hours_left
    from sla_events
    inner join cases on sla_events.case_id = cases.case_id
    anti join raised on sla_events.case_id = raised.case_id
    cross join run
    where
        hours_left <= {{ threshold('hours') }}
        and hours_left >= -24 * {{ threshold('days_breached') }}

),

-- One row a case: what can still be kept first, else what was broken last.
nearest as (

    select *
    from at_risk
    qualify row_number() over (
        partition by case_id
        order by hours_left <= 0, abs(hours_left), metric
    ) = 1

),

named as (

    select
        *,
        case metric
            when 'next_reply' then 'Next reply'
            when 'periodic_update' then 'Periodic update'
            when 'pausable_update' then 'Pausable update'
            when 'requester_wait' then 'End of the requester''s wait'
            when 'agent_work' then 'End of the agents'' work'
            else 'Resolution'
        end as promised,
        case metric
            when 'next_reply' then '后续回复'
            when 'periodic_update' then '定期更新'
            when 'pausable_update' then '可暂停更新'
            when 'requester_wait' then '客户等待'
            when 'agent_work' then '客服处理'
            else '解决'
        end as promised_zh,
        {{ say_hours('abs(hours_left)') }} as hours_said,
        {{ say_hours('abs(hours_left)', 'zh') }} as hours_said_zh
    from nearest

),

final as (

    select
        format(
            '{} {} {} (target {:.0f} minutes, policy {}).',
            named.promised,
            if(named.hours_left > 0, 'due in', 'overdue by'),
            named.hours_said,
            named.target_minutes,
            named.policy
        ) as reason,
        format(
            if(
                named.hours_left > 0,
                '{}将在 {}后超时（目标 {:.0f} 分钟，规则 {}）。',
                '{}已超时 {}（目标 {:.0f} 分钟，规则 {}）。'
            ),
            named.promised_zh,
            named.hours_said_zh,
            named.target_minutes,
            named.policy
        ) as reason_zh,
        [named.case_id] as evidence,
        named.customer_id,
        named.case_id,
        named.opening_feedback_id as feedback_id,
        named.team,
        named.need,
        coalesce(named.priority, 'normal') as priority,
        named.language,
        {{ task_score(
            priority_weight('named.priority'),
            '1 - named.hours_left / ' ~ threshold('hours'),
            'customers.is_vip'
        ) }} as score,
        named.started_at as occurred_at,
        named.breach_at as due_at,
        case
            when named.metric = 'next_reply'
                then 'Answer the customer''s last message now.'
            when named.metric in ('periodic_update', 'pausable_update')
                then 'Tell the customer where things stand.'
            else
                'Settle the case, or tell the customer by when it will be.'
        end as suggested_action,
        case
            when named.metric = 'next_reply'
                then '请立即回复客户最近的消息。'
            when named.metric in ('periodic_update', 'pausable_update')
                then '请向客户说明最新进展。'
            else '请尽快解决；一时不能解决的，告知客户期限。'
        end as suggested_action_zh,
        named.url
    from named
    left join customers on named.customer_id = customers.customer_id

)

select * from final

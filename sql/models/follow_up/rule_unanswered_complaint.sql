with

run as (

    select * from {{ source('run', 'current') }}

),

cases as (

    select * from {{ ref('cases') }}
    where
        not is_excluded
        and {{ is_unsolved('status') }}

),

feedback as (

    select * from {{ ref('stg_feedback') }}
    where not coalesce(is_excluded, false)

),

labels as (

    select * from {{ ref('stg_labels') }}
    where feedback_type = 'complaint' and not coalesce(is_unsure, false)

),

customers as (

    select * from {{ ref('customers') }}

),

identities as (

    select * from {{ ref('int_customer_identities') }}

),

in_cases as (

    select
        feedback.feedback_id,
        feedback.text_hash,
        feedback.created_at,
        feedback.language,
        cases.case_id,
        cases.customer_id,
        cases.team,
        cases.need as case_need,
        cases.priority as case_priority,
        cases.url
    from feedback
    inner join cases on feedback.case_id = cases.case_id
    where
        cases.last_reply_at is null
        or cases.last_reply_at < feedback.created_at

),

-- Reviews, posts and survey comments have no case to reply in; only grave
-- ones of late call for a person.
elsewhere as (

    select
        feedback.feedback_id,
        feedback.text_hash,
        feedback.created_at,
        feedback.language,
        null as case_id,
        coalesce(identities.customer_id, feedback.customer_ref)
            as customer_id,
        null as team,
        null as case_need,
        null as case_priority,
        feedback.url
    from feedback
    cross join run
    left join identities on feedback.customer_ref = identities.customer_ref
    where
        feedback.case_id is null
        and feedback.created_at
        >= run.as_of
        - to_hours((24 * {{ threshold('days_without_case') }})::bigint)

),

complaints as (

    select
        candidates.*,
        coalesce(candidates.case_need, labels.need) as need,
        case
            when labels.priority in ('urgent', 'high') then labels.priority
            else coalesce(candidates.case_priority, labels.priority)
        end as priority,
        {{ minutes_between('candidates.created_at', 'run.as_of') }} / 60
            as hours_waited
    from (
        select * from in_cases
        union all by name
        select * from elsewhere
    ) as candidates
    inner join labels
        on
            candidates.feedback_id = labels.feedback_id
            and candidates.text_hash = labels.text_hash
    cross join run
    where
        candidates.case_id is not null
        or labels.priority in ('urgent', 'high')

),

-- A case is taken up once, for its first complaint that nobody answered.
first_complaints as (

    select
        coalesce(case_id, feedback_id) as subject_id,
        min_by(complaints, (created_at, feedback_id)) as complaint,
        list(feedback_id order by created_at, feedback_id) as feedback_ids
    from complaints
    group by subject_id

),

waiting as (

    select
        unnest(complaint),
        feedback_ids
    from first_complaints
    where complaint.hours_waited > {{ threshold('hours') }}

),

ranked as (

    select
        waiting.*,
        coalesce(customers.is_vip, false) as is_vip,
        -- Most complaints name a loss: what has waited long in a case, was
        -- said again or comes from an important customer is done before.
        case
            when waiting.priority <> 'high' then waiting.priority
            when
                (
                    waiting.case_id is not null
                    and waiting.hours_waited >= {{ threshold('hours_grave') }}
                )
                or len(waiting.feedback_ids) > 1
                or coalesce(customers.is_vip, false)
                then coalesce(waiting.priority, 'normal')
            else 'normal'
        end as task_priority
    from waiting
    left join customers on waiting.customer_id = customers.customer_id

),

final as (

    select
        format(
            'Complaint without a reply for {} (priority {}); '
            '{} waiting.',
            {{ say_hours('ranked.hours_waited') }},
            ranked.task_priority,
            if(
                len(ranked.feedback_ids) = 1, '1 message',
                len(ranked.feedback_ids) || ' messages'
            )
        ) as reason,
        format(
            '投诉已 {}无人回复（优先级：{}），共 {} 条消息待处理。',
            {{ say_hours('ranked.hours_waited', 'zh') }},
            case ranked.task_priority
                when 'urgent' then '紧急'
                when 'high' then '高'
                when 'low' then '低'
                else '普通'
            end,
            len(ranked.feedback_ids)
        ) as reason_zh,
        ranked.feedback_ids as evidence,
        ranked.customer_id,
        ranked.case_id,
        ranked.feedback_id,
        ranked.team,
        ranked.need,
        ranked.task_priority as priority,
        ranked.language,
        {{ task_score(
            priority_weight('ranked.priority'),
            '1 - exp(-ranked.hours_waited / 72)',
            'ranked.is_vip'
        ) }} as score,
        ranked.created_at as occurred_at,
        ranked.created_at as due_basis_at,
        {{ priority_minutes('ranked.priority') }} as due_minutes,
        if(
            ranked.case_id is null,
            'Contact the customer or answer in public, and open a case.',
            'Reply to the customer: apologise, say what happens next and when.'
        ) as suggested_action,
        if(
            ranked.case_id is null,
            '联系客户或公开回复，并建立工单。',
            '回复客户：致歉，说明下一步处理和时间。'
        ) as suggested_action_zh,
        ranked.url
    from ranked

)

select * from final

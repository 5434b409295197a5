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

final as (

    select
        format(
            'Complaint without a reply for {:.0f} hours (priority {}); '
            '{} message(s) waiting.',
            waiting.hours_waited,
            coalesce(waiting.priority, 'normal'),
            len(waiting.feedback_ids)
        ) as reason,
        format(
            '投诉已 {:.0f} 小时无人回复（优先级：{}），共 {} 条消息待处理。',
            waiting.hours_waited,
            case waiting.priority
                when 'urgent' then '紧急'
                when 'high' then '高'
                when 'low' then '低'
                else '普通'
            end,
            len(waiting.feedback_ids)
        ) as reason_zh,
        waiting.feedback_ids as evidence,
        waiting.customer_id,
        waiting.case_id,
        waiting.feedback_id,
        waiting.team,
        waiting.need,
        coalesce(waiting.priority, 'normal') as priority,
        waiting.language,
        {{ priority_weight('waiting.priority') }}
        + least(0.25, waiting.hours_waited / 960)
        + if(coalesce(customers.is_vip, false), 0.25, 0) as score,
        waiting.created_at as occurred_at,
        waiting.created_at as due_basis_at,
        {{ priority_minutes('waiting.priority') }} as due_minutes,
        if(
            waiting.case_id is null,
            'Contact the customer or answer in public, and open a case.',
            'Reply to the customer: apologise, say what happens next and when.'
        ) as suggested_action,
        if(
            waiting.case_id is null,
            '联系客户或公开回复，并建立工单。',
            '回复客户：致歉，说明下一步处理和时间。'
        ) as suggested_action_zh,
        waiting.url
    from waiting
    left join customers on waiting.customer_id = customers.customer_id

)

select * from final

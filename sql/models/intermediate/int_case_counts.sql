with

cases as (

    select * from {{ ref('int_case_attributes') }}

),

messages as (

    select * from {{ ref('int_case_messages') }}

),

agents as (

    select * from {{ ref('stg_agents') }}

),

events as (

    select * from {{ ref('int_case_events') }}
    where
        event_type in ('internal_note', 'assignee_changed', 'rated')
        or (event_type = 'agent_reply' and not is_public)

),

message_counts as (

    select
        case_id,
        min(event_at) filter (where is_reply) as first_reply_at,
        max(event_at) filter (where is_reply) as last_reply_at,
        max(event_at) filter (where not is_reply) as last_customer_message_at,
        count(*) filter (where is_reply) as agent_reply_count,
        count(*) filter (where not is_reply) as customer_message_count
    from messages
    group by case_id

),

note_counts as (

    select
        case_id,
        count(*) as internal_note_count
    from events
    where
        event_type in ('internal_note', 'agent_reply')
        and coalesce(actor_role, 'agent') = 'agent'
    group by case_id

),

-- Assignees stand in the log by the source's id or already by ours.
assignees as (

    select
        case_id,
        unnest([from_value, to_value]) as agent_id,
        source
    from events
    where event_type = 'assignee_changed'

),

handlers as (

    select
        case_id,
        actor_ref as agent_ref
    from messages
    where is_reply

    union

    select
        case_id,
        assignee_ref as agent_ref
    from cases

    union

    select
        case_id,
        if(
            regexp_full_match(agent_id, '[0-9a-f]{32}'),
            agent_id,
            md5(source || chr(31) || agent_id)
        ) as agent_ref
    from assignees
    where agent_id <> ''

),

handler_counts as (

    select
        handlers.case_id,
        greatest(0, count(distinct handlers.agent_ref) - 1) as handoff_count
    from handlers
    anti join agents
        on handlers.agent_ref = agents.agent_ref and agents.role = 'bot'
    group by handlers.case_id

),

ratings as (

    select
        case_id,
        event_at,
        sequence,
        starts_with(lower(to_value), 'good') as is_good
    from events
    where
        event_type = 'rated'
        and (
            starts_with(lower(to_value), 'good')
            or starts_with(lower(to_value), 'bad')
        )

),

rating_changes as (

    select
        *,
        lag(is_good) over (
            partition by case_id
            order by event_at, sequence nulls first
        ) as was_good
    from ratings

),

rating_counts as (

    select
        case_id,
        count(*) filter (where was_good and not is_good)
            as good_to_bad_count,
        count(*) filter (where is_good and not was_good)
            as bad_to_good_count,
        arg_max(is_good, (event_at, coalesce(sequence, -1))) as is_rated_good,
        max(event_at) as rated_at
    from rating_changes
    group by case_id

),

final as (

    select
        cases.case_id,
        message_counts.first_reply_at,
        message_counts.last_reply_at,
        message_counts.last_customer_message_at,
        coalesce(message_counts.agent_reply_count, 0) as agent_reply_count,
        coalesce(message_counts.customer_message_count, 0)
            as customer_message_count,
        coalesce(note_counts.internal_note_count, 0) as internal_note_count,
        coalesce(handler_counts.handoff_count, 0) as handoff_count,
        coalesce(rating_counts.good_to_bad_count, 0) as good_to_bad_count,
        coalesce(rating_counts.bad_to_good_count, 0) as bad_to_good_count,
        rating_counts.is_rated_good,
        rating_counts.rated_at
    from cases
    left join message_counts on cases.case_id = message_counts.case_id
    left join note_counts on cases.case_id = note_counts.case_id
    left join handler_counts on cases.case_id = handler_counts.case_id
    left join rating_counts on cases.case_id = rating_counts.case_id

)

select * from final

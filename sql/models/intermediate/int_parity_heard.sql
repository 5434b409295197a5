with

sought as (

    select
        case_id,
        metric,
        max(theirs_at) as theirs_at
    from {{ ref('int_parity_pairs') }}
    where not is_match and cause is null
    group by case_id, metric

),

cases as (

    select
        case_id,
        source,
        opened_at,
        opened_by_role,
        time_zone
    from {{ ref('int_case_attributes') }}
    where case_id in (select case_id from sought)

),

events as (

    select
        events.*,
        coalesce(events.is_public, true) as is_open_to_all,
        coalesce(events.actor_role, 'agent') as spoken_by
    from {{ ref('int_case_events') }} as events
    semi join cases on events.case_id = cases.case_id

),

messages as (

    select messages.*
    from {{ ref('int_case_messages') }} as messages
    semi join cases on messages.case_id = cases.case_id

),

-- Who may have been heard, and when first.
heard as (

    select
        events.case_id,
        min(events.event_at) filter (
            where events.event_type = 'customer_message'
        ) as asked_at,
        min(events.event_at) filter (
            where events.event_type in ('agent_reply', 'bot_message')
            and events.is_open_to_all
            and events.spoken_by in ('agent', 'bot')
            and events.event_at > cases.opened_at
        ) as bot_at,
        min(events.event_at) filter (
            where events.event_type in ('agent_reply', 'bot_message')
            and events.is_open_to_all
            and events.event_at > cases.opened_at
        ) as automation_at,
        min(events.event_at) filter (
            where events.event_type in ('agent_reply', 'internal_note')
            and events.spoken_by = 'agent'
            and events.event_at > cases.opened_at
        ) as note_at,
        count(*) filter (
            where events.event_type in ('agent_reply', 'bot_message')
            and events.is_open_to_all
            and events.spoken_by in ('agent', 'bot')
        ) as bot_count,
        count(*) filter (
            where events.event_type in ('agent_reply', 'bot_message')
            and events.is_open_to_all
        ) as automation_count,
        count(*) filter (
            where events.event_type in ('agent_reply', 'internal_note')
            and events.spoken_by = 'agent'
        ) as note_count,
        count(*) filter (
            where events.event_type = 'agent_reply'
            and events.is_open_to_all
            and events.spoken_by = 'agent'
        ) as opening_count
    from events
    inner join cases on events.case_id = cases.case_id
    group by events.case_id

),

replies as (

    select
        messages.case_id,
        min(messages.event_at) filter (
            where messages.event_at >= heard.asked_at
        ) as after_question_at,
        count(*) filter (
            where messages.event_at <= sought.theirs_at
        ) as early_count
    from messages
    inner join heard on messages.case_id = heard.case_id
    left join sought
        on messages.case_id = sought.case_id and sought.metric = 'replies'
    where messages.is_reply
    group by messages.case_id

),

-- Two cases that became one: the one that is left, and what went into it.
all_mergers as (

    select
        case_id as merged_id,
        merged_into as kept_id
    from {{ ref('stg_cases') }}
    where merged_into is not null

    union

    select
        case_id as merged_id,
        md5(source || chr(31) || to_value) as kept_id
    from {{ ref('stg_case_events') }}
    where event_type = 'merged' and to_value is not null

),

mergers as (

    select
        all_mergers.kept_id as case_id,
        all_mergers.merged_id
    from all_mergers
    semi join cases on all_mergers.kept_id = cases.case_id
    where all_mergers.merged_id <> all_mergers.kept_id

),

merged_cases as (

    select
        mergers.case_id,
        min(others.opened_at) as opened_at
    from mergers
    inner join {{ ref('stg_cases') }} as others
        on mergers.merged_id = others.case_id
    group by mergers.case_id

),

merged_replies as (

    select
        mergers.case_id,
        min(events.event_at) as first_reply_at,
        count(*) as reply_count
    from mergers
    inner join {{ ref('stg_case_events') }} as events
        on mergers.merged_id = events.case_id
    where
        events.event_type = 'agent_reply'
        and coalesce(events.is_public, true)
        and coalesce(events.actor_role, 'agent') = 'agent'
    group by mergers.case_id

),

merge_instants as (

    select
        case_id,
        min(event_at) as merged_at
    from events
    where event_type = 'merged'
    group by case_id

),

-- What is said at the merge is the desk's own notice.
replies_beside_merge as (

    select
        messages.case_id,
        min(messages.event_at) as first_reply_at,
        count(*) as reply_count
    from messages
    inner join merge_instants on messages.case_id = merge_instants.case_id
    where messages.is_reply and messages.event_at <> merge_instants.merged_at
    group by messages.case_id

),

merge_readings as (

    select
        cases.case_id,
        least(cases.opened_at, merged_cases.opened_at) as opened_at,
        least(
            counts.first_reply_at, merged_replies.first_reply_at
        ) as first_reply_at,
        replies_beside_merge.first_reply_at as beside_at,
        merge_instants.merged_at,
        coalesce(counts.agent_reply_count, 0)
        + coalesce(merged_replies.reply_count, 0) as reply_count,
        coalesce(replies_beside_merge.reply_count, 0) as beside_count
    from cases
    inner join {{ ref('int_case_counts') }} as counts
        on cases.case_id = counts.case_id
    left join merged_cases on cases.case_id = merged_cases.case_id
    left join merged_replies on cases.case_id = merged_replies.case_id
    left join merge_instants on cases.case_id = merge_instants.case_id
    left join replies_beside_merge
        on cases.case_id = replies_beside_merge.case_id
    where
        merged_cases.case_id is not null
        or merge_instants.case_id is not null

),

final as (

    select
        cases.case_id,
        cases.opened_at,
        cases.opened_by_role,
        heard.* exclude (case_id),
        replies.after_question_at,
        replies.early_count,
        merge_readings.case_id is not null as is_merge,
        merge_readings.opened_at as merged_opened_at,
        merge_readings.first_reply_at as merged_reply_at,
        merge_readings.beside_at,
        merge_readings.merged_at,
        merge_readings.reply_count as merged_count,
        merge_readings.beside_count
    from cases
    left join heard on cases.case_id = heard.case_id
    left join replies on cases.case_id = replies.case_id
    left join merge_readings on cases.case_id = merge_readings.case_id

)

select * from final

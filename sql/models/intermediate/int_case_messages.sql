with

cases as (

    select * from {{ ref('int_case_attributes') }}

),

events as (

    select * from {{ ref('int_case_events') }}
    where event_type in ('customer_message', 'agent_reply')

),

-- Bots speak for nobody; an agent's private comment is a note; the text with
-- which an agent opened a case is not a reply.
spoken as (

    select
        events.case_id,
        events.event_at,
        events.sequence,
        events.actor_ref,
        events.event_type = 'agent_reply' as is_reply
    from events
    inner join cases on events.case_id = cases.case_id
    where
        (
            events.event_type = 'customer_message'
            and coalesce(events.actor_role, 'customer')
            not in ('bot', 'system')
        )
        or (
            events.event_type = 'agent_reply'
            and coalesce(events.is_public, true)
            and coalesce(events.actor_role, 'agent') = 'agent'
            and (
                events.event_at > cases.opened_at
                or (
                    events.event_at = cases.opened_at
                    and cases.opened_by_role <> 'agent'
                )
            )
        )

),

-- Where the source does not list the opening among the messages.
unlisted_openings as (

    select
        cases.case_id,
        cases.opened_at as event_at,
        null::bigint as sequence,
        null as actor_ref,
        false as is_reply
    from cases
    where
        cases.opened_by_role = 'customer'
        and cases.opening_feedback_id is null

),

final as (

    select * from spoken
    union all by name
    select * from unlisted_openings

)

select * from final

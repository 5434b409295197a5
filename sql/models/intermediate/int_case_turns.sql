with

messages as (

    select * from {{ ref('int_case_messages') }}

),

marked as (

    select
        *,
        lag(is_reply) over (
            partition by case_id
            order by event_at, sequence nulls first
        ) as is_after_reply
    from messages

),

-- Turns begin with the first message after a reply and end with the next
-- reply, so the two kinds of boundary take turns.
boundaries as (

    select
        *,
        lead(event_at) over (
            partition by case_id
            order by event_at, sequence nulls first
        ) as next_at
    from marked
    where
        (not is_reply and coalesce(is_after_reply, true))
        or (is_reply and not is_after_reply)

),

final as (

    select
        case_id,
        event_at as asked_at,
        next_at as answered_at,
        is_after_reply is null as is_first
    from boundaries
    where not is_reply

)

select * from final

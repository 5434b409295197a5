{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='case_id'
    )
}}

with

cases as (

    select * from {{ ref('int_case_attributes') }}

),

events as (

    select
        events.case_id,
        greatest(events.event_at, cases.opened_at) as event_at,
        events.sequence,
        events.event_type,
        events.from_value,
        events.to_value
    from {{ ref('int_case_events') }} as events
    inner join cases on events.case_id = cases.case_id
    where events.event_type in ('created', 'status_changed', 'deleted')

),

changes as (

    select
        case_id,
        event_at as started_at,
        sequence,
        if(event_type = 'deleted', 'deleted', to_value) as status
    from events
    where event_type <> 'created'

),

-- No case begins deleted: if its first change is a recovery, the deletion was
-- logged in another way.
first_changes as (

    select
        case_id,
        nullif(
            arg_min_null(from_value, (event_at, sequence)), 'deleted'
        ) as from_value
    from events
    where event_type = 'status_changed'
    group by case_id

),

created as (

    select
        case_id,
        any_value(to_value) as status
    from events
    where
        event_type = 'created'
        and to_value in (
            'new', 'open', 'pending', 'hold', 'solved', 'closed', 'deleted'
        )
    group by case_id

),

openings as (

    select
        cases.case_id,
        cases.opened_at as started_at,
        null::bigint as sequence,
        coalesce(created.status, first_changes.from_value, 'new') as status,
        0 as position
    from cases
    left join created on cases.case_id = created.case_id
    left join first_changes on cases.case_id = first_changes.case_id

),

logged as (

    select
        *,
        false as is_inferred
    from openings

    union all

    select
        *,
        1 as position,
        false as is_inferred
    from changes

),

last_logged as (

    select
        case_id,
        max(started_at) as started_at,
        arg_max(status, (started_at, position, coalesce(sequence, -1)))
            as status
    from logged
    group by case_id

),

-- A status that no event explains is taken to date from the last update.
inferred as (

    select
        cases.case_id,
        greatest(
            last_logged.started_at,
            coalesce(cases.updated_at, last_logged.started_at)
        ) as started_at,
        null::bigint as sequence,
        cases.status,
        2 as position,
        true as is_inferred
    from cases
    inner join last_logged on cases.case_id = last_logged.case_id
    where cases.status <> last_logged.status

),

entered as (

    select
        *,
        lag(status) over (
            partition by case_id
            order by started_at, position, sequence nulls first
        ) as previous_status
    from (
        select * from logged
        union all
        select * from inferred
    ) as starts

),

final as (

    select
        case_id,
        status,
        previous_status,
        started_at,
        lead(started_at) over (
            partition by case_id
            order by started_at, position, sequence nulls first
        ) as ended_at,
        row_number() over (
            partition by case_id
            order by started_at, position, sequence nulls first
        ) as spell,
        is_inferred
    from entered
    where status is distinct from previous_status

)

select * from final

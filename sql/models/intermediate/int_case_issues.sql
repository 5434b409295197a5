with

run as (

    select * from {{ source('run', 'current') }}

),

cases as (

    select * from {{ ref('int_case_attributes') }}

),

events as (

    select * from {{ ref('int_case_events') }}

),

resolutions as (

    select * from {{ ref('int_case_resolutions') }}

),

-- An event is late if one of its kind that the source numbered before it
-- bears a later instant; if there is one, some neighbour does. Kinds are
-- numbered apart from each other.
numbered as (

    select
        case_id,
        event_at < lag(event_at) over (
            partition by case_id, event_type
            order by sequence, event_at
        ) as is_late
    from events
    where sequence > 0

),

late as (

    select distinct case_id from numbered
    where is_late

),

found as (

    select
        cases.case_id,
        count(events.case_id) = 0 as has_no_events,
        coalesce(bool_or(
            events.event_type = 'status_changed'
            and events.to_value in ('solved', 'closed')
            and events.event_at < cases.opened_at
        ), false) as is_solved_early,
        coalesce(bool_or(
            events.event_type <> 'created'
            and events.event_at < cases.opened_at
        ), false) as has_early_event,
        -- Clocks of two systems differ by moments.
        coalesce(bool_or(
            events.event_at > run.as_of + interval 5 minutes
        ), false) as has_future_event
    from cases
    cross join run
    left join events on cases.case_id = events.case_id
    group by cases.case_id

),

final as (

    select
        cases.case_id,
        list_filter([
            if(cases.opened_at is null, 'no_creation', null),
            if(found.has_no_events, 'no_events', null),
            if(found.is_solved_early, 'solved_before_creation', null),
            if(found.has_early_event, 'event_before_creation', null),
            if(late.case_id is null, null, 'events_out_of_order'),
            if(found.has_future_event, 'event_in_the_future', null),
            if(
                cases.updated_at < cases.opened_at,
                'updated_before_creation', null
            ),
            if(
                resolutions.is_status_inferred,
                'status_without_event', null
            )
        ], lambda issue: issue is not null) as data_issues
    from cases
    inner join found on cases.case_id = found.case_id
    left join resolutions on cases.case_id = resolutions.case_id
    left join late on cases.case_id = late.case_id

)

select * from final

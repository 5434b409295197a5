{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='case_id'
    )
}}

with

run as (

    select * from {{ source('run', 'current') }}

),

cases as (

    select * from {{ ref('int_case_attributes') }}

),

counts as (

    select * from {{ ref('int_case_counts') }}

),

resolutions as (

    select * from {{ ref('int_case_resolutions') }}

),

minutes as (

    select * from {{ ref('int_case_minutes') }}

),

customers as (

    select * from {{ ref('customers') }}

),

targets as (

    select * from {{ source('config', 'sla_targets') }}
    where metric = 'first_reply'

),

opening_hours as (

    select * from {{ source('config', 'calendar_intervals') }}

),

-- The first policy whose conditions hold; an empty list holds for every case.
matches as (

    select
        cases.case_id,
        min(targets.position) as position
    from cases
    left join customers on cases.customer_id = customers.customer_id
    inner join targets
        on
            (
                len(targets.channels) = 0
                or list_contains(targets.channels, cases.channel)
            )
            and (
                len(targets.needs) = 0
                or list_contains(targets.needs, cases.need)
            )
            and (
                len(targets.priorities) = 0
                or list_contains(targets.priorities, cases.opening_priority)
            )
            and (
                len(targets.segments) = 0
                or list_contains(targets.segments, customers.segment)
            )
            and (
                len(targets.teams) = 0
                or list_contains(targets.teams, cases.team)
            )
            and (
                len(targets.tags) = 0
                or list_has_any(targets.tags, coalesce(cases.tags, []))
            )
    group by cases.case_id

),

applied as (

    select
        cases.case_id,
        cases.source,
        cases.channel,
        cases.team,
        cases.need,
        cases.time_zone,
        cases.is_excluded,
        targets.policy,
        targets.priority,
        targets.target_minutes,
        targets.clock = 'business' and minutes.calendar is not null
            as in_business_hours,
        if(in_business_hours, minutes.calendar, null) as calendar,
        cases.opened_at as applied_at,
        counts.first_reply_at as fulfilled_at,
        if(
            {{ is_unsolved('resolutions.status') }},
            null,
            coalesce(
                resolutions.first_solved_at, resolutions.first_settled_at,
                resolutions.last_closed_at, cases.updated_at
            )
        ) as settled_at,
        {{ is_unsolved('resolutions.status') }} as is_unsolved,
        if(
            in_business_hours,
            minutes.first_reply_business_minutes,
            minutes.first_reply_minutes
        ) as reply_minutes,
        if(
            in_business_hours,
            minutes.unsolved_age_business_minutes,
            minutes.unsolved_age_minutes
        ) as waiting_minutes,
        if(
            in_business_hours,
            minutes.first_resolution_business_minutes,
            minutes.first_resolution_minutes
        ) as settled_minutes
    from cases
    inner join matches on cases.case_id = matches.case_id
    inner join targets
        on
            matches.position = targets.position
            and coalesce(cases.opening_priority, 'normal') = targets.priority
    inner join counts on cases.case_id = counts.case_id
    inner join resolutions on cases.case_id = resolutions.case_id
    inner join minutes on cases.case_id = minutes.case_id

),

started as (

    select
        applied.*,
        applied.target_minutes
        + {{ minutes_until('applied.applied_at', 'opening_hours') }}
            as due_minutes
    from applied
    asof left join opening_hours
        on
            applied.calendar = opening_hours.calendar
            and applied.applied_at >= opening_hours.open_at

),

projected as (

    select
        started.*,
        case
            when not started.in_business_hours
                then
                    started.applied_at
                    + to_microseconds((started.target_minutes * 6e7)::bigint)
            when
                started.due_minutes
                <= opening_hours.minutes_before + {{ minutes_between(
                    'opening_hours.open_at', 'opening_hours.close_at'
                ) }}
                then
                    opening_hours.open_at + to_microseconds(round((
                        started.due_minutes - opening_hours.minutes_before
                    ) * 6e7)::bigint)
        end as breach_at
    from started
    asof left join opening_hours
        on
            started.calendar = opening_hours.calendar
            and started.due_minutes > opening_hours.minutes_before

),

final as (

    select
        projected.case_id,
        'first_reply' as metric,
        1 as application,
        projected.policy,
        projected.priority,
        projected.source,
        projected.channel,
        projected.team,
        projected.need,
        projected.time_zone,
        projected.applied_at,
        projected.target_minutes,
        projected.in_business_hours,
        projected.breach_at,
        projected.fulfilled_at,
        coalesce(
            projected.reply_minutes,
            projected.waiting_minutes,
            projected.settled_minutes
        ) as elapsed_minutes,
        case
            when projected.fulfilled_at is not null
                then projected.reply_minutes > projected.target_minutes
            when
                coalesce(projected.settled_at, run.as_of)
                > projected.breach_at
                then true
        end as is_breached,
        projected.fulfilled_at is null and projected.is_unsolved
            as is_active,
        case
            when is_breached then projected.breach_at
            when not is_breached then projected.fulfilled_at
        end as decided_at,
        {{ local_day('decided_at', 'projected.time_zone') }} as decided_date,
        projected.is_excluded
    from projected
    cross join run

)

select * from final

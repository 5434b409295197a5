with

intervals as (

    select * from {{ ref('int_case_intervals') }}

),

calendars as (

    select * from {{ ref('int_case_calendars') }}

),

slots as (

    select * from {{ source('config', 'calendar_slots') }}

),

-- A single event is measured on the calendar named at the opening; waiting
-- and working times on the one in force at each moment.
pieces as (

    select
        intervals.case_id,
        intervals.measure,
        calendars.calendar,
        greatest(intervals.started_at, calendars.started_at) as started_at,
        least(
            intervals.ended_at,
            coalesce(calendars.ended_at, intervals.ended_at)
        ) as ended_at
    from intervals
    inner join calendars on intervals.case_id = calendars.case_id
    where
        intervals.measure in (
            'total_reply', 'new', 'open', 'pending', 'hold'
        )
        and calendars.calendar is not null
        -- What took no time belongs to the calendar of its instant.
        and (
            intervals.ended_at > calendars.started_at
            or intervals.started_at >= calendars.started_at
        )
        and (
            calendars.ended_at is null
            or intervals.started_at < calendars.ended_at
        )

    union all

    select
        intervals.case_id,
        intervals.measure,
        calendars.calendar,
        intervals.started_at,
        intervals.ended_at
    from intervals
    inner join calendars
        on
            intervals.case_id = calendars.case_id
            and calendars.is_opening
    where
        intervals.measure in (
            'first_reply', 'first_resolution', 'full_resolution',
            'unsolved_age'
        )
        and calendars.calendar is not null

),

bounds as (

    {{ list_bounds('pieces') }}

),

counted as (

    select
        bounds.case_id,
        bounds.measure,
        {{ microseconds_of_bound('bounds', 'slots') }} as microseconds
    from bounds
    inner join slots
        on
            bounds.calendar = slots.calendar
            and {{ is_in_slot('bounds.instant', 'slots') }}

),

on_business_clock as (

    select
        case_id,
        {{ minutes_by_measure('microseconds', 'business_minutes') }}
    from counted
    group by case_id

),

on_calendar_clock as (

    select
        case_id,
        {{ minutes_by_measure(
            microseconds_between('started_at', 'ended_at'), 'minutes'
        ) }}
    from intervals
    group by case_id

),

final as (

    select
        calendars.case_id,
        on_calendar_clock.* exclude (case_id),
        on_business_clock.* exclude (case_id),
        calendars.calendar
    from calendars
    left join on_calendar_clock
        on calendars.case_id = on_calendar_clock.case_id
    left join on_business_clock
        on calendars.case_id = on_business_clock.case_id
    where calendars.is_opening

)

select * from final

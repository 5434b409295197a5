with

pairs as (

    select * from {{ ref('int_parity_pairs') }}
    where not is_match and cause is null

),

sought as (

    select
        case_id,
        metric,
        max(theirs_at) as theirs_at
    from pairs
    group by case_id, metric

),

heard as (

    select * from {{ ref('int_parity_heard') }}

),

intervals as (

    select * from {{ ref('int_parity_intervals') }}

),

attributes as (

    select
        case_id,
        time_zone
    from {{ ref('int_case_attributes') }}
    where case_id in (select case_id from heard)

),

statuses as (

    select statuses.*
    from {{ ref('int_case_statuses') }} as statuses
    semi join heard on statuses.case_id = heard.case_id

),

case_calendars as (

    select calendars.*
    from {{ ref('int_case_calendars') }} as calendars
    semi join heard on calendars.case_id = heard.case_id

),

timed as (

    select
        intervals.case_id,
        intervals.metric,
        intervals.cause,
        intervals.reading,
        sum({{ microseconds_between(
            'intervals.started_at', 'intervals.ended_at'
        ) }}) / 60e6 as minutes,
        sum(date_diff(
            'second',
            intervals.started_at at time zone attributes.time_zone,
            intervals.ended_at at time zone attributes.time_zone
        ) / 60) as wall_minutes,
        sum(floor({{ minutes_between(
            'intervals.started_at', 'intervals.ended_at'
        ) }})) as low_minutes,
        sum(ceil({{ minutes_between(
            'intervals.started_at', 'intervals.ended_at'
        ) }})) as high_minutes
    from intervals
    inner join attributes on intervals.case_id = attributes.case_id
    group by all

),

slots as (

    select
        calendar,
        'calendar_choice' as slip,
        hour,
        microseconds_before,
        open_at,
        close_at
    from {{ source('config', 'calendar_slots') }}

    union all

    select
        calendar,
        forgotten as slip,
        hour,
        microseconds_before,
        open_at,
        close_at
    from {{ source('config', 'calendar_readings') }}

),

opening_calendars as (

    select
        case_id,
        calendar
    from case_calendars
    where is_opening

),

bounds as (

    {{ list_bounds('intervals') }}

),

on_each_calendar as (

    select
        bounds.case_id,
        bounds.metric,
        bounds.cause,
        bounds.reading,
        slots.calendar,
        if(
            slots.slip = 'calendar_choice'
            and slots.calendar = opening_calendars.calendar,
            '', slots.slip
        ) as slip,
        sum({{ microseconds_of_bound('bounds', 'slots') }}) / 60e6 as minutes
    from bounds
    inner join slots on {{ is_in_slot('bounds.instant', 'slots') }}
    left join opening_calendars on bounds.case_id = opening_calendars.case_id
    where
        slots.slip = 'calendar_choice'
        or slots.calendar = opening_calendars.calendar
    group by all

),

moved_cases as (

    select case_id
    from case_calendars
    where not is_opening

),

-- Each moment on the calendar in force, for cases that were handed over.
pieces as (

    {{ cut_at_calendars('intervals', 'case_calendars') }}
    where intervals.case_id in (select case_id from moved_cases)

),

piece_bounds as (

    {{ list_bounds('pieces') }}

),

on_calendars_in_turn as (

    select
        piece_bounds.case_id,
        piece_bounds.metric,
        piece_bounds.cause,
        piece_bounds.reading,
        sum({{ microseconds_of_bound('piece_bounds', 'slots') }}) / 60e6
            as minutes
    from piece_bounds
    inner join slots
        on
            piece_bounds.calendar = slots.calendar
            and slots.slip = 'calendar_choice'
            and {{ is_in_slot('piece_bounds.instant', 'slots') }}
    group by all

),

-- A reading has one slip of who and when (cause) and one of the calendar.
readings as (

    select
        case_id,
        metric,
        'calendar' as clock,
        cause,
        '' as slip,
        reading,
        minutes as low,
        minutes as high
    from timed

    union all

    select
        case_id,
        metric,
        'calendar' as clock,
        cause,
        'dst' as slip,
        concat_ws(', ', nullif(reading, ''), 'wall time') as reading,
        wall_minutes as low,
        wall_minutes as high
    from timed

    union all

    select
        case_id,
        metric,
        unnest(['calendar', 'business']) as clock,
        cause,
        unnest(['rounding', 'calendar_choice']) as slip,
        concat_ws(
            ', ', nullif(reading, ''),
            unnest(['whole minutes a status', 'calendar clock'])
        ) as reading,
        unnest([low_minutes, minutes]) as low,
        unnest([high_minutes, minutes]) as high
    from timed

    union all

    select
        case_id,
        metric,
        'calendar' as clock,
        cause,
        'rounding' as slip,
        concat_ws(', ', nullif(reading, ''), 'whole hours') as reading,
        unnest([floor(minutes / 60), ceil(minutes / 60)]) * 60 as low,
        low as high
    from timed

    union all

    select
        case_id,
        metric,
        unnest(['business', 'calendar']) as clock,
        cause,
        unnest([slip, 'calendar_choice']) as slip,
        concat_ws(
            ', ', nullif(reading, ''),
            unnest([
                if(slip = '', null, 'calendar ' || calendar),
                'calendar ' || calendar
            ])
        ) as reading,
        minutes as low,
        minutes as high
    from on_each_calendar

    union all

    select
        case_id,
        metric,
        'business' as clock,
        cause,
        if(
            metric in ('first_reply', 'first_resolution', 'full_resolution'),
            'calendar_choice', ''
        ) as slip,
        concat_ws(', ', nullif(reading, ''), 'calendars in turn') as reading,
        minutes as low,
        minutes as high
    from on_calendars_in_turn

    union all

    select
        case_id,
        'replies' as metric,
        'calendar' as clock,
        unnest([
            'private_note', 'bot_reply', 'bot_reply', 'agent_created',
            'late_data', 'merge', 'merge'
        ]) as cause,
        '' as slip,
        unnest([
            'with notes', 'with bots', 'with automations', 'with the opening',
            'until their update', 'all of the merged cases',
            'without the notice of the merge'
        ]) as reading,
        unnest([
            note_count, bot_count, automation_count, opening_count,
            early_count, merged_count, beside_count
        ]) as low,
        low as high
    from heard

    union all

    select
        sought.case_id,
        'reopens' as metric,
        'calendar' as clock,
        'late_data' as cause,
        '' as slip,
        'until their update' as reading,
        count(*) filter (
            where statuses.previous_status in ('solved', 'closed')
            and {{ is_unsolved('statuses.status') }}
            and statuses.started_at <= sought.theirs_at
        ) as low,
        low as high
    from sought
    inner join statuses on sought.case_id = statuses.case_id
    where sought.metric = 'reopens'
    group by sought.case_id

    union all

    -- A status that no event explains began between the last one and the
    -- last update.
    select
        sought.case_id,
        sought.metric,
        'calendar' as clock,
        'late_data' as cause,
        '' as slip,
        'the event is missing here' as reading,
        {{ minutes_between(
            'heard.opened_at',
            'max(statuses.started_at) filter (where not statuses.is_inferred)'
        ) }} as low,
        {{ minutes_between(
            'heard.opened_at',
            'max(statuses.started_at) filter (where statuses.is_inferred)'
        ) }} as high
    from sought
    inner join statuses on sought.case_id = statuses.case_id
    inner join heard on sought.case_id = heard.case_id
    where sought.metric in ('first_resolution', 'full_resolution')
    group by sought.case_id, sought.metric, heard.opened_at
    having bool_or(statuses.is_inferred)

),

ranked as (

    select
        pairs.case_id,
        pairs.metric,
        pairs.clock,
        if(readings.cause = '', readings.slip, readings.cause) as cause,
        readings.reading,
        case
            when readings.cause <> '' and readings.slip = '' then 1
            when readings.cause = '' and readings.slip <> '' then 2
            else 3
        end as effort,
        list_position([
            'agent_created', 'bot_reply', 'private_note', 'merge', 'holiday',
            'dst', 'late_data', 'rounding', 'calendar_choice'
        ], if(readings.cause = '', readings.slip, readings.cause)) as place
    from pairs
    inner join readings
        on
            pairs.case_id = readings.case_id
            and pairs.metric = readings.metric
            and pairs.clock = readings.clock
            and pairs.theirs >= readings.low - pairs.tolerance
            and pairs.theirs <= readings.high + pairs.tolerance
    where readings.cause <> '' or readings.slip <> ''

),

final as (

    select
        case_id,
        metric,
        clock,
        arg_min(cause, (effort, place, reading)) as cause,
        arg_min(reading, (effort, place, reading)) as reading
    from ranked
    group by case_id, metric, clock

)

select * from final

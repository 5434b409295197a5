-- depends_on: {{ ref('int_touched_cases') }}
{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        pre_hook="
            {% if is_incremental() %}
            delete from {{ this }}
            where case_id in (
                select case_id from {{ ref('int_touched_cases') }}
            )
            {% endif %}
        "
    )
}}

with

run as (

    select * from {{ source('run', 'current') }}

),

cases as (

    select * from {{ ref('int_case_attributes') }}

),

all_statuses as (

    select * from {{ ref('int_case_statuses') }}

),

calendars as (

    select * from {{ ref('int_case_calendars') }}

),

all_applications as (

    select * from {{ ref('int_sla_applications') }}

),

opening_hours as (

    select * from {{ source('config', 'calendar_intervals') }}

),

applications as materialized (

    select
        all_applications.* rename (started_at as begun_at),
        row_number() over () as application_id,
        list_filter(
            {{ sla_running_statuses('all_applications.metric') }},
            lambda status: not list_contains(
                all_applications.pause_statuses, status
            )
        ) as running_statuses,
        all_applications.metric = 'first_reply'
        and len(all_applications.pause_statuses) = 0 as is_unpaused,
        coalesce(
            all_applications.ended_at,
            greatest(run.as_of, all_applications.started_at)
        ) as counted_until
    from all_applications
    cross join run
    where not all_applications.is_paused_throughout

),

statuses as (

    select *
    from all_statuses
    where
        case_id in (
            select applications.case_id from applications
            where not applications.is_unpaused
        )

),

-- The stretches in which a clock runs.
running as (

    select
        application_id,
        case_id,
        metric = 'first_reply' as is_first_reply,
        clock = 'business' as is_business,
        is_unpaused,
        replaced_at,
        target_microseconds,
        begun_at as started_at,
        counted_until as stopped_at,
        ended_at is not null as is_ended,
        ended_at is null as is_open
    from applications
    where is_unpaused

    union all

    select
        applications.application_id,
        applications.case_id,
        applications.metric = 'first_reply' as is_first_reply,
        applications.clock = 'business' as is_business,
        applications.is_unpaused,
        applications.replaced_at,
        applications.target_microseconds,
        greatest(applications.begun_at, statuses.started_at) as started_at,
        least(
            applications.counted_until,
            coalesce(statuses.ended_at, applications.counted_until)
        ) as stopped_at,
        applications.ended_at is not null as is_ended,
        applications.ended_at is null and statuses.ended_at is null
            as is_open
    from applications
    inner join statuses on applications.case_id = statuses.case_id
    where
        not applications.is_unpaused
        and list_contains(applications.running_statuses, statuses.status)
        and (
            statuses.ended_at is null
            or statuses.ended_at > applications.begun_at
        )
        and (
            statuses.started_at < applications.counted_until
            or statuses.started_at <= applications.begun_at
        )

),

-- The first reply keeps the calendar named at the opening; the other clocks
-- follow the one in force at each moment.
on_calendars as (

    select
        running.* replace (
            if(
                running.is_first_reply,
                running.started_at,
                greatest(running.started_at, calendars.started_at)
            ) as started_at,
            if(
                running.is_first_reply,
                running.stopped_at,
                least(
                    running.stopped_at,
                    coalesce(calendars.ended_at, running.stopped_at)
                )
            ) as stopped_at,
            running.is_open
            and (
                running.is_first_reply or calendars.ended_at is null
            ) as is_open
        ),
        calendars.calendar
    from running
    inner join calendars
        on
            running.case_id = calendars.case_id
            and if(
                running.is_first_reply,
                calendars.is_opening,
                (
                    calendars.is_opening
                    or running.stopped_at > calendars.started_at
                    or running.started_at >= calendars.started_at
                )
                and (
                    calendars.ended_at is null
                    or running.started_at < calendars.ended_at
                )
            )
    where running.is_business

),

stretches as (

    select * exclude (case_id, is_first_reply, is_business)
    from on_calendars

    union all by name

    select
        * exclude (case_id, is_first_reply, is_business),
        null::varchar as calendar
    from running
    where not is_business

),

-- Cut where the target was replaced: what came before counts for it.
cut as (

    select
        * replace (least(stopped_at, replaced_at) as stopped_at),
        true as is_before
    from stretches
    where replaced_at is null or started_at < replaced_at

    union all

    select
        * replace (greatest(started_at, replaced_at) as started_at),
        false as is_before
    from stretches
    where replaced_at is not null and stopped_at > replaced_at

),

begun as (

    select
        cut.*,
        {{ microseconds_until('cut.started_at', 'opening_hours') }}
            as open_before
    from cut
    asof left join opening_hours
        on
            cut.calendar = opening_hours.calendar
            and cut.started_at >= opening_hours.open_at

),

measured as (

    select
        begun.*,
        if(
            begun.calendar is null,
            {{ microseconds_between('begun.started_at', 'begun.stopped_at') }},
            {{ microseconds_until('begun.stopped_at', 'opening_hours') }}
            - begun.open_before
        ) as microseconds
    from begun
    asof left join opening_hours
        on
            begun.calendar = opening_hours.calendar
            and begun.stopped_at >= opening_hours.open_at

),

-- A first reply that nothing pauses has one stretch, at which one window
-- over all cases can be saved.
placed as (

    select
        *,
        (sum(microseconds) over spell)::bigint - microseconds
            as microseconds_before,
        lead(started_at) over spell is null as is_last
    from measured
    where not is_unpaused
    window
        spell as (
            partition by application_id
            order by started_at asc, is_before desc, stopped_at asc
        )

    union all

    select
        *,
        0::bigint as microseconds_before,
        true as is_last
    from measured
    where is_unpaused

),

targeted as (

    select
        *,
        target_microseconds - microseconds_before as microseconds_left
    from placed

),

-- The stretch in which the target is or would be used up.
due as (

    select
        *,
        open_before + microseconds_left as due_after
    from targeted
    where
        microseconds_left > 0
        and (microseconds_left <= microseconds or is_last)
        and (
            microseconds_left <= microseconds
            or is_open
            or is_ended
        )

),

breaches as (

    select
        due.application_id,
        case
            when due.calendar is null
                then due.started_at + to_microseconds(due.microseconds_left)
            when
                due.due_after - round(opening_hours.minutes_before * 6e7)
                <= {{ microseconds_between(
                    'opening_hours.open_at', 'opening_hours.close_at'
                ) }}
                then
                    opening_hours.open_at + to_microseconds((
                        due.due_after
                        - round(opening_hours.minutes_before * 6e7)
                    )::bigint)
        end as used_up_at
    from due
    asof left join opening_hours
        on
            due.calendar = opening_hours.calendar
            and due.due_after / 6e7 > opening_hours.minutes_before

),

summed as (

    select
        application_id,
        arg_min_null(calendar, started_at) is not null as in_business_hours,
        bool_or(is_open) as is_running,
        sum(microseconds)::bigint as microseconds,
        coalesce(sum(microseconds) filter (where is_before), 0)::bigint
            as microseconds_until_replaced
    from targeted
    group by application_id

),

weighed as (

    select
        summed.*,
        applications.case_id,
        applications.metric,
        applications.cycle,
        applications.begun_at as started_at,
        applications.applied_at,
        applications.replaced_at,
        applications.fulfilled_at,
        applications.ended_at,
        applications.policy,
        applications.priority,
        applications.target_minutes,
        summed.microseconds_until_replaced > applications.target_microseconds
            as is_overrun
    from summed
    inner join applications
        on summed.application_id = applications.application_id

),

-- What is broken stays broken: nothing is promised anew for the same clock.
first_overruns as (

    select
        case_id,
        metric,
        cycle,
        min(applied_at) as applied_at
    from weighed
    where is_overrun and replaced_at is not null
    group by case_id, metric, cycle

),

standing as (

    select
        weighed.* replace (
            if(weighed.is_overrun, null, weighed.replaced_at) as replaced_at
        )
    from weighed
    left join first_overruns
        on
            weighed.case_id = first_overruns.case_id
            and weighed.metric = first_overruns.metric
            and weighed.cycle = first_overruns.cycle
    where
        first_overruns.applied_at is null
        or weighed.applied_at <= first_overruns.applied_at

),

numbered as (

    select
        *,
        1 as application
    from standing
    where metric = 'first_reply'

    union all

    select
        *,
        row_number() over (
            partition by case_id, metric
            order by cycle, applied_at
        ) as application
    from standing
    where metric <> 'first_reply'

),

final as (

    select
        numbered.case_id,
        numbered.metric,
        numbered.application::integer as application,
        numbered.cycle::integer as cycle,
        numbered.policy,
        numbered.priority,
        cases.source,
        cases.channel,
        cases.team,
        cases.need,
        cases.time_zone,
        numbered.started_at,
        numbered.applied_at,
        numbered.replaced_at,
        numbered.target_minutes,
        numbered.in_business_hours,
        if(
            breaches.used_up_at is null,
            null,
            greatest(breaches.used_up_at, numbered.applied_at)
        ) as breach_at,
        if(numbered.replaced_at is null, numbered.fulfilled_at, null)
            as fulfilled_at,
        if(
            numbered.replaced_at is null,
            numbered.microseconds,
            numbered.microseconds_until_replaced
        ) / 6e7 as elapsed_minutes,
        case
            when numbered.is_overrun then true
            when numbered.replaced_at is not null then null
            when numbered.fulfilled_at is not null then false
        end as is_breached,
        numbered.ended_at is null and numbered.replaced_at is null
            as is_active,
        is_active and not numbered.is_running as is_paused,
        case
            when is_breached then breach_at
            when not is_breached then numbered.fulfilled_at
        end as decided_at,
        {{ local_day('decided_at', 'cases.time_zone') }} as decided_date,
        cases.is_excluded
    from numbered
    inner join cases on numbered.case_id = cases.case_id
    left join breaches
        on numbered.application_id = breaches.application_id

)

select * from final

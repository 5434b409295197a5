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

    select
        case_id,
        source_kind,
        team,
        is_excluded
    from {{ ref('cases') }}

),

pairs as (

    select * from {{ ref('int_parity_pairs') }}

),

readings as (

    select * from {{ ref('int_parity_readings') }}

),

explained as (

    select
        pairs.* exclude (cause, reading),
        coalesce(pairs.cause, readings.cause) as cause,
        coalesce(pairs.reading, readings.reading) as reading
    from pairs
    left join readings
        on
            pairs.case_id = readings.case_id
            and pairs.metric = readings.metric
            and pairs.clock = readings.clock

),

on_calendar_clock as (

    select
        case_id,
        metric,
        theirs,
        is_match,
        cause
    from explained
    where clock = 'calendar'

),

-- What agrees on the calendar clock differs on the other one by its calendar
-- alone; what differs there for a cause differs here for the same.
deduced as (

    select
        explained.*,
        case
            when explained.is_match or explained.clock = 'calendar' then null
            when
                on_calendar_clock.is_match
                and explained.theirs
                <= on_calendar_clock.theirs + explained.tolerance
                then 'calendar_choice'
            else on_calendar_clock.cause
        end as deduced_cause,
        if(
            on_calendar_clock.is_match,
            'a calendar that is not configured', 'as on the calendar clock'
        ) as deduced_reading
    from explained
    left join on_calendar_clock
        on
            explained.case_id = on_calendar_clock.case_id
            and explained.metric = on_calendar_clock.metric

),

final as (

    select
        deduced.case_id,
        deduced.source,
        cases.source_kind,
        cases.team,
        deduced.metric,
        deduced.clock,
        deduced.ours::double as ours,
        deduced.theirs,
        deduced.theirs - deduced.ours as difference,
        deduced.is_match,
        if(
            deduced.is_match,
            null,
            coalesce(deduced.cause, deduced.deduced_cause, 'unknown')
        ) as cause,
        case
            when deduced.is_match then null
            when deduced.cause is not null then deduced.reading
            when deduced.deduced_cause is not null
                then deduced.deduced_reading
        end as reading,
        deduced.theirs_at,
        cases.is_excluded,
        run.as_of
    from deduced
    inner join cases on deduced.case_id = cases.case_id
    cross join run

)

select * from final

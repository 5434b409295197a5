{{ config(materialized='view') }}

with

run as (

    select * from {{ source('run', 'current') }}

),

cases as (

    select * from {{ ref('cases') }}
    where not is_excluded

),

statuses as (

    select * from {{ ref('int_case_statuses') }}
    where {{ is_unsolved('status') }}

),

-- The days at whose end a case stood unsolved: from the day on which the
-- status began until the day before the one on which it ended.
spells as (

    select
        cases.source,
        cases.channel,
        cases.team,
        cases.need,
        cases.priority,
        {{ local_day('cases.opened_at', 'cases.time_zone') }} as opened_date,
        {{ local_day('statuses.started_at', 'cases.time_zone') }}
            as first_date,
        {{ local_day(
            'coalesce(statuses.ended_at, run.as_of)', 'cases.time_zone'
        ) }} - 1 as last_date,
        count(*)::double as case_count
    from statuses
    inner join cases on statuses.case_id = cases.case_id
    cross join run
    group by all
    having first_date <= last_date

),

days as (

    select
        * exclude (first_date, last_date),
        unnest(
            generate_series(
                first_date::timestamp, last_date::timestamp, interval 1 day
            )
        )::date as cohort_date
    from spells

),

final as (

    select
        'backlog' as metric,
        'case' as counted,
        'snapshot' as cohort,
        cohort_date,
        source,
        channel,
        team,
        need,
        priority,
        case
            when cohort_date - opened_date < 1 then '0-1 days'
            when cohort_date - opened_date < 3 then '1-3 days'
            when cohort_date - opened_date < 7 then '3-7 days'
            when cohort_date - opened_date < 30 then '7-30 days'
            else '30 days or more'
        end as age_band,
        sum(case_count) as numerator
    from days
    group by all

)

select * from final

{{ config(materialized='view') }}

with

run as (

    select * from {{ source('run', 'current') }}

),

cases as (

    select * from {{ ref('cases') }}

),

statuses as (

    select * from {{ ref('int_case_statuses') }}
    where {{ is_unsolved('status') }}

),

-- The days at whose end a case stood unsolved: from the day on which the
-- status began until the day before the one on which it ended. A status that
-- ends after as_of, by a clock that is fast, does not make a day finished.
final as (

    select
        cases.case_id,
        {{ list_case_dimensions() | join(',\n        ') }},
        if(cases.is_excluded, cases.exclusion_reason, null)
            as exclusion_reason,
        {{ local_day('statuses.started_at', 'cases.time_zone') }}
            as first_date,
        {{ local_day(
            'least(coalesce(statuses.ended_at, run.as_of), run.as_of)',
            'cases.time_zone'
        ) }} - 1 as last_date
    from statuses
    inner join cases on statuses.case_id = cases.case_id
    cross join run
    where first_date <= last_date

)

select * from final

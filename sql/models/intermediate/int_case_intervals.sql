with

run as (

    select * from {{ source('run', 'current') }}

),

cases as (

    select * from {{ ref('int_case_attributes') }}

),

counts as (

    select * from {{ ref('int_case_counts') }}
    where first_reply_at is not null

),

resolutions as (

    select
        *,
        coalesce(first_solved_at, first_settled_at) as first_resolved_at
    from {{ ref('int_case_resolutions') }}

),

turns as (

    select * from {{ ref('int_case_turns') }}
    where answered_at is not null

),

statuses as (

    select statuses.*
    from {{ ref('int_case_statuses') }} as statuses
    semi join cases on statuses.case_id = cases.case_id

),

final as (

    select
        cases.case_id,
        'first_reply' as measure,
        cases.opened_at as started_at,
        counts.first_reply_at as ended_at
    from cases
    inner join counts on cases.case_id = counts.case_id

    union all

    select
        cases.case_id,
        'first_resolution' as measure,
        cases.opened_at as started_at,
        resolutions.first_resolved_at as ended_at
    from cases
    inner join resolutions on cases.case_id = resolutions.case_id
    where resolutions.first_resolved_at is not null

    union all

    select
        cases.case_id,
        'full_resolution' as measure,
        cases.opened_at as started_at,
        resolutions.last_solved_at as ended_at
    from cases
    inner join resolutions on cases.case_id = resolutions.case_id
    where
        resolutions.status in ('solved', 'closed')
        and resolutions.last_solved_at is not null

    union all

    select
        cases.case_id,
        'unsolved_age' as measure,
        cases.opened_at as started_at,
        greatest(run.as_of, cases.opened_at) as ended_at
    from cases
    inner join resolutions on cases.case_id = resolutions.case_id
    cross join run
    where {{ is_unsolved('resolutions.status') }}

    union all

    select
        case_id,
        'total_reply' as measure,
        asked_at as started_at,
        answered_at as ended_at
    from turns

    union all

    select
        statuses.case_id,
        statuses.status as measure,
        statuses.started_at,
        coalesce(
            statuses.ended_at, greatest(run.as_of, statuses.started_at)
        ) as ended_at
    from statuses
    cross join run
    where {{ is_unsolved('statuses.status') }}

)

select * from final

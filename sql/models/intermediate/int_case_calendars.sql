with

cases as (

    select * from {{ ref('int_case_attributes') }}

),

events as (

    select * from {{ ref('int_case_events') }}
    where event_type = 'group_changed'

),

team_groups as (

    select * from {{ source('config', 'team_groups') }}

),

teams as (

    select * from {{ source('config', 'teams') }}

),

project as (

    select * from {{ source('config', 'project') }}

),

assignments as (

    select
        case_id,
        opened_at as started_at,
        null::bigint as sequence,
        opening_group as source_group,
        true as is_opening
    from cases

    union all

    -- A change that is dated before the creation holds from the creation on.
    select
        events.case_id,
        greatest(events.event_at, cases.opened_at) as started_at,
        events.sequence,
        events.to_value as source_group,
        false as is_opening
    from events
    inner join cases on events.case_id = cases.case_id

),

final as (

    select
        assignments.case_id,
        coalesce(teams.calendar, project.calendar) as calendar,
        assignments.started_at,
        lead(assignments.started_at) over (
            partition by assignments.case_id
            order by
                assignments.started_at asc,
                assignments.is_opening desc,
                assignments.sequence asc nulls first
        ) as ended_at,
        assignments.is_opening
    from assignments
    cross join project
    left join team_groups
        on assignments.source_group = team_groups.source_group
    left join teams on team_groups.team = teams.team

)

select * from final

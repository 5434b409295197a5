{{ config(materialized='view') }}

with

cases as (

    select * from {{ ref('int_case_attributes') }}

),

events as (

    select * from {{ ref('int_case_events') }}
    where event_type in ('priority_changed', 'group_changed')

),

clocks as (

    select * from {{ ref('int_sla_clocks') }}

),

customers as (

    select * from {{ ref('customers') }}

),

team_groups as (

    select * from {{ source('config', 'team_groups') }}

),

targets as (

    select * from {{ source('config', 'sla_targets') }}

),

policies as (

    select distinct
        position,
        channels,
        needs,
        priorities,
        segments,
        teams,
        tags
    from targets

),

changes as (

    select
        events.case_id,
        events.event_at as started_at,
        events.sequence,
        if(
            events.event_type = 'priority_changed',
            coalesce(events.to_value, 'normal'),
            null
        ) as priority,
        if(
            events.event_type = 'group_changed',
            coalesce(events.to_value, ''),
            null
        ) as source_group
    from events
    inner join cases
        on
            events.case_id = cases.case_id
            and events.event_at > cases.opened_at

),

openings as (

    select
        case_id,
        opened_at as started_at,
        -1 as sequence,
        coalesce(opening_priority, 'normal') as priority,
        coalesce(opening_group, '') as source_group
    from cases

),

changed as (

    select distinct case_id from changes

),

-- What held from each change on: the last of an instant counts.
filled as (

    select
        case_id,
        started_at,
        last_value(priority ignore nulls) over spell as priority,
        last_value(source_group ignore nulls) over spell as source_group,
        lead(started_at) over spell as ended_at
    from (
        select * from openings
        where case_id in (select changed.case_id from changed)
        union all
        select * from changes
    ) as starts
    window
        spell as (
            partition by case_id
            order by started_at, sequence nulls first
            rows between unbounded preceding and current row
        )

),

states as (

    select
        case_id,
        started_at,
        ended_at,
        priority,
        source_group
    from filled
    where ended_at is null or ended_at > started_at

    union all

    select
        case_id,
        started_at,
        null as ended_at,
        priority,
        source_group
    from openings
    where case_id not in (select changed.case_id from changed)

),

described as (

    select
        states.case_id,
        states.started_at,
        states.ended_at,
        states.priority,
        cases.channel,
        cases.need,
        cases.tags,
        cases.customer_id,
        coalesce(team_groups.team, states.source_group) as team
    from states
    inner join cases on states.case_id = cases.case_id
    left join team_groups on states.source_group = team_groups.source_group

),

-- The first policy whose conditions hold; an empty list holds for every case.
matched as (

    select
        described.case_id,
        described.started_at,
        any_value(described.ended_at) as ended_at,
        any_value(described.priority) as priority,
        coalesce(bool_or(customers.do_not_contact), false) as is_not_contacted,
        min(policies.position) as position
    from described
    left join customers on described.customer_id = customers.customer_id
    left join policies
        on
            (
                len(policies.channels) = 0
                or list_contains(policies.channels, described.channel)
            )
            and (
                len(policies.needs) = 0
                or list_contains(policies.needs, described.need)
            )
            and (
                len(policies.priorities) = 0
                or list_contains(policies.priorities, described.priority)
            )
            and (
                len(policies.segments) = 0
                or list_contains(policies.segments, customers.segment)
            )
            and (
                len(policies.teams) = 0
                or list_contains(policies.teams, described.team)
            )
            and (
                len(policies.tags) = 0
                or list_has_any(policies.tags, coalesce(described.tags, []))
            )
    group by described.case_id, described.started_at

),

-- Changes that leave policy and priority as they were apply nothing anew.
kept as (

    select
        *,
        coalesce(position, -1) as place,
        lag(place) over (
            partition by case_id
            order by started_at
        ) as earlier_place,
        lag(priority) over (
            partition by case_id
            order by started_at
        ) as earlier_priority
    from matched
    where case_id in (select changed.case_id from changed)

),

spells as (

    select
        case_id,
        started_at,
        lead(started_at) over (
            partition by case_id
            order by started_at
        ) as ended_at,
        row_number() over (
            partition by case_id
            order by started_at
        ) = 1 as is_opening,
        priority,
        position,
        is_not_contacted
    from kept
    where
        earlier_priority is null
        or place <> earlier_place
        or priority <> earlier_priority

    union all

    select
        case_id,
        started_at,
        null as ended_at,
        true as is_opening,
        priority,
        position,
        is_not_contacted
    from matched
    where case_id not in (select changed.case_id from changed)

),

-- The first reply is promised once, when the case is opened.
final as (

    select
        clocks.case_id,
        clocks.metric,
        clocks.cycle,
        clocks.started_at,
        clocks.fulfilled_at,
        clocks.ended_at,
        if(
            spells.is_opening,
            clocks.started_at,
            greatest(clocks.started_at, spells.started_at)
        ) as applied_at,
        if(
            clocks.metric = 'first_reply'
            or spells.ended_at >= clocks.ended_at,
            null,
            spells.ended_at
        ) as replaced_at,
        targets.policy,
        targets.priority,
        targets.clock,
        targets.target_minutes,
        round(targets.target_minutes * 6e7)::bigint as target_microseconds,
        targets.pause_statuses,
        targets.pauses_do_not_contact and spells.is_not_contacted
            as is_paused_throughout
    from clocks
    inner join spells
        on
            clocks.case_id = spells.case_id
            and if(
                clocks.metric = 'first_reply',
                spells.is_opening,
                (
                    spells.is_opening
                    or clocks.started_at >= spells.started_at
                    or clocks.ended_at is null
                    or clocks.ended_at > spells.started_at
                )
                and (
                    spells.ended_at is null
                    or clocks.started_at < spells.ended_at
                )
            )
    inner join targets
        on
            spells.position = targets.position
            and clocks.metric = targets.metric
            and spells.priority = targets.priority

)

select * from final

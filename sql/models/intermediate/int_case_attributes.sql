with

touched as (

    select * from {{ ref('int_touched_cases') }}

),

cases as (

    select * from {{ ref('stg_cases') }}
    where case_id in (select case_id from touched)

),

feedback as (

    select * from {{ ref('stg_feedback') }}
    where is_opening

),

labels as (

    select * from {{ ref('stg_labels') }}

),

events as (

    select * from {{ ref('int_case_events') }}
    where event_type in ('group_changed', 'priority_changed')

),

identities as (

    select * from {{ ref('int_customer_identities') }}

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

openings as (

    select
        feedback.case_id,
        unnest(
            min_by(
                struct_pack(
                    feedback_id := feedback.feedback_id,
                    text_hash := feedback.text_hash,
                    language := feedback.language
                ),
                feedback.created_at
            )
        )
    from feedback
    semi join cases on feedback.case_id = cases.case_id
    group by feedback.case_id

),

opening_labels as (

    select
        openings.case_id,
        openings.feedback_id,
        openings.language,
        labels.need,
        labels.priority
    from openings
    left join labels
        on
            openings.feedback_id = labels.feedback_id
            and openings.text_hash = labels.text_hash

),

changes as (

    select
        events.case_id,
        events.event_type,
        events.from_value,
        events.to_value,
        (
            events.event_at, coalesce(events.sequence, -1), events.event_id
        ) as place,
        events.event_at <= cases.opened_at as is_at_opening
    from events
    inner join cases on events.case_id = cases.case_id

),

-- What was set at the opening; else what a value was before its first change.
first_changes as (

    select
        case_id,
        coalesce(
            bool_or(is_at_opening) filter (
                where event_type = 'group_changed'
            ), false
        ) as is_group_set,
        arg_max_null(to_value, place) filter (
            where event_type = 'group_changed' and is_at_opening
        ) as set_group,
        count(*) filter (where event_type = 'group_changed') > 0
            as is_group_logged,
        arg_min_null(from_value, place) filter (
            where event_type = 'group_changed' and not is_at_opening
        ) as earlier_group,
        coalesce(
            bool_or(is_at_opening) filter (
                where event_type = 'priority_changed'
            ), false
        ) as is_priority_set,
        arg_max_null(to_value, place) filter (
            where event_type = 'priority_changed' and is_at_opening
        ) as set_priority,
        arg_min_null(from_value, place) filter (
            where event_type = 'priority_changed' and not is_at_opening
        ) as earlier_priority
    from changes
    group by case_id

),

final as (

    select
        cases.case_id,
        cases.source,
        cases.source_kind,
        cases.source_case_id,
        cases.url,
        coalesce(identities.customer_id, cases.customer_ref) as customer_id,
        cases.channel,
        cases.product,
        cases.subject,
        opening_labels.feedback_id as opening_feedback_id,
        opening_labels.language,
        opening_labels.need,
        coalesce(cases.priority, opening_labels.priority) as priority,
        coalesce(
            if(
                first_changes.is_priority_set,
                first_changes.set_priority,
                first_changes.earlier_priority
            ),
            cases.priority,
            opening_labels.priority
        ) as opening_priority,
        cases.status,
        coalesce(team_groups.team, cases.source_group) as team,
        cases.source_group,
        case
            when first_changes.is_group_set then first_changes.set_group
            when first_changes.is_group_logged
                then first_changes.earlier_group
            else cases.source_group
        end as opening_group,
        cases.assignee_ref,
        cases.tags,
        cases.opened_at,
        coalesce(cases.opened_by_role, 'customer') as opened_by_role,
        cases.updated_at,
        coalesce(teams.time_zone, project.time_zone) as time_zone,
        coalesce(cases.is_excluded, false) as is_excluded,
        cases.exclusion_reason,
        touched.is_changed
    from cases
    inner join touched on cases.case_id = touched.case_id
    cross join project
    left join identities on cases.customer_ref = identities.customer_ref
    left join opening_labels on cases.case_id = opening_labels.case_id
    left join first_changes on cases.case_id = first_changes.case_id
    left join team_groups on cases.source_group = team_groups.source_group
    left join teams on team_groups.team = teams.team

)

select * from final

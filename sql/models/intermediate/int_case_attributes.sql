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

-- What a value was before its first change is what it was at the opening.
first_changes as (

    select
        events.case_id,
        count(*) filter (where events.event_type = 'group_changed')
            as group_changes,
        arg_min_null(
            events.from_value, (events.event_at, events.sequence)
        ) filter (
            where events.event_type = 'group_changed'
        ) as opening_group,
        arg_min_null(
            events.from_value, (events.event_at, events.sequence)
        ) filter (
            where events.event_type = 'priority_changed'
        ) as opening_priority
    from events
    group by events.case_id

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
            first_changes.opening_priority,
            cases.priority,
            opening_labels.priority
        ) as opening_priority,
        cases.status,
        coalesce(team_groups.team, cases.source_group) as team,
        cases.source_group,
        if(
            first_changes.group_changes > 0,
            first_changes.opening_group,
            cases.source_group
        ) as opening_group,
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

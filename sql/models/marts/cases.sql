{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='case_id'
    )
}}

{%- set contact_window = "interval 7 days" %}

with

run as (

    select * from {{ source('run', 'current') }}

),

attributes as (

    select * from {{ ref('int_case_attributes') }}

),

counts as (

    select * from {{ ref('int_case_counts') }}

),

resolutions as (

    select * from {{ ref('int_case_resolutions') }}

),

minutes as (

    select * from {{ ref('int_case_minutes') }}

),

dialects as (

    select * from {{ ref('int_case_dialects') }}

),

issues as (

    select * from {{ ref('int_case_issues') }}

),

sla_events as (

    select * from {{ ref('sla_events') }}

),

responses as (

    select * from {{ ref('survey_responses') }}
    where
        kind = 'csat'
        and score is not null
        and case_id is not null
        and not is_excluded

),

-- A rating that the source logs but does not list as a survey answer.
logged_ratings as (

    select
        case_id,
        is_rated_good::integer::double as csat_score,
        is_rated_good as csat_satisfied,
        is_rated_good::integer::double as csat_share
    from counts
    where is_rated_good is not null

),

latest_responses as (

    select
        case_id,
        arg_max(score, (answered_at, response_id)) as csat_score,
        arg_max(is_satisfied, (answered_at, response_id)) as csat_satisfied,
        arg_max(score_share, (answered_at, response_id)) as csat_share
    from responses
    where case_id in (select case_id from attributes)
    group by case_id

),

satisfaction as (

    select * from latest_responses

    union all by name

    select * from logged_ratings
    where case_id not in (select case_id from latest_responses)

),

breaches as (

    select
        case_id,
        bool_or(is_breached) as sla_breached
    from sla_events
    where case_id in (select case_id from attributes)
    group by case_id

),

opened_cases as (

    select
        case_id,
        customer_id,
        need,
        opened_at
    from attributes
    where not is_excluded

    {%- if is_incremental() %}

    union all

    select
        case_id,
        customer_id,
        need,
        opened_at
    from {{ this }}
    where
        not is_excluded
        and case_id not in (select case_id from attributes)
        and customer_id in (select customer_id from attributes)
    {%- endif %}

),

returned as (

    select distinct attributes.case_id
    from attributes
    inner join resolutions on attributes.case_id = resolutions.case_id
    inner join opened_cases
        on
            attributes.customer_id = opened_cases.customer_id
            and attributes.need = opened_cases.need
            and attributes.case_id <> opened_cases.case_id
            and attributes.opened_at < opened_cases.opened_at
            and opened_cases.opened_at
            <= resolutions.last_solved_at + {{ contact_window }}

),

clocks as (

    select
        attributes.*,
        counts.* exclude (case_id),
        resolutions.* exclude (case_id, status),
        minutes.* exclude (case_id),
        dialects.* exclude (case_id),
        resolutions.status as present_status,
        {{ is_unsolved('resolutions.status') }} as is_unsolved,
        resolutions.status in ('solved', 'closed') as is_solved,
        run.as_of
    from attributes
    inner join counts on attributes.case_id = counts.case_id
    inner join resolutions on attributes.case_id = resolutions.case_id
    inner join minutes on attributes.case_id = minutes.case_id
    inner join dialects on attributes.case_id = dialects.case_id
    cross join run

),

final as (

    select
        clocks.case_id,
        clocks.source,
        clocks.source_kind,
        clocks.source_case_id,
        clocks.url,
        clocks.customer_id,
        clocks.channel,
        clocks.product,
        clocks.subject,
        clocks.language,
        clocks.need,
        clocks.priority,
        clocks.present_status as status,
        clocks.team,
        clocks.assignee_ref as assignee_id,
        clocks.tags,
        clocks.opened_at,
        clocks.opened_by_role,
        clocks.opening_feedback_id,
        clocks.first_reply_at,
        clocks.last_reply_at,
        clocks.last_customer_message_at,
        clocks.first_solved_at,
        clocks.last_solved_at,
        coalesce(clocks.first_solved_at, clocks.first_settled_at)
            as first_resolved_at,
        if(clocks.present_status = 'closed', clocks.last_closed_at, null)
            as closed_at,
        clocks.updated_at,
        clocks.first_reply_minutes,
        clocks.total_reply_minutes,
        clocks.first_resolution_minutes,
        clocks.full_resolution_minutes,
        {%- for clock in ['', 'business_'] %}
        {%- for column, statuses in {
            'requester_wait': ['new', 'open', 'hold'],
            'agent_wait': ['pending'],
            'agent_work': ['new', 'open'],
            'on_hold': ['hold'],
            'solve': ['new', 'open', 'hold', 'pending'],
        }.items() %}
        {%- if clock %}
        if(
            clocks.calendar is null,
            null,
            {% for status in statuses -%}
            coalesce(clocks.{{ status }}_business_minutes, 0)
            {%- if not loop.last %}
            + {% endif %}
            {%- endfor %}
        ) as {{ column }}_business_minutes,
        {%- else %}
        {% for status in statuses -%}
        coalesce(clocks.{{ status }}_minutes, 0)
        {%- if not loop.last %}
        + {% endif %}
        {%- endfor %} as {{ column }}_minutes,
        {%- endif %}
        {%- endfor %}
        {%- endfor %}
        clocks.first_reply_business_minutes,
        clocks.total_reply_business_minutes,
        clocks.first_resolution_business_minutes,
        clocks.full_resolution_business_minutes,
        clocks.first_reply_minutes_fivetran,
        clocks.first_resolution_minutes_fivetran,
        clocks.full_resolution_minutes_fivetran,
        clocks.first_reply_business_minutes_fivetran,
        clocks.first_resolution_business_minutes_fivetran,
        clocks.full_resolution_business_minutes_fivetran,
        clocks.first_reply_business_minutes_zendesk,
        clocks.first_resolution_business_minutes_zendesk,
        clocks.full_resolution_business_minutes_zendesk,
        clocks.reopen_count,
        clocks.reopen_count_fivetran,
        clocks.reopen_count_mozilla,
        clocks.agent_reply_count,
        clocks.customer_message_count,
        clocks.internal_note_count,
        clocks.handoff_count,
        clocks.good_to_bad_count,
        clocks.bad_to_good_count,
        case
            when not clocks.is_solved then null
            when clocks.agent_reply_count = 0 then 'none'
            when clocks.agent_reply_count = 1 then 'one'
            when clocks.agent_reply_count = 2 then 'two'
            else 'multi'
        end as touch,
        clocks.touch_fivetran,
        case
            when
                clocks.is_solved
                and clocks.last_solved_at + {{ contact_window }}
                <= clocks.as_of
                then clocks.reopen_count = 0 and returned.case_id is null
        end as first_contact_resolved,
        clocks.unsolved_age_minutes,
        clocks.unsolved_age_business_minutes,
        satisfaction.csat_score,
        satisfaction.csat_satisfied,
        satisfaction.csat_share,
        breaches.sla_breached,
        clocks.calendar,
        clocks.time_zone,
        {{ local_day('clocks.opened_at', 'clocks.time_zone') }} as opened_date,
        {{ local_day('clocks.first_reply_at', 'clocks.time_zone') }}
            as first_reply_date,
        {{ local_day(
            'coalesce(clocks.first_solved_at, clocks.first_settled_at)',
            'clocks.time_zone'
        ) }} as first_resolved_date,
        {{ local_day('clocks.last_solved_at', 'clocks.time_zone') }}
            as last_solved_date,
        clocks.is_status_inferred,
        issues.data_issues,
        clocks.as_of,
        clocks.is_excluded,
        clocks.exclusion_reason
    from clocks
    left join returned on clocks.case_id = returned.case_id
    left join satisfaction on clocks.case_id = satisfaction.case_id
    left join breaches on clocks.case_id = breaches.case_id
    left join issues on clocks.case_id = issues.case_id

)

select * from final

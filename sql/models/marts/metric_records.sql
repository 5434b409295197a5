{{ config(materialized='view') }}

{%- set dimensions = list_case_dimensions() %}

with

cases as (

    select * from {{ ref('cases') }}

),

spells as (

    select
        *,
        unnest(
            generate_series(
                first_date::timestamp, last_date::timestamp, interval 1 day
            )
        )::date as cohort_date
    from {{ ref('int_backlog_spells') }}

),

answers as (

    select
        *,
        case
            when exclusion_reason is not null then exclusion_reason
            when left_out_reason = 'answered_again' then 'answered_again'
        end as reason
    from {{ ref('int_answers') }}

),

of_cases as (

    {% for metric in ['volume', 'excluded'] -%}
    select
        '{{ metric }}' as metric,
        'created' as cohort,
        opened_date as cohort_date,
        case_id,
        {{ dimensions | join(',\n        ') }},
        {%- if metric == 'volume' %}
        if(is_excluded, exclusion_reason, null) as left_out_reason,
        if(is_excluded, null, 1)::double as numerator
        {%- else %}
        exclusion_reason,
        1.0::double as numerator
        {%- endif %}
    from cases
    {%- if metric == 'excluded' %}
    where is_excluded
    {%- endif %}

    union all by name

    {% endfor -%}
    {% for spec in list_case_means() -%}
    {{ list_case_mean(spec, dimensions) }}

    union all by name

    {% endfor -%}
    {% for spec in list_case_shares() -%}
    {{ list_case_share(spec, dimensions) }}

    union all by name

    {% endfor -%}
    {% for clock in ['calendar', 'business'] -%}
    {%- set column = 'unsolved_age_' ~ (
        'business_minutes' if clock == 'business' else 'minutes'
    ) -%}
    select
        'unsolved_age' as metric,
        '{{ clock }}' as clock,
        'snapshot' as cohort,
        {{ local_day('as_of', 'time_zone') }} as cohort_date,
        case_id,
        {{ dimensions | join(',\n        ') }},
        if(is_excluded, exclusion_reason, null) as left_out_reason,
        if(is_excluded, null, {{ column }}) as value_sum,
        if(is_excluded, null, 1)::double as value_count
    from cases
    where {{ is_unsolved('status') }} and {{ column }} is not null

    union all by name

    {% endfor -%}
    select
        'unreplied' as metric,
        'snapshot' as cohort,
        {{ local_day('as_of', 'time_zone') }} as cohort_date,
        case_id,
        {{ dimensions | join(',\n        ') }},
        if(is_excluded, exclusion_reason, null) as left_out_reason,
        if(is_excluded, null, (agent_reply_count = 0)::int)::double
            as numerator,
        if(is_excluded, null, 1)::double as denominator
    from cases
    where {{ is_unsolved('status') }}

    union all by name

    select
        'backlog' as metric,
        'snapshot' as cohort,
        cohort_date,
        * exclude (cohort_date, first_date, last_date, exclusion_reason),
        exclusion_reason as left_out_reason,
        {{ age_band('cohort_date', 'opened_date') }} as age_band,
        if(exclusion_reason is null, 1, null)::double as numerator
    from spells

    union all by name

    select
        'sla' as metric,
        sla_events.metric as sla_metric,
        if(sla_events.in_business_hours, 'business', 'calendar') as clock,
        'decided' as cohort,
        sla_events.decided_date as cohort_date,
        sla_events.case_id,
        cases.source,
        cases.channel,
        cases.product,
        cases.language,
        cases.team,
        cases.need,
        sla_events.priority,
        cases.assignee_id as agent_id,
        cases.customer_id,
        cases.opened_date,
        if(cases.is_excluded, cases.exclusion_reason, null)
            as left_out_reason,
        if(cases.is_excluded, null, (not sla_events.is_breached)::int)
        ::double as numerator,
        if(cases.is_excluded, null, 1)::double as denominator
    from {{ ref('sla_events') }} as sla_events
    inner join cases on sla_events.case_id = cases.case_id
    where sla_events.is_breached is not null

),

of_feedback as (

    select
        if(feedback.is_excluded, 'excluded', 'volume') as metric,
        'created' as cohort,
        {{ local_day('feedback.created_at', 'project.time_zone') }}
            as cohort_date,
        feedback.feedback_id as record_id,
        feedback.case_id,
        feedback.source,
        feedback.channel,
        feedback.product,
        feedback.language,
        feedback.feedback_type,
        feedback.need,
        feedback.sentiment,
        feedback.customer_id,
        if(feedback.is_excluded, feedback.exclusion_reason, null)
            as exclusion_reason,
        1.0::double as numerator
    from {{ ref('feedback') }} as feedback
    cross join {{ source('config', 'project') }} as project

),

{%- set answer_columns %}
        response_id as record_id,
        case_id,
        source,
        channel,
        product,
        language,
        team,
        need,
        priority,
        agent_id,
        customer_id,
        opened_date
{%- endset %}

of_answers as (

    {% for metric, spec in {
        'csat': {
            'hits': 'is_satisfied::int', 'among': 'is_satisfied is not null'
        },
        'nps': {
            'hits': "if(nps_group = 'promoter', 1, 0)"
            ~ " - if(nps_group = 'detractor', 1, 0)",
            'among': 'nps_group is not null'
        },
        'ces': {'hits': 'is_easy::int', 'among': 'is_easy is not null'},
    }.items() -%}
    select
        '{{ metric }}' as metric,
        'rated' as cohort,
        rated_date as cohort_date,
        {{ answer_columns }},
        reason as left_out_reason,
        if(reason is null, {{ spec.hits }}, null)::double as numerator,
        if(reason is null, 1, null)::double as denominator
        {%- if metric == 'ces' %},
        if(reason is null, 1 + 6 * score_share, null) as value_sum,
        if(reason is null, 1, null)::double as value_count
    {%- elif metric == 'nps' %},
        if(reason is null, (nps_group <> 'passive')::int, null)::double
            as value_sum_squares
    {%- endif %}
    from answers
    where is_rated and {{ spec.among }}

    union all by name

    {% endfor -%}
    select
        'response_rate' as metric,
        'offered' as cohort,
        offered_date as cohort_date,
        {{ answer_columns }},
        exclusion_reason as left_out_reason,
        if(exclusion_reason is null, (answered_at is not null)::int, null)
        ::double as numerator,
        if(exclusion_reason is null, 1, null)::double as denominator
    from answers
    where offered_date is not null

),

{%- set review_columns %}
        review_id as record_id,
        case_id,
        source,
        channel,
        product,
        language,
        team,
        need,
        priority,
        agent_id,
        customer_id,
        opened_date,
        left_out_reason
{%- endset %}

of_reviews as (

    select
        'review_score' as metric,
        'reviewed' as cohort,
        reviewed_date as cohort_date,
        {{ review_columns }},
        if(left_out_reason is null, review_score, null) as value_sum,
        if(left_out_reason is null, 1, null)::double as value_count
    from {{ ref('int_reviews') }}

    union all by name

    select
        'review_pass' as metric,
        'reviewed' as cohort,
        reviewed_date as cohort_date,
        {{ review_columns }},
        if(left_out_reason is null, is_passed::int, null)::double
            as numerator,
        if(left_out_reason is null, 1, null)::double as denominator
    from {{ ref('int_reviews') }}

),

united as (

    select
        'case' as counted,
        case_id as record_id,
        *
    from of_cases

    union all by name

    select
        'feedback' as counted,
        *
    from of_feedback

    union all by name

    select
        'answer' as counted,
        *
    from of_answers

    union all by name

    select
        'review' as counted,
        *
    from of_reviews

),

final as (

    select
        united.metric,
        coalesce(united.dialect, 'house') as dialect,
        coalesce(united.clock, 'calendar') as clock,
        united.cohort_date,
        united.cohort,
        united.counted,
        united.record_id,
        united.case_id,
        united.source,
        united.channel,
        united.product,
        united.language,
        united.team,
        united.agent_id,
        united.customer_id,
        customers.segment,
        united.feedback_type,
        united.need,
        united.sentiment,
        united.priority,
        united.age_band,
        united.sla_metric,
        united.opened_date,
        united.exclusion_reason,
        united.left_out_reason,
        united.numerator,
        united.denominator,
        united.value_sum,
        coalesce(united.value_sum_squares, united.value_sum ^ 2)
            as value_sum_squares,
        united.value_count,
        united.left_out_count
    from united
    left join {{ ref('customers') }} as customers
        on united.customer_id = customers.customer_id

)

select * from final

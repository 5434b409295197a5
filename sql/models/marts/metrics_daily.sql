-- depends_on: {{ ref('int_touched_days') }}
{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        pre_hook="
            {% if is_incremental() %}
            delete from {{ this }}
            where cohort = 'snapshot'
                or cohort_date is null
                or cohort_date in (
                    select day from {{ ref('int_touched_days') }}
                )
            {% endif %}
        ",
        post_hook="{{ create_metric_functions() }}"
    )
}}

with

components as (

    select * from {{ ref('int_metrics_feedback') }}
    union all by name
    select * from {{ ref('int_metrics_cases') }}
    union all by name
    select * from {{ ref('int_metrics_surveys') }}
    union all by name
    select * from {{ ref('int_metrics_reviews') }}
    union all by name
    select * from {{ ref('int_metrics_backlog') }}

),

valued as (

    select
        *,
        {{ value_of_sums() }} as value,
        coalesce(denominator, value_count, numerator) as size
    from components

),

final as (

    select
        metric,
        coalesce(dialect, 'house') as dialect,
        coalesce(clock, 'calendar') as clock,
        cohort_date,
        cohort,
        counted,
        source,
        channel,
        product,
        language,
        team,
        feedback_type,
        need,
        sentiment,
        priority,
        age_band,
        exclusion_reason,
        sla_metric,
        numerator,
        denominator,
        value_sum,
        value_sum_squares,
        value_count,
        left_out_count,
        value,
        {{ low_of_sums() }} as ci_low,
        {{ high_of_sums() }} as ci_high,
        size < 5 as is_small_sample
    from valued

)

select * from final

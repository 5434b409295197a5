-- depends_on: {{ ref('int_touched_days') }}
{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        pre_hook="
            {% if is_incremental() %}
            delete from {{ this }}
            where metric = 'backlog'
                or cohort_date is null
                or cohort_date in (
                    select day from {{ ref('int_touched_days') }}
                )
            {% endif %}
        "
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
    select * from {{ ref('int_metrics_backlog') }}

),

valued as (

    select
        *,
        case
            when metric = 'nps' then 100 * numerator / denominator
            when denominator is not null then numerator / denominator
            when value_count is not null
                then value_sum / nullif(value_count, 0)
            else numerator
        end as value,
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
        numerator,
        denominator,
        value_sum,
        value_sum_squares,
        value_count,
        left_out_count,
        value,
        case
            when metric = 'nps'
                then
                    greatest(-100, value - {{ nps_margin(
                        'numerator', 'value_sum_squares', 'denominator'
                    ) }})
            when denominator is not null
                then {{ wilson_low('numerator', 'denominator') }}
            when value_count is not null
                then
                    value - {{ mean_margin(
                        'value_sum', 'value_sum_squares', 'value_count'
                    ) }}
        end as ci_low,
        case
            when metric = 'nps'
                then
                    least(100, value + {{ nps_margin(
                        'numerator', 'value_sum_squares', 'denominator'
                    ) }})
            when denominator is not null
                then {{ wilson_high('numerator', 'denominator') }}
            when value_count is not null
                then
                    value + {{ mean_margin(
                        'value_sum', 'value_sum_squares', 'value_count'
                    ) }}
        end as ci_high,
        size < 5 as is_small_sample
    from valued

)

select * from final

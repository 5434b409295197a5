-- depends_on: {{ ref('int_touched_days') }}
{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        pre_hook="
            {% if is_incremental() %}
            delete from {{ this }}
            where (period = 'day' and period_date in (
                    select day from {{ ref('int_touched_days') }}
                ))
                or (period = 'week' and period_date in (
                    select date_trunc('week', day)::date
                    from {{ ref('int_touched_days') }}
                ))
            {% endif %}
        "
    )
}}

with

touched as (

    select * from {{ ref('int_touched_days') }}

),

-- A week is counted anew from all of its days.
days as (

    select distinct
        unnest(
            generate_series(
                date_trunc('week', day)::timestamp,
                date_trunc('week', day)::timestamp + interval 6 days,
                interval 1 day
            )
        )::date as day
    from touched

),

cases as (

    select * from {{ ref('cases') }}
    where not is_excluded

),

measured as (

    select
        'satisfaction' as measure,
        'calendar' as clock,
        rated_date as day,
        team,
        agent_id,
        channel,
        need,
        1 + 4 * score_share as amount
    from {{ ref('int_answers') }}
    where
        kind = 'csat'
        and left_out_reason is null
        and rated_date in (select day from days)

    union all

    select
        'review' as measure,
        'calendar' as clock,
        reviewed_date as day,
        team,
        agent_id,
        channel,
        need,
        review_score as amount
    from {{ ref('int_reviews') }}
    where
        left_out_reason is null
        and reviewed_date in (select day from days)
    {%- for clock, suffix in {
        'calendar': '_minutes', 'business': '_business_minutes'
    }.items() %}

    union all

    select
        'first_reply' as measure,
        '{{ clock }}' as clock,
        first_reply_date as day,
        team,
        assignee_id as agent_id,
        channel,
        need,
        first_reply{{ suffix }} as amount
    from cases
    where
        first_reply{{ suffix }} is not null
        and first_reply_date in (select day from days)

    union all

    select
        'resolution' as measure,
        '{{ clock }}' as clock,
        last_solved_date as day,
        team,
        assignee_id as agent_id,
        channel,
        need,
        full_resolution{{ suffix }} as amount
    from cases
    where
        full_resolution{{ suffix }} is not null
        and last_solved_date in (select day from days)
    {%- endfor %}

),

dated as (

    select
        *,
        date_trunc('week', day)::date as week
    from measured

),

{%- set dimensions = {
    'all': 'null::varchar', 'team': 'team', 'agent': 'agent_id',
    'channel': 'channel', 'need': 'need'
} %}

-- Each cut by itself: rows are never multiplied.
counted as (

    {% for period in ['day', 'week'] -%}
    {%- set is_last = loop.last -%}
    {%- for dimension, member in dimensions.items() -%}
    select
        measure,
        clock,
        '{{ period }}' as period,
        {{ period }} as period_date,
        '{{ dimension }}' as dimension,
        {{ member }} as member,
        count(*) as value_count,
        avg(amount) as mean,
        var_samp(amount) as variance,
        sqrt(var_samp(amount)) as standard_deviation,
        quantile_cont(amount, [0.5, 0.9]) as quantiles
    from dated
    {%- if period == 'day' %}
    where day in (select touched.day from touched)
    {%- endif %}
    group by all
    {%- if not (is_last and loop.last) %}

    union all

    {% endif %}
    {%- endfor %}
    {%- endfor %}

),

final as (

    select
        * exclude (quantiles),
        quantiles[1] as median,
        quantiles[2] as p90,
        value_count < 5 as is_small_sample
    from counted

)

select * from final

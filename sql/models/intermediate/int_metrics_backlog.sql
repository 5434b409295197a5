{{ config(materialized='view') }}

with

spells as (

    select
        source,
        channel,
        team,
        need,
        priority,
        opened_date,
        first_date,
        last_date,
        count(*)::double as case_count
    from {{ ref('int_backlog_spells') }}
    where exclusion_reason is null
    group by all

),

days as (

    select
        * exclude (first_date, last_date),
        unnest(
            generate_series(
                first_date::timestamp, last_date::timestamp, interval 1 day
            )
        )::date as cohort_date
    from spells

),

backlog as (

    select
        'backlog' as metric,
        cohort_date,
        source,
        channel,
        team,
        need,
        priority,
        {{ age_band('cohort_date', 'opened_date') }} as age_band,
        sum(case_count) as numerator
    from days
    group by all

),

-- How it stands at the instant up to which the run counts.
standing as (

    select * from {{ ref('cases') }}
    where not is_excluded and {{ is_unsolved('status') }}

),

ages as (

    {% for clock in ['calendar', 'business'] %}
    {%- set column = 'unsolved_age_' ~ (
        'business_minutes' if clock == 'business' else 'minutes'
    ) -%}
    select
        'unsolved_age' as metric,
        '{{ clock }}' as clock,
        {{ local_day('as_of', 'time_zone') }} as cohort_date,
        source,
        channel,
        team,
        need,
        sum({{ column }}) as value_sum,
        sum({{ column }} ^ 2) as value_sum_squares,
        count({{ column }})::double as value_count
    from standing
    where {{ column }} is not null
    group by all
    {%- if not loop.last %}

    union all by name

    {% endif %}
    {%- endfor %}

),

unreplied as (

    select
        'unreplied' as metric,
        {{ local_day('as_of', 'time_zone') }} as cohort_date,
        source,
        channel,
        team,
        need,
        count(*) filter (where agent_reply_count = 0)::double as numerator,
        count(*)::double as denominator
    from standing
    group by all

),

united as (

    select * from backlog
    union all by name
    select * from ages
    union all by name
    select * from unreplied

),

final as (

    select
        *,
        'case' as counted,
        'snapshot' as cohort
    from united

)

select * from final

{{ config(materialized='view') }}

{#- metric: [clock, cohort, instant of the cohort, measured column] -#}
{%- set durations = [] -%}
{%- for clock, infix in {'calendar': '', 'business': 'business_'}.items() -%}
    {%- for metric, cohort, instant in [
        ('first_reply', 'first_reply', 'first_reply_at'),
        ('total_reply', 'solved', 'last_solved_at'),
        ('first_resolution', 'solved', 'first_resolved_at'),
        ('full_resolution', 'solved', 'last_solved_at'),
        ('requester_wait', 'solved', 'last_solved_at'),
        ('agent_wait', 'solved', 'last_solved_at'),
        ('agent_work', 'solved', 'last_solved_at'),
        ('on_hold', 'solved', 'last_solved_at'),
    ] -%}
        {%- do durations.append({
            'metric': metric,
            'clock': clock,
            'cohort': cohort,
            'day': instant | replace('_at', '_date'),
            'column': metric ~ '_' ~ infix ~ 'minutes',
            'is_final': instant == 'last_solved_at',
        }) -%}
    {%- endfor -%}
{%- endfor -%}

{%- set shares = [
    ('reopen', 'house', 'first_resolved_date', 'reopen_count > 0', 'true'),
    (
        'reopen', 'fivetran', 'first_resolved_date',
        'reopen_count_fivetran > 0', 'true'
    ),
    (
        'reopen', 'mozilla', 'first_resolved_date',
        'reopen_count_mozilla > 0', 'true'
    ),
    ('one_touch', 'house', 'last_solved_date', "touch = 'one'", 'is_solved'),
    (
        'first_contact', 'house', 'last_solved_date',
        'first_contact_resolved', 'first_contact_resolved is not null'
    ),
] -%}

with

days as (

    select * from {{ ref('int_touched_days') }}

),

cases as (

    select
        *,
        status in ('solved', 'closed') as is_solved,
        opened_at
        + to_microseconds((first_resolution_minutes * 6e7)::bigint)
            as first_resolved_at,
        {{ local_day('opened_at', 'time_zone') }} as opened_date,
        {{ local_day('first_reply_at', 'time_zone') }} as first_reply_date,
        {{ local_day('last_solved_at', 'time_zone') }} as last_solved_date,
        {{ local_day('first_resolved_at', 'time_zone') }}
            as first_resolved_date,
        date_trunc('month', last_solved_date)::timestamp
        at time zone time_zone as period_start,
        1 + 4 * csat_share as rating,
        {{ minutes_between('period_start', 'last_solved_at') }}
            as solved_minute
    from {{ ref('cases') }}
    where
        list_has_any(
            [
                opened_date, first_reply_date, last_solved_date,
                first_resolved_date
            ],
            (select coalesce(list(day), []) from days)
        )

),

kept as (

    select * from cases
    where not is_excluded

),

volume as (

    select
        'volume' as metric,
        'case' as counted,
        'created' as cohort,
        opened_date as cohort_date,
        source,
        channel,
        product,
        language,
        team,
        need,
        priority,
        count(*)::double as numerator
    from kept
    group by all

),

excluded as (

    select
        'excluded' as metric,
        'case' as counted,
        'created' as cohort,
        opened_date as cohort_date,
        source,
        channel,
        team,
        need,
        exclusion_reason,
        count(*)::double as numerator
    from cases
    where is_excluded
    group by all

),

durations as (

    {%- for duration in durations %}
    select
        '{{ duration.metric }}' as metric,
        '{{ duration.clock }}' as clock,
        'case' as counted,
        '{{ duration.cohort }}' as cohort,
        {{ duration.day }} as cohort_date,
        source,
        channel,
        team,
        need,
        sum({{ duration.column }}) as value_sum,
        sum({{ duration.column }} ^ 2) as value_sum_squares,
        count(*)::double as value_count
    from kept
    where
        {{ duration.day }} is not null
        and {{ duration.column }} is not null
        {%- if duration.is_final %}
        and is_solved
        {%- endif %}
    group by all
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}

),

shares as (

    {%- for metric, dialect, day, numerator, condition in shares %}
    select
        '{{ metric }}' as metric,
        '{{ dialect }}' as dialect,
        'case' as counted,
        'solved' as cohort,
        {{ day }} as cohort_date,
        source,
        channel,
        team,
        need,
        count(*) filter (where {{ numerator }})::double as numerator,
        count(*)::double as denominator
    from kept
    where {{ day }} is not null and {{ condition }}
    group by all
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}

),

weighted as (

    select
        'duration_weighted_csat' as metric,
        'case' as counted,
        'solved' as cohort,
        last_solved_date as cohort_date,
        source,
        channel,
        team,
        need,
        {{ duration_weighted_score('rating', 'full_resolution_minutes') }}
            as score
    from kept
    where is_solved and last_solved_date is not null

),

ratios as (

    select
        'resolution_time_ratio' as metric,
        'case' as counted,
        'solved' as cohort,
        last_solved_date as cohort_date,
        source,
        channel,
        team,
        need,
        solved_minute / nullif(full_resolution_minutes, 0) as score
    from kept
    where is_solved and last_solved_date is not null

),

scores as (

    select
        * exclude (score),
        sum(score) as value_sum,
        sum(score ^ 2) as value_sum_squares,
        count(score)::double as value_count,
        count(*) filter (where score is null)::double as left_out_count
    from (
        select * from weighted
        union all
        select * from ratios
    )
    group by all

),

service_levels as (

    select
        'sla' as metric,
        if(in_business_hours, 'business', 'calendar') as clock,
        'case' as counted,
        'decided' as cohort,
        decided_date as cohort_date,
        source,
        channel,
        team,
        need,
        priority,
        count(*) filter (where not is_breached)::double as numerator,
        count(*)::double as denominator
    from {{ ref('sla_events') }}
    where
        not is_excluded
        and is_breached is not null
        and decided_date in (select day from days)
    group by all

),

united as (

    select * from volume
    union all by name
    select * from excluded
    union all by name
    select * from durations
    union all by name
    select * from shares
    union all by name
    select * from scores
    union all by name
    select * from service_levels

),

final as (

    select united.*
    from united
    semi join days on united.cohort_date = days.day

)

select * from final

{{ config(materialized='view') }}

{%- set clocks = {'calendar': '_minutes', 'business': '_business_minutes'} -%}
{%- set solved_durations = [
    'total_reply', 'full_resolution', 'requester_wait', 'agent_wait',
    'agent_work', 'on_hold'
] -%}
{%- set scores = ['duration_weighted_csat', 'resolution_time_ratio'] -%}
{%- set reopen_columns = {
    'house': 'reopen_count',
    'fivetran': 'reopen_count_fivetran',
    'mozilla': 'reopen_count_mozilla',
} -%}

with

days as (

    select * from {{ ref('int_touched_days') }}

),

cases as (

    select
        *,
        {{ local_day('opened_at', 'time_zone') }} as opened_date,
        {{ local_day('first_reply_at', 'time_zone') }} as first_reply_date,
        {{ local_day('last_solved_at', 'time_zone') }} as last_solved_date,
        {{ local_day('first_resolved_at', 'time_zone') }}
            as first_resolved_date
    from {{ ref('cases') }}

),

opened as (

    select
        opened_date as cohort_date,
        source,
        channel,
        product,
        language,
        team,
        need,
        priority,
        if(is_excluded, exclusion_reason, null) as exclusion_reason,
        is_excluded,
        count(*)::double as numerator
    from cases
    where opened_date in (select day from days)
    group by all

),

replied as (

    select
        first_reply_date as cohort_date,
        source,
        channel,
        team,
        need,
        {{ sums_of('first_reply_minutes') }},
        {{ sums_of('first_reply_business_minutes') }}
    from cases
    where
        not is_excluded
        and first_reply_date in (select day from days)
    group by all

),

resolved as (

    select
        first_resolved_date as cohort_date,
        source,
        channel,
        team,
        need,
        {{ sums_of('first_resolution_minutes') }},
        {{ sums_of('first_resolution_business_minutes') }},
        {%- for dialect, column in reopen_columns.items() %}
        count(*) filter (where {{ column }} > 0)::double as {{ dialect }}_count,
        {%- endfor %}
        count(*)::double as resolved_count
    from cases
    where
        not is_excluded
        and first_resolved_date in (select day from days)
    group by all

),

-- The reporting period of the ratio is the local month of the solve.
scored as (

    select
        *,
        {{ duration_weighted_score(
            '(1 + 4 * csat_share)', 'full_resolution_minutes'
        ) }} as duration_weighted_csat,
        {{ minutes_between(
            "date_trunc('month', last_solved_date)::timestamp"
            ~ " at time zone time_zone",
            'last_solved_at'
        ) }} / nullif(full_resolution_minutes, 0) as resolution_time_ratio
    from cases
    where
        not is_excluded
        and status in ('solved', 'closed')
        and last_solved_date in (select day from days)

),

solved as (

    select
        last_solved_date as cohort_date,
        source,
        channel,
        team,
        need,
        {%- for metric in solved_durations %}
        {%- for suffix in clocks.values() %}
        {{ sums_of(metric ~ suffix) }},
        {%- endfor %}
        {%- endfor %}
        {%- for score in scores %}
        {{ sums_of(score) }},
        {%- endfor %}
        count(*) filter (where touch = 'one')::double as one_touch_count,
        count(*) filter (where first_contact_resolved)::double
            as first_contact_count,
        count(first_contact_resolved)::double as judged_count,
        count(*)::double as solved_count
    from scored
    group by all

),

service_levels as (

    select
        'sla' as metric,
        if(in_business_hours, 'business', 'calendar') as clock,
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

    select
        'volume' as metric,
        'created' as cohort,
        * exclude (is_excluded, exclusion_reason)
    from opened
    where not is_excluded

    union all by name

    select
        'excluded' as metric,
        'created' as cohort,
        cohort_date,
        source,
        channel,
        team,
        need,
        exclusion_reason,
        sum(numerator) as numerator
    from opened
    where is_excluded
    group by all

    union all by name
    {% for clock, suffix in clocks.items() %}
    {{ mean_rows(
        'first_reply', clock, 'first_reply', 'replied', 'first_reply' ~ suffix
    ) }}

    union all by name
    {{ mean_rows(
        'first_resolution', clock, 'solved', 'resolved',
        'first_resolution' ~ suffix
    ) }}

    union all by name
    {% for metric in solved_durations %}
    {{ mean_rows(metric, clock, 'solved', 'solved', metric ~ suffix) }}

    union all by name
    {% endfor %}
    {%- endfor %}
    {%- for score in scores %}
    select
        '{{ score }}' as metric,
        'solved' as cohort,
        cohort_date,
        source,
        channel,
        team,
        need,
        {{ score }}_sum as value_sum,
        {{ score }}_squares as value_sum_squares,
        {{ score }}_count as value_count,
        solved_count - {{ score }}_count as left_out_count
    from solved

    union all by name
    {% endfor %}
    {%- for dialect in reopen_columns %}
    {{ share_rows(
        'reopen', dialect, 'resolved', dialect ~ '_count', 'resolved_count'
    ) }}

    union all by name
    {% endfor %}
    {{ share_rows(
        'one_touch', 'house', 'solved', 'one_touch_count', 'solved_count'
    ) }}

    union all by name
    {{ share_rows(
        'first_contact', 'house', 'solved', 'first_contact_count',
        'judged_count'
    ) }}

    union all by name

    select * from service_levels

),

final as (

    select
        *,
        'case' as counted
    from united

)

select * from final

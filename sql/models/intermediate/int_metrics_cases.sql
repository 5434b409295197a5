{{ config(materialized='view') }}

{%- set dimensions = list_stored_dimensions() %}

with

days as (

    select * from {{ ref('int_touched_days') }}

),

cases as (

    select * from {{ ref('cases') }}

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

service_levels as (

    select
        'sla' as metric,
        metric as sla_metric,
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

-- One row a day and group of cases, with the sums of all its metrics.
summed as (

    {% for cohort in list_case_cohorts() -%}
    select
        {{ cohort.day }} as cohort_date,
        {{ dimensions | join(',\n        ') }},
        {{ sum_case_metrics(cohort.specs) }} as sums
    from cases
    where
        not is_excluded
        and {{ cohort.day }} in (select day from days)
        {%- if cohort.when %}
        and {{ cohort.when }}
        {%- endif %}
    group by all
    {%- if not loop.last %}

    union all

    {% endif %}
    {%- endfor %}

),

of_metrics as (

    select
        * exclude (sums),
        unnest(sums, max_depth := 2)
    from summed

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

    select * from of_metrics
    where denominator > 0 or value_count > 0 or left_out_count > 0

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

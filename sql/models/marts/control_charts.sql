{{ config(materialized='view') }}

{#- A moving range of two values is on average 1.128 standard deviations. #}
{%- set range_of_two = 1.128 %}
{%- set window = 90 %}

with

run as (

    select * from {{ source('run', 'current') }}

),

daily as (

    select
        quality_control.*,
        unnest(['mean', 'median']) as statistic
    from {{ ref('quality_control') }} as quality_control
    cross join run
    where
        quality_control.period = 'day'
        and quality_control.period_date <= run.run_date
        and quality_control.period_date > run.run_date - {{ window }}

),

individuals as (

    select
        'xmr' as chart,
        measure as metric,
        statistic,
        clock,
        dimension,
        member,
        period_date as cohort_date,
        value_count::double as size,
        null::double as numerator,
        if(statistic = 'mean', mean, median) as value,
        if(measure = 'satisfaction', 1.0, 0.0)::double as lowest,
        case measure when 'satisfaction' then 5.0 when 'review' then 100.0 end
        ::double as highest
    from daily

),

shares as (

    select
        metrics.metric,
        metrics.clock,
        metrics.cohort_date,
        metrics.numerator,
        metrics.denominator,
        unnest([
            struct_pack(dimension := 'all', member := null::varchar),
            struct_pack(dimension := 'team', member := metrics.team),
            struct_pack(dimension := 'channel', member := metrics.channel),
            struct_pack(dimension := 'need', member := metrics.need)
        ], max_depth := 2)
    from {{ ref('metrics_daily') }} as metrics
    cross join run
    where
        metrics.metric in (
            'csat', 'one_touch', 'first_contact', 'reopen', 'sla',
            'review_pass'
        )
        and metrics.dialect = 'house'
        and coalesce(metrics.sla_metric, 'first_reply') = 'first_reply'
        and metrics.cohort_date <= run.run_date
        and metrics.cohort_date > run.run_date - {{ window }}

),

proportions as (

    select
        'p' as chart,
        metric,
        'share' as statistic,
        clock,
        dimension,
        member,
        cohort_date,
        sum(denominator) as size,
        sum(numerator) as numerator,
        sum(numerator) / sum(denominator) as value,
        0.0::double as lowest,
        1.0::double as highest
    from shares
    group by all

),

points as (

    select * from individuals
    union all
    select * from proportions

),

ranged as (

    select
        *,
        abs(value - lag(value) over series_in_order) as moving_range
    from points
    window
        series_in_order as (
            partition by chart, metric, statistic, clock, dimension, member
            order by cohort_date
        )

),

centred as (

    select
        *,
        count(*) over series as point_count,
        if(
            chart = 'p',
            sum(numerator) over series / sum(size) over series,
            avg(value) over series
        ) as centre_line,
        if(
            chart = 'p',
            sqrt(centre_line * (1 - centre_line) / size),
            avg(moving_range) over series / {{ range_of_two }}
        ) as sigma
    from ranged
    window
        series as (
            partition by chart, metric, statistic, clock, dimension, member
        )

),

placed as (

    select
        *,
        (value - centre_line) / nullif(sigma, 0) as deviation
    from centred

),

-- How many of the last points lie beyond a distance, on either side.
judged as (

    select
        *,
    {%- for side, sign in {'above': '', 'below': '-'}.items() %}
    count(*) filter (where {{ sign }}deviation > 2) over last_3
        as {{ side }}_2_of_3,
    count(*) filter (where {{ sign }}deviation > 1) over last_5
        as {{ side }}_1_of_5,
    count(*) filter (where {{ sign }}deviation > 0) over last_8
        as {{ side }}_0_of_8
    {%- if not loop.last %},{% endif %}
    {%- endfor %}
    from placed
    window
        last_3 as (
            partition by chart, metric, statistic, clock, dimension, member
            order by cohort_date
            rows between 2 preceding and current row
        ),
        last_5 as (
            partition by chart, metric, statistic, clock, dimension, member
            order by cohort_date
            rows between 4 preceding and current row
        ),
        last_8 as (
            partition by chart, metric, statistic, clock, dimension, member
            order by cohort_date
            rows between 7 preceding and current row
        )

),

final as (

    select
        chart,
        metric,
        statistic,
        clock,
        dimension,
        member,
        cohort_date,
        size,
        numerator,
        value,
        moving_range,
        centre_line,
        sigma,
        greatest(lowest, centre_line - 3 * sigma) as lower_limit,
        least(highest, centre_line + 3 * sigma) as upper_limit,
        if(chart = 'xmr', 3.267 * {{ range_of_two }} * sigma, null)
            as moving_range_limit,
        deviation,
        case
            when abs(deviation) > 3 then 1
            when deviation > 2 and above_2_of_3 >= 2 then 2
            when deviation < -2 and below_2_of_3 >= 2 then 2
            when deviation > 1 and above_1_of_5 >= 4 then 3
            when deviation < -1 and below_1_of_5 >= 4 then 3
            when greatest(above_0_of_8, below_0_of_8) = 8 then 4
        end as rule,
        if(rule is null, null, if(deviation > 0, 'high', 'low')) as side,
        point_count,
        point_count < 20 as is_provisional
    from judged

)

select * from final

{#- What is tested: the messages or cases that are counted, and by what. -#}
{%- set groups = [
    ('feedback', 'product'),
    ('feedback', 'need'),
    ('feedback', 'feedback_type'),
    ('feedback', 'channel'),
    ('complaint', 'product'),
    ('case', 'team'),
] -%}

with

touched as (

    select * from {{ ref('int_touched_days') }}

),

-- A tested day needs its window, and a day of that window has one of its own.
volume as (

    select
        cohort_date as created_date,
        counted,
        product,
        need,
        feedback_type,
        channel,
        team,
        sum(numerator) as k
    from {{ ref('metrics_daily') }}
    where
        metric = 'volume'
        and cohort_date >= (
            select min(day) - 2 * {{ surge_window() }} from touched
        )
    group by all

),

counts as (

    {%- for counted, dimension in groups %}
    select
        created_date,
        '{{ counted }}' as counted,
        '{{ dimension }}' as dimension,
        {{ dimension }} as value,
        sum(k) as k
    from volume
    where
        {{ dimension }} is not null
        {%- if counted == 'complaint' %}
        and counted = 'feedback'
        and feedback_type = 'complaint'
        {%- else %}
        and counted = '{{ counted }}'
        {%- endif %}
    group by all
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}

),

totals as (

    select
        created_date,
        counted,
        dimension,
        sum(k) as n,
        sum(sum(k)) over (
            partition by counted, dimension
            order by created_date
            range between interval {{ surge_window() }} days preceding
            and interval 1 day preceding
        ) as earlier_n
    from counts
    group by created_date, counted, dimension

),

placed as (

    select
        counts.*,
        totals.n,
        totals.n / totals.earlier_n * coalesce(
            sum(counts.k) over (
                partition by counts.counted, counts.dimension, counts.value
                order by counts.created_date
                range between interval {{ surge_window() }} days preceding
                and interval 1 day preceding
            ), 0
        ) as usual_k,
        lead(counts.created_date) over (
            partition by counts.counted, counts.dimension, counts.value
            order by counts.created_date
        ) as next_date
    from counts
    inner join totals
        on
            counts.created_date = totals.created_date
            and counts.counted = totals.counted
            and counts.dimension = totals.dimension

),

final as (

    select
        created_date,
        counted,
        dimension,
        value,
        k,
        n,
        -- The window of a later day forgets it: see int_surge_shares.
        coalesce(
            k >= 5
            and k > usual_k
            and (k - usual_k) ^ 2 > 16 * usual_k * (1 - usual_k / n),
            false
        ) as is_unusual,
        next_date
    from placed

)

select * from final

{{ config(materialized='view') }}

{%- set window = 90 %}

with

run as (

    select * from {{ source('run', 'current') }}

),

agents as (

    select
        agent_id,
        any_value(display_name) as display_name
    from {{ ref('agents') }}
    group by agent_id

),

metrics as (

    select metrics_by.*
    from {{ ref('metrics_by') }} as metrics_by
    cross join run
    where
        metrics_by.metric in (
            'csat', 'sla', 'one_touch', 'first_contact', 'reopen',
            'first_reply', 'full_resolution', 'review_score', 'review_pass'
        )
        and metrics_by.dialect = 'house'
        and coalesce(metrics_by.sla_metric, 'first_reply') = 'first_reply'
        and metrics_by.dimension in ('agent', 'team')
        and metrics_by.member is not null
        and metrics_by.cohort_date <= run.run_date
        and metrics_by.cohort_date > run.run_date - {{ window }}

),

summed as (

    select
        dimension,
        member,
        metric,
        clock,
        sum(numerator) as numerator,
        sum(denominator) as denominator,
        sum(value_sum) as value_sum,
        sum(value_sum_squares) as value_sum_squares,
        sum(value_count) as value_count
    from metrics
    group by all

),

valued as (

    select
        *,
        {{ value_of_sums() }} as value,
        coalesce(denominator, value_count) as size,
        metric in (
            'csat', 'sla', 'one_touch', 'first_contact', 'review_score',
            'review_pass'
        ) as higher_is_better
    from summed

),

bounded as (

    select
        *,
        {{ low_of_sums() }} as ci_low,
        {{ high_of_sums() }} as ci_high
    from valued

),

ranked as (

    select
        *,
        rank() over (
            partition by dimension, metric, clock
            order by if(higher_is_better, -value, value)
        ) as place
    from bounded

),

-- Two whose intervals overlap are not told apart; nor is one that has none.
alike as (

    select
        one.dimension,
        one.metric,
        one.clock,
        one.member,
        list(other.member order by other.place, other.member)
            as indistinct_from,
        bool_or(other.place = 1) as is_like_best
    from ranked as one
    inner join ranked as other
        on
            one.dimension = other.dimension
            and one.metric = other.metric
            and one.clock = other.clock
            and one.member <> other.member
            and (
                one.ci_low is null
                or other.ci_low is null
                or (
                    one.ci_low <= other.ci_high
                    and one.ci_high >= other.ci_low
                )
            )
    group by all

),

final as (

    select
        ranked.dimension,
        ranked.metric,
        ranked.clock,
        ranked.place,
        ranked.member,
        coalesce(agents.display_name, ranked.member) as display_name,
        ranked.numerator,
        ranked.denominator,
        ranked.value_sum,
        ranked.value_sum_squares,
        ranked.value_count,
        ranked.value,
        ranked.ci_low,
        ranked.ci_high,
        ranked.size < 5 as is_small_sample,
        coalesce(alike.indistinct_from, []) as indistinct_from,
        ranked.place = 1 or coalesce(alike.is_like_best, false)
            as is_like_best
    from ranked
    left join alike
        on
            ranked.dimension = alike.dimension
            and ranked.metric = alike.metric
            and ranked.clock = alike.clock
            and ranked.member = alike.member
    left join agents
        on ranked.dimension = 'agent' and ranked.member = agents.agent_id

)

select * from final

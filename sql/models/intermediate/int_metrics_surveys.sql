{{ config(materialized='view') }}

with

days as (

    select * from {{ ref('int_touched_days') }}

),

answers as (

    select * from {{ ref('int_answers') }}

),

latest as (

    select answers.*
    from answers
    semi join days on answers.rated_date = days.day
    where answers.left_out_reason is null

),

csat as (

    select
        'csat' as metric,
        'answer' as counted,
        'rated' as cohort,
        rated_date as cohort_date,
        source,
        channel,
        team,
        need,
        count(*) filter (where is_satisfied)::double as numerator,
        count(*)::double as denominator
    from latest
    where is_satisfied is not null
    group by all

),

nps as (

    select
        'nps' as metric,
        'answer' as counted,
        'rated' as cohort,
        rated_date as cohort_date,
        source,
        channel,
        team,
        need,
        (
            count(*) filter (where nps_group = 'promoter')
            - count(*) filter (where nps_group = 'detractor')
        )::double as numerator,
        count(*)::double as denominator,
        count(*) filter (where nps_group <> 'passive')::double
            as value_sum_squares
    from latest
    where nps_group is not null
    group by all

),

ces as (

    select
        'ces' as metric,
        'answer' as counted,
        'rated' as cohort,
        rated_date as cohort_date,
        source,
        channel,
        team,
        need,
        count(*) filter (where is_easy)::double as numerator,
        count(*)::double as denominator,
        sum(1 + 6 * score_share) as value_sum,
        sum((1 + 6 * score_share) ^ 2) as value_sum_squares,
        count(*)::double as value_count
    from latest
    where is_easy is not null
    group by all

),

response_rate as (

    select
        'response_rate' as metric,
        'answer' as counted,
        'offered' as cohort,
        answers.offered_date as cohort_date,
        answers.source,
        answers.channel,
        answers.team,
        answers.need,
        count(*) filter (where answers.answered_at is not null)::double
            as numerator,
        count(*)::double as denominator
    from answers
    semi join days on answers.offered_date = days.day
    where answers.exclusion_reason is null
    group by all

),

final as (

    select * from csat
    union all by name
    select * from nps
    union all by name
    select * from ces
    union all by name
    select * from response_rate

)

select * from final

{{ config(materialized='view') }}

with

days as (

    select * from {{ ref('int_touched_days') }}

),

reviews as (

    select reviews.*
    from {{ ref('int_reviews') }} as reviews
    semi join days on reviews.reviewed_date = days.day
    where reviews.left_out_reason is null

),

review_score as (

    select
        'review_score' as metric,
        'review' as counted,
        'reviewed' as cohort,
        reviewed_date as cohort_date,
        source,
        channel,
        team,
        need,
        sum(review_score) as value_sum,
        sum(review_score ^ 2) as value_sum_squares,
        count(*)::double as value_count
    from reviews
    group by all

),

review_pass as (

    select
        'review_pass' as metric,
        'review' as counted,
        'reviewed' as cohort,
        reviewed_date as cohort_date,
        source,
        channel,
        team,
        need,
        count(*) filter (where is_passed)::double as numerator,
        count(*)::double as denominator
    from reviews
    group by all

),

final as (

    select * from review_score
    union all by name
    select * from review_pass

)

select * from final

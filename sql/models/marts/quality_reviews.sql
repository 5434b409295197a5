with

ratings as (

    select * from {{ ref('quality_review_ratings') }}

),

-- The latest of its ratings tells what a review is about.
reviews as (

    select
        review_id,
        any_value(source) as source,
        any_value(source_review_id) as source_review_id,
        arg_max(scorecard, (reviewed_at, rating_id)) as scorecard,
        arg_max(case_id, (reviewed_at, rating_id)) as case_id,
        arg_max(agent_id, (reviewed_at, rating_id)) as agent_id,
        arg_max(reviewer_id, (reviewed_at, rating_id)) as reviewer_id,
        max(reviewed_at) as reviewed_at,
        count(*) as category_count,
        bool_and(is_excluded) as is_excluded,
        max(exclusion_reason) as exclusion_reason
    from ratings
    group by review_id

),

scores as (

    select
        review_id,
        count(*) as rated_count,
        sum(category_score * weight order by rating_id)
        / nullif(sum(weight order by rating_id), 0) as weighted_score,
        coalesce(bool_or(is_failed), false) as has_failed_critical
    from ratings
    where category_score is not null and not is_excluded
    group by review_id

),

final as (

    select
        reviews.review_id,
        reviews.source,
        reviews.source_review_id,
        reviews.scorecard,
        reviews.case_id,
        reviews.agent_id,
        reviews.reviewer_id,
        reviews.reviewed_at,
        reviews.category_count,
        coalesce(scores.rated_count, 0) as rated_count,
        coalesce(scores.has_failed_critical, false) as has_failed_critical,
        if(
            coalesce(scores.has_failed_critical, false),
            0,
            scores.weighted_score
        ) as review_score,
        review_score >= 80 - 1e-9 as is_passed,
        reviews.is_excluded,
        if(reviews.is_excluded, reviews.exclusion_reason, null)
            as exclusion_reason
    from reviews
    left join scores on reviews.review_id = scores.review_id

)

select * from final

with

ratings as (

    select * from {{ ref('stg_quality_reviews') }}

),

scored as (

    select
        *,
        100 * (score - scale_min) / nullif(scale_max - scale_min, 0)
            as category_score
    from ratings

),

final as (

    select
        rating_id,
        review_id,
        source,
        source_review_id,
        scorecard,
        category,
        score,
        scale_min,
        scale_max,
        coalesce(weight, 1) as weight,
        coalesce(is_critical, false) as is_critical,
        category_score,
        if(
            is_critical and category_score is not null,
            category_score < 50 - 1e-9,
            null
        ) as is_failed,
        comment,
        case_id,
        agent_ref as agent_id,
        reviewer_ref as reviewer_id,
        reviewed_at,
        updated_at,
        coalesce(is_excluded, false) as is_excluded,
        exclusion_reason
    from scored

)

select * from final

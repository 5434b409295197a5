with

source as (

    select * from {{ source('lake', 'quality_reviews') }}

),

renamed as (

    select
        rating_id,
        review_id,
        source,
        source_review_id,
        category,
        scorecard,
        score,
        scale_min,
        scale_max,
        weight,
        is_critical,
        comment,
        case_id,
        agent_ref,
        reviewer_ref,
        reviewed_at,
        updated_at,
        captured_at,
        is_excluded,
        exclusion_reason,
        changed_in
    from source

)

select * from renamed

with

source as (

    select * from {{ source('lake', 'survey_responses') }}

),

renamed as (

    select
        response_id,
        source,
        survey_id,
        question_id,
        kind,
        score,
        scale_min,
        scale_max,
        higher_is_better,
        comment,
        customer_ref,
        case_id,
        offered_at,
        answered_at,
        is_partial,
        source_response_id,
        captured_at,
        is_excluded,
        exclusion_reason,
        changed_in
    from source

)

select * from renamed

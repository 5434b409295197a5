with

source as (

    select * from {{ source('lake', 'classified') }}

),

renamed as (

    select
        feedback_id,
        text_hash,
        model_version,
        feedback_type,
        feedback_type_score,
        need,
        need_score,
        sentiment,
        sentiment_score,
        priority,
        priority_score,
        priority_reasons,
        is_unsure,
        summary,
        keywords,
        classified_at,
        changed_in
    from source

)

select * from renamed

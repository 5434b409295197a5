with

source as (

    select * from {{ source('lake', 'feedback') }}

),

renamed as (

    select
        feedback_id,
        source,
        source_kind,
        source_record_id,
        url,
        channel,
        case_id,
        customer_ref,
        product,
        language,
        created_at,
        updated_at,
        captured_at,
        title,
        body,
        rating,
        rating_min,
        rating_max,
        rating_share,
        text_hash,
        is_opening,
        duplicate_of,
        is_excluded,
        exclusion_reason,
        changed_in
    from source

)

select * from renamed

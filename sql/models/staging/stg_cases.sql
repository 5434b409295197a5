with

source as (

    select * from {{ source('lake', 'cases') }}

),

renamed as (

    select
        case_id,
        source,
        source_kind,
        source_case_id,
        url,
        channel,
        subject,
        customer_ref,
        priority,
        status,
        source_group,
        assignee_ref,
        product,
        tags,
        merged_into,
        opened_at,
        opened_by_role,
        updated_at,
        is_excluded,
        exclusion_reason,
        changed_in
    from source

)

select * from renamed

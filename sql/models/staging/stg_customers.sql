with

source as (

    select * from {{ source('lake', 'customers') }}

),

renamed as (

    select
        customer_ref,
        source,
        source_customer_id,
        external_id,
        email_key,
        display_name,
        organization,
        language,
        region,
        segment,
        is_vip,
        signup_at,
        birthday_month_day,
        lifetime_value,
        do_not_contact,
        updated_at,
        captured_at,
        merged_into,
        is_excluded,
        exclusion_reason,
        changed_in
    from source

)

select * from renamed

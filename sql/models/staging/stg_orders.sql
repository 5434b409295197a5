with

source as (

    select * from {{ source('lake', 'orders') }}

),

renamed as (

    select
        order_id,
        source,
        source_order_id,
        customer_ref,
        ordered_at,
        product,
        quantity,
        amount,
        currency,
        status,
        updated_at,
        captured_at,
        is_excluded,
        exclusion_reason,
        changed_in
    from source

)

select * from renamed

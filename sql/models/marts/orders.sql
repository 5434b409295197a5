with

orders as (

    select * from {{ ref('stg_orders') }}

),

identities as (

    select * from {{ ref('int_customer_identities') }}

),

final as (

    select
        orders.order_id,
        orders.source,
        orders.source_order_id,
        coalesce(identities.customer_id, orders.customer_ref) as customer_id,
        orders.ordered_at,
        orders.product,
        orders.quantity,
        orders.amount,
        orders.currency,
        orders.status,
        orders.updated_at,
        coalesce(orders.is_excluded, false) as is_excluded,
        orders.exclusion_reason
    from orders
    left join identities on orders.customer_ref = identities.customer_ref

)

select * from final

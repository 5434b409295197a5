with

customers as (

    select * from {{ ref('stg_customers') }}

),

identities as (

    select * from {{ ref('int_customer_identities') }}

),

orders as (

    select * from {{ ref('orders') }}

),

order_sums as (

    select
        customer_id,
        count(*) as order_count,
        max(ordered_at) as last_order_at
    from orders
    where not is_excluded
    group by customer_id

),

-- Of several records of one customer the latest known value counts; the
-- record that names the customer comes first. What was deleted, or merged
-- into another record, tells something only if nothing else is there.
members as (

    select
        customers.*,
        identities.customer_id,
        coalesce(customers.is_excluded, false) as is_gone,
        (
            not is_gone,
            customers.customer_ref = identities.customer_id,
            coalesce(customers.updated_at, timestamptz '1970-01-01 00:00:00Z'),
            customers.customer_ref
        ) as trust
    from customers
    inner join identities on customers.customer_ref = identities.customer_ref

),

merged as (

    select
        customer_id,
        arg_max(display_name, trust) as display_name,
        arg_max(organization, trust) as organization,
        arg_max(language, trust) as language,
        arg_max(region, trust) as region,
        arg_max(segment, trust) as segment,
        coalesce(
            bool_or(is_vip) filter (where not is_gone),
            bool_or(is_vip),
            false
        ) as is_vip,
        min(signup_at) as signup_at,
        arg_max(birthday_month_day, trust) as birthday_month_day,
        arg_max(lifetime_value, trust) as lifetime_value,
        coalesce(bool_or(do_not_contact), false) or bool_and(is_gone)
            as do_not_contact,
        list_sort(list(distinct source)) as sources,
        max(updated_at) as updated_at,
        bool_and(is_gone) as is_excluded,
        if(bool_and(is_gone), arg_max(exclusion_reason, trust), null)
            as exclusion_reason
    from members
    group by customer_id

),

final as (

    select
        merged.customer_id,
        merged.display_name,
        merged.organization,
        merged.language,
        merged.region,
        merged.segment,
        merged.is_vip,
        merged.signup_at,
        merged.birthday_month_day,
        merged.lifetime_value,
        order_sums.last_order_at,
        coalesce(order_sums.order_count, 0) as order_count,
        merged.do_not_contact,
        merged.sources,
        merged.updated_at,
        merged.is_excluded,
        merged.exclusion_reason
    from merged
    left join order_sums on merged.customer_id = order_sums.customer_id

)

select * from final

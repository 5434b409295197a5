with recursive

customers as (

    select * from {{ ref('stg_customers') }}

),

sources as (

    select * from {{ source('config', 'sources') }}

),

-- The smallest rank of a group names it: a system of record comes first,
-- and last what was deleted or merged into another record.
ranked as (

    select
        customers.customer_ref,
        customers.source_customer_id,
        customers.external_id,
        customers.email_key,
        customers.merged_into,
        coalesce(sources.is_system_of_record, false) as is_record,
        case
            when customers.is_excluded then '2'
            when is_record then '0'
            else '1'
        end || customers.customer_ref as rank_key
    from customers
    left join sources on customers.source = sources.source

),

-- An id that two systems of record use for different people joins nobody.
records as (

    select
        source_customer_id as external_id,
        min(customer_ref) as customer_ref,
        min(rank_key) as rank_key
    from ranked
    where is_record
    group by source_customer_id
    having count(*) = 1

),

keys as (

    select
        'email ' || email_key as link_key,
        customer_ref,
        rank_key
    from ranked
    where email_key is not null

    union all

    select
        'record ' || ranked.external_id as link_key,
        ranked.customer_ref,
        ranked.rank_key
    from ranked
    semi join records on ranked.external_id = records.external_id

    union all

    select
        'record ' || records.external_id as link_key,
        records.customer_ref,
        records.rank_key
    from records

    union all

    select
        'merged ' || merged_into as link_key,
        customer_ref,
        rank_key
    from ranked
    where merged_into is not null

    union all

    select
        'merged ' || survivors.customer_ref as link_key,
        survivors.customer_ref,
        survivors.rank_key
    from ranked as survivors
    semi join ranked as merged on survivors.customer_ref = merged.merged_into

),

hubs as (

    select
        link_key,
        arg_min(customer_ref, rank_key) as hub_ref
    from keys
    group by link_key
    having count(distinct customer_ref) > 1

),

spokes as (

    select distinct
        keys.customer_ref,
        hubs.hub_ref
    from keys
    inner join hubs on keys.link_key = hubs.link_key
    where keys.customer_ref <> hubs.hub_ref

),

edges as (

    select
        customer_ref as from_ref,
        hub_ref as to_ref
    from spokes

    union all

    select
        hub_ref as from_ref,
        customer_ref as to_ref
    from spokes

),

linked as (

    select
        ranked.customer_ref,
        ranked.rank_key
    from ranked
    semi join edges on ranked.customer_ref = edges.from_ref

),

-- Every member takes over the smallest rank that it can reach.
spread as (

    select
        customer_ref,
        rank_key as root_key
    from linked

    union

    select
        edges.to_ref as customer_ref,
        spread.root_key
    from spread
    inner join edges on spread.customer_ref = edges.from_ref
    inner join linked on edges.to_ref = linked.customer_ref
    where spread.root_key < linked.rank_key

),

roots as (

    select
        customer_ref,
        min(root_key) as root_key
    from spread
    group by customer_ref

),

final as (

    select
        ranked.customer_ref,
        substr(coalesce(roots.root_key, ranked.rank_key), 2) as customer_id
    from ranked
    left join roots on ranked.customer_ref = roots.customer_ref

)

select * from final

with

run_cases as (

    select * from {{ source('run', 'touched_cases') }}

),

cases as (

    select
        case_id,
        customer_ref
    from {{ ref('stg_cases') }}

),

identities as (

    select * from {{ ref('int_customer_identities') }}

),

built as (

    select * from {{ source('run', 'built_cases') }}

),

-- Cases whose customer has been joined with another one, or parted from it.
moved as (

    select
        built.case_id,
        built.customer_id as earlier_customer_id,
        coalesce(identities.customer_id, cases.customer_ref) as customer_id
    from built
    inner join cases on built.case_id = cases.case_id
    left join identities on cases.customer_ref = identities.customer_ref
    where
        coalesce(identities.customer_id, cases.customer_ref)
        is distinct from built.customer_id

),

changed_customers as (

    select coalesce(identities.customer_id, cases.customer_ref) as customer_id
    from cases
    semi join run_cases
        on cases.case_id = run_cases.case_id and run_cases.is_told_anew
    left join identities on cases.customer_ref = identities.customer_ref

    union

    select unnest([customer_id, earlier_customer_id]) as customer_id
    from moved

),

-- A case that comes, or goes to another customer, decides whether the
-- customer's earlier ones were settled.
neighbours as (

    select built.case_id
    from built
    semi join changed_customers
        on built.customer_id = changed_customers.customer_id
    where built.last_solved_at is not null

),

-- Cases of customers of whom service levels now hear something else.
retold as (

    select built.case_id
    from built
    inner join {{ ref('customers') }} as customers
        on built.customer_id = customers.customer_id
    left join {{ source('run', 'built_customers') }} as built_customers
        on customers.customer_id = built_customers.customer_id
    where
        customers.segment is distinct from built_customers.segment
        or customers.do_not_contact
        is distinct from coalesce(built_customers.do_not_contact, false)

),

all_touched as (

    select
        case_id,
        is_changed
    from run_cases

    union all

    select
        case_id,
        true as is_changed
    from moved

    union all

    select
        case_id,
        true as is_changed
    from neighbours

    union all

    select
        case_id,
        true as is_changed
    from retold

),

touched as (

    select
        case_id,
        bool_or(is_changed) as is_changed
    from all_touched
    group by case_id

),

-- The days on which the changed cases counted until now.
days as (

    select
        built_days.case_id,
        list(distinct built_days.day) as built_days
    from {{ source('run', 'built_days') }} as built_days
    semi join touched
        on built_days.case_id = touched.case_id and touched.is_changed
    group by built_days.case_id

),

final as (

    select
        touched.case_id,
        touched.is_changed,
        days.built_days
    from touched
    left join days on touched.case_id = days.case_id

)

select * from final

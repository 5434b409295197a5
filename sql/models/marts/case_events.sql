{{ config(materialized='view') }}

with

events as (

    select * from {{ ref('stg_case_events') }}

),

final as (

    select
        event_id,
        case_id,
        source,
        event_at,
        event_type,
        actor_ref as actor_id,
        actor_role,
        is_public,
        from_value,
        to_value,
        sequence
    from events

)

select * from final

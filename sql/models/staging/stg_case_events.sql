with

source as (

    select * from {{ source('lake', 'case_events') }}

),

renamed as (

    select
        event_id,
        case_id,
        source,
        event_at,
        event_type,
        actor_ref,
        actor_role,
        is_public,
        from_value,
        to_value,
        sequence,
        changed_in
    from source

)

select * from renamed

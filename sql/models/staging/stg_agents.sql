with

source as (

    select * from {{ source('lake', 'agents') }}

),

renamed as (

    select
        agent_ref,
        source,
        source_agent_id,
        external_id,
        email_key,
        display_name,
        role,
        team,
        languages,
        is_active,
        updated_at,
        changed_in
    from source

)

select * from renamed

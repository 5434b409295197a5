with

agents as (

    select * from {{ ref('stg_agents') }}

),

final as (

    select
        agent_ref as agent_id,
        source,
        source_agent_id,
        display_name,
        role,
        team,
        languages,
        coalesce(is_active, true) as is_active,
        updated_at
    from agents

)

select * from final

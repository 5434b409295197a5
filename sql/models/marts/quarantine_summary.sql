with

quarantine as (

    select * from {{ source('lake', 'quarantine') }}

),

reasons as (

    select
        run_id,
        source,
        entity,
        captured_at,
        unnest(reasons) as reason
    from quarantine

),

final as (

    select
        run_id,
        source,
        entity,
        reason,
        count(*) as record_count,
        max(captured_at) as last_captured_at
    from reasons
    group by run_id, source, entity, reason

)

select * from final

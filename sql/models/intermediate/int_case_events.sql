with

touched as (

    select * from {{ ref('int_touched_cases') }}

),

events as (

    select * from {{ ref('stg_case_events') }}

),

final as (

    select events.* exclude (changed_in)
    from events
    semi join touched on events.case_id = touched.case_id

)

select * from final

{{ config(materialized='view') }}

with

metrics as (

    select * from {{ ref('stg_vendor_metrics') }}

),

final as (

    select
        vendor_metric_id,
        case_id,
        source,
        metric,
        clock,
        value,
        updated_at
    from metrics

)

select * from final

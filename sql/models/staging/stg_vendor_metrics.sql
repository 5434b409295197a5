with

source as (

    select * from {{ source('lake', 'vendor_metrics') }}

),

renamed as (

    select
        vendor_metric_id,
        case_id,
        source,
        metric,
        clock,
        value,
        updated_at,
        changed_in
    from source

)

select * from renamed

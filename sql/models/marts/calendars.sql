with

intervals as (

    select * from {{ source('config', 'calendar_intervals') }}

),

versions as (

    select * from {{ source('config', 'calendar_versions') }}

),

final as (

    select
        intervals.calendar,
        versions.time_zone,
        versions.valid_from,
        intervals.open_at,
        intervals.close_at,
        {{ minutes_between('intervals.open_at', 'intervals.close_at') }}
            as open_minutes,
        intervals.minutes_before
    from intervals
    asof inner join versions
        on
            intervals.calendar = versions.calendar
            and intervals.open_at >= versions.valid_from_at

)

select * from final

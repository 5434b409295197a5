{{ config(materialized='view') }}

with

project as (

    select * from {{ source('config', 'project') }}

),

days as (

    select * from {{ ref('int_touched_days') }}

),

-- Two days more on either side hold every local day, whatever the zone.
bounds as (

    select
        coalesce(min(day), date '9999-01-01')::timestamptz
        - interval 2 days as low,
        coalesce(max(day), date '0001-01-01')::timestamptz
        + interval 3 days as high
    from days

),

feedback as (

    select
        *,
        {{ local_day('created_at', 'project.time_zone') }} as cohort_date
    from {{ ref('stg_feedback') }}
    cross join project
    where
        created_at is null
        or (
            created_at >= (select low from bounds)
            and created_at < (select high from bounds)
        )

),

labels as (

    select
        feedback_id,
        text_hash,
        feedback_type,
        need,
        sentiment
    from {{ ref('stg_labels') }}

),

final as (

    select
        if(feedback.is_excluded, 'excluded', 'volume') as metric,
        'feedback' as counted,
        'created' as cohort,
        feedback.cohort_date,
        feedback.source,
        feedback.channel,
        feedback.product,
        feedback.language,
        labels.feedback_type,
        labels.need,
        labels.sentiment,
        if(feedback.is_excluded, feedback.exclusion_reason, null)
            as exclusion_reason,
        count(*)::double as numerator
    from feedback
    left join days on feedback.cohort_date = days.day
    left join labels
        on
            feedback.feedback_id = labels.feedback_id
            and feedback.text_hash = labels.text_hash
    -- What has no date belongs to no day, and is counted anew each time.
    where days.day is not null or feedback.created_at is null
    group by all

)

select * from final

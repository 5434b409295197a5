{{ config(materialized='view') }}

with

project as (

    select * from {{ source('config', 'project') }}

),

cases as (

    select * from {{ ref('cases') }}

),

final as (

    select
        reviews.review_id,
        reviews.source,
        reviews.case_id,
        reviews.review_score,
        reviews.is_passed,
        cases.channel,
        cases.product,
        cases.language,
        cases.team,
        cases.need,
        cases.priority,
        coalesce(reviews.agent_id, cases.assignee_id) as agent_id,
        cases.customer_id,
        cases.opened_date,
        {{ local_day(
            'reviews.reviewed_at',
            'coalesce(cases.time_zone, project.time_zone)'
        ) }} as reviewed_date,
        case
            when reviews.is_excluded then reviews.exclusion_reason
            when cases.is_excluded then cases.exclusion_reason
            when reviews.review_score is null then 'not_rated'
        end as left_out_reason
    from {{ ref('quality_reviews') }} as reviews
    cross join project
    left join cases on reviews.case_id = cases.case_id

)

select * from final

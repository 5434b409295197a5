{{ config(materialized='view') }}

with

project as (

    select * from {{ source('config', 'project') }}

),

cases as (

    select * from {{ ref('cases') }}

),

responses as (

    select
        responses.* exclude (is_excluded) replace (
            coalesce(responses.customer_id, cases.customer_id) as customer_id,
            coalesce(
                responses.exclusion_reason,
                if(cases.is_excluded, cases.exclusion_reason, null)
            ) as exclusion_reason
        ),
        cases.channel,
        cases.product,
        cases.language,
        cases.team,
        cases.need,
        cases.priority,
        cases.assignee_id as agent_id,
        cases.opened_date,
        coalesce(cases.time_zone, project.time_zone) as day_zone,
        {{ local_day('responses.answered_at', 'day_zone') }} as rated_date,
        {{ local_day(
            'coalesce(responses.offered_at, responses.answered_at)',
            'day_zone'
        ) }} as offered_date,
        responses.score_share is not null and rated_date is not null
            as is_rated
    from {{ ref('survey_responses') }} as responses
    cross join project
    left join cases on responses.case_id = cases.case_id

),

-- Of several answers to one question about one case the latest counts.
latest_answers as (

    select
        case_id,
        source,
        survey_id,
        question_id,
        max((answered_at, response_id)) as latest
    from responses
    where case_id is not null and is_rated and exclusion_reason is null
    group by case_id, source, survey_id, question_id

),

final as (

    select
        responses.* exclude (day_zone),
        case
            when responses.exclusion_reason is not null
                then responses.exclusion_reason
            when not responses.is_rated then 'not_answered'
            when
                (responses.answered_at, responses.response_id)
                <> latest_answers.latest
                then 'answered_again'
        end as left_out_reason
    from responses
    left join latest_answers
        on
            responses.case_id = latest_answers.case_id
            and responses.source = latest_answers.source
            and responses.survey_id is not distinct from
            latest_answers.survey_id
            and responses.question_id is not distinct from
            latest_answers.question_id

)

select * from final

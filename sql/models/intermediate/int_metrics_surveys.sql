{{ config(materialized='view') }}

with

project as (

    select * from {{ source('config', 'project') }}

),

days as (

    select * from {{ ref('int_touched_days') }}

),

cases as (

    select * from {{ ref('cases') }}

),

responses as (

    select
        responses.*,
        cases.channel,
        cases.team,
        cases.need,
        coalesce(cases.time_zone, project.time_zone) as day_zone,
        {{ local_day('responses.answered_at', 'day_zone') }} as rated_date,
        {{ local_day(
            'coalesce(responses.offered_at, responses.answered_at)',
            'day_zone'
        ) }} as offered_date
    from {{ ref('survey_responses') }} as responses
    cross join project
    left join cases on responses.case_id = cases.case_id
    where not coalesce(cases.is_excluded, false)

),

answers as (

    select * from responses
    where score_share is not null and rated_date is not null

),

-- Of several answers to one question about one case the latest counts.
later_answers as (

    select
        case_id,
        source,
        survey_id,
        question_id,
        max((answered_at, response_id)) as latest
    from answers
    where case_id is not null
    group by case_id, source, survey_id, question_id

),

latest as (

    select answers.*
    from answers
    semi join days on answers.rated_date = days.day
    left join later_answers
        on
            answers.case_id = later_answers.case_id
            and answers.source = later_answers.source
            and answers.survey_id is not distinct from later_answers.survey_id
            and answers.question_id
            is not distinct from later_answers.question_id
    where
        answers.case_id is null
        or (answers.answered_at, answers.response_id) = later_answers.latest

),

csat as (

    select
        'csat' as metric,
        'answer' as counted,
        'rated' as cohort,
        rated_date as cohort_date,
        source,
        channel,
        team,
        need,
        count(*) filter (where is_satisfied)::double as numerator,
        count(*)::double as denominator
    from latest
    where is_satisfied is not null
    group by all

),

nps as (

    select
        'nps' as metric,
        'answer' as counted,
        'rated' as cohort,
        rated_date as cohort_date,
        source,
        channel,
        team,
        need,
        (
            count(*) filter (where nps_group = 'promoter')
            - count(*) filter (where nps_group = 'detractor')
        )::double as numerator,
        count(*)::double as denominator,
        count(*) filter (where nps_group <> 'passive')::double
            as value_sum_squares
    from latest
    where nps_group is not null
    group by all

),

ces as (

    select
        'ces' as metric,
        'answer' as counted,
        'rated' as cohort,
        rated_date as cohort_date,
        source,
        channel,
        team,
        need,
        count(*) filter (where is_easy)::double as numerator,
        count(*)::double as denominator,
        sum(1 + 6 * score_share) as value_sum,
        sum((1 + 6 * score_share) ^ 2) as value_sum_squares,
        count(*)::double as value_count
    from latest
    where is_easy is not null
    group by all

),

response_rate as (

    select
        'response_rate' as metric,
        'answer' as counted,
        'offered' as cohort,
        responses.offered_date as cohort_date,
        responses.source,
        responses.channel,
        responses.team,
        responses.need,
        count(*) filter (where responses.answered_at is not null)::double
            as numerator,
        count(*)::double as denominator
    from responses
    semi join days on responses.offered_date = days.day
    group by all

),

final as (

    select * from csat
    union all by name
    select * from nps
    union all by name
    select * from ces
    union all by name
    select * from response_rate

)

select * from final

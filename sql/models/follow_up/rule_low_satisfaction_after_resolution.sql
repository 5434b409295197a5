with

run as (

    select * from {{ source('run', 'current') }}

),

cases as (

    select * from {{ ref('cases') }}
    where not is_excluded and last_solved_at is not null

),

responses as (

    select * from {{ ref('survey_responses') }}
    where
        not is_excluded
        and (is_satisfied = false or nps_group = 'detractor')

),

customers as (

    select * from {{ ref('customers') }}

),

answers as (

    select
        cases.*,
        responses.response_id,
        responses.kind,
        responses.score,
        responses.scale_max,
        responses.answered_at,
        -- Good or bad tells less than one of five.
        if(
            responses.scale_max - responses.scale_min <= 1,
            0.75, 1 - responses.score_share
        ) as badness,
        {{ minutes_between('responses.answered_at', 'run.as_of') }} / 1440
            as days_old,
        {{ minutes_between('cases.last_solved_at', 'responses.answered_at') }}
        / 1440 as days_after
    from responses
    inner join cases on responses.case_id = cases.case_id
    cross join run
    where
        responses.answered_at >= cases.last_solved_at
        and responses.answered_at
        >= run.as_of - to_hours((24 * {{ threshold('days') }})::bigint)
        and days_after <= {{ threshold('days') }}

),

-- One row a case, for its latest bad answer.
latest as (

    select
        answers.*,
        list(response_id) over (
            partition by case_id
            order by answered_at, response_id
        ) as response_ids
    from answers
    qualify row_number() over (
        partition by case_id
        order by answered_at desc, response_id desc
    ) = 1

),

final as (

    select
        format(
            '{} {:.0f} of {:.0f}, given {:.1f} days after the case was solved.',
            upper(latest.kind),
            latest.score,
            latest.scale_max,
            latest.days_after
        ) as reason,
        format(
            '工单解决 {:.1f} 天后，客户的 {} 评分为 {:.0f}（满分 {:.0f}）。',
            latest.days_after,
            upper(latest.kind),
            latest.score,
            latest.scale_max
        ) as reason_zh,
        list_prepend(latest.case_id, latest.response_ids) as evidence,
        latest.customer_id,
        latest.case_id,
        latest.opening_feedback_id as feedback_id,
        latest.team,
        latest.need,
        if(
            latest.badness >= 1
            or latest.priority in ('urgent', 'high')
            or coalesce(customers.is_vip, false),
            'high', 'normal'
        ) as priority,
        latest.language,
        {{ task_score(
            'latest.badness',
            '1 - latest.days_old / ' ~ threshold('days'),
            'customers.is_vip'
        ) }} as score,
        latest.answered_at as occurred_at,
        latest.answered_at as due_basis_at,
        {{ priority_minutes("'normal'") }} as due_minutes,
        'Call or write: ask what was missing, and reopen the case if it is '
        'not settled.' as suggested_action,
        '电话或书面回访：了解不满原因，如未解决则重新打开工单。'
            as suggested_action_zh,
        latest.url
    from latest
    left join customers on latest.customer_id = customers.customer_id

)

select * from final

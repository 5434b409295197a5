with

run_days as (

    select * from {{ source('run', 'touched_days') }}

),

changed as (

    select * from {{ ref('int_touched_cases') }}
    where is_changed

),

cases as (

    select
        cases.case_id,
        unnest([
            cases.opened_date,
            cases.first_reply_date,
            cases.first_resolved_date,
            cases.last_solved_date
        ]) as day
    from {{ ref('cases') }} as cases
    semi join changed on cases.case_id = changed.case_id

),

zones as (

    select time_zone from {{ source('config', 'project') }}
    union
    select time_zone from {{ source('config', 'teams') }}

),

sla_days as (

    select sla_events.decided_date as day
    from {{ ref('sla_events') }} as sla_events
    semi join changed on sla_events.case_id = changed.case_id

),

answers as (

    select responses.*
    from {{ ref('survey_responses') }} as responses
    semi join changed on responses.case_id = changed.case_id

),

-- An answer may count on the day of its team's zone or of the project's.
answer_days as (

    select
        {{ local_day('answers.answered_at', 'zones.time_zone') }} as day,
        {{ local_day('answers.offered_at', 'zones.time_zone') }}
            as offered_day
    from answers
    cross join zones

),

-- A review counts on the day of its latest rating: what one of them moves
-- may have stood on the day of any other.
touched_reviews as (

    select distinct ratings.review_id
    from {{ ref('quality_review_ratings') }} as ratings
    where
        {{ local_day('ratings.reviewed_at', "'UTC'") }}
        in (select day from run_days)
        or ratings.case_id in (select case_id from changed)

),

review_days as (

    select {{ local_day('ratings.reviewed_at', 'zones.time_zone') }} as day
    from {{ ref('quality_review_ratings') }} as ratings
    semi join touched_reviews
        on ratings.review_id = touched_reviews.review_id
    cross join zones

),

all_days as (

    select day from run_days
    union
    select unnest(built_days) as day from changed
    union
    select day from cases
    union
    select day from sla_days
    union
    select day from answer_days
    union
    select offered_day from answer_days
    union
    select day from review_days

),

final as (

    select day from all_days
    where day is not null

)

select * from final

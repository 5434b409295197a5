{{ config(materialized='view') }}

with

cases as (

    select * from {{ ref('int_case_attributes') }}

),

counts as (

    select * from {{ ref('int_case_counts') }}

),

resolutions as (

    select
        *,
        {{ is_unsolved('status') }} as is_unsolved
    from {{ ref('int_case_resolutions') }}

),

turns as (

    select * from {{ ref('int_case_turns') }}
    where not is_first

),

messages as (

    select * from {{ ref('int_case_messages') }}
    where is_reply

),

targets as (

    select * from {{ source('config', 'sla_targets') }}

),

promised as (

    select distinct metric from targets

),

first_replies as (

    select
        cases.case_id,
        'first_reply' as metric,
        1 as cycle,
        cases.opened_at as started_at,
        counts.first_reply_at as fulfilled_at,
        if(
            resolutions.is_unsolved,
            null,
            coalesce(
                resolutions.first_solved_at, resolutions.first_settled_at,
                resolutions.last_closed_at, cases.updated_at, cases.opened_at
            )
        ) as settled_at
    from cases
    inner join counts on cases.case_id = counts.case_id
    inner join resolutions on cases.case_id = resolutions.case_id

),

-- The customer's turns after the first reply, each until the next one.
next_replies as (

    select
        case_id,
        'next_reply' as metric,
        row_number() over (
            partition by case_id
            order by asked_at, answered_at nulls last
        ) as cycle,
        asked_at as started_at,
        answered_at as fulfilled_at
    from turns
    where 'next_reply' in (select promised.metric from promised)

),

-- From each reply to the one after it.
spoken as (

    select
        case_id,
        event_at as started_at,
        lead(event_at) over (
            partition by case_id
            order by event_at, sequence nulls first
        ) as fulfilled_at,
        row_number() over (
            partition by case_id
            order by event_at, sequence nulls first
        ) as cycle
    from messages
    where
        exists (
            select 1 from promised
            where promised.metric in ('periodic_update', 'pausable_update')
        )

),

updates as (

    select
        spoken.case_id,
        promised.metric,
        spoken.cycle,
        spoken.started_at,
        spoken.fulfilled_at
    from spoken
    cross join promised
    where promised.metric in ('periodic_update', 'pausable_update')

),

-- One clock for the whole case, which a reopening sets going again.
whole_cases as (

    select
        cases.case_id,
        promised.metric,
        1 as cycle,
        cases.opened_at as started_at,
        if(
            resolutions.status in ('solved', 'closed'),
            resolutions.settled_at,
            null
        ) as fulfilled_at
    from cases
    inner join resolutions on cases.case_id = resolutions.case_id
    cross join promised
    where
        promised.metric in (
            'requester_wait', 'agent_work', 'total_resolution'
        )

),

united as (

    select * from next_replies
    union all
    select * from updates
    union all
    select * from whole_cases

),

final as (

    select
        case_id,
        metric,
        cycle,
        started_at,
        fulfilled_at,
        if(
            fulfilled_at is null and settled_at is null,
            null,
            greatest(started_at, coalesce(fulfilled_at, settled_at))
        ) as ended_at
    from first_replies
    where metric in (select promised.metric from promised)

    union all

    select
        united.case_id,
        united.metric,
        united.cycle,
        united.started_at,
        united.fulfilled_at,
        coalesce(
            united.fulfilled_at,
            if(
                resolutions.is_unsolved,
                null,
                greatest(united.started_at, resolutions.settled_at)
            )
        ) as ended_at
    from united
    inner join resolutions on united.case_id = resolutions.case_id

)

select * from final

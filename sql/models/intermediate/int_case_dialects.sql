with

cases as (

    select
        case_id,
        opened_at,
        opened_by_role
    from {{ ref('int_case_attributes') }}

),

events as (

    select * from {{ ref('int_case_events') }}
    where
        event_type in ('agent_reply', 'bot_message')
        and coalesce(is_public, true)

),

replies as (

    select * from {{ ref('int_case_messages') }}
    where is_reply

),

counts as (

    select * from {{ ref('int_case_counts') }}

),

resolutions as (

    select * from {{ ref('int_case_resolutions') }}

),

minutes as (

    select * from {{ ref('int_case_minutes') }}

),

calendars as (

    select * from {{ ref('int_case_calendars') }}

),

slots as (

    select * from {{ source('config', 'calendar_slots') }}

),

-- What the house does not count and Fivetran's package does: texts with which
-- agents opened a case, and what accounts of bots said.
uncounted as (

    select
        events.case_id,
        count(*) as uncounted_reply_count,
        bool_or(
            events.event_at <= cases.opened_at
            and cases.opened_by_role in ('agent', 'bot')
        ) as is_opening_a_reply,
        min(events.event_at) filter (
            where events.event_at > cases.opened_at
        ) as first_bot_reply_at
    from events
    inner join cases on events.case_id = cases.case_id
    where
        events.actor_role = 'bot'
        or (
            events.event_type = 'agent_reply'
            and coalesce(events.actor_role, 'agent') = 'agent'
            and events.event_at <= cases.opened_at
            and cases.opened_by_role = 'agent'
        )
    group by events.case_id

),

-- A reply within the second of the opening is none there.
later_replies as (

    select
        replies.case_id,
        min(replies.event_at) as first_reply_at
    from replies
    inner join cases on replies.case_id = cases.case_id
    inner join counts on replies.case_id = counts.case_id
    where
        counts.first_reply_at <= cases.opened_at
        and replies.event_at > cases.opened_at
    group by replies.case_id

),

handed_over as (

    select case_id
    from calendars
    group by case_id
    having count(*) > 1 and count(distinct coalesce(calendar, '')) > 1

),

known as (

    select
        cases.case_id,
        cases.opened_at,
        handed_over.case_id is not null as is_handed_over,
        if(
            coalesce(uncounted.is_opening_a_reply, false),
            cases.opened_at,
            least(
                if(
                    counts.first_reply_at > cases.opened_at,
                    counts.first_reply_at,
                    later_replies.first_reply_at
                ),
                uncounted.first_bot_reply_at
            )
        ) as first_reply_at_fivetran,
        counts.first_reply_at,
        coalesce(resolutions.first_solved_at, resolutions.first_settled_at)
            as first_resolved_at,
        resolutions.last_solved_at,
        resolutions.last_solved_at_fivetran,
        resolutions.status in ('solved', 'closed') as is_solved,
        counts.agent_reply_count
        + coalesce(uncounted.uncounted_reply_count, 0)
            as reply_count_fivetran
    from cases
    inner join counts on cases.case_id = counts.case_id
    inner join resolutions on cases.case_id = resolutions.case_id
    left join uncounted on cases.case_id = uncounted.case_id
    left join later_replies on cases.case_id = later_replies.case_id
    left join handed_over on cases.case_id = handed_over.case_id

),

compared as (

    select
        *,
        is_handed_over or (
            first_reply_at_fivetran is distinct from first_reply_at
        ) as is_first_reply_other,
        is_handed_over or (
            last_solved_at_fivetran is distinct from last_solved_at
        ) as is_full_resolution_other
    from known

),

-- Only where a reading may differ is it measured anew.
intervals as (

    select
        case_id,
        'first_reply' as measure,
        'fivetran' as dialect,
        opened_at as started_at,
        first_reply_at_fivetran as ended_at
    from compared
    where is_first_reply_other

    union all

    select
        case_id,
        'first_reply' as measure,
        'zendesk' as dialect,
        opened_at as started_at,
        first_reply_at as ended_at
    from compared
    where is_handed_over

    union all

    select
        case_id,
        'first_resolution' as measure,
        unnest(['fivetran', 'zendesk']) as dialect,
        opened_at as started_at,
        first_resolved_at as ended_at
    from compared
    where is_handed_over

    union all

    select
        case_id,
        'full_resolution' as measure,
        'fivetran' as dialect,
        opened_at as started_at,
        last_solved_at_fivetran as ended_at
    from compared
    where is_full_resolution_other

    union all

    select
        case_id,
        'full_resolution' as measure,
        'zendesk' as dialect,
        opened_at as started_at,
        last_solved_at as ended_at
    from compared
    where is_handed_over

),

-- Fivetran adds up the calendars that a case had one after the other; Zendesk
-- takes the last one before the event for the whole of the time.
pieces as (

    {{ cut_at_calendars('intervals', 'calendars') }}
    where intervals.dialect = 'fivetran'

    union all

    select
        intervals.case_id,
        intervals.measure,
        intervals.dialect,
        calendars.calendar,
        intervals.started_at,
        intervals.ended_at
    from intervals
    inner join calendars on intervals.case_id = calendars.case_id
    where
        intervals.dialect = 'zendesk'
        and calendars.calendar is not null
        and intervals.ended_at >= calendars.started_at
        and (
            calendars.ended_at is null
            or intervals.ended_at < calendars.ended_at
        )

),

bounds as (

    {{ list_bounds('pieces') }}

),

counted as (

    select
        bounds.case_id,
        bounds.measure || '_' || bounds.dialect as reading,
        {{ microseconds_of_bound('bounds', 'slots') }} as microseconds
    from bounds
    inner join slots
        on
            bounds.calendar = slots.calendar
            and {{ is_in_slot('bounds.instant', 'slots') }}

),

measured as (

    select
        case_id,
        sum(microseconds) filter (
            where reading = 'first_reply_fivetran'
        ) / 60e6 as first_reply_fivetran,
        sum(microseconds) filter (
            where reading = 'first_reply_zendesk'
        ) / 60e6 as first_reply_zendesk,
        sum(microseconds) filter (
            where reading = 'first_resolution_fivetran'
        ) / 60e6 as first_resolution_fivetran,
        sum(microseconds) filter (
            where reading = 'first_resolution_zendesk'
        ) / 60e6 as first_resolution_zendesk,
        sum(microseconds) filter (
            where reading = 'full_resolution_fivetran'
        ) / 60e6 as full_resolution_fivetran,
        sum(microseconds) filter (
            where reading = 'full_resolution_zendesk'
        ) / 60e6 as full_resolution_zendesk
    from counted
    group by case_id

),

final as (

    select
        compared.case_id,
        {{ minutes_between(
            'compared.opened_at', 'compared.first_reply_at_fivetran'
        ) }} as first_reply_minutes_fivetran,
        date_diff(
            'minute', compared.opened_at, compared.first_resolved_at
        )::double as first_resolution_minutes_fivetran,
        date_diff(
            'minute', compared.opened_at, compared.last_solved_at_fivetran
        )::double as full_resolution_minutes_fivetran,
        if(
            compared.is_first_reply_other,
            measured.first_reply_fivetran,
            minutes.first_reply_business_minutes
        ) as first_reply_business_minutes_fivetran,
        case
            when not compared.is_solved then null
            when not compared.is_handed_over
                then minutes.first_resolution_business_minutes
            else measured.first_resolution_fivetran
        end as first_resolution_business_minutes_fivetran,
        case
            when not compared.is_solved then null
            when compared.is_full_resolution_other
                then measured.full_resolution_fivetran
            else minutes.full_resolution_business_minutes
        end as full_resolution_business_minutes_fivetran,
        if(
            not compared.is_handed_over,
            minutes.first_reply_business_minutes,
            measured.first_reply_zendesk
        ) as first_reply_business_minutes_zendesk,
        if(
            not compared.is_handed_over,
            minutes.first_resolution_business_minutes,
            measured.first_resolution_zendesk
        ) as first_resolution_business_minutes_zendesk,
        case
            when not compared.is_solved then null
            when not compared.is_handed_over
                then minutes.full_resolution_business_minutes
            else measured.full_resolution_zendesk
        end as full_resolution_business_minutes_zendesk,
        case
            when not compared.is_solved then null
            when compared.reply_count_fivetran = 1 then 'one'
            when compared.reply_count_fivetran = 2 then 'two'
            else 'multi'
        end as touch_fivetran
    from compared
    inner join minutes on compared.case_id = minutes.case_id
    left join measured on compared.case_id = measured.case_id

)

select * from final

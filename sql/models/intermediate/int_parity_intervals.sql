with

-- What agrees on the calendar clock is settled: only its calendar is sought.
sought as (

    select
        case_id,
        metric,
        max(theirs_at) as theirs_at,
        bool_or(clock = 'calendar' and is_match) as is_settled
    from {{ ref('int_parity_pairs') }}
    group by case_id, metric
    having bool_or(not is_match and cause is null)

),

heard as (

    select * from {{ ref('int_parity_heard') }}

),

events as (

    select events.*
    from {{ ref('int_case_events') }} as events
    semi join heard on events.case_id = heard.case_id
    where events.event_type = 'status_changed'

),

statuses as (

    select statuses.*
    from {{ ref('int_case_statuses') }} as statuses
    semi join heard on statuses.case_id = heard.case_id

),

resolutions as (

    select
        *,
        coalesce(first_solved_at, first_settled_at) as first_resolved_at
    from {{ ref('int_case_resolutions') }}
    where case_id in (select case_id from heard)

),

measures as (

    select
        unnest([
            'first_reply', 'total_reply', 'first_resolution',
            'full_resolution', 'new', 'open', 'hold', 'pending', 'hold'
        ]) as measure,
        unnest([
            'first_reply', 'total_reply', 'first_resolution',
            'full_resolution', 'requester_wait', 'requester_wait',
            'requester_wait', 'agent_wait', 'on_hold'
        ]) as metric

),

usual as (

    select
        intervals.case_id,
        sought.metric,
        sought.theirs_at,
        intervals.measure,
        intervals.started_at,
        intervals.ended_at
    from {{ ref('int_case_intervals') }} as intervals
    inner join measures on intervals.measure = measures.measure
    inner join sought
        on
            intervals.case_id = sought.case_id
            and measures.metric = sought.metric

),

-- Statuses that were logged before the case was created, as they stand there.
early_statuses as (

    select
        events.case_id,
        events.to_value as measure,
        events.event_at as started_at,
        least(
            coalesce(
                lead(events.event_at) over (
                    partition by events.case_id
                    order by events.event_at, events.sequence nulls first
                ),
                heard.opened_at
            ),
            heard.opened_at
        ) as ended_at
    from events
    inner join heard on events.case_id = heard.case_id
    where events.event_at < heard.opened_at

),

early_cases as (

    select
        early_statuses.case_id,
        sought.metric,
        early_statuses.started_at,
        early_statuses.ended_at
    from early_statuses
    inner join measures on early_statuses.measure = measures.measure
    inner join sought
        on
            early_statuses.case_id = sought.case_id
            and measures.metric = sought.metric

),

known_solves as (

    select
        statuses.case_id,
        sought.metric,
        if(
            sought.metric = 'first_resolution',
            min(statuses.started_at), max(statuses.started_at)
        ) as ended_at
    from statuses
    inner join sought on statuses.case_id = sought.case_id
    where
        sought.metric in ('first_resolution', 'full_resolution')
        and statuses.status = 'solved'
        and statuses.started_at <= sought.theirs_at
    group by statuses.case_id, sought.metric

),

-- Cases whose present status no event explains.
untold as (

    select
        case_id,
        coalesce(bool_or(
            status in ('solved', 'closed') and not is_inferred
        ), false) as is_resolved_by_event
    from statuses
    group by case_id
    having bool_or(is_inferred)

),

-- One group of intervals for each reading: who was heard, what was merged,
-- what was known. The empty cause is our own reading.
intervals as (

    select
        case_id,
        metric,
        '' as cause,
        '' as reading,
        started_at,
        ended_at
    from usual

    union all

    select
        case_id,
        'first_reply' as metric,
        'agent_created' as cause,
        unnest(['the opening is the reply', 'from the first question'])
            as reading,
        unnest([opened_at, asked_at]) as started_at,
        unnest([opened_at, after_question_at]) as ended_at
    from heard
    where opened_by_role <> 'customer'

    union all

    select
        case_id,
        'first_reply' as metric,
        unnest(['bot_reply', 'bot_reply', 'private_note']) as cause,
        unnest(['with bots', 'with automations', 'with notes']) as reading,
        opened_at as started_at,
        unnest([bot_at, automation_at, note_at]) as ended_at
    from heard

    union all

    select
        case_id,
        'first_reply' as metric,
        'merge' as cause,
        unnest([
            'all of the merged cases', 'their replies',
            'without the notice of the merge'
        ]) as reading,
        unnest([merged_opened_at, opened_at, opened_at]) as started_at,
        unnest([
            merged_reply_at, greatest(merged_reply_at, opened_at), beside_at
        ]) as ended_at
    from heard
    where is_merge

    union all

    select
        heard.case_id,
        unnest(['first_resolution', 'full_resolution']) as metric,
        'merge' as cause,
        'from the first of the merged cases' as reading,
        heard.merged_opened_at as started_at,
        unnest([resolutions.first_resolved_at, resolutions.last_solved_at])
            as ended_at
    from heard
    inner join resolutions on heard.case_id = resolutions.case_id
    where heard.is_merge

    union all

    select
        case_id,
        unnest(['first_resolution', 'full_resolution']) as metric,
        'merge' as cause,
        'until the merge' as reading,
        opened_at as started_at,
        merged_at as ended_at
    from heard
    where is_merge

    union all

    select
        known_solves.case_id,
        known_solves.metric,
        'late_data' as cause,
        'until their update' as reading,
        heard.opened_at as started_at,
        known_solves.ended_at
    from known_solves
    inner join heard on known_solves.case_id = heard.case_id

    union all

    select
        case_id,
        metric,
        'late_data' as cause,
        'until their update' as reading,
        least(started_at, theirs_at) as started_at,
        least(ended_at, theirs_at) as ended_at
    from usual
    where metric in ('requester_wait', 'agent_wait', 'on_hold')

    union all

    select
        usual.case_id,
        usual.metric,
        'late_data' as cause,
        'statuses left until their update' as reading,
        usual.started_at,
        if(
            statuses.ended_at <= usual.theirs_at,
            usual.ended_at, usual.started_at
        ) as ended_at
    from usual
    inner join statuses
        on
            usual.case_id = statuses.case_id
            and usual.measure = statuses.status
            and usual.started_at = statuses.started_at

    union all

    select
        usual.case_id,
        usual.metric,
        'late_data' as cause,
        'only what events tell' as reading,
        usual.started_at,
        if(followers.is_inferred, usual.started_at, usual.ended_at)
            as ended_at
    from usual
    inner join statuses
        on
            usual.case_id = statuses.case_id
            and usual.measure = statuses.status
            and usual.started_at = statuses.started_at
    left join statuses as followers
        on
            statuses.case_id = followers.case_id
            and statuses.spell + 1 = followers.spell
    where usual.case_id in (select case_id from untold)

    union all

    select
        untold.case_id,
        unnest(['first_resolution', 'full_resolution']) as metric,
        'late_data' as cause,
        'only what events tell' as reading,
        heard.opened_at as started_at,
        heard.opened_at as ended_at
    from untold
    inner join heard on untold.case_id = heard.case_id
    where not untold.is_resolved_by_event

    union all

    select
        case_id,
        metric,
        'late_data' as cause,
        'from before the creation' as reading,
        started_at,
        ended_at
    from (
        select
            case_id,
            metric,
            started_at,
            ended_at
        from usual
        where (case_id, metric) in (select (case_id, metric) from early_cases)
        union all
        select * from early_cases
    ) as since_the_log

),

final as (

    select intervals.*
    from intervals
    inner join sought
        on
            intervals.case_id = sought.case_id
            and intervals.metric = sought.metric
    where
        (intervals.cause = '' or not sought.is_settled)
        and intervals.started_at is not null
        and intervals.ended_at >= intervals.started_at

)

select * from final

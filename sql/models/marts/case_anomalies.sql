{{ config(materialized='view') }}

with

cases as (

    select * from {{ ref('cases') }}

),

-- What each issue means for the figures of its case.
effects as (

    select
        unnest(map_entries(map {
            'no_creation':
            'The creation is unknown: no duration is counted.',
            'no_events':
            'Nothing is logged: what the present status implies is counted.',
            'solved_before_creation':
            'A solve before the creation counts as made at the creation.',
            'event_before_creation':
            'An event before the creation starts no clock before it; '
            || 'a reply among them is none.',
            'events_out_of_order':
            'Instants go against the numbers of the source: '
            || 'the instants decide.',
            'event_in_the_future':
            'An event lies after as_of: it counts as it is dated.',
            'updated_before_creation':
            'The last change is dated before the creation: '
            || 'the creation decides.',
            'status_without_event':
            'No event explains the status: it is dated by the last change.'
        }), recursive := true)

),

issues as (

    select
        case_id,
        source,
        source_case_id,
        url,
        opened_at,
        as_of,
        is_excluded,
        unnest(data_issues) as issue
    from cases

),

final as (

    select
        issues.case_id,
        issues.issue,
        effects.value as effect,
        issues.source,
        issues.source_case_id,
        issues.url,
        issues.opened_at,
        issues.as_of,
        issues.is_excluded
    from issues
    inner join effects on issues.issue = effects.key

)

select * from final

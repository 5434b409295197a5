with

cases as (

    select * from {{ ref('int_case_attributes') }}

),

statuses as (

    select statuses.*
    from {{ ref('int_case_statuses') }} as statuses
    semi join cases on statuses.case_id = cases.case_id

),

final as (

    select
        case_id,
        arg_max(status, spell) as status,
        min(started_at) filter (where status = 'solved') as first_solved_at,
        min(started_at) filter (where status in ('solved', 'closed'))
            as first_settled_at,
        max(started_at) filter (
            where status = 'solved'
            or (
                status = 'closed'
                and coalesce(previous_status, 'new') <> 'solved'
            )
        ) as last_solved_at,
        max(started_at) filter (where status = 'closed') as last_closed_at,
        max(started_at) filter (
            where not {{ is_unsolved('status') }}
            and {{ is_unsolved("coalesce(previous_status, 'new')") }}
        ) as settled_at,
        coalesce(
            max(started_at) filter (where status = 'solved'), last_closed_at
        ) as last_solved_at_fivetran,
        count(*) filter (
            where previous_status in ('solved', 'closed')
            and {{ is_unsolved('status') }}
        ) as reopen_count,
        greatest(0, count(*) filter (where status = 'solved') - 1)
            as reopen_count_fivetran,
        count(*) filter (
            where previous_status = 'solved' and status = 'open'
        ) as reopen_count_mozilla,
        bool_or(is_inferred) as is_status_inferred
    from statuses
    group by case_id

)

select * from final

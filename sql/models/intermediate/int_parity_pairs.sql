{%- set durations = [
    'first_reply', 'total_reply', 'first_resolution', 'full_resolution',
    'requester_wait', 'agent_wait', 'on_hold'
] -%}

with

touched as (

    select case_id from {{ ref('int_case_attributes') }}

),

cases as (

    select * from {{ ref('cases') }}
    where case_id in (select case_id from touched)

),

vendor as (

    select * from {{ ref('stg_vendor_metrics') }}
    where
        value is not null
        and metric <> 'handling'
        and case_id in (select case_id from touched)

),

measured as (

    select
        vendor.case_id,
        vendor.source,
        vendor.metric,
        vendor.clock,
        vendor.value as theirs,
        vendor.updated_at as theirs_at,
        vendor.metric in ('reopens', 'replies') as is_count,
        case vendor.metric
            {%- for metric in durations %}
            when '{{ metric }}' then cases.{{ metric }}_minutes
            {%- endfor %}
            when 'reopens' then cases.reopen_count
            when 'replies' then cases.agent_reply_count
        end as on_calendar_clock,
        case vendor.metric
            {%- for metric in durations %}
            when '{{ metric }}' then cases.{{ metric }}_business_minutes
            {%- endfor %}
        end as on_business_clock
    from vendor
    inner join cases on vendor.case_id = cases.case_id

),

paired as (

    select
        *,
        if(clock = 'business', on_business_clock, on_calendar_clock) as ours,
        if(is_count, 0, 1) + 1e-6 as tolerance
    from measured

),

compared as (

    select
        *,
        coalesce(abs(theirs - ours) <= tolerance, false) as is_match,
        coalesce(
            clock = 'business'
            and abs(theirs - on_calendar_clock) <= tolerance, false
        ) as is_calendar_clock
    from paired

),

-- A desk without opening hours of its own is the usual case, and needs no
-- reading of its own.
final as (

    select
        * exclude (on_calendar_clock, on_business_clock, is_calendar_clock),
        if(not is_match and is_calendar_clock, 'calendar_choice', null)
            as cause,
        if(not is_match and is_calendar_clock, 'calendar clock', null)
            as reading
    from compared

)

select * from final

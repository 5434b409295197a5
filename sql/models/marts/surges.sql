-- depends_on: {{ ref('int_touched_days') }}
{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        pre_hook="
            {% if is_incremental() %}
            delete from {{ this }}
            where exists (
                select 1 from {{ ref('int_touched_days') }} as touched
                where created_date
                    between touched.day and touched.day + {{ surge_window() }}
            )
            {% endif %}
        "
    )
}}

with

run as (

    select * from {{ source('run', 'current') }}

),

shares as (

    select
        *,
        n * p as expected
    from {{ ref('int_surge_shares') }}

),

counts as (

    select * from {{ ref('int_surge_counts') }}

),

feedback as (

    select * from {{ ref('stg_feedback') }}

),

labels as (

    select * from {{ ref('stg_labels') }}

),

cases as (

    select * from {{ ref('cases') }}

),

tails as (

    select
        *,
        -- What is not above its expectation is no surge, and costs no sum.
        case
            when p is null then null
            when k <= expected then 1.0
            else {{ binomial_tail(
                "(k / dispersion)", "(n / dispersion)", "p"
            ) }}
        end as p_value
    from shares

),

-- A group counts among the tested ones while a message of it is in the window.
steps as (

    select
        counted,
        dimension,
        unnest([
            struct_pack(day := created_date, step := 1),
            struct_pack(
                day := least(
                    created_date + {{ surge_window() }} + 1,
                    coalesce(next_date, date '9999-01-01')
                ),
                step := -1
            )
        ], recursive := true)
    from counts

),

present as (

    select
        counted,
        dimension,
        day,
        sum(sum(step)) over (
            partition by counted, dimension
            order by day
        ) as group_count
    from steps
    group by counted, dimension, day

),

families as (

    select
        tested.created_date,
        sum(present.group_count) as tested_count
    from (
        select distinct
            created_date,
            counted,
            dimension
        from tails
        where p_value is not null
    ) as tested
    inner join present
        on
            tested.counted = present.counted
            and tested.dimension = present.dimension
            and tested.created_date = present.day
    group by tested.created_date

),

ranked as (

    select
        tails.*,
        families.tested_count,
        row_number() over (
            partition by tails.created_date, tails.p_value is null
            order by tails.p_value
        ) as place
    from tails
    left join families on tails.created_date = families.created_date

),

-- Benjamini and Hochberg (1995), Journal of the Royal Statistical Society B
-- 57, 289–300.
corrected as (

    select
        *,
        if(
            p_value is null,
            null,
            least(1.0, min(p_value * tested_count / place) over (
                partition by created_date
                order by place desc
                rows between unbounded preceding and current row
            ))
        ) as q_value
    from ranked

),

judged as (

    select
        *,
        coalesce(
            q_value <= {{ surge_level() }}
            and k >= 5
            and k >= 1.5 * expected,
            false
        ) as is_alert
    from corrected

),

alerts as (

    select * from judged
    where is_alert

),

-- Two days more on either side hold every local day, whatever the zone.
alert_feedback as (

    select
        feedback_id,
        text_hash,
        product,
        channel,
        created_at,
        {{ local_day('created_at', 'run.time_zone') }} as created_date
    from feedback
    cross join run
    where
        not coalesce(is_excluded, false)
        and created_at >= (
            select min(created_date)::timestamptz - interval 2 days
            from alerts
        )
        and created_at < (
            select max(created_date)::timestamptz + interval 3 days
            from alerts
        )

),

members as (

    select
        alert_feedback.created_date,
        if(
            labels.feedback_type = 'complaint',
            ['feedback', 'complaint'],
            ['feedback']
        ) as counted,
        alert_feedback.feedback_id,
        alert_feedback.created_at,
        alert_feedback.product,
        alert_feedback.channel,
        labels.need,
        labels.feedback_type,
        null::varchar as team
    from alert_feedback
    semi join alerts on alert_feedback.created_date = alerts.created_date
    left join labels
        on
            alert_feedback.feedback_id = labels.feedback_id
            and alert_feedback.text_hash = labels.text_hash

    union all by name

    select
        {{ local_day('opened_at', 'time_zone') }} as created_date,
        ['case'] as counted,
        opening_feedback_id as feedback_id,
        opened_at as created_at,
        team
    from cases
    where not is_excluded and opening_feedback_id is not null

),

examples as (

    select
        alerts.created_date,
        alerts.counted,
        alerts.dimension,
        alerts.value,
        list(
            members.feedback_id
            order by members.created_at, members.feedback_id
        )[:5] as examples
    from alerts
    inner join members
        on
            alerts.created_date = members.created_date
            and list_contains(members.counted, alerts.counted)
            and alerts.value = case alerts.dimension
                when 'product' then members.product
                when 'channel' then members.channel
                when 'need' then members.need
                when 'feedback_type' then members.feedback_type
                when 'team' then members.team
            end
    group by all

),

final as (

    select
        judged.created_date,
        judged.counted,
        judged.dimension,
        judged.value,
        judged.k::bigint as k,
        judged.n::bigint as n,
        judged.p,
        judged.expected,
        judged.dispersion,
        judged.p_value,
        judged.q_value,
        judged.tested_count::bigint as tested_count,
        judged.history_days,
        judged.is_alert,
        coalesce(examples.examples, []) as examples,
        judged.created_date < {{ local_day('run.as_of', 'run.time_zone') }}
            as is_day_over
    from judged
    cross join run
    left join examples
        on
            judged.created_date = examples.created_date
            and judged.counted = examples.counted
            and judged.dimension = examples.dimension
            and judged.value = examples.value

)

select * from final

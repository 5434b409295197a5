{%- set group_key = "created_date, counted, dimension" -%}

with

counts as (

    select * from {{ ref('int_surge_counts') }}

),

touched as (

    select * from {{ ref('int_touched_days') }}

),

-- A touched day moves its own tests and those whose window it is in.
tested_days as (

    select distinct touched.day + steps.step::integer as created_date
    from touched
    cross join range({{ surge_window() }} + 1) as steps (step)

),

tested as (

    select counts.*
    from counts
    semi join tested_days on counts.created_date = tested_days.created_date

),

totals as (

    select
        created_date,
        counted,
        dimension,
        any_value(n) as n
    from counts
    group by created_date, counted, dimension

),

total_weekdays as (

    select
        tested_totals.created_date,
        tested_totals.counted,
        tested_totals.dimension,
        isodow(earlier.created_date) as weekday,
        sum(earlier.n) as n,
        count(*) as days
    from totals as tested_totals
    semi join tested_days
        on tested_totals.created_date = tested_days.created_date
    inner join totals as earlier
        on
            tested_totals.counted = earlier.counted
            and tested_totals.dimension = earlier.dimension
            and earlier.created_date
            between tested_totals.created_date - {{ surge_window() }}
            and tested_totals.created_date - 1
    group by all

),

history as (

    select
        {{ group_key }},
        sum(n) as total_n,
        sum(days) as days
    from total_weekdays
    group by {{ group_key }}
    having sum(days) >= {{ surge_history() }}

),

earlier_weekdays as (

    select
        tested.created_date,
        tested.counted,
        tested.dimension,
        tested.value,
        isodow(earlier.created_date) as weekday,
        sum(earlier.k) as k,
        sum(earlier.k ^ 2 / earlier.n) as spread,
        count(*) filter (where earlier.is_unusual) as unusual_days,
        coalesce(
            sum(earlier.k) filter (where earlier.is_unusual), 0
        ) as unusual_k,
        coalesce(
            sum(earlier.n) filter (where earlier.is_unusual), 0
        ) as unusual_n,
        coalesce(
            sum(earlier.k ^ 2 / earlier.n) filter (where earlier.is_unusual), 0
        ) as unusual_spread
    from tested
    inner join counts as earlier
        on
            tested.counted = earlier.counted
            and tested.dimension = earlier.dimension
            and tested.value = earlier.value
            and earlier.created_date
            between tested.created_date - {{ surge_window() }}
            and tested.created_date - 1
    group by all

),

-- A few unusual days are forgotten; many of them are what is usual now.
forgotten as (

    select
        earlier_weekdays.created_date,
        earlier_weekdays.counted,
        earlier_weekdays.dimension,
        earlier_weekdays.value,
        sum(earlier_weekdays.unusual_days) as unusual_days
    from earlier_weekdays
    inner join history
        on
            earlier_weekdays.created_date = history.created_date
            and earlier_weekdays.counted = history.counted
            and earlier_weekdays.dimension = history.dimension
    group by all
    having
        sum(earlier_weekdays.unusual_days) > 0
        and sum(earlier_weekdays.unusual_days) <= any_value(history.days) / 8

),

weekdays as (

    select
        tested.created_date,
        tested.counted,
        tested.dimension,
        tested.value,
        total_weekdays.weekday,
        if(
            forgotten.value is null,
            coalesce(earlier.k, 0),
            coalesce(earlier.k - earlier.unusual_k, 0)
        ) as k,
        if(
            forgotten.value is null,
            total_weekdays.n,
            total_weekdays.n - coalesce(earlier.unusual_n, 0)
        ) as n,
        if(
            forgotten.value is null,
            coalesce(earlier.spread, 0),
            coalesce(earlier.spread - earlier.unusual_spread, 0)
        ) as spread,
        total_weekdays.days - if(
            forgotten.value is null, 0, coalesce(earlier.unusual_days, 0)
        ) as days
    from tested
    inner join total_weekdays
        on
            tested.created_date = total_weekdays.created_date
            and tested.counted = total_weekdays.counted
            and tested.dimension = total_weekdays.dimension
    left join earlier_weekdays as earlier
        on
            tested.created_date = earlier.created_date
            and tested.counted = earlier.counted
            and tested.dimension = earlier.dimension
            and tested.value = earlier.value
            and total_weekdays.weekday = earlier.weekday
    left join forgotten
        on
            tested.created_date = forgotten.created_date
            and tested.counted = forgotten.counted
            and tested.dimension = forgotten.dimension
            and tested.value = forgotten.value

),

sums as (

    select
        created_date,
        counted,
        dimension,
        value,
        sum(k) as window_k,
        sum(n) as window_n,
        sum(days) as window_days,
        sum(spread) as spread,
        sum(k ^ 2 / nullif(n, 0)) as weekday_spread,
        sum(k ^ 2) as k_squares,
        sum(k * n) as k_n,
        sum(n ^ 2) as n_squares,
        coalesce(
            sum(k) filter (where weekday = isodow(created_date)), 0
        ) as same_weekday_k,
        coalesce(
            sum(n) filter (where weekday = isodow(created_date)), 0
        ) as same_weekday_n
    from weekdays
    group by all

),

-- Chi-squares of the window against one share for all its days: of the
-- weekdays' sums (6 degrees of freedom), and of single days within weekdays.
measured as (

    select
        *,
        window_k / window_n as share,
        window_k >= window_days as is_frequent,
        share * (1 - share) as unit,
        weekday_spread / nullif(unit, 0) - window_k / nullif(1 - share, 0)
            as weekday_chi,
        (spread - weekday_spread) / nullif(unit, 0) as day_chi,
        coalesce(is_frequent and weekday_chi > 22.458, false) as has_rhythm
    from sums

),

-- How far the shares of weekdays differ by more than chance, over the groups
-- that show no rhythm each for itself.
rhythms as (

    select
        {{ group_key }},
        sum(
            k_squares - 2 * share * k_n + share ^ 2 * n_squares
            - unit * window_n
        ) as excess,
        sum(share ^ 2 * n_squares) as scale,
        sum((unit ^ 2) * n_squares) as squares
    from measured
    where is_frequent and not has_rhythm
    group by {{ group_key }}

),

-- The share of a weekday leans on that of all days by as many expected
-- messages as the variance between weekdays is small.
leaned as (

    select
        measured.*,
        case
            when measured.has_rhythm then 1
            when rhythms.excess > 2 * sqrt(2 * rhythms.squares)
                then rhythms.scale / rhythms.excess
        end as lean,
        coalesce(
            (measured.window_k / 7) / (measured.window_k / 7 + lean), 0
        ) as weekday_weight,
        measured.day_chi
        + (1 - weekday_weight) ^ 2 * measured.weekday_chi as chi,
        measured.window_days - 1 - 6 * (1 - (1 - weekday_weight) ^ 2)
            as freedom
    from measured
    left join rhythms
        on
            measured.created_date = rhythms.created_date
            and measured.counted = rhythms.counted
            and measured.dimension = rhythms.dimension

),

pooled as (

    select
        {{ group_key }},
        sum(chi) / sum(freedom) as dispersion,
        sum(freedom) as freedom
    from leaned
    where is_frequent
    group by {{ group_key }}

),

-- Counts that vary more than chance allows are believed only if they show it.
final as (

    select
        tested.created_date,
        tested.counted,
        tested.dimension,
        tested.value,
        tested.k,
        tested.n,
        history.days::bigint as history_days,
        -- One message more on the usual side: what was never seen before has
        -- no share of 0. (least and greatest pass over NULL.)
        if(history.days is null, null, least(
            1.0,
            (leaned.window_k + 1) / (leaned.window_n + 1)
            * coalesce(
                (leaned.same_weekday_k + leaned.lean)
                / (leaned.same_weekday_n * leaned.share + leaned.lean),
                1
            )
        )) as p,
        if(history.days is null, null, greatest(
            1.0,
            if(
                pooled.dispersion > 1 + 2 * sqrt(2 / pooled.freedom),
                pooled.dispersion, 1.0
            ),
            if(
                leaned.is_frequent
                and leaned.chi / leaned.freedom
                > 1 + 2.5 * sqrt(2 / leaned.freedom),
                leaned.chi / leaned.freedom, 1.0
            )
        )) * (
            1 + tested.n / leaned.window_n + coalesce(
                tested.n * p
                / (leaned.same_weekday_n * leaned.share + leaned.lean),
                0
            )
        ) as dispersion
    from tested
    left join history
        on
            tested.created_date = history.created_date
            and tested.counted = history.counted
            and tested.dimension = history.dimension
    left join leaned
        on
            tested.created_date = leaned.created_date
            and tested.counted = leaned.counted
            and tested.dimension = leaned.dimension
            and tested.value = leaned.value
    left join pooled
        on
            history.created_date = pooled.created_date
            and history.counted = pooled.counted
            and history.dimension = pooled.dimension

)

select * from final

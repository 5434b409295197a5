{#-
  Microseconds between two instants. What date_diff would say, which asks the
  time zone first and takes forty times as long.
#}
{% macro microseconds_between(start, stop) -%}
(epoch_us({{ stop }}) - epoch_us({{ start }}))
{%- endmacro %}

{#- Minutes between two instants, seconds / 60, never a count of boundaries. #}
{% macro minutes_between(start, stop) -%}
{{ microseconds_between(start, stop) }} / 60e6
{%- endmacro %}

{#- The local day of an instant. #}
{% macro local_day(instant, time_zone) -%}
({{ instant }} at time zone {{ time_zone }})::date
{%- endmacro %}

{% macro is_unsolved(status) -%}
{{ status }} in ('new', 'open', 'pending', 'hold')
{%- endmacro %}

{#-
  Open microseconds until an instant, given the slot of the calendar's hour.
  Whole numbers, whose sums do not depend on the order of their rows.
#}
{% macro microseconds_in_slot(instant, slot) -%}
{{ slot }}.microseconds_before
            + greatest(0, {{ microseconds_between(
                slot ~ '.open_at',
                'least(' ~ instant ~ ', ' ~ slot ~ '.close_at)'
            ) }})
{%- endmacro %}

{#- Whether an instant falls into the hour of a slot. #}
{% macro is_in_slot(instant, slot) -%}
epoch_us({{ instant }}) // 3600000000 = {{ slot }}.hour
{%- endmacro %}

{#- Intervals of cases, cut where the case came to another calendar. #}
{% macro cut_at_calendars(intervals, calendars) -%}
select
        {{ intervals }}.* exclude (started_at, ended_at),
        {{ calendars }}.calendar,
        greatest({{ intervals }}.started_at, {{ calendars }}.started_at)
            as started_at,
        least(
            {{ intervals }}.ended_at,
            coalesce({{ calendars }}.ended_at, {{ intervals }}.ended_at)
        ) as ended_at
    from {{ intervals }}
    inner join {{ calendars }}
        on
            {{ intervals }}.case_id = {{ calendars }}.case_id
            and {{ calendars }}.calendar is not null
            and {{ intervals }}.ended_at >= {{ calendars }}.started_at
            and (
                {{ calendars }}.ended_at is null
                or {{ intervals }}.started_at < {{ calendars }}.ended_at
            )
{%- endmacro %}

{#-
  Both ends of every piece. Its open time is what is open until its end less
  what is open until its start, each counted from the calendar's beginning.
#}
{% macro list_bounds(pieces) -%}
select
        * exclude (started_at, ended_at),
        unnest([ended_at, started_at]) as instant,
        unnest([1, -1]) as sign
    from {{ pieces }}
{%- endmacro %}

{#- What a bound, in its slot, adds to the open microseconds of its piece. #}
{% macro microseconds_of_bound(bound, slot) -%}
{{ bound }}.sign * (
            {{ microseconds_in_slot(bound ~ '.instant', slot) }}
        )
{%- endmacro %}

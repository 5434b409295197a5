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

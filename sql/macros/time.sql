{#- Minutes between two instants, seconds / 60, never a count of boundaries. #}
{% macro minutes_between(start, stop) -%}
date_diff('microsecond', {{ start }}, {{ stop }}) / 60e6
{%- endmacro %}

{#- The local day of an instant. #}
{% macro local_day(instant, time_zone) -%}
({{ instant }} at time zone {{ time_zone }})::date
{%- endmacro %}

{#-
  Open minutes until an instant, counted from the beginning of the expanded
  calendar, given the last interval that opened before the instant.
#}
{% macro minutes_until(instant, interval) -%}
coalesce(
    {{ interval }}.minutes_before
    + {{ minutes_between(
        interval ~ ".open_at",
        "least(" ~ instant ~ ", " ~ interval ~ ".close_at)"
    ) }}, 0
)
{%- endmacro %}

{% macro is_unsolved(status) -%}
{{ status }} in ('new', 'open', 'pending', 'hold')
{%- endmacro %}

{#- Open minutes until an instant, given the slot of the calendar's hour. #}
{% macro minutes_in_slot(instant, slot) -%}
{{ slot }}.minutes_before
            + greatest(0, {{ minutes_between(
                slot ~ ".open_at",
                "least(" ~ instant ~ ", " ~ slot ~ ".close_at)"
            ) }})
{%- endmacro %}

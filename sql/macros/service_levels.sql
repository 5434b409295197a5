{#-
  The metrics of service levels that run through statuses, and the statuses
  in which each of them runs. The first reply runs whatever the status is.
#}
{% macro sla_running_statuses(metric) -%}
case {{ metric }}
            when 'pausable_update' then ['new', 'open', 'hold']
            when 'requester_wait' then ['new', 'open', 'hold']
            when 'agent_work' then ['new', 'open']
            when 'first_reply' then [
                'new', 'open', 'pending', 'hold', 'solved', 'closed', 'deleted'
            ]
            else ['new', 'open', 'pending', 'hold']
        end
{%- endmacro %}

{#-
  Open microseconds until an instant, counted from the beginning of the
  expanded calendar, given the last interval that opened before the instant.
  Whole numbers, so that a reply on the minute is in time.
#}
{% macro microseconds_until(instant, interval) -%}
coalesce(
    (round({{ interval }}.minutes_before * 6e7))::bigint
    + {{ microseconds_between(
        interval ~ '.open_at',
        'least(' ~ instant ~ ', ' ~ interval ~ '.close_at)'
    ) }}, 0
)
{%- endmacro %}

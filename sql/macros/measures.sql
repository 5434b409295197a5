{#- One column a measure of a case: its rows' microseconds, summed, in minutes. #}
{% macro minutes_by_measure(microseconds, suffix) -%}
{%- for measure in [
    'first_reply', 'first_resolution', 'full_resolution', 'unsolved_age',
    'total_reply', 'new', 'open', 'pending', 'hold'
] -%}
sum({{ microseconds }}) filter (where measure = '{{ measure }}')
            / 60e6 as {{ measure }}_{{ suffix }}
        {%- if not loop.last %},
        {% endif -%}
{%- endfor -%}
{%- endmacro %}

{#-
  5R / (R + D) with R a rating on 1–5 and D a duration in minutes; NULL where
  either is missing or their sum is zero.
#}
{% macro duration_weighted_score(rating, minutes) -%}
5 * {{ rating }} / nullif({{ rating }} + {{ minutes }}, 0)
{%- endmacro %}

{#-
  T / (T - P) with T the instant of the solve and P that of the opening, both in
  minutes since the local month of the solve began; NULL where they are equal.
#}
{% macro resolution_time_ratio() -%}
{{ minutes_between(
    "date_trunc('month', last_solved_date)::timestamp at time zone time_zone",
    'last_solved_at'
) }} / nullif(full_resolution_minutes, 0)
{%- endmacro %}

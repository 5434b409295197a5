{#- One column a measure of a case: the sum of a value over its rows. #}
{% macro sums_by_measure(value, suffix) -%}
{%- for measure in [
    'first_reply', 'first_resolution', 'full_resolution', 'unsolved_age',
    'total_reply', 'new', 'open', 'pending', 'hold'
] -%}
sum({{ value }}) filter (where measure = '{{ measure }}')
            as {{ measure }}_{{ suffix }}
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

{#- What is measured from one instant of a case to another. #}
{% macro case_measures() %}
    {{ return([
        'first_reply', 'first_resolution', 'full_resolution', 'unsolved_age',
        'total_reply', 'new', 'open', 'pending', 'hold'
    ]) }}
{% endmacro %}

{#-
  5R / (R + D) with R a rating on 1–5 and D a duration in minutes; NULL where
  either is missing or their sum is zero.
#}
{% macro duration_weighted_score(rating, minutes) -%}
5 * {{ rating }} / nullif({{ rating }} + {{ minutes }}, 0)
{%- endmacro %}

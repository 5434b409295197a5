{#- The three sums of which a mean and its interval are made. #}
{% macro sums_of(column) -%}
sum({{ column }}) as {{ column }}_sum,
        sum({{ column }} ^ 2) as {{ column }}_squares,
        count({{ column }})::double as {{ column }}_count
{%- endmacro %}

{#- The rows of one metric of means, out of a table of sums by day. #}
{% macro mean_rows(metric, clock, cohort, relation, column) -%}
select
        '{{ metric }}' as metric,
        '{{ clock }}' as clock,
        '{{ cohort }}' as cohort,
        cohort_date,
        source,
        channel,
        team,
        need,
        {{ column }}_sum as value_sum,
        {{ column }}_squares as value_sum_squares,
        {{ column }}_count as value_count
    from {{ relation }}
    where {{ column }}_count > 0
{%- endmacro %}

{#- The rows of one metric of shares, out of a table of counts by day. #}
{% macro share_rows(metric, dialect, relation, numerator, denominator) -%}
select
        '{{ metric }}' as metric,
        '{{ dialect }}' as dialect,
        'solved' as cohort,
        cohort_date,
        source,
        channel,
        team,
        need,
        {{ numerator }} as numerator,
        {{ denominator }} as denominator
    from {{ relation }}
    where {{ denominator }} > 0
{%- endmacro %}

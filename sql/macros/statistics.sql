{#- The two-sided 95 % quantile of the normal distribution. #}
{% macro normal_quantile() %}1.959963984540054{% endmacro %}

{#-
  Bounds of the Wilson score interval of a proportion, NULL if nothing was
  counted. Wilson, E. B. (1927), Journal of the American Statistical
  Association 22, 209–212.
#}
{% macro wilson_low(numerator, denominator) %}
greatest(0, {{ wilson_bound(numerator, denominator, "-") }})
{% endmacro %}

{% macro wilson_high(numerator, denominator) %}
least(1, {{ wilson_bound(numerator, denominator, "+") }})
{% endmacro %}

{% macro wilson_bound(numerator, denominator, sign) %}
{%- set k = "(" ~ numerator ~ ")::double" -%}
{%- set n = "nullif(" ~ denominator ~ ", 0)::double" -%}
{%- set z = normal_quantile() -%}
(
    ({{ k }} / {{ n }} + {{ z }} ^ 2 / (2 * {{ n }}))
    {{ sign }} {{ z }} * sqrt(
        {{ k }} / {{ n }} * (1 - {{ k }} / {{ n }}) / {{ n }}
        + {{ z }} ^ 2 / (4 * {{ n }} ^ 2)
    )
) / (1 + {{ z }} ^ 2 / {{ n }})
{% endmacro %}

{#-
  The two-sided 95 % quantile of Student's distribution: exact up to 6
  degrees of freedom, then the expansion of Abramowitz and Stegun 26.7.5
  (error below 0.01 %).
#}
{% macro student_quantile(freedom) %}
case
    when {{ freedom }} < 1 then null
    when {{ freedom }} = 1 then 12.706204736432095
    when {{ freedom }} = 2 then 4.302652729911275
    when {{ freedom }} = 3 then 3.182446305284263
    when {{ freedom }} = 4 then 2.776445105197799
    when {{ freedom }} = 5 then 2.570581835636314
    when {{ freedom }} = 6 then 2.446911851144969
    else
        1.959963984540054
        + 2.372271230 / ({{ freedom }})
        + 2.822498616 / ({{ freedom }}) ^ 2
        + 2.555849680 / ({{ freedom }}) ^ 3
        + 1.589534053 / ({{ freedom }}) ^ 4
end
{% endmacro %}

{#- Sample variance from a sum, a sum of squares and a count. #}
{% macro variance_of_sums(total, squares, n) %}
greatest(
    0, ({{ squares }} - {{ total }} ^ 2 / nullif({{ n }}, 0)) / nullif({{ n }} - 1, 0)
)
{% endmacro %}

{#- Half the width of the 95 % t-interval of a mean. #}
{% macro mean_margin(total, squares, n) %}
({{ student_quantile("(" ~ n ~ " - 1)") }})
* sqrt({{ variance_of_sums(total, squares, n) }} / nullif({{ n }}, 0))
{% endmacro %}

{#-
  Half the width of the 95 % interval of a net promoter score in points:
  the variance of a multinomial difference, (p + d) − (p − d)².
#}
{% macro nps_margin(difference, either, n) %}
100 * {{ normal_quantile() }} * sqrt(
    greatest(
        0,
        {{ either }} / nullif({{ n }}, 0)::double
        - ({{ difference }} / nullif({{ n }}, 0)::double) ^ 2
    ) / nullif({{ n }}, 0)
)
{% endmacro %}

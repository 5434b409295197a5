{#- How long the window before a tested day is, and how much of it is needed. #}
{% macro surge_window() %}56{% endmacro %}
{% macro surge_history() %}28{% endmacro %}

{#- The rate of false discoveries over all groups of a day. #}
{% macro surge_level() %}0.04{% endmacro %}

{#-
  P(X >= k) of a binomial with n trials of chance p, for k > n p; k and n may
  be fractions. It is the incomplete beta function I_p(k, n - k + 1) as its
  series of positive terms (DLMF 8.17.7 with 8.17.8), exact to 9 digits: each
  term is the one before it times (n + 1 + j) p / (k + 1 + j), from the first
  on less than 1; behind eight standard deviations it is all but p.
#}
{% macro binomial_tail(k, n, p) -%}
case
    when {{ p }} >= 1 then 1.0
    else
        least(1.0, list_sum(list_transform(
            range(cast(ceil(least(
                21 / greatest(
                    ln(({{ k }} + 1) / (({{ n }} + 1) * {{ p }})), 1e-6
                ),
                20 + 8 * sqrt({{ n }} * {{ p }} / (1 - {{ p }})) - 21 / ln({{ p }})
            )) as bigint) + 1),
            lambda j: exp(
                lgamma({{ n }} + 1 + j) - lgamma({{ k }} + 1 + j)
                - lgamma({{ n }} - {{ k }} + 1)
                + ({{ k }} + j) * ln({{ p }})
                + ({{ n }} - {{ k }} + 1) * ln(1 - {{ p }})
            )
        )))
end
{%- endmacro %}

{#- The columns by which the stored metrics of cases and answers are cut. -#}
{% macro list_stored_dimensions() -%}
{{ return(['source', 'channel', 'team', 'need']) }}
{%- endmacro %}

{#- The columns by which the records behind the metrics can be cut. -#}
{% macro list_case_dimensions() -%}
{{ return([
    'source', 'channel', 'product', 'language', 'team', 'need', 'priority',
    'assignee_id as agent_id', 'customer_id', 'opened_date'
]) }}
{%- endmacro %}

{#- Value and interval of what was summed: the same for every roll-up. #}
{% macro value_of_sums() -%}
case
            when metric = 'nps' then 100 * numerator / nullif(denominator, 0)
            when denominator is not null
                then numerator / nullif(denominator, 0)
            when value_count is not null
                then value_sum / nullif(value_count, 0)
            else numerator
        end
{%- endmacro %}

{% macro low_of_sums(value='value') -%}
case
            when metric = 'nps'
                then
                    greatest(-100, {{ value }} - {{ nps_margin(
                        'numerator', 'value_sum_squares', 'denominator'
                    ) }})
            when denominator is not null
                then {{ wilson_low('numerator', 'denominator') }}
            when value_count is not null
                then
                    {{ value }} - {{ mean_margin(
                        'value_sum', 'value_sum_squares', 'value_count'
                    ) }}
        end
{%- endmacro %}

{% macro high_of_sums(value='value') -%}
case
            when metric = 'nps'
                then
                    least(100, {{ value }} + {{ nps_margin(
                        'numerator', 'value_sum_squares', 'denominator'
                    ) }})
            when denominator is not null
                then {{ wilson_high('numerator', 'denominator') }}
            when value_count is not null
                then
                    {{ value }} + {{ mean_margin(
                        'value_sum', 'value_sum_squares', 'value_count'
                    ) }}
        end
{%- endmacro %}

{#-
  The same as functions of the warehouse, for roll-ups of one's own. They take
  the sums by name, in the order in which the columns stand.
#}
{% macro create_metric_functions() -%}
{%- set sums = 'metric, numerator, denominator, value_sum, value_sum_squares, '
    ~ 'value_count' -%}
create or replace macro main.metric_value({{ sums }}) as
    {{ value_of_sums() }};
create or replace macro main.metric_low({{ sums }}) as
    {{ low_of_sums('main.metric_value(' ~ sums ~ ')') }};
create or replace macro main.metric_high({{ sums }}) as
    {{ high_of_sums('main.metric_value(' ~ sums ~ ')') }};
{{ create_rows_query() }}
{%- endmacro %}

{#-
  `rows_query(m)` of a row m of metrics_daily: the question that lists the
  records behind it. A column by which a metric is not cut is no condition.
#}
{% macro create_rows_query() -%}
create or replace macro main.sql_text(text) as
    coalesce(
        chr(39) || replace(text, chr(39), chr(39) || chr(39)) || chr(39), 'null'
    );
create or replace macro main.rows_query(m) as
    'select * from metric_records where metric = ' || main.sql_text(m.metric)
    {%- for column in ['dialect', 'clock', 'counted'] %}
    || ' and {{ column }} = ' || main.sql_text(m.{{ column }})
    {%- endfor %}
    || ' and cohort_date is not distinct from '
    || coalesce('date ' || main.sql_text(m.cohort_date::varchar), 'null')
    {%- for column, is_cut in {
        'source': 'true', 'channel': 'true', 'team': 'true', 'need': 'true',
        'priority': "m.metric in ('backlog', 'sla') or "
        ~ "(m.metric = 'volume' and m.counted = 'case')",
        'product': "m.metric = 'volume' or m.counted = 'feedback'",
        'language': "m.metric = 'volume' or m.counted = 'feedback'",
        'feedback_type': "m.counted = 'feedback'",
        'sentiment': "m.counted = 'feedback'",
        'age_band': "m.metric = 'backlog'",
        'sla_metric': "m.metric = 'sla'",
        'exclusion_reason': "m.metric = 'excluded'",
    }.items() %}
    || if(
        {{ is_cut }},
        ' and {{ column }} is not distinct from '
        || main.sql_text(m.{{ column }}),
        ''
    )
    {%- endfor %}
{%- endmacro %}

{#- How old a case was at the end of a day. #}
{% macro age_band(day, opened_date) -%}
case
            when {{ day }} - {{ opened_date }} < 1 then '0-1 days'
            when {{ day }} - {{ opened_date }} < 3 then '1-3 days'
            when {{ day }} - {{ opened_date }} < 7 then '3-7 days'
            when {{ day }} - {{ opened_date }} < 30 then '7-30 days'
            else '30 days or more'
        end
{%- endmacro %}

{#- What the yml of the model at hand tells of each metric. #}
{% macro list_told_metrics() -%}
{%- set found = [] -%}
{%- if execute and model is defined -%}
    {%- for metric, told in model.config.meta.metrics.items() -%}
        {%- do found.append(dict(told, metric=metric)) -%}
    {%- endfor -%}
{%- endif -%}
{{ return(found) }}
{%- endmacro %}

{#-
  A threshold of the rule at hand: the configured value, else the default that
  the rule's yml gives under config.meta.thresholds.
#}
{% macro threshold(name) -%}
{%- set rules = source('config', 'follow_up_rules') -%}
{%- if execute -%}
    {%- set defaults = model.config.meta.get('thresholds', {}) -%}
    {%- if name not in defaults -%}
        {%- do exceptions.raise_compiler_error(
            "rule " ~ model.name ~ " has no default for threshold '" ~ name
            ~ "'; add it to config.meta.thresholds in its yml"
        ) -%}
    {%- endif -%}
    coalesce(
        (
            select any_value(rules.thresholds['{{ name }}'])
            from {{ rules }} as rules
            where rules.rule = '{{ model.name | replace("rule_", "", 1) }}'
        ),
        {{ defaults[name] }}
    )
{%- else -%}
    0
{%- endif -%}
{%- endmacro %}

{#- Add a rule's rows to the candidates, unless the rule is switched off. #}
{% macro add_candidates() %}
{%- set rule = this.identifier | replace("rule_", "", 1) -%}
insert into {{ ref('follow_up_candidates') }} by name
select '{{ rule }}' as rule, found.*
from {{ this.include(database=false) }} as found
where coalesce(
    (
        select bool_and(rules.is_enabled)
        from {{ source('config', 'follow_up_rules') }} as rules
        where rules.rule = '{{ rule }}'
    ),
    true
)
{% endmacro %}

{#- How much a priority weighs in a task's score, 0 to 1. #}
{% macro priority_weight(priority) -%}
case {{ priority }}
    when 'urgent' then 1.0
    when 'high' then 0.75
    when 'low' then 0.25
    else 0.5
end
{%- endmacro %}

{#- Business minutes within which somebody should act. #}
{% macro priority_minutes(priority) -%}
case {{ priority }}
    when 'urgent' then 60.0
    when 'high' then 240.0
    when 'low' then 960.0
    else 480.0
end
{%- endmacro %}

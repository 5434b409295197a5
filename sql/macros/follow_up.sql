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

{#- How grave a priority is, 0 to 1. #}
{% macro priority_weight(priority) -%}
case {{ priority }}
    when 'urgent' then 1.0
    when 'high' then 0.75
    when 'low' then 0.25
    else 0.5
end
{%- endmacro %}

{#-
  Where a task stands among those of its priority, 0 to 1: how grave it is,
  how much it presses (both 0 to 1), and who waits.
#}
{% macro task_score(severity, pressure, is_vip) -%}
round(
            0.4 * greatest(0, least(1, {{ severity }}))
            + 0.4 * greatest(0, least(1, {{ pressure }}))
            + if(coalesce({{ is_vip }}, false), 0.2, 0),
            4
        )
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

{#- A time in hours as people say it: minutes, hours, or from three days on days. #}
{% macro say_hours(hours, language='en') -%}
{%- set minutes = "greatest(1, round(60 * " ~ hours ~ "))" -%}
case
            when {{ minutes }} < 60
                then {{ say_number(minutes, 'minute', '分钟', language) }}
            when round({{ hours }}, 1) < 10
                then {{ say_number('round(' ~ hours ~ ', 1)', 'hour', '小时', language) }}
            when round({{ hours }}) < 72
                then {{ say_number('round(' ~ hours ~ ')', 'hour', '小时', language) }}
            else {{ say_number('round(' ~ hours ~ ' / 24)', 'day', '天', language) }}
        end
{%- endmacro %}

{#- A number and its unit; in English one is singular. No more digits than it has. #}
{% macro say_number(number, unit, unit_zh, language) -%}
{%- if language == 'en' -%}
format('{:g} {{ unit }}{}', {{ number }}, if({{ number }} = 1, '', 's'))
{%- else -%}
format('{:g} {{ unit_zh }}', {{ number }})
{%- endif -%}
{%- endmacro %}

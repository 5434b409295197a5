{#
  Relations are named schema.table, without the database: a view must still
  find its tables after the file has been published under another name.
#}
{% macro ref() %}
    {% set found = builtins.ref(*varargs, **kwargs) %}
    {{ return(found.include(database=false)) }}
{% endmacro %}

{% macro source() %}
    {% set found = builtins.source(*varargs, **kwargs) %}
    {{ return(found.include(database=false)) }}
{% endmacro %}

{#- Marts stand in main; the other layers in a schema of their name. #}
{% macro generate_schema_name(custom_schema_name, node) %}
    {{ return((custom_schema_name or target.schema) | trim) }}
{% endmacro %}

with

final as (

    {% for told in list_told_metrics() -%}
    select
        '{{ told.metric }}' as metric,
        '{{ told.name }}' as name,
        '{{ told.name_zh }}' as name_zh,
        '{{ told.unit }}' as unit,
        {{ 'null' if told.higher_is_better is none else told.higher_is_better }}
            ::boolean as higher_is_better,
        '{{ told.definition | replace("'", "''") }}' as definition,
        '{{ told.definition_zh }}' as definition_zh

    union all

    {% endfor -%}
    select
        null as metric,
        null as name,
        null as name_zh,
        null as unit,
        null as higher_is_better,
        null as definition,
        null as definition_zh
    where false

)

select * from final

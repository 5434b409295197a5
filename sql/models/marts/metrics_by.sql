{{ config(materialized='view') }}

with

records as (

    select * from {{ ref('metric_records') }}
    where left_out_reason is null or left_out_count > 0

),

cut as (

    select
        *,
        unnest([
            {%- for dimension in [
                'source', 'channel', 'product', 'language', 'team', 'agent',
                'segment', 'customer', 'need', 'priority'
            ] %}
            struct_pack(
                dimension := '{{ dimension }}',
                member := {{ dimension }}
                {%- if dimension in ['agent', 'customer'] %}_id{% endif %}
            )
            {%- if not loop.last %},{% endif %}
            {%- endfor %}
        ], max_depth := 2)
    from records

),

summed as (

    select
        dimension,
        member,
        metric,
        dialect,
        clock,
        cohort,
        cohort_date,
        counted,
        sla_metric,
        sum(numerator) as numerator,
        sum(denominator) as denominator,
        sum(value_sum) as value_sum,
        sum(value_sum_squares) as value_sum_squares,
        sum(value_count) as value_count,
        sum(left_out_count) as left_out_count
    from cut
    group by all

),

valued as (

    select
        *,
        {{ value_of_sums() }} as value,
        coalesce(denominator, value_count, numerator) as size
    from summed

),

final as (

    select
        * exclude (size),
        {{ low_of_sums() }} as ci_low,
        {{ high_of_sums() }} as ci_high,
        size < 5 as is_small_sample
    from valued

)

select * from final

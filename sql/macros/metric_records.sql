{#-
  What the metrics of cases are, each once. `int_metrics_cases` sums them by day,
  `metric_records` lists the records behind the sums.

  Means have a value, shares a condition for the numerator (`hits`) and one for
  the denominator (`among`). `day` is the column of `cases` with the day on
  which a case counts, `when` holds for the cases that can count at all.
-#}
{% macro list_case_means() -%}
{%- set solved = "status in ('solved', 'closed')" -%}
{%- set found = [] -%}
{%- for clock, suffix in {
    'calendar': '_minutes', 'business': '_business_minutes'
}.items() -%}
    {%- do found.append({
        'metric': 'first_reply', 'clock': clock, 'cohort': 'first_reply',
        'day': 'first_reply_date', 'value': 'first_reply' ~ suffix
    }) -%}
    {%- do found.append({
        'metric': 'first_resolution', 'clock': clock, 'cohort': 'solved',
        'day': 'first_resolved_date', 'value': 'first_resolution' ~ suffix
    }) -%}
    {%- for metric in [
        'total_reply', 'full_resolution', 'requester_wait', 'agent_wait',
        'agent_work', 'on_hold', 'solve'
    ] -%}
        {%- do found.append({
            'metric': metric, 'clock': clock, 'cohort': 'solved',
            'day': 'last_solved_date', 'value': metric ~ suffix,
            'when': solved
        }) -%}
    {%- endfor -%}
{%- endfor -%}
{#- Other readings count on the day of the house's own, so that days compare. -#}
{%- for dialect, clock, suffix in [
    ('fivetran', 'calendar', '_minutes_fivetran'),
    ('fivetran', 'business', '_business_minutes_fivetran'),
    ('zendesk', 'business', '_business_minutes_zendesk'),
] -%}
    {%- do found.append({
        'metric': 'first_reply', 'dialect': dialect, 'clock': clock,
        'cohort': 'first_reply', 'value': 'first_reply' ~ suffix,
        'day': 'coalesce(first_reply_date, opened_date)',
    }) -%}
    {%- do found.append({
        'metric': 'first_resolution', 'dialect': dialect, 'clock': clock,
        'day': 'first_resolved_date', 'value': 'first_resolution' ~ suffix,
    }) -%}
    {%- do found.append({
        'metric': 'full_resolution', 'dialect': dialect, 'clock': clock,
        'day': 'last_solved_date', 'value': 'full_resolution' ~ suffix,
        'when': solved,
    }) -%}
{%- endfor -%}
{%- for metric, column in {
    'agent_replies': 'agent_reply_count',
    'customer_messages': 'customer_message_count',
    'internal_notes': 'internal_note_count',
    'handoffs': 'handoff_count',
}.items() -%}
    {%- do found.append({
        'metric': metric, 'cohort': 'solved', 'day': 'last_solved_date',
        'value': column, 'when': solved
    }) -%}
{%- endfor -%}
{%- do found.append({
    'metric': 'duration_weighted_csat', 'cohort': 'solved',
    'day': 'last_solved_date', 'when': solved,
    'value': duration_weighted_score(
        '(1 + 4 * csat_share)', 'full_resolution_minutes'
    ),
    'left_out': "if(csat_share is null, 'not_rated', 'no_duration')",
}) -%}
{%- do found.append({
    'metric': 'resolution_time_ratio', 'cohort': 'solved',
    'day': 'last_solved_date', 'when': solved,
    'value': resolution_time_ratio(),
    'left_out': "'no_duration'",
}) -%}
{{ return(found) }}
{%- endmacro %}

{% macro list_case_shares() -%}
{%- set solved = "status in ('solved', 'closed')" -%}
{%- set found = [] -%}
{%- for dialect, column in {
    'house': 'reopen_count',
    'fivetran': 'reopen_count_fivetran',
    'mozilla': 'reopen_count_mozilla',
}.items() -%}
    {%- do found.append({
        'metric': 'reopen', 'dialect': dialect, 'day': 'first_resolved_date',
        'hits': column ~ ' > 0'
    }) -%}
{%- endfor -%}
{%- for metric, touch in {
    'zero_touch': 'none', 'one_touch': 'one', 'two_touch': 'two',
    'multi_touch': 'multi'
}.items() -%}
    {%- do found.append({
        'metric': metric, 'day': 'last_solved_date', 'when': solved,
        'hits': "touch = '" ~ touch ~ "'"
    }) -%}
{%- endfor -%}
{%- for metric, touch in {
    'one_touch': 'one', 'two_touch': 'two', 'multi_touch': 'multi'
}.items() -%}
    {%- do found.append({
        'metric': metric, 'dialect': 'fivetran', 'day': 'last_solved_date',
        'when': solved, 'hits': "touch_fivetran = '" ~ touch ~ "'"
    }) -%}
{%- endfor -%}
{%- do found.append({
    'metric': 'first_contact', 'day': 'last_solved_date', 'when': solved,
    'among': 'first_contact_resolved is not null',
    'hits': 'first_contact_resolved',
    'left_out': "'window_not_over'",
}) -%}
{%- for metric in ['good_to_bad', 'bad_to_good'] -%}
    {%- do found.append({
        'metric': metric, 'day': 'last_solved_date', 'when': solved,
        'among': 'csat_satisfied is not null',
        'hits': metric ~ '_count > 0',
        'left_out': "'not_rated'",
    }) -%}
{%- endfor -%}
{{ return(found) }}
{%- endmacro %}

{#- The columns that say which metric a row belongs to. #}
{% macro name_metric(spec) -%}
'{{ spec.metric }}' as metric,
        '{{ spec.get("dialect", "house") }}' as dialect,
        '{{ spec.get("clock", "calendar") }}' as clock,
        '{{ spec.get("cohort", "solved") }}' as cohort,
        {{ spec.day }} as cohort_date
{%- endmacro %}

{#-
  The metrics of cases by what they have in common: the day on which a case
  counts and which cases can count at all. One pass over the cases gives the
  sums of a whole cohort.
-#}
{% macro list_case_cohorts() -%}
{%- set found = {} -%}
{%- for spec in list_case_means() + list_case_shares() -%}
    {%- set key = spec.day ~ spec.get('when', '') -%}
    {%- if key not in found -%}
        {%- do found.update({
            key: {'day': spec.day, 'when': spec.get('when'), 'specs': []}
        }) -%}
    {%- endif -%}
    {%- do found[key].specs.append(spec) -%}
{%- endfor -%}
{{ return(found.values() | list) }}
{%- endmacro %}

{#- The sums of a metric over a group of cases, as a struct. #}
{% macro sum_case_metric(spec) -%}
struct_pack(
            metric := '{{ spec.metric }}',
            dialect := '{{ spec.get("dialect", "house") }}',
            clock := '{{ spec.get("clock", "calendar") }}',
            cohort := '{{ spec.get("cohort", "solved") }}',
            {%- if spec.value %}
            numerator := null::double,
            denominator := null::double,
            value_sum := sum({{ spec.value }})::double,
            value_sum_squares := sum(({{ spec.value }}) ^ 2)::double,
            value_count := count({{ spec.value }})::double,
            left_out_count := {% if spec.left_out -%}
                (count(*) - count({{ spec.value }}))::double
            {%- else %}null::double{% endif %}
            {%- else %}
            {%- set among = spec.get('among', 'true') %}
            numerator := count(*) filter (
                where {{ among }} and {{ spec.hits }}
            )::double,
            denominator := count(*) filter (where {{ among }})::double,
            value_sum := null::double,
            value_sum_squares := null::double,
            value_count := null::double,
            left_out_count := null::double
            {%- endif %}
        )
{%- endmacro %}

{% macro sum_case_metrics(specs) -%}
[
        {%- for spec in specs %}
        {{ sum_case_metric(spec) }}
        {%- if not loop.last %},{% endif %}
        {%- endfor %}
        ]
{%- endmacro %}

{#-
  The records behind the sums. What does not count has a reason in place of
  its numbers.
-#}
{% macro list_case_mean(spec, dimensions) -%}
select
        {{ name_metric(spec) }},
        case_id,
        {{ dimensions | join(',\n        ') }},
        case
            when is_excluded then exclusion_reason
            {%- if spec.left_out %}
            when ({{ spec.value }}) is null then {{ spec.left_out }}
            {%- endif %}
        end as left_out_reason,
        if(left_out_reason is null, {{ spec.value }}, null)::double
            as value_sum,
        {%- if spec.left_out %}
        if(is_excluded, null, (({{ spec.value }}) is not null)::int)::double
            as value_count,
        if(is_excluded, null, (({{ spec.value }}) is null)::int)::double
            as left_out_count
        {%- else %}
        if(left_out_reason is null, 1.0, null)::double as value_count
        {%- endif %}
    from cases
    where
        {{ spec.day }} is not null
        {%- if spec.when %}
        and {{ spec.when }}
        {%- endif %}
        {%- if not spec.left_out %}
        and {{ spec.value }} is not null
        {%- endif %}
{%- endmacro %}

{% macro list_case_share(spec, dimensions) -%}
select
        {{ name_metric(spec) }},
        case_id,
        {{ dimensions | join(',\n        ') }},
        case
            when is_excluded then exclusion_reason
            {%- if spec.among %}
            when not ({{ spec.among }}) then {{ spec.left_out }}
            {%- endif %}
        end as left_out_reason,
        if(
            left_out_reason is null,
            coalesce({{ spec.hits }}, false)::int,
            null
        )::double as numerator,
        if(left_out_reason is null, 1.0, null)::double as denominator
    from cases
    where
        {{ spec.day }} is not null
        {%- if spec.when %}
        and {{ spec.when }}
        {%- endif %}
{%- endmacro %}

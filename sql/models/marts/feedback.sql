{{ config(materialized='view') }}

with

feedback as (

    select * from {{ ref('stg_feedback') }}

),

labels as (

    select * from {{ ref('stg_labels') }}

),

identities as (

    select * from {{ ref('int_customer_identities') }}

),

final as (

    select
        feedback.feedback_id,
        feedback.source,
        feedback.source_kind,
        feedback.source_record_id,
        feedback.url,
        feedback.channel,
        feedback.case_id,
        coalesce(identities.customer_id, feedback.customer_ref)
            as customer_id,
        feedback.product,
        feedback.language,
        feedback.created_at,
        feedback.updated_at,
        feedback.captured_at,
        feedback.title,
        feedback.body,
        feedback.rating,
        feedback.rating_min,
        feedback.rating_max,
        feedback.rating_share,
        labels.feedback_type,
        labels.feedback_type_score,
        labels.need,
        labels.need_score,
        labels.sentiment,
        labels.sentiment_score,
        labels.priority,
        labels.priority_score,
        labels.priority_reasons,
        labels.is_unsure,
        labels.summary,
        labels.keywords,
        null::varchar as issue_id,
        if(labels.feedback_id is null, null, 'model') as label_source,
        labels.model_version,
        feedback.is_opening,
        feedback.duplicate_of,
        coalesce(feedback.is_excluded, false) as is_excluded,
        feedback.exclusion_reason
    from feedback
    left join labels
        on
            feedback.feedback_id = labels.feedback_id
            and feedback.text_hash = labels.text_hash
    left join identities on feedback.customer_ref = identities.customer_ref

)

select * from final

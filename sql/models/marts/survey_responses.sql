with

responses as (

    select * from {{ ref('stg_survey_responses') }}

),

identities as (

    select * from {{ ref('int_customer_identities') }}

),

scaled as (

    select
        responses.*,
        (responses.score - responses.scale_min)
        / nullif(responses.scale_max - responses.scale_min, 0) as raw_share,
        if(coalesce(responses.higher_is_better, true), raw_share, 1 - raw_share)
            as score_share,
        responses.scale_max - responses.scale_min + 1 as points
    from responses

),

final as (

    select
        scaled.response_id,
        scaled.source,
        scaled.survey_id,
        scaled.question_id,
        scaled.kind,
        scaled.score,
        scaled.scale_min,
        scaled.scale_max,
        scaled.higher_is_better,
        scaled.score_share,
        case
            when scaled.kind <> 'csat' then null
            when scaled.scale_max >= 100 and scaled.scale_min <= -100
                then scaled.score > 100
            when scaled.points >= 10 then scaled.score_share > 0.85
            else scaled.score_share >= 0.75
        end as is_satisfied,
        case
            when scaled.kind <> 'nps' or scaled.score_share is null then null
            when scaled.score_share >= 0.9 then 'promoter'
            when scaled.score_share <= 0.6 then 'detractor'
            else 'passive'
        end as nps_group,
        if(scaled.kind = 'ces', scaled.score_share >= 4 / 6 - 1e-9, null)
            as is_easy,
        scaled.comment,
        coalesce(identities.customer_id, scaled.customer_ref) as customer_id,
        scaled.case_id,
        scaled.offered_at,
        scaled.answered_at,
        scaled.is_partial,
        scaled.source_response_id,
        coalesce(scaled.is_excluded, false) as is_excluded,
        scaled.exclusion_reason
    from scaled
    left join identities on scaled.customer_ref = identities.customer_ref

)

select * from final

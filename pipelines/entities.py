"""The canonical entities: what every source is mapped to in staging.

One Arrow schema an entity. ``LINEAGE`` columns come first in each and say where a row came from.
``KEYS`` names the columns that identify a record within its source; several versions of one key may
stand in staging, the latest ``updated_at`` (then ``captured_at``) wins in ``clean``.
"""

from __future__ import annotations

import pyarrow as pa

INSTANT = pa.timestamp("us", tz="UTC")

LINEAGE = [
    pa.field("source", pa.string()),
    pa.field("source_kind", pa.string()),
    pa.field("record_id", pa.string()),  # the raw record that the row was read from
    pa.field("captured_at", INSTANT),
    pa.field("run_id", pa.string()),
    pa.field("url", pa.string()),
]


def _schema(*fields: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema(LINEAGE + [pa.field(name, kind) for name, kind in fields])


FEEDBACK = _schema(
    ("source_record_id", pa.string()),
    ("channel", pa.string()),
    ("source_case_id", pa.string()),
    ("source_customer_id", pa.string()),
    ("customer_source", pa.string()),  # the source whose ids source_customer_id uses; NULL: its own
    ("case_source", pa.string()),  # likewise for source_case_id
    ("author", pa.string()),  # a display name; it identifies nobody, but tells two writers apart
    ("product", pa.string()),
    ("language", pa.string()),  # as the source says; NULL: to be detected
    ("created_at", INSTANT),
    ("updated_at", INSTANT),
    ("title", pa.string()),
    ("body", pa.string()),
    ("rating", pa.float64()),
    ("rating_min", pa.float64()),
    ("rating_max", pa.float64()),
    ("tags", pa.list_(pa.string())),
    ("attachments", pa.list_(pa.string())),  # names of files; the files stay where they are
)

MESSAGES = _schema(
    ("source_record_id", pa.string()),
    ("source_case_id", pa.string()),
    ("author_id", pa.string()),
    ("author_role", pa.string()),  # customer agent bot system; NULL: found from agents in clean
    ("is_public", pa.bool_()),
    ("channel", pa.string()),
    ("created_at", INSTANT),
    ("body", pa.string()),
    ("sequence", pa.int64()),
    ("attachments", pa.list_(pa.string())),
)

CASES = _schema(
    ("source_case_id", pa.string()),
    ("channel", pa.string()),
    ("subject", pa.string()),
    ("source_customer_id", pa.string()),
    ("submitter_id", pa.string()),  # who opened it; differs from the customer if an agent did
    ("priority", pa.string()),
    ("status", pa.string()),
    ("source_group", pa.string()),
    ("assignee_id", pa.string()),
    ("product", pa.string()),
    ("tags", pa.list_(pa.string())),
    ("merged_into", pa.string()),
    ("opened_at", INSTANT),
    ("updated_at", INSTANT),
)

CASE_EVENTS = _schema(
    ("source_event_id", pa.string()),
    ("source_case_id", pa.string()),
    ("event_at", INSTANT),
    ("event_type", pa.string()),
    ("actor_id", pa.string()),
    ("actor_role", pa.string()),  # NULL: found from agents in clean
    ("is_public", pa.bool_()),
    ("from_value", pa.string()),
    ("to_value", pa.string()),
    ("sequence", pa.int64()),
)

SURVEY_RESPONSES = _schema(
    ("source_response_id", pa.string()),
    ("survey_id", pa.string()),
    ("question_id", pa.string()),
    ("kind", pa.string()),
    ("score", pa.float64()),
    ("scale_min", pa.float64()),
    ("scale_max", pa.float64()),
    ("higher_is_better", pa.bool_()),
    ("comment", pa.string()),
    ("source_customer_id", pa.string()),
    ("customer_source", pa.string()),
    ("source_case_id", pa.string()),
    ("case_source", pa.string()),
    ("offered_at", INSTANT),
    ("answered_at", INSTANT),
    ("is_partial", pa.bool_()),  # the customer left the survey before its end; NULL: not known
    ("updated_at", INSTANT),
)

# What a reviewer said of a case or of an agent's work: a row for each category of a review.
QUALITY_REVIEWS = _schema(
    ("source_review_id", pa.string()),
    ("category", pa.string()),  # NULL: the review has one only
    ("scorecard", pa.string()),
    ("score", pa.float64()),  # as selected; NULL: not rated
    ("scale_min", pa.float64()),
    ("scale_max", pa.float64()),
    ("weight", pa.float64()),  # NULL: 1
    ("is_critical", pa.bool_()),  # a failed critical category fails the review
    ("comment", pa.string()),
    ("source_case_id", pa.string()),
    ("case_source", pa.string()),
    ("source_agent_id", pa.string()),  # whose work it was; NULL: whose case it is
    ("source_reviewer_id", pa.string()),
    ("agent_source", pa.string()),  # the source whose ids both use; NULL: its own
    ("reviewed_at", INSTANT),
    ("updated_at", INSTANT),
)

CUSTOMERS = _schema(
    ("source_customer_id", pa.string()),
    ("external_id", pa.string()),  # the id of the same person in the system of record
    ("name", pa.string()),
    ("email", pa.string()),
    ("phone", pa.string()),
    ("organization", pa.string()),
    ("language", pa.string()),
    ("region", pa.string()),
    ("segment", pa.string()),
    ("is_vip", pa.bool_()),
    ("signup_at", INSTANT),
    ("birthday", pa.date32()),
    ("lifetime_value", pa.float64()),
    ("do_not_contact", pa.bool_()),
    ("updated_at", INSTANT),
)

ORDERS = _schema(
    ("source_order_id", pa.string()),
    ("source_customer_id", pa.string()),
    ("customer_source", pa.string()),
    ("ordered_at", INSTANT),
    ("product", pa.string()),
    ("quantity", pa.float64()),
    ("amount", pa.float64()),
    ("currency", pa.string()),
    ("status", pa.string()),
    ("updated_at", INSTANT),
)

# What a help desk says of a case's metrics itself, to be compared with ours.
VENDOR_METRICS = _schema(
    ("source_case_id", pa.string()),
    ("metric", pa.string()),  # one of VENDOR_METRIC_NAMES
    ("clock", pa.string()),  # calendar business; counts have calendar
    ("value", pa.float64()),  # minutes, or a count
    ("updated_at", INSTANT),
)

AGENTS = _schema(
    ("source_agent_id", pa.string()),
    ("external_id", pa.string()),
    ("name", pa.string()),
    ("email", pa.string()),
    ("role", pa.string()),  # agent bot
    ("team", pa.string()),
    ("languages", pa.list_(pa.string())),
    ("is_active", pa.bool_()),
    ("updated_at", INSTANT),
)

# What a source says is gone. The rows that the record gave stay and are left out: a tombstone often
# holds nothing but an id, and must not overwrite what was known.
DELETIONS = _schema(
    ("deleted_entity", pa.string()),  # one of DELETABLE; messages are feedback
    ("source_record_id", pa.string()),  # the record's id among those of that entity
    ("merged_into", pa.string()),  # customers: the id of the one it went into; NULL: just deleted
    ("deleted_at", INSTANT),  # NULL: the source does not say; gone when it was captured
    ("updated_at", INSTANT),
)

SCHEMAS: dict[str, pa.Schema] = {
    "feedback": FEEDBACK,
    "messages": MESSAGES,
    "cases": CASES,
    "case_events": CASE_EVENTS,
    "survey_responses": SURVEY_RESPONSES,
    "quality_reviews": QUALITY_REVIEWS,
    "customers": CUSTOMERS,
    "orders": ORDERS,
    "agents": AGENTS,
    "vendor_metrics": VENDOR_METRICS,
    "deletions": DELETIONS,
}

KEYS: dict[str, tuple[str, ...]] = {
    "feedback": ("source", "source_record_id"),
    "messages": ("source", "source_record_id"),
    "cases": ("source", "source_case_id"),
    "case_events": ("source", "source_event_id"),
    "survey_responses": ("source", "source_response_id", "question_id"),
    "quality_reviews": ("source", "source_review_id", "category"),
    "customers": ("source", "source_customer_id"),
    "orders": ("source", "source_order_id"),
    "agents": ("source", "source_agent_id"),
    "vendor_metrics": ("source", "source_case_id", "metric", "clock"),
    "deletions": ("source", "source_record_id", "deleted_entity"),
}

# The instant that says when the thing happened: bounds are checked on it.
EVENT_TIME: dict[str, str | None] = {
    "feedback": "created_at",
    "messages": "created_at",
    "cases": "opened_at",
    "case_events": "event_at",
    "survey_responses": "answered_at",
    "quality_reviews": "reviewed_at",
    "customers": None,
    "orders": "ordered_at",
    "agents": None,
    "vendor_metrics": None,
    "deletions": "deleted_at",
}

# The entities whose rows a deletion leaves out; a case that is deleted has an event of its own.
DELETABLE = ("feedback", "survey_responses", "quality_reviews", "customers", "orders")
CHANNELS = ("phone", "email", "chat", "social", "web_form", "review", "survey", "app_store",
            "forum", "api", "other")  # fmt: skip
CASE_STATUSES = ("new", "open", "pending", "hold", "solved", "closed", "deleted")
PRIORITIES = ("urgent", "high", "normal", "low")
EVENT_TYPES = ("created", "customer_message", "agent_reply", "internal_note", "bot_message",
               "status_changed", "assignee_changed", "group_changed", "priority_changed",
               "tags_changed", "rated", "merged", "deleted")  # fmt: skip
ACTOR_ROLES = ("customer", "agent", "bot", "system")
VENDOR_METRIC_NAMES = ("first_reply", "total_reply", "first_resolution", "full_resolution",
                       "requester_wait", "agent_wait", "on_hold", "reopens", "replies",
                       "handling")  # fmt: skip
SURVEY_KINDS = ("csat", "nps", "ces", "other")
FEEDBACK_TYPES = ("suggestion", "complaint", "praise", "question", "other")
NEEDS = ("sales", "technical", "after_sales", "other")
SENTIMENTS = ("positive", "neutral", "negative")


def _facts(*fields: tuple[str, pa.DataType]) -> pa.Schema:
    ends = [("changed_in", pa.int64())]  # the facts manifest's version that last wrote the row
    return pa.schema([pa.field(name, kind) for name, kind in [*fields, *ends]])


# The facts that clean writes: one row per id at its latest version, redacted. ``*_ref`` columns are
# md5 ids of (source, source id) before customers of several sources are joined into one.
FACTS: dict[str, pa.Schema] = {
    "feedback": _facts(
        ("feedback_id", pa.string()),
        ("source", pa.string()),
        ("source_kind", pa.string()),
        ("source_record_id", pa.string()),
        ("url", pa.string()),
        ("channel", pa.string()),
        ("case_id", pa.string()),
        ("customer_ref", pa.string()),
        ("product", pa.string()),
        ("language", pa.string()),
        ("created_at", INSTANT),
        ("updated_at", INSTANT),
        ("captured_at", INSTANT),
        ("title", pa.string()),
        ("body", pa.string()),
        ("rating", pa.float64()),
        ("rating_min", pa.float64()),
        ("rating_max", pa.float64()),
        ("rating_share", pa.float64()),  # 0 worst … 1 best
        ("text_hash", pa.string()),  # md5 of title and body as they stand here
        ("is_opening", pa.bool_()),  # the message that opened a case
        ("duplicate_of", pa.string()),
        ("is_excluded", pa.bool_()),
        ("exclusion_reason", pa.string()),  # deleted case_deleted spam test auto_reply bounce bulk
    ),
    "cases": _facts(
        ("case_id", pa.string()),
        ("source", pa.string()),
        ("source_kind", pa.string()),
        ("source_case_id", pa.string()),
        ("url", pa.string()),
        ("channel", pa.string()),
        ("subject", pa.string()),
        ("customer_ref", pa.string()),
        ("priority", pa.string()),
        ("status", pa.string()),
        ("source_group", pa.string()),
        ("assignee_ref", pa.string()),
        ("product", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("merged_into", pa.string()),
        ("opened_at", INSTANT),
        ("opened_by_role", pa.string()),  # customer agent bot system
        ("updated_at", INSTANT),
        ("is_excluded", pa.bool_()),
        ("exclusion_reason", pa.string()),  # deleted merged spam test opened_by_bot
    ),
    "case_events": _facts(
        ("event_id", pa.string()),
        ("case_id", pa.string()),
        ("source", pa.string()),
        ("event_at", INSTANT),
        ("event_type", pa.string()),
        ("actor_ref", pa.string()),
        ("actor_role", pa.string()),
        ("is_public", pa.bool_()),
        ("from_value", pa.string()),
        ("to_value", pa.string()),
        ("sequence", pa.int64()),
    ),
    "survey_responses": _facts(
        ("response_id", pa.string()),
        ("source", pa.string()),
        ("survey_id", pa.string()),
        ("question_id", pa.string()),
        ("kind", pa.string()),
        ("score", pa.float64()),
        ("scale_min", pa.float64()),
        ("scale_max", pa.float64()),
        ("higher_is_better", pa.bool_()),
        ("comment", pa.string()),
        ("customer_ref", pa.string()),
        ("case_id", pa.string()),
        ("offered_at", INSTANT),
        ("answered_at", INSTANT),
        ("is_partial", pa.bool_()),
        ("source_response_id", pa.string()),
        ("captured_at", INSTANT),
        ("is_excluded", pa.bool_()),
        ("exclusion_reason", pa.string()),  # deleted
    ),
    "quality_reviews": _facts(
        ("rating_id", pa.string()),  # of one category of a review
        ("review_id", pa.string()),
        ("source", pa.string()),
        ("source_review_id", pa.string()),
        ("category", pa.string()),
        ("scorecard", pa.string()),
        ("score", pa.float64()),
        ("scale_min", pa.float64()),
        ("scale_max", pa.float64()),
        ("weight", pa.float64()),
        ("is_critical", pa.bool_()),
        ("comment", pa.string()),
        ("case_id", pa.string()),
        ("agent_ref", pa.string()),
        ("reviewer_ref", pa.string()),
        ("reviewed_at", INSTANT),
        ("updated_at", INSTANT),
        ("captured_at", INSTANT),
        ("is_excluded", pa.bool_()),
        ("exclusion_reason", pa.string()),  # deleted
    ),
    "vendor_metrics": _facts(
        ("vendor_metric_id", pa.string()),
        ("case_id", pa.string()),
        ("source", pa.string()),
        ("metric", pa.string()),
        ("clock", pa.string()),
        ("value", pa.float64()),
        ("updated_at", INSTANT),
    ),
    "customers": _facts(
        ("customer_ref", pa.string()),
        ("source", pa.string()),
        ("source_customer_id", pa.string()),
        ("external_id", pa.string()),
        ("email_key", pa.string()),  # keyed hash of the mail address
        ("display_name", pa.string()),  # a pseudonym unless privacy shows names
        ("organization", pa.string()),
        ("language", pa.string()),
        ("region", pa.string()),
        ("segment", pa.string()),
        ("is_vip", pa.bool_()),
        ("signup_at", INSTANT),
        ("birthday_month_day", pa.string()),  # MM-DD
        ("lifetime_value", pa.float64()),
        ("do_not_contact", pa.bool_()),
        ("updated_at", INSTANT),
        ("captured_at", INSTANT),
        ("merged_into", pa.string()),  # customer_ref of the record that it went into
        ("is_excluded", pa.bool_()),
        ("exclusion_reason", pa.string()),  # deleted merged
    ),
    "orders": _facts(
        ("order_id", pa.string()),
        ("source", pa.string()),
        ("source_order_id", pa.string()),
        ("customer_ref", pa.string()),
        ("ordered_at", INSTANT),
        ("product", pa.string()),
        ("quantity", pa.float64()),
        ("amount", pa.float64()),
        ("currency", pa.string()),
        ("status", pa.string()),
        ("updated_at", INSTANT),
        ("captured_at", INSTANT),
        ("is_excluded", pa.bool_()),
        ("exclusion_reason", pa.string()),  # deleted
    ),
    "agents": _facts(
        ("agent_ref", pa.string()),
        ("source", pa.string()),
        ("source_agent_id", pa.string()),
        ("external_id", pa.string()),
        ("email_key", pa.string()),
        ("display_name", pa.string()),
        ("role", pa.string()),
        ("team", pa.string()),
        ("languages", pa.list_(pa.string())),
        ("is_active", pa.bool_()),
        ("updated_at", INSTANT),
    ),
}

FACT_KEYS: dict[str, str] = {
    "feedback": "feedback_id",
    "cases": "case_id",
    "case_events": "event_id",
    "survey_responses": "response_id",
    "quality_reviews": "rating_id",
    "customers": "customer_ref",
    "orders": "order_id",
    "agents": "agent_ref",
    "vendor_metrics": "vendor_metric_id",
}

# The instants whose first non-NULL one gives the day (in UTC) a fact is filed under; none: ``all``.
FACT_DAYS: dict[str, tuple[str, ...]] = {
    "feedback": ("created_at", "captured_at"),
    "cases": ("opened_at", "updated_at"),
    "case_events": ("event_at",),
    "survey_responses": ("answered_at", "offered_at"),
    "quality_reviews": ("reviewed_at",),
    "customers": (),
    "orders": ("ordered_at",),
    "agents": (),
    "vendor_metrics": (),
}

# What classify writes, one row per feedback row whose text has been labelled.
LABELS = pa.schema(
    [
        pa.field(name, kind)
        for name, kind in [
            ("feedback_id", pa.string()),
            ("text_hash", pa.string()),
            ("model_version", pa.string()),
            ("feedback_type", pa.string()),
            ("feedback_type_score", pa.float64()),
            ("need", pa.string()),
            ("need_score", pa.float64()),
            ("sentiment", pa.string()),
            ("sentiment_score", pa.float64()),
            ("priority", pa.string()),
            ("priority_score", pa.float64()),
            ("priority_reasons", pa.list_(pa.string())),
            ("is_unsure", pa.bool_()),
            ("summary", pa.string()),
            ("keywords", pa.list_(pa.string())),
            ("classified_at", INSTANT),
            ("changed_in", pa.int64()),  # the labels manifest's version that last wrote the row
        ]
    ]
)

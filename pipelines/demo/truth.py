"""What is really in the demo data, so that tests can ask whether a pipeline found it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

LABELS_FILE = "truth_labels.jsonl"
TRUTH_FILE = "truth.json"


@dataclass
class Truth:
    """The planted and counted facts of one demo world as it was at ``as_of``.

    Instants are ISO 8601 in UTC, ids are the source's own. Pairs are ``{source, id, of}``.
    """

    seed: int
    until: str
    scale: float
    as_of: str
    period_start: str
    period_end: str
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """By ``source.stream``: ``records_served`` (rows or records, repeats included),
    ``distinct_ids`` (ids that can be read) and ``valid_ids`` (ids a correct pipeline accepts; of
    survey rows, those with nothing to reject)."""
    exact_duplicates: list[dict[str, str]] = field(default_factory=list)
    near_duplicates: list[dict[str, str]] = field(default_factory=list)
    repeated_rows: list[dict[str, str]] = field(default_factory=list)
    """Rows that stand in their file twice, sign for sign."""
    late_changes: list[dict[str, str]] = field(default_factory=list)
    """``{source, stream, id, changed_at}``: old records that changed in the last days."""
    spam: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)
    opened_by_bot: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    merged: list[dict[str, str]] = field(default_factory=list)
    invalid_rows: list[dict[str, Any]] = field(default_factory=list)
    """``{source, stream, file, line, id, reason}``; line counts from 1, the header included; NULL
    for records of the help desk. Both rows of a conflicting id are listed."""
    surge: dict[str, Any] = field(default_factory=dict)
    """``{product, product_names, day, count, base_per_day, by_language,
    by_source}`` of complaints."""
    slow_team: dict[str, Any] = field(default_factory=dict)
    """``{team, target_hours, share_missed, share_missed_others, missed_by_team}``."""
    unanswered_complaints: list[str] = field(default_factory=list)
    low_satisfaction: list[dict[str, str]] = field(default_factory=list)
    """``{case_id, rated_at}`` of cases rated bad after they were solved."""
    low_survey_answers: list[dict[str, str]] = field(default_factory=list)
    """``{case_id, rated_at}`` of cases called bad by a survey that was answered after their last
    solve: CSAT 1 to 3 of 5, or NPS 0 to 6."""
    quality: dict[str, int] = field(default_factory=dict)
    """``{reviews, passed, failed_critical}``: quality reviews, those of 80 points or more, and
    those that a critical category failed."""
    at_risk: list[dict[str, str]] = field(default_factory=list)
    """``{case_id, priority, opened_at, breach_at}``: no reply yet, target (calendar clock: urgent
    1 h, high 4 h, normal 8 h, low 24 h) ends within 8 hours after the period."""
    breached: list[dict[str, str]] = field(default_factory=list)
    """The same of cases without a reply whose target has ended."""

    def save(self, directory: Path) -> None:
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1)
        (directory / TRUTH_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Truth:
        data = json.loads((directory / TRUTH_FILE).read_text(encoding="utf-8"))
        return cls(**{key: data[key] for key in (f.name for f in fields(cls)) if key in data})


def read_labels(directory: Path) -> list[dict[str, Any]]:
    """The label of every feedback item.

    ``{source, source_record_id, part (opening message rating review survey post), case_id,
    feedback_type, need, sentiment, priority, language, author_role, created_at}``.
    """
    with (directory / LABELS_FILE).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]

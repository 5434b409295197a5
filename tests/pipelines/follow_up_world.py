"""A small world for the tests of follow_up, publish, deliver, query and tasks: settings with teams,
and a build file with the warehouse's tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from pipelines.context import Run, start_run
from pipelines.settings import Settings, load_settings

NOW = datetime(2026, 11, 18, 4, 0, tzinfo=UTC)  # Wednesday noon in Shanghai

CONFIG = """
[project]
home = "home"
time_zone = "Asia/Shanghai"
calendar = "office"

[[calendars]]
name = "office"
time_zone = "Asia/Shanghai"
[calendars.hours]
monday = ["09:00-12:00", "13:30-18:00"]
tuesday = ["09:00-12:00", "13:30-18:00"]
wednesday = ["09:00-12:00", "13:30-18:00"]
thursday = ["09:00-12:00", "13:30-18:00"]
friday = ["09:00-12:00", "13:30-18:00"]

[[teams]]
name = "support"
needs = ["technical"]
members = [
  { name = "An", email = "an@example.org", languages = ["en", "zh"], daily_capacity = 4 },
  { name = "Bo", email = "bo@example.org", languages = ["en"], daily_capacity = 2 },
]

[[teams]]
name = "售后"
needs = ["after_sales", "other"]
members = [{ name = "陈晨", email = "chen@example.org", languages = ["zh"], daily_capacity = 3 }]
"""

CANDIDATE_COLUMNS = {
    "rule": "VARCHAR",
    "reason": "VARCHAR",
    "reason_zh": "VARCHAR",
    "evidence": "VARCHAR[]",
    "customer_id": "VARCHAR",
    "case_id": "VARCHAR",
    "feedback_id": "VARCHAR",
    "team": "VARCHAR",
    "need": "VARCHAR",
    "priority": "VARCHAR",
    "language": "VARCHAR",
    "score": "DOUBLE",
    "occurred_at": "TIMESTAMPTZ",
    "due_at": "TIMESTAMPTZ",
    "due_basis_at": "TIMESTAMPTZ",
    "due_minutes": "DOUBLE",
    "suggested_action": "VARCHAR",
    "suggested_action_zh": "VARCHAR",
    "url": "VARCHAR",
}


def make_settings(folder: Path, extra: str = "", config: str = CONFIG) -> Settings:
    path = folder / "hearback.toml"
    path.write_text(config + extra, encoding="utf-8")
    return load_settings(path)


def make_run(settings: Settings, now: datetime = NOW, run_id: str = "r1") -> Run:
    return start_run(settings, now=now, run_id=run_id)


def candidate(**values: Any) -> dict[str, Any]:
    """A candidate about case ``c1`` unless values say otherwise."""
    base: dict[str, Any] = {
        "rule": "complaint_open",
        "reason": "A complaint has no answer",
        "reason_zh": "投诉尚未回复",
        "evidence": ["f1"],
        "customer_id": "u1",
        "case_id": "c1",
        "feedback_id": None,
        "team": "support",
        "need": "technical",
        "priority": "high",
        "language": "en",
        "score": 1.0,
        "occurred_at": datetime(2026, 11, 17, 2, 0, tzinfo=UTC),
        "due_at": None,
        "due_basis_at": datetime(2026, 11, 18, 3, 30, tzinfo=UTC),
        "due_minutes": 60.0,
        "suggested_action": "Answer the customer",
        "suggested_action_zh": "回复客户",
        "url": "https://desk.example/c1",
    }
    return {**base, **values}


def write_candidates(settings: Settings, rows: Sequence[dict[str, Any]]) -> None:
    """Replace follow_up_candidates (and nothing else) in the build file."""
    from pipelines.storage import Home

    path = Home(settings).build
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(path)) as con:
        con.execute("set time zone 'UTC'")
        columns = ", ".join(f"{name} {kind}" for name, kind in CANDIDATE_COLUMNS.items())
        con.execute(f"create or replace table follow_up_candidates ({columns})")
        marks = ", ".join("?" * len(CANDIDATE_COLUMNS))
        for row in rows:
            con.execute(
                f"insert into follow_up_candidates values ({marks})",
                [row[name] for name in CANDIDATE_COLUMNS],
            )


def read_build(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    from pipelines.storage import Home

    with duckdb.connect(str(Home(settings).build), read_only=True) as con:
        con.execute("set time zone 'UTC'")
        return con.execute(query).fetchall()

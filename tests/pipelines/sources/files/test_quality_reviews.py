"""Quality reviews from a file and a table: a row for each category, and what is no rating."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from pipelines.settings import Source
from tests.pipelines.sources.pulling import make_source, quarantined, stage

HEADER = ("review", "item", "points", "low", "high", "share", "must", "at")
ROWS: list[tuple[Any, ...]] = [
    ("R1", "tone", 4, 1, 5, 2, "yes", "2026-11-03 08:00:00"),
    ("R1", "solution", None, 1, 5, 1, "no", "2026-11-03 08:00:00"),
    ("R2", "tone", 1, 0, 1, None, "no", "2026-11-03 09:00:00"),
    ("R3", "tone", 6, 1, 5, 1, "no", "2026-11-03 09:00:00"),
    ("R4", "tone", 5, 1, 5, -1, "no", "2026-11-03 09:00:00"),
    ("R5", "tone", 5, 1, 5, 1, "no", None),
    ("R6", "tone", 5, 1, 5, 1, "perhaps", "2026-11-03 09:00:00"),
]
COLUMNS = {
    "source_review_id": "review", "category": "item", "score": "points", "scale_min": "low",
    "scale_max": "high", "weight": "share", "is_critical": "must", "reviewed_at": "at",
}  # fmt: skip
STAGED = {
    ("R1", "tone", 4, 2, True), ("R1", "solution", None, 1, False), ("R2", "tone", 1, None, False),
}  # fmt: skip
REASONS = {
    "R3": "rating_out_of_scale", "R4": "negative_weight", "R5": "missing_date",
    "R6": "unknown_value",
}  # fmt: skip


def check_staged(folder: Path, source: Source) -> None:
    rows = stage(folder, source)["quality_reviews"]
    names = ("source_review_id", "category", "score", "weight", "is_critical")
    assert {tuple(row[name] for name in names) for row in rows} == STAGED
    found = {row["record_id"]: row["reasons"] for row in quarantined(folder, source)}
    assert {key: [r.split(":")[0] for r in reasons] for key, reasons in found.items()} == {
        key: [reason] for key, reason in REASONS.items()
    }


def test_ratings_of_a_file(tmp_path: Path) -> None:
    lines = [HEADER, *(["" if cell is None else cell for cell in row] for row in ROWS)]
    text = "\n".join(",".join(map(str, line)) for line in lines)
    (tmp_path / "reviews.csv").write_text(text, encoding="utf-8")
    options = {"path": "reviews.csv", "entity": "quality_reviews", "columns": COLUMNS}
    check_staged(tmp_path, make_source("csv", options=options))


def test_ratings_of_a_table(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "qa.sqlite") as session:
        session.execute(f"create table reviews ({', '.join(HEADER)})")
        session.executemany("insert into reviews values (?, ?, ?, ?, ?, ?, ?, ?)", ROWS)
    session.close()
    options = {
        "path": "qa.sqlite", "table": "reviews", "entity": "quality_reviews", "columns": COLUMNS,
    }  # fmt: skip
    check_staged(tmp_path, make_source("sql", connection=None, options=options))

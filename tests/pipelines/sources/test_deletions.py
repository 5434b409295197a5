"""What the configuration calls gone: columns that mark it, ids that are not listed any more."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UsageError
from pipelines.mapping import Field, Mapping
from pipelines.sources.columns import check_columns
from pipelines.sources.deletions import map_marked
from pipelines.sources.files import Options
from pipelines.sources.known_ids import MARKED, map_gone
from tests.pipelines.sources.pulling import make_source, one, quarantined, stage


def stage_lines(
    folder: Path, rows: list[dict[str, Any]], **options: Any
) -> dict[str, list[dict[str, Any]]]:
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    source = make_source("jsonl", options={"path": "rows.jsonl", **options})
    staged = stage(folder, source)
    assert quarantined(folder, source) == []
    return staged


def keys(staged: dict[str, list[dict[str, Any]]]) -> set[tuple[str, str]]:
    return {(row["deleted_entity"], row["source_record_id"]) for row in staged.get("deletions", [])}


def test_a_tombstone_without_a_text_is_no_empty_feedback(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "text": "Broken on arrival", "gone": False},
        {"id": "2", "text": "Late again", "gone": True, "at": "2026-11-03T08:00:00Z"},
        {"id": "3", "text": "", "gone": "是"},
        {"id": "4", "text": "Fine", "gone": None},
    ]
    columns = {"source_record_id": "id", "body": "text", "is_deleted": "gone", "deleted_at": "at"}
    staged = stage_lines(tmp_path, rows, columns=columns)
    assert {row["source_record_id"] for row in staged["feedback"]} == {"1", "2", "4"}
    assert keys(staged) == {("feedback", "2"), ("feedback", "3")}
    told = one(staged["deletions"], source_record_id="2")
    assert told["deleted_at"] == datetime(2026, 11, 3, 8, tzinfo=UTC)


def test_a_time_of_deletion_alone_is_a_mark(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "amount": 5, "gone_at": None},
        {"id": "2", "gone_at": "2026-11-03 08:00"},
        {"id": "3", "amount": 7, "gone_at": "2026-11-03 08:00"},
    ]
    columns = {"source_order_id": "id", "amount": "amount", "deleted_at": "gone_at"}
    staged = stage_lines(
        tmp_path, rows, entity="orders", columns=columns, time_zone="Asia/Shanghai"
    )
    assert {row["source_order_id"]: row["amount"] for row in staged["orders"]} == {"1": 5, "3": 7}
    assert keys(staged) == {("orders", "2"), ("orders", "3")}
    assert {row["deleted_at"] for row in staged["deletions"]} == {datetime(2026, 11, 3, tzinfo=UTC)}


def test_no_record_needs_to_have_a_mark(tmp_path: Path) -> None:
    columns = {"source_record_id": "id", "body": "text", "is_deleted": "gone"}
    staged = stage_lines(tmp_path, [{"id": "1", "text": "Fine"}], columns=columns)
    assert len(staged["feedback"]) == 1
    assert keys(staged) == set()


def test_merged_and_deleted_customers(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "name": "Jo", "state": "live"},
        {"id": "2", "name": "Joe", "state": "live", "into": "1"},
        {"id": "3", "name": "Ann", "state": "trashed"},
        {"id": "4", "state": "trashed", "into": "3"},
    ]
    columns = {
        "source_customer_id": "id", "name": "name", "is_deleted": "state", "merged_into": "into",
    }  # fmt: skip
    staged = stage_lines(
        tmp_path, rows, entity="customers", columns=columns,
        values={"is_deleted": {"trashed": "true", "live": "false"}},
    )  # fmt: skip
    assert {row["source_customer_id"] for row in staged["customers"]} == {"1", "2", "3"}
    assert {row["source_record_id"]: row["merged_into"] for row in staged["deletions"]} == {
        "2": "1", "3": None, "4": "3",
    }  # fmt: skip


def test_a_deleted_response_takes_its_comment_along(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "score": 5, "other": 3, "words": "Good", "gone": False},
        {"id": "2", "score": 1, "other": 2, "words": "Bad", "gone": True},
    ]
    staged = stage_lines(
        tmp_path, rows, entity="survey", id="id", comment="words", columns={"is_deleted": "gone"},
        questions=[{"column": "score", "kind": "csat", "scale": [1, 5]},
                   {"column": "other", "kind": "ces", "scale": [1, 7]}],
    )  # fmt: skip
    assert len(staged["survey_responses"]) == 4
    assert len(staged["deletions"]) == 2
    assert keys(staged) == {("survey_responses", "2"), ("feedback", "2")}


def test_a_list_of_deletions_is_an_entity(tmp_path: Path) -> None:
    staged = stage_lines(
        tmp_path,
        [{"what": "review", "id": "7", "at": "2026-11-03T08:00:00Z"}],
        entity="deletions",
        columns={"source_record_id": "id", "deleted_entity": "what", "deleted_at": "at"},
        values={"deleted_entity": {"review": "feedback"}},
    )
    assert keys(staged) == {("feedback", "7")}


def test_a_mark_that_an_entity_cannot_have_is_named() -> None:
    columns = {"source_order_id": "id", "merged_into": "into"}
    options = Options.model_validate({"path": "x", "entity": "orders", "columns": columns})
    source = make_source("jsonl", options={})
    with pytest.raises(UsageError, match="orders has no column 'merged_into'"):
        check_columns(source, options)


@pytest.mark.parametrize("entity", [name for name in MARKED if name not in ("cases", "agents")])
def test_a_row_that_is_not_listed_any_more_is_gone(entity: str) -> None:
    told = {mapping.fields["deleted_entity"].const for mapping in map_gone(entity)}
    assert told == {
        "survey": {"survey_responses", "feedback"}, "messages": {"feedback"},
    }.get(entity, {entity})  # fmt: skip


def test_without_marks_a_mapping_stays_as_it_is() -> None:
    mapping = Mapping("feedback", "feedback", {"source_record_id": Field("id")})
    assert map_marked(mapping, {}) == [mapping]

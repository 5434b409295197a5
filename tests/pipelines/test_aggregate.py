"""The step: what it rebuilds, what it leaves, and what it says when something fails."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "sql"))

from mart_world import AS_OF, World

from pipelines import aggregate
from pipelines.errors import HearbackError

TABLES = ("cases", "sla_events", "metrics_daily", "survey_responses", "follow_up_candidates",
          "intermediate.int_case_statuses")  # fmt: skip


def fill(world: World) -> None:
    """Cases in all states of life, answers, and a customer of two systems."""
    world.add_case("old", "02 02:00", status="solved", customer_ref="a")
    world.add_event("old", "02 03:00", "agent_reply")
    world.add_status("old", "02 04:00", "new", "solved")
    world.add_case("running", "19 02:00", customer_ref="b")
    world.add_case("awaited", "20 11:50", customer_ref="c")
    world.add_case("solved of late", "16 02:00", status="solved", customer_ref="d")
    world.add_status("solved of late", "16 03:00", "new", "solved")
    world.add_case("to be erased", "10 02:00", customer_ref="e")
    world.add_feedback("review", "12 02:00", channel="review")
    world.add_answer("answer", "12 02:00", "csat", 5, case_id="old")
    for name, mail in (("a", "one"), ("b", "two")):
        world.put("customers", name, customer_ref=name, source="support",
                  source_customer_id=name, email_key=mail)  # fmt: skip


def change(world: World) -> None:
    """What one more day may bring: new, late, moved, relabelled, joined."""
    world.add_case("new", "20 23:00", customer_ref="a")
    # A late reply and a late reopening of an old case.
    world.add_event("old", "02 02:30", "agent_reply")
    world.add_status("old", "20 13:00", "solved", "open")
    world.rows["cases"]["old"] |= {"status": "open", "changed_in": world.version}
    # A new case of a customer whose earlier one was solved this week.
    world.add_case("again", "21 01:00", customer_ref="d")
    world.add_feedback("review", "12 02:00", channel="review", label={"sentiment": "negative"})
    world.add_answer("answer", "12 02:00", "csat", 5, case_id="old")
    world.add_answer("better answer", "20 14:00", "csat", 1, case_id="old")
    world.put("customers", "b", customer_ref="b", source="support",
              source_customer_id="b", email_key="one")  # fmt: skip


def dump(world: World) -> dict[str, list[dict[str, Any]]]:
    """All rows of the stored tables, in order, sums rounded."""
    found = {}
    for table in TABLES:
        rows = world.query(f"select * from {table}")
        rounded = [
            {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()} for row in rows
        ]
        found[table] = sorted(rounded, key=repr)
    return found


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, World]:
    """The same facts, built day by day and built at once."""
    stepwise, at_once = (World(tmp_path_factory.mktemp(name)) for name in ("stepwise", "at_once"))
    fill(stepwise)
    stepwise.commit()
    stepwise.build()
    for world in (stepwise, at_once):
        if world is at_once:
            fill(world)
        change(world)
        world.commit()
    stepwise.build(AS_OF + timedelta(days=1))
    at_once.build(AS_OF + timedelta(days=1))
    return stepwise, at_once


@pytest.mark.parametrize("table", TABLES)
def test_day_by_day_equals_at_once(worlds: tuple[World, World], table: str) -> None:
    stepwise, at_once = worlds
    assert dump(stepwise)[table] == dump(at_once)[table]


def test_only_touched_cases_are_rebuilt(worlds: tuple[World, World]) -> None:
    stepwise, _ = worlds
    rows = stepwise.query("select case_id from run.touched_cases where is_changed order by all")
    assert [row["case_id"] for row in rows] == ["again", "new", "old"]


def test_running_twice_changes_nothing(worlds: tuple[World, World]) -> None:
    stepwise, _ = worlds
    before = dump(stepwise)
    stepwise.build(AS_OF + timedelta(days=1))
    assert dump(stepwise) == before


def test_counts_close_and_erased_rows_leave_the_marts(worlds: tuple[World, World]) -> None:
    _, world = worlds
    world.remove("cases", "to be erased")
    world.remove("feedback", "opening of to be erased")
    world.commit()
    counts = world.build(AS_OF + timedelta(days=1))
    assert [(c.entity, c.count_in, c.count_out) for c in counts] == [
        ("feedback", 7, 7), ("cases", 6, 6)
    ]  # fmt: skip
    assert world.query("select 1 from cases where case_id = 'to be erased'") == []


def test_descriptions_stand_in_the_file_as_comments(worlds: tuple[World, World]) -> None:
    stepwise, _ = worlds
    bare = stepwise.query(
        "select schema_name, table_name, column_name from duckdb_columns() "
        "where schema_name = 'main' and not internal and comment is null"
    )
    assert bare == []
    tables = stepwise.query(
        "select table_name, comment from duckdb_tables() where schema_name = 'main' union all "
        "select view_name, comment from duckdb_views() where schema_name = 'main' and not internal"
    )
    assert [
        row["table_name"] for row in tables if "One row per" not in (row["comment"] or "")
    ] == []


def test_views_work_under_another_name(worlds: tuple[World, World], tmp_path: Path) -> None:
    stepwise, _ = worlds
    copy = tmp_path / "published.duckdb"
    copy.write_bytes(stepwise.home.build.read_bytes())
    with duckdb.connect() as con:
        con.execute(f"attach '{copy}' as elsewhere (read_only)")
        rows = con.execute("select count(*) from elsewhere.feedback").fetchall()
    assert rows == [(8,)]


def test_interrupted_run_is_followed_by_a_full_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    fill(world)
    world.commit()
    world.build()
    modes: list[bool] = []

    def cut_off(run: object, *, is_full: bool, with_tests: bool = False) -> None:
        modes.append(is_full)
        raise KeyboardInterrupt

    monkeypatch.setattr(aggregate, "build_marts", cut_off)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            world.build()
    assert modes == [False, True]


def test_failing_model_is_named_with_its_compiled_sql(tmp_path: Path) -> None:
    # Nothing stands in the build file yet.
    world = World(tmp_path)
    world.home.build.parent.mkdir(parents=True)
    with pytest.raises(HearbackError) as caught:
        aggregate.invoke_dbt(world.home, ["run", "--select", "stg_feedback"])
    assert "model stg_feedback (sql/models/staging/stg_feedback.sql) failed" in caught.value.message
    assert "compiled SQL is" in caught.value.message
    assert "\n" not in caught.value.message


def test_empty_lake_gives_empty_marts(tmp_path: Path) -> None:
    world = World(
        tmp_path, calendars=[], teams=[], sla_policies=[], project={"home": str(tmp_path)}
    )
    world.build()
    assert world.query("select count(*) as n from cases") == [{"n": 0}]
    assert world.query("select count(*) as n from feedback") == [{"n": 0}]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"name": "unanswered_complain"}, "did you mean 'unanswered_complaint'"),
        (
            {"name": "unanswered_complaint", "thresholds": {"hour": 2}},
            "no threshold 'hour', did you mean 'hours'",
        ),
    ],
)
def test_unknown_rule_or_threshold_is_named(
    tmp_path: Path, rule: dict[str, Any], message: str
) -> None:
    world = World(tmp_path, follow_up_rules=[rule])
    with pytest.raises(HearbackError, match=message):
        world.build()


def test_rules_are_switched_off_and_tuned(tmp_path: Path) -> None:
    rules = [
        {"name": "first_reply_at_risk", "thresholds": {"hours": 10_000}},
        {"name": "low_satisfaction_after_resolution", "enabled": False},
    ]
    world = World(tmp_path, follow_up_rules=rules)
    fill(world)
    world.add_answer("bad answer", "14 02:00", "nps", 0, case_id="old")
    world.commit()
    world.build()
    rows = world.query("select rule, case_id from follow_up_candidates order by all")
    assert {row["rule"] for row in rows} == {"first_reply_at_risk"}
    assert "awaited" in {row["case_id"] for row in rows}

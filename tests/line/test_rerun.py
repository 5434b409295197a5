"""A second run of the same day adds nothing twice and leaves people's work alone."""

from __future__ import annotations

import json

from tests.line.world import Contents, Scenario, compare, find_entries, open_warehouse

TASK_TABLES = ("main.follow_up_tasks", "main.follow_up_events")


def without_tasks(tables: Contents) -> Contents:
    return {name: rows for name, rows in tables.items() if name not in TASK_TABLES}


def test_all_tables_are_the_same(finished: Scenario) -> None:
    first, second = finished.notes["first"]["tables"], finished.notes["second"]["tables"]
    assert len(first["main.feedback"]) > 1000
    assert compare(without_tasks(first), without_tasks(second)) == {}


def list_files(manifests: Contents) -> Contents:
    """The files that count; what a source remembers of its last visit may change."""
    return {
        name: sorted(entry["path"] for entry in find_entries(json.loads(text)))
        for name, (text,) in manifests.items()
    }


def test_no_file_is_added_or_replaced(finished: Scenario) -> None:
    first, second = (list_files(finished.notes[name]["manifests"]) for name in ("first", "second"))
    assert sum(map(len, first.values())) > 100
    assert compare(first, second) == {}


def test_tasks_are_the_same_but_for_the_edited_one(finished: Scenario) -> None:
    edited = finished.notes["edited"]
    first, second = (
        {row["task_id"]: row for row in map(json.loads, picture["tables"][TASK_TABLES[0]])}
        for picture in (finished.notes["first"], finished.notes["second"])
    )
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == [edited]


def test_status_given_by_a_person_stays(finished: Scenario) -> None:
    with open_warehouse(finished.home) as con:
        found = con.execute(
            "select status, outcome from follow_up_tasks where task_id = ?",
            [finished.notes["edited"]],
        ).fetchall()
    assert found == [("done", "called back")]


def test_run_reports_close(finished: Scenario) -> None:
    with open_warehouse(finished.home) as con:
        runs, not_closed = con.execute(
            "select count(distinct run_id), count(*) filter (not is_closed) from run_report"
        ).fetchall()[0]
    assert (runs, not_closed) == (2, 0)

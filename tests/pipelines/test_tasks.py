from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook

from pipelines import follow_up, tasks
from pipelines.errors import HearbackError, UsageError
from pipelines.report.words import describe_state, make_harmless, restore
from pipelines.settings import Settings
from pipelines.storage import Home
from pipelines.task_store import open_store
from tests.pipelines.follow_up_world import candidate, make_run, make_settings, write_candidates

SHANGHAI = ZoneInfo("Asia/Shanghai")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Three tasks: c1 (urgent, Bo), c2 (low, An), c3 (Chinese, 陈晨)."""
    settings = make_settings(tmp_path)
    rows = [
        candidate(priority="urgent"),
        candidate(case_id="c2", priority="low", rule="nps_low"),
        candidate(case_id="c3", team="售后", language="zh"),
    ]
    write_candidates(settings, rows)
    follow_up.run(make_run(settings))
    return settings


def state(settings: Settings, case_id: str) -> tuple[Any, ...]:
    con = open_store(Home(settings).tasks)
    try:
        row = con.execute(
            "select status, owner, outcome from tasks where case_id = ?", [case_id]
        ).fetchone()
        return tuple(row)
    finally:
        con.close()


def find_id(settings: Settings, case_id: str) -> str:
    con = open_store(Home(settings).tasks)
    try:
        found = con.execute("select task_id from tasks where case_id = ?", [case_id]).fetchone()
        return str(found[0])
    finally:
        con.close()


def events(settings: Settings) -> list[tuple[Any, ...]]:
    con = open_store(Home(settings).tasks)
    try:
        return con.execute(
            "select event_type, from_value, to_value, note from events where run_id is null"
        ).fetchall()
    finally:
        con.close()


# list -----------------------------------------------------------------------------------------


def list_cases(settings: Settings, **options: Any) -> list[str]:
    out = io.StringIO()
    tasks.list_tasks(settings, form="json", out=out, **options)
    return [json.loads(line)["case_id"] for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, ["c1", "c3", "c2"]),
        ({"team": "support"}, ["c1", "c2"]),
        ({"owner": "an@example.org"}, ["c2"]),
        ({"owner": "none"}, []),
        ({"status": "done"}, []),
        ({"status": "all"}, ["c1", "c3", "c2"]),
        ({"rule": "nps_low"}, ["c2"]),
    ],
)
def test_list_filters(settings: Settings, options: dict[str, Any], found: list[str]) -> None:
    assert list_cases(settings, **options) == found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"team": "suport"}, "there is no team 'suport', did you mean 'support'"),
        ({"owner": "Ann"}, "owner 'Ann' is no member of a team, did you mean 'An'"),
        ({"status": "dne"}, "status 'dne' is not known, did you mean 'done'"),
        ({"rule": "nps"}, "there is no rule 'nps'"),
        ({"form": "xml"}, "use table, csv or json"),
    ],
)
def test_list_refuses_what_does_not_exist(
    settings: Settings, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        tasks.list_tasks(settings, **options)


def test_list_shows_local_due_time(settings: Settings) -> None:
    out = io.StringIO()
    tasks.list_tasks(settings, form="csv", out=out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert rows[0]["due_at"] == "2026-11-18 14:30"  # counted from the first list, at noon


def test_list_is_readable(settings: Settings) -> None:
    out = io.StringIO()
    tasks.list_tasks(settings, out=out)
    assert "3 tasks" in out.getvalue()


# change ---------------------------------------------------------------------------------------


def test_done_keeps_outcome_and_history(settings: Settings) -> None:
    line = tasks.complete_task(settings, find_id(settings, "c1")[:8], "refunded")
    assert state(settings, "c1") == ("done", "Bo", "refunded")
    assert "status done" in line
    assert ("status_changed", "open", "done", None) in events(settings)
    assert ("outcome_changed", None, "refunded", None) in events(settings)


def test_done_twice_is_done_once(settings: Settings) -> None:
    tasks.complete_task(settings, find_id(settings, "c1"))
    before = events(settings)
    assert "no change" in tasks.complete_task(settings, find_id(settings, "c1"))
    assert events(settings) == before


def test_snooze_and_assign(settings: Settings) -> None:
    tasks.snooze_task(settings, find_id(settings, "c1"), "3d")
    assert state(settings, "c1")[0] == "snoozed"
    tasks.assign_task(settings, find_id(settings, "c1"), "AN@example.org")
    assert state(settings, "c1")[1] == "An"
    tasks.assign_task(settings, find_id(settings, "c1"), "none")
    assert state(settings, "c1")[1] is None


@pytest.mark.parametrize(
    ("task_id", "message"),
    [("ffff", "there is none"), ("xyz1", "not a task id"), ("a", "not a task id")],
)
def test_unknown_id_is_refused(settings: Settings, task_id: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tasks.complete_task(settings, task_id)


def test_snooze_into_the_past_is_refused(settings: Settings) -> None:
    with pytest.raises(UsageError, match="has passed"):
        tasks.snooze_task(settings, find_id(settings, "c1"), "2020-01-01")


def test_finished_task_is_not_snoozed(settings: Settings) -> None:
    tasks.complete_task(settings, find_id(settings, "c1"))
    with pytest.raises(UsageError, match="is done: nothing to put off"):
        tasks.snooze_task(settings, find_id(settings, "c1"), "3d")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-30", datetime(2026, 11, 30, tzinfo=SHANGHAI)),
        ("2026-11-30 14:05", datetime(2026, 11, 30, 14, 5, tzinfo=SHANGHAI)),
        ("2026-11-30T14:05:00", datetime(2026, 11, 30, 14, 5, tzinfo=SHANGHAI)),
        ("2026/11/3", datetime(2026, 11, 3, tzinfo=SHANGHAI)),
        ("2026年11月3日", datetime(2026, 11, 3, tzinfo=SHANGHAI)),
        ("46356", datetime(2026, 11, 30, tzinfo=SHANGHAI)),  # a spreadsheet's day number
        ("46356.5", datetime(2026, 11, 30, 12, tzinfo=SHANGHAI)),
        (datetime(2026, 11, 30), datetime(2026, 11, 30, tzinfo=SHANGHAI)),
    ],
)
def test_dates_are_read_as_people_write_them(text: Any, instant: datetime) -> None:
    assert tasks.read_local_time(text, SHANGHAI) == instant


@pytest.mark.parametrize("text", ["11/12/2026", "30.11.26", "2026-13-01", "tomorrow", "2026-1"])
def test_dates_that_could_mean_two_things_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write it like 2026-11-30"):
        tasks.read_local_time(text, SHANGHAI)


@given(st.text())
def test_harmless_cells_come_back_as_they_were(value: str) -> None:
    safe = make_harmless(value)
    assert not safe.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert restore(safe) == value or value.startswith("'")


# taking a list back ---------------------------------------------------------------------------

HEAD = ["Owner", "Status", "Snooze until", "Outcome", "As listed", "Task id"]


def write_list(path: Path, rows: list[list[Any]], head: list[str] = HEAD) -> Path:
    if path.suffix == ".xlsx":
        book = Workbook()
        sheet = book.active
        assert sheet is not None
        for row in [head, *rows]:
            sheet.append(row)
        book.save(path)
    else:
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file).writerows([head, *rows])
    return path


def row_of(settings: Settings, case_id: str, **edits: Any) -> list[Any]:
    status, owner, outcome = state(settings, case_id)
    cells = {
        "owner": owner,
        "status": status.replace("_", " "),
        "snooze": None,
        "outcome": outcome,
        "base": describe_state(status, owner, outcome),
        "id": find_id(settings, case_id),
    }
    return list({**cells, **edits}.values())


@pytest.mark.parametrize("name", ["list.xlsx", "list.csv"])
def test_edits_are_taken(settings: Settings, tmp_path: Path, name: str) -> None:
    rows = [
        row_of(settings, "c1", status="done", outcome="-solved"),
        row_of(settings, "c2", owner="Bo", status="in progress"),
        row_of(settings, "c3"),
    ]
    report = tasks.import_list(settings, write_list(tmp_path / name, rows))
    assert (report.read, report.changed, report.unchanged, report.refused) == (3, 2, 1, 0)
    assert report.lines == []
    assert state(settings, "c1") == ("done", "Bo", "-solved")
    assert state(settings, "c2") == ("in_progress", "Bo", None)
    assert state(settings, "c3") == ("open", "陈晨", None)
    assert ("status_changed", "open", "done", f"list {name}") in events(settings)


def test_taking_a_list_twice_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    path = write_list(tmp_path / "list.csv", [row_of(settings, "c1", status="done")])
    tasks.import_list(settings, path)
    before = events(settings)
    report = tasks.import_list(settings, path)
    assert (report.changed, report.unchanged, report.refused) == (0, 1, 0)
    assert events(settings) == before


def test_chinese_words_are_understood(settings: Settings, tmp_path: Path) -> None:
    head = ["负责人", "状态", "推迟到", "处理结果", "列出时", "任务编号"]
    row = row_of(settings, "c3", status="已完成", outcome="已退款或补偿")
    tasks.import_list(settings, write_list(tmp_path / "list.xlsx", [row], head))
    assert state(settings, "c3") == ("done", "陈晨", "已退款或补偿")


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-8"])
def test_csv_as_spreadsheets_save_it(settings: Settings, tmp_path: Path, encoding: str) -> None:
    text = io.StringIO()
    delimiter = "\t" if encoding == "utf-16" else ";"
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows([HEAD, row_of(settings, "c3", status="done", outcome="已解决")])
    path = tmp_path / "list.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    tasks.import_list(settings, path)
    assert state(settings, "c3") == ("done", "陈晨", "已解决")


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"id": "0" * 32}, "row 2: there is no task"),
        ({"id": "1.2e+31"}, "a spreadsheet has turned it into a number"),
        ({"id": ""}, "row 2: the task id is empty"),
        ({"status": "finished"}, "row 2: status 'finished' is not known"),
        ({"status": "expired"}, "status expired is the system's own"),
        ({"status": "snoozed"}, "no day is given to come back on"),
        ({"status": "snoozed", "snooze": "11/12/2026"}, "'11/12/2026' is not a date that can be"),
        ({"owner": "Bob"}, "owner 'Bob' is no member of a team, did you mean 'Bo'"),
    ],
)
def test_fault_is_one_line_and_the_rest_is_taken(
    settings: Settings, tmp_path: Path, edits: dict[str, Any], message: str
) -> None:
    rows = [row_of(settings, "c1", **edits), row_of(settings, "c2", status="done")]
    report = tasks.import_list(settings, write_list(tmp_path / "list.csv", rows))
    assert len(report.lines) == 1
    assert message in report.lines[0]
    assert "\n" not in report.lines[0]
    assert (report.changed, report.refused) == (1, 1)
    assert state(settings, "c1") == ("open", "Bo", None)
    assert state(settings, "c2")[0] == "done"


def test_snooze_date_cell_is_taken(settings: Settings, tmp_path: Path) -> None:
    until = datetime.now() + timedelta(days=9)
    row = row_of(settings, "c1", status="snoozed", snooze=until)
    tasks.import_list(settings, write_list(tmp_path / "list.xlsx", [row]))
    assert state(settings, "c1")[0] == "snoozed"


def test_rows_that_contradict_each_other_are_not_taken(settings: Settings, tmp_path: Path) -> None:
    rows = [row_of(settings, "c1", status="done"), row_of(settings, "c1", status="cancelled")]
    report = tasks.import_list(settings, write_list(tmp_path / "list.csv", rows))
    assert "rows 2 and 3 say different things" in report.lines[0]
    assert (report.refused, state(settings, "c1")[0]) == (2, "open")


def test_conflict_with_a_later_change_is_reported(settings: Settings, tmp_path: Path) -> None:
    row = row_of(settings, "c1", status="in progress")
    tasks.complete_task(settings, find_id(settings, "c1"), "solved")
    report = tasks.import_list(settings, write_list(tmp_path / "list.csv", [row]))
    assert "status was changed to 'done' since the list was written" in report.lines[0]
    assert (report.refused, report.changed) == (1, 0)
    assert state(settings, "c1")[0] == "done"


def test_other_fields_of_a_changed_task_are_taken(settings: Settings, tmp_path: Path) -> None:
    row = row_of(settings, "c1", status="done")
    tasks.assign_task(settings, find_id(settings, "c1"), "An")
    report = tasks.import_list(settings, write_list(tmp_path / "list.csv", [row]))
    assert (report.changed, report.lines) == (1, [])
    assert state(settings, "c1") == ("done", "An", None)


def test_changed_header_is_named(settings: Settings, tmp_path: Path) -> None:
    head = ["Owner", "State", "Snooze until", "Outcomes", "As listed", "Task id"]
    row = row_of(settings, "c1", status="done", owner="An")
    report = tasks.import_list(settings, write_list(tmp_path / "list.csv", [row], head))
    assert any("column 'Outcomes' is not known, did you mean 'Outcome'" in x for x in report.lines)
    assert any("column 'status' is missing" in line for line in report.lines)
    assert state(settings, "c1") == ("open", "An", None)


def test_header_may_stand_lower(settings: Settings, tmp_path: Path) -> None:
    row = row_of(settings, "c1", status="done")
    path = write_list(tmp_path / "list.csv", [HEAD, row], ["my own title", "", "", "", "", ""])
    tasks.import_list(settings, path)
    assert state(settings, "c1")[0] == "done"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("other.csv", b"a,b\n1,2\n", "no column 'Task id' in the first rows"),
        ("empty.csv", b"", "no column 'Task id' in the first rows"),
        ("ids.csv", b"Task id\nabc\n", "nothing to take"),
        ("twice.csv", b"Task id,Status,Status\n", "column 'status' is there twice"),
        ("broken.xlsx", b"PK no zip", "not an XLSX file"),
        ("binary.csv", b"\xff\xfe\x00", "save it as CSV UTF-8"),
    ],
)
def test_file_that_is_no_list_is_refused(
    settings: Settings, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(HearbackError, match=message):
        tasks.import_list(settings, path)


def test_missing_file_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        tasks.import_list(settings, tmp_path / "none.csv")


def test_report_prints_lines_and_counts() -> None:
    out = io.StringIO()
    report = tasks.ImportReport(read=2, changed=1, refused=1, lines=["row 3: x"])
    tasks.print_import(report, out)
    assert out.getvalue().startswith("row 3: x\n2 rows read: 1 changed")


def test_span_counts_from_now() -> None:
    now = datetime(2026, 11, 18, tzinfo=UTC)
    assert tasks.read_until("4h", SHANGHAI, now) == now + timedelta(hours=4)
    assert tasks.read_until("2w", SHANGHAI, now) == now + timedelta(days=14)

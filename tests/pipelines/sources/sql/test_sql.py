"""Databases: SQLite and a real PostgreSQL; MySQL and SQL Server by the statements they are sent."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from pipelines import extract, validate
from pipelines.context import StepCount
from pipelines.errors import HearbackError, UsageError, may_heal
from pipelines.settings import Source
from pipelines.sources import cursors, sql
from tests.pipelines.sources.pulling import (
    NOW,
    latest,
    make_run,
    make_source,
    one,
    pull_all,
    pull_stopping,
    quarantined,
    stage,
)
from tests.pipelines.sources.sql.postgres import connect, start_postgres

COLUMNS = {
    "source_customer_id": "id",
    "name": "name",
    "signup_at": "since",
    "lifetime_value": "spent",
    "is_vip": "vip",
    "updated_at": "changed",
}
TABLE = (
    "create table people (id integer primary key, name text, since text, spent numeric, "
    "vip integer, changed text)"
)


def make_people(folder: Path, *rows: tuple[Any, ...], create: str = TABLE) -> Path:
    """An SQLite file with rows of (id, name, since, spent, vip, changed)."""
    path = folder / "crm.sqlite"
    with sqlite3.connect(path) as session:
        session.execute(create)
        session.executemany("insert into people values (?, ?, ?, ?, ?, ?)", rows)
    session.close()
    return path


def change(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / "crm.sqlite") as session:
        for statement in statements:
            session.execute(statement)
    session.close()


def person(number: int, changed: str | None = "2026-11-01 08:00:00") -> tuple[Any, ...]:
    return (number, f"王 {number}", "2025-01-02", 12.5, 1, changed)


def people(**options: Any) -> Source:
    given = {"path": "crm.sqlite", "table": "people", "entity": "customers", "columns": COLUMNS}
    return make_source("sql", connection=None, options={**given, **options})


def capture(folder: Path, source: Source, now: datetime = NOW) -> StepCount:
    (count,) = extract.run(make_run(folder, source, now=now), source.name)
    return count


def stage_now(folder: Path, source: Source, entity: str) -> tuple[list[dict[str, Any]], StepCount]:
    """All staged rows of an entity, and what the pull of now counted: a deletion is of now."""
    run = make_run(folder, source, now=datetime.now(UTC))
    (count,) = extract.run(run, source.name)
    validate.run(run)
    entries = run.lake.staging_manifest()["files"][entity]
    return [row for entry in entries for row in run.lake.read_table(entry).to_pylist()], count


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "BATCH_ROWS", 3)


# what is captured, and what it becomes ------------------------------------------------------------


def test_every_column_arrives_in_staging(tmp_path: Path) -> None:
    make_people(tmp_path, person(7))
    (row,) = stage(tmp_path, people(cursor="changed"))["customers"]
    assert row["record_id"] == "7"
    assert row["source_customer_id"] == "7"
    assert row["name"] == "王 7"
    assert row["signup_at"] == datetime(2025, 1, 2, tzinfo=UTC)
    assert row["lifetime_value"] == 12.5
    assert row["is_vip"] is True
    assert row["updated_at"] == datetime(2026, 11, 1, 8, tzinfo=UTC)


def test_all_columns_of_a_row_are_kept(tmp_path: Path) -> None:
    make_people(tmp_path, (1, None, "x", 1e300, None, None))
    found, _ = pull_all(people(), tmp_path)
    assert latest(found, "customers")["1"] == {
        "id": 1, "name": None, "since": "x", "spent": 1e300, "vip": None, "changed": None,
    }  # fmt: skip


def test_times_without_a_zone_are_of_the_zone_that_is_told(tmp_path: Path) -> None:
    make_people(tmp_path, person(1))
    (row,) = stage(tmp_path, people(time_zone="Asia/Shanghai"))["customers"]
    assert row["updated_at"] == datetime(2026, 11, 1, 0, tzinfo=UTC)


def test_a_query_is_read_as_a_table(tmp_path: Path) -> None:
    make_people(tmp_path, *(person(n) for n in range(1, 9)))
    query = "select id, name || ' :x 100%' as name, '10:30' as t from people where name like '%7';"
    source = people(table=None, query=query, columns={"name": "name"}, id="id")
    found, _ = pull_all(source, tmp_path)
    assert latest(found, "customers") == {"7": {"id": 7, "name": "王 7 :x 100%", "t": "10:30"}}


def test_a_survey_is_read_from_a_table(tmp_path: Path) -> None:
    make_people(tmp_path, (5, "good", "2026-11-02", 4, 1, "x"))
    source = people(
        entity="survey",
        columns={},
        comment="name",
        answered_at="since",
        questions=[{"column": "spent", "kind": "csat", "scale": [1, 5]}],
    )
    staged = stage(tmp_path, source)
    assert one(staged["survey_responses"], source_response_id="5")["score"] == 4.0
    assert one(staged["feedback"], source_record_id="5")["body"] == "good"


def test_dots_lead_into_json(tmp_path: Path) -> None:
    make_people(tmp_path, (1, '{"first": {"zh": "小伟"}}', None, None, None, None))
    change(tmp_path, "insert into people (id, name) values (2, '{no json')")
    staged = stage(tmp_path, people(columns={"name": "name.first.zh"}))
    assert one(staged["customers"], record_id="1")["name"] == "小伟"
    assert one(staged["customers"], record_id="2")["name"] is None


def test_several_columns_make_an_id(tmp_path: Path) -> None:
    create = TABLE.replace(" primary key", "").replace("changed text", "changed text, "
                                                       "primary key (id, name)")  # fmt: skip
    make_people(tmp_path, (1, "a/b", *[None] * 4), (1, "a", *[None] * 4), create=create)
    found, _ = pull_all(people(columns={"region": "name"}), tmp_path)
    assert set(found["customers"]) == {"1/a%2Fb", "1/a"}


def test_rows_without_an_id_are_kept(tmp_path: Path) -> None:
    create = TABLE.replace("integer primary key", "text")
    make_people(tmp_path, (None, "a", *[None] * 4), (None, "b", *[None] * 4), create=create)
    found, _ = pull_all(people(id="id"), tmp_path)
    assert {payload["name"] for payload in latest(found, "customers").values()} == {"a", "b"}


def test_bytes_that_are_no_text_and_numbers_that_json_has_not(tmp_path: Path) -> None:
    make_people(tmp_path, (1, "x", b"\x00\xff", float("inf"), b"\x01", None))
    change(tmp_path, "update people set name = cast(x'41ff' as text)")
    found, _ = pull_all(people(), tmp_path)
    row = latest(found, "customers")["1"]
    assert (row["name"], row["since"], row["spent"], row["vip"]) == ("A\\xff", "AP8=", "inf", 1)


def test_values_of_databases_have_a_form_in_json() -> None:
    plus8 = datetime(2026, 1, 1, 8, tzinfo=UTC).astimezone()
    row = {
        "d": Decimal("1E+3"), "t": plus8, "n": datetime(2026, 1, 1), "day": date(2026, 1, 1),
        "i": timedelta(minutes=1), "m": memoryview(b"hi"), "s": {"b", "a"},
    }  # fmt: skip
    assert json.loads(sql.write_payload(row)) == {
        "d": "1000", "t": "2026-01-01T08:00:00+00:00", "n": "2026-01-01T00:00:00",
        "day": "2026-01-01", "i": 60.0, "m": "aGk=", "s": ["a", "b"],
    }  # fmt: skip


# by the cursor ------------------------------------------------------------------------------------


def test_a_pull_stopped_after_every_batch_has_every_row(tmp_path: Path) -> None:
    rows = [person(n, f"2026-11-01 08:00:{n // 5:02}") for n in range(40)]
    make_people(tmp_path, *rows, person(40, None), person(41, None))
    for source in (people(cursor="changed"), people(cursor="changed", overlap=0), people()):
        found = pull_stopping(source, tmp_path)
        assert set(found["customers"]) == {str(n) for n in range(42)}


def test_ties_at_the_cursor_are_neither_lost_nor_doubled(tmp_path: Path) -> None:
    same = "2026-11-01 08:00:00"
    make_people(tmp_path, *(person(n, same) for n in range(10, 17)))
    source = people(cursor="changed", overlap=0)
    assert capture(tmp_path, source).count_out == 7
    change(tmp_path, f"insert into people values (3, 'late', '', 0, 0, '{same}')")
    count = capture(tmp_path, source)
    assert (count.count_out, count.count_unchanged) == (1, 7)
    count = capture(tmp_path, source)
    assert (count.count_out, count.count_unchanged) == (0, 8)


def test_rows_that_appear_late_are_found_within_the_overlap(tmp_path: Path) -> None:
    make_people(tmp_path, person(1, "2026-11-01 08:00:00"))
    pulls = {}
    for seconds in (0, 120):
        source = people(cursor="changed", overlap=seconds)
        _, pulls[seconds] = pull_all(source, tmp_path)
    change(tmp_path, "insert into people values (2, 'late', '', 0, 0, '2026-11-01 07:58:30')")
    without, _ = pull_all(people(cursor="changed", overlap=0), tmp_path, pulls[0])
    within, _ = pull_all(people(cursor="changed", overlap=120), tmp_path, pulls[120])
    assert set(without["customers"]) == {"1"}
    assert set(within["customers"]) == {"1", "2"}


def test_only_rows_from_the_cursor_on_are_read(tmp_path: Path) -> None:
    make_people(tmp_path, *(person(n, f"2026-11-{n:02} 08:00:00") for n in range(1, 20)))
    source = people(cursor="changed")
    _, position = pull_all(source, tmp_path)
    change(tmp_path, "update people set name = 'new', changed = '2026-11-19 09:00' where id = 4")
    found, _ = pull_all(source, tmp_path, position)
    assert set(found["customers"]) == {"4", "19"}
    assert latest(found, "customers")["4"]["name"] == "new"


def test_rows_without_a_cursor_are_read_each_time(tmp_path: Path) -> None:
    make_people(tmp_path, person(1, None), person(2))
    source = people(cursor="changed")
    assert capture(tmp_path, source).count_out == 2
    change(tmp_path, "update people set name = 'new' where id = 1")
    count = capture(tmp_path, source)
    assert (count.count_out, count.count_unchanged) == (1, 1)


def test_of_several_cursors_the_first_with_a_value_counts(tmp_path: Path) -> None:
    rows = [(n, "x", f"2026-11-{n:02}", 0, 0, None) for n in range(1, 10)]
    make_people(tmp_path, *rows, (10, "x", "2020-01-01", 0, 0, "2026-11-10"))
    source = people(cursor=["changed", "since"])
    found, position = pull_all(source, tmp_path)
    assert len(found["customers"]) == 10
    found, _ = pull_all(source, tmp_path, position)
    assert set(found["customers"]) == {"9", "10"}


def test_a_time_of_the_future_hides_no_row_of_today(tmp_path: Path) -> None:
    make_people(tmp_path, person(1, "2099-01-01 00:00:00"))
    source = people(cursor="changed")
    _, position = pull_all(source, tmp_path)
    change(tmp_path, "insert into people values (2, 'now', '', 0, 0, '2026-11-20 11:59:00')")
    found, _ = pull_all(source, tmp_path, position)
    assert set(found["customers"]) == {"1", "2"}


def test_the_first_day_is_obeyed(tmp_path: Path) -> None:
    make_people(tmp_path, person(1, "2025-12-31 23:59:59"), person(2, "2026-01-01 00:00:00"))
    source = people(cursor="changed").model_copy(update={"start": date(2026, 1, 1)})
    found, _ = pull_all(source, tmp_path)
    assert set(found["customers"]) == {"2"}


def test_another_cursor_begins_anew(tmp_path: Path) -> None:
    make_people(tmp_path, *(person(n) for n in range(1, 6)))
    _, position = pull_all(people(cursor="changed"), tmp_path)
    found, _ = pull_all(people(cursor="id", overlap=0), tmp_path, position)
    assert set(found["customers"]) == {"1", "2", "3", "4", "5"}


@pytest.mark.parametrize(
    ("value", "overlap", "expected"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), None, datetime(2025, 12, 31, 23, 55, tzinfo=UTC)),
        (date(2026, 1, 2), None, date(2026, 1, 1)),
        ("2026-01-01T00:00:00Z", 60.0, "2025-12-31T23:59:00Z"),
        ("2026-01-01 00:00:00.500", 60.0, "2025-12-31 23:59:00.500000"),
        ("2026-01-02", 60.0, "2026-01-01"),
        ("abc", 60.0, "abc"),
        (5000, None, 4000),
        (Decimal("5"), 2.0, Decimal("3.0")),
        (b"\x00\x00\x10\x00", None, b"\x00\x00\x0c\x18"),
    ],
)
def test_less_the_overlap(value: Any, overlap: float | None, expected: Any) -> None:
    found = cursors.subtract(
        cursors.read_value(json.loads(json.dumps(cursors.write_value(value)))), overlap
    )
    assert found == expected


# whole each time ----------------------------------------------------------------------------------


def test_only_changed_rows_are_captured(tmp_path: Path) -> None:
    make_people(tmp_path, *(person(n) for n in range(1, 10)))
    assert capture(tmp_path, people()).count_out == 9
    change(tmp_path, "update people set spent = 99 where id = 5")
    count = capture(tmp_path, people())
    assert (count.count_in, count.count_out, count.count_unchanged) == (9, 1, 8)


@pytest.mark.parametrize("cursor", [[], "changed"])
def test_rows_that_are_gone_are_found(tmp_path: Path, cursor: Any) -> None:
    make_people(tmp_path, *(person(n) for n in range(1, 10)))
    source = people(cursor=cursor, deletions=True)
    stage(tmp_path, source)
    change(tmp_path, "delete from people where id in (2, 3)")
    rows, count = stage_now(tmp_path, source, "deletions")
    assert count.count_out == 2
    gone = {(row["deleted_entity"], row["source_record_id"]) for row in rows}
    assert gone == {("customers", "2"), ("customers", "3")}
    assert capture(tmp_path, source).count_out == 0
    assert quarantined(tmp_path, source) == []


def test_a_row_gone_before_the_ids_were_listed_is_found(tmp_path: Path) -> None:
    make_people(tmp_path, *(person(n) for n in range(1, 8)))
    source = people(cursor="changed", deletions=True)
    from tests.pipelines.sources.pulling import make_context

    pull = sql.pull(source, make_context(tmp_path))
    batch = next(pull)
    position = batch.position
    pull.close()  # type: ignore[attr-defined]
    change(tmp_path, "delete from people where id = 1")
    found, _ = pull_all(source, tmp_path, position)
    assert latest(found, "customers")["1"] == {"_deleted": "true"}


def test_a_case_that_is_gone_is_deleted(tmp_path: Path) -> None:
    make_people(tmp_path, *(person(n) for n in range(1, 4)))
    columns = {"source_case_id": "id", "subject": "name", "opened_at": "since", "status": "vip"}
    source = people(
        entity="cases", columns=columns, deletions=True, values={"status": {"1": "open"}}
    )
    stage(tmp_path, source)
    change(tmp_path, "delete from people where id = 2")
    (event,), _ = stage_now(tmp_path, source, "case_events")
    assert (event["source_case_id"], event["event_type"]) == ("2", "deleted")


def test_an_empty_table_is_not_taken_for_deletions(tmp_path: Path) -> None:
    make_people(tmp_path, *(person(n) for n in range(1, 4)))
    source = people(deletions=True)
    capture(tmp_path, source)
    change(tmp_path, "delete from people")
    with pytest.raises(HearbackError, match="no row is left, so none was taken for deleted"):
        capture(tmp_path, source)
    assert capture(tmp_path, people(deletions=True, allow_empty=True)).count_out == 3


# wrong settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "peple"}, "there is no table 'peple', did you mean 'people'"),
        ({"table": "mian.people"}, "there is no schema 'mian', did you mean 'main'"),
        ({"columns": {"name": "nmae"}}, "people has no column 'nmae', did you mean 'name'"),
        ({"cursor": "chanegd"}, "has no column 'chanegd', did you mean 'changed'"),
        ({"id": "di"}, "has no column 'di', did you mean 'id'"),
        ({"ignored": ["vpi"]}, "has no column 'vpi', did you mean 'vip'"),
        ({"columns": {"nam": "name"}}, "customers has no column 'nam', did you mean 'name'"),
        ({"query": "select 1"}, "give either table or query"),
        ({"entity": "vendor_metrics", "deletions": True}, "deletions can be told of feedback,"),
        ({"table": None, "query": "select nam from people"}, "no such column: nam"),
        ({"table": None, "query": "delete from people"}, "syntax error"),
        ({"path": "none.sqlite"}, "unable to open database file; check options.path"),
        ({"path": None}, "needs a connection"),
        ({"columns": {"name": "name"}, "table": "plain"}, "say which columns of plain identify"),
        ({"columns": {"source_customer_id": "name"}, "id": "id", "deletions": True},
         "source_customer_id must be the id"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_at_once(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    make_people(tmp_path, person(1))
    change(tmp_path, "create table plain (name text)")
    with pytest.raises(HearbackError, match=message) as caught:
        pull_all(people(**options), tmp_path)
    assert "\n" not in caught.value.message
    assert not may_heal(caught.value)


def test_the_file_cannot_be_written(tmp_path: Path) -> None:
    session = sql.open_sqlite(f"{make_people(tmp_path, person(1)).as_uri()}?mode=ro")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        session.execute("delete from people")
    session.close()


def test_check_says_how_the_table_is_read(tmp_path: Path) -> None:
    from tests.pipelines.sources.pulling import make_context

    make_people(tmp_path, person(1))
    context = make_context(tmp_path)
    assert sql.check(people(cursor="changed"), context) == "6 columns, read by changed"
    assert sql.check(people(), context) == "6 columns, read whole each time"


# PostgreSQL ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, Any]]:
    with start_postgres() as connection:
        yield connection


@pytest.fixture
def execute(
    server: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """Runs statements on the server, in which the schema ``crm`` is fresh."""
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(server))
    session = connect(server)
    cursor = session.cursor()
    cursor.execute("drop schema if exists crm cascade; create schema crm")
    cursor.execute(
        "create table crm.people (id uuid primary key, name text, spent numeric(12, 2), "
        "tags text[], extra jsonb, photo bytea, since date, changed timestamptz)"
    )
    yield cursor.execute
    session.close()


INSERT = """
insert into crm.people
select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'name ' || n, n / 4.0,
    array['a', 'b'], '{"city": {"zh": "上海"}}', 'xy', '2026-01-02',
    timestamptz '2026-11-01 08:00+08' + interval '1 second' * (n / 5)
from generate_series(1, %s) as n
"""


def postgres_people(**options: Any) -> Source:
    given = {
        "table": "crm.people", "entity": "customers", "cursor": "changed",
        "columns": {"name": "name", "region": "extra.city.zh", "lifetime_value": "spent",
                    "updated_at": "changed"},
    }  # fmt: skip
    return make_source("sql", options={**given, **options})


def test_postgres_values_arrive(tmp_path: Path, execute: Callable[..., Any]) -> None:
    execute(INSERT, (1,))
    found, _ = pull_all(postgres_people(), tmp_path)
    ((record_id, payload),) = latest(found, "customers").items()
    assert record_id == payload["id"] == "00000000-0000-0000-0000-000000000001"
    assert payload["spent"] == "0.25"
    assert payload["tags"] == ["a", "b"]
    assert payload["extra"] == {"city": {"zh": "上海"}}
    assert payload["photo"] == "eHk="
    assert payload["since"] == "2026-01-02"
    assert payload["changed"] == "2026-11-01T00:00:00+00:00"
    (row,) = stage(tmp_path, postgres_people())["customers"]
    assert (row["region"], row["lifetime_value"]) == ("上海", 0.25)


def test_postgres_stopped_after_every_batch(tmp_path: Path, execute: Callable[..., Any]) -> None:
    execute(INSERT, (40,))
    execute("update crm.people set changed = null where spent > 9")
    found = pull_stopping(postgres_people(), tmp_path)
    assert len(found["customers"]) == 40


def test_postgres_goes_on_from_the_cursor(tmp_path: Path, execute: Callable[..., Any]) -> None:
    execute(INSERT, (4000,))
    source = postgres_people()
    assert capture(tmp_path, source).count_out == 4000
    execute("update crm.people set name = 'new', changed = '2026-11-02' where name = 'name 7'")
    count = capture(tmp_path, source)
    assert (count.count_out, count.count_unchanged) == (1, 1501)


def test_postgres_query_with_signs_of_its_own(tmp_path: Path, execute: Callable[..., Any]) -> None:
    execute(INSERT, (20,))
    query = "select id::text as id, name from crm.people where name like '%% 1%' and id <> ':x'"
    query = query.replace("%%", "%").replace("id <> ':x'", "name <> ':x'")
    found, _ = pull_all(
        postgres_people(table=None, query=query, columns={"name": "name"}, id="id", cursor=[]),
        tmp_path,
    )
    assert len(found["customers"]) == 11


def test_postgres_may_only_be_read(tmp_path: Path, execute: Callable[..., Any]) -> None:
    execute(INSERT, (2,))
    execute(
        "create function crm.spoil() returns int language sql as 'delete from crm.people; select 1'"
    )
    query = "select id, name, crm.spoil() as n from crm.people"
    source = postgres_people(table=None, query=query, columns={"name": "name"}, id="id", cursor=[])
    with pytest.raises(HearbackError, match="read-only transaction"):
        pull_all(source, tmp_path)


def test_postgres_query_with_one_name_twice(tmp_path: Path, execute: Callable[..., Any]) -> None:
    source = postgres_people(table=None, query="select id, name, name from crm.people")
    with pytest.raises(UsageError, match="gives the column 'name' twice"):
        pull_all(source, tmp_path)


def test_postgres_names_the_nearest(tmp_path: Path, execute: Callable[..., Any]) -> None:
    with pytest.raises(HearbackError, match=r"no table 'crm\.peple', did you mean 'people'"):
        pull_all(postgres_people(table="crm.peple"), tmp_path)
    with pytest.raises(HearbackError, match="no schema 'cmr', did you mean 'crm'"):
        pull_all(postgres_people(table="cmr.people"), tmp_path)


@pytest.mark.parametrize(
    ("change", "message", "heals"),
    [
        ({"password": "wr0ng-secret"}, "password authentication failed", False),
        ({"schema": "nowhere"}, 'database "nowhere" does not exist', False),
        ({"port": 1}, "Connection refused", True),
    ],
)
def test_postgres_that_cannot_be_used(
    tmp_path: Path,
    server: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    message: str,
    heals: bool,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({**server, **change}))
    with pytest.raises(HearbackError, match=message) as caught:
        pull_all(postgres_people(), tmp_path)
    assert "connection 'desk'" in caught.value.message
    assert "\n" not in caught.value.message
    assert server["password"] not in caught.value.message
    assert "wr0ng" not in caught.value.message
    assert may_heal(caught.value) is heals


def test_postgres_login_that_may_not_read(
    tmp_path: Path,
    server: dict[str, Any],
    execute: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    execute("drop role if exists guest; create role guest login password 'x'")
    execute("grant usage on schema crm to guest")
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({**server, "login": "guest",
                                                        "password": "x"}))  # fmt: skip
    with pytest.raises(HearbackError, match="permission denied for table people; check"):
        pull_all(postgres_people(), tmp_path)


def test_postgres_that_goes_away_while_rows_are_read(
    tmp_path: Path, execute: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(INSERT, (5000,))
    monkeypatch.setattr(sql, "BATCH_ROWS", 500)
    from tests.pipelines.sources.pulling import make_context

    pull = sql.pull(postgres_people(), make_context(tmp_path))
    position = next(pull).position
    execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where pid <> pg_backend_pid() and backend_type = 'client backend'"
    )
    with pytest.raises(HearbackError, match="cannot use the database") as caught:
        list(pull)
    assert may_heal(caught.value)
    found, _ = pull_all(postgres_people(), tmp_path, position)
    assert len(found["customers"]) == 5000


def test_address_instead_of_parts(
    tmp_path: Path,
    server: dict[str, Any],
    execute: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    execute(INSERT, (2,))
    url = f"postgresql://desk@127.0.0.1:{server['port']}/postgres"
    both = {"password": server["password"], "extra": {"url": url}}
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(both))
    found, _ = pull_all(postgres_people(), tmp_path)
    assert len(found["customers"]) == 2


# other databases, by what they are sent -----------------------------------------------------------


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        ({"extra": {"url": "not an address"}}, "is no database address"),
        ({"extra": {"url": "dbase://x/y"}}, "SQLAlchemy knows no such dialect"),
        ({"extra": {"url": "oracle+oracledb://x/y"}}, "driver 'oracledb' is not installed"),
        ({"conn_type": "http", "host": "x"}, "has conn_type 'http'; use one of postgres"),
    ],
)
def test_connections_that_name_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any], message: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(connection))
    with pytest.raises(UsageError, match=message):
        pull_all(postgres_people(), tmp_path)


@pytest.mark.parametrize(
    ("conn_type", "driver", "port"),
    [("mysql", "mysql+pymysql", 3306), ("mssql", "mssql+pymssql", 1433),
     ("postgres", "postgresql+psycopg2", 5432)],
)  # fmt: skip
def test_airflow_connections_become_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conn_type: str, driver: str, port: int
) -> None:
    from tests.pipelines.sources.pulling import make_context

    uri = f"{conn_type}://ann:p%40ss@db.example:{port}/crm?charset=utf8"
    monkeypatch.setenv("AIRFLOW_CONN_DESK", uri)
    source = postgres_people()
    url, secret = sql.find_url(source, sql.Options(**source.options), make_context(tmp_path))
    assert url.render_as_string(hide_password=False) == (
        f"{driver}://ann:p%40ss@db.example:{port}/crm?charset=utf8"
    )
    assert secret == "p@ss"


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ("mysql", "SELECT crm.`order`.id, crm.`order`.`key`, coalesce(crm.`order`.changed, "
         "crm.`order`.made) AS hearback_cursor FROM crm.`order` WHERE "
         "coalesce(crm.`order`.changed, crm.`order`.made) >= %s "
         "ORDER BY coalesce(crm.`order`.changed, crm.`order`.made)"),
        ("mssql", "SELECT crm.[order].id, crm.[order].[key], coalesce(crm.[order].changed, "
         "crm.[order].made) AS hearback_cursor FROM crm.[order] WHERE "
         "coalesce(crm.[order].changed, crm.[order].made) >= :param_1 "
         "ORDER BY coalesce(crm.[order].changed, crm.[order].made)"),
        ("oracle", 'SELECT crm."order".id, crm."order".key, coalesce(crm."order".changed, '
         'crm."order".made) AS hearback_cursor FROM crm."order" WHERE '
         'coalesce(crm."order".changed, crm."order".made) >= :param_1 '
         'ORDER BY coalesce(crm."order".changed, crm."order".made)'),
    ],
)  # fmt: skip
def test_statements_are_in_each_dialect(dialect: str, expected: str) -> None:
    import sqlalchemy as sa
    from sqlalchemy.dialects import registry

    names = ("id", "key", "changed", "made")
    clause = sa.table("order", *[sa.column(name) for name in names], schema="crm")
    relation = sql.Relation(clause, ["id", "key"], ["id"], ["changed", "made"])
    options = sql.Options(table="crm.order", cursor=["changed", "made"], overlap=0)
    position = {"after": cursors.write_value(datetime(2026, 11, 1))}
    reading = sql.Reading(postgres_people(), options, NOW, None, relation, position)
    (nameless, _), (ordered, _) = reading.plan()
    compiled = ordered.compile(dialect=registry.load(dialect)())
    assert " ".join(str(compiled).split()).replace("%(param_1)s", "%s") == expected
    assert list(compiled.params.values()) == [datetime(2026, 11, 1)]
    assert "IS NULL" in str(nameless.compile(dialect=registry.load(dialect)()))


def test_mysql_sessions_may_only_read() -> None:
    session = MagicMock()
    sql.set_session("mysql", session)
    said = [call.args[0] for call in session.cursor().__enter__().execute.call_args_list]
    assert said == ["set session transaction read only", "set session net_write_timeout = 3600"]

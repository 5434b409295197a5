"""Kind ``sql`` on a server of MariaDB, where one is installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import extract
from pipelines.context import StepCount
from pipelines.errors import HearbackError, may_heal
from pipelines.settings import Source
from pipelines.sources import sql
from tests.pipelines.sources.pulling import (
    latest,
    make_context,
    make_run,
    make_source,
    one,
    pull_all,
    pull_stopping,
    stage,
)
from tests.pipelines.sources.sql.mariadb import connect, is_installed, start_mariadb

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs the package mariadb-server")

INSERT = """
insert into people
select concat('p-', seq), concat('王 name ', seq), seq / 4.0, '{{"city": {{"zh": "上海"}}}}',
    x'7879', '2026-01-02', timestamp'2026-11-01 08:00:00' + interval (seq div 5) second, seq % 2,
    '12:30:00', 'b'
from seq_1_to_{count}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, Any]]:
    with start_mariadb() as connection:
        yield connection


@pytest.fixture
def execute(
    server: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """Runs statements on the server, in which the table ``people`` is fresh."""
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(server))
    session = connect(server)
    cursor = session.cursor()
    cursor.execute("drop table if exists people")
    cursor.execute(
        "create table people (id varchar(40) primary key, name text, spent decimal(12, 2), "
        "extra json, photo blob, since date, changed datetime(6), is_vip tinyint(1), "
        "at time, grade enum('a', 'b')) character set utf8mb4"
    )
    yield cursor.execute
    session.close()


def people(**options: Any) -> Source:
    given = {
        "table": "people", "entity": "customers", "cursor": "changed",
        "columns": {"name": "name", "region": "extra.city.zh", "lifetime_value": "spent",
                    "is_vip": "is_vip", "updated_at": "changed"},
        "time_zone": "Asia/Shanghai",
    }  # fmt: skip
    return make_source("sql", options={**given, **options})


def capture(folder: Path, source: Source) -> StepCount:
    (count,) = extract.run(make_run(folder, source), source.name)
    return count


def test_values_arrive(tmp_path: Path, execute: Callable[..., Any]) -> None:
    execute(INSERT.format(count=1))
    found, _ = pull_all(people(), tmp_path)
    ((record_id, payload),) = latest(found, "customers").items()
    assert record_id == payload["id"] == "p-1"
    assert payload["spent"] == "0.25"
    assert payload["name"] == "王 name 1"
    assert payload["extra"] == {"city": {"zh": "上海"}}
    assert payload["photo"] == "eHk="
    assert payload["since"] == "2026-01-02"
    assert payload["at"] == 45_000  # seconds: a time of MariaDB may have more than 24 hours
    assert payload["grade"] == "b"
    assert payload["changed"].startswith("2026-11-01T08:00:00")
    (row,) = stage(tmp_path, people())["customers"]
    assert (row["region"], row["lifetime_value"], row["is_vip"]) == ("上海", 0.25, True)
    assert row["updated_at"].isoformat() == "2026-11-01T00:00:00+00:00"


def test_stopped_after_every_batch(tmp_path: Path, execute: Callable[..., Any]) -> None:
    execute(INSERT.format(count=40))
    execute("update people set changed = null where spent > 9")
    assert len(pull_stopping(people(), tmp_path)["customers"]) == 40


@pytest.mark.parametrize("column", ["datetime(6)", "datetime", "timestamp", "bigint"])
def test_a_pull_goes_on_from_the_cursor(
    tmp_path: Path, execute: Callable[..., Any], column: str
) -> None:
    execute(INSERT.format(count=4000))
    if column == "bigint":
        execute("alter table people add seq bigint, add index (seq)")
        execute("update people set seq = substr(id, 3)")
        new = "seq = 4001"
    else:
        execute(f"alter table people modify changed {column}")
        new = "changed = '2026-11-02'"
    source = people(cursor="seq" if column == "bigint" else "changed")
    assert capture(tmp_path, source).count_out == 4000
    execute(f"update people set name = 'new', {new} where id = 'p-7'")
    count = capture(tmp_path, source)
    assert count.count_out == 1
    assert 0 < count.count_unchanged <= 1502


def test_a_query_with_signs_of_its_own(tmp_path: Path, execute: Callable[..., Any]) -> None:
    execute(INSERT.format(count=20))
    query = "select id, name from people where name like '% 1%' and name <> ':x'"
    source = people(table=None, query=query, columns={"name": "name"}, id="id", cursor=[])
    assert len(pull_all(source, tmp_path)[0]["customers"]) == 11


def test_the_session_may_only_read(tmp_path: Path, execute: Callable[..., Any]) -> None:
    execute(INSERT.format(count=2))
    execute("drop function if exists spoil")
    execute(
        "create function spoil() returns int modifies sql data "
        "begin delete from people; return 1; end"
    )
    query = "select id, name, spoil() as n from people"
    source = people(table=None, query=query, columns={"name": "name"}, id="id", cursor=[])
    with pytest.raises(HearbackError, match="READ ONLY transaction"):
        pull_all(source, tmp_path)
    assert execute("select id from people") == 2


def test_rows_that_are_gone_are_found(tmp_path: Path, execute: Callable[..., Any]) -> None:
    execute(INSERT.format(count=9))
    source = people(deletions=True)
    assert capture(tmp_path, source).count_out == 9
    execute("delete from people where id = 'p-3'")
    assert capture(tmp_path, source).count_out == 1
    row = one(stage(tmp_path, source)["deletions"], source_record_id="p-3")
    assert row["deleted_entity"] == "customers"


def test_names_of_another_table_and_column(tmp_path: Path, execute: Callable[..., Any]) -> None:
    with pytest.raises(HearbackError, match="no table 'peple', did you mean 'people'"):
        pull_all(people(table="peple"), tmp_path)
    with pytest.raises(HearbackError, match="no column 'chnged', did you mean 'changed'"):
        pull_all(people(cursor="chnged"), tmp_path)


def test_text_of_an_old_table_in_latin1(tmp_path: Path, execute: Callable[..., Any]) -> None:
    execute("drop table if exists old")
    execute("create table old (id int primary key, name varchar(40)) character set latin1")
    execute("insert into old values (1, 'Müller – “Köln”')")
    source = people(table="old", columns={"name": "name"}, cursor=[], entity="customers")
    (payload,) = latest(pull_all(source, tmp_path)[0], "customers").values()
    assert payload["name"] == "Müller – “Köln”"


def test_zero_dates_are_no_fault(tmp_path: Path, execute: Callable[..., Any]) -> None:
    """Old applications write them, and the server gives them as text."""
    execute(INSERT.format(count=3))
    execute("set sql_mode = ''")
    execute("update people set since = '0000-00-00', changed = '0000-00-00' where id = 'p-2'")
    found, position = pull_all(people(), tmp_path)
    assert set(found["customers"]) == {"p-1", "p-2", "p-3"}
    again, _ = pull_all(people(), tmp_path, position)
    assert {"p-1", "p-3"} <= set(again["customers"])


@pytest.mark.parametrize(
    ("change", "message", "heals"),
    [
        ({"password": "wr0ng-secret"}, "Access denied", False),
        ({"schema": "nowhere"}, "Unknown database", False),
        ({"port": 1}, "Connection refused", True),
    ],
)
def test_a_server_that_cannot_be_used(
    tmp_path: Path,
    server: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    message: str,
    heals: bool,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({**server, **change}))
    with pytest.raises(HearbackError, match=message) as caught:
        pull_all(people(), tmp_path)
    assert "connection 'desk'" in caught.value.message
    assert "\n" not in caught.value.message
    assert "wr0ng" not in caught.value.message
    assert server["password"] not in caught.value.message
    assert may_heal(caught.value) is heals


def test_a_login_that_may_not_read(
    tmp_path: Path,
    server: dict[str, Any],
    execute: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    execute("create or replace user guest@'127.0.0.1' identified by 'x'")
    execute("drop table if exists other")
    execute("create table other (id int primary key)")
    execute("grant select on crm.other to guest@'127.0.0.1'")
    guest = {**server, "login": "guest", "password": "x"}
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(guest))
    with pytest.raises(HearbackError, match="people") as caught:
        pull_all(people(), tmp_path)
    assert "\n" not in caught.value.message


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the driver
def test_a_server_that_goes_away_while_rows_are_read(
    tmp_path: Path,
    server: dict[str, Any],
    execute: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = 80_000  # more than waits on its way
    execute(INSERT.format(count=count))
    monkeypatch.setattr(sql, "BATCH_ROWS", 500)
    pull = sql.pull(people(), make_context(tmp_path))
    position = next(pull).position
    others = "from information_schema.processlist where user = 'desk' and id <> connection_id()"
    session = connect(server)
    with session.cursor() as cursor:
        cursor.execute(f"select id {others} and command <> 'Sleep'")
        for (number,) in cursor.fetchall():
            cursor.execute(f"kill {number}")
    session.close()
    with pytest.raises(HearbackError, match="cannot use the database") as caught:
        list(pull)
    assert may_heal(caught.value)
    found, _ = pull_all(people(), tmp_path, position)
    assert len(found["customers"]) == count  # the first minutes come again

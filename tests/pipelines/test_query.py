from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import duckdb
import pytest

from pipelines.errors import HearbackError, UsageError
from pipelines.query import read_question, run_query
from pipelines.settings import Settings
from pipelines.storage import Home
from tests.pipelines.follow_up_world import make_settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = make_settings(tmp_path_factory.mktemp("query"))
    path = Home(settings).warehouse
    path.parent.mkdir(parents=True)
    with duckdb.connect(str(path)) as con:
        con.execute("set time zone 'UTC'")
        con.execute(
            "create table follow_up_tasks as select i as n, '任务 [bold]' || i as reason, "
            "timestamptz '2026-11-18 04:00:00+00' as due_at, ['a', 'b'] as evidence, "
            "null::varchar as owner, i > 1 as is_late, 0.5 as score from range(3) t(i)"
        )
        con.execute("create view overdue as from follow_up_tasks where is_late")
    return settings


def ask(settings: Settings, sql: str, form: str = "csv") -> str:
    out = io.StringIO()
    run_query(settings, sql, form, out)
    return out.getvalue()


def test_csv_shows_local_time_and_lists(settings: Settings) -> None:
    text = ask(settings, "select due_at, evidence, owner, is_late from overdue")
    assert list(csv.reader(io.StringIO(text))) == [
        ["due_at", "evidence", "owner", "is_late"],
        ["2026-11-18 12:00:00+08:00", '["a", "b"]', "", "true"],
    ]


def test_json_is_one_object_a_line(settings: Settings) -> None:
    lines = ask(settings, "from follow_up_tasks order by n", "json").splitlines()
    assert json.loads(lines[0]) == {
        "n": 0,
        "reason": "任务 [bold]0",
        "due_at": "2026-11-18 12:00:00+08:00",
        "evidence": ["a", "b"],
        "owner": None,
        "is_late": False,
        "score": 0.5,
    }
    assert len(lines) == 3


def test_table_is_for_people(settings: Settings) -> None:
    text = ask(settings, "select reason, due_at from follow_up_tasks where n = 1", "table")
    assert "任务 [bold]1" in text
    assert "2026-11-18 12:00:00+08:00" in text
    assert text.rstrip().endswith("1 row")


def test_long_table_is_cut_and_says_so(settings: Settings) -> None:
    text = ask(settings, "select unnest(range(1500)) as n", "table")
    assert "first 1,000 rows; --format csv or json shows all" in text


def test_long_answer_is_streamed(settings: Settings) -> None:
    assert ask(settings, "select unnest(range(25000)) as n").count("\n") == 25_001


@pytest.mark.parametrize(
    "sql",
    ["describe follow_up_tasks", "summarize follow_up_tasks", "show tables", "explain select 1",
     "with a as (select 1) select * from a", "values (1)"],
)  # fmt: skip
def test_every_kind_of_question_is_answered(settings: Settings, sql: str) -> None:
    assert ask(settings, sql).count("\n") > 1


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select * from follow_up_task",
         "there is no table 'follow_up_task', did you mean 'follow_up_tasks'?"),
        ("select * from zzzzzz", "there is no table 'zzzzzz'; tables: follow_up_tasks, overdue"),
        ("select ownr from follow_up_tasks", "\"ownr\" not found in FROM clause; nearest: owner"),
        ("selec 1", 'syntax error at or near "selec"'),
        ("select 1;\nselec 2", 'syntax error at or near "selec" \\(line 2\\)'),
        ("select 1; select 2", "give one statement, not 2"),
        (" ", "give one statement, not 0"),
        ("insert into follow_up_tasks (n) values (1)", "INSERT is refused: the warehouse is"),
        ("delete from follow_up_tasks", "DELETE is refused"),
        ("copy follow_up_tasks to 'stolen.csv'", "COPY is refused"),
        ("attach 'other.duckdb'", "ATTACH is refused"),
        ("create temp table x as select 1", "CREATE is refused"),
        ("set memory_limit = '9GB'", "SET is refused"),
        ("explain analyze delete from follow_up_tasks", "statements that write are refused"),
        ("from read_csv('/etc/passwd')", "only the warehouse's own tables can be read"),
        ("select 1 / 'a'", "Could not convert string 'a'"),
    ],
)  # fmt: skip
def test_fault_is_one_line(settings: Settings, sql: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        ask(settings, sql)
    assert "\n" not in caught.value.message


def test_unknown_format_names_the_nearest(settings: Settings) -> None:
    with pytest.raises(UsageError, match="did you mean 'json'"):
        ask(settings, "select 1", "jsn")


def test_nothing_published_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(HearbackError, match="run 'hearback run' first"):
        ask(make_settings(tmp_path), "select 1")


def test_a_question_may_stand_in_a_file(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "question.sql"
    path.write_text("-- How many? 多少？\nselect count(*) as n from follow_up_tasks\n", "utf-8")
    assert ask(settings, read_question(str(path))) == "n\n3\n"
    assert read_question("select 'x.sql' as name") == "select 'x.sql' as name"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read \\(No such file"):
        read_question(str(tmp_path / "none.sql"))

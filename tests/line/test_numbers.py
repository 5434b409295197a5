"""Numbers of the demo: records sum to metrics, examples answer, every table is told."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from pipelines.dbt_project import SQL_FOLDER
from pipelines.explain import COMPONENTS, Question, explain_metric
from pipelines.query import FORMATS
from pipelines.report.page import format_percent
from tests.line.world import Scenario, open_warehouse

EXAMPLES = sorted((SQL_FOLDER / "examples").glob("*.sql"))
MAY_BE_EMPTY = {"08_days_out_of_control"}  # a quiet time has no such days
CUT_BY = ("metric", "dialect", "clock", "cohort", "cohort_date", "counted", "source", "channel",
          "team", "need", "sla_metric")  # fmt: skip


@pytest.fixture(scope="module")
def con(finished: Scenario) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_warehouse(finished.home) as found:
        yield found


def test_records_of_every_metric_sum_to_it(con: duckdb.DuckDBPyConnection) -> None:
    sums = ", ".join(f"round(sum({name}), 3) as {name}" for name in COMPONENTS)
    cut = ", ".join(CUT_BY)
    (stored,), (listed,), (different,) = con.execute(
        f"""
        with stored as (select {cut}, {sums} from metrics_daily group by all),
        listed as (
            select {cut}, {sums} from metric_records
            where left_out_reason is null or left_out_count > 0 group by all
        )
        select count(*) from stored union all select count(*) from listed union all
        select count(*) from (
            (from stored except from listed) union all (from listed except from stored)
        )
        """
    ).fetchall()
    assert stored == listed > 1000
    assert different == 0


def test_every_metric_is_explained(con: duckdb.DuckDBPyConnection) -> None:
    days = con.execute(
        "select metric, dialect, mode(cohort_date) from metrics_daily group by all"
    ).fetchall()
    assert len({metric for metric, _, _ in days}) > 25
    for metric, dialect, day in days:
        found = explain_metric(con, Question(metric, day, dialect), None)
        counted = [row for row in found.rows if row["left_out_reason"] is None]
        sums = {
            name: sum(row[name] for row in found.sums if row[name] is not None)
            for name in ("numerator", "denominator")
        }
        for name, total in sums.items():
            assert sum(row[name] for row in counted if row[name] is not None) == total, metric


def test_every_table_and_column_is_told_in_the_file(con: duckdb.DuckDBPyConnection) -> None:
    tables = con.execute(
        "select schema_name || '.' || table_name, comment from duckdb_tables() union all "
        "select schema_name || '.' || view_name, comment from duckdb_views() where not internal"
    ).fetchall()
    assert len(tables) > 40
    assert [name for name, comment in tables if "One row" not in (comment or "")] == []
    columns = con.execute(
        "select schema_name || '.' || table_name || '.' || column_name from duckdb_columns() "
        "where not internal and comment is null"
    ).fetchall()
    assert columns == []


def test_there_are_twenty_examples() -> None:
    assert len(EXAMPLES) == 20


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_answers_its_question(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    english, chinese = text.splitlines()[:2]
    assert re.fullmatch(r"-- .+\?", english)
    assert re.fullmatch(r"-- .+？.*", chinese)
    rows = con.execute(text).fetchall()
    assert rows or path.stem in MAY_BE_EMPTY


@pytest.mark.parametrize("form", FORMATS)
def test_query_command_takes_an_example(finished: Scenario, form: str) -> None:
    config = finished.folder / "demo" / "hearback.toml"
    example = SQL_FOLDER / "examples" / "05_backlog_by_age.sql"
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "query", str(example), "--format", form,
         "--config", str(config)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    if form == "csv":
        assert lines[0] == "age_band,cases"
        assert len(lines) > 1
    elif form == "json":
        assert [set(json.loads(line)) for line in lines] == [{"age_band", "cases"}] * len(lines)
    else:
        assert "age_band" in done.stdout


def test_explain_command_opens_a_figure(finished: Scenario, tmp_path: Path) -> None:
    config = finished.folder / "demo" / "hearback.toml"
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "explain", "backlog", "--date", "2026-06-25",
         "--output", str(tmp_path / "rows.json"), "--language", "zh", "--config", str(config)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert f"numerator {sum(row['numerator'] or 0 for row in rows):,.6g}" in done.stdout
    assert "积压 (backlog) 2026-06-25" in done.stdout


# the report -----------------------------------------------------------------------------------


def find_queries(finished: Scenario) -> list[str]:
    page = next((finished.home / "out" / "report").rglob("index.html")).read_text("utf-8")
    return [html.unescape(text) for text in re.findall(r"<pre>(.*?)</pre>", page, re.S)]


def test_query_beside_every_figure_of_the_report_has_an_answer(
    finished: Scenario, con: duckdb.DuckDBPyConnection
) -> None:
    page = next((finished.home / "out" / "report").rglob("index.html")).read_text("utf-8")
    queries = find_queries(finished)
    assert (
        len(queries)
        == page.count("<figure") + page.count('class="tile"') + page.count('class="ranking"') + 1
    )  # the table of speed
    for query in queries:
        assert con.execute(query).fetchall(), query


def test_headline_figures_are_the_answers_to_the_queries_beside_them(
    finished: Scenario, con: duckdb.DuckDBPyConnection
) -> None:
    page = next((finished.home / "out" / "report").rglob("index.html")).read_text("utf-8")
    shown = [html.unescape(value) for value in re.findall(r'class="tile"><b>(.*?)</b>', page)]
    answers = [con.execute(query).fetchall() for query in find_queries(finished)[:6]]
    assert shown[0] == f"{answers[0][0][0]:,.0f}"
    assert shown[1] == format_percent(answers[1][0][0])
    assert shown[2] == format_percent(answers[2][0][1])
    assert shown[3] == f"{answers[3][0][1]:+.0f}"
    assert shown[4] == format_percent(answers[4][0][1])
    assert shown[5] == f"{sum(count for _, count in answers[5]):,}"

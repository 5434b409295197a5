"""``hearback explain``: what is printed of a metric, and that its rows sum to it."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
from mart_world import World

from pipelines.errors import HearbackError, UsageError
from pipelines.explain import COMPONENTS, Question, check_choice, explain_metric, run_explain
from pipelines.wording import Language


@pytest.fixture(scope="module")
def published(golden: World) -> World:
    """The golden world where readers look for it."""
    golden.home.warehouse.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(golden.home.build, golden.home.warehouse)
    return golden


@pytest.fixture(scope="module")
def con(
    golden: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[duckdb.DuckDBPyConnection]:
    # A file of its own: one process opens a file with one set of settings.
    path = tmp_path_factory.mktemp("asked") / "copy.duckdb"
    shutil.copy(golden.home.build, path)
    with duckdb.connect(str(path), read_only=True) as con:
        con.execute("set time zone 'UTC'")
        yield con


def tell(world: World, question: Question, language: Language = "en", **options: Any) -> str:
    out = io.StringIO()
    run_explain(world.settings, question, language, out=out, **options)
    return out.getvalue()


def add_up(rows: list[dict[str, Any]], column: str) -> dict[Any, float]:
    found: dict[Any, float] = defaultdict(float)
    for row in rows:
        if row[column] is not None:
            found[row["counted"], row["sla_metric"], row["clock"]] += row[column]
    return found


def test_rows_of_every_metric_sum_to_it(con: duckdb.DuckDBPyConnection) -> None:
    days = con.execute(
        "select metric, dialect, mode(cohort_date) from metrics_daily group by all"
    ).fetchall()
    assert len(days) > 40
    for metric, dialect, day in days:
        found = explain_metric(con, Question(metric, day, dialect), None)
        assert len(found.rows) == found.row_count
        for component, column in (
            ("numerator", "numerator"), ("denominator", "denominator"), ("value_sum", "value"),
        ):  # fmt: skip
            if metric == "nps" and component == "value_sum":
                continue
            sums = {
                (row["counted"], row["sla_metric"], row["clock"]): row[component]
                for row in found.sums
            }
            added = add_up(found.rows, column)
            assert {key: value for key, value in sums.items() if value is not None} == (
                pytest.approx(added)
            ), (metric, dialect)


def test_every_metric_has_a_definition_in_both_languages(con: duckdb.DuckDBPyConnection) -> None:
    rows = con.execute(
        "select metric, definition, definition_zh, name_zh from metric_definitions"
    ).fetchall()
    measured = con.execute("select distinct metric from metrics_daily").fetchall()
    assert {row[0] for row in rows} == {metric for (metric,) in measured}
    for metric, english, chinese, name in rows:
        assert english.endswith("."), metric
        assert chinese.endswith("。"), metric
        assert any("一" <= letter <= "鿿" for letter in name), metric


def test_query_beside_a_row_gives_its_records(con: duckdb.DuckDBPyConnection) -> None:
    rows = con.execute(
        f"select rows_query(m), {', '.join(COMPONENTS)} from metrics_daily as m "
        "qualify row_number() over (partition by metric, dialect, counted order by "
        "numerator desc, channel, team) = 1"
    ).fetchall()
    assert len(rows) > 40
    for query, *components in rows:
        sums = ", ".join(f"sum({name})" for name in COMPONENTS)
        found = con.execute(
            f"select {sums} from ({query}) where left_out_reason is null or left_out_count > 0"
        ).fetchall()[0]
        assert [None if value is None else round(value, 6) for value in found] == [
            None if value is None else round(value, 6) for value in components
        ], query


def test_it_tells_definition_interval_components_and_rows(published: World) -> None:
    text = tell(published, Question("csat", date(2026, 3, 10)))
    assert text.startswith("CSAT (csat) 2026-03-10\nSatisfied answers among the rated ones")
    assert "50.0 % [95 %: 23.7 % to 76.3 %]" in text
    assert "numerator 5, denominator 10" in text
    assert "Left out:\n  1 deleted\n" in text
    assert "Records (11 of 11):" in text
    assert "where metric = 'csat'" in text
    assert "csat 9" in text


def test_it_tells_what_was_left_out_and_why(published: World) -> None:
    text = tell(
        published, Question("duration_weighted_csat", date(2026, 3, 13), cuts={"channel": "api"})
    )
    assert "0.658136" in text
    assert "Left out:\n  1 not rated\n" in text
    text = tell(published, Question("csat", date(2026, 3, 11)))
    assert "1 answers that were given anew later" in text


def test_it_speaks_chinese(published: World) -> None:
    text = tell(published, Question("csat", date(2026, 3, 10)), "zh")
    assert text.startswith("满意度 (csat) 2026-03-10\n已评分答卷中满意的占比")
    assert "答卷, house 口径, 自然时间, 按作答日: 50.0 % [95%：23.7 % 至 76.3 %]" in text


def test_a_dialect_that_reads_alike_says_so(published: World) -> None:
    text = tell(published, Question("csat", date(2026, 3, 10), "zendesk"))
    assert "This dialect reads the metric as the house does." in text
    text = tell(published, Question("first_reply", date(2026, 3, 2), "fivetran", "calendar"))
    assert "case, fivetran, calendar, first_reply:" in text


def test_a_cut_and_a_clock_choose_the_rows(published: World) -> None:
    text = tell(
        published,
        Question("first_reply", date(2026, 3, 2), "house", "business", {"team": "Europe"}),
    )
    assert "team = Europe" in text
    assert "180.0 min" in text
    assert "calendar, first_reply" not in text


def test_an_agent_is_found_by_the_name_that_is_shown(published: World, tmp_path: Path) -> None:
    world = World(tmp_path)
    world.put("agents", "ref 7", agent_ref="ref 7", source="support", source_agent_id="7",
              display_name="Ann 安", role="agent")  # fmt: skip
    world.add_case("hers", "10 02:00", status="solved", assignee_ref="ref 7")
    world.add_status("hers", "10 03:00", "new", "solved")
    world.commit()
    world.build()
    world.home.warehouse.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(world.home.build, world.home.warehouse)
    text = tell(world, Question("full_resolution", date(2026, 3, 10), cuts={"agent": "Ann 安"}))
    assert "60.0 min" in text


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (Question("cast", date(2026, 3, 10)), "there is no metric 'cast', did you mean 'csat'"),
        (Question("csat", date(2026, 3, 10), cuts={"team": "Biling"}), "did you mean 'Billing'"),
        (Question("csat", date(2026, 3, 30)), "such as --date 2026-03-13"),
        (Question("csat", date(2026, 3, 10), clock="business"), "nothing on 2026-03-10"),
    ],
)
def test_a_question_without_an_answer_is_one_line(
    published: World, question: Question, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        tell(published, question)
    assert "\n" not in caught.value.message


def test_a_quote_in_a_name_is_no_sql(published: World) -> None:
    with pytest.raises(UsageError, match="no team"):
        tell(published, Question("csat", date(2026, 3, 10), cuts={"team": "x' or true --"}))


def test_an_unknown_dialect_is_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'fivetran'"):
        check_choice("--dialect", "fivtran", ("house", "fivetran"))


def test_all_rows_go_to_a_file(published: World, tmp_path: Path) -> None:
    question = Question("csat", date(2026, 3, 10))
    tell(published, question, output=tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(float(row["numerator"]) for row in rows if row["numerator"]) == 5
    tell(published, question, output=tmp_path / "rows.json")
    assert len(json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))) == 11
    with pytest.raises(UsageError, match=r"ends in \.csv or \.json"):
        tell(published, question, output=tmp_path / "rows.txt")


def test_rows_that_do_not_sum_to_the_table_are_told(published: World, tmp_path: Path) -> None:
    path = tmp_path / "spoilt.duckdb"
    shutil.copy(published.home.build, path)
    with duckdb.connect(str(path)) as con:
        con.execute("update metrics_daily set numerator = numerator + 1 where metric = 'csat'")
        with pytest.raises(HearbackError, match="do not sum to metrics_daily"):
            explain_metric(con, Question("csat", date(2026, 3, 10)), None)

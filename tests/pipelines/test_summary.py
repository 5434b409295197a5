"""What a run says of itself at the end."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from pipelines.context import Run, StepCount, record_step, start_run
from pipelines.launcher import RunEnd
from pipelines.settings import load_settings
from pipelines.storage import connect_duckdb
from pipelines.summary import count_sources, format_minutes, print_summary

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    path = tmp_path / "hearback.toml"
    path.write_text("[project]\n", encoding="utf-8")
    return start_run(load_settings(path), run_id="r1", now=NOW)


def row(step: str, source: str | None, **counts: int) -> dict[str, Any]:
    kinds = ("in", "out", "quarantined", "duplicate", "unchanged")
    return {
        "step": step,
        "source": source,
        **{f"count_{kind}": counts.get(kind, 0) for kind in kinds},
    }


def test_the_counts_of_a_source_close() -> None:
    (shop,) = count_sources(
        [
            row("extract", "shop", **{"in": 10}, out=7, duplicate=1, unchanged=2),
            row("validate", "shop", **{"in": 7}, out=5, quarantined=2),
            row("clean", "shop", **{"in": 5}, out=5),
            row("publish", None, **{"in": 20}, out=20),
        ]
    )
    assert (shop.count_in, shop.accepted, shop.quarantined) == (10, 5, 2)
    assert (shop.duplicates, shop.unchanged) == (1, 2)
    assert shop.count_in == shop.accepted + shop.quarantined + shop.duplicates + shop.unchanged


def test_what_an_interrupted_run_left_counts_as_in() -> None:
    (shop,) = count_sources(
        [
            row("extract", "shop", **{"in": 1}, out=1),
            row("validate", "shop", **{"in": 9}, out=9),
        ]
    )
    assert (shop.count_in, shop.accepted) == (9, 9)


def tell(run: Run, **end: Any) -> str:
    out = io.StringIO()
    told = RunEnd("r1", tasks=[], **{"is_success": True, **end})
    print_summary(Console(file=out, width=160), run.settings, told, 12.3)
    return out.getvalue()


def record(run: Run, *counts: StepCount) -> None:
    for count in counts:
        record_step(run, count.step, [count], name=count.source)


def test_a_run_without_news_says_that_nothing_was_added_twice(run: Run) -> None:
    lake = run.lake
    table = pa.table({"captured_at": pa.array([NOW], pa.timestamp("us", "UTC"))})
    entry = lake.write_table("raw/source=shop/date=2026-03-02", "x", table, 1)
    lake.write_raw_manifest("shop", {"version": 1, "position": {}, "files": [entry]})
    record(run, StepCount("extract", "shop", count_in=5, count_unchanged=5))
    told = tell(run)
    assert "nothing new since 2026-03-02 08:00 UTC: nothing was added twice" in told
    assert "done in 12 s (run r1)" in told


def test_a_run_with_news_does_not(run: Run) -> None:
    record(
        run,
        StepCount("extract", "shop", count_in=5, count_out=5),
        StepCount("validate", "shop", count_in=5, count_out=4, count_quarantined=1),
    )
    told = tell(run)
    assert "nothing new" not in told
    assert told.split("\n")[2].split() == ["shop", "5", "4", "1", "0", "0"]


def test_a_failed_run_names_the_task_the_reason_and_the_log(run: Run) -> None:
    told = tell(
        run, is_success=False, errors={"extract--shop": "401 [from] /x; check (log: /tmp/a.log)"}
    )
    assert "✗ extract shop: 401 [from] /x; check (log: /tmp/a.log)" in told
    assert "nothing new" not in told
    assert "failed in 12 s" in told


def test_follow_ups_and_headlines_come_from_the_published_warehouse(run: Run) -> None:
    warehouse = run.home.warehouse
    warehouse.parent.mkdir(parents=True)
    with connect_duckdb(path=warehouse) as con:
        con.execute(
            """
            create table cases as select * from (values
                (timestamptz '2026-03-01 08:00+00', false, 30.0),
                (timestamptz '2026-02-20 08:00+00', false, 90.0),
                (timestamptz '2026-02-20 08:00+00', true, 9999.0),
                (timestamptz '2025-01-01 08:00+00', false, 9999.0),
                (timestamptz '2026-03-03 08:00+00', false, 9999.0)
            ) as t (opened_at, is_excluded, first_reply_minutes);
            create schema run;
            create table run.current as select timestamptz '2026-03-02 08:00+00' as as_of;
            create table metrics_daily as select
                * replace (numerator::double as numerator, denominator::double as denominator),
                'house' as dialect, null as feedback_type, null as channel, null as language,
                '0-1 days' as age_band, null::double as value_sum_squares, null as sla_metric
            from (values
                ('csat', 'answer', date '2026-03-01', 5.0, 10.0),
                ('csat', 'answer', date '2026-03-03', 7.0, 7.0),
                ('csat', 'answer', date '2026-02-02', 7.0, 7.0),
                ('volume', 'feedback', date '2026-03-02', 2.0, null),
                ('volume', 'feedback', date '2026-02-03', 1.0, null),
                ('volume', 'feedback', date '2026-03-03', 9.0, null),
                ('volume', 'case', date '2026-03-02', 9.0, null),
                ('backlog', 'case', date '2026-02-28', 8.0, null),
                ('backlog', 'case', date '2026-03-01', 2.0, null)
            ) as t (metric, counted, cohort_date, numerator, denominator);
            create table follow_up_tasks as select * from (values
                ('Care', 'urgent', 'open'), ('Care', 'low', 'in_progress'),
                ('Care', 'high', 'done'), (null, 'high', 'open')
            ) as t (team, priority, status)
            """
        )
    told = tell(run)
    lines = [line.split() for line in told.splitlines()]
    assert ["Care", "2", "1", "0", "0", "1"] in lines
    assert ["(no", "team)", "1", "0", "1", "0", "0"] in lines
    assert "28 days to 2026-03-02" in told
    assert "volume       3 pieces of feedback, 2 cases opened" in told
    assert "CSAT         50.0% of 10 ratings (95 %: 23.7% to 76.3%)" in told
    assert "first reply  60 min (median)" in told
    assert "backlog      2 cases were open at the end of the last full day" in told
    assert str(warehouse) in told


def test_warnings_of_the_steps_are_told_once(run: Run) -> None:
    text = "1 tasks made; warning: a later day was merged already; warning: nobody speaks zh"
    record(run, StepCount("follow_up", entity="a", detail=text))
    told = tell(run)
    assert told.count("! a later day was merged already") == 1
    assert told.count("! nobody speaks zh") == 1
    assert "1 tasks made" not in told


@pytest.mark.parametrize(
    ("minutes", "words"), [(59.6, "60 min"), (180, "3.0 h"), (2880, "2.0 days")]
)
def test_minutes_are_told_in_fitting_units(minutes: float, words: str) -> None:
    assert format_minutes(minutes) == words

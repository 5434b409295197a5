"""The whole daily DAG through Airflow, once with a source that fails and once with all well."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.demo import demo_connections, generate, start_servers, write_config
from pipelines.launcher import DAG_ID, EmbeddedAirflow
from pipelines.settings import load_settings
from pipelines.steps import STEPS_AFTER_EXTRACT
from pipelines.storage import Home
from tests.line.world import UNTIL, open_warehouse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
SCALE = 0.03
TASKS = {"list_sources", "extract", *STEPS_AFTER_EXTRACT, "check_sources"}


@dataclass(frozen=True)
class Outcome:
    """How a run of the DAG ended: exit code, states of the tasks, what Airflow printed."""

    code: int
    states: dict[str, set[str]]
    output: str


class Desk:
    """A home with its own Airflow database, reading the demo on loopback."""

    def __init__(self, config: Path) -> None:
        self.airflow = EmbeddedAirflow(load_settings(config))
        self.home: Home = self.airflow.home
        self.environment = {
            **self.airflow.environment(is_scheduled=False),
            "HEARBACK_RETRY_SECONDS": "0",
        }
        self.airflow.migrate()

    def run_dag(self) -> Outcome:
        conf = f'{{"date": "{UNTIL}"}}'
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "dags", "test", DAG_ID, "--conf", conf],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Outcome(done.returncode, self.read_states(), done.stdout)

    def read_states(self) -> dict[str, set[str]]:
        """States of the tasks of the latest run."""
        found: dict[str, set[str]] = {}
        with contextlib.closing(sqlite3.connect(self.airflow.database)) as con:
            rows = con.execute(
                "select task_id, state from task_instance where run_id = "
                "(select run_id from dag_run order by id desc limit 1)"
            ).fetchall()
        for task, state in rows:
            found.setdefault(task, set()).add(state)
        return found


@dataclass(frozen=True)
class Runs:
    home: Home
    broken: Outcome
    mended: Outcome
    after_broken: set[str]
    """Sources of the feedback that the warehouse held after the run with the broken source."""


def list_sources(home: Home) -> set[str]:
    with open_warehouse(home.root) as con:
        found = con.execute("select source from feedback union select source from orders")
        return {source for (source,) in found.fetchall()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """A run without the file of the orders, then one with it."""
    folder = tmp_path_factory.mktemp("airflow-line")
    demo = folder / "demo"
    generate(demo, until=UNTIL, scale=SCALE)
    with start_servers(demo) as servers, pytest.MonkeyPatch.context() as patch:
        for name, value in demo_connections(servers).items():
            patch.setenv(name, value)
        desk = Desk(write_config(demo, folder / "home", servers, folder / "hearback.toml"))
        (demo / "orders.jsonl").rename(demo / "aside")
        broken = desk.run_dag()
        after_broken = list_sources(desk.home)
        (demo / "aside").rename(demo / "orders.jsonl")
        yield Runs(desk.home, broken, desk.run_dag(), after_broken)


def test_run_with_a_broken_source_fails(runs: Runs) -> None:
    assert runs.broken.code != 0
    assert runs.broken.states == {
        **{task: {"success"} for task in TASKS},
        "extract": {"success", "failed"},
        "check_sources": {"failed"},
    }


def test_the_reason_is_told_at_the_end(runs: Runs) -> None:
    assert "erp: source 'erp': no file matches" in runs.broken.output


def test_other_sources_arrive_all_the_same(runs: Runs) -> None:
    assert runs.after_broken == {"helpdesk", "reviews", "survey", "app_feedback"}


def test_failed_source_is_in_the_lake_with_its_reason(runs: Runs) -> None:
    folders = sorted(path.name for path in (runs.home.root / "lake" / "_errors").iterdir())
    errors = [runs.home.lake.read_run_errors(folder) for folder in folders]
    (told,) = [error["extract--erp"] for error in errors if "extract--erp" in error]
    assert "no file matches" in told


def test_next_run_makes_it_good(runs: Runs) -> None:
    assert runs.mended.code == 0, runs.mended.output[-2000:]
    assert runs.mended.states == {task: {"success"} for task in TASKS}
    assert "erp" in list_sources(runs.home)


def test_lists_and_report_are_delivered(runs: Runs) -> None:
    lists = runs.home.out("follow_ups", UNTIL)
    assert {path.suffix for path in lists.iterdir()} >= {".csv", ".xlsx"}
    page = (runs.home.out("report", UNTIL) / "index.html").read_text("utf-8")
    assert "<svg" in page


def test_run_report_closes_for_both_runs(runs: Runs) -> None:
    with open_warehouse(runs.home.root) as con:
        found = con.execute(
            "select count(distinct run_id), bool_and(is_closed) from run_report"
        ).fetchall()
    assert found == [(2, True)]

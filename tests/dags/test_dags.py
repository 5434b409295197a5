"""The shape of the DAGs: what runs, in which order, with which limits."""

from __future__ import annotations

import itertools
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "dags"
CONFIG = """
[project]
time_zone = "Europe/Berlin"
[[sources]]
name = "shop"
kind = "csv"
schedule = "@hourly"
options = { path = "shop.csv" }
[[sources]]
name = "forum"
kind = "csv"
options = { path = "forum.csv" }
[[sources]]
name = "old"
kind = "csv"
schedule = "@hourly"
enabled = false
options = { path = "old.csv" }
"""
STEPS = ["validate", "clean", "classify", "aggregate", "follow_up", "publish", "deliver"]
HEAVY = ("pandas", "numpy", "pyarrow", "duckdb", "sklearn", "great_expectations", "scrapy", "dlt")


def read_dags(config: Path) -> Any:
    from airflow.dag_processing.dagbag import DagBag

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEARBACK_CONFIG", str(config))
        return DagBag(str(DAGS))


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Any:
    config = tmp_path_factory.mktemp("config") / "hearback.toml"
    config.write_text(CONFIG, encoding="utf-8")
    return read_dags(config)


@pytest.fixture(scope="module")
def daily(bag: Any) -> Any:
    return bag.dags["feedback_daily"]


def test_every_dag_file_is_read_without_fault(bag: Any) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == {"feedback_daily", "extract_shop"}


def test_every_dag_is_serialised(bag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in bag.dags.values():
        assert DagSerialization.to_dict(dag)["dag"]["dag_id"] == dag.dag_id


@pytest.mark.parametrize("name", ["feedback_daily.py", "source_schedules.py"])
def test_a_dag_file_is_short_and_explains_itself(name: str) -> None:
    text = (DAGS / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    assert "doc_md=__doc__" in text


def test_reading_the_dags_imports_nothing_heavy(tmp_path: Path) -> None:
    config = tmp_path / "hearback.toml"
    config.write_text(CONFIG, encoding="utf-8")
    code = (
        "import sys, airflow.sdk, airflow.sdk.definitions.decorators\n"
        "before = set(sys.modules)\n"
        "import dags.feedback_daily, dags.source_schedules\n"
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={
            "HEARBACK_CONFIG": str(config),
            "AIRFLOW_HOME": str(tmp_path),
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()).isdisjoint(HEAVY)


def test_the_steps_follow_each_other(daily: Any) -> None:
    order = ["list_sources", "extract", *STEPS, "check_sources"]
    for before, after in itertools.pairwise(order):
        assert daily.get_task(before).downstream_task_ids == {after}


def test_a_failed_source_stops_no_other_and_fails_the_run_at_the_end(daily: Any) -> None:
    rules = {task.task_id: str(task.trigger_rule.value) for task in daily.tasks}
    assert rules["validate"] == "all_done"
    assert rules["check_sources"] == "all_done"
    assert {rules[step] for step in STEPS[1:]} == {"all_success"}
    assert [task.task_id for task in daily.leaves] == ["check_sources"]


def test_only_the_network_is_tried_again(daily: Any) -> None:
    retries = {task.task_id: options(task)["retries"] for task in daily.tasks}
    assert retries.pop("extract") == 2
    assert set(retries.values()) == {0}
    extract = options(daily.get_task("extract"))
    assert extract["retry_exponential_backoff"]
    assert extract["max_retry_delay"] == timedelta(minutes=10)


def options(task: Any) -> dict[str, Any]:
    """The settings of a task, mapped or not."""
    if hasattr(task, "partial_kwargs"):
        return dict(task.partial_kwargs)
    return {name: getattr(task, name) for name in ("retries", "execution_timeout", "pool")}


def test_every_task_has_a_time_limit(bag: Any) -> None:
    for dag in bag.dags.values():
        for task in dag.tasks:
            assert timedelta(0) < options(task)["execution_timeout"] <= timedelta(hours=2)


def test_a_failed_run_is_told_once_by_its_last_task(bag: Any) -> None:
    from dags.notices import FailureNotice

    for dag in bag.dags.values():
        tellers = [task for task in dag.tasks if task.on_failure_callback]
        assert tellers == dag.leaves
        (callback,) = tellers[0].on_failure_callback
        assert isinstance(callback, FailureNotice)


def test_pools_bound_captures_and_writers(daily: Any) -> None:
    pools = {task.task_id: options(task)["pool"] for task in daily.tasks}
    assert pools["extract"] == "sources"
    writers = {name for name, pool in pools.items() if pool == "warehouse_writer"}
    assert writers == {"aggregate", "follow_up", "publish"}
    assert daily.max_active_runs == 1


def test_pools_are_those_that_the_launcher_makes(bag: Any) -> None:
    from pipelines.launcher import POOLS

    used = {options(task)["pool"] for dag in bag.dags.values() for task in dag.tasks}
    assert used - {"default_pool"} == set(POOLS)


def test_what_is_written_is_an_asset(daily: Any) -> None:
    made = {
        asset.name for task in daily.tasks for asset in (options_outlets(task) or []) if asset.name
    }
    assert made == {"raw", "staging", "warehouse", "lists"}


def options_outlets(task: Any) -> Any:
    return task.partial_kwargs.get("outlets") if hasattr(task, "partial_kwargs") else task.outlets


def test_the_form_offers_day_sources_and_refresh(daily: Any) -> None:
    schema = {name: daily.params.get_param(name).schema for name in daily.params}
    assert set(schema) == {"date", "sources", "full_refresh"}
    assert schema["date"]["format"] == "date"
    assert schema["sources"]["examples"] == ["shop", "forum"]
    assert daily.params.get_param("full_refresh").value is False


def test_the_day_is_cut_in_the_projects_zone(daily: Any) -> None:
    assert daily.timetable.timetable.expression == "0 0 * * *"
    assert str(daily.timetable.timetable.timezone) == "Europe/Berlin"
    assert daily.catchup is False


def test_a_source_with_a_schedule_starts_the_daily_run(bag: Any, daily: Any) -> None:
    (extract,) = bag.dags["extract_shop"].tasks
    assert [asset.name for asset in extract.outlets] == ["captured_shop"]
    assert [asset.name for asset in daily.timetable.asset_condition.objects] == ["captured_shop"]
    assert bag.dags["extract_shop"].timetable.expression == "0 * * * *"


def test_without_such_a_source_only_the_clock_starts_it(tmp_path: Path) -> None:
    config = tmp_path / "hearback.toml"
    config.write_text('[[sources]]\nname = "a"\nkind = "csv"\noptions = { path = "a.csv" }\n')
    dags = read_dags(config).dags
    assert set(dags) == {"feedback_daily"}
    assert dags["feedback_daily"].timetable.expression == "0 0 * * *"


def test_a_wrong_configuration_is_named_where_the_dag_is_read(tmp_path: Path) -> None:
    errors = read_dags(tmp_path / "missing.toml").import_errors
    assert len(errors) == 2
    assert all("missing.toml: no such configuration" in text for text in errors.values())

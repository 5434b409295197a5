"""The services of docker-compose.yml carry the demo: Celery, PostgreSQL, Redis, an object store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from pipelines.demo import demo_connections, generate, start_servers, write_config
from pipelines.query import open_warehouse
from pipelines.settings import load_settings
from pipelines.steps import STEPS_AFTER_EXTRACT
from pipelines.storage import Home
from tests.line.production import (
    WORKERS,
    Cluster,
    Desk,
    count_finished,
    missing_packages,
    start_cluster,
)
from tests.line.world import UNTIL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]
SCALE = 0.02


@dataclass(frozen=True)
class Production:
    """What was seen of one run of the daily DAG on the cluster, and after its end."""

    home: Path
    states: set[tuple[str, str]]
    task_count: int
    """Task instances: some tasks have one a source."""
    health: dict[str, bool]
    tasks_by_worker: list[int]
    feedback: dict[str, int]
    """Rows by source, read from the published warehouse while the object store was up."""
    is_closed: bool
    layers: set[str]
    left: list[psutil.Process]
    """Processes that lived on after the cluster was stopped."""


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Production:
    missing = missing_packages()
    if missing:
        pytest.fail(f"this test starts real servers; install them: apt install {' '.join(missing)}")
    folder = tmp_path_factory.mktemp("production")
    generate(folder / "demo", until=UNTIL, scale=SCALE)
    with start_servers(folder / "demo") as servers:
        config = write_config(folder / "demo", folder / "home", servers, folder / "hearback.toml")
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace("[project]\n", '[project]\nlake = "s3://hearback/lake"\n'))
        with start_cluster(config, demo_connections(servers)) as cluster:
            return watch_run(cluster, config)


def watch_run(cluster: Cluster, config: Path) -> Production:
    desk = Desk(cluster)
    desk.switch_on()
    tasks = desk.run_daily("one", {"date": UNTIL.isoformat()})
    health = {
        "dag-processor": cluster.is_healthy("dag-processor"),
        "worker": cluster.is_healthy("worker", HOSTNAME=WORKERS[0]),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            if name.startswith("AWS_"):
                patch.setenv(name, value)
        settings = load_settings(config)
        lake = Home(settings).lake
        with open_warehouse(settings) as con:
            counted = con.execute("select source, count(*) from feedback group by 1").fetchall()
            closed = con.execute("select bool_and(is_closed) from run_report").fetchall()
        layers = {path.rsplit("/", 1)[-1] for path in lake.fs.ls(lake.root, detail=False)}
    programs = [psutil.Process(program.pid) for program in cluster.programs.running.values()]
    family = [child for program in programs for child in program.children(recursive=True)]
    return Production(
        home=settings.home,
        states={(task["task_id"], task["state"]) for task in tasks},
        task_count=len(tasks),
        health=health,
        tasks_by_worker=count_finished(cluster.logs),
        feedback=dict(counted),
        is_closed=closed == [(True,)],
        layers=layers,
        left=[*programs, *family],
    )


def test_every_task_succeeds(production: Production) -> None:
    tasks = ("list_sources", "extract", *STEPS_AFTER_EXTRACT, "check_sources")
    assert production.states == {(task, "success") for task in tasks}


def test_both_workers_take_part(production: Production) -> None:
    assert min(production.tasks_by_worker) > 0
    assert production.task_count > len(STEPS_AFTER_EXTRACT) + 2
    assert sum(production.tasks_by_worker) == production.task_count


def test_the_health_checks_of_the_compose_file_are_content(production: Production) -> None:
    assert all(production.health.values()), production.health


def test_the_lake_is_on_the_object_store_only(production: Production) -> None:
    assert production.layers >= {"raw", "staging", "intermediate", "classified", "_manifests"}
    assert not (production.home / "lake").exists()


def test_the_published_warehouse_reads_the_object_store(production: Production) -> None:
    assert set(production.feedback) == {"helpdesk", "reviews", "survey", "app_feedback"}
    assert min(production.feedback.values()) > 0
    assert production.is_closed


def test_lists_and_report_are_delivered(production: Production) -> None:
    day = UNTIL.isoformat()
    lists = production.home / "out" / "follow_ups" / day
    assert {path.suffix for path in lists.iterdir()} >= {".csv", ".xlsx"}
    assert "<svg" in (production.home / "out" / "report" / day / "index.html").read_text("utf-8")


def test_nothing_is_left_running(production: Production) -> None:
    assert [process for process in production.left if process.is_running()] == []

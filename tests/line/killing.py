"""Steps that are killed in the middle, as ``kill -9`` does it, at a chosen moment.

The moment is named by what the step does to its files: Python tells (by audit events) of every
file that is opened for writing, renamed or removed and of every SQLite file that is opened. So a
step dies at the same place every time, without a change to its code.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from pipelines.context import start_run
from pipelines.settings import Settings, load_settings
from pipelines.steps import STEPS_AFTER_EXTRACT
from tests.line import world

STEP_MODULES = [
    "duckdb", "pyarrow.parquet", "pandas", "great_expectations", "dbt.cli.main", "sklearn.pipeline",
    "skops.io", "matplotlib.pyplot", "xlsxwriter", "fsspec.implementations.local",
    *(f"pipelines.{step}" for step in ("extract", *STEPS_AFTER_EXTRACT)),
    "tests.line.killing",
]  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """When a step dies: at the ``count``-th event on a path that holds ``path``.

    ``event``: open (for writing), os.rename (of the target), os.remove, sqlite3.connect, or
    progress (of the message).
    """

    step: str
    event: str
    path: str
    count: int = 1
    source: str | None = None

    def __str__(self) -> str:
        return f"{self.step} at {self.event} of {self.path} ({self.count})"


MOMENTS = [
    Moment("extract", "os.rename", "/raw/source=app_feedback/", source="app_feedback"),
    Moment("extract", "os.rename", "_manifests/raw/app_feedback.json", source="app_feedback"),
    Moment("extract", "os.rename", "_runs/", source="app_feedback"),
    Moment("extract", "os.rename", "_manifests/raw/helpdesk.json", source="helpdesk"),
    Moment("validate", "os.rename", "/staging/", 2),
    Moment("validate", "os.rename", "_manifests/staging.json"),
    Moment("clean", "os.rename", "/intermediate/", 20),
    Moment("clean", "os.rename", "_manifests/intermediate.json"),
    Moment("clean", "os.rename", "_runs/"),
    Moment("classify", "os.rename", "/classified/", 5),
    Moment("classify", "os.rename", "_manifests/classified.json"),
    Moment("aggregate", "open", "/dbt/run/", 12),
    Moment("aggregate", "os.rename", "_runs/"),
    Moment("follow_up", "sqlite3.connect", "tasks.sqlite"),
    Moment("follow_up", "progress", "follow_up tables"),
    Moment("publish", "open", ".hearback.duckdb."),
    Moment("publish", "os.rename", "hearback.duckdb"),
    Moment("deliver", "os.rename", "/out/", 1),
    Moment("deliver", "os.rename", "/out/", 4),
]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def watch(moment: Moment) -> None:
    """Die at the moment; an audit hook cannot be taken back, but the process ends with it."""
    left = moment.count

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event != moment.event:
            return
        if event == "open" and not is_writing(arguments):
            return
        told = arguments[1] if event == "os.rename" else arguments[0]
        if isinstance(told, str | bytes | os.PathLike) and moment.path in os.fsdecode(told):
            left -= 1
            if left == 0:
                die()

    sys.addaudithook(hook)


def is_writing(arguments: tuple[Any, ...]) -> bool:
    mode, flags = arguments[1], arguments[2]
    if isinstance(mode, str):
        return any(sign in mode for sign in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR))


def perform(config: Path, day: date, moment: Moment, environment: dict[str, str]) -> None:
    """Run the moment's step in this process, which dies in it."""
    os.environ.update(environment)

    def progress(message: str, rows: int) -> None:
        if moment.event == "progress" and moment.path in message:
            die()

    run = start_run(load_settings(config), day=day, progress=progress)
    watch(moment)
    step = import_module(f"pipelines.{moment.step}")
    step.run(run, *([moment.source] if moment.source else []))


def start_fork_server() -> ForkServerContext:
    """Processes that need not import anything: it is done once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(STEP_MODULES)
    return context


def kill_at(context: ForkServerContext, settings: Settings, moment: Moment) -> int | None:
    """The exit code of the process that runs the moment's step: -9 if it was killed."""
    environment = {k: v for k, v in os.environ.items() if k.startswith("AIRFLOW_CONN_")}
    process = context.Process(
        target=perform, args=(settings.path, world.UNTIL, moment, environment), daemon=False
    )
    process.start()
    process.join(120)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return process.exitcode


def play_killed(folder: Path) -> dict[str, Any]:
    """Each step is killed at all its moments and only then may end; at last the line runs again."""
    context = start_fork_server()
    codes, faults = {}, {}
    with world.serve_demo(folder) as settings:
        home = folder / "home"
        run = start_run(settings, day=world.UNTIL)
        for step in ("extract", *STEPS_AFTER_EXTRACT):
            for moment in (m for m in MOMENTS if m.step == step):
                codes[str(moment)] = kill_at(context, settings, moment)
                faults[str(moment)] = world.list_lake_faults(home)
            if step == "extract":
                world.extract_all(run)
            else:
                world.run_steps(run, [step])
        world.run_line(settings)
    return {"codes": codes, "faults": faults, **world.take_picture(home)}

"""Running one step, the same way from a DAG and from the command line.

A step runs under a lock, so that a scheduled run and a person at a terminal never work on the same
files at once; what it says while it works goes to a small file that a watcher may read; and the one
line that says why it failed is kept beside the run's reports.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from pipelines.context import Progress, Run, StepCount
from pipelines.errors import HearbackError
from pipelines.storage import explain_disk_errors, is_disk_full

STEPS_AFTER_EXTRACT = (
    "validate",
    "clean",
    "classify",
    "aggregate",
    "follow_up",
    "publish",
    "deliver",
)
PROGRESS_SECONDS = 0.5


@contextmanager
def hold_lock(path: Path, *, wait_seconds: float = 0.0, refusal: str) -> Iterator[None]:
    """Hold an exclusive lock on a file; the system frees it however the process ends.

    Raises HearbackError with ``refusal`` (``{owner}`` is replaced) if another process holds it for
    longer than wait_seconds.
    """
    with explain_disk_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
    with file:
        give_up = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
                if time.monotonic() >= give_up:
                    file.seek(0)
                    owner = file.read().strip() or "unknown"
                    raise HearbackError(refusal.format(owner=owner)) from None
                time.sleep(0.2)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def run_step(
    run: Run, step: str, source: str | None = None, *, wait_seconds: float = 3600, **options: Any
) -> int:
    """Run one step and return the rows it gave out.

    ``extract`` needs its source and holds that source's lock; the other steps share one lock.
    ``options`` go to the step.
    Raises HearbackError in one line, also kept in the lake under the task's name.
    """
    task = f"{step}--{source}" if source else step
    lock = task if step == "extract" else "pipeline"
    refusal = (
        f"{task}: another process ({{owner}}) is at work on the same files; "
        "wait for it to end and run again"
    )
    try:
        with hold_lock(run.home.lock(lock), wait_seconds=wait_seconds, refusal=refusal):
            module = import_module(f"pipelines.{step}")
            watched = replace(run, progress=write_progress(run, task, run.progress))
            perform: Callable[..., list[StepCount]] = module.run
            counts = perform(watched, *([source] if source else []), **options)
    except HearbackError as error:
        keep_error(run, task, error.message)
        raise
    except Exception as error:
        if is_disk_full(error):
            message = (
                f"disk full while writing the files of {task}; free some space and run again: "
                "nothing half-written is used"
            )
            keep_error(run, task, message)
            raise HearbackError(message) from error
        keep_error(run, task, f"{type(error).__name__}: {error}".splitlines()[0])
        raise
    run.lake.clear_run_error(run.run_id, task)
    return sum(count.count_out for count in counts)


def keep_error(run: Run, task: str, message: str) -> None:
    """Keep a task's error in the lake; a full disk must not hide the error itself."""
    try:
        run.lake.write_run_error(run.run_id, task, message)
    except (OSError, HearbackError) as error:
        run.progress(f"could not keep the error of {task}: {error}", 0)


def write_progress(run: Run, task: str, also: Progress) -> Progress:
    """A progress that writes to the run's progress folder, at most twice a second."""
    folder = run.home.progress(run.run_id)
    last = 0.0

    def progress(message: str, rows: int) -> None:
        nonlocal last
        also(message, rows)
        if time.monotonic() - last < PROGRESS_SECONDS:
            return
        last = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"task": task, "message": message, "rows": rows})
        aside = folder / f".{task}.{os.getpid()}"
        aside.write_text(text, encoding="utf-8")
        aside.replace(folder / f"{task}.json")

    return progress


def read_progress(folder: Path) -> dict[str, int]:
    """Rows so far by task, as the tasks of a run last wrote them."""
    rows = {}
    for path in sorted(folder.glob("*.json")) if folder.exists() else []:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows[found["task"]] = found["rows"]
    return rows

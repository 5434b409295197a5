"""What the tasks do: find out which run this is, and hand over to ``pipelines``.

The steps are imported when a task is called, not when a DAG file is read.
"""

from __future__ import annotations

import json
import os
import re
from datetime import date
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from airflow.sdk import Connection, get_current_context
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)

from dags.configuration import read_settings
from pipelines.errors import HearbackError, may_heal
from pipelines.settings import Settings

if TYPE_CHECKING:
    from pipelines.context import Run


def find_day(context: Any, settings: Settings) -> date | None:
    """The day of a run: the date asked for, else the logical date's day, else None (today)."""
    asked = context["params"].get("date")
    if asked:
        return date.fromisoformat(asked)
    logical = context["dag_run"].logical_date
    return logical.astimezone(ZoneInfo(settings.project.time_zone)).date() if logical else None


def open_run() -> Run:
    """The run that the current task belongs to; all tasks of a DAG run see the same instant."""
    from pipelines.context import start_run

    context = get_current_context()
    settings = read_settings()
    dag_run: Any = context["dag_run"]
    started = dag_run.start_date or dag_run.run_after
    zone = ZoneInfo(settings.project.time_zone)
    day = find_day(context, settings)
    is_today = day is None or day == started.astimezone(zone).date()
    return start_run(
        settings,
        day=day or started.astimezone(zone).date(),
        run_id=re.sub(r"[^A-Za-z0-9._-]", "-", dag_run.run_id),
        now=started if is_today else None,
        sources=tuple(context["params"].get("sources") or ()),
        full_refresh=bool(context["params"].get("full_refresh")),
    )


def export_connections(names: set[str]) -> None:
    """Make Airflow's connections readable for the steps, which know nothing of Airflow.

    Only connections that this task needs, only in its own process.
    """
    for name in names:
        variable = f"AIRFLOW_CONN_{name.upper()}"
        if variable in os.environ:
            continue
        try:
            found = Connection.get(name)
        except AirflowNotFoundException:
            continue  # the step itself says which one is missing, and how to set it
        fields = ("conn_type", "host", "login", "password", "schema", "port")
        values = {key: getattr(found, key) for key in fields if getattr(found, key) is not None}
        os.environ[variable] = json.dumps({**values, "extra": found.extra_dejson})


def list_sources() -> list[str]:
    """Sources to capture now; none when a source's own DAG has just captured and started this."""
    context = get_current_context()
    run = open_run()
    if str(context["dag_run"].run_type.value) == "asset_triggered":
        return []
    return list(run.sources) or [s.name for s in run.settings.sources if s.enabled]


def extract_source(source: str) -> int:
    """Capture one source into raw; returns the new records.

    A fault of the network or of the source's server is tried again; wrong settings and refused
    passwords fail at once.
    """
    from pipelines.steps import run_step

    run = open_run()
    entry = run.settings.source(source)
    export_connections({entry.connection} if entry.connection else set())
    try:
        return run_step(run, "extract", source)
    except HearbackError as error:
        if may_heal(error):
            raise
        raise AirflowFailException(error.message) from error


def extract_alone(source: str) -> int:
    """Capture one source for its own DAG; nothing new is a skip, which starts nothing after it."""
    rows = extract_source(source)
    if not rows:
        raise AirflowSkipException(f"nothing new from {source}")
    return rows


def perform_step(step: str) -> int:
    """Run one step after extract; returns the rows it gave out."""
    from pipelines.steps import run_step

    return run_step(open_run(), step)


def check_sources() -> None:
    """Fail the run if anything in it failed, with the line that says what; else say nothing."""

    context = get_current_context()
    ti: Any = context["ti"]
    run = open_run()
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    failed = sorted(
        task for task, state in states.items() if str(state) in ("failed", "upstream_failed")
    )
    errors = run.lake.read_run_errors(run.run_id)
    if failed or errors:
        told = "; ".join(f"{task}: {message}" for task, message in errors.items())
        raise HearbackError(told or f"failed: {', '.join(failed)}; see the logs of these tasks")

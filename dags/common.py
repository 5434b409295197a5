"""What the DAG files share: the configuration, the assets, and the callables of their tasks.

Callables only find out which run this is and hand over to ``pipelines``, which they import when
they are called: a DAG file is read every half minute and must cost next to nothing.
"""

from __future__ import annotations

import json
import os
import re
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from airflow.sdk import (
    Asset,
    AssetAny,
    AssetOrTimeSchedule,
    Connection,
    CronDataIntervalTimetable,
    Param,
    get_current_context,
)
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)

from dags.notices import FailureNotice
from pipelines.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipelines.context import Run

SOURCES_POOL = "sources"
WAREHOUSE_POOL = "warehouse_writer"

RAW = Asset("raw", uri="hearback://lake/raw")
STAGING = Asset("staging", uri="hearback://lake/staging")
WAREHOUSE = Asset("warehouse", uri="hearback://warehouse")
LISTS = Asset("lists", uri="hearback://out/lists")

DEFAULTS: dict[str, Any] = {
    "owner": "hearback",
    "retries": 0,
    "execution_timeout": timedelta(hours=2),
}
# Only on the last task of a DAG: one notice a run, which names all that failed.
TELLS: dict[str, Any] = {"on_failure_callback": FailureNotice()}

# Only a source's network and server heal by themselves (see extract_source).
EXTRACT: dict[str, Any] = {
    "pool": SOURCES_POOL,
    "retries": 2,
    "retry_delay": timedelta(seconds=float(os.environ.get("HEARBACK_RETRY_SECONDS", "60"))),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "map_index_template": "{{ task.op_kwargs['source'] }}",
}


def config_path() -> Path:
    """hearback.toml: HEARBACK_CONFIG, else of the current folder, else beside the dags folder."""
    if given := os.environ.get("HEARBACK_CONFIG"):
        return Path(given)
    here = Path.cwd() / "hearback.toml"
    return here if here.is_file() else Path(__file__).resolve().parent.parent / "hearback.toml"


def read_settings() -> Settings:
    return load_settings(config_path())


def captured(source: str) -> Asset:
    """What the DAG of one source emits when it has captured something."""
    return Asset(f"captured_{source}", uri=f"hearback://captured/{source}")


def scheduled_sources(settings: Settings) -> list[str]:
    """Sources with a schedule of their own."""
    return [source.name for source in settings.sources if source.enabled and source.schedule]


def daily_schedule(settings: Settings) -> CronDataIntervalTimetable | AssetOrTimeSchedule:
    """Each midnight of the project's zone for the day that ended; sooner when a source has news."""
    midnight = CronDataIntervalTimetable("0 0 * * *", timezone=settings.project.time_zone)
    names = scheduled_sources(settings)
    if not names:
        return midnight
    return AssetOrTimeSchedule(timetable=midnight, assets=AssetAny(*map(captured, names)))


def run_params(settings: Settings) -> dict[str, Param]:
    """The form of a run that is started by hand."""
    names = [source.name for source in settings.sources if source.enabled]
    return {
        "date": Param(
            None,
            type=["null", "string"],
            format="date",
            description="Day to work on; empty: the day of the schedule, or today.",
        ),
        "sources": Param(
            [],
            type="array",
            items={"type": "string"},
            examples=names,
            description="Sources to capture from; empty: all.",
        ),
        "full_refresh": Param(
            False,
            type="boolean",
            description="Rebuild everything after raw instead of only what is new.",
        ),
    }


def find_day(context: Any, settings: Settings) -> date | None:
    """The day of a run: the date asked for, else the logical date's day, else None (today)."""
    asked = context["params"].get("date")
    if asked:
        return date.fromisoformat(asked)
    logical = context["dag_run"].logical_date
    zone = ZoneInfo(settings.project.time_zone)
    is_manual = str(context["dag_run"].run_type.value) == "manual"
    return logical.astimezone(zone).date() if logical and not is_manual else None


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
    from pipelines.errors import HearbackError
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


def may_heal(error: BaseException) -> bool:
    """Whether a fault comes from the network, or from a server that is down or overloaded."""
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        if response is not None:
            return bool(response.status_code == 429 or response.status_code >= 500)
        is_client = type(cause).__module__.split(".")[0] in ("requests", "httpx", "urllib3")
        if is_client or isinstance(cause, ConnectionError | TimeoutError):
            return True
        cause = cause.__cause__
    return False


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
    from pipelines.errors import HearbackError

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

"""What the DAG files share: pools, assets, defaults of tasks, schedules and the form of a run.

A DAG file is read every half minute and must cost next to nothing, so nothing heavy is imported.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import (
    Asset,
    AssetAny,
    AssetOrTimeSchedule,
    CronDataIntervalTimetable,
    Param,
)

from dags.notices import FailureNotice
from pipelines.settings import Settings

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

# Only a source's network and server heal by themselves (see dags/work.py).
EXTRACT: dict[str, Any] = {
    "pool": SOURCES_POOL,
    "retries": 2,
    "retry_delay": timedelta(seconds=float(os.environ.get("HEARBACK_RETRY_SECONDS", "60"))),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "map_index_template": "{{ task.op_kwargs['source'] }}",
}


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
            title="Day",
            description="The day to work on. Empty: the day of the schedule, or today.",
        ),
        "sources": Param(
            None,
            type=["null", "array"],
            items={"type": "string"},
            examples=names,
            title="Sources",
            description="Capture from these only; what others left is worked on all the same. "
            "Empty: from all.",
        ),
        "full_refresh": Param(
            False,
            type="boolean",
            title="Full refresh",
            description="Rebuild everything after raw, not only what is new: after a change of "
            "rules, model or calendars. Takes as long as the first run.",
        ),
    }

"""
### One source, on its own schedule

A small DAG for each source whose entry in `hearback.toml` has a `schedule`. It captures what is new
and, if there was anything, starts `feedback_daily` for it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG, CronTriggerTimetable, task

from dags import common, work
from dags.configuration import read_settings
from pipelines.settings import Source


def make_source_dag(source: Source, time_zone: str) -> DAG:
    """The DAG that captures one source."""
    with DAG(
        dag_id=f"extract_{source.name}",
        description=f"Capture {source.name} ({source.kind}) as it comes",
        doc_md=__doc__,
        schedule=CronTriggerTimetable(str(source.schedule), timezone=time_zone),
        start_date=datetime(2024, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args=common.DEFAULTS,
        tags=["hearback", "source", source.kind],
    ) as dag:
        outlets = [common.captured(source.name)]
        options = {**common.EXTRACT, **common.TELLS, "map_index_template": None}
        task(task_id="extract", outlets=outlets, **options)(work.extract_alone)(source.name)
    return dag


settings = read_settings()
for entry in settings.sources:
    if entry.enabled and entry.schedule:
        dag = make_source_dag(entry, settings.project.time_zone)
        globals()[dag.dag_id] = dag

"""
### Everything customers said, once a day

Captures every source, checks and cleans what is new, labels it, rebuilds the tables it touches,
writes the follow-up lists, and publishes the warehouse.

* **When**: at each midnight of the project's time zone, for the day that ended; and, for sources
  with a `schedule` of their own, as soon as one of them has something new.
* **Which day**: the `date` parameter, else the day of the logical date, else today. Backfill with
  `airflow backfill create --dag-id feedback_daily --from-date D --to-date D`.
* **If a source fails**, the others go on; `check_sources` fails the run at the end and says why.
* **Again**: any task may be cleared and run again; what is already there is not added twice.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, TriggerRule, chain, task

from dags import common, work
from dags.configuration import read_settings

settings = read_settings()

with DAG(
    dag_id="feedback_daily",
    description="Capture, check, clean, label, aggregate, follow up, publish, deliver",
    doc_md=__doc__,
    schedule=common.daily_schedule(settings),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=common.run_params(settings),
    default_args=common.DEFAULTS,
    tags=["hearback"],
):
    sources = task()(work.list_sources)()
    extract = task(task_id="extract", outlets=[common.RAW], **common.EXTRACT)(
        work.extract_source
    ).expand(source=sources)

    def step(name: str, **options: Any) -> Any:
        return task(task_id=name, **options)(work.perform_step)(name)

    validate = step("validate", trigger_rule=TriggerRule.ALL_DONE, outlets=[common.STAGING])
    clean, classify = step("clean"), step("classify")
    aggregate = step("aggregate", pool=common.WAREHOUSE_POOL)
    follow_up = step("follow_up", pool=common.WAREHOUSE_POOL)
    publish = step("publish", pool=common.WAREHOUSE_POOL, outlets=[common.WAREHOUSE])
    deliver = step("deliver", outlets=[common.LISTS])
    check = task(trigger_rule=TriggerRule.ALL_DONE, **common.TELLS)(work.check_sources)()

    chain(extract, validate, clean, classify, aggregate, follow_up, publish, deliver, check)

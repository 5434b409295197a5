"""One extraction by itself, measured. source_bench calls it with a file that says what to pull.

Waiting for the limits of an API is left out: the clock of the requests jumps instead of sleeping,
and the seconds that it jumped are told.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.measure import MARK, Measured, Meter

if TYPE_CHECKING:
    from pipelines.context import Run

METER = Meter(float(os.environ.get("BENCH_BEGAN", time.time())))


class JumpingClock:
    """The module ``time``, but sleeping only moves it on."""

    def __init__(self) -> None:
        self.jumped = 0.0

    def sleep(self, seconds: float) -> None:
        self.jumped += seconds

    def monotonic(self) -> float:
        return time.monotonic() + self.jumped

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def import_heavy(run: Run) -> None:
    """What the first extraction would import, lest a short one measure little else."""
    from pipelines.sources.http import make_client
    from pipelines.storage import connect_duckdb

    make_client("http://127.0.0.1:9")

    connect_duckdb(run.lake).close()


def main(path: Path) -> None:
    wanted = json.loads(path.read_text("utf-8"))
    os.environ["AIRFLOW_CONN_DESK"] = json.dumps(wanted["secrets"])
    from pipelines import extract
    from pipelines.sources import find_kind, http
    from tests.pipelines.sources.pulling import make_run, make_source

    clock = JumpingClock()
    vars(http)["time"] = clock
    run = make_run(path.parent, make_source(wanted["kind"], wanted["url"], **wanted["more"]))
    find_kind(wanted["kind"])
    import_heavy(run)
    METER.tell_start_up()
    with METER.step("extract") as rows:
        counts = extract.run(run, "desk")
        rows += [count.count_in for count in counts]
    told = asdict(Measured("what came", clock.jumped, 0.0, 0.0, sum(c.count_out for c in counts)))
    told["entities"] = {count.entity: count.count_out for count in counts if count.entity}
    sys.stdout.write(MARK + json.dumps(told) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

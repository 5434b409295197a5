"""Hearback's own steps one after another in one process, as the daily DAG calls them.

Called by run_bench; ``python -m tests.bench.our_line FOLDER`` works on the hearback.toml there.
"""

from __future__ import annotations

import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.measure import Meter

if TYPE_CHECKING:
    from pipelines.context import Run

METER = Meter(float(os.environ.get("BENCH_BEGAN", time.time())))
STEPS = ("validate", "clean", "classify", "aggregate", "follow_up", "publish", "deliver")


def train(run: Run) -> None:
    """Make the first model, as the first run of an installation does."""
    from pipelines.classify import load_predictor

    with METER.step("train"):
        load_predictor(run.home)


def main(folder: Path, steps: list[str]) -> None:
    from pipelines.context import start_run
    from pipelines.settings import load_settings
    from tests.bench.records import NOW

    run = start_run(load_settings(folder / "hearback.toml"), now=NOW)
    METER.tell_start_up()
    from pipelines import extract

    with METER.step("to Parquet") as rows:
        for source in run.settings.sources:
            rows += [count.count_in for count in extract.run(run, source.name)]
    for name in steps:
        if name == "classify":
            train(run)
        with METER.step(name) as rows:
            step = import_module(f"pipelines.{name}")
            rows += [count.count_in for count in step.run(run)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(STEPS))

"""What every step is given, and the count of rows that every step must close."""

from __future__ import annotations

import gc
import resource
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from pipelines.errors import HearbackError
from pipelines.settings import Settings
from pipelines.storage import Home, Lake

STEPS = ("extract", "validate", "clean", "classify", "aggregate", "follow_up", "publish", "deliver")
Progress = Callable[[str, int], None]


def ignore_progress(message: str, rows: int) -> None:
    """The progress of a run that nobody watches."""


@dataclass(frozen=True)
class Run:
    """One run: ``date`` is the business day, ``now`` the instant that running clocks count to."""

    settings: Settings
    run_id: str
    date: date
    now: datetime
    sources: tuple[str, ...] = ()
    full_refresh: bool = False
    progress: Progress = ignore_progress

    @property
    def home(self) -> Home:
        return Home(self.settings)

    @property
    def lake(self) -> Lake:
        return self.home.lake

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.settings.project.time_zone)


def start_run(
    settings: Settings,
    *,
    day: date | None = None,
    run_id: str | None = None,
    now: datetime | None = None,
    sources: tuple[str, ...] = (),
    full_refresh: bool = False,
    progress: Progress = ignore_progress,
) -> Run:
    """A run of one day, today in the project's zone unless day is given.

    ``now`` is the present for today's run and the end of the day for an earlier one, so that a
    backfill sees the clocks as they stood. UsageError if a source does not exist.
    """
    for name in sources:
        settings.source(name)
    zone = ZoneInfo(settings.project.time_zone)
    present = (now or datetime.now(UTC)).astimezone(UTC)
    today = present.astimezone(zone).date()
    day = day or today
    if day != today and now is None:
        end = datetime.combine(day, datetime.max.time(), zone).replace(microsecond=0)
        present = end.astimezone(UTC)
    if run_id is None:
        run_id = f"{day:%Y%m%d}-{datetime.now(UTC):%H%M%S}-{secrets.token_hex(3)}"
    return Run(settings, run_id, day, present, sources, full_refresh, progress)


@dataclass
class StepCount:
    """One row of run_report: a step's rows for one source and entity.

    rows in = rows out + quarantined + duplicates + unchanged, or the run fails.
    """

    step: str
    source: str | None = None
    entity: str | None = None
    count_in: int = 0
    count_out: int = 0
    count_quarantined: int = 0
    count_duplicate: int = 0
    count_unchanged: int = 0
    detail: str | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0.0
    peak_memory_mb: float = 0.0

    @property
    def difference(self) -> int:
        accounted = (
            self.count_out + self.count_quarantined + self.count_duplicate + self.count_unchanged
        )
        return self.count_in - accounted


@contextmanager
def spare_collector() -> Iterator[None]:
    """Let the collector look at what a step makes only, and less often.

    Hundreds of thousands of objects of the imported libraries live to the end; looking through them
    again after every few thousand strings of a batch took a tenth of a step.
    """
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()  # what was frozen at the exit of the process would be reported as a leak


@contextmanager
def timed_step(run: Run, step: str, *, name: str | None = None) -> Iterator[list[StepCount]]:
    """Collect a step's counts; at the end stamp, check and write them to the lake.

    HearbackError if a sum does not close.
    """
    counts: list[StepCount] = []
    started_at, begin = datetime.now(UTC), time.monotonic()
    run.progress(f"{step} {name or ''}".strip(), 0)
    with spare_collector():
        yield counts
    seconds = time.monotonic() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for count in counts:
        count.started_at, count.seconds, count.peak_memory_mb = started_at, seconds, peak
    record_step(run, step, counts, name=name)


def record_step(run: Run, step: str, counts: list[StepCount], *, name: str | None = None) -> None:
    """Write a step's rows of run_report; HearbackError if rows are unaccounted for."""
    rows = [
        {"run_id": run.run_id, "run_date": run.date, **asdict(count), "is_closed": not
         count.difference}
        for count in counts
    ]  # fmt: skip
    run.lake.write_step_report(run.run_id, f"{step}--{name}" if name else step, rows)
    for count in counts:
        if count.difference:
            raise HearbackError(
                f"{step}: {count.difference} of {count.count_in} rows of "
                f"{count.source or 'all sources'}/{count.entity or 'all entities'} are unaccounted "
                "for; this is a fault in Hearback: keep the lake as it is and report it"
            )

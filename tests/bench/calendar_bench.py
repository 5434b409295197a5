"""Business minutes: how fast the model is over a million cases, and whether it is right.

``make bench-calendars`` runs both. Speed: cases with five intervals each on four calendars over two
years, one in five handed to another team on the way. Right: random calendars and cases against a
count minute by minute (see calendar_cases.py).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path

from pipelines.build_file import open_build_file
from pipelines.settings import Calendar
from tests.bench.calendar_cases import Compared, compare, open_home, run_model
from tests.bench.measure import cpu_seconds, forget_peak, peak_mb

FIRST, LAST = date(2025, 1, 1), date(2026, 12, 31)
WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday")
SHIFTS = ["09:00-12:00", "13:30-18:00"]
CALENDARS = [
    Calendar(name="c0", time_zone="Asia/Shanghai", country="CN", make_up_days=True,
             hours=dict.fromkeys(WEEK, SHIFTS)),
    Calendar(name="c1", time_zone="Europe/Berlin", country="DE", hours=dict.fromkeys(WEEK, SHIFTS)),
    Calendar(name="c2", time_zone="America/New_York", country="US",
             hours={key: ["08:00-20:00"] for key in (*WEEK, "saturday")}),
    Calendar(name="c3", time_zone="Europe/London", country="GB",
             hours={key: ["00:00-24:00"] for key in (*WEEK, "saturday", "sunday")}),
]  # fmt: skip
MEASURES = ("first_reply", "first_resolution", "full_resolution", "total_reply", "open")
ROUND_CALENDARS, ROUND_CASES = 100, 10_000


def fill_many(folder: Path, cases: int) -> None:
    """A build file with the calendars, and cases and intervals made by DuckDB."""
    home = open_home(folder, CALENDARS, FIRST, LAST)
    measures = ", ".join(f"'{measure}'" for measure in MEASURES)
    with open_build_file(home) as con:
        con.execute("select setseed(0.5)")
        con.execute(
            "create or replace table drawn as select md5(range::varchar) as case_id, "
            "range % 4 as calendar, timestamptz '2025-01-03 00:00:00+00' "
            "+ to_seconds((random() * 690 * 86400)::bigint) as opened_at, "
            f"random() < 0.2 as is_moved from range({cases})"
        )
        con.execute(
            "create or replace table intermediate.int_case_calendars as "
            "select case_id, 'c' || calendar as calendar, opened_at as started_at, "
            "if(is_moved, opened_at + interval 5 hours, null) as ended_at, true as is_opening "
            "from drawn union all select case_id, 'c' || (calendar + 1) % 4, "
            "opened_at + interval 5 hours, null, false from drawn where is_moved"
        )
        con.execute(
            "create or replace table intermediate.int_case_intervals as "
            f"select case_id, unnest([{measures}]) as measure, opened_at as started_at, "
            "opened_at + to_seconds((random() * 20 * 86400)::bigint) as ended_at from drawn"
        )
        con.execute("drop table drawn")


def measure_speed(cases: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        fill_many(Path(folder), cases)
        home = open_home(Path(folder), CALENDARS, FIRST, LAST)
        forget_peak()
        begin, cpu = time.monotonic(), cpu_seconds()
        run_model(home)
        seconds, cpu = time.monotonic() - begin, cpu_seconds() - cpu
        with open_build_file(home) as con:
            rows = con.execute("select count(*) from intermediate.int_case_minutes").fetchall()
        assert rows == [(cases,)]
        say(
            f"{cases:,} cases × {len(MEASURES)} intervals: {seconds:.1f} s "
            f"({cpu:.1f} s of processor), {peak_mb():,.0f} MB, load {os.getloadavg()[0]:.1f}"
        )


def compare_round(seed: int) -> Compared:
    with tempfile.TemporaryDirectory() as folder:
        return compare(Path(folder), seed, ROUND_CALENDARS, ROUND_CASES)


def measure_truth(cases: int) -> bool:
    """Count random cases both ways; True if no interval differs."""
    begin = time.monotonic()
    seeds = range(cases // ROUND_CASES)
    with ProcessPoolExecutor(2, get_context("spawn"), max_tasks_per_child=5) as pool:
        rounds = list(pool.map(compare_round, seeds))
    different = [pair for found in rounds for pair in found.different]
    say(
        f"{sum(found.cases for found in rounds):,} random cases, "
        f"{sum(found.intervals for found in rounds):,} intervals, "
        f"{ROUND_CALENDARS * len(seeds):,} calendars: {len(different)} differ from the count "
        f"minute by minute, at most {max(found.worst for found in rounds):.1e} minutes "
        f"({time.monotonic() - begin:.0f} s)"
    )
    for case, measure, model, hand in different[:10]:
        say(f"  {case} {measure}: {model} by the model, {hand} by hand")
    return not different


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000, help="for speed; 0: skip")
    parser.add_argument("--random", type=int, default=100_000, help="for truth; 0: skip")
    given = parser.parse_args()
    if given.cases:
        measure_speed(given.cases)
    if given.random and not measure_truth(given.random):
        sys.exit(1)


if __name__ == "__main__":
    main()

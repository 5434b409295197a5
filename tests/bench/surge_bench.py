"""False alarms on quiet days, and surges of twice a base of 30 a day found on their first day.

``make bench-surges`` simulates days of 50 groups under several rhythms (surge_days.py) and puts
them through the models of ``sql/``. Then it measures the models themselves: two years of 300
groups at once, and one day more.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np

from tests.bench.measure import peak_mb
from tests.bench.surge_days import (
    FIRST,
    SCENARIOS,
    Scenario,
    fill_days,
    open_home,
    read_surges,
    run_models,
    score,
)


def measure_scenario(scenario: Scenario, days: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = score(Path(folder), scenario, days, seed)
    say(
        f"{found.scenario:30} quiet days with an alarm {found.false_share:6.1%} of "
        f"{found.quiet_days:,}; surges found at once {found.power:6.1%} of {found.planted:,}"
    )


def measure_speed(days: int, groups: int) -> None:
    rng = np.random.default_rng(1)
    rates = np.exp(rng.normal(1, 1.2, groups))[None, :] * np.ones((days, 1))
    counts = rng.poisson(rates)
    with tempfile.TemporaryDirectory() as folder:
        home = open_home(Path(folder))
        fill_days(home, counts)
        run_models(home)  # dbt is imported, the project is read
        begin = time.monotonic()
        run_models(home)
        whole = time.monotonic() - begin
        fill_days(home, counts, [FIRST + timedelta(days=days - 1 - back) for back in range(3)])
        begin = time.monotonic()
        run_models(home, is_full=False)
        daily = time.monotonic() - begin
        rows = read_surges(home, "count(*) as n")[0]["n"]
    say(
        f"{days} days of {groups} groups, {counts.sum():,} messages, {rows:,} rows: {whole:.1f} s "
        f"at once, {daily:.1f} s for three days; {peak_mb():,.0f} MB, load {os.getloadavg()[0]:.1f}"
    )


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=2_000, help="quiet days a scenario")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    measure_speed(730, 300)
    for scenario in SCENARIOS:
        measure_scenario(scenario, given.days, given.seed)


if __name__ == "__main__":
    main()

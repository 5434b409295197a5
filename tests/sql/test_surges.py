"""Surges: simulated days in, alerts out; and the tail against SciPy's."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from mart_world import World
from scipy import special

from pipelines.storage import Home
from tests.bench.surge_days import (
    FIRST,
    SCENARIOS,
    WINDOW,
    Scenario,
    count_alarms,
    draw_counts,
    draw_rates,
    fill_days,
    open_home,
    read_surges,
    run_models,
    score,
)


def test_quiet_days_raise_no_alarm_and_surges_are_found_at_once(tmp_path: Path) -> None:
    """200 quiet days of 50 groups, and 200 surges of twice a base of 30 a day. ``make
    bench-surges`` simulates ten times as many days, in more worlds."""
    found = score(tmp_path, SCENARIOS[0], days=200, seed=20261129)
    assert (found.quiet_days, found.planted) == (200, 200)
    assert found.false_share <= 0.05
    assert found.power >= 0.9


@pytest.mark.parametrize("scenario", SCENARIOS[1:3], ids=lambda scenario: scenario.name)
def test_rhythms_and_shifts_are_no_surges(tmp_path: Path, scenario: Scenario) -> None:
    rng = np.random.default_rng(20261129)
    counts = draw_counts(rng, draw_rates(rng, scenario, 400 + WINDOW), scenario.variance)
    assert count_alarms(open_home(tmp_path), counts) <= 0.05 * 400


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """120 days on which groups of all sizes have weeks of their own; the last day is a surge."""
    rng = np.random.default_rng(5)
    home = open_home(tmp_path_factory.mktemp("surges"))
    counts = draw_counts(rng, draw_rates(rng, SCENARIOS[4], 120), 1.0)
    counts[-1, 3] *= 3
    fill_days(home, counts)
    run_models(home)
    return home


def test_chance_is_the_binomial_tail(simulated: Home) -> None:
    rows = read_surges(simulated, where="k > expected")
    assert len(rows) > 1_000
    k, n, p, spread, found = (
        np.array([row[name] for row in rows], float)
        for name in ("k", "n", "p", "dispersion", "p_value")
    )
    right = special.betainc(k / spread, (n - k) / spread + 1, p)
    np.testing.assert_allclose(found, right, rtol=1e-7)
    assert (spread >= 1).all()


def test_correction_is_that_of_benjamini_and_hochberg(simulated: Home) -> None:
    from scipy import stats

    day = FIRST + timedelta(days=119)
    rows = read_surges(simulated, where=f"created_date = date '{day}'")
    assert rows[0]["tested_count"] == 50
    chances = [row["p_value"] for row in rows] + [1.0] * (50 - len(rows))
    right = stats.false_discovery_control(chances)[: len(rows)]
    assert [row["q_value"] for row in rows] == pytest.approx(list(right))
    assert [row["value"] for row in rows if row["is_alert"]] == ["product 003"]


def test_nothing_is_tested_before_there_is_history(simulated: Home) -> None:
    early = f"created_date < date '{FIRST + timedelta(days=28)}'"
    rows = read_surges(simulated, "count(*) as n, count(p_value) as p, bool_or(is_alert) as a",
                       early)  # fmt: skip
    assert rows == [{"n": rows[0]["n"], "p": 0, "a": False}]
    assert rows[0]["n"] > 1_000


def test_day_by_day_equals_at_once(simulated: Home, tmp_path: Path) -> None:
    """A changed day moves its own tests and those of the days whose window it is in."""
    rng = np.random.default_rng(6)
    counts = draw_counts(rng, draw_rates(rng, SCENARIOS[3], 110), 1.0)
    home = open_home(tmp_path)
    fill_days(home, counts[:108])
    run_models(home)
    counts[70, 1] += 40
    counts[71, 2] = 0
    touched = [FIRST + timedelta(days=day) for day in (70, 71, 108, 109)]
    fill_days(home, counts, touched)
    run_models(home, is_full=False)
    by_day = read_surges(home)
    assert (touched[0], 1) in {(row["created_date"], row["is_alert"]) for row in by_day}
    fill_days(home, counts)
    run_models(home)
    for before, after in zip(by_day, read_surges(home), strict=True):
        assert [*before] == [*after]
        for name, value in before.items():
            is_measured = isinstance(value, float)
            assert value == (pytest.approx(after[name], rel=1e-9) if is_measured else after[name])


def test_group_that_was_never_seen_is_a_surge_of_its_own(tmp_path: Path) -> None:
    counts = np.full((WINDOW + 1, 50), 30)
    counts[:, 7] = 0
    counts[-1, 7] = 9
    home = open_home(tmp_path)
    fill_days(home, counts)
    run_models(home)
    rows = read_surges(home, where="is_alert")
    assert [(row["value"], row["k"]) for row in rows] == [("product 007", 9)]
    assert rows[0]["expected"] < 0.1


def test_level_that_has_risen_for_weeks_is_usual(tmp_path: Path) -> None:
    """Alarms while a surge is new; none once it has lasted for an eighth of the window."""
    counts = np.full((WINDOW * 2, 50), 30)
    counts[WINDOW:, 7] = 90
    home = open_home(tmp_path)
    fill_days(home, counts)
    run_models(home)
    days = [(row["created_date"] - FIRST).days - WINDOW
            for row in read_surges(home, where="is_alert")]  # fmt: skip
    assert days == list(range(8))


def test_golden_world_has_a_row_for_each_group_of_a_day(golden: World) -> None:
    rows = golden.query(
        "select sum(k) as k, any_value(n) as n from surges "
        "where counted = 'feedback' and dimension = 'channel' group by created_date"
    )
    assert rows
    assert all(row["k"] == row["n"] for row in rows)

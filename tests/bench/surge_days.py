"""Simulated days of messages by group, with and without surges, and what the models say of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.aggregate import write_lake_views
from pipelines.build_file import create_build_file, open_build_file, write_rows, write_table
from pipelines.context import Run
from pipelines.dbt_project import invoke_dbt
from pipelines.settings import Settings
from pipelines.storage import Home

FIRST = date(2024, 1, 1)
WINDOW = 56
GROUPS, BASE = 50, 30.0
PLANTED, APART = 20, 4  # groups that surge in turn, and the days from a surge to the next
MODELS = "int_surge_counts int_surge_shares surges"
Counts = NDArray[np.int64]
Rng = np.random.Generator


@dataclass(frozen=True)
class Scenario:
    """How days differ, besides by chance. All groups have BASE messages on a usual day."""

    name: str
    # Each weekday's volume, for all groups alike: Monday first, 1 on usual days.
    week: tuple[float, ...] = (1.0,) * 7
    # Standard deviation of each group's own weekday factors (logarithm).
    own_week: float = 0.0
    # Groups of the last places that hardly write at weekends.
    office_groups: int = 0
    # Factor of all volumes in every other four weeks.
    shift: float = 1.0
    # Variance over mean of the counts; 1 is a Poisson's.
    variance: float = 1.0
    # Sizes of groups (standard deviation of the logarithm); the first 20 stay at BASE.
    sizes: float = 0.0


CALM_WEEKENDS = (1.1, 1.0, 1.0, 1.0, 1.0, 0.6, 0.5)
SCENARIOS = (
    Scenario("even days"),
    Scenario("weekly rhythm", week=CALM_WEEKENDS),
    Scenario("total volume shifts", shift=1.6),
    Scenario("each group's own week", own_week=0.15),
    Scenario("ten groups of office days", office_groups=10),
    Scenario("groups of many sizes", sizes=1.0),
    Scenario("counts vary more than chance", variance=1.5),
)


def draw_rates(rng: Rng, scenario: Scenario, days: int) -> NDArray[np.float64]:
    """Expected messages by day and group."""
    weekdays = np.arange(days) % 7
    bases = BASE * np.exp(rng.normal(0, scenario.sizes, GROUPS)) if scenario.sizes else BASE
    rates = np.full((days, GROUPS), bases)
    rates[:, :PLANTED] = BASE
    rates *= np.array(scenario.week)[weekdays][:, None]
    rates *= np.exp(rng.normal(0, scenario.own_week, (7, GROUPS)))[weekdays]
    if scenario.office_groups:
        office = np.where(weekdays >= 5, 0.05, 1.38)[:, None]
        rates[:, GROUPS - scenario.office_groups :] *= office
    rates[(np.arange(days) // (WINDOW // 2)) % 2 == 1] *= scenario.shift
    return rates


def draw_counts(rng: Rng, rates: NDArray[np.float64], variance: float) -> Counts:
    if variance == 1:
        return rng.poisson(rates)
    return rng.negative_binomial(rates / (variance - 1), 1 / variance)


def open_home(folder: Path) -> Home:
    """A build file with empty facts, and what the models read of a run."""
    settings = Settings.model_validate(
        {"project": {"home": str(folder), "time_zone": "UTC"}, "path": folder / "hearback.toml"}
    )
    home = Home(settings)
    now = datetime(2040, 1, 1, tzinfo=UTC)
    create_build_file(home)
    with open_build_file(home) as con:
        write_lake_views(con, Run(settings, "bench", now.date(), now))
        for schema in ("run", "intermediate", "staging"):
            con.execute(f"create schema if not exists {schema}")
        columns = {"as_of": "timestamptz", "time_zone": "varchar"}
        write_rows(con, "run.current", columns, [{"as_of": now, "time_zone": "UTC"}])
        con.execute(
            "create table main.cases (opened_at timestamptz, time_zone varchar, team varchar, "
            "is_excluded boolean, opening_feedback_id varchar)"
        )
        for name in ("feedback", "labels"):
            lake = {"feedback": "feedback", "labels": "classified"}[name]
            con.execute(f"create view staging.stg_{name} as select * from lake.{lake}")
    return home


def fill_days(home: Home, counts: Counts, touched: list[date] | None = None) -> None:
    """Messages by day and product as metrics_daily holds them."""
    days, groups = np.nonzero(counts)
    table = pa.table(
        {
            "cohort_date": pa.array([FIRST + timedelta(days=int(day)) for day in days]),
            "product": pa.array([name_group(group) for group in groups]),
            "numerator": pa.array(counts[days, groups].astype(float)),
        }
    )
    every = [FIRST + timedelta(days=day) for day in range(len(counts))]
    with open_build_file(home) as con:
        write_table(con, "drawn", table)
        con.execute(
            "create or replace table main.metrics_daily as select *, 'volume' as metric, "
            "'feedback' as counted, null::varchar as need, null::varchar as feedback_type, "
            "null::varchar as channel, null::varchar as team from drawn"
        )
        listed = [{"day": day} for day in (every if touched is None else touched)]
        write_rows(con, "intermediate.int_touched_days", {"day": "date"}, listed)


def name_group(number: int) -> str:
    return f"product {number:03}"


def run_models(home: Home, *, is_full: bool = True) -> None:
    arguments = ["run", "--no-write-json", "--select", *MODELS.split()]
    invoke_dbt(home, arguments + (["--full-refresh"] if is_full else []))


def read_surges(home: Home, columns: str = "*", where: str = "true") -> list[dict[str, Any]]:
    with open_build_file(home) as con:
        rows: list[dict[str, Any]] = (
            con.sql(f"select {columns} from main.surges where {where} order by all")
            .to_arrow_table()
            .to_pylist()
        )
    return rows


# What is asked of the test ------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """Quiet days on which anything was found, and planted surges found on their first day."""

    scenario: str
    quiet_days: int
    false_days: int
    planted: int
    found: int

    @property
    def false_share(self) -> float:
        return self.false_days / self.quiet_days

    @property
    def power(self) -> float:
        return self.found / self.planted


def score(folder: Path, scenario: Scenario, days: int, seed: int) -> Score:
    """``days`` quiet days, then the same with a surge of 2× on each day in turn."""
    rng = np.random.default_rng(seed)
    rates = draw_rates(rng, scenario, days + WINDOW)
    home = open_home(folder)
    alarms = count_alarms(home, draw_counts(rng, rates, scenario.variance))
    planted = found = 0
    # A group surges every 80 days, so that no surge lies in the window of its next one.
    for turn in range(APART):
        at = np.arange(WINDOW + turn, days + WINDOW, APART)
        who = np.arange(len(at)) % PLANTED
        is_base = rates[at, who] >= BASE
        at, who = at[is_base], who[is_base]
        surging = rates.copy()
        surging[at, who] *= 2
        fill_days(home, draw_counts(rng, surging, scenario.variance))
        run_models(home)
        listed = ", ".join(
            f"(date '{FIRST + timedelta(days=int(day))}', '{name_group(group)}')"
            for day, group in zip(at, who, strict=True)
        )
        where = f"is_alert and (created_date, value) in ({listed})"
        found += len(read_surges(home, "created_date", where))
        planted += len(at)
    return Score(scenario.name, days, alarms, planted, found)


def count_alarms(home: Home, counts: Counts) -> int:
    """Days with an alert, among those that have a whole window before them."""
    fill_days(home, counts)
    run_models(home)
    tested = f"is_alert and created_date >= date '{FIRST + timedelta(days=WINDOW)}'"
    return len(read_surges(home, "distinct created_date", tested))

"""Random work calendars and cases, their business minutes by the model of ``sql/``, and the same
counted minute by minute off the wall clock, by rules written a second time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from pipelines.build_file import create_build_file, open_build_file, write_table
from pipelines.dbt_project import invoke_dbt
from pipelines.mart_config import write_calendars
from pipelines.settings import WEEKDAYS, Calendar, Settings, parse_span
from pipelines.storage import Home

YEAR = 2026
FIRST, LAST = date(YEAR, 1, 1), date(YEAR, 12, 31)
MINUTES = 365 * 1440
MICROS = 60_000_000
TOLERANCE = 1e-4  # minutes: sums of up to a year of them, as DOUBLE
# Clocks that change on eight days of the year, by half an hour, and not at all.
ZONES = (
    "Asia/Shanghai", "Europe/Berlin", "Europe/London", "America/New_York", "America/Santiago",
    "Australia/Lord_Howe", "Australia/Sydney", "Africa/Cairo", "Africa/Casablanca", "Asia/Kolkata",
    "Pacific/Chatham", "UTC",
)  # fmt: skip
COUNTRIES = (None, "CN", "US", "GB", "DE-BY", "AU")
# Events are measured on the calendar named at the opening, spells on the one in force.
EVENTS = ("first_reply", "first_resolution", "full_resolution", "unsolved_age")
SPELLS = ("total_reply", "new", "open", "pending", "hold")
Rng = np.random.Generator


@dataclass(frozen=True)
class Cases:
    """Which calendar a case has from when on, and its intervals; instants in microseconds."""

    owners: pa.Table  # case_id, calendar, started_at, ended_at, is_opening
    intervals: pa.Table  # case_id, measure, started_at, ended_at


# Random worlds ------------------------------------------------------------------------------------


def draw_calendars(rng: Rng, count: int) -> list[Calendar]:
    """Calendars of one to three versions each, named c0, c1, …"""
    found = []
    for number in range(count):
        begins = sorted(rng.choice(340, size=rng.integers(0, 3), replace=False) + 10)
        days = [None, *(FIRST + timedelta(days=int(begin)) for begin in begins)]
        # Half of them keep their zone from version to version, as teams do.
        zones = rng.choice(ZONES, size=len(days))
        if rng.random() < 0.5:
            zones[:] = zones[0]
        found += [
            draw_version(rng, f"c{number}", str(zone), begin)
            for zone, begin in zip(zones, days, strict=True)
        ]
    return found


def draw_version(rng: Rng, name: str, zone: str, begin: date | None) -> Calendar:
    hours = {day: draw_spans(rng) for day in WEEKDAYS if rng.random() < 0.75}
    hours["monday"] = hours.get("monday") or ["09:00-12:00", "13:30-18:00"]
    own = [FIRST + timedelta(days=int(day)) for day in rng.choice(365, size=24, replace=False)]
    country = COUNTRIES[rng.integers(len(COUNTRIES))]
    return Calendar(
        name=name, time_zone=zone, hours=hours, country=country, valid_from=begin,
        make_up_days=country == "CN" and bool(rng.random() < 0.8),
        closed=own[:12], open=own[12:],
    )  # fmt: skip


def draw_spans(rng: Rng) -> list[str]:
    """One to four intervals of a day to the minute; some meet, some reach to midnight."""
    marks = np.sort(rng.choice(1441, size=2 * rng.integers(1, 5), replace=False))
    if rng.random() < 0.2:
        marks[-1] = 1440
    if rng.random() < 0.2:
        marks[0] = 0
    if len(marks) > 2 and rng.random() < 0.2:
        marks[2] = marks[1]
    pairs = marks.reshape(-1, 2)
    return [f"{a // 60:02}:{a % 60:02}-{b // 60:02}:{b % 60:02}" for a, b in pairs]


def draw_cases(rng: Rng, calendars: int, count: int) -> Cases:
    """Cases with one to three calendars in turn, and one interval of each measure."""
    start = int(datetime(YEAR, 1, 3, tzinfo=UTC).timestamp()) * 1_000_000
    stop = int(datetime(YEAR, 12, 28, tzinfo=UTC).timestamp()) * 1_000_000
    opened = rng.integers(start, stop - 40 * 1440 * MICROS, size=count)
    spells = rng.integers(1, 4, size=count)
    owners: dict[str, list[np.ndarray[Any, Any]]] = defaultdict(list)
    moves = np.sort(opened[:, None] + rng.integers(0, 20 * 1440 * MICROS, size=(count, 2)), axis=1)
    begins = np.column_stack((opened, moves))
    for turn in range(3):
        at = np.flatnonzero(spells > turn)
        owners["case_id"].append(at)
        owners["calendar"].append(rng.integers(0, calendars, size=len(at)))
        owners["started_at"].append(begins[at, turn])
        following = begins[at, turn + 1] if turn < 2 else np.full(len(at), -1)
        owners["ended_at"].append(np.where(spells[at] > turn + 1, following, -1))
        owners["is_opening"].append(np.full(len(at), turn == 0))
    parts: dict[str, list[np.ndarray[Any, Any]]] = defaultdict(list)
    for number, measure in enumerate(EVENTS + SPELLS):
        # An event is counted from the opening; a spell may begin at any time after it.
        wait = 0 if measure in EVENTS else rng.integers(0, 10 * 1440 * MICROS, size=count)
        length = np.minimum(rng.exponential(1 + 3 * number, size=count), 25) * 1440 * MICROS
        parts["case_id"].append(np.arange(count))
        parts["measure"].append(np.full(count, measure))
        parts["started_at"].append(opened + wait)
        parts["ended_at"].append(np.minimum(opened + wait + length.astype(np.int64), stop))
    return Cases(make_table(owners), make_table(parts))


def make_table(columns: dict[str, list[np.ndarray[Any, Any]]]) -> pa.Table:
    """Numbers as the names and instants that the models know; an instant of -1 is NULL."""
    instant = pa.timestamp("us", tz="UTC")
    found = {}
    for name, pieces in columns.items():
        values = np.concatenate(pieces)
        if name.endswith("_at"):
            found[name] = pa.array(values, pa.int64(), mask=values < 0).cast(instant)
        elif name in ("case_id", "calendar"):
            found[name] = pa.array([f"{name[0]}{value}" for value in values.tolist()])
        else:
            found[name] = pa.array(values)
    return pa.table(found)


# By the model -------------------------------------------------------------------------------------


def open_home(folder: Path, calendars: list[Calendar], first: date, last: date) -> Home:
    """A build file that holds the calendars, as aggregate writes them."""
    settings = Settings.model_validate({
        "project": {"home": str(folder)},
        "calendars": [calendar.model_dump() for calendar in calendars],
        "path": folder / "hearback.toml",
    })  # fmt: skip
    home = Home(settings)
    create_build_file(home)
    with open_build_file(home) as con:
        con.execute("create schema if not exists config")
        con.execute("create schema if not exists intermediate")
        write_calendars(con, settings, first, last)
    return home


def fill_cases(home: Home, cases: Cases) -> None:
    with open_build_file(home) as con:
        write_table(con, "intermediate.int_case_calendars", cases.owners)
        write_table(con, "intermediate.int_case_intervals", cases.intervals)


def run_model(home: Home) -> None:
    """Build int_case_minutes, and nothing else, with the dbt project as it stands."""
    invoke_dbt(home, ["run", "--no-write-json", "--select", "int_case_minutes"])


def read_minutes(home: Home) -> dict[tuple[str, str], float]:
    """Business minutes by (case, measure); what is NULL is left out."""
    with open_build_file(home) as con:
        rows = con.execute(
            "unpivot (select case_id, columns('(.*)_business_minutes') as '\\1' "
            "from intermediate.int_case_minutes) on * exclude (case_id) "
            "into name measure value minutes"
        ).fetchall()
    return {(case, measure): minutes for case, measure, minutes in rows}


# Minute by minute ---------------------------------------------------------------------------------


def count_by_hand(calendars: list[Calendar], cases: Cases) -> dict[tuple[str, str], float]:
    """What ``read_minutes`` should give."""
    versions: dict[str, list[Calendar]] = defaultdict(list)
    for calendar in calendars:
        versions[calendar.name].append(calendar)
    owners: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in to_micros(cases.owners):
        owners[row["case_id"]].append(row)
    pieces: dict[str, list[tuple[tuple[str, str], int, int]]] = defaultdict(list)
    for row in to_micros(cases.intervals):
        key, known = (row["case_id"], row["measure"]), owners[row["case_id"]]
        if row["measure"] in EVENTS:
            name = next(owner["calendar"] for owner in known if owner["is_opening"])
            pieces[name].append((key, row["started_at"], row["ended_at"]))
            continue
        for owner in known:
            begin = max(row["started_at"], owner["started_at"])
            end = min(row["ended_at"], owner["ended_at"] or row["ended_at"])
            if begin < end:
                pieces[owner["calendar"]].append((key, begin, end))
    found: dict[tuple[str, str], float] = defaultdict(float)
    for name, entries in pieces.items():
        is_open = watch_clock(versions[name])
        bounds = np.array([(begin, end) for _, begin, end in entries], np.int64)
        lengths = count_open(is_open, bounds[:, 1]) - count_open(is_open, bounds[:, 0])
        for (key, _, _), length in zip(entries, lengths.tolist(), strict=True):
            found[key] += length
    return dict(found)


def to_micros(table: pa.Table) -> list[dict[str, Any]]:
    columns = {
        name: table[name].cast(pa.int64()) if name.endswith("_at") else table[name]
        for name in table.column_names
    }
    rows: list[dict[str, Any]] = pa.table(columns).to_pylist()
    return rows


def count_open(is_open: np.ndarray[Any, Any], instants: np.ndarray[Any, Any]) -> Any:
    """Open minutes of the year until each instant; the minute under way counts in part."""
    since = instants - int(datetime(YEAR, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    whole, part = since // MICROS, since % MICROS
    counted = np.concatenate(([0], np.cumsum(is_open)))
    return counted[whole] + is_open[whole] * (part / MICROS)


def watch_clock(versions: list[Calendar]) -> np.ndarray[Any, Any]:
    """Whether each minute of the year (of UTC) is open by the version that is in force in it."""
    ordered = sorted(versions, key=lambda version: version.valid_from or date.min)
    is_open = np.zeros(MINUTES, bool)
    for version in ordered:
        wall = read_wall(version.time_zone)
        day, minute = wall // 1440, wall % 1440
        found = draw_day_plan(version)[day + 1, minute]
        # It takes over with the first minute whose local day is its own.
        begin = 0
        if version.valid_from is not None:
            begin = int(np.argmax(day >= (version.valid_from - FIRST).days))
        is_open[begin:] = found[begin:]
    return is_open


@cache
def read_wall(zone: str) -> np.ndarray[Any, Any]:
    """Local wall time of each minute of the year of UTC, in minutes since its local first day.

    Read every quarter of an hour: no clock changes in between.
    """
    begin = datetime(YEAR, 1, 1, tzinfo=UTC)
    reader = ZoneInfo(zone)
    quarters = []
    for number in range(MINUTES // 15):
        local = (begin + timedelta(minutes=15 * number)).astimezone(reader)
        days = (local.date() - FIRST).days
        quarters.append(days * 1440 + local.hour * 60 + local.minute)
    return (np.repeat(quarters, 15) + np.tile(np.arange(15), len(quarters))).astype(np.int64)


def draw_day_plan(version: Calendar) -> np.ndarray[Any, Any]:
    """Open or not by local day (from the day before the year on) and minute of the day."""
    plan = np.zeros((367, 1440), bool)
    for number in range(367):
        for span in list_spans(version, FIRST + timedelta(days=number - 1)):
            begin, end = parse_span(span)
            plan[number, begin:end] = True
    return plan


def list_spans(version: Calendar, day: date) -> list[str]:
    usual = version.hours.get(WEEKDAYS[day.weekday()], [])
    if day in version.closed:
        return []
    if day in version.open:
        return usual or version.hours.get(version.make_up_hours, [])
    if version.country == "CN" and day.year == YEAR:
        import chinese_calendar

        is_free, name = chinese_calendar.get_holiday_detail(day)
        if name and is_free:
            return []
        if name and version.make_up_days:
            return version.hours.get(version.make_up_hours, [])
        return usual
    return [] if version.country and day in read_holidays(version.country) else usual


@cache
def read_holidays(country: str) -> Any:
    import holidays

    code, _, part = country.partition("-")
    return holidays.country_holidays(code, subdiv=part or None, years=range(YEAR - 1, YEAR + 2))


# Both ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    cases: int
    intervals: int
    worst: float  # minutes between the two, at most
    different: list[tuple[str, str, float, float]]  # case, measure, by the model, by hand


def compare(folder: Path, seed: int, calendars: int, cases: int) -> Compared:
    """Draw a world and count it both ways."""
    rng = np.random.default_rng(seed)
    drawn = draw_calendars(rng, calendars)
    world = draw_cases(rng, calendars, cases)
    home = open_home(folder, drawn, FIRST, LAST)
    fill_cases(home, world)
    run_model(home)
    found, right = read_minutes(home), count_by_hand(drawn, world)
    pairs = [(*key, found.get(key, 0.0), right.get(key, 0.0)) for key in {**found, **right}]
    gaps = [abs(model - hand) for _, _, model, hand in pairs]
    different = [pair for pair, gap in zip(pairs, gaps, strict=True) if gap > TOLERANCE]
    return Compared(cases, world.intervals.num_rows, max(gaps), different)

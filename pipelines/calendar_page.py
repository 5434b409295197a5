"""``hearback calendar show``: a month of the work calendars as people read it, or as rows."""

from __future__ import annotations

import csv
import json
from calendar import monthrange
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, TextIO
from zoneinfo import ZoneInfo

from pipelines.calendars import count_business_minutes, expand_calendar
from pipelines.errors import UsageError
from pipelines.settings import WEEKDAYS, Calendar, Settings, nearest
from pipelines.special_days import PlannedDay, list_warnings, plan_versions, sort_versions
from pipelines.wording import Language

if TYPE_CHECKING:
    from rich.table import Table

Day = date  # the row has a field of that name

PIPE_WIDTH = 140  # of a page that is not shown on a terminal
WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "weekdays": "Mon Tue Wed Thu Fri Sat Sun",
        "week": "Week",
        "holiday": "holiday",
        "make_up": "make-up workday",
        "closed": "own free day",
        "open": "own working day",
        "version": "new version",
        "clocks": "clocks {minutes:+d} min",
        "title": "{name} · {month:%Y-%m} · {zone}",
        "since": " · in force since {day}",
        "sum": "open on {days} days, {hours:g} hours",
        "line": "hearback.toml: '{key}' of calendar {name!r}",
        "overrules": "overrules {named}",
        "zone": "rules of {zone}",
        "warning": "note: {text}",
    },
    "zh": {
        "weekdays": "周一 周二 周三 周四 周五 周六 周日",
        "week": "周次",
        "holiday": "节假日",
        "make_up": "调休上班日",
        "closed": "自定休息日",
        "open": "自定工作日",
        "version": "新版本",
        "clocks": "时钟调整 {minutes:+d} 分钟",
        "title": "{name} · {month:%Y-%m} · {zone}",
        "since": " · 自 {day} 起生效",
        "sum": "上班 {days} 天，共 {hours:g} 小时",
        "line": "hearback.toml：日历 {name!r} 的 '{key}'",
        "overrules": "优先于 {named}",
        "zone": "时区 {zone} 的规则",
        "warning": "注意：{text}",
    },
}


@dataclass(frozen=True)
class DayRow:
    """A day of a calendar with all that is known of it; the row of CSV and JSON."""

    calendar: str
    date: Day
    weekday: str
    iso_week: int
    time_zone: str
    valid_from: Day | None
    mark: str
    intervals: list[str]
    open_minutes: float
    name: str | None
    name_zh: str | None
    origin: str | None
    starts_version: bool
    clock_change_minutes: int


def show_calendars(
    settings: Settings,
    month: date | None,
    name: str | None,
    out: TextIO,
    *,
    form: str = "table",
    language: Language = "en",
) -> list[str]:
    """Print a month of one calendar or of all; returns what is to be told beside it.

    ``form`` is table, csv or json (one object a line). UsageError if there is no such calendar.
    """
    today = datetime.now(ZoneInfo(settings.project.time_zone)).date()
    first = (month or today).replace(day=1)
    last = first.replace(day=monthrange(first.year, first.month)[1])
    chosen = choose_calendars(settings, name)
    warnings: list[str] = []
    pages = []
    for versions in chosen.values():
        pages.append((versions, list(list_days(versions, first, last))))
        warnings += list_warnings(versions, first, last)
    if form == "csv":
        write_csv([row for _, rows in pages for row in rows], out)
    elif form == "json":
        for row in (row for _, rows in pages for row in rows):
            out.write(json.dumps(asdict(row), ensure_ascii=False, default=str) + "\n")
    else:
        for versions, rows in pages:
            print_month(versions, rows, WORDS[language], out)
    return [WORDS[language]["warning"].format(text=text) for text in warnings]


def choose_calendars(settings: Settings, name: str | None) -> dict[str, list[Calendar]]:
    """The versions of each calendar, or of the one that is named."""
    found: dict[str, list[Calendar]] = {}
    for calendar in settings.calendars:
        found.setdefault(calendar.name, []).append(calendar)
    if name is None and found:
        return found
    if name in found:
        return {name: found[name]}
    hint = nearest(name or "", list(found))
    what = f"there is no calendar {name!r}{hint}" if name else "there is no calendar"
    raise UsageError(
        f"{settings.path}: {what}; calendars are: {', '.join(found) or 'none'}; "
        "add one as [[calendars]]"
    )


def list_days(versions: Sequence[Calendar], first: date, last: date) -> Iterator[DayRow]:
    """Every day from first to last with its open minutes, as the clocks of its zone count them."""
    ordered = sort_versions(versions)
    table = expand_calendar(versions, first, last)
    for planned in plan_versions(versions, first, last):
        current = [v for v in ordered if (v.valid_from or date.min) <= planned.day] or ordered[:1]
        version = current[-1]
        yield DayRow(
            calendar=version.name,
            date=planned.day,
            weekday=WEEKDAYS[planned.day.weekday()],
            iso_week=planned.day.isocalendar().week,
            time_zone=version.time_zone,
            valid_from=version.valid_from,
            mark=planned.mark,
            intervals=list(planned.spans),
            open_minutes=count_day(planned.day, version.time_zone, table),
            name=planned.named.en if planned.named else None,
            name_zh=planned.named.zh if planned.named else None,
            origin=find_origin(planned, version),
            starts_version=planned.starts_version,
            clock_change_minutes=planned.clock_change,
        )


def count_day(day: date, time_zone: str, table: object) -> float:
    """Open minutes of a local day on the expanded calendar."""
    import numpy as np
    import pyarrow as pa

    assert isinstance(table, pa.Table)
    bounds = [
        int(datetime.combine(moment, time(), ZoneInfo(time_zone)).timestamp())
        for moment in (day, day + timedelta(days=1))
    ]
    low, high = (np.array([bound], "datetime64[s]") for bound in bounds)
    return float(count_business_minutes(low, high, table)[0])


def find_origin(planned: PlannedDay, version: Calendar) -> str | None:
    """Where a special day comes from: a library with its country, or the configuration's line."""
    if planned.mark in ("closed", "open"):
        line = WORDS["en"]["line"].format(key=planned.mark, name=version.name)
        if planned.named is None:
            return line
        overruled = f"{planned.named.en} ({planned.named.origin})"
        return f"{line}; {WORDS['en']['overrules'].format(named=overruled)}"
    return planned.named.origin if planned.named else None


def write_csv(rows: Sequence[DayRow], out: TextIO) -> None:
    """NULL is empty, true and false are in lower case, intervals are parted by blanks."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(DayRow.__dataclass_fields__)
    for row in rows:
        values = asdict(row) | {
            "intervals": " ".join(row.intervals),
            "starts_version": str(row.starts_version).lower(),
        }
        writer.writerow(values.values())


def print_month(
    versions: Sequence[Calendar], rows: Sequence[DayRow], words: dict[str, str], out: TextIO
) -> None:
    """A table of weeks, then every special day with its names and its origin, then the sum."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=out, highlight=False, width=None if out.isatty() else PIPE_WIDTH)
    # The zone and version of the last day: those that hold from here on.
    title = words["title"].format(
        name=versions[0].name, month=rows[0].date, zone=rows[-1].time_zone
    )
    if rows[-1].valid_from:
        title += words["since"].format(day=rows[-1].valid_from)
    console.print(Text(title, style="bold"))
    console.print(make_weeks(rows, words))
    for row in rows:
        for line in describe_day(row, words):
            console.print(Text(line), soft_wrap=True)
    opened = [row.open_minutes for row in rows if row.open_minutes]
    console.print(words["sum"].format(days=len(opened), hours=round(sum(opened) / 60, 2)))
    console.print()


def make_weeks(rows: Sequence[DayRow], words: dict[str, str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_lines=True)
    for head in [words["week"], *words["weekdays"].split()]:
        table.add_column(head, overflow="fold")
    weeks: dict[int, list[Text]] = {}
    for row in rows:
        cells = weeks.setdefault(row.iso_week, [Text("") for _ in WEEKDAYS])
        cells[row.date.weekday()] = Text("\n".join([head_day(row, words), *row.intervals]))
    for week, cells in weeks.items():
        table.add_row(str(week), *cells)
    return table


def head_day(row: DayRow, words: dict[str, str]) -> str:
    """The number of a day with the marks of what is special about it."""
    marks = [words[row.mark]] if row.mark != "usual" else []
    if row.starts_version:
        marks.append(words["version"])
    if row.clock_change_minutes:
        marks.append(words["clocks"].format(minutes=row.clock_change_minutes))
    return " ".join([str(row.date.day), ", ".join(marks)]).rstrip()


def describe_day(row: DayRow, words: dict[str, str]) -> Iterator[str]:
    """The lines about a special day: what it is, its names, where it comes from."""
    weekday = words["weekdays"].split()[row.date.weekday()]
    if row.mark != "usual":
        names = list(dict.fromkeys(name for name in (row.name, row.name_zh) if name))
        what = words[row.mark] + (f": {' · '.join(names)}" if names else "")
        yield f"{row.date} {weekday}  {what}  ({row.origin})"
    if row.starts_version:
        line = words["line"].format(key="valid_from", name=row.calendar)
        yield f"{row.date} {weekday}  {words['version']}  ({line})"
    if row.clock_change_minutes:
        what = words["clocks"].format(minutes=row.clock_change_minutes)
        zone = words["zone"].format(zone=row.time_zone)
        yield f"{row.date} {weekday}  {what}  ({zone})"

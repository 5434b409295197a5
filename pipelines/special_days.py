"""What makes a day of a work calendar special: holidays, make-up workdays, own lines, new versions,
changes of the clocks; each with its name and with where that is known from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cache
from importlib.metadata import version
from typing import Literal
from zoneinfo import ZoneInfo

from pipelines.errors import HearbackError
from pipelines.settings import WEEKDAYS, Calendar

Mark = Literal["usual", "holiday", "make_up", "closed", "open"]
CHINA = "CN"


@dataclass(frozen=True)
class Named:
    """A special day's name in English and Chinese, and the library that knows it."""

    en: str
    zh: str
    origin: str


@dataclass(frozen=True)
class PlannedDay:
    """A local day as its calendar has it: intervals, and why they are not the usual ones."""

    day: date
    spans: tuple[str, ...]
    mark: Mark
    named: Named | None = None  # a holiday or make-up workday, also where an own line overrules it
    starts_version: bool = False
    clock_change: int = 0  # minutes by which clocks go forward (back: negative) on this day


def plan_days(calendar: Calendar, first: date, last: date) -> list[PlannedDay]:
    """Every local day from first to last by one version: own lines come before the country's."""
    closed, opened = set(calendar.closed), set(calendar.open)
    borrowed = tuple(calendar.hours.get(calendar.make_up_hours, ()))
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    free = _name_free_days(calendar.country, first.year, last.year) if calendar.country else {}
    make_up = name_make_up_days() if calendar.make_up_days else {}
    found = []
    for day in days:
        usual = tuple(calendar.hours.get(WEEKDAYS[day.weekday()], ()))
        named = make_up.get(day) or free.get(day)
        if day in closed:
            found.append(PlannedDay(day, (), "closed", named))
        elif day in opened:
            found.append(PlannedDay(day, usual or borrowed, "open", named))
        elif day in make_up:
            found.append(PlannedDay(day, borrowed, "make_up", named))
        elif day in free:
            found.append(PlannedDay(day, (), "holiday", named))
        else:
            found.append(PlannedDay(day, usual, "usual"))
    return found


def plan_versions(versions: Sequence[Calendar], first: date, last: date) -> list[PlannedDay]:
    """The days of a calendar, each by the version in force, with changes of the clocks."""
    found = []
    for current, begin, end in _list_periods(versions, first, last):
        zone = ZoneInfo(current.time_zone)
        # Before the first version's own day nothing is open.
        for planned in plan_days(current, begin, end):
            is_early = current.valid_from is not None and planned.day < current.valid_from
            found.append(
                PlannedDay(
                    planned.day,
                    () if is_early else planned.spans,
                    planned.mark,
                    planned.named,
                    planned.day == current.valid_from,
                    _find_clock_change(planned.day, zone),
                )
            )
    return found


def _list_periods(
    versions: Sequence[Calendar], first: date, last: date
) -> list[tuple[Calendar, date, date]]:
    """Each version with those of the days from first to last that it governs."""
    ordered = sort_versions(versions)
    found = []
    for at, current in enumerate(ordered):
        begin = max(first, current.valid_from or first) if at else first
        following = ordered[at + 1].valid_from if at + 1 < len(ordered) else None
        end = min(last, following - timedelta(days=1)) if following else last
        if begin <= end:
            found.append((current, begin, end))
    return found


def sort_versions(versions: Sequence[Calendar]) -> list[Calendar]:
    return sorted(versions, key=lambda calendar: calendar.valid_from or date.min)


def list_warnings(versions: Sequence[Calendar], first: date, last: date) -> list[str]:
    """What is not known, or has no effect, about a calendar's days from first to last."""
    found: list[str] = []
    for calendar, begin, end in _list_periods(versions, first, last):
        name, country = f"calendar {calendar.name!r}", calendar.country
        is_china = country is not None and country.upper() == CHINA
        until = known_until()
        if is_china and end > until:
            found.append(
                f"{name}: China's free days and make-up workdays are known until {until} "
                f"({_library('chinesecalendar')}); later ones are estimated without make-up days: "
                "update it once they are published, or list days under 'open' and 'closed'"
            )
        elif country and not is_china:
            known = _list_known_years(country)
            if begin.year < known[0] or end.year > known[1]:
                found.append(
                    f"{name}: holidays of {country} are known from {known[0]} to {known[1]} "
                    f"({_library('holidays')}); list those of other years under 'closed'"
                )
        if calendar.make_up_days and not is_china:
            found.append(
                f"{name}: make_up_days are China's, and country is {country!r}; "
                "set country = \"CN\" or list the days under 'open'"
            )
        # A line that repeats a rule is harmless today and hides a mistake tomorrow.
        for planned in plan_days(calendar, begin, end):
            if planned.mark == "closed" and planned.named and planned.day not in _make_up(calendar):
                found.append(
                    f"{name}: closed {planned.day} is a holiday already ({planned.named.en}, "
                    f"{planned.named.origin}); the line can go"
                )
    return list(dict.fromkeys(found))


def known_until() -> date:
    """The last day of which China's free days and make-up workdays are published."""
    return date(max(day.year for day in _china_days()[0]), 12, 31)


def name_make_up_days() -> dict[date, Named]:
    """China's weekend days that are worked in exchange for a holiday."""
    return _china_days()[1]


def _make_up(calendar: Calendar) -> dict[date, Named]:
    return name_make_up_days() if calendar.make_up_days else {}


@cache
def _name_free_days(country: str, first: int, last: int) -> dict[date, Named]:
    """The public holidays of a country as observed; HearbackError if the country is unknown."""
    found: dict[date, Named] = {}
    china = _china_days()[0] if country.upper() == CHINA else {}
    china_years = {day.year for day in china}
    found.update({day: named for day, named in china.items() if first <= day.year <= last})
    years = [year for year in range(first, last + 1) if year not in china_years]
    if years:
        origin = f"{_library('holidays')}, {country.upper()}"
        english = _read_holidays(country, years, "en_US")
        chinese = _read_holidays(country, years, "zh_CN")
        found.update({day: Named(name, chinese[day], origin) for day, name in english.items()})
    return found


def _read_holidays(country: str, years: list[int], language: str) -> dict[date, str]:
    import holidays

    code, _, part = country.upper().partition("-")
    try:
        known = holidays.country_holidays(code, subdiv=part or None)
        spoken = language if language in known.supported_languages else None
        if spoken is None and language == "zh_CN":
            return _read_holidays(country, years, "en_US")
        return dict(
            holidays.country_holidays(code, subdiv=part or None, years=years, language=spoken)
        )
    except NotImplementedError:
        raise HearbackError(
            f"calendar country {country!r}: no public holidays are known for it; use an "
            "ISO 3166 code such as CN, US, GB or DE-BY, or list the free days under 'closed'"
        ) from None


@cache
def _list_known_years(country: str) -> tuple[int, int]:
    import holidays

    code, _, part = country.upper().partition("-")
    try:
        known = holidays.country_holidays(code, subdiv=part or None)
    except NotImplementedError:
        return date.min.year, date.max.year  # told as an error when it is expanded
    return known.start_year, known.end_year


@cache
def _china_days() -> tuple[dict[date, Named], dict[date, Named]]:
    from chinese_calendar import constants

    chinese = {holiday.value: str(vars(holiday)["chinese"]) for holiday in constants.Holiday}
    origin = f"{_library('chinesecalendar')}, CN"

    def name(days: dict[date, str], en: str, zh: str) -> dict[date, Named]:
        return {
            day: Named(en.format(name), zh.format(chinese.get(name, name)), origin)
            for day, name in days.items()
        }

    return (
        name(constants.holidays, "{}", "{}"),
        name(constants.workdays, "make-up workday for {}", "{}调休上班"),
    )


@cache
def _library(name: str) -> str:
    return f"{name} {version(name)}"


def _find_clock_change(day: date, zone: ZoneInfo) -> int:
    """Minutes by which the clocks of a zone go forward within a local day."""
    low, high = (
        datetime.combine(moment, time(), zone).utcoffset()
        for moment in (day, day + timedelta(days=1))
    )
    return int(((high or timedelta()) - (low or timedelta())).total_seconds() // 60)

"""Work calendars: expanded intervals and arithmetic against a count minute by minute."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.calendars import (
    add_business_minutes,
    count_business_minutes,
    expand_calendar,
    expand_without,
    slice_hours,
)
from pipelines.errors import HearbackError
from pipelines.settings import WEEKDAYS, Calendar, parse_span

OFFICE = {key: ["09:00-12:00", "13:30-18:00"] for key in WEEKDAYS[:5]}


def instants(*texts: str) -> np.ndarray:
    return np.array(texts, "datetime64[us]")


def count(calendar: Calendar, start: str, end: str) -> float:
    """Business minutes between two instants of UTC."""
    first = date.fromisoformat(start[:10]) - timedelta(days=2)
    last = date.fromisoformat(end[:10]) + timedelta(days=2)
    table = expand_calendar([calendar], first, last)
    return float(count_business_minutes(instants(start), instants(end), table)[0])


def is_open(versions: list[Calendar], instant: datetime) -> bool:
    """Whether a minute is open, read off the wall clock of the version in force."""
    in_force = versions[0]
    for version in versions[1:]:
        assert version.valid_from is not None
        begin = datetime.combine(
            version.valid_from, datetime.min.time(), ZoneInfo(version.time_zone)
        )
        if instant >= begin:
            in_force = version
    wall = instant.astimezone(ZoneInfo(in_force.time_zone))
    minute = wall.hour * 60 + wall.minute
    if wall.date() in in_force.closed:
        return False
    day = WEEKDAYS[wall.weekday()]
    spans = in_force.hours.get(day, [])
    if wall.date() in in_force.open and not spans:
        spans = in_force.hours.get(in_force.make_up_hours, [])
    return any(begin <= minute < end for begin, end in map(parse_span, spans))


def test_lunch_break_is_left_out() -> None:
    calendar = Calendar(name="c", time_zone="Asia/Shanghai", hours=OFFICE)
    assert count(calendar, "2026-03-02T03:30", "2026-03-02T06:00") == 60


def test_seconds_count() -> None:
    calendar = Calendar(name="c", time_zone="UTC", hours=OFFICE)
    assert count(calendar, "2026-03-02T09:00:30", "2026-03-02T09:01") == 0.5


def test_make_up_workday_is_worked_like_a_monday() -> None:
    # Sunday 4 January 2026 is worked for the New Year's holiday.
    usual = {"name": "c", "time_zone": "Asia/Shanghai", "hours": OFFICE, "country": "CN"}
    assert count(Calendar(**usual), "2026-01-04T00:00", "2026-01-04T12:00") == 0
    worked = Calendar(**usual, make_up_days=True)
    assert count(worked, "2026-01-04T00:00", "2026-01-04T12:00") == 450


@pytest.mark.parametrize(
    ("country", "day"),
    [("CN", "2026-10-01"), ("US", "2026-07-03"), ("GB", "2026-12-28")],
)
def test_observed_holiday_is_free(country: str, day: str) -> None:
    calendar = Calendar(name="c", time_zone="UTC", hours=OFFICE, country=country)
    assert count(calendar, f"{day}T00:00", f"{day}T23:00") == 0


def test_own_lines_come_before_the_country() -> None:
    calendar = Calendar(
        name="c", time_zone="UTC", hours=OFFICE, country="US",
        open=[date(2026, 7, 3), date(2026, 7, 4)], closed=[date(2026, 7, 6)],
    )  # fmt: skip
    assert count(calendar, "2026-07-03T00:00", "2026-07-03T23:00") == 450
    assert count(calendar, "2026-07-04T00:00", "2026-07-04T23:00") == 450
    assert count(calendar, "2026-07-06T00:00", "2026-07-06T23:00") == 0


def test_unknown_country_is_named() -> None:
    calendar = Calendar(name="c", time_zone="UTC", hours=OFFICE, country="XX")
    with pytest.raises(HearbackError, match="calendar country 'XX'"):
        expand_calendar([calendar], date(2026, 1, 1), date(2026, 1, 2))


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_skipped_hour_does_not_count_and_repeated_one_counts_twice(day: str, hours: int) -> None:
    always = Calendar(
        name="c", time_zone="Europe/Berlin", hours={key: ["00:00-24:00"] for key in WEEKDAYS}
    )
    zone = ZoneInfo("Europe/Berlin")
    start = datetime.fromisoformat(day).replace(tzinfo=zone)
    end = (datetime.fromisoformat(day) + timedelta(days=1)).replace(tzinfo=zone)
    texts = [moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M") for moment in (start, end)]
    assert count(always, *texts) == hours * 60


def test_intervals_that_meet_at_midnight_are_one() -> None:
    hours = {"monday": ["18:00-24:00"], "tuesday": ["00:00-02:00"]}
    calendar = Calendar(name="c", time_zone="UTC", hours=hours)
    table = expand_calendar([calendar], date(2026, 3, 2), date(2026, 3, 3))
    assert table.num_rows == 1
    assert table["minutes_before"].to_pylist() == [0.0]


def test_earlier_version_stays_in_force_for_earlier_instants() -> None:
    old = Calendar(name="c", time_zone="UTC", hours={"monday": ["09:00-10:00"]})
    new = Calendar(
        name="c", time_zone="UTC", hours={"monday": ["09:00-17:00"]}, valid_from=date(2026, 3, 9)
    )
    table = expand_calendar([new, old], date(2026, 3, 1), date(2026, 3, 10))
    spans = table["close_at"].to_numpy() - table["open_at"].to_numpy()
    assert [int(span / np.timedelta64(60, "m").astype(span.dtype)) for span in spans] == [1, 8]


def test_due_time_skips_night_and_weekend() -> None:
    calendar = Calendar(name="c", time_zone="Asia/Shanghai", hours=OFFICE)
    table = expand_calendar([calendar], date(2026, 3, 1), date(2026, 3, 31))
    friday = instants("2026-03-20T09:00")
    found = add_business_minutes(friday, np.array([240.0]), table)
    assert found[0] == np.datetime64("2026-03-23T04:00")


def test_due_time_beyond_the_calendar_is_unknown() -> None:
    calendar = Calendar(name="c", time_zone="UTC", hours=OFFICE)
    table = expand_calendar([calendar], date(2026, 3, 2), date(2026, 3, 2))
    found = add_business_minutes(instants("2026-03-02T09:00"), np.array([451.0]), table)
    assert np.isnat(found[0])


spans = st.lists(
    st.sampled_from(["00:00-02:30", "02:30-05:00", "06:10-12:00", "13:30-18:00", "22:00-24:00"]),
    unique=True,
).map(sorted)
zones = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Tehran"])
# The changes of the clocks of 2026 in these zones, and an ordinary week.
CHANGES = ((3, 7), (3, 27), (4, 3), (10, 2), (10, 23), (10, 30), (6, 12))
weeks = st.sampled_from([date(2026, month, day) for month, day in CHANGES])
hours = st.dictionaries(st.sampled_from(WEEKDAYS), spans, min_size=1)


@settings(max_examples=25, deadline=None)
@given(first=weeks, zone=zones, early=hours, late=hours, change=st.integers(1, 4),
       closed=st.integers(0, 4))  # fmt: skip
def test_count_equals_count_minute_by_minute(
    first: date, zone: str, early: dict[str, list[str]], late: dict[str, list[str]],
    change: int, closed: int,
) -> None:  # fmt: skip
    versions = [
        Calendar(name="c", time_zone=zone, hours=early),
        Calendar(name="c", time_zone=zone, hours=late, valid_from=first + timedelta(days=change),
                 closed=[first + timedelta(days=closed)]),
    ]  # fmt: skip
    last = first + timedelta(days=4)
    table = expand_calendar(versions, first, last)
    begin = datetime(first.year, first.month, first.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    minutes = [begin + timedelta(minutes=number) for number in range(4 * 1440)]
    opened = np.array([is_open(versions, minute) for minute in minutes])
    starts = np.array([minute.replace(tzinfo=None) for minute in minutes], "datetime64[us]")
    counted = count_business_minutes(np.repeat(starts[:1], len(starts)), starts, table)
    np.testing.assert_allclose(counted, np.cumsum(opened) - opened, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    first=weeks,
    zone=zones,
    early=hours,
    offset=st.integers(0, 2 * 86400),
    wait=st.floats(0.5, 900),
)
def test_adding_minutes_is_counting_them_back(
    first: date, zone: str, early: dict[str, list[str]], offset: int, wait: float
) -> None:
    table = expand_calendar(
        [Calendar(name="c", time_zone=zone, hours=early)], first, first + timedelta(days=30)
    )
    start = np.array([first], "datetime64[us]") + np.timedelta64(offset, "s")
    due = add_business_minutes(start, np.array([wait]), table)
    if np.isnat(due[0]):
        assert count_business_minutes(start, start + np.timedelta64(28, "D"), table)[0] < wait
    else:
        assert count_business_minutes(start, due, table)[0] == pytest.approx(wait, abs=1e-4)


@settings(max_examples=15, deadline=None)
@given(first=weeks, zone=zones, early=hours, offset=st.integers(0, 3 * 86400))
def test_hours_of_the_calendar_count_the_same(
    first: date, zone: str, early: dict[str, list[str]], offset: int
) -> None:
    last = first + timedelta(days=5)
    table = expand_calendar([Calendar(name="c", time_zone=zone, hours=early)], first, last)
    slots = slice_hours(table, first, last)
    start = np.array([first], "datetime64[us]")
    instant = start + np.timedelta64(offset, "s")
    hour = int(instant.astype("datetime64[h]").astype(np.int64)[0])
    rows = [row for row in slots.to_pylist() if row["hour"] == hour]
    stop = instant.astype("datetime64[us]")[0].item().replace(tzinfo=UTC)
    counted = sum(
        row["microseconds_before"] / 60e6
        + max((min(row["close_at"], stop) - row["open_at"]).total_seconds(), 0) / 60
        for row in rows
    )
    before = np.array([first], "datetime64[us]") - np.timedelta64(5, "D")
    assert counted == pytest.approx(float(count_business_minutes(before, instant, table)[0]))


def test_what_someone_has_who_forgot_holidays_or_summer_time() -> None:
    berlin = Calendar(
        name="b", time_zone="Europe/Berlin", hours=OFFICE, closed=[date(2026, 7, 1)]
    )  # 1 July is a Wednesday, in summer time
    found = dict(expand_without([berlin], date(2026, 6, 1), date(2026, 7, 10)))
    start, end = instants("2026-07-01T00:00"), instants("2026-07-01T08:00")
    assert list(found) == ["holiday", "dst"]
    # Open from 07:00 UTC; by standard time from 08:00, so that nothing of it has passed by then.
    assert count_business_minutes(start, end, found["holiday"])[0] == 60
    assert count_business_minutes(start, end, found["dst"])[0] == 0
    start, end = instants("2026-07-02T00:00"), instants("2026-07-02T09:00")
    assert count_business_minutes(start, end, found["holiday"])[0] == 120
    assert count_business_minutes(start, end, found["dst"])[0] == 60


def test_nothing_forgotten_where_there_is_nothing_to_forget() -> None:
    shanghai = Calendar(name="s", time_zone="Asia/Shanghai", hours=OFFICE)
    assert expand_without([shanghai], date(2026, 6, 1), date(2026, 7, 10)) == []

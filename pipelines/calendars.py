"""Work calendars: opening hours of a team as UTC intervals, and arithmetic on them.

A minute is open if its local wall time is: an hour that is repeated when the clocks go back counts
twice, one that is skipped not at all. Holidays are the days actually observed as free.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from pipelines.settings import Calendar, parse_span
from pipelines.special_days import plan_days, sort_versions

if TYPE_CHECKING:
    import pyarrow as pa

Seconds = NDArray[np.int64]
Instants = NDArray[np.datetime64]
Minutes = NDArray[np.float64]

EPOCH = date(1970, 1, 1)
DAY = 86_400


def expand_calendar(
    versions: Sequence[Calendar], first: date, last: date, *, is_dst_kept: bool = True
) -> pa.Table:
    """The open intervals of one calendar from first to last (local days, both included).

    ``versions`` are the entries of one name; each is in force from the local midnight of its
    ``valid_from`` until the next one's. Columns: calendar, open_at and close_at (UTC), and
    minutes_before, the open minutes before open_at. Intervals that meet are joined. Without
    ``is_dst_kept`` hours are those of standard time all the year.
    """
    import pyarrow as pa

    ordered = sort_versions(versions)
    pieces: list[Seconds] = []
    for version, following in zip(ordered, [*ordered[1:], None], strict=False):
        begin = max(first, version.valid_from or first)
        spans = _list_local_spans(version, begin - timedelta(days=1), last)
        spans = _to_utc(spans, ZoneInfo(version.time_zone), is_dst_kept=is_dst_kept)
        low = _find_midnight(begin, version.time_zone)
        high = _find_midnight(last + timedelta(days=1), version.time_zone)
        if following is not None and following.valid_from is not None:
            high = min(high, _find_midnight(following.valid_from, following.time_zone))
        pieces.append(_clip(spans, low, high))
    spans = _join_meeting(np.concatenate(pieces) if pieces else np.empty((0, 2), np.int64))
    lengths = (spans[:, 1] - spans[:, 0]) / 60
    before = np.concatenate(([0.0], np.cumsum(lengths)))[:-1] if len(spans) else lengths
    name = ordered[0].name if ordered else ""
    instant = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "calendar": pa.array([name] * len(spans), pa.string()),
            "open_at": pa.array(spans[:, 0] * 1_000_000, pa.int64()).cast(instant),
            "close_at": pa.array(spans[:, 1] * 1_000_000, pa.int64()).cast(instant),
            "minutes_before": pa.array(before, pa.float64()),
        }
    )


def count_business_minutes(starts: Instants, ends: Instants, calendar: pa.Table) -> Minutes:
    """Open minutes between instants (UTC, datetime64[us]) on an expanded calendar."""
    opens, closes, before = _read_intervals(calendar)
    return _count_until(ends, opens, closes, before) - _count_until(starts, opens, closes, before)


def add_business_minutes(instants: Instants, minutes: Minutes, calendar: pa.Table) -> Instants:
    """The first instants by which so many open minutes have passed since ``instants``.

    UTC, datetime64[us]; 0 minutes give the instant itself. NaT where the expanded calendar ends
    before the minutes have passed.
    """
    opens, closes, before = _read_intervals(calendar)
    starts = instants.astype("datetime64[us]")
    if not len(opens):
        return np.where(minutes > 0, np.datetime64("NaT"), starts)
    wanted = _count_until(starts, opens, closes, before) + minutes
    at = np.clip(np.searchsorted(before, wanted, side="left") - 1, 0, None)
    offset = np.round((wanted - before[at]) * 60e6).astype(np.int64)
    found = opens[at] + offset.astype("timedelta64[us]")
    # An interval's end is exact to a microsecond; only what lies beyond the last one has no answer.
    found = np.where(
        found > closes[at] + np.timedelta64(1, "us"), np.datetime64("NaT", "us"), found
    )
    return np.where(minutes > 0, found, starts)


def slice_hours(calendar: pa.Table, first: date, last: date) -> pa.Table:
    """An expanded calendar cut at the hours of UTC, so that an instant finds its place by equality.

    Columns: calendar, hour (since 1970), microseconds_before (open time before the hour, on the
    hour's first row and 0 on its others), open_at, close_at. Every hour from first to last has a
    row; one in which nothing is open has open_at = close_at. Whole microseconds, because sums of
    them do not depend on their order.
    """
    import pyarrow as pa

    opens, closes, before = _read_intervals(calendar)
    hours = np.arange((first - EPOCH).days * 24, (last - EPOCH).days * 24 + 24, dtype=np.int64)
    starts = hours.astype("datetime64[h]").astype("datetime64[us]")
    ends = starts + np.timedelta64(1, "h").astype("timedelta64[us]")
    from_at = np.searchsorted(closes, starts, side="right")
    until_at = np.searchsorted(opens, ends, side="left")
    rows = np.maximum(until_at - from_at, 1)
    owner = np.repeat(np.arange(len(hours)), rows)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(rows) - rows, rows)
    is_open = (until_at > from_at)[owner]
    at = np.minimum(from_at[owner] + within, max(len(opens) - 1, 0))
    if len(opens):
        open_at = np.where(is_open, np.maximum(opens[at], starts[owner]), starts[owner])
        close_at = np.where(is_open, np.minimum(closes[at], ends[owner]), starts[owner])
    else:
        open_at = close_at = starts[owner]
    counted = np.round(_count_until(starts, opens, closes, before) * 60e6)[owner]
    counted = np.where(within == 0, counted, 0).astype(np.int64)
    name = calendar["calendar"][0].as_py() if calendar.num_rows else ""
    instant = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "calendar": pa.array([name] * len(owner), pa.string()),
            "hour": pa.array(hours[owner], pa.int64()),
            "microseconds_before": pa.array(counted, pa.int64()),
            "open_at": pa.array(open_at.astype(np.int64), pa.int64()).cast(instant),
            "close_at": pa.array(close_at.astype(np.int64), pa.int64()).cast(instant),
        }
    )


def _list_local_spans(calendar: Calendar, first: date, last: date) -> Seconds:
    """Open spans in local wall time, seconds since the epoch's local midnight, (n, 2)."""
    minutes = {span: parse_span(span) for spans in calendar.hours.values() for span in spans}
    found: list[tuple[int, int]] = []
    for planned in plan_days(calendar, first, last):
        midnight = (planned.day - EPOCH).days * DAY
        for begin, end in (minutes[span] for span in planned.spans):
            found.append((midnight + begin * 60, midnight + end * 60))
    return np.array(found, np.int64).reshape(-1, 2)


def expand_without(
    versions: Sequence[Calendar], first: date, last: date
) -> list[tuple[str, pa.Table]]:
    """The calendar as someone has it who forgot something: its special days, its summer time.

    Only what makes a difference, by the name of what was forgotten.
    """
    nothing: dict[str, object] = {"country": None, "make_up_days": False, "closed": [], "open": []}
    plain = [version.model_copy(update=nothing) for version in versions]
    usual = expand_calendar(versions, first, last)
    readings = [
        ("holiday", expand_calendar(plain, first, last)),
        ("dst", expand_calendar(versions, first, last, is_dst_kept=False)),
    ]
    return [(name, found) for name, found in readings if not found.equals(usual)]


def _to_utc(spans: Seconds, zone: ZoneInfo, *, is_dst_kept: bool) -> Seconds:
    """Local spans as UTC spans: each stretch of constant offset takes what falls into it."""
    if not len(spans):
        return spans
    low, high = int(spans[0, 0]) - 2 * DAY, int(spans[-1, 1]) + 2 * DAY
    if not is_dst_kept:
        # A year more on either side knows the standard time, whatever the season.
        year = 366 * DAY
        return spans - min(offset for *_, offset in _list_offsets(zone, low - year, high + year))
    pieces = [
        _clip(spans - offset, begin, end) for begin, end, offset in _list_offsets(zone, low, high)
    ]
    return np.concatenate(pieces)


def _list_offsets(zone: ZoneInfo, low: int, high: int) -> list[tuple[int, int, int]]:
    """Stretches (begin, end, offset), in UTC seconds, of one UTC offset each."""
    stretches: list[tuple[int, int, int]] = []
    begin, offset = low, _offset_at(zone, low)
    for probe in range(low, high + DAY, DAY):
        after = _offset_at(zone, probe)
        if after != offset:
            known, changed = probe - DAY, probe
            while changed - known > 1:
                middle = (known + changed) // 2
                if _offset_at(zone, middle) == offset:
                    known = middle
                else:
                    changed = middle
            stretches.append((begin, changed, offset))
            begin, offset = changed, after
    stretches.append((begin, high + DAY, offset))
    return stretches


def _offset_at(zone: ZoneInfo, instant: int) -> int:
    offset = datetime.fromtimestamp(instant, UTC).astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


def _find_midnight(day: date, time_zone: str) -> int:
    return int(datetime.combine(day, time(), ZoneInfo(time_zone)).timestamp())


def _clip(spans: Seconds, low: int, high: int) -> Seconds:
    clipped = np.clip(spans, low, high)
    return clipped[clipped[:, 1] > clipped[:, 0]]


def _join_meeting(spans: Seconds) -> Seconds:
    """Sort spans and join those that meet."""
    if not len(spans):
        return spans
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    starts = np.concatenate(([True], spans[1:, 0] > spans[:-1, 1]))
    ends = np.concatenate((starts[1:], [True]))
    return np.column_stack((spans[starts, 0], spans[ends, 1]))


def _read_intervals(calendar: pa.Table) -> tuple[Instants, Instants, Minutes]:
    opens = calendar["open_at"].to_numpy().astype("datetime64[us]")
    closes = calendar["close_at"].to_numpy().astype("datetime64[us]")
    return opens, closes, calendar["minutes_before"].to_numpy()


def _count_until(instants: Instants, opens: Instants, closes: Instants, before: Minutes) -> Minutes:
    """Open minutes from the beginning of the expanded calendar until each instant."""
    if not len(opens):
        return np.zeros(len(instants))
    instants = instants.astype("datetime64[us]")
    at = np.searchsorted(opens, instants, side="right") - 1
    inside = np.minimum(instants, closes[at]) - opens[at]
    counted = before[at] + inside / np.timedelta64(60_000_000, "us")
    return np.where(at < 0, 0.0, counted)

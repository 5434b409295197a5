"""Values of a cursor: how a position keeps them, less an overlap, never past now."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from pipelines.errors import HearbackError

OVERLAP_SECONDS = 300.0
OVERLAP_NUMBER = 1000.0
SECONDS_A_DAY = 86_400


def write_value(value: Any) -> Any:
    """A cursor's value as JSON keeps it."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    raise HearbackError(
        f"options.cursor: a {type(value).__name__} has no order that a pull can go on from; choose "
        "a time or a number"
    )


def read_value(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, text),) = value.items()
    parse: dict[str, Callable[[str], Any]] = {
        "datetime": datetime.fromisoformat,
        "date": date.fromisoformat,
        "bytes": bytes.fromhex,
        "decimal": Decimal,
    }
    return parse[kind](text)


def subtract(value: Any, overlap: float | None) -> Any:
    """A cursor's value less the overlap: seconds of a time, else a number."""
    seconds = OVERLAP_SECONDS if overlap is None else overlap
    number = OVERLAP_NUMBER if overlap is None else overlap
    if isinstance(value, datetime):
        return value - timedelta(seconds=seconds)
    if isinstance(value, date):
        return value - timedelta(days=math.ceil(seconds / SECONDS_A_DAY))
    if isinstance(value, str):
        instant = read_time(value)
        return write_time(instant - timedelta(seconds=seconds), value) if instant else value
    if isinstance(value, bytes):
        lower = max(int.from_bytes(value) - int(number), 0)
        return lower.to_bytes(len(value))
    if isinstance(value, Decimal):
        return value - Decimal(str(number))
    return value - (int(number) if isinstance(value, int) else number)


def cap_at_now(value: Any, time_zone: str | None, now: datetime) -> Any:
    """A value that no time of the future takes the place of: rows of today would be passed over."""
    zone: tzinfo = ZoneInfo(time_zone) if time_zone else UTC
    if isinstance(value, datetime):
        return min(value, now if value.tzinfo else now.astimezone(zone).replace(tzinfo=None))
    if isinstance(value, date):
        return min(value, now.astimezone(zone).date())
    instant = read_time(value) if isinstance(value, str) else None
    if instant is None:
        return value
    local = now if instant.tzinfo else now.astimezone(zone).replace(tzinfo=None)
    return value if instant <= local else write_time(local, value)


def read_time(text: str) -> datetime | None:
    """A time that a database without a type for it keeps as text."""
    if not re.match(r"\d{4}-\d{2}-\d{2}", text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def write_time(instant: datetime, like: str) -> str:
    """An instant in the form of another one, so that texts compare as times do."""
    if len(like) == 10:
        return instant.date().isoformat()
    known = read_time(like)
    if instant.tzinfo and known and known.tzinfo:
        instant = instant.astimezone(known.tzinfo)
    precision = "auto" if "." in like else "seconds"
    text = instant.isoformat(sep=like[10], timespec=precision)
    return text.removesuffix("+00:00") + "Z" if like.endswith("Z") else text

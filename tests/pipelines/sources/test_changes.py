"""Pages in the order of change: nothing is passed over, whatever moves meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipelines.errors import HearbackError
from pipelines.sources.changes import Row, walk_changes

BEGIN = datetime(2026, 10, 1, tzinfo=UTC)
PAGE = 10


def make_rows(times: list[int]) -> list[Row]:
    return [{"id": number, "at": seconds} for number, seconds in enumerate(times)]


def find_change(row: Row) -> datetime:
    return BEGIN + timedelta(seconds=row["at"])


class Vendor:
    """Rows in the order of change, by offset; ``on_page`` is called before each page."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.pages = 0
        self.on_page: Callable[[int], None] = lambda number: None

    def read(self, since: datetime, cursor: Any) -> tuple[list[Row], Any]:
        self.pages += 1
        self.on_page(self.pages)
        rows = sorted(self.rows, key=lambda row: (row["at"], row["id"]))
        rows = [row for row in rows if find_change(row) >= since]
        begin = cursor or 0
        page = [dict(row) for row in rows[begin : begin + PAGE]]
        return page, begin + PAGE if begin + PAGE < len(rows) else None


def walk(vendor: Vendor) -> tuple[dict[int, list[int]], list[datetime]]:
    """Times by id in the order in which they came, and the times up to which all was given."""
    found: dict[int, list[int]] = {}
    reached = []
    for rows, until in walk_changes("rows", vendor.read, find_change, BEGIN):
        for row in rows:
            found.setdefault(row["id"], []).append(row["at"])
        if until:
            reached.append(until)
    return found, reached


@pytest.mark.parametrize(
    "times", [[], [5], list(range(35)), [7] * 35, [1, 1, *([7] * 30), 9, 9, 12]]
)
def test_every_row_is_given_once(times: list[int]) -> None:
    found, reached = walk(Vendor(make_rows(times)))
    assert {number: at for number, (at,) in found.items()} == dict(enumerate(times))
    assert reached == sorted(reached)
    assert reached[-1:] == [BEGIN + timedelta(seconds=times[-1])] if times else reached == []


@pytest.mark.parametrize("times", [list(range(35)), [7] * 35])
@pytest.mark.parametrize("moment", [2, 3, 4])
def test_rows_that_change_while_pages_are_read_hide_none(times: list[int], moment: int) -> None:
    vendor = Vendor(make_rows(times))

    def move(number: int) -> None:
        if number == moment:
            for row in vendor.rows[:6]:
                row["at"] = 100

    vendor.on_page = move
    found, _ = walk(vendor)
    assert set(found) == set(range(35))
    assert [found[number][-1] for number in range(6)] == [100] * 6


def test_rows_that_never_rest_are_told_of() -> None:
    vendor = Vendor(make_rows([7] * 25))

    def add(number: int) -> None:
        vendor.rows.append({"id": 1000 + number, "at": 7})

    vendor.on_page = add
    with pytest.raises(HearbackError, match="rows change faster than they can be read"):
        walk(vendor)

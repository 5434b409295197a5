"""Pages in the order of change, of a list that changes while it is read.

A record that changes leaves its place and moves all behind it, so that a plain walk would skip
some. Each page therefore begins just before the time at which the last one ended: what changed
meanwhile stands at the end and is met there. Caps on how deep one may page do not matter either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from pipelines.errors import HearbackError

GRANULARITY = timedelta(seconds=1)
MOST_PASSES = 5

Row = dict[str, Any]
# (since, cursor) → rows in the order of change, and the cursor of the next page or None
ReadPage = Callable[[datetime, Any], tuple[list[Row], Any]]


def walk_changes(
    name: str, read: ReadPage, find_change: Callable[[Row], datetime], since: datetime
) -> Iterator[tuple[list[Row], datetime | None]]:
    """Rows that changed from ``since`` on, each once, and again if it changes meanwhile.

    With rows goes None; without any, a time: all that changed up to it has been given.
    """
    known: dict[str, datetime] = {}
    while True:
        window: dict[str, datetime] = {}
        is_end = True
        for rows, has_more in read_window(name, read, find_change, since):
            is_end = not has_more
            fresh = []
            for row in rows:
                key, moment = str(row["id"]), find_change(row)
                if moment not in (known.get(key), window.get(key)):
                    fresh.append(row)
                window[key] = moment
            yield fresh, None
        last = max([since, *window.values()])
        if window:
            yield [], last
        if is_end:
            return
        known, since = window, last - GRANULARITY


def read_window(
    name: str, read: ReadPage, find_change: Callable[[Row], datetime], since: datetime
) -> Iterator[tuple[list[Row], bool]]:
    """The first page from ``since``, and further ones until its last row is later.

    With each page goes whether there are more. A window of several pages is read until a pass
    brings nothing new: a record that leaves the window moves all behind it.
    """
    seen: set[tuple[str, datetime]] = set()
    for _ in range(MOST_PASSES):
        cursor, is_new, pages = None, False, 0
        while True:
            rows, cursor = read(since, cursor)
            keys = {(str(row["id"]), find_change(row)) for row in rows}
            is_new = is_new or not keys <= seen
            seen |= keys
            pages += 1
            has_more = bool(rows) and cursor is not None
            yield rows, has_more
            if not has_more or find_change(rows[-1]) - GRANULARITY > since:
                break
        if pages == 1 or not is_new:
            return
    raise HearbackError(f"{name} change faster than they can be read; run it again later")

"""Pages by offset, of a list that shifts while it is read.

A row that is deleted pulls all later ones forward, so that a plain walk would skip some. Each page
therefore begins a few rows before the end of the last one and must hold one of these; where it does
not, the walk goes back until it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

OVERLAP = 10

Row = dict[str, Any]


def walk_offsets(
    read: Callable[[int], list[Row]], key: str, limit: int, place: dict[str, Any]
) -> Iterator[list[Row]]:
    """Pages of ``read(offset)`` until one has fewer than ``limit`` rows; some rows come twice.

    ``place`` says where to go on (``offset`` and ``tail``) and is changed before each page is
    given, so that it may be remembered with the page; at the end both are gone.
    """
    while True:
        offset: int = place.get("offset", 0)
        tail = set(place.get("tail", []))
        rows = read(offset)
        while tail and offset > 0 and not any(str(row[key]) in tail for row in rows):
            offset = max(offset - limit + OVERLAP, 0)
            rows = read(offset)
        is_last = len(rows) < limit
        place.pop("offset", None)
        place.pop("tail", None)
        if not is_last:
            place["offset"] = offset + len(rows) - OVERLAP
            place["tail"] = [str(row[key]) for row in rows[-OVERLAP:]]
        yield rows
        if is_last:
            return

"""Many records out of the few saved ones of a vendor: ids and times apart, links kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

MOMENT = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(.*)")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SECONDS = range(1_500_000_000, 2_100_000_000)


@dataclass(frozen=True)
class Shape:
    """Which lists to clone, by the key of their records' id, and what refers to those ids.

    A list may stand in a map by the id of what it belongs to. Below ``kept`` no id is changed.
    """

    keys: dict[str, str]
    links: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass
class Cloner:
    """Clones the records of ``data``; lists that ``shape`` does not name stay as they are."""

    data: dict[str, Any]
    shape: Shape
    ids: set[str] = field(init=False)
    stride: int = field(init=False)

    def __post_init__(self) -> None:
        own = {
            str(row[key])
            for name, key in self.shape.keys.items()
            for row in self.rows(name)
            if key in row
        }
        within = {
            str(value)
            for name in self.shape.keys
            for row in self.rows(name)
            for value in find_ids(row, {*self.shape.keys.values(), *self.shape.links})
        }
        others = {
            str(row.get("id") or row.get("Id"))
            for name in set(self.data) - set(self.shape.keys)
            for row in self.rows(name)
        }
        self.ids = own | (within - others)
        self.stride = 10 ** max((len(name) for name in self.ids if name.isdigit()), default=1)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The records of a list, or of all lists of a map."""
        found = self.data[name]
        if isinstance(found, dict):
            found = [row for rows in found.values() if isinstance(rows, list) for row in rows]
        return [row for row in found if isinstance(row, dict)]

    def count(self) -> int:
        """Records of one clone."""
        return sum(len(self.rows(name)) for name in self.shape.keys)

    def clone(self, records: int) -> dict[str, Any]:
        """The data with about so many records in the cloned lists; later clones are younger."""
        times = max(records // self.count(), 1)
        made: dict[str, Any] = dict(self.data)
        for name in self.shape.keys:
            found = self.data[name]
            if isinstance(found, dict):
                made[name] = {
                    self.change_id(key, number): self.change(rows, number, number - times)
                    for number in range(times)
                    for key, rows in found.items()
                }
            else:
                made[name] = [
                    self.change(row, number, number - times)
                    for number in range(times)
                    for row in found
                ]
        return made

    def change(self, value: Any, number: int, seconds: int, *, is_kept: bool = False) -> Any:
        """A value as clone ``number`` has it, moved by so many seconds."""
        if isinstance(value, dict):
            named = {*self.shape.keys.values(), *self.shape.links}
            return {
                key: self.change_id(found, number)
                if key in named and not is_kept and not isinstance(found, dict)
                else self.change(found, number, seconds, is_kept=is_kept or key in self.shape.kept)
                for key, found in value.items()
            }
        if isinstance(value, list):
            return [self.change(one, number, seconds, is_kept=is_kept) for one in value]
        return move_time(value, seconds)

    def change_id(self, value: Any, number: int) -> Any:
        if isinstance(value, list):
            return [self.change_id(one, number) for one in value]
        if str(value) not in self.ids or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value + number * self.stride
        if value.isdigit():
            return str(int(value) + number * self.stride)
        if UUID.fullmatch(value):
            return f"{value[:24]}{(int(value[24:], 16) + number) % 16**12:012x}"
        return f"{value}{number:07d}" if number else value


def find_ids(value: Any, named: set[str]) -> Iterator[Any]:
    """What stands under a name, at any depth."""
    if isinstance(value, dict):
        for key, found in value.items():
            if key in named and isinstance(found, int | str):
                yield found
            else:
                yield from find_ids(found, named)
    elif isinstance(value, list):
        for one in value:
            yield from find_ids(one, named)


def move_time(value: Any, seconds: int) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        if value in SECONDS:
            return value + seconds
        return value + seconds * 1000 if value // 1000 in SECONDS else value
    found = MOMENT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    moment = datetime.fromisoformat(found[1]) + timedelta(seconds=seconds)
    return moment.isoformat(found[1][10]) + found[2]

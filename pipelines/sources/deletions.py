"""What a source says is gone, as mappings.

A deletion is a row of the entity ``deletions``, so that a tombstone of nothing but an id overwrites
nothing. A record that is marked as deleted and still tells what it was gives its row too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from pipelines.entities import DELETABLE, KEYS
from pipelines.mapping import Field, FieldType, Mapping, Path, When

P = TypeVar("P")

# Columns that the configuration may name beside those of an entity, and their types.
MARKS: dict[str, FieldType] = {
    "is_deleted": "boolean", "deleted_at": "instant", "merged_into": "text",
}  # fmt: skip
TRUE = (
    "true", "True", "TRUE", "1", "1.0", "yes", "Yes", "YES", "y", "Y", "t", "T", "是", "已删除",
)  # fmt: skip
# What tells nothing of a record by itself.
_NO_CONTENT = frozenset({"channel", "created_at", "updated_at", "url"})


def map_deletion(
    raw: str,
    entity: str,
    record: Field,
    *,
    when: tuple[When, ...] = (),
    deleted_at: Field | None = None,
    merged_into: Field | None = None,
    updated_at: Field | None = None,
    explode: str | None = None,
    ignored: tuple[str, ...] = (),
    time_zone: str = "UTC",
) -> Mapping:
    """The deletion of a record of ``entity`` (messages: feedback), whose id ``record`` is."""
    fields = {
        "deleted_entity": Field(const=entity),
        "source_record_id": record,
        "deleted_at": deleted_at or Field(),
        "merged_into": merged_into or Field(),
        "updated_at": updated_at or Field(),
    }
    return Mapping(
        raw, "deletions", fields, when, explode, time_zone, ignored, ("source_record_id",)
    )


def list_marks(entity: str) -> tuple[str, ...]:
    """The marks that columns of an entity may have; a case has its status and ``merged_into``."""
    if entity not in DELETABLE:
        return ()
    return tuple(name for name in MARKS if name != "merged_into" or entity == "customers")


def split_marks(entity: str, columns: dict[str, P]) -> tuple[dict[str, P], dict[str, P]]:
    """Columns of the configuration: those of the entity itself, and its marks."""
    names = list_marks(entity)
    marks = {name: value for name, value in columns.items() if name in names}
    return {name: value for name, value in columns.items() if name not in names}, marks


def map_marked(
    mapping: Mapping, marks: dict[str, Path], true_values: Iterable[str] = ()
) -> list[Mapping]:
    """A mapping whose records may be marked as gone, with the deletions that the marks tell.

    ``true_values``: the values of ``is_deleted`` that mean so; else the usual ones.
    """
    if not marks:
        return [mapping]
    gone, there = _find_conditions(marks, tuple(true_values) or TRUE)
    found = [replace(mapping, when=(*mapping.when, *there))]
    content = _find_content(mapping)
    for condition in gone:
        when = (*mapping.when, *condition)
        if content:
            found.append(replace(mapping, when=(*when, content)))
        found.append(
            map_deletion(
                mapping.raw,
                mapping.entity,
                mapping.fields[KEYS[mapping.entity][1]],
                when=when,
                deleted_at=_mark_field("deleted_at", marks),
                merged_into=_mark_field("merged_into", marks),
                updated_at=mapping.fields.get("updated_at"),
                explode=mapping.explode,
                time_zone=mapping.time_zone,
            )
        )
    return found


def _find_conditions(
    marks: dict[str, Path], true_values: tuple[str, ...]
) -> tuple[list[tuple[When, ...]], tuple[When, ...]]:
    """Conditions of which one holds for a record that is gone, and those of one that is there."""
    gone: list[tuple[When, ...]] = []
    there: tuple[When, ...] = ()
    if "is_deleted" in marks:
        flag = When(marks["is_deleted"], true_values)
    elif "deleted_at" in marks:
        flag = When(marks["deleted_at"])
    else:
        flag = None
    if flag:
        gone.append((flag,))
        there = (replace(flag, is_negated=True),)
    if "merged_into" in marks:
        merged = When(marks["merged_into"])
        gone.append((*there, merged))
        there = (*there, replace(merged, is_negated=True))
    return gone, there


def _find_content(mapping: Mapping) -> When | None:
    """Whether a record tells more than that it is gone; feedback without a text would fail."""
    fields = mapping.fields
    names = [name for name in ("body", "title") if fields.get(name, Field()).path]
    if mapping.entity != "feedback" or not names:
        left = {*KEYS[mapping.entity], *_NO_CONTENT}
        names = [name for name, field in fields.items() if field.path and name not in left]
    paths = [path for name in names for path in fields[name].paths]
    return When(paths[0], also=tuple(paths[1:])) if paths else None


def _mark_field(name: str, marks: dict[str, Path]) -> Field | None:
    return Field(marks[name], MARKS[name]) if name in marks else None


def find_true_values(value_map: dict[str, str]) -> list[str]:
    """The values of ``is_deleted`` that a value map of the configuration calls true."""
    return [key for key, value in value_map.items() if value.strip().lower() == "true"]

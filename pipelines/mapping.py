"""From raw records to canonical rows: declared by each source kind, rendered to DuckDB.

A ``Mapping`` says which canonical entity a raw record gives and where each column comes from.
Every column that has to be converted also yields a reason code when the text is there and cannot be
converted, so that nothing becomes NULL in silence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.entities import SCHEMAS
from pipelines.storage import quote, quote_list

FieldType = Literal["text", "instant", "date", "number", "boolean", "text_list", "integer"]
ITEM = "item."
RECORD_ID = "@record_id"
LOCAL_FORMATS = (
    "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%d.%m.%Y %H:%M", "%d.%m.%Y",
    "%Y年%m月%d日 %H:%M", "%Y年%m月%d日", "%b %d, %Y", "%B %d, %Y", "%d %b %Y",
    "%a, %d %b %Y %H:%M:%S",
)  # fmt: skip


Path = str | tuple[str, ...]


@dataclass(frozen=True)
class Lookup:
    """The value of another raw entity of the same source: its ``value`` where ``key`` matches.

    In SQL it is the function ``table``, called with source, unit separator and key.
    """

    raw: str
    key: str
    value: str

    @property
    def table(self) -> str:
        return f"lookup_{self.raw}"


@dataclass(frozen=True)
class Field:
    """Where one canonical column comes from.

    ``path`` is a dotted path in the record, or a tuple of keys that are taken as they are; after
    ``explode``, ``item.`` begins a path in the list's item. ``RECORD_ID`` is the raw record's id.
    ``values`` maps source values to canonical ones (compared in lower case); a value outside it
    gives ``unknown`` if that is set, else the reason ``unknown_value``. ``lookup`` replaces an id
    by what another raw entity says of it. ``find`` = (key, wanted, value) picks, from a list of
    objects, the value of the one whose key is the wanted one.
    """

    path: Path | None = None
    type: FieldType = "text"
    values: tuple[tuple[str, str], ...] = ()
    unknown: str | None = None
    const: str | float | bool | None = None
    prefix: str = ""
    suffix: str = ""
    lookup: Lookup | None = None
    find: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class When:
    """Keep a record only if the value at path is there, or is (not) one of ``among``."""

    path: Path
    among: tuple[str, ...] = ()
    is_negated: bool = False


@dataclass(frozen=True)
class Mapping:
    """How a raw entity gives rows of a canonical one; ``required`` columns are the record's ids."""

    raw: str
    entity: str
    fields: dict[str, Field]
    when: tuple[When, ...] = ()
    explode: str | None = None
    time_zone: str = "UTC"
    ignored: tuple[str, ...] = ()
    required: tuple[str, ...] = ()


def values(pairs: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """A value map in the form that ``Field`` keeps."""
    return tuple((key.lower(), value) for key, value in pairs.items())


def split_path(path: Path) -> tuple[str, ...]:
    """The keys of a path, without the mark that it lies in an exploded item."""
    if isinstance(path, tuple):
        return path
    return tuple(path.removeprefix(ITEM).split("."))


def in_item(path: Path) -> bool:
    return isinstance(path, str) and path.startswith(ITEM)


def mapped_paths(mapping: Mapping) -> list[Path]:
    """Every path that a mapping reads from the payload."""
    paths = [f.path for f in mapping.fields.values() if f.path and f.path != RECORD_ID]
    return paths + [when.path for when in mapping.when]


def used_fields(mappings: Iterable[Mapping], raw: str) -> set[str]:
    """Top-level fields of a raw entity that are used or ignored by name."""
    found: set[str] = set()
    for mapping in mappings:
        if mapping.raw != raw:
            continue
        found.update(mapping.ignored)
        found.update(split_path(path)[0] for path in mapped_paths(mapping) if not in_item(path))
        if mapping.explode:
            found.add(mapping.explode)
    return found


def lookups(mappings: Iterable[Mapping]) -> set[Lookup]:
    return {f.lookup for mapping in mappings for f in mapping.fields.values() if f.lookup}


def _shape(paths: Iterable[Path]) -> str:
    """The json_transform structure that reads all paths in one pass."""
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        *parents, leaf = split_path(path)
        for part in parents:
            child = node.get(part)
            if not isinstance(child, dict):
                child = node[part] = {}
            node = child
        node.setdefault(leaf, "VARCHAR")
    return json.dumps(tree, ensure_ascii=False)


def _value(path: Path) -> str:
    """SQL: the text at a path, NULL for JSON null and for the empty string."""
    if path == RECORD_ID:
        return "record_id"
    root = "_item" if in_item(path) else "_record"
    keys = ".".join('"' + part.replace('"', '""') + '"' for part in split_path(path))
    return f"nullif({root}.{keys}, '')"


def parse_instant(text: str, time_zone: str) -> str:
    """SQL: an instant from ISO 8601, Unix seconds or a local date and time; NULL if none fits."""
    formats = quote_list(LOCAL_FORMATS)
    colon = f"regexp_replace({text}, '([+-]\\d{{2}})(\\d{{2}})$', '\\1:\\2')"
    return f"""case
        when {text} is null then null
        when regexp_full_match({text}, '\\d{{9,10}}(\\.\\d+)?')
            then to_timestamp(try_cast({text} as double))
        when regexp_full_match({text}, '\\d{{12,13}}')
            then make_timestamptz(try_cast({text} as bigint) * 1000)
        when regexp_matches({text}, '\\d[ ]?(Z|UTC|[+-]\\d{{2}}(:?\\d{{2}})?)$')
            and regexp_matches({text}, '\\d:\\d')
            then try_cast({colon} as timestamptz)
        else timezone({quote(time_zone)}, coalesce(
            try_cast({text} as timestamp), try_strptime({text}, {formats})))
    end"""


def _boolean(text: str) -> str:
    return (
        f"case when lower({text}) in ('true', '1', 'yes', 'y', 't', '是', '有') then true "
        f"when lower({text}) in ('false', '0', 'no', 'n', 'f', '否', '无') then false end"
    )


def _render_mapped(text: str, spec: Field, kind: str, name: str) -> tuple[str, list[str]]:
    """SQL of a value map, and of the reason code for a value outside it."""
    whens = " ".join(f"when {quote(k)} then {quote(v)}" for k, v in spec.values)
    fallback = quote(spec.unknown) if spec.unknown else "null"
    key = f"lower(trim({text}))"
    value = f"case when {text} is not null then case {key} {whens} else {fallback} end end"
    if kind != "VARCHAR":
        value = f"cast({value} as {kind})"
    if spec.unknown:
        return value, []
    known = ", ".join(quote(k) for k, _ in spec.values)
    reason = quote(f"unknown_value:{name}")
    return value, [f"case when {text} is not null and {key} not in ({known}) then {reason} end"]


def _render(name: str, spec: Field, time_zone: str, kind: str) -> tuple[str, list[str]]:
    """(SQL of the typed value, [SQL of a reason code or NULL])."""
    if spec.path is None:
        if spec.const is None:
            return f"cast(null as {kind})", []
        literal = quote(spec.const) if isinstance(spec.const, str) else repr(spec.const)
        return f"cast({literal} as {kind})", []
    text = _value(spec.path)
    if spec.find:
        key, wanted, value_key = spec.find
        shape = quote(json.dumps([{key: "VARCHAR", value_key: "VARCHAR"}]))
        text = (
            f"list_filter(from_json({text}, {shape}), lambda x: x.{key} = {quote(wanted)})"
            f"[1].{value_key}"
        )
    if spec.lookup:
        return f"coalesce({spec.lookup.table}(source || chr(31) || {text}), {text})", []
    if spec.values:
        return _render_mapped(text, spec, kind, name)
    if spec.type == "text_list":
        parts = f"list_transform(regexp_split_to_array({text}, '[,;|、，；]'), lambda x: trim(x))"
        return (
            f"case when {text} like '[%' then from_json({text}, '[\"VARCHAR\"]') "
            f"when {text} is not null then list_filter({parts}, lambda x: x <> '') end",
            [],
        )
    if spec.type == "text":
        return " || ".join(
            part
            for part in (
                quote(spec.prefix) if spec.prefix else "",
                text,
                quote(spec.suffix) if spec.suffix else "",
            )
            if part
        ), []
    value, code = {
        "instant": (parse_instant(text, time_zone), "impossible_date"),
        "date": (f"cast({parse_instant(text, 'UTC')} as date)", "impossible_date"),
        "number": (f"try_cast(replace({text}, ',', '') as double)", "not_a_number"),
        "integer": (f"try_cast({text} as bigint)", "not_a_number"),
        "boolean": (_boolean(text), "unknown_value"),
    }[spec.type]
    reason = quote(f"{code}:{name}")
    return value, [f"case when {text} is not null and ({value}) is null then {reason} end"]


def render_select(mapping: Mapping, relation: str) -> str:
    """SQL that reads raw rows of ``relation`` and gives canonical rows.

    ``relation`` has source, source_kind, record_id, entity, payload, captured_at, run_id, url,
    problem and raw_row. The result has the entity's columns, then ``reasons`` (VARCHAR[]; empty if
    all could be read) and ``raw_row``.
    """
    lineage = {"source", "source_kind", "record_id", "captured_at", "run_id"}
    columns: list[str] = []
    reasons: list[str] = []
    for column in SCHEMAS[mapping.entity]:
        name = column.name
        if name in lineage or (name == "url" and "url" not in mapping.fields):
            columns.append(name)
            continue
        kind = _sql_type(column.type)
        spec = mapping.fields.get(name, Field())
        value, codes = _render(name, spec, mapping.time_zone, kind)
        columns.append(f"{value} as {name}")
        reasons.extend(codes)
        if name in mapping.required:
            reasons.append(f"case when ({value}) is null then {quote(f'missing_id:{name}')} end")
    paths = mapped_paths(mapping)
    record_paths = [path for path in paths if not in_item(path)]
    if mapping.explode:
        record_paths.append(mapping.explode)
    parsed = (
        f"select *, json_transform(payload, {quote(_shape(record_paths))}) as _record\n"
        f"from {relation}\nwhere entity = {quote(mapping.raw)} and problem is null"
    )
    if mapping.explode:
        items = f"from_json({_value(mapping.explode)}, '[\"JSON\"]')"
        item_shape = quote(_shape([path for path in paths if in_item(path)]))
        parsed = (
            f"select *, json_transform(_json, {item_shape}) as _item\n"
            f"from (select *, unnest({items}) as _json from ({parsed}))"
        )
    conditions = [_render_when(when) for when in mapping.when]
    where = "\nwhere " + " and ".join(conditions) if conditions else ""
    listed = ",\n    ".join(columns)
    codes_sql = ", ".join(reasons)
    reason_list = (
        f"list_filter([{codes_sql}]::varchar[], lambda x: x is not null)"
        if reasons
        else "[]::varchar[]"
    )
    return (
        f"select\n    {listed},\n    {reason_list} as reasons,\n    raw_row\n"
        f"from (\n{parsed}\n){where}"
    )


def _render_when(when: When) -> str:
    text = _value(when.path)
    if not when.among:
        return f"{text} is {'' if when.is_negated else 'not '}null"
    among = ", ".join(quote(value) for value in when.among)
    if when.is_negated:
        return f"coalesce({text} not in ({among}), true)"
    return f"{text} in ({among})"


def _sql_type(kind: Any) -> str:
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return "TIMESTAMPTZ"
    if pa.types.is_date(kind):
        return "DATE"
    if pa.types.is_floating(kind):
        return "DOUBLE"
    if pa.types.is_integer(kind):
        return "BIGINT"
    if pa.types.is_boolean(kind):
        return "BOOLEAN"
    if pa.types.is_list(kind):
        return "VARCHAR[]"
    return "VARCHAR"


def columns_to_fields(
    entity: str, columns: dict[str, str], value_maps: dict[str, dict[str, str]]
) -> dict[str, Field]:
    """Fields for a source whose columns are named in the configuration, by the entity's types."""
    fields: dict[str, Field] = {}
    for name, key in columns.items():
        kind = _sql_type(SCHEMAS[entity].field(name).type)
        fields[name] = Field((key,), FIELD_TYPES[kind], values(value_maps.get(name, {})))
    return fields


FIELD_TYPES: dict[str, FieldType] = {
    "TIMESTAMPTZ": "instant",
    "DATE": "date",
    "DOUBLE": "number",
    "BIGINT": "integer",
    "BOOLEAN": "boolean",
    "VARCHAR[]": "text_list",
    "VARCHAR": "text",
}

"""From raw records to canonical rows: declared by each source kind, rendered to DuckDB.

A ``Mapping`` says which canonical entity a raw record gives and where each column comes from.
Every column that has to be converted also yields a reason code when the text is there and cannot be
converted, so that nothing becomes NULL in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.entities import SCHEMAS
from pipelines.storage import quote

FieldType = Literal["text", "instant", "date", "number", "boolean", "text_list", "integer"]
ITEM = "item."


@dataclass(frozen=True)
class Field:
    """Where one canonical column comes from.

    ``path`` is a dotted path in the record; after ``explode``, ``item.`` begins a path in the
    list's item. ``values`` maps source values to canonical ones (compared in lower case); a value outside
    it gives ``other`` if the column allows it (``unknown``), else the reason ``unknown_value``.
    """

    path: str | None = None
    type: FieldType = "text"
    values: tuple[tuple[str, str], ...] = ()
    unknown: str | None = None
    const: str | float | bool | None = None
    prefix: str = ""


@dataclass(frozen=True)
class When:
    """Keep a record only if the value at path is one of ``among``, or is there at all."""

    path: str
    among: tuple[str, ...] = ()
    is_missing: bool = False


@dataclass(frozen=True)
class Mapping:
    raw: str
    entity: str
    fields: dict[str, Field]
    when: tuple[When, ...] = ()
    explode: str | None = None
    time_zone: str = "UTC"
    ignored: tuple[str, ...] = ()
    required: tuple[str, ...] = field(default=())


def values(pairs: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """A value map in the form that ``Field`` keeps."""
    return tuple((key.lower(), value) for key, value in pairs.items())


def used_fields(mappings: Iterable[Mapping], raw: str) -> set[str]:
    """Top-level fields of a raw entity that are used or ignored by name."""
    found: set[str] = set()
    for mapping in mappings:
        if mapping.raw != raw:
            continue
        found.update(mapping.ignored)
        paths = [f.path for f in mapping.fields.values() if f.path]
        paths += [w.path for w in mapping.when]
        if mapping.explode:
            paths.append(mapping.explode)
        found.update(path.split(".")[0] for path in paths if not path.startswith(ITEM))
    return found


def _shape(paths: Iterable[str]) -> str:
    """The json_transform structure that reads all paths in one pass."""
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        *parents, leaf = path.split(".")
        for part in parents:
            child = node.get(part)
            if not isinstance(child, dict):
                child = node[part] = {}
            node = child
        node.setdefault(leaf, "VARCHAR")
    import json

    return json.dumps(tree, ensure_ascii=False)


def _value(path: str) -> str:
    """The text at a path, NULL for JSON null and for the empty string."""
    root, rest = ("_item", path.removeprefix(ITEM)) if path.startswith(ITEM) else ("_record", path)
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in rest.split("."))
    return f"nullif({root}.{quoted}, '')"


def parse_instant(text: str, time_zone: str) -> str:
    """SQL: an instant from ISO 8601, Unix seconds or a local date and time; NULL if none fits."""
    formats = "['%Y/%m/%d %H:%M:%S', '%Y/%m/%d %H:%M', '%Y/%m/%d', '%d.%m.%Y %H:%M', '%d.%m.%Y', '%Y年%m月%d日 %H:%M', '%Y年%m月%d日', '%b %d, %Y', '%B %d, %Y', '%d %b %Y', '%a, %d %b %Y %H:%M:%S']"
    return f"""case
        when {text} is null then null
        when regexp_full_match({text}, '\\d{{9,10}}(\\.\\d+)?')
            then to_timestamp(try_cast({text} as double))
        when regexp_full_match({text}, '\\d{{12,13}}')
            then make_timestamptz(try_cast({text} as bigint) * 1000)
        when regexp_matches({text}, '\\d[ ]?(Z|UTC|[+-]\\d{{2}}(:?\\d{{2}})?)$')
            and regexp_matches({text}, '\\d:\\d')
            then try_cast(regexp_replace({text}, '([+-]\\d{{2}})(\\d{{2}})$', '\\1:\\2') as timestamptz)
        else timezone({quote(time_zone)}, coalesce(
            try_cast({text} as timestamp), try_strptime({text}, {formats})))
    end"""


def _boolean(text: str) -> str:
    return (
        f"case when lower({text}) in ('true', '1', 'yes', 'y', 't', '是', '有') then true "
        f"when lower({text}) in ('false', '0', 'no', 'n', 'f', '否', '无') then false end"
    )


def _render(name: str, spec: Field, time_zone: str, kind: str) -> tuple[str, list[str]]:
    """(SQL of the typed value, [SQL of a reason code or NULL])."""
    if spec.path is None:
        if spec.const is None:
            return f"cast(null as {kind})", []
        literal = quote(spec.const) if isinstance(spec.const, str) else repr(spec.const)
        return f"cast({literal} as {kind})", []
    text = _value(spec.path)
    if spec.values:
        whens = " ".join(f"when {quote(k)} then {quote(v)}" for k, v in spec.values)
        fallback = quote(spec.unknown) if spec.unknown else "null"
        value = f"case when {text} is null then null else case lower(trim({text})) {whens} else {fallback} end end"
        if kind == "BOOLEAN":
            value = f"cast({value} as boolean)"
        reason = f"case when {text} is not null and {value} is null then {quote('unknown_value:' + name)} end"
        return value, [] if spec.unknown else [reason]
    if spec.type == "instant":
        value, code = parse_instant(text, time_zone), "impossible_date"
    elif spec.type == "date":
        value, code = f"try_cast({parse_instant(text, 'UTC')} as date)", "impossible_date"
    elif spec.type in ("number", "integer"):
        target = "bigint" if spec.type == "integer" else "double"
        value, code = f"try_cast(replace({text}, ',', '') as {target})", "not_a_number"
    elif spec.type == "boolean":
        value, code = _boolean(text), "unknown_value"
    elif spec.type == "text_list":
        return (
            f"case when {text} is null then null when {text} like '[%' "
            f"then from_json({text}, '[\"VARCHAR\"]') "
            f"else list_filter(list_transform(regexp_split_to_array({text}, '[,;|、，；]'), lambda x: trim(x)), lambda x: x <> '') end",
            [],
        )
    else:
        if spec.prefix:
            return f"{quote(spec.prefix)} || {text}", []
        return text, []
    return value, [
        f"case when {text} is not null and ({value}) is null then {quote(code + ':' + name)} end"
    ]


def render_select(mapping: Mapping, relation: str) -> str:
    """SQL that reads raw rows of ``relation`` and gives canonical rows.

    ``relation`` has source, source_kind, record_id, entity, payload, captured_at, run_id, url and
    problem. The result has the entity's columns, then ``reasons`` (VARCHAR[]; empty if all could be
    read) and ``payload``.
    """
    schema = SCHEMAS[mapping.entity]
    lineage = {"source", "source_kind", "record_id", "captured_at", "run_id"}
    paths = [f.path for f in mapping.fields.values() if f.path] + [w.path for w in mapping.when]
    record_paths = [path for path in paths if not path.startswith(ITEM)]
    item_paths = [path.removeprefix(ITEM) for path in paths if path.startswith(ITEM)]
    if mapping.explode:
        record_paths.append(mapping.explode)
    columns: list[str] = []
    reasons: list[str] = []
    for schema_field in schema:
        name = schema_field.name
        if name in lineage or (name == "url" and "url" not in mapping.fields):
            columns.append(name)
            continue
        kind = _sql_type(schema_field.type)
        value, codes = _render(name, mapping.fields.get(name, Field()), mapping.time_zone, kind)
        columns.append(f"{value} as {name}")
        reasons.extend(codes)
        if name in mapping.required:
            reasons.append(f"case when {value} is null then {quote('missing_id:' + name)} end")
    parsed = (
        f"select *, json_transform(payload, {quote(_shape(record_paths))}) as _record\n"
        f"from {relation}\nwhere entity = {quote(mapping.raw)} and problem is null"
    )
    if mapping.explode:
        items = f"from_json({_value(mapping.explode)}, '[\"JSON\"]')"
        parsed = (
            f"select *, json_transform(_json, {quote(_shape(item_paths))}) as _item\n"
            f"from (select *, unnest({items}) as _json from ({parsed}))"
        )
    conditions = [_render_when(when) for when in mapping.when]
    where = "\nwhere " + " and ".join(conditions) if conditions else ""
    listed = ",\n    ".join(columns)
    codes = ", ".join(reasons)
    reason_list = (
        f"list_filter([{codes}]::varchar[], lambda x: x is not null)" if codes else "[]::varchar[]"
    )
    return f"select\n    {listed},\n    {reason_list} as reasons,\n    payload\nfrom (\n{parsed}\n){where}"


def _render_when(when: When) -> str:
    text = _value(when.path)
    if when.is_missing:
        return f"{text} is null"
    if when.among:
        return f"{text} in ({', '.join(quote(value) for value in when.among)})"
    return f"{text} is not null"


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
    entity: str, columns: dict[str, str], value_maps: dict[str, dict[str, str]] | None = None
) -> dict[str, Field]:
    """Fields for a source whose columns are named in the configuration, by the entity's types."""
    import pyarrow as pa

    types: Sequence[tuple[Any, FieldType]] = (
        (pa.types.is_timestamp, "instant"),
        (pa.types.is_date, "date"),
        (pa.types.is_floating, "number"),
        (pa.types.is_integer, "integer"),
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_list, "text_list"),
    )
    fields: dict[str, Field] = {}
    for name, path in columns.items():
        kind = SCHEMAS[entity].field(name).type
        found: FieldType = next((label for test, label in types if test(kind)), "text")
        pairs = values((value_maps or {}).get(name, {}))
        fields[name] = Field(path, found, pairs)
    return fields

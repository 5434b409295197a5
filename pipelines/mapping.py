"""From raw records to canonical rows: declared by each source kind, rendered to DuckDB.

A ``Mapping`` says which canonical entity a raw record gives and where each column comes from.
Every column that has to be converted also yields a reason code when the text is there and cannot be
converted, so that nothing becomes NULL in silence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from pipelines.entities import SCHEMAS
from pipelines.storage import quote, quote_list

FieldType = Literal["text", "instant", "date", "number", "boolean", "text_list", "integer"]
ITEM = "item."
RECORD_ID = "@record_id"
OTHER_VALUE = "other_value"  # begins the reason that tells of a value which became ``unknown``
TOLD_CHARACTERS = 60
CAPTURED_AT = "@captured_at"
LOCAL_FORMATS = (
    "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%d.%m.%Y %H:%M", "%d.%m.%Y",
    "%Y年%m月%d日 %H:%M", "%Y年%m月%d日", "%b %d, %Y", "%B %d, %Y", "%d %b %Y",
    "%a, %d %b %Y %H:%M:%S",
)  # fmt: skip


Path = str | tuple[str, ...]


@dataclass(frozen=True)
class Lookup:
    """The value of another raw entity of the same source: its ``value`` where ``key`` matches.

    ``within``: a path whose value and a slash come before the key, for ids that are unique within
    something only; ``within_pattern``: the first group of this regular expression of it instead.
    ``is_strict``: NULL, not the id itself, where nothing matches. Where the kind
    derives flat records from the raw entity, ``key`` and ``value`` are theirs.
    In SQL it is the function ``table``, called with source, unit separator and key.
    """

    raw: str
    key: str
    value: str
    within: Path | None = None
    is_strict: bool = False
    within_pattern: str = ""

    @property
    def table(self) -> str:
        return "lookup_" + re.sub(r"\W", "_", f"{self.raw}_{self.key}_{self.value}")


@dataclass(frozen=True)
class Pick:
    """The first item of a list of the record whose text at ``key`` is what ``wanted`` says.

    ``items`` is the path of the list, with stars as in ``explode``; ``wanted`` is a path of the
    record (not of an item) and what is looked up with it, such as the question that a form's own
    record names as its main one.
    """

    items: str
    key: Path
    wanted: Path
    lookup: Lookup
    pattern: str = ""


@dataclass(frozen=True)
class Field:
    """Where one canonical column comes from.

    ``path`` is a dotted path in the record, in which a number is a place in a list, or a tuple of
    keys that are taken as they are; after ``explode``, ``item.`` begins a path in the list's item.
    ``RECORD_ID`` is the raw record's id, ``CAPTURED_AT`` when it was captured. ``also`` are further
    paths: the first that has a value counts, or all are put together with ``joined_by`` between
    them. ``pattern``: a regular expression whose first group is taken instead of the whole text.
    ``values`` maps source values to canonical ones (compared in lower case); a value outside it
    gives ``unknown`` if that is set, else the reason ``unknown_value``. ``lookup`` replaces an id
    by what another raw entity says of it. ``since``, for numbers: minutes from the instant at this
    path to the one at ``path``. ``find`` = (key, wanted, value) picks, from a list of
    objects, the value of the one whose key is the wanted one. With ``pick``, paths that begin with
    ``item.`` are those of the item that it finds. ``is_hashed``: the md5 of the text in lower case
    instead of it, so that a mail address can be an id and is not to be read in it. ``times``, for
    numbers: what they are multiplied by, such as 1/60 for seconds that are to be minutes.
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
    also: tuple[Path, ...] = ()
    joined_by: str | None = None
    pattern: str = ""
    since: Path | None = None
    pick: Pick | None = None
    is_hashed: bool = False
    times: float = 1.0

    @property
    def paths(self) -> list[Path]:
        """Every path that the field reads from the payload, but those in an item of ``pick``."""
        found = [self.path, *self.also, self.since]
        if self.lookup and self.lookup.within:
            found.append(self.lookup.within)
        if self.pick:
            found = [path for path in found if path and not in_item(path)]
            found += [self.pick.wanted, self.pick.lookup.within]
        return [path for path in found if path and path not in (RECORD_ID, CAPTURED_AT)]


@dataclass(frozen=True)
class When:
    """Keep a record only if the value at path is there, or is (not) one of ``among``.

    ``pattern``: keep it only if the value does (not) match this regular expression.
    With ``lookup`` it is what is looked up that counts; ``also``, ``joined_by`` and ``pattern``
    make its key as in a Field.
    """

    path: Path
    among: tuple[str, ...] = ()
    is_negated: bool = False
    pattern: str = ""
    lookup: Lookup | None = None
    also: tuple[Path, ...] = ()
    joined_by: str | None = None

    @property
    def field(self) -> Field:
        pattern = self.pattern if self.lookup else ""
        return Field(
            self.path,
            lookup=self.lookup,
            also=self.also,
            joined_by=self.joined_by,
            pattern=pattern,
        )


@dataclass(frozen=True)
class Mapping:
    """How a raw entity gives rows of a canonical one; ``required`` columns are the record's ids.

    ``explode`` is the path of a list whose items give a row each. With stars it goes through lists
    in lists (``pages[*].questions[*]``) and through the values of an object (``answers.*``).
    """

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


def split_path(path: Path) -> tuple[str | int, ...]:
    """The keys and places of a path, without the mark that it lies in an exploded item."""
    if isinstance(path, tuple):
        return path
    parts = path.removeprefix(ITEM).split(".")
    return tuple(int(part) if part.isdigit() else part for part in parts)


def in_item(path: Path) -> bool:
    return isinstance(path, str) and path.startswith(ITEM)


def mapped_paths(mapping: Mapping) -> list[Path]:
    """Every path that a mapping reads from the payload."""
    paths = [path for f in mapping.fields.values() for path in f.paths]
    return paths + [path for when in mapping.when for path in when.field.paths]


def exploded_field(explode: str) -> str:
    """The top-level field in which the list to explode lies."""
    return re.split(r"[.\[]", explode)[0]


def used_fields(mappings: Iterable[Mapping], raw: str) -> set[str]:
    """Top-level fields of a raw entity that are used or ignored by name."""
    found: set[str] = set()
    for mapping in mappings:
        if mapping.raw != raw:
            continue
        found.update(mapping.ignored)
        found.update(
            str(split_path(path)[0]) for path in mapped_paths(mapping) if not in_item(path)
        )
        lists = [f.pick.items for f in mapping.fields.values() if f.pick]
        found.update(exploded_field(path) for path in [*lists, mapping.explode or ""] if path)
    return found


def lookups(mappings: Iterable[Mapping]) -> set[Lookup]:
    found: set[Lookup] = set()
    for mapping in mappings:
        fields = [*mapping.fields.values(), *(when.field for when in mapping.when)]
        found.update(f.lookup for f in fields if f.lookup)
        found.update(f.pick.lookup for f in fields if f.pick)
    return found


def _shape(paths: Iterable[Path]) -> str:
    """The json_transform structure that reads all paths in one pass."""
    tree: dict[str | int, Any] = {}
    for path in paths:
        node = tree
        *parents, leaf = split_path(path)
        for part in parents:
            child = node.get(part)
            if not isinstance(child, dict):
                child = node[part] = {}
            node = child
        node.setdefault(leaf, "VARCHAR")
    tree = tree or {"_": "VARCHAR"}  # DuckDB takes no empty structure
    return json.dumps(_structure(tree), ensure_ascii=False)


def _structure(tree: Any) -> Any:
    """A tree of keys as json_transform wants it: places become a list of what any of them holds."""
    if not isinstance(tree, dict):
        return tree
    places = [child for key, child in tree.items() if isinstance(key, int)]
    if not places:
        return {key: _structure(child) for key, child in tree.items()}
    merged: dict[str | int, Any] = {}
    for child in places:
        if not isinstance(child, dict):
            return [child]
        merged |= child
    return [_structure(merged)]


def _value(path: Path, item: str = "_item") -> str:
    """SQL: the text at a path, NULL for JSON null and for the empty string."""
    if path == RECORD_ID:
        return "record_id"
    if path == CAPTURED_AT:
        return "cast(captured_at as varchar)"
    root = item if in_item(path) else "_record"
    steps = [
        f"[{part + 1}]" if isinstance(part, int) else '."' + part.replace('"', '""') + '"'
        for part in split_path(path)
    ]
    return f"nullif({root}{''.join(steps)}, '')"


def _text(spec: Field) -> str:
    """SQL: what a field's paths hold, before it is converted."""
    if spec.path is None:
        return "null"
    item = _pick_name(spec.pick) if spec.pick else "_item"
    found = [_value(path, item) for path in (spec.path, *spec.also)]
    text = found[0]
    if spec.joined_by is not None:
        text = f"nullif(concat_ws({quote(spec.joined_by)}, {', '.join(found)}), '')"
    elif spec.also:
        text = f"coalesce({', '.join(found)})"
    if spec.pattern:
        text = f"nullif(regexp_extract({text}, {quote(spec.pattern)}, 1), '')"
    return text


def _pick_name(pick: Pick) -> str:
    """SQL: the column in which the item of a pick stands."""
    return "_pick_" + sha256(repr(pick).encode()).hexdigest()[:12]


def _add_picks(mapping: Mapping, relation: str) -> str:
    """SQL: a relation with a column for the item of every pick, with what fields read of it.

    What is wanted is looked up in a layer of its own: a lookup inside of the search would carry
    whole payloads through its join.
    """
    read: dict[Pick, list[Path]] = {}
    for spec in mapping.fields.values():
        if spec.pick:
            paths = [path for path in (spec.path, *spec.also) if path and in_item(path)]
            read.setdefault(spec.pick, []).extend(paths)
    if not read:
        return relation
    wanted, found = [], []
    for pick, paths in read.items():
        name = _pick_name(pick)
        text = _text(Field(pick.wanted, pattern=pick.pattern))
        wanted.append(f"{_looked_up(pick.lookup, text)} as {name}_wanted")
        items = f"json_extract(payload, {quote('$.' + pick.items)})"
        key = _value(pick.key, f"json_transform(x, {quote(_shape([pick.key]))})")
        place = f"list_position(list_transform({items}, lambda x: {key}), {name}_wanted)"
        found.append(f"json_transform({items}[{place}], {quote(_shape(paths))}) as {name}")
    return (
        f"select *, {', '.join(found)}\nfrom (select *, {', '.join(wanted)} from (\n{relation}\n))"
    )


def _looked_up(lookup: Lookup, text: str) -> str:
    """SQL: what a lookup has for a text."""
    within = ""
    if lookup.within:
        within = _text(Field(lookup.within, pattern=lookup.within_pattern)) + " || '/' || "
    return f"{lookup.table}(source || chr(31) || {within}{text})"


def _value_of(spec: Field) -> str:
    """SQL: a field's text, after it was found in a list and looked up."""
    text = _text(spec)
    if spec.find:
        key, wanted, value_key = spec.find
        shape = quote(json.dumps([{key: "VARCHAR", value_key: "VARCHAR"}]))
        text = (
            f"list_filter(from_json({text}, {shape}), lambda x: x.{key} = {quote(wanted)})"
            f"[1].{value_key}"
        )
    if not spec.lookup:
        return text
    looked_up = _looked_up(spec.lookup, text)
    return looked_up if spec.lookup.is_strict else f"coalesce({looked_up}, {text})"


def parse_instant(text: str, time_zone: str) -> str:
    """SQL: an instant from ISO 8601, Unix seconds or a local date and time; NULL if none fits."""
    formats = quote_list(LOCAL_FORMATS)
    colon = f"regexp_replace({text}, '([+-]\\d{{2}})(\\d{{2}})$', '\\1:\\2')"
    # The common form first: a LIKE costs a tenth of an expression.
    return f"""case
        when {text} is null then null
        when {text} like '____-__-__T__:__:__%' and ({text} like '%Z' or {text} like '%+__:__')
            then try_cast({text} as timestamptz)
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
    """SQL of a value map, and of the reason code for a value outside it.

    Where such a value becomes ``unknown``, the code is only told; it rejects nothing.
    """
    whens = " ".join(f"when {quote(k)} then {quote(v)}" for k, v in spec.values)
    fallback = quote(spec.unknown) if spec.unknown else "null"
    key = f"lower(trim({text}))"
    value = f"case when {text} is not null then case {key} {whens} else {fallback} end end"
    if kind != "VARCHAR":
        value = f"cast({value} as {kind})"
    known = ", ".join(quote(k) for k, _ in spec.values)
    if spec.unknown:
        if len({to for _, to in spec.values}) < 2:
            return value, []  # a mark, such as who is a bot: all else is meant to be unknown
        told = f"{quote(f'{OTHER_VALUE}:{name}=')} || left({text}, {TOLD_CHARACTERS})"
        return value, [f"case when {text} is not null and {key} not in ({known}) then {told} end"]
    reason = quote(f"unknown_value:{name}")
    return value, [f"case when {text} is not null and {key} not in ({known}) then {reason} end"]


def _render_minutes(name: str, text: str, since: str, time_zone: str) -> tuple[str, list[str]]:
    """SQL of the minutes between two instants, and of the reason code if one cannot be read."""
    ends = [parse_instant(part, time_zone) for part in (since, text)]
    reason = quote(f"impossible_date:{name}")
    failed = " or ".join(
        f"({part} is not null and ({end}) is null)"
        for part, end in zip((since, text), ends, strict=True)
    )
    minutes = f"(epoch_ms({ends[1]}) - epoch_ms({ends[0]})) / 60000.0"
    return minutes, [f"case when {failed} then {reason} end"]


def _render(name: str, spec: Field, time_zone: str, kind: str) -> tuple[str, list[str]]:
    """(SQL of the typed value, [SQL of a reason code or NULL])."""
    if spec.path is None:
        if spec.const is None:
            return f"cast(null as {kind})", []
        literal = quote(spec.const) if isinstance(spec.const, str) else repr(spec.const)
        return f"cast({literal} as {kind})", []
    if spec.since:
        return _render_minutes(name, _text(spec), _value(spec.since), time_zone)
    text = _value_of(spec)
    if spec.is_hashed:
        text = f"md5(lower(trim({text})))"
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
    if spec.type == "number" and spec.times != 1.0:
        value = f"{value} * {spec.times!r}"
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
    is_plain = mapping.explode is not None and "*" not in mapping.explode
    if mapping.explode and is_plain:
        record_paths.append(mapping.explode)
    parsed = (
        f"select *, json_transform(payload, {quote(_shape(record_paths))}) as _record\n"
        f"from {relation}\nwhere entity = {quote(mapping.raw)} and problem is null"
    )
    if mapping.explode:
        items = (
            f"from_json({_value(mapping.explode)}, '[\"JSON\"]')"
            if is_plain
            else f"json_extract(payload, {quote('$.' + mapping.explode)})"
        )
        item_shape = quote(_shape([path for path in paths if in_item(path)]))
        parsed = (
            f"select *, json_transform(_json, {item_shape}) as _item\n"
            f"from (select *, unnest({items}) as _json from ({parsed}))"
        )
    parsed = _add_picks(mapping, parsed)
    conditions = [_render_when(when) for when in mapping.when]
    parsed, conditions, listed, codes_sql = _hoist_lookups(
        parsed, conditions, ",\n    ".join(columns), ", ".join(reasons)
    )
    where = _where(conditions)
    reason_list = (
        f"list_filter([{codes_sql}]::varchar[], lambda x: x is not null)"
        if reasons
        else "[]::varchar[]"
    )
    return (
        f"select\n    {listed},\n    {reason_list} as reasons,\n    raw_row\n"
        f"from (\n{parsed}\n){where}"
    )


_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\blookup_\w+\(|[()]""")


def _where(conditions: list[str]) -> str:
    return "\nwhere " + " and ".join(conditions) if conditions else ""


def _hoist_lookups(
    parsed: str, conditions: list[str], columns: str, codes: str
) -> tuple[str, list[str], str, str]:
    """Let each lookup be made once a row, in a layer of its own over ``parsed``.

    A column's text stands many times in the SQL of its value and of its reasons, and each lookup is
    a join: planning a mapping with a few of them took longer than reading 100,000 records.
    """
    calls: dict[str, str] = {}
    later = [_replace_calls(condition, calls) for condition in conditions]
    first = [text for text, new in zip(conditions, later, strict=True) if text == new]
    second = [new for text, new in zip(conditions, later, strict=True) if text != new]
    columns, codes = _replace_calls(columns, calls), _replace_calls(codes, calls)
    if not calls:
        return parsed, conditions, columns, codes
    found = ",\n    ".join(f"{call} as {name}" for call, name in calls.items())
    layer = f"select *,\n    {found}\nfrom (\n{parsed}\n){_where(first)}"
    return layer, second, columns, codes


def _replace_calls(text: str, calls: dict[str, str]) -> str:
    """Names of columns in place of the lookups of an SQL text; ``calls`` gets lookup → name."""
    pieces: list[str] = []
    done, start, depth = 0, -1, 0
    for token in _TOKEN.finditer(text):
        word = token.group()
        if start < 0:
            if word.startswith("lookup_"):
                start, depth = token.start(), 1
        elif word.endswith("("):
            depth += 1
        elif word == ")":
            depth -= 1
            if depth == 0:
                call = text[start : token.end()]
                pieces += [text[done:start], calls.setdefault(call, f"_found_{len(calls)}")]
                done, start = token.end(), -1
    return "".join(pieces) + text[done:]


def _render_when(when: When) -> str:
    text = _value_of(when.field)
    if when.pattern and not when.lookup:
        found = f"coalesce(regexp_matches({text}, {quote(when.pattern)}), false)"
        return f"not {found}" if when.is_negated else found
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

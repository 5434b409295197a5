"""Files: CSV, JSON lines, Parquet and Excel, one record a row.

Delimiter, header and encoding are found out. Every row is captured: one that cannot be read keeps
its text and says why (``problem``). A file that was only touched is not read again; of one that
changed, only rows that were not captured before are added.
"""

from __future__ import annotations

import codecs
import csv
import glob
import hashlib
import os
import re
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.entities import KEYS, SCHEMAS
from pipelines.errors import HearbackError, UsageError
from pipelines.mapping import RECORD_ID, Field, Mapping, When, columns_to_fields
from pipelines.settings import Source, TimeZone, nearest
from pipelines.sources.base import Batch, Kind, PullContext, read_options
from pipelines.storage import connect_duckdb, quote

BLOCK_BYTES = 8 << 20
BATCH_ROWS = 100_000
# A byte that is not text in the file's encoding becomes one of these private characters while the
# row is read, so that the row can be found; its payload then shows the byte as \xNN.
BAD_BYTE = 0xF0000
BAD_BYTES = re.compile("[\U000f0000-\U000f00ff]")


class Question(BaseModel):
    """A survey column that asks for a score."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    kind: Literal["csat", "nps", "ces", "other"]
    scale: tuple[float, float]
    higher_is_better: bool = True


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Option(description="file or pattern, from the folder of hearback.toml")
    entity: str = Option(default="feedback", description="canonical entity, or survey")
    columns: dict[str, str] = Option(default_factory=dict, description="canonical = column")
    constants: dict[str, str | float | bool] = Option(default_factory=dict)
    values: dict[str, dict[str, str]] = Option(default_factory=dict, description="value maps")
    time_zone: TimeZone | None = None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    id: str | None = Option(default=None, description="survey: column of the response id")
    questions: list[Question] = Option(default_factory=list)
    comment: str | None = None
    case: str | None = None
    case_source: str | None = None
    customer: str | None = None
    customer_source: str | None = None
    offered_at: str | None = None
    answered_at: str | None = None
    language: str | None = None
    survey_id: str | None = None

    @property
    def id_column(self) -> str | None:
        """The column that identifies a row, if the configuration names one."""
        if self.entity == "survey":
            return self.id
        return self.columns.get(record_key(self.entity))

    @property
    def named_columns(self) -> list[str]:
        """Every column of the file that the configuration names."""
        single = [self.id, self.comment, self.case, self.customer, self.offered_at,
                  self.answered_at, self.language]  # fmt: skip
        named = [*self.columns.values(), *(q.column for q in self.questions)]
        return named + [column for column in single if column]


def record_key(entity: str) -> str:
    """The canonical column that holds a record's id within its source."""
    if entity not in KEYS:
        raise UsageError(
            f"entity {entity!r} does not exist{nearest(entity, [*KEYS, 'survey'])}; "
            f"entities are: {', '.join([*KEYS, 'survey'])}"
        )
    return KEYS[entity][1]


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Rows of every file that matches and that changed since it was last read."""
    options = read_options(source, Options)
    check_columns(source, options)
    paths = sorted(glob.glob(str(context.folder / options.path), recursive=True))
    if not paths:
        raise HearbackError(
            f"source {source.name!r}: no file matches {options.path} (from {context.folder}); "
            "mend options.path"
        )
    seen: dict[str, Any] = dict(context.position.get("files", {}))
    for path in paths:
        key = os.path.relpath(path, context.folder)
        mark = fingerprint(Path(path), seen.get(key))
        if mark == seen.get(key) or mark["sha256"] == seen.get(key, {}).get("sha256"):
            seen[key] = mark
            yield Batch(options.entity, [], {"files": dict(seen)})
            continue
        for table in read_file(source, options, Path(path)):
            yield Batch(options.entity, table)
        seen[key] = mark
        yield Batch(options.entity, [], {"files": dict(seen)})


def fingerprint(path: Path, before: dict[str, Any] | None) -> dict[str, Any]:
    """Size, time and SHA-256 of a file; the hash is kept if size and time did not change."""
    stat = path.stat()
    mark = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    if before and before["size"] == mark["size"] and before["mtime_ns"] == mark["mtime_ns"]:
        return before
    with open(path, "rb") as file:
        return mark | {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def check_columns(source: Source, options: Options) -> None:
    """UsageError if the configuration names a canonical column that does not exist."""
    if options.entity == "survey":
        if not options.questions:
            raise UsageError(f"source {source.name!r}: entity survey needs options.questions")
        return
    record_key(options.entity)
    names = SCHEMAS[options.entity].names
    if not options.columns:
        raise UsageError(
            f"source {source.name!r}: option 'columns' names none; say which column of the file is "
            f'which, such as columns = {{ {names[6]} = "…" }}; columns of {options.entity} are: '
            f"{', '.join(names[6:])}"
        )
    for name in [*options.columns, *options.constants, *options.values]:
        if name not in names:
            raise UsageError(
                f"source {source.name!r}: {options.entity} has no column {name!r}"
                f"{nearest(name, names)}"
            )


def check_header(source: Source, options: Options, header: list[str], path: Path) -> None:
    """HearbackError if the file lacks a column that the configuration names."""
    for column in options.named_columns:
        if column not in header:
            raise HearbackError(
                f"source {source.name!r}: {path.name} has no column {column!r}"
                f"{nearest(column, header)}; its columns are: {', '.join(header[:30])}"
            )


def read_file(source: Source, options: Options, path: Path) -> Iterator[pa.Table]:
    """A file's rows as tables of record_id, payload, url, problem."""
    if path.stat().st_size == 0:
        return
    reader = {"csv": read_csv, "jsonl": read_jsonl, "parquet": read_parquet, "excel": read_excel}
    yield from reader[source.kind](source, options, path)


def read_csv(source: Source, options: Options, path: Path) -> Iterator[pa.Table]:
    encoding = options.encoding or find_encoding(path)
    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / "rows.csv"
        transcode(path, clean, encoding)
        with open(clean, encoding="utf-8", newline="") as file:
            sample = file.read(64 << 10)
        delimiter = options.delimiter or find_delimiter(sample)
        header = next(csv.reader(sample.splitlines()[:1], delimiter=delimiter))
        check_header(source, options, header, path)
        con = connect_duckdb()
        con.execute("set preserve_insertion_order = true")
        columns = ", ".join(f"{quote(unique)}: 'VARCHAR'" for unique in unique_names(header))
        con.execute(
            f"""
            create temp table rows as select row_number() over () as position, * from read_csv(
                {quote(str(clean))}, delim = {quote(delimiter)}, header = true, quote = '"',
                escape = '"', columns = {{{columns}}}, null_padding = false, strict_mode = true,
                store_rejects = true, rejects_limit = 0, max_line_size = 16777216,
                auto_detect = false, parallel = false
            )
            """
        )
        pairs = ", ".join(f"{quote(name)}, {identifier(name)}" for name in unique_names(header))
        id_sql = identifier(options.id_column) if options.id_column else "null::varchar"
        broken = con.sql(
            "select distinct on (line) csv_line as line, error_message from reject_errors"
        ).to_arrow_table()
        yield from identified(
            con, f"select json_object({pairs}) as payload, {id_sql} as id, position from rows"
        )
        if broken.num_rows:
            yield unreadable(broken["line"], "broken_row")


def unique_names(header: list[str]) -> list[str]:
    """The header's names, each once: a repeated one gets a number, an empty one its place."""
    names: list[str] = []
    for place, name in enumerate(header, 1):
        base = name.strip() or f"column_{place}"
        unique, count = base, 1
        while unique in names:
            count += 1
            unique = f"{base}_{count}"
        names.append(unique)
    return names


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def read_jsonl(source: Source, options: Options, path: Path) -> Iterator[pa.Table]:
    con = connect_duckdb()
    con.execute("set preserve_insertion_order = true")
    names = count_names(con)
    id_column = options.id_column
    id_sql = (
        f"json_extract_string(line, {quote(json_key(id_column))})" if id_column else "null::varchar"
    )
    checked = False
    for lines, is_damaged in read_lines(path, options.encoding or "utf-8"):
        con.register("lines", pa.table({"line": lines}))
        if not checked:
            checked = check_keys(source, options, con)
        damage = f"regexp_matches(line, {quote(BAD_BYTES.pattern)})" if is_damaged else "false"
        found = con.sql(
            f"""
            select is_object, case when is_object then {id_sql} end as id,
                case when {damage} then 'wrong_encoding'
                    when not is_object then 'broken_json' end as problem
            from (select line, {IS_OBJECT} as is_object from lines)
            """
        ).to_arrow_table()
        table = pa.table(
            {
                "record_id": found["id"],
                "payload": lines,
                "url": pa.nulls(len(lines), pa.string()),
                "problem": found["problem"],
            }
        ).filter(pc.is_valid(found["is_object"]))
        yield name_rows(names, show_bad_bytes(table) if is_damaged else table)


# NULL for a line of nothing but white space
IS_OBJECT = r"""case ltrim(line, e' \t\r\n')[1:1] when '' then null
    when '{' then json_valid(line) else false end"""


def count_names(con: Any) -> Any:
    """A cursor of con's own that remembers which contents ``name_rows`` has met in a file."""
    names = con.cursor()
    names.execute("create temp table met (content varchar, rows bigint)")
    return names


def name_rows(names: Any, table: pa.Table) -> pa.Table:
    """Give rows without an id their content's hash and which of equals it is in the file."""
    has_none = pc.equal(pc.utf8_length(pc.utf8_trim(table["record_id"], " ")), 0)
    has_none = pc.fill_null(has_none, True)
    if not pc.any(has_none).as_py():
        return table
    names.register("unnamed", pa.table({"payload": table["payload"].filter(has_none)}))
    names.execute(
        """
        create or replace temp table numbered as
        select position, content, row_number() over (partition by content order by position)
            as place
        from (select md5(payload) as content, row_number() over () as position from unnamed)
        """
    )
    ids = names.sql(
        """
        select 'row-' || content || '-' || (place + coalesce(before.rows, 0)) as id
        from numbered left join (
            select content, sum(rows)::bigint as rows from met semi join numbered using (content)
            group by content
        ) as before using (content)
        order by position
        """
    ).to_arrow_table()["id"]
    names.execute("insert into met select content, count(*) from numbered group by content")
    named = pc.replace_with_mask(
        table["record_id"].combine_chunks(), has_none.combine_chunks(), ids.combine_chunks()
    )
    return table.set_column(0, "record_id", named)


def json_key(name: str) -> str:
    return '$."' + name.replace('"', '\\"') + '"'


def check_keys(source: Source, options: Options, con: Any) -> bool:
    """True if there were records to check; HearbackError if none has a key that is configured."""
    rows = con.execute(
        f"select list_distinct(flatten(list(json_keys(line)))) from lines where {IS_OBJECT}"
    ).fetchall()
    found = rows[0][0]
    if not found:
        return False
    for column in options.named_columns:
        if column not in found:
            raise HearbackError(
                f"source {source.name!r}: no record has the key {column!r}"
                f"{nearest(column, found)}; keys are: {', '.join(sorted(found)[:30])}"
            )
    return True


def read_parquet(source: Source, options: Options, path: Path) -> Iterator[pa.Table]:
    con = connect_duckdb()
    relation = f"read_parquet({quote(str(path))}, file_row_number = true)"
    header = [row[0] for row in con.execute(f"describe select * from {relation}").fetchall()]
    header.remove("file_row_number")
    check_header(source, options, header, path)
    pairs = ", ".join(f"{quote(name)}, {identifier(name)}" for name in header)
    id_sql = f"{identifier(options.id_column)}::varchar" if options.id_column else "null::varchar"
    yield from identified(
        con,
        f"select json_object({pairs}) as payload, {id_sql} as id, "
        f"file_row_number as position from {relation}",
    )


def read_excel(source: Source, options: Options, path: Path) -> Iterator[pa.Table]:
    from openpyxl import load_workbook

    book = load_workbook(path, read_only=True, data_only=True)
    try:
        sheet = book[options.sheet] if options.sheet else book.worksheets[0]
    except KeyError:
        raise HearbackError(
            f"source {source.name!r}: {path.name} has no sheet {options.sheet!r}"
            f"{nearest(str(options.sheet), book.sheetnames)}"
        ) from None
    rows = sheet.iter_rows(values_only=True)
    header = unique_names([str(cell or "") for cell in next(rows, ())])
    check_header(source, options, header, path)
    con = connect_duckdb()
    pairs = ", ".join(f"{quote(name)}, {identifier(name)}" for name in header)
    id_sql = identifier(options.id_column) if options.id_column else "null::varchar"
    names = count_names(con)
    offset = 0
    while chunk := [row for _, row in zip(range(BATCH_ROWS), rows, strict=False)]:
        kept = [row for row in chunk if any(cell is not None for cell in row)]
        arrays = {
            name: pa.array([cell_text(row[place]) for row in kept], pa.string())
            for place, name in enumerate(header)
        }
        con.register("cells", pa.table(arrays | {"_position": range(offset, offset + len(kept))}))
        offset += len(kept)
        yield from identified(
            con,
            f"select json_object({pairs}) as payload, {id_sql} as id, _position as position "
            "from cells",
            names,
        )
    book.close()


def cell_text(cell: Any) -> str | None:
    """A cell as text; dates in ISO form, whole numbers without a point."""
    if cell is None:
        return None
    if hasattr(cell, "isoformat"):
        return str(cell.isoformat())
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def identified(con: Any, select: str, names: Any = None) -> Iterator[pa.Table]:
    """Give each row a record id: its own, or its content's hash and which of equals it is.

    ``names`` is what ``count_names`` gave, for a file that is read in several selects.
    """
    reader = con.sql(
        f"""
        select case when trim(id) <> '' then id end as record_id, payload,
            null::varchar as url,
            case when regexp_matches(payload, {quote(BAD_BYTES.pattern)})
                then 'wrong_encoding' end as problem
        from ({select}) order by position
        """
    ).to_arrow_reader(BATCH_ROWS)
    names = names or count_names(con)
    for chunk in reader:
        yield name_rows(names, show_bad_bytes(pa.Table.from_batches([chunk])))


def show_bad_bytes(table: pa.Table) -> pa.Table:
    """Turn the private characters of damaged rows into \\xNN."""
    is_damaged = pc.fill_null(pc.equal(table["problem"], "wrong_encoding"), False)
    damaged = table["payload"].filter(is_damaged).to_pylist()
    if not damaged:
        return table
    shown = pc.replace_with_mask(
        table["payload"].combine_chunks(),
        is_damaged.combine_chunks(),
        pa.array([show_bytes(text) for text in damaged], pa.string()),
    )
    return table.set_column(table.column_names.index("payload"), "payload", shown)


def show_bytes(text: str) -> str:
    return BAD_BYTES.sub(lambda found: f"\\\\x{ord(found[0]) - BAD_BYTE:02x}", text)


def unreadable(lines: pa.ChunkedArray, problem: str) -> pa.Table:
    """Rows that could not be read, with their text as payload."""
    texts = [show_bytes(str(line)) for line in lines.to_pylist()]
    problems = [
        "wrong_encoding" if BAD_BYTES.search(str(line)) else problem for line in lines.to_pylist()
    ]
    seen: dict[str, int] = {}
    ids = []
    for text in texts:
        digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        seen[digest] = seen.get(digest, 0) + 1
        ids.append(f"row-{digest}-{seen[digest]}")
    return pa.table(
        {
            "record_id": ids,
            "payload": texts,
            "url": pa.nulls(len(texts), pa.string()),
            "problem": problems,
        }
    )


def find_encoding(path: Path) -> str:
    """The encoding of a text file: by its mark, else UTF-8 unless most bytes speak against it."""
    with open(path, "rb") as file:
        sample = file.read(1 << 20)
    if sample.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    decoded = sample.decode("utf-8", errors="replace")[:-4]
    bad = decoded.count("\ufffd")
    beyond_ascii = len(re.findall("[^\x00-\x7f\ufffd]", decoded))
    if bad <= max(beyond_ascii, 1 + len(decoded) // 1000):
        return "utf-8"
    high = sum(byte >= 0x80 for byte in sample)
    paired = sum(len(run) for run in re.findall(rb"(?:[\xa1-\xf7][\xa1-\xfe])+", sample))
    if paired >= 0.9 * high:  # Han characters of GB 2312; Western text has single high bytes
        return "gb18030"
    from charset_normalizer import from_bytes

    best = from_bytes(sample[: 64 << 10]).best()
    found = best.encoding if best else "utf-8"
    return "gb18030" if found.lower() in ("gb2312", "gbk", "cp936", "hz", "big5") else found


def mark_bad_bytes(error: UnicodeError) -> tuple[str, int]:
    """What stands for bytes that are not text: private characters, one a byte."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(chr(BAD_BYTE + byte) for byte in bad), error.end


codecs.register_error("mark_bad_bytes", mark_bad_bytes)


def decode(data: bytes, encoding: str) -> str:
    """Text of data; a byte that is not text becomes a private character."""
    return data.decode(encoding, errors="mark_bad_bytes")


def transcode(path: Path, target: Path, encoding: str) -> None:
    """Copy a text file as UTF-8, block by block."""
    if encoding.startswith("utf-16"):
        with (
            open(path, encoding=encoding, newline="") as reader,
            open(target, "w", encoding="utf-8", newline="") as writer,
        ):
            while text := reader.read(BLOCK_BYTES):
                writer.write(text)
        return
    with open(path, "rb") as source, open(target, "wb") as sink:
        first = True
        for block in read_blocks(source):
            data = block.removeprefix(b"\xef\xbb\xbf") if first else block
            first = False
            sink.write(decode(data, encoding.removesuffix("-sig")).encode("utf-8"))


def read_blocks(file: Any) -> Iterator[bytes]:
    """Blocks of whole lines."""
    rest = b""
    while block := file.read(BLOCK_BYTES):
        end = block.rfind(b"\n") + 1
        if not end:
            rest += block
            continue
        yield rest + block[:end]
        rest = block[end:]
    if rest:
        yield rest


def read_lines(path: Path, encoding: str) -> Iterator[tuple[pa.Array, bool]]:
    """(lines, whether bytes of them were no text) of a text file, a block at a time."""
    with open(path, "rb") as file:
        for block in read_blocks(file):
            data, is_damaged = to_utf8(block, encoding)
            data = data.removeprefix(b"\xef\xbb\xbf")
            ends = pa.py_buffer(struct.pack("=2i", 0, len(data)))
            text = pa.StringArray.from_buffers(1, ends, pa.py_buffer(data))
            yield pc.split_pattern(text, "\n").flatten(), is_damaged


def to_utf8(data: bytes, encoding: str) -> tuple[bytes, bool]:
    """(data in UTF-8, whether some bytes were no text and are private characters now)."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return decode(data, encoding).encode("utf-8"), True
    return (data if encoding == "utf-8" else text.encode("utf-8")), False


def find_delimiter(sample: str) -> str:
    """The delimiter of a CSV sample: the one that parts the header most, comma if none does."""
    first = sample.splitlines()[0] if sample else ""
    try:
        return csv.Sniffer().sniff(first, delimiters=",;\t|").delimiter
    except csv.Error:
        return ","


def mappings(source: Source) -> list[Mapping]:
    """The configured columns, as mappings of the one raw entity."""
    options = read_options(source, Options)
    zone = options.time_zone or "UTC"
    if options.entity == "survey":
        return survey_mappings(source, options, zone)
    key = record_key(options.entity)
    fields = columns_to_fields(options.entity, options.columns, options.values)
    fields |= {name: Field(const=value) for name, value in options.constants.items()}
    if options.entity in ("feedback", "messages"):
        fields.setdefault("channel", Field(const="other"))
    for name in ("case_source", "customer_source"):
        value = getattr(options, name)
        if value and name in SCHEMAS[options.entity].names:
            fields.setdefault(name, Field(const=value))
    required: tuple[str, ...] = (key,)
    fields.setdefault(key, Field(RECORD_ID))
    return [Mapping(options.entity, options.entity, fields, time_zone=zone, required=required)]


def survey_mappings(source: Source, options: Options, zone: str) -> list[Mapping]:
    """One response for each question asked, and a feedback row for the comment."""
    identity = Field((options.id,)) if options.id else Field(RECORD_ID)
    offered = Field((options.offered_at,), "instant") if options.offered_at else Field()
    answered = Field((options.answered_at,), "instant") if options.answered_at else offered
    shared = {
        "source_customer_id": Field((options.customer,)) if options.customer else Field(),
        "customer_source": Field(const=options.customer_source),
        "source_case_id": Field((options.case,)) if options.case else Field(),
        "case_source": Field(const=options.case_source),
        "updated_at": answered,
    }
    found = [
        Mapping(
            "survey",
            "survey_responses",
            shared
            | {
                "source_response_id": identity,
                "survey_id": Field(const=options.survey_id or source.name),
                "question_id": Field(const=question.column),
                "kind": Field(const=question.kind),
                "score": Field((question.column,), "number"),
                "scale_min": Field(const=float(question.scale[0])),
                "scale_max": Field(const=float(question.scale[1])),
                "higher_is_better": Field(const=question.higher_is_better),
                "comment": Field((options.comment,)) if options.comment and not place else Field(),
                "offered_at": offered,
                "answered_at": answered,
            },
            time_zone=zone,
            required=("source_response_id",),
        )
        for place, question in enumerate(options.questions)
    ]
    if options.comment:
        rated = next((q for q in options.questions if q.kind == "csat"), options.questions[0])
        found.append(
            Mapping(
                "survey",
                "feedback",
                shared
                | {
                    "source_record_id": identity,
                    "channel": Field(const="survey"),
                    "language": Field((options.language,)) if options.language else Field(),
                    "created_at": answered,
                    "body": Field((options.comment,)),
                    "rating": Field((rated.column,), "number"),
                    "rating_min": Field(const=float(rated.scale[0])),
                    "rating_max": Field(const=float(rated.scale[1])),
                },
                when=(When((options.comment,)),),
                time_zone=zone,
                required=("source_record_id",),
            )
        )
    return found


ENTITIES = tuple(SCHEMAS)
KINDS = {
    name: Kind(name, summary, Options, ENTITIES, pull, mappings)
    for name, summary in (
        ("csv", "CSV files: delimiter, header and encoding are found out"),
        ("jsonl", "JSON lines"),
        ("parquet", "Parquet files"),
        ("excel", "Excel workbooks"),
    )
}

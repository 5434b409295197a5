"""Files: CSV, JSON lines, Parquet and Excel, one record a row.

Delimiter, header and encoding are found out. Every row is captured: one that cannot be read keeps
its text and says why (``problem``). A file that was only touched is not read again; of one that
changed, only rows that were not captured before are added. Files may be packed, and may lie in a
folder or on an object store.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import os
import re
import struct
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field as Option

from pipelines.entities import SCHEMAS
from pipelines.errors import HearbackError
from pipelines.mapping import Field, Mapping
from pipelines.settings import Source, nearest
from pipelines.sources.base import Batch, Kind, PullContext, read_options
from pipelines.sources.columns import ColumnOptions, check_columns, map_columns, record_key
from pipelines.sources.deletions import split_marks
from pipelines.sources.places import (
    SECRETS,
    DamagedFile,
    find_places,
    open_place,
    unpack,
)
from pipelines.storage import connect_duckdb, is_disk_full, quote

T = TypeVar("T")
BLOCK_BYTES = 8 << 20
PIECE_BYTES = 16 << 10  # of a damaged block: what is searched line by line
BATCH_ROWS = 2048  # a vector of DuckDB's
MEMORY_LIMITS = ("64MB", "128MB", "256MB", "1GB")  # of DuckDB while it reads a file
CHECKED_FILES, CHECKED_LINES = 20, 1000  # what check opens
# A byte that is not text in the file's encoding becomes one of these private characters while the
# row is read, so that the row can be found; its payload then shows the byte as \xNN.
BAD_BYTE = 0xF0000
BAD_BYTES = re.compile("[\U000f0000-\U000f00ff]")


class Options(ColumnOptions):
    path: str = Option(
        description="file, folder or pattern, from the folder of hearback.toml or s3://…"
    )
    encoding: str | None = Option(default=None, description="encoding of the file; else found out")
    delimiter: str | None = Option(default=None, description="what parts columns; else found out")
    sheet: str | None = Option(default=None, description="Excel: name of the sheet; else the first")
    id: str | None = Option(default=None, description="survey: column of the response id")

    @property
    def id_column(self) -> str | None:
        """The column that identifies a row, if the configuration names one."""
        if self.entity == "survey":
            return self.id
        return self.columns.get(record_key(self.entity))

    @property
    def identity(self) -> Field:
        return Field((self.id,)) if self.id else super().identity

    @property
    def named_columns(self) -> list[str]:
        """Every column of the file that the configuration names."""
        return [self.id, *super().named_columns] if self.id else super().named_columns


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Rows of every file that matches and that changed since it was last read.

    A file that is damaged does not keep the others from being read; the pull fails at the end.
    """
    options = read_options(source, Options)
    check_columns(source, options)
    places = find_places(source, options.path, context)
    seen: dict[str, Any] = dict(context.position.get("files", {}))
    damaged: list[DamagedFile] = []
    for place in places:
        before = seen.get(place.key, {})
        if before.items() >= place.mark.items():
            continue
        with open_place(source, place) as path:
            digest = hash_file(path)
            if digest != before.get("sha256"):
                try:
                    for name, file in unpack(source, path, place.key):
                        for table in read_ahead(read_file(source, options, file, name)):
                            yield Batch(options.entity, table)
                except DamagedFile as error:
                    damaged.append(error)
                    continue
        seen[place.key] = place.mark | {"sha256": digest}
        yield Batch(options.entity, [], {"files": dict(seen)})
    gone = seen.keys() - {place.key for place in places}
    kept = {key: mark for key, mark in seen.items() if key not in gone}
    yield Batch(options.entity, [], {"files": kept})
    if damaged:
        raise damaged[0]


def check(source: Source, context: PullContext) -> str:
    """Open the files that match, the newest of many, and look for the configured columns."""
    options = read_options(source, Options)
    check_columns(source, options)
    places = find_places(source, options.path, context)
    for place in sorted(places, key=lambda place: place.changed_at)[-CHECKED_FILES:]:
        with open_place(source, place) as path:
            for _, file in unpack(source, path, place.key):
                check_file(source, options, file)
    return f"{len(places)} file{'s' if places[1:] else ''} with the columns configured"


def check_file(source: Source, options: Options, path: Path) -> None:
    """HearbackError if a file cannot be opened, or lacks a column that is configured."""
    try:
        if path.stat().st_size == 0:
            return
        if source.kind == "jsonl":
            lines, _ = next(read_lines(path, options.encoding or "utf-8"))
            con = connect_duckdb()
            con.register("lines", pa.table({"line": lines.slice(0, CHECKED_LINES)}))
            check_keys(source, options, con)
            return
        check_header(source, options, read_header(source, options, path), path)
    except PermissionError:
        raise HearbackError(
            f"source {source.name!r}: not allowed to read {path}; mend its permissions"
        ) from None
    except pa.ArrowInvalid as error:
        raise HearbackError(
            f"source {source.name!r}: {path.name} is no {source.kind} file ({type(error).__name__})"
            "; mend options.path or kind"
        ) from None


def read_header(source: Source, options: Options, path: Path) -> list[str]:
    """The names of a file's columns."""
    if source.kind == "parquet":
        import pyarrow.parquet as pq

        return list(pq.read_schema(path).names)
    if source.kind == "excel":
        book, sheet = open_sheet(source, options, path)
        header = read_names(next(sheet.iter_rows(values_only=True), ()))
        book.close()
        return header
    encoding = options.encoding or find_encoding(path)
    with open(path, "rb") as file:
        sample = decode(file.read(64 << 10), encoding)
    delimiter = options.delimiter or find_delimiter(sample)
    return unique_names(next(csv.reader(sample.splitlines()[:1], delimiter=delimiter), []))


def hash_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_header(source: Source, options: Options, header: list[str], path: Path) -> None:
    """HearbackError if the file lacks a column that the configuration names."""
    for column in options.named_columns:
        if column not in header:
            raise HearbackError(
                f"source {source.name!r}: {path.name} has no column {column!r}"
                f"{nearest(column, header)}; its columns are: {', '.join(header[:30])}"
            )


def read_file(source: Source, options: Options, path: Path, name: str = "") -> Iterator[pa.Table]:
    """A file's rows as tables of record_id, payload, url, problem."""
    if path.stat().st_size == 0:
        return
    reader = {"csv": read_csv, "jsonl": read_jsonl, "parquet": read_parquet, "excel": read_excel}
    try:
        yield from reader[source.kind](source, options, path)
    except duckdb.Error as error:
        if source.kind != "parquet" or is_disk_full(error):
            raise
        raise DamagedFile(source, name or path.name, error) from error


def read_csv(source: Source, options: Options, path: Path) -> Iterator[pa.Table]:
    encoding = options.encoding or find_encoding(path)
    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / "rows.csv"
        transcode(path, clean, encoding)
        unclosed = mend_quotes_and_line_ends(clean)
        with open(clean, encoding="utf-8", newline="") as file:
            sample = file.read(64 << 10)
        delimiter = options.delimiter or find_delimiter(sample)
        header = unique_names(next(csv.reader(sample.splitlines()[:1], delimiter=delimiter)))
        check_header(source, options, header, path)
        con = connect_duckdb()
        con.execute("set preserve_insertion_order = true")
        columns = ", ".join(f"{quote(name)}: 'VARCHAR'" for name in header)
        relation = f"""read_csv(
            {quote(str(clean))}, delim = {quote(delimiter)}, header = true, quote = '"',
            escape = '"', columns = {{{columns}}}, null_padding = false, strict_mode = true,
            store_rejects = true, rejects_limit = 0, max_line_size = 16777216,
            buffer_size = 16777216, auto_detect = false, parallel = false
        )"""
        pairs = ", ".join(f"{quote(name)}, {identifier(name)}" for name in header)
        id_sql = identifier(options.id_column) if options.id_column else "null::varchar"
        yield from identified(
            con, f"select json_object({pairs}) as payload, {id_sql} as id from {relation}"
        )
        broken = con.sql(
            "select any_value(csv_line) as text from reject_errors group by line order by line"
        ).to_arrow_table()
        texts = [*broken["text"].to_pylist(), *unclosed]
        if texts:
            yield unreadable(pa.chunked_array([pa.array(texts, pa.string())]), "broken_row")


def mend_quotes_and_line_ends(path: Path) -> list[str]:
    """Make a CSV file in UTF-8 readable as a whole; returns lines that were taken out.

    DuckDB refuses a file with both kinds of line ends, and passes in silence over all that follows
    a quote which is never closed: such files get line feeds alone, and lose the line with the
    quote, which is to be reported.
    """
    ends = breaks = quotes = 0
    with open(path, "rb") as file:
        for block in read_blocks(file):
            ends, breaks = ends + block.count(b"\n"), breaks + block.count(b"\r\n")
            quotes += block.count(b'"')
    unclosed = find_unclosed(path) if quotes % 2 else set()
    if not unclosed and breaks in (0, ends):
        return []
    mended, taken = path.with_suffix(".mended"), []
    with open(path, "rb") as source, open(mended, "wb") as sink:
        for number, line in enumerate(source):
            if number in unclosed:
                taken.append(line.decode("utf-8").rstrip("\r\n"))
                continue
            is_mixed = 0 < breaks < ends and line.endswith(b"\r\n")
            sink.write(line[:-2] + b"\n" if is_mixed else line)
    os.replace(mended, path)
    return taken


def find_unclosed(path: Path) -> set[int]:
    """Numbers of the lines, from 0, in which a quoted cell begins that the file never ends."""
    found: set[int] = set()
    begin = 0
    limit = csv.field_size_limit(path.stat().st_size + 1)
    try:
        while (begin := find_last_open(path, begin)) >= 0:
            found.add(begin)
            begin += 1
    finally:
        csv.field_size_limit(limit)
    return found


def find_last_open(path: Path, begin: int) -> int:
    """The line at which the last row after line ``begin`` starts if it is not closed, else -1."""
    with open(path, encoding="utf-8", newline="\n") as file:
        reader = csv.reader(islice(file, begin, None), doublequote=True)
        last = before = 0
        for _ in reader:
            last, before = before, reader.line_num
    with open(path, encoding="utf-8", newline="\n") as file:
        try:
            list(csv.reader(islice(file, begin + last, None), strict=True))
        except csv.Error as error:
            return begin + last if "unexpected end of data" in str(error) else -1
    return -1


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
    names = count_names()
    id_column = options.id_column
    id_sql = (
        f"json_extract_string(line, {quote(json_key(id_column))})" if id_column else "null::varchar"
    )
    checked = False
    for lines, damaged in read_lines(path, options.encoding or "utf-8"):
        con.register("lines", pa.table({"line": lines}))
        if not checked:
            checked = check_keys(source, options, con)
        found = con.sql(
            f"""
            select is_object, case when is_object then {id_sql} end as id,
                case when not is_object then 'broken_json' end as problem
            from (select line, {IS_OBJECT} as is_object from lines)
            """
        ).to_arrow_table()
        problem = found["problem"].combine_chunks()
        if damaged is not None:
            problem = pc.if_else(damaged, pa.scalar("wrong_encoding"), problem)
        table = pa.table(
            {
                "record_id": found["id"],
                "payload": lines,
                "url": pa.nulls(len(lines), pa.string()),
                "problem": problem,
            }
        )
        if found["is_object"].null_count:
            table = table.filter(pc.is_valid(found["is_object"]))
        yield name_rows(names, table)


# NULL for a line of nothing but white space
IS_OBJECT = r"""case when starts_with(line, '{') then json_valid(line) else
    case ltrim(line, e' \t\r\n')[1:1] when '' then null
        when '{' then json_valid(line) else false end end"""


def count_names() -> Any:
    """A connection that remembers which contents ``name_rows`` has met in a file.

    It has memory of its own: that of the one that reads the file is used up by the file.
    """
    names = connect_duckdb()
    names.execute("set preserve_insertion_order = true; set threads = 1")
    names.execute("create temp table met (content varchar, rows bigint)")
    return names


def name_rows(names: Any, table: pa.Table) -> pa.Table:
    """Give rows without an id their content's hash and which of equals it is in the file."""
    ids = table["record_id"]
    may_have_none = pc.or_(pc.equal(pc.binary_length(ids), 0), pc.starts_with(ids, " "))
    if not pc.any(pc.fill_null(may_have_none, True)).as_py():
        return table
    has_none = pc.fill_null(pc.equal(pc.utf8_length(pc.utf8_trim(ids, " ")), 0), True)
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
    given = names.sql(
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
        ids.combine_chunks(), has_none.combine_chunks(), given.combine_chunks()
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
    marked = "survey_responses" if options.entity == "survey" else options.entity
    marks = split_marks(marked, options.columns)[1].values()
    for column in options.named_columns:
        if column not in found and column not in marks:
            raise HearbackError(
                f"source {source.name!r}: no record has the key {column!r}"
                f"{nearest(column, found)}; keys are: {', '.join(sorted(found)[:30])}"
            )
    return True


def read_parquet(source: Source, options: Options, path: Path) -> Iterator[pa.Table]:
    con = connect_duckdb()
    con.execute("set preserve_insertion_order = true")
    relation = f"read_parquet({quote(str(path))})"
    header = [row[0] for row in con.execute(f"describe select * from {relation}").fetchall()]
    check_header(source, options, header, path)
    pairs = ", ".join(f"{quote(name)}, {identifier(name)}" for name in header)
    id_sql = f"{identifier(options.id_column)}::varchar" if options.id_column else "null::varchar"
    yield from identified(
        con, f"select json_object({pairs}) as payload, {id_sql} as id from {relation}"
    )


def read_excel(source: Source, options: Options, path: Path) -> Iterator[pa.Table]:
    book, sheet = open_sheet(source, options, path)
    rows = sheet.iter_rows(values_only=True)
    header = read_names(next(rows, ()))
    check_header(source, options, header, path)
    con = connect_duckdb()
    pairs = ", ".join(f"{quote(name)}, {identifier(name)}" for name in header)
    id_sql = identifier(options.id_column) if options.id_column else "null::varchar"
    con.execute("set preserve_insertion_order = true")
    names = count_names()
    while chunk := [row for _, row in zip(range(BATCH_ROWS), rows, strict=False)]:
        kept = [row for row in chunk if any(cell is not None for cell in row)]
        arrays = {
            name: pa.array([cell_text(row[place]) for row in kept], pa.string())
            for place, name in enumerate(header)
        }
        con.register("cells", pa.table(arrays))
        yield from identified(
            con,
            f"select json_object({pairs}) as payload, {id_sql} as id from cells",
            names,
        )
    book.close()


def open_sheet(source: Source, options: Options, path: Path) -> tuple[Any, Any]:
    """A workbook and its sheet; HearbackError names the nearest if it has not the one wanted."""
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, InvalidFileException):
        raise HearbackError(
            f"source {source.name!r}: {path.name} is no Excel workbook (.xlsx); save it as one"
        ) from None
    try:
        return book, book[options.sheet] if options.sheet else book.worksheets[0]
    except KeyError:
        raise HearbackError(
            f"source {source.name!r}: {path.name} has no sheet {options.sheet!r}"
            f"{nearest(str(options.sheet), book.sheetnames)}"
        ) from None


def read_names(row: Sequence[Any]) -> list[str]:
    """The columns of a sheet by its first row."""
    return unique_names([str(cell or "") for cell in row])


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

    Rows come in the order of the file, as con preserves it, and are not held in memory.
    ``names`` is what ``count_names`` gave, for a file that is read in several selects.
    """
    rows = f"""
        select case when trim(id) <> '' then id end as record_id, payload,
            null::varchar as url,
            case when regexp_matches(payload, {quote(BAD_BYTES.pattern)})
                then 'wrong_encoding' end as problem
        from ({select})
        """
    names = names or count_names()
    for table in gather(stream_rows(con, rows)):
        yield name_rows(names, show_bad_bytes(table))


def gather(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of about a block: each is compared with all contents met before."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(one.nbytes for one in waiting) >= BLOCK_BYTES:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def stream_rows(con: Any, select: str) -> Iterator[pa.Table]:
    """The rows of a select, in little memory if that is enough.

    DuckDB keeps the blocks of a file that it has read until its memory is used up. Very long rows
    need more than little: then it is read again, without the rows that were given already.
    """
    con.execute("set threads = 1")  # each holds a group of rows of a Parquet file
    given = 0
    for limit in MEMORY_LIMITS:
        con.execute(f"set memory_limit = '{limit}'")
        passed = 0
        try:
            for chunk in con.sql(select).to_arrow_reader(BATCH_ROWS):
                passed += chunk.num_rows
                if passed > given:
                    fresh = min(chunk.num_rows, passed - given)
                    given = passed
                    yield pa.Table.from_batches([chunk.slice(chunk.num_rows - fresh)])
            return
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            if "Out of Memory" not in str(error) or limit == MEMORY_LIMITS[-1]:
                raise


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


def read_lines(path: Path, encoding: str) -> Iterator[tuple[pa.Array, pa.Array | None]]:
    """(lines, which of them held bytes that are no text, or None) of a text file, by blocks."""
    with open(path, "rb") as file:
        for block in read_blocks(file):
            lines = block.removesuffix(b"\n")
            data, damaged = to_utf8(lines, encoding)
            text = as_string(data.removeprefix(b"\xef\xbb\xbf"))
            yield pc.split_pattern(text, "\n").flatten(), damaged


def read_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, of which the next is made in a thread while one is worked on."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item


def as_string(data: bytes) -> pa.StringArray:
    """Bytes as an Arrow string, whether they are UTF-8 or not."""
    ends = pa.py_buffer(struct.pack("=2i", 0, len(data)))
    return pa.StringArray.from_buffers(1, ends, pa.py_buffer(data))


def is_text(data: bytes, encoding: str) -> bool:
    try:
        if encoding == "utf-8":
            as_string(data).validate(full=True)  # does not make a text, as decoding does
        else:
            data.decode(encoding)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return False
    return True


def to_utf8(data: bytes, encoding: str) -> tuple[bytes, pa.Array | None]:
    """(lines in UTF-8, which of them held bytes that are shown as \\\\xNN now, None if none)."""
    if is_text(data, encoding):
        return (data if encoding == "utf-8" else data.decode(encoding).encode("utf-8")), None
    pieces: list[bytes] = []
    damaged: list[bool] = []
    for piece in cut_lines(data, PIECE_BYTES):
        for part, is_damaged in part_damaged(piece, encoding):
            is_kept = encoding == "utf-8" and not is_damaged
            pieces.append(part if is_kept else show_bytes(decode(part, encoding)).encode("utf-8"))
            damaged += [is_damaged] * (part.count(b"\n") + 1)
    return b"\n".join(pieces), pa.array(damaged, pa.bool_())


def part_damaged(data: bytes, encoding: str) -> Iterator[tuple[bytes, bool]]:
    """Lines that hold bytes which are no text, one by one (True), and the lines between (False)."""
    start = 0
    while start <= len(data):
        try:
            data[start:].decode(encoding)
        except UnicodeDecodeError as error:
            begin = data.rfind(b"\n", start, start + error.start) + 1 or start
            end = data.find(b"\n", begin)
            end = len(data) if end < 0 else end
            if begin > start:
                yield data[start : begin - 1], False
            yield data[begin:end], True
            start = end + 1
        else:
            yield data[start:], False
            return


def cut_lines(data: bytes, size: int) -> Iterator[bytes]:
    """Pieces of whole lines of about a size, without the line end after each."""
    start = 0
    while (end := data.find(b"\n", start + size)) >= 0:
        yield data[start:end]
        start = end + 1
    yield data[start:]


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
    check_columns(source, options)
    return map_columns(source, options)


ENTITIES = tuple(SCHEMAS)
KINDS = {
    name: Kind(
        name,
        summary,
        Options,
        ENTITIES,
        pull,
        mappings,
        secrets=SECRETS,
        check=check,
        summary_zh=summary_zh,
        has_versions=False,
        is_local=True,
    )
    for name, summary, summary_zh in (
        (
            "csv",
            "CSV files: delimiter, header and encoding are found out",
            "CSV 文件；自动识别分隔符、表头和编码",
        ),
        ("jsonl", "JSON lines", "JSON Lines 文件，每行一条记录"),
        ("parquet", "Parquet files", "Parquet 文件"),
        ("excel", "Excel workbooks", "Excel 工作簿"),
    )
}

"""``hearback query``: one SQL question to the published warehouse, read-only."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pipelines.errors import HearbackError, UsageError
from pipelines.settings import Settings, nearest
from pipelines.storage import Home, connect_duckdb, quote, quote_list

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

FORMATS = ("table", "csv", "json")
BATCH_ROWS = 10_000
TABLE_ROWS = 1_000  # a terminal table is laid out whole; csv and json have no limit
PIPE_WIDTH = 400  # of a table that is not shown on a terminal


def run_query(settings: Settings, sql: str, form: str = "table", out: TextIO | None = None) -> int:
    """Print the answer to one read-only statement; returns the number of rows printed.

    ``form`` is table, csv or json (one object a line). Rows are streamed; instants are shown in the
    project's time zone. A table shows the first 1,000 rows and says so if there are more.
    UsageError for a statement that is not a question, an unknown table or column, or bad SQL;
    HearbackError if nothing has been published yet.
    """
    if form not in FORMATS:
        raise UsageError(f"--format {form!r}{nearest(form, list(FORMATS))}; use table, csv or json")
    out = out or sys.stdout
    with open_warehouse(settings) as con:
        reader = ask(con, sql)
        if form == "csv":
            return write_csv(reader, out)
        if form == "json":
            return write_json_lines(reader, out)
        return write_table(reader, out)


def read_question(given: str) -> str:
    """The SQL itself, or that of a file whose name ends in .sql. UsageError if it is not there."""
    if not given.strip().lower().endswith(".sql") or "\n" in given:
        return given
    path = Path(given.strip())
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise UsageError(f"{path}: cannot be read ({why}); give a .sql file or SQL") from error


def open_warehouse(settings: Settings) -> duckdb.DuckDBPyConnection:
    """The published warehouse, read-only, in the project's time zone, able to read the lake's files
    and nothing else.

    HearbackError with the command to run if there is none yet.
    """
    import duckdb

    home = Home(settings)
    if not home.warehouse.is_file():
        raise HearbackError(
            f"{home.warehouse}: nothing has been published yet; run 'hearback run' first"
        )
    try:
        con = connect_duckdb(home.lake, home.warehouse, read_only=True)
    except duckdb.Error as error:
        raise HearbackError(
            f"{home.warehouse}: cannot be opened ({first_line(error)}); close what has it open "
            "for writing, or run 'hearback publish' to replace it"
        ) from error
    con.execute(f"set time zone {quote(settings.project.time_zone)}")
    if home.lake.is_local:
        con.execute(f"set allowed_directories = {quote_list([home.lake.root])}")
        con.execute("set enable_external_access = false")
    con.execute("set lock_configuration = true")
    return con


def ask(con: duckdb.DuckDBPyConnection, sql: str) -> pa.RecordBatchReader:
    """Run one read-only statement; UsageError in one line if it is not one or does not bind."""
    import duckdb

    try:
        statements = con.extract_statements(sql)
    except duckdb.Error as error:
        raise UsageError(f"SQL: {explain_syntax(error)}") from error
    if len(statements) != 1:
        raise UsageError(f"SQL: give one statement, not {len(statements)}")
    kind = statements[0].type.name
    if kind not in ("SELECT", "EXPLAIN", "MULTI"):
        raise UsageError(
            f"SQL: {kind} is refused: the warehouse is read-only; ask with SELECT, FROM, DESCRIBE, "
            "SUMMARIZE or SHOW"
        )
    try:
        relation = con.sql(sql)
        if relation is None:
            raise UsageError("SQL: the statement has no result; ask with SELECT")
        return relation.to_arrow_reader(BATCH_ROWS)
    except duckdb.CatalogException as error:
        raise UsageError(f"SQL: {explain_unknown(con, error)}") from error
    except duckdb.BinderException as error:
        raise UsageError(f"SQL: {first_line(error)}{list_candidates(error)}") from error
    except duckdb.ParserException as error:
        raise UsageError(f"SQL: {explain_syntax(error)}") from error
    except duckdb.PermissionException as error:
        raise UsageError(
            "SQL: only the warehouse's own tables can be read here; open its file with DuckDB to "
            "join files of your own"
        ) from error
    except duckdb.Error as error:
        if "read-only" in str(error):
            raise UsageError(
                "SQL: the warehouse is read-only: statements that write are refused"
            ) from error
        raise UsageError(f"SQL: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The first line of a DuckDB error without its class."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return re.sub(r"^[A-Za-z ]+ Error: ", "", line).rstrip("!")


def explain_syntax(error: Exception) -> str:
    """The fault and the line it stands in."""
    found = re.search(r"LINE (\d+):", str(error))
    where = f" (line {found[1]})" if found and found[1] != "1" else ""
    return first_line(error) + where


def explain_unknown(con: duckdb.DuckDBPyConnection, error: Exception) -> str:
    """An unknown table with the nearest one there is, or an unknown function."""
    line = first_line(error)
    found = re.search(r"Table with name \"?([^\" ]+)\"? does not exist", line)
    if found is None:
        return line
    rows = con.execute(
        "select case when table_schema = 'main' then '' else table_schema || '.' end || table_name "
        "from information_schema.tables order by table_schema <> 'main', 1"
    ).fetchall()
    names = [row[0] for row in rows]
    main = [name for name in names if "." not in name]
    hint = nearest(found[1], names) or f"; tables: {', '.join(main)}"
    return f"there is no table {found[1]!r}{hint}"


def list_candidates(error: Exception) -> str:
    found = re.search(r"Candidate bindings: (.+)", str(error))
    if found is None:
        return ""
    names = list(dict.fromkeys(re.findall(r'"([^"]+)"', found[1])))
    return f"; nearest: {', '.join(names[:5])}"


# output ---------------------------------------------------------------------------------------


def read_rows(reader: pa.RecordBatchReader) -> Iterator[tuple[Any, ...]]:
    for batch in reader:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def show(value: Any) -> Any:
    """A value as people read it: local instants to the second, lists and structs as JSON."""
    if isinstance(value, datetime):
        digits = "microseconds" if value.microsecond else "seconds"
        return value.isoformat(sep=" ", timespec=digits)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, list | dict | tuple):
        return json.dumps(value, ensure_ascii=False, default=show)
    if isinstance(value, timedelta | Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    return value


def write_csv(reader: pa.RecordBatchReader, out: TextIO) -> int:
    """NULL is empty; true and false in lower case."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(reader.schema.names)
    count = 0
    for row in read_rows(reader):
        writer.writerow(
            str(value).lower() if isinstance(value, bool) else show(value) for value in row
        )
        count += 1
    return count


def write_json_lines(reader: pa.RecordBatchReader, out: TextIO) -> int:
    names = reader.schema.names
    count = 0
    for row in read_rows(reader):
        line = dict(zip(names, row, strict=True))
        out.write(json.dumps(line, ensure_ascii=False, default=show_json) + "\n")
        count += 1
    return count


def show_json(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else show(value)


def write_table(reader: pa.RecordBatchReader, out: TextIO) -> int:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for field in reader.schema:
        is_number = str(field.type).startswith(("int", "uint", "float", "double", "decimal"))
        table.add_column(
            Text(field.name), justify="right" if is_number else "left", overflow="fold"
        )
    count, more = 0, False
    for row in read_rows(reader):
        if count == TABLE_ROWS:
            more = True
            break
        table.add_row(*(Text("" if value is None else format_cell(value)) for value in row))
        count += 1
    width = None if out.isatty() else PIPE_WIDTH
    console = Console(file=out, highlight=False, width=width)
    console.print(table)
    if more:
        console.print(f"first {TABLE_ROWS:,} rows; --format csv or json shows all")
    else:
        console.print(f"{count:,} row{'' if count == 1 else 's'}")
    return count


def format_cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".") if abs(value) < 1e15 else repr(value)
    return str(show(value))

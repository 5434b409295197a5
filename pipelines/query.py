"""``hearback query``: one SELECT on the published warehouse."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any, TextIO

from pipelines.errors import HearbackError, UsageError
from pipelines.storage import Home, connect_duckdb, quote_list

if TYPE_CHECKING:
    import duckdb

    from pipelines.settings import Settings

BATCH_ROWS = 2_000


def open_warehouse(settings: Settings) -> duckdb.DuckDBPyConnection:
    """The published warehouse, read-only, able to read the lake's files and nothing else."""
    home = Home(settings)
    if not home.warehouse.exists():
        raise HearbackError(f"{home.warehouse} is not there yet; run 'hearback run' first")
    con = connect_duckdb(home.lake, home.warehouse, read_only=True)
    if home.lake.is_local:
        con.execute(f"set allowed_directories = {quote_list([home.lake.root])}")
        con.execute("set enable_external_access = false")
    con.execute("set lock_configuration = true")
    return con


def run_query(settings: Settings, sql: str, form: str, out: TextIO) -> None:
    """Print the rows of one SELECT as a table, CSV or JSON lines.

    UsageError if it is anything but one statement that reads, or if DuckDB refuses it.
    """
    import duckdb

    with open_warehouse(settings) as con:
        try:
            statements = con.extract_statements(sql)
            if len(statements) != 1 or statements[0].type.name not in ("SELECT", "EXPLAIN"):
                raise UsageError("give one SELECT (or DESCRIBE, SHOW, SUMMARIZE, EXPLAIN)")
            cursor = con.execute(sql)
        except duckdb.Error as error:
            raise UsageError(str(error).splitlines()[0]) from None
        names = [column[0] for column in cursor.description or []]
        print_rows(cursor, names, form, out)


def print_rows(cursor: Any, names: list[str], form: str, out: TextIO) -> None:
    if form == "csv":
        writer = csv.writer(out)
        writer.writerow(names)
        while rows := cursor.fetchmany(BATCH_ROWS):
            writer.writerows(rows)
        return
    if form == "json":
        while rows := cursor.fetchmany(BATCH_ROWS):
            for row in rows:
                record = dict(zip(names, row, strict=True))
                out.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*names, box=None, pad_edge=False)
    while rows := cursor.fetchmany(BATCH_ROWS):
        for row in rows:
            table.add_row(*("" if value is None else str(value) for value in row))
    Console(file=out, highlight=False, markup=False).print(table)

"""The private build file: opening it, and writing small tables into it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipelines.errors import HearbackError
from pipelines.storage import Home, connect_duckdb, explain_disk_errors, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import duckdb
    import pyarrow as pa

STORAGE_VERSION = "v1.2.0"  # files that DuckDB 1.2 and later can open


def create_build_file(home: Home) -> None:
    """Create the build file, unless it is there, in a format that older DuckDBs can read."""
    import duckdb

    if home.build.exists():
        return
    with explain_disk_errors(str(home.build)):
        home.build.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as con:
        target = quote(str(home.build))
        con.execute(f"attach {target} as build (storage_version {quote(STORAGE_VERSION)})")


@contextmanager
def open_build_file(home: Home) -> Iterator[duckdb.DuckDBPyConnection]:
    """The build file, closed again at the end; HearbackError if another process holds it."""
    import duckdb

    try:
        con = connect_duckdb(home.lake, home.build)
    except duckdb.IOException as error:
        raise HearbackError(
            f"{home.build} cannot be opened ({str(error).splitlines()[0]}); wait for the other "
            "run to end, or if the file is damaged delete it: it is rebuilt from the lake"
        ) from error
    try:
        yield con
    finally:
        con.close()


def write_table(con: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    """Create or replace a table from an Arrow table."""
    con.register("_incoming", table)
    con.execute(f"create or replace table {name} as select * from _incoming")
    con.unregister("_incoming")


def write_rows(
    con: duckdb.DuckDBPyConnection,
    name: str,
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Create or replace a table of a few rows; ``columns`` gives DuckDB's types by name.

    By way of JSON: building Arrow arrays from Python values would import pandas, which costs a
    short run a second.
    """
    listed = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
    con.execute(f"create or replace table {name} ({listed})")
    if rows:
        content = json.dumps([dict(row) for row in rows], default=str, ensure_ascii=False)
        con.execute(
            f"insert into {name} by name select unnest(found) "
            "from (select unnest(from_json(?::json, ?)) as found)",
            [content, json.dumps([dict(columns)])],
        )


def write_comments_of(
    con: duckdb.DuckDBPyConnection, name: str, about: str, columns: Mapping[str, str]
) -> None:
    """Put descriptions of a table and its columns into the file."""
    con.execute(f"comment on table {name} is {quote(about)}")
    for column, text in columns.items():
        con.execute(f'comment on column {name}."{column}" is {quote(text)}')


def has_table(con: duckdb.DuckDBPyConnection, schema: str, name: str) -> bool:
    """Whether the file has that table."""
    found = con.execute(
        "select 1 from duckdb_tables() where schema_name = ? and table_name = ?", [schema, name]
    )
    return bool(found.fetchall())


def fetch_row(con: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...] | None:
    """The first row; read to the end, since an unfinished result would hold the connection."""
    return next(iter(con.execute(query).fetchall()), None)

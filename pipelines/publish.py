"""publish: put the finished build file in the readers' place by one rename.

Readers keep the file they opened; who opens it after the rename sees the new one. Nobody waits for
anybody: DuckDB locks the file that a process has open, and the published file is never written to.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.context import Run, StepCount, timed_step
from pipelines.errors import HearbackError
from pipelines.storage import Lake, connect_duckdb, explain_disk_errors

if TYPE_CHECKING:
    import duckdb

COPY_BYTES = 1 << 30


def run(run: Run) -> list[StepCount]:
    """Copy the build file aside, check the copy, and rename it over the published one.

    One row of run_report: tables and views in and out. HearbackError if the build file is missing,
    being written or damaged, or the disk is full; the published file then stays as it was.
    """
    with timed_step(run, "publish") as counts:
        home = run.home
        remove_leftovers(home.warehouse)
        names = finish_build(home.build, run)
        copy = home.warehouse.with_name(f".{home.warehouse.name}.{uuid.uuid4().hex[:12]}.tmp")
        try:
            copy_file(home.build, copy, home.warehouse)
            check_copy(copy, names, run.lake)
            swap_in(copy, home.warehouse)
        finally:
            copy.unlink(missing_ok=True)
        size = home.warehouse.stat().st_size / 1e6
        counts.append(
            StepCount(
                step="publish",
                entity="tables",
                count_in=len(names),
                count_out=len(names),
                detail=f"{size:.1f} MB",
            )
        )
    return counts


def remove_leftovers(warehouse: Path) -> int:
    """Remove copies that killed runs left beside the warehouse; returns how many."""
    leftovers = list(warehouse.parent.glob(f".{warehouse.name}.*.tmp*"))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def finish_build(build: Path, run: Run) -> list[str]:
    """Bring the run's own tables up to date and flush the file; returns its tables and views."""
    import duckdb

    if not build.is_file():
        raise HearbackError(f"{build}: no build file yet; run 'hearback aggregate' first")
    try:
        con = connect_duckdb(run.lake, build)
    except duckdb.IOException as error:
        if "lock" in str(error).lower():
            raise HearbackError(
                f"{build}: another process is writing it; wait for that run to end and try again"
            ) from error
        raise HearbackError(
            f"{build}: not a DuckDB file that can be opened; delete it and run "
            "'hearback aggregate --full-refresh'"
        ) from error
    try:
        refresh_run_report(con, run)
        con.execute("checkpoint")
        names = list_tables(con)
    except duckdb.IOException as error:
        raise explain_full_disk(error, build) from error
    finally:
        con.close()
    if not names:
        raise HearbackError(f"{build}: holds no tables; run 'hearback aggregate' first")
    return names


def list_tables(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Tables and views as schema.name, sorted."""
    rows = con.execute(
        "select table_schema || '.' || table_name from information_schema.tables "
        "where table_catalog = current_database() and table_type in ('BASE TABLE', 'VIEW') "
        "order by 1"
    ).fetchall()
    return [row[0] for row in rows]


def refresh_run_report(con: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Add the report rows that steps after aggregate wrote (if the table is there)."""
    found = con.execute(
        "select table_schema from information_schema.tables where table_name = 'run_report' "
        "and table_type = 'BASE TABLE' and table_catalog = current_database()"
    ).fetchall()
    rows = run.lake.read_step_reports(run.run_id)
    if not found or not rows:
        return
    table = f'"{found[0][0]}".run_report'
    columns = [(row[0], row[1]) for row in con.execute(f"describe {table}").fetchall()]
    names = ", ".join(name for name, _ in columns)
    marks = ", ".join(f"cast(? as {kind})" for _, kind in columns)
    values: list[list[Any]] = [[row.get(name) for name, _ in columns] for row in rows]
    con.execute("begin")
    con.execute(f"delete from {table} where run_id = ?", [run.run_id])
    con.executemany(f"insert into {table} ({names}) values ({marks})", values)
    con.execute("commit")


def copy_file(source: Path, target: Path, shown: Path) -> None:
    """Copy a file and flush it to the disk; shares its blocks where the file system can."""
    with explain_disk_errors(str(shown)), source.open("rb") as reader, target.open("wb") as writer:
        copy_bytes(reader.fileno(), writer.fileno(), os.fstat(reader.fileno()).st_size)
        os.fsync(writer.fileno())


def copy_bytes(reader: int, writer: int, size: int) -> None:
    """Copy size bytes inside the kernel, or through memory where it cannot."""
    if hasattr(os, "copy_file_range"):
        try:
            while size > 0:
                done = os.copy_file_range(reader, writer, min(size, COPY_BYTES))
                if not done:
                    break
                size -= done
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
        else:
            if size == 0:
                return
        os.lseek(reader, 0, os.SEEK_SET)
        os.lseek(writer, 0, os.SEEK_SET)
    with os.fdopen(os.dup(reader), "rb") as source, os.fdopen(os.dup(writer), "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def check_copy(copy: Path, names: list[str], lake: Lake) -> None:
    """Open the copy as a reader does and bind every table and view, which opens their files.

    HearbackError that names what cannot be read: the published file then stays as it was.
    """
    import duckdb

    try:
        con = connect_duckdb(lake, copy, read_only=True)
    except duckdb.Error as error:
        raise HearbackError(
            f"the copy of the build file does not open ({first_line(error)}); check the disk, "
            "delete the build file and run 'hearback aggregate --full-refresh'"
        ) from error
    try:
        missing = sorted(set(names) - set(list_tables(con)))
        if missing:
            raise HearbackError(
                f"the copy of the build file lacks {', '.join(missing)}; check the disk and run "
                "'hearback publish' again"
            )
        for name in names:
            schema, table = name.split(".", 1)
            try:
                con.execute(f'select 1 from "{schema}"."{table}" limit 0').fetchall()
            except duckdb.Error as error:
                raise HearbackError(
                    f"{name} of the build file cannot be read ({first_line(error)}); run "
                    "'hearback aggregate --full-refresh'"
                ) from error
    finally:
        con.close()


def swap_in(copy: Path, warehouse: Path) -> None:
    """Rename the copy over the warehouse and flush the folder, so that a power cut keeps it."""
    with explain_disk_errors(str(warehouse)):
        os.replace(copy, warehouse)
        folder = os.open(warehouse.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def explain_full_disk(error: Exception, path: Path) -> HearbackError:
    text = first_line(error)
    if "No space left" in str(error):
        text = "disk full; free some space and run again: the published file is as it was"
    return HearbackError(f"{path}: {text}")


def first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

"""The whole line on the demo: served on loopback, run step by step in one process, read back.

Three scenarios are played once for all tests (and for all workers of pytest-xdist), in folders that
``conftest.py`` hands out: ``play_finished`` (two runs, a person's edit between them),
``play_late`` (a run some days before the end, then one at the end while readers are at work) and
``play_killed`` (every step killed several times before it may end).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from math import isclose
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from pipelines.context import Run, start_run
from pipelines.demo import demo_connections, generate, start_servers, write_config
from pipelines.settings import Settings, load_settings
from pipelines.steps import STEPS_AFTER_EXTRACT
from pipelines.storage import Home, quote
from pipelines.tasks import complete_task

ROOT = Path(__file__).resolve().parents[2]
UNTIL = date(2026, 6, 30)
DAY_BEFORE = date(2026, 6, 27)  # late changes happen in the last three days
SCALE = 0.1
ZONE_HOURS = 8
# The same key everywhere, so that two homes give one customer the same pseudonym.
PSEUDONYM_KEY = "3" * 64

# What a run writes about itself, and when it looked; all other columns are contents.
OWN_COLUMNS = {
    "run_id", "run_date", "captured_at", "last_captured_at", "changed_in", "classified_at",
    "quarantined_at", "quarantined_in",
}  # fmt: skip
OWN_TABLES = {"run_report"}
# Views that list in other words what other tables hold.
RETOLD = {"metric_records", "metrics_by"}
PRINTED_DOUBLE = re.compile(r"-?\d\.\d{8}e[+-]\d+")
HOST = re.compile(r"127\.0\.0\.1:\d+")

Rows = list[str]
Contents = dict[str, Rows]


@contextmanager
def serve_demo(
    folder: Path, *, scale: float = SCALE, as_of: datetime | None = None
) -> Iterator[Settings]:
    """The demo of ``folder``/demo on loopback, read into ``folder``/home; its settings."""
    directory, home = folder / "demo", folder / "home"
    generate(directory, until=UNTIL, scale=scale, as_of=as_of)
    (home / "state").mkdir(parents=True, exist_ok=True)
    (home / "state" / "pseudonym_key").write_text(PSEUDONYM_KEY)
    with start_servers(directory) as servers:
        given = demo_connections(servers)
        before = {name: os.environ.get(name) for name in given}
        os.environ.update(given)
        try:
            yield load_settings(write_config(directory, home, servers))
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def run_steps(run: Run, steps: Sequence[str] = STEPS_AFTER_EXTRACT) -> None:
    for step in steps:
        import_module(f"pipelines.{step}").run(run)


def extract_all(run: Run) -> None:
    extract = import_module("pipelines.extract")
    for source in run.settings.sources:
        extract.run(run, source.name)


def run_line(settings: Settings, day: date = UNTIL) -> Run:
    """All steps of one day; ``now`` is the end of that day."""
    run = start_run(settings, day=day)
    extract_all(run)
    run_steps(run)
    return run


# Reading back ---------------------------------------------------------------------------------


def open_warehouse(home: Path) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(str(home / "warehouse" / "hearback.duckdb"), read_only=True)
    con.execute("set time zone 'UTC'")
    return con


def read_tables(home: Path, schemas: Sequence[str] = ("main", "lake")) -> Contents:
    """The rows of each table and view as sorted JSON, without what a run says about itself."""
    found: Contents = {}
    with open_warehouse(home) as con:
        listed = ", ".join(map(quote, schemas))
        for schema, table in con.execute(
            "select table_schema, table_name from information_schema.tables "
            f"where table_schema in ({listed}) order by all"
        ).fetchall():
            if table not in OWN_TABLES | RETOLD:
                found[f"{schema}.{table}"] = read_rows(con, f'"{schema}"."{table}"')
    return found


def read_rows(con: duckdb.DuckDBPyConnection, table: str) -> Rows:
    """Each row as JSON, sorted; nine digits of a double."""
    columns = [
        f'printf(\'%.8e\', "{name}") as "{name}"' if kind == "DOUBLE" else f'"{name}"'
        for name, kind in (row[:2] for row in con.execute(f"describe {table}").fetchall())
        if name not in OWN_COLUMNS
    ]
    rows = con.execute(f"select to_json(t) from (select {', '.join(columns)} from {table}) as t")
    return sorted(HOST.sub("host", text) for (text,) in rows.fetchall())


def read_lists(home: Path) -> Contents:
    """The lines of every list that people get."""
    folder = home / "out" / "follow_ups"
    return {
        str(path.relative_to(folder)): HOST.sub("host", path.read_text("utf-8-sig")).splitlines()
        for path in sorted(folder.rglob("*.csv"))
    }


def read_manifests(home: Path) -> Contents:
    folder = home / "lake" / "_manifests"
    return {
        str(path.relative_to(folder)): [path.read_text("utf-8")]
        for path in sorted(folder.rglob("*.json"))
    }


def compare(one: Contents, other: Contents) -> dict[str, tuple[Rows, Rows]]:
    """By name, the first rows that only one of the two holds; empty if they are the same.

    Sums of doubles depend on their order in the last digits: those may differ.
    """
    differences = {}
    for name in sorted({*one, *other}):
        mine, theirs = one.get(name, ["no such table"]), other.get(name, ["no such table"])
        if mine != theirs:
            only = list_others(mine, theirs), list_others(theirs, mine)
            if not any(only) or len(only[0]) != len(only[1]) or not all(map(is_close, *only)):
                differences[name] = only[0][:3], only[1][:3]
    return differences


def list_others(mine: Rows, theirs: Rows) -> Rows:
    """The rows of mine, sorted, that theirs lacks or holds fewer times."""
    return sorted((Counter(mine) - Counter(theirs)).elements())


def is_close(one: str, other: str) -> bool:
    """Whether two rows are the same but for the last digits of their doubles."""
    if PRINTED_DOUBLE.sub("", one) != PRINTED_DOUBLE.sub("", other):
        return False
    pairs = zip(PRINTED_DOUBLE.findall(one), PRINTED_DOUBLE.findall(other), strict=True)
    return all(isclose(float(a), float(b), rel_tol=1e-7, abs_tol=1e-9) for a, b in pairs)


def list_lake_faults(home: Path) -> list[str]:
    """Files that a manifest names but that cannot be read whole."""
    faults = []
    lake = home / "lake"
    for path in sorted((lake / "_manifests").rglob("*.json")):
        for entry in find_entries(json.loads(path.read_text("utf-8"))):
            file = lake / entry["path"]
            rows = pq.read_metadata(file).num_rows if file.is_file() else None
            if rows != entry["rows"]:
                faults.append(f"{path.name}: {entry['path']}: {rows} rows, not {entry['rows']}")
    return faults


def find_entries(value: Any) -> Iterator[dict[str, Any]]:
    """Every file entry in a manifest, however deep."""
    if isinstance(value, dict):
        if {"path", "rows"} <= value.keys():
            yield value
        else:
            for part in value.values():
                yield from find_entries(part)
    elif isinstance(value, list):
        for part in value:
            yield from find_entries(part)


# Scenarios ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """A folder in which something was played; ``notes`` is what was seen meanwhile."""

    folder: Path
    notes: dict[str, Any]

    @property
    def home(self) -> Path:
        return self.folder / "home"


def take_picture(home: Path) -> dict[str, Contents]:
    return {
        "tables": read_tables(home),
        "lists": read_lists(home),
        "manifests": read_manifests(home),
    }


def play_finished(folder: Path) -> dict[str, Any]:
    """One run; then a person ends one task; then a second run of the same day."""
    with serve_demo(folder) as settings:
        run_line(settings)
        home = Home(settings).root
        first = take_picture(home)
        with open_warehouse(home) as con:
            ((edited,),) = con.execute("select min(task_id) from follow_up_tasks").fetchall()
        complete_task(settings, edited, "called back")
        run_line(settings)
    return {"first": first, "second": take_picture(home), "edited": edited}


READER = '''
import json, sys, duckdb
con = duckdb.connect(sys.argv[1], read_only=True)
con.execute("set enable_progress_bar = false")  # it would speak between the answers when slow
con.execute("begin")
ask = """
    select (select count(*) from feedback), (select count(*) from cases),
        (select count(*) from follow_up_tasks), (select sum(length(body)) from feedback)::bigint
"""
print(json.dumps(con.execute(ask).fetchone()), flush=True)
for line in sys.stdin:
    print(json.dumps(con.execute(ask).fetchone()), flush=True)
'''
VISITOR = '''
import json, os, sys, time, duckdb
path, stop = sys.argv[1:]
ask = """
    select (select count(*) from feedback), (select count(*) from cases),
        (select count(*) from follow_up_tasks), (select sum(length(body)) from feedback)::bigint
"""
seen, faults, visits = [], [], 0
while True:
    is_last = os.path.exists(stop)
    try:
        with duckdb.connect(path, read_only=True) as con:
            con.execute("set enable_progress_bar = false")
            found = list(con.execute(ask).fetchone())
        if found not in seen:
            seen.append(found)
    except Exception as error:
        faults.append(repr(error))
    visits += 1
    if is_last:
        break
    time.sleep(0.1)
print(json.dumps({"visits": visits, "seen": seen, "faults": faults}))
'''


def start_reader(code: str, *arguments: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def play_late(folder: Path) -> dict[str, Any]:
    """A run three days before the end; readers come; a run at the end while they read."""
    end_of_day = datetime.combine(DAY_BEFORE + timedelta(days=1), datetime.min.time(), UTC)
    with serve_demo(folder, as_of=end_of_day - timedelta(hours=ZONE_HOURS, seconds=1)) as settings:
        run_line(settings, DAY_BEFORE)
        home = Home(settings).root
    warehouse, stop = Home(settings).warehouse, folder / "stop"
    first = read_tables(home, ["main"])
    holder = start_reader(READER, warehouse)
    visitors = [start_reader(VISITOR, warehouse, stop) for _ in range(2)]
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        held = [json.loads(holder.stdout.readline())]
        with serve_demo(folder) as settings:
            run_line(settings)
        holder.stdin.write("again\n")
        holder.stdin.flush()
        held.append(json.loads(holder.stdout.readline()))
        stop.touch()
        visits = [json.loads(visitor.communicate(timeout=60)[0]) for visitor in visitors]
        holder.stdin.close()
        holder.wait(timeout=60)
    finally:
        for process in (holder, *visitors):
            process.kill()
            process.wait()
    after = start_reader(READER, warehouse).communicate("", timeout=60)[0]
    return {
        "first": first,
        "tables": read_tables(home),
        "held": held,
        "holder_code": holder.returncode,
        "visits": visits,
        "new_reader": json.loads(after),
    }

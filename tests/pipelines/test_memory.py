"""Capturing much takes no more memory than capturing little: peaks of processes of their own."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LITTLE, MUCH = 15_000, 60_000  # records of four thousand bytes
MOST = 1.3
CHILD = """
import re, resource, sys
from pathlib import Path
from pipelines import extract
from tests.pipelines.sources.pulling import make_run, make_source

kind, folder, path = sys.argv[1:]
columns = {"source_record_id": "id", "body": "text"}
options = {"path": path, "columns": columns} | ({"table": "rows"} if kind == "sql" else {})
source = make_source(kind, connection=None, options=options)
(count,) = extract.run(make_run(Path(folder), source), "desk")
status = Path("/proc/self/status")
if status.exists():  # ru_maxrss counts the process that started this one, too
    peak = int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read_text())[1]) * 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(count.count_out, peak)
"""


def write_rows(kind: str, path: Path, count: int) -> None:
    rows = ((f"r{n}", f"{n} 很好 " + "spoken words " * 300) for n in range(count))
    if kind == "csv":
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("id", "text"), *rows])
    elif kind == "jsonl":
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"id": key, "text": text}) + "\n" for key, text in rows)
    elif kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(dict(zip(("id", "text"), zip(*rows, strict=True), strict=True)))
        pq.write_table(table, path, row_group_size=5000)
    else:
        with sqlite3.connect(path) as session:
            session.execute("create table rows (id text primary key, text text)")
            session.executemany("insert into rows values (?, ?)", rows)
        session.close()


def measure_peak(kind: str, folder: Path, count: int) -> int:
    """Bytes that a process held at most while it captured so many records."""
    folder.mkdir()
    path = folder / "rows"
    write_rows(kind, path, count)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, kind, str(folder), str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    captured, peak = map(int, done.stdout.split())
    assert captured == count
    return peak


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "sql"])
def test_memory_does_not_grow_with_what_is_captured(tmp_path: Path, kind: str) -> None:
    little = measure_peak(kind, tmp_path / "little", LITTLE)
    much = measure_peak(kind, tmp_path / "much", MUCH)
    assert much < MOST * little, f"{little / 1e6:.0f} MB, then {much / 1e6:.0f} MB"

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipelines import publish
from pipelines.context import StepCount, record_step
from pipelines.errors import HearbackError
from pipelines.settings import Settings
from pipelines.storage import Home
from tests.pipelines.follow_up_world import make_run, make_settings

ROOT = Path(__file__).parents[2]
READER = """
import sys, duckdb
con = duckdb.connect(sys.argv[1], read_only=True)
con.execute("begin")
print(con.execute("select max(n) from numbers").fetchone()[0], flush=True)
for line in sys.stdin:
    print(con.execute("select max(n) from numbers").fetchone()[0], flush=True)
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from pipelines import publish
from pipelines.settings import load_settings
from tests.pipelines.follow_up_world import make_run
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
publish.swap_in = die
publish.run(make_run(load_settings(Path(sys.argv[1]))))
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path)


def build(settings: Settings, number: int) -> None:
    path = Home(settings).build
    path.parent.mkdir(parents=True, exist_ok=True)
    lake = Home(settings).root / "lake" / "facts.parquet"
    lake.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(path)) as con:
        con.execute(f"create or replace table numbers as select {number} as n")
        if not lake.exists():
            con.execute(f"copy (select 'é' as body) to '{lake}' (format parquet)")
        con.execute(f"create or replace view feedback as from read_parquet('{lake}')")


def ask(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(Home(settings).warehouse), read_only=True) as con:
        return con.execute(query).fetchall()


@pytest.fixture
def reader(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a transaction on the published file."""
    build(settings, 1)
    publish.run(make_run(settings))
    process = subprocess.Popen(
        [sys.executable, "-c", READER, str(Home(settings).warehouse)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.wait()


def test_tables_and_views_are_published(settings: Settings) -> None:
    build(settings, 1)
    count = publish.run(make_run(settings))[0]
    assert (count.count_in, count.count_out) == (2, 2)
    assert ask(settings, "select n from numbers") == [(1,)]


def test_views_work_from_any_folder(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(settings, 1)
    publish.run(make_run(settings))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert ask(settings, "select body from feedback") == [("é",)]


def test_publishing_twice_is_publishing_once(settings: Settings) -> None:
    build(settings, 1)
    publish.run(make_run(settings))
    publish.run(make_run(settings))
    assert ask(settings, "select n from numbers") == [(1,)]
    assert sorted(path.name for path in Home(settings).warehouse.parent.iterdir()) == [
        "build.duckdb",
        "hearback.duckdb",
    ]


def test_reader_neither_blocks_nor_is_blocked(
    settings: Settings, reader: subprocess.Popen[str]
) -> None:
    assert reader.stdout is not None
    assert reader.stdin is not None
    assert reader.stdout.readline() == "1\n"
    for number in (2, 3):
        build(settings, number)
        publish.run(make_run(settings))
        assert ask(settings, "select n from numbers") == [(number,)]
        reader.stdin.write("again\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "1\n"


def test_kill_before_the_rename_leaves_the_old_file(settings: Settings) -> None:
    build(settings, 1)
    publish.run(make_run(settings))
    build(settings, 2)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, settings.path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    folder = Home(settings).warehouse.parent
    assert len(list(folder.glob(".hearback.duckdb.*.tmp"))) == 1
    assert ask(settings, "select n from numbers") == [(1,)]
    publish.run(make_run(settings))
    assert ask(settings, "select n from numbers") == [(2,)]
    assert not list(folder.glob(".hearback.duckdb.*"))


def test_full_disk_leaves_the_old_file(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    build(settings, 1)
    publish.run(make_run(settings))
    build(settings, 2)

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(publish, "copy_bytes", fail)
    with pytest.raises(HearbackError, match=r"disk full while writing .*hearback\.duckdb"):
        publish.run(make_run(settings))
    assert ask(settings, "select n from numbers") == [(1,)]
    assert not list(Home(settings).warehouse.parent.glob(".hearback.duckdb.*"))


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EOPNOTSUPP])
def test_file_systems_that_cannot_share_are_copied(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "copy_file_range", fail, raising=False)
    build(settings, 1)
    publish.run(make_run(settings))
    assert ask(settings, "select n from numbers") == [(1,)]


def test_view_without_its_file_is_not_published(settings: Settings) -> None:
    build(settings, 1)
    publish.run(make_run(settings))
    build(settings, 2)
    (Home(settings).root / "lake" / "facts.parquet").unlink()
    with pytest.raises(HearbackError, match=r"main\.feedback of the build file cannot be read"):
        publish.run(make_run(settings))
    assert ask(settings, "select n from numbers") == [(1,)]


def test_missing_build_file_says_what_to_run(settings: Settings) -> None:
    with pytest.raises(HearbackError, match="run 'hearback aggregate' first"):
        publish.run(make_run(settings))


def test_damaged_build_file_is_explained(settings: Settings) -> None:
    Home(settings).build.parent.mkdir(parents=True)
    Home(settings).build.write_bytes(b"no database at all" * 1000)
    with pytest.raises(HearbackError, match="not a DuckDB file"):
        publish.run(make_run(settings))


def test_build_file_in_use_is_explained(settings: Settings) -> None:
    build(settings, 1)
    script = (
        "import duckdb, sys\ncon = duckdb.connect(sys.argv[1])\nprint('open', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(Home(settings).build)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(HearbackError, match="another process is writing it"):
            publish.run(make_run(settings))
        holder.kill()


def test_report_rows_of_later_steps_are_published(settings: Settings) -> None:
    build(settings, 1)
    with duckdb.connect(str(Home(settings).build)) as con:
        con.execute("create schema lake")
        con.execute(
            "create table lake.run_report (run_id varchar, run_date date, step varchar, "
            "count_in bigint, count_out bigint, detail varchar, started_at timestamptz)"
        )
        con.execute("create view run_report as select * from lake.run_report")
    run = make_run(settings)
    record_step(run, "follow_up", [StepCount("follow_up", count_in=3, count_out=3, detail="x")])
    publish.run(run)
    publish.run(run)
    assert ask(settings, "select step, count_in, run_date::varchar from run_report "
               "where step = 'follow_up'") == [("follow_up", 3, "2026-11-18")]  # fmt: skip

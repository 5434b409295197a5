"""Nothing outlives the process that started it, however that one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines.processes import Programs

ROOT = Path(__file__).resolve().parents[2]

# A program with a child in a group of its own and a deaf one; each writes its process id.
PROGRAM = """
import os, signal, subprocess, sys, time
folder = sys.argv[1]
def note():
    open(os.path.join(folder, str(os.getpid())), "w").close()
note()
if os.fork() == 0:
    os.setpgid(0, 0)
    note()
    time.sleep(60)
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note()
    time.sleep(60)
time.sleep(60)
"""
STARTER = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it
import os, sys, time
from pathlib import Path
from pipelines.processes import Programs
with Programs() as programs:
    command = [sys.executable, "-c", sys.argv[2], sys.argv[1]]
    programs.start("deaf", command, env=os.environ, log=Path(sys.argv[1]) / "log")
    print("started", flush=True)
    time.sleep(60)
"""


def wait_for_pids(folder: Path, count: int) -> list[int]:
    give_up = time.monotonic() + 20
    while time.monotonic() < give_up:
        found = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
        if len(found) == count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{count} processes did not start")


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(pids: list[int], seconds: float) -> bool:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if all(map(is_gone, pids)):
            return True
        time.sleep(0.05)
    return False


def test_leaving_stops_the_whole_tree(tmp_path: Path) -> None:
    with Programs() as programs:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
        programs.start("deaf", command, env=os.environ, log=tmp_path / "log")
        pids = wait_for_pids(tmp_path, 3)
        guard = programs.guard.pid
    assert all(map(is_gone, [*pids, guard]))


def test_an_error_inside_stops_it_as_well(tmp_path: Path) -> None:
    pids = []

    def fail() -> None:
        with Programs() as programs:
            command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
            programs.start("deaf", command, env=os.environ, log=tmp_path / "log")
            pids.extend(wait_for_pids(tmp_path, 3))
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert all(map(is_gone, pids))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_end_of_the_starter_is_the_end_of_all(tmp_path: Path, how: signal.Signals) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path), PROGRAM],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        pids = wait_for_pids(tmp_path, 3)
        starter.send_signal(how)
        assert wait_until_gone(pids, seconds=10)
        starter.wait(timeout=10)
    finally:
        starter.kill()
        starter.wait()
        if starter.stdout:
            starter.stdout.close()


def test_a_program_that_ends_by_itself_is_named(tmp_path: Path) -> None:
    with Programs() as programs:
        command = [sys.executable, "-c", "print('no luck')"]
        programs.start("short", command, env=os.environ, log=tmp_path / "log").wait(timeout=20)
        assert programs.find_dead() == "short"
    assert (tmp_path / "log").read_text() == "no luck\n"

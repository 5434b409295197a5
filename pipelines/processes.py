"""Programs that never outlive the process that started them.

Each program gets a session of its own, so that Ctrl-C reaches only the one who started it, who then
stops them in order. A small guard process holds the other end of a pipe: when the starter dies
without a word (kill -9), the pipe closes and the guard stops what is left.

``python -m pipelines.processes`` is that guard. It reads process ids from standard input.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

GRACE_SECONDS = 1.5  # steps may be killed at any moment, so nothing is gained by a longer one
PR_SET_CHILD_SUBREAPER = 36


class Programs:
    """The programs started here. Leaving the ``with`` block stops them and all their children."""

    def __init__(self) -> None:
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Programs:
        adopt_orphans()
        read, self.pipe = os.pipe()
        root = Path(__file__).resolve().parent.parent
        try:
            self.guard = subprocess.Popen(
                [sys.executable, "-m", "pipelines.processes"],
                stdin=read,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=root,
                start_new_session=True,
            )
        finally:
            os.close(read)
        return self

    def start(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a program; what it prints goes to log, anew at each start."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "wb") as output:
            program = subprocess.Popen(
                command,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running[name] = program
        os.write(self.pipe, f"{program.pid}\n".encode())
        return program

    def find_dead(self) -> str | None:
        """Name of a program that has ended by itself."""
        return next((name for name, p in self.running.items() if p.poll() is not None), None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A second Ctrl-C while stopping must not leave anything behind.
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            stop_trees([program.pid for program in self.running.values()])
            for program in self.running.values():
                program.wait()
            reap_orphans()
            os.write(self.pipe, b"done\n")
            os.close(self.pipe)
            self.guard.wait()
        finally:
            signal.signal(signal.SIGINT, previous)


def adopt_orphans() -> None:
    """On Linux, become the parent of grandchildren whose parent dies, so as to reap them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans() -> None:
    """Reap dead processes that were adopted and that nobody here waits for by name."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)


def find_members(roots: Iterable[int]) -> set[psutil.Process]:
    """The live processes of these session leaders: descendants, and orphans of their sessions."""
    leaders = set(roots)
    found: set[psutil.Process] = set()
    for pid in leaders:
        with contextlib.suppress(psutil.NoSuchProcess):
            leader = psutil.Process(pid)
            found |= {leader, *leader.children(recursive=True)}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) in leaders:
                found.add(process)
    return {process for process in found if is_alive(process)}


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop_trees(roots: Sequence[int], grace_seconds: float = GRACE_SECONDS) -> None:
    """Ask the processes of these session leaders to end; kill those that do not in time."""
    members = find_members(roots)
    send(members, signal.SIGTERM)
    give_up = time.monotonic() + grace_seconds
    while any(map(is_alive, members)) and time.monotonic() < give_up:
        time.sleep(0.05)
    # Children may have been born meanwhile: look again until nobody is left.
    while members := {p for p in members | find_members(roots) if is_alive(p)}:
        send(members, signal.SIGKILL)
        time.sleep(0.05)


def send(processes: Iterable[psutil.Process], what: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(what)


def guard() -> None:
    """Wait for the starter's end; unless it said "done", stop what it had started."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    roots = []
    for line in sys.stdin:
        if line.strip() == "done":
            return
        roots.append(int(line))
    stop_trees(roots)


if __name__ == "__main__":
    guard()

"""Seconds, processor seconds and peak memory of each step of a line, told as JSON on stdout."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

MARK = "@bench "


@dataclass
class Measured:
    """One step: wall and processor seconds, rows it dealt with, peak memory in MB."""

    step: str
    seconds: float
    cpu_seconds: float
    peak_mb: float
    rows: int = 0


class Meter:
    """Measures one step after another. ``began`` is the wall clock when the process was started."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.cpu = 0.0

    def tell_start_up(self) -> None:
        """Everything from the start of the process to here: the interpreter and the imports."""
        self.tell("start-up and imports", time.time() - self.began, 0)

    @contextmanager
    def step(self, name: str) -> Iterator[list[int]]:
        """Measure a step; append its rows to the list that it is given."""
        forget_peak()
        begin = time.monotonic()
        rows: list[int] = []
        yield rows
        self.tell(name, time.monotonic() - begin, sum(rows))

    def tell(self, name: str, seconds: float, rows: int) -> None:
        cpu = cpu_seconds()
        measured = Measured(name, seconds, cpu - self.cpu, peak_mb(), rows)
        self.cpu = cpu
        sys.stdout.write(MARK + json.dumps(asdict(measured)) + "\n")
        sys.stdout.flush()


def cpu_seconds() -> float:
    """User and system seconds of this process and of the children that it has waited for."""
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def forget_peak() -> None:
    """Let the peak memory start anew, where the system can do that (Linux)."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def peak_mb() -> float:
    """Peak resident memory in MB: since ``forget_peak`` on Linux, else of the whole process."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

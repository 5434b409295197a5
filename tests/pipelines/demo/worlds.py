"""The small demo world that the tests of the demo read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pipelines.demo import Truth

UNTIL = date(2026, 11, 19)
SCALE = 0.08


@dataclass(frozen=True)
class SmallWorld:
    directory: Path
    truth: Truth

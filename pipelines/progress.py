"""Progress of a step on a terminal."""

from __future__ import annotations

import sys


def show_progress(message: str, rows: int) -> None:
    """Show what a step is at, on one line that the next one overwrites; silent off a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{message}" + (f": {rows:,} rows" if rows else ""))
        sys.stderr.flush()


def end_progress() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")

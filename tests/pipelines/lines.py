"""Small projects on disk for the tests of the steps."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pipelines.context import Run, start_run
from pipelines.settings import load_settings

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)

FEEDBACK_SOURCE = """
[[sources]]
name = "app"
kind = "jsonl"
options = { path = "app.jsonl", entity = "feedback", columns = { source_record_id = "id", body = "text", created_at = "created", rating = "stars", source_customer_id = "user" }, constants = { channel = "app_store", rating_min = 1, rating_max = 5 } }
"""  # noqa: E501


def make_run(folder: Path, sources: str = FEEDBACK_SOURCE, **options: object) -> Run:
    """A run over a fresh configuration in folder."""
    config = folder / "hearback.toml"
    config.write_text(f'[project]\nhome = "data"\ntime_zone = "Asia/Shanghai"\n{sources}', "utf-8")
    return start_run(load_settings(config), now=NOW, **options)  # type: ignore[arg-type]


def write_lines(path: Path, *lines: str | bytes) -> None:
    encoded = [line.encode() if isinstance(line, str) else line for line in lines]
    path.write_bytes(b"\n".join(encoded) + b"\n")

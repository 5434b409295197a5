"""Rows without an id are told apart though the file that is read uses up DuckDB's memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.sources import files
from tests.pipelines.sources.pulling import ids, make_source, pull_all

ROWS = 3000


def test_rows_without_an_id_need_none_of_the_memory_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream_rows = files.stream_rows

    def starve(con: Any, select: str) -> Iterator[pa.Table]:
        tables = list(stream_rows(con, select))
        con.execute("set memory_limit = '1KB'")
        yield from tables
        con.execute("set memory_limit = '1GB'")

    monkeypatch.setattr(files, "stream_rows", starve)
    monkeypatch.setattr(files, "BLOCK_BYTES", 1)  # a table is named before the next is read
    lines = [f",leak {number}" for number in range(ROWS)]
    (tmp_path / "rows.csv").write_text("\n".join(["id,text", *lines]), encoding="utf-8")
    columns = {"source_record_id": "id", "body": "text"}
    options = {"path": str(tmp_path / "rows.csv"), "columns": columns}
    found, _ = pull_all(make_source("csv", connection=None, options=options), tmp_path)
    assert len(ids(found, "feedback")) == ROWS

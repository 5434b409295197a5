"""What kinds that read files are measured by: so many records in files of their kind."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pipelines.intake import Door, write_delivery
from pipelines.signatures import SCHEMES

COLUMNS = {
    "source_record_id": "id", "body": "text", "created_at": "created", "rating": "stars",
    "source_customer_id": "user", "product": "product",
}  # fmt: skip
CONSTANTS = {"channel": "app_store", "rating_min": 1, "rating_max": 5}
MAPPED = {"entity": "feedback", "constants": CONSTANTS, "columns": COLUMNS}
CALLS_OF_A_FILE = 1000
REVIEWS_OF_A_PAGE = 40
FIRST = datetime(2026, 8, 1, 8, tzinfo=UTC)


@dataclass(frozen=True)
class Stock:
    """A kind of file: ``write`` puts the records of a file of JSON lines into a folder."""

    kind: str
    write: Callable[[Path, Path], None]
    options: dict[str, Any] = field(default_factory=dict)
    rows: tuple[int, ...] = (100_000, 1_000_000)
    note: str = "file"


def read_lines(records: Path) -> Iterator[dict[str, Any]]:
    """The records of a file of JSON lines, without the lines that are broken on purpose."""
    with open(records, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def read_chunks(records: Path, size: int) -> Iterator[list[dict[str, Any]]]:
    rows = read_lines(records)
    while chunk := list(islice(rows, size)):
        yield chunk


def write_jsonl(records: Path, folder: Path) -> None:
    (folder / "records.jsonl").symlink_to(records)


def write_csv(records: Path, folder: Path) -> None:
    rows = read_lines(records)
    first = next(rows)
    with open(folder / "records.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(first), extrasaction="ignore")
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(rows)


def write_parquet(records: Path, folder: Path) -> None:
    """In groups of rows of the size that writers use if nobody tells them."""
    import duckdb

    duckdb.sql(
        f"copy (select * from read_json('{records}', format = 'newline_delimited', "
        f"ignore_errors = true)) to '{folder / 'records.parquet'}' (format parquet)"
    )


def write_excel(records: Path, folder: Path) -> None:
    import xlsxwriter

    path = str(folder / "records.xlsx")
    with xlsxwriter.Workbook(path, {"constant_memory": True, "strings_to_urls": False}) as book:
        sheet = book.add_worksheet()
        names = list(COLUMNS.values())
        sheet.write_row(0, 0, names)
        for number, row in enumerate(read_lines(records), 1):
            sheet.write_row(number, 0, [str(row.get(name) or "") for name in names])


def write_sqlite(records: Path, folder: Path) -> None:
    rows = read_lines(records)
    first = next(rows)
    names = ", ".join(f'"{name}"' for name in first)
    with sqlite3.connect(folder / "records.sql") as session:
        session.execute(f"create table reviews ({names})")
        marks = ", ".join("?" * len(first))
        session.execute(f"insert into reviews values ({marks})", tuple(first.values()))
        session.executemany(
            f"insert into reviews values ({marks})",
            (tuple(row.get(name) for name in first) for row in rows),
        )
    session.close()


def write_calls(records: Path, folder: Path) -> None:
    """Calls of both sides, a thousand in a file of JSON lines."""
    for number, chunk in enumerate(read_chunks(records, CALLS_OF_A_FILE)):
        with open(folder / f"calls-{number:05}.jsonl", "w", encoding="utf-8") as file:
            for at, row in enumerate(chunk, number * CALLS_OF_A_FILE):
                told = f"Agent: Hello.\nCustomer: {row.get('text') or 'Hello?'}\nAgent: I see."
                moment = (FIRST + timedelta(seconds=at)).isoformat()
                call = {"id": f"call-{at}", "time": moment, "transcript": told}
                file.write(json.dumps(call, ensure_ascii=False) + "\n")


def write_deliveries(records: Path, folder: Path) -> None:
    """A file for each delivery, as the intake writes them, without waiting for the disk."""
    door = Door(folder / "in", SCHEMES["hearback"], "quiet", 300, 1_000_000)
    with patch("os.fsync"):
        for number, row in enumerate(read_lines(records)):
            body = json.dumps({**row, "id": f"d-{number}"}, ensure_ascii=False).encode()
            write_delivery(door, body, "application/json", FIRST.timestamp() + number)


def write_pages(records: Path, folder: Path) -> None:
    """Pages of Google Play as a browser saves them."""
    head = (
        '<!doctype html><html lang="en"><head><link rel="canonical" '
        'href="https://play.google.com/store/apps/details?id=com.acme.kettle"></head><body>'
    )
    for page, chunk in enumerate(read_chunks(records, REVIEWS_OF_A_PAGE)):
        reviews = [
            [f"r-{page}-{number}", [row.get("user"), []], 1 + number % 5, None,
             row.get("text") or "", [1_790_000_000 + page, 0], 0, None, None, ["1"], "4.1.0"]
            for number, row in enumerate(chunk)
        ]  # fmt: skip
        data = json.dumps([reviews, [None, "token"]], ensure_ascii=False)
        block = f"AF_initDataCallback({{key: 'ds:11', data:{data}, sideChannel: {{}}}});"
        path = folder / f"page-{page:06}.html"
        path.write_text(f"{head}<script>{block}</script></body></html>", encoding="utf-8")


STOCKS = {
    stock.kind: stock
    for stock in (
        Stock("jsonl", write_jsonl, MAPPED | {"path": "records.jsonl"}),
        Stock("csv", write_csv, MAPPED | {"path": "records.csv"}),
        Stock("parquet", write_parquet, MAPPED | {"path": "records.parquet"}),
        Stock("excel", write_excel, MAPPED | {"path": "records.xlsx"}, (100_000, 500_000),
              "a sheet holds a million rows at most"),
        Stock("sql", write_sqlite, MAPPED | {"path": "records.sql", "table": "reviews",
                                             "id": "id"}, note="SQLite"),
        Stock("calls", write_calls, {"path": "*.jsonl"}, (10_000, 100_000),
              f"{CALLS_OF_A_FILE:,} calls a file"),
        Stock("webhook", write_deliveries, {"path": "in", "id": "id"}, (10_000, 100_000),
              "a file a delivery, as the intake writes them"),
        Stock("play_store", write_pages, {"path": "*.html"}, (10_000, 100_000),
              f"saved pages with {REVIEWS_OF_A_PAGE} reviews each"),
    )
}  # fmt: skip

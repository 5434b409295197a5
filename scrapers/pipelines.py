"""Item pipelines: pages to JSON lines."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

    from scrapers.items import ReviewPage


def drop_torn_line(path: Path) -> None:
    """Cut a last line that a killed process left half written."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end:
            begin = max(0, end - 65536)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                end = begin + found + 1
                break
            end = begin
        if end < size:
            file.truncate(end)


class JsonLinesPipeline:
    """Appends each page as one line of JSON and flushes it, so that a reader can follow along."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.file: IO[str] | None = None

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler.settings["HEARBACK_OUTPUT"])

    def open_spider(self) -> None:
        drop_torn_line(self.path)
        self.file = self.path.open("a", encoding="utf-8")

    def close_spider(self) -> None:
        if self.file is not None:
            self.file.close()

    def process_item(self, item: ReviewPage) -> ReviewPage:
        if self.file is not None:
            text = json.dumps(asdict(item), ensure_ascii=False)
            # A lone surrogate in a page cannot be written as UTF-8.
            self.file.write(text.encode("utf-8", "replace").decode("utf-8") + "\n")
            self.file.flush()
        return item

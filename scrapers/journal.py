"""What a crawl has found and done, on disk, so that a killed crawl goes on where it was.

Scrapy's own job folder is written only when a crawl stops in good order: after a kill it has lost
the requests that were queued. This file is appended to and flushed with each page instead. A page
counts as done only after its item is written; at worst a page is fetched twice.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from scrapers.config import CrawlConfig
from scrapers.pipelines import drop_torn_line

FILE_NAME = "journal.jsonl"


@dataclass
class Found:
    """An address that the crawl has come across."""

    url: str
    depth: int
    kind: str = "page"  # page, pager (a page of a list), sitemap
    lastmod: str | None = None


@dataclass
class Journal:
    """``pending`` in the order found; ``done`` maps addresses to what to know of them next time.

    None in ``done``: nothing is to be known (gone, not a page, forbidden).
    """

    folder: Path
    digest: str
    is_resumed: bool = False
    pending: dict[str, Found] = field(default_factory=dict)
    done: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    downloaded: set[str] = field(default_factory=set)
    file: IO[str] | None = None

    @classmethod
    def open(cls, folder: Path, config: CrawlConfig) -> Journal:
        """Take up the journal of an unfinished crawl of the same configuration, or begin one."""
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {key: value for key, value in asdict(config).items() if key != "known_pages"}
        digest = hashlib.sha1(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
        journal = cls(folder, digest)
        path = folder / FILE_NAME
        drop_torn_line(path)
        if path.exists():
            journal._load(path)
        if not journal.is_resumed:
            path.unlink(missing_ok=True)
        journal.file = path.open("a", encoding="utf-8")
        if not journal.is_resumed:
            journal._write(["crawl", digest])
        return journal

    def _load(self, path: Path) -> None:
        with path.open(encoding="utf-8") as lines:
            head = next(lines, "")
            if not head or json.loads(head) != ["crawl", self.digest]:
                return
            self.is_resumed = True
            for line in lines:
                event, *values = json.loads(line)
                if event == "found":
                    found = Found(*values)
                    self.pending.setdefault(found.url, found)
                else:
                    url, entry = values
                    self.done[url] = entry
                    if event == "downloaded":
                        self.downloaded.add(url)
        self.pending = {url: f for url, f in self.pending.items() if url not in self.done}

    def _write(self, entry: list[Any]) -> None:
        if self.file is not None and not self.file.closed:
            self.file.write(json.dumps(entry, ensure_ascii=True) + "\n")
            self.file.flush()

    def is_new(self, url: str) -> bool:
        return url not in self.pending and url not in self.done

    def add(self, found: Found) -> bool:
        """Note an address; False if it was found before."""
        if not self.is_new(found.url):
            return False
        self.pending[found.url] = found
        self._write(["found", found.url, found.depth, found.kind, found.lastmod])
        return True

    def finish(
        self, url: str, entry: dict[str, Any] | None, *, is_downloaded: bool = False
    ) -> None:
        """Note that an address needs no more work in this crawl."""
        self.pending.pop(url, None)
        self.done[url] = entry
        if is_downloaded:
            self.downloaded.add(url)
        self._write(["downloaded" if is_downloaded else "done", url, entry])

    def close(self, *, is_finished: bool) -> None:
        """A finished crawl leaves no journal behind."""
        if self.file is not None:
            self.file.close()
        if is_finished:
            (self.folder / FILE_NAME).unlink(missing_ok=True)

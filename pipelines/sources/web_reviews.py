"""Reviews on web pages: one crawl of a site's review pages, run as a process of its own.

Pages are captured while the crawl goes on. What is remembered between pulls is each page's ETag,
Last-Modified and sitemap date, so that the next pull fetches only pages that are new or changed;
and, while a crawl is unfinished, how far its output was captured, so that the next pull goes on
there. A crawl has no first day: every review that a page shows is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic import Field as Option

from pipelines.errors import HearbackError, UsageError
from pipelines.mapping import RECORD_ID, Field, Mapping, When
from pipelines.settings import Source, TimeZone
from pipelines.sources.base import Batch, Kind, PullContext, Record, read_options

# Raised when the same page would now be read differently: known pages are then fetched again.
PARSER_VERSION = 3
MOVING_DATES = {"date_relative", "date_year_assumed"}
BATCH_PAGES = 200
BATCH_SECONDS = 2.0
POLL_SECONDS = 0.1
STOP_SECONDS = 5.0


class Selectors(BaseModel):
    """CSS selectors for reviews in plain markup, each within ``item``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    item: str | None = Option(default=None, description="the element of one review")
    id: str | None = Option(default=None, description="the review's id")
    title: str | None = Option(default=None, description="its title")
    body: str | None = Option(default=None, description="its text")
    rating: str | None = Option(default=None, description="text, class or attribute with the stars")
    rating_max: str | None = Option(default=None, description="the best rating")
    author: str | None = Option(default=None, description="who wrote it")
    date: str | None = Option(default=None, description="when it was written")
    product: str | None = Option(default=None, description="in the item, or anywhere on the page")
    next: str | None = Option(default=None, description="the link to the list's next page")


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    start_urls: list[str] = Option(default_factory=list, description="default: base_url")
    sitemap: bool = Option(default=True, description="also take pages from the site's sitemap")
    allow: list[str] = Option(default_factory=list, description="follow only paths that match")
    deny: list[str] = Option(default_factory=list, description="never fetch paths that match")
    max_pages: int = Option(default=1000, ge=1, description="pages downloaded in one pull")
    max_depth: int = Option(default=5, ge=0, description="links away from a start page")
    max_minutes: float = Option(default=60.0, gt=0, description="a crawl is stopped after this")
    delay: float = Option(default=1.0, ge=0, description="least seconds between two requests")
    timeout: float = Option(default=30.0, gt=0, description="seconds to wait for a page")
    selectors: Selectors = Option(
        default=Selectors(), description="where plain pages hold their reviews"
    )
    language: str | None = Option(default=None, description="where pages do not declare theirs")
    time_zone: TimeZone | None = Option(default=None, description="of local times; the project's")
    user_agent: str | None = Option(default=None, description="how the crawl introduces itself")
    posts: bool = Option(
        default=False, description="also take posts of forums, comments, questions and answers"
    )

    @field_validator("allow", "deny")
    @classmethod
    def check_patterns(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression ({error})") from None
        return patterns


def find_start_urls(source: Source, options: Options) -> list[str]:
    """The absolute addresses to begin with; UsageError if there are none."""
    urls = [urljoin(source.base_url or "", url) for url in options.start_urls]
    if not urls and source.base_url:
        urls = [source.base_url]
    if not urls:
        raise UsageError(
            f"source {source.name!r}: kind web_reviews needs base_url, or options.start_urls, "
            "with the address of a page that has reviews"
        )
    for url in urls:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise UsageError(
                f"source {source.name!r}: {url!r} is not an http(s) address; write it in full or "
                "give base_url"
            )
    return urls


def make_crawl_config(source: Source, options: Options, context: PullContext) -> dict[str, Any]:
    """The configuration of the crawl process, without the known pages."""
    return {
        "start_urls": find_start_urls(source, options),
        **options.model_dump(
            include={"sitemap", "allow", "deny", "max_pages", "max_depth", "delay", "timeout"}
        ),
        "selectors": options.selectors.model_dump(exclude_none=True),
        "language": options.language,
        "time_zone": options.time_zone or context.time_zone,
        "user_agent": options.user_agent,
        "posts": options.posts,
    }


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


class CrawlFiles:
    """The files of a source's crawl, in the folder that is kept between pulls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = folder / "crawl.json"
        self.config = folder / "config.json"
        self.output = folder / "pages.ndjson"
        self.stats = folder / "stats.json"
        self.log = folder / "crawl.log"
        self.job = folder / "job"
        self.known_pages = self.job / "known_pages.json"

    def begin(self, crawl: dict[str, Any]) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.output.touch()
        self.mark.write_text(json.dumps(crawl), encoding="utf-8")

    def remove_pages(self) -> None:
        """Leave the log and the stats; what people wrote is in the lake now, and only there."""
        for path in (self.mark, self.output, self.config):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.job, ignore_errors=True)

    def holds(self, crawl: dict[str, Any]) -> bool:
        """Whether the files are those of this unfinished crawl."""
        try:
            found = json.loads(self.mark.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(found == crawl and self.output.exists())

    def read_stats(self) -> dict[str, Any] | None:
        try:
            stats: dict[str, Any] = json.loads(self.stats.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return stats


class Position:
    """What a pull remembers. ``to_dict`` is a copy: what was handed out must not change.

    ``dates`` holds how a date without a year of its own ("3 days ago") was first read: read again
    on another day it would move, and with it the review.
    """

    def __init__(self, remembered: dict[str, Any], settings_digest: str, reading: str) -> None:
        self.settings = settings_digest
        self.reading = reading
        self.pages: dict[str, dict[str, Any]] = dict(remembered.get("pages", {}))
        if remembered.get("reading") != reading:
            # The addresses stay known; their contents have to be read anew.
            self.pages = {
                url: {key: page[key] for key in ("depth", "is_pagination") if key in page}
                for url, page in self.pages.items()
            }
        self.dates: dict[str, list[str | None]] = dict(remembered.get("dates", {}))
        self.is_first = not any(page.get("checked_at") for page in self.pages.values())
        crawl = remembered.get("crawl") or {}
        self.pages_read = self.reviews_read = 0
        self.id: str = crawl.get("id", "")
        self.offset: int = crawl.get("offset", 0)
        if crawl.get("settings") != settings_digest:
            self.id = ""

    @property
    def mark(self) -> dict[str, Any]:
        return {"id": self.id, "settings": self.settings}

    def begin(self) -> None:
        self.id, self.offset = secrets.token_hex(8), 0

    def to_dict(self) -> dict[str, Any]:
        crawl = {**self.mark, "offset": self.offset} if self.id else None
        return {
            "pages": dict(self.pages),
            "dates": dict(self.dates),
            "reading": self.reading,
            "crawl": crawl,
        }


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Reviews of every page that is new or changed, batch by batch while the crawl goes on.

    HearbackError if the site cannot be reached, the crawl is stopped by ``max_minutes``, or the
    selectors match nothing; what was captured until then stays.
    """
    options = read_options(source, Options)
    config = make_crawl_config(source, options, context)
    told = [config[name] for name in ("selectors", "language", "time_zone", "posts")]
    reading = digest([PARSER_VERSION, *told])
    position = Position(context.position, digest([config, reading]), reading)
    files = CrawlFiles(context.state)
    if not position.id or not files.holds(position.mark):
        position.begin()
        files.begin(position.mark)
    stats = files.read_stats()
    if stats is None or stats["finish_reason"] != "finished":
        files.stats.unlink(missing_ok=True)
        known = {"known_pages": position.pages}
        files.config.write_text(json.dumps({**config, **known}), encoding="utf-8")
        yield from follow_crawl(source, context, options, files, position)
    else:
        yield from read_batches(files, position)
    yield from conclude(source, context, options, files, position)


def check(source: Source, context: PullContext) -> str:
    """Crawl the first page alone, as a pull would; it obeys robots.txt all the same."""
    options = read_options(source, Options)
    alone: dict[str, Any] = {
        "start_urls": find_start_urls(source, options)[:1],
        "sitemap": False, "max_pages": 1, "max_depth": 0, "delay": 0.0, "max_minutes": 1.0,
    }  # fmt: skip
    probe = source.model_copy(update={"options": {**source.options, **alone}})
    with tempfile.TemporaryDirectory() as folder:
        batches = pull(probe, replace(context, state=Path(folder) / "crawl", position={}))
        reviews = sum(len(batch.records) for batch in batches)
    return f"{reviews} reviews on {alone['start_urls'][0]}"


def follow_crawl(
    source: Source,
    context: PullContext,
    options: Options,
    files: CrawlFiles,
    position: Position,
) -> Iterator[Batch]:
    """Run the crawl and give its pages as they are written; the process never outlives this."""
    deadline = time.monotonic() + options.max_minutes * 60
    is_late = False
    with open(files.log, "wb") as log:
        process = start_crawl(files, log)
    try:
        last = time.monotonic()
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            if time.monotonic() - last >= BATCH_SECONDS:
                yield from read_batches(files, position)
                context.progress(
                    f"{source.name}: {position.pages_read} pages read", position.reviews_read
                )
                last = time.monotonic()
            if time.monotonic() > deadline:
                is_late = True
                stop_crawl(process)
    finally:
        stop_crawl(process)
    yield from read_batches(files, position)
    if is_late:
        raise HearbackError(
            f"source {source.name}: the crawl was stopped after {options.max_minutes:g} minutes; "
            "its pages are kept and the next run goes on; raise options.max_minutes or lower "
            "options.max_pages"
        )


def start_crawl(files: CrawlFiles, log: IO[bytes]) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parents[2])
    # A crawl needs none of the connections' secrets.
    env = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW_CONN_")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (root, env.get("PYTHONPATH"))))
    return subprocess.Popen(
        [
            sys.executable, "-m", "scrapers.crawl",
            "--config", str(files.config), "--output", str(files.output),
            "--stats", str(files.stats), "--jobdir", str(files.job),
            "--parent", str(os.getpid()),
        ],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )  # fmt: skip


def stop_crawl(process: subprocess.Popen[bytes]) -> None:
    """End the crawl and whatever it started: politely, then by force."""
    if process.poll() is not None:
        return
    for what, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, what)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


def read_batches(files: CrawlFiles, position: Position) -> Iterator[Batch]:
    """The pages written since the last look, whole lines only."""
    with open(files.output, "rb") as output:
        output.seek(position.offset)
        records: list[Record] = []
        pages = 0
        for line in output:
            if not line.endswith(b"\n"):
                break
            page = json.loads(line)
            records.extend(read_records(page, position.dates))
            position.pages[page["url"]] = read_validators(page)
            position.offset += len(line)
            position.pages_read += 1
            position.reviews_read += len(page["records"])
            pages += 1
            if pages >= BATCH_PAGES:
                yield Batch("reviews", records, position.to_dict())
                records, pages = [], 0
        if pages:
            yield Batch("reviews", records, position.to_dict())


def read_records(page: dict[str, Any], dates: dict[str, list[str | None]]) -> Iterator[Record]:
    """The reviews of one page, and the page itself if reviews on it could not be read.

    A review's page is left out of the payload: the same review on two pages, or on a list's next
    page tomorrow, is the same record.
    """
    for review in page["records"]:
        payload = {k: v for k, v in review.items() if k not in ("review_id", "page_url", "url")}
        if MOVING_DATES & set(review["notes"]):
            first = dates.setdefault(review["review_id"], [review["created"], review["created_at"]])
            payload["created"], payload["created_at"] = first
        yield Record(review["review_id"], payload, review["url"])
    if page["notes"].get("reviews_unreadable"):
        parts = urlsplit(page["final_url"])
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        text = f"{path}: its JSON-LD holds reviews and is not valid JSON"
        yield Record(f"page:{path}", text, page["final_url"], "broken_json")


def read_validators(page: dict[str, Any]) -> dict[str, Any]:
    kept = {name: page[name] for name in ("etag", "last_modified", "lastmod", "depth")}
    kept |= {"is_pagination": page["is_pagination"] or None, "checked_at": page["fetched_at"]}
    return {name: value for name, value in kept.items() if value is not None}


def conclude(
    source: Source,
    context: PullContext,
    options: Options,
    files: CrawlFiles,
    position: Position,
) -> Iterator[Batch]:
    """Remember what the finished crawl knows; HearbackError if it did not do its work."""
    stats = files.read_stats()
    if stats is None or stats["finish_reason"] != "finished":
        raise HearbackError(f"source {source.name}: {explain_end(files, stats)}")
    position.pages = json.loads(files.known_pages.read_text(encoding="utf-8"))
    position.id = ""
    yield Batch("reviews", [], position.to_dict())
    files.remove_pages()
    context.progress(f"{source.name}: {summarise(stats)}", stats["records"])
    if stats["problem"]:
        raise HearbackError(f"source {source.name}: {stats['problem']}")
    item = options.selectors.item
    if item and position.is_first and stats["pages"] and not stats["records"]:
        raise HearbackError(
            f"source {source.name}: selectors.item {item!r} matches nothing on {stats['pages']} "
            "pages; compare it with the page's HTML or leave it out"
        )


def explain_end(files: CrawlFiles, stats: dict[str, Any] | None) -> str:
    """Why the crawl process ended early: its own words, the last line that it wrote."""
    if stats and stats["problem"]:
        return str(stats["problem"])
    try:
        lines = files.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "the crawl was killed; run it again, it goes on where it was"


def summarise(stats: dict[str, Any]) -> str:
    """The crawl in one line; what was left out is always said."""
    parts = [f"{stats['pages']} pages read, {stats['records']} reviews"]
    shown = (
        ("not_modified", "unchanged"),
        ("unchanged_by_sitemap", "unchanged by sitemap"),
        ("gone", "gone"),
        ("robots_forbidden", "forbidden by robots.txt"),
        ("left_for_next_crawl", "left for the next run (max_pages)"),
        ("links_too_deep", "links too deep (max_depth)"),
        ("errors", "failed"),
    )
    parts += [f"{stats[name]} {words}" for name, words in shown if stats.get(name)]
    parts += [f"{sample['url']} {sample['error']}" for sample in stats["error_samples"][:1]]
    return ", ".join(parts)


def mappings(source: Source) -> list[Mapping]:
    """Reviews are feedback of channel review, posts of channel forum."""
    read_options(source, Options)
    fields = {
        "source_record_id": Field(RECORD_ID),
        "author": Field("author"),
        "product": Field("product"),
        "language": Field("language"),
        "created_at": Field("created_at", "instant"),
        "title": Field("title"),
        "body": Field("body"),
        "rating": Field("rating", "number"),
        "rating_min": Field("rating_min", "number"),
        "rating_max": Field("rating_max", "number"),
    }
    # created is created_at before it was read.
    ignored = ("created", "markup", "notes")
    return [
        Mapping(
            "reviews",
            "feedback",
            fields | {"channel": Field(const=channel)},
            (When("channel", is_negated=channel == "review"),),
            ignored=ignored,
        )
        for channel in ("review", "forum")
    ]


KINDS = {
    "web_reviews": Kind(
        "web_reviews",
        "Reviews on web pages: JSON-LD, microdata, RDFa, microformats, or CSS selectors; posts of "
        "forums if asked; obeys robots.txt",
        Options,
        ("feedback",),
        pull,
        mappings,
        check=check,
        summary_zh="网页上的评价：JSON-LD、microdata、RDFa、microformats 或自定义 CSS 选择器；"
        "可选论坛帖子；遵守 robots.txt",
    )
}

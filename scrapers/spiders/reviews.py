"""The review spider: start pages, sitemaps, links and known pages of a site → ReviewPage."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urljoin, urlsplit

from scrapy import Request, Spider, signals
from scrapy.exceptions import (
    CannotResolveHostError,
    DontCloseSpider,
    DownloadCancelledError,
    DownloadConnectionRefusedError,
    DownloadTimeoutError,
    ResponseDataLossError,
)
from scrapy.http import Response, TextResponse
from scrapy.spidermiddlewares.httperror import HttpError
from scrapy.utils.sitemap import Sitemap

from scrapers.config import CrawlConfig
from scrapers.decoding import decode_page
from scrapers.items import ReviewPage
from scrapers.journal import Found, Journal
from scrapers.links import NEVER, find_links, is_page, matches, site_of, tidy_url
from scrapers.markup import parse_tree
from scrapers.middlewares import (
    ForbiddenByRobots,
    LimitReached,
    OffSite,
    RobotsFailure,
    RobotsUnreadable,
)
from scrapers.parsing import parse_page

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from twisted.python.failure import Failure

MAX_SITEMAPS = 100
MAX_ERRORS_KEPT = 50
SITEMAP_PRIORITY, PAGER_PRIORITY, KNOWN_PRIORITY = 1000, 10, -100


class ReviewsSpider(Spider):
    """Crawls one configuration.

    Pages found anew come first; pages known from the last crawl follow, those checked longest ago
    first, with If-None-Match and If-Modified-Since. A known page that is unchanged gives no item;
    what it linked to is known too and checked in its own right.
    """

    name = "reviews"
    handle_httpstatus_list: ClassVar[list[int]] = [304]

    def __init__(self, config: CrawlConfig, journal: Journal, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.journal = journal
        self.start_set = {tidy_url(url) for url in config.start_urls}
        self.sites = {site_of(url) for url in config.start_urls}
        self.allow = [re.compile(pattern) for pattern in config.allow]
        self.deny = [re.compile(pattern) for pattern in config.deny]
        self.known = {
            url: page
            for url, page in config.known_pages.items()
            if self.is_wanted(url, is_pagination=bool(page.get("is_pagination")))
        }
        self.reserved: set[str] = set()
        self.downloaded: set[str] = set()
        self.sitemaps: set[str] = set()
        self.sites_read: set[str] = set()
        self.errors: list[dict[str, str]] = []
        self.failed_starts: list[dict[str, str]] = []
        self.counts: dict[str, int] = {}

    @classmethod
    def from_crawler(cls, crawler: Crawler, *args: Any, **kwargs: Any) -> Self:
        spider = super().from_crawler(crawler, *args, **kwargs)
        connect = crawler.signals.connect
        connect(spider.read_robots, signal=signals.robots_parsed)
        connect(spider.add_known_pages, signal=signals.spider_idle)
        connect(spider.finish_item, signal=signals.item_scraped)
        connect(spider.drop_repeat, signal=signals.request_dropped)
        connect(spider.note_crash, signal=signals.spider_error)
        return spider

    def count(self, name: str, by: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    async def start(self) -> AsyncIterator[Any]:
        if self.journal.is_resumed:
            self.reserved.update(self.journal.downloaded)
            self.downloaded.update(self.journal.downloaded)
            for found in list(self.journal.pending.values()):
                yield self.make_request(found)
        for url in self.config.start_urls:
            found = Found(tidy_url(url), 0)
            if self.journal.add(found):
                yield self.make_request(found)

    def is_wanted(
        self, url: str, *, is_pagination: bool = False, is_redirect: bool = False
    ) -> bool:
        """Whether the configuration lets a page be fetched; ``allow`` binds plain links only."""
        if url in self.start_set:
            return True
        if site_of(url) not in self.sites or not is_page(url) or NEVER.search(url):
            return False
        if matches(self.deny, url):
            return False
        return is_pagination or is_redirect or not self.allow or matches(self.allow, url)

    def make_request(self, found: Found, priority: int = 0) -> Request:
        meta = {"found": found, "asked": found.url}
        if found.kind == "sitemap":
            return Request(
                found.url, self.parse_sitemap, errback=self.note_sitemap_failure, meta=meta,
                priority=SITEMAP_PRIORITY,
            )  # fmt: skip
        headers = {}
        page = self.known.get(found.url, {})
        if page.get("etag"):
            headers["If-None-Match"] = page["etag"]
        if page.get("last_modified"):
            headers["If-Modified-Since"] = page["last_modified"]
        meta["is_page"] = True
        return Request(
            found.url, self.parse_page, errback=self.note_failure, headers=headers, meta=meta,
            priority=priority,
        )  # fmt: skip

    @property
    def is_full(self) -> bool:
        """Whether as many pages as allowed have been downloaded."""
        return len(self.downloaded) >= self.config.max_pages

    def takes(self, url: str) -> bool:
        """Whether one more page may be downloaded; reserves its place.

        A place is given back if the page turns out to be unchanged or cannot be had.
        """
        if url not in self.reserved and len(self.reserved) >= self.config.max_pages:
            return False
        self.reserved.add(url)
        return True

    def read_robots(self, robotparser: Any, request: Request) -> None:
        """Ask for the sitemaps that robots.txt names, or the usual one."""
        origin = f"{urlsplit(request.url).scheme}://{urlsplit(request.url).netloc}"
        if not self.config.sitemap or origin in self.sites_read:
            return
        self.sites_read.add(origin)
        named = list(getattr(getattr(robotparser, "rp", None), "sitemaps", ()) or ())
        for url in named or ["/sitemap.xml"]:
            self.ask_for_sitemap(urljoin(origin, url))

    def ask_for_sitemap(self, url: str) -> None:
        if site_of(url) not in self.sites or len(self.sitemaps) >= MAX_SITEMAPS:
            self.count("sitemaps_left_out")
            return
        self.sitemaps.add(url)
        found = Found(url, 0, "sitemap")
        if self.journal.add(found) and self.crawler.engine is not None:
            self.crawler.engine.crawl(self.make_request(found))

    def add_known_pages(self, spider: Spider) -> None:
        """When nothing new is left: check the known pages that no link led to."""
        by_age = sorted(self.known, key=lambda url: self.known[url].get("checked_at") or "")
        added = False
        for url in reversed(by_age):  # the queue gives back first what came last
            kind = "pager" if self.known[url].get("is_pagination") else "page"
            found = Found(url, int(self.known[url].get("depth") or 0), kind)
            if self.journal.add(found) and self.crawler.engine is not None:
                self.crawler.engine.crawl(self.make_request(found, KNOWN_PRIORITY))
                added = True
        if added:
            raise DontCloseSpider

    def parse_sitemap(self, response: Response) -> Iterator[Request]:
        found: Found = response.meta["found"]
        self.journal.finish(found.url, None)
        self.count("sitemaps")
        try:
            sitemap = Sitemap(self._sitemap_body(response))
        except (ValueError, StopIteration, OSError, SyntaxError):
            self.count("sitemaps_unreadable")
            return
        for entry in sitemap:
            try:
                url = tidy_url(urljoin(response.url, entry["loc"].strip()))
            except ValueError:
                continue
            if sitemap.type == "sitemapindex":
                self.ask_for_sitemap(url)
                continue
            page = Found(url, 1, lastmod=entry.get("lastmod"))
            if not self.is_wanted(url) or not self.journal.is_new(url):
                continue
            if self.is_unchanged(page):
                self.count("unchanged_by_sitemap")
                self.journal.add(page)
                self.journal.finish(url, self.known[url])
            elif self.journal.add(page):
                yield self.make_request(page)

    def _sitemap_body(self, response: Response) -> bytes:
        from scrapy.utils.gz import gunzip

        is_gzip = response.body[:2] == b"\x1f\x8b"
        return gunzip(response.body, max_size=50 * 1024 * 1024) if is_gzip else response.body

    def is_unchanged(self, page: Found) -> bool:
        """Whether the sitemap says that a known page has not changed since it was checked."""
        known = self.known.get(page.url, {})
        if not page.lastmod or known.get("lastmod") != page.lastmod or not known.get("checked_at"):
            return False
        try:
            changed = datetime.fromisoformat(page.lastmod)
            checked = datetime.fromisoformat(known["checked_at"])
        except ValueError:
            return False
        if changed.tzinfo is None:
            changed = changed.replace(tzinfo=UTC)
        # A bare day may change again until it is over, wherever the site's clock stands.
        return checked > changed + (timedelta(days=2) if len(page.lastmod) == 10 else timedelta())

    def parse_page(self, response: Response) -> Iterator[Request | ReviewPage]:
        found: Found = response.meta["found"]
        now = datetime.now(UTC).replace(microsecond=0)
        if response.status == 304:
            self.count("not_modified")
            self.reserved.discard(found.url)
            self.journal.finish(
                found.url, {**self.known.get(found.url, {}), "checked_at": now.isoformat()}
            )
            return
        if not isinstance(response, TextResponse):
            self.count("not_html")
            self.journal.finish(found.url, None)
            return
        self.count("pages")
        self.downloaded.add(found.url)
        text, notes = decode_page(response.body, response.headers.get("Content-Type"))
        page = parse_page(text, response.url, now, self.config.parse_options)
        self.count("records", len(page.records))
        self.count("selector_matches", page.selector_matches)
        yield from self.follow_links(text, response.url, found)
        yield ReviewPage(
            url=found.url,
            final_url=response.url,
            fetched_at=now.isoformat(),
            status=response.status,
            depth=found.depth,
            is_pagination=found.kind == "pager",
            etag=_header(response, "ETag"),
            last_modified=_header(response, "Last-Modified"),
            lastmod=found.lastmod or self.known.get(found.url, {}).get("lastmod"),
            records=page.records,
            notes=page.notes | notes,
        )

    def follow_links(self, text: str, url: str, above: Found) -> Iterator[Request]:
        tree = parse_tree(text)
        if tree is None:
            return
        for link in find_links(tree, url, self.config.selectors.get("next")):
            depth = above.depth if link.is_pagination else above.depth + 1
            if not self.is_wanted(link.url, is_pagination=link.is_pagination):
                continue
            if depth > self.config.max_depth:
                self.count("links_too_deep")
                continue
            found = Found(link.url, depth, "pager" if link.is_pagination else "page")
            if link.url in self.known and not link.is_pagination:
                continue  # its turn comes after the new pages
            if self.journal.add(found):
                yield self.make_request(found, PAGER_PRIORITY if link.is_pagination else 0)

    def finish_item(self, item: ReviewPage) -> None:
        """Only now, with its line written, is a page done."""
        entry = {
            "etag": item.etag,
            "last_modified": item.last_modified,
            "lastmod": item.lastmod,
            "depth": item.depth,
            "is_pagination": item.is_pagination or None,
            "checked_at": item.fetched_at,
        }
        kept = {key: value for key, value in entry.items() if value is not None}
        self.journal.finish(item.url, kept, is_downloaded=True)

    def drop_repeat(self, request: Request) -> None:
        """A redirect that leads to a page of this crawl: the page itself is enough."""
        if request.meta.get("is_page"):
            self.count("redirects_to_known_pages")
            self.reserved.discard(request.meta["asked"])
            self.journal.finish(request.meta["asked"], None)

    def note_failure(self, failure: Failure) -> None:
        """Count a page that could not be fetched; those that may work later stay pending."""
        request: Request = failure.request  # type: ignore[attr-defined]
        url = request.meta["asked"]
        error = failure.value
        if isinstance(error, LimitReached):
            self.count("left_for_next_crawl")
            return
        self.reserved.discard(url)
        reason = explain_failure(error, self.config.timeout)
        if isinstance(error, ForbiddenByRobots):
            self.count("robots_forbidden")
            self.journal.finish(url, self.known.get(url))
        elif isinstance(error, OffSite):
            self.count("offsite_redirects")
            self.journal.finish(url, None)
        elif isinstance(error, HttpError) and error.response.status in (404, 410):
            self.count("gone")
            self.journal.finish(url, None)
        else:
            self.note_error(url, reason)
        if url in self.start_set:
            self.failed_starts.append({"url": url, "error": reason})

    def note_error(self, url: str, reason: str) -> None:
        self.count("errors")
        if len(self.errors) < MAX_ERRORS_KEPT:
            self.errors.append({"url": url, "error": reason})

    def note_sitemap_failure(self, failure: Failure) -> None:
        """A site need not have a sitemap; its absence is only counted."""
        self.journal.finish(failure.request.meta["asked"], None)  # type: ignore[attr-defined]
        self.count("sitemaps_missing")

    def note_crash(self, failure: Failure, response: Response) -> None:
        self.note_error(
            response.url, f"{type(failure.value).__name__}: {failure.getErrorMessage()}"
        )

    def next_known_pages(self) -> dict[str, dict[str, Any]]:
        """What the next crawl should know: all pages seen, and those not yet fetched."""
        pages = {url: entry for url, entry in self.journal.done.items() if entry is not None}
        for found in self.journal.pending.values():
            if found.kind == "sitemap":
                continue
            fresh = {"depth": found.depth} | (
                {"is_pagination": True} if found.kind == "pager" else {}
            )
            pages[found.url] = self.known.get(found.url, fresh)
        for url, page in self.known.items():
            if self.journal.is_new(url):
                pages[url] = page
        return pages


def _header(response: Response, name: str) -> str | None:
    value = response.headers.get(name)
    return value.decode("latin-1").strip() or None if value else None


def explain_failure(error: BaseException | None, timeout: float) -> str:
    """A download failure in words."""
    if isinstance(error, HttpError):
        return f"answered {error.response.status}"
    if isinstance(error, RobotsUnreadable):
        return explain_failure(error.cause, timeout)
    if isinstance(error, ForbiddenByRobots | RobotsFailure):
        return str(error)
    if isinstance(error, OffSite):
        return f"redirects away: {error}"
    if isinstance(error, DownloadConnectionRefusedError):
        return "refused the connection"
    if isinstance(error, CannotResolveHostError):
        return "has a host name that cannot be found"
    if isinstance(error, DownloadTimeoutError):
        return f"did not answer within {timeout:g} s"
    if isinstance(error, ResponseDataLossError):
        return "broke off its answer"
    if isinstance(error, DownloadCancelledError):
        return "is too large"
    return f"failed ({type(error).__name__}: {str(error)[:200]})"

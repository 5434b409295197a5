"""Downloader middlewares: stay on the site, take robots.txt seriously, wait when told to."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from scrapy.downloadermiddlewares.retry import RetryMiddleware
from scrapy.downloadermiddlewares.robotstxt import RobotsTxtMiddleware
from scrapy.exceptions import IgnoreRequest
from twisted.internet.defer import Deferred

from scrapers.links import site_of

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.crawler import Crawler
    from scrapy.http import Response
    from scrapy.robotstxt import RobotParser

LONGEST_WAIT = 120.0
LONGEST_CRAWL_DELAY = 60.0


class OffSite(IgnoreRequest):
    """The request would leave the site or is denied; redirects come through here too."""


class ForbiddenByRobots(IgnoreRequest):
    """robots.txt forbids the request."""


class RobotsUnreadable(IgnoreRequest):
    """robots.txt could not be had because the site is failing: nothing may be fetched for now."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"robots.txt could not be read: {cause}")
        self.cause = cause


class RobotsFailure(Exception):
    """The server answered a request for robots.txt with a failure of its own."""


class LimitReached(IgnoreRequest):
    """As many pages as allowed are downloaded; the rest is left for the next crawl."""


class SameSiteMiddleware:
    """Drops requests to any other host or port, redirects to denied pages, pages over the limit."""

    def __init__(self, crawler: Crawler) -> None:
        self.crawler = crawler

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    async def process_request(self, request: Request) -> None:
        spider: Any = self.crawler.spider
        if site_of(request.url) not in spider.sites:
            raise OffSite(f"{request.url} is on another site")
        if not request.meta.get("is_page"):
            return
        if "redirect_urls" in request.meta and not spider.is_wanted(request.url, is_redirect=True):
            raise OffSite(f"{request.url} is denied")
        while not spider.takes(request.meta["asked"]):
            if spider.is_full:
                raise LimitReached(request.url)
            # Pages under way may turn out unchanged and give their places back.
            await asyncio.sleep(0.05)


class StrictRobotsMiddleware(RobotsTxtMiddleware):
    """RFC 9309: a robots.txt that the server fails to give forbids everything, for now.

    Also slows down to Crawl-delay, which Scrapy does not read.
    """

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        self.causes: dict[str, Exception] = {}

    async def robot_parser(self, request: Request) -> RobotParser | None:
        # Of several requests that wait for one robots.txt only the first is handed the parser;
        # the others get None, which would let them pass.
        await super().robot_parser(request)
        parser = self._parsers[urlsplit(request.url).netloc]
        return None if isinstance(parser, Deferred) else parser

    def process_request_2(self, rp: RobotParser | None, request: Request) -> None:
        if rp is None:
            raise RobotsUnreadable(self.causes[urlsplit(request.url).netloc])
        try:
            super().process_request_2(rp, request)
        except IgnoreRequest:
            raise ForbiddenByRobots("is forbidden by robots.txt") from None

    def _robots_error(self, exc: Exception, netloc: str) -> None:
        self.causes[netloc] = exc
        super()._robots_error(exc, netloc)

    async def _parse_robots(self, response: Response, netloc: str, request: Request) -> None:
        if response.status >= 500 or response.status == 429:
            raise RobotsFailure(f"answered {response.status} for robots.txt")
        if response.status >= 400:
            response = response.replace(body=b"")
        await super()._parse_robots(response, netloc, request)
        self._slow_down(netloc)

    def _slow_down(self, netloc: str) -> None:
        parser = self._parsers[netloc]
        if parser is None or isinstance(parser, Deferred):
            return
        wanted = parser.crawl_delay(self._robotstxt_useragent or self._default_useragent)
        delay = min(wanted or 0.0, LONGEST_CRAWL_DELAY)
        if delay > self.crawler.settings.getfloat("DOWNLOAD_DELAY"):
            slow_down(self.crawler, delay)


def slow_down(crawler: Crawler, delay: float) -> None:
    """Raise the least delay of a running crawl to ``delay`` seconds."""
    from scrapy.extensions.throttle import AutoThrottle

    throttle = crawler.get_extension(AutoThrottle)
    if throttle is not None:
        throttle.mindelay = max(throttle.mindelay, delay)
    engine: Any = crawler.engine
    engine.downloader._delay = delay
    for slot in engine.downloader.slots.values():
        slot.delay = max(slot.delay, delay)


class PatientRetryMiddleware(RetryMiddleware):
    """Retries failures of the server, after as long as Retry-After asks for."""

    async def process_response(  # type: ignore[override]
        self, request: Request, response: Response
    ) -> Request | Response:
        result: Request | Response = super().process_response(request, response)
        if result is response:
            return response
        wait = read_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
        if wait > LONGEST_WAIT:
            return response
        if wait:
            await asyncio.sleep(wait)
        return result


def read_retry_after(header: bytes | None, now: datetime) -> float:
    """Seconds to wait, from a number or an HTTP date; 0 if there is none."""
    text = (header or b"").decode("ascii", "replace").strip()
    if not text:
        return 0.0
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (ValueError, TypeError):
        return 0.0

"""Scrapy extensions."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Self

from scrapy import signals
from scrapy.exceptions import NotConfigured
from scrapy.utils.asyncio import create_looping_call

if TYPE_CHECKING:
    from scrapy import Spider
    from scrapy.crawler import Crawler


class ParentWatch:
    """Stops a crawl whose caller was killed: nobody would read its pages."""

    def __init__(self, crawler: Crawler, parent: int) -> None:
        self.crawler = crawler
        self.parent = parent
        self.check: Any = None
        self.closing: asyncio.Task[None] | None = None

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        parent = crawler.settings.getint("HEARBACK_PARENT")
        if not parent:
            raise NotConfigured
        watch = cls(crawler, parent)
        crawler.signals.connect(watch.spider_opened, signal=signals.spider_opened)
        crawler.signals.connect(watch.spider_closed, signal=signals.spider_closed)
        return watch

    def spider_opened(self, spider: Spider) -> None:
        self.check = create_looping_call(self.stop_if_alone)
        self.check.start(1.0)

    def spider_closed(self, spider: Spider) -> None:
        if self.check is not None and self.check.running:
            self.check.stop()

    def stop_if_alone(self) -> None:
        engine = self.crawler.engine
        if os.getppid() != self.parent and engine is not None and self.closing is None:
            self.closing = asyncio.ensure_future(engine.close_spider_async(reason="caller_gone"))

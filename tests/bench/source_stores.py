"""Servers that hold many records: big forms of the tests' own, and those that speak no HTTP.

The tests' servers filter and sort their lists anew for each page, as tests change them meanwhile.
Here nothing changes, so that lists are sorted once and a page costs what its rows cost.
"""

from __future__ import annotations

import base64
import json
from bisect import bisect_left, bisect_right
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

from tests.pipelines.sources.discourse import server as discourse_server
from tests.pipelines.sources.discourse.server import Discourse
from tests.pipelines.sources.github_issues.server import GitHub
from tests.pipelines.sources.imap.server import LOGIN, ImapServer
from tests.pipelines.sources.mongodb.server import Store, start_mongodb
from tests.pipelines.sources.redis_streams.server import connect, start_redis
from tests.pipelines.sources.rss.server import Feeds
from tests.pipelines.sources.surveymonkey.server import SurveyMonkey
from tests.pipelines.sources.typeform.server import Typeform
from tests.pipelines.sources.vendor_server import Answer, Request
from tests.pipelines.sources.web_reviews.server import Shop

FIRST = datetime(2026, 8, 1, 8, tzinfo=UTC)
TEXT = "The kettle leaks on the table, and nobody answers. 水壶漏水，没有人回复。"
ENTRIES_OF_A_PAGE = 100
REVIEWS_OF_A_PAGE = 20


class BigSurveyMonkey(SurveyMonkey):
    def __init__(self, rows: list[Any]) -> None:
        super().__init__(most=100)
        self.sorted = sorted(rows, key=lambda row: row["date_modified"])
        self.times = [row["date_modified"] for row in self.sorted]
        self.responses = {"900": self.sorted}

    def list_responses(self, survey: str, request: Request) -> Answer:
        begin = bisect_right(self.times, request.query.get("start_modified_at", ""))
        return self.page(request, self.sorted[begin:], 100)


class BigTypeform(Typeform):
    def __init__(self, rows: list[Any]) -> None:
        super().__init__(most=1000)
        self.sorted = sorted(rows, key=self.time_of)
        self.times = [self.time_of(row) for row in self.sorted]
        self.places = {row["token"]: place for place, row in enumerate(self.sorted)}

    def list_responses(self, form: str, query: dict[str, str]) -> Answer:
        rows = self.sorted if query.get("response_type") != "partial" else []
        begin = bisect_left(self.times, query.get("since", ""))
        if "after" in query:
            begin = self.places[query["after"]] + 1
        size = min(int(query["page_size"]), self.most)
        found = rows[begin : begin + size]
        left = max(len(rows) - begin, 0)
        return Answer({"total_items": left, "page_count": -(-left // size), "items": found})


class BigDiscourse(Discourse):
    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data)
        self.posts = sorted(data["posts"], key=lambda post: -post["id"])
        self.falling = [-post["id"] for post in self.posts]
        topics = sorted(data["topics"], key=lambda topic: topic["bumped_at"], reverse=True)
        self.topics = sorted(topics, key=lambda topic: not topic["pinned"])

    def list_posts(self, before: str | None) -> list[dict[str, Any]]:
        begin = bisect_left(self.falling, -int(before)) if before else 0
        return self.posts[begin : begin + discourse_server.PAGE]

    def list_topics(self, page: int) -> Answer:
        end = (page + 1) * discourse_server.PAGE
        found: dict[str, Any] = {"topics": self.topics[end - discourse_server.PAGE : end]}
        if len(self.topics) > end:
            found["more_topics_url"] = f"/latest?page={page + 1}"
        return Answer({"topic_list": found})


class BigGitHub(GitHub):
    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data)
        self.size = 100
        self.events = sorted(data["events"], key=lambda row: -row["id"])
        self.changes: dict[str, tuple[list[Any], list[str]]] = {}
        for name in ("issues", "comments"):
            rows = sorted(data[name], key=lambda row: row["updated_at"])
            self.changes[name] = rows, [row["updated_at"] for row in rows]

    def list_rows(self, name: str, query: dict[str, str]) -> list[Any]:
        if name == "events":
            return self.events
        rows, times = self.changes[name]
        return rows[bisect_left(times, query.get("since", "")) :]


class BigFeeds(Feeds):
    """A feed whose older entries follow on pages (RFC 5005), a hundred on each."""

    def __init__(self, records: int) -> None:
        super().__init__()
        self.records = records

    def respond(self, request: Request) -> Answer:
        page = int(request.query.get("page", 0))
        numbers = range(page * ENTRIES_OF_A_PAGE, self.records)[:ENTRIES_OF_A_PAGE]
        items = "".join(
            f"<item><guid>t-{n}</guid><title>Leak {n}</title><description>"
            f"{escape(f'<p>{TEXT}</p>')}</description></item>"
            for n in numbers
        )
        has_more = (page + 1) * ENTRIES_OF_A_PAGE < self.records
        link = f'<atom:link rel="next" href="{self.url}/all.xml?page={page + 1}"/>'
        text = (
            '<?xml version="1.0"?><rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom">'
            f"<channel><title>Forum</title>{link if has_more else ''}{items}</channel></rss>"
        )
        return Answer(text.encode(), headers={"Content-Type": "application/xml", "ETag": '"1"'})


class BigImap(ImapServer):
    """Letters of customers, one a thread; its commands are what is asked of it."""

    def __init__(self, records: int) -> None:
        super().__init__()
        for number in range(records):
            self.folders["INBOX"].add(self.write(number), FIRST + timedelta(minutes=number))
        self.requests = self.commands

    @staticmethod
    def write(number: int) -> bytes:
        at = (FIRST + timedelta(minutes=number)).strftime("%a, %d %b %Y %H:%M:%S +0000")
        body = base64.encodebytes(f"{TEXT} {number}".encode()).decode()
        heads = (
            f"Message-ID: <m{number}@customer.example>\r\nDate: {at}\r\nSubject: Leak {number}\r\n"
            f"From: Ann <ann{number}@customer.example>\r\nTo: {LOGIN}\r\n"
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n"
        )
        return f"{heads}\r\n{body}".encode()


class BigShop(Shop):
    """A list page for every hundred product pages, with some reviews on each."""

    def __init__(self, records: int) -> None:
        super().__init__()
        count = max(records // REVIEWS_OF_A_PAGE, 1)
        for page in range(count):
            self.pages[f"/p/{page}"] = self.write(page)
        for first in range(0, count, 100):
            links = "".join(f"<a href='/p/{n}'>{n}</a>" for n in range(first, count)[:100])
            following = f"<a rel='next' href='/?list={first + 100}'>more</a>"
            path = "/" if first == 0 else f"/?list={first}"
            self.pages[path] = links + (following if first + 100 < count else "")
        self.requests = self.asked
        self.violations: list[str] = []

    @staticmethod
    def write(page: int) -> str:
        reviews = [
            {
                "@type": "Review", "@id": f"#r-{page}-{number}", "author": f"Ann {number}",
                "datePublished": "2026-08-01T08:00:00", "reviewBody": f"{TEXT} {page} {number}",
                "reviewRating": {"ratingValue": 1 + number % 5},
            }
            for number in range(REVIEWS_OF_A_PAGE)
        ]  # fmt: skip
        product = {"@type": "Product", "name": f"Kettle {page}", "review": reviews}
        text = json.dumps(product, ensure_ascii=False)
        return f'<script type="application/ld+json">{text}</script>'


class BigMongo:
    """Documents behind the tests' server; its commands are what is asked of it."""

    def __init__(self, records: int) -> None:
        documents = [
            {"_id": number, "text": f"{TEXT} {number}", "stars": 1 + number % 5,
             "user": {"id": f"u-{number}"}, "changed": FIRST + timedelta(seconds=number)}
            for number in range(records)
        ]  # fmt: skip
        store = Store({"voices": documents})
        self.requests, self.violations = store.asked, list[str]()
        self.stack = ExitStack()
        port = self.stack.enter_context(start_mongodb(store))
        self.url = f"mongodb://127.0.0.1:{port}/crm"

    def close(self) -> None:
        self.stack.close()


class BigRedis:
    """A stream in a server of Redis."""

    def __init__(self, records: int) -> None:
        self.requests, self.violations = list[str](), list[str]()
        self.stack = ExitStack()
        told = self.stack.enter_context(start_redis())
        with connect(told) as client, client.pipeline(transaction=False) as pipeline:
            for number in range(records):
                entry = {"text": f"{TEXT} {number}", "stars": 1 + number % 5}
                pipeline.xadd("voices", entry, id=f"{1_785_000_000_000 + number}-0")
                if number % 1000 == 999:
                    pipeline.execute()
            pipeline.execute()
        password = quote(told["password"], safe="")
        self.url = f"redis://:{password}@127.0.0.1:{told['port']}/{told['schema']}"

    def close(self) -> None:
        self.stack.close()

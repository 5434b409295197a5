"""Zendesk on loopback: exports by cursor and by time, windows of ratings, a strict clock."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

API = "/api/v2"
TOKEN = "quiet-token"
LOGIN = "me@desk.example/token"
Rows = list[dict[str, Any]]


def second(row: dict[str, Any]) -> int:
    if "timestamp" in row:
        return int(row["timestamp"])
    return int(datetime.fromisoformat(row["updated_at"].replace("Z", "+00:00")).timestamp())


class Zendesk(VendorServer):
    """``rows`` by stream. ``most``: rows of a page; larger pages than ``slow_from`` time out."""

    def __init__(self, rows: dict[str, Rows], most: int = 1000) -> None:
        super().__init__()
        self.rows = rows
        self.most = most
        self.slow_from = 10**9
        self.is_cursor_known = True
        self.has_texts = True
        self.pages_grow = True  # where rows share a second, as Zendesk documents it
        self.on_page: Callable[[Request], None] = lambda request: None
        self.extra_headers: dict[str, str] = {}

    def allows(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        basic = base64.b64encode(f"{LOGIN}:{TOKEN}".encode()).decode()
        return given in (f"Bearer {TOKEN}", f"Basic {basic}")

    def refuse(self, request: Request) -> Answer:
        return Answer({"error": "Couldn't authenticate you"}, 401)

    def respond(self, request: Request) -> Answer:
        path = request.path.removeprefix(API + "/").removesuffix(".json")
        self.on_page(request)
        answer = self.answer(path, request.query)
        answer.headers |= self.extra_headers
        return answer

    def answer(self, path: str, query: dict[str, str]) -> Answer:
        begin = int(query.get("start_time", 0))
        if begin > time.time() - 60 or int(query.get("end_time", 0)) > time.time() - 60:
            self.violations.append(f"{path} {query}")
            return Answer({"error": "StartTimeTooRecent"}, 400)
        if int(query.get("end_time", begin)) - begin > 30 * 24 * 3600 and begin:
            self.violations.append(f"window of {query}")
        if int(query.get("per_page", query.get("page[size]", 1000))) > self.slow_from:
            return Answer({"error": "upstream request timeout"}, 504)
        if path == "users/me":
            return Answer({"user": {"id": 91, "role": "admin"}})
        found = re.fullmatch(r"tickets/(\d+)/comments", path)
        if found:
            return self.comments(int(found[1]))
        if path in ("incremental/tickets/cursor", "incremental/users/cursor"):
            return self.by_cursor(path.split("/")[1], query, begin)
        if path in ("incremental/ticket_events", "incremental/organizations"):
            return self.by_time(path.split("/")[1], query, begin)
        if path == "guide/survey_responses":
            return self.surveys(query)
        if path in ("groups", "satisfaction_ratings"):
            return self.plain(path, query, begin)
        return Answer({"error": "InvalidEndpoint"}, 404)

    def size(self, query: dict[str, str], name: str, most: int) -> int:
        return min(int(query.get(name, most)), most, self.most)

    def by_cursor(self, name: str, query: dict[str, str], begin: int) -> Answer:
        rows = sorted(self.rows[name], key=lambda row: (second(row), row["id"]))
        if query.get("support_type_scope") != "all":
            rows = [row for row in rows if row.get("support_type") != "ai_agent"]
        if "cursor" in query:
            if not self.is_cursor_known:
                return Answer({"error": "InvalidCursor"}, 400)
            after = tuple(int(part) for part in query["cursor"].split("."))
            rows = [row for row in rows if (second(row), row["id"]) > after]
        rows = [row for row in rows if second(row) >= begin]
        shown = rows[: self.size(query, "per_page", 1000)]
        cursor = f"{second(shown[-1])}.{shown[-1]['id']}" if shown else query.get("cursor")
        if "metric_sets" not in query.get("include", ""):
            shown = [{k: v for k, v in row.items() if k != "metric_set"} for row in shown]
        body = {name: shown, "after_cursor": cursor, "end_of_stream": len(shown) == len(rows)}
        return Answer({**body, "after_url": None, "before_url": None, "before_cursor": None})

    def by_time(self, name: str, query: dict[str, str], begin: int) -> Answer:
        rows = sorted(self.rows[name], key=lambda row: (second(row), row["id"]))
        rows = [row for row in rows if second(row) >= begin]
        shown = rows[: self.size(query, "per_page", 1000)]
        if self.pages_grow and shown and second(shown[0]) == second(shown[-1]):
            shown = [row for row in rows if second(row) == second(shown[0])]
        if name == "ticket_events" and not self.has_texts:
            shown = [
                row | {"child_events": [bare(c) for c in row["child_events"]]} for row in shown
            ]
        end = second(shown[-1]) if shown else None
        body = {name: shown, "count": len(shown), "end_time": end, "next_page": None}
        return Answer({**body, "end_of_stream": len(shown) == len(rows)})

    def plain(self, name: str, query: dict[str, str], begin: int) -> Answer:
        end = int(query.get("end_time", 1 << 40))
        rows = [row for row in self.rows[name] if begin <= second(row) <= end]
        first = int(query.get("page[after]", 0))
        last = first + self.size(query, "page[size]", 100)
        kept = {k: v for k, v in query.items() if k != "page[after]"}
        link = f"https://acme.zendesk.com{API}/{name}.json?"
        more = last < len(rows)
        links = {"next": link + urlencode({**kept, "page[after]": last}) if more else None}
        return Answer({name: rows[first:last], "meta": {"has_more": more}, "links": links})

    def surveys(self, query: dict[str, str]) -> Answer:
        """Responses from a time in milliseconds on; one says nothing of when it was created."""
        since = int(query.get("filter[created_at_start]", 0))
        if since and since < 10**12:
            self.violations.append(f"seconds, not milliseconds: {query}")
        rows = [row for row in self.rows.get("survey_responses", []) if created(row) >= since]
        first = int(query.get("page[after]", 0))
        last = first + self.size(query, "page[size]", 100)
        kept = {k: v for k, v in query.items() if k != "page[after]"}
        link = f"https://acme.zendesk.com{API}/guide/survey_responses?"
        more = last < len(rows)
        links = {"next": link + urlencode({**kept, "page[after]": last}) if more else None}
        page = {"survey_responses": rows[first:last], "meta": {"has_more": more}}
        return Answer({**page, "links": links})

    def comments(self, ticket: int) -> Answer:
        if any(row["id"] == ticket and row["status"] == "deleted" for row in self.rows["tickets"]):
            return Answer({"error": "RecordNotFound"}, 404)
        found = [
            {
                **{k: child[k] for k in ("id", "type", "author_id", "body", "html_body", "public")},
                "plain_body": child["body"],
                "audit_id": event["id"],
                "attachments": [],
                "metadata": {},
                "via": {"channel": "email"},
                "created_at": event["created_at"],
            }
            for event in self.rows["ticket_events"]
            if event["ticket_id"] == ticket
            for child in event["child_events"]
            if child["event_type"] == "Comment"
        ]
        return Answer({"comments": found, "meta": {"has_more": False}, "links": {}})


def created(row: dict[str, Any]) -> float:
    """Milliseconds: a response may be answered for four weeks."""
    return (datetime.fromisoformat(row["expires_at"]).timestamp() - 28 * 24 * 3600) * 1000


def bare(child: dict[str, Any]) -> dict[str, Any]:
    if child["event_type"] != "Comment":
        return child
    return {k: v for k, v in child.items() if k in ("id", "event_type", "comment_public")}

"""A help desk that speaks Zendesk's wire format, throttling and faults included."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import cached_property
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from pipelines.demo.http_server import Answer, LoopbackServer
from pipelines.demo.view import BASE

PAGE = 1000
LIST_PAGE = 100
THROTTLE_EVERY, THROTTLE_AT = 50, 12
FAIL_EVERY, FAIL_AT = 45, 30
RETRY_AFTER = 1
GRACE = 0.05  # seconds by which a waiting client's clock may run ahead of ours
OLDEST_SECONDS = 60
PREFIX = "/api/v2/"


class BadRequest(Exception):
    """A request that the help desk refuses: status, error, description."""

    def __init__(self, status: int, error: str, description: str):
        super().__init__(description)
        self.status, self.error, self.description = status, error, description


class Stream:
    """The records of one kind by (last change, id), each as the bytes that are sent."""

    def __init__(self, path: Path):
        self.keys: list[tuple[int, int]] = []
        self.bodies: list[bytes] = []
        for line in path.read_bytes().splitlines():
            key, number, body = line.split(b"\t", 2)
            self.keys.append((int(key), int(number)))
            self.bodies.append(body)

    def after(self, key: tuple[int, int]) -> int:
        return bisect_right(self.keys, key)

    def since(self, second: int) -> int:
        return bisect_left(self.keys, (second, -(1 << 62)))

    def joined(self, begin: int, end: int) -> bytes:
        return b"[" + b",".join(self.bodies[begin:end]) + b"]"


def write_cursor(key: tuple[int, int]) -> str:
    return base64.urlsafe_b64encode(f"{key[0]}.0||{key[1]}".encode()).decode()


def read_cursor(text: str) -> tuple[int, int]:
    try:
        second, number = base64.urlsafe_b64decode(text).decode().split("||")
        return int(float(second)), int(number)
    except (ValueError, binascii.Error):
        raise BadRequest(400, "InvalidPaginationParameter", "page[after] is not valid") from None


def page_body(values: dict[str, Any], **lists: bytes) -> bytes:
    """A JSON object: ready-made lists first, then the values."""
    head = b",".join(b'"' + name.encode() + b'":' + data for name, data in lists.items())
    tail = json.dumps(values).encode()[1:]
    return b"{" + head + b"," + tail


class HelpdeskServer(LoopbackServer):
    """Serves ``directory``'s help desk to ``login`` with ``token``.

    Every 50th data request is answered 429 with Retry-After, and requests made before that time
    is over are counted as ``violations``; every 45th is answered 500 once.
    ``GET /_demo/stats`` shows the counters.
    """

    def __init__(self, directory: Path, login: str, token: str, port: int = 0):
        self.streams = {
            path.stem: Stream(path) for path in sorted((directory / "served").glob("*.tsv"))
        }
        self.secret = base64.b64encode(f"{login}:{token}".encode()).decode()
        self.data_requests = 0
        self.wait_until = 0.0
        newest = max((s.keys[-1][0] for s in self.streams.values() if s.keys), default=0)
        self.now: Callable[[], float] = lambda: max(time.time(), newest + 2 * OLDEST_SECONDS)
        super().__init__(port)

    def answer(self, path: str, query: dict[str, str], request: BaseHTTPRequestHandler) -> Answer:
        if path == "/_demo/stats":
            with self.lock:
                return Answer(200, json.dumps(self.stats).encode())
        given = (request.headers.get("Authorization") or "").removeprefix("Basic ")
        if not hmac.compare_digest(given.encode(), self.secret.encode()):
            with self.lock:
                self.stats["unauthorized"] += 1
            return Answer(401, b'{"error":"Couldn\'t authenticate you"}')
        refusal = self.throttle()
        if refusal:
            return refusal
        try:
            body = self.find(path, query)
        except BadRequest as error:
            text = json.dumps({"error": error.error, "description": error.description})
            return Answer(error.status, text.encode())
        return Answer(200, body.replace(BASE.encode(), self.url.encode()), headers=self.limits())

    def limits(self) -> dict[str, str]:
        left = THROTTLE_EVERY - self.data_requests % THROTTLE_EVERY
        return {
            "ratelimit-limit": str(THROTTLE_EVERY),
            "ratelimit-remaining": str(left),
            "ratelimit-reset": "30",
        }

    def throttle(self) -> Answer | None:
        """A 429 or a 500 when it is time for one, by the number of the request."""
        text = b'{"error":"APIRateLimitExceeded","description":"Rate limit exceeded, please wait"}'
        refusal = Answer(429, text, headers={"Retry-After": str(RETRY_AFTER)})
        with self.lock:
            if time.monotonic() < self.wait_until:
                self.stats["violations"] += 1
                return refusal
            self.data_requests += 1
            if self.data_requests % THROTTLE_EVERY == THROTTLE_AT:
                self.wait_until = time.monotonic() + RETRY_AFTER - GRACE
                self.stats["throttled"] += 1
                return refusal
            if self.data_requests % FAIL_EVERY == FAIL_AT:
                self.stats["failed"] += 1
                return Answer(500, b"<html><body>Internal Server Error</body></html>", "text/html")
        return None

    def find(self, path: str, query: dict[str, str]) -> bytes:
        """The body of a page. BadRequest says what is wrong with the request."""
        name = path.removeprefix(PREFIX).removesuffix(".json") if path.startswith(PREFIX) else ""
        if name in ("incremental/tickets/cursor", "incremental/users/cursor"):
            return self.export_by_cursor(name.split("/")[1], path, query)
        if name == "incremental/ticket_events":
            return self.export_events(path, query)
        if name in ("groups", "satisfaction_ratings", "ticket_metrics"):
            return self.list_page(name, name, self.streams[name], path, query)
        if name == "users/me":
            return b'{"user":{"id":360000101,"name":"Demo","role":"admin","active":true}}'
        parts = name.split("/")
        if len(parts) == 3 and parts[0] == "tickets" and parts[2] == "comments":
            comments = self.comments.get(int(parts[1]) if parts[1].isdigit() else -1)
            if comments is not None:
                body = b"[" + b",".join(comments) + b"]"
                rest = {"count": len(comments), "next_page": None, "previous_page": None}
                return page_body(rest, comments=body)
        raise BadRequest(404, "InvalidEndpoint" if not parts[1:] else "RecordNotFound", "Not found")

    def page_size(self, query: dict[str, str], name: str, most: int) -> int:
        try:
            size = int(query.get(name, most))
        except ValueError:
            size = 0
        if size < 1:
            raise BadRequest(400, "InvalidValue", f"{name} must be a positive number")
        return min(size, most)

    def start_time(self, query: dict[str, str]) -> int:
        try:
            second = int(query["start_time"])
        except (KeyError, ValueError):
            raise BadRequest(400, "InvalidValue", "start_time must be Unix epoch time") from None
        if second > self.now() - OLDEST_SECONDS:
            text = "Too recent start_time. Use a start_time older than 60 seconds"
            raise BadRequest(400, "StartTimeTooRecent", text)
        return second

    def export_by_cursor(self, name: str, path: str, query: dict[str, str]) -> bytes:
        stream = self.streams[name]
        size = self.page_size(query, "per_page", PAGE)
        if "cursor" in query:
            begin = stream.after(read_cursor(query["cursor"]))
        else:
            begin = stream.since(self.start_time(query))
        end = min(begin + size, len(stream.keys))
        cursor = write_cursor(stream.keys[end - 1]) if end > begin else query.get("cursor")
        link = None
        if cursor:
            link = f"{self.url}{path}?{urlencode({'cursor': cursor, 'per_page': size})}"
        rest = {
            "after_url": link,
            "before_url": None,
            "after_cursor": cursor,
            "before_cursor": None,
            "end_of_stream": end >= len(stream.keys),
        }
        records = stream.joined(begin, end)
        if name == "tickets" and "metric_sets" in query.get("include", ""):
            records = self.with_metrics(begin, end)
        return page_body(rest, **{name: records})

    def with_metrics(self, begin: int, end: int) -> bytes:
        rows = [json.loads(body) for body in self.streams["tickets"].bodies[begin:end]]
        for row in rows:
            row["metric_set"] = self.metrics[row["id"]]
        return json.dumps(rows, ensure_ascii=False).encode()

    @cached_property
    def metrics(self) -> dict[int, Any]:
        stream = self.streams["ticket_metrics"]
        return {
            key[1]: json.loads(body) for key, body in zip(stream.keys, stream.bodies, strict=True)
        }

    @cached_property
    def comments(self) -> dict[int, list[bytes]]:
        """The comments of each ticket that still has any: deleted tickets have none."""
        tickets = self.streams["tickets"]
        found: dict[int, list[bytes]] = {
            key[1]: []
            for key, body in zip(tickets.keys, tickets.bodies, strict=True)
            if b'"status":"deleted"' not in body
        }
        for body in self.streams["ticket_events"].bodies:
            act = json.loads(body)
            if act["ticket_id"] not in found:
                continue
            for child in act["child_events"]:
                if child["event_type"] == "Comment":
                    keys = ("id", "type", "author_id", "body", "html_body", "plain_body", "public")
                    comment = {key: child[key] for key in keys}
                    comment |= {
                        "attachments": [],
                        "audit_id": act["id"],
                        "created_at": act["created_at"],
                        "via": {"channel": act["via"].lower(), "source": {}},
                    }
                    found[act["ticket_id"]].append(json.dumps(comment, ensure_ascii=False).encode())
        return found

    def export_events(self, path: str, query: dict[str, str]) -> bytes:
        """By time, ``end_time`` inclusive: the next page begins with what this one ended with."""
        stream = self.streams["ticket_events"]
        since = self.start_time(query)
        size = self.page_size(query, "per_page", PAGE)
        begin = stream.since(since)
        end = min(begin + size, len(stream.keys))
        last = stream.keys[end - 1][0] if end > begin else None
        records = stream.joined(begin, end)
        if "comment_events" not in query.get("include", ""):
            records = self.without_comments(begin, end)
        link = None
        if last is not None:
            kept = {key: query[key] for key in ("include", "per_page") if key in query}
            link = f"{self.url}{path}?{urlencode({**kept, 'start_time': last})}"
        rest = {
            "next_page": link,
            "count": end - begin,
            "end_of_stream": end - begin < size,
            "end_time": last,
        }
        return page_body(rest, ticket_events=records)

    def without_comments(self, begin: int, end: int) -> bytes:
        rows = [json.loads(body) for body in self.streams["ticket_events"].bodies[begin:end]]
        for row in rows:
            row["child_events"] = [
                child if child["event_type"] != "Comment" else bare_comment(child)
                for child in row["child_events"]
            ]
        return json.dumps(rows, ensure_ascii=False).encode()

    def list_page(
        self, name: str, key: str, stream: Stream, path: str, query: dict[str, str]
    ) -> bytes:
        """A plain list: by cursor if ``page[size]`` is given, else by page number."""
        begin, stop = 0, len(stream.keys)
        kept = {}
        if "start_time" in query and name == "satisfaction_ratings":
            begin = stream.since(self.start_time(query))
            kept["start_time"] = query["start_time"]
        if "page[size]" not in query and "page[after]" not in query:
            return self.numbered_page(key, stream, path, query, begin)
        size = self.page_size(query, "page[size]", LIST_PAGE)
        if "page[after]" in query:
            begin = max(begin, stream.after(read_cursor(query["page[after]"])))
        end = min(begin + size, stop)
        more = end < stop
        after = write_cursor(stream.keys[end - 1]) if end > begin else None
        link = None
        if more:
            link = (
                f"{self.url}{path}?{urlencode({**kept, 'page[size]': size, 'page[after]': after})}"
            )
        rest = {
            "meta": {"has_more": more, "after_cursor": after, "before_cursor": None},
            "links": {"prev": None, "next": link},
        }
        return page_body(rest, **{key: stream.joined(begin, end)})

    def numbered_page(
        self, key: str, stream: Stream, path: str, query: dict[str, str], first: int
    ) -> bytes:
        size = self.page_size(query, "per_page", LIST_PAGE)
        number = self.page_size(query, "page", 1 << 30) if "page" in query else 1
        begin = first + (number - 1) * size
        end = min(begin + size, len(stream.keys))
        link = f"{self.url}{path}?{urlencode({'page': number + 1, 'per_page': size})}"
        back = f"{self.url}{path}?{urlencode({'page': number - 1, 'per_page': size})}"
        rest = {
            "next_page": link if end < len(stream.keys) else None,
            "previous_page": back if number > 1 else None,
            "count": len(stream.keys) - first,
        }
        return page_body(rest, **{key: stream.joined(begin, end)})


def bare_comment(child: dict[str, Any]) -> dict[str, Any]:
    """A comment as the feed shows it when its text was not asked for."""
    keys = ("id", "via", "via_reference_id", "comment_present", "comment_public", "event_type")
    return {key: child[key] for key in keys}

"""Help Scout on loopback: HAL pages, tokens that end, active conversations only unless asked."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

API = "/v2"
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
KNOWN = {
    "conversations": {
        "status", "modifiedSince", "sortField", "sortOrder", "page", "embed", "mailbox", "tag",
        "query",
    },
    "customers": {"modifiedSince", "sortField", "sortOrder", "page", "query", "mailbox"},
    "users": {"page"},
    "mailboxes": {"page"},
}  # fmt: skip
Rows = list[dict[str, Any]]


class HelpScout(VendorServer):
    """``rows`` by list. ``changed``: when a row changed, by id, where that is not in it.

    ``is_still``: rows change no more, so that their order is worked out once.
    """

    def __init__(self, rows: dict[str, Rows], page_size: int = 25) -> None:
        super().__init__()
        self.rows = rows
        self.page_size = page_size
        self.changed: dict[int, str] = {}
        self.token = "quiet-token"
        self.tokens_given = 0
        self.has_version_3 = True
        self.is_still = False
        self.orders: dict[str, tuple[list[str], Rows]] = {}
        self.threads_of: dict[int, Rows] = {}
        self.on_page: Callable[[Request], None] = lambda request: None
        self.extra_headers: dict[str, str] = {}

    def allows(self, request: Request) -> bool:
        if request.path == f"{API}/oauth2/token":
            return True
        return request.headers.get("authorization") == f"Bearer {self.token}"

    def respond(self, request: Request) -> Answer:
        if request.path == f"{API}/oauth2/token":
            return self.give_token(parse_qs(request.body))
        is_newer = request.path.startswith("/v3/conversations/") and self.has_version_3
        path = request.path.removeprefix("/v3/" if is_newer else f"{API}/")
        self.on_page(request)
        found = re.fullmatch(r"conversations/(\d+)/threads", path)
        if found:
            rows = self.find_threads(int(found[1]))
            shown = [{k: v for k, v in t.items() if k != "conversationId"} for t in rows]
            return self.page(request, "threads", shown if is_newer else [plain(t) for t in shown])
        if path == "reports/happiness/ratings":
            return self.report(request)
        if path not in KNOWN:
            return Answer({"message": "not found"}, 404)
        since = request.query.get("modifiedSince", "2000-01-01T00:00:00Z")
        if set(request.query) - KNOWN[path] or not INSTANT.fullmatch(since):
            self.violations.append(f"{path} {request.query}")
            return Answer({"message": "Validation error"}, 400)
        is_by_change = request.query.get("sortField", "createdAt") == "modifiedAt"
        if self.is_still and is_by_change and request.query.get("status") in ("all", None):
            return self.page(request, path, self.find_changed(path, since))
        rows = [row for row in self.rows[path] if self.changed_at(row) >= since]
        if path == "conversations" and request.query.get("status", "active") == "active":
            rows = [row for row in rows if row["status"] == "active"]
        rows = sorted(rows, key=self.changed_at if is_by_change else lambda row: row["createdAt"])
        if request.query.get("sortOrder", "desc") != "asc":
            rows.reverse()
        if request.query.get("embed") != "threads" and path == "conversations":
            rows = [{k: v for k, v in row.items() if k != "_embedded"} for row in rows]
        return self.page(request, path, rows)

    def find_threads(self, conversation: int) -> Rows:
        if self.is_still and not self.threads_of:
            for thread in self.rows["threads"]:
                self.threads_of.setdefault(thread["conversationId"], []).append(thread)
        rows = self.threads_of.get(conversation, []) if self.is_still else self.rows["threads"]
        return [thread for thread in rows if thread["conversationId"] == conversation]

    def find_changed(self, path: str, since: str) -> Rows:
        """The rows of a list that changed from a time on, in that order, with their threads."""
        if path not in self.orders:
            rows = sorted(self.rows[path], key=self.changed_at)
            self.orders[path] = ([self.changed_at(row) for row in rows], rows)
        times, rows = self.orders[path]
        return rows[bisect_left(times, since) :]

    def changed_at(self, row: dict[str, Any]) -> str:
        own = row.get("userUpdatedAt") or row.get("updatedAt") or ""
        return max(own, self.changed.get(row["id"], ""))

    def give_token(self, form: dict[str, list[str]]) -> Answer:
        wanted = {
            "grant_type": ["client_credentials"],
            "client_id": ["app"],
            "client_secret": ["quiet-secret"],
        }
        if form != wanted:
            return Answer({"error": "invalid_client", "error_description": "wrong"}, 401)
        self.tokens_given += 1
        self.token = f"token-{self.tokens_given}"
        return Answer({"token_type": "bearer", "access_token": self.token, "expires_in": 172800})

    def page(self, request: Request, name: str, rows: Rows) -> Answer:
        number = int(request.query.get("page", 1))
        begin = (number - 1) * self.page_size
        shown = rows[begin : begin + self.page_size]
        total = -(-len(rows) // self.page_size)
        body: dict[str, Any] = {
            "page": {
                "size": self.page_size,
                "totalElements": len(rows),
                "totalPages": total,
                "number": number,
            },
            "_links": {"self": {"href": f"https://api.helpscout.net{request.path}"}},
        }
        if shown:
            body["_embedded"] = {name: shown}
        if number < total:
            link = f"https://api.helpscout.net{request.path}?page={number + 1}"
            body["_links"]["next"] = {"href": link}
        return Answer(body, headers=dict(self.extra_headers))

    def report(self, request: Request) -> Answer:
        start, end = request.query["start"], request.query["end"]
        if not INSTANT.fullmatch(start) or not INSTANT.fullmatch(end) or start > end:
            return Answer({"message": "Validation error"}, 400)
        rows = [r for r in self.rows["ratings"] if start <= r["ratingCreatedAt"] <= end]
        number = int(request.query.get("page", 1))
        begin = (number - 1) * self.page_size
        pages = -(-len(rows) // self.page_size)
        shown = rows[begin : begin + self.page_size]
        return Answer({"facets": {}, "results": shown, "page": number, "pages": pages})


def plain(thread: dict[str, Any]) -> dict[str, Any]:
    """A thread as version 2 tells it: AI agents are users."""
    author = thread["createdBy"]
    kind = "user" if author["type"] == "system_user" else author["type"]
    return thread | {"createdBy": author | {"type": kind}}

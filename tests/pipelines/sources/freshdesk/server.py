"""Freshdesk on loopback: lists that hide rows, 300 pages at most, parameters read strictly."""

from __future__ import annotations

import base64
import re
from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

API = "/api/v2"
KEY = "quiet-key"
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
LISTS = {
    "groups": set(),
    "companies": set(),
    "agents": set(),
    "contacts": {"_updated_since", "state"},
    "tickets": {"updated_since", "order_by", "order_type", "include", "filter"},
    "surveys/satisfaction_ratings": {"created_since"},
}
Rows = list[dict[str, Any]]
Show = Callable[[dict[str, str], dict[str, Any]], dict[str, Any]]


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


class Freshdesk(VendorServer):
    """``rows`` by list; ``page_cap`` pages at most; ``on_page`` is called before a page is cut."""

    def __init__(self, rows: dict[str, Rows], page_cap: int = 300) -> None:
        super().__init__()
        self.rows = rows
        self.page_cap = page_cap
        self.on_page: Callable[[Request], None] = lambda request: None
        self.has_filters = True
        self.extra_headers: dict[str, str] = {}
        self.is_still = False  # rows change no more: their order is worked out once
        self.kept: dict[tuple[str, ...], Any] = {}

    def allows(self, request: Request) -> bool:
        given = request.headers.get("authorization", "").removeprefix("Basic ")
        return base64.b64decode(given).decode() == f"{KEY}:X"

    def refuse(self, request: Request) -> Answer:
        return Answer({"code": "invalid_credentials", "message": "You have to be logged in"}, 401)

    def respond(self, request: Request) -> Answer:
        path = request.path.removeprefix(API + "/")
        found = re.fullmatch(r"tickets/(\d+)/conversations", path)
        if found:
            rows = self.find_conversations(int(found[1]))
            return Answer(None, 404) if rows is None else self.page(request, rows, set())
        if path not in LISTS or not request.path.startswith(API):
            return Answer({"code": "invalid", "message": "no such path"}, 404)
        self.on_page(request)
        chosen = {"tickets": self.choose_tickets, "contacts": self.choose_contacts}.get(path)
        rows = self.rows[path.rpartition("/")[2]]
        if chosen:
            rows = chosen(request.query, rows)
        if "created_since" in request.query:
            rows = self.choose_created(path, request.query["created_since"], rows)
        show = self.show_ticket if path == "tickets" else None
        return self.page(request, rows, LISTS[path], show)

    def keep(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        """What ``make`` makes; once only if rows change no more."""
        if not self.is_still:
            return make()
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    def find_conversations(self, ticket: int) -> Rows | None:
        """The conversations of a ticket; None if there is no such ticket."""
        by_ticket: dict[int, Rows] = self.keep(("conversations",), self.group_conversations)
        return by_ticket.get(ticket)

    def group_conversations(self) -> dict[int, Rows]:
        found: dict[int, Rows] = {row["id"]: [] for row in self.rows["tickets"]}
        for row in self.rows["conversations"]:
            found.get(row["ticket_id"], []).append(row)
        return found

    def choose_created(self, path: str, since: str, rows: Rows) -> Rows:
        found: Rows = self.keep(
            (path, since), lambda: [row for row in rows if row["created_at"] >= since]
        )
        return found

    def choose_updated(self, key: tuple[str, ...], since: datetime, rows: Rows) -> Rows:
        """The rows that changed from a time on, in that order."""
        times, ordered = self.keep(key, lambda: order_by_change(rows))
        found: Rows = ordered[bisect_left(times, since) :]
        return found

    def choose_tickets(self, query: dict[str, str], rows: Rows) -> Rows:
        hidden = query.get("filter", "") if self.has_filters else ""
        wanted = {"": (), "spam": ("spam",), "deleted": ("deleted",)}[hidden]
        if "updated_since" not in query:
            return []  # all of these are older than 30 days
        shown: Rows = self.keep(
            ("tickets", hidden),
            lambda: [
                row
                for row in rows
                if all(row.get(flag) for flag in wanted)
                and (wanted or not (row.get("spam") or row.get("deleted")))
            ],
        )
        key = ("tickets", hidden, "updated_at")
        shown = self.choose_updated(key, instant(query["updated_since"]), shown)
        order = query.get("order_by", "created_at")
        if order != "updated_at" or not self.is_still:
            shown = sorted(shown, key=lambda row: (row[order], row["id"]))
        if query.get("order_type", "desc") == "desc":
            shown.reverse()
        return shown

    def show_ticket(self, query: dict[str, str], row: dict[str, Any]) -> dict[str, Any]:
        """A ticket with what ``include`` asks for."""
        kept = set(query.get("include", "").split(","))
        fields = {"description": ("description", "description_text")}
        left = [name for name in ("description", "requester", "stats") if name not in kept]
        hidden = {field for name in left for field in fields.get(name, (name,))}
        return {key: value for key, value in row.items() if key not in hidden}

    def choose_contacts(self, query: dict[str, str], rows: Rows) -> Rows:
        is_deleted = query.get("state") == "deleted"
        since = instant(query.get("_updated_since", "2000-01-01T00:00:00Z"))
        chosen: Rows = self.keep(
            ("contacts", str(is_deleted)),
            lambda: [row for row in rows if bool(row.get("deleted")) == is_deleted],
        )
        return self.choose_updated(("contacts", str(is_deleted), "updated_at"), since, chosen)

    def page(
        self, request: Request, rows: Rows, known: set[str], show: Show | None = None
    ) -> Answer:
        query = request.query
        unknown = set(query) - known - {"page", "per_page"}
        size, number = int(query.get("per_page", 30)), int(query.get("page", 1))
        times = [value for name, value in query.items() if name.endswith("_since")]
        if unknown or not 1 <= size <= 100 or not all(INSTANT.fullmatch(text) for text in times):
            self.violations.append(f"{request.path} {query}")
            return Answer({"description": "Validation failed", "errors": sorted(unknown)}, 400)
        if number > self.page_cap:
            self.violations.append(f"page {number}")
            return Answer({"message": "You cannot page further"}, 400)
        begin = (number - 1) * size
        headers = dict(self.extra_headers)
        if begin + size < len(rows):
            rest = "&".join(f"{name}={value}" for name, value in query.items() if name != "page")
            link = f"https://acme.freshdesk.com{request.path}?{rest}&page={number + 1}"
            headers["Link"] = f'<{link}>; rel="next"'
        shown = rows[begin : begin + size]
        return Answer([show(query, row) for row in shown] if show else shown, headers=headers)


def order_by_change(rows: Rows) -> tuple[list[datetime], Rows]:
    """Rows in the order of their change, and the times of it."""
    found = sorted(rows, key=lambda row: (instant(row["updated_at"]), row["id"]))
    return [instant(row["updated_at"]) for row in found], found

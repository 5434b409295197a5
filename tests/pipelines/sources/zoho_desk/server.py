"""Zoho Desk on loopback: tokens that end, searches that show 5,000 rows, empty answers by 204."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.pipelines.sources.vendor_server import (
    Answer,
    Request,
    Rows,
    cut_sorted,
    read_instant,
)
from tests.pipelines.sources.zoho_server import ZohoServer

API = "/api/v1/"
ORG = "777"
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
PAGING = {"from", "limit"}
KNOWN = {
    "departments": PAGING,
    "agents": PAGING | {"status"},
    "teams": set(),
    "customerHappiness": PAGING | {"sortBy", "department"},
    "recycleBin": PAGING | {"sortBy", "module"},
    "tickets/archivedTickets": PAGING | {"departmentId"},
}
SEARCH = PAGING | {"modifiedTimeRange", "sortBy"}
MOST = {"customerHappiness": 50, "History": 50}  # rows of a page, where not 100


class ZohoDesk(ZohoServer):
    """``first``: the number of the first row of a list, which Zoho's pages do not agree on."""

    def __init__(self, rows: dict[str, Any]) -> None:
        super().__init__()
        self.rows = rows
        self.first = 0
        self.most_offset = 4999
        self.on_page: Callable[[Request], None] = lambda request: None
        self.extra_headers: dict[str, str] = {}
        self.scopes = {"history", "metrics", "search", "recycle"}

    def refuse(self, request: Request) -> Answer:
        return Answer({"errorCode": "INVALID_OAUTH", "message": "The token is invalid"}, 401)

    def serve(self, request: Request) -> Answer:
        path = request.path.removeprefix(API)
        if path == "organizations":
            return Answer({"data": self.rows["organizations"]})
        if request.headers.get("orgid") != ORG:
            self.violations.append(f"{request.path}: no orgId")
            return Answer({"errorCode": "UNPROCESSABLE_ENTITY", "message": "orgId"}, 422)
        answer = self.find_one(path, request) or self.list_rows(path, request)
        answer.headers |= self.extra_headers
        return answer

    def find_one(self, path: str, request: Request) -> Answer | None:
        found = re.fullmatch(r"tickets/(\d+)/(conversations|threads/\d+|History|metrics)", path)
        if not found:
            return None
        ticket, what = found.groups()
        if ticket not in self.make("tickets", self.list_tickets):
            return Answer({"errorCode": "RESOURCE_NOT_FOUND", "message": "gone"}, 404)
        said = self.rows["conversations"].get(ticket, [])
        if what == "conversations":
            rows = [{k: v for k, v in row.items() if k != "detail"} for row in said]
            return self.page(rows, request, PAGING)
        if what.startswith("threads/"):
            row = next(row for row in said if row["id"] == what.removeprefix("threads/"))
            detail = dict(row["detail"])
            if request.query.get("include") != "plainText":
                detail.pop("plainText")
            return Answer({k: v for k, v in row.items() if k != "detail"} | detail)
        if what.lower() not in self.scopes:
            return Answer({"errorCode": "FORBIDDEN", "message": "no permission"}, 403)
        if what == "History":
            return self.page(self.rows["history"].get(ticket, []), request, PAGING)
        return Answer(self.rows["metrics"].get(ticket, {"reopenCount": "0"}))

    def list_tickets(self) -> set[str]:
        archived = [row for rows in self.rows["archived"].values() for row in rows]
        return {row["id"] for row in [*self.rows["tickets"], *archived]}

    def list_rows(self, path: str, request: Request) -> Answer:
        self.on_page(request)
        query = request.query
        if path.endswith("/search"):
            if "search" not in self.scopes:
                return Answer({"errorCode": "SCOPE_MISMATCH", "message": "scope"}, 403)
            return self.search(path.removesuffix("/search"), request)
        if path not in KNOWN:
            return Answer({"errorCode": "URL_NOT_FOUND", "message": "no such path"}, 404)
        if path == "teams":
            return Answer({"teams": self.rows["teams"]})
        if path == "agents":
            rows = [row for row in self.rows["agents"] if row["status"] == query["status"]]
        elif path == "recycleBin":
            if "recycle" not in self.scopes:
                return Answer({"errorCode": "FORBIDDEN", "message": "no permission"}, 403)
            rows = self.rows["deleted"][query["module"]]
            rows = self.newest_first(f"deleted {query['module']}", rows, query, "deletedTime")
        elif path == "customerHappiness":
            if query.get("department") != "allDepartment":
                self.violations.append(f"{request.path} {query}")
                return Answer({"errorCode": "UNPROCESSABLE_ENTITY", "message": "department"}, 422)
            rows = self.newest_first(path, self.rows["happiness"], query, "ratedTime")
        elif path == "tickets/archivedTickets":
            rows = self.rows["archived"].get(query["departmentId"], [])
        else:
            rows = self.rows[path]
        return self.page(rows, request, KNOWN[path])

    def newest_first(self, name: str, rows: Rows, query: dict[str, str], time: str) -> Rows:
        assert query["sortBy"] == f"-{time}"
        pairs = self.sort(name, rows, lambda row: (row[time], row["id"]))
        return self.make(("newest", name), lambda: [row for _, row in reversed(pairs)])

    def search(self, name: str, request: Request) -> Answer:
        begin, end = request.query["modifiedTimeRange"].split(",")
        if not all(INSTANT.fullmatch(text) for text in (begin, end)):
            self.violations.append(f"modifiedTimeRange {begin},{end}")
        pairs = self.sort(
            name, self.rows[name], lambda row: (read_instant(row["modifiedTime"]), row["id"])
        )

        def cut(offset: int, limit: int) -> tuple[Rows, int]:
            return cut_sorted(pairs, (read_instant(begin), ""), offset, limit)

        return self.answer_page(request, SEARCH, cut)

    def page(self, rows: Rows, request: Request, known: set[str]) -> Answer:
        return self.answer_page(
            request, known, lambda at, limit: (rows[at : at + limit], len(rows))
        )

    def answer_page(
        self, request: Request, known: set[str], cut: Callable[[int, int], tuple[Rows, int]]
    ) -> Answer:
        query = request.query
        offset, limit = int(query.get("from", self.first)), int(query.get("limit", 10))
        unknown = set(query) - known
        most = MOST.get(request.path.rpartition("/")[2], 100)
        if unknown or not 1 <= limit <= most or not 0 <= offset <= self.most_offset:
            self.violations.append(f"{request.path} {query}")
            return Answer({"errorCode": "UNPROCESSABLE_ENTITY", "message": "Extra query"}, 422)
        found, count = cut(max(offset - self.first, 0), limit)
        return Answer({"data": found, "count": count}) if found else Answer(None, 204)

"""Zoho CRM on loopback: fields must be named, 2,000 rows by page number, tokens beyond."""

from __future__ import annotations

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

API = "/crm/v8/"
MODULES = ("Accounts", "Contacts", "Leads", "Cases", "Notes", "Sales_Orders", "Deals")
KNOWN = {"fields", "sort_by", "sort_order", "per_page", "page", "page_token", "approved",
         "converted"}  # fmt: skip
TIMELINE_PAGE = 25


class ZohoCrm(ZohoServer):
    """``lacks``: module → answer instead; ``on_page`` is called before a page is cut."""

    def __init__(self, rows: dict[str, Any]) -> None:
        super().__init__()
        self.rows = rows
        self.lacks: dict[str, Answer] = {}
        self.on_page: Callable[[Request], None] = lambda request: None
        self.extra_headers: dict[str, str] = {}
        self.has_settings = True
        self.has_timeline_tokens = True
        self.page_tokens: dict[str, tuple[str, int]] = {}

    def refuse(self, request: Request) -> Answer:
        return Answer({"code": "INVALID_TOKEN", "message": "invalid oauth token"}, 401)

    def serve(self, request: Request) -> Answer:
        path = request.path.removeprefix(API)
        name, _, rest = path.partition("/")
        if name in self.lacks:
            return self.lacks[name]
        if path == "users":
            return self.number_pages(self.rows["users"], request, "users")
        if path == "settings/fields":
            return self.list_fields(request.query["module"])
        if name not in MODULES or not request.path.startswith(API):
            self.violations.append(request.path)
            return Answer({"code": "INVALID_URL_PATTERN"}, 404)
        if rest == "actions/count":
            return Answer({"count": len(self.rows[name])})
        if rest == "deleted":
            return self.list_deleted(name, request)
        if rest:
            return self.find_timeline(rest.partition("/")[0], request)
        self.on_page(request)
        answer = self.list_records(name, request)
        answer.headers |= self.extra_headers
        return answer

    def list_fields(self, module: str) -> Answer:
        if not self.has_settings:
            return Answer({"code": "OAUTH_SCOPE_MISMATCH"}, 401)
        rows = self.rows[module]
        names = {key for row in rows for key in row if not key.startswith("$")} - {"id"}
        return Answer({"fields": [{"api_name": name} for name in sorted(names)]})

    def list_deleted(self, name: str, request: Request) -> Answer:
        since = request.headers.get("if-modified-since")
        rows = [
            row
            for row in self.rows["deleted"].get(name, [])
            if since is None or read_instant(row["deleted_time"]) >= read_instant(since)
        ]
        if not rows:
            return Answer(None, 304)
        return self.number_pages(rows, request, "data")

    def number_pages(self, rows: Rows, request: Request, key: str) -> Answer:
        size, number = int(request.query["per_page"]), int(request.query["page"])
        begin = (number - 1) * size
        found = rows[begin : begin + size]
        info = {"page": number, "per_page": size, "more_records": begin + size < len(rows)}
        return Answer({key: found, "info": info}) if found else Answer(None, 204)

    def find_timeline(self, case: str, request: Request) -> Answer:
        """Pages of the size that Zoho chooses: by token, or by number where it gives none."""
        query = request.query
        if set(query) not in (set(), {"page_token"}, {"page"}):
            self.violations.append(f"timeline {query}")
        if case not in self.make("cases", lambda: {row["id"] for row in self.rows["Cases"]}):
            return Answer({"code": "INVALID_DATA", "message": "no such id"}, 400)
        rows = self.rows["timeline"].get(case, [])
        number = int(query.get("page", 1))
        begin = int(query.get("page_token", (number - 1) * TIMELINE_PAGE))
        end = begin + TIMELINE_PAGE
        following = str(end) if end < len(rows) and self.has_timeline_tokens else None
        info = {"next_page_token": following, "more_records": end < len(rows), "page": number}
        found = rows[begin:end]
        return Answer({"__timeline": found, "info": info}) if found else Answer(None, 204)

    def list_records(self, name: str, request: Request) -> Answer:
        query = request.query
        fields = query.get("fields", "").split(",")
        if not fields[0] or len(fields) > 50 or set(query) - KNOWN or "page" in query:
            self.violations.append(f"{request.path} {query}")
            return Answer({"code": "REQUIRED_PARAM_MISSING", "message": "fields"}, 400)
        rows = self.rows[name]
        if name == "Leads" and query.get("converted", "false") == "false":
            rows = [row for row in rows if not row.get("$converted")]
        assert (query["sort_by"], query["sort_order"]) == ("Modified_Time", "asc")
        pairs = self.sort(
            f"{name} {query.get('converted')}",
            rows,
            lambda row: (read_instant(row["Modified_Time"]), row["id"]),
        )
        since = (read_instant(request.headers["if-modified-since"]), "")
        begin, size = 0, int(query.get("per_page", 200))
        if "page_token" in query:
            if query["page_token"] not in self.page_tokens:
                return Answer({"code": "INVALID_DATA", "message": "page_token"}, 400)
            begin = self.page_tokens[query["page_token"]][1]
        found, count = cut_sorted(pairs, since, begin, size)
        following = None
        if begin + size < count:
            following = f"{name}-{len(self.page_tokens)}"
            self.page_tokens[following] = (name, begin + size)
        shown = {"id", *fields}
        data = [
            {key: value for key, value in row.items() if key in shown or key.startswith("$")}
            for row in found
        ]
        info = {"per_page": size, "more_records": bool(following), "next_page_token": following}
        return Answer({"data": data, "info": info}) if data else Answer(None, 304)

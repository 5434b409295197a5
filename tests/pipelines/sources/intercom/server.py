"""Intercom on loopback: searches by second or day, 150 a page, parts only in single reads.

Companies come by one scroll at a time, deleted conversations by pages of 60 that are counted.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.pipelines.sources.vendor_server import (
    Answer,
    Request,
    Rows,
    VendorServer,
    cut_sorted,
)

TOKEN = "quiet-token"
KEYS = {"contacts": "data", "conversations": "conversations", "tickets": "tickets"}
DAY = 86_400
SCROLLED = 2
MOST_DELETED = 60


class Intercom(VendorServer):
    """``rows`` by stream; ``on_page`` is called before a page of a search is cut."""

    def __init__(self, rows: dict[str, Rows]) -> None:
        super().__init__()
        self.rows = rows
        self.on_page: Callable[[Request], None] = lambda request: None
        self.extra_headers: dict[str, str] = {}
        self.deleted: Rows = []
        self.scrolls: dict[str, int] = {}  # how far each open one is
        self.forgets_scroll = False  # once, after the first page
        self.forgets_cursors = 0  # so many pages that are asked for by a cursor

    def allows(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {TOKEN}"

    def refuse(self, request: Request) -> Answer:
        return Answer({"type": "error.list", "errors": [{"code": "unauthorized"}]}, 401)

    def respond(self, request: Request) -> Answer:
        if request.headers.get("intercom-version") != "2.16":
            self.violations.append(f"{request.path}: version")
        name, _, rest = request.path.strip("/").partition("/")
        if request.path == "/me":
            return Answer({"type": "admin", "id": "71", "app": {"name": "Lumen"}})
        if request.method == "GET" and name in ("admins", "teams") and not rest:
            return Answer({"type": f"{name[:-1]}.list", name: self.rows[name]})
        if request.method == "POST" and name in KEYS and rest == "search":
            return self.search(request, name)
        if request.method == "GET" and request.path == "/companies/scroll":
            return self.scroll(request)
        if request.method == "GET" and request.path == "/conversations/deleted":
            return self.list_deleted(request)
        found = self.group(name, self.rows.get(name, []), "id").get(rest)
        if request.method == "GET" and name in ("conversations", "tickets") and found:
            return Answer(found[0], headers=self.extra_headers)
        return Answer({"type": "error.list", "errors": [{"code": "not_found"}]}, 404)

    def scroll(self, request: Request) -> Answer:
        given = request.query.get("scroll_param")
        if given is not None and self.forgets_scroll:
            self.forgets_scroll = False
            self.scrolls.clear()
        if given is None and self.scrolls:
            return Answer({"type": "error.list", "errors": [{"code": "scroll_exists"}]}, 400)
        if given is not None and given not in self.scrolls:
            return Answer({"type": "error.list", "errors": [{"code": "not_found"}]}, 404)
        key = given or f"scroll-{len(self.requests)}"
        begin = self.scrolls.get(key, 0)
        self.scrolls[key] = begin + SCROLLED
        shown = self.rows["companies"][begin : begin + SCROLLED]
        if not shown:
            del self.scrolls[key]
        return Answer({"type": "list", "data": shown, "pages": None, "scroll_param": key})

    def list_deleted(self, request: Request) -> Answer:
        self.on_page(request)
        page, size = int(request.query["page"]), int(request.query["per_page"])
        if request.query["order"] != "desc" or not 1 <= size <= MOST_DELETED:
            self.violations.append(f"{request.path}: {request.query}")
        rows = sorted(self.deleted, key=lambda row: -row["deleted_at"])
        end = page * size
        link = f"{self.url}{request.path}?per_page={size}&order=desc&page={page + 1}"
        pages = {"type": "pages", "page": page, "next": link if end < len(rows) else None}
        shown = rows[end - size : end]
        return Answer({"type": "conversations.list", "conversations": shown, "pages": pages})

    def search(self, request: Request, name: str) -> Answer:
        self.on_page(request)
        [wanted] = request.body["query"]["value"]
        paging, sort = request.body["pagination"], request.body["sort"]
        if (
            wanted["field"] != "updated_at"
            or wanted["operator"] != ">"
            or type(wanted["value"]) is not int
            or not 1 <= paging["per_page"] <= 150
            or sort != {"field": "updated_at", "order": "ascending"}
        ):
            self.violations.append(f"{request.path}: {request.body}")
            return Answer({"type": "error.list", "errors": [{"code": "parameter_invalid"}]}, 400)
        if "starting_after" in paging and self.forgets_cursors:
            self.forgets_cursors -= 1
            told = {"code": "parameter_invalid", "message": "starting_after is not valid"}
            return Answer({"type": "error.list", "errors": [told]}, 400)
        unit = DAY if name == "contacts" else 1
        pairs = self.sort(name, self.rows[name], lambda row: (row["updated_at"], row["id"]))
        least = ((wanted["value"] // unit + 1) * unit, "")
        begin, size = int(paging.get("starting_after", 0)), paging["per_page"]
        rows, count = cut_sorted(pairs, least, begin, size)
        end = begin + size
        following = {"page": end // size + 1, "starting_after": str(end)}
        pages = {"type": "pages", "next": following if end < count else None}
        hidden = {"conversation_parts"}
        if request.query.get("include_merge_history") != "true":
            hidden.add("merge_history")
        shown = [{key: value for key, value in row.items() if key not in hidden} for row in rows]
        body = {"type": "list", "total_count": count, "pages": pages, KEYS[name]: shown}
        return Answer(body, headers=self.extra_headers)

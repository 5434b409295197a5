"""An ERP of our own invention on loopback that pages in every way there is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

SIZE = 2


class Erp(VendorServer):
    """``/staff/<way>`` pages in that way; ``/sales`` by change, with notes below each."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__()
        self.data = data
        self.key = ("authorization", "Bearer quiet")
        self.link_host = self.url
        self.is_falling = False
        self.before_page: Callable[[int], None] = lambda page: None
        self.ways: dict[str, Callable[[Request], Answer]] = {
            "one": lambda request: Answer(self.data["members"]),
            "link_header": self.by_header,
            "json_link": self.by_link,
            "cursor": self.by_cursor,
            "offset": self.by_offset,
            "page_number": self.by_page,
            "post": self.by_body,
            "nothing": lambda request: Answer(None, 204),
        }

    def allows(self, request: Request) -> bool:
        name, value = self.key
        return request.path == "/token" or value in (
            request.headers.get(name.lower()), request.query.get(name),
        )  # fmt: skip

    def respond(self, request: Request) -> Answer:
        parts = request.path.strip("/").split("/")
        if parts[0] == "token":
            form = parse_qs(request.body)
            assert form["scope"] == ["read"]
            return Answer({"access_token": "fetched", "expires_in": 60})
        if parts[0] == "staff":
            return self.ways[parts[1]](request)
        if parts[0] == "departments":
            return Answer(self.data["departments"])
        if len(parts) == 3:
            return Answer({"notes": self.data["notes"][parts[1]]})
        return self.sales(request)

    def sales(self, request: Request) -> Answer:
        since = request.query.get("since")
        page = int(request.query.get("page", "1"))
        self.before_page(page)
        rows = sorted(self.data["sales"], key=lambda row: row["modified"], reverse=self.is_falling)
        if since:
            first = datetime.fromisoformat(since)
            rows = [row for row in rows if datetime.fromisoformat(row["modified"]) >= first]
        return Answer({"result": {"rows": rows[(page - 1) * SIZE : page * SIZE]}})

    def cut(self, start: int) -> list[Any]:
        found: list[Any] = self.data["members"][start : start + SIZE]
        return found

    def by_header(self, request: Request) -> Answer:
        at = int(request.query.get("at", "0"))
        link = f'<{self.link_host}{request.path}?at={at + SIZE}>; rel="next"'
        is_end = at + SIZE >= len(self.data["members"])
        return Answer(self.cut(at), headers={} if is_end else {"Link": link})

    def by_link(self, request: Request) -> Answer:
        at = int(request.query.get("at", "0"))
        is_end = at + SIZE >= len(self.data["members"])
        link = None if is_end else f"{self.link_host}{request.path}?at={at + SIZE}"
        return Answer({"data": self.cut(at), "paging": {"next": link}})

    def by_cursor(self, request: Request) -> Answer:
        at = int(request.query.get("after", "0"))
        is_end = at + SIZE >= len(self.data["members"])
        return Answer({"data": self.cut(at), "next": None if is_end else str(at + SIZE)})

    def by_offset(self, request: Request) -> Answer:
        assert request.query["count"] == str(SIZE)
        total = len(self.data["members"])
        return Answer({"data": self.cut(int(request.query["from"])), "total": total})

    def by_page(self, request: Request) -> Answer:
        return Answer({"data": self.cut((int(request.query["p"]) - 1) * SIZE)})

    def by_body(self, request: Request) -> Answer:
        assert request.method == "POST"
        since = request.body["filter"]["changed_from"]
        rows = [row for row in self.data["members"] if row["changed"] >= since]
        return Answer({"data": rows})

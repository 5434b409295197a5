"""GitHub's REST API on loopback, for one repository."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

TOKEN = "quiet-token"
REPOSITORY = "acme/kettle"
Rows = list[dict[str, Any]]


class GitHub(VendorServer):
    """Lists by pages of ``size``, with links, ETags, and the budget in every answer."""

    def __init__(self, data: dict[str, Rows]) -> None:
        super().__init__()
        self.data = data
        self.size = 2
        self.has_issues = True
        self.on_page: Callable[[Request], None] = lambda request: None

    def allows(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {TOKEN}"

    def refuse(self, request: Request) -> Answer:
        return Answer({"message": "Bad credentials"}, 401)

    def respond(self, request: Request) -> Answer:
        base, _, rest = request.path.partition(f"/repos/{REPOSITORY}/issues")
        if base or REPOSITORY not in request.path:
            return Answer({"message": "Not Found"}, 404)
        if not self.has_issues:
            return Answer({"message": "Issues are disabled for this repo"}, 410)
        query, page = request.query, int(request.query.get("page", "1"))
        if query["per_page"] == "1":
            return Answer(self.data["issues"][:1])
        self.on_page(request)
        rows = self.list_rows(rest.strip("/") or "issues", query)
        shown = rows[(page - 1) * self.size : page * self.size]
        tag = f'W/"{hashlib.sha256(json.dumps(shown).encode()).hexdigest()}"'
        headers = {"ETag": tag, "x-ratelimit-remaining": "4000", "x-ratelimit-reset": "4102444800"}
        if request.headers.get("if-none-match") == tag:
            return Answer(None, 304, headers)
        if len(rows) > page * self.size:
            kept = "&".join(f"{k}={v}" for k, v in query.items() if k != "page")
            address = f"https://api.github.com{request.path}?{kept}&page={page + 1}"
            headers["Link"] = f'<{address}>; rel="next"'
        return Answer(shown, headers=headers)

    def list_rows(self, name: str, query: dict[str, str]) -> Rows:
        """What is asked for, in its order."""
        rows = list(self.data[name])
        if name == "events":
            return sorted(rows, key=lambda row: -row["id"])
        assert (query["sort"], query["direction"]) == ("updated", "asc")
        if name == "issues" and query.get("state") != "all":
            rows = [row for row in rows if row["state"] == "open"]
        rows = [row for row in rows if row["updated_at"] >= query.get("since", "")]
        return sorted(rows, key=lambda row: row["updated_at"])

"""Typeform on loopback: sorting, tokens and response types as documented, strict about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

PAYLOADS = Path(__file__).parent / "payloads"
TOKEN = "tfp_right"
RESPONSE_QUERY = {"page_size", "since", "until", "sort", "after", "before", "response_type"}


def read_payload(name: str) -> Any:
    return json.loads((PAYLOADS / name).read_text(encoding="utf-8"))


def refusal(code: str, status: int) -> Answer:
    return Answer({"code": code, "description": code.lower()}, status)


class Typeform(VendorServer):
    """``most``: how many items a page holds at most, whatever is asked for."""

    def __init__(self, most: int = 2) -> None:
        super().__init__()
        self.most = most
        self.forms: dict[str, Any] = {"Fm1": read_payload("form.json")}
        self.responses: dict[str, list[Any]] = {"Fm1": read_payload("responses.json")}
        self.partial: dict[str, list[Any]] = {}
        self.before_page: Callable[[Request], None] = lambda request: None

    def allows(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {TOKEN}"

    def refuse(self, request: Request) -> Answer:
        return refusal("AUTHENTICATION_FAILED", 401)

    def respond(self, request: Request) -> Answer:
        parts = request.path.strip("/").split("/")
        if parts == ["forms"]:
            return self.list_forms(request.query)
        if parts[0] != "forms" or parts[1] not in self.forms:
            return refusal("FORM_NOT_FOUND", 404)
        if len(parts) == 2:
            return Answer(self.forms[parts[1]])
        if parts[2:] != ["responses"]:
            return refusal("NOT_FOUND", 404)
        self.before_page(request)
        return self.list_responses(parts[1], request.query)

    def list_forms(self, query: dict[str, str]) -> Answer:
        size, page = int(query["page_size"]), int(query["page"])
        if size > 200:
            return refusal("VALIDATION_ERROR", 400)
        size = min(size, self.most)
        rows = [
            {"id": form["id"], "title": form["title"], "last_updated_at": form["last_updated_at"]}
            for form in self.forms.values()
        ]
        pages = -(-len(rows) // size)
        found = rows[(page - 1) * size : page * size]
        return Answer({"total_items": len(rows), "page_count": pages, "items": found})

    def list_responses(self, form: str, query: dict[str, str]) -> Answer:
        by_token = "after" in query or "before" in query
        if set(query) - RESPONSE_QUERY or ("sort" in query and by_token):
            return refusal("VALIDATION_ERROR", 400)
        if int(query["page_size"]) > 1000:
            return refusal("VALIDATION_ERROR", 400)
        rows: list[Any] = []
        for kind in query.get("response_type", "completed").split(","):
            rows += {"completed": self.responses, "partial": self.partial}[kind].get(form, [])
        if "since" in query:
            rows = [row for row in rows if self.time_of(row) >= query["since"]]
        rows = sorted(rows, key=self.time_of)
        tokens = [row["token"] for row in rows]
        if any(query[name] not in tokens for name in ("after", "before") if name in query):
            return refusal("VALIDATION_ERROR", 400)
        if "after" in query:
            rows = rows[tokens.index(query["after"]) + 1 :]
        elif query.get("sort") != "submitted_at,asc":
            rows = rows[::-1]
            if "before" in query:
                rows = rows[[row["token"] for row in rows].index(query["before"]) + 1 :]
        size = min(int(query["page_size"]), self.most)
        pages = -(-len(rows) // size)
        return Answer({"total_items": len(rows), "page_count": pages, "items": rows[:size]})

    @staticmethod
    def time_of(row: dict[str, Any]) -> str:
        return str(row.get("submitted_at") or row["landed_at"]).rstrip("Z")

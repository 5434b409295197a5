"""Brevo on loopback: offsets in the order of creation, inclusive filters, budgets in headers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

PAYLOADS = Path(__file__).parent / "payloads"
KEY = "xkeysib-right"


def read_payload(name: str) -> Any:
    return json.loads((PAYLOADS / name).read_text(encoding="utf-8"))


def refusal(status: int, code: str) -> Answer:
    return Answer({"code": code, "message": code}, status)


class Brevo(VendorServer):
    """Contacts in the order of their creation; ``written``: what was sent to be kept."""

    def __init__(self) -> None:
        super().__init__()
        self.contacts: list[Any] = read_payload("contacts.json")
        self.notes: list[Any] = read_payload("notes.json")
        self.written: list[tuple[str, Any]] = []
        self.before_page: Callable[[int], None] = lambda offset: None
        self.left, self.reset = 100, 1

    def allows(self, request: Request) -> bool:
        return request.headers.get("api-key") == KEY

    def refuse(self, request: Request) -> Answer:
        return refusal(401, "unauthorized")

    def respond(self, request: Request) -> Answer:
        answer = self.answer(request)
        self.left -= 1
        answer.headers |= {
            "x-sib-ratelimit-limit": "100",
            "x-sib-ratelimit-remaining": str(self.left),
            "x-sib-ratelimit-reset": str(self.reset),
        }
        return answer

    def answer(self, request: Request) -> Answer:
        if request.method == "POST":
            if request.path != "/v3/contacts" and not re.fullmatch(
                r"/v3/contacts/lists/\d+/contacts/add", request.path
            ):
                return refusal(404, "not_found")
            self.written.append((request.path, request.body))
            return Answer({"id": 99}, 201)
        if request.path == "/v3/contacts":
            return self.list_contacts(request.query)
        if request.path == "/v3/crm/notes":
            since = int(request.query.get("dateFrom", 0)) / 1000
            rows = [r for r in self.notes if self.seconds(r["updatedAt"]) >= since]
            return Answer(rows) if rows else refusal(400, "document_not_found")
        return refusal(404, "not_found")

    def list_contacts(self, query: dict[str, str]) -> Answer:
        limit, offset = int(query["limit"]), int(query["offset"])
        if limit > 1000 or set(query) - {"limit", "offset", "modifiedSince", "sort"}:
            return refusal(400, "invalid_parameter")
        self.before_page(offset)
        rows = self.contacts
        if "modifiedSince" in query:
            since = self.seconds(query["modifiedSince"])
            rows = [row for row in rows if self.seconds(row["modifiedAt"]) >= since]
        if query.get("sort") != "asc":
            rows = rows[::-1]
        return Answer({"contacts": rows[offset : offset + limit], "count": len(rows)})

    @staticmethod
    def seconds(text: str) -> float:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()

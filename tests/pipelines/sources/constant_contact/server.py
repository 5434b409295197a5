"""Constant Contact on loopback: cursors in relative links, deleted contacts only if asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

PAYLOADS = Path(__file__).parent / "payloads"
TOKEN = "cc-right"
KNOWN = {"status", "limit", "include", "updated_after", "updated_before", "cursor"}


def read_payload(name: str) -> Any:
    return json.loads((PAYLOADS / name).read_text(encoding="utf-8"))


def refusal(status: int, key: str) -> Answer:
    return Answer({"error_key": key, "error_message": key}, status)


class ConstantContact(VendorServer):
    """Pages hold ``most`` contacts; cursors of an older ``generation`` have expired."""

    def __init__(self, most: int = 2) -> None:
        super().__init__()
        self.most = most
        self.contacts: list[Any] = read_payload("contacts.json")
        self.written: list[tuple[str, Any]] = []
        self.generation = 0
        self.before_page: Callable[[int], None] = lambda place: None

    def allows(self, request: Request) -> bool:
        if request.path == "/oauth2/default/v1/token":
            return parse_qs(str(request.body)).get("refresh_token") == ["r-1"]
        return request.headers.get("authorization") == f"Bearer {TOKEN}"

    def refuse(self, request: Request) -> Answer:
        return refusal(401, "unauthorized")

    def respond(self, request: Request) -> Answer:
        if request.path == "/oauth2/default/v1/token":
            return Answer({"access_token": TOKEN, "expires_in": 86400})
        if request.path == "/v3/contacts/sign_up_form" and request.method == "POST":
            self.written.append((request.path, request.body))
            return Answer({"contact_id": "c-1", "action": "updated"})
        if request.path == "/v3/activities/add_list_memberships" and request.method == "POST":
            self.written.append((request.path, request.body))
            return Answer({"activity_id": "act-1"}, 201)
        if request.path != "/v3/contacts" or set(request.query) - KNOWN:
            return refusal(404, "not_found")
        return self.list_contacts(request.query)

    def list_contacts(self, query: dict[str, str]) -> Answer:
        place, since, status = 0, query.get("updated_after", ""), query.get("status", "")
        if "cursor" in query:
            generation, at, since, status = query["cursor"].split("*")
            place = int(at)
            if int(generation) != self.generation:
                return refusal(400, "invalid_cursor")
        elif int(query.get("limit", 50)) > 500:
            return refusal(400, "invalid_limit")
        self.before_page(place)
        rows = [
            row
            for row in self.contacts
            if row["updated_at"] > since and (status == "all" or "deleted_at" not in row)
        ]
        body: dict[str, Any] = {"contacts": rows[place : place + self.most]}
        if place + self.most < len(rows):
            cursor = f"{self.generation}*{place + self.most}*{since}*{status}"
            body["_links"] = {"next": {"href": f"/v3/contacts?cursor={cursor}"}}
        return Answer(body)

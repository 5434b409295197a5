"""Mailchimp on loopback: exclusive bounds, archived members hidden, refusals that are no JSON."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

PAYLOADS = Path(__file__).parent / "payloads"
KEY = "right-us21"
MEMBER_QUERY = {"count", "offset", "since_last_changed", "sort_field", "sort_dir", "status"}


def read_payload(name: str) -> Any:
    return json.loads((PAYLOADS / name).read_text(encoding="utf-8"))


def problem(status: int, title: str) -> Answer:
    body = {"type": "about:blank", "title": title, "status": status, "detail": "", "instance": "x"}
    return Answer(body, status, {"Content-Type": "application/problem+json; charset=utf-8"})


class Mailchimp(VendorServer):
    """One audience, L1, with one survey, S1. ``surveys``: the answer if there are none to read."""

    def __init__(self) -> None:
        super().__init__()
        self.members: list[Any] = read_payload("members.json")
        self.survey: dict[str, Any] = read_payload("survey.json")
        self.no_surveys: Answer | None = None
        self.written: list[tuple[str, str, Any]] = []
        self.before_page: Callable[[int], None] = lambda offset: None

    def allows(self, request: Request) -> bool:
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        return scheme == "Basic" and base64.b64decode(sent).decode().partition(":")[2] == KEY

    def refuse(self, request: Request) -> Answer:
        return problem(401, "API Key Invalid")

    def respond(self, request: Request) -> Answer:
        path = request.path.removeprefix("/3.0/")
        if request.method != "GET":
            if not re.fullmatch(r"lists/L1/members/[0-9a-f]{32}(/tags)?", path):
                return problem(404, "Resource Not Found")
            self.written.append((request.method, path, request.body))
            return Answer({}) if request.method == "PUT" else Answer(None, 204)
        if path == "lists":
            return self.page(request, "lists", [{"id": "L1", "name": "News"}])
        if path == "lists/L1/members":
            return self.list_members(request)
        if path == "lists/L1/surveys":
            return self.no_surveys or self.page(request, "surveys", [{"id": "S1", "title": "x"}])
        if path == "reporting/surveys/S1/questions":
            return self.page(request, "questions", self.survey["questions"])
        found = re.fullmatch(r"reporting/surveys/S1/questions/(\w+)/answers", path)
        if found:
            return self.page(request, "answers", self.survey["answers"][found.group(1)])
        return problem(404, "Resource Not Found")

    def list_members(self, request: Request) -> Answer:
        if set(request.query) - MEMBER_QUERY:
            return problem(400, "Invalid Resource")
        self.before_page(int(request.query["offset"]))
        wanted, since = request.query.get("status"), request.query.get("since_last_changed", "")
        rows = [
            row
            for row in self.members
            if row["last_changed"] > since
            and (row["status"] == wanted if wanted else row["status"] != "archived")
        ]
        if request.query.get("sort_field") == "last_changed":
            rows.sort(key=lambda row: row["last_changed"])
        return self.page(request, "members", rows)

    def page(self, request: Request, name: str, rows: list[Any]) -> Answer:
        count, offset = int(request.query["count"]), int(request.query["offset"])
        return Answer({name: rows[offset : offset + count], "total_items": len(rows)})

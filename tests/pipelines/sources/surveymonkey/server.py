"""SurveyMonkey on loopback: pages of at most 100, filters without offset, budgets in headers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

PAYLOADS = Path(__file__).parent / "payloads"
TOKEN = "sm-right"
BULK_QUERY = {"per_page", "page", "start_modified_at", "sort_by", "sort_order"}
LIST_QUERY = {"per_page", "page", "include"}


def read_payload(name: str) -> Any:
    return json.loads((PAYLOADS / name).read_text(encoding="utf-8"))


def refusal(status: int, code: str, name: str) -> Answer:
    return Answer(
        {"error": {"id": code, "name": name, "message": "", "http_status_code": status}}, status
    )


class SurveyMonkey(VendorServer):
    """``day_left``: requests left today. ``sorts``: whether responses can be sorted."""

    def __init__(self, most: int = 2) -> None:
        super().__init__()
        self.most = most
        self.day_left = 500
        self.sorts = True
        self.details: dict[str, Any] = {"900": read_payload("details.json")}
        self.responses: dict[str, list[Any]] = {"900": read_payload("responses.json")}
        self.before_page: Callable[[Request], None] = lambda request: None

    def allows(self, request: Request) -> bool:
        return request.headers.get("authorization", "").lower() == f"bearer {TOKEN}"

    def refuse(self, request: Request) -> Answer:
        return refusal(401, "1011", "Authorization Error")

    def respond(self, request: Request) -> Answer:
        if self.day_left <= 0:
            self.violations.append("a request after the day's last")
            answer = refusal(429, "1040", "Rate limit reached")
        else:
            self.day_left -= 1
            answer = self.answer(request)
        answer.headers |= {
            "X-Ratelimit-App-Global-Day-Limit": "500",
            "X-Ratelimit-App-Global-Day-Remaining": str(self.day_left),
            "X-Ratelimit-App-Global-Day-Reset": "43200",
            "X-Ratelimit-App-Global-Minute-Limit": "120",
            "X-Ratelimit-App-Global-Minute-Remaining": "100",
            "X-Ratelimit-App-Global-Minute-Reset": "30",
        }
        return answer

    def answer(self, request: Request) -> Answer:
        path = request.path
        if path == "/v3/surveys":
            if set(request.query) - LIST_QUERY:
                return refusal(400, "1000", "Bad Request")
            rows = [
                {
                    "id": survey,
                    "title": about["title"],
                    "date_modified": about["date_modified"],
                    "response_count": len(self.responses.get(survey, [])),
                }
                for survey, about in self.details.items()
            ]
            return self.page(request, rows, 1000)
        found = re.fullmatch(r"/v3/surveys/(\w+)/(details|responses/bulk)", path)
        if not found or found.group(1) not in self.details:
            return refusal(404, "1020", "Resource Not Found")
        if found.group(2) == "details":
            return Answer(self.details[found.group(1)])
        self.before_page(request)
        return self.list_responses(found.group(1), request)

    def list_responses(self, survey: str, request: Request) -> Answer:
        since = request.query.get("start_modified_at", "")
        has_form = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", since) or not since
        if set(request.query) - BULK_QUERY or not has_form:
            return refusal(400, "1000", "Bad Request")
        rows = [row for row in self.responses.get(survey, []) if row["date_modified"] > since]
        if self.sorts:
            rows.sort(key=lambda row: row["date_modified"])
        return self.page(request, rows, 100)

    def page(self, request: Request, rows: list[Any], most: int) -> Answer:
        size, page = int(request.query["per_page"]), int(request.query.get("page", 1))
        if size > most:
            return refusal(400, "1000", "Bad Request")
        size = min(size, self.most)
        links = {"self": request.path}
        if page * size < len(rows):
            links["next"] = f"{request.path}?page={page + 1}"
        found = rows[(page - 1) * size : page * size]
        body = {"data": found, "per_page": size, "page": page, "total": len(rows), "links": links}
        return Answer(body)

"""Salesforce on loopback: SOQL of one object, cursors that expire, tokens that end."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

BASE = "/services/data/v62.0"
QUERY = re.compile(
    r"SELECT (?P<fields>[\w, ]+) FROM (?P<name>\w+)"
    r"(?: WHERE (?P<cursor>\w+) >= (?P<since>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z))?"
    r" ORDER BY (?P<order>\w+) ASC, Id ASC"
)
MOST_URL_BYTES = 16_384


def fault(code: str, message: str, status: int = 400) -> Answer:
    return Answer([{"message": message, "errorCode": code}], status)


class Salesforce(VendorServer):
    """``objects``: rows by object and id. A query's rows are those of the moment it was made."""

    def __init__(self, objects: dict[str, list[dict[str, Any]]], page_size: int = 2) -> None:
        super().__init__()
        self.objects = {name: {row["Id"]: row for row in rows} for name, rows in objects.items()}
        self.fields = {name: {key for row in rows for key in row} for name, rows in objects.items()}
        self.page_size = page_size
        self.locators: dict[str, list[dict[str, Any]]] = {}
        self.token = "00Dxx!secret"
        self.tokens_given = 0
        self.usage = ""
        self.has_describe = True

    def allows(self, request: Request) -> bool:
        if request.path == "/services/oauth2/token":
            return True
        return request.headers.get("authorization") == f"Bearer {self.token}"

    def refuse(self, request: Request) -> Answer:
        return fault("INVALID_SESSION_ID", "Session expired or invalid", 401)

    def respond(self, request: Request) -> Answer:
        if request.path == "/services/oauth2/token":
            return self.give_token(parse_qs(request.body))
        answer = self.answer(request)
        if self.usage:
            answer.headers["Sforce-Limit-Info"] = self.usage
        return answer

    def give_token(self, form: dict[str, list[str]]) -> Answer:
        grant = form["grant_type"][0]
        right = {"client_credentials": "client_secret", "refresh_token": "refresh_token"}[grant]
        if form.get("client_id") != ["app"] or form.get(right) != ["quiet"]:
            return Answer({"error": "invalid_client", "error_description": "wrong"}, 400)
        self.tokens_given += 1
        self.token = f"00Dxx!{self.tokens_given}"
        return Answer({"access_token": self.token, "instance_url": "https://elsewhere.example"})

    def answer(self, request: Request) -> Answer:
        path = request.path.removeprefix(BASE)
        if path == request.path:
            return fault("NOT_FOUND", "The requested resource does not exist", 404)
        if path in ("/queryAll", "/query") and "q" in request.query:
            if len(request.query["q"]) > MOST_URL_BYTES:
                return Answer(b"URI too long", 414)
            return self.query(request.query["q"], has_deleted=path == "/queryAll")
        found = re.fullmatch(r"/query/(\w+)-(\d+)", path)
        if found and found[1] in self.locators:
            return self.page(found[1], int(found[2]))
        if found:
            return fault("INVALID_QUERY_LOCATOR", "invalid query locator")
        found = re.fullmatch(r"/sobjects/(\w+)/describe", path)
        if found and found[1] in self.fields and self.has_describe:
            return Answer({"fields": [{"name": name} for name in self.fields[found[1]]]})
        return fault("NOT_FOUND", "The requested resource does not exist", 404)

    def query(self, text: str, *, has_deleted: bool) -> Answer:
        if text == "SELECT COUNT() FROM Case":
            return Answer({"totalSize": len(self.objects["Case"]), "done": True, "records": []})
        found = QUERY.fullmatch(text)
        if found is None:
            return fault("MALFORMED_QUERY", "unexpected token")
        name, fields = found["name"], found["fields"].split(", ")
        if name not in self.objects:
            return fault("INVALID_TYPE", f"sObject type '{name}' is not supported.")
        for field in [*fields, found["order"]]:
            if field not in self.fields[name]:
                message = f"\nERROR at Row:1\nNo such column '{field}' on entity '{name}'."
                return fault("INVALID_FIELD", message)
        rows = sorted(self.objects[name].values(), key=lambda row: (row[found["order"]], row["Id"]))
        since = found["since"]
        chosen = [
            {"attributes": {"type": name, "url": f"{BASE}/sobjects/{name}/{row['Id']}"}}
            | {field: row.get(field) for field in fields}
            for row in rows
            if (not since or as_instant(row[found["order"]]) >= as_instant(since))
            and (has_deleted or not row.get("IsDeleted"))
        ]
        locator = f"0r8{len(self.locators):015}"
        self.locators[locator] = chosen
        return self.page(locator, 0)

    def page(self, locator: str, offset: int) -> Answer:
        rows, end = self.locators[locator], offset + self.page_size
        body: dict[str, Any] = {"totalSize": len(rows), "done": end >= len(rows)}
        if end < len(rows):
            body["nextRecordsUrl"] = f"{BASE}/query/{locator}-{end}"
        return Answer(body | {"records": rows[offset:end]})


def as_instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)

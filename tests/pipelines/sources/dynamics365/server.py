"""Dataverse on loopback: tables with and without change tracking, links to its own host."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, quote

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

BASE = "/api/data/v9.2"
HOST = "https://acme.crm4.dynamics.example"
SINCE = re.compile(r"(?:.+ and )?(?:modifiedon|createdon) ge (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)")
LOGGED = "objecttypecode eq 'incident' and (operation eq 2 or operation eq 3)"
KEYS = {
    "systemusers": "systemuserid", "teams": "teamid", "accounts": "accountid",
    "contacts": "contactid", "incidents": "incidentid", "annotations": "annotationid",
    "posts": "postid", "audits": "auditid",
}  # fmt: skip


def refuse(status: int, code: str, message: str) -> Answer:
    return Answer({"error": {"code": code, "message": message}}, status)


class Dataverse(VendorServer):
    """``tables``: rows by entity set and id; ``log``: what was changed or deleted, in order."""

    def __init__(self, tables: dict[str, list[dict[str, Any]]], tracked: set[str]) -> None:
        super().__init__()
        self.keys = {name: KEYS.get(name, "activityid") for name in tables}
        self.tables = {
            name: {row[self.keys[name]]: row for row in rows} for name, rows in tables.items()
        }
        self.columns = {
            name: {key for row in rows for key in row if "@" not in key}
            for name, rows in tables.items()
        }
        self.tracked = tracked
        self.log: list[tuple[str, str]] = []
        self.oldest = 0  # delta tokens below it have expired
        self.pages: dict[str, tuple[list[dict[str, Any]], int, dict[str, Any]]] = {}
        self.token = "ey.ready"
        self.tokens_given = 0

    def change(self, table: str, row_id: str, **values: Any) -> None:
        self.tables[table][row_id] = self.tables[table][row_id] | values
        self.log.append((table, row_id))

    def delete(self, table: str, row_id: str) -> None:
        del self.tables[table][row_id]
        self.log.append((table, row_id))

    def allows(self, request: Request) -> bool:
        if request.path == "/tenant-1/token":
            return True
        return request.headers.get("authorization") == f"Bearer {self.token}"

    def refuse(self, request: Request) -> Answer:
        return Answer(b"", 401, {"WWW-Authenticate": "Bearer"})

    def respond(self, request: Request) -> Answer:
        if request.path == "/tenant-1/token":
            form = {name: found[0] for name, found in parse_qs(request.body).items()}
            if (form["client_id"], form["client_secret"]) != ("app", "quiet"):
                return Answer({"error": "invalid_client"}, 401)
            assert form["scope"] == f"{self.url}/.default"
            self.tokens_given += 1
            self.token = f"ey.{self.tokens_given}"
            return Answer({"access_token": self.token, "expires_in": 3599})
        prefer = request.headers.get("prefer", "")
        size = re.search(r"odata\.maxpagesize=(\d+)", prefer)
        if request.headers.get("odata-version") != "4.0" or size is None:
            return refuse(400, "0x0", "OData-Version and a page size are wanted")
        table = request.path.removeprefix(BASE + "/")
        if table not in self.tables:
            return refuse(404, "0x80060888", f"Resource not found for the segment '{table}'.")
        query = request.query
        if "$skiptoken" in query:
            found = self.pages.get(query["$skiptoken"])
            return self.page(table, *found) if found else refuse(400, "0x80048d0a", "skiptoken")
        if "$deltatoken" in query:
            return self.delta(table, query["$deltatoken"], int(size[1]))
        return self.read(table, query, int(size[1]), is_tracking="odata.track-changes" in prefer)

    def read(self, table: str, query: dict[str, str], size: int, *, is_tracking: bool) -> Answer:
        columns = query["$select"].split(",")
        for column in columns:
            if column not in self.columns[table]:
                return refuse(
                    400, "0x80060888", f"Could not find a property named '{column}' on type 'x'."
                )
        rows = list(self.tables[table].values())
        if is_tracking and table in self.tracked:
            if "$filter" in query or "$orderby" in query:
                return refuse(400, "0x80060888", "no filter with change tracking")
            return self.page(table, self.select(rows, columns), size, self.end(table))
        moment = "createdon" if table == "audits" else "modifiedon"
        if table == "audits" and not query.get("$filter", "").startswith(LOGGED):
            return refuse(400, "0x0", "the whole log is too long")
        since = SINCE.fullmatch(query.get("$filter", ""))
        if since:
            rows = [row for row in rows if row[moment] >= since[1]]
        if query.get("$orderby") == f"{moment} asc":
            rows.sort(key=lambda row: row[moment])
        return self.page(table, self.select(rows, columns), size, {})

    def select(self, rows: list[dict[str, Any]], columns: list[str]) -> list[dict[str, Any]]:
        wanted = {*columns, "@odata.etag"}
        return [
            {key: value for key, value in row.items()
             if key in wanted or (not key.startswith("@") and key.split("@")[0] in wanted)}
            for row in rows
        ]  # fmt: skip

    def end(self, table: str) -> dict[str, Any]:
        link = f"{HOST}{BASE}/{table}?$deltatoken={len(self.log)}%21x%2f1"
        return {"@odata.deltaLink": link}

    def delta(self, table: str, token: str, size: int) -> Answer:
        number = int(token.removesuffix("!x/1"))
        if number < self.oldest:
            return refuse(410, "0x80044352", "The delta token has expired.")
        changed = dict.fromkeys(row_id for name, row_id in self.log[number:] if name == table)
        rows = [
            self.tables[table].get(
                row_id,
                {"@odata.context": f"{HOST}{BASE}/$metadata#{table}/$deletedEntity",
                 "id": row_id, "reason": "deleted"},
            )
            for row_id in changed
        ]  # fmt: skip
        return self.page(table, rows, size, self.end(table))

    def page(
        self, table: str, rows: list[dict[str, Any]], size: int, end: dict[str, Any]
    ) -> Answer:
        body: dict[str, Any] = {"@odata.context": f"{HOST}{BASE}/$metadata#{table}"}
        if end:
            body["@odata.context"] += "/$delta"
        if len(rows) <= size:
            return Answer(body | {"value": rows} | end)
        token = f"<cookie pagenumber='2' n=\"{len(self.pages)}\"/>"
        self.pages[token] = (rows[size:], size, end)
        link = f"{HOST}{BASE}/{table}?$select=x&$skiptoken={quote(token, safe='')}"
        return Answer(body | {"value": rows[:size], "@odata.nextLink": link})

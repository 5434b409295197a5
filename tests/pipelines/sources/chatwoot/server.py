"""Chatwoot on loopback: numbered pages with the newest on top, filters that hide rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.pipelines.sources.vendor_server import Answer, Request, Rows, VendorServer

ACCOUNT = 7
API = f"/api/v1/accounts/{ACCOUNT}/"
TOKEN = "quiet-token"
CONVERSATIONS_PAGE, CONTACTS_PAGE, ANSWERS_PAGE, MESSAGES_PAGE = 25, 15, 25, 100
AUDIT_PAGE = 25
KNOWN = {
    "conversations": {"status", "assignee_type", "page", "updated_within"},
    "contacts": {"sort", "page", "include_contact_inboxes"},
    "csat_survey_responses": {"sort", "page"},
    "audit_logs": {"page"},
}


class Chatwoot(VendorServer):
    """``rows`` by list; ``on_page`` is called before a page of a list is cut."""

    def __init__(self, rows: dict[str, Any]) -> None:
        super().__init__()
        self.rows = rows
        self.clock = 1_790_000_000
        self.token = TOKEN
        self.on_page: Callable[[Request], None] = lambda request: None
        self.has_measures = True
        self.has_audits = True

    def allows(self, request: Request) -> bool:
        return request.headers.get("api_access_token") == self.token

    def refuse(self, request: Request) -> Answer:
        return Answer({"error": "Invalid Access Token"}, 401)

    def respond(self, request: Request) -> Answer:
        if request.path == "/api/v1/profile":
            return Answer(self.rows["profile"])
        path = request.path.removeprefix(API)
        unknown = set(request.query) - KNOWN.get(path, {"after"})
        if not request.path.startswith(API) or unknown:
            self.violations.append(f"{request.path} {sorted(unknown)}")
            return Answer({"error": "Resource could not be found"}, 404)
        talk = re.fullmatch(r"conversations/(\d+)/(messages|reporting_events)", path)
        if talk:
            return self.find_talk(int(talk[1]), talk[2], request)
        team = re.fullmatch(r"teams/(\d+)/team_members", path)
        if team:
            return Answer(self.rows["team_members"][team[1]])
        if path == "inboxes":
            return Answer({"payload": self.rows["inboxes"]})
        if path in ("teams", "agents", "agent_bots"):
            return Answer(self.rows[path])
        lists = {
            "conversations": self.list_conversations,
            "contacts": self.list_contacts,
            "csat_survey_responses": self.list_answers,
            "audit_logs": self.list_audits,
        }
        self.on_page(request)
        return lists[path](request.query)

    def find_talk(self, number: int, what: str, request: Request) -> Answer:
        if number not in self.group("conversations", self.rows["conversations"], "id"):
            return Answer({"error": "Resource could not be found"}, 404)
        if what == "reporting_events":
            if not self.has_measures:
                return Answer({"error": "not found"}, 404)
            return Answer(self.rows["reporting_events"].get(str(number), []))
        said = self.group("messages", self.rows["messages"], "conversation_id")
        rows = said.get(number, [])
        if "after" in request.query:
            rows = [row for row in rows if row["id"] > int(request.query["after"])]
            rows = rows[:MESSAGES_PAGE]
        else:
            rows = rows[-20:]
        return Answer({"meta": {"labels": []}, "payload": rows})

    def list_conversations(self, query: dict[str, str]) -> Answer:
        rows = self.rows["conversations"]
        status = query.get("status", "open")
        if status != "all":
            rows = [row for row in rows if row["status"] == status]
        rows = self.newest_first(f"conversations {status}", rows, "last_activity_at")
        count = len(rows)
        if "updated_within" in query:
            since = self.clock - int(query["updated_within"])
            rows = [row for row in rows if row["updated_at"] > since]
        else:
            rows = cut(rows, query, CONVERSATIONS_PAGE)
        meta = {"mine_count": 0, "unassigned_count": 0, "all_count": count}
        return Answer({"data": {"meta": meta, "payload": rows}})

    def list_contacts(self, query: dict[str, str]) -> Answer:
        addresses = ("email", "phone_number", "identifier")
        rows = self.make(
            "contacts",
            lambda: [row for row in self.rows["contacts"] if any(row[name] for name in addresses)],
        )
        rows = self.newest_first("contacts", rows, query["sort"].removeprefix("-"))
        count = len(rows)
        meta = {"count": count, "current_page": query.get("page", "1")}
        return Answer({"meta": meta, "payload": cut(rows, query, CONTACTS_PAGE)})

    def list_answers(self, query: dict[str, str]) -> Answer:
        name = "csat_survey_responses"
        rows = self.newest_first(name, self.rows[name], query["sort"].removeprefix("-"))
        return Answer(cut(rows, query, ANSWERS_PAGE))

    def list_audits(self, query: dict[str, str]) -> Answer:
        """What administrators did; a list of the Enterprise edition alone."""
        if not self.has_audits:
            return Answer({"error": "Resource could not be found"}, 404)
        rows = self.newest_first("audits", self.rows["audit_logs"], "created_at")
        told = {"per_page": AUDIT_PAGE, "total_entries": len(rows)}
        number = int(query.get("page", 1))
        shown = cut(rows, query, AUDIT_PAGE)
        return Answer(told | {"current_page": number, "audit_logs": shown})

    def newest_first(self, name: str, rows: Rows, time: str) -> Rows:
        """As PostgreSQL sorts: those without a value come last."""
        pairs = self.sort(f"{name} {time}", rows, lambda row: (-(row[time] or 0), -row["id"]))
        return self.make(("rows", name, time), lambda: [row for _, row in pairs])


def cut(rows: Rows, query: dict[str, str], size: int) -> Rows:
    begin = (int(query.get("page", 1)) - 1) * size
    return rows[begin : begin + size]

"""The vendors' servers of the tests, filled with many records, each in a process of its own.

``python -m tests.bench.source_server KIND RECORDS`` tells its address, serves until its input ends,
then tells what was asked of it. Some servers filter their lists anew for each page, as the tests
need it; a pull of many small pages therefore waits for its server more than it works. Those that
keep what they made of rows that stand still (``VendorServer.make``) serve 100,000 records.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.bench.source_clones import Cloner, Shape
from tests.bench.source_stores import (
    BigDiscourse,
    BigFeeds,
    BigGitHub,
    BigImap,
    BigMongo,
    BigRedis,
    BigShop,
    BigSurveyMonkey,
    BigTypeform,
)
from tests.pipelines.sources.app_store.server import AppStore
from tests.pipelines.sources.brevo.server import KEY as BREVO_KEY
from tests.pipelines.sources.brevo.server import Brevo
from tests.pipelines.sources.chatwoot.server import TOKEN as CHATWOOT_TOKEN
from tests.pipelines.sources.chatwoot.server import Chatwoot
from tests.pipelines.sources.constant_contact.server import TOKEN as CONSTANT_TOKEN
from tests.pipelines.sources.constant_contact.server import ConstantContact
from tests.pipelines.sources.discourse import server as discourse_server
from tests.pipelines.sources.dynamics365.server import Dataverse
from tests.pipelines.sources.freshdesk.server import KEY as FRESHDESK_KEY
from tests.pipelines.sources.freshdesk.server import Freshdesk
from tests.pipelines.sources.github_issues.server import REPOSITORY
from tests.pipelines.sources.github_issues.server import TOKEN as GITHUB_TOKEN
from tests.pipelines.sources.google_forms.server import TOKEN as GOOGLE_TOKEN
from tests.pipelines.sources.google_forms.server import GoogleForms
from tests.pipelines.sources.helpscout.server import HelpScout
from tests.pipelines.sources.imap.server import LOGIN as IMAP_LOGIN
from tests.pipelines.sources.imap.server import PASSWORD as IMAP_PASSWORD
from tests.pipelines.sources.intercom.server import TOKEN as INTERCOM_TOKEN
from tests.pipelines.sources.intercom.server import Intercom
from tests.pipelines.sources.mailchimp.server import KEY as MAILCHIMP_KEY
from tests.pipelines.sources.mailchimp.server import Mailchimp
from tests.pipelines.sources.rest import server as rest_server
from tests.pipelines.sources.salesforce.server import Salesforce
from tests.pipelines.sources.surveymonkey.server import TOKEN as SURVEYMONKEY_TOKEN
from tests.pipelines.sources.typeform.server import TOKEN as TYPEFORM_TOKEN
from tests.pipelines.sources.vendor_server import Answer, VendorServer
from tests.pipelines.sources.zendesk.server import LOGIN, Zendesk
from tests.pipelines.sources.zendesk.server import TOKEN as ZENDESK_TOKEN
from tests.pipelines.sources.zoho_crm.server import ZohoCrm
from tests.pipelines.sources.zoho_desk.server import ZohoDesk
from tests.pipelines.sources.zoho_server import REFRESH

TESTS = Path(__file__).parents[1] / "pipelines" / "sources"
NO_LIMIT = 10**9
MANY = (10_000, 100_000)
VOICES = {
    "entity": "feedback", "columns": {"source_record_id": "_id", "body": "text", "rating": "stars"},
    "constants": {"channel": "chat", "rating_min": 1, "rating_max": 5},
}  # fmt: skip
STAFF = {
    "name": "staff", "path": "staff/cursor", "id": "no", "record_path": "data",
    "paginator": {"type": "cursor", "cursor_path": "next", "cursor_param": "after"},
}  # fmt: skip


class Served(Protocol):
    """A server of any protocol, and what was asked of it."""

    url: str
    violations: list[str]

    @property
    def requests(self) -> Sized: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Vendor:
    """A kind and the server of its tests: ``serve`` fills one with about so many records."""

    kind: str
    serve: Callable[[int], Served]
    secrets: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    rows: tuple[int, ...] = (2_000, 20_000)
    note: str = ""

    def more(self) -> dict[str, Any]:
        """What the source says beside its address."""
        named = {} if self.secrets else {"connection": None}
        return {"options": self.options, **named}


def load(stem: str) -> dict[str, Any]:
    """The saved payloads of a kind, by name."""
    folder = TESTS / stem / "payloads"
    return {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}


def clone(stem: str, records: int, shape: Shape) -> dict[str, Any]:
    return Cloner(load(stem), shape).clone(records)


def clone_list(stem: str, name: str, records: int, key: str, *links: str) -> list[Any]:
    found: list[Any] = clone(stem, records, Shape({name: key}, links))[name]
    return found


# Tickets and what is said in them -----------------------------------------------------------------


def serve_zendesk(records: int) -> VendorServer:
    lists = ("tickets", "users", "ticket_events", "satisfaction_ratings")
    links = ("ticket_id", "requester_id", "submitter_id", "assignee_id", "author_id", "updater_id")
    return Zendesk(clone("zendesk", records, Shape(dict.fromkeys(lists, "id"), links)))


class LongZendesk(Zendesk):
    """So many tickets that they are made when they are asked for: one a second, in order."""

    def __init__(self, records: int) -> None:
        super().__init__(load("zendesk"))
        self.records = records
        (self.ticket, *_) = self.rows["tickets"]

    def by_cursor(self, name: str, query: dict[str, str], begin: int) -> Answer:
        if name != "tickets":
            return super().by_cursor(name, query, begin)
        first = int(query.get("cursor", 0))
        last = min(first + self.size(query, "per_page", 1000), self.records)
        body = {"tickets": [self.make(number) for number in range(first, last)]}
        ends = {"after_cursor": str(last), "end_of_stream": last == self.records}
        return Answer({**body, **ends, "after_url": None})

    def make(self, number: int) -> dict[str, Any]:
        at = 1_780_000_000 + number
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
        changed = {"id": number + 1, "updated_at": moment, "generated_timestamp": at}
        return {**self.ticket, **changed}


def serve_salesforce(records: int) -> VendorServer:
    lists = ("Case", "Contact", "CaseComment", "CaseHistory", "EmailMessage")
    links = ("CaseId", "ParentId", "ContactId", "MasterRecordId")
    rows = clone("salesforce", records, Shape(dict.fromkeys(lists, "Id"), links))
    return Salesforce(rows, page_size=2000)


def serve_dynamics365(records: int) -> VendorServer:
    keys = {
        "incidents": "incidentid", "contacts": "contactid", "emails": "activityid",
        "annotations": "annotationid", "posts": "postid", "phonecalls": "activityid",
        "incidentresolutions": "activityid", "audits": "auditid",
    }  # fmt: skip
    links = ("_regardingobjectid_value", "_objectid_value", "_incidentid_value",
             "_customerid_value", "_primarycontactid_value", "_masterid_value")  # fmt: skip
    rows = clone("dynamics365", records, Shape(keys, links))
    return Dataverse(rows, {"incidents", "contacts"})


def serve_freshdesk(records: int) -> VendorServer:
    lists = ("tickets", "contacts", "conversations", "satisfaction_ratings")
    links = ("ticket_id", "requester_id", "user_id")
    server = Freshdesk(clone("freshdesk", records, Shape(dict.fromkeys(lists, "id"), links)))
    server.is_still = True
    return server


def serve_helpscout(records: int) -> VendorServer:
    lists = ("conversations", "customers", "threads", "ratings")
    links = ("conversationId", "threadid", "ratingId", "ratingCustomerId")
    server = HelpScout(clone("helpscout", records, Shape(dict.fromkeys(lists, "id"), links)))
    server.is_still = True
    return server


def serve_intercom(records: int) -> VendorServer:
    lists = ("conversations", "contacts", "tickets")
    shape = Shape(dict.fromkeys(lists, "id"), kept=("admins", "team_ids", "assigned_to"))
    return Intercom(clone("intercom", records, shape))


def serve_chatwoot(records: int) -> VendorServer:
    lists = ("conversations", "contacts", "messages", "csat_survey_responses", "reporting_events")
    links = ("conversation_id", "message_id")
    shape = Shape(dict.fromkeys(lists, "id"), links, kept=("assignee", "team", "assigned_agent"))
    server = Chatwoot(clone("chatwoot", records, shape))
    server.clock = int(time.time())
    return server


def serve_zoho_desk(records: int) -> VendorServer:
    lists = ("tickets", "contacts", "conversations", "history", "happiness", "metrics")
    links = ("ticketId", "contactId", "threadId")
    shape = Shape(dict.fromkeys(lists, "id"), links, kept=("actor", "eventInfo", "assignee"))
    return ZohoDesk(clone("zoho_desk", records, shape))


def serve_zoho_crm(records: int) -> VendorServer:
    lists = ("Contacts", "Leads", "Cases", "Notes", "Sales_Orders", "timeline")
    return ZohoCrm(clone("zoho_crm", records, Shape(dict.fromkeys(lists, "id"))))


def make_zoho_secrets() -> dict[str, Any]:
    extra = {"refresh_token": REFRESH, "token_url": "{url}/oauth/v2/token"}
    return {"login": "client", "password": "quiet-secret", "extra": extra}


# Everything else ----------------------------------------------------------------------------------


def serve_rest(records: int) -> VendorServer:
    rest_server.SIZE = 1000
    (row, *_) = load("rest")["staff"]["members"]
    members = [{**row, "no": f"E-{number}"} for number in range(records)]
    return rest_server.Erp({"members": members})


def serve_discourse(records: int) -> VendorServer:
    discourse_server.PAGE = 50
    shape = Shape({"posts": "id", "topics": "id"}, ("topic_id",))
    return BigDiscourse(clone("discourse", records, shape))


def serve_surveymonkey(records: int) -> VendorServer:
    server = BigSurveyMonkey(clone_list("surveymonkey", "responses", records, "id"))
    server.day_left = NO_LIMIT
    return server


def serve_google_forms(records: int) -> VendorServer:
    server = GoogleForms(page_size=1000)
    server.responses = {
        "form-en": clone_list("google_forms", "responses", records, "responseId"),
    }
    return server


def serve_typeform(records: int) -> VendorServer:
    links = ("landing_id", "response_id")
    return BigTypeform(clone_list("typeform", "responses", records, "token", *links))


def serve_mailchimp(records: int) -> VendorServer:
    server = Mailchimp()
    server.members = clone_list("mailchimp", "members", records, "id", "contact_id")
    return server


def serve_constant_contact(records: int) -> VendorServer:
    server = ConstantContact(most=500)
    server.contacts = clone_list("constant_contact", "contacts", records, "contact_id", "note_id")
    return server


def serve_brevo(records: int) -> VendorServer:
    server = Brevo()
    server.left = NO_LIMIT
    server.contacts = clone_list("brevo", "contacts", records, "id")
    return server


def serve_github_issues(records: int) -> VendorServer:
    shape = Shape({"issues": "id", "comments": "id", "events": "id"}, ("number", "node_id"))
    return BigGitHub(clone("github_issues", records, shape))


def serve_app_store(records: int) -> VendorServer:
    (row, *_) = load("app_store")["entries"]
    rows = [
        {**row, "id": {"label": str(n)},
         "updated": {"label": f"2026-10-{1 + n // 24 % 28:02d}T{n % 24:02d}:00:00-07:00"}}
        for n in range(records)
    ]  # fmt: skip
    return AppStore(rows)


VENDORS = {
    vendor.kind: vendor
    for vendor in (
        Vendor("zendesk", serve_zendesk, {"login": LOGIN, "password": ZENDESK_TOKEN}),
        Vendor("salesforce", serve_salesforce, {"password": "00Dxx!secret"}),
        Vendor("dynamics365", serve_dynamics365, {"password": "ey.ready"}),
        Vendor(
            "rest", serve_rest, {"password": "quiet"},
            {"auth": {"type": "bearer"}, "endpoints": [STAFF]}, (100_000, 1_000_000),
        ),
        Vendor("freshdesk", serve_freshdesk, {"password": FRESHDESK_KEY}),
        Vendor("helpscout", serve_helpscout, {"password": "quiet-token"}),
        Vendor("intercom", serve_intercom, {"password": INTERCOM_TOKEN}, rows=MANY),
        Vendor("chatwoot", serve_chatwoot, {"password": CHATWOOT_TOKEN}, rows=MANY),
        Vendor("zoho_desk", serve_zoho_desk, make_zoho_secrets(), rows=MANY),
        Vendor("zoho_crm", serve_zoho_crm, make_zoho_secrets(), rows=MANY),
        Vendor("discourse", serve_discourse, {
            "login": discourse_server.USER, "password": discourse_server.KEY,
        }, {}, MANY),
        Vendor("surveymonkey", serve_surveymonkey, {"password": SURVEYMONKEY_TOKEN}, {},
               MANY),
        Vendor("google_forms", serve_google_forms, {"password": GOOGLE_TOKEN},
               {"forms": ["form-en"]}, (10_000, 100_000)),
        Vendor("typeform", serve_typeform, {"password": TYPEFORM_TOKEN},
               {"requests_per_second": 50}, (10_000, 100_000)),
        Vendor("mailchimp", serve_mailchimp, {"password": MAILCHIMP_KEY}, {}, MANY),
        Vendor("constant_contact", serve_constant_contact, {"password": CONSTANT_TOKEN}, {},
               MANY),
        Vendor("brevo", serve_brevo, {"password": BREVO_KEY}, {}, MANY),
        Vendor("github_issues", serve_github_issues, {"password": GITHUB_TOKEN},
               {"repositories": [REPOSITORY]}, (10_000, 100_000)),
        Vendor("rss", BigFeeds, {}, {"urls": ["all.xml"]}, (10_000, 100_000),
               "pages of 100 entries (RFC 5005)"),
        Vendor("app_store", serve_app_store, {}, {"apps": ["777"]}, (50, 500),
               note="Apple shows 500 reviews at most"),
        Vendor("web_reviews", BigShop, {},
               {"delay": 0, "sitemap": False, "max_pages": 20_000, "max_depth": 1000},
               (2_000, 20_000), "the crawl itself is a process beside"),
        Vendor("imap", BigImap, {"login": IMAP_LOGIN, "password": IMAP_PASSWORD},
               {"own": ["@acme.example"], "security": "none"}, (2_000, 20_000)),
        Vendor("mongodb", BigMongo, {"extra": {"url": "{url}"}},
               {**VOICES, "collection": "voices", "cursor": "changed"}, (10_000, 100_000)),
        Vendor("redis", BigRedis, {"extra": {"url": "{url}"}},
               {**VOICES, "streams": ["voices"]}, (10_000, 100_000), "a real server"),
    )
}  # fmt: skip
# Beside its own row: tickets alone, as many as a long history has.
LONG_ZENDESK = Vendor(
    "zendesk", LongZendesk, VENDORS["zendesk"].secrets, rows=(100_000, 1_000_000),
    note="tickets made as they are asked for",
)  # fmt: skip
ALL = {**VENDORS, "zendesk-tickets": LONG_ZENDESK}


def main(name: str, records: int) -> None:
    server = ALL[name].serve(records)
    server.is_still = True
    gc.freeze()  # what is served is not garbage
    say({"url": server.url})
    sys.stdin.read()
    say({"requests": len(server.requests), "violations": server.violations[:3]})
    server.close()


def say(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

"""Zoho CRM (API v8): contacts, accounts, leads, cases with timeline and notes, orders, users.

Modules are read in the order of change, each page from just before the last row of the one before;
page tokens are followed only where more rows than a page holds changed within a second. Deletions
have a list of their own, by time.

What Zoho CRM does not give: mails of a case (cases are none of the modules that have them), the
author of a description, satisfaction, into whom a contact was merged (it is deleted, and its list
of deletions tells no more), times of orders apart from those of their records. A timeline is a
request for each case, and not every edition has one of cases.

Facts come from Zoho's OpenAPI of version 8 (crm-oas): a timeline chooses its own page size, is
paged by token or by number, never both, and says in ``action`` what was done, ``restored`` among
it; and from "Get Emails of a Record" and "Cases, response structure". Who made a comment is told by
name or as a user.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from hashlib import sha256
from json import dumps
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError, UsageError
from pipelines.mapping import Field, Lookup, Mapping, When, values
from pipelines.settings import Source, nearest
from pipelines.sources.base import Batch, Kind, PullContext, Record, read_options
from pipelines.sources.changes import walk_changes
from pipelines.sources.deletions import map_deletion
from pipelines.sources.http import Budget, Limits, explain_http_errors, open_client, read_number
from pipelines.sources.zoho import (
    find_site,
    lacks_scope,
    list_secrets,
    read_body,
    read_clock,
    read_code,
    sign_requests,
)

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response

SCOPES = "ZohoCRM.modules.READ, ZohoCRM.users.READ, ZohoCRM.settings.fields.READ"
DEFAULT_URL = "https://www.zohoapis.com"
API = "/crm/v8"
PAGE_SIZE = 200
MOST_FIELDS = 50
MOST_PASSES = 5
BATCH_ROWS = 1000
OVERLAP = timedelta(seconds=60)
FIRST_DAY = datetime(2000, 1, 1, tzinfo=UTC)
ABSENT = (403, 404)
ABSENT_CODES = ("INVALID_MODULE", "NO_PERMISSION", "NOT_SUPPORTED", "FEATURE_NOT_SUPPORTED",
                "NOT_ALLOWED", "AUTHORIZATION_FAILED")  # fmt: skip

STATUSES = {
    "new": "new", "open": "open", "in progress": "open", "escalated": "open", "reopened": "open",
    "pending": "pending", "on hold": "hold", "resolved": "solved", "closed": "closed",
}  # fmt: skip
PRIORITIES = {"urgent": "urgent", "high": "high", "medium": "normal", "normal": "normal",
              "low": "low"}  # fmt: skip
CHANNELS = {
    "email": "email", "phone": "phone", "web": "web_form", "website": "web_form", "chat": "chat",
    "wechat": "chat", "whatsapp": "chat", "sms": "chat", "twitter": "social", "x": "social",
    "facebook": "social", "instagram": "social", "weibo": "social", "forum": "forum",
    "community": "forum", "survey": "survey",
}  # fmt: skip

Row = dict[str, Any]


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    orders: Literal["Sales_Orders", "Deals", "none"] = Option(
        default="Sales_Orders", description="the module that holds what was sold"
    )
    won_stages: list[str] = Option(
        default_factory=lambda: ["Closed Won"],
        description="stages in which a deal is an order, if deals are the orders",
    )
    leads: bool = Option(default=True, description="leads are customers too")
    history: bool = Option(
        default=True, description="read each case's timeline: one more request for a case"
    )
    statuses: dict[str, str] = Option(
        default_factory=dict,
        description="name of your own case status = new open pending hold solved closed",
    )
    product_field: str | None = Option(
        default=None, description="field of cases with the product, if not Product_Name"
    )
    segment_field: str | None = Option(
        default=None, description="field of contacts with the segment"
    )
    vip_field: str | None = Option(
        default=None, description="field of contacts that is true for VIPs"
    )


@dataclass(frozen=True)
class Module:
    """A module, the fields that are asked for, and those of the options that are its own."""

    name: str
    fields: str
    own: tuple[str, ...] = ()


TIMES = "Created_Time Modified_Time Owner Tag"
ACCOUNTS = Module(
    "Accounts", "Account_Name Account_Number Phone Website Industry Account_Type Billing_Country"
)
CONTACTS = Module(
    "Contacts",
    "First_Name Last_Name Full_Name Email Phone Mobile Account_Name Mailing_Country Lead_Source "
    "Date_of_Birth Email_Opt_Out",
    ("segment_field", "vip_field"),
)
LEADS = Module(
    "Leads",
    "First_Name Last_Name Full_Name Company Email Phone Mobile Country Lead_Source Lead_Status "
    "Email_Opt_Out",
)
CASES = Module(
    "Cases",
    "Case_Number Subject Description Status Priority Type Case_Origin Case_Reason Email Phone "
    "Account_Name Related_To Deal_Name Product_Name Reported_By Solution Comments Created_By "
    "Modified_By",
    ("product_field",),
)
NOTES = Module("Notes", "Note_Title Note_Content Parent_Id Created_By Modified_By")
SALES_ORDERS = Module(
    "Sales_Orders",
    "Subject SO_Number Contact_Name Account_Name Deal_Name Status Grand_Total Currency Due_Date",
)
DEALS = Module(
    "Deals",
    "Deal_Name Contact_Name Account_Name Stage Amount Currency Closing_Date Type Lead_Source",
)


def choose_modules(options: Options) -> list[Module]:
    orders = {"Sales_Orders": [SALES_ORDERS], "Deals": [DEALS], "none": []}[options.orders]
    return [ACCOUNTS, CONTACTS, *([LEADS] if options.leads else []), CASES, NOTES, *orders]


def connect(source: Source, context: PullContext) -> RESTClient:
    """A client at base_url, else at the domain that comes with the token."""
    from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials

    client = open_client(
        source, context, API, limits=Limits(budget=read_budget), default_url=DEFAULT_URL
    )

    def move(answer: dict[str, Any]) -> None:
        if answer.get("api_domain") and not source.base_url:
            client.base_url = str(answer["api_domain"]).rstrip("/") + API

    sign_requests(client, source, context, move)
    if isinstance(client.auth, OAuth2ClientCredentials) and not source.base_url:
        client.auth.obtain_token()
    return client


def read_budget(response: Response) -> Budget | None:
    """What is left, and until when: an instant in seconds or milliseconds, or seconds."""
    left, reset = (read_number(response, f"X-RATELIMIT-{name}") for name in ("REMAINING", "RESET"))
    if left is None:
        return None
    seconds = reset or 0.0
    if seconds > 1e11:
        seconds /= 1000
    if seconds > 1e9:
        seconds -= read_clock().timestamp()
    return Budget(int(left), max(seconds, 0.0))


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Every record that is new, changed or deleted since the remembered position."""
    with explain_http_errors(source.name, source.connection):
        reader = Reader(source, context)
        yield from reader.allow("users", reader.read_users())
        for module in reader.modules:
            yield from reader.allow(module.name, reader.read_module(module))
        reader.check_read()
        for module in reader.modules:
            yield from reader.allow(f"deleted {module.name}", reader.read_deleted(module))


def check(source: Source, context: PullContext) -> str:
    """Count the cases, or the contacts where there are no cases."""
    with explain_http_errors(source.name, source.connection):
        reader = Reader(source, context)
        for name in ("Cases", "Contacts"):
            response = reader.client.get(f"{name}/actions/count")
            if not is_absent(response):
                break
        return f"{int(read_body(response).get('count', 0)):,} {name.lower()}"


def write_instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def read_instant(text: Any) -> datetime:
    return datetime.fromisoformat(str(text).replace("Z", "+00:00")).astimezone(UTC)


def find_change(row: Row) -> datetime:
    return read_instant(row.get("Modified_Time") or row["Created_Time"])


def is_absent(response: Response | None) -> bool:
    """Whether an answer says that the edition, the profile or the scopes do not have this."""
    if response is None:
        return False
    is_refused = response.status_code in ABSENT or lacks_scope(response)
    return is_refused or (response.status_code == 400 and read_code(response) in ABSENT_CODES)


class Reader:
    """Reads the modules of one organisation from their places in ``position``, which it moves."""

    def __init__(self, source: Source, context: PullContext) -> None:
        self.source = source
        self.context = context
        self.options = read_options(source, Options)
        self.client = connect(source, context)
        self.site = find_site(urlsplit(self.client.base_url or "").netloc, "crm")
        self.position = copy.deepcopy(context.position)
        self.start = FIRST_DAY
        if source.start:
            self.start = datetime.combine(source.start, time.min, UTC)
        self.modules = choose_modules(self.options)
        self.has_history = self.options.history
        self.skipped: set[str] = set()
        for module in self.modules:  # what was deleted before the first pull was never here
            began = {"since": write_instant(read_clock())}
            self.position.setdefault(f"deleted_{module.name}", began)

    def since(self, stream: str) -> datetime:
        """From when a stream is to be read: just before its remembered time, or the start."""
        remembered = self.position.get(stream, {}).get("since")
        if not remembered:
            return self.start
        return max(read_instant(remembered) - OVERLAP, self.start)

    def remember(self, stream: str, moment: datetime) -> None:
        before = self.position.get(stream, {}).get("since", "")
        self.position[stream] = {"since": max(write_instant(moment), before)}

    def batch(self, entity: str, rows: list[Row], *, is_safe: bool = False) -> Batch:
        place = copy.deepcopy(self.position) if is_safe else None
        return Batch(entity, [self.record(entity, row) for row in rows], place)

    def record(self, entity: str, row: Row) -> Record:
        """A record with the page on which people see it."""
        shown = {"timeline": ("Cases", row.get("caseId")), "Notes": ("Cases", None)}
        module, number = shown.get(entity, (entity, row["id"]))
        is_page = number and entity != "users" and not entity.startswith("deleted")
        return Record(str(row["id"]), row, f"{self.site}/{module}/{number}" if is_page else None)

    def allow(self, stream: str, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; a module that the edition or the scopes lack is skipped with a note."""
        from requests.exceptions import HTTPError

        try:
            yield from batches
        except HTTPError as error:
            if not is_absent(error.response):
                raise
            self.skip(stream, error.response)

    def skip(self, stream: str, response: Response | None) -> None:
        self.skipped.add(stream)
        told = read_code(response) or (response.status_code if response is not None else "")
        self.context.progress(
            f"extract {self.source.name}: {stream} skipped, the edition, the profile or the scopes "
            f"do not have them ({told})",
            0,
        )

    def check_read(self) -> None:
        """HearbackError if not one module could be read."""
        if all(module.name in self.skipped for module in self.modules):
            raise HearbackError(
                f"source {self.source.name!r}: no module may be read: give the token of connection "
                f"{self.source.connection!r} the scope ZohoCRM.modules.READ"
            )

    def read_users(self) -> Iterator[Batch]:
        """Users, whole each time: raw drops what has not changed."""
        number, has_more = 1, True
        while has_more:
            params = {"type": "AllUsers", "page": number, "per_page": PAGE_SIZE}
            body = read_body(self.client.get("users", params=params))
            yield self.batch("users", body.get("users", []))
            has_more = bool(body.get("info", {}).get("more_records"))
            number += 1

    def choose_fields(self, module: Module) -> list[str]:
        """The fields to ask for, less those that this organisation does not have.

        UsageError if the options name one of them.
        """
        wanted = [*module.fields.split(), *TIMES.split()]
        own = [getattr(self.options, name) for name in module.own]
        wanted += [name for name in own if name and name not in wanted]
        response = self.client.get("settings/fields", params={"module": module.name})
        if is_absent(response):
            return wanted
        known = [field["api_name"] for field in read_body(response).get("fields", [])]
        if not known:
            return wanted
        for option, name in zip(module.own, own, strict=True):
            if name and name not in known:
                raise UsageError(
                    f"source {self.source.name!r}: option {option!r}: {module.name} has no field "
                    f"{name!r}{nearest(name, known)}"
                )
        return [name for name in wanted if name in known][:MOST_FIELDS]

    def read_module(self, module: Module) -> Iterator[Batch]:
        """Records in the order of their change, cases behind their timelines."""
        query = {
            "fields": ",".join(self.choose_fields(module)),
            "sort_by": "Modified_Time",
            "sort_order": "asc",
            "per_page": PAGE_SIZE,
        }
        if module is not NOTES:
            query["approved"] = "both"
        if module is LEADS:
            query["converted"] = "both"

        def read(since: datetime, token: str | None) -> tuple[list[Row], str | None]:
            header = {"If-Modified-Since": write_instant(since)}
            params = query | ({"page_token": token} if token else {})
            response = self.client.get(module.name, params=params, headers=header)
            if token and response.status_code == 400:
                raise HearbackError(
                    f"a page token of {module.name} has ended; run it again: it goes on from there"
                )
            body = read_body(response)
            return body.get("data", []), body.get("info", {}).get("next_page_token") or None

        for rows, reached in walk_changes(module.name, read, find_change, self.since(module.name)):
            if module is CASES:
                yield from self.read_timelines(rows)
            if reached:
                self.remember(module.name, reached)
            yield self.batch(module.name, rows, is_safe=bool(reached))

    def read_timelines(self, cases: list[Row]) -> Iterator[Batch]:
        """What was changed in these cases."""
        found: list[Row] = []
        for case in cases:
            found += self.read_timeline(str(case["id"]))
            if len(found) >= BATCH_ROWS:
                yield self.batch("timeline", found)
                found = []
        if found:
            yield self.batch("timeline", found)

    def read_timeline(self, case: str) -> Iterator[Row]:
        """What was changed in a case; one that is gone meanwhile has no timeline."""
        params: dict[str, Any] = {}
        number = 1
        while self.has_history:
            response = self.client.get(f"Cases/{case}/__timeline", params=params)
            if read_code(response) == "INVALID_DATA":
                if params:
                    raise HearbackError(
                        f"a page token of the timeline of case {case} has ended; run it again: "
                        "it goes on from there"
                    )
                return
            if is_absent(response):
                self.has_history = False
                self.skip("timelines", response)
                return
            body = read_body(response)
            for row in body.get("__timeline", []):
                yield row | {"id": name_event(row), "caseId": case}
            info = body.get("info", {})
            number += 1
            params = {"page": number}
            if info.get("next_page_token"):
                params = {"page_token": info["next_page_token"]}
            elif not info.get("more_records"):
                return

    def read_deleted(self, module: Module) -> Iterator[Batch]:
        """What was deleted since the last pull; once more if pages shifted meanwhile."""
        if module.name in self.skipped:
            return
        stream = f"deleted_{module.name}"
        header = {"If-Modified-Since": write_instant(self.since(stream))}
        for _ in range(MOST_PASSES):
            seen: dict[str, datetime] = {}
            number, has_more, is_shifted = 1, True, False
            while has_more:
                params = {"type": "all", "page": number, "per_page": PAGE_SIZE}
                body = read_body(
                    self.client.get(f"{module.name}/deleted", params=params, headers=header)
                )
                rows = body.get("data", [])
                times = {row["id"]: read_instant(row["deleted_time"]) for row in rows}
                is_shifted = is_shifted or not seen.keys().isdisjoint(times)
                seen |= times
                yield self.batch(stream, rows)
                has_more = bool(body.get("info", {}).get("more_records"))
                number += 1
            if not is_shifted:
                if seen:
                    self.remember(stream, max(seen.values()))
                    yield self.batch(stream, [], is_safe=True)
                return
        raise HearbackError(f"{stream} change faster than they can be read; run it again later")


def name_event(row: Row) -> str:
    """The id of an entry of a timeline, or one of what it says if it has none."""
    if row.get("id"):
        return str(row["id"])
    text = dumps([row.get(name) for name in ("audited_time", "action", "done_by", "field_history")])
    return sha256(text.encode()).hexdigest()[:16]


CHANGED_AT = Field("Modified_Time", "instant", also=("Created_Time",))
CUSTOMER = Field("Related_To.id", also=("Account_Name.id",))
USER = Lookup("users", "full_name", "id")
BY = r'(?:^\{.*"id"\s*:\s*"|^)([^"{}]+)'  # the id of a user, or a name alone
IGNORED = (
    "Owner", "Tag", "Created_By", "Modified_By", "$approval_state", "$approved", "$approval",
    "$currency_symbol", "$editable", "$review", "$review_process", "$process_flow", "$in_merge",
    "$state", "$orchestration", "$sharing_permission", "$field_states", "$locked_for_me",
    "$has_more", "$wizard_connection_path", "$zia_visions", "$layout_id", "$canvas_id",
    "$zia_owner_assignment", "$converted", "$converted_detail", "$pathfinder", "Layout",
    "Locked__s", "Record_Image", "Exchange_Rate", "Currency", "Lead_Source",
)  # fmt: skip


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    return [
        *map_people(options),
        *map_cases(options),
        *map_notes(),
        *map_timeline(options),
        *map_orders(options),
        *map_deletions(options),
    ]


def map_people(options: Options) -> list[Mapping]:
    needed = ("source_customer_id",)
    shared = {
        "source_customer_id": Field("id"),
        "email": Field("Email"),
        "phone": Field("Phone", also=("Mobile",)),
        "do_not_contact": Field("Email_Opt_Out", "boolean"),
        "signup_at": Field("Created_Time", "instant"),
        "updated_at": CHANGED_AT,
    }
    person = shared | {"name": Field("Full_Name", also=("Last_Name", "First_Name"))}
    own = {
        "segment": Field((options.segment_field,)) if options.segment_field else Field(),
        "is_vip": Field((options.vip_field,), "boolean") if options.vip_field else Field(),
    }
    return [
        Mapping(
            "Contacts", "customers",
            person
            | own
            | {
                "organization": Field("Account_Name.name"),
                "region": Field("Mailing_Country"),
                "birthday": Field("Date_of_Birth", "date"),
            },
            required=needed, ignored=IGNORED,
        ),
        Mapping(
            "Leads", "customers",
            person
            | {
                "organization": Field("Company"),
                "region": Field("Country"),
                "segment": Field(const="lead"),
            },
            required=needed, ignored=(*IGNORED, "Lead_Status"),
        ),
        Mapping(
            "Accounts", "customers",
            {
                "source_customer_id": Field("id"),
                "external_id": Field("Account_Number"),
                "name": Field("Account_Name"),
                "phone": Field("Phone"),
                "organization": Field("Account_Name"),
                "region": Field("Billing_Country"),
                "segment": Field("Account_Type"),
                "signup_at": Field("Created_Time", "instant"),
                "updated_at": CHANGED_AT,
            },
            required=needed, ignored=(*IGNORED, "Website", "Industry"),
        ),
        Mapping(
            "users", "agents",
            {
                "source_agent_id": Field("id"),
                "name": Field("full_name", also=("last_name", "first_name")),
                "email": Field("email"),
                "role": Field(const="agent"),
                "team": Field("role.name"),
                "languages": Field("language", "text_list"),
                "is_active": Field("status", values=values({"active": "true"}), unknown="false"),
                "updated_at": Field("Modified_Time", "instant"),
            },
            required=("source_agent_id",),
        ),
    ]  # fmt: skip


def map_cases(options: Options) -> list[Mapping]:
    """A case, what it says, and its comments, which are the agents' own."""
    product = Field("Product_Name.name")
    if options.product_field:
        product = Field((options.product_field,))
    channel = Field("Case_Origin", values=values(CHANNELS), unknown="other")
    ids = ("source_record_id", "source_case_id")
    return [
        Mapping(
            "Cases", "cases",
            {
                "source_case_id": Field("id"),
                "channel": channel,
                "subject": Field("Subject"),
                "source_customer_id": CUSTOMER,
                "priority": Field("Priority", values=values(PRIORITIES), unknown="normal"),
                "status": Field("Status", values=name_statuses(options), unknown="open"),
                "assignee_id": Field("Owner.id"),
                "product": product,
                "tags": list_tags(),
                "opened_at": Field("Created_Time", "instant"),
                "updated_at": CHANGED_AT,
            },
            required=("source_case_id",),
            ignored=(
                *IGNORED, "Case_Number", "Type", "Case_Reason", "Email", "Phone", "Deal_Name",
                "Product_Name", "Reported_By", "Solution", "No_of_comments",
            ),
        ),
        Mapping(
            "Cases", "messages",
            {
                "source_record_id": Field("id", prefix="case-"),
                "source_case_id": Field("id"),
                "author_id": CUSTOMER,
                "author_role": Field(const="customer"),
                "is_public": Field(const=True),
                "channel": channel,
                "created_at": Field("Created_Time", "instant"),
                "body": Field("Description"),
                "sequence": Field(const=0),
            },
            when=(When("Description"),), required=ids,
        ),
        Mapping(
            "Cases", "messages",
            {
                "source_record_id": Field("item.id", prefix="comment-"),
                "source_case_id": Field("id"),
                "author_id": Field("item.commented_by", pattern=BY, lookup=USER),
                "author_role": Field(const="agent"),
                "is_public": Field(const=False),
                "created_at": Field("item.commented_time", "instant"),
                "body": Field("item.comment_content"),
            },
            when=(When("item.comment_content"),), explode="Comments", required=ids,
        ),
    ]  # fmt: skip


def name_statuses(options: Options) -> tuple[tuple[str, str], ...]:
    return values(STATUSES | options.statuses)


def list_tags() -> Field:
    paths = tuple(f"Tag.{place}.name" for place in range(10))
    return Field(paths[0], "text_list", also=paths[1:], joined_by="|")


def map_notes() -> list[Mapping]:
    """Notes of cases are internal; those of other records say nothing of a case."""
    return [
        Mapping(
            "Notes", "messages",
            {
                "source_record_id": Field("id", prefix="note-"),
                "source_case_id": Field("Parent_Id.id"),
                "author_id": Field("Created_By.id", also=("Owner.id",)),
                "author_role": Field(const="agent"),
                "is_public": Field(const=False),
                "created_at": Field("Created_Time", "instant"),
                "body": Field("Note_Title", also=("Note_Content",), joined_by="\n"),
            },
            when=(
                When("Parent_Id.module.api_name", ("Cases",), also=(("$se_module",),)),
                When("Note_Title", also=("Note_Content",)),
            ),
            required=("source_record_id",),
            ignored=(
                *IGNORED, "Modified_Time", "$is_shared_to_client", "$attachments", "$voice_note",
            ),
        )
    ]  # fmt: skip


def map_timeline(options: Options) -> list[Mapping]:
    """Changes of a case's status, priority and owner; users are named, or given with their ids."""
    was, to = "item._value.old", "item._value.new"
    statuses, priorities = name_statuses(options), values(PRIORITIES)
    by_id = r'"id"\s*:\s*"(\w+)"'
    is_object, is_name = When(to, pattern=r"^\{"), When(to, pattern=r"^\{", is_negated=True)
    changes: tuple[tuple[str, str, Field, Field, tuple[When, ...]], ...] = (
        ("status", "Status", Field(was, values=statuses, unknown="open"),
         Field(to, values=statuses, unknown="open"), ()),
        ("priority", "Priority", Field(was, values=priorities, unknown="normal"),
         Field(to, values=priorities, unknown="normal"), ()),
        ("assignee", "Owner", Field(was, lookup=USER), Field(to, lookup=USER), (is_name,)),
        ("assignee", "Owner", Field(was, pattern=by_id), Field(to, pattern=by_id), (is_object,)),
    )  # fmt: skip
    entry = {
        "source_case_id": Field("caseId"),
        "event_at": Field("audited_time", "instant"),
        "actor_id": Field("done_by.id"),
    }
    restored = entry | {
        "source_event_id": Field("id", suffix=":restored"),
        "event_type": Field(const="status_changed"),
        "to_value": Field(const="open"),
    }
    is_restored = (
        When("action", ("restored",)), When("record.module.api_name", ("Cases",)),
    )  # fmt: skip
    needed = ("source_event_id", "source_case_id")
    return [
        # A case that came back from the recycle bin is deleted no more.
        Mapping("timeline", "case_events", restored, when=is_restored, required=needed),
        *(Mapping(
            "timeline", "case_events",
            entry
            | {
                "source_event_id": Field("id", also=("item.api_name",), joined_by=":"),
                "event_type": Field(const=f"{kind}_changed"),
                "from_value": before,
                "to_value": after,
            },
            when=(When("item.api_name", (name,)), When(to, also=(was,)), *conditions),
            explode="field_history", required=needed,
            ignored=(
                "source", "related_record", "automation_details", "extension", "type",
                "record_exported",
            ),
        )
        for kind, name, before, after, conditions in changes),
    ]  # fmt: skip


def map_orders(options: Options) -> list[Mapping]:
    order = {
        "source_order_id": Field("id"),
        "source_customer_id": Field("Contact_Name.id", also=("Account_Name.id",)),
        "currency": Field("Currency"),
        "updated_at": CHANGED_AT,
    }
    needed = ("source_order_id",)
    if options.orders == "Deals":
        columns = {
            "ordered_at": Field("Closing_Date", "instant", also=("Created_Time",)),
            "product": Field("Deal_Name"),
            "amount": Field("Amount", "number"),
            "status": Field("Stage"),
        }
        return [
            Mapping("Deals", "orders", order | columns,
                    when=(When("Stage", tuple(options.won_stages)),), required=needed,
                    ignored=(*IGNORED, "Type", "Created_Time"))
        ]  # fmt: skip
    columns = {
        "ordered_at": Field("Created_Time", "instant"),
        "product": Field("Subject"),
        "amount": Field("Grand_Total", "number"),
        "status": Field("Status"),
    }
    return [
        Mapping("Sales_Orders", "orders", order | columns, required=needed,
                ignored=(*IGNORED, "SO_Number", "Deal_Name", "Due_Date"))
    ]  # fmt: skip


def map_deletions(options: Options) -> list[Mapping]:
    """A case is deleted by an event; customers and orders are told to be gone."""
    deleted_at = Field("deleted_time", "instant")
    ignored = ("display_name", "type", "created_by", "Created_By", "deleted_by")
    gone = [(name, "customers") for name in ("Accounts", "Contacts", "Leads")]
    gone += [(name, "orders") for name in ("Sales_Orders", "Deals") if name == options.orders]
    return [
        Mapping(
            "deleted_Cases", "case_events",
            {
                "source_event_id": Field("id", suffix=":deleted"),
                "source_case_id": Field("id"),
                "event_at": deleted_at,
                "event_type": Field(const="deleted"),
                "actor_id": Field("deleted_by.id"),
            },
            required=("source_event_id",), ignored=ignored,
        ),
        *(
            map_deletion(
                f"deleted_{name}", entity, Field("id"),
                deleted_at=deleted_at, updated_at=deleted_at, ignored=ignored,
            )
            for name, entity in gone
        ),
    ]  # fmt: skip


KINDS = {
    "zoho_crm": Kind(
        "zoho_crm",
        "Zoho CRM: contacts, accounts, leads, cases with timeline and notes, orders or deals, "
        "users",
        Options,
        ("customers", "cases", "messages", "case_events", "orders", "agents",
         "deletions"),
        pull,
        mappings,
        needs_connection=True,
        default_url=DEFAULT_URL,
        secrets=list_secrets(SCOPES),
        check=check,
        summary_zh="Zoho CRM：联系人、客户、线索，个案与时间线、备注，订单或商机，用户",
    )
}  # fmt: skip

"""Salesforce: cases with their history, comments and mails, contacts, accounts, users, queues.

Each object is read by SOQL, deleted rows included, in the order of ``SystemModstamp`` (histories,
which never change, of ``CreatedDate``) and from a little before the newest row that is known.
The rows of a query stay the same while its pages are read. A pull that was stopped asks again from
the last row that it has, and so does one whose query Salesforce has forgotten.

``start`` bounds cases and what belongs to them. People, accounts and queues are read whole: a case
of today may be of a contact of long ago.

Fields are asked for by name. Those that this org or login does not have are left out; further ones
are named in ``fields``. What Salesforce does not give: a satisfaction score (name the field of your
survey package in ``csat_field``), its own metrics, histories of fields that are not tracked (Setup,
Object Manager, Case, Set History Tracking), what was deleted more than 15 days ago. A case that
came by mail may have its first text twice, as description and as mail: clean marks the second.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError, UsageError
from pipelines.mapping import Field, Lookup, Mapping, When, values
from pipelines.settings import Source, nearest
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.deletions import map_deletion
from pipelines.sources.http import (
    Budget,
    ClientSecrets,
    Limits,
    describe_connection,
    explain_http_errors,
    keep_host,
    open_client,
    sign_in,
    split_api,
)

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import HTTPError, Response

API = re.compile(r"/services/data(?:/v(?P<version>\d+\.\d+))?/?$")
DAY_SECONDS = 24 * 3600.0
MOST_ATTEMPTS = 60  # fields that may be missing one by one, or queries that may be forgotten


@dataclass(frozen=True)
class Thing:
    """One object to read: its fields, its cursor, and whether ``start`` bounds it."""

    name: str
    fields: tuple[str, ...]
    cursor: str = "SystemModstamp"
    is_bounded: bool = False
    is_required: bool = False


THINGS = (
    Thing("User", (
        "Id", "Name", "Email", "Username", "FederationIdentifier", "IsActive", "UserType",
        "ContactId", "UserRoleId", "Department", "LanguageLocaleKey", "CreatedDate",
        "SystemModstamp",
    )),
    Thing("Group", ("Id", "Name", "DeveloperName", "Type", "SystemModstamp")),
    Thing("CaseStatus", ("Id", "MasterLabel", "ApiName", "IsClosed", "SystemModstamp")),
    Thing("Account", (
        "Id", "Name", "Type", "Industry", "Phone", "Website", "BillingCountry", "ParentId",
        "OwnerId", "IsDeleted", "MasterRecordId", "CreatedDate", "SystemModstamp",
    )),
    Thing("Contact", (
        "Id", "Name", "FirstName", "LastName", "Email", "Phone", "MobilePhone", "AccountId",
        "Title", "Department", "Birthdate", "MailingCountry", "HasOptedOutOfEmail", "DoNotCall",
        "LeadSource", "OwnerId", "IsDeleted", "MasterRecordId", "CreatedDate", "LastModifiedDate",
        "SystemModstamp",
    )),
    Thing("Case", (
        "Id", "CaseNumber", "Subject", "Description", "Status", "Priority", "Origin", "Type",
        "Reason", "ContactId", "AccountId", "OwnerId", "ParentId", "MasterRecordId",
        "SuppliedEmail", "SuppliedName", "SuppliedPhone", "SuppliedCompany", "IsClosed",
        "IsEscalated", "IsDeleted", "CreatedById", "CreatedDate", "ClosedDate", "LastModifiedById",
        "LastModifiedDate", "SystemModstamp",
    ), is_bounded=True, is_required=True),
    Thing("CaseHistory", (
        "Id", "CaseId", "Field", "DataType", "OldValue", "NewValue", "CreatedById", "CreatedDate",
        "IsDeleted",
    ), cursor="CreatedDate", is_bounded=True),
    Thing("CaseComment", (
        "Id", "ParentId", "CommentBody", "IsPublished", "IsDeleted", "CreatedById", "CreatedDate",
        "LastModifiedDate", "SystemModstamp",
    ), is_bounded=True),
    Thing("EmailMessage", (
        "Id", "ParentId", "Subject", "TextBody", "HtmlBody", "FromAddress", "FromName",
        "ToAddress", "CcAddress", "Incoming", "HasAttachment", "Status", "MessageDate",
        "ReplyToEmailMessageId", "IsDeleted", "CreatedById", "CreatedDate", "LastModifiedDate",
        "SystemModstamp",
    ), is_bounded=True),
)  # fmt: skip

# What the API says of an object that this org or login does not have.
ABSENT = (
    "INVALID_TYPE", "INSUFFICIENT_ACCESS", "INSUFFICIENT_ACCESS_OR_READONLY", "NOT_FOUND",
    "FUNCTIONALITY_NOT_ENABLED",
)  # fmt: skip
REFUSALS = {
    "REQUEST_LIMIT_EXCEEDED": "the API requests of the org are used up; run it again later",
    "API_DISABLED_FOR_ORG": "the edition of this org has no API; ask for API access",
    "API_CURRENTLY_DISABLED": "the API is switched off for this org; ask its administrator",
}

STATUSES = {
    "new": "new", "open": "open", "working": "open", "in progress": "open", "escalated": "open",
    "assigned": "open", "reopened": "open", "re-opened": "open", "customer responded": "open",
    "pending": "pending", "waiting on customer": "pending", "waiting for customer": "pending",
    "awaiting reply": "pending", "on hold": "hold", "hold": "hold", "solved": "solved",
    "resolved": "solved", "closed": "closed", "cancelled": "closed", "canceled": "closed",
    "duplicate": "closed",
}  # fmt: skip
CANONICAL_STATUSES = {name: name for name in ("new", "open", "pending", "hold", "solved", "closed")}
PRIORITIES = {
    "critical": "urgent", "urgent": "urgent", "high": "high", "medium": "normal",
    "normal": "normal", "low": "low",
}  # fmt: skip
CHANNELS = {
    "phone": "phone", "call": "phone", "voice": "phone", "email": "email", "e-mail": "email",
    "web": "web_form", "web form": "web_form", "website": "web_form", "portal": "web_form",
    "chat": "chat", "live chat": "chat", "messaging": "chat", "sms": "chat", "whatsapp": "chat",
    "wechat": "chat", "bot": "chat", "facebook": "social", "twitter": "social", "x": "social",
    "instagram": "social", "social": "social", "community": "forum", "forum": "forum",
    "api": "api",
}  # fmt: skip
PORTAL_USERS = (
    "CspLitePortal", "CustomerSuccess", "PowerCustomerSuccess", "PowerPartner", "Guest",
    "CSPLitePortal", "Partner",
)  # fmt: skip
MACHINE_USERS = ("AutomatedProcess", "CloudIntegrationUser")
QUEUE = "^(00G.*)$"
NO_QUEUE = "^([^0].*|0[^0].*|00[^G].*)$"
DRAFT = "5"


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    api_version: str = Option(
        default="62.0", pattern=r"^\d+\.\d$", description="version of Salesforce's API"
    )
    fields: dict[str, list[str]] = Option(
        default_factory=dict, description="further fields to capture, by object"
    )
    statuses: dict[str, str] = Option(
        default_factory=dict, description="your case status = new open pending hold solved closed"
    )
    channels: dict[str, str] = Option(
        default_factory=dict, description="your case origin = a channel"
    )
    priorities: dict[str, str] = Option(
        default_factory=dict, description="your case priority = urgent high normal low"
    )
    product_field: str | None = Option(default=None, description="field of Case with the product")
    csat_field: str | None = Option(default=None, description="field of Case with a satisfaction")
    csat_comment_field: str | None = Option(default=None, description="field with its comment")
    csat_scale: tuple[float, float] = Option(default=(1, 5), description="worst and best score")
    bots: list[str] = Option(default_factory=list, description="ids of users that are bots")
    reserve_requests: int = Option(
        default=0, ge=0, description="requests of the day that are left to others"
    )
    page_size: int = Option(default=2000, ge=200, le=2000, description="records asked for at once")
    overlap_seconds: int = Option(
        default=60, ge=1, description="how long a transaction may take to show its rows"
    )

    def wanted_fields(self, thing: Thing) -> list[str]:
        """The fields of an object, those that the options name included."""
        own = list(self.fields.get(thing.name, []))
        if thing.name == "Case":
            named = (self.product_field, self.csat_field, self.csat_comment_field)
            own += [name for name in named if name]
        return list(dict.fromkeys([*thing.fields, *own]))


def connect(source: Source, context: PullContext, options: Options) -> RESTClient:
    site, version = split_api(source.base_url, API)
    client = open_client(
        source.model_copy(update={"base_url": site}),
        context,
        f"/services/data/v{version or options.api_version}",
        headers={"Sforce-Query-Options": f"batchSize={options.page_size}"},
        limits=Limits(
            is_limited=is_limited, budget=read_budget, reserve=options.reserve_requests + 1
        ),
    )
    client.auth = sign_in(
        source, context, client, lambda held: ask_for_token(site, held),
        "a login (consumer key) and a password (consumer secret) of a connected app, or a password "
        "alone (a ready access token)",
    )  # fmt: skip
    return client


def ask_for_token(site: str, held: ClientSecrets) -> tuple[str, dict[str, str]] | None:
    """The request for a token, by a refresh token or by the credentials of a client."""
    refresh_token = held.extra.get("refresh_token")
    if not (held.client_secret or refresh_token):
        return None
    request = {"client_id": held.client_id, "grant_type": "client_credentials"}
    if held.client_secret:
        request["client_secret"] = held.client_secret
    if refresh_token:
        request |= {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return f"{site}/services/oauth2/token", request


def read_faults(response: Response | None) -> list[tuple[str, str]]:
    """(error code, message) of an answer that is a list of errors; empty for anything else."""
    try:
        body = response.json() if response is not None else None
    except ValueError:
        return []
    return [
        (str(error.get("errorCode", "")), str(error.get("message", "")))
        for error in (body if isinstance(body, list) else [])
        if isinstance(error, dict)
    ]


def is_limited(response: Response) -> bool:
    """Too many requests are a 403 here, with a code that tells it from "not allowed"."""
    if response.status_code != 403:
        return response.status_code == 429
    return any(code == "REQUEST_LIMIT_EXCEEDED" for code, _ in read_faults(response))


def read_budget(response: Response) -> Budget | None:
    """``Sforce-Limit-Info: api-usage=18/5000``: requests of the last 24 hours, and the most."""
    found = re.search(r"api-usage=(\d+)/(\d+)", response.headers.get("Sforce-Limit-Info", ""))
    if found is None:
        return None
    return Budget(int(found[2]) - int(found[1]), DAY_SECONDS)


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Every row that is new or changed since the remembered position, object by object."""
    options = read_options(source, Options)
    client = connect(source, context, options)
    position = copy.deepcopy(context.position)
    with explain_http_errors(source.name, source.connection):
        for thing in THINGS:
            yield from Reader(source, context, options, client, position, thing).read()


def check(source: Source, context: PullContext) -> str:
    """Count the cases: shows whether the login may read them."""
    options = read_options(source, Options)
    client = connect(source, context, options)
    with explain_http_errors(source.name, source.connection):
        response = client.get("query", params={"q": "SELECT COUNT() FROM Case"})
        faults = read_faults(response)
        if not response.ok and faults:
            raise explain_fault(source, "Case", *faults[0])
        response.raise_for_status()
        return f"{response.json()['totalSize']:,} cases"


def explain_fault(source: Source, name: str, code: str, message: str) -> HearbackError:
    """What an error code of the API means, in one line."""
    where = f"source {source.name!r}"
    check_it = describe_connection(source.connection)
    if code in REFUSALS:
        return HearbackError(f"{where}: {REFUSALS[code]}")
    if code in ABSENT:
        return HearbackError(f"{where}: the login may not read {name}; give it read access")
    if code == "INVALID_SESSION_ID":
        return HearbackError(f"{where}: the access token was refused{check_it}")
    first = message.strip().splitlines()[-1][:200] if message.strip() else "no message"
    return HearbackError(f"{where}: Salesforce refused to read {name} ({code}: {first})")


@dataclass
class Reader:
    """Reads one object from its place in ``position``, and moves that place along."""

    source: Source
    context: PullContext
    options: Options
    client: RESTClient
    position: dict[str, Any]
    thing: Thing

    def __post_init__(self) -> None:
        self.site = split_api(self.source.base_url, API)[0]
        self.place: dict[str, Any] = self.position.setdefault(self.thing.name, {})
        absent = self.place.get("absent", [])
        self.fields = [f for f in self.options.wanted_fields(self.thing) if f not in absent]

    def read(self) -> Iterator[Batch]:
        """Every page; again without the fields that are not there, and behind a lost query.

        An object that is not there is skipped with a note, if it can be done without.
        """
        from requests.exceptions import HTTPError

        for _ in range(MOST_ATTEMPTS):
            try:
                yield from self.read_pages()
                return
            except HTTPError as error:
                if not self.mend(error):
                    return
        raise HearbackError(
            f"source {self.source.name!r}: {self.thing.name} could not be read in "
            f"{MOST_ATTEMPTS} attempts; run it again later"
        )

    def read_pages(self) -> Iterator[Batch]:
        from dlt.sources.helpers.rest_client.paginators import JSONLinkPaginator

        site = self.site

        class RecordsPaginator(JSONLinkPaginator):
            """Links are relative to the instance, not to the API below it."""

            def update_state(self, response: Response, data: list[Any] | None = None) -> None:
                link = data[0].get("nextRecordsUrl") if data else None
                self._next_reference = keep_host(site, link) if link else None

        pages = self.client.paginate(
            "queryAll",
            params={"q": self.write_query()},
            paginator=RecordsPaginator(),
            data_selector="$",  # the body as it is: it is read once
        )
        for page in pages:
            rows = page[0]["records"]
            newest = rows[-1].get(self.thing.cursor) if rows else None
            if newest and newest > self.place.get("since", ""):
                self.place["since"] = newest
            yield Batch(
                self.thing.name,
                [Record(str(row["Id"]), row, self.find_url(row)) for row in rows],
                copy.deepcopy(self.position),
            )

    def find_url(self, row: dict[str, Any]) -> str | None:
        """Where a person sees the record; that of its case for what belongs to one."""
        case_id = row.get("CaseId") or row.get("ParentId")
        if self.thing.name in ("Case", "Contact"):
            return f"{self.site}/lightning/r/{self.thing.name}/{row['Id']}/view"
        if self.thing.is_bounded and case_id:
            return f"{self.site}/lightning/r/Case/{case_id}/view"
        return None

    def write_query(self) -> str:
        """SOQL from the remembered time on, a little before it; ties come in the order of Id."""
        cursor = self.thing.cursor
        since: datetime | None = None
        if self.place.get("since"):
            overlap = timedelta(seconds=self.options.overlap_seconds)
            since = datetime.fromisoformat(self.place["since"]).astimezone(UTC) - overlap
        if self.thing.is_bounded and self.source.start:
            start = datetime.combine(self.source.start, time.min, UTC)
            since = max(since, start) if since else start
        where = ""
        if since:
            moment = since.strftime("%Y-%m-%dT%H:%M:%S.") + f"{since.microsecond // 1000:03}Z"
            where = f" WHERE {cursor} >= {moment}"
        return (
            f"SELECT {', '.join(self.fields)} FROM {self.thing.name}{where} "
            f"ORDER BY {cursor} ASC, Id ASC"
        )

    def mend(self, error: HTTPError) -> bool:
        """Make the next attempt possible; False if the object is to be left out.

        Raises the error, explained, if nothing can be done.
        """
        response = error.response
        code, message = next(iter(read_faults(response)), ("", ""))
        status = response.status_code if response is not None else 0
        name = self.thing.name
        is_further_page = response is not None and "/query/" in response.url
        if code == "INVALID_QUERY_LOCATOR" or (is_further_page and status in (404, 410)):
            return True
        if code == "INVALID_FIELD" and self.drop_fields(message):
            return True
        if code in ABSENT or (not code and status == 404 and name != "Case"):
            if self.thing.is_required:
                raise explain_fault(self.source, name, code, message) from error
            self.context.progress(
                f"extract {self.source.name}: {name} skipped, the login may not read it", 0
            )
            return False
        if code:
            raise explain_fault(self.source, name, code, message) from error
        raise error

    def drop_fields(self, message: str) -> bool:
        """Leave out the fields that the object does not have; whether there were any.

        UsageError if the options name one of them.
        """
        response = self.client.get(f"sobjects/{self.thing.name}/describe")
        if response.ok:
            known = [field["name"] for field in response.json()["fields"]]
            missing = [field for field in self.fields if field not in known]
        else:
            known = self.fields
            missing = [
                field
                for field in re.findall(r"[Nn]o such column '(\w+)'", message)
                if field in self.fields
            ]
        for field in missing:
            if field not in self.thing.fields:
                others = [name for name in known if name != field]
                raise UsageError(
                    f"source {self.source.name!r}: {self.thing.name} has no field "
                    f"{field!r}{nearest(field, others)}; mend its options"
                )
        self.fields = [field for field in self.fields if field not in missing]
        self.place["absent"] = sorted({*self.place.get("absent", []), *missing})
        return bool(missing)


def derive_statuses(source: Source, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the org's own case statuses mean: by name, else by whether they close a case."""
    options = read_options(source, Options)
    known = STATUSES | {name.lower(): value for name, value in options.statuses.items()}
    otherwise = "closed" if row.get("IsClosed") else "open"
    for name in dict.fromkeys((row.get("MasterLabel"), row.get("ApiName"))):
        if name:
            yield {"name": name, "status": known.get(name.lower(), otherwise)}


def derive_people(source: Source, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Who a user is: portal users are the contacts behind them, machines are bots."""
    options = read_options(source, Options)
    kind = row.get("UserType")
    role = "customer" if kind in PORTAL_USERS else "agent"
    if kind in MACHINE_USERS or row["Id"] in options.bots:
        role = "bot"
    person = row.get("ContactId") if role == "customer" else None
    yield {"id": row["Id"], "role": role, "person": person or row["Id"]}


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    return [
        *map_cases(options),
        *map_messages(options),
        *map_events(options),
        *map_people(),
        *map_satisfaction(options),
        *map_gone(options),
    ]


def status_field(options: Options, path: str, unknown: str) -> Field:
    known = STATUSES | CANONICAL_STATUSES | options.statuses
    lookup = Lookup("CaseStatus", "name", "status")
    return Field(path, lookup=lookup, values=values(known), unknown=unknown)


def person_field(path: str) -> Field:
    return Field(path, lookup=Lookup("User", "id", "person"))


def role_field(path: str) -> Field:
    """The role of a user; one that cannot be looked up is taken for an agent."""
    roles = {name: name for name in ("customer", "agent", "bot")}
    return Field(path, lookup=Lookup("User", "id", "role"), values=values(roles), unknown="agent")


CUSTOMER = Field("ContactId", also=("SuppliedEmail",))
IS_DELETED = When("IsDeleted", ("true",))
IS_THERE = When("IsDeleted", ("true",), is_negated=True)
IS_CLOSED = When("IsClosed", ("true",))
IS_OPEN = When("IsClosed", ("true",), is_negated=True)
IS_MERGED = When("MasterRecordId")
IS_ITSELF = When("MasterRecordId", is_negated=True)
UPDATED = Field("SystemModstamp", "instant", also=("LastModifiedDate",))
ATTRIBUTES = ("attributes", "Id", "IsDeleted", "SystemModstamp")


def map_cases(options: Options) -> list[Mapping]:
    """A case is deleted, merged into another, closed or open: each says its status otherwise."""
    channels = CHANNELS | options.channels
    priorities = PRIORITIES | options.priorities
    fields = {
        "source_case_id": Field("Id"),
        "channel": Field("Origin", values=values(channels), unknown="other"),
        "subject": Field("Subject"),
        "source_customer_id": CUSTOMER,
        "priority": Field("Priority", values=values(priorities), unknown="normal"),
        "source_group": Field("OwnerId", pattern=QUEUE, lookup=Lookup("Group", "Id", "Name")),
        "assignee_id": Field("OwnerId", pattern=NO_QUEUE),
        "product": Field(options.product_field),
        "merged_into": Field("MasterRecordId"),
        "opened_at": Field("CreatedDate", "instant"),
        "updated_at": UPDATED,
    }
    closed = status_field(options, "Status", "closed")
    splits: list[tuple[Field, tuple[When, ...]]] = [
        (Field(const="deleted"), (IS_DELETED, IS_ITSELF)),
        (Field(const="closed"), (IS_DELETED, IS_MERGED)),
        (closed, (IS_THERE, IS_CLOSED)),
        (status_field(options, "Status", "open"), (IS_THERE, IS_OPEN)),
    ]
    return [
        Mapping(
            "Case",
            "cases",
            {**fields, "status": status},
            when=when,
            required=("source_case_id",),
            ignored=(
                *ATTRIBUTES, "CaseNumber", "Type", "Reason", "AccountId", "ParentId",
                "SuppliedName",
                "SuppliedPhone", "SuppliedCompany", "IsEscalated", "LastModifiedById",
                "LastModifiedDate", *options.fields.get("Case", ()),
            ),
        )
        for status, when in splits
    ]  # fmt: skip


def map_messages(options: Options) -> list[Mapping]:
    phones = tuple(
        name for name, channel in (CHANNELS | options.channels).items() if channel == "phone"
    )
    is_call = When("Origin", pattern=rf"(?i)^\s*({'|'.join(map(re.escape, phones))})\s*$")
    is_no_call = When(is_call.path, is_negated=True, pattern=is_call.pattern)
    opening = {
        "source_record_id": Field("Id", suffix=":description"),
        "source_case_id": Field("Id"),
        "channel": Field("Origin", values=values(CHANNELS | options.channels), unknown="other"),
        "created_at": Field("CreatedDate", "instant"),
        "body": Field("Description"),
    }
    required = ("source_record_id", "source_case_id")
    mail = {
        "source_record_id": Field("Id"),
        "source_case_id": Field("ParentId"),
        "is_public": Field(const=True),
        "channel": Field(const="email"),
        "created_at": Field("MessageDate", "instant", also=("CreatedDate",)),
        "body": Field("TextBody", also=("HtmlBody", "Subject")),
    }
    is_mail = (
        When("ParentId"),
        When("Status", (DRAFT,), is_negated=True),
        IS_THERE,
    )
    return [
        Mapping(
            "Case",
            "messages",
            {
                **opening,
                "author_id": CUSTOMER,
                "author_role": Field(const="customer"),
                "is_public": Field(const=True),
            },
            when=(When("Description"), is_no_call),
            required=required,
        ),
        # What an agent wrote down while the customer spoke.
        Mapping(
            "Case",
            "messages",
            {
                **opening,
                "author_id": person_field("CreatedById"),
                "author_role": role_field("CreatedById"),
                "is_public": Field(const=False),
            },
            when=(When("Description"), is_call),
            required=required,
        ),
        Mapping(
            "CaseComment",
            "messages",
            {
                "source_record_id": Field("Id"),
                "source_case_id": Field("ParentId"),
                "author_id": person_field("CreatedById"),
                "author_role": role_field("CreatedById"),
                "is_public": Field("IsPublished", "boolean"),
                "channel": Field(const="web_form"),
                "created_at": Field("CreatedDate", "instant"),
                "body": Field("CommentBody"),
            },
            when=(IS_THERE,),
            required=required,
            ignored=(*ATTRIBUTES, "LastModifiedDate", *options.fields.get("CaseComment", ())),
        ),
        Mapping(
            "EmailMessage",
            "messages",
            {
                **mail,
                "author_id": Field("FromAddress"),
                "author_role": Field(const="customer"),
            },
            when=(*is_mail, When("Incoming", ("true",))),
            required=required,
            ignored=(
                *ATTRIBUTES, "FromName", "ToAddress", "CcAddress", "HasAttachment",
                "ReplyToEmailMessageId", "LastModifiedDate",
                *options.fields.get("EmailMessage", ()),
            ),
        ),
        Mapping(
            "EmailMessage",
            "messages",
            {
                **mail,
                "author_id": person_field("CreatedById"),
                "author_role": role_field("CreatedById"),
            },
            when=(*is_mail, When("Incoming", ("true",), is_negated=True)),
            required=required,
        ),
    ]  # fmt: skip


def map_events(options: Options) -> list[Mapping]:
    """The history of tracked fields; and from the case itself its end, deletion or merger."""
    change = {
        "source_event_id": Field("Id"),
        "source_case_id": Field("CaseId"),
        "event_at": Field("CreatedDate", "instant"),
        "actor_id": person_field("CreatedById"),
        "actor_role": role_field("CreatedById"),
    }
    own = {
        "source_case_id": Field("Id"),
        "actor_role": Field(const="system"),
    }
    required = ("source_event_id", "source_case_id")
    priority = values(PRIORITIES | options.priorities)
    queue = Lookup("Group", "Id", "Name")
    # A change of owner is told twice: once by ids, once by names.
    is_by_id = When("DataType", ("Text",), is_negated=True)
    return [
        Mapping(
            "CaseHistory",
            "case_events",
            {
                **change,
                "event_type": Field(const="status_changed"),
                "from_value": status_field(options, "OldValue", "open"),
                "to_value": status_field(options, "NewValue", "open"),
            },
            when=(When("Field", ("Status",)),),
            required=required,
            ignored=ATTRIBUTES,
        ),
        Mapping(
            "CaseHistory",
            "case_events",
            {
                **change,
                "event_type": Field(const="priority_changed"),
                "from_value": Field("OldValue", values=priority, unknown="normal"),
                "to_value": Field("NewValue", values=priority, unknown="normal"),
            },
            when=(When("Field", ("Priority",)),),
            required=required,
        ),
        Mapping(
            "CaseHistory",
            "case_events",
            {
                **change,
                "event_type": Field(const="assignee_changed"),
                "from_value": Field("OldValue", pattern=NO_QUEUE),
                "to_value": Field("NewValue", pattern=NO_QUEUE),
            },
            when=(When("Field", ("Owner", "OwnerId")), is_by_id),
            required=required,
        ),
        Mapping(
            "CaseHistory",
            "case_events",
            {
                **change,
                "source_event_id": Field("Id", suffix=":group"),
                "event_type": Field(const="group_changed"),
                "from_value": Field("OldValue", pattern=QUEUE, lookup=queue),
                "to_value": Field("NewValue", pattern=QUEUE, lookup=queue),
            },
            when=(
                When("Field", ("Owner", "OwnerId")), is_by_id, When("NewValue", pattern=QUEUE),
            ),
            required=required,
        ),
        # Histories are often not tracked; the same end told twice is one end.
        Mapping(
            "Case",
            "case_events",
            {
                **own,
                "source_event_id": Field("Id", also=("ClosedDate",), joined_by=":closed:"),
                "event_at": Field("ClosedDate", "instant"),
                "event_type": Field(const="status_changed"),
                "to_value": status_field(options, "Status", "closed"),
            },
            when=(IS_THERE, IS_CLOSED, When("ClosedDate")),
            required=required,
        ),
        Mapping(
            "Case",
            "case_events",
            {
                **own,
                "source_event_id": Field("Id", suffix=":merged"),
                "event_at": UPDATED,
                "event_type": Field(const="merged"),
                "to_value": Field("MasterRecordId"),
            },
            when=(IS_MERGED,),
            required=required,
        ),
        Mapping(
            "Case",
            "case_events",
            {
                **own,
                "source_event_id": Field("Id", suffix=":deleted"),
                "event_at": UPDATED,
                "event_type": Field(const="deleted"),
            },
            when=(IS_DELETED, IS_ITSELF),
            required=required,
        ),
    ]  # fmt: skip


def map_people() -> list[Mapping]:
    contact = {
        "source_customer_id": Field("Id"),
        "name": Field("Name", also=("LastName",)),
        "email": Field("Email"),
        "phone": Field("Phone", also=("MobilePhone",)),
        "organization": Field("AccountId", lookup=Lookup("Account", "Id", "Name")),
        "region": Field("MailingCountry"),
        "birthday": Field("Birthdate", "date"),
        "updated_at": UPDATED,
    }
    required = ("source_customer_id",)
    return [
        Mapping(
            "Contact",
            "customers",
            {**contact, "do_not_contact": Field("HasOptedOutOfEmail", "boolean")},
            required=required,
            ignored=(
                *ATTRIBUTES, "FirstName", "Title", "Department", "DoNotCall", "LeadSource",
                "OwnerId", "CreatedDate",
            ),
        ),
        # People who wrote before anybody made a contact of them. Their cases may call them by many
        # names, so that only the address is taken.
        Mapping(
            "Case",
            "customers",
            {
                "source_customer_id": Field("SuppliedEmail"),
                "email": Field("SuppliedEmail"),
                "updated_at": UPDATED,
            },
            when=(When("ContactId", is_negated=True), When("SuppliedEmail")),
            required=required,
        ),
        Mapping(
            "User",
            "agents",
            {
                "source_agent_id": Field("Id"),
                "external_id": Field("FederationIdentifier"),
                "name": Field("Name"),
                "email": Field("Email"),
                "role": role_field("Id"),
                "team": Field("Department"),
                "is_active": Field("IsActive", "boolean"),
                "updated_at": Field("SystemModstamp", "instant"),
            },
            when=(When("UserType", PORTAL_USERS, is_negated=True),),
            required=("source_agent_id",),
            ignored=(
                *ATTRIBUTES, "Username", "ContactId", "UserRoleId", "LanguageLocaleKey",
                "CreatedDate",
            ),
        ),
    ]  # fmt: skip


def map_gone(options: Options) -> list[Mapping]:
    """What was deleted, and contacts that were merged: the recycle bin has each with its time."""
    told: list[tuple[str, str, Field, tuple[When, ...]]] = [
        ("Contact", "customers", Field("Id"), (IS_DELETED,))
    ]
    told += [
        (raw, "feedback", Field("Id"), (IS_DELETED,)) for raw in ("CaseComment", "EmailMessage")
    ]
    if options.csat_field:
        rated, answer = (IS_DELETED, When(options.csat_field)), Field("Id", suffix=":csat")
        told += [("Case", entity, answer, rated) for entity in ("survey_responses", "feedback")]
    return [
        map_deletion(
            raw,
            entity,
            record,
            when=when,
            deleted_at=UPDATED,
            merged_into=Field("MasterRecordId") if raw == "Contact" else None,
            updated_at=UPDATED,
        )
        for raw, entity, record, when in told
    ]


def map_satisfaction(options: Options) -> list[Mapping]:
    if not options.csat_field:
        return []
    worst, best = options.csat_scale
    when_given = Field("ClosedDate", "instant", also=("LastModifiedDate", "SystemModstamp"))
    response = {
        "source_response_id": Field("Id", suffix=":csat"),
        "survey_id": Field(const="salesforce_case"),
        "question_id": Field(const=options.csat_field),
        "kind": Field(const="csat"),
        "score": Field(options.csat_field, "number"),
        "scale_min": Field(const=float(min(worst, best))),
        "scale_max": Field(const=float(max(worst, best))),
        "higher_is_better": Field(const=best > worst),
        "comment": Field(options.csat_comment_field),
        "source_customer_id": CUSTOMER,
        "source_case_id": Field("Id"),
        "answered_at": when_given,
        "updated_at": UPDATED,
    }
    found = [
        Mapping(
            "Case",
            "survey_responses",
            response,
            when=(When(options.csat_field), IS_THERE),
            required=("source_response_id",),
        )
    ]
    if options.csat_comment_field:
        feedback = {
            "source_record_id": Field("Id", suffix=":csat"),
            "channel": Field(const="survey"),
            "source_case_id": Field("Id"),
            "source_customer_id": CUSTOMER,
            "created_at": when_given,
            "updated_at": response["updated_at"],
            "body": Field(options.csat_comment_field),
            "rating": response["score"],
            "rating_min": response["scale_min"],
            "rating_max": response["scale_max"],
        }
        found.append(
            Mapping(
                "Case",
                "feedback",
                feedback,
                when=(When(options.csat_comment_field), IS_THERE),
                required=("source_record_id",),
            )
        )
    return found


KINDS = {
    "salesforce": Kind(
        "salesforce",
        "Salesforce Service Cloud: cases, history, comments, mails, contacts, accounts, users, "
        "queues",
        Options,
        ("cases", "messages", "case_events", "customers", "agents", "survey_responses", "feedback",
         "deletions"),
        pull,
        mappings,
        needs_base_url=True,
        needs_connection=True,
        secrets=(
            Secret("login", "consumer key", "Setup → App Manager → New Connected App"),
            Secret(
                "password", "consumer secret, or without a login an access token",
                "App Manager → the app → Manage Consumer Details",
            ),
            Secret(
                "extra.refresh_token", "refresh token, if the app may not sign in by itself",
                "OAuth web server flow of the app",
                is_optional=True,
            ),
        ),
        check=check,
        derive={"CaseStatus": derive_statuses, "User": derive_people},
        summary_zh="Salesforce Service Cloud：个案、历史、评论、邮件、联系人、客户、用户、队列",
    )
}  # fmt: skip

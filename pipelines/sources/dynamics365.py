"""Microsoft Dynamics 365 (Dataverse Web API): incidents and what belongs to them, people, teams.

Tables that track changes are read whole once and then by their delta link, which also tells what
was deleted; a link that has expired means reading whole again. Other tables are read by
``modifiedon``, from a little before the newest row that is known; of these no deletion is seen.

``start`` bounds incidents and activities: of a table that tracks changes, older rows are read past.
People, accounts and teams are read whole: an incident of today may be of a contact of long ago.

Codes are read, never their formatted twins, which follow the language of the login. Columns are
asked for by name; those that this environment does not have are left out, further ones are named in
``columns``.

What happened to an incident (status, owner, priority, deletion) is in the audit log, as far as
auditing is on for the table and its columns and the login has the privilege prvReadAuditSummary;
without it there are resolutions, mergers and what change tracking tells. The log is read by
``createdon``, in pages, with what changed as text in ``changedata``.

What Dataverse does not give: its own metrics, and the surveys of Customer Voice, which are a
product of its own.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError, UsageError
from pipelines.mapping import CAPTURED_AT, Field, Lookup, Mapping, When, values
from pipelines.settings import Source, nearest
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.deletions import map_deletion
from pipelines.sources.http import (
    ClientSecrets,
    Limits,
    describe_connection,
    explain_http_errors,
    header_budget,
    keep_host,
    open_client,
    sign_in,
    split_api,
)

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import HTTPError, Response

API = re.compile(r"/api/data(?:/v(?P<version>\d+\.\d+))?/?$")
LOGIN = "https://login.microsoftonline.com"
NEXT, DELTA = "@odata.nextLink", "@odata.deltaLink"
MOST_ATTEMPTS = 60  # columns that may be missing one by one, or links that may have expired
LINK_AGE = timedelta(days=1)  # links end after a week without use
WINDOW_SECONDS = 300.0  # requests are counted over five minutes
TYPE_OF = "@Microsoft.Dynamics.CRM.lookuplogicalname"


@dataclass(frozen=True)
class Table:
    """One entity set to read: its key, its columns, and whether ``start`` bounds it.

    ``moment`` is the column by which it is read if it tracks no changes. What has a ``condition``
    is part of a table, and such parts are never tracked.
    """

    name: str
    key: str
    columns: tuple[str, ...]
    is_bounded: bool = False
    is_required: bool = False
    moment: str = "modifiedon"
    condition: str = ""


TIMES = ("createdon", "modifiedon")
ACTIVITY = (
    "activityid", "subject", "description", "statecode", "statuscode", "_regardingobjectid_value",
    "_ownerid_value", "_createdby_value", "actualend", *TIMES,
)  # fmt: skip
TABLES = (
    Table("systemusers", "systemuserid", (
        "systemuserid", "fullname", "internalemailaddress", "employeeid", "title", "isdisabled",
        "accessmode", "applicationid", "_businessunitid_value", *TIMES,
    )),
    Table("teams", "teamid", ("teamid", "name", "teamtype", *TIMES)),
    Table("accounts", "accountid", (
        "accountid", "name", "accountnumber", "emailaddress1", "telephone1", "address1_country",
        "donotemail", "donotbulkemail", "statecode", "_primarycontactid_value", "merged",
        "_masterid_value", *TIMES,
    )),
    Table("contacts", "contactid", (
        "contactid", "fullname", "firstname", "lastname", "emailaddress1", "telephone1",
        "mobilephone", "birthdate", "address1_country", "jobtitle", "donotemail",
        "donotbulkemail", "donotphone", "statecode", "externaluseridentifier",
        "_parentcustomerid_value", "merged", "_masterid_value", *TIMES,
    )),
    Table("incidents", "incidentid", (
        "incidentid", "ticketnumber", "title", "description", "statecode", "statuscode",
        "prioritycode", "severitycode", "casetypecode", "caseorigincode",
        "customersatisfactioncode", "isescalated", "escalatedon", "firstresponsesent",
        "firstresponseslastatus", "resolvebyslastatus", "sentimentvalue", "merged",
        "_masterid_value", "_parentcaseid_value", "_customerid_value", "_primarycontactid_value",
        "_ownerid_value", "_subjectid_value", "_productid_value", "_createdby_value", *TIMES,
    ), is_bounded=True, is_required=True),
    Table("incidentresolutions", "activityid", (
        "activityid", "subject", "description", "statecode", "statuscode", "timespent",
        "_incidentid_value", "_createdby_value", "actualend", *TIMES,
    ), is_bounded=True),
    Table("emails", "activityid", (
        *ACTIVITY, "directioncode", "sender", "torecipients", "_emailsender_value", "senton",
    ), is_bounded=True),
    Table("phonecalls", "activityid", (*ACTIVITY, "directioncode", "phonenumber"), is_bounded=True),
    Table("annotations", "annotationid", (
        "annotationid", "subject", "notetext", "isdocument", "filename", "objecttypecode",
        "_objectid_value", "_createdby_value", *TIMES,
    ), is_bounded=True),
    Table("posts", "postid", (
        "postid", "text", "source", "type", "_regardingobjectid_value", "_createdby_value",
        *TIMES,
    ), is_bounded=True),
    Table("audits", "auditid", (
        "auditid", "operation", "action", "createdon", "objecttypecode", "_objectid_value",
        "_userid_value", "changedata",
    ), is_bounded=True, moment="createdon",
        condition="objecttypecode eq 'incident' and (operation eq 2 or operation eq 3)"),
)  # fmt: skip

PRIORITIES = {"1": "high", "2": "normal", "3": "low"}
CHANNELS = {
    "1": "phone", "2": "email", "3": "web_form", "2483": "social", "3986": "social",
    "700610000": "api", "192350000": "chat", "192350001": "chat", "192440000": "chat",
}  # fmt: skip
# Reasons of an active incident: in progress, on hold, waiting for details, researching.
ACTIVE = {"1": "open", "2": "hold", "3": "pending", "4": "open"}
# What an incident that is not active is by its state, else by its reason.
DONE = {
    "resolved": "solved", "cancelled": "closed", "5": "solved", "1000": "solved", "6": "closed",
    "2000": "closed",
}  # fmt: skip
STATES = {"0": "active", "1": "resolved", "2": "cancelled"}
AUDITED = ("ownerid", "prioritycode", "statecode", "statuscode")
UPDATE, DELETE = "2", "3"  # operations of the audit log
# Lookups of activities that are about something else than an incident.
OTHER_TABLES = (
    "account", "contact", "lead", "opportunity", "quote", "salesorder", "invoice", "contract",
    "campaign", "systemuser", "team", "queue", "knowledgearticle", "entitlement",
)  # fmt: skip


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    api_version: str = Option(
        default="9.2", pattern=r"^\d+\.\d$", description="version of the Web API"
    )
    columns: dict[str, list[str]] = Option(
        default_factory=dict, description="further columns to capture, by entity set"
    )
    statuses: dict[str, str] = Option(
        default_factory=dict,
        description="your statuscode of an active incident = new open pending hold",
    )
    channels: dict[str, str] = Option(
        default_factory=dict, description="your caseorigincode = a channel"
    )
    priorities: dict[str, str] = Option(
        default_factory=dict, description="your prioritycode = urgent high normal low"
    )
    satisfaction_scale: tuple[float, float] = Option(
        default=(1, 5), description="worst and best customersatisfactioncode"
    )
    product_column: str | None = Option(
        default=None, description="column of incidents with the product"
    )
    bots: list[str] = Option(default_factory=list, description="ids of users that are bots")
    audit_log: bool = Option(
        default=True, description="read who changed status, owner and priority of incidents"
    )
    page_size: int = Option(default=1000, ge=1, le=5000, description="records asked for at once")
    overlap_seconds: int = Option(
        default=60, ge=1, description="how long a transaction may take to show its rows"
    )

    def wanted_columns(self, table: Table) -> list[str]:
        """The columns of a table, those that the options name included."""
        own = list(self.columns.get(table.name, []))
        if table.name == "incidents" and self.product_column:
            own.append(self.product_column)
        return list(dict.fromkeys([*table.columns, *own]))


def connect(source: Source, context: PullContext, options: Options) -> RESTClient:
    site, version = split_api(source.base_url, API)
    client = open_client(
        source.model_copy(update={"base_url": site}),
        context,
        f"/api/data/v{version or options.api_version}",
        headers={"OData-Version": "4.0", "OData-MaxVersion": "4.0", "Accept": "application/json"},
        limits=Limits(budget=read_budget),
    )
    client.auth = sign_in(
        source, context, client, lambda held: ask_for_token(site, held),
        "a login (application id), a password (client secret) and extra.tenant (directory id), or "
        "a password alone (a ready access token)",
    )  # fmt: skip
    return client


def read_budget(response: Response) -> Any:
    """What is left of the five minutes; the header has no reset, the window slides."""
    names = ("x-ms-ratelimit-burst-remaining-xrm-requests",)
    left = header_budget(names, ())(response)
    return None if left is None else type(left)(left.remaining, WINDOW_SECONDS)


def ask_for_token(site: str, held: ClientSecrets) -> tuple[str, dict[str, str]] | None:
    """The request for a token of Entra ID, by the credentials of an application."""
    url = held.extra.get("token_url")
    if not url and held.extra.get("tenant"):
        url = f"{LOGIN}/{held.extra['tenant']}/oauth2/v2.0/token"
    if not held.client_secret or not url:
        return None
    parts = urlsplit(site)
    return url, {
        "client_id": held.client_id,
        "client_secret": held.client_secret,
        "grant_type": "client_credentials",
        "scope": held.extra.get("scope") or f"{parts.scheme}://{parts.netloc}/.default",
    }


def read_fault(response: Response | None) -> tuple[str, str]:
    """(code, message) of an error; empty texts if the answer is none of the API's."""
    try:
        error = response.json()["error"] if response is not None else {}
        return str(error.get("code", "")), str(error.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""


def first_line(message: str) -> str:
    return (message.strip().splitlines() or ["no message"])[0][:200]


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Every row that is new, changed or deleted since the remembered position, table by table."""
    options = read_options(source, Options)
    client = connect(source, context, options)
    position = copy.deepcopy(context.position)
    with explain_http_errors(source.name, source.connection):
        for table in TABLES:
            if table.name == "audits" and not options.audit_log:
                continue
            yield from Reader(source, context, options, client, position, table).read()


def check(source: Source, context: PullContext) -> str:
    """One incident: shows whether the login may read them."""
    options = read_options(source, Options)
    client = connect(source, context, options)
    with explain_http_errors(source.name, source.connection):
        response = client.get(
            "incidents",
            params={"$select": "incidentid", "$top": "1"},
            headers={"Prefer": "odata.maxpagesize=1"},
        )
        response.raise_for_status()
        return "incidents can be read" if response.json()["value"] else "no incident yet"


@dataclass
class Reader:
    """Reads one table from its place in ``position``, and moves that place along.

    The place has ``delta``, a link, of a table that tracks changes; ``since``, a time, of any
    other; ``is_untracked`` once it is known to be such.
    """

    source: Source
    context: PullContext
    options: Options
    client: RESTClient
    position: dict[str, Any]
    table: Table

    def __post_init__(self) -> None:
        self.site = split_api(self.source.base_url, API)[0]
        self.place: dict[str, Any] = self.position.setdefault(self.table.name, {})
        absent = self.place.get("absent", [])
        self.columns = [c for c in self.options.wanted_columns(self.table) if c not in absent]
        self.start: datetime | None = None
        if self.table.is_bounded and self.source.start:
            self.start = datetime.combine(self.source.start, time.min, UTC)

    def read(self) -> Iterator[Batch]:
        """Every page; again after what can be mended. A table that may be missing is skipped."""
        from requests.exceptions import HTTPError

        for _ in range(MOST_ATTEMPTS):
            try:
                if self.place.get("delta"):
                    yield from self.read_delta()
                elif self.place.get("is_untracked") or self.table.condition:
                    yield from self.read_modified()
                else:
                    yield from self.read_whole()
                return
            except NotTrackedError:
                self.place["is_untracked"] = True
            except HTTPError as error:
                if not self.mend(error):
                    return
        raise HearbackError(
            f"source {self.source.name!r}: {self.table.name} could not be read in "
            f"{MOST_ATTEMPTS} attempts; run it again later"
        )

    def read_pages(
        self, path: str, params: dict[str, str] | None = None, *, prefer: str = ""
    ) -> Iterator[tuple[dict[str, Any], Response]]:
        """(body, answer) of each page; links are followed word for word, at our host."""
        from dlt.sources.helpers.rest_client.paginators import JSONLinkPaginator

        site = self.site

        class LinkPaginator(JSONLinkPaginator):
            def update_state(self, response: Response, data: list[Any] | None = None) -> None:
                link = data[0].get(NEXT) if data else None
                self._next_reference = keep_host(site, link) if link else None

        size = f"odata.maxpagesize={self.options.page_size}"
        asked = [size, 'odata.include-annotations="*"', *([prefer] if prefer else [])]
        for page in self.client.paginate(
            path,
            params=params,
            paginator=LinkPaginator(),
            data_selector="$",  # the body as it is: it is read once
            headers={"Prefer": ",".join(asked)},
        ):
            yield page[0], page.response

    def read_whole(self) -> Iterator[Batch]:
        """All rows, and in the end a delta link; only the end can be remembered.

        NotTrackedError if the server does not say at once that it will give a link.
        """
        select = {"$select": ",".join(self.columns)}
        is_first = True
        for body, response in self.read_pages(
            self.table.name, select, prefer="odata.track-changes"
        ):
            if is_first and not is_delta_page(body, response):
                raise NotTrackedError
            is_first = False
            if body.get(DELTA):
                self.keep_delta(body[DELTA])
            elif NEXT not in body:
                raise NotTrackedError
            yield self.make_batch(body["value"], NEXT not in body)

    def read_delta(self) -> Iterator[Batch]:
        """What changed since the link was given, deleted rows included.

        Every answer brings a new link. Where nothing changed the old one is as good, for a day.
        """
        count = 0
        for body, _ in self.read_pages(keep_host(self.site, self.place["delta"])):
            count += len(body["value"])
            age = self.context.now - datetime.fromisoformat(self.place["delta_at"])
            if body.get(DELTA) and (count or age > LINK_AGE):
                self.keep_delta(body[DELTA])
            yield self.make_batch(body["value"], NEXT not in body)

    def keep_delta(self, link: str) -> None:
        self.place |= {"delta": link, "delta_at": self.context.now.isoformat()}

    def read_modified(self) -> Iterator[Batch]:
        """Rows in the order of their moment; each page moves the place along."""
        moment_column = self.table.moment
        since = self.start
        if self.place.get("since"):
            overlap = timedelta(seconds=self.options.overlap_seconds)
            moment = datetime.fromisoformat(self.place["since"]).astimezone(UTC) - overlap
            since = max(moment, since) if since else moment
        params = {"$select": ",".join(self.columns)}
        conditions = [self.table.condition] if self.table.condition else []
        if since:
            conditions.append(f"{moment_column} ge {since:%Y-%m-%dT%H:%M:%SZ}")
        if conditions:
            params["$filter"] = " and ".join(conditions)
        params["$orderby"] = f"{moment_column} asc"
        for body, _ in self.read_pages(self.table.name, params):
            rows = body["value"]
            newest = str(rows[-1].get(moment_column) or "") if rows else ""
            if newest > self.place.get("since", ""):
                self.place["since"] = newest
            yield self.make_batch(rows, True)
        if self.table.name == "audits" and not self.place.get("since"):
            self.tell_no_history("auditing of incidents is off, or nothing was changed yet")

    def is_wanted(self, row: dict[str, Any]) -> bool:
        """Whether a row is a deletion, or not older than ``start``."""
        modified = row.get("modifiedon")
        if self.start is None or not modified:
            return True
        return datetime.fromisoformat(modified) >= self.start

    def make_batch(self, rows: list[dict[str, Any]], is_safe: bool) -> Batch:
        """A batch of the rows that are wanted; with the position if all before it is safe."""
        if self.table.name == "audits":
            rows = [row | read_changes(row.get("changedata")) for row in rows]
        records = [
            Record(str(row.get(self.table.key) or row["id"]), row, self.find_url(row))
            for row in rows
            if self.is_wanted(row)
        ]
        return Batch(self.table.name, records, copy.deepcopy(self.position) if is_safe else None)

    def find_url(self, row: dict[str, Any]) -> str | None:
        """Where a person sees an incident, or that of a message, or a contact."""
        name = "contact" if self.table.name == "contacts" else "incident"
        key = {"contacts": "contactid", "incidents": "incidentid"}.get(self.table.name)
        found = row.get(key) if key else None
        if self.table.is_bounded and not key:
            paths = ("_incidentid_value", "_regardingobjectid_value", "_objectid_value")
            found = next((row[path] for path in paths if row.get(path)), None)
        if not found:
            return None
        return f"{self.site}/main.aspx?etn={name}&pagetype=entityrecord&id={found}"

    def mend(self, error: HTTPError) -> bool:
        """Make the next attempt possible; False if the table is to be left out.

        Raises the error, explained, if nothing can be done.
        """
        response = error.response
        status = response.status_code if response is not None else 0
        code, message = read_fault(response)
        name = self.table.name
        is_gone = status in (400, 404, 410)
        if response is not None and "skiptoken" in response.url and is_gone:
            return True  # the link to a further page has expired: begin again where it is safe
        if self.place.get("delta") and is_gone:
            del self.place["delta"]
            return True
        missing = re.findall(r"property named '(\w+)'", message)
        if status == 400 and name == "audits" and "changedata" in missing:
            self.tell_no_history("the audit log of this version does not tell what changed")
            return False
        if status == 400 and self.drop_columns(missing):
            return True
        if name == "audits" and status in (400, 403, 404, 501):
            self.tell_no_history(
                "the login may not read the audit log (privilege prvReadAuditSummary)"
                if status == 403
                else f"Dataverse refused to read the audit log ({code}: {first_line(message)})"
            )
            return False
        is_first = not self.place.get("is_untracked") and not self.place.get("delta")
        if is_first and (status in (405, 501) or "track" in message.lower()):
            self.place["is_untracked"] = True
            return True
        if status in (403, 404) and not self.table.is_required:
            self.context.progress(
                f"extract {self.source.name}: {name} skipped, the login may not read it", 0
            )
            return False
        if status == 403 and code:
            raise HearbackError(
                f"source {self.source.name!r}: the login may not read {name}; give its "
                f"security role read access{describe_connection(self.source.connection)}"
            ) from error
        if status == 400:
            raise HearbackError(
                f"source {self.source.name!r}: Dataverse refused to read {name} "
                f"({code}: {first_line(message)})"
            ) from error
        raise error

    def tell_no_history(self, reason: str) -> None:
        self.context.progress(
            f"extract {self.source.name}: no history of status, owner and priority, {reason}", 0
        )

    def drop_columns(self, missing: list[str]) -> bool:
        """Leave out columns that the table does not have; whether there were any.

        UsageError if the options name one of them.
        """
        gone = [column for column in missing if column in self.columns]
        for column in gone:
            if column not in self.table.columns:
                others = [name for name in self.columns if name != column]
                raise UsageError(
                    f"source {self.source.name!r}: {self.table.name} has no column "
                    f"{column!r}{nearest(column, others)}; mend its options"
                )
        self.columns = [column for column in self.columns if column not in gone]
        self.place["absent"] = sorted({*self.place.get("absent", []), *gone})
        return bool(gone)


def read_changes(text: str | None) -> dict[str, Any]:
    """``changes``: the old and the new value of columns of an incident, from a log entry's text.

    ``status`` is the state's name, or the reason (statuscode) of an active incident and of one
    whose state did not change. Nothing of a text that is none of the log's.
    """
    try:
        told = json.loads(text or "{}")["changedAttributes"]
        changes: dict[str, dict[str, Any]] = {
            one["logicalName"]: {"old": one.get("oldValue"), "new": one.get("newValue")}
            for one in told
            if one["logicalName"] in AUDITED
        }
    except (ValueError, KeyError, TypeError):
        return {}
    state, reason = changes.get("statecode", {}), changes.get("statuscode", {})
    status = {}
    for side in ("old", "new"):
        name = STATES.get(str(state.get(side)))
        is_done = name not in (None, "active")
        status[side] = name if is_done else reason.get(side) or name
    if status["old"] or status["new"]:
        changes["status"] = status
    return {"changes": changes}


class NotTrackedError(Exception):
    """The table does not track changes."""


def is_delta_page(body: dict[str, Any], response: Response) -> bool:
    """Whether the server said on a first page that a delta link will follow."""
    applied = response.headers.get("Preference-Applied", "")
    context = str(body.get("@odata.context", ""))
    return DELTA in body or "track-changes" in applied or context.endswith("$delta")


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    return [
        *map_cases(options),
        *map_messages(options),
        *map_events(options),
        *map_people(options),
        *map_satisfaction(options),
        *map_gone(),
    ]


def type_path(lookup: str) -> tuple[str, ...]:
    """The path of the name of the table that a lookup points to."""
    return (lookup + TYPE_OF,)


CUSTOMER = Field("_primarycontactid_value", also=("_customerid_value",))
IS_ROW = When("reason", is_negated=True)
IS_DELETION = When("reason", ("deleted",))
UPDATED = Field("modifiedon", "instant")
ENTRY = ("@odata.context", "@odata.etag", "@odata.id", "id", "reason")


def ignore(table: str, options: Options, *names: str) -> tuple[str, ...]:
    """Fields that are not used: those named, and every column's twins for the eye."""
    (found,) = [t for t in TABLES if t.name == table]
    columns = options.wanted_columns(found)
    twins = (
        "@OData.Community.Display.V1.FormattedValue",
        TYPE_OF,
        "@Microsoft.Dynamics.CRM.associatednavigationproperty",
    )
    return (*ENTRY, *names, *columns, *(column + twin for column in columns for twin in twins))


def bot_field(path: str, options: Options) -> Field:
    bots = dict.fromkeys(options.bots, "bot")
    return Field(path, values=values(bots), unknown="agent") if bots else Field(const="agent")


def map_cases(options: Options) -> list[Mapping]:
    """An incident is active, resolved, cancelled or merged, and belongs to a person or a team."""
    owner = "_ownerid_value"
    fields = {
        "source_case_id": Field("incidentid"),
        "channel": Field(
            "caseorigincode", values=values(CHANNELS | options.channels), unknown="other"
        ),
        "subject": Field("title"),
        "source_customer_id": CUSTOMER,
        "priority": Field(
            "prioritycode", values=values(PRIORITIES | options.priorities), unknown="normal"
        ),
        "product": Field(options.product_column),
        "merged_into": Field("_masterid_value"),
        "opened_at": Field("createdon", "instant"),
        "updated_at": UPDATED,
    }
    active = Field("statuscode", values=values(ACTIVE | options.statuses), unknown="open")
    statuses: list[tuple[Field, When]] = [
        (Field(const="solved"), When("statecode", ("1",))),
        (Field(const="closed"), When("statecode", ("2",))),
        (active, When("statecode", ("1", "2"), is_negated=True)),
    ]
    teams = When(type_path(owner), ("team",))
    people = When(type_path(owner), ("team",), is_negated=True)
    owners: list[tuple[dict[str, Field], When]] = [
        ({"source_group": Field(owner, lookup=Lookup("teams", "teamid", "name"))}, teams),
        ({"assignee_id": Field(owner)}, people),
    ]
    return [
        Mapping(
            "incidents",
            "cases",
            {**fields, **belongs, "status": status},
            when=(IS_ROW, is_so, is_owner),
            required=("source_case_id",),
            ignored=ignore("incidents", options),
        )
        for status, is_so in statuses
        for belongs, is_owner in owners
    ]


def map_messages(options: Options) -> list[Mapping]:
    channels = values(CHANNELS | options.channels)
    calls = tuple(
        code for code, channel in (CHANNELS | options.channels).items() if channel == "phone"
    )
    opening = {
        "source_record_id": Field("incidentid", suffix=":description"),
        "source_case_id": Field("incidentid"),
        "channel": Field("caseorigincode", values=channels, unknown="other"),
        "created_at": Field("createdon", "instant"),
        "body": Field("description"),
    }
    required = ("source_record_id", "source_case_id")
    regarding = "_regardingobjectid_value"
    about = (When(regarding), When(type_path(regarding), OTHER_TABLES, is_negated=True))
    activity = {
        "source_record_id": Field("activityid"),
        "source_case_id": Field(regarding),
        "body": Field("description", also=("subject",)),
    }
    mail = {
        **activity,
        "channel": Field(const="email"),
        "is_public": Field(const=True),
        "created_at": Field("senton", "instant", also=("actualend", "createdon")),
    }
    # What is open is a draft, what is cancelled was never sent.
    is_mail = (IS_ROW, *about, When("statecode", ("0", "2"), is_negated=True))
    author = {
        "author_id": Field("_createdby_value"),
        "author_role": bot_field("_createdby_value", options),
    }
    return [
        Mapping(
            "incidents",
            "messages",
            {
                **opening,
                "author_id": CUSTOMER,
                "author_role": Field(const="customer"),
                "is_public": Field(const=True),
            },
            when=(IS_ROW, When("description"), When("caseorigincode", calls, is_negated=True)),
            required=required,
        ),
        # What an agent wrote down while the customer spoke.
        Mapping(
            "incidents",
            "messages",
            {**opening, **author, "is_public": Field(const=False)},
            when=(IS_ROW, When("description"), When("caseorigincode", calls)),
            required=required,
        ),
        Mapping(
            "emails",
            "messages",
            {
                **mail,
                "author_id": Field("_emailsender_value", also=("sender",)),
                "author_role": Field(const="customer"),
            },
            when=(*is_mail, When("directioncode", ("false",))),
            required=required,
            ignored=ignore("emails", options),
        ),
        Mapping(
            "emails",
            "messages",
            {**mail, **author},
            when=(*is_mail, When("directioncode", ("false",), is_negated=True)),
            required=required,
        ),
        Mapping(
            "phonecalls",
            "messages",
            {
                **activity,
                **author,
                "channel": Field(const="phone"),
                "is_public": Field(const=False),
                "created_at": Field("actualend", "instant", also=("createdon",)),
            },
            when=(IS_ROW, *about, When("statecode", ("2",), is_negated=True)),
            required=required,
            ignored=ignore("phonecalls", options),
        ),
        Mapping(
            "annotations",
            "messages",
            {
                **author,
                "source_record_id": Field("annotationid"),
                "source_case_id": Field("_objectid_value"),
                "is_public": Field(const=False),
                "channel": Field(const="other"),
                "created_at": Field("createdon", "instant"),
                "body": Field("notetext", also=("subject", "filename")),
                "attachments": Field("filename", "text_list"),
            },
            when=(
                IS_ROW,
                When("_objectid_value"),
                When("objecttypecode", OTHER_TABLES, is_negated=True),
                When(type_path("_objectid_value"), OTHER_TABLES, is_negated=True),
            ),
            required=required,
            ignored=ignore("annotations", options),
        ),
        # Posts that the system writes (source 1) say what other fields say too.
        Mapping(
            "posts",
            "messages",
            {
                **author,
                "source_record_id": Field("postid"),
                "source_case_id": Field(regarding),
                "is_public": Field(const=False),
                "channel": Field(const="other"),
                "created_at": Field("createdon", "instant"),
                "body": Field("text"),
            },
            when=(IS_ROW, *about, When("source", ("1",), is_negated=True)),
            required=required,
            ignored=ignore("posts", options),
        ),
    ]


def map_events(options: Options) -> list[Mapping]:
    """Resolutions, each with its time; mergers; deletions, when we saw them; the audit log."""
    required = ("source_event_id", "source_case_id")
    return [
        *map_audits(options),
        Mapping(
            "incidentresolutions",
            "case_events",
            {
                "source_event_id": Field("activityid"),
                "source_case_id": Field("_incidentid_value"),
                "event_at": Field("actualend", "instant", also=("createdon",)),
                "event_type": Field(const="status_changed"),
                "actor_id": Field("_createdby_value"),
                "actor_role": Field(const="agent"),
                "to_value": Field(const="solved"),
            },
            when=(IS_ROW, When("statecode", ("2",), is_negated=True)),
            required=required,
            ignored=ignore("incidentresolutions", options),
        ),
        Mapping(
            "incidents",
            "case_events",
            {
                "source_event_id": Field("incidentid", suffix=":merged"),
                "source_case_id": Field("incidentid"),
                "event_at": UPDATED,
                "event_type": Field(const="merged"),
                "actor_role": Field(const="system"),
                "to_value": Field("_masterid_value"),
            },
            when=(IS_ROW, When("_masterid_value")),
            required=required,
        ),
        Mapping(
            "incidents",
            "case_events",
            {
                "source_event_id": Field("id", suffix=":deleted"),
                "source_case_id": Field("id"),
                "event_at": Field(CAPTURED_AT, "instant"),
                "event_type": Field(const="deleted"),
                "actor_role": Field(const="system"),
            },
            when=(IS_DELETION,),
            required=required,
        ),
    ]


def map_audits(options: Options) -> list[Mapping]:
    """What was changed in an incident, by whom: an entry may tell of several columns."""
    codes = values(ACTIVE | DONE | {"active": "open"} | options.statuses)
    priorities = values(PRIORITIES | options.priorities)
    owner = ("changes.ownerid.old", "changes.ownerid.new")

    def change(name: str, event_type: str, old: Field, new: Field, *when: When) -> Mapping:
        fields = {
            "source_event_id": Field("auditid", suffix=f":{name}"),
            "source_case_id": Field("_objectid_value"),
            "event_at": Field("createdon", "instant"),
            "event_type": Field(const=event_type),
            "actor_id": Field("_userid_value"),
            "actor_role": bot_field("_userid_value", options),
            "from_value": old,
            "to_value": new,
        }
        return Mapping(
            "audits", "case_events", fields, when=when,
            required=("source_event_id", "source_case_id"), ignored=ignore("audits", options),
        )  # fmt: skip

    def change_of(path: str) -> When:
        return When(f"{path}.old", also=(f"{path}.new",), joined_by=" ")

    user, team, teams = r"^systemuser,(.+)$", r"^team,(.+)$", Lookup("teams", "teamid", "name")
    is_update = When("operation", (UPDATE,))
    return [
        change(
            "status", "status_changed",
            Field("changes.status.old", values=codes, unknown="open"),
            Field("changes.status.new", values=codes, unknown="open"),
            is_update, change_of("changes.status"),
        ),
        change(
            "priority", "priority_changed",
            Field("changes.prioritycode.old", values=priorities, unknown="normal"),
            Field("changes.prioritycode.new", values=priorities, unknown="normal"),
            is_update, change_of("changes.prioritycode"),
        ),
        change(
            "assignee", "assignee_changed",
            Field(owner[0], pattern=user), Field(owner[1], pattern=user),
            is_update, change_of("changes.ownerid"),
        ),
        change(
            "group", "group_changed",
            Field(owner[0], pattern=team, lookup=teams),
            Field(owner[1], pattern=team, lookup=teams),
            is_update, When(owner[0], also=owner[1:], joined_by=" ", pattern=r"\bteam,"),
        ),
        change("deleted", "deleted", Field(), Field(), When("operation", (DELETE,))),
    ]  # fmt: skip


def map_people(options: Options) -> list[Mapping]:
    """Contacts and accounts are customers (an incident may be either's); users are agents."""
    refuses = {
        f"{first},{second}": "true" if "true" in (first, second) else "false"
        for first in ("true", "false")
        for second in ("true", "false")
    } | {"true": "true", "false": "false"}
    shared = {
        "email": Field("emailaddress1"),
        "region": Field("address1_country"),
        "do_not_contact": Field(
            "donotemail", also=("donotbulkemail",), joined_by=",", values=values(refuses)
        ),
        "updated_at": UPDATED,
    }
    required = ("source_customer_id",)
    machines = {"4": "bot", "5": "bot"}  # access modes of users that no person works with
    return [
        Mapping(
            "contacts",
            "customers",
            {
                **shared,
                "source_customer_id": Field("contactid"),
                "external_id": Field("externaluseridentifier"),
                "name": Field("fullname", also=("lastname", "firstname")),
                "phone": Field("telephone1", also=("mobilephone",)),
                "organization": Field(
                    "_parentcustomerid_value",
                    lookup=Lookup("accounts", "accountid", "name", is_strict=True),
                ),
                "birthday": Field("birthdate", "date"),
            },
            when=(IS_ROW,),
            required=required,
            ignored=ignore("contacts", options),
        ),
        Mapping(
            "accounts",
            "customers",
            {
                **shared,
                "source_customer_id": Field("accountid"),
                "external_id": Field("accountnumber"),
                "name": Field("name"),
                "phone": Field("telephone1"),
                "organization": Field("name"),
            },
            when=(IS_ROW,),
            required=required,
            ignored=ignore("accounts", options),
        ),
        Mapping(
            "systemusers",
            "agents",
            {
                "source_agent_id": Field("systemuserid"),
                "external_id": Field("employeeid"),
                "name": Field("fullname"),
                "email": Field("internalemailaddress"),
                "role": Field("accessmode", values=values(machines), unknown="agent"),
                "is_active": Field("isdisabled", values=values({"true": "false", "false": "true"})),
                "updated_at": UPDATED,
            },
            when=(IS_ROW, When("systemuserid", tuple(options.bots) or ("",), is_negated=True)),
            required=("source_agent_id",),
            ignored=ignore("systemusers", options),
        ),
        Mapping(
            "systemusers",
            "agents",
            {
                "source_agent_id": Field("systemuserid"),
                "name": Field("fullname"),
                "email": Field("internalemailaddress"),
                "role": Field(const="bot"),
                "updated_at": UPDATED,
            },
            when=(IS_ROW, When("systemuserid", tuple(options.bots) or ("",))),
            required=("source_agent_id",),
        ),
    ]


def map_gone() -> list[Mapping]:
    """Rows that change tracking tells to be gone: an id and no time. Merged contacts stay rows."""
    gone = [
        *((table, "customers", Field("id")) for table in ("contacts", "accounts")),
        *((table, "feedback", Field("id")) for table in ("emails", "phonecalls", "posts")),
        ("annotations", "feedback", Field("id")),
        ("incidents", "survey_responses", Field("id", suffix=":csat")),
    ]
    merged = [
        map_deletion(
            table, "customers", Field(key),
            when=(IS_ROW, When("_masterid_value"), When("merged", ("true",))),
            deleted_at=UPDATED, updated_at=UPDATED, merged_into=Field("_masterid_value"),
        )
        for table, key in (("contacts", "contactid"), ("accounts", "accountid"))
    ]  # fmt: skip
    return merged + [
        map_deletion(table, entity, record, when=(IS_DELETION,)) for table, entity, record in gone
    ]


def map_satisfaction(options: Options) -> list[Mapping]:
    worst, best = options.satisfaction_scale
    return [
        Mapping(
            "incidents",
            "survey_responses",
            {
                "source_response_id": Field("incidentid", suffix=":csat"),
                "survey_id": Field(const="dynamics_incident"),
                "question_id": Field(const="customersatisfactioncode"),
                "kind": Field(const="csat"),
                "score": Field("customersatisfactioncode", "number"),
                "scale_min": Field(const=float(min(worst, best))),
                "scale_max": Field(const=float(max(worst, best))),
                "higher_is_better": Field(const=best > worst),
                "source_customer_id": CUSTOMER,
                "source_case_id": Field("incidentid"),
                "answered_at": UPDATED,
                "updated_at": UPDATED,
            },
            when=(IS_ROW, When("customersatisfactioncode")),
            required=("source_response_id",),
        )
    ]


KINDS = {
    "dynamics365": Kind(
        "dynamics365",
        "Dynamics 365 Customer Service: incidents and their audit log, mails, calls, notes, posts, "
        "contacts, accounts, users, teams",
        Options,
        (
            "cases",
            "messages",
            "case_events",
            "customers",
            "agents",
            "survey_responses",
            "deletions",
        ),
        pull,
        mappings,
        needs_base_url=True,
        needs_connection=True,
        secrets=(
            Secret("login", "application id", "Entra ID → App registrations; then a user of it"),
            Secret(
                "password",
                "client secret, or without a login an access token",
                "the app → Certificates & secrets",
            ),
            Secret("extra.tenant", "directory id", "Entra ID → Overview", is_optional=True),
            Secret(
                "extra.token_url",
                "where tokens come from, if not Entra ID",
                "who runs your identity provider",
                is_optional=True,
            ),
        ),
        check=check,
        summary_zh="Dynamics 365 客户服务：案例及其审核日志、邮件、通话、备注、帖子、"
        "联系人、客户、用户、团队",
    )
}

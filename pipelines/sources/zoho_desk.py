"""Zoho Desk: tickets with threads, comments, history and metrics, people, happiness ratings.

Tickets, contacts and accounts are searched by their time of change, each page from just before the
last row of the one before, so that neither the 5,000 rows that a search shows nor records that
change meanwhile can hide any. A search learns of changes a little late: the last minutes are read
again. Archived tickets, which searches leave out, are read once. The text of a thread needs a
request of its own; threads that were there a week before the last pull are not asked for again.

What Zoho Desk does not give: into which ticket another was merged (no entry of a history names
one, and no list does), whom a contact was merged into, tags apart from the history, spam that a
search leaves out, what has left the recycle bin for good.

Facts come from Zoho's OpenAPI (zohodesk-oas: TicketHistory, Recyclebin) and its article "Get Ticket
History API": names of events and actors, initial values without a change, 50 entries a page, the
last on top, ``deletedById``. Ratings want a department, ``allDepartment`` for all, and come 50 a
page (customerHappiness). Durations are ``25:14 hrs``, hours beyond a day included. Seen in real
histories: a merge stamps every property of the ticket that stays, though none of them changes.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from hashlib import sha256
from json import dumps
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError, UsageError
from pipelines.mapping import CAPTURED_AT, Field, Lookup, Mapping, When, values
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, read_options
from pipelines.sources.changes import walk_changes
from pipelines.sources.deletions import map_deletion
from pipelines.sources.http import Limits, explain_http_errors, header_budget, open_client
from pipelines.sources.offsets import walk_offsets
from pipelines.sources.zoho import (
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

SCOPES = (
    "Desk.tickets.READ, Desk.contacts.READ, Desk.basic.READ, Desk.settings.READ, Desk.search.READ"
)
DEFAULT_URL = "https://desk.zoho.com"
API = "/api/v1"
PAGE_SIZE = 100
RATINGS_PAGE = 50
HISTORY_PAGE = 50
MOST_OFFSET = 4999  # of a search
BATCH_ROWS = 1000
OVERLAP = timedelta(minutes=5)
SETTLED = timedelta(days=7)  # a draft is sent, a rating gets its comment within this time
FIRST_DAY = datetime(2000, 1, 1, tzinfo=UTC)
ABSENT = (403, 404, 422)

CHANNELS = {
    "email": "email", "phone": "phone", "web": "web_form", "web form": "web_form",
    "webform": "web_form", "customerportal": "web_form", "customer portal": "web_form",
    "feedback": "web_form", "feedback widget": "web_form", "chat": "chat",
    "online chat": "chat", "online_chat": "chat", "offline chat": "chat", "offline_chat": "chat",
    "whatsapp": "chat", "wechat": "chat", "telegram": "chat", "line": "chat", "sms": "chat",
    "twitter": "social", "twitter_dm": "social", "facebook": "social", "facebook_dm": "social",
    "instagram": "social", "messenger": "social", "forums": "forum", "forum": "forum",
    "community": "forum",
}  # fmt: skip
STATUSES = {"open": "open", "on hold": "hold", "escalated": "open", "closed": "closed"}
PRIORITIES = {"urgent": "urgent", "high": "high", "medium": "normal", "low": "low"}
ROLES = {
    "agent": "agent", "light_agent": "agent", "end_user": "customer", "contact": "customer",
    "bot": "bot", "zia": "bot", "system": "system", "workflow": "system", "sla": "system",
    "macro": "system", "supervise": "system", "blueprint": "system",
    "notificationrule": "system", "directassignment": "system",
    "roundrobinassignment": "system", "in": "customer", "out": "agent",
}  # fmt: skip
MACHINES = ("SYSTEM", "BOT")
SCORES = {"good": "3", "ok": "2", "okay": "2", "bad": "1"}
OWNER = ("Case Owner", "Ticket Owner", "Assignee")
DURATION = re.compile(r"(\d+):(\d\d)")
MEASURES = ("firstResponseTime", "resolutionTime")

Row = dict[str, Any]


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    org_id: str | None = Option(default=None, description="the organisation, if there are several")
    bots: list[str] = Option(default_factory=list, description="ids of agents that are bots")
    statuses: dict[str, str] = Option(
        default_factory=dict,
        description="name of your own ticket status = new open pending hold solved closed",
    )
    product_field: str | None = Option(
        default=None, description="custom field of tickets with the product, such as cf_product"
    )
    history: bool = Option(
        default=True, description="read each ticket's history: 3 more credits for a ticket"
    )
    metrics: bool = Option(
        default=True, description="read Zoho's own metrics: 1 more credit for a ticket"
    )


@dataclass(frozen=True)
class Feed:
    """A list with what happened last on top: ``time`` says when."""

    name: str
    path: str
    params: dict[str, Any]
    time: str
    overlap: timedelta
    limit: int | None = None


RATINGS = Feed(
    "happiness", "customerHappiness", {"department": "allDepartment", "sortBy": "-ratedTime"},
    "ratedTime", SETTLED, RATINGS_PAGE,
)  # fmt: skip
DELETED = {"sortBy": "-deletedTime"}
BINS = (
    Feed("deleted_tickets", "recycleBin", DELETED | {"module": "tickets"}, "deletedTime", OVERLAP),
    Feed(
        "deleted_contacts", "recycleBin", DELETED | {"module": "contacts"}, "deletedTime", OVERLAP
    ),
)


def connect(source: Source, context: PullContext) -> RESTClient:
    client = open_client(
        source,
        context,
        API,
        limits=Limits(budget=header_budget(("X-Rate-Limit-Remaining-v3",), ())),
        default_url=DEFAULT_URL,
    )
    sign_requests(client, source, context)
    return client


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Every record that is new or changed since the remembered position, stream by stream."""
    with explain_http_errors(source.name, source.connection):
        reader = Reader(source, context)
        for name in ("departments", "teams", "agents"):
            yield from reader.allow(name, reader.read_list(name))
        for name in ("accounts", "contacts"):
            yield from reader.allow(name, reader.read_search(name))
        yield from reader.read_search("tickets")
        yield from reader.allow("archived tickets", reader.read_archive())
        for feed in (*BINS, RATINGS):
            yield from reader.allow(feed.name, reader.read_feed(feed))


def check(source: Source, context: PullContext) -> str:
    """Ask for one ticket: shows whether the token is right and may search."""
    with explain_http_errors(source.name, source.connection):
        reader = Reader(source, context)
        body = reader.get("tickets/search", reader.write_search(FIRST_DAY, 0) | {"limit": 1})
    return f"{int(body.get('count', len(body.get('data', [])))):,} tickets"


def write_instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_instant(text: Any) -> datetime:
    return datetime.fromisoformat(str(text).replace("Z", "+00:00")).astimezone(UTC)


def find_change(row: Row) -> datetime:
    return read_instant(row.get("modifiedTime") or row["createdTime"])


class Reader:
    """Reads the streams of one organisation from their places in ``position``, which it moves."""

    def __init__(self, source: Source, context: PullContext) -> None:
        self.source = source
        self.context = context
        self.options = read_options(source, Options)
        self.client = connect(source, context)
        self.client.headers = {"orgId": self.find_organisation()}
        self.position = copy.deepcopy(context.position)
        self.start = FIRST_DAY
        if source.start:
            self.start = datetime.combine(source.start, time.min, UTC)
        self.settled = self.since("texts", SETTLED)
        for feed in BINS:  # what was deleted before the first pull was never here
            self.position.setdefault(feed.name, {"since": write_instant(read_clock())})
        self.lacks: set[str] = set()
        if not self.options.history:
            self.lacks.add("History")
        if not self.options.metrics:
            self.lacks.add("metrics")

    def find_organisation(self) -> str:
        """That of the options, else the only one there is."""
        if self.options.org_id:
            return self.options.org_id
        rows = read_body(self.client.get("organizations")).get("data", [])
        if len(rows) != 1:
            listed = ", ".join(str(row["id"]) for row in rows) or "none"
            raise UsageError(
                f"source {self.source.name!r}: option 'org_id' must name one of the organisations "
                f"that the login may see: {listed}"
            )
        return str(rows[0]["id"])

    def get(self, path: str, params: dict[str, Any] | None = None) -> Row:
        return read_body(self.client.get(path, params=params))

    def since(self, stream: str, overlap: timedelta) -> datetime:
        """From when a stream is to be read: its remembered time less the overlap, or the start."""
        remembered = self.position.get(stream, {}).get("since")
        if not remembered:
            return self.start
        return max(read_instant(remembered) - overlap, self.start)

    def batch(self, entity: str, rows: list[Row], *, is_safe: bool = False) -> Batch:
        place = copy.deepcopy(self.position) if is_safe else None
        return Batch(entity, [Record(str(r["id"]), r, r.get("webUrl")) for r in rows], place)

    def allow(self, stream: str, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; a stream that the plan or the scopes lack is skipped with a note."""
        from requests.exceptions import HTTPError

        try:
            yield from batches
        except HTTPError as error:
            if not is_absent(error.response):
                raise
            self.skip(stream, error.response)

    def skip(self, stream: str, response: Response | None) -> None:
        told = read_code(response) or (response.status_code if response is not None else "")
        self.context.progress(
            f"extract {self.source.name}: {stream} skipped, the plan or the scopes do not have "
            f"them ({told})",
            0,
        )

    # lists ----------------------------------------------------------------------------------------

    def read_offsets(
        self, path: str, params: dict[str, Any], place: dict[str, Any], limit: int | None = None
    ) -> Iterator[list[Row]]:
        """Pages by offset; whether Zoho counts from 0 or from 1, no row is passed over."""
        size = limit or PAGE_SIZE

        def read(offset: int) -> list[Row]:
            body = self.get(path, {**params, "from": offset, "limit": size})
            rows: list[Row] = body.get("data", [])
            return rows

        return walk_offsets(read, "id", size, place)

    def read_list(self, name: str) -> Iterator[Batch]:
        """A short list, whole each time: raw drops what has not changed."""
        if name == "teams":
            body = self.get(name)
            yield self.batch(name, body.get("teams") or body.get("data", []))
            return
        for params in ({"status": "ACTIVE"}, {"status": "DISABLED"}) if name == "agents" else ({},):
            for rows in self.read_offsets(name, params, {}):
                yield self.batch(name, rows)

    def read_archive(self) -> Iterator[Batch]:
        """Tickets that were archived before the first pull, department by department, once."""
        state = self.position.setdefault("archive", {})
        if state.get("is_read"):
            return
        for rows in self.read_offsets("departments", {}, {}):
            for number in (str(row["id"]) for row in rows):
                if number in state.setdefault("done", []):
                    continue
                place = state.setdefault("place", {})
                params = {"departmentId": number}
                for tickets in self.read_offsets("tickets/archivedTickets", params, place):
                    wanted = [r for r in tickets if find_change(r) >= self.start]
                    if not place:
                        state["done"].append(number)
                    yield from self.read_talks(wanted, are_new=True)
                    yield self.batch("tickets", wanted, is_safe=True)
        self.position["archive"] = {"is_read": True}
        yield self.batch("tickets", [], is_safe=True)

    def read_feed(self, feed: Feed) -> Iterator[Batch]:
        """A list from its top down to just before what was remembered."""
        state = self.position.setdefault(feed.name, {})
        since = self.since(feed.name, feed.overlap)
        place = state.setdefault("place", {})
        for rows in self.read_offsets(feed.path, feed.params, place, feed.limit):
            times = [read_instant(row[feed.time]) for row in rows]
            if times:
                state.setdefault("top", write_instant(times[0]))
            is_last = not place or times[-1] < since
            if is_last:
                state["since"] = max(state.pop("top", ""), state.get("since", ""))
                del state["place"]
            fresh = [row for row, at in zip(rows, times, strict=True) if at >= since]
            yield self.batch(feed.name, fresh, is_safe=True)
            if is_last:
                return

    # searches by the time of change ---------------------------------------------------------------

    def write_search(self, since: datetime, offset: int) -> dict[str, Any]:
        until = datetime.now(UTC) + timedelta(days=1)
        return {
            "modifiedTimeRange": f"{write_instant(since)},{write_instant(until)}",
            "sortBy": "modifiedTime",
            "from": offset,
            "limit": PAGE_SIZE,
        }

    def read_search(self, name: str) -> Iterator[Batch]:
        """Records in the order of their change, tickets behind what was said in them."""

        def read(since: datetime, offset: int | None) -> tuple[list[Row], int | None]:
            begin = offset or 0
            if begin > MOST_OFFSET:
                raise HearbackError(
                    f"more than {MOST_OFFSET + 1:,} {name} changed at {write_instant(since)}: "
                    "Zoho Desk cannot list them all"
                )
            rows: list[Row] = self.get(f"{name}/search", self.write_search(since, begin)).get(
                "data", []
            )
            return rows, begin + PAGE_SIZE if len(rows) >= PAGE_SIZE else None

        for rows, reached in walk_changes(name, read, find_change, self.since(name, OVERLAP)):
            if name == "tickets":
                yield from self.read_talks(rows)
            if reached:
                before = self.position.get(name, {}).get("since", "")
                self.position[name] = {"since": max(write_instant(reached), before)}
            yield self.batch(name, rows, is_safe=bool(reached))
        if name == "tickets" and name in self.position:
            # Only a walk that came to its end has given every text up to there.
            self.position["texts"] = self.position[name]
            yield self.batch(name, [], is_safe=True)

    # what belongs to a ticket ---------------------------------------------------------------------

    def read_talks(self, tickets: list[Row], *, are_new: bool = False) -> Iterator[Batch]:
        """Threads, comments, history and metrics; a ticket that is gone meanwhile has none.

        ``are_new``: none of the tickets was given before, whatever their age.
        """
        from requests.exceptions import HTTPError

        found: dict[str, list[Row]] = {}
        for ticket in tickets:
            try:
                for entity, row in self.read_talk(str(ticket["id"]), are_new):
                    found.setdefault(entity, []).append(row)
            except HTTPError as error:
                if error.response is None or error.response.status_code != 404:
                    raise
            if sum(len(rows) for rows in found.values()) >= BATCH_ROWS:
                yield from (self.batch(entity, rows) for entity, rows in found.items())
                found = {}
        yield from (self.batch(entity, rows) for entity, rows in found.items())

    def read_talk(self, ticket: str, is_new: bool) -> Iterator[tuple[str, Row]]:
        path, at = f"tickets/{ticket}", {"ticketId": ticket}
        for rows in self.read_offsets(f"{path}/conversations", {}, {}):
            for row in rows:
                if row.get("type") == "comment":
                    yield "comments", row | at
                elif is_new or self.is_wanted(row):
                    thread = self.get(f"{path}/threads/{row['id']}", {"include": "plainText"})
                    yield "threads", row | thread | at
        for page in self.read_extra("History", path):
            for row in page.get("data", []):
                yield "history", row | at | {"id": name_event(ticket, row)}
        for body in self.read_extra("metrics", path):
            minutes = {name: read_minutes(body.get(name)) for name in MEASURES}
            yield "metrics", body | at | {"id": ticket, "minutes": minutes}

    def is_wanted(self, thread: Row) -> bool:
        """Whether a thread may have been sent or changed since it was given."""
        created = read_instant(thread["createdTime"])
        return not self.start <= created < self.settled

    def read_extra(self, what: str, ticket: str) -> Iterator[Row]:
        """Pages of what not every plan has; where it is refused, it is not asked for again."""
        if what in self.lacks:
            return
        offset = 0
        while True:
            paging = {"from": offset, "limit": HISTORY_PAGE} if what == "History" else {}
            response = self.client.get(f"{ticket}/{what}", params=paging)
            if is_absent(response) and read_code(response) != "RESOURCE_NOT_FOUND":
                self.lacks.add(what)
                self.skip(what.lower(), response)
                return
            body = read_body(response)
            if body:
                yield body
            if not paging or len(body.get("data", [])) < HISTORY_PAGE:
                return
            offset += HISTORY_PAGE - 1  # one row comes twice, for Zoho may count from 1


def is_absent(response: Response | None) -> bool:
    """Whether an answer says that the plan, the scopes or the API do not have this."""
    if response is None:
        return False
    return response.status_code in ABSENT or lacks_scope(response)


def name_event(ticket: str, row: Row) -> str:
    """An id for an entry of a history, which has none: what it says is what it is."""
    text = dumps([row.get(name) for name in ("eventTime", "eventName", "actor", "eventInfo")])
    return f"{ticket}-{sha256(text.encode()).hexdigest()[:16]}"


def read_minutes(text: Any) -> float | None:
    """Minutes of a duration such as ``01:47 hrs``."""
    found = DURATION.search(str(text or ""))
    return float(int(found[1]) * 60 + int(found[2])) if found else None


def derive_teams(source: Source, row: Row) -> Iterator[Row]:
    """Teams by their ids, and by each of their agents."""
    for agent in ("", *(row.get("agents") or [])):
        number = agent.get("id") if isinstance(agent, dict) else agent
        yield {"id": str(row["id"]), "name": row.get("name"), "agent": str(number)}


TEAM = Lookup("teams", "id", "name")
DEPARTMENT = Lookup("departments", "id", "name")
AT = Field("modifiedTime", "instant", also=("closedTime", "createdTime"))


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    return [
        *map_tickets(options),
        *map_messages(options),
        *map_history(options),
        *map_metrics(),
        *map_people(options),
        *map_ratings(),
    ]


OF_TICKETS = (
    "ticketNumber", "statusType", "dueDate", "responseDueDate", "email", "phone", "accountId",
    "productId", "layoutId", "layoutDetails", "category", "subCategory", "classification",
    "resolution", "onholdTime", "commentCount", "threadCount", "taskCount", "attachmentCount",
    "approvalCount", "timeEntryCount", "followerCount", "tagCount", "isOverDue", "isEscalated",
    "isResponseOverdue", "isRead", "isArchived", "isTrashed", "isDeleted", "isFollowing",
    "customerResponseTime", "sentiment", "relationshipType", "lastThread", "source",
    "channelRelatedInfo", "channelCode", "sharedDepartments", "secondaryContacts", "entitySkills",
    "skillsInfo", "contract", "contractId", "slaId", "sourceTicket", "lockedTime", "modifiedBy",
    "createdBy", "customFields", "cf", "contact", "assignee", "product", "department", "team",
    "language", "descAttachments", "webUrl", "description", "status", "closedTime",
)  # fmt: skip


def name_statuses(options: Options) -> tuple[tuple[str, str], ...]:
    return values(STATUSES | options.statuses)


def map_tickets(options: Options) -> list[Mapping]:
    product = Field(("cf", options.product_field)) if options.product_field else Field()
    case = {
        "source_case_id": Field("id"),
        "channel": Field("channel", values=values(CHANNELS), unknown="other"),
        "subject": Field("subject"),
        "source_customer_id": Field("contactId"),
        "priority": Field("priority", values=values(PRIORITIES), unknown="normal"),
        "assignee_id": Field("assigneeId"),
        "product": product,
        "opened_at": Field("createdTime", "instant"),
        "updated_at": AT,
    }
    groups = (
        (Field("teamId", lookup=TEAM), When("teamId")),
        (Field("departmentId", lookup=DEPARTMENT), When("teamId", is_negated=True)),
    )
    own = tuple(options.statuses)
    states = [(Field("statusType", values=values(STATUSES), unknown="open", also=("status",)),
               *((When("status", own, is_negated=True),) if own else ()))]  # fmt: skip
    if own:
        states.append((Field("status", values=values(options.statuses)), When("status", own)))
    spam = (
        (Field(), When("isSpam", ("true",), is_negated=True)),
        (Field(const="[spam]"), When("isSpam", ("true",))),  # clean tells spam by its tag
    )
    cases = [
        Mapping(
            "tickets", "cases", case | {"source_group": group, "status": status, "tags": tags},
            when=(in_group, *of_status, is_spam), required=("source_case_id",),
            ignored=OF_TICKETS,
        )
        for group, in_group in groups
        for status, *of_status in states
        for tags, is_spam in spam
    ]  # fmt: skip
    closed = {
        "source_event_id": Field("id", also=("closedTime",), joined_by=":", suffix=":closed"),
        "source_case_id": Field("id"),
        "event_at": Field("closedTime", "instant"),
        "event_type": Field(const="status_changed"),
        "to_value": Field(const="closed"),
    }
    if not options.history:
        cases.append(
            Mapping("tickets", "case_events", closed, when=(When("closedTime"),),
                    required=("source_event_id",))
        )  # fmt: skip
    return [
        *cases,
        Mapping(
            "deleted_tickets", "case_events",
            {
                "source_event_id": Field("id", also=("deletedTime",), joined_by=":",
                                         suffix=":deleted"),
                "source_case_id": Field("id"),
                "event_at": Field("deletedTime", "instant"),
                "event_type": Field(const="deleted"),
                "actor_id": Field("deletedById", also=("deletedBy.id",)),
            },
            required=("source_event_id",),
            ignored=("name", "type", "module", "department", "departmentId", "entityNumber",
                     "ticketNumber", "subject", "contact", "webUrl", "displayName", "modifiedTime",
                     "createdTime"),
        ),
    ]  # fmt: skip


def list_names(path: str) -> Field:
    """The names of the first five files of a list."""
    names = [f"{path}.{place}.name" for place in range(5)]
    return Field(names[0], "text_list", also=tuple(names[1:]), joined_by="|")


def map_messages(options: Options) -> list[Mapping]:
    """Threads are mails, posts and chats; comments are notes. A form's text may be in neither."""
    bots = tuple(options.bots)
    own = {"source_case_id": Field("ticketId"), "sequence": Field("id", "integer")}
    thread = own | {
        "source_record_id": Field("id"),
        "author_id": Field("author.id"),
        "author_role": Field("direction", values=values(ROLES), unknown="agent"),
        "is_public": Field("visibility", values=values({"private": "false"}), unknown="true"),
        "channel": Field("channel", values=values(CHANNELS), unknown="other"),
        "created_at": Field("createdTime", "instant"),
        "body": Field("plainText", also=("content", "summary")),
        "attachments": list_names("attachments"),
    }
    comment = own | {
        "source_record_id": Field("id", prefix="comment-"),
        "author_id": Field("commenter.id", also=("commenterId",)),
        "author_role": Field("commenter.type", values=values(ROLES), unknown="agent"),
        "is_public": Field("isPublic", "boolean"),
        "created_at": Field("commentedTime", "instant"),
        "body": Field("content"),
        "attachments": list_names("attachments"),
    }
    opening = {
        "source_record_id": Field("id", prefix="ticket-"),
        "source_case_id": Field("id"),
        "author_id": Field("contactId"),
        "author_role": Field(const="customer"),
        "is_public": Field(const=True),
        "channel": Field("channel", values=values(CHANNELS), unknown="other"),
        "created_at": Field("createdTime", "instant"),
        "body": Field("description"),
        "sequence": Field(const=0),
    }
    needed = ("source_record_id", "source_case_id")
    is_sent = When("status", ("DRAFT",), is_negated=True)
    found = []
    for raw, columns, actor, has_text in (
        ("threads", thread, "author", (is_sent, When("plainText", also=("content", "summary")))),
        ("comments", comment, "commenter", (When("content"),)),
    ):
        is_machine = When(f"{actor}.type", MACHINES)
        is_person = When(f"{actor}.type", MACHINES, is_negated=True)
        by_bot: tuple[tuple[When, ...], ...] = ((is_machine,),)
        by_people: tuple[When, ...] = (is_person,)
        if bots:
            by_bot = (*by_bot, (is_person, When(f"{actor}.id", bots)))
            by_people = (is_person, When(f"{actor}.id", bots, is_negated=True))
        role = {"author_role": Field(const="bot")}
        found += [
            Mapping(
                raw, "messages", columns | more, when=(*has_text, *by), required=needed,
                ignored=OF_THREADS if raw == "threads" else OF_COMMENTS,
            )
            for by, more in ((by_people, {}), *((by, role) for by in by_bot))
        ]  # fmt: skip
    no_thread = When("threadCount", pattern="[1-9]", is_negated=True)
    return [
        *found,
        Mapping("tickets", "messages", opening, when=(When("description"), no_thread),
                required=needed),
    ]  # fmt: skip


OF_THREADS = (
    "type", "responderId", "status", "isForward", "hasAttach", "attachmentCount", "to", "cc",
    "bcc", "replyTo", "fromEmailAddress", "canReply", "contentType", "isDescriptionThread",
    "isContentTruncated", "fullContentURL", "lastRatingIconURL", "source", "respondedIn",
    "phoneno", "facebookProfile", "keyDetails", "actions", "readReceipts", "isPrivate",
    "channelRelatedInfo", "impersonatedUser", "sentiment", "isAutoResponse", "forumLink",
    "modifiedTime", "callDetails", "isBlockQuoted", "inReplyToId",
)  # fmt: skip
OF_COMMENTS = (
    "type", "modifiedTime", "contentType", "encodedContent", "mention", "attachmentCount",
    "impersonatedUser", "commenterId", "editors", "source",
)  # fmt: skip


def map_history(options: Options) -> list[Mapping]:
    """Changes of a ticket: each entry has the properties that it changed."""
    to, was = "item.propertyValue.updatedValue", "item.propertyValue.previousValue"
    entry = {
        "source_case_id": Field("ticketId"),
        "event_at": Field("eventTime", "instant"),
        "actor_id": Field("actor.id"),
        "actor_role": Field("actor.type", values=values(ROLES), unknown="system"),
    }
    change = entry | {"source_event_id": Field("id", also=("item.propertyName",), joined_by=":")}
    statuses, priorities = name_statuses(options), values(PRIORITIES)
    changes = (
        ("status", ("Status",), "", statuses, "open"),
        ("priority", ("Priority",), "", priorities, "normal"),
        ("assignee", OWNER, ".id", (), None),
        ("group", ("Team", "Department"), ".name", (), None),
    )
    needed = ("source_event_id", "source_case_id")
    # TicketMergedMaster is an entry of the ticket that took the other in: nothing ends or changes.
    is_change = When("eventName", ("TicketMergedMaster",), is_negated=True)
    whole: tuple[tuple[str, str, dict[str, Field]], ...] = (
        ("TicketCreated", "created", {"sequence": Field(const=0)}),
        ("TicketMergedChild", "merged", {}),
        ("TicketDeleted", "deleted", {}),
        ("TicketRestored", "status_changed", {"to_value": Field(const="open")}),
        ("TagsAdded", "tags_changed", {"to_value": Field("eventInfo.0.propertyValue")}),
        ("TagsRemoved", "tags_changed", {"from_value": Field("eventInfo.0.propertyValue")}),
    )
    return [
        *(
            Mapping(
                "history", "case_events",
                change
                | {
                    "event_type": Field(const=f"{kind}_changed"),
                    "from_value": Field(was + part, values=known, unknown=unknown),
                    "to_value": Field(to + part, values=known, unknown=unknown),
                },
                when=(
                    is_change,
                    When("item.propertyName", names),
                    When(to + part, also=(was + part,)),
                ),
                explode="eventInfo", required=needed,
                ignored=("actorInfo", "source", "eventName"),
            )
            for kind, names, part, known, unknown in changes
        ),
        *(
            Mapping(
                "history", "case_events",
                entry
                | {"source_event_id": Field("id"), "event_type": Field(const=kind)}
                | columns,
                when=(When("eventName", (name,)),), required=needed,
            )
            for name, kind, columns in whole
        ),
    ]  # fmt: skip


def map_metrics() -> list[Mapping]:
    """Durations are those of the hours of business that Zoho Desk is set to."""
    columns = (
        ("first_reply", "business", "minutes.firstResponseTime"),
        ("full_resolution", "business", "minutes.resolutionTime"),
        ("reopens", "calendar", "reopenCount"),
        ("replies", "calendar", "outgoingCount"),
    )
    return [
        Mapping(
            "metrics", "vendor_metrics",
            {
                "source_case_id": Field("ticketId"),
                "metric": Field(const=metric),
                "clock": Field(const=clock),
                "value": Field(path, "number"),
                "updated_at": Field(CAPTURED_AT, "instant"),
            },
            when=(When(path),), required=("source_case_id",),
            ignored=(
                "id", "firstResponseTime", "resolutionTime", "totalResponseTime", "responseCount",
                "threadCount", "reassignCount", "stagingData", "agentsHandled",
            ),
        )
        for metric, clock, path in columns
    ]  # fmt: skip


def map_people(options: Options) -> list[Mapping]:
    bots = values(dict.fromkeys(options.bots, "bot"))
    account = Lookup("accounts", "id", "accountName", is_strict=True)
    return [
        Mapping(
            "contacts", "customers",
            {
                "source_customer_id": Field("id"),
                "external_id": Field("zohoCRMContact.id"),
                "name": Field("firstName", also=("lastName",), joined_by=" "),
                "email": Field("email"),
                "phone": Field("phone", also=("mobile",)),
                "organization": Field("accountId", lookup=account),
                "region": Field("country"),
                "segment": Field("type"),
                "signup_at": Field("createdTime", "instant"),
                "updated_at": AT,
            },
            required=("source_customer_id",),
            ignored=(
                "secondaryEmail", "title", "description", "street", "city", "state", "zip",
                "facebook", "twitter", "ownerId", "owner", "account", "accountCount",
                "customFields", "cf", "layoutId", "layoutDetails", "photoURL", "webUrl",
                "isAnonymous", "isEndUser", "isSpam", "isDeleted", "isTrashed", "isFollowing",
                "customerHappiness", "closedTime", "language", "timeZone",
            ),
        ),
        map_deletion(
            "deleted_contacts", "customers", Field("id"),
            deleted_at=Field("deletedTime", "instant"), updated_at=Field("deletedTime", "instant"),
            ignored=("name", "type", "module", "deletedBy", "deletedById", "department",
                     "departmentId", "displayName", "modifiedTime", "createdTime", "email"),
        ),
        Mapping(
            "agents", "agents",
            {
                "source_agent_id": Field("id"),
                "name": Field("firstName", also=("lastName",), joined_by=" "),
                "email": Field("emailId"),
                "role": Field("id", values=bots, unknown="agent") if bots else Field(const="agent"),
                "team": Field("id", lookup=Lookup("teams", "agent", "name", is_strict=True)),
                "languages": Field("langCode", "text_list"),
                "is_active": Field("status", values=values({"active": "true"}), unknown="false"),
            },
            required=("source_agent_id",),
            ignored=(
                "name", "roleId", "profileId", "rolePermissionType", "zuid", "photoURL", "phone",
                "mobile", "extn", "isConfirmed", "isZiaAgent", "countryCode", "timeZone",
                "aboutInfo", "channelExpertise", "associatedDepartmentIds",
                "associatedChatDepartmentIds", "customFields", "isLight", "isLightAgent",
                "role", "profile",
            ),
        ),
    ]  # fmt: skip


def map_ratings() -> list[Mapping]:
    score = Field("rating", values=values(SCORES))
    lowest, highest = Field(const=1.0), Field(const=3.0)
    rated_at = Field("ratedTime", "instant")
    about = {
        "source_case_id": Field("ticketId"),
        "source_customer_id": Field("contactId"),
        "updated_at": rated_at,
    }
    return [
        Mapping(
            "happiness", "survey_responses",
            about
            | {
                "source_response_id": Field("id"),
                "survey_id": Field(const="zoho_desk_happiness"),
                "question_id": Field(const="rating"),
                "kind": Field(const="csat"),
                "score": score,
                "scale_min": lowest,
                "scale_max": highest,
                "higher_is_better": Field(const=True),
                "comment": Field("feedback"),
                "answered_at": rated_at,
            },
            required=("source_response_id",),
            ignored=(
                "agentId", "threadId", "departmentId", "accountId", "agent", "contact", "ticket",
                "department", "thread", "isRead", "account", "modifiedTime", "webUrl",
            ),
        ),
        Mapping(
            "happiness", "feedback",
            about
            | {
                "source_record_id": Field("id", prefix="rating-"),
                "channel": Field(const="survey"),
                "created_at": rated_at,
                "body": Field("feedback"),
                "rating": score,
                "rating_min": lowest,
                "rating_max": highest,
            },
            when=(When("feedback"),), required=("source_record_id",),
        ),
        Mapping(
            "happiness", "case_events",
            {
                "source_event_id": Field("id", prefix="rating:"),
                "source_case_id": Field("ticketId"),
                "event_at": rated_at,
                "event_type": Field(const="rated"),
                "actor_id": Field("contactId"),
                "actor_role": Field(const="customer"),
                "to_value": Field("rating"),
            },
            when=(When("ticketId"),), required=("source_event_id",),
        ),
    ]  # fmt: skip


KINDS = {
    "zoho_desk": Kind(
        "zoho_desk",
        "Zoho Desk: tickets with threads, comments and history, contacts, agents, ratings, metrics",
        Options,
        (
            "cases", "messages", "case_events", "customers", "agents", "survey_responses",
            "feedback", "vendor_metrics", "deletions",
        ),
        pull,
        mappings,
        needs_connection=True,
        default_url=DEFAULT_URL,
        secrets=list_secrets(SCOPES),
        check=check,
        derive={"teams": derive_teams},
        summary_zh="Zoho Desk：工单与往来、备注、历史，联系人、客服、满意度评价、指标",
    )
}  # fmt: skip

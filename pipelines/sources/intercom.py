"""Intercom (API 2.16): conversations with parts, tickets, contacts, admins, teams, ratings.

Searches are read in the order of change; each page begins again at the time of the last record of
the page before, so that a record that changes meanwhile moves to the end and hides none. Contacts
are compared by day, so their days are read whole. Parts need a read of each conversation. Companies
come by their scroll, the only way without a cap; deleted conversations by a list of their ids, the
latest first.

A contact that was merged into another is gone from searches, and stands in the ``merge_history``
of the other, if that is a user: it is told as merged into it.

What Intercom does not give: more than the 500 latest parts of a conversation (a note says where
that happens), archived contacts, deleted tickets (no list has them), tags of tickets, when a tag
was taken away (the case loses it), and, where a merged conversation has several links, which of
them it went into. Parts say no earlier values but those of attributes.

Facts come from Intercom's OpenAPI 2.16; it names ``merged_primary_conversation`` alone. The part
of the conversation that was merged away, ``merged_secondary_conversation``, is what public scripts
read from version 2.16; it names no target.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time
from itertools import product
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError
from pipelines.mapping import Field, Lookup, Mapping, When, values
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.deletions import map_deletion
from pipelines.sources.http import (
    Limits,
    explain_http_errors,
    header_budget,
    open_client,
    read_number,
    retry_after,
)

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response
    from requests.exceptions import HTTPError

DEFAULT_URL = "https://api.intercom.io"
VERSION = "2.16"
PAGE_SIZE = 150
DELETED_PAGE = 60
MOST_PASSES = 5
DAY = 86_400
OVERLAP = 60  # seconds: the search may learn of a change a little later than it happens
RESET = "X-RateLimit-Reset"
ENDED = (400, 404)  # answers to a cursor that is not known any more
DELETED = "deleted_conversations"

CHANNELS = {
    "conversation": "chat", "messenger": "chat", "chat": "chat", "sms": "chat", "push": "chat",
    "whatsapp": "chat", "email": "email", "phone_call": "phone", "phone_switch": "phone",
    "phone": "phone", "facebook": "social", "instagram": "social", "twitter": "social",
    "api": "api", "ticket": "web_form",
}  # fmt: skip
STATES = {"open": "open", "closed": "closed", "snoozed": "pending"}
TICKET_STATES = {
    "submitted": "new", "in_progress": "open", "waiting_on_customer": "pending",
    "resolved": "solved",
}  # fmt: skip
PRIORITIES = {
    "urgent": "urgent", "high": "high", "medium": "normal", "low": "low", "priority": "high",
    "not_priority": "normal",
}  # fmt: skip
ROLES = {
    "admin": "agent", "team": "agent", "user": "customer", "lead": "customer",
    "contact": "customer", "bot": "bot",
}  # fmt: skip
PART_STATES = {
    "close": "closed", "open": "open", "reopened": "open", "assign_and_reopen": "open",
    "note_and_reopen": "open", "assign_and_unsnooze": "open", "unsnoozed": "open",
    "timer_unsnooze": "open", "snoozed": "pending",
}  # fmt: skip
PRIVATE = dict.fromkeys(
    ("note", "note_and_reopen", "assignment", "assign_and_reopen", "assign_and_unsnooze"), "false"
)
MACHINE = ("automated", "campaigns_initiated", "operator_initiated")


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    product_attribute: str | None = Option(
        default=None, description="custom attribute of conversations and tickets with the product"
    )
    page_size: int = Option(
        default=PAGE_SIZE, ge=1, le=PAGE_SIZE, description="records asked for at once"
    )


@dataclass(frozen=True)
class Search:
    """A search in the order of change: its key in the answer, and how fine times are compared."""

    name: str
    key: str
    seconds: int = 1


class CursorEnded(Exception):
    """A page was asked for by a cursor that Intercom does not know any more."""


CONTACTS = Search("contacts", "data", DAY)
CONVERSATIONS = Search("conversations", "conversations")
TICKETS = Search("tickets", "tickets")


def connect(source: Source, context: PullContext) -> RESTClient:
    from dlt.sources.helpers.rest_client.auth import BearerTokenAuth

    token = context.connection(source).password
    if not token:
        raise HearbackError(
            f"source {source.name!r}: connection {source.connection!r} needs a password "
            "(the access token)"
        )
    return open_client(
        source,
        context,
        auth=BearerTokenAuth(token=token),
        headers={"Intercom-Version": VERSION, "Accept": "application/json"},
        limits=Limits(
            wait_seconds=read_wait,
            budget=header_budget(("X-RateLimit-Remaining",), (RESET,), is_unix_time=True),
        ),
        default_url=DEFAULT_URL,
    )


def read_wait(response: Response) -> float | None:
    """Seconds until the window of a refusal ends, which Intercom tells as a unix time."""
    told, reset = retry_after(response), read_number(response, RESET)
    if told is not None or reset is None:
        return told
    return max(reset - datetime.now(UTC).timestamp(), 0.0)


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Every record that is new or changed since the remembered position, stream by stream."""
    reader = Reader(source, context)
    with explain_http_errors(source.name, source.connection):
        for name in ("teams", "admins"):
            yield Batch(name, [Record(str(row["id"]), row) for row in reader.get(name)[name]])
        yield from reader.allow("companies", reader.read_companies())
        for search in (CONTACTS, CONVERSATIONS):
            yield from reader.read_search(search)
        yield from reader.allow(TICKETS.name, reader.read_search(TICKETS))
        yield from reader.allow("deleted conversations", reader.read_deleted())


def check(source: Source, context: PullContext) -> str:
    """Ask who the token belongs to: shows whether it is right."""
    client = connect(source, context)
    with explain_http_errors(source.name, source.connection):
        response = client.get("me")
        response.raise_for_status()
        app = response.json().get("app") or {}
        return f"workspace {app.get('name') or app.get('id_code') or 'found'}"


class Reader:
    """Reads the streams of one workspace from their places in ``position``, which it moves."""

    def __init__(self, source: Source, context: PullContext) -> None:
        self.source = source
        self.context = context
        self.size = read_options(source, Options).page_size
        self.client = connect(source, context)
        self.position = copy.deepcopy(context.position)
        self.start = 0
        if source.start:
            self.start = int(datetime.combine(source.start, time.min, UTC).timestamp())
        if not self.position:  # what was deleted before the first pull was never here
            self.position[DELETED] = {"since": int(context.now.timestamp())}

    def get(self, path: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        response = self.client.get(path, params=params)
        response.raise_for_status()
        body: dict[str, Any] = response.json()
        return body

    def allow(self, stream: str, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; a stream that the plan or the token does not have is skipped with a note."""
        from requests.exceptions import HTTPError

        try:
            yield from batches
        except HTTPError as error:
            if error.response is None or error.response.status_code not in (402, 403, 404):
                raise
            self.context.progress(
                f"extract {self.source.name}: {stream} skipped, the plan or the token does not "
                f"have them ({error.response.status_code})",
                0,
            )

    def read_companies(self) -> Iterator[Batch]:
        """All companies, whose names contacts do not hold; a scroll that breaks is begun again."""
        from requests.exceptions import HTTPError

        for is_last in (False, True):
            place: dict[str, Any] = {}
            try:
                while rows := (body := self.get("companies/scroll", place)).get("data"):
                    yield Batch("companies", [Record(str(row["id"]), row) for row in rows])
                    place = {"scroll_param": body["scroll_param"]}
                return
            except HTTPError as error:
                if not place and read_code(error) != "scroll_exists":
                    raise
                if not place or is_last:
                    self.context.progress(
                        f"extract {self.source.name}: not all companies were read, their list "
                        "is in use or broke off; the next run reads it again",
                        0,
                    )
                    return

    def read_deleted(self) -> Iterator[Batch]:
        """Conversations deleted since the last pull. The latest come first, so that one deleted
        meanwhile moves others to a later page, where they are met again, and hides none.
        """
        remembered = self.position.get(DELETED, {}).get("since", self.start)
        since, latest, page = remembered - OVERLAP, remembered, 1
        while True:
            body = self.get(
                "conversations/deleted",
                {"per_page": DELETED_PAGE, "page": page, "order": "desc"},
            )
            rows = body.get("conversations") or []
            fresh = [row for row in rows if row["deleted_at"] >= since]
            latest = max([latest, *(row["deleted_at"] for row in fresh)])
            yield Batch(DELETED, [Record(str(row["id"]), row) for row in fresh])
            if len(fresh) < len(rows) or not (body.get("pages") or {}).get("next"):
                break
            page += 1
        self.position[DELETED] = {"since": latest}
        yield Batch(DELETED, [], copy.deepcopy(self.position))

    def read_search(self, search: Search) -> Iterator[Batch]:
        """A search in the order of change, window by window."""
        remembered = self.position.get(search.name, {}).get("since")
        since = self.start if remembered is None else max(remembered - OVERLAP, self.start)
        known: dict[str, int] = {}
        while True:
            window: dict[str, int] = {}
            last, is_end = since, True
            for page, has_more in self.read_window(search, since):
                is_end = not has_more
                rows = [row for row in page if row["updated_at"] >= self.start]
                fresh = [
                    row
                    for row in rows
                    if row["updated_at"] not in (known.get(row["id"]), window.get(row["id"]))
                ]
                window |= {row["id"]: row["updated_at"] for row in rows}
                last = max([last, *(row["updated_at"] for row in rows)])
                yield Batch(search.name, [self.read_whole(search, row) for row in fresh])
            if window:
                self.position[search.name] = {"since": max(last, remembered or 0)}
                yield Batch(search.name, [], copy.deepcopy(self.position))
            if is_end:
                return
            known, since = window, last

    def read_window(
        self, search: Search, since: int
    ) -> Iterator[tuple[list[dict[str, Any]], bool]]:
        """The first page from ``since``, and further ones until its rows are later.

        With each page goes whether there are more. A window of several pages is read until a pass
        brings nothing new: a row that changes may leave its place and move all behind it. Where a
        cursor ends on the way, the next pass begins at the first page.
        """
        first = since - since % search.seconds
        seen: set[tuple[str, int]] = set()
        for _ in range(MOST_PASSES):
            is_new, is_broken, pages, after = False, False, 0, None
            while True:
                try:
                    rows, after = self.read_page(search, first - search.seconds, after)
                except CursorEnded:
                    is_new = is_broken = True
                    break
                pages += 1
                keys = {(row["id"], row["updated_at"]) for row in rows}
                is_new = is_new or not keys <= seen
                seen |= keys
                yield rows, after is not None
                latest = max((moment for _, moment in keys), default=since)
                if after is None or latest >= first + search.seconds:
                    break
            if not is_new or (pages == 1 and not is_broken):
                return
        if is_broken:
            raise HearbackError(
                f"cursors of {search.name} end before their pages are read; run it again: it goes "
                "on from there"
            )
        if search is CONTACTS and after is None:
            return  # the day that is not over: the next pull reads all of it again
        raise HearbackError(
            f"{search.name} change faster than they can be read; run it again later"
        )

    def read_page(
        self, search: Search, later_than: int, after: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """(rows, where the next page starts or None)."""
        pagination: dict[str, Any] = {"per_page": self.size}
        if after is not None:
            pagination["starting_after"] = after
        wanted = {"field": "updated_at", "operator": ">", "value": max(later_than, 0)}
        response = self.client.post(
            f"{search.name}/search",
            json={
                "query": {"operator": "AND", "value": [wanted]},
                "pagination": pagination,
                "sort": {"field": "updated_at", "order": "ascending"},
            },
            params={"include_merge_history": "true"} if search is CONTACTS else None,
        )
        if after is not None and response.status_code in ENDED:
            raise CursorEnded
        response.raise_for_status()
        body = response.json()
        following = (body.get("pages") or {}).get("next") or {}
        rows = [row | {"id": str(row["id"])} for row in body.get(search.key) or []]
        return rows, following.get("starting_after") if rows else None

    def read_whole(self, search: Search, row: dict[str, Any]) -> Record:
        """A record with its parts; one that is gone since the search is kept as it was found."""
        from requests.exceptions import HTTPError

        if search is CONTACTS or (search is TICKETS and has_all_parts(row, "ticket_parts")):
            return Record(row["id"], row)
        try:
            row = self.get(f"{search.name}/{row['id']}")
        except HTTPError as error:
            if error.response is None or error.response.status_code != 404:
                raise
        name = "conversation_parts" if search is CONVERSATIONS else "ticket_parts"
        if name in row and not has_all_parts(row, name):
            parts = row[name]
            self.context.progress(
                f"extract {self.source.name}: {search.name} {row['id']}: Intercom gives the "
                f"{len(parts.get(name) or []):,} latest of {parts['total_count']:,} parts",
                0,
            )
        return Record(str(row["id"]), row)


def read_code(error: HTTPError) -> str:
    """The code of the first error that Intercom names, or nothing."""
    try:
        body = error.response.json() if error.response is not None else {}
        return str(body["errors"][0]["code"])
    except (ValueError, LookupError, TypeError):
        return ""


def has_all_parts(row: dict[str, Any], name: str) -> bool:
    """Whether the parts that a record counts all stand in it."""
    parts = row.get(name)
    return parts is not None and len(parts.get(name) or []) >= (parts.get("total_count") or 0)


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    return [
        *map_cases(options),
        *map_openings(),
        *map_case_events(),
        *map_parts("conversations", "conversation_parts", CONVERSATION_CHANNEL),
        *map_parts("tickets", "ticket_parts", Field(const="web_form")),
        *map_ratings(),
        *map_metrics(),
        *map_people(),
    ]


def list_names(pattern: str, most: int) -> Field:
    """What stands at the first places of a list: ``{}`` of the pattern is the place."""
    paths = [pattern.format(place) for place in range(most)]
    return Field(paths[0], "text_list", also=tuple(paths[1:]), joined_by="|")


CUSTOMER = Field("contacts.contacts.0.id")
CONVERSATION_CHANNEL = Field(
    "source.type", also=("channel.initial",), values=values(CHANNELS), unknown="other"
)
TEAM_NAME = Lookup("teams", "id", "name")


def map_cases(options: Options) -> list[Mapping]:
    """Cases; priority ``none`` is no priority, and an assignee 0 is nobody."""
    attribute = options.product_attribute
    shared = {
        "source_case_id": Field("id"),
        "source_customer_id": CUSTOMER,
        "source_group": Field("team_assignee_id", pattern="^([^0].*)", lookup=TEAM_NAME),
        "assignee_id": Field("admin_assignee_id", pattern="^([^0].*)"),
        "opened_at": Field("created_at", "instant"),
        "updated_at": Field("updated_at", "instant"),
    }
    conversation = shared | {
        "channel": CONVERSATION_CHANNEL,
        "subject": Field("title", also=("source.subject",)),
        "submitter_id": Field("source.author.id"),
        "status": Field("state", values=values(STATES), unknown="open"),
        "product": Field(("custom_attributes", attribute)) if attribute else Field(),
        "tags": list_names("tags.tags.{}.name", 20),
    }
    priority = {"priority": Field("priority", values=values(PRIORITIES), unknown="normal")}
    ticket = shared | {
        "channel": Field(const="web_form"),
        "subject": Field("ticket_attributes._default_title_"),
        "status": Field("ticket_state.category", values=values(TICKET_STATES), unknown="open"),
        "product": Field(("ticket_attributes", attribute)) if attribute else Field(),
    }
    needed = ("source_case_id",)
    return [
        Mapping(
            "conversations", "cases", conversation | priority,
            when=(When("priority", ("none",), is_negated=True),), required=needed,
            ignored=(
                "type", "waiting_since", "snoozed_until", "open", "read", "company", "teammates",
                "custom_attributes", "first_contact_reply", "sla_applied", "linked_objects",
                "ai_agent_participated", "ai_agent", "sales_agent_participated", "sales_agent",
                "external_references", "monitor_evaluations", "scorecards", "topics", "statistics",
            ),
        ),
        Mapping(
            "conversations", "cases", conversation,
            when=(When("priority", ("none",)),), required=needed,
        ),
        Mapping(
            "tickets", "cases", ticket, required=needed,
            ignored=(
                "type", "ticket_id", "category", "ticket_attributes", "ticket_type", "open",
                "snoozed_until", "linked_objects", "is_shared", "previous_ticket_state_id",
                "company_id",
            ),
        ),
    ]  # fmt: skip


def map_openings() -> list[Mapping]:
    """The text that opened a case. A campaign's message has one id in many conversations, so the
    id of the conversation names it; whoever it is sent in the name of, a machine wrote it.
    """
    opening = {
        "source_record_id": Field("id", suffix=":source"),
        "source_case_id": Field("id"),
        "is_public": Field(const=True),
        "created_at": Field("created_at", "instant"),
        "sequence": Field(const=0),
    }
    message = opening | {
        "author_id": Field("source.author.id"),
        "author_role": Field("source.author.type", values=values(ROLES), unknown="system"),
        "channel": CONVERSATION_CHANNEL,
        "body": Field("source.body"),
        "attachments": list_names("source.attachments.{}.name", 5),
    }
    ids = ("source_record_id", "source_case_id")
    return [
        Mapping(
            "conversations", "messages", message, required=ids,
            when=(When("source.body"), When("source.delivered_as", MACHINE, is_negated=True)),
        ),
        Mapping(
            "conversations", "messages", message | {"author_role": Field(const="bot")},
            when=(When("source.body"), When("source.delivered_as", MACHINE)), required=ids,
        ),
        Mapping(
            "tickets", "messages",
            opening
            | {
                "author_id": CUSTOMER,
                "author_role": Field(const="customer"),
                "channel": Field(const="web_form"),
                "body": Field("ticket_attributes._default_description_"),
            },
            when=(When("ticket_attributes._default_description_"), When("category", ("Customer",))),
            required=ids,
        ),
    ]  # fmt: skip


def map_case_events() -> list[Mapping]:
    """What the records themselves tell: opened, tagged, merged away, deleted."""
    case = {"source_case_id": Field("id")}
    needed = ("source_event_id", "source_case_id")
    created = case | {
        "source_event_id": Field("id", suffix=":created"),
        "event_at": Field("created_at", "instant"),
        "event_type": Field(const="created"),
        "sequence": Field(const=0),
    }
    author = {
        "actor_id": Field("source.author.id"),
        "actor_role": Field("source.author.type", values=values(ROLES), unknown="system"),
    }
    is_machine = When("source.delivered_as", MACHINE)
    merged = case | {
        "source_event_id": Field("item.id", suffix=":merged"),
        "event_at": Field("item.created_at", "instant"),
        "event_type": Field(const="merged"),
        "actor_id": Field("item.author.id"),
        "actor_role": Field("item.author.type", values=values(ROLES), unknown="system"),
        "sequence": Field("item.id", "integer", pattern=r"^(\d{1,18})$"),
    }

    def links_one(is_negated: bool) -> When:
        return When(
            "linked_objects.total_count",
            ("1 conversation",),
            is_negated,
            also=("linked_objects.data.0.type",),
            joined_by=" ",
        )

    is_merged = When("item.part_type", ("merged_secondary_conversation",))
    parts = "conversation_parts.conversation_parts"
    return [
        Mapping(
            "conversations", "case_events", created | author, required=needed,
            when=(When("source.delivered_as", MACHINE, is_negated=True),),
        ),
        Mapping(
            "conversations", "case_events", created | author | {"actor_role": Field(const="bot")},
            when=(is_machine,), required=needed,
        ),
        Mapping(
            "tickets", "case_events",
            created | {"actor_id": CUSTOMER, "actor_role": Field(const="customer")},
            when=(When("category", ("Customer",)),), required=needed,
        ),
        Mapping(
            "tickets", "case_events", created, required=needed,
            when=(When("category", ("Customer",), is_negated=True),),
        ),
        Mapping(
            "conversations", "case_events",
            case
            | {
                "source_event_id": Field(
                    "id", also=("item.id", "item.applied_at"), joined_by=":", suffix=":tag"
                ),
                "event_at": Field("item.applied_at", "instant"),
                "event_type": Field(const="tags_changed"),
                "actor_id": Field("item.applied_by.id"),
                "to_value": Field("item.name"),
            },
            when=(When("item.applied_at"),), explode="tags.tags", required=needed,
        ),
        Mapping(
            "conversations", "case_events",
            merged | {"to_value": Field("linked_objects.data.0.id")},
            when=(is_merged, links_one(False)), explode=parts, required=needed,
        ),
        Mapping(
            "conversations", "case_events", merged,
            when=(is_merged, links_one(True)), explode=parts, required=needed,
        ),
        Mapping(
            DELETED, "case_events",
            case
            | {
                "source_event_id": Field("id", suffix=":deleted"),
                "event_at": Field("deleted_at", "instant"),
                "event_type": Field(const="deleted"),
            },
            required=needed, ignored=("type", "metrics_retained"),
        ),
    ]  # fmt: skip


def map_parts(raw: str, name: str, channel: Field) -> list[Mapping]:
    """Messages and events from the parts of conversations or tickets."""
    explode = f"{name}.{name}"
    by = {
        "source_case_id": Field("id"),
        "sequence": Field("item.id", "integer", pattern=r"^(\d{1,18})$"),
    }
    author = Field("item.author.id")
    role = Field("item.author.type", values=values(ROLES), unknown="system")
    created_at = Field("item.created_at", "instant")
    found = [
        Mapping(
            raw, "messages",
            by
            | {
                "source_record_id": Field("item.id"),
                "author_id": author,
                "author_role": role,
                "is_public": Field("item.part_type", values=values(PRIVATE), unknown="true"),
                "channel": channel,
                "created_at": created_at,
                "body": Field("item.body"),
                "attachments": list_names("item.attachments.{}.name", 5),
            },
            when=(When("item.body"),), explode=explode,
            required=("source_record_id", "source_case_id"),
        )
    ]  # fmt: skip
    to_admin, to_team = When("item.assigned_to.type", ("admin",)), ("team",)
    assigned = ("assignment", "assign_and_reopen", "assign_and_unsnooze")
    status = {
        "to_value": Field("item.part_type", values=values(PART_STATES), unknown="open"),
    }
    changes: list[tuple[str, dict[str, Field], tuple[When, ...]]] = [
        ("assignee", {"to_value": Field("item.assigned_to.id")}, (to_admin,)),
        (
            "assignee",
            {"to_value": Field()},
            (
                When("item.part_type", assigned),
                When("item.assigned_to.id", is_negated=True),
            ),
        ),
        (
            "group",
            {"to_value": Field("item.assigned_to.id", lookup=TEAM_NAME)},
            (When("item.assigned_to.type", to_team),),
        ),
    ]
    given = values(PRIORITIES | {"none": "none"})
    said = "item.updated_attribute_data" if raw == "tickets" else "item.event_details"
    text = "label" if raw == "tickets" else "name"
    priority = {"to_value": Field(f"{said}.value.{text}", values=given, unknown="normal")}
    if raw == "conversations":
        earlier = Field(f"{said}.value.previous", values=given, unknown="normal")
        priority["from_value"] = earlier
    is_attribute = When("item.part_type", pattern="_attribute_updated_by_")
    is_priority = When(f"{said}.attribute.{text}", pattern="(?i)^priority$")
    changes.append(("priority", priority, (is_attribute, is_priority)))
    if raw == "tickets":
        states = values(TICKET_STATES)
        status = {
            "from_value": Field("item.previous_ticket_state", values=states, unknown="open"),
            "to_value": Field("item.ticket_state", values=states, unknown="open"),
        }
        is_change = When("item.part_type", pattern="^ticket_state_updated")
        changes.append(("status", status, (is_change, When("item.ticket_state"))))
    else:
        changes.append(("status", status, (When("item.part_type", tuple(PART_STATES)),)))
    for change, columns, when in changes:
        event = {
            "source_event_id": Field("item.id", suffix=f":{change}"),
            "event_at": created_at,
            "event_type": Field(const=f"{change}_changed"),
            "actor_id": author,
            "actor_role": role,
        }
        found.append(
            Mapping(
                raw, "case_events", by | event | columns, when=when, explode=explode,
                required=("source_event_id", "source_case_id"),
            )
        )  # fmt: skip
    return found


def map_ratings() -> list[Mapping]:
    """Ratings: ``created_at`` is when one was asked for, ``updated_at`` when it was given."""
    at = "conversation_rating."
    customer = Field(f"{at}contact.id", also=("contacts.contacts.0.id",))
    score, rated_at = Field(f"{at}rating", "number"), Field(f"{at}updated_at", "instant")
    rating = Field("id", suffix=":rating")
    offered = {
        "source_response_id": rating,
        "survey_id": Field(const="intercom_rating"),
        "question_id": Field(const="rating"),
        "kind": Field(const="csat"),
        "scale_min": Field(const=1.0),
        "scale_max": Field(const=5.0),
        "higher_is_better": Field(const=True),
        "source_customer_id": customer,
        "source_case_id": Field("id"),
        "offered_at": Field(f"{at}created_at", "instant"),
        "updated_at": Field("updated_at", "instant"),
    }
    is_rated = When(f"{at}rating")
    return [
        Mapping(
            "conversations", "survey_responses", offered, required=("source_response_id",),
            when=(When(f"{at}created_at"), When(f"{at}rating", is_negated=True)),
        ),
        Mapping(
            "conversations", "survey_responses",
            offered | {"score": score, "answered_at": rated_at, "comment": Field(f"{at}remark")},
            when=(is_rated,), required=("source_response_id",),
        ),
        Mapping(
            "conversations", "feedback",
            {
                "source_record_id": rating,
                "channel": Field(const="survey"),
                "source_case_id": Field("id"),
                "source_customer_id": customer,
                "created_at": rated_at,
                "updated_at": Field("updated_at", "instant"),
                "body": Field(f"{at}remark"),
                "rating": score,
                "rating_min": Field(const=1.0),
                "rating_max": Field(const=5.0),
            },
            when=(When(f"{at}remark"),), required=("source_record_id",),
        ),
        Mapping(
            "conversations", "case_events",
            {
                "source_event_id": Field("id", suffix=":rated"),
                "source_case_id": Field("id"),
                "event_at": rated_at,
                "event_type": Field(const="rated"),
                "actor_id": customer,
                "actor_role": Field(const="customer"),
                "to_value": Field(f"{at}rating"),
            },
            when=(is_rated,), required=("source_event_id",),
        ),
    ]  # fmt: skip


def map_metrics() -> list[Mapping]:
    """Durations that Intercom gives leave out time outside office hours; its times do not."""
    at = "statistics."

    def to_minutes(name: str) -> Field:
        return Field(at + name, "number", times=1 / 60)

    columns = (
        ("first_reply", "business", to_minutes("time_to_admin_reply")),
        ("first_resolution", "business", to_minutes("time_to_first_close")),
        ("full_resolution", "business", to_minutes("time_to_last_close")),
        ("handling", "calendar", to_minutes("handling_time")),
        ("reopens", "calendar", Field(f"{at}count_reopens", "number")),
        ("first_reply", "calendar", Field(f"{at}first_admin_reply_at",
                                          since=f"{at}first_contact_reply_at")),
        ("first_resolution", "calendar", Field(f"{at}first_close_at", since="created_at")),
        ("full_resolution", "calendar", Field(f"{at}last_close_at", since="created_at")),
    )  # fmt: skip
    return [
        Mapping(
            "conversations", "vendor_metrics",
            {
                "source_case_id": Field("id"),
                "metric": Field(const=metric),
                "clock": Field(const=clock),
                "value": value,
                "updated_at": Field("updated_at", "instant"),
            },
            when=tuple(When(path) for path in value.paths), required=("source_case_id",),
        )
        for metric, clock, value in columns
    ]  # fmt: skip


def map_people() -> list[Mapping]:
    flags = ("unsubscribed_from_emails", "has_hard_bounced", "marked_email_as_spam")
    refusals = {
        "|".join(said): str("true" in said).lower()
        for count in (1, 2, 3)
        for said in product(("true", "false"), repeat=count)
    }
    person = {
        "external_id": Field("external_id"),
        "name": Field("name"),
        "email": Field("email"),
        "phone": Field("phone"),
        "language": Field("language_override", also=("browser_language",)),
        "organization": Field(
            "companies.data.0.id", lookup=Lookup("companies", "id", "name", is_strict=True)
        ),
        "region": Field("location.country"),
        "signup_at": Field("signed_up_at", "instant", also=("created_at",)),
        "do_not_contact": Field(flags[0], also=flags[1:], joined_by="|", values=values(refusals)),
        "updated_at": Field("updated_at", "instant"),
    }
    needed = ("source_customer_id",)
    return [
        map_deletion(
            "contacts", "customers", Field("item.source_contact_id"),
            deleted_at=Field("item.merged_at", "instant"), merged_into=Field("id"),
            updated_at=Field("item.merged_at", "instant", also=("updated_at",)),
            explode="merge_history",
        ),
        Mapping(
            "contacts", "customers", person | {"source_customer_id": Field("id")}, required=needed,
            ignored=(
                "type", "workspace_id", "role", "email_domain", "owner_id", "last_seen_at",
                "last_replied_at", "last_contacted_at", "last_email_opened_at",
                "last_email_clicked_at", "browser", "browser_version", "os", "android_app_name",
                "android_app_version", "android_device", "android_os_version",
                "android_sdk_version", "android_last_seen_at", "ios_app_name", "ios_app_version",
                "ios_device", "ios_os_version", "ios_sdk_version", "ios_last_seen_at",
                "custom_attributes", "avatar", "tags", "notes", "social_profiles",
                "referrer", "utm_campaign", "utm_content", "utm_medium",
                "utm_source", "utm_term", "sms_consent", "unsubscribed_from_sms",
                "enabled_push_messaging", "opted_out_subscription_types",
                "opted_in_subscription_types",
            ),
        ),
        Mapping(
            "admins", "agents",
            {
                "source_agent_id": Field("id"),
                "name": Field("name"),
                "email": Field("email"),
                "role": Field(const="agent"),
                "team": Field("team_ids.0", lookup=TEAM_NAME),
                "is_active": Field(const=True),
            },
            required=("source_agent_id",),
            ignored=(
                "type", "job_title", "away_mode_enabled", "away_mode_reassign",
                "away_status_reason_id", "has_inbox_seat", "avatar", "team_priority_level",
            ),
        ),
    ]  # fmt: skip


KINDS = {
    "intercom": Kind(
        "intercom",
        "Intercom: conversations with parts, tickets, contacts, companies, ratings, statistics",
        Options,
        (
            "cases", "messages", "case_events", "customers", "agents", "survey_responses",
            "feedback", "vendor_metrics", "deletions",
        ),
        pull,
        mappings,
        needs_connection=True,
        default_url=DEFAULT_URL,
        secrets=(
            Secret("password", "access token", "Developer Hub → your app → Authentication"),
        ),
        check=check,
        summary_zh="Intercom：会话与消息、工单、联系人、公司、满意度评分、统计",
    )
}  # fmt: skip

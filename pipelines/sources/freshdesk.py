"""Freshdesk: tickets with conversations, contacts, agents, groups, companies, satisfaction ratings.

Tickets are read in the order of their change, each page from just before the last row of the one
before, so that neither the cap of 300 pages nor tickets that change meanwhile can hide any. Spam
and deleted tickets, which the plain list hides, are asked for by their filters. Conversations are
read ticket by ticket. Contacts and ratings come in no order of change: a sweep whose pages shifted
is repeated. Ratings can only be asked for by creation; those of the last week are read again each
time, for comments that were added later.

What Freshdesk does not give: a history of assignees, groups and priorities; of status changes only
the last of each kind; answers to further questions of a survey have no names (they stay in raw);
tickets that were deleted for ever leave no trace.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
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
    keep_host,
    minute_budget,
    open_client,
)

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response

API = "/api/v2"
PAGE_SIZE = 100
MOST_PAGES = 300
MOST_PASSES = 5
BATCH_ROWS = 1000
COSTLIEST_REQUEST = 7  # credits of a page of tickets: one, and two for each of its includes
OVERLAP = timedelta(seconds=60)
GRANULARITY = timedelta(seconds=1)
RATING_DAYS = timedelta(days=7)
FIRST_DAY = datetime(2000, 1, 1, tzinfo=UTC)
HIDDEN = ("spam", "deleted")  # filters of tickets, and the flags that these tickets bear

STATUSES = {
    "2": "open", "3": "pending", "4": "solved", "5": "closed", "6": "pending", "7": "hold",
}  # fmt: skip
PRIORITIES = {"1": "low", "2": "normal", "3": "high", "4": "urgent"}
CHANNELS = {
    "1": "email", "2": "web_form", "3": "phone", "4": "forum", "5": "social", "6": "social",
    "7": "chat", "8": "web_form", "9": "web_form", "10": "email", "11": "other", "12": "chat",
    "13": "chat",
}  # fmt: skip
# A reply and a note go where the ticket came from.
CONVERSATION_CHANNELS = {
    "0": "other", "1": "email", "2": "other", "5": "social", "6": "survey", "7": "social",
    "8": "email", "9": "phone", "11": "other",
}  # fmt: skip
OUTBOUND = "10"
MERGED = r"(?i)merged (?:into|with|to) ticket (?:id )?\[?#?(\d+)"


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    bots: list[str] = Option(default_factory=list, description="ids of agents that are bots")
    statuses: dict[str, str] = Option(
        default_factory=dict,
        description="number of your own ticket status = new open pending hold solved closed",
    )
    product_field: str | None = Option(
        default=None, description="custom field of tickets with the product, such as cf_product"
    )


def connect(source: Source, context: PullContext) -> RESTClient:
    from requests.auth import HTTPBasicAuth

    connection = context.connection(source)
    key = connection.password if connection.password not in (None, "X") else connection.login
    key = connection.extra.get("api_key") or key
    if not key:
        raise HearbackError(
            f"source {source.name!r}: connection {source.connection!r} needs a password "
            "(the API key)"
        )
    site = find_site(source)
    return open_client(
        source.model_copy(update={"base_url": site}),
        context,
        API,
        auth=HTTPBasicAuth(key, "X"),
        limits=Limits(budget=minute_budget("X-RateLimit-Remaining"), reserve=COSTLIEST_REQUEST),
    )


def find_site(source: Source) -> str:
    """Where people see tickets: base_url without the path of the API."""
    return (source.base_url or "").rstrip("/").removesuffix(API)


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Every record that is new or changed since the remembered position, stream by stream."""
    read_options(source, Options)
    reader = Reader(source, context)
    with explain_http_errors(source.name, source.connection):
        for entity in ("groups", "companies", "agents"):
            yield from reader.allow(entity, reader.read_list(entity))
        yield from reader.allow("contacts", reader.read_contacts())
        yield from reader.read_tickets()
        for flag in HIDDEN:
            yield from reader.allow(f"{flag} tickets", reader.read_tickets(flag))
        yield from reader.allow("satisfaction_ratings", reader.read_ratings())


def check(source: Source, context: PullContext) -> str:
    """Ask for one ticket: shows whether the key is right and may read tickets."""
    client = connect(source, context)
    with explain_http_errors(source.name, source.connection):
        params = {"updated_since": write_instant(FIRST_DAY), "per_page": 1}
        response = client.get("tickets", params=params)
        response.raise_for_status()
        return "tickets can be read" if response.json() else "no tickets yet"


def write_instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Reader:
    """Reads the streams of one account from their places in ``position``, which it moves."""

    def __init__(self, source: Source, context: PullContext) -> None:
        self.source = source
        self.context = context
        self.client = connect(source, context)
        self.site = find_site(source)
        self.position = copy.deepcopy(context.position)
        self.start = FIRST_DAY
        if source.start:
            self.start = datetime.combine(source.start, time.min, UTC)

    def since(self, stream: str, overlap: timedelta) -> datetime:
        """From when a stream is to be read: its remembered time less the overlap, or the start."""
        remembered = self.position.get(stream, {}).get("since")
        if not remembered:
            return self.start
        return max(datetime.fromisoformat(remembered) - overlap, self.start)

    def remember(self, stream: str, moment: datetime) -> None:
        """Move the place of a stream; it never goes back to the overlap that is read again."""
        before = self.position.get(stream, {}).get("since", "")
        self.position[stream] = {"since": max(write_instant(moment), before)}

    def batch(self, entity: str, rows: list[dict[str, Any]], *, is_safe: bool = False) -> Batch:
        place = copy.deepcopy(self.position) if is_safe else None
        return Batch(entity, [self.record(entity, row) for row in rows], place)

    def record(self, entity: str, row: dict[str, Any]) -> Record:
        """A record with the page on which people see it."""
        ticket = row["id"] if entity == "tickets" else row.get("ticket_id")
        url = f"{self.site}/a/tickets/{ticket}" if ticket else None
        if entity == "contacts":
            url = f"{self.site}/a/contacts/{row['id']}"
        return Record(str(row["id"]), row, url)

    def allow(self, stream: str, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; a stream that the plan or the key does not have is skipped with a note."""
        from requests.exceptions import HTTPError

        try:
            yield from batches
        except HTTPError as error:
            if error.response is None or error.response.status_code not in (400, 403, 404):
                raise
            status = error.response.status_code
            self.context.progress(
                f"extract {self.source.name}: {stream} skipped, the plan or the key does not have "
                f"them ({status})",
                0,
            )

    def pages(self, path: str, params: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
        """Pages of a list, as far as the Link header leads."""
        from dlt.sources.helpers.rest_client.paginators import HeaderLinkPaginator

        site = self.site

        class Links(HeaderLinkPaginator):
            """Links name the vendor's host, also where base_url is a proxy."""

            def update_state(self, response: Response, data: list[Any] | None = None) -> None:
                super().update_state(response, data)
                if self._next_reference:
                    self._next_reference = keep_host(site, self._next_reference)

        query = {**params, "per_page": PAGE_SIZE}
        for page in self.client.paginate(
            path, params=query, paginator=Links(), data_selector="$[*]"
        ):
            yield list(page)

    def read_list(self, path: str, **params: Any) -> Iterator[Batch]:
        """A whole list; once more if a row came twice, for then others may have been passed over.

        Rows that came before come again: raw drops what it has.
        """
        for _ in range(MOST_PASSES):
            seen: set[int] = set()
            is_shifted = False
            for rows in self.pages(path, params):
                found = {int(row["id"]) for row in rows}
                is_shifted = is_shifted or not seen.isdisjoint(found)
                seen |= found
                yield self.batch(path.rpartition("/")[2], rows)
            if not is_shifted:
                return
        raise HearbackError(f"{path} change faster than they can be read; run it again later")

    def read_contacts(self) -> Iterator[Batch]:
        """Contacts changed since the last sweep, then those that were deleted."""
        since = write_instant(self.since("contacts", OVERLAP))
        sweep = Sweep()
        for batch in self.read_list("contacts", _updated_since=since):
            yield sweep.watch(batch)
        hidden = self.read_list("contacts", _updated_since=since, state="deleted")
        for batch in self.allow("deleted contacts", hidden):
            yield sweep.watch(batch)
        yield from self.end_sweep("contacts", sweep)

    def read_ratings(self) -> Iterator[Batch]:
        since = write_instant(self.since("satisfaction_ratings", RATING_DAYS))
        sweep = Sweep("created_at")
        for batch in self.read_list("surveys/satisfaction_ratings", created_since=since):
            yield sweep.watch(batch)
        yield from self.end_sweep("satisfaction_ratings", sweep)

    def end_sweep(self, stream: str, sweep: Sweep) -> Iterator[Batch]:
        if sweep.end:
            self.remember(stream, sweep.end)
            yield self.batch(stream, [], is_safe=True)

    def read_tickets(self, flag: str | None = None) -> Iterator[Batch]:
        """Tickets in the order of their change, each page behind its conversations.

        A page begins just before the time at which the last one ended: what changed meanwhile has
        moved to the end and is met there. Only where more tickets than a page holds share their
        second is a further page of the same window asked for.
        """
        stream = f"tickets_{flag}" if flag else "tickets"
        since = self.since(stream, OVERLAP)
        known: dict[int, str] = {}
        while True:
            window: dict[int, str] = {}
            last = since
            is_end = True
            for rows, has_more in self.read_window(since, flag):
                is_end = not has_more
                if flag and rows and not any(row.get(flag) for row in rows):
                    return  # no such filter here: these are the plain tickets
                window |= {int(row["id"]): str(row["updated_at"]) for row in rows}
                fresh = [row for row in rows if known.get(int(row["id"])) != row["updated_at"]]
                yield from self.read_conversations(fresh)
                last = max([last, *(read_instant(row["updated_at"]) for row in rows)])
                yield self.batch("tickets", fresh)
            if window:
                self.remember(stream, last)
                yield self.batch("tickets", [], is_safe=True)
            if is_end:
                return
            known, since = window, last - GRANULARITY

    def read_window(
        self, since: datetime, flag: str | None
    ) -> Iterator[tuple[list[dict[str, Any]], bool]]:
        """The first page from ``since``, and further ones until its last row is later.

        With each page goes whether there are more.

        A window of several pages is read until a pass brings nothing new: pages are numbered, and
        a ticket that leaves the window moves all behind it.
        """
        seen: set[tuple[int, str]] = set()
        for _ in range(MOST_PASSES):
            is_new = False
            for number in range(1, MOST_PAGES + 1):
                rows, has_more = self.read_page(since, number, flag)
                keys = {(int(row["id"]), str(row["updated_at"])) for row in rows}
                is_new = is_new or not keys <= seen
                seen |= keys
                yield rows, has_more
                if not has_more or read_instant(rows[-1]["updated_at"]) - GRANULARITY > since:
                    break
            else:
                raise HearbackError(
                    f"more than {MOST_PAGES * PAGE_SIZE:,} tickets changed at "
                    f"{write_instant(since)}: Freshdesk cannot list them all"
                )
            if number == 1 or not is_new:
                return
        raise HearbackError("tickets change faster than they can be read; run it again later")

    def read_page(
        self, since: datetime, number: int, flag: str | None
    ) -> tuple[list[dict[str, Any]], bool]:
        params = {
            "updated_since": write_instant(since),
            "order_by": "updated_at",
            "order_type": "asc",
            "include": "description,requester,stats",
            "per_page": PAGE_SIZE,
            "page": number,
        }
        response = self.client.get("tickets", params=params | ({"filter": flag} if flag else {}))
        response.raise_for_status()
        rows: list[dict[str, Any]] = response.json()
        return rows, bool(rows) and ("next" in response.links or len(rows) >= PAGE_SIZE)

    def read_conversations(self, tickets: list[dict[str, Any]]) -> Iterator[Batch]:
        """What was said in these tickets; one that is gone meanwhile has nothing to say."""
        from requests.exceptions import HTTPError

        waiting: list[dict[str, Any]] = []
        for ticket in tickets:
            try:
                for rows in self.pages(f"tickets/{ticket['id']}/conversations", {}):
                    waiting += rows
            except HTTPError as error:
                if error.response is None or error.response.status_code not in (404, 405):
                    raise
            if len(waiting) >= BATCH_ROWS:
                yield self.batch("conversations", waiting)
                waiting = []
        if waiting:
            yield self.batch("conversations", waiting)


def read_instant(text: Any) -> datetime:
    return datetime.fromisoformat(str(text).replace("Z", "+00:00")).astimezone(UTC)


class Sweep:
    """Remembers how far a list without order reaches; its own start bounds it.

    What changed after the start may have been read in its old state, and is read again next time.
    """

    def __init__(self, cursor: str = "updated_at") -> None:
        self.cursor = cursor
        self.began = datetime.now(UTC)
        self.newest: datetime | None = None

    def watch(self, batch: Batch) -> Batch:
        assert isinstance(batch.records, list)
        for record in batch.records:
            assert isinstance(record.payload, dict)
            text = record.payload.get(self.cursor)
            if text:
                moment = read_instant(text)
                self.newest = max(self.newest or moment, moment)
        return batch

    @property
    def end(self) -> datetime | None:
        return None if self.newest is None else min(self.newest, self.began)


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    return [
        *map_tickets(options),
        *map_conversations(options),
        *map_ticket_events(),
        *map_people(options),
        *map_ratings(),
    ]


IGNORED_OF_TICKETS = (
    "requester", "company_id", "type", "cc_emails", "fwd_emails", "reply_cc_emails",
    "ticket_cc_emails", "ticket_bcc_emails", "email_config_id", "fr_escalated", "nr_escalated",
    "to_emails", "product_id", "due_by", "fr_due_by", "nr_due_by", "is_escalated", "custom_fields",
    "association_type", "associated_tickets_count", "associated_tickets_list", "support_email",
    "structured_description", "source_additional_info", "form_id", "internal_agent_id",
    "internal_group_id", "sentiment_score", "initial_sentiment_score", "tracker_id",
    "template_text", "sla_policy", "company", "status_name", "priority_name", "source_name",
    "delta", "email", "phone", "name", "facebook_id", "twitter_id", "unique_external_id",
)  # fmt: skip


def list_names(path: str) -> Field:
    """The names of the first five files of a list."""
    names = [f"{path}.{place}.name" for place in range(5)]
    return Field(names[0], "text_list", also=tuple(names[1:]), joined_by="|")


def map_tickets(options: Options) -> list[Mapping]:
    product = Field(("custom_fields", options.product_field)) if options.product_field else Field()
    case = {
        "source_case_id": Field("id"),
        "channel": Field("source", values=values(CHANNELS), unknown="other"),
        "subject": Field("subject"),
        "source_customer_id": Field("requester_id"),
        "priority": Field("priority", values=values(PRIORITIES)),
        "status": Field("status", values=values(STATUSES | options.statuses), unknown="open"),
        "source_group": Field("group_id", lookup=Lookup("groups", "id", "name")),
        "assignee_id": Field("responder_id"),
        "product": product,
        "tags": Field("tags", "text_list"),
        "opened_at": Field("created_at", "instant"),
        "updated_at": Field("updated_at", "instant"),
    }
    opening = {
        "source_record_id": Field("id", prefix="ticket-"),
        "source_case_id": Field("id"),
        "author_id": Field("requester_id"),
        "author_role": Field(const="customer"),
        "is_public": Field(const=True),
        "channel": Field("source", values=values(CHANNELS), unknown="other"),
        "created_at": Field("created_at", "instant"),
        "body": Field("description_text", also=("description",)),
        "sequence": Field(const=0),
        "attachments": list_names("attachments"),
    }
    by_agent = {"author_id": Field("responder_id"), "author_role": Field(const="agent")}
    has_text = When("description")
    is_deleted = When("deleted", ("true",))
    is_kept = When("deleted", ("true",), is_negated=True)
    is_spam, is_ham = When("spam", ("true",)), When("spam", ("true",), is_negated=True)
    spam = {"tags": Field(const="[spam]")}  # clean tells spam by its tag
    needed = ("source_case_id",)
    return [
        Mapping(
            "tickets", "cases", case,
            when=(is_kept, is_ham), required=needed, ignored=IGNORED_OF_TICKETS,
        ),
        Mapping("tickets", "cases", case | spam, when=(is_kept, is_spam), required=needed),
        Mapping(
            "tickets", "cases", case | {"status": Field(const="deleted")},
            when=(is_deleted,), required=needed,
        ),
        Mapping(
            "tickets", "messages", opening,
            when=(has_text, When("source", (OUTBOUND,), is_negated=True)),
            required=("source_record_id",),
        ),
        Mapping(
            "tickets", "messages", opening | by_agent,
            when=(has_text, When("source", (OUTBOUND,))), required=("source_record_id",),
        ),
    ]  # fmt: skip


def map_conversations(options: Options) -> list[Mapping]:
    message = {
        "source_record_id": Field("id"),
        "source_case_id": Field("ticket_id"),
        "author_id": Field("user_id"),
        "author_role": Field("incoming", values=values({"true": "customer", "false": "agent"})),
        "is_public": Field("private", values=values({"true": "false", "false": "true"})),
        "channel": Field("source", values=values(CONVERSATION_CHANNELS), unknown="other"),
        "created_at": Field("created_at", "instant"),
        "body": Field("body_text", also=("body",)),
        "sequence": Field("id", "integer"),
        "attachments": list_names("attachments"),
    }
    bots = tuple(options.bots)
    needed = ("source_record_id", "source_case_id")
    found = [
        Mapping(
            "conversations", "messages", message,
            when=(When("body"), *([When("user_id", bots, is_negated=True)] if bots else [])),
            required=needed,
            ignored=(
                "updated_at", "to_emails", "from_email", "cc_emails", "bcc_emails",
                "support_email", "email_failure_count", "outgoing_failures", "thread_id",
                "thread_message_id", "last_edited_at", "last_edited_user_id", "category",
                "automation_id", "automation_type_id", "auto_response", "source_additional_info",
                "structured_body", "delivery_details", "cloud_files", "association_type",
            ),
        ),
        Mapping(
            "conversations", "case_events",
            {
                "source_event_id": Field("id", prefix="merged:"),
                "source_case_id": Field("ticket_id"),
                "event_at": Field("created_at", "instant"),
                "event_type": Field(const="merged"),
                "actor_id": Field("user_id"),
                "to_value": Field("body_text", pattern=MERGED),
                "sequence": Field("id", "integer"),
            },
            when=(When("private", ("true",)), When("body_text", pattern=MERGED)),
            required=("source_event_id",),
        ),
    ]  # fmt: skip
    if bots:
        by_bot = message | {"author_role": Field(const="bot")}
        is_bot = When("user_id", bots)
        found.append(
            Mapping("conversations", "messages", by_bot, when=(When("body"), is_bot),
                    required=needed)
        )  # fmt: skip
    return found


def map_ticket_events() -> list[Mapping]:
    """What a ticket says of its own history: the last time of each kind of change."""

    def event(at: str, suffix: str, **fields: Field) -> dict[str, Field]:
        return {
            "source_event_id": Field("id", also=(at,), joined_by=":", suffix=f":{suffix}"),
            "source_case_id": Field("id"),
            "event_at": Field(at, "instant"),
            **fields,
        }

    status_changed = Field(const="status_changed")
    metrics = (("first_reply", "first_responded_at"), ("full_resolution", "resolved_at"))
    return [
        *(
            Mapping(
                "tickets", "case_events",
                event(f"stats.{at}", to, event_type=status_changed, to_value=Field(const=to)),
                when=(When(f"stats.{at}"), *conditions), required=("source_event_id",),
            )
            for at, to, conditions in (
                ("resolved_at", "solved", ()),
                ("closed_at", "closed", ()),
                ("reopened_at", "open", ()),
                ("status_updated_at", "pending", (When("status", ("3", "6")),)),
                ("status_updated_at", "hold", (When("status", ("7",)),)),
            )
        ),
        Mapping(
            "tickets", "case_events",
            event("updated_at", "deleted", event_type=Field(const="deleted")),
            when=(When("deleted", ("true",)),), required=("source_event_id",),
        ),
        *(
            Mapping(
                "tickets", "vendor_metrics",
                {
                    "source_case_id": Field("id"),
                    "metric": Field(const=metric),
                    "clock": Field(const="calendar"),
                    "value": Field(f"stats.{at}", "number", since="created_at"),
                    "updated_at": Field("updated_at", "instant"),
                },
                when=(When(f"stats.{at}"),), required=("source_case_id",),
            )
            for metric, at in metrics
        ),
    ]  # fmt: skip


def map_people(options: Options) -> list[Mapping]:
    bots = values(dict.fromkeys(options.bots, "bot"))
    return [
        Mapping(
            "contacts",
            "customers",
            {
                "source_customer_id": Field("id"),
                "external_id": Field("unique_external_id", also=("external_id",)),
                "name": Field("name"),
                "email": Field("email"),
                "phone": Field("phone", also=("mobile",)),
                "organization": Field(
                    "company_id", lookup=Lookup("companies", "id", "name", is_strict=True)
                ),
                "language": Field("language"),
                "signup_at": Field("created_at", "instant"),
                "updated_at": Field("updated_at", "instant"),
            },
            required=("source_customer_id",),
            ignored=(
                "active",
                "address",
                "custom_fields",
                "custom_field",
                "customer_id",
                "description",
                "fb_profile_id",
                "facebook_id",
                "helpdesk_agent",
                "job_title",
                "time_zone",
                "twitter_id",
                "twitter_profile_status",
                "twitter_followers_count",
                "tags",
                "avatar",
                "other_emails",
                "other_companies",
                "other_phone_numbers",
                "view_all_tickets",
                "csat_rating",
                "preferred_source",
                "first_name",
                "last_name",
                "visitor_id",
                "org_contact_id",
                "org_contact_id_str",
                "agent",
            ),
        ),
        map_deletion(
            "contacts",
            "customers",
            Field("id"),
            when=(When("deleted", ("true",)),),
            deleted_at=Field("updated_at", "instant"),
            updated_at=Field("updated_at", "instant"),
        ),
        Mapping(
            "agents",
            "agents",
            {
                "source_agent_id": Field("id"),
                "name": Field("contact.name"),
                "email": Field("contact.email"),
                "role": Field("id", values=bots, unknown="agent") if bots else Field(const="agent"),
                "team": Field("group_ids.0", lookup=Lookup("groups", "id", "name", is_strict=True)),
                "languages": Field("contact.language", "text_list"),
                "is_active": Field("contact.active", "boolean"),
                "updated_at": Field("updated_at", "instant"),
            },
            required=("source_agent_id",),
            ignored=(
                "available",
                "occasional",
                "signature",
                "ticket_scope",
                "created_at",
                "available_since",
                "type",
                "role_ids",
                "skill_ids",
                "focus_mode",
                "agent_level_id",
                "agent_operational_status",
                "last_active_at",
                "deactivated",
                "scope",
                "freshchat_agent",
                "org_agent_id",
                "org_group_ids",
                "contribution_group_ids",
                "org_contribution_group_ids",
                "org_agent_id_str",
                "availability",
            ),
        ),
    ]


def map_ratings() -> list[Mapping]:
    scale = {"lowest": Field(const=-103.0), "highest": Field(const=103.0)}
    score = Field("ratings.default_question", "number")
    needed = ("source_response_id",)
    return [
        Mapping(
            "satisfaction_ratings",
            "survey_responses",
            {
                "source_response_id": Field("id"),
                "survey_id": Field("survey_id"),
                "question_id": Field(const="default_question"),
                "kind": Field(const="csat"),
                "score": score,
                "scale_min": scale["lowest"],
                "scale_max": scale["highest"],
                "higher_is_better": Field(const=True),
                "comment": Field("feedback"),
                "source_customer_id": Field("user_id"),
                "source_case_id": Field("ticket_id"),
                "answered_at": Field("created_at", "instant"),
                "updated_at": Field("updated_at", "instant", also=("created_at",)),
            },
            required=needed,
            ignored=("agent_id", "group_id"),
        ),
        Mapping(
            "satisfaction_ratings",
            "feedback",
            {
                "source_record_id": Field("id", prefix="rating-"),
                "channel": Field(const="survey"),
                "source_case_id": Field("ticket_id"),
                "source_customer_id": Field("user_id"),
                "created_at": Field("created_at", "instant"),
                "updated_at": Field("updated_at", "instant", also=("created_at",)),
                "body": Field("feedback"),
                "rating": score,
                "rating_min": scale["lowest"],
                "rating_max": scale["highest"],
            },
            when=(When("feedback"),),
            required=("source_record_id",),
        ),
        Mapping(
            "satisfaction_ratings",
            "case_events",
            {
                "source_event_id": Field("id", prefix="rating:"),
                "source_case_id": Field("ticket_id"),
                "event_at": Field("created_at", "instant"),
                "event_type": Field(const="rated"),
                "actor_id": Field("user_id"),
                "actor_role": Field(const="customer"),
                "to_value": Field("ratings.default_question"),
            },
            when=(When("ticket_id"),),
            required=("source_event_id",),
        ),
    ]


KINDS = {
    "freshdesk": Kind(
        "freshdesk",
        "Freshdesk: tickets, conversations, contacts, agents, companies, satisfaction ratings",
        Options,
        (
            "cases", "messages", "case_events", "customers", "agents", "survey_responses",
            "feedback", "vendor_metrics", "deletions",
        ),
        pull,
        mappings,
        needs_base_url=True,
        needs_connection=True,
        secrets=(Secret("password", "API key", "Profile settings → Your API key"),),
        check=check,
        summary_zh="Freshdesk：工单、对话、联系人、客服、公司、满意度评价",
    )
}  # fmt: skip

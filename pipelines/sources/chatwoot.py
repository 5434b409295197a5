"""Chatwoot: conversations with messages and activities, contacts, agents, teams, survey answers.

Lists are numbered pages with what was active last on top. They are read from the top down to the
remembered time. What becomes active meanwhile moves up and hides nothing; what is deleted pulls the
rest up, so behind each page the one before it is read once more. A walk that was stopped goes on
where it stood; one that has ended is followed by a look at what moved to the top meanwhile.
Conversations that changed without a new message are asked for by ``updated_within``; after a break
of more than two days the list is read to its end instead, and compared by time of change.

Deleted conversations and contacts are read from the audit log, which the Enterprise edition alone
has. A deleted message stays in its conversation, marked as such, and is found once that is read
again. A merge of contacts moves conversations to the one that stays, which changes them; the
other is deleted.

What Chatwoot does not give: deletions without that log, and never into whom a contact was merged; a
history apart from the activities in the text, which are read in English and Chinese; when a contact
was edited, so all are read again once a week. The list of contacts leaves out visitors who gave no
address: they are taken from their conversations.

Facts come from Chatwoot's source and its API reference: ``updated_within`` compares the time of
change, leaves status and assignee to the other parameters, and has no pages (ConversationFinder);
a deletion is logged with what the record held (DeleteObjectJob), the last on top, 25 a page.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError, UsageError
from pipelines.mapping import Field, Lookup, Mapping, When, values
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.deletions import map_deletion
from pipelines.sources.http import Limits, explain_http_errors, open_client

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response

DEFAULT_URL = "https://app.chatwoot.com"
API = "/api/v1"
MESSAGES_PAGE = 100
MOST_PASSES = 5
TAIL = 10
DAY = 86_400
OVERLAP = 60  # seconds that are read again
CLOCK_MARGIN = 600  # the server's clock is not ours
SWEEP_EVERY = 7 * DAY
COMMENTS_FOR = 7 * DAY  # how long a survey answer may still get its comment
LONGEST_WITHIN = 2 * DAY  # the answer to updated_within has no pages

CHANNELS = {
    "channel::webwidget": "chat", "channel::email": "email", "channel::api": "api",
    "channel::whatsapp": "chat", "channel::twiliosms": "chat", "channel::sms": "chat",
    "channel::telegram": "chat", "channel::line": "chat", "channel::facebookpage": "social",
    "channel::instagram": "social", "channel::twitterprofile": "social",
    "channel::tiktok": "social", "channel::voice": "phone",
}  # fmt: skip
STATUSES = {"open": "open", "pending": "pending", "snoozed": "hold", "resolved": "solved"}
PRIORITIES = {"urgent": "urgent", "high": "high", "medium": "normal", "low": "low"}
# By the kind of its sender, else by the type of the message.
INCOMING, OUTGOING, ACTIVITY, TEMPLATE = "0", "1", "2", "3"
ROLES = {
    "true": "agent",  # written in the channel's own app instead of Chatwoot
    "contact": "customer", "user": "agent", "agent_bot": "bot", "captain_assistant": "bot",
    INCOMING: "customer", OUTGOING: "bot", TEMPLATE: "bot",
}  # fmt: skip
DELETIONS = ("destroy", "discard")
METRICS = {"first_response": "first_reply", "conversation_resolved": "full_resolution"}

Row = dict[str, Any]


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    account_id: int | None = Option(
        default=None, ge=1, description="the account, if the token may see several"
    )
    product_attribute: str | None = Option(
        default=None, description="custom attribute of conversations with the product"
    )
    reporting_events: bool = Option(
        default=True,
        description="ask each conversation for Chatwoot's own measures: one more request each",
    )


@dataclass(frozen=True)
class Listing:
    """A list with the newest on top: ``time`` is the field by which it is in order.

    ``size`` rows make a page; None: as the server is set.
    """

    name: str
    path: str
    time: str
    size: int | None
    params: dict[str, Any] = field(default_factory=dict)


CONVERSATIONS = Listing(
    "conversations", "conversations", "last_activity_at", None,
    {"status": "all", "assignee_type": "all"},
)  # fmt: skip
ACTIVE_CONTACTS = Listing(
    "contacts", "contacts", "last_activity_at", 15,
    {"sort": "-last_activity_at", "include_contact_inboxes": "false"},
)  # fmt: skip
NEW_CONTACTS = Listing(
    "new_contacts", "contacts", "created_at", 15,
    {"sort": "-created_at", "include_contact_inboxes": "false"},
)  # fmt: skip
AUDITS = Listing("audit_logs", "audit_logs", "created_at", 25)
ANSWERS = Listing(
    "csat_survey_responses", "csat_survey_responses", "created_at", 25, {"sort": "-created_at"}
)


def connect(source: Source, context: PullContext) -> RESTClient:
    connection = context.connection(source)
    token = connection.password or connection.extra.get("api_access_token")
    if not token:
        raise HearbackError(
            f"source {source.name!r}: connection {source.connection!r} needs a password "
            "(the access token)"
        )
    return open_client(
        source.model_copy(update={"base_url": find_site(source)}),
        context,
        API,
        headers={"api_access_token": token, "Accept": "application/json"},
        limits=Limits(),
    )


def find_site(source: Source) -> str:
    """Where people see conversations: base_url without the path of the API."""
    return (source.base_url or DEFAULT_URL).rstrip("/").removesuffix(API)


def read_clock() -> float:
    return datetime.now(UTC).timestamp()


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Every record that is new or changed since the remembered position, stream by stream."""
    with explain_http_errors(source.name, source.connection):
        reader = Reader(source, context)
        yield from reader.read_inboxes()
        yield from reader.read_agents()
        yield from reader.allow("agent_bots", reader.read_bots())
        yield from reader.allow("contacts", reader.read_contacts())
        yield from reader.read_conversations()
        yield from reader.allow("csat_survey_responses", reader.read_answers())
        yield from reader.allow("deletions", reader.read_deletions())


def check(source: Source, context: PullContext) -> str:
    """Ask for one page: shows whether the token is right, and whether it sees every inbox."""
    with explain_http_errors(source.name, source.connection):
        reader = Reader(source, context)
        body = reader.get(CONVERSATIONS.path, CONVERSATIONS.params | {"page": 1})
    count = body.get("data", {}).get("meta", {}).get("all_count", 0)
    seen = "" if reader.sees_all else "; the token is an agent's and sees only the agent's inboxes"
    return f"{count:,} conversations{seen}"


def select_rows(body: Any) -> list[Row]:
    """The rows of a list, whichever envelope they come in."""
    while isinstance(body, dict):
        body = body.get("data") or body.get("payload") or body.get("audit_logs") or []
    rows: list[Row] = body
    return rows


class Reader:
    """Reads the streams of one account from their places in ``position``, which it moves."""

    def __init__(self, source: Source, context: PullContext) -> None:
        self.source = source
        self.context = context
        self.options = read_options(source, Options)
        self.client = connect(source, context)
        self.position = copy.deepcopy(context.position)
        self.sees_all = True
        self.has_measures = self.options.reporting_events
        self.account = self.find_account()
        self.start = 0
        if source.start:
            self.start = int(datetime.combine(source.start, time.min, UTC).timestamp())
        self.site = f"{find_site(source)}/app/accounts/{self.account}"
        if not self.position:  # what was deleted before the first pull was never here
            self.position[AUDITS.name] = {"since": int(read_clock()) - CLOCK_MARGIN}

    def find_account(self) -> int:
        """The account of the options, else the only one that the token may see."""
        response: Response = self.client.get("profile")
        if response.status_code in (403, 404) and self.options.account_id:
            return self.options.account_id
        response.raise_for_status()
        roles = {int(row["id"]): row.get("role") for row in response.json().get("accounts", [])}
        account = self.options.account_id
        if account is None and len(roles) == 1:
            account = next(iter(roles))
        if account is None or (roles and account not in roles):
            listed = ", ".join(str(number) for number in sorted(roles)) or "none"
            raise UsageError(
                f"source {self.source.name!r}: option 'account_id' must name an account that the "
                f"token may see: {listed}"
            )
        self.sees_all = roles.get(account, "administrator") == "administrator"
        return account

    def get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        response: Response = self.client.get(f"accounts/{self.account}/{path}", params=params)
        response.raise_for_status()
        return response.json()

    def batch(self, entity: str, rows: list[Row], *, is_safe: bool = False) -> Batch:
        place = copy.deepcopy(self.position) if is_safe else None
        return Batch(entity, [self.record(entity, row) for row in rows], place)

    def record(self, entity: str, row: Row) -> Record:
        """A record with the page on which people see it."""
        case = row["id"] if entity == "conversations" else row.get("conversation_id")
        url = f"{self.site}/conversations/{case}" if case else None
        if entity == "contacts":
            url = f"{self.site}/contacts/{row['id']}"
        return Record(str(row["id"]), row, url)

    def allow(self, stream: str, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; a stream that the token or the version lacks is skipped with a note.

        Chatwoot answers 401 also where only the right to one list is missing; of a token that is
        none any more it says so.
        """
        from requests.exceptions import HTTPError

        try:
            yield from batches
        except HTTPError as error:
            if error.response is None or error.response.status_code not in (401, 403, 404):
                raise
            if "Invalid Access Token" in error.response.text:
                raise
            self.skip(stream, error.response.status_code)

    def skip(self, stream: str, status: int) -> None:
        self.context.progress(
            f"extract {self.source.name}: {stream} skipped, the token may not read them or the "
            f"server does not have them ({status})",
            0,
        )

    # who works there ------------------------------------------------------------------------------

    def read_inboxes(self) -> Iterator[Batch]:
        if not self.sees_all:
            self.context.note("the token is an agent's: only the agent's inboxes are read")
        yield self.batch("inboxes", select_rows(self.get("inboxes")))

    def read_agents(self) -> Iterator[Batch]:
        """Teams, then agents with the ids of their teams."""
        teams = select_rows(self.get("teams"))
        yield self.batch("teams", teams)
        teams_of: dict[int, list[int]] = {}
        for team in teams:
            for member in select_rows(self.get(f"teams/{team['id']}/team_members")):
                teams_of.setdefault(member["id"], []).append(team["id"])
        agents = select_rows(self.get("agents"))
        yield self.batch("agents", [row | {"team_ids": teams_of.get(row["id"], [])}
                                    for row in agents])  # fmt: skip

    def read_bots(self) -> Iterator[Batch]:
        yield self.batch("agent_bots", select_rows(self.get("agent_bots")))

    # lists with the newest on top -----------------------------------------------------------------

    def since(self, stream: str, overlap: int = OVERLAP) -> int:
        """From when a stream is to be read: its remembered time less the overlap, or the start."""
        remembered = self.position.get(stream, {}).get("since")
        return self.start if remembered is None else max(remembered - overlap, self.start)

    def read_page(self, listing: Listing, number: int) -> tuple[list[Row], bool]:
        """A page, and whether there is certainly none behind it."""
        body = self.get(listing.path, listing.params | {"page": number})
        rows = select_rows(body)
        if listing.size:
            return rows, len(rows) < listing.size
        total = body["data"].get("meta", {}).get("all_count")
        return rows, not rows or (number == 1 and len(rows) == total)

    def read_down(self, listing: Listing, since: int) -> Iterator[list[Row]]:
        """Rows from the top down to ``since``, page by page; the place is moved before each page.

        Behind each page the one before it is read again, and more before that until a row is met
        that was there already: rows that were deleted have pulled others up. With the last page
        the top of the list, as it was at the beginning, becomes what is remembered.
        """
        state = self.position.setdefault(listing.name, {})
        place = state.setdefault("walk", {})
        known: set[tuple[int, int]] = set()
        is_last = False
        while not is_last:
            number = place.get("page", 0)
            rows, is_end = self.read_page(listing, number + 1)
            if not number and rows:
                place["top"] = read_time(listing, rows[0])
            pages = [row for page in self.read_back(listing, place) for row in page] + rows
            keys = [(int(row["id"]), read_time(listing, row)) for row in pages]
            fresh = [
                row
                for row, key in zip(pages, keys, strict=True)
                if key not in known and key[1] >= since
            ]
            known = set(keys)
            if rows:
                tail = [int(row["id"]) for row in rows[-TAIL:]]
                place |= {"page": number + 1, "tail": tail, "bottom": read_time(listing, rows[-1])}
            is_last = is_end or place["bottom"] < since
            if is_last:
                del state["walk"]
                state["since"] = max(place.get("top", 0), state.get("since", 0))
            yield fresh

    def read_back(self, listing: Listing, place: dict[str, Any]) -> list[list[Row]]:
        """Pages above the next one, up to the first in which something is that was read before."""
        found: list[list[Row]] = []
        for number in range(place.get("page", 0), 0, -1):
            found.insert(0, self.read_page(listing, number)[0])
            if was_met(listing, found[0], place):
                break
        return found

    # contacts -------------------------------------------------------------------------------------

    def read_contacts(self) -> Iterator[Batch]:
        """Contacts who were active or are new; once a week all, for those that were edited."""
        state = self.position.setdefault(ACTIVE_CONTACTS.name, {})
        if "began" not in state:
            state["began"] = int(read_clock())
            state["whole"] = state["began"] - state.get("swept", 0) > SWEEP_EVERY
        since = self.start if state["whole"] else self.since(ACTIVE_CONTACTS.name)
        if not state.get("is_read"):
            for rows in self.read_down(ACTIVE_CONTACTS, since):
                state["is_read"] = "walk" not in state
                yield self.batch("contacts", rows, is_safe=not state["is_read"])
        if state["whole"] and not self.start:  # the new ones were among them
            self.position[NEW_CONTACTS.name] = {"since": state["began"] - CLOCK_MARGIN}
        else:
            for rows in self.read_down(NEW_CONTACTS, self.since(NEW_CONTACTS.name)):
                is_last = "walk" not in self.position[NEW_CONTACTS.name]
                yield self.batch("contacts", rows, is_safe=not is_last)
        if state["whole"]:
            state["swept"] = state["began"]
        for name in ("began", "whole", "is_read"):
            del state[name]
        yield self.batch("contacts", [], is_safe=True)

    # conversations --------------------------------------------------------------------------------

    def read_conversations(self) -> Iterator[Batch]:
        """What changed without a message, then what was active; then what became so meanwhile."""
        yield from self.read_updated()
        for _ in range(MOST_PASSES):
            state = self.position[CONVERSATIONS.name]
            changed_since = state.get("changed_since", 0)
            since = self.start if changed_since else self.since(CONVERSATIONS.name)
            is_first = "since" not in state
            count = 0
            for rows in self.read_down(CONVERSATIONS, since):
                if "walk" not in state:
                    state.pop("changed_since", None)
                news = [
                    row for row in rows if find_change(row) >= changed_since and self.is_news(row)
                ]
                count += len(news)
                yield from self.read_talks(news)
                yield self.batch("conversations", news, is_safe=True)
            if not count and not is_first:
                return

    def read_updated(self) -> Iterator[Batch]:
        """Conversations of which something changed: a status, a label, a message that was edited.

        ``checked`` is up to when that was asked. Where that is too long ago for an answer without
        pages, the list is walked anew, down to its end. A server that does not know
        ``updated_within`` sends its first page.
        """
        self.given: dict[int, Row] = {}  # what this pull has given of the last seconds
        state = self.position.setdefault(CONVERSATIONS.name, {})
        now = int(read_clock())
        checked = state.get("checked", state.get("since"))
        state["checked"] = now
        if checked is None:
            return
        seconds = max(now - checked, 0) + CLOCK_MARGIN
        if seconds > LONGEST_WITHIN:
            state.pop("walk", None)
            if "since" in state:
                state.setdefault("changed_since", checked - CLOCK_MARGIN)
            return
        params = CONVERSATIONS.params | {"updated_within": seconds}
        rows = [row for row in select_rows(self.get(CONVERSATIONS.path, params))
                if self.is_news(row)]  # fmt: skip
        yield from self.read_talks(rows)
        yield self.batch("conversations", rows, is_safe=True)

    def is_news(self, row: Row) -> bool:
        """Whether a conversation has not been given in this state yet, as far as that is kept."""
        recent = self.position.get(CONVERSATIONS.name, {})
        top = recent.get("walk", {}).get("top", recent.get("since", 0))
        if self.given.get(row["id"]) == row:
            return False
        if read_time(CONVERSATIONS, row) >= top - OVERLAP:
            self.given[row["id"]] = row
        return True

    def read_talks(self, conversations: list[Row]) -> Iterator[Batch]:
        """Messages and measures of conversations; one that is gone meanwhile has none."""
        from requests.exceptions import HTTPError

        names = ("messages", "activities", "survey_requests", "reporting_events")
        found: dict[str, list[Row]] = {name: [] for name in names}
        for row in conversations:
            try:
                messages = self.read_messages(row["id"])
            except HTTPError as error:
                if error.response is None or error.response.status_code != 404:
                    raise
                continue
            for message in messages:
                is_activity = str(message.get("message_type")) == ACTIVITY
                found["activities" if is_activity else "messages"].append(message)
                if message.get("content_type") == "input_csat":
                    found["survey_requests"].append(message)
            found["reporting_events"] += self.read_measures(row["id"])
        for entity, rows in found.items():
            if rows:
                yield self.batch(entity, rows)

    def read_messages(self, conversation: int) -> list[Row]:
        """All messages of a conversation, in the order of their ids."""
        found: dict[int, Row] = {}
        while True:
            params = {"after": max(found, default=0)}
            rows = select_rows(self.get(f"conversations/{conversation}/messages", params))
            fresh = {int(row["id"]): row for row in rows if int(row["id"]) not in found}
            found |= fresh
            if not fresh or len(rows) < MESSAGES_PAGE:
                return [found[number] for number in sorted(found)]

    def read_measures(self, conversation: int) -> list[Row]:
        """Chatwoot's own measures of a conversation, under the number that people see.

        In the events themselves stands the number that the conversation has in the database.
        """
        if not self.has_measures:
            return []
        path = f"accounts/{self.account}/conversations/{conversation}/reporting_events"
        response: Response = self.client.get(path)
        if response.status_code in (401, 403, 404):
            self.has_measures = False
            self.skip("reporting_events", response.status_code)
            return []
        response.raise_for_status()
        return [row | {"conversation_display_id": conversation}
                for row in select_rows(response.json())]  # fmt: skip

    # survey answers -------------------------------------------------------------------------------

    def read_answers(self) -> Iterator[Batch]:
        """Answers since a week before the last one: comments may come later than stars."""
        for rows in self.read_down(ANSWERS, self.since(ANSWERS.name, COMMENTS_FOR)):
            yield self.batch(ANSWERS.name, rows, is_safe=True)

    # deletions ------------------------------------------------------------------------------------

    def read_deletions(self) -> Iterator[Batch]:
        """What the audit log says of deletions since the last pull."""
        for rows in self.read_down(AUDITS, self.since(AUDITS.name)):
            gone = [row for row in rows if row.get("action") in DELETIONS]
            yield self.batch(AUDITS.name, gone, is_safe=True)


def read_time(listing: Listing, row: Row) -> int:
    """When a row was active; the database puts those that never were at the end."""
    return int(row.get(listing.time) or 0)


def find_change(row: Row) -> float:
    """When anything of a conversation changed; older servers tell when it was active alone."""
    return max(read_time(CONVERSATIONS, row), float(row.get("updated_at") or 0))


def was_met(listing: Listing, rows: list[Row], place: dict[str, Any]) -> bool:
    """Whether a page reaches up to what was read before."""
    if not rows:
        return False
    tail = set(place.get("tail", []))
    is_above = read_time(listing, rows[0]) > place.get("bottom", 0)
    return is_above or any(int(row["id"]) in tail for row in rows)


def derive_agents(source: Source, row: Row) -> Iterator[Row]:
    """Agents by the names that stand in activities, and by their numbers."""
    for name in dict.fromkeys((row.get("name"), row.get("available_name"))):
        if name:
            yield {"name": name, "actor": f"user-{row['id']}"}


TEAM_NAME = Lookup("teams", "id", "name")
IS_TEAM = Lookup("teams", "name", "name", is_strict=True)
AGENT = Lookup("agents", "name", "actor")
ACTOR = Lookup("agents", "name", "actor", is_strict=True)
CASE_UPDATED = Field("updated_at", "instant", also=("last_activity_at", "timestamp"))
PERSON = Field("sender.type", also=("sender.id",), joined_by="-")


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    return [
        *map_conversations(options),
        *map_messages(),
        *map_activities(),
        *map_people(),
        *map_surveys(),
        *map_metrics(),
        *map_deletions(),
    ]


def map_conversations(options: Options) -> list[Mapping]:
    product = Field()
    if options.product_attribute:
        product = Field(("custom_attributes", options.product_attribute))
    case = {
        "source_case_id": Field("id"),
        "channel": Field("meta.channel", values=values(CHANNELS), unknown="other"),
        "subject": Field("additional_attributes.mail_subject"),
        "source_customer_id": Field("meta.sender.id", prefix="contact-"),
        "priority": Field("priority", values=values(PRIORITIES), unknown="normal"),
        "status": Field("status", values=values(STATUSES), unknown="open"),
        "assignee_id": Field("meta.assignee.id", prefix="user-"),
        "product": product,
        "tags": Field("labels", "text_list"),
        "opened_at": Field("created_at", "instant"),
        "updated_at": CASE_UPDATED,
    }
    in_inbox = {"source_group": Field("inbox_id", lookup=Lookup("inboxes", "id", "name"))}
    needed = ("source_case_id",)
    return [
        Mapping(
            "conversations", "cases", case | {"source_group": Field("meta.team.name")},
            when=(When("meta.team.id"),), required=needed,
            ignored=(
                "messages", "account_id", "uuid", "agent_last_seen_at", "assignee_last_seen_at",
                "can_reply", "contact_last_seen_at", "custom_attributes", "inbox_id", "muted",
                "snoozed_until", "first_reply_created_at", "unread_count",
                "last_non_activity_message", "waiting_since", "sla_policy_id", "applied_sla",
                "sla_events", "team_id", "assignee_id", "contact_id",
            ),
        ),
        Mapping(
            "conversations", "cases", case | in_inbox,
            when=(When("meta.team.id", is_negated=True),), required=needed,
        ),
    ]  # fmt: skip


OF_MESSAGES = (
    "inbox_id", "message_type", "content_attributes", "private", "sender", "attachments",
    "content_type", "status", "source_id", "echo_id", "account_id", "updated_at", "sender_type",
    "sender_id", "external_source_ids", "additional_attributes", "processed_message_content",
    "sentiment", "conversation", "client_message_id", "call", "attachment", "contact",
)  # fmt: skip


def map_messages() -> list[Mapping]:
    said_by = {
        "source_case_id": Field("conversation_id"),
        "is_public": Field("private", values=values({"true": "false"}), unknown="true"),
        "sequence": Field("id", "integer"),
    }
    role = Field(
        "content_attributes.external_echo", also=("sender.type", "message_type"),
        values=values(ROLES), unknown="bot",
    )  # fmt: skip
    channel = Field(
        "inbox_id", lookup=Lookup("inboxes", "id", "channel_type"),
        values=values(CHANNELS), unknown="other",
    )  # fmt: skip
    event = {
        "source_event_id": Field("id", prefix="file:"),
        "event_at": Field("created_at", "instant"),
        "actor_id": PERSON,
        "actor_role": role,
    }
    is_file = (When("content", is_negated=True), When("attachments.0.id"))
    by_agent = (When("sender.type", ("user",)),)
    private = When("private", ("true",))
    public = When("private", ("true",), is_negated=True)
    message = said_by | {
        "source_record_id": Field("id"),
        "author_id": PERSON,
        "author_role": role,
        "channel": channel,
        "created_at": Field("created_at", "instant"),
        "body": Field("content"),
        "attachments": list_files(),
    }
    deleted = "content_attributes.deleted"
    ids = ("source_record_id", "source_case_id")
    return [
        Mapping(
            "messages", "messages", message, required=ids, ignored=OF_MESSAGES,
            when=(When("content"), When(deleted, ("true",), is_negated=True)),
        ),
        # What stands in place of a deleted message is Chatwoot's own text.
        map_deletion("messages", "feedback", Field("id"), when=(When(deleted, ("true",)),)),
        # A picture without a word is an answer too: it counts for times, and there is no text.
        *(
            Mapping(
                "messages", "case_events", said_by | event | {"event_type": Field(const=kind)},
                when=(*is_file, *conditions), required=("source_event_id", "source_case_id"),
            )
            for kind, conditions in (
                ("customer_message", (When("message_type", (INCOMING,)),)),
                ("agent_reply", (*by_agent, public)),
                ("internal_note", (*by_agent, private)),
            )
        ),
    ]  # fmt: skip


def list_files() -> Field:
    """The names of the first five files of a message: the last part of their addresses."""
    names = tuple(f"attachments.{place}.data_url" for place in range(5))
    return Field(names[0], "text_list", also=names[1:], joined_by="|")


NOTHING = Field()


@dataclass(frozen=True)
class Activity:
    """A line that Chatwoot writes into a conversation: what it says, and where it names what.

    ``to`` and ``was`` are fields of the event; ``by`` is the pattern of the name of who did it.
    """

    name: str
    change: str
    pattern: str
    by: str
    to: Field = NOTHING
    was: Field = NOTHING
    when: tuple[When, ...] = ()


BY_AT_END = (
    r"(?: by |分配给 (?:.+ 团队的 )?|被标记由 |对话被 |对话未被 )(.+?)"
    r"(?: 重新打开| 解决| 待处理| 暂停| 分配| \(.*\)|: .*)?$"
)
BY_AT_BEGIN = (
    r"^(.+?) (?:self-assigned|added|removed|set the|changed the"
    r"|自行分配|添加|移除|将优先级|取消了)"
)
TO_NAME = r"^(?:Assigned to |由 )(.+?)(?: via .+)?(?: by | 分配给 ).+$"
LABELS = r"(?: added | 添加 )(.+)$"
LABELS_GONE = r"(?: removed | 移除 )(.+)$"
NO_LABELS = r"SLA policy|SLA 策略|a participant$|the priority$"


def list_activities() -> tuple[Activity, ...]:
    """Every line of an activity that is an event; English and Chinese."""
    levels = values(PRIORITIES)
    assigned = r"^(?:Assigned to .+ by |由 .+ 分配给 )"
    to_team = When("content", pattern=TO_NAME, lookup=IS_TEAM)
    no_team = When("content", pattern=TO_NAME, lookup=IS_TEAM, is_negated=True)
    via_team = r"(?: via | 分配给 )(.+?)(?: by | 团队的 ).+$"
    is_via = When("content", pattern=r"^Assigned to .+ via .+ by |^由 .+ 团队的 ")
    is_label = When("content", pattern=NO_LABELS, is_negated=True)
    statuses = (
        ("solved", r"marked resolved by|was resolved by|^对话被.* 解决$|^对话被系统标记为已解决"),
        ("open", r"was reopened by|^System reopened|marked open (?:by|auto)|重新打开"),
        ("pending", r"marked as pending by|^对话被.* 待处理$"),
        ("hold", r"was snoozed by|^对话被.* 暂停$"),
    )
    return (
        *(
            Activity(f"status:{to}", "status", pattern, BY_AT_END, Field(const=to))
            for to, pattern in statuses
        ),
        Activity(
            "priority", "priority", r"(?:set|changed) the priority|将优先级", BY_AT_BEGIN,
            Field("content", pattern=r"(?:priority (?:from \w+ )?to |设置为 |更改为 )(\w+)$",
                  values=levels, unknown="normal"),
            Field("content", pattern=r"(?:priority from |优先级从 )(\w+)",
                  values=levels, unknown="normal"),
        ),
        Activity("no_priority", "priority", r"removed the priority$|取消了优先级$", BY_AT_BEGIN),
        Activity(
            "self", "assignee", r"self-assigned this conversation$|自行分配这次会话$",
            BY_AT_BEGIN,
            Field("content", pattern=r"^(.+) (?:self-assigned|自行分配)", lookup=AGENT),
        ),
        Activity(
            "assignee", "assignee", assigned, BY_AT_END,
            Field("content", pattern=TO_NAME, lookup=AGENT), when=(no_team,),
        ),
        Activity(
            "no_assignee", "assignee", r"^Conversation unassigned by |^对话未被 .+ 分配$",
            BY_AT_END,
        ),
        Activity(
            "team", "group", assigned, BY_AT_END, Field("content", pattern=TO_NAME),
            when=(to_team,),
        ),
        Activity(
            "team_too", "group", assigned, BY_AT_END, Field("content", pattern=via_team),
            when=(is_via,),
        ),
        Activity(
            "no_team", "group", r"^Unassigned from .+ by |从 .+ 中取消分配$",
            r"(?: by |^由 )(.+?)(?: 从 .+)?$",
            was=Field("content", pattern=r"(?:^Unassigned from |从 )(.+?)(?: by .+| 中取消分配)$"),
        ),
        Activity(
            "labels", "tags", LABELS, BY_AT_BEGIN, Field("content", pattern=LABELS),
            when=(is_label,),
        ),
        Activity(
            "no_labels", "tags", LABELS_GONE, BY_AT_BEGIN,
            was=Field("content", pattern=LABELS_GONE), when=(is_label,),
        ),
    )  # fmt: skip


def map_activities() -> list[Mapping]:
    """Events from the lines that say what was done; a name that is no agent's is the system's."""
    return [
        Mapping(
            "activities", "case_events",
            {
                "source_event_id": Field("id", suffix=f":{activity.name}"),
                "source_case_id": Field("conversation_id"),
                "event_at": Field("created_at", "instant"),
                "event_type": Field(const=f"{activity.change}_changed"),
                "actor_id": Field("content", pattern=activity.by, lookup=ACTOR),
                "from_value": activity.was,
                "to_value": activity.to,
                "sequence": Field("id", "integer"),
            },
            when=(When("content", pattern=activity.pattern), *activity.when),
            required=("source_event_id", "source_case_id"), ignored=OF_MESSAGES,
        )
        for activity in list_activities()
    ]  # fmt: skip


def map_people() -> list[Mapping]:
    def customer(at: str, updated_at: Field) -> dict[str, Field]:
        return {
            "source_customer_id": Field(f"{at}id", prefix="contact-"),
            "external_id": Field(f"{at}identifier"),
            "name": Field(f"{at}name"),
            "email": Field(f"{at}email"),
            "phone": Field(f"{at}phone_number"),
            "organization": Field(f"{at}additional_attributes.company_name"),
            "region": Field(f"{at}additional_attributes.country"),
            "do_not_contact": Field(f"{at}blocked", "boolean"),
            "signup_at": Field(f"{at}created_at", "instant"),
            "updated_at": updated_at,
        }

    needed = ("source_customer_id",)
    seen_at = Field("last_activity_at", "instant", also=("created_at",))
    browser = "additional_attributes.browser.browser_language"
    agent = {"role": Field(const="agent"), "name": Field("name", also=("available_name",))}
    return [
        Mapping(
            "contacts", "customers", customer("", seen_at), required=needed,
            ignored=(
                "availability_status", "thumbnail", "custom_attributes", "contact_inboxes",
                "last_name", "middle_name", "location", "country_code", "contact_type", "company",
                "company_id", "labels",
            ),
        ),
        Mapping(
            "conversations", "customers",
            customer("meta.sender.", CASE_UPDATED) | {"language": Field(browser)},
            when=(When("meta.sender.id"),), required=needed,
        ),
        Mapping(
            "agents", "agents",
            agent
            | {
                "source_agent_id": Field("id", prefix="user-"),
                "email": Field("email"),
                "team": Field("team_ids.0", lookup=TEAM_NAME),
                "is_active": Field("confirmed", "boolean"),
            },
            required=("source_agent_id",),
            ignored=(
                "account_id", "availability_status", "auto_offline", "active", "provider",
                "available_name", "custom_attributes", "role", "thumbnail", "custom_role_id",
                "team_ids",
            ),
        ),
        Mapping(
            "agent_bots", "agents",
            {
                "source_agent_id": Field("id", prefix="agent_bot-"),
                "name": Field("name"),
                "role": Field(const="bot"),
                "is_active": Field(const=True),
            },
            required=("source_agent_id",),
            ignored=(
                "description", "outgoing_url", "account_id", "thumbnail", "bot_type",
                "bot_config", "access_token", "system_bot", "secret",
            ),
        ),
    ]  # fmt: skip


def map_surveys() -> list[Mapping]:
    """A request is known by its message, and so is its answer: the two are one response."""
    response = {
        "survey_id": Field(const="chatwoot_csat"),
        "question_id": Field(const="rating"),
        "kind": Field(const="csat"),
        "scale_min": Field(const=1.0),
        "scale_max": Field(const=5.0),
        "higher_is_better": Field(const=True),
        "source_case_id": Field("conversation_id"),
    }
    customer = Field("contact.id", prefix="contact-")
    answered_at = Field("created_at", "instant")
    offered_at = Lookup("survey_requests", "id", "created_at", is_strict=True)
    needed = ("source_response_id",)
    return [
        Mapping(
            "survey_requests", "survey_responses",
            response
            | {
                "source_response_id": Field("id"),
                "offered_at": Field("created_at", "instant"),
                "updated_at": Field("created_at", "instant"),
            },
            required=needed,
        ),
        Mapping(
            "csat_survey_responses", "survey_responses",
            response
            | {
                "source_response_id": Field("message_id", also=("id",)),
                "score": Field("rating", "number"),
                "comment": Field("feedback_message"),
                "source_customer_id": customer,
                "offered_at": Field("message_id", "instant", lookup=offered_at),
                "answered_at": answered_at,
                "updated_at": answered_at,
            },
            required=needed,
            ignored=(
                "account_id", "assigned_agent", "csat_review_notes", "review_notes_updated_by",
                "review_notes_updated_at",
            ),
        ),
        Mapping(
            "csat_survey_responses", "feedback",
            {
                "source_record_id": Field("id", prefix="csat-"),
                "channel": Field(const="survey"),
                "source_case_id": Field("conversation_id"),
                "source_customer_id": customer,
                "created_at": answered_at,
                "updated_at": answered_at,
                "body": Field("feedback_message"),
                "rating": Field("rating", "number"),
                "rating_min": Field(const=1.0),
                "rating_max": Field(const=5.0),
            },
            when=(When("feedback_message"),), required=("source_record_id",),
        ),
        Mapping(
            "csat_survey_responses", "case_events",
            {
                "source_event_id": Field("id", prefix="csat:"),
                "source_case_id": Field("conversation_id"),
                "event_at": answered_at,
                "event_type": Field(const="rated"),
                "actor_id": customer,
                "actor_role": Field(const="customer"),
                "to_value": Field("rating"),
            },
            when=(When("conversation_id"),), required=("source_event_id",),
        ),
    ]  # fmt: skip


def map_metrics() -> list[Mapping]:
    """Seconds of the calendar and of the hours of the inbox; the last resolution counts."""
    return [
        Mapping(
            "reporting_events", "vendor_metrics",
            {
                "source_case_id": Field("conversation_display_id"),
                "metric": Field("name", values=values(METRICS)),
                "clock": Field(const=clock),
                "value": Field(column, "number", times=1 / 60),
                "updated_at": Field("event_end_time", "instant", also=("created_at",)),
            },
            when=(When("name", tuple(METRICS)), When(column)), required=("source_case_id",),
            ignored=(
                "id", "account_id", "conversation_id", "inbox_id", "user_id", "event_start_time",
                "updated_at",
            ),
        )
        for column, clock in (("value", "calendar"), ("value_in_business_hours", "business"))
    ]  # fmt: skip


def map_deletions() -> list[Mapping]:
    """A deleted case is told of under the number that people see."""
    at = Field("created_at", "instant")
    return [
        Mapping(
            "audit_logs", "case_events",
            {
                "source_event_id": Field("id", prefix="audit:"),
                "source_case_id": Field("audited_changes.display_id"),
                "event_at": at,
                "event_type": Field(const="deleted"),
                "actor_id": Field("user_id", prefix="user-"),
            },
            when=(
                When("auditable_type", ("Conversation",)), When("audited_changes.display_id"),
            ),
            required=("source_event_id", "source_case_id"),
            ignored=(
                "action", "auditable", "associated_id", "associated_type", "user_type",
                "username", "version", "comment", "request_uuid", "remote_address", "location",
            ),
        ),
        map_deletion(
            "audit_logs", "customers", Field("auditable_id", prefix="contact-"),
            when=(When("auditable_type", ("Contact",)),), deleted_at=at, updated_at=at,
        ),
    ]  # fmt: skip


KINDS = {
    "chatwoot": Kind(
        "chatwoot",
        "Chatwoot: conversations with messages and activities, contacts, agents, survey answers",
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
            Secret("password", "access token of an administrator",
                   "Profile settings → Access token"),
        ),
        check=check,
        derive={"agents": derive_agents},
        summary_zh="Chatwoot：会话与消息、操作记录、联系人、客服、满意度调查",
    )
}  # fmt: skip

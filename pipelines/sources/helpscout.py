"""Help Scout (Inbox API 2.0): conversations with threads, customers, users, happiness ratings.

Lists are read in the order of their change, of every status. A conversation does not say when it
changed, only when a user last changed it, which is never later: so each page begins just before the
latest such time of the page before, and what changes meanwhile is met at the end. Embedded threads
of chats are cut short and are read in full, by version 3, which tells AI agents from people; those
that stand in other conversations do not, so that the option ``bots`` has to name them there.

What Help Scout does not give: priorities, its own metrics by conversation, a trace of customers
that were deleted. That a conversation was deleted, and statuses before and after a change, stand
only in the threads. Ratings need the Plus or Pro plan; those of the last week are read again each
time.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
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
    make_token_auth,
    minute_budget,
    open_client,
    read_number,
    retry_after,
)

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response

API = "/v2"
API_3 = "/v3"  # of threads: tells AI agents from people
DEFAULT_URL = "https://api.helpscout.net"
PEOPLES_URL = "https://secure.helpscout.net"
MOST_PAGES = 10_000
MOST_PASSES = 5
OVERLAP = timedelta(seconds=60)
GRANULARITY = timedelta(seconds=1)
RATING_DAYS = timedelta(days=7)
FIRST_DAY = datetime(2011, 1, 1, tzinfo=UTC)  # Help Scout is not older

CHANNELS = {"email": "email", "chat": "chat", "beaconchat": "chat", "phone": "phone"}
STATUSES = {
    "active": "open", "open": "open", "pending": "pending", "closed": "closed", "spam": "closed",
}  # fmt: skip
ROLES = {"customer": "customer", "user": "agent", "team": "agent", "system_user": "bot"}
PRIVATE = {"note": "false", "forwardparent": "false", "forwardchild": "false"}
SCORES = {
    "1": "3", "great": "3", "2": "2", "ok": "2", "okay": "2", "3": "1", "not-good": "1",
    "not_good": "1", "notgood": "1", "bad": "1",
}  # fmt: skip

# What a line item says happened to its conversation, as webhooks and as lists spell it.
DELETED_BY = ("deletedTicket", "deleted-ticket", "deleted_ticket")
RESTORED_BY = ("restoreTicket", "restore-ticket", "restore_ticket")
UNTOLD = ("0", "unknown", "Unknown")  # a rating that Help Scout does not know: none was given


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    bots: list[str] = Option(default_factory=list, description="ids of users that are bots")
    product_field: str | None = Option(
        default=None, description="name of the custom field with the product"
    )


@dataclass(frozen=True)
class Feed:
    """A list in the order of change: ``times`` are fields of a row that are not later than it."""

    name: str
    times: tuple[str, ...]
    params: dict[str, str] = field(default_factory=dict)


CUSTOMERS = Feed("customers", ("updatedAt", "createdAt"))
CONVERSATIONS = Feed(
    "conversations",
    ("userUpdatedAt", "createdAt"),
    {"status": "all", "embed": "threads"},
)


def connect(source: Source, context: PullContext) -> RESTClient:
    from dlt.sources.helpers.rest_client.auth import BearerTokenAuth

    site = find_site(source)
    client = open_client(
        source.model_copy(update={"base_url": site}),
        context,
        API,
        limits=Limits(
            wait_seconds=read_wait,
            budget=minute_budget("X-RateLimit-Remaining-Minute", "X-RateLimit-Retry-After"),
        ),
    )
    connection = context.connection(source)
    extra = connection.extra
    client_id = extra.get("client_id") or connection.login
    secret = extra.get("client_secret") or connection.password
    token = extra.get("access_token") or extra.get("token")
    if not token and not client_id:
        token = connection.password
    if token:
        client.auth = BearerTokenAuth(token=token)
        return client
    if not client_id or not secret:
        raise HearbackError(
            f"source {source.name!r}: connection {source.connection!r} needs a login (App ID) and "
            "a password (App Secret), or a password alone (a ready access token)"
        )
    request = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": secret,
    }
    url = f"{site}{API}/oauth2/token"
    client.auth = make_token_auth(client, source.connection, url, request)
    return client


def find_site(source: Source) -> str:
    """Where the API is, without the path of its version."""
    return (source.base_url or DEFAULT_URL).rstrip("/").removesuffix(API)


def read_wait(response: Response) -> float | None:
    told = retry_after(response)
    return read_number(response, "X-RateLimit-Retry-After") if told is None else told


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Every record that is new or changed since the remembered position, stream by stream."""
    read_options(source, Options)
    reader = Reader(source, context)
    with explain_http_errors(source.name, source.connection):
        for name in ("mailboxes", "users"):
            yield from reader.allow(name, reader.read_list(name))
        yield from reader.allow("customers", reader.read_feed(CUSTOMERS))
        yield from reader.read_feed(CONVERSATIONS)
        yield from reader.allow("ratings", reader.read_ratings())


def check(source: Source, context: PullContext) -> str:
    """Ask who we are: shows whether the credentials are right."""
    client = connect(source, context)
    with explain_http_errors(source.name, source.connection):
        response = client.get("conversations", params={"status": "all", "page": 1})
        response.raise_for_status()
        return f"{response.json().get('page', {}).get('totalElements', 0):,} conversations"


def write_instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)


def read_page(body: dict[str, Any], name: str) -> tuple[list[dict[str, Any]], bool]:
    """(rows, whether there are more) of a HAL page; an empty page has no ``_embedded``."""
    rows: list[dict[str, Any]] = body.get("_embedded", {}).get(name, [])
    page = body.get("page", {})
    if "totalPages" in page and "number" in page:
        return rows, bool(rows) and page["number"] < page["totalPages"]
    return rows, bool(rows) and bool(body.get("_links", {}).get("next"))


class Reader:
    """Reads the streams of one account from their places in ``position``, which it moves."""

    def __init__(self, source: Source, context: PullContext) -> None:
        self.source = source
        self.context = context
        self.client = connect(source, context)
        self.position = copy.deepcopy(context.position)
        self.has_version_3 = True  # until it is found lacking
        self.start = FIRST_DAY
        if source.start:
            self.start = datetime.combine(source.start, time.min, UTC)

    def since(self, stream: str, overlap: timedelta) -> datetime:
        """From when a stream is to be read: its remembered time less the overlap, or the start."""
        remembered = self.position.get(stream, {}).get("since")
        if not remembered:
            return self.start
        return max(datetime.fromisoformat(remembered) - overlap, self.start)

    def save(self, stream: str, moment: datetime) -> Batch:
        """An empty batch: all of the stream up to this moment has been given.

        The overlap is read again before it: the place never goes back.
        """
        before = self.position.get(stream, {}).get("since", "")
        self.position[stream] = {"since": max(write_instant(moment), before)}
        return Batch(stream, [], copy.deepcopy(self.position))

    def allow(self, stream: str, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; a stream that the plan or the app does not have is skipped with a note."""
        from requests.exceptions import HTTPError

        try:
            yield from batches
        except HTTPError as error:
            if error.response is None or error.response.status_code not in (402, 403, 404):
                raise
            self.context.progress(
                f"extract {self.source.name}: {stream} skipped, the plan or the app does not have "
                f"them ({error.response.status_code})",
                0,
            )

    def get(self, path: str, params: dict[str, Any]) -> dict[str, Any]:
        response = self.client.get(path, params=params)
        response.raise_for_status()
        body: dict[str, Any] = response.json()
        return body

    def read_list(self, name: str) -> Iterator[Batch]:
        """A short list, whole each time: raw drops what has not changed."""
        for number in range(1, MOST_PAGES + 1):
            rows, has_more = read_page(self.get(name, {"page": number}), name)
            yield Batch(name, [Record(str(row["id"]), row) for row in rows])
            if not has_more:
                return

    def read_feed(self, feed: Feed) -> Iterator[Batch]:
        """A list in the order of change, window by window."""
        since = self.since(feed.name, OVERLAP)
        known: dict[int, dict[str, Any]] = {}
        while True:
            window: dict[int, dict[str, Any]] = {}
            last, is_end = since, True
            for rows, has_more in self.read_window(feed, since):
                is_end = not has_more
                fresh = [row for row in rows if known.get(row["id"]) != row]
                window |= {row["id"]: row for row in rows}
                if feed is CONVERSATIONS:
                    yield from self.read_chats(fresh)
                last = max([last, *(find_time(feed, row) for row in rows)])
                yield Batch(feed.name, [self.record(feed, row) for row in fresh])
            if window:
                yield self.save(feed.name, last)
            if is_end:
                return
            known, since = window, last - GRANULARITY

    def read_window(
        self, feed: Feed, since: datetime
    ) -> Iterator[tuple[list[dict[str, Any]], bool]]:
        """The first page from ``since``, and further ones until its rows are later.

        With each page goes whether there are more. A window of several pages is read until a pass
        brings nothing new: a row that changes leaves its place and moves all behind it.
        """
        seen: set[tuple[int, datetime]] = set()
        for _ in range(MOST_PASSES):
            is_new = False
            for number in range(1, MOST_PAGES + 1):
                params = {
                    **feed.params,
                    "modifiedSince": write_instant(since),
                    "sortField": "modifiedAt",
                    "sortOrder": "asc",
                    "page": number,
                }
                rows, has_more = read_page(self.get(feed.name, params), feed.name)
                keys = {(row["id"], find_time(feed, row)) for row in rows}
                is_new = is_new or not keys <= seen
                seen |= keys
                yield rows, has_more
                latest = max((moment for _, moment in keys), default=since)
                if not has_more or latest - GRANULARITY > since:
                    break
            if number == 1 or not is_new:
                return
        raise HearbackError(f"{feed.name} change faster than they can be read; run it again later")

    def record(self, feed: Feed, row: dict[str, Any]) -> Record:
        """A record with the page on which people see it."""
        link = row.get("_links", {}).get("web", {}).get("href")
        if not link and feed is CONVERSATIONS:
            link = f"{PEOPLES_URL}/conversation/{row['id']}/{row.get('number', '')}".rstrip("/")
        return Record(str(row["id"]), row, link)

    def read_chats(self, conversations: list[dict[str, Any]]) -> Iterator[Batch]:
        """Every thread of the chats among these; a thread gets the id of its conversation."""
        for row in conversations:
            if row.get("type") != "chat":
                continue
            for number in range(1, MOST_PAGES + 1):
                body = self.read_threads(row["id"], number)
                if body is None:
                    break  # deleted or merged meanwhile
                rows, has_more = read_page(body, "threads")
                url = self.record(CONVERSATIONS, row).url
                threads = [thread | {"conversationId": row["id"]} for thread in rows]
                yield Batch("threads", [Record(str(t["id"]), t, url) for t in threads])
                if not has_more:
                    break

    def read_threads(self, conversation: int, number: int) -> dict[str, Any] | None:
        """A page of threads, of version 3 where there is one; None if the conversation is gone."""
        from requests.exceptions import HTTPError

        path = f"conversations/{conversation}/threads"
        newer = f"{find_site(self.source)}{API_3}/{path}"
        for url in (newer, path) if self.has_version_3 else (path,):
            try:
                body = self.get(url, {"page": number})
            except HTTPError as error:
                if error.response is None or error.response.status_code != 404:
                    raise
                continue
            self.has_version_3 = url == newer
            return body
        return None

    def read_ratings(self) -> Iterator[Batch]:
        """Ratings since the last sweep; reports are a matter of the plan.

        Several pages are read until a pass brings nothing new: a rating that changes leaves its
        place and moves all behind it.
        """
        now = datetime.now(UTC)
        span = {
            "start": write_instant(self.since("ratings", RATING_DAYS)),
            "end": write_instant(now),
            "rating": "all",
            "sortField": "modifiedAt",
            "sortOrder": "ASC",
        }
        newest: datetime | None = None
        seen: set[str] = set()
        for _ in range(MOST_PASSES):
            is_new = False
            for number in range(1, MOST_PAGES + 1):
                body = self.get("reports/happiness/ratings", {**span, "page": number})
                rows = body.get("results", [])
                fresh = [row for row in rows if json.dumps(row, sort_keys=True) not in seen]
                seen |= {json.dumps(row, sort_keys=True) for row in fresh}
                is_new = is_new or bool(fresh)
                times = [read_instant(r["ratingCreatedAt"]) for r in rows if "ratingCreatedAt" in r]
                newest = max([*times, *([newest] if newest else [])], default=None)
                yield Batch("ratings", [rating_record(row) for row in fresh])
                if not rows or number >= body.get("pages", 1):
                    break
            if number == 1 or not is_new:
                break
        else:
            raise HearbackError("ratings change faster than they can be read; run it again later")
        if newest:
            yield self.save("ratings", min(newest, now))


def rating_record(row: dict[str, Any]) -> Record:
    """A rating is known by the reply that it rates."""
    link = f"{PEOPLES_URL}/conversation/{row['id']}" if row.get("id") else None
    return Record(str(row.get("threadid") or row.get("id")), row, link)


def find_time(feed: Feed, row: dict[str, Any]) -> datetime:
    """A time that is not later than the row's change."""
    found = [row[name] for name in ("modifiedAt", *feed.times) if row.get(name)]
    return read_instant(found[0]) if found else FIRST_DAY


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    return [
        *map_conversations(options),
        *map_threads(options),
        *map_people(options),
        *map_ratings(),
    ]


def list_names(pattern: str, most: int) -> Field:
    """What stands at the first places of a list: ``{}`` of the pattern is the place."""
    paths = [pattern.format(place) for place in range(most)]
    return Field(paths[0], "text_list", also=tuple(paths[1:]), joined_by="|")


def map_conversations(options: Options) -> list[Mapping]:
    product = Field()
    if options.product_field:
        product = Field("customFields", find=("name", options.product_field, "text"))
    case = {
        "source_case_id": Field("id"),
        "channel": Field("type", values=values(CHANNELS), unknown="other"),
        "subject": Field("subject"),
        "source_customer_id": Field("primaryCustomer.id", also=("customer.id",)),
        "submitter_id": Field("createdBy.id"),
        "status": Field("status", values=values(STATUSES), unknown="open"),
        "source_group": Field("mailboxId", lookup=Lookup("mailboxes", "id", "name")),
        "assignee_id": Field("assignee.id"),
        "product": product,
        "tags": list_names("tags.{}.tag", 20),
        "opened_at": Field("createdAt", "instant"),
        "updated_at": Field("modifiedAt", "instant", also=("userUpdatedAt", "createdAt")),
    }
    is_real = When("state", ("draft", "deleted"), is_negated=True)
    is_spam, is_ham = When("status", ("spam",)), When("status", ("spam",), is_negated=True)
    needed = ("source_case_id",)
    return [
        Mapping(
            "conversations", "cases", case,
            when=(is_real, is_ham), required=needed,
            ignored=(
                "number", "threads", "folderId", "preview", "closedBy", "closedByUser", "closedAt",
                "customerWaitingSince", "source", "cc", "bcc", "customFields", "_links",
                "snooze", "nextEvent", "slug", "customer",
            ),
        ),
        Mapping(
            "conversations", "cases",
            case | {"tags": Field(const="[spam]")},  # clean tells spam by its tag
            when=(is_real, is_spam), required=needed,
        ),
        Mapping(
            "conversations", "cases", case | {"status": Field(const="deleted")},
            when=(When("state", ("deleted",)),), required=needed,
        ),
    ]  # fmt: skip


def map_threads(options: Options) -> list[Mapping]:
    """Threads as they stand in conversations, and those of chats from their own records."""
    bots = tuple(options.bots)
    found: list[Mapping] = []
    for raw, at, case_id in (("conversations", "item.", "id"), ("threads", "", "conversationId")):
        explode = "_embedded.threads" if at else None
        is_own = (When("type", ("chat",), is_negated=True),) if at else ()
        is_shown = When(f"{at}state", ("draft", "hidden", "deleted"), is_negated=True)
        created_at = Field(f"{at}createdAt", "instant", also=(f"{at}createdBy.createdAt",))
        message = {
            "source_record_id": Field(f"{at}id"),
            "source_case_id": Field(case_id),
            "author_id": Field(f"{at}createdBy.id"),
            "author_role": Field(f"{at}createdBy.type", values=values(ROLES), unknown="system"),
            "is_public": Field(f"{at}type", values=values(PRIVATE), unknown="true"),
            "channel": Field("type", values=values(CHANNELS), unknown="other")
            if at
            else Field(const="chat"),
            "created_at": created_at,
            "body": Field(f"{at}body"),
            "sequence": Field(f"{at}id", "integer"),
            "attachments": list_names(at + "_embedded.attachments.{}.filename", 5),
        }
        said = (
            *is_own, is_shown, When(f"{at}body"),
            When(f"{at}type", ("lineitem",), is_negated=True),
        )  # fmt: skip
        by_bot = When(f"{at}createdBy.id", bots)
        by_other = When(f"{at}createdBy.id", bots, is_negated=True)
        ids = ("source_record_id", "source_case_id")
        found.append(
            map_deletion(
                raw, "feedback", message["source_record_id"],
                when=(*is_own, When(f"{at}state", ("deleted",))), explode=explode,
            )
        )  # fmt: skip
        found.append(
            Mapping(
                raw, "messages", message,
                when=(*said, by_other) if bots else said, explode=explode, required=ids,
                ignored=(
                    "savedReplyId", "customer", "to", "cc", "bcc", "source", "_links", "openedAt",
                    "linkedConversationId", "scheduled", "rating", "translation",
                ) if raw == "threads" else (),
            )
        )  # fmt: skip
        if bots:
            machine = message | {"author_role": Field(const="bot")}
            found.append(
                Mapping(raw, "messages", machine, when=(*said, by_bot), explode=explode,
                        required=ids)
            )  # fmt: skip
        event = {
            "source_case_id": Field(case_id),
            "event_at": created_at,
            "actor_id": Field(f"{at}createdBy.id"),
            "actor_role": Field(f"{at}createdBy.type", values=values(ROLES), unknown="system"),
            "sequence": Field(f"{at}id", "integer"),
        }
        done = f"{at}action.type"
        original = f"{at}action.associatedEntities.originalConversation"
        changes: tuple[tuple[str, dict[str, Field], tuple[When, ...]], ...] = (
            (
                "status",
                {
                    "event_type": Field(const="status_changed"),
                    "to_value": Field(f"{at}status", values=values(STATUSES), unknown="open"),
                },
                (When(f"{at}status", tuple(STATUSES)), When(done, DELETED_BY, is_negated=True)),
            ),
            ("deleted", {"event_type": Field(const="deleted")}, (When(done, DELETED_BY),)),
            (
                "restored",
                {
                    "event_type": Field(const="status_changed"),
                    "to_value": Field(f"{at}status", values=values(STATUSES), unknown="open"),
                },
                (
                    When(done, RESTORED_BY),
                    When(f"{at}status", tuple(STATUSES), is_negated=True),
                ),
            ),
            (
                "assignee",
                {
                    "event_type": Field(const="assignee_changed"),
                    "to_value": Field(f"{at}assignedTo.id"),
                },
                (When(f"{at}type", ("lineitem",)), When(f"{at}assignedTo.id")),
            ),
            (
                "merged",
                {
                    "event_type": Field(const="merged"),
                    "source_case_id": Field(original),
                    "to_value": Field(case_id),
                },
                (When(original),),
            ),
        )
        found += [
            Mapping(
                raw, "case_events",
                {**event, **fields, "source_event_id": Field(f"{at}id", suffix=f":{name}")},
                when=(*is_own, is_shown, *conditions), explode=explode,
                required=("source_event_id", "source_case_id"),
            )
            for name, fields, conditions in changes
        ]  # fmt: skip
    return found


def map_people(options: Options) -> list[Mapping]:
    bots = values(dict.fromkeys(options.bots, "bot"))
    name = Field("firstName", also=("lastName",), joined_by=" ")
    return [
        Mapping(
            "customers", "customers",
            {
                "source_customer_id": Field("id"),
                "name": name,
                "email": Field("_embedded.emails.0.value", also=("email",)),
                "phone": Field("_embedded.phones.0.value", also=("phone",)),
                "organization": Field("organization"),
                "region": Field("location"),
                "signup_at": Field("createdAt", "instant"),
                "updated_at": Field("updatedAt", "instant"),
            },
            required=("source_customer_id",),
            ignored=(
                "gender", "jobTitle", "photoType", "photoUrl", "background", "age", "_links",
                "organizationId", "conversationCount", "draft", "properties",
            ),
        ),
        Mapping(
            "users", "agents",
            {
                "source_agent_id": Field("id"),
                "name": name,
                "email": Field("email"),
                "role": Field("id", values=bots, unknown="agent") if bots else Field(const="agent"),
                "is_active": Field(const=True),
                "updated_at": Field("updatedAt", "instant"),
            },
            required=("source_agent_id",),
            ignored=(
                "role", "timezone", "createdAt", "type", "mention", "initials", "jobTitle",
                "phone", "alternateEmails", "photoUrl", "_links", "companyId",
            ),
        ),
    ]  # fmt: skip


def map_ratings() -> list[Mapping]:
    score = Field("ratingId", also=("rating",), values=values(SCORES))
    is_told = When("ratingId", UNTOLD, also=("rating",), is_negated=True)
    case_id, customer = Field("id"), Field("ratingCustomerId")
    rated_at = Field("ratingCreatedAt", "instant")
    comment = Field("ratingComments")
    thread = Field("threadid", also=("id",))
    return [
        Mapping(
            "ratings", "survey_responses",
            {
                "source_response_id": thread,
                "survey_id": Field(const="helpscout_happiness"),
                "question_id": Field(const="happiness"),
                "kind": Field(const="csat"),
                "score": score,
                "scale_min": Field(const=1.0),
                "scale_max": Field(const=3.0),
                "higher_is_better": Field(const=True),
                "comment": comment,
                "source_customer_id": customer,
                "source_case_id": case_id,
                "answered_at": rated_at,
                "updated_at": Field("modifiedAt", "instant", also=("ratingCreatedAt",)),
            },
            when=(is_told,), required=("source_response_id",),
            ignored=(
                "number", "threadCreatedAt", "type", "ratingCustomerName", "ratingUserId",
                "ratingUserName",
            ),
        ),
        Mapping(
            "ratings", "feedback",
            {
                "source_record_id": Field(
                    "threadid", also=("id",), prefix="rating-"
                ),
                "channel": Field(const="survey"),
                "source_case_id": case_id,
                "source_customer_id": customer,
                "created_at": rated_at,
                "updated_at": Field("modifiedAt", "instant", also=("ratingCreatedAt",)),
                "body": comment,
                "rating": score,
                "rating_min": Field(const=1.0),
                "rating_max": Field(const=3.0),
            },
            when=(is_told, When("ratingComments")), required=("source_record_id",),
        ),
        Mapping(
            "ratings", "case_events",
            {
                "source_event_id": Field("threadid", also=("id",), prefix="rating:"),
                "source_case_id": case_id,
                "event_at": rated_at,
                "event_type": Field(const="rated"),
                "actor_id": customer,
                "actor_role": Field(const="customer"),
                "to_value": score,
            },
            when=(is_told, When("id")), required=("source_event_id",),
        ),
    ]  # fmt: skip


KINDS = {
    "helpscout": Kind(
        "helpscout",
        "Help Scout: conversations with threads, customers, users, happiness ratings",
        Options,
        (
            "cases", "messages", "case_events", "customers", "agents", "survey_responses",
            "feedback", "deletions",
        ),
        pull,
        mappings,
        needs_connection=True,
        default_url=DEFAULT_URL,
        secrets=(
            Secret("login", "App ID", "Your profile → My apps → Create app"),
            Secret("password", "App Secret", "Your profile → My apps → Create app"),
        ),
        check=check,
        summary_zh="Help Scout：会话与消息、客户、用户、满意度评价",
    )
}  # fmt: skip

"""Zendesk Support: tickets, users, groups, ticket events with comments, ratings, CSAT surveys.

Tickets (with Zendesk's own metrics) and users come by the cursor export, events and organizations
by the time-based export (whose pages overlap by at least one record, because ``end_time`` is
inclusive), ratings and groups by cursor lists, ratings in windows of at most 30 days. Comments are
asked for by ticket only where an event lacks its text. Responses to CSAT surveys are listed by the
time of their creation only, and may change for weeks: those of the last weeks are read again. What
the older ratings say of a ticket that has such a response is the same answer, and is left alone.

What Zendesk does not give: the last minute; side conversations need a product of their own and are
not read. If an account's pages should not grow where more than 1,000 events share a second, as they
are documented to, what is lacking is told. Tickets that an AI agent handled are asked for too. No
field says that a user is a bot: the option ``bots`` or a tag of the user does.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time
from time import time as now
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError
from pipelines.mapping import Field, Lookup, Mapping, When, values
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.deletions import map_deletion
from pipelines.sources.http import (
    Budget,
    Limits,
    describe_connection,
    explain_http_errors,
    header_budget,
    keep_host,
    open_client,
)

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response

API = "/api/v2"
CHANNELS = {
    "web": "web_form", "web_form": "web_form", "web_widget": "web_form", "help_center": "web_form",
    "email": "email", "api": "api", "chat": "chat", "native_messaging": "chat", "sms": "chat",
    "whatsapp": "chat", "wechat": "chat", "line": "chat", "voice": "phone", "phone": "phone",
    "twitter": "social", "facebook": "social", "instagram_dm": "social", "any_channel": "other",
    "sample_ticket": "other", "mobile": "app_store", "mobile_sdk": "web_form", "forum": "forum",
    "closed_ticket": "other", "rule": "other",
}  # fmt: skip
STATUSES = {
    name: name for name in ("new", "open", "pending", "hold", "solved", "closed", "deleted")
}
PRIORITIES = {name: name for name in ("urgent", "high", "normal", "low")}
ANSWERED = ("good", "bad", "good_with_comment", "bad_with_comment")
PAGE_SIZE = 1000
SMALLEST_PAGE = 10
TOO_LARGE = 504  # "upstream request timeout": the page takes too long to put together
OLDEST_SECONDS = 61
WINDOW_SECONDS = 30 * 24 * 3600
SURVEYS = "survey_responses"
SURVEY_SECONDS = 30 * 24 * 3600  # how long a response may change after its creation
BOT_TAGS = r'(?i)"(?:bot|chatbot|ai[_-]agent|ai[_-]bot|answer[_-]bot)"'  # in a list of tags
MERGED = r"(?i)closed and merged into (?:request|ticket) #?(\d+)"
METRICS = {
    "first_reply": "reply_time_in_minutes",
    "first_resolution": "first_resolution_time_in_minutes",
    "full_resolution": "full_resolution_time_in_minutes",
    "requester_wait": "requester_wait_time_in_minutes",
    "agent_wait": "agent_wait_time_in_minutes",
    "on_hold": "on_hold_time_in_minutes",
}
COUNTS = ("reopens", "replies")


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    bots: list[str] = Option(
        default_factory=list,
        description="user ids that are bots, besides those that bear a tag such as bot or ai_agent",
    )
    product_field: str | None = Option(default=None, description="id of the product custom field")
    page_size: int = Option(
        default=PAGE_SIZE, ge=1, le=1000, description="records asked for at once"
    )


def connect(source: Source, context: PullContext) -> RESTClient:
    from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
    from requests.auth import HTTPBasicAuth

    connection = context.connection(source)
    extra = connection.extra
    token = extra.get("access_token") or extra.get("token")
    if not token and not connection.login:
        token = connection.password
    auth: Any = BearerTokenAuth(token=token) if token else None
    if auth is None:
        if not connection.login or not connection.password:
            raise HearbackError(
                f"source {source.name!r}: connection {source.connection!r} needs a login "
                "(name@company/token) and a password (the API token), or a password alone "
                "(an OAuth token)"
            )
        login = connection.login.removesuffix("/token") + "/token"
        auth = HTTPBasicAuth(login, connection.password)
    return open_client(
        source.model_copy(update={"base_url": find_site(source)}),
        context,
        API,
        auth=auth,
        limits=Limits(
            is_limited=lambda response: response.status_code in (409, 429), budget=read_budget
        ),
        not_repeated=(TOO_LARGE,),
    )


def find_site(source: Source) -> str:
    """Where people see tickets: base_url without the path of the API."""
    return (source.base_url or "").rstrip("/").removesuffix(API)


def read_budget(response: Response) -> Budget | None:
    """The least that is left of the account's budget and of the endpoint's own."""
    found = [account_budget(response)]
    for name, text in response.headers.items():
        parts = re.search(r"remaining=(\d+);\s*resets=(\d+)", text)
        if name.lower().startswith("zendesk-rate-limit-") and parts:
            found.append(Budget(int(parts[1]), float(parts[2])))
    told = [budget for budget in found if budget is not None]
    return min(told, key=lambda budget: budget.remaining, default=None)


account_budget = header_budget(
    ("ratelimit-remaining", "rate-limit-remaining", "x-rate-limit-remaining"),
    ("ratelimit-reset", "rate-limit-reset"),
)


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Every record that is new or changed since the remembered position, stream by stream."""
    reader = Reader(source, context)
    with explain_http_errors(source.name, source.connection):
        yield from reader.allow("groups", reader.shrink(reader.read_groups))
        yield from reader.allow("organizations", reader.shrink(reader.read_organizations))
        yield from reader.shrink(lambda size: reader.read_cursor_export("users", size))
        yield from reader.shrink(lambda size: reader.read_cursor_export("tickets", size))
        yield from reader.shrink(reader.read_events)
        yield from reader.allow("satisfaction_ratings", reader.shrink(reader.read_ratings))
        yield from reader.allow(SURVEYS, reader.shrink(reader.read_surveys))
        reader.tell_gaps()


def check(source: Source, context: PullContext) -> str:
    """Ask who we are: shows whether the credentials are right."""
    client = connect(source, context)
    with explain_http_errors(source.name, source.connection):
        response = client.get("users/me.json")
        response.raise_for_status()
        user = response.json().get("user") or {}
        if not user.get("id"):
            raise HearbackError(
                f"source {source.name!r}: the credentials were refused"
                f"{describe_connection(source.connection)}"
            )
        return f"signed in as {user.get('role') or 'a user'}"


def read_second(row: dict[str, Any]) -> int:
    """When a row changed, in Unix seconds; 0 if it does not say."""
    told = row.get("generated_timestamp") or row.get("timestamp")
    if told:
        return int(told)
    text = str(row.get("updated_at") or row.get("created_at") or "")
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()) if text else 0


def is_last(body: dict[str, Any], name: str) -> bool:
    """Whether a page of a time-based export is the last."""
    is_end = body.get("end_of_stream", len(body[name]) < PAGE_SIZE)
    return bool(is_end) or body.get("end_time") is None


def is_stuck(body: dict[str, Any], name: str, since: int) -> bool:
    """Whether a page ends in the second with which it began, and is not the last."""
    return not is_last(body, name) and int(body["end_time"]) <= since


def _records(rows: list[dict[str, Any]]) -> list[Record]:
    return [Record(str(row.get("id") or ""), row, row.get("url")) for row in rows]


class Reader:
    """Reads the streams of one account from their places in ``position``, which it moves."""

    def __init__(self, source: Source, context: PullContext) -> None:
        self.source = source
        self.context = context
        self.options = read_options(source, Options)
        self.client = connect(source, context)
        self.position = copy.deepcopy(context.position)
        self.newest_allowed = int(now()) - OLDEST_SECONDS
        self.start = 0
        if source.start:
            start = datetime.combine(source.start, time.min, UTC)
            self.start = min(int(start.timestamp()), self.newest_allowed)
        self.gaps: dict[int, int] = {}  # second → rows that were given of it

    def place(self) -> dict[str, Any]:
        return copy.deepcopy(self.position)

    def allow(self, stream: str, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; a stream that the plan or the login does not have is skipped with a note."""
        from requests.exceptions import HTTPError

        try:
            yield from batches
        except HTTPError as error:
            if error.response is None or error.response.status_code not in (403, 404):
                raise
            self.context.progress(
                f"extract {self.source.name}: {stream} skipped, the plan or the login does not "
                f"have them ({error.response.status_code})",
                0,
            )

    def shrink(self, read: Callable[[int], Iterator[Batch]]) -> Iterator[Batch]:
        """A stream's batches; with pages half the size each time that one takes too long."""
        from requests.exceptions import HTTPError

        size = self.options.page_size
        while True:
            try:
                yield from read(size)
                return
            except HTTPError as error:
                is_too_large = error.response is not None and (
                    error.response.status_code == TOO_LARGE
                )
                if not is_too_large or size <= SMALLEST_PAGE:
                    raise
                size = max(size // 2, SMALLEST_PAGE)

    def get(self, path: str, params: dict[str, Any]) -> dict[str, Any]:
        response = self.client.get(path, params=params)
        response.raise_for_status()
        body: dict[str, Any] = response.json()
        return body

    def list_pages(
        self, path: str, params: dict[str, Any], size: int, name: str = ""
    ) -> Iterator[Any]:
        """Pages of a plain list, as far as its links lead, at our own host."""
        from dlt.sources.helpers.rest_client.paginators import JSONLinkPaginator

        site = find_site(self.source)

        class Links(JSONLinkPaginator):
            def update_state(self, response: Response, data: list[Any] | None = None) -> None:
                super().update_state(response, data)
                if self._next_reference:
                    self._next_reference = keep_host(site, self._next_reference)

        return self.client.paginate(
            path if name else f"{path}.json",
            params={**params, "page[size]": min(size, 100)},
            paginator=Links(next_url_path="links.next"),
            data_selector=name or path,
        )

    def read_groups(self, size: int) -> Iterator[Batch]:
        """Groups have no incremental export: read whole; unchanged ones are dropped later."""
        for page in self.list_pages("groups", {}, size):
            yield Batch("groups", _records(list(page)), self.place())

    def read_cursor_export(self, entity: str, size: int) -> Iterator[Batch]:
        """Pages by cursor. A cursor that is no longer known gives way to the time it stood for."""
        from requests.exceptions import HTTPError

        known = self.position.get(entity, {})
        try:
            yield from self.read_cursor_pages(entity, size, known.get("cursor"))
        except HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if not known.get("cursor") or status not in (400, 404, 410, 422):
                raise
            if self.position.get(entity, {}).get("cursor") != known["cursor"]:
                raise  # the cursor had served: something else is wrong
            self.position[entity] = {"since": known.get("since", self.start)}
            yield from self.read_cursor_pages(entity, size, None)

    def read_cursor_pages(self, entity: str, size: int, cursor: str | None) -> Iterator[Batch]:
        from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator

        class ExportPaginator(JSONResponseCursorPaginator):
            """The last page has a cursor too; ``end_of_stream`` says that it is the last."""

            def update_state(self, response: Any, data: list[Any] | None = None) -> None:
                super().update_state(response, data)
                if response.json().get("end_of_stream"):
                    self._has_next_page = False

        newest = int(self.position.get(entity, {}).get("since", self.start))
        params: dict[str, Any] = {"per_page": size}
        if entity == "tickets":
            params |= {"include": "metric_sets", "support_type_scope": "all"}
        params["cursor" if cursor else "start_time"] = cursor or newest
        pages = self.client.paginate(
            f"incremental/{entity}/cursor.json",
            params=params,
            paginator=ExportPaginator(cursor_path="after_cursor", cursor_param="cursor"),
            data_selector=entity,
        )
        for page in pages:
            rows = list(page)
            after = page.response.json().get("after_cursor")
            newest = max([newest, *(read_second(row) for row in rows)])
            if after:
                self.position[entity] = {"cursor": after, "since": newest}
            yield Batch(entity, _records(rows), self.place())

    def read_organizations(self, size: int) -> Iterator[Batch]:
        for rows in self.read_time_export("organizations", size, {}):
            yield Batch("organizations", _records(rows), self.place())

    def read_events(self, size: int) -> Iterator[Batch]:
        """Events with the texts of comments; where a text is missing, the ticket's comments."""
        for rows in self.read_time_export("ticket_events", size, {"include": "comment_events"}):
            bare = {
                int(row["ticket_id"])
                for row in rows
                for child in row.get("child_events") or []
                if child.get("event_type") == "Comment" and "body" not in child
            }
            for ticket in sorted(bare):
                yield from self.read_comments(ticket)
            yield Batch("ticket_events", _records(rows), self.place())

    def read_comments(self, ticket: int) -> Iterator[Batch]:
        """The comments of a ticket, each with its id; a deleted ticket has none."""
        from requests.exceptions import HTTPError

        path = f"tickets/{ticket}/comments.json"
        params: dict[str, Any] = {"page[size]": 100}
        while True:
            try:
                body = self.get(path, params)
            except HTTPError as error:
                if error.response is None or error.response.status_code != 404:
                    raise
                return
            rows = [row | {"ticket_id": ticket} for row in body.get("comments", [])]
            yield Batch("comments", _records(rows))
            after = (body.get("meta") or {}).get("after_cursor")
            if not (body.get("meta") or {}).get("has_more") or not after:
                return
            params["page[after]"] = after

    def read_time_export(
        self, name: str, size: int, params: dict[str, Any]
    ) -> Iterator[list[dict[str, Any]]]:
        """Pages by time; each begins with the second in which the one before it ended, whose rows
        are given once.

        Zendesk lets a page grow beyond its size where rows share a second, so that a page which
        ends in the second that it began with holds all of it, and the next one follows.
        """
        since = int(self.position.get(name, {}).get("start_time", self.start))
        if since > self.newest_allowed:
            return  # Zendesk refuses a start in the last minute: the next pull reads it
        narrow = {"per_page": size} if size < PAGE_SIZE else {}
        known: set[tuple[str, int]] = set()
        while True:
            query, asked = {"start_time": since, **params}, size
            body = self.get(f"incremental/{name}.json", query | narrow)
            if is_stuck(body, name, since) and len(body[name]) <= size < PAGE_SIZE:
                body, asked = self.get(f"incremental/{name}.json", query), PAGE_SIZE
            rows, end_time = body[name], body.get("end_time")
            if is_stuck(body, name, since):
                if not self.is_whole(name, query, len(rows), asked):
                    self.gaps[since] = len(rows)
                end_time = since + 1
            if end_time is not None:
                self.position[name] = {"start_time": int(end_time)}
            keys = {(str(row["id"]), read_second(row)) for row in rows}
            yield [row for row in rows if (str(row["id"]), read_second(row)) not in known]
            if is_last(body, name) or int(end_time or 0) > self.newest_allowed:
                return
            known, since = keys, int(self.position[name]["start_time"])

    def is_whole(self, name: str, query: dict[str, Any], count: int, asked: int) -> bool:
        """Whether a page that is full of one second holds all of it.

        It does if it grew beyond what was asked for. If it is just full, a page that is one smaller
        shows whether this account's pages grow at all.
        """
        if count > asked:
            return True
        body = self.get(f"incremental/{name}.json", query | {"per_page": max(count - 1, 1)})
        return len(body[name]) >= count > 1

    def tell_gaps(self) -> None:
        """HearbackError if Zendesk did not give all: said once, the position stands behind it."""
        if self.gaps:
            seconds = ", ".join(
                datetime.fromtimestamp(gap, UTC).strftime("%Y-%m-%d %H:%M:%S") for gap in self.gaps
            )
            raise HearbackError(
                f"more than {max(self.gaps.values())} changes share {seconds} UTC and Zendesk "
                "gives only the first of them; all else was captured, the next run goes on there"
            )

    def read_ratings(self, size: int) -> Iterator[Batch]:
        """Ratings changed since the newest one read; its own second is read again, not skipped."""
        place = self.position.get("satisfaction_ratings", {}).get("start_time")
        since = int(place if place is not None else self.start)
        known: set[tuple[str, int]] = set()  # ratings of the second in which two windows meet
        if not since:
            yield from self.read_rating_window({}, size, since, known)
            return
        while since < self.newest_allowed:
            end = min(since + WINDOW_SECONDS, self.newest_allowed)
            window = {"start_time": since, "end_time": end}
            yield from self.read_rating_window(window, size, since, known)
            if end < self.newest_allowed:  # a window without ratings moves the place too
                reached = int(self.position["satisfaction_ratings"]["start_time"])
                self.position["satisfaction_ratings"] = {"start_time": max(reached, end)}
            since = end

    def read_surveys(self, size: int) -> Iterator[Batch]:
        """Responses to CSAT surveys from some weeks before the last whole sweep."""
        begin = int(now())
        place = self.position.get(SURVEYS, {}).get("since")
        since = self.start if place is None else max(int(place) - SURVEY_SECONDS, self.start)
        window = {"filter[created_at_start]": since * 1000} if since else {}
        for page in self.list_pages(f"guide/{SURVEYS}", window, size, SURVEYS):
            yield Batch(SURVEYS, _records(list(page)))
        self.position[SURVEYS] = {"since": begin}
        yield Batch(SURVEYS, [], self.place())

    def read_rating_window(
        self, window: dict[str, int], size: int, newest: int, known: set[tuple[str, int]]
    ) -> Iterator[Batch]:
        """The ratings of a window but the ``known`` ones, which become those of its last second."""
        last: Batch | None = None
        met: set[tuple[str, int]] = set()
        for page in self.list_pages("satisfaction_ratings", window, size):
            if last is not None:
                yield last
            keys = {(str(row["id"]), read_second(row)): row for row in page}
            newest = max([newest, *(second for _, second in keys)])
            met |= {key for key in keys if key[1] >= window.get("end_time", newest)}
            fresh = [row for key, row in keys.items() if key not in known]
            last = Batch("satisfaction_ratings", _records(fresh))
        known.clear()
        known |= met
        self.position["satisfaction_ratings"] = {"start_time": newest}
        records = last.records if last is not None else []
        yield Batch("satisfaction_ratings", records, self.place())


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    site = find_site(source)
    audit = {"source_case_id": Field("ticket_id"), "actor_id": Field("updater_id")}
    found = [
        Mapping(
            "tickets",
            "cases",
            {
                "source_case_id": Field("id"),
                "url": Field("id", prefix=urljoin(site + "/", "agent/tickets/")),
                "channel": Field("via.channel", values=values(CHANNELS), unknown="other"),
                "subject": Field("subject"),
                "source_customer_id": Field("requester_id"),
                "submitter_id": Field("submitter_id"),
                "priority": Field("priority", values=values(PRIORITIES)),
                "status": Field("status", values=values(STATUSES), unknown="open"),
                "source_group": Field("group_id", lookup=Lookup("groups", "id", "name")),
                "assignee_id": Field("assignee_id"),
                "product": Field("custom_fields", find=("id", options.product_field, "value"))
                if options.product_field
                else Field(),
                "tags": Field("tags", "text_list"),
                "opened_at": Field("created_at", "instant"),
                "updated_at": Field("updated_at", "instant"),
            },
            required=("source_case_id",),
            ignored=(
                "url",
                "external_id",
                "type",
                "raw_subject",
                "description",
                "organization_id",
                "custom_fields",
                "satisfaction_rating",
                "brand_id",
                "is_public",
                "generated_timestamp",
                "custom_status_id",
                "recipient",
                "forum_topic_id",
                "problem_id",
                "has_incidents",
                "due_at",
                "collaborator_ids",
                "follower_ids",
                "email_cc_ids",
                "sharing_agreement_ids",
                "fields",
                "followup_ids",
                "ticket_form_id",
                "allow_channelback",
                "allow_attachments",
                "from_messaging_channel",
                "encoded_id",
                "support_type",
                "result_type",
            ),
        ),
        Mapping(
            "ticket_events",
            "messages",
            {
                "source_record_id": Field("item.id"),
                "source_case_id": Field("ticket_id"),
                "author_id": Field("item.author_id"),
                "is_public": Field("item.public", "boolean"),
                "channel": Field("via", values=values(VIA_CHANNELS), unknown="other"),
                "created_at": Field("created_at", "instant"),
                "body": Field("item.body"),
                "sequence": Field("item.id", "integer"),
            },
            explode="child_events",
            when=(When("item.event_type", ("Comment",)), When("item.body")),
            required=("source_record_id", "source_case_id"),
            ignored=("id", "timestamp", "via", "system", "event_type", "url", "metadata"),
        ),
        Mapping(
            "comments",
            "messages",
            {
                "source_record_id": Field("id"),
                "source_case_id": Field("ticket_id"),
                "author_id": Field("author_id"),
                "is_public": Field("public", "boolean"),
                "channel": Field("via.channel", values=values(VIA_CHANNELS), unknown="other"),
                "created_at": Field("created_at", "instant"),
                "body": Field("body"),
                "sequence": Field("id", "integer"),
            },
            required=("source_record_id", "source_case_id"),
            ignored=("type", "html_body", "plain_body", "audit_id", "attachments", "metadata"),
        ),
        *(
            Mapping(
                raw,
                "case_events",
                {
                    "source_event_id": Field(f"{at}id", suffix=":merged"),
                    "source_case_id": Field("ticket_id"),
                    "event_at": Field("created_at", "instant"),
                    "event_type": Field(const="merged"),
                    "actor_id": Field(f"{at}author_id"),
                    "to_value": Field(f"{at}body", pattern=MERGED),
                    "sequence": Field(f"{at}id", "integer"),
                },
                explode=explode,
                when=(When(f"{at}body", pattern=MERGED),),
                required=("source_event_id", "source_case_id"),
            )
            for raw, at, explode in (
                ("ticket_events", "item.", "child_events"),
                ("comments", "", None),
            )
        ),
        *(
            Mapping(
                "tickets",
                "vendor_metrics",
                {
                    "source_case_id": Field("id"),
                    "metric": Field(const=metric),
                    "clock": Field(const=clock),
                    "value": Field(path, "number"),
                    "updated_at": Field("updated_at", "instant"),
                },
                when=(When(path),),
                required=("source_case_id",),
            )
            for metric, clock, path in (
                *(
                    (metric, clock, f"metric_set.{field}.{clock}")
                    for metric, field in METRICS.items()
                    for clock in ("calendar", "business")
                ),
                *((count, "calendar", f"metric_set.{count}") for count in COUNTS),
            )
        ),
        *(
            Mapping(
                "ticket_events",
                "case_events",
                {
                    **audit,
                    "source_event_id": Field("item.id", suffix=f":{name}"),
                    "event_at": Field("created_at", "instant"),
                    "event_type": Field(const=event_type),
                    "from_value": Field("item.previous_value"),
                    "to_value": Field(f"item.{name}", lookup=lookup),
                    "sequence": Field("item.id", "integer"),
                },
                explode="child_events",
                when=(When("item.event_type", ("Create", "Change")), When(f"item.{name}")),
                required=("source_event_id", "source_case_id"),
            )
            for name, event_type, lookup in (
                ("status", "status_changed", None),
                ("priority", "priority_changed", None),
                ("assignee_id", "assignee_changed", None),
                ("group_id", "group_changed", Lookup("groups", "id", "name")),
                ("tags", "tags_changed", None),
                ("satisfaction_score", "rated", None),
            )
        ),
        Mapping(
            "users",
            "customers",
            {
                "source_customer_id": Field("id"),
                "external_id": Field("external_id"),
                "name": Field("name"),
                "email": Field("email"),
                "phone": Field("phone"),
                "organization": Field(
                    "organization_id", lookup=Lookup("organizations", "id", "name", is_strict=True)
                ),
                "language": Field("locale"),
                "updated_at": Field("updated_at", "instant"),
            },
            when=(When("role", ("end-user",)),),
            required=("source_customer_id",),
            ignored=(
                "id",
                "url",
                "created_at",
                "time_zone",
                "iana_time_zone",
                "locale_id",
                "role",
                "verified",
                "photo",
                "active",
                "shared",
                "tags",
                "suspended",
                "last_login_at",
                "user_fields",
                "notes",
                "details",
                "signature",
                "default_group_id",
                "shared_phone_number",
                "shared_agent",
                "alias",
                "moderator",
                "two_factor_auth_enabled",
                "ticket_restriction",
                "only_private_comments",
                "restricted_agent",
                "custom_role_id",
                "role_type",
                "report_csv",
            ),
        ),
        *map_agents(options),
        # Merged users are deleted ones; into whom they went is not told.
        map_deletion(
            "users", "customers", Field("id"),
            when=(When("role", ("end-user",)), When("active", ("false",))),
            deleted_at=Field("updated_at", "instant"),
            updated_at=Field("updated_at", "instant"),
        ),
    ]  # fmt: skip
    rating = {
        "source_response_id": Field("id"),
        "survey_id": Field(const="zendesk_satisfaction"),
        "question_id": Field(const="satisfaction"),
        "kind": Field(const="csat"),
        "scale_min": Field(const=0.0),
        "scale_max": Field(const=1.0),
        "higher_is_better": Field(const=True),
        "source_customer_id": Field("requester_id"),
        "source_case_id": Field("ticket_id"),
        "offered_at": Field("created_at", "instant"),
        "updated_at": Field("updated_at", "instant"),
    }
    score = values({"good": "1", "good_with_comment": "1", "bad": "0", "bad_with_comment": "0"})
    known = Lookup(SURVEYS, "subjects[0].id", "id", is_strict=True)
    is_alone = When("ticket_id", lookup=known, is_negated=True)
    found += [
        Mapping(
            "satisfaction_ratings",
            "survey_responses",
            {
                **rating,
                "score": Field("score", values=score),
                "comment": Field("comment"),
                "answered_at": Field("updated_at", "instant"),
            },
            when=(When("score", ANSWERED), is_alone),
            required=("source_response_id",),
            ignored=("url", "assignee_id", "group_id", "reason", "reason_id", "reason_code", "id"),
        ),
        Mapping(
            "satisfaction_ratings",
            "survey_responses",
            rating,
            when=(When("score", (*ANSWERED,), is_negated=True), is_alone),
            required=("source_response_id",),
        ),
        Mapping(
            "satisfaction_ratings",
            "feedback",
            {
                "source_record_id": Field("id", prefix="rating-"),
                "channel": Field(const="survey"),
                "source_case_id": Field("ticket_id"),
                "source_customer_id": Field("requester_id"),
                "created_at": Field("updated_at", "instant"),
                "updated_at": Field("updated_at", "instant"),
                "body": Field("comment"),
                "rating": Field("score", values=score),
                "rating_min": Field(const=0.0),
                "rating_max": Field(const=1.0),
            },
            when=(When("score", ANSWERED), When("comment"), is_alone),
            required=("source_record_id",),
        ),
    ]
    return found + map_surveys()


def map_surveys() -> list[Mapping]:
    """Answers to CSAT surveys, from 1 to 5. A survey may offer two or three of these; whether an
    answer is good is what Zendesk says of it."""
    told = {f"good:{n}": str(n if n >= 4 else 5) for n in range(1, 6)}
    told |= {f"bad:{n}": str(n if n <= 3 else 1) for n in range(1, 6)}
    told |= {f"neutral:{n}": "3" for n in range(1, 6)} | {str(n): str(n) for n in range(1, 6)}
    response = {
        "source_response_id": Field("id"),
        "survey_id": Field("survey.id", also=("survey_id",)),
        "question_id": Field(const="customer_satisfaction"),
        "kind": Field(const="csat"),
        "scale_min": Field(const=1.0),
        "scale_max": Field(const=5.0),
        "higher_is_better": Field(const=True),
        "source_customer_id": Field("responder_id"),
        "source_case_id": SURVEY_TICKET,
    }
    at = Field("item.updated_at", "instant", also=("item.created_at",))
    is_about_service = When("item.question.sub_type", ("customer_satisfaction",))
    return [
        Mapping(
            SURVEYS,
            "survey_responses",
            {
                **response,
                "score": Field(
                    "item.rating_category",
                    also=("item.rating",),
                    joined_by=":",
                    values=values(told),
                ),
                "comment": Field("answers", find=("type", "open_ended", "value")),
                "answered_at": at,
                "updated_at": at,
            },
            when=(When("item.type", ("rating_scale",)), is_about_service),
            explode="answers",
            required=("source_response_id",),
            ignored=("expires_at", "subjects", "survey_version", "url"),
        ),
        Mapping(
            SURVEYS,
            "survey_responses",
            {**response, "offered_at": Field("item.created_at", "instant")},
            when=(When("item.type", ("skipped",)), is_about_service),
            explode="answers",
            required=("source_response_id",),
        ),
        Mapping(
            SURVEYS,
            "feedback",
            {
                "source_record_id": Field("id", also=("item.question.id",), joined_by=":"),
                "channel": Field(const="survey"),
                "source_case_id": SURVEY_TICKET,
                "source_customer_id": Field("responder_id"),
                "created_at": at,
                "updated_at": at,
                "body": Field("item.value"),
            },
            when=(When("item.type", ("open_ended",)), When("item.value")),
            explode="answers",
            required=("source_record_id",),
        ),
    ]


# A response names the ticket among what it is about, in either of two spellings.
SURVEY_TICKET = Field(
    "subject_zrns.0",
    also=("subject_zrns.1", "subject_zrns.2"),
    joined_by=" ",
    pattern=r"z(?:e|r)n:ticket:(\d+)",
)


def map_agents(options: Options) -> list[Mapping]:
    """Whoever works in the desk: agents (light ones too), admins, and among them the bots."""
    is_staff = When("role", ("agent", "admin"))
    is_tagged = When("tags", pattern=BOT_TAGS)
    is_plain = When("tags", pattern=BOT_TAGS, is_negated=True)
    bots = values(dict.fromkeys(options.bots, "bot"))
    told = Field("id", values=bots, unknown="agent") if bots else Field(const="agent")
    agent = {
        "source_agent_id": Field("id"),
        "external_id": Field("external_id"),
        "name": Field("name"),
        "email": Field("email"),
        "team": Field("default_group_id", lookup=Lookup("groups", "id", "name")),
        "is_active": Field("active", "boolean"),
        "updated_at": Field("updated_at", "instant"),
    }
    return [
        Mapping("users", "agents", agent | {"role": role}, when=when, required=("source_agent_id",))
        for role, when in (
            (told, (is_staff, is_plain)),
            (Field(const="bot"), (is_staff, is_tagged)),
            (Field(const="bot"), (When("role", ("system",)),)),
        )
    ]


VIA_CHANNELS = {key.replace("_", " "): value for key, value in CHANNELS.items()} | CHANNELS | {
    "web form": "web_form", "web widget": "web_form", "mail": "email",
    "web service": "api", "web service (api)": "api",
    "voicemail": "phone", "phone call (inbound)": "phone", "phone call (outbound)": "phone",
}  # fmt: skip

KINDS = {
    "zendesk": Kind(
        "zendesk",
        "Zendesk Support: tickets, events with comments, users, organizations, ratings, surveys",
        Options,
        (
            "cases",
            "messages",
            "case_events",
            "customers",
            "agents",
            "survey_responses",
            "feedback",
            "vendor_metrics",
            "deletions",
        ),
        pull,
        mappings,
        needs_base_url=True,
        needs_connection=True,
        secrets=(
            Secret("login", "name@company/token", "e-mail of an admin: Admin Center → People"),
            Secret("password", "API token", "Admin Center → Apps and integrations → APIs"),
        ),
        check=check,
        summary_zh="Zendesk Support：工单、事件与留言、用户、组织、满意度评价、问卷",
    )
}

"""Zendesk Support: tickets, users, groups, ticket events with comments, satisfaction ratings.

Tickets and users come by the cursor export, events by the time-based export (whose pages overlap by
at least one record, because ``end_time`` is inclusive), ratings and groups by cursor lists.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError
from pipelines.mapping import Field, Lookup, Mapping, When, values
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, read_options
from pipelines.sources.http import explain_http_errors, make_client

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient

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


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    bots: list[str] = Option(default_factory=list, description="user ids that are bots")
    product_field: str | None = Option(default=None, description="id of the product custom field")
    page_size: int = Option(default=PAGE_SIZE, ge=1, le=1000)


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Every record that is new or changed since the remembered position, stream by stream."""
    from requests.auth import HTTPBasicAuth

    options = read_options(source, Options)
    connection = context.connection(source)
    if not connection.login or not connection.password:
        raise HearbackError(
            f"source {source.name!r}: connection {source.connection!r} needs a login "
            "(name@company/token) and a password (the API token)"
        )
    base_url = (source.base_url or "").rstrip("/") + "/api/v2/"
    client = make_client(base_url, HTTPBasicAuth(connection.login, connection.password))
    position = copy.deepcopy(context.position)
    start = _start_time(source)
    with explain_http_errors(source.name):
        yield from _pull_groups(client, position, options)
        for entity in ("users", "tickets"):
            yield from _pull_cursor_export(client, entity, position, start, options)
        yield from _pull_ticket_events(client, position, start)
        yield from _pull_ratings(client, position, start, options)


def _start_time(source: Source) -> int:
    if source.start is None:
        return 0
    return int(datetime.combine(source.start, time.min, UTC).timestamp())


def _records(rows: list[dict[str, Any]]) -> list[Record]:
    return [Record(str(row.get("id") or ""), row, row.get("url")) for row in rows]


def _pull_groups(client: RESTClient, position: dict[str, Any], options: Options) -> Iterator[Batch]:
    """Groups have no incremental export: read whole each time, unchanged ones are dropped later."""
    from dlt.sources.helpers.rest_client.paginators import JSONLinkPaginator

    pages = client.paginate(
        "groups.json",
        params={"page[size]": min(options.page_size, 100)},
        paginator=JSONLinkPaginator(next_url_path="links.next"),
        data_selector="groups",
    )
    for page in pages:
        yield Batch("groups", _records(list(page)), copy.deepcopy(position))


def _pull_cursor_export(
    client: RESTClient, entity: str, position: dict[str, Any], start: int, options: Options
) -> Iterator[Batch]:
    from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator

    class ExportPaginator(JSONResponseCursorPaginator):
        """The last page has a cursor too; ``end_of_stream`` says that it is the last."""

        def update_state(self, response: Any, data: list[Any] | None = None) -> None:
            super().update_state(response, data)
            if response.json().get("end_of_stream"):
                self._has_next_page = False

    params: dict[str, Any] = {"per_page": options.page_size}
    remembered = position.get(entity, {}).get("cursor")
    params |= {"cursor": remembered} if remembered else {"start_time": start}
    pages = client.paginate(
        f"incremental/{entity}/cursor.json",
        params=params,
        paginator=ExportPaginator(cursor_path="after_cursor", cursor_param="cursor"),
        data_selector=entity,
    )
    for page in pages:
        cursor = page.response.json().get("after_cursor")
        if cursor:
            position[entity] = {"cursor": cursor}
        yield Batch(entity, _records(list(page)), copy.deepcopy(position))


def _pull_ticket_events(
    client: RESTClient, position: dict[str, Any], start: int
) -> Iterator[Batch]:
    """Events by time; a page that does not move the clock is an error, not an endless loop."""
    since = int(position.get("ticket_events", {}).get("start_time", start))
    while True:
        response = client.get(
            "incremental/ticket_events.json",
            params={"start_time": since, "include": "comment_events"},
        )
        response.raise_for_status()
        body = response.json()
        end_time = body.get("end_time")
        if end_time is not None:
            position["ticket_events"] = {"start_time": int(end_time)}
        yield Batch("ticket_events", _records(body["ticket_events"]), copy.deepcopy(position))
        if body.get("end_of_stream", True) or end_time is None:
            return
        if int(end_time) <= since:
            raise HearbackError(
                f"zendesk: the ticket event export does not move past {since}: more events share "
                "that second than fit on a page; raise the page size of the export"
            )
        since = int(end_time)


def _pull_ratings(
    client: RESTClient, position: dict[str, Any], start: int, options: Options
) -> Iterator[Batch]:
    """Ratings changed since the newest one read; its own second is read again, not skipped."""
    from dlt.sources.helpers.rest_client.paginators import JSONLinkPaginator

    since = int(position.get("satisfaction_ratings", {}).get("start_time", start))
    newest = since
    pages = client.paginate(
        "satisfaction_ratings.json",
        params={"page[size]": min(options.page_size, 100)}
        | ({"start_time": since} if since else {}),
        paginator=JSONLinkPaginator(next_url_path="links.next"),
        data_selector="satisfaction_ratings",
    )
    last: Batch | None = None
    for page in pages:
        if last is not None:
            yield last
        rows = list(page)
        for row in rows:
            changed = str(row.get("updated_at") or "").replace("Z", "+00:00")
            if changed:
                newest = max(newest, int(datetime.fromisoformat(changed).timestamp()))
        last = Batch("satisfaction_ratings", _records(rows))
    if last is not None:
        position["satisfaction_ratings"] = {"start_time": newest}
        yield Batch(last.entity, last.records, copy.deepcopy(position))


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    site = source.base_url or ""
    bots = values(dict.fromkeys(options.bots, "bot"))
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
                "status": Field("status", values=values(STATUSES)),
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
                "metric_set",
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
            when=(When("item.event_type", ("Comment",)),),
            required=("source_record_id", "source_case_id"),
            ignored=("id", "timestamp", "via", "system", "event_type", "url", "metadata"),
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
                "organization_id",
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
        Mapping(
            "users",
            "agents",
            {
                "source_agent_id": Field("id"),
                "external_id": Field("external_id"),
                "name": Field("name"),
                "email": Field("email"),
                "role": Field("id", values=bots, unknown="agent") if bots else Field(const="agent"),
                "team": Field("default_group_id", lookup=Lookup("groups", "id", "name")),
                "is_active": Field("active", "boolean"),
                "updated_at": Field("updated_at", "instant"),
            },
            when=(When("role", ("agent", "admin")),),
            required=("source_agent_id",),
        ),
    ]
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
            when=(When("score", ANSWERED),),
            required=("source_response_id",),
            ignored=("url", "assignee_id", "group_id", "reason", "reason_id", "reason_code", "id"),
        ),
        Mapping(
            "satisfaction_ratings",
            "survey_responses",
            rating,
            when=(When("score", (*ANSWERED,), is_negated=True),),
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
            when=(When("score", ANSWERED), When("comment")),
            required=("source_record_id",),
        ),
    ]
    return found


VIA_CHANNELS = {key.replace("_", " "): value for key, value in CHANNELS.items()} | CHANNELS | {
    "web form": "web_form", "web service (api)": "api", "mail": "email", "web widget": "web_form",
    "voicemail": "phone", "phone call (inbound)": "phone", "phone call (outbound)": "phone",
}  # fmt: skip

KINDS = {
    "zendesk": Kind(
        "zendesk",
        "Zendesk Support: tickets, events with comments, users, groups, satisfaction ratings",
        Options,
        ("cases", "messages", "case_events", "customers", "agents", "survey_responses", "feedback"),
        pull,
        mappings,
        needs_base_url=True,
        needs_connection=True,
        secrets="login name@company/token and an API token (Admin Center → Apps and integrations)",
    )
}

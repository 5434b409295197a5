"""Brevo: contacts, and notes where they hold what customers said.

Contacts come in the order of their creation, so the next sweep begins when this one began. What the
API does not give: deleted contacts leave no trace, and chats cannot be listed; they arrive only
through Brevo's webhooks (conversationFragment, conversationTranscript).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Pairs
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError
from pipelines.mapping import Field, Mapping, When
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.http import (
    Limits,
    explain_http_errors,
    header_budget,
    open_client,
    read_number,
    retry_after,
)
from pipelines.sources.offsets import walk_offsets

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response

DEFAULT_URL = "https://api.brevo.com"
PAGE_SIZE = 1000
NOTES_PAGE_SIZE = 50
CLOCKS_APART = timedelta(minutes=1)
MOST_EMAILS = 150  # that one request adds to a list
RESET = "x-sib-ratelimit-reset"
Column = Literal[
    "name", "phone", "organization", "language", "region", "segment", "external_id", "birthday"
]


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    attributes: dict[Column, str] = Option(
        default_factory=dict, description="which attribute of a contact holds a column"
    )
    notes: bool = Option(default=False, description="notes hold what customers said: read them")


def _wait(response: Response) -> float | None:
    asked = retry_after(response)
    return read_number(response, RESET) if asked is None else asked


def _open(source: Source, context: PullContext) -> RESTClient:
    from dlt.sources.helpers.rest_client.auth import APIKeyAuth

    connection = context.connection(source)
    if not connection.password:
        raise HearbackError(
            f"source {source.name!r}: connection {source.connection!r} needs a password "
            "(the API key)"
        )
    auth = APIKeyAuth("api-key", connection.password, "header")
    budget = header_budget(("x-sib-ratelimit-remaining",), (RESET,))
    limits = Limits(wait_seconds=_wait, budget=budget)
    return open_client(source, context, "/v3", auth=auth, limits=limits, default_url=DEFAULT_URL)


def check(source: Source, context: PullContext) -> str:
    """How many contacts there are."""
    with explain_http_errors(source.name, source.connection):
        response = _open(source, context).get("contacts", params={"limit": 1, "offset": 0})
        response.raise_for_status()
        return f"{response.json()['count']:,} contacts"


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Contacts, and notes if asked for, that changed since the last sweep began."""
    options = read_options(source, Options)
    client = _open(source, context)
    position = copy.deepcopy(context.position)
    with explain_http_errors(source.name, source.connection):
        yield from _pull_contacts(client, position, source, context.now)
        if options.notes:
            yield from _pull_notes(client, position, source, context.now)


def _begin(position: dict[str, Any], entity: str, source: Source, now: datetime) -> dict[str, Any]:
    """Where a sweep stands; a new one notes when it began."""
    start = source.start and datetime.combine(source.start, time.min, UTC).isoformat()
    place: dict[str, Any] = position.setdefault(entity, {"since": start})
    if "offset" not in place:
        place["began"] = (now - CLOCKS_APART).astimezone(UTC).isoformat()
        place["newest"] = place["since"]
    return place


def _learn(place: dict[str, Any], times: list[datetime]) -> None:
    """Note the newest change; at the end of a sweep, from when the next one reads."""
    if place["newest"]:
        times = [*times, datetime.fromisoformat(place["newest"])]
    place["newest"] = max(times).isoformat() if times else None
    if "offset" in place:
        return
    newest, began = place.pop("newest"), datetime.fromisoformat(place.pop("began"))
    if newest:
        since = min(datetime.fromisoformat(newest), began)
        before = datetime.fromisoformat(place["since"]) if place["since"] else since
        place["since"] = max(since, before).isoformat()


def _pull_contacts(
    client: RESTClient, position: dict[str, Any], source: Source, now: datetime
) -> Iterator[Batch]:
    place = _begin(position, "contacts", source, now)
    since = place["since"]

    def read(offset: int) -> list[dict[str, Any]]:
        params: dict[str, Any] = {"limit": PAGE_SIZE, "offset": offset, "sort": "asc"}
        if since:
            at = datetime.fromisoformat(since).astimezone(UTC)
            params["modifiedSince"] = at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        response = client.get("contacts", params=params)
        response.raise_for_status()
        found: list[dict[str, Any]] = response.json()["contacts"]
        return found

    for rows in walk_offsets(read, "id", PAGE_SIZE, place):
        _learn(place, [_read_time(row["modifiedAt"]) for row in rows])
        records = [Record(str(row["id"]), row) for row in rows]
        yield Batch("contacts", records, copy.deepcopy(position))


def _pull_notes(
    client: RESTClient, position: dict[str, Any], source: Source, now: datetime
) -> Iterator[Batch]:
    place = _begin(position, "notes", source, now)
    since = place["since"]

    def read(offset: int) -> list[dict[str, Any]]:
        params: dict[str, Any] = {"limit": NOTES_PAGE_SIZE, "offset": offset, "sort": "asc"}
        if since:
            params["dateFrom"] = int(datetime.fromisoformat(since).timestamp()) * 1000
            params["dateTo"] = int(now.timestamp()) * 1000
        response = client.get("crm/notes", params=params)
        if response.status_code == 400 and "document_not_found" in response.text:
            return []  # this is how the API says that there are none
        response.raise_for_status()
        body = response.json()
        found: list[dict[str, Any]] = body if isinstance(body, list) else body.get("items", [])
        return found

    for rows in walk_offsets(read, "id", NOTES_PAGE_SIZE, place):
        _learn(place, [_read_time(row.get("updatedAt") or row["createdAt"]) for row in rows])
        records = [Record(str(row["id"]), row) for row in rows]
        yield Batch("notes", records, copy.deepcopy(position))


def _read_time(text: str) -> datetime:
    """ISO with an offset and three or six digits of a fraction."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    columns: dict[str, Field] = {
        "name": Field("attributes.FIRSTNAME", also=("attributes.LASTNAME",), joined_by=" "),
        "phone": Field("attributes.SMS"),
        "language": Field("attributes.LANGUAGE"),
    }
    for column, attribute in options.attributes.items():
        kind = "date" if column == "birthday" else "text"
        columns[column] = Field(("attributes", attribute), kind)  # type: ignore[arg-type]
    found = [
        Mapping(
            "contacts",
            "customers",
            {
                "source_customer_id": Field("id"),
                "email": Field("email"),
                **columns,
                "signup_at": Field("createdAt", "instant"),
                "do_not_contact": Field("emailBlacklisted", "boolean"),
                "updated_at": Field("modifiedAt", "instant"),
            },
            required=("source_customer_id",),
            ignored=("attributes", "listIds", "listUnsubscribed", "smsBlacklisted", "extId",
                     "whatsappBlacklisted"),
        )
    ]  # fmt: skip
    if options.notes:
        fields = {
            "source_record_id": Field("id", prefix="note-"),
            "channel": Field(const="other"),
            "source_customer_id": Field("contactIds.0"),
            "created_at": Field("createdAt", "instant"),
            "updated_at": Field("updatedAt", "instant", also=("createdAt",)),
            "body": Field("text"),
        }
        ignored = ("dealIds", "companyIds", "authorId", "pinned")
        when = (When("text"),)
        required = ("source_record_id",)
        found.append(
            Mapping("notes", "feedback", fields, when=when, required=required, ignored=ignored)
        )
    return found


class BrevoAudience:
    """Writes contacts and puts them on lists. Errors are those of ``explain_http_errors``."""

    def __init__(self, source: Source, context: PullContext) -> None:
        self.source = source
        self.client = _open(source, context)

    def upsert_contact(self, email: str, attributes: Pairs[str, Any]) -> None:
        """Create the contact, or change these attributes of the one with this address."""
        body = {"email": email, "attributes": dict(attributes), "updateEnabled": True}
        with explain_http_errors(self.source.name, self.source.connection):
            self.client.post("contacts", json=body).raise_for_status()

    def add_to_list(self, list_id: int, emails: Sequence[str]) -> None:
        """Put contacts on a list; those that stand on it already stay."""
        with explain_http_errors(self.source.name, self.source.connection):
            for first in range(0, len(emails), MOST_EMAILS):
                part = list(emails[first : first + MOST_EMAILS])
                path = f"contacts/lists/{list_id}/contacts/add"
                self.client.post(path, json={"emails": part}).raise_for_status()


KINDS = {
    "brevo": Kind(
        "brevo",
        "Brevo: contacts with who does not want to be written to, notes as feedback",
        Options,
        ("customers", "feedback"),
        pull,
        mappings,
        needs_connection=True,
        secrets=(Secret("password", "API key", "Settings → SMTP & API → API keys"),),
        check=check,
        default_url=DEFAULT_URL,
        summary_zh="Brevo：联系人（含不愿被联系者），备注可作为反馈",
    )
}

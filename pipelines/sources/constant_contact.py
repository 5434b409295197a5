"""Constant Contact: contacts in every state, and notes where they hold what customers said.

Deleted contacts come too, because all states are asked for. The API tells neither limits nor waits:
four requests a second are sent, and when the day's are used up it is midnight UTC that ends it.
What the API does not give: answers to surveys.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError
from pipelines.mapping import Field, Mapping, When, values
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.deletions import map_deletion
from pipelines.sources.http import (
    Limits,
    explain_http_errors,
    keep_host,
    make_token_auth,
    open_client,
)

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response

DEFAULT_URL = "https://api.cc.email"
TOKEN_HOST = "https://authz.constantcontact.com"
TOKEN_PATH = "/oauth2/default/v1/token"
PAGE_SIZE = 500
INCLUDE = "custom_fields,list_memberships,taggings,notes"
CLOCKS_APART = timedelta(minutes=1)
REFUSING = values(
    {"implicit": "false", "explicit": "false", "pending_confirmation": "false", "not_set": "false",
     "unsubscribed": "true", "temp_hold": "true", "no_permissions": "true"}
)  # fmt: skip


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    notes: bool = Option(default=False, description="notes hold what customers said")


def _wait(response: Response) -> float | None:
    """A second; to midnight UTC if the day's requests are used up."""
    if b"quota_exceeded" not in response.content:
        return 1.0
    now = datetime.now(UTC)
    midnight = datetime.combine(now.date() + timedelta(days=1), time.min, UTC)
    return (midnight - now).total_seconds()


def _open(source: Source, context: PullContext) -> RESTClient:
    from dlt.sources.helpers.rest_client.auth import BearerTokenAuth

    connection = context.connection(source)
    if not connection.password:
        raise HearbackError(
            f"source {source.name!r}: connection {source.connection!r} needs a password (an access "
            "token, or the client secret beside login and extra.refresh_token)"
        )
    limits = Limits(wait_seconds=_wait, per_second=4)
    client = open_client(source, context, "/v3", limits=limits, default_url=DEFAULT_URL)
    client.auth = BearerTokenAuth(connection.password)
    if refresh_token := connection.extra.get("refresh_token"):
        site = (source.base_url or TOKEN_HOST).rstrip("/").removesuffix("/v3")
        request = {
            "grant_type": "refresh_token",
            "client_id": connection.login or "",
            "client_secret": connection.password,
            "refresh_token": refresh_token,
        }
        client.auth = make_token_auth(client, source.connection, site + TOKEN_PATH, request)
    return client


def check(source: Source, context: PullContext) -> str:
    """Whether contacts can be read."""
    with explain_http_errors(source.name, source.connection):
        response = _open(source, context).get("contacts", params={"limit": 1, "status": "all"})
        response.raise_for_status()
    return "contacts can be read"


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Contacts that changed since the last sweep; an expired cursor begins the sweep anew."""
    from requests.exceptions import HTTPError

    client = _open(source, context)
    start = source.start and datetime.combine(source.start, time.min, UTC).isoformat()
    position = copy.deepcopy(context.position) or {"since": start}
    began = (context.now - CLOCKS_APART).astimezone(UTC).isoformat()
    if "next" not in position:
        position |= {"began": began, "newest": position["since"]}
    with explain_http_errors(source.name, source.connection):
        for attempt in range(3):
            try:
                yield from _sweep(client, position)
                return
            except HTTPError as error:
                is_refused = error.response is not None and error.response.status_code in (400, 404)
                if not is_refused or "next" not in position or attempt == 2:
                    raise
                del position["next"]
                position |= {"began": began, "newest": position["since"]}


def _sweep(client: RESTClient, position: dict[str, Any]) -> Iterator[Batch]:
    params: dict[str, Any] = {"status": "all", "limit": PAGE_SIZE, "include": INCLUDE}
    if position["since"]:
        since = datetime.fromisoformat(position["since"]) - timedelta(seconds=1)
        params["updated_after"] = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    site = str(client.base_url).removesuffix("/").removesuffix("/v3")
    while True:
        link = position.get("next")
        response = (
            client.get(keep_host(site, link)) if link else client.get("contacts", params=params)
        )
        response.raise_for_status()
        body = response.json()
        rows = body.get("contacts", [])
        link = body.get("_links", {}).get("next", {}).get("href")
        times = [datetime.fromisoformat(row["updated_at"].replace("Z", "+00:00")) for row in rows]
        if position["newest"]:
            times.append(datetime.fromisoformat(position["newest"]))
        position["newest"] = max(times).isoformat() if times else None
        if link:
            position["next"] = link
        else:
            _end_sweep(position)
        records = [Record(row["contact_id"], row) for row in rows]
        yield Batch("contacts", records, copy.deepcopy(position))
        if not link:
            return


def _end_sweep(position: dict[str, Any]) -> None:
    """The next sweep begins at the newest change, but not after this one began."""
    newest, began = position.pop("newest"), datetime.fromisoformat(position.pop("began"))
    position.pop("next", None)
    if newest:
        since = min(datetime.fromisoformat(newest), began)
        before = datetime.fromisoformat(position["since"]) if position["since"] else since
        position["since"] = max(since, before).isoformat()


def mappings(source: Source) -> list[Mapping]:
    columns = {
        "source_customer_id": Field("contact_id"),
        "name": Field("first_name", also=("last_name",), joined_by=" "),
        "email": Field("email_address.address"),
        "phone": Field("phone_numbers.0.phone_number"),
        "organization": Field("company_name"),
        "region": Field("street_addresses.0.country"),
        "signup_at": Field("created_at", "instant"),
        "updated_at": Field("updated_at", "instant"),
    }
    permission = Field(
        "email_address.permission_to_send", "boolean", values=REFUSING, unknown="true"
    )
    ignored = (
        "custom_fields", "list_memberships", "taggings", "notes", "create_source", "update_source",
        "job_title", "birthday_month", "birthday_day", "anniversary", "sms_channel",
    )  # fmt: skip
    required = ("source_customer_id",)
    found = [
        Mapping(
            "contacts",
            "customers",
            {**columns, "do_not_contact": permission},
            when=(When("deleted_at", is_negated=True),),
            required=required,
            ignored=ignored,
        ),
        Mapping(
            "contacts",
            "customers",
            {**columns, "do_not_contact": Field(const=True)},
            when=(When("deleted_at"),),
            required=required,
        ),
    ]
    found.append(
        map_deletion(
            "contacts", "customers", Field("contact_id"), when=(When("deleted_at"),),
            deleted_at=Field("deleted_at", "instant"), updated_at=columns["updated_at"],
        )
    )  # fmt: skip
    if read_options(source, Options).notes:
        fields = {
            "source_record_id": Field("item.note_id", prefix="note-"),
            "channel": Field(const="other"),
            "source_customer_id": Field("contact_id"),
            "created_at": Field("item.created_at", "instant"),
            "updated_at": Field("item.created_at", "instant"),
            "body": Field("item.content"),
        }
        when = (When("item.content"),)
        required = ("source_record_id",)
        found.append(Mapping("contacts", "feedback", fields, when, "notes[*]", required=required))
    return found


class ConstantContactAudience:
    """Writes contacts and puts them on lists. Errors are those of ``explain_http_errors``."""

    def __init__(self, source: Source, context: PullContext) -> None:
        self.source = source
        self.client = _open(source, context)

    def upsert_contact(self, email: str, first_name: str, list_ids: Sequence[str]) -> str:
        """Create or change the contact with this address, on at least these lists; its id.

        The API wants at least one list.
        """
        body = {
            "email_address": email,
            "first_name": first_name,
            "list_memberships": list(list_ids),
        }
        with explain_http_errors(self.source.name, self.source.connection):
            response = self.client.post("contacts/sign_up_form", json=body)
            response.raise_for_status()
            return str(response.json()["contact_id"])

    def add_to_list(self, list_id: str, contact_ids: Sequence[str]) -> str:
        """Have contacts put on a list; the id of the activity that does it."""
        body = {"source": {"contact_ids": list(contact_ids)}, "list_ids": [list_id]}
        with explain_http_errors(self.source.name, self.source.connection):
            response = self.client.post("activities/add_list_memberships", json=body)
            response.raise_for_status()
            return str(response.json()["activity_id"])


KINDS = {
    "constant_contact": Kind(
        "constant_contact",
        "Constant Contact: contacts with who does not want to be written to, notes as feedback",
        Options,
        ("customers", "feedback", "deletions"),
        pull,
        mappings,
        needs_connection=True,
        secrets=(
            Secret(
                "password",
                "access token, or the secret of an OAuth client",
                "app.constantcontact.com → My Applications",
            ),
            Secret(
                "login",
                "API key of the OAuth client",
                "app.constantcontact.com → My Applications",
                is_optional=True,
            ),
            Secret(
                "extra.refresh_token",
                "refresh token of the OAuth client",
                "OAuth consent of that client",
                is_optional=True,
            ),
        ),
        check=check,
        default_url=DEFAULT_URL,
        summary_zh="Constant Contact：联系人（含不愿被联系者），备注可作为反馈",
    )
}

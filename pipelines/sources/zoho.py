"""What Zoho Desk and Zoho CRM share: data centres, tokens, empty answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipelines.errors import HearbackError
from pipelines.settings import Source
from pipelines.sources.base import PullContext, Secret
from pipelines.sources.http import make_token_auth

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response

SCHEME = "Zoho-oauthtoken"
ACCOUNTS = "https://accounts.zoho.com"
CENTRE = re.compile(r"(?:^|\.)(zoho|zohoapis|zohocloud)\.(com\.cn|com\.au|com|eu|in|jp|ca|sa|uk)$")

CONSOLE = "api-console.zoho.com"


def list_secrets(scopes: str) -> tuple[Secret, ...]:
    """What a connection to a service of Zoho holds."""
    return (
        Secret("login", "client id of a server-based or self client", CONSOLE),
        Secret("password", "client secret, or without a login an access token", CONSOLE),
        Secret("extra.refresh_token", f"refresh token with the scopes {scopes}", CONSOLE),
        Secret(
            "extra.token_url",
            "where tokens come from, if not your data centre",
            CONSOLE,
            is_optional=True,
        ),
    )


def find_accounts(host: str) -> str:
    """Where the data centre of a Zoho host gives tokens; that of the United States otherwise."""
    found = CENTRE.search(host)
    if not found:
        return ACCOUNTS
    name, suffix = found.groups()
    is_canada = name == "zohocloud" or suffix == "ca"
    return f"https://accounts.{'zohocloud' if is_canada else 'zoho'}.{suffix}"


def find_site(host: str, service: str) -> str:
    """Where people see records of a service, in the data centre of a Zoho host."""
    site = find_accounts(host).replace("accounts.", f"{service}.")
    return f"{site}/{service}/tab"


def read_clock() -> datetime:
    return datetime.now(UTC)


def sign_requests(
    client: RESTClient,
    source: Source,
    context: PullContext,
    on_token: Callable[[dict[str, Any]], None] = lambda answer: None,
) -> None:
    """Give the client a token of the refresh token, or the ready one of the connection.

    Zoho gives ten tokens in ten minutes: one serves for an hour.
    """
    from dlt.sources.helpers.rest_client.auth import APIKeyAuth

    connection = context.connection(source)
    extra = connection.extra
    token = extra.get("access_token")
    if not token and not connection.login:
        token = connection.password
    if token:
        client.auth = APIKeyAuth(name="Authorization", api_key=f"{SCHEME} {token}")
        return
    refresh = extra.get("refresh_token")
    if not connection.login or not connection.password or not refresh:
        raise HearbackError(
            f"source {source.name!r}: connection {source.connection!r} needs a login (client id), "
            "a password (client secret) and extra.refresh_token, or a password alone (a ready "
            "access token)"
        )
    request = {
        "grant_type": "refresh_token",
        "client_id": connection.login,
        "client_secret": connection.password,
        "refresh_token": refresh,
    }
    host = urlsplit(client.base_url or "").netloc
    url = extra.get("token_url") or f"{find_accounts(host)}/oauth/v2/token"
    client.auth = make_token_auth(
        client, source.connection, url, request,
        scheme=SCHEME, on_token=on_token, is_stale=is_stale,
    )  # fmt: skip


def is_stale(response: Response) -> bool:
    """Whether a token has ended; one that lacks a scope is refused in the same way."""
    return response.status_code == 401 and not lacks_scope(response)


def lacks_scope(response: Response | None) -> bool:
    return "SCOPE" in read_code(response)


def read_body(response: Response) -> dict[str, Any]:
    """The JSON of an answer; ``{}`` where it says by 204 or 304 that there is none."""
    response.raise_for_status()
    if response.status_code in (204, 304) or not response.content:
        return {}
    body: dict[str, Any] = response.json()
    return body


def read_code(response: Response | None) -> str:
    """The code of a fault, such as ``OAUTH_SCOPE_MISMATCH``; empty if the answer has none."""
    try:
        body = json.loads(response.content) if response is not None else {}
        return str(body.get("errorCode") or body.get("code") or "")
    except (ValueError, AttributeError):
        return ""

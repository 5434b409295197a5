"""A REST client for API kinds: dlt's client, with faults told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipelines.errors import HearbackError

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient

MAX_WAIT_SECONDS = 3600.0  # a longer Retry-After would be cut short, so it is an error instead


def make_client(
    base_url: str, auth: Any = None, headers: dict[str, str] | None = None
) -> RESTClient:
    """A client that retries 429, 5xx and lost connections, and waits out every Retry-After."""
    from dlt.sources.helpers.requests import Client
    from dlt.sources.helpers.rest_client.client import RESTClient

    session = Client(
        request_timeout=60,
        raise_for_status=False,  # the REST client does that itself, after the retries
        request_max_attempts=8,
        request_backoff_factor=0.5,
        request_max_retry_delay=MAX_WAIT_SECONDS,
    ).session
    return RESTClient(base_url=base_url, auth=auth, headers=headers, session=session)


@contextmanager
def explain_http_errors(source: str) -> Iterator[None]:
    """Turn what a request can raise into one line: which source, what happened, what to mend."""
    from requests.exceptions import ConnectionError as ConnectError
    from requests.exceptions import HTTPError, JSONDecodeError, RequestException, Timeout

    try:
        yield
    except HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        path = urlsplit(error.response.url).path if error.response is not None else ""
        advice = {
            401: "the credentials were refused: check the login and token of its connection",
            403: "not allowed: the token lacks a scope, or the plan lacks this endpoint",
            404: "not found: check base_url",
            429: "still over the rate limit after every wait: run it later or less often",
        }.get(status, "the server failed: run it again later")
        raise HearbackError(f"source {source!r}: {status} from {path}: {advice}") from error
    except (JSONDecodeError, ValueError) as error:
        raise HearbackError(
            f"source {source!r}: the answer is not JSON ({error}); check base_url"
        ) from error
    except Timeout as error:
        raise HearbackError(
            f"source {source!r}: no answer within 60 s; check the network and base_url"
        ) from error
    except ConnectError as error:
        host = getattr(getattr(error, "request", None), "url", None) or "the server"
        raise HearbackError(
            f"source {source!r}: cannot reach {str(host).split('?')[0]}; "
            "check the network and base_url"
        ) from error
    except RequestException as error:
        raise HearbackError(f"source {source!r}: request failed: {error}") from error

"""A REST client for API kinds: dlt's client, paced as the vendor asks, faults in one line.

dlt pages, signs and retries. What it does not know is each vendor's way of saying "not now": a
``Limits`` says how to read it, and ``Pace`` sees to it that no request leaves inside a window in
which the vendor wants none.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from requests import Response
from requests.adapters import HTTPAdapter

from pipelines.errors import HearbackError

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import PreparedRequest

    from pipelines.settings import Source
    from pipelines.sources.base import PullContext

MAX_WAIT_SECONDS = 3600.0  # a longer wait is an error that names the hour: the run is not blocked
MINUTE_SECONDS = 60.0
TIMEOUT_SECONDS = 60.0
ATTEMPTS = 8
NEVER_REPEATED = (501, 505)  # what a server does not do at all
TOLD_FROM_SECONDS = 1.0  # shorter waits are not worth a line
CLOCK_MARGIN_SECONDS = 0.1  # kept behind the end of a closed window
# Secrets come from our own connections. dlt would start Airflow to look for its: 1.3 s and 100 MB.
os.environ.setdefault("PROVIDERS__ENABLE_AIRFLOW_SECRETS", "false")


@dataclass(frozen=True)
class Patience:
    """How often and how long a client made now tries, before it gives up."""

    attempts: int = ATTEMPTS
    timeout_seconds: float = TIMEOUT_SECONDS
    wait_seconds: float = MAX_WAIT_SECONDS


USUAL = Patience()
PATIENCE = ContextVar("patience", default=USUAL)


@contextmanager
def stay_brief() -> Iterator[None]:
    """Let clients give up soon: somebody sits before the terminal and waits."""
    token = PATIENCE.set(Patience(attempts=2, timeout_seconds=15.0, wait_seconds=10.0))
    try:
        yield
    finally:
        PATIENCE.reset(token)


@dataclass(frozen=True)
class Budget:
    """What the vendor says is left: requests, and seconds until there are more."""

    remaining: int
    reset_seconds: float


def read_number(response: Response, *names: str) -> float | None:
    """The first of these headers that holds a number."""
    for name in names:
        try:
            return float(response.headers[name])
        except (KeyError, ValueError):
            continue
    return None


def retry_after(response: Response) -> float | None:
    """Seconds of ``Retry-After``, which is a number or a date; None if there is none."""
    text = response.headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def header_budget(
    remaining: tuple[str, ...], reset: tuple[str, ...], *, is_unix_time: bool = False
) -> Callable[[Response], Budget | None]:
    """A reader of budget headers; ``is_unix_time``: reset is an instant, not seconds left."""

    def read(response: Response) -> Budget | None:
        left, until = read_number(response, *remaining), read_number(response, *reset)
        if left is None:
            return None
        seconds = 0.0 if until is None else until - time.time() if is_unix_time else until
        return Budget(int(left), max(seconds, 0.0))

    return read


def minute_budget(remaining: str, reset: str | None = None) -> Callable[[Response], Budget | None]:
    """A reader of what is left in this minute, for APIs that seldom say when the minute began.

    It is taken to have begun whenever the number went up. ``reset``: seconds left, where told.
    """
    began, last = time.monotonic(), -1

    def read(response: Response) -> Budget | None:
        nonlocal began, last
        left = read_number(response, remaining)
        if left is None:
            return None
        if left > last:
            began = time.monotonic()
        last = int(left)
        told = read_number(response, reset) if reset else None
        seconds = began + MINUTE_SECONDS - time.monotonic() if told is None else told
        return Budget(last, max(seconds, 0.0))

    return read


def no_budget(response: Response) -> Budget | None:
    """The budget of an API that tells none."""
    return None


@dataclass(frozen=True)
class Limits:
    """How an API says that it has had enough, and when it will listen again.

    ``is_limited``: whether an answer is a refusal for haste. ``wait_seconds``: how long such an
    answer asks to wait; None: it does not say, and the waits of dlt grow. ``budget``: what any
    answer says is left; with fewer than ``reserve`` left nothing is sent until the reset.
    ``per_second``: the most requests a second, for APIs that tell nothing.
    """

    is_limited: Callable[[Response], bool] = lambda response: response.status_code == 429
    wait_seconds: Callable[[Response], float | None] = retry_after
    budget: Callable[[Response], Budget | None] = no_budget
    reserve: int = 1
    per_second: float | None = None


class Pace:
    """When the next request may leave. ``tell`` hears of waits and of the budget that is left."""

    def __init__(self, limits: Limits, tell: Callable[[str], None] = lambda text: None) -> None:
        self.limits = limits
        self.tell = tell
        self.longest = PATIENCE.get().wait_seconds
        self.not_before = 0.0  # on the monotonic clock
        self.budget: Budget | None = None

    def wait(self) -> None:
        """Sleep until the next request may leave.

        HearbackError if that is further away than the patience of when this was made.
        """
        seconds = self.not_before - time.monotonic()
        if seconds > self.longest:
            at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(time.time() + seconds))
            raise HearbackError(f"the limit of the API is used up until {at}; run it again then")
        if seconds > 0:
            if seconds >= TOLD_FROM_SECONDS:
                self.tell(f"waiting {seconds:.0f} s for the limit of the API")
            time.sleep(seconds)
        if self.limits.per_second:
            self.delay(1 / self.limits.per_second)

    def delay(self, seconds: float) -> None:
        self.not_before = max(self.not_before, time.monotonic() + seconds)

    def stay_away(self, seconds: float) -> None:
        """Send nothing in a window that the API closed.

        Its window may begin after its answer reaches us, and its clock may round up.
        """
        if seconds > 0:
            self.delay(seconds + CLOCK_MARGIN_SECONDS)

    def learn(self, response: Response) -> None:
        """Take in what an answer says of limits."""
        if self.limits.is_limited(response):
            self.stay_away(self.limits.wait_seconds(response) or 0.0)
            return
        asked = retry_after(response) if response.status_code >= 500 else None
        if asked:
            self.stay_away(asked)
        budget = self.limits.budget(response)
        if budget is not None:
            self.budget = budget
            self.tell(f"{budget.remaining:,} requests left")
            if budget.remaining < self.limits.reserve:
                self.stay_away(budget.reset_seconds)


class PacedAdapter(HTTPAdapter):
    """Sends nothing before its pace allows it, whatever retries and paginators want."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self.pace = pace

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        self.pace.wait()
        response: Response = super().send(request, *args, **kwargs)
        self.pace.learn(response)
        return response


def is_cut_off(response: Response) -> bool:
    """Whether a JSON answer ends in the middle: the page must be asked for again."""
    if response.status_code != 200 or "json" not in response.headers.get("Content-Type", ""):
        return False
    text = response.content.rstrip()
    return bool(text) and text[:1] in b"{[" and text[-1:] not in b"}]"


def make_client(
    base_url: str,
    auth: Any = None,
    headers: dict[str, str] | None = None,
    *,
    limits: Limits | None = None,
    tell: Callable[[str], None] = lambda text: None,
    not_repeated: tuple[int, ...] = (),
) -> RESTClient:
    """A client that asks again after limits, 5xx, lost connections and pages that broke off.

    ``not_repeated``: statuses of 5xx that the caller answers with another request. What a server
    does not do at all (501, 505) is not asked for again either.
    Between attempts it waits at least as long as the answer asked for. Errors are raised by the
    REST client after the last attempt; ``explain_http_errors`` puts them into one line.
    """
    from dlt.sources.helpers.requests import Client
    from dlt.sources.helpers.requests.retry import DEFAULT_RETRY_STATUS
    from dlt.sources.helpers.rest_client.client import RESTClient

    pace, patience = Pace(limits or Limits(), tell), PATIENCE.get()

    def must_repeat(response: Response | None, error: BaseException | None) -> bool:
        return response is not None and (pace.limits.is_limited(response) or is_cut_off(response))

    session = Client(
        request_timeout=patience.timeout_seconds,
        raise_for_status=False,  # the REST client does that itself, after the retries
        request_max_attempts=patience.attempts,
        request_backoff_factor=0.5,
        request_max_retry_delay=30,
        respect_retry_after_header=False,  # the pace does, also for vendors with other headers
        retry_condition=must_repeat,
        status_codes=sorted({*DEFAULT_RETRY_STATUS} - {*not_repeated, *NEVER_REPEATED}),
    ).session
    adapter = PacedAdapter(pace)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return RESTClient(base_url=base_url, auth=auth, headers=headers, session=session)


def open_client(
    source: Source,
    context: PullContext,
    path: str = "",
    *,
    auth: Any = None,
    headers: dict[str, str] | None = None,
    limits: Limits | None = None,
    default_url: str | None = None,
    not_repeated: tuple[int, ...] = (),
) -> RESTClient:
    """``make_client`` for a source: at its base_url (else default_url) and path below it.

    A base_url that ends in the path already is taken as it is.

    Waits and the budget that is left show in the progress of the pull.
    """
    site = (source.base_url or default_url or "").rstrip("/").removesuffix(path.rstrip("/"))
    base_url = site + path
    return make_client(
        base_url, auth, headers, limits=limits, tell=context.note, not_repeated=not_repeated
    )


def keep_host(site: str, link: str) -> str:
    """A vendor's link, word for word, at the host and below the path of ``site``.

    Links of a page may be relative, or name the vendor's own host where ``site`` is a proxy.
    """
    here, there = urlsplit(site), urlsplit(link)
    rest = link[len(f"{there.scheme}://{there.netloc}") :] if there.netloc else link
    below = here.path.rstrip("/")
    if not rest.startswith(below + "/"):
        rest = f"{below}/{rest.lstrip('/')}"
    return f"{here.scheme}://{here.netloc}{rest}"


def make_token_auth(
    client: RESTClient,
    connection: str | None,
    token_url: str,
    request: dict[str, str] | Callable[[], dict[str, str]],
    *,
    scheme: str = "Bearer",
    on_token: Callable[[dict[str, Any]], None] = lambda answer: None,
    is_stale: Callable[[Response], bool] = lambda response: response.status_code == 401,
) -> OAuth2ClientCredentials:
    """Signs requests with a token from ``token_url``; asks for a new one when it is refused.

    ``request`` is the form that is sent for a token: client_id, client_secret, grant_type and
    what else the vendor wants; a function makes it anew for each token. ``scheme`` stands before
    the token in the header; ``on_token`` hears what came with one; ``is_stale`` tells the answers
    that another token may mend. HearbackError names the connection if no token is given.
    """
    from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials

    class TokenAuth(OAuth2ClientCredentials):
        def __call__(self, request: PreparedRequest) -> PreparedRequest:
            signed = super().__call__(request)
            signed.headers["Authorization"] = self.header
            signed.register_hook("response", self.renew)
            return signed

        @property
        def header(self) -> str:
            return f"{scheme} {self.access_token}"

        def renew(self, response: Response, **more: Any) -> Response:
            """Once for each request: a token may end before its time."""
            used = response.request.headers.get("Authorization")
            if not is_stale(response):
                return response
            if used == self.header:
                self.obtain_token()
            again = response.request.copy()
            again.headers["Authorization"] = self.header
            adapter = client.session.get_adapter(again.url or "")
            second: Response = adapter.send(again, **more)
            second.history.append(response)
            return second

        def obtain_token(self) -> None:
            answer = self.session.post(self.access_token_url, **self.build_access_token_request())
            if not answer.ok:
                raise HearbackError(
                    f"{answer.status_code} from {urlsplit(answer.url).path}: no token for "
                    f"these credentials{describe_connection(connection)}"
                )
            body = answer.json()
            if not body.get("access_token"):
                raise HearbackError(
                    f"{urlsplit(answer.url).path} gave no access_token"
                    f"{describe_connection(connection)}"
                )
            self.parse_native_representation(self.parse_access_token(body))
            seconds = self.parse_expiration_in_seconds(body)
            early = min(60, seconds // 2)  # no request leaves with a token that ends on its way
            self.token_expiry = self.token_expiry.now("UTC").add(seconds=seconds - early)
            on_token(body)

        def build_access_token_request(self) -> dict[str, Any]:
            return {"data": request() if callable(request) else request}

    return TokenAuth(access_token_url=token_url, session=client.session)


@dataclass(frozen=True)
class ClientSecrets:
    """What a connection holds of an OAuth client; empty texts for what it lacks."""

    client_id: str
    client_secret: str
    extra: dict[str, str]


def sign_in(
    source: Source,
    context: PullContext,
    client: RESTClient,
    ask: Callable[[ClientSecrets], tuple[str, dict[str, str]] | None],
    needs: str,
) -> Any:
    """A ready access token as it is, else tokens for what the connection holds of a client.

    ``ask`` gives the address and the form that ask for a token, or None if the connection lacks
    something: then HearbackError says what it ``needs``.
    """
    from dlt.sources.helpers.rest_client.auth import BearerTokenAuth

    connection = context.connection(source)
    extra = connection.extra
    token = extra.get("access_token") or extra.get("token")
    client_id = extra.get("client_id") or connection.login or ""
    secret = extra.get("client_secret") or connection.password or ""
    if not token and not client_id:
        token = connection.password
    if token:
        return BearerTokenAuth(token=token)
    asked = ask(ClientSecrets(client_id, secret, extra)) if client_id else None
    if asked is None:
        raise HearbackError(f"connection {connection.id!r} needs {needs}")
    return make_token_auth(client, source.connection, *asked)


def split_api(base_url: str | None, api: re.Pattern[str]) -> tuple[str, str | None]:
    """(a site without the path of its API, the version that the path names).

    ``api`` matches the path at the end of an address and has a group ``version``.
    """
    url = (base_url or "").rstrip("/")
    found = api.search(url)
    return (url[: found.start()], found["version"]) if found else (url, None)


ADVICE = {
    401: "the credentials were refused",
    403: "not allowed: the login lacks a scope, or the plan lacks this endpoint",
    404: "not found: check base_url",
    429: "still over the rate limit after every wait: run it later or less often",
}


def describe_connection(connection: str | None) -> str:
    """How an error names the connection whose secrets are to be checked."""
    return f"; check connection {connection!r}" if connection else ""


@contextmanager
def explain_http_errors(source: str, connection: str | None = None) -> Iterator[None]:
    """Turn what a request can raise into one line: which source, what happened, what to mend.

    Never shows a query string, a header or a body: secrets may be in them.
    """
    from requests.exceptions import ConnectionError as ConnectError
    from requests.exceptions import HTTPError, JSONDecodeError, RequestException, Timeout

    try:
        yield
    except HearbackError as error:
        if error.message.startswith(("source ", "connection ")):
            raise
        raise type(error)(f"source {source!r}: {error.message}") from error
    except HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        path = urlsplit(error.response.url).path if error.response is not None else ""
        advice = ADVICE.get(status, "the server failed: run it again later")
        if status in (401, 403):
            advice += describe_connection(connection)
        elif 400 <= status < 500 and status not in ADVICE:
            advice = "the server refused the request: check base_url and options"
        raise HearbackError(f"source {source!r}: {status} from {path}: {advice}") from error
    except (JSONDecodeError, ValueError) as error:
        raise HearbackError(
            f"source {source!r}: the answer is not JSON ({error}); check base_url"
        ) from error
    except Timeout as error:
        raise HearbackError(
            f"source {source!r}: no answer within {PATIENCE.get().timeout_seconds:.0f} s; "
            "check the network and base_url"
        ) from error
    except ConnectError as error:
        host = getattr(getattr(error, "request", None), "url", None) or "the server"
        raise HearbackError(
            f"source {source!r}: cannot reach {str(host).split('?')[0]}; "
            "check the network and base_url"
        ) from error
    except RequestException as error:
        kind = type(error).__name__
        raise HearbackError(f"source {source!r}: request failed ({kind}); try again") from error

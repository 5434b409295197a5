"""The paced client: waits as asked, in the vendor's unit, and says what went wrong in one line."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pipelines.errors import HearbackError
from pipelines.sources.http import (
    Limits,
    explain_http_errors,
    header_budget,
    keep_host,
    make_client,
    retry_after,
)
from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer


class Echo(VendorServer):
    """Answers every request with a list of one."""

    def allows(self, request: Request) -> bool:
        return request.headers.get("authorization") != "Bearer wrong"

    def respond(self, request: Request) -> Answer:
        return Answer({"rows": [{"id": 1}]}, headers=self.answer_headers)

    answer_headers: dict[str, str] = {}  # noqa: RUF012


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        assert isinstance(server, Echo)
        yield server


def test_retry_after_in_seconds_is_kept_to_the_letter(echo: Echo) -> None:
    echo.limit("/a", Answer(b"slow down", 429, {"Retry-After": "2"}), seconds=2)
    told: list[str] = []
    response = make_client(echo.url, tell=told.append).get("/a")
    assert response.json() == {"rows": [{"id": 1}]}
    assert echo.violations == []
    assert any("waiting" in text for text in told)


def test_retry_after_as_a_date_is_read(echo: Echo) -> None:
    client = make_client(echo.url)
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
    echo.limit("/a", Answer(b"", 503, {"Retry-After": date}), seconds=0.9)
    assert client.get("/a").ok
    assert echo.violations == []


def test_reset_as_unix_time_is_read(echo: Echo) -> None:
    limits = Limits(
        wait_seconds=lambda response: float(response.headers["X-RateLimit-Reset"]) - time.time()
    )
    client = make_client(echo.url, limits=limits)
    reset = str(int(time.time()) + 2)
    answer = Answer(b"", 429, {"X-RateLimit-Reset": reset})
    echo.limit("/a", answer, seconds=float(reset) - time.time() - 0.05)
    assert client.get("/a").ok
    assert echo.violations == []


def test_nothing_is_sent_when_the_budget_is_used_up(echo: Echo) -> None:
    echo.answer_headers = {"X-Left": "0", "X-Reset": "1"}
    limits = Limits(budget=header_budget(("X-Left",), ("X-Reset",)))
    client = make_client(echo.url, limits=limits)
    begin = time.monotonic()
    client.get("/a")
    client.get("/b")
    assert time.monotonic() - begin >= 1
    assert echo.requests[1].at - echo.requests[0].at >= 1


def test_requests_keep_their_distance(echo: Echo) -> None:
    client = make_client(echo.url, limits=Limits(per_second=10))
    for _ in range(4):
        client.get("/a")
    # One request may reach the server's clock late; all of them do not.
    assert echo.requests[-1].at - echo.requests[0].at >= 3 * 0.08


def test_a_limit_that_lasts_too_long_is_an_error(echo: Echo) -> None:
    echo.fail("/a", Answer(b"", 429, {"Retry-After": "86400"}))
    with (
        pytest.raises(HearbackError, match=r"^source 's': the limit of the API is used up until"),
        explain_http_errors("s"),
    ):
        make_client(echo.url).get("/a")
    assert len(echo.requests) == 1


def test_a_403_that_means_haste_is_waited_out(echo: Echo) -> None:
    limits = Limits(
        is_limited=lambda response: response.status_code == 403 and b"LIMIT" in response.content
    )
    echo.fail("/a", Answer([{"errorCode": "REQUEST_LIMIT_EXCEEDED"}], 403), times=2)
    assert make_client(echo.url, limits=limits).get("/a").ok


@pytest.mark.parametrize("cut", [0, 5, 14])
def test_a_page_that_breaks_off_is_asked_for_again(echo: Echo, cut: int) -> None:
    echo.fail("/a", cut=cut, times=2)
    assert make_client(echo.url).get("/a").json() == {"rows": [{"id": 1}]}
    assert len(echo.requests) == 3


def test_half_a_json_that_claims_to_be_whole_is_asked_for_again(echo: Echo) -> None:
    echo.fail("/a", Answer(b'{"rows": [{"id"', 200, {"Content-Type": "application/json"}))
    assert make_client(echo.url).get("/a").json() == {"rows": [{"id": 1}]}


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "the credentials were refused; check connection 'c'"),
        (403, "lacks a scope, or the plan lacks this endpoint; check connection 'c'"),
        (404, "not found: check base_url"),
        (422, "the server refused the request: check base_url and options"),
    ],
)
def test_refusals_are_told_in_one_line(echo: Echo, status: int, told: str) -> None:
    echo.fail("/a", Answer(b"secret=1", status), times=99)
    with pytest.raises(HearbackError) as caught, explain_http_errors("s", "c"):
        make_client(echo.url).get("/a", params={"key": "secret"}).raise_for_status()
    assert caught.value.message.startswith(f"source 's': {status} from /a: ")
    assert told in caught.value.message
    assert "secret" not in caught.value.message


def test_retry_after_that_is_neither_is_none() -> None:
    from requests import Response

    response = Response()
    response.headers["Retry-After"] = "soon"
    assert retry_after(response) is None


@pytest.mark.parametrize(
    ("site", "link", "url"),
    [
        ("https://a.example", "/data/x?y=%2C1", "https://a.example/data/x?y=%2C1"),
        ("https://a.example/", "data/x", "https://a.example/data/x"),
        (
            "http://proxy:1/crm",
            "https://a.example/data/x?$y='z'",
            "http://proxy:1/crm/data/x?$y='z'",
        ),
        ("http://proxy:1/crm", "http://proxy:1/crm/data", "http://proxy:1/crm/data"),
    ],
)
def test_links_stay_at_the_host_of_the_source(site: str, link: str, url: str) -> None:
    assert keep_host(site, link) == url


def test_a_client_does_not_start_airflow() -> None:
    code = (
        "import sys; from pipelines.sources.http import make_client; "
        "make_client('http://127.0.0.1:9'); print('airflow' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"

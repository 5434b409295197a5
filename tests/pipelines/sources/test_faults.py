"""What every kind that asks a server must survive, obey or say, on its own strict server.

Each kind's tests have a server and a ``source_of`` that reads it. A kind may have more tests of
what is its own; these hold for all.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipelines.errors import HearbackError
from pipelines.settings import Source
from pipelines.sources import MODULES, find_kind
from tests.pipelines.sources.pulling import ids, pull_all, pull_committed
from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

FOLDER = Path(__file__).parent
SECONDS = 1


def has_server(stem: str) -> bool:
    """Whether the tests of a kind have a server of the vendor's ways."""
    path = FOLDER / stem / "server.py"
    bases = ("(VendorServer):", "(ZohoServer):")
    return path.is_file() and any(base in path.read_text(encoding="utf-8") for base in bases)


# What the source of a kind needs besides its server.
ENDPOINTS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "rest": lambda module: (module.STAFF, module.SALES),
}
STEMS = sorted(stem for stem in set(MODULES.values()) if has_server(stem))


def find_fixture(module: ModuleType) -> Callable[..., Iterator[Any]]:
    """The function behind the fixture that gives the server: the first of the module."""
    for value in vars(module).values():
        unwrap = getattr(value, "_get_wrapped_function", None)
        if unwrap and "Iterator" in str(inspect.signature(unwrap()).return_annotation):
            found: Callable[..., Iterator[Any]] = unwrap()
            return found
    raise AssertionError(f"{module.__name__} has no fixture with its server")


@contextmanager
def open_server(stem: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Source]]:
    """A kind's server and a source that reads it."""
    module = import_module(f"tests.pipelines.sources.{stem}.test_{stem}")
    fixture = find_fixture(module)
    given = {"monkeypatch": monkeypatch} if inspect.signature(fixture).parameters else {}
    running = fixture(**given)
    server = next(running)
    assert isinstance(server, VendorServer)
    try:
        yield server, module.source_of(server, *ENDPOINTS.get(stem, lambda _: ())(module))
    finally:
        next(running, None)


def pull_ids(source: Source, folder: Path) -> dict[str, set[str]]:
    folder.mkdir()
    found, _ = pull_all(source, folder)
    return {entity: ids(found, entity) for entity in found if found[entity]}


@pytest.mark.parametrize("stem", STEMS)
def test_a_server_in_trouble_and_a_page_cut_off_lose_nothing(
    stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_server(stem, monkeypatch) as (server, source):
        whole = pull_ids(source, tmp_path / "whole")
        count = len(server.requests)
    assert any(whole.values())
    with open_server(stem, monkeypatch) as (server, source):
        server.fail("", Answer(b"", 503))
        server.fail("", cut=25, skip=1)
        server.fail("", Answer(b"", 502), skip=2)
        assert pull_ids(source, tmp_path / "faults") == whole
        assert len(server.requests) > count


# What is asked for each record, or far behind: the first requests do not reach it.
DEEPER: dict[str, tuple[str, ...]] = {
    "chatwoot": ("/contacts", "/conversations", "/messages", "/csat_survey_responses"),
    "freshdesk": ("/tickets", "/contacts", "/conversations"),
    "helpscout": ("/conversations", "/customers", "/threads", "/ratings"),
    "zoho_crm": ("/Contacts", "/Cases", "/1001/__timeline", "/users", "/Contacts/deleted"),
    "zoho_desk": ("/search", "/threads/501", "/1001/conversations", "/1001/History", "/customerH"),
}
DEEP_STEMS = sorted(DEEPER)


@pytest.mark.parametrize("stem", DEEP_STEMS)
def test_what_is_asked_for_each_record_survives_faults_of_the_server(
    stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_server(stem, monkeypatch) as (server, source):
        whole = pull_ids(source, tmp_path / "whole")
    with open_server(stem, monkeypatch) as (server, source):
        for path in DEEPER[stem][::2]:
            server.fail(path, Answer(b"<html>Bad gateway</html>", 502))
        for path in DEEPER[stem][1::2]:
            server.fail(path, cut=30)
        assert pull_ids(source, tmp_path / "faults") == whole
        assert [fault.path for fault in server.faults if fault.times] == []


@pytest.mark.parametrize("stem", STEMS)
def test_no_request_leaves_in_a_window_that_is_closed(
    stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_server(stem, monkeypatch) as (server, source):
        whole = pull_ids(source, tmp_path / "whole")
    with open_server(stem, monkeypatch) as (server, source):
        make = REFUSALS.get(stem, refuse)
        server.limit("", make(), seconds=SECONDS - 0.1)
        assert pull_ids(source, tmp_path / "limits") == whole
        assert server.violations == []


def refuse() -> Answer:
    return Answer(b"", 429, {"Retry-After": str(SECONDS)})


# How vendors refuse that do not tell seconds in Retry-After.
REFUSALS: dict[str, Callable[[], Answer]] = {
    "brevo": lambda: Answer({}, 429, {"x-sib-ratelimit-reset": str(SECONDS)}),
    "intercom": lambda: Answer({}, 429, {"X-RateLimit-Reset": str(time.time() + SECONDS)}),
}


# The feeds of rss are open on loopback, as most are.
WITH_SECRETS = [stem for stem in STEMS if stem != "rss" and find_kind(stem).secrets]


@pytest.mark.parametrize("stem", WITH_SECRETS)
def test_wrong_credentials_are_one_line_that_names_the_connection(
    stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_server(stem, monkeypatch) as (_, source):
        right = json.loads(os.environ["AIRFLOW_CONN_DESK"])
        wrong = right | {"password": "mistyped-secret"}
        if "refresh_token" in right.get("extra", {}):
            wrong["extra"] = right["extra"] | {"refresh_token": "mistyped-secret"}
        monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(wrong))
        with pytest.raises(HearbackError, match=r"^source 'desk': ") as caught:
            pull_ids(source, tmp_path / "wrong")
    message = caught.value.message
    assert "connection 'desk'" in message
    assert "\n" not in message
    assert "mistyped-secret" not in message


@pytest.mark.parametrize("stem", WITH_SECRETS)
def test_a_token_that_expired_meanwhile_is_told_and_the_next_pull_loses_nothing(
    stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_server(stem, monkeypatch) as (server, source):
        whole = pull_ids(source, tmp_path / "whole")
        count = len(server.requests)
    with open_server(stem, monkeypatch) as (server, source):
        refusal = server.refuse(Request("GET", "/", {}, {}, None, 0.0))
        server.fail("", refusal, skip=count // 2, times=10**6)
        first, position, told = pull_committed(source, tmp_path, {})
        assert told.startswith("source 'desk': ")
        assert "connection 'desk'" in told
        server.faults.clear()
        second, _, told = pull_committed(source, tmp_path, position)
    assert told == "nothing"
    empty: set[str] = set()
    assert {name: first.get(name, empty) | second.get(name, empty) for name in whole} == whole


# What a vendor answers where the login lacks a right or the plan lacks the list: the path below
# which it does so, and its words.
FORBIDDEN: dict[str, tuple[str, Answer]] = {
    "brevo": ("/contacts", Answer({"code": "permission_denied", "message": "no"}, 403)),
    "constant_contact": (
        "/contacts",
        Answer({"error_key": "forbidden", "error_message": "Insufficient scope"}, 403),
    ),
    "discourse": (
        "/posts.json",
        Answer({"errors": ["You are not permitted"], "error_type": "invalid_access"}, 403),
    ),
    "github_issues": (
        "/comments",
        Answer({"message": "Resource not accessible by personal access token"}, 403),
    ),
    "google_forms": (
        "/responses",
        Answer({"error": {"code": 403, "message": "no", "status": "PERMISSION_DENIED"}}, 403),
    ),
    "mailchimp": (
        "/members",
        Answer(
            {"title": "Forbidden", "status": 403}, 403, {"Content-Type": "application/problem+json"}
        ),
    ),
    "rest": ("/staff", Answer({"error": "insufficient_scope"}, 403)),
    "surveymonkey": (
        "/bulk",
        Answer({"error": {"id": "1014", "name": "Permission Error"}}, 403),
    ),
    "typeform": ("/responses", Answer({"code": "FORBIDDEN", "description": "no"}, 403)),
}
WITH_RIGHTS = sorted(FORBIDDEN)


@pytest.mark.parametrize("stem", WITH_RIGHTS)
def test_what_the_login_may_not_read_is_one_line_that_names_the_connection(
    stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, answer = FORBIDDEN[stem]
    with open_server(stem, monkeypatch) as (server, source):
        whole = pull_ids(source, tmp_path / "whole")
    with open_server(stem, monkeypatch) as (server, source):
        server.fail(path, answer, times=10**6)
        first, position, told = pull_committed(source, tmp_path, {})
        assert re.match(rf"source 'desk': 403 from \S*{path}\S*: not allowed", told)
        assert told.endswith("connection 'desk'")
        assert sum(path in request.path for request in server.requests) == 1
        server.faults.clear()
        second, _, _ = pull_committed(source, tmp_path, position)
    empty: set[str] = set()
    assert {name: first.get(name, empty) | second.get(name, empty) for name in whole} == whole

"""GitHub issues: rows that change while pages are read, both limits, and every column."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError, UsageError
from pipelines.settings import Source
from pipelines.sources import github_issues
from tests.pipelines.sources.github_issues.server import REPOSITORY, TOKEN, GitHub
from tests.pipelines.sources.pulling import (
    ids,
    latest,
    make_context,
    make_source,
    one,
    pull_all,
    pull_stopping,
    stage,
)
from tests.pipelines.sources.vendor_server import Answer, Request

PAYLOADS = Path(__file__).parent / "payloads"
SECRETS = json.dumps({"password": TOKEN})
Rows = dict[str, list[dict[str, Any]]]


def make_server() -> GitHub:
    return GitHub(
        {path.stem: json.loads(path.read_text("utf-8")) for path in PAYLOADS.glob("*.json")}
    )


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", SECRETS)
    server = make_server()
    yield server
    server.close()


def source_of(github: GitHub, **options: Any) -> Source:
    return make_source(
        "github_issues", github.url, options={"repositories": [REPOSITORY], **options}
    )


def add_issues(github: GitHub, count: int, moment: str) -> set[str]:
    base = one(github.data["issues"], id=9003)
    new = [base | {"id": n, "updated_at": moment.format(n)} for n in range(10, 10 + count)]
    github.data["issues"] += new
    return {str(row["id"]) for row in new}


def test_the_first_load_has_open_and_closed_issues_without_pull_requests(
    github: GitHub, tmp_path: Path
) -> None:
    found, _ = pull_all(source_of(github), tmp_path)
    assert ids(found, "issues") == {"9001", "9003"}


def test_comments_of_pull_requests_are_left_out(github: GitHub, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(github), tmp_path)
    assert ids(found, "comments") == {"701", "703"}


def test_events_of_pull_requests_are_left_out(github: GitHub, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(github), tmp_path)
    assert ids(found, "events") == {"11", "12", "14"}


def test_an_issue_is_kept_as_it_was_sent(github: GitHub, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(github), tmp_path)
    assert latest(found, "issues")["9001"] == one(github.data["issues"], id=9001)


def test_a_second_pull_gives_what_changed(github: GitHub, tmp_path: Path) -> None:
    source = source_of(github)
    _, position = pull_all(source, tmp_path)
    one(github.data["issues"], id=9001).update(state="open", updated_at="2026-11-20T08:00:00Z")
    found, _ = pull_all(source, tmp_path, position)
    assert latest(found, "issues")["9001"]["state"] == "open"


def test_what_has_not_changed_costs_nothing(github: GitHub, tmp_path: Path) -> None:
    source = source_of(github)
    _, position = pull_all(source, tmp_path)
    _, position = pull_all(source, tmp_path, position)
    found, _ = pull_all(source, tmp_path, position)
    assert found == {}


def test_an_issue_that_changes_while_pages_are_read_hides_no_other(
    github: GitHub, tmp_path: Path
) -> None:
    wanted = add_issues(github, 8, "2026-11-10T00:00:{}Z")
    moved: list[str] = []

    def move(request: Request) -> None:
        if "T00:00:11Z" in request.query.get("since", "") and not moved:
            one(github.data["issues"], id=10)["updated_at"] = "2026-11-11T00:00:00Z"
            moved.append("10")

    github.on_page = move
    found, _ = pull_all(source_of(github), tmp_path)
    assert (ids(found, "issues") >= wanted, moved) == (True, ["10"])


def test_more_issues_of_one_second_than_a_page_holds(github: GitHub, tmp_path: Path) -> None:
    wanted = add_issues(github, 7, "2026-11-10T00:00:00Z")
    found, _ = pull_all(source_of(github), tmp_path)
    assert ids(found, "issues") >= wanted


def test_a_pull_stopped_after_any_batch_loses_nothing(github: GitHub, tmp_path: Path) -> None:
    wanted = add_issues(github, 8, "2026-11-10T00:00:{}Z")
    assert ids(pull_stopping(source_of(github), tmp_path), "issues") == wanted | {"9001", "9003"}


REFUSALS = {
    "primary": lambda: Answer(
        {"message": "API rate limit exceeded"},
        403,
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + 2)},
    ),
    "secondary": lambda: Answer(
        {"message": "You have exceeded a secondary rate limit"}, 403, {"Retry-After": "1"}
    ),
    "429": lambda: Answer({"message": "slow"}, 429, {"Retry-After": "1"}),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_no_request_leaves_inside_a_limit(github: GitHub, tmp_path: Path, kind: str) -> None:
    github.limit("/comments", REFUSALS[kind](), 0.9)
    found, _ = pull_all(source_of(github), tmp_path)
    assert (ids(found, "comments"), github.violations) == ({"701", "703"}, [])


def test_faults_of_the_server_are_survived(github: GitHub, tmp_path: Path) -> None:
    github.fail("/issues", Answer({}, 502))
    github.fail("/events", cut=30)
    found, _ = pull_all(source_of(github), tmp_path)
    assert ids(found, "events") == {"11", "12", "14"}


def test_wrong_credentials_name_the_connection(
    github: GitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"password": "wrong-token"}')
    with pytest.raises(HearbackError, match=r"401 .*connection 'desk'") as caught:
        pull_all(source_of(github), tmp_path)
    assert "wrong-token" not in caught.value.message


def test_a_repository_that_is_not_there_is_named(github: GitHub, tmp_path: Path) -> None:
    with pytest.raises(HearbackError, match=r"no repository acme/pan.*'desk'"):
        pull_all(source_of(github, repositories=["acme/pan"]), tmp_path)


def test_a_repository_without_issues_is_passed_over(github: GitHub, tmp_path: Path) -> None:
    github.has_issues = False
    told: list[str] = []
    pull_all(source_of(github), tmp_path, progress=lambda text, rows: told.append(text))
    assert told == ["desk: the issues of acme/kettle are switched off"]


def test_pages_that_expired_end_the_events_with_a_note(github: GitHub, tmp_path: Path) -> None:
    """GitHub bounds how far back one may page."""
    whole, _ = pull_all(source_of(github), tmp_path)
    limit = Answer({"message": "In order to keep the API fast, pagination is limited"}, 422)
    github.fail("/issues/events", limit, skip=1, times=9)
    told: list[str] = []
    source = source_of(github)
    found, position = pull_all(source, tmp_path, progress=lambda text, rows: told.append(text))
    assert set() < ids(found, "events") < ids(whole, "events")
    assert told == [f"desk: GitHub gives no older events of repos/{REPOSITORY}/issues/events"]
    assert position[REPOSITORY]["events"]["id"] == max(map(int, ids(whole, "events")))


def test_a_name_that_is_no_repository_is_refused(github: GitHub, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'kettle' is not owner/name"):
        pull_all(source_of(github, repositories=["kettle"]), tmp_path)


def test_check_tells_what_answered(github: GitHub, tmp_path: Path) -> None:
    assert github_issues.check(source_of(github), make_context(tmp_path)) == REPOSITORY


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    server = make_server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_DESK", SECRETS)
        source = source_of(server, priorities={"P1": "urgent"})
        found = stage(tmp_path_factory.mktemp("github"), source)
    server.close()
    return found


CASE = "acme/kettle/issues/1"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("channel", "forum"),
        ("subject", "App crashes on pairing"),
        ("source_customer_id", "52"),
        ("priority", "urgent"),
        ("status", "closed"),
        ("assignee_id", "7"),
        ("product", "kettle"),
        ("tags", ["P1", "bug"]),
        ("url", "https://github.com/acme/kettle/issues/1"),
        ("opened_at", datetime(2026, 11, 1, 8, tzinfo=UTC)),
        ("updated_at", datetime(2026, 11, 3, 8, tzinfo=UTC)),
    ],
)
def test_an_issue_as_a_case(rows: Rows, column: str, value: Any) -> None:
    assert one(rows["cases"], source_case_id=CASE)[column] == value


@pytest.mark.parametrize(
    ("message", "role", "body"),
    [
        ("issue-9001", "customer", "It crashes when I pair the kettle."),
        ("issue-9003", "customer", "希望支持深色模式"),
        ("701", "agent", "Which phone is it?"),
        ("703", "bot", "Still there?"),
    ],
)
def test_who_wrote_what(rows: Rows, message: str, role: str, body: str) -> None:
    row = one(rows["messages"], source_record_id=message)
    assert (row["author_role"], row["body"]) == (role, body)


def test_a_comment_belongs_to_its_case(rows: Rows) -> None:
    assert one(rows["messages"], source_record_id="701")["source_case_id"] == CASE


@pytest.mark.parametrize(
    ("event", "event_type", "before", "after"),
    [
        ("created-9001", "created", None, None),
        ("11", "tags_changed", None, "bug"),
        ("12", "assignee_changed", None, "7"),
        ("14", "status_changed", "open", "closed"),
    ],
)
def test_what_happened_to_a_case(
    rows: Rows, event: str, event_type: str, before: str | None, after: str | None
) -> None:
    row = one(rows["case_events"], source_event_id=event)
    assert (row["event_type"], row["from_value"], row["to_value"]) == (event_type, before, after)


def test_customers(rows: Rows) -> None:
    assert {row["name"] for row in rows["customers"]} == {"lena", "linxiao"}


def test_agents_and_bots(rows: Rows) -> None:
    assert {row["name"]: row["role"] for row in rows["agents"]} == {
        "ada": "agent",
        "stale[bot]": "bot",
    }

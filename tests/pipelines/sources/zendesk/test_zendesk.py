"""Zendesk: pages that repeat or time out, cursors that end, every column that comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError
from pipelines.mapping import used_fields
from pipelines.settings import Source
from pipelines.sources import find_kind, zendesk
from pipelines.sources.base import Batch
from tests.pipelines.sources.pulling import (
    ids,
    latest,
    make_context,
    make_source,
    one,
    pull_all,
    pull_stopping,
    quarantined,
    read_batch,
    stage,
)
from tests.pipelines.sources.vendor_server import Answer, Request
from tests.pipelines.sources.zendesk.server import API, LOGIN, TOKEN, Zendesk

PAYLOADS = Path(__file__).parent / "payloads"
BY_KEY = json.dumps({"login": LOGIN, "password": TOKEN})
Rows = list[dict[str, Any]]


def load() -> dict[str, Rows]:
    return {path.stem: json.loads(path.read_text("utf-8")) for path in PAYLOADS.glob("*.json")}


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zendesk]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", BY_KEY)
    with Zendesk(load()) as server:
        assert isinstance(server, Zendesk)
        yield server


def source_of(desk: Zendesk, **more: Any) -> Source:
    return make_source("zendesk", desk.url, **more)


def all_ids(desk: Zendesk) -> dict[str, set[str]]:
    return {name: {str(row["id"]) for row in rows} for name, rows in desk.rows.items()}


# Reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1000, 2])
def test_the_first_load_has_every_record(desk: Zendesk, tmp_path: Path, most: int) -> None:
    desk.most = most
    found, _ = pull_all(source_of(desk), tmp_path)
    assert {name: ids(found, name) for name in desk.rows} == all_ids(desk)
    assert desk.violations == []


def test_tickets_come_with_their_metrics(desk: Zendesk, tmp_path: Path) -> None:
    found, _ = pull_all(make_source("zendesk", desk.url + API), tmp_path)
    assert latest(found, "tickets")["1"] == desk.rows["tickets"][0]


@pytest.mark.parametrize(
    "secret",
    [
        {"login": "me@desk.example", "password": TOKEN},
        {"password": TOKEN},
        {"extra": {"token": TOKEN}},
    ],
)
def test_ways_to_sign_in(
    desk: Zendesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: dict[str, Any]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(secret))
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "tickets") == all_ids(desk)["tickets"]


def test_the_second_pull_gives_what_changed(desk: Zendesk, tmp_path: Path) -> None:
    _, position = pull_all(source_of(desk), tmp_path)
    desk.rows["tickets"][0]["updated_at"] = "2026-09-24T11:00:00Z"
    desk.requests.clear()
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert ids(found, "tickets") == {"1"}
    assert ids(found, "ticket_events") == {"1005"}
    assert ids(found, "satisfaction_ratings") == {"303"}
    assert desk.violations == []


def test_start_bounds_the_first_load_and_ratings_come_in_windows(
    desk: Zendesk, tmp_path: Path
) -> None:
    found, _ = pull_all(source_of(desk, start="2026-09-21"), tmp_path)
    assert ids(found, "tickets") == {"2", "3", "4"}
    assert ids(found, "satisfaction_ratings") == {"302", "303"}
    assert desk.violations == []
    assert desk.counts()[f"{API}/satisfaction_ratings.json"] >= 3


@pytest.mark.parametrize("start", [None, "2026-09-01"])
def test_a_pull_that_is_stopped_after_any_batch_loses_nothing(
    desk: Zendesk, tmp_path: Path, start: str | None
) -> None:
    desk.most = 2
    found = pull_stopping(source_of(desk, start=start), tmp_path)
    wanted = all_ids(desk)
    if start:
        wanted.pop("organizations")
    assert {name: ids(found, name) for name in wanted} == wanted


def test_a_ticket_that_changes_while_pages_are_read_comes_at_its_latest(
    desk: Zendesk, tmp_path: Path
) -> None:
    desk.most = 2

    def change(request: Request) -> None:
        if desk.counts()[f"{API}/incremental/tickets/cursor.json"] == 2:
            row = desk.rows["tickets"][0]
            row |= {"subject": "Changed", "updated_at": "2026-09-24T11:00:00Z"}

    desk.on_page = change
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "tickets") == all_ids(desk)["tickets"]
    assert latest(found, "tickets")["1"]["subject"] == "Changed"


def test_a_cursor_that_is_no_longer_known_gives_way_to_its_time(
    desk: Zendesk, tmp_path: Path
) -> None:
    _, position = pull_all(source_of(desk), tmp_path)
    desk.rows["tickets"][0]["updated_at"] = "2026-09-24T11:00:00Z"
    desk.is_cursor_known = False
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert ids(found, "tickets") == {"1", "4"}


def test_a_page_that_takes_too_long_is_asked_for_in_halves(desk: Zendesk, tmp_path: Path) -> None:
    desk.slow_from = 300
    found, _ = pull_all(source_of(desk), tmp_path)
    assert {name: ids(found, name) for name in desk.rows} == all_ids(desk)
    asked = [r.query.get("per_page") for r in desk.requests if "tickets/cursor" in r.path]
    assert asked == ["1000", "500", "250"]


@pytest.mark.parametrize("count", [999, 1000, 1001, 2500])
@pytest.mark.parametrize("page_size", [1000, 50])
def test_a_second_fuller_than_a_page_is_read_whole_and_passed(
    desk: Zendesk, tmp_path: Path, count: int, page_size: int
) -> None:
    event = desk.rows["ticket_events"][2]
    desk.rows["ticket_events"] += [event | {"id": 5000 + n} for n in range(count - 1)]
    found, position = pull_all(source_of(desk, options={"page_size": page_size}), tmp_path)
    assert ids(found, "ticket_events") == all_ids(desk)["ticket_events"]
    again, _ = pull_all(source_of(desk), tmp_path, position)
    assert ids(again, "ticket_events") == {"1005"}
    assert desk.violations == []


@pytest.mark.parametrize("most", [2, 1000])
def test_a_row_in_which_two_pages_meet_comes_once(desk: Zendesk, tmp_path: Path, most: int) -> None:
    desk.most = most
    found, _ = pull_all(source_of(desk), tmp_path)
    for name in ("ticket_events", "organizations"):
        assert {key: len(rows) for key, rows in found[name].items()} == dict.fromkeys(
            all_ids(desk)[name], 1
        )


def test_a_rating_in_which_two_windows_meet_comes_once(desk: Zendesk, tmp_path: Path) -> None:
    meet = datetime.fromtimestamp(
        at("2026-08-01T00:00:00").timestamp() + zendesk.WINDOW_SECONDS, UTC
    ).strftime("%Y-%m-%dT%H:%M:%SZ")
    rating = desk.rows["satisfaction_ratings"][0] | {"created_at": meet, "updated_at": meet}
    desk.rows["satisfaction_ratings"] += [rating | {"id": 900 + n} for n in range(150)]
    found, _ = pull_all(source_of(desk, start="2026-08-01"), tmp_path)
    assert {key: len(rows) for key, rows in found["satisfaction_ratings"].items()} == dict.fromkeys(
        all_ids(desk)["satisfaction_ratings"], 1
    )
    assert desk.violations == []


def test_a_rating_that_joins_the_second_read_last_is_not_missed(
    desk: Zendesk, tmp_path: Path
) -> None:
    _, position = pull_all(source_of(desk), tmp_path)
    newest = max(desk.rows["satisfaction_ratings"], key=lambda row: str(row["updated_at"]))
    desk.rows["satisfaction_ratings"].append(newest | {"id": 2000})
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert ids(found, "satisfaction_ratings") == {str(newest["id"]), "2000"}


def test_tickets_of_ai_agents_are_read_too(desk: Zendesk, tmp_path: Path) -> None:
    desk.rows["tickets"][1]["support_type"] = "ai_agent"
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "tickets") == all_ids(desk)["tickets"]


def test_a_second_that_is_cut_is_told_once_and_passed(desk: Zendesk, tmp_path: Path) -> None:
    desk.pages_grow = False
    event = desk.rows["ticket_events"][0]
    desk.rows["ticket_events"] += [event | {"id": 5000 + n} for n in range(1100)]
    batches: list[Batch] = []
    with pytest.raises(HearbackError, match="more than 1000 changes share 2026-09-20 09:00:00"):
        batches.extend(zendesk.pull(source_of(desk), make_context(tmp_path)))
    batches = []
    pull = zendesk.pull(source_of(desk), make_context(tmp_path))
    while len(batches) == 0 or batches[-1].entity != "satisfaction_ratings":
        batches.append(next(pull))
    found = {i for batch in batches for i, _ in read_batch(batch)}
    assert {"1002", "1003", "1004", "1005"} <= found
    again, _ = pull_all(source_of(desk), tmp_path, batches[-1].position)
    assert ids(again, "ticket_events") == {"1005"}


def test_comments_are_asked_for_where_events_lack_their_text(desk: Zendesk, tmp_path: Path) -> None:
    desk.has_texts = False
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "comments") == {"1", "3", "8", "10"}


# Limits and faults --------------------------------------------------------------------------------


def test_nothing_is_asked_within_retry_after(desk: Zendesk, tmp_path: Path) -> None:
    desk.limit("/tickets/cursor", Answer({"error": "limit"}, 429, {"Retry-After": "1"}), seconds=1)
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "tickets") == all_ids(desk)["tickets"]
    assert desk.violations == []


@pytest.mark.parametrize(
    "headers",
    [
        {"ratelimit-remaining": "0", "ratelimit-reset": "1"},
        {"rate-limit-remaining": "0", "rate-limit-reset": "1"},
        {"zendesk-rate-limit-incremental": "total=10; remaining=0; resets=1"},
    ],
)
def test_no_request_is_sent_when_the_budget_is_used_up(
    desk: Zendesk, tmp_path: Path, headers: dict[str, str]
) -> None:
    desk.extra_headers = headers
    pull = zendesk.pull(source_of(desk), make_context(tmp_path))
    next(pull), next(pull)
    first, second = desk.requests
    assert second.at - first.at >= 0.9


@pytest.mark.parametrize("fault", [409, 500, 503, None])
def test_faults_of_the_server_are_survived(
    desk: Zendesk, tmp_path: Path, fault: int | None
) -> None:
    answer = Answer(b"<html>oops</html>", fault) if fault else None
    for path in ("/tickets/cursor", "/ticket_events", "/satisfaction_ratings"):
        desk.fail(path, answer, cut=None if fault else 30)
    found, _ = pull_all(source_of(desk), tmp_path)
    assert {name: ids(found, name) for name in desk.rows} == all_ids(desk)


@pytest.mark.parametrize("stream", ["satisfaction_ratings", "organizations"])
def test_a_stream_that_the_plan_lacks_is_skipped_with_a_note(
    desk: Zendesk, tmp_path: Path, stream: str
) -> None:
    desk.fail(f"/{stream}", Answer({"error": "Forbidden"}, 403), times=9)
    told: list[str] = []
    found, _ = pull_all(source_of(desk), tmp_path, progress=lambda text, rows: told.append(text))
    assert ids(found, "tickets") == all_ids(desk)["tickets"]
    assert any(f"{stream} skipped" in text for text in told)


def test_check_makes_one_cheap_request(desk: Zendesk, tmp_path: Path) -> None:
    check = find_kind("zendesk").check
    assert check is not None
    assert check(source_of(desk), make_context(tmp_path)) == "signed in as admin"
    assert len(desk.requests) == 1


# Mapping ------------------------------------------------------------------------------------------

Staged = dict[str, list[dict[str, Any]]]


def stage_desk(folder: Path, *, has_texts: bool, rows: dict[str, Rows] | None = None) -> Staged:
    with pytest.MonkeyPatch.context() as patch, Zendesk(rows or load()) as server:
        assert isinstance(server, Zendesk)
        server.has_texts = has_texts
        patch.setenv("AIRFLOW_CONN_DESK", BY_KEY)
        source = make_source(
            "zendesk", server.url, options={"bots": ["92"], "product_field": "360"}
        )
        found = stage(folder, source)
        assert quarantined(folder, source) == []
        return found


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Staged:
    return stage_desk(tmp_path_factory.mktemp("zendesk"), has_texts=True)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


KEYS = {
    "cases": "source_case_id",
    "messages": "source_record_id",
    "case_events": "source_event_id",
    "customers": "source_customer_id",
    "agents": "source_agent_id",
    "survey_responses": "source_response_id",
    "feedback": "source_record_id",
}


@pytest.mark.parametrize(
    ("entity", "key", "column", "value"),
    [
        ("cases", "1", "channel", "email"),
        ("cases", "2", "channel", "other"),
        ("cases", "1", "subject", "Kettle leaks"),
        ("cases", "1", "source_customer_id", "71"),
        ("cases", "1", "priority", "urgent"),
        ("cases", "1", "status", "solved"),
        ("cases", "2", "status", "open"),
        ("cases", "3", "status", "deleted"),
        ("cases", "1", "source_group", "Kitchen"),
        ("cases", "1", "assignee_id", "91"),
        ("cases", "1", "product", "Kettle"),
        ("cases", "1", "tags", ["kettle", "leak"]),
        ("cases", "1", "opened_at", at("2026-09-20T09:00:00")),
        ("messages", "1", "body", "The kettle leaks."),
        ("messages", "1", "author_id", "71"),
        ("messages", "8", "is_public", False),
        ("messages", "3", "created_at", at("2026-09-20T09:30:00")),
        ("case_events", "4:status", "from_value", "open"),
        ("case_events", "4:status", "to_value", "pending"),
        ("case_events", "4:status", "actor_id", "91"),
        ("case_events", "5:group_id", "to_value", "Kitchen"),
        ("case_events", "6:assignee_id", "to_value", "91"),
        ("case_events", "7:priority", "event_type", "priority_changed"),
        ("case_events", "10:merged", "event_type", "merged"),
        ("case_events", "10:merged", "source_case_id", "4"),
        ("case_events", "10:merged", "to_value", "1"),
        ("customers", "71", "organization", "Acme"),
        ("customers", "71", "language", "zh-CN"),
        ("customers", "71", "external_id", "crm-7"),
        ("agents", "91", "team", "Kitchen"),
        ("agents", "92", "role", "bot"),
        ("survey_responses", "301", "score", 1.0),
        ("survey_responses", "302", "score", 0.0),
        ("survey_responses", "303", "score", None),
        ("survey_responses", "303", "answered_at", None),
        ("survey_responses", "301", "offered_at", at("2026-09-20T12:00:00")),
        ("survey_responses", "301", "comment", "Ann was quick"),
        ("feedback", "rating-301", "body", "Ann was quick"),
    ],
)
def test_columns(staged: Staged, entity: str, key: str, column: str, value: Any) -> None:
    assert one(staged[entity], **{KEYS[entity]: key})[column] == value


@pytest.mark.parametrize(
    ("metric", "clock", "value"),
    [
        ("first_reply", "calendar", 30.0),
        ("first_reply", "business", 12.0),
        ("full_resolution", "business", 60.0),
        ("reopens", "calendar", 2.0),
    ],
)
def test_vendor_metrics(staged: Staged, metric: str, clock: str, value: float) -> None:
    rows = staged["vendor_metrics"]
    assert one(rows, source_case_id="1", metric=metric, clock=clock)["value"] == value


@pytest.mark.parametrize(
    ("more", "role"),
    [
        ({}, "agent"),
        ({"tags": ["vip", "AI_agent"]}, "bot"),
        ({"tags": ["bot"], "role": "admin"}, "bot"),
        ({"tags": ["robotics"]}, "agent"),
        ({"tags": None}, "agent"),
        ({"role_type": 1, "alias": "bot"}, "agent"),  # a light agent, whatever it is called
        ({"role": "system"}, "bot"),
    ],
)
def test_who_an_agent_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], role: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", BY_KEY)
    rows = load()
    rows["users"][1] |= more
    with Zendesk(rows) as server:
        agents = stage(tmp_path, make_source("zendesk", server.url))["agents"]
    assert one(agents, source_agent_id="91")["role"] == role
    assert one(agents, source_agent_id="92")["role"] == "agent"


def test_comments_that_were_asked_for_are_the_same_messages(staged: Staged, tmp_path: Path) -> None:
    asked = stage_desk(tmp_path, has_texts=False)["messages"]
    names = ("source_record_id", "source_case_id", "author_id", "is_public", "body", "created_at")
    wanted = [row for row in staged["messages"] if row["source_case_id"] != "3"]
    chosen = [[row[name] for name in names] for row in wanted]
    assert sorted([row[name] for name in names] for row in asked) == sorted(chosen)


def test_every_field_is_used_or_ignored_by_name() -> None:
    mappings = find_kind("zendesk").mappings(make_source("zendesk", "https://x.example"))
    for entity, rows in load().items():
        if entity not in ("groups", "organizations"):
            assert {key for row in rows for key in row} <= used_fields(mappings, entity)


def test_a_user_who_was_deleted_or_merged_is_told(tmp_path: Path) -> None:
    rows = load()
    user = next(row for row in rows["users"] if row["role"] == "end-user")
    user["active"] = False
    staged = stage_desk(tmp_path, has_texts=True, rows=rows)
    (told,) = staged["deletions"]
    assert (told["deleted_entity"], told["source_record_id"]) == ("customers", str(user["id"]))
    assert one(staged["customers"], source_customer_id=str(user["id"]))["name"] == user["name"]


# CSAT surveys -------------------------------------------------------------------------------------

GOOD, OF_TWO, SKIPPED = (f"01J1WB51MG6HXTYWE6Q0C93RA{n}" for n in range(1, 4))


@pytest.mark.parametrize(
    ("key", "column", "value"),
    [
        (GOOD, "score", 4.0),
        (GOOD, "scale_max", 5.0),
        (GOOD, "comment", "很快就解决了"),
        (GOOD, "survey_id", "01J58KJ9RAE0D2EK7HRVM7Z8F2"),
        (GOOD, "source_case_id", "11"),
        (GOOD, "source_customer_id", "71"),
        (GOOD, "answered_at", at("2026-09-21T09:05:00")),
        (OF_TWO, "score", 5.0),  # the better one of two
        (OF_TWO, "source_case_id", "12"),
        (OF_TWO, "comment", None),
        (SKIPPED, "score", None),
        (SKIPPED, "answered_at", None),
        (SKIPPED, "source_case_id", "13"),
    ],
)
def test_responses_to_csat_surveys(staged: Staged, key: str, column: str, value: Any) -> None:
    assert one(staged["survey_responses"], source_response_id=key)[column] == value


def test_the_comment_of_a_response_is_feedback(staged: Staged) -> None:
    row = one(staged["feedback"], source_record_id=f"{GOOD}:Q2")
    assert (row["body"], row["channel"], row["source_case_id"]) == ("很快就解决了", "survey", "11")


def test_the_same_answer_is_not_counted_twice(tmp_path: Path) -> None:
    """Zendesk shows an answer to a new survey as one of the older ratings too."""
    rows = load()
    rows["survey_responses"][0]["subjects"][0]["id"] = "1"
    staged = stage_desk(tmp_path, has_texts=True, rows=rows)
    assert {row["source_response_id"] for row in staged["survey_responses"]} == {
        GOOD, OF_TWO, SKIPPED,
    }  # fmt: skip


def test_a_response_that_is_answered_later_is_read_again(desk: Zendesk, tmp_path: Path) -> None:
    source = source_of(desk)
    _, position = pull_all(source, tmp_path)
    later = desk.rows["survey_responses"][2]
    later["expires_at"] = datetime.now(UTC).isoformat()  # created four weeks ago
    later["answers"][0] |= {"type": "rating_scale", "rating": 1, "rating_category": "bad"}
    found, again = pull_all(source, tmp_path, position)
    assert ids(found, "survey_responses") == {SKIPPED}
    assert again["survey_responses"]["since"] >= position["survey_responses"]["since"]
    assert desk.violations == []


def test_without_csat_surveys_all_else_is_read(desk: Zendesk, tmp_path: Path) -> None:
    desk.fail("guide/survey_responses", Answer({"error": "Forbidden"}, 403))
    told: list[str] = []
    found, position = pull_all(
        source_of(desk), tmp_path, progress=lambda text, rows: told.append(text)
    )
    assert ids(found, "satisfaction_ratings") == {"301", "302", "303"}
    assert "survey_responses" not in position
    assert any("survey_responses skipped" in text for text in told)

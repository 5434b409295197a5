"""Help Scout: times of change that are not told, chats cut short, every column that comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError
from pipelines.mapping import used_fields
from pipelines.sources import find_kind, helpscout, http
from tests.pipelines.sources.helpscout.server import API, HelpScout
from tests.pipelines.sources.pulling import (
    at,
    ids,
    latest,
    load_payloads,
    make_context,
    make_source,
    one,
    pull_all,
    pull_stopping,
    quarantined,
    source_maker,
    stage,
)
from tests.pipelines.sources.vendor_server import Answer, Request

BY_APP = json.dumps({"login": "app", "password": "quiet-secret"})
BY_TOKEN = json.dumps({"password": "quiet-token"})
source_of = source_maker("helpscout")
Rows = list[dict[str, Any]]


def many(rows: Rows, count: int) -> Rows:
    return [
        rows[0]
        | {
            "id": 1000 + n,
            "userUpdatedAt": f"2026-10-01T{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}Z",
        }
        for n in range(count)
    ]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[HelpScout]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", BY_TOKEN)
    with HelpScout(load_payloads("helpscout")) as server:
        assert isinstance(server, HelpScout)
        yield server


def all_ids(desk: HelpScout) -> dict[str, set[str]]:
    return {
        name: {str(row["threadid"] if name == "ratings" else row["id"]) for row in rows}
        for name, rows in desk.rows.items()
    }


# Reading ------------------------------------------------------------------------------------------


def test_the_first_load_has_every_record_of_every_status(desk: HelpScout, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(desk), tmp_path)
    assert {name: ids(found, name) for name in desk.rows} == all_ids(desk)
    assert desk.violations == []


def test_a_conversation_is_kept_as_it_was_sent(desk: HelpScout, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(desk), tmp_path)
    assert latest(found, "conversations")["1"] == desk.rows["conversations"][0]


def test_base_url_may_end_in_the_path_of_the_api(desk: HelpScout, tmp_path: Path) -> None:
    found, _ = pull_all(make_source("helpscout", desk.url + API), tmp_path)
    assert ids(found, "conversations") == all_ids(desk)["conversations"]


def test_the_second_pull_asks_from_just_before_the_newest(desk: HelpScout, tmp_path: Path) -> None:
    _, position = pull_all(source_of(desk), tmp_path)
    desk.rows["conversations"][0]["userUpdatedAt"] = "2026-09-24T11:00:00Z"
    desk.requests.clear()
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert ids(found, "conversations") == {"1", "4"}
    asked = [r.query for r in desk.requests if r.path == f"{API}/conversations"]
    assert asked[0]["modifiedSince"] == "2026-09-23T10:59:00Z"


def test_start_bounds_the_first_load(desk: HelpScout, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(desk, start="2026-09-22"), tmp_path)
    assert ids(found, "conversations") == {"3", "4"}


@pytest.mark.parametrize("size", [1, 60])
def test_a_pull_that_is_stopped_after_any_batch_loses_nothing(
    desk: HelpScout, tmp_path: Path, size: int
) -> None:
    if size > 1:
        desk.rows["conversations"] += many(desk.rows["conversations"], size)
    found = pull_stopping(source_of(desk), tmp_path)
    assert {name: ids(found, name) for name in desk.rows} == all_ids(desk)


@pytest.mark.parametrize("is_told", [True, False])
def test_a_conversation_that_changes_while_pages_are_read_hides_none(
    desk: HelpScout, tmp_path: Path, is_told: bool
) -> None:
    desk.rows["conversations"] = many(desk.rows["conversations"], 120)
    if not is_told:  # all were tagged at once, which moves no time that is shown
        desk.changed = {1000 + n: "2026-10-03T00:00:00Z" for n in range(120)}

    def change(request: Request) -> None:
        asked = [r for r in desk.requests if r.path == f"{API}/conversations"]
        if len(asked) == 2 and request.path == f"{API}/conversations":
            for row in desk.rows["conversations"][:3]:
                row["subject"] = "Changed"
                desk.changed[row["id"]] = "2026-10-04T00:00:00Z"
                row["userUpdatedAt"] = "2026-10-02T00:00:00Z"

    desk.on_page = change
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "conversations") == all_ids(desk)["conversations"]
    assert latest(found, "conversations")["1000"]["subject"] == "Changed"


def test_threads_of_chats_are_read_in_full(desk: HelpScout, tmp_path: Path) -> None:
    desk.page_size = 2
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "threads") == {"21", "22", "23"}
    assert desk.counts()["/v3/conversations/2/threads"] >= 2
    assert desk.counts()["/v3/conversations/1/threads"] == 0


@pytest.mark.parametrize(("has_version_3", "role"), [(True, "bot"), (False, "agent")])
def test_an_ai_agent_in_a_chat_is_a_bot_where_version_3_tells_it(
    desk: HelpScout, tmp_path: Path, has_version_3: bool, role: str
) -> None:
    desk.page_size = 2
    desk.has_version_3 = has_version_3
    desk.rows["threads"][1]["createdBy"] = {"id": 700, "type": "system_user"}
    rows = stage(tmp_path, source_of(desk))["messages"]
    assert one(rows, source_record_id="22")["author_role"] == role
    assert one(rows, source_record_id="21")["author_role"] == "customer"
    assert {"21", "22", "23"} <= {row["source_record_id"] for row in rows}
    assert desk.counts()["/v3/conversations/2/threads"] == (2 if has_version_3 else 1)


def test_a_chat_that_is_gone_when_its_threads_are_read_stops_nothing(
    desk: HelpScout, tmp_path: Path
) -> None:
    desk.fail("/conversations/2/threads", Answer({"message": "not found"}, 404), times=2)
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "conversations") == all_ids(desk)["conversations"]
    assert ids(found, "threads") == set()


def test_a_rating_that_changes_while_pages_are_read_hides_none(
    desk: HelpScout, tmp_path: Path
) -> None:
    first = desk.rows["ratings"][0]
    desk.rows["ratings"] = [first | {"threadid": 100 + n, "id": 100 + n} for n in range(90)]

    def change(request: Request) -> None:
        asked = [r for r in desk.requests if r.path.endswith("/ratings")]
        if len(asked) == 2 and request.path.endswith("/ratings"):
            for _ in range(3):  # what was changed last stands last
                moved = desk.rows["ratings"].pop(0)
                desk.rows["ratings"].append(moved | {"ratingId": 3})

    desk.on_page = change
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "ratings") == all_ids(desk)["ratings"]
    assert latest(found, "ratings")["100"]["ratingId"] == 3
    assert [len(rows) for key, rows in found["ratings"].items() if key != "100"].count(1) == 87


@pytest.mark.parametrize("size", [1, 25])
def test_the_later_of_two_versions_of_one_time_counts(
    desk: HelpScout, tmp_path: Path, size: int
) -> None:
    desk.page_size = size
    row = desk.rows["conversations"][0]

    def tag(request: Request) -> None:
        asked = [r for r in desk.requests if r.path == f"{API}/conversations"]
        if len(asked) == 2 and request.path == f"{API}/conversations":
            row["tags"] = [{"id": 9, "tag": "late"}]  # by a workflow: no user's time moves
            desk.changed[row["id"]] = "2026-10-04T00:00:00Z"

    desk.on_page = tag
    source = source_of(desk)
    if size > 1:  # one page: the change is met by the next run
        stage(tmp_path, source)
    cases = stage(tmp_path, source)["cases"]
    versions = [case for case in cases if case["source_case_id"] == "1"]
    assert len(versions) == 2
    *_, newest = sorted(versions, key=lambda case: (case["updated_at"], case["captured_at"]))
    assert newest["tags"] == ["late"]
    assert newest["updated_at"] == at("2026-09-20T11:00:00")


@pytest.mark.parametrize("rating", [{"ratingId": 0}, {"ratingId": None, "rating": "unknown"}])
def test_a_rating_that_is_none_is_no_answer(
    desk: HelpScout, tmp_path: Path, rating: dict[str, Any]
) -> None:
    desk.rows["ratings"][0] |= rating
    source = source_of(desk)
    found = stage(tmp_path, source)
    assert {row["source_response_id"] for row in found["survey_responses"]} == {"22"}
    assert "rating:12" not in {row["source_event_id"] for row in found["case_events"]}
    assert "feedback" not in found or "rating-12" not in {
        row["source_record_id"] for row in found["feedback"]
    }
    assert quarantined(tmp_path, source) == []


def test_an_empty_account_gives_nothing(desk: HelpScout, tmp_path: Path) -> None:
    desk.rows = {name: [] for name in desk.rows}
    found, position = pull_all(source_of(desk), tmp_path)
    assert not any(found.values())
    assert position == {}


# Signing in, limits and faults --------------------------------------------------------------------


def test_a_token_is_got_for_the_app_and_renewed_when_it_ends(
    desk: HelpScout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", BY_APP)
    for batch in helpscout.pull(source_of(desk), make_context(tmp_path)):
        if batch.entity == "users":
            desk.token = "ended"
    assert desk.tokens_given == 2


@pytest.mark.parametrize(
    "secret", ['{"login": "app", "password": "wrong-one"}', '{"password": "wrong-one"}']
)
def test_wrong_credentials_are_told_in_one_line(
    desk: HelpScout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", secret)
    with pytest.raises(HearbackError, match="check connection 'desk'") as caught:
        pull_all(source_of(desk), tmp_path)
    assert "\n" not in caught.value.message
    assert "wrong-one" not in caught.value.message


@pytest.mark.parametrize("header", ["Retry-After", "X-RateLimit-Retry-After"])
def test_nothing_is_asked_within_the_window(desk: HelpScout, tmp_path: Path, header: str) -> None:
    limited = Answer({"message": "API rate limit exceeded"}, 429, {header: "1"})
    desk.limit("/conversations", limited, seconds=1)
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "conversations") == all_ids(desk)["conversations"]
    assert desk.violations == []


def test_no_request_is_sent_when_the_minute_is_used_up(
    desk: HelpScout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MINUTE_SECONDS", 1.0)
    desk.extra_headers = {"X-RateLimit-Remaining-Minute": "0"}
    pull = helpscout.pull(source_of(desk), make_context(tmp_path))
    next(pull), next(pull)
    first, second = desk.requests
    assert second.at - first.at >= 0.9


@pytest.mark.parametrize("stream", ["ratings", "users", "mailboxes"])
def test_a_stream_that_the_plan_lacks_is_skipped_with_a_note(
    desk: HelpScout, tmp_path: Path, stream: str
) -> None:
    desk.fail(f"/{stream}", Answer({"message": "Forbidden"}, 403), times=9)
    told: list[str] = []
    found, _ = pull_all(source_of(desk), tmp_path, progress=lambda text, rows: told.append(text))
    assert ids(found, "conversations") == all_ids(desk)["conversations"]
    assert any(f"{stream} skipped" in text for text in told)


def test_conversations_that_may_not_be_read_are_an_error(desk: HelpScout, tmp_path: Path) -> None:
    desk.fail("/conversations", Answer({"message": "Forbidden"}, 403), times=99)
    with pytest.raises(HearbackError, match="403 from /v2/conversations: not allowed"):
        pull_all(source_of(desk), tmp_path)


def test_check_makes_one_cheap_request(desk: HelpScout, tmp_path: Path) -> None:
    check = find_kind("helpscout").check
    assert check is not None
    assert check(source_of(desk), make_context(tmp_path)) == "4 conversations"
    assert len(desk.requests) == 1


# Mapping ------------------------------------------------------------------------------------------

Staged = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    folder = tmp_path_factory.mktemp("helpscout")
    with pytest.MonkeyPatch.context() as patch, HelpScout(load_payloads("helpscout")) as server:
        patch.setenv("AIRFLOW_CONN_DESK", BY_TOKEN)
        options = {"bots": ["603"], "product_field": "Product"}
        source = make_source("helpscout", server.url, options=options)
        found = stage(folder, source)
        assert quarantined(folder, source) == []
        yield found


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
        ("cases", "2", "channel", "chat"),
        ("cases", "3", "channel", "phone"),
        ("cases", "4", "channel", "other"),
        ("cases", "1", "subject", "Kettle leaks"),
        ("cases", "1", "source_customer_id", "501"),
        ("cases", "4", "submitter_id", "601"),
        ("cases", "1", "status", "closed"),
        ("cases", "2", "status", "pending"),
        ("cases", "3", "tags", ["spam"]),
        ("cases", "4", "status", "open"),
        ("cases", "1", "source_group", "Kitchen"),
        ("cases", "1", "assignee_id", "601"),
        ("cases", "4", "assignee_id", None),
        ("cases", "1", "product", "Kettle"),
        ("cases", "1", "tags", ["kettle", "leak"]),
        ("cases", "1", "opened_at", at("2026-09-20T09:00:00")),
        ("cases", "1", "updated_at", at("2026-09-20T11:00:00")),
        ("cases", "1", "url", "https://secure.helpscout.net/conversation/1/9001"),
        ("messages", "11", "body", "<p>The kettle leaks.</p>"),
        ("messages", "11", "source_case_id", "1"),
        ("messages", "11", "author_id", "501"),
        ("messages", "11", "author_role", "customer"),
        ("messages", "11", "is_public", True),
        ("messages", "11", "created_at", at("2026-09-20T09:11:00")),
        ("messages", "11", "attachments", ["leak.jpg"]),
        ("messages", "12", "author_role", "agent"),
        ("messages", "12", "author_id", "601"),
        ("messages", "13", "is_public", False),
        ("messages", "15", "author_role", "bot"),
        ("messages", "21", "body", "<p>Hello, is my order lost?</p>"),
        ("messages", "21", "source_case_id", "2"),
        ("messages", "21", "channel", "chat"),
        ("case_events", "12:status", "event_type", "status_changed"),
        ("case_events", "12:status", "to_value", "pending"),
        ("case_events", "14:status", "to_value", "closed"),
        ("case_events", "14:status", "event_at", at("2026-09-20T09:14:00")),
        ("case_events", "14:assignee", "event_type", "assignee_changed"),
        ("case_events", "14:assignee", "to_value", "602"),
        ("case_events", "14:assignee", "actor_id", "602"),
        ("case_events", "17:merged", "event_type", "merged"),
        ("case_events", "17:merged", "source_case_id", "77"),
        ("case_events", "17:merged", "to_value", "1"),
        ("case_events", "rating:12", "event_type", "rated"),
        ("customers", "501", "name", "Mei Lin"),
        ("customers", "502", "name", "Sam"),
        ("customers", "501", "email", "mei@acme.example"),
        ("customers", "501", "phone", "555"),
        ("customers", "501", "organization", "Acme"),
        ("customers", "501", "region", "Beijing"),
        ("agents", "601", "name", "Ann Lee"),
        ("agents", "601", "email", "ann@desk.example"),
        ("agents", "601", "role", "agent"),
        ("agents", "603", "role", "bot"),
        ("survey_responses", "12", "score", 3.0),
        ("survey_responses", "22", "score", 1.0),
        ("survey_responses", "12", "scale_min", 1.0),
        ("survey_responses", "12", "scale_max", 3.0),
        ("survey_responses", "12", "kind", "csat"),
        ("survey_responses", "12", "comment", "Ann was quick"),
        ("survey_responses", "12", "source_case_id", "1"),
        ("survey_responses", "12", "source_customer_id", "501"),
        ("survey_responses", "12", "answered_at", at("2026-09-20T12:00:00")),
        ("feedback", "rating-12", "body", "Ann was quick"),
        ("feedback", "rating-12", "rating", 3.0),
    ],
)
def test_columns(staged: Staged, entity: str, key: str, column: str, value: Any) -> None:
    assert one(staged[entity], **{KEYS[entity]: key})[column] == value


def test_drafts_and_line_items_are_no_messages(staged: Staged) -> None:
    came = {row["source_record_id"] for row in staged["messages"]}
    assert came == {"11", "12", "13", "15", "21", "22", "23", "31", "41"}


def test_every_field_is_used_or_ignored_by_name() -> None:
    mappings = find_kind("helpscout").mappings(make_source("helpscout"))
    for entity, rows in load_payloads("helpscout").items():
        if entity != "mailboxes":
            assert {key for row in rows for key in row} <= used_fields(mappings, entity)


def test_a_thread_that_was_deleted_is_told(tmp_path: Path) -> None:
    rows = load_payloads("helpscout")
    thread = rows["conversations"][0]["_embedded"]["threads"][0]
    thread["state"] = "deleted"
    with pytest.MonkeyPatch.context() as patch, HelpScout(rows) as server:
        patch.setenv("AIRFLOW_CONN_DESK", BY_TOKEN)
        staged = stage(tmp_path, make_source("helpscout", server.url))
    (told,) = staged["deletions"]
    assert (told["deleted_entity"], told["source_record_id"]) == ("feedback", str(thread["id"]))
    assert str(thread["id"]) not in {row["source_record_id"] for row in staged["messages"]}


@pytest.mark.parametrize("status", ["active", "nochange"])
def test_a_line_item_tells_that_a_conversation_was_deleted_or_restored(
    tmp_path: Path, status: str
) -> None:
    rows = load_payloads("helpscout")
    talk = rows["conversations"][0]
    last = talk["_embedded"]["threads"][0]
    for number, (action, hour) in enumerate([("deletedTicket", 10), ("restoreTicket", 11)]):
        line = {"id": 9_000_001 + number, "type": "lineitem", "status": status, "body": None,
                "state": "published", "createdAt": f"2026-10-01T{hour}:00:00Z",
                "action": {"type": action, "text": "", "associatedEntities": {}}}  # fmt: skip
        talk["_embedded"]["threads"].append(last | line)
    with pytest.MonkeyPatch.context() as patch, HelpScout(rows) as server:
        patch.setenv("AIRFLOW_CONN_DESK", BY_TOKEN)
        staged = stage(tmp_path, make_source("helpscout", server.url))
    told = [row for row in staged["case_events"] if row["source_event_id"].startswith("900000")]
    assert sorted((row["event_at"], row["event_type"], row["to_value"]) for row in told) == [
        (at("2026-10-01T10:00:00"), "deleted", None),
        (at("2026-10-01T11:00:00"), "status_changed", "open"),
    ]

"""Intercom: searches that shift while they are read, and every column of what comes out."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError
from pipelines.sources import intercom
from tests.pipelines.sources.intercom.server import TOKEN, Intercom
from tests.pipelines.sources.pulling import (
    NOW,
    find_unused,
    held_ids,
    ids,
    latest,
    load_payloads,
    make_context,
    one,
    pull_all,
    pull_stopping,
    pull_told,
    source_maker,
    stage,
)
from tests.pipelines.sources.vendor_server import Answer, Request

source_of = source_maker("intercom")
BEGAN = int(NOW.timestamp())  # of the first pull
Rows = list[dict[str, Any]]
Staged = dict[str, list[dict[str, Any]]]


def many(rows: Rows, count: int, step: int = 1) -> Rows:
    """So many copies of the first row, ``step`` seconds apart."""
    return [
        rows[0] | {"id": str(1000 + n), "updated_at": 1788340000 + n * step} for n in range(count)
    ]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Intercom]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"password": TOKEN}))
    with Intercom(load_payloads("intercom")) as server:
        assert isinstance(server, Intercom)
        yield server


def all_ids(desk: Intercom) -> dict[str, set[str]]:
    return {name: held_ids(desk, name) for name in desk.rows}


def test_the_first_load_has_every_record_with_its_parts(desk: Intercom, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(desk), tmp_path)
    assert {name: ids(found, name) for name in desk.rows} == all_ids(desk)
    assert latest(found, "conversations")["1"] == desk.rows["conversations"][0]
    assert desk.violations == []


def test_the_second_pull_reads_only_conversations_that_changed(
    desk: Intercom, tmp_path: Path
) -> None:
    _, position = pull_all(source_of(desk), tmp_path)
    desk.rows["conversations"][0]["updated_at"] = 1788350000
    desk.requests.clear()
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert ids(found, "conversations") == {"1", "3"}
    assert desk.counts()["/conversations/2"] == 0


def test_start_bounds_the_first_load(desk: Intercom, tmp_path: Path) -> None:
    desk.rows["conversations"][0]["updated_at"] = 1700000000
    found, _ = pull_all(source_of(desk, start="2026-09-01"), tmp_path)
    assert ids(found, "conversations") == {"2", "3"}


@pytest.mark.parametrize("step", [0, 1])
def test_a_pull_that_is_stopped_after_any_batch_loses_nothing(
    desk: Intercom, tmp_path: Path, step: int
) -> None:
    desk.rows["conversations"] = many(desk.rows["conversations"], 7, step)
    desk.rows["contacts"] = many(desk.rows["contacts"], 7, step)
    found = pull_stopping(source_of(desk, options={"page_size": 3}), tmp_path)
    desk.scrolls.clear()  # the one that the first stop left open lasts a minute
    found["companies"] = pull_all(source_of(desk), tmp_path)[0]["companies"]
    assert {name: ids(found, name) for name in desk.rows} == all_ids(desk)


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("name", ["contacts", "conversations", "tickets"])
def test_a_record_that_changes_while_pages_are_read_hides_none(
    desk: Intercom, tmp_path: Path, name: str, step: int
) -> None:
    desk.rows[name] = many(desk.rows[name], 20, step)

    def change(request: Request) -> None:
        if desk.counts()[f"/{name}/search"] == 2:
            for row in desk.rows[name][:3]:
                row |= {"updated_at": 1788900000, "marked": True}

    desk.on_page = change
    found, _ = pull_all(source_of(desk, options={"page_size": 6}), tmp_path)
    assert ids(found, name) == all_ids(desk)[name]
    assert latest(found, name)["1000"]["marked"] is True


def test_contacts_that_never_stop_changing_do_not_stop_the_pull(
    desk: Intercom, tmp_path: Path
) -> None:
    desk.rows["contacts"] = many(desk.rows["contacts"], 20)

    def change(request: Request) -> None:
        desk.rows["contacts"][0]["updated_at"] = 1788341000 + len(desk.requests)

    desk.on_page = change
    found, _ = pull_all(source_of(desk, options={"page_size": 6}), tmp_path)
    assert ids(found, "contacts") == all_ids(desk)["contacts"]


def test_a_refusal_is_obeyed_until_its_unix_time(desk: Intercom, tmp_path: Path) -> None:
    reset = math.ceil(time.time()) + 1
    headers = {"X-RateLimit-Reset": str(reset)}
    refusal = Answer({"errors": [{"code": "rate_limit_exceeded"}]}, 429, headers)
    desk.limit("/conversations/search", refusal, reset - time.time() - 0.1)
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "conversations") == {"1", "2", "3"}
    assert desk.violations == []


@pytest.mark.parametrize("more", [{"answer": Answer(None, 503)}, {"cut": 60}])
def test_a_failed_page_is_asked_for_again(
    desk: Intercom, tmp_path: Path, more: dict[str, Any]
) -> None:
    desk.fail("/conversations/search", **more)
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "conversations") == {"1", "2", "3"}


def test_a_conversation_that_is_gone_when_it_is_read_is_kept_as_it_was_found(
    desk: Intercom, tmp_path: Path
) -> None:
    desk.fail("/conversations/2", Answer({"errors": []}, 404))
    found, _ = pull_all(source_of(desk), tmp_path)
    assert latest(found, "conversations")["2"]["state"] == "snoozed"


def test_parts_beyond_the_latest_are_told(desk: Intercom, tmp_path: Path) -> None:
    desk.rows["conversations"][0]["conversation_parts"]["total_count"] = 620
    _, told = pull_told(source_of(desk), tmp_path)
    assert "conversations 1: Intercom gives the 10 latest of 620 parts" in told


def test_a_plan_without_tickets_is_told_and_skipped(desk: Intercom, tmp_path: Path) -> None:
    desk.fail("/tickets/search", Answer({"errors": []}, 403))
    found, told = pull_told(source_of(desk), tmp_path)
    assert ids(found, "conversations") == {"1", "2", "3"}
    assert "tickets skipped" in told


@pytest.mark.parametrize("name", ["contacts", "conversations", "tickets"])
def test_a_cursor_that_expired_is_followed_by_the_first_page(
    desk: Intercom, tmp_path: Path, name: str
) -> None:
    desk.rows[name] = many(desk.rows[name], 20, 0)
    desk.forgets_cursors = 1
    found, _ = pull_all(source_of(desk, options={"page_size": 6}), tmp_path)
    assert ids(found, name) == all_ids(desk)[name]
    assert desk.forgets_cursors == 0


def test_cursors_that_always_expire_are_told_and_the_next_pull_goes_on(
    desk: Intercom, tmp_path: Path
) -> None:
    desk.rows["conversations"] = many(desk.rows["conversations"], 20, 0)
    desk.forgets_cursors = 99
    with pytest.raises(HearbackError, match="cursors of conversations end before their pages"):
        pull_all(source_of(desk, options={"page_size": 6}), tmp_path)
    desk.forgets_cursors = 0
    found, _ = pull_all(source_of(desk, options={"page_size": 6}), tmp_path)
    assert ids(found, "conversations") == all_ids(desk)["conversations"]


def gone(*numbers: int) -> Rows:
    """Conversations that were deleted, one a second."""
    return [
        {"type": "conversation", "id": str(n), "metrics_retained": True, "deleted_at": BEGAN + n}
        for n in numbers
    ]


def test_what_was_deleted_before_the_first_pull_is_not_told(desk: Intercom, tmp_path: Path) -> None:
    desk.deleted = [row | {"deleted_at": 1788300000} for row in gone(5, 6)]
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "deleted_conversations") == set()
    assert desk.violations == []


def test_deleted_conversations_come_once_they_are_gone(desk: Intercom, tmp_path: Path) -> None:
    _, position = pull_all(source_of(desk), tmp_path)
    desk.deleted = gone(*range(1000, 1150))

    def delete_one(request: Request) -> None:
        if request.path == "/conversations/deleted" and request.query["page"] == "2":
            desk.deleted += gone(2000)

    desk.on_page = delete_one
    found, position = pull_all(source_of(desk), tmp_path, position)
    assert ids(found, "deleted_conversations") == {str(n) for n in range(1000, 1150)}
    desk.on_page = lambda request: None
    found, position = pull_all(source_of(desk), tmp_path, position)
    assert "2000" in ids(found, "deleted_conversations")
    desk.requests.clear()
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert desk.counts()["/conversations/deleted"] == 1
    assert desk.violations == []


def test_a_place_from_before_deletions_were_read_gets_all_of_them(
    desk: Intercom, tmp_path: Path
) -> None:
    _, position = pull_all(source_of(desk), tmp_path)
    del position["deleted_conversations"]
    desk.deleted = [row | {"deleted_at": 1788300000} for row in gone(5, 6)]
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert ids(found, "deleted_conversations") == {"5", "6"}


def test_a_deleted_conversation_is_an_event_of_its_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"password": TOKEN}))
    with Intercom(load_payloads("intercom")) as server:
        source = source_of(server)
        stage(tmp_path, source)
        assert isinstance(server, Intercom)
        server.deleted = [row | {"deleted_at": BEGAN - 30} for row in gone(1)]
        rows = stage(tmp_path, source)["case_events"]
    event = one(rows, source_event_id="1:deleted")
    assert (event["event_type"], event["source_case_id"]) == ("deleted", "1")
    assert event["event_at"] == at(BEGAN - 30)


def test_a_scroll_that_breaks_off_is_begun_again(desk: Intercom, tmp_path: Path) -> None:
    desk.forgets_scroll = True
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "companies") == {"co1", "co2", "co3"}
    assert desk.counts()["/companies/scroll"] == 2 + 3


def test_a_scroll_that_somebody_else_holds_is_told(desk: Intercom, tmp_path: Path) -> None:
    desk.scrolls["theirs"] = 0
    found, told = pull_told(source_of(desk), tmp_path)
    assert "not all companies were read" in told
    assert ids(found, "companies") == set()
    assert ids(found, "contacts") == {"c1", "c2"}


@pytest.mark.parametrize(
    ("path", "named"),
    [("/companies/scroll", "companies"), ("/conversations/deleted", "deleted conversations")],
)
def test_a_token_that_may_not_read_a_stream_is_told_and_goes_on(
    desk: Intercom, tmp_path: Path, path: str, named: str
) -> None:
    desk.fail(path, Answer({"errors": [{"code": "forbidden"}]}, 403))
    found, told = pull_told(source_of(desk), tmp_path)
    assert f"{named} skipped" in told
    assert ids(found, "tickets") == {"900", "901"}


def test_check_names_the_workspace(desk: Intercom, tmp_path: Path) -> None:
    assert intercom.check(source_of(desk), make_context(tmp_path)) == "workspace Lumen"


def test_every_field_is_mapped_or_ignored_by_name(desk: Intercom) -> None:
    for name in ("admins", "contacts", "conversations", "tickets"):
        assert find_unused(source_of(desk), name, desk.rows[name]) == set()


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    with pytest.MonkeyPatch.context() as patch, Intercom(load_payloads("intercom")) as server:
        patch.setenv("AIRFLOW_CONN_DESK", json.dumps({"password": TOKEN}))
        options = {"product_attribute": "Product line"}
        source = source_of(server, options=options)
        yield stage(tmp_path_factory.mktemp("lake"), source)


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


GOLDEN = [
    ("cases", "source_case_id", "1", {
        "channel": "chat", "subject": "Charged twice", "source_customer_id": "c1",
        "submitter_id": "c1", "priority": "normal", "status": "closed", "source_group": "Billing",
        "assignee_id": "71", "product": "Lamp", "tags": ["refund", "vip"],
        "opened_at": at(1788336000), "updated_at": at(1788340000),
    }),
    ("cases", "source_case_id", "2", {
        "channel": "email", "priority": "normal", "status": "pending", "assignee_id": None,
    }),
    ("cases", "source_case_id", "3", {"priority": None, "status": "open", "subject": "News"}),
    ("cases", "source_case_id", "900", {
        "subject": "Lamp flickers", "status": "pending", "assignee_id": "71",
        "source_group": None, "source_customer_id": "c2",
    }),
    ("messages", "source_record_id", "1:source", {
        "author_id": "c1", "author_role": "customer", "is_public": True, "sequence": 0,
        "body": "<p>I was charged twice.</p>", "created_at": at(1788336000),
    }),
    ("messages", "source_record_id", "3:source", {"author_role": "bot"}),
    ("messages", "source_record_id", "900:source", {
        "author_role": "customer", "author_id": "c2", "body": "It flickers at night.",
    }),
    ("messages", "source_record_id", "p1", {"author_role": "bot", "is_public": True}),
    ("messages", "source_record_id", "p4", {"author_role": "agent", "is_public": False}),
    ("messages", "source_record_id", "p5", {
        "author_role": "agent", "is_public": True, "attachments": ["refund.pdf"],
        "author_id": "71", "source_case_id": "1", "channel": "chat",
    }),
    ("case_events", "source_event_id", "p2:assignee", {
        "event_type": "assignee_changed", "to_value": "71", "actor_role": "agent",
        "event_at": at(1788336120),
    }),
    ("case_events", "source_event_id", "p3:group", {
        "event_type": "group_changed", "to_value": "Billing",
    }),
    ("case_events", "source_event_id", "p6:status", {"to_value": "pending"}),
    ("case_events", "source_event_id", "p7:status", {
        "event_type": "status_changed", "to_value": "closed", "actor_id": "71",
    }),
    ("case_events", "source_event_id", "t1:status", {
        "source_case_id": "900", "from_value": "open", "to_value": "pending",
    }),
    ("case_events", "source_event_id", "1:rated", {
        "event_type": "rated", "to_value": "4", "actor_id": "c1", "event_at": at(1788339900),
    }),
    ("case_events", "source_event_id", "1:created", {
        "event_type": "created", "event_at": at(1788336000), "actor_id": "c1",
        "actor_role": "customer", "sequence": 0, "source_case_id": "1",
    }),
    ("case_events", "source_event_id", "2:created", {"actor_id": None, "actor_role": None}),
    ("case_events", "source_event_id", "3:created", {"actor_id": "71", "actor_role": "bot"}),
    ("case_events", "source_event_id", "900:created", {
        "actor_id": "c2", "actor_role": "customer", "event_at": at(1788336000),
    }),
    ("case_events", "source_event_id", "901:created", {"actor_id": None, "actor_role": None}),
    ("case_events", "source_event_id", "8:priority", {
        "event_type": "priority_changed", "from_value": "high", "to_value": "normal",
        "actor_id": "71", "actor_role": "agent", "event_at": at(1788339650),
        "source_case_id": "1", "sequence": 8,
    }),
    ("case_events", "source_event_id", "t2:priority", {
        "event_type": "priority_changed", "from_value": None, "to_value": "urgent",
        "source_case_id": "900",
    }),
    ("case_events", "source_event_id", "1:1:1788336300:tag", {
        "event_type": "tags_changed", "to_value": "refund", "actor_id": "71",
        "event_at": at(1788336300), "source_case_id": "1",
    }),
    ("case_events", "source_event_id", "21:merged", {
        "event_type": "merged", "source_case_id": "2", "to_value": "1", "actor_role": "bot",
        "event_at": at(1788339670), "sequence": 21,
    }),
    ("case_events", "source_event_id", "31:merged", {"source_case_id": "3", "to_value": None}),
    ("customers", "source_customer_id", "c1", {
        "organization": "Birch GmbH", "external_id": "u-c1",
        "name": "Customer c1", "email": "c1@mail.example",
        "language": "de", "region": "Germany", "signup_at": at(1787900000),
        "do_not_contact": False, "updated_at": at(1788300000),
    }),
    ("deletions", "source_record_id", "c9", {
        "deleted_entity": "customers", "merged_into": "c1", "deleted_at": at(1788299500),
    }),
    ("customers", "source_customer_id", "c2", {"do_not_contact": True, "organization": None}),
    ("agents", "source_agent_id", "71", {
        "name": "Mira Okafor", "email": "mira@lumen.example", "role": "agent", "team": "Billing",
    }),
    ("survey_responses", "source_response_id", "1:rating", {
        "kind": "csat", "score": 4.0, "scale_min": 1.0, "scale_max": 5.0, "comment": "Quick help",
        "source_customer_id": "c1", "source_case_id": "1", "offered_at": at(1788339700),
        "answered_at": at(1788339900),
    }),
    ("survey_responses", "source_response_id", "2:rating", {
        "score": None, "offered_at": at(1788340500), "answered_at": None,
    }),
    ("feedback", "source_record_id", "1:rating", {
        "channel": "survey", "body": "Quick help", "rating": 4.0, "rating_max": 5.0,
    }),
]  # fmt: skip


@pytest.mark.parametrize(
    ("entity", "key", "record_id", "column", "wanted"),
    [(entity, key, rid, column, wanted) for entity, key, rid, row in GOLDEN
     for column, wanted in row.items()],
)  # fmt: skip
def test_a_column_holds_what_the_payload_says(
    staged: Staged, entity: str, key: str, record_id: str, column: str, wanted: object
) -> None:
    assert one(staged[entity], **{key: record_id})[column] == wanted


@pytest.mark.parametrize(
    ("event_type", "wanted"),
    [
        ("created", {"1:created", "2:created", "3:created", "900:created", "901:created"}),
        ("priority_changed", {"8:priority", "t2:priority"}),
        ("tags_changed", {"1:1:1788336300:tag"}),
        ("merged", {"21:merged", "31:merged"}),
    ],
)
def test_only_what_happened_is_an_event(staged: Staged, event_type: str, wanted: set[str]) -> None:
    rows = [row for row in staged["case_events"] if row["event_type"] == event_type]
    assert {row["source_event_id"] for row in rows} == wanted


@pytest.mark.parametrize(
    ("metric", "clock", "value"),
    [
        ("first_reply", "business", 5.0),
        ("first_resolution", "business", 30.0),
        ("full_resolution", "business", 40.0),
        ("handling", "calendar", 2.0),
        ("reopens", "calendar", 2.0),
        ("first_reply", "calendar", 10.0),
        ("first_resolution", "calendar", 60.0),
        ("full_resolution", "calendar", 60.0),
    ],
)
def test_a_metric_is_in_minutes_on_its_clock(
    staged: Staged, metric: str, clock: str, value: float
) -> None:
    row = one(staged["vendor_metrics"], source_case_id="1", metric=metric, clock=clock)
    assert row["value"] == pytest.approx(value)

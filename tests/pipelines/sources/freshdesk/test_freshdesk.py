"""Freshdesk: lists that hide rows, pages that shift, and every column of what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError, UsageError
from pipelines.mapping import used_fields
from pipelines.sources import find_kind, freshdesk, http
from tests.pipelines.sources.freshdesk.server import API, KEY, Freshdesk
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

source_of = source_maker("freshdesk")
Rows = list[dict[str, Any]]


def many(rows: Rows, count: int, moment: str = "2026-10-01T{:02d}:{:02d}:{:02d}Z") -> Rows:
    """So many copies of the first row, a second apart unless ``moment`` says otherwise."""
    return [
        rows[0]
        | {
            "id": 1000 + n,
            "updated_at": moment.format(n // 3600, n // 60 % 60, n % 60),
            "created_at": "2026-10-01T00:00:00Z",
        }
        for n in range(count)
    ]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Freshdesk]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"password": KEY}))
    with Freshdesk(load_payloads("freshdesk")) as server:
        assert isinstance(server, Freshdesk)
        yield server


def all_ids(desk: Freshdesk) -> dict[str, set[str]]:
    return {name: {str(row["id"]) for row in rows} for name, rows in desk.rows.items()}


# Reading ------------------------------------------------------------------------------------------


def test_the_first_load_has_every_record_spam_and_deleted_ones_included(
    desk: Freshdesk, tmp_path: Path
) -> None:
    found, _ = pull_all(source_of(desk), tmp_path)
    assert {name: ids(found, name) for name in desk.rows} == all_ids(desk)
    assert desk.violations == []


def test_a_ticket_is_kept_as_it_was_sent(desk: Freshdesk, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(desk), tmp_path)
    assert latest(found, "tickets")["1"] == desk.rows["tickets"][0]


def test_base_url_may_end_in_the_path_of_the_api(desk: Freshdesk, tmp_path: Path) -> None:
    found, _ = pull_all(make_source("freshdesk", desk.url + API + "/"), tmp_path)
    assert ids(found, "tickets") == all_ids(desk)["tickets"]


def test_the_second_pull_asks_from_just_before_the_newest_record(
    desk: Freshdesk, tmp_path: Path
) -> None:
    _, position = pull_all(source_of(desk), tmp_path)
    desk.rows["tickets"][1]["updated_at"] = "2026-09-24T08:00:00Z"
    desk.requests.clear()
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert ids(found, "tickets") == {"2", "4", "5", "6"}
    asked = [r.query for r in desk.requests if r.path.endswith("/tickets")]
    assert asked[0]["updated_since"] == "2026-09-23T07:59:00Z"
    assert desk.counts()[f"{API}/tickets/1/conversations"] == 0


def test_start_bounds_the_first_load(desk: Freshdesk, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(desk, start="2026-09-22"), tmp_path)
    assert ids(found, "tickets") == {"3", "4"}


@pytest.mark.parametrize("size", [1, 130])
def test_a_pull_that_is_stopped_after_any_batch_loses_nothing(
    desk: Freshdesk, tmp_path: Path, size: int
) -> None:
    if size > 1:
        desk.rows["tickets"] = many(desk.rows["tickets"], size)
        desk.rows["conversations"] = []
    found = pull_stopping(source_of(desk), tmp_path)
    assert {name: ids(found, name) for name in desk.rows} == all_ids(desk)


def test_more_tickets_than_the_cap_allows_are_read(desk: Freshdesk, tmp_path: Path) -> None:
    desk.rows["tickets"] = many(desk.rows["tickets"], 520)
    desk.page_cap = 3
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "tickets") == all_ids(desk)["tickets"]
    assert desk.violations == []


def test_tickets_of_one_second_are_read_page_by_page(desk: Freshdesk, tmp_path: Path) -> None:
    rows = desk.rows["tickets"]
    desk.rows["tickets"] = many(rows, 350, "2026-10-01T00:00:00Z") + rows
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "tickets") == all_ids(desk)["tickets"]


@pytest.mark.parametrize("moment", ["2026-10-01T{:02d}:{:02d}:{:02d}Z", "2026-10-01T00:00:00Z"])
def test_a_ticket_that_changes_while_pages_are_read_hides_none(
    desk: Freshdesk, tmp_path: Path, moment: str
) -> None:
    desk.rows["tickets"] = many(desk.rows["tickets"], 250, moment)

    def change(request: Request) -> None:
        is_second = len([r for r in desk.requests if r.path == f"{API}/tickets"]) == 2
        if is_second and request.path == f"{API}/tickets":
            for row in desk.rows["tickets"][:3]:
                row |= {"updated_at": "2026-10-02T00:00:00Z", "subject": "Changed"}

    desk.on_page = change
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "tickets") == all_ids(desk)["tickets"]
    assert latest(found, "tickets")["1000"]["subject"] == "Changed"


def test_a_contact_that_changes_while_pages_are_read_hides_none(
    desk: Freshdesk, tmp_path: Path
) -> None:
    desk.rows["contacts"] = many(desk.rows["contacts"], 250)

    def change(request: Request) -> None:
        if request.path.endswith("/contacts") and request.query.get("page") == "2":
            desk.rows["contacts"][0] |= {"updated_at": "2026-10-02T00:00:00Z", "name": "Changed"}

    desk.on_page = change
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "contacts") == all_ids(desk)["contacts"]
    assert latest(found, "contacts")["1000"]["name"] == "Changed"


def test_a_server_without_filters_is_not_read_three_times(desk: Freshdesk, tmp_path: Path) -> None:
    desk.rows["tickets"] = many(desk.rows["tickets"], 350)
    desk.has_filters = False
    pull_all(source_of(desk), tmp_path)
    asked = [r.query.get("filter") for r in desk.requests if r.path.endswith("/tickets")]
    assert asked.count("spam") == asked.count("deleted") == 1


# Limits and faults --------------------------------------------------------------------------------


def test_nothing_is_asked_within_retry_after(desk: Freshdesk, tmp_path: Path) -> None:
    limited = Answer({"message": "You have exceeded the limit"}, 429, {"Retry-After": "1"})
    desk.limit("/conversations", limited, seconds=1)
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "conversations") == all_ids(desk)["conversations"]
    assert desk.violations == []


def test_no_request_is_sent_when_the_credits_of_the_minute_are_used_up(
    desk: Freshdesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MINUTE_SECONDS", 1.0)
    desk.extra_headers = {"X-RateLimit-Total": "50", "X-RateLimit-Remaining": "6"}
    pull = freshdesk.pull(source_of(desk), make_context(tmp_path))
    next(pull), next(pull)
    first, second = desk.requests
    assert second.at - first.at >= 0.9


def test_a_wrong_key_is_told_in_one_line(
    desk: Freshdesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"password": "wrong-secret"}')
    with pytest.raises(HearbackError, match="check connection 'desk'") as caught:
        pull_all(source_of(desk), tmp_path)
    assert "\n" not in caught.value.message
    assert "wrong-secret" not in caught.value.message


def test_a_connection_without_a_key_names_what_is_missing(
    desk: Freshdesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", "{}")
    with pytest.raises(HearbackError, match="'desk' needs a password"):
        pull_all(source_of(desk), tmp_path)


def test_a_stream_that_the_plan_lacks_is_skipped_with_a_note(
    desk: Freshdesk, tmp_path: Path
) -> None:
    desk.fail("/satisfaction_ratings", Answer({"code": "require_feature"}, 403), times=9)
    told: list[str] = []
    found, _ = pull_all(source_of(desk), tmp_path, progress=lambda text, rows: told.append(text))
    assert ids(found, "tickets") == all_ids(desk)["tickets"]
    assert any("satisfaction_ratings skipped" in text for text in told)


def test_tickets_that_may_not_be_read_are_an_error(desk: Freshdesk, tmp_path: Path) -> None:
    desk.fail("/tickets", Answer({"code": "access_denied"}, 403), times=99)
    with pytest.raises(HearbackError, match="403 from /api/v2/tickets: not allowed"):
        pull_all(source_of(desk), tmp_path)


def test_a_ticket_that_is_gone_meanwhile_has_no_conversations(
    desk: Freshdesk, tmp_path: Path
) -> None:
    desk.fail("/tickets/1/conversations", Answer(None, 404))
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "conversations") == {"104"}


def test_check_makes_one_cheap_request(desk: Freshdesk, tmp_path: Path) -> None:
    check = find_kind("freshdesk").check
    assert check is not None
    assert check(source_of(desk), make_context(tmp_path)) == "tickets can be read"
    assert len(desk.requests) == 1


def test_an_unknown_option_names_the_nearest(desk: Freshdesk, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="product_field"):
        pull_all(source_of(desk, options={"product_feild": "x"}), tmp_path)


# Mapping ------------------------------------------------------------------------------------------

Staged = dict[str, list[dict[str, Any]]]
OPTIONS = {"bots": ["92"], "product_field": "cf_product", "statuses": {"42": "hold"}}


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    folder = tmp_path_factory.mktemp("freshdesk")
    with pytest.MonkeyPatch.context() as patch, Freshdesk(load_payloads("freshdesk")) as server:
        patch.setenv("AIRFLOW_CONN_DESK", json.dumps({"password": KEY}))
        source = make_source("freshdesk", server.url, options=OPTIONS)
        found = stage(folder, source)
        assert quarantined(folder, source) == []
        yield found


@pytest.mark.parametrize(
    ("entity", "key", "column", "value"),
    [
        ("cases", "1", "channel", "email"),
        ("cases", "3", "channel", "other"),
        ("cases", "1", "subject", "Kettle leaks"),
        ("cases", "1", "source_customer_id", "71"),
        ("cases", "1", "priority", "urgent"),
        ("cases", "2", "priority", "normal"),
        ("cases", "1", "status", "solved"),
        ("cases", "2", "status", "pending"),
        ("cases", "3", "status", "hold"),
        ("cases", "4", "status", "closed"),
        ("cases", "6", "status", "deleted"),
        ("cases", "5", "tags", ["spam"]),
        ("cases", "1", "source_group", "Kitchen"),
        ("cases", "1", "assignee_id", "91"),
        ("cases", "1", "product", "Kettle"),
        ("cases", "1", "tags", ["kettle", "leak"]),
        ("cases", "1", "opened_at", at("2026-09-20T09:00:00")),
        ("cases", "1", "updated_at", at("2026-09-20T11:00:00")),
        ("messages", "ticket-1", "body", "The kettle leaks on the table."),
        ("messages", "ticket-1", "author_id", "71"),
        ("messages", "ticket-1", "author_role", "customer"),
        ("messages", "ticket-1", "source_case_id", "1"),
        ("messages", "ticket-1", "sequence", 0),
        ("messages", "ticket-1", "attachments", ["leak.jpg"]),
        ("messages", "ticket-2", "author_role", "agent"),
        ("messages", "ticket-2", "author_id", "91"),
        ("messages", "100", "author_role", "agent"),
        ("messages", "100", "author_id", "91"),
        ("messages", "100", "is_public", True),
        ("messages", "100", "created_at", at("2026-09-20T09:30:30")),
        ("messages", "101", "author_role", "customer"),
        ("messages", "101", "body", "It still leaks!"),
        ("messages", "101", "attachments", ["a.png", "b.png"]),
        ("messages", "102", "is_public", False),
        ("messages", "103", "author_role", "bot"),
        ("case_events", "1:2026-09-20T11:00:00Z:solved", "event_type", "status_changed"),
        ("case_events", "1:2026-09-20T11:00:00Z:solved", "to_value", "solved"),
        ("case_events", "1:2026-09-20T11:00:00Z:solved", "event_at", at("2026-09-20T11:00:00")),
        ("case_events", "2:2026-09-21T08:00:00Z:pending", "to_value", "pending"),
        ("case_events", "4:2026-09-22T21:00:00Z:open", "to_value", "open"),
        ("case_events", "4:2026-09-23T08:00:00Z:closed", "to_value", "closed"),
        ("case_events", "6:2026-09-18T08:00:00Z:deleted", "event_type", "deleted"),
        ("case_events", "merged:104", "event_type", "merged"),
        ("case_events", "merged:104", "to_value", "1"),
        ("case_events", "merged:104", "source_case_id", "4"),
        ("case_events", "rating:301", "event_type", "rated"),
        ("case_events", "rating:301", "actor_role", "customer"),
        ("customers", "71", "name", "Mei Lin"),
        ("customers", "71", "email", "mei@acme.example"),
        ("customers", "71", "phone", "+86 130 0000"),
        ("customers", "71", "language", "zh-CN"),
        ("customers", "71", "organization", "Acme"),
        ("customers", "71", "external_id", "crm-7"),
        ("deletions", "72", "deleted_entity", "customers"),
        ("agents", "91", "name", "Ann"),
        ("agents", "91", "email", "ann@desk.example"),
        ("agents", "91", "role", "agent"),
        ("agents", "92", "role", "bot"),
        ("agents", "91", "team", "Kitchen"),
        ("agents", "91", "is_active", True),
        ("survey_responses", "301", "score", 103.0),
        ("survey_responses", "302", "score", -103.0),
        ("survey_responses", "301", "scale_min", -103.0),
        ("survey_responses", "301", "scale_max", 103.0),
        ("survey_responses", "301", "kind", "csat"),
        ("survey_responses", "301", "comment", "Ann was quick"),
        ("survey_responses", "301", "source_customer_id", "71"),
        ("survey_responses", "301", "source_case_id", "1"),
        ("survey_responses", "301", "answered_at", at("2026-09-20T12:00:00")),
        ("feedback", "rating-301", "body", "Ann was quick"),
        ("feedback", "rating-301", "channel", "survey"),
        ("feedback", "rating-301", "rating", 103.0),
    ],
)
def test_columns(staged: Staged, entity: str, key: str, column: str, value: Any) -> None:
    names = {
        "cases": "source_case_id",
        "messages": "source_record_id",
        "case_events": "source_event_id",
        "customers": "source_customer_id",
        "agents": "source_agent_id",
        "survey_responses": "source_response_id",
        "feedback": "source_record_id",
        "deletions": "source_record_id",
    }
    assert one(staged[entity], **{names[entity]: key})[column] == value


@pytest.mark.parametrize(("metric", "minutes"), [("first_reply", 30.5), ("full_resolution", 120.0)])
def test_vendor_metrics_are_minutes_by_the_calendar(
    staged: Staged, metric: str, minutes: float
) -> None:
    row = one(staged["vendor_metrics"], source_case_id="1", metric=metric)
    assert (row["clock"], row["value"]) == ("calendar", minutes)


def test_a_case_shows_where_people_read_it(staged: Staged) -> None:
    assert one(staged["cases"], source_case_id="1")["url"].endswith("/a/tickets/1")


def test_every_field_is_used_or_ignored_by_name() -> None:
    mappings = find_kind("freshdesk").mappings(make_source("freshdesk", "https://x.example"))
    for entity, rows in load_payloads("freshdesk").items():
        if entity not in ("groups", "companies"):
            assert {key for row in rows for key in row} <= used_fields(mappings, entity)

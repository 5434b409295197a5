"""Chatwoot: pages that shift both ways, what lists hide, and every column of what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError, UsageError
from pipelines.sources import chatwoot, find_kind
from tests.pipelines.sources.chatwoot.server import ACCOUNT, API, TOKEN, Chatwoot
from tests.pipelines.sources.pulling import (
    at,
    find_unused,
    held_ids,
    ids,
    latest,
    load_payloads,
    make_context,
    make_source,
    one,
    pull_all,
    pull_committed,
    pull_stopping,
    pull_told,
    source_maker,
    stage_all,
)
from tests.pipelines.sources.vendor_server import Answer, Request

source_of = source_maker("chatwoot")
BEGIN = 1_789_000_000  # of conversations that ``many`` makes
WHOLE = ("inboxes", "teams", "agents", "agent_bots", "conversations", "csat_survey_responses")


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chatwoot]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"password": TOKEN}))
    with Chatwoot(load_payloads("chatwoot")) as server:
        assert isinstance(server, Chatwoot)
        monkeypatch.setattr(chatwoot, "read_clock", lambda: server.clock)
        yield server


def many(desk: Chatwoot, count: int) -> None:
    """Put so many conversations with a message each in place of those that are there."""
    first, said = desk.rows["conversations"][0], desk.rows["messages"][0]
    desk.rows["conversations"] = [
        first | {"id": 1000 + n, "last_activity_at": BEGIN + 100 * n, "updated_at": BEGIN + 100 * n}
        for n in range(count)
    ]
    desk.rows["messages"] = [
        said | {"id": 5000 + n, "conversation_id": 1000 + n} for n in range(count)
    ]


def list_pages(desk: Chatwoot, path: str) -> list[str]:
    return [r.query["page"] for r in desk.requests if r.path == API + path and "page" in r.query]


# Reading ------------------------------------------------------------------------------------------


def test_the_first_load_has_every_record_of_every_status_and_inbox(
    desk: Chatwoot, tmp_path: Path
) -> None:
    found, _ = pull_all(source_of(desk), tmp_path)
    assert {name: ids(found, name) for name in WHOLE} == {n: held_ids(desk, n) for n in WHOLE}
    assert ids(found, "messages") | ids(found, "activities") == held_ids(desk, "messages")
    assert ids(found, "reporting_events") == {"401", "402", "403", "404"}
    assert desk.violations == []


def test_the_list_of_contacts_leaves_out_visitors(desk: Chatwoot, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "contacts") == {"71", "72", "73"}


def test_a_conversation_is_kept_as_it_was_sent(desk: Chatwoot, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(desk), tmp_path)
    assert latest(found, "conversations")["1"] == desk.rows["conversations"][0]


def test_all_messages_of_a_long_conversation_are_read(desk: Chatwoot, tmp_path: Path) -> None:
    said = desk.rows["messages"][0]
    desk.rows["messages"] = [said | {"id": 5000 + n} for n in range(230)]
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "messages") == held_ids(desk, "messages")
    assert desk.counts()[f"{API}conversations/1/messages"] == 3


@pytest.mark.parametrize("size", [4, 80])
def test_a_pull_that_is_stopped_after_any_batch_loses_nothing(
    desk: Chatwoot, tmp_path: Path, size: int
) -> None:
    if size > 4:
        many(desk, size)
        contact = desk.rows["contacts"][0]
        desk.rows["contacts"] = [
            contact | {"id": 2000 + n, "last_activity_at": BEGIN + 100 * n} for n in range(50)
        ]
    found = pull_stopping(source_of(desk), tmp_path)
    assert ids(found, "conversations") == held_ids(desk, "conversations")
    assert ids(found, "messages") | ids(found, "activities") == held_ids(desk, "messages")
    assert ids(found, "contacts") == held_ids(desk, "contacts") - {"74"}


def test_conversations_that_move_to_the_top_hide_none_and_come_as_they_are_now(
    desk: Chatwoot, tmp_path: Path
) -> None:
    many(desk, 130)

    def move(request: Request) -> None:
        if request.query.get("page") == "3" and list_pages(desk, "conversations").count("3") == 1:
            for row in desk.rows["conversations"][:20:4]:
                row |= {"last_activity_at": BEGIN + 90_000 + row["id"], "status": "open"}

    desk.on_page = move
    found, position = pull_all(source_of(desk), tmp_path)
    assert ids(found, "conversations") == held_ids(desk, "conversations")
    assert latest(found, "conversations")["1000"]["status"] == "open"
    assert position["conversations"]["since"] == BEGIN + 90_000 + 1016


def test_conversations_that_are_deleted_while_pages_are_read_pull_none_out_of_sight(
    desk: Chatwoot, tmp_path: Path
) -> None:
    many(desk, 130)

    def delete(request: Request) -> None:
        if request.query.get("page") == "3" and list_pages(desk, "conversations").count("3") == 1:
            del desk.rows["conversations"][-30:]  # more than a page

    desk.on_page = delete
    found, _ = pull_all(source_of(desk), tmp_path)
    assert held_ids(desk, "conversations") <= ids(found, "conversations")


def test_a_walk_that_was_stopped_goes_on_where_it_stood_though_rows_were_deleted(
    desk: Chatwoot, tmp_path: Path
) -> None:
    many(desk, 130)
    kind, position, given = find_kind("chatwoot"), {}, set()
    for batch in kind.pull(source_of(desk), make_context(tmp_path)):
        if batch.entity == "conversations" and isinstance(batch.records, list):
            given |= {record.record_id for record in batch.records}
            position = json.loads(json.dumps(batch.position))
            if len(given) == 75:
                break
    del desk.rows["conversations"][-40:]
    desk.requests.clear()
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert held_ids(desk, "conversations") <= given | ids(found, "conversations")
    assert list_pages(desk, "conversations")[0] == "4"


def test_the_second_pull_reads_the_top_alone(desk: Chatwoot, tmp_path: Path) -> None:
    many(desk, 130)
    _, position = pull_all(source_of(desk), tmp_path)
    desk.rows["conversations"][7] |= {"last_activity_at": BEGIN + 90_000}
    desk.requests.clear()
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert ids(found, "conversations") == {"1007", "1129"}
    assert set(list_pages(desk, "conversations")) == {"1"}


def test_a_change_without_a_message_is_found(desk: Chatwoot, tmp_path: Path) -> None:
    many(desk, 130)
    desk.clock = BEGIN + 13_000
    _, position = pull_all(source_of(desk), tmp_path)
    desk.rows["conversations"][7] |= {"updated_at": BEGIN + 13_500, "labels": ["late"]}
    desk.clock += 3600
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert latest(found, "conversations")["1007"]["labels"] == ["late"]


def test_a_change_without_a_message_is_found_after_a_long_break(
    desk: Chatwoot, tmp_path: Path
) -> None:
    """Longer than ``updated_within`` may reach back, for its answer has no pages."""
    many(desk, 130)
    desk.clock = BEGIN + 13_000
    _, position = pull_all(source_of(desk), tmp_path)
    desk.rows["conversations"][7] |= {"updated_at": BEGIN + 50_000, "labels": ["late"]}
    desk.clock += 5 * 86_400
    desk.requests.clear()
    found, position = pull_all(source_of(desk), tmp_path, position)
    assert latest(found, "conversations")["1007"]["labels"] == ["late"]
    assert "1006" not in ids(found, "conversations")
    assert not [r for r in desk.requests if "updated_within" in r.query]
    assert "changed_since" not in position["conversations"]
    desk.clock += 60
    desk.requests.clear()
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert ids(found, "conversations") == {"1129"}
    assert set(list_pages(desk, "conversations")) == {"1"}


def test_a_walk_after_a_long_break_that_is_stopped_goes_on_with_what_it_looks_for(
    desk: Chatwoot, tmp_path: Path
) -> None:
    many(desk, 130)
    desk.clock = BEGIN + 13_000
    _, position = pull_all(source_of(desk), tmp_path)
    desk.rows["conversations"][7] |= {"updated_at": BEGIN + 50_000, "labels": ["late"]}
    desk.clock += 5 * 86_400
    desk.fail("/conversations", Answer({"error": "no"}, 403), skip=20, times=99)
    _, position, told = pull_committed(source_of(desk), tmp_path, position)
    assert "403" in told
    assert position["conversations"]["walk"]["page"] > 0
    desk.faults.clear()
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert ids(found, "conversations") == {"1007", "1129"}  # the top is always looked at


def test_a_first_load_that_stood_still_for_long_is_begun_anew(
    desk: Chatwoot, tmp_path: Path
) -> None:
    many(desk, 130)
    desk.fail("/conversations", Answer({"error": "no"}, 403), skip=60, times=99)
    _, position, told = pull_committed(source_of(desk), tmp_path, {})
    assert "403" in told
    assert position["conversations"]["walk"]["page"] > 0
    desk.faults.clear()
    desk.clock += 5 * 86_400
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert ids(found, "conversations") == held_ids(desk, "conversations")


def test_deletions_since_the_first_pull_arrive_as_such(desk: Chatwoot, tmp_path: Path) -> None:
    audits = desk.rows["audit_logs"]
    desk.rows["audit_logs"] = [row for row in audits if row["created_at"] < desk.clock]
    found, position = pull_all(source_of(desk), tmp_path)
    assert ids(found, "audit_logs") == set()  # 904 was before
    other = next(row for row in audits if row["action"] == "update")
    desk.rows["audit_logs"] = audits + [
        other | {"id": 1000 + n, "created_at": desk.clock + n} for n in range(60)
    ]
    desk.clock += 400
    found, position = pull_all(source_of(desk), tmp_path, position)
    assert ids(found, "audit_logs") == {"902", "903"}
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert ids(found, "audit_logs") <= {"902", "903"}
    assert list_pages(desk, "audit_logs")[-1] == "1"


def test_a_server_without_an_audit_log_is_told_of(desk: Chatwoot, tmp_path: Path) -> None:
    desk.has_audits = False
    found, told = pull_told(source_of(desk), tmp_path)
    assert ids(found, "conversations") == held_ids(desk, "conversations")
    assert "deletions skipped" in told


def test_contacts_are_read_whole_once_a_week(desk: Chatwoot, tmp_path: Path) -> None:
    _, position = pull_all(source_of(desk), tmp_path)
    desk.rows["contacts"][0]["email"] = "edited@acme.example"
    desk.clock += 86_400
    found, position = pull_all(source_of(desk), tmp_path, position)
    assert "71" not in ids(found, "contacts")
    desk.clock += 7 * 86_400
    found, position = pull_all(source_of(desk), tmp_path, position)
    assert latest(found, "contacts")["71"]["email"] == "edited@acme.example"


def test_a_new_contact_who_was_never_active_is_found(desk: Chatwoot, tmp_path: Path) -> None:
    _, position = pull_all(source_of(desk), tmp_path)
    new = desk.rows["contacts"][2] | {"id": 99, "created_at": desk.clock + 10}
    desk.rows["contacts"].append(new)
    desk.clock += 60
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert "99" in ids(found, "contacts")


def test_a_comment_that_comes_after_its_stars_is_found(desk: Chatwoot, tmp_path: Path) -> None:
    _, position = pull_all(source_of(desk), tmp_path)
    desk.rows["csat_survey_responses"][0]["feedback_message"] = "On second thought"
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert latest(found, "csat_survey_responses")["301"]["feedback_message"] == "On second thought"


def test_start_bounds_the_first_load(desk: Chatwoot, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(desk, start="2026-09-22"), tmp_path)
    assert ids(found, "conversations") == {"3", "4"}


# The account --------------------------------------------------------------------------------------


def test_several_accounts_want_the_option(desk: Chatwoot, tmp_path: Path) -> None:
    desk.rows["profile"]["accounts"].append({"id": 8, "name": "Other", "role": "agent"})
    with pytest.raises(UsageError, match="token may see: 7, 8"):
        pull_all(source_of(desk), tmp_path)
    found, _ = pull_all(source_of(desk, options={"account_id": ACCOUNT}), tmp_path)
    assert ids(found, "conversations") == held_ids(desk, "conversations")


def test_a_token_of_an_agent_is_told_of(desk: Chatwoot, tmp_path: Path) -> None:
    desk.rows["profile"]["accounts"][0]["role"] = "agent"
    told: list[str] = []
    pull_all(source_of(desk), tmp_path, note=told.append)
    assert any("only the agent's inboxes" in text for text in told)


def test_check_says_what_answers(desk: Chatwoot, tmp_path: Path) -> None:
    check = find_kind("chatwoot").check
    assert check is not None
    assert check(source_of(desk), make_context(tmp_path)) == "4 conversations"
    assert len(desk.requests) == 2


# Limits and faults --------------------------------------------------------------------------------


def test_a_connection_without_a_token_names_what_is_missing(
    desk: Chatwoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", "{}")
    with pytest.raises(HearbackError, match="'desk' needs a password"):
        pull_all(source_of(desk), tmp_path)


def test_a_list_that_the_token_may_not_read_is_skipped_with_a_note(
    desk: Chatwoot, tmp_path: Path
) -> None:
    desk.fail("/csat_survey_responses", Answer({"error": "not authorized"}, 401), times=9)
    found, told = pull_told(source_of(desk), tmp_path)
    assert ids(found, "conversations") == held_ids(desk, "conversations")
    assert "csat_survey_responses skipped" in told


def test_a_token_that_ends_is_no_missing_right(desk: Chatwoot, tmp_path: Path) -> None:
    desk.fail("/csat_survey_responses", desk.refuse(Request("GET", "/", {}, {}, None, 0.0)))
    with pytest.raises(HearbackError, match="refused; check connection 'desk'"):
        pull_all(source_of(desk), tmp_path)


def test_a_server_without_measures_is_asked_once(desk: Chatwoot, tmp_path: Path) -> None:
    desk.has_measures = False
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "conversations") == held_ids(desk, "conversations")
    assert len([r for r in desk.requests if r.path.endswith("/reporting_events")]) == 1


def test_conversations_that_may_not_be_read_are_an_error(desk: Chatwoot, tmp_path: Path) -> None:
    desk.fail("/conversations", Answer({"error": "no"}, 403), times=99)
    with pytest.raises(HearbackError, match="403 from /api/v1/accounts/7/conversations"):
        pull_all(source_of(desk), tmp_path)


def test_a_conversation_that_is_gone_meanwhile_has_no_messages(
    desk: Chatwoot, tmp_path: Path
) -> None:
    desk.fail("/conversations/4/messages", Answer({"error": "not found"}, 404))
    found, _ = pull_all(source_of(desk), tmp_path)
    assert "160" not in ids(found, "messages")
    assert "140" in ids(found, "messages")


# Mapping ------------------------------------------------------------------------------------------

Staged = dict[str, list[dict[str, Any]]]
NAMES = {
    "cases": "source_case_id",
    "messages": "source_record_id",
    "case_events": "source_event_id",
    "agents": "source_agent_id",
    "feedback": "source_record_id",
}


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    folder = tmp_path_factory.mktemp("chatwoot")
    with pytest.MonkeyPatch.context() as patch, Chatwoot(load_payloads("chatwoot")) as server:
        patch.setenv("AIRFLOW_CONN_DESK", json.dumps({"password": TOKEN}))
        patch.setattr(chatwoot, "read_clock", lambda: server.clock)
        source = source_of(server, options={"product_attribute": "product"})
        yield stage_all(folder, source)


@pytest.mark.parametrize(
    ("entity", "key", "column", "value"),
    [
        ("cases", "1", "channel", "email"),
        ("cases", "2", "channel", "social"),
        ("cases", "3", "channel", "chat"),
        ("cases", "1", "subject", "Kettle leaks"),
        ("cases", "1", "source_customer_id", "contact-71"),
        ("cases", "1", "priority", "urgent"),
        ("cases", "3", "priority", "normal"),
        ("cases", "2", "priority", None),
        ("cases", "1", "status", "solved"),
        ("cases", "2", "status", "hold"),
        ("cases", "3", "status", "pending"),
        ("cases", "4", "status", "open"),
        ("cases", "1", "source_group", "kitchen"),
        ("cases", "2", "source_group", "售后"),
        ("cases", "4", "source_group", "Website"),
        ("cases", "1", "assignee_id", "user-1"),
        ("cases", "4", "assignee_id", None),
        ("cases", "1", "product", "Kettle"),
        ("cases", "1", "tags", ["kettle", "leak"]),
        ("cases", "1", "opened_at", at("2026-09-20T09:00:00")),
        ("cases", "1", "updated_at", at("2026-09-20T11:00:00.250")),
        ("messages", "100", "body", "The kettle leaks on the table."),
        ("messages", "100", "author_id", "contact-71"),
        ("messages", "100", "author_role", "customer"),
        ("messages", "100", "source_case_id", "1"),
        ("messages", "100", "channel", "email"),
        ("messages", "100", "is_public", True),
        ("messages", "100", "attachments", ["https://desk.example/rails/leak.jpg"]),
        ("messages", "101", "author_role", "bot"),
        ("messages", "103", "author_role", "agent"),
        ("messages", "103", "author_id", "user-1"),
        ("messages", "103", "created_at", at("2026-09-20T09:30:30")),
        ("messages", "105", "is_public", False),
        ("messages", "121", "author_role", "agent"),
        ("messages", "141", "author_role", "bot"),
        ("messages", "141", "author_id", "agent_bot-1"),
        ("messages", "120", "channel", "social"),
        ("case_events", "audit:902", "event_type", "deleted"),
        ("case_events", "audit:902", "source_case_id", "2"),
        ("case_events", "audit:902", "actor_id", "user-1"),
        ("case_events", "audit:902", "event_at", at("2026-09-21T14:18:30")),
        ("case_events", "file:104", "event_type", "customer_message"),
        ("case_events", "file:104", "actor_role", "customer"),
        ("case_events", "csat:301", "event_type", "rated"),
        ("case_events", "csat:301", "to_value", "5"),
        ("agents", "user-1", "name", "Ann Lee"),
        ("agents", "user-1", "email", "ann@desk.example"),
        ("agents", "user-1", "team", "kitchen"),
        ("agents", "user-2", "team", "售后"),
        ("agents", "user-3", "is_active", False),
        ("agents", "agent_bot-1", "role", "bot"),
        ("feedback", "csat-301", "body", "Ann was quick"),
        ("feedback", "csat-301", "rating", 5.0),
        ("feedback", "csat-301", "rating_max", 5.0),
        ("feedback", "csat-301", "channel", "survey"),
        ("feedback", "csat-301", "source_customer_id", "contact-71"),
    ],
)
def test_columns(staged: Staged, entity: str, key: str, column: str, value: Any) -> None:
    assert one(staged[entity], **{NAMES[entity]: key})[column] == value


@pytest.mark.parametrize(
    ("key", "change", "actor", "was", "to"),
    [
        ("102:self", "assignee", "user-1", None, "user-1"),
        ("106:priority", "priority", "user-1", None, "urgent"),
        ("107:labels", "tags", "user-1", None, "kettle, leak"),
        ("108:team", "group", "user-1", None, "kitchen"),
        ("109:assignee", "assignee", "user-1", None, "user-2"),
        ("110:assignee", "assignee", None, None, "user-1"),
        ("110:team_too", "group", None, None, "kitchen"),
        ("111:status:solved", "status", "user-1", None, "solved"),
        ("122:assignee", "assignee", "user-1", None, "user-2"),
        ("123:team", "group", "user-2", None, "售后"),
        ("124:priority", "priority", "user-2", "low", "high"),
        ("125:labels", "tags", "user-2", None, "物流"),
        ("126:no_labels", "tags", "user-2", "物流", None),
        ("127:status:hold", "status", "user-2", None, "hold"),
        ("128:status:open", "status", "user-2", None, "open"),
        ("129:no_team", "group", "user-2", "售后", None),
        ("130:no_assignee", "assignee", "user-2", None, None),
        ("131:status:solved", "status", "user-2", None, "solved"),
        ("142:status:solved", "status", None, None, "solved"),
        ("143:status:open", "status", None, None, "open"),
        ("144:status:pending", "status", "user-1", None, "pending"),
        ("145:priority", "priority", "user-1", "high", "normal"),
        ("146:no_priority", "priority", "user-1", None, None),
        ("147:no_labels", "tags", "user-1", "kettle", None),
        ("148:no_team", "group", "user-1", "kitchen", None),
        ("149:no_assignee", "assignee", "user-1", None, None),
        ("151:status:hold", "status", "user-1", None, "hold"),
    ],
)
def test_activities(
    staged: Staged, key: str, change: str, actor: str | None, was: str | None, to: str | None
) -> None:
    row = one(staged["case_events"], source_event_id=key)
    found = (row["event_type"], row["actor_id"], row["from_value"], row["to_value"])
    assert found == (f"{change}_changed", actor, was, to)


def test_an_activity_gives_no_more_events_than_it_says(staged: Staged) -> None:
    said = [row for row in staged["case_events"] if row["record_id"].isdigit()]
    changes = [row for row in said if row["event_type"].endswith("_changed")]
    assert len(changes) == 27  # those above; the SLA policy of 150 is none


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("external_id", "crm-7"),
        ("name", "Mei Lin"),
        ("email", "mei@acme.example"),
        ("phone", "+8613000000000"),
        ("organization", "Acme"),
        ("region", "China"),
        ("do_not_contact", False),
        ("signup_at", at("2026-09-01T00:00:00")),
        ("updated_at", at("2026-09-20T11:00:00")),
    ],
)
def test_contacts(staged: Staged, column: str, value: Any) -> None:
    rows = [row for row in staged["customers"] if row["record_id"] == "71"]
    assert one(rows, source_customer_id="contact-71")[column] == value


def test_a_blocked_contact_is_not_to_be_written_to(staged: Staged) -> None:
    rows = [row for row in staged["customers"] if row["record_id"] == "72"]
    assert one(rows, source_customer_id="contact-72")["do_not_contact"] is True


def test_contacts_and_messages_that_were_deleted_are_told(staged: Staged) -> None:
    found = [
        (row["deleted_entity"], row["source_record_id"], row["deleted_at"])
        for row in staged["deletions"]
    ]
    assert sorted(found) == [
        ("customers", "contact-73", at("2026-09-21T14:18:40")), ("feedback", "161", None),
    ]  # fmt: skip
    assert "161" not in {row["source_record_id"] for row in staged["messages"]}


def test_a_visitor_comes_with_the_conversation(staged: Staged) -> None:
    row = one(staged["customers"], source_customer_id="contact-74", record_id="4")
    assert row["name"] == "bold-sky-12"


def test_the_language_of_the_browser_is_the_customers(staged: Staged) -> None:
    rows = [row for row in staged["customers"] if row["record_id"] == "3"]
    assert one(rows, source_customer_id="contact-74")["language"] == "zh"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("score", 5.0),
        ("scale_min", 1.0),
        ("scale_max", 5.0),
        ("kind", "csat"),
        ("comment", "Ann was quick"),
        ("source_customer_id", "contact-71"),
        ("source_case_id", "1"),
        ("offered_at", at("2026-09-20T10:50:05")),
        ("answered_at", at("2026-09-20T12:00:00")),
    ],
)
def test_an_answer_has_the_id_of_its_request(staged: Staged, column: str, value: Any) -> None:
    rows = [row for row in staged["survey_responses"] if row["answered_at"]]
    assert one(rows, source_response_id="112")[column] == value


def test_a_request_without_an_answer_is_an_offer(staged: Staged) -> None:
    row = one(staged["survey_responses"], source_response_id="132")
    assert (row["offered_at"], row["score"]) == (at("2026-09-21T08:00:00"), None)


@pytest.mark.parametrize(
    ("metric", "clock", "minutes"),
    [
        ("first_reply", "calendar", 30.5),
        ("first_reply", "business", 20.0),
        ("full_resolution", "calendar", 110.0),
        ("full_resolution", "business", 100.0),
    ],
)
def test_vendor_metrics_are_minutes_and_the_last_counts(
    staged: Staged, metric: str, clock: str, minutes: float
) -> None:
    rows = [r for r in staged["vendor_metrics"] if (r["metric"], r["clock"]) == (metric, clock)]
    last = max(rows, key=lambda row: row["updated_at"])
    assert (last["source_case_id"], last["value"]) == ("1", pytest.approx(minutes))


def test_a_case_shows_where_people_read_it(staged: Staged) -> None:
    url = one(staged["cases"], source_case_id="1")["url"]
    assert url.endswith("/app/accounts/7/conversations/1")


def test_every_field_is_used_or_ignored_by_name() -> None:
    source = make_source("chatwoot")
    for entity, rows in load_payloads("chatwoot").items():
        if entity in (
            "contacts",
            "conversations",
            "messages",
            "csat_survey_responses",
            "audit_logs",
        ):
            assert find_unused(source, entity, rows) == set(), entity

"""Zoho Desk: searches that show 5,000 rows, texts that need a second request, tokens that end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError, UsageError
from pipelines.sources import find_kind, zoho_desk
from pipelines.sources.zoho import find_accounts
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
    pull_stopping,
    pull_told,
    source_maker,
    stage,
    stage_all,
)
from tests.pipelines.sources.vendor_server import Answer, Request
from tests.pipelines.sources.zoho_desk.server import API, ZohoDesk
from tests.pipelines.sources.zoho_server import connection_of

source_of = source_maker("zoho_desk")
WHOLE = ("departments", "teams", "agents", "accounts", "contacts", "happiness")
SEARCH = f"{API}tickets/search"
FIRST_PULL = datetime(2026, 9, 23, tzinfo=UTC)  # before what the recycle bin holds


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[ZohoDesk]:
    with ZohoDesk(load_payloads("zoho_desk")) as server:
        assert isinstance(server, ZohoDesk)
        monkeypatch.setenv("AIRFLOW_CONN_DESK", connection_of(server))
        monkeypatch.setattr(zoho_desk, "read_clock", lambda: FIRST_PULL)
        yield server


def many(desk: ZohoDesk, count: int, moment: str = "2026-10-01T{:02d}:{:02d}:{:02d}.000Z") -> None:
    """So many copies of the third ticket, a second apart unless ``moment`` says otherwise."""
    last = desk.rows["tickets"][2]
    times = (moment.format(n // 3600, n // 60 % 60, n % 60) for n in range(count))
    desk.rows["tickets"] = [
        last | {"id": str(20_000 + n), "modifiedTime": time} for n, time in enumerate(times)
    ]


def threads_asked(desk: ZohoDesk) -> list[str]:
    return [r.path.rpartition("/")[2] for r in desk.requests if "/threads/" in r.path]


# Reading ------------------------------------------------------------------------------------------


def test_the_first_load_has_every_record_archived_and_disabled_ones_included(
    desk: ZohoDesk, tmp_path: Path
) -> None:
    found, _ = pull_all(source_of(desk), tmp_path)
    assert {name: ids(found, name) for name in WHOLE} == {n: held_ids(desk, n) for n in WHOLE}
    assert ids(found, "tickets") == {"1001", "1002", "1003", "900"}
    assert ids(found, "threads") == {"501", "502", "503", "504", "505"}
    assert ids(found, "comments") == {"551", "552"}
    assert ids(found, "metrics") == {"1001", "1002", "1003", "900"}
    assert len(ids(found, "history")) == 9
    assert (ids(found, "deleted_tickets"), ids(found, "deleted_contacts")) == ({"1009"}, {"79"})
    assert desk.violations == []


def test_a_thread_has_its_whole_text(desk: ZohoDesk, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(desk), tmp_path)
    assert latest(found, "threads")["501"]["plainText"].endswith("quite a flood by now.")


def test_a_ticket_is_kept_as_it_was_sent(desk: ZohoDesk, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(desk), tmp_path)
    assert latest(found, "tickets")["1001"] == desk.rows["tickets"][0]


@pytest.mark.parametrize("first", [0, 1])
def test_no_row_is_passed_over_whether_pages_count_from_0_or_1(
    desk: ZohoDesk, tmp_path: Path, first: int
) -> None:
    desk.first = first
    said = desk.rows["conversations"]["1001"][6]
    desk.rows["conversations"]["1001"] = [said | {"id": str(6000 + n)} for n in range(250)]
    change = desk.rows["history"]["1001"][3]
    desk.rows["history"]["1001"] = [
        change | {"eventTime": f"2026-09-20T10:{n // 60:02d}:{n % 60:02d}.000Z"} for n in range(250)
    ]
    found, _ = pull_all(source_of(desk), tmp_path)
    assert len(ids(found, "comments")) == 250
    assert len([i for i in ids(found, "history") if i.startswith("1001-")]) == 250


def test_the_second_pull_asks_from_just_before_the_newest_record(
    desk: ZohoDesk, tmp_path: Path
) -> None:
    _, position = pull_all(source_of(desk), tmp_path)
    desk.rows["tickets"][1]["modifiedTime"] = "2026-09-24T08:00:00.000Z"
    desk.requests.clear()
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert ids(found, "tickets") == {"1002", "1003"}
    asked = [r.query["modifiedTimeRange"] for r in desk.requests if r.path == SEARCH]
    assert asked[0].startswith("2026-09-22T07:55:00.000Z,")


def test_texts_that_were_given_are_not_asked_for_again(desk: ZohoDesk, tmp_path: Path) -> None:
    _, position = pull_all(source_of(desk), tmp_path)
    new = desk.rows["conversations"]["1001"][1]
    for number, time in (("506", "2026-09-30T10:00:00.000Z"), ("507", "2026-09-20T10:00:00.000Z")):
        desk.rows["conversations"]["1001"].append(new | {"id": number, "createdTime": time})
    desk.rows["tickets"][0]["modifiedTime"] = "2026-09-30T10:00:00.000Z"
    position["texts"]["since"] = "2026-09-28T00:00:00.000Z"
    desk.requests.clear()
    pull_all(source_of(desk), tmp_path, position)
    assert threads_asked(desk) == ["506"]


def test_old_texts_are_read_though_the_first_load_was_stopped_before_their_tickets(
    desk: ZohoDesk, tmp_path: Path
) -> None:
    said = desk.rows["conversations"]["1001"][0]
    for ticket, time in (("1003", "2026-12-01T08:00:00.000Z"), ("900", "2025-02-01T09:00:00.000Z")):
        old = {"id": f"{ticket}1", "createdTime": "2025-01-01T09:00:00.000Z"}
        desk.rows["conversations"][ticket] = [said | old]
        for row in [*desk.rows["tickets"], *desk.rows["archived"]["31"]]:
            if row["id"] == ticket:
                row["modifiedTime"] = time
    found = pull_stopping(source_of(desk), tmp_path)
    assert {"10031", "9001"} <= ids(found, "threads")


def test_start_bounds_the_first_load_and_later_texts_of_older_tickets_are_whole(
    desk: ZohoDesk, tmp_path: Path
) -> None:
    source = source_of(desk, start="2026-09-22")
    found, position = pull_all(source, tmp_path)
    assert ids(found, "tickets") == {"1003"}
    position["texts"]["since"] = "2026-10-28T00:00:00.000Z"
    desk.rows["tickets"][0]["modifiedTime"] = "2026-10-30T10:00:00.000Z"
    found, _ = pull_all(source, tmp_path, position)
    assert ids(found, "threads") == {"501", "502", "503", "504", "505"}


@pytest.mark.parametrize("size", [3, 36])
def test_a_pull_that_is_stopped_after_any_batch_loses_nothing(
    desk: ZohoDesk, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three pages of tickets, two of archived ones, and three of ratings."""
    monkeypatch.setattr(zoho_desk, "PAGE_SIZE", 15)
    if size > 3:
        many(desk, size)
        rating = desk.rows["happiness"][0]
        desk.rows["happiness"] = [
            rating | {"id": str(8000 + n), "ratedTime": f"2026-10-{n % 28 + 1:02d}T00:00:00.000Z"}
            for n in range(120)
        ]
        desk.rows["archived"]["31"] = [
            desk.rows["archived"]["31"][0] | {"id": str(300 + n)} for n in range(20)
        ]
    found = pull_stopping(source_of(desk), tmp_path)
    assert {name: ids(found, name) for name in WHOLE} == {n: held_ids(desk, n) for n in WHOLE}
    archived = {row["id"] for row in desk.rows["archived"]["31"]}
    assert ids(found, "tickets") == held_ids(desk, "tickets") | archived


def test_more_tickets_than_a_search_shows_are_read(desk: ZohoDesk, tmp_path: Path) -> None:
    many(desk, 520)
    desk.most_offset = 199
    found, _ = pull_all(source_of(desk, options={"history": False, "metrics": False}), tmp_path)
    assert held_ids(desk, "tickets") <= ids(found, "tickets")
    assert desk.violations == []


def test_tickets_of_one_second_are_read_page_by_page(desk: ZohoDesk, tmp_path: Path) -> None:
    many(desk, 350, "2026-10-01T00:00:00.000Z")
    found, _ = pull_all(source_of(desk, options={"history": False, "metrics": False}), tmp_path)
    assert held_ids(desk, "tickets") <= ids(found, "tickets")


@pytest.mark.parametrize("moment", ["2026-10-01T{:02d}:{:02d}:{:02d}.000Z",
                                    "2026-10-01T00:00:00.000Z"])  # fmt: skip
def test_a_ticket_that_changes_while_pages_are_read_hides_none(
    desk: ZohoDesk, tmp_path: Path, moment: str
) -> None:
    many(desk, 250, moment)

    def change(request: Request) -> None:
        if request.path == SEARCH and desk.counts()[SEARCH] == 2:
            for row in desk.rows["tickets"][:3]:
                row |= {"modifiedTime": "2026-10-02T00:00:00.000Z", "subject": "Changed"}

    desk.on_page = change
    found, _ = pull_all(source_of(desk, options={"history": False, "metrics": False}), tmp_path)
    assert held_ids(desk, "tickets") <= ids(found, "tickets")
    assert latest(found, "tickets")["20000"]["subject"] == "Changed"


def test_a_rating_that_is_deleted_while_pages_are_read_pulls_none_out_of_sight(
    desk: ZohoDesk, tmp_path: Path
) -> None:
    rating = desk.rows["happiness"][0]
    desk.rows["happiness"] = [
        rating
        | {"id": str(8000 + n), "ratedTime": f"2026-10-01T00:{n // 60:02d}:{n % 60:02d}.000Z"}
        for n in range(160)
    ]

    def delete(request: Request) -> None:
        if request.path.endswith("customerHappiness") and request.query["from"] == "40":
            del desk.rows["happiness"][-15:]

    desk.on_page = delete
    found, _ = pull_all(source_of(desk), tmp_path)
    assert held_ids(desk, "happiness") <= ids(found, "happiness")


def test_a_comment_that_comes_after_its_rating_is_found(desk: ZohoDesk, tmp_path: Path) -> None:
    _, position = pull_all(source_of(desk), tmp_path)
    desk.rows["happiness"][0]["feedback"] = "On second thought"
    found, _ = pull_all(source_of(desk), tmp_path, position)
    assert latest(found, "happiness")["801"]["feedback"] == "On second thought"


def test_what_was_deleted_before_the_first_pull_is_left_alone(
    desk: ZohoDesk, tmp_path: Path
) -> None:
    desk.rows["deleted"]["contacts"][0]["deletedTime"] = "2026-09-22T12:00:00.000Z"
    found, _ = pull_all(source_of(desk), tmp_path)
    assert (ids(found, "deleted_tickets"), ids(found, "deleted_contacts")) == ({"1009"}, set())


def test_history_and_metrics_may_be_left_out(desk: ZohoDesk, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(desk, options={"history": False, "metrics": False}), tmp_path)
    assert ids(found, "history") == ids(found, "metrics") == set()


# Tokens and organisations -------------------------------------------------------------------------


def test_one_token_serves_for_the_whole_pull(desk: ZohoDesk, tmp_path: Path) -> None:
    pull_all(source_of(desk), tmp_path)
    assert len(desk.tokens) == 1


def test_a_token_that_ends_early_is_replaced(desk: ZohoDesk, tmp_path: Path) -> None:
    def revoke(request: Request) -> None:
        if request.path == SEARCH and len(desk.tokens) == 1:
            desk.tokens.append("1000.other")

    desk.on_page = revoke
    found, _ = pull_all(source_of(desk), tmp_path)
    assert held_ids(desk, "tickets") <= ids(found, "tickets")
    assert len(desk.tokens) == 3


def test_a_ready_token_needs_no_login(
    desk: ZohoDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.tokens.append("1000.ready")
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"password": "1000.ready"}')
    found, _ = pull_all(source_of(desk), tmp_path)
    assert held_ids(desk, "tickets") <= ids(found, "tickets")


def test_a_connection_without_a_refresh_token_names_what_is_missing(
    desk: ZohoDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"login": "client", "password": "quiet-secret"}')
    with pytest.raises(HearbackError, match=r"'desk' needs a login .* extra\.refresh_token"):
        pull_all(source_of(desk), tmp_path)


def test_several_organisations_want_the_option(desk: ZohoDesk, tmp_path: Path) -> None:
    desk.rows["organizations"].append({"id": "778"})
    with pytest.raises(UsageError, match="login may see: 777, 778"):
        pull_all(source_of(desk), tmp_path)
    found, _ = pull_all(source_of(desk, options={"org_id": "777"}), tmp_path)
    assert held_ids(desk, "tickets") <= ids(found, "tickets")


@pytest.mark.parametrize(
    ("host", "accounts"),
    [
        ("desk.zoho.com", "https://accounts.zoho.com"),
        ("desk.zoho.eu", "https://accounts.zoho.eu"),
        ("desk.zoho.in", "https://accounts.zoho.in"),
        ("desk.zoho.com.cn", "https://accounts.zoho.com.cn"),
        ("desk.zoho.com.au", "https://accounts.zoho.com.au"),
        ("desk.zoho.jp", "https://accounts.zoho.jp"),
        ("desk.zohocloud.ca", "https://accounts.zohocloud.ca"),
        ("www.zohoapis.com.cn", "https://accounts.zoho.com.cn"),
        ("www.zohoapis.ca", "https://accounts.zohocloud.ca"),
        ("proxy.acme.example", "https://accounts.zoho.com"),
        ("notzoho.eu", "https://accounts.zoho.com"),
    ],
)
def test_tokens_come_from_the_data_centre_of_the_host(host: str, accounts: str) -> None:
    assert find_accounts(host) == accounts


# Limits and faults --------------------------------------------------------------------------------


def test_credits_of_the_day_that_are_used_up_name_the_hour(desk: ZohoDesk, tmp_path: Path) -> None:
    limited = Answer({"errorCode": "THRESHOLD_EXCEEDED"}, 429, {"Retry-After": "40000"})
    desk.fail("/conversations", limited, times=99)
    with pytest.raises(HearbackError, match="limit of the API is used up until"):
        pull_all(source_of(desk), tmp_path)


def test_the_credits_that_are_left_are_told(desk: ZohoDesk, tmp_path: Path) -> None:
    desk.extra_headers = {"X-Rate-Limit-Remaining-v3": "74321"}
    told: list[str] = []
    pull_all(source_of(desk), tmp_path, note=told.append)
    assert "74,321 requests left" in told


@pytest.mark.parametrize("lacking", ["history", "metrics"])
def test_what_the_plan_lacks_is_asked_for_once_and_told(
    desk: ZohoDesk, tmp_path: Path, lacking: str
) -> None:
    desk.scopes.discard(lacking)
    found, told = pull_told(source_of(desk), tmp_path)
    assert ids(found, lacking) == set()
    assert held_ids(desk, "tickets") <= ids(found, "tickets")
    assert len([r for r in desk.requests if r.path.lower().endswith(f"/{lacking}")]) == 1
    assert re.search(f"{lacking} skipped.*FORBIDDEN", told)


def test_a_bin_that_may_not_be_read_is_skipped_with_a_note(desk: ZohoDesk, tmp_path: Path) -> None:
    desk.scopes.discard("recycle")
    found, told = pull_told(source_of(desk), tmp_path)
    assert ids(found, "happiness") == held_ids(desk, "happiness")
    assert "deleted_tickets skipped" in told


def test_tickets_that_may_not_be_searched_are_an_error(desk: ZohoDesk, tmp_path: Path) -> None:
    desk.scopes.discard("search")
    with pytest.raises(HearbackError, match="403 from /api/v1/tickets/search: not allowed"):
        pull_all(source_of(desk), tmp_path)


def test_a_ticket_that_is_gone_meanwhile_has_no_threads(desk: ZohoDesk, tmp_path: Path) -> None:
    gone = Answer({"errorCode": "RESOURCE_NOT_FOUND"}, 404)
    desk.fail("/1001/conversations", gone)
    found, _ = pull_all(source_of(desk), tmp_path)
    assert ids(found, "threads") == set()
    assert "1002" in ids(found, "metrics")


def test_check_says_how_many_tickets_there_are(desk: ZohoDesk, tmp_path: Path) -> None:
    check = find_kind("zoho_desk").check
    assert check is not None
    assert check(source_of(desk), make_context(tmp_path)) == "3 tickets"


# Mapping ------------------------------------------------------------------------------------------

Staged = dict[str, list[dict[str, Any]]]
OPTIONS = {
    "bots": ["92"],
    "product_field": "cf_product",
    "statuses": {"Waiting for stock": "pending"},
}
NAMES = {
    "cases": "source_case_id",
    "messages": "source_record_id",
    "case_events": "source_event_id",
    "customers": "source_customer_id",
    "agents": "source_agent_id",
    "survey_responses": "source_response_id",
    "feedback": "source_record_id",
    "deletions": "source_record_id",
}


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    folder = tmp_path_factory.mktemp("zoho_desk")
    with pytest.MonkeyPatch.context() as patch, ZohoDesk(load_payloads("zoho_desk")) as server:
        assert isinstance(server, ZohoDesk)
        patch.setenv("AIRFLOW_CONN_DESK", connection_of(server))
        patch.setattr(zoho_desk, "read_clock", lambda: FIRST_PULL)
        source = make_source("zoho_desk", server.url, options=OPTIONS)
        yield stage_all(folder, source)


@pytest.mark.parametrize(
    ("entity", "key", "column", "value"),
    [
        ("cases", "1001", "channel", "email"),
        ("cases", "1002", "channel", "web_form"),
        ("cases", "1003", "channel", "social"),
        ("cases", "1001", "subject", "Kettle leaks"),
        ("cases", "1001", "source_customer_id", "71"),
        ("cases", "1001", "priority", "urgent"),
        ("cases", "1002", "priority", "normal"),
        ("cases", "1003", "priority", None),
        ("cases", "1001", "status", "closed"),
        ("cases", "1002", "status", "pending"),
        ("cases", "1003", "status", "open"),
        ("cases", "1003", "tags", ["spam"]),
        ("cases", "1001", "tags", None),
        ("cases", "1001", "source_group", "Tea team"),
        ("cases", "1002", "source_group", "仓库"),
        ("cases", "1001", "assignee_id", "91"),
        ("cases", "1001", "product", "Kettle"),
        ("cases", "1001", "opened_at", at("2026-09-20T09:00:00")),
        ("cases", "1001", "updated_at", at("2026-09-20T11:00:00")),
        ("cases", "900", "status", "closed"),
        ("messages", "501", "author_role", "customer"),
        ("messages", "501", "author_id", "71"),
        ("messages", "501", "source_case_id", "1001"),
        ("messages", "501", "channel", "email"),
        ("messages", "501", "is_public", True),
        ("messages", "501", "created_at", at("2026-09-20T09:00:00")),
        ("messages", "501", "attachments", ["leak.jpg"]),
        ("messages", "502", "author_role", "agent"),
        ("messages", "502", "body", "Please send a picture."),
        ("messages", "504", "author_role", "bot"),
        ("messages", "505", "author_role", "bot"),
        ("messages", "comment-551", "author_role", "agent"),
        ("messages", "comment-551", "is_public", False),
        ("messages", "comment-551", "author_id", "91"),
        ("messages", "comment-552", "author_role", "customer"),
        ("messages", "comment-552", "is_public", True),
        ("messages", "comment-552", "created_at", at("2026-09-20T09:46:00")),
        ("messages", "ticket-1002", "body", "什么时候到货？"),
        ("messages", "ticket-1002", "author_role", "customer"),
        ("messages", "ticket-1002", "author_id", "72"),
        ("case_events", "1009:2026-09-23T12:00:00.000Z:deleted", "event_type", "deleted"),
        ("case_events", "1009:2026-09-23T12:00:00.000Z:deleted", "actor_id", "91"),
        ("case_events", "rating:801", "event_type", "rated"),
        ("case_events", "rating:801", "to_value", "GOOD"),
        ("customers", "71", "name", "Mei Lin"),
        ("customers", "71", "email", "lin@acme.example"),
        ("customers", "71", "phone", "+86 130 0000"),
        ("customers", "71", "organization", "Acme"),
        ("customers", "72", "organization", None),
        ("customers", "71", "external_id", "5001"),
        ("customers", "71", "region", "China"),
        ("customers", "71", "segment", "paidUser"),
        ("deletions", "79", "deleted_entity", "customers"),
        ("agents", "91", "name", "Ann Lee"),
        ("agents", "91", "email", "ann@desk.example"),
        ("agents", "91", "team", "Tea team"),
        ("agents", "92", "team", None),
        ("agents", "92", "role", "bot"),
        ("agents", "93", "is_active", False),
        ("agents", "91", "is_active", True),
        ("survey_responses", "801", "score", 3.0),
        ("survey_responses", "802", "score", 1.0),
        ("survey_responses", "803", "score", 2.0),
        ("survey_responses", "801", "scale_min", 1.0),
        ("survey_responses", "801", "scale_max", 3.0),
        ("survey_responses", "801", "comment", "Ann was quick"),
        ("survey_responses", "801", "source_customer_id", "71"),
        ("survey_responses", "801", "source_case_id", "1001"),
        ("survey_responses", "801", "answered_at", at("2026-09-20T12:00:00")),
        ("feedback", "rating-801", "body", "Ann was quick"),
        ("feedback", "rating-801", "rating", 3.0),
    ],
)
def test_columns(staged: Staged, entity: str, key: str, column: str, value: Any) -> None:
    assert one(staged[entity], **{NAMES[entity]: key})[column] == value


@pytest.mark.parametrize(
    ("case", "moment", "change", "actor", "role", "was", "to"),
    [
        ("1001", "09:00:00", "created", "71", "customer", None, None),
        ("1001", "09:10:00", "assignee_changed", "8", "system", "91", "92"),
        ("1001", "09:10:00", "group_changed", "8", "system", None, "Tea team"),
        ("1001", "09:10:00", "priority_changed", "8", "system", None, "urgent"),
        ("1001", "09:20:00", "tags_changed", "91", "agent", None, '["leak","kettle"]'),
        ("1001", "10:50:00", "status_changed", "91", "agent", "open", "closed"),
        ("1002", "07:30:00", "status_changed", "91", "agent", "open", "pending"),
        ("1002", "07:30:00", "group_changed", "91", "agent", "Kitchen", "仓库"),
        ("1002", "07:40:00", "merged", "91", "agent", None, None),
        ("1002", "07:41:00", "deleted", "91", "agent", None, None),
        ("1002", "07:42:00", "status_changed", "91", "agent", None, "open"),
    ],
)
def test_history(
    staged: Staged, case: str, moment: str, change: str, actor: str, role: str,
    was: str | None, to: str | None,
) -> None:  # fmt: skip
    day = {"1001": "2026-09-20", "1002": "2026-09-21"}[case]
    row = one(
        staged["case_events"],
        source_case_id=case,
        event_at=at(f"{day}T{moment}"),
        event_type=change,
    )
    found = (row["actor_id"], row["actor_role"], row["from_value"], row["to_value"])
    assert found == (actor, role, was, to)


def test_a_ticket_that_took_another_in_is_not_merged(staged: Staged) -> None:
    """Nor does anything change in it, though the merge stamps what it has."""
    merged = [row for row in staged["case_events"] if row["event_type"] == "merged"]
    assert [row["source_case_id"] for row in merged] == ["1002"]
    stamped = at("2026-09-20T10:55:00")
    assert [row for row in staged["case_events"] if row["event_at"] == stamped] == []


def test_a_draft_is_no_message(staged: Staged) -> None:
    found = {row["source_record_id"] for row in staged["messages"]}
    assert "503" not in found
    assert len(found) == 7


@pytest.mark.parametrize(
    ("metric", "clock", "value"),
    [
        ("first_reply", "business", 30.0),
        ("full_resolution", "business", 1514.0),
        ("reopens", "calendar", 1.0),
        ("replies", "calendar", 2.0),
    ],
)
def test_vendor_metrics(staged: Staged, metric: str, clock: str, value: float) -> None:
    row = one(staged["vendor_metrics"], source_case_id="1001", metric=metric)
    assert (row["clock"], row["value"]) == (clock, value)


def test_a_case_shows_where_people_read_it(staged: Staged) -> None:
    assert one(staged["cases"], source_case_id="1001")["url"].endswith("#Cases/dv/1001")


def test_without_history_the_time_of_closing_is_an_event(desk: ZohoDesk, tmp_path: Path) -> None:
    source = source_of(desk, options={"history": False})
    rows = stage(tmp_path, source)["case_events"]
    row = one(rows, source_case_id="1001", event_type="status_changed")
    assert (row["to_value"], row["event_at"]) == ("closed", at("2026-09-20T10:50:00"))


def test_every_field_is_used_or_ignored_by_name() -> None:
    source = make_source("zoho_desk")
    rows = load_payloads("zoho_desk")
    said = [row for found in rows["conversations"].values() for row in found]
    listed = {name: rows[name] for name in ("tickets", "contacts", "agents", "happiness")}
    listed |= {f"deleted_{name}": found for name, found in rows["deleted"].items()}
    listed["history"] = [row for found in rows["history"].values() for row in found]
    listed["metrics"] = list(rows["metrics"].values())
    listed["threads"] = [row | {"detail": None} for row in said if row["type"] == "thread"]
    listed["comments"] = [row | {"detail": None} for row in said if row["type"] == "comment"]
    for entity, found in listed.items():
        assert find_unused(source, entity, found) <= {"detail"}, entity

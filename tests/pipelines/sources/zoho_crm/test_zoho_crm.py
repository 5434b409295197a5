"""Zoho CRM: rows in the order of change, modules that may be missing, deletions, orders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError, UsageError
from pipelines.sources import find_kind, zoho_crm
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
    stage_all,
)
from tests.pipelines.sources.vendor_server import Answer, Request
from tests.pipelines.sources.zoho_crm.server import API, ZohoCrm
from tests.pipelines.sources.zoho_server import connection_of

source_of = source_maker("zoho_crm")
WHOLE = ("users", "Accounts", "Contacts", "Leads", "Cases", "Notes", "Sales_Orders")
FIRST_PULL = datetime(2026, 9, 23, tzinfo=UTC)


@pytest.fixture
def crm(monkeypatch: pytest.MonkeyPatch) -> Iterator[ZohoCrm]:
    with ZohoCrm(load_payloads("zoho_crm")) as server:
        assert isinstance(server, ZohoCrm)
        monkeypatch.setenv("AIRFLOW_CONN_DESK", connection_of(server))
        monkeypatch.setattr(zoho_crm, "read_clock", lambda: FIRST_PULL)
        yield server


def many(crm: ZohoCrm, count: int, moment: str = "2026-10-01T{:02d}:{:02d}:{:02d}+08:00") -> None:
    """So many copies of the first contact, a second apart unless ``moment`` says otherwise."""
    times = (moment.format(n // 3600, n // 60 % 60, n % 60) for n in range(count))
    crm.rows["Contacts"] = [
        crm.rows["Contacts"][0] | {"id": str(20_000 + n), "Modified_Time": time}
        for n, time in enumerate(times)
    ]


def pages(crm: ZohoCrm, module: str) -> list[Request]:
    return [request for request in crm.requests if request.path == API + module]


# Reading ------------------------------------------------------------------------------------------


def test_the_first_load_has_every_record_converted_leads_included(
    crm: ZohoCrm, tmp_path: Path
) -> None:
    found, _ = pull_all(source_of(crm), tmp_path)
    assert {name: ids(found, name) for name in WHOLE} == {n: held_ids(crm, n) for n in WHOLE}
    assert ids(found, "timeline") == {*(f"t{n}" for n in range(1, 8)), "t9"}
    assert crm.violations == []


def test_a_case_has_the_fields_that_were_asked_for(crm: ZohoCrm, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(crm), tmp_path)
    expected = {key: value for key, value in crm.rows["Cases"][0].items() if key != "Line"}
    assert latest(found, "Cases")["1001"] == expected


def test_fields_that_the_organisation_lacks_are_not_asked_for(crm: ZohoCrm, tmp_path: Path) -> None:
    for row in crm.rows["Sales_Orders"]:
        del row["Currency"]
    pull_all(source_of(crm), tmp_path)
    asked = pages(crm, "Sales_Orders")[0].query["fields"].split(",")
    assert "Currency" not in asked
    assert "Grand_Total" in asked


def test_without_the_scope_of_settings_all_known_fields_are_asked_for(
    crm: ZohoCrm, tmp_path: Path
) -> None:
    crm.has_settings = False
    found, _ = pull_all(source_of(crm), tmp_path)
    assert ids(found, "Cases") == held_ids(crm, "Cases")
    assert len(crm.tokens) == 1  # another token would not have the scope either


def test_the_second_pull_asks_from_just_before_the_newest_record(
    crm: ZohoCrm, tmp_path: Path
) -> None:
    _, position = pull_all(source_of(crm), tmp_path)
    crm.rows["Cases"][0]["Modified_Time"] = "2026-09-25T16:00:00+08:00"
    crm.requests.clear()
    found, _ = pull_all(source_of(crm), tmp_path, position)
    assert ids(found, "Cases") == {"1001", "1003"}
    asked = pages(crm, "Cases")[0].headers["if-modified-since"]
    assert asked == "2026-09-22T07:59:00+00:00"


def test_start_bounds_the_first_load(crm: ZohoCrm, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(crm, start="2026-09-22"), tmp_path)
    assert ids(found, "Cases") == {"1003"}


@pytest.mark.parametrize("size", [2, 450])
def test_a_pull_that_is_stopped_after_any_batch_loses_nothing(
    crm: ZohoCrm, tmp_path: Path, size: int
) -> None:
    if size > 2:
        many(crm, size)
    found = pull_stopping(source_of(crm), tmp_path)
    assert {name: ids(found, name) for name in WHOLE} == {n: held_ids(crm, n) for n in WHOLE}
    assert ids(found, "deleted_Contacts") == {"79"}


def test_more_rows_than_2000_in_one_second_are_read_by_page_token(
    crm: ZohoCrm, tmp_path: Path
) -> None:
    many(crm, 2500, "2026-10-01T00:00:00+08:00")
    found, _ = pull_all(source_of(crm), tmp_path)
    assert ids(found, "Contacts") == held_ids(crm, "Contacts")
    assert any("page_token" in request.query for request in pages(crm, "Contacts"))
    assert crm.violations == []


@pytest.mark.parametrize("moment", ["2026-10-01T{:02d}:{:02d}:{:02d}+08:00",
                                    "2026-10-01T00:00:00+08:00"])  # fmt: skip
def test_a_contact_that_changes_while_pages_are_read_hides_none(
    crm: ZohoCrm, tmp_path: Path, moment: str
) -> None:
    many(crm, 500, moment)

    def change(request: Request) -> None:
        if request.path == f"{API}Contacts" and len(pages(crm, "Contacts")) == 2:
            for row in crm.rows["Contacts"][:3]:
                row |= {"Modified_Time": "2026-10-02T00:00:00+08:00", "Phone": "999"}

    crm.on_page = change
    found, _ = pull_all(source_of(crm), tmp_path)
    assert ids(found, "Contacts") == held_ids(crm, "Contacts")
    assert latest(found, "Contacts")["20000"]["Phone"] == "999"


def test_a_page_token_that_ends_is_told_and_the_next_pull_goes_on(
    crm: ZohoCrm, tmp_path: Path
) -> None:
    many(crm, 500, "2026-10-01T00:00:00+08:00")

    def end(request: Request) -> None:
        if "page_token" in request.query:
            crm.page_tokens.clear()

    crm.on_page = end
    with pytest.raises(HearbackError, match="a page token of Contacts has ended; run it again"):
        pull_all(source_of(crm), tmp_path)


def test_deletions_since_the_first_pull_arrive_as_such(crm: ZohoCrm, tmp_path: Path) -> None:
    found, position = pull_all(source_of(crm), tmp_path)
    assert ids(found, "deleted_Cases") == {"1009"}
    assert ids(found, "deleted_Contacts") == {"79"}  # 78 was gone before
    crm.rows["deleted"]["Leads"] = [
        crm.rows["deleted"]["Cases"][0]
        | {"id": str(n), "deleted_time": f"2026-09-25T08:{n // 60:02d}:{n % 60:02d}+08:00"}
        for n in range(450)
    ]
    found, position = pull_all(source_of(crm), tmp_path, position)
    assert len(ids(found, "deleted_Leads")) == 450
    assert position["deleted_Leads"]["since"] == "2026-09-25T00:07:29+00:00"


@pytest.mark.parametrize("has_tokens", [True, False])
def test_a_long_timeline_is_read_by_page_token_or_number(
    crm: ZohoCrm, tmp_path: Path, has_tokens: bool
) -> None:
    crm.has_timeline_tokens = has_tokens
    entry = crm.rows["timeline"]["1001"][0]
    crm.rows["timeline"]["1001"] = [entry | {"id": f"u{n}"} for n in range(60)]
    found, _ = pull_all(source_of(crm), tmp_path)
    assert len(ids(found, "timeline")) == 61
    assert crm.violations == []


def test_a_page_token_of_a_timeline_that_ends_is_told_and_the_next_pull_goes_on(
    crm: ZohoCrm, tmp_path: Path
) -> None:
    entry = crm.rows["timeline"]["1001"][0]
    crm.rows["timeline"]["1001"] = [entry | {"id": f"u{n}"} for n in range(60)]
    crm.fail("/1001/__timeline", Answer({"code": "INVALID_DATA"}, 400), skip=1)
    with pytest.raises(HearbackError, match="token of the timeline of case 1001 has ended; run it"):
        pull_all(source_of(crm), tmp_path)
    found, _ = pull_all(source_of(crm), tmp_path)
    assert len(ids(found, "timeline")) == 61


@pytest.mark.parametrize(("orders", "read"), [("Deals", {"Deals"}), ("none", set())])
def test_orders_are_the_module_that_the_options_name(
    crm: ZohoCrm, tmp_path: Path, orders: str, read: set[str]
) -> None:
    found, _ = pull_all(source_of(crm, options={"orders": orders, "leads": False}), tmp_path)
    assert {"Deals", "Sales_Orders", "Leads"} & set(found) == read


# Tokens and modules -------------------------------------------------------------------------------


def test_without_base_url_the_domain_that_comes_with_the_token_is_asked(
    crm: ZohoCrm, tmp_path: Path
) -> None:
    found, _ = pull_all(make_source("zoho_crm"), tmp_path)
    assert ids(found, "Cases") == held_ids(crm, "Cases")
    assert len(crm.tokens) == 1


def test_a_token_that_ends_early_is_replaced(crm: ZohoCrm, tmp_path: Path) -> None:
    def revoke(request: Request) -> None:
        if request.path == f"{API}Cases" and len(crm.tokens) == 1:
            crm.tokens.append("1000.other")

    crm.on_page = revoke
    found, _ = pull_all(source_of(crm), tmp_path)
    assert ids(found, "Sales_Orders") == held_ids(crm, "Sales_Orders")
    assert len(crm.tokens) == 3


SCOPE = Answer({"code": "OAUTH_SCOPE_MISMATCH", "message": "invalid oauth scope"}, 401)
NO_MODULE = Answer({"code": "INVALID_MODULE", "message": "the module name given is invalid"}, 400)


@pytest.mark.parametrize(("answer", "code"), [(SCOPE, "OAUTH_SCOPE"), (NO_MODULE, "INVALID_MOD")])
def test_a_module_that_is_missing_is_skipped_with_a_note(
    crm: ZohoCrm, tmp_path: Path, answer: Answer, code: str
) -> None:
    crm.lacks["Sales_Orders"] = answer
    found, told = pull_told(source_of(crm), tmp_path)
    assert ids(found, "Cases") == held_ids(crm, "Cases")
    assert re.search(f"Sales_Orders skipped.*{code}", told)
    assert len(crm.tokens) == 1
    assert not pages(crm, "Sales_Orders/deleted")


def test_no_module_at_all_is_an_error(crm: ZohoCrm, tmp_path: Path) -> None:
    crm.lacks = dict.fromkeys(WHOLE, SCOPE)
    with pytest.raises(HearbackError, match=r"connection 'desk' the scope ZohoCRM\.modules\.READ"):
        pull_all(source_of(crm), tmp_path)


def test_an_edition_without_timelines_is_asked_once(crm: ZohoCrm, tmp_path: Path) -> None:
    missing = Answer({"code": "NOT_SUPPORTED", "message": "not for this module"}, 400)
    crm.fail("/__timeline", missing, times=99)
    found, told = pull_told(source_of(crm), tmp_path)
    assert ids(found, "Cases") == held_ids(crm, "Cases")
    assert len([r for r in crm.requests if r.path.endswith("/__timeline")]) == 1
    assert "timelines skipped" in told


def test_a_case_that_is_gone_meanwhile_has_no_timeline(crm: ZohoCrm, tmp_path: Path) -> None:
    crm.fail("/1001/__timeline", Answer({"code": "INVALID_DATA"}, 400))
    found, _ = pull_all(source_of(crm), tmp_path)
    assert ids(found, "timeline") == {"t9"}


def test_a_field_of_the_options_that_is_missing_names_the_nearest(
    crm: ZohoCrm, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"Contacts has no field 'Is_Vip'.*Is_VIP"):
        pull_all(source_of(crm, options={"vip_field": "Is_Vip"}), tmp_path)


def test_check_counts_the_cases_or_else_the_contacts(crm: ZohoCrm, tmp_path: Path) -> None:
    check = find_kind("zoho_crm").check
    assert check is not None
    assert check(source_of(crm), make_context(tmp_path)) == "3 cases"
    crm.lacks["Cases"] = NO_MODULE
    assert check(source_of(crm), make_context(tmp_path)) == "2 contacts"


# Limits and faults --------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1, 1000])
def test_no_request_is_sent_when_none_is_left_until_the_reset(
    crm: ZohoCrm, tmp_path: Path, unit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    monkeypatch.setattr(zoho_crm, "read_clock", lambda: now)
    reset = int((now.timestamp() + 1.5) * unit)
    crm.extra_headers = {"X-RATELIMIT-REMAINING": "0", "X-RATELIMIT-RESET": str(reset)}
    pull_all(source_of(crm, options={"orders": "none", "leads": False}), tmp_path)
    first = next(i for i, r in enumerate(crm.requests) if r.path == f"{API}Accounts")
    assert crm.requests[first + 1].at - crm.requests[first].at >= 0.4


# Mapping ------------------------------------------------------------------------------------------

Staged = dict[str, list[dict[str, Any]]]
OPTIONS = {
    "statuses": {"Waiting for stock": "pending"},
    "product_field": None,
    "segment_field": "Tier",
    "vip_field": "Is_VIP",
}
NAMES = {
    "cases": "source_case_id",
    "messages": "source_record_id",
    "customers": "source_customer_id",
    "agents": "source_agent_id",
    "orders": "source_order_id",
    "deletions": "source_record_id",
}


def stage_with(folder: Path, options: dict[str, Any]) -> Staged:
    with pytest.MonkeyPatch.context() as patch, ZohoCrm(load_payloads("zoho_crm")) as server:
        assert isinstance(server, ZohoCrm)
        patch.setenv("AIRFLOW_CONN_DESK", connection_of(server))
        patch.setattr(zoho_crm, "read_clock", lambda: FIRST_PULL)
        source = make_source("zoho_crm", server.url, options=options)
        return stage_all(folder, source)


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Staged:
    return stage_with(tmp_path_factory.mktemp("zoho_crm"), OPTIONS)


@pytest.mark.parametrize(
    ("entity", "key", "column", "value"),
    [
        ("cases", "1001", "channel", "phone"),
        ("cases", "1002", "channel", "other"),
        ("cases", "1003", "channel", "web_form"),
        ("cases", "1001", "subject", "Kettle leaks"),
        ("cases", "1001", "source_customer_id", "71"),
        ("cases", "1002", "source_customer_id", "61"),
        ("cases", "1001", "priority", "high"),
        ("cases", "1002", "priority", "normal"),
        ("cases", "1003", "priority", None),
        ("cases", "1001", "status", "closed"),
        ("cases", "1002", "status", "pending"),
        ("cases", "1003", "status", "hold"),
        ("cases", "1001", "assignee_id", "91"),
        ("cases", "1001", "product", "Kettle"),
        ("cases", "1002", "product", None),
        ("cases", "1001", "tags", ["leak", "kettle"]),
        ("cases", "1001", "opened_at", at("2026-09-20T09:00:00")),
        ("cases", "1001", "updated_at", at("2026-09-20T11:00:00")),
        ("messages", "case-1001", "body", "The kettle leaks on the table."),
        ("messages", "case-1001", "author_id", "71"),
        ("messages", "case-1001", "author_role", "customer"),
        ("messages", "case-1001", "source_case_id", "1001"),
        ("messages", "case-1001", "channel", "phone"),
        ("messages", "case-1001", "created_at", at("2026-09-20T09:00:00")),
        ("messages", "comment-551", "body", "Known fault of batch 7"),
        ("messages", "comment-551", "author_id", "91"),
        ("messages", "comment-551", "is_public", False),
        ("messages", "comment-551", "created_at", at("2026-09-20T09:45:00")),
        ("messages", "comment-552", "author_id", "92"),
        ("messages", "note-401", "body", "Call\nCustomer wants a new lid"),
        ("messages", "note-401", "author_id", "92"),
        ("messages", "note-401", "author_role", "agent"),
        ("messages", "note-401", "is_public", False),
        ("messages", "note-401", "source_case_id", "1001"),
        ("customers", "71", "name", "Mei Lin"),
        ("customers", "71", "email", "lin@acme.example"),
        ("customers", "71", "phone", "+86 130 0000"),
        ("customers", "71", "organization", "Acme"),
        ("customers", "71", "region", "China"),
        ("customers", "71", "birthday", date(1990, 5, 17)),
        ("customers", "71", "is_vip", True),
        ("customers", "71", "segment", "Gold"),
        ("customers", "71", "do_not_contact", False),
        ("customers", "71", "signup_at", at("2026-09-01T00:00:00")),
        ("customers", "72", "do_not_contact", True),
        ("customers", "75", "segment", "lead"),
        ("customers", "75", "organization", "New Co"),
        ("customers", "76", "name", "Won"),
        ("customers", "61", "name", "Acme"),
        ("customers", "61", "external_id", "A-1"),
        ("deletions", "79", "deleted_entity", "customers"),
        ("agents", "91", "name", "Ann Lee"),
        ("agents", "91", "email", "ann@crm.example"),
        ("agents", "91", "team", "Support"),
        ("agents", "91", "is_active", True),
        ("agents", "92", "is_active", False),
        ("orders", "801", "source_customer_id", "71"),
        ("orders", "802", "source_customer_id", "61"),
        ("orders", "801", "amount", 129.5),
        ("orders", "801", "currency", "USD"),
        ("orders", "801", "product", "Kettle order"),
        ("orders", "801", "status", "Delivered"),
        ("orders", "801", "ordered_at", at("2026-09-10T00:00:00")),
        ("deletions", "809", "deleted_entity", "orders"),
    ],
)
def test_columns(staged: Staged, entity: str, key: str, column: str, value: Any) -> None:
    assert one(staged[entity], **{NAMES[entity]: key})[column] == value


@pytest.mark.parametrize(
    ("key", "kind", "moment", "was", "to"),
    [
        ("t3:Status", "status_changed", "11:00:00", "new", "closed"),
        ("t2:Priority", "priority_changed", "09:30:00", "low", "high"),
        ("t2:Owner", "assignee_changed", "09:30:00", "92", "91"),
        ("t4:Owner", "assignee_changed", "09:40:00", "91", "92"),
    ],
)
def test_timeline(staged: Staged, key: str, kind: str, moment: str, was: str, to: str) -> None:
    row = one(staged["case_events"], source_event_id=key)
    assert (row["event_type"], row["source_case_id"], row["actor_id"]) == (kind, "1001", "91")
    assert (row["event_at"], row["from_value"], row["to_value"]) == (
        at(f"2026-09-20T{moment}"), was, to,
    )  # fmt: skip


def test_own_statuses_count_in_the_timeline_too(staged: Staged) -> None:
    assert one(staged["case_events"], source_event_id="t9:Status")["to_value"] == "pending"


def test_a_case_that_was_restored_is_deleted_no_more(staged: Staged) -> None:
    row = one(staged["case_events"], source_event_id="t5:restored")
    assert (row["event_type"], row["to_value"], row["actor_id"]) == ("status_changed", "open", "91")
    assert not [r for r in staged["case_events"] if r["source_event_id"].startswith(("t6", "t7"))]


def test_a_deleted_case_is_an_event(staged: Staged) -> None:
    row = one(staged["case_events"], source_event_id="1009:deleted")
    assert (row["event_type"], row["event_at"]) == ("deleted", at("2026-09-24T00:00:00"))


def test_notes_of_contacts_are_no_messages(staged: Staged) -> None:
    found = {row["source_record_id"] for row in staged["messages"]}
    assert found == {"case-1001", "case-1003", "comment-551", "comment-552", "note-401"}


def test_deals_that_were_won_are_orders(tmp_path: Path) -> None:
    rows = stage_with(tmp_path, {"orders": "Deals"})["orders"]
    row = one(rows, source_order_id="851")
    assert (row["amount"], row["status"], row["ordered_at"]) == (
        900.0, "Closed Won", at("2026-08-31T00:00:00"),
    )  # fmt: skip
    assert len(rows) == 1


def test_a_case_shows_where_people_read_it(staged: Staged) -> None:
    assert one(staged["cases"], source_case_id="1001")["url"] == (
        "https://crm.zoho.com/crm/tab/Cases/1001"
    )


def test_every_field_is_used_or_ignored_by_name() -> None:
    options = {"vip_field": "Is_VIP", "segment_field": "Tier", "product_field": "Line"}
    source = make_source("zoho_crm", options=options)
    rows = load_payloads("zoho_crm")
    listed = {name: rows[name] for name in WHOLE if name != "users"}
    listed["timeline"] = [row for found in rows["timeline"].values() for row in found]
    for entity, found in listed.items():
        assert find_unused(source, entity, found) == set(), entity

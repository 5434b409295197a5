"""Salesforce: SOQL cursors that go on, odd refusals, and every column of what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError, UsageError
from pipelines.settings import Source
from pipelines.sources import find_kind, salesforce
from tests.pipelines.sources.pulling import (
    ids,
    latest,
    make_context,
    make_source,
    one,
    pull_all,
    pull_stopping,
    quarantined,
    stage,
)
from tests.pipelines.sources.salesforce.server import BASE, Salesforce, fault
from tests.pipelines.sources.vendor_server import Answer

PAYLOADS = Path(__file__).parent / "payloads"
LIMITED = fault("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", 403)


def load() -> dict[str, list[dict[str, Any]]]:
    return {path.stem: json.loads(path.read_text("utf-8")) for path in PAYLOADS.glob("*.json")}


def an_id(prefix: str, number: int) -> str:
    return f"{prefix}Dn00000{number:07d}AAQ"[:18]


@pytest.fixture
def org(monkeypatch: pytest.MonkeyPatch) -> Iterator[Salesforce]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"password": "00Dxx!secret"}')
    with Salesforce(load()) as server:
        assert isinstance(server, Salesforce)
        yield server


def source_of(org: Salesforce, **more: Any) -> Source:
    return make_source("salesforce", org.url, **more)


# Reading ------------------------------------------------------------------------------------------


def test_the_first_load_has_every_row_deleted_ones_included(
    org: Salesforce, tmp_path: Path
) -> None:
    found, _ = pull_all(source_of(org), tmp_path)
    assert {name: ids(found, name) for name in org.objects} == {
        name: set(rows) for name, rows in org.objects.items()
    }
    assert org.violations == []


def test_a_row_is_kept_as_it_was_sent(org: Salesforce, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(org), tmp_path)
    sent = org.objects["Case"][an_id("500", 1)]
    came = latest(found, "Case")[an_id("500", 1)]
    assert {key: came[key] for key in sent} == sent


def test_the_second_pull_asks_from_a_minute_before_the_newest_row(
    org: Salesforce, tmp_path: Path
) -> None:
    _, position = pull_all(source_of(org), tmp_path)
    changed = org.objects["Case"][an_id("500", 2)]
    changed |= {"Status": "Working", "SystemModstamp": "2026-09-21T09:00:00.000+0000"}
    org.requests.clear()
    found, _ = pull_all(source_of(org), tmp_path, position)
    assert ids(found, "Case") == {an_id("500", 1), an_id("500", 2)}
    asked = [r.query.get("q", "") for r in org.requests]
    assert any("FROM Case WHERE SystemModstamp >= 2026-09-20T10:59:01.000Z" in q for q in asked)


def test_a_pull_that_is_stopped_after_any_batch_loses_nothing(
    org: Salesforce, tmp_path: Path
) -> None:
    org.objects = {name: org.objects[name] for name in ("Contact", "Case")}
    found = pull_stopping(source_of(org), tmp_path)
    assert {name: ids(found, name) for name in org.objects} == {
        name: set(rows) for name, rows in org.objects.items()
    }


def test_a_query_that_was_forgotten_is_asked_again_from_the_last_row(
    org: Salesforce, tmp_path: Path
) -> None:
    found: list[str] = []
    for batch in salesforce.pull(source_of(org), make_context(tmp_path)):
        if batch.entity == "Case" and isinstance(batch.records, list):
            found += [record.record_id for record in batch.records]
            if len(found) == 2:
                org.locators.clear()
    assert set(found) == set(org.objects["Case"])
    assert org.counts()[f"{BASE}/queryAll"] == 10


def test_a_page_that_is_not_found_is_asked_again(org: Salesforce, tmp_path: Path) -> None:
    org.fail("/query/", fault("NOT_FOUND", "The requested resource does not exist", 404))
    found, _ = pull_all(source_of(org), tmp_path)
    assert {name: ids(found, name) for name in org.objects} == {
        name: set(rows) for name, rows in org.objects.items()
    }


def test_a_row_that_changes_while_pages_are_read_comes_at_its_latest(
    org: Salesforce, tmp_path: Path
) -> None:
    source, position, read = source_of(org), None, 0
    for batch in salesforce.pull(source, make_context(tmp_path)):
        read += batch.entity == "Case"
        if read == 3:
            row = org.objects["Case"][an_id("500", 1)]
            row |= {"Subject": "Changed", "SystemModstamp": "2026-09-22T09:00:00.000+0000"}
        position = batch.position or position
    found, _ = pull_all(source, tmp_path, position)
    assert latest(found, "Case")[an_id("500", 1)]["Subject"] == "Changed"


def test_start_bounds_cases_but_not_people(org: Salesforce, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(org, start=date(2026, 9, 8)), tmp_path)
    assert ids(found, "Case") == {an_id("500", n) for n in (1, 4, 5)}
    assert ids(found, "Contact") == set(org.objects["Contact"])


def test_base_url_may_end_in_the_path_of_the_api(org: Salesforce, tmp_path: Path) -> None:
    found, _ = pull_all(make_source("salesforce", f"{org.url}{BASE}/"), tmp_path)
    assert len(ids(found, "Case")) == 5


def test_fields_that_the_org_lacks_are_left_out(org: Salesforce, tmp_path: Path) -> None:
    org.fields["Case"] -= {"SuppliedCompany", "MasterRecordId"}
    found, position = pull_all(source_of(org), tmp_path)
    assert len(ids(found, "Case")) == 5
    assert position["Case"]["absent"] == ["MasterRecordId", "SuppliedCompany"]


def test_without_a_description_fields_are_left_out_one_by_one(
    org: Salesforce, tmp_path: Path
) -> None:
    org.has_describe = False
    org.fields["Case"] -= {"SuppliedCompany", "MasterRecordId"}
    assert len(ids(pull_all(source_of(org), tmp_path)[0], "Case")) == 5


def test_a_field_of_the_options_that_is_not_there_is_named_with_the_nearest(
    org: Salesforce, tmp_path: Path
) -> None:
    source = source_of(org, options={"product_field": "Origins"})
    with pytest.raises(UsageError, match="Case has no field 'Origins', did you mean 'Origin'"):
        pull_all(source, tmp_path)


def test_objects_that_the_login_may_not_read_are_skipped_with_a_note(
    org: Salesforce, tmp_path: Path
) -> None:
    del org.objects["CaseHistory"]
    told: list[str] = []
    found, _ = pull_all(source_of(org), tmp_path, progress=lambda text, rows: told.append(text))
    assert ids(found, "EmailMessage") == set(org.objects["EmailMessage"])
    assert "extract desk: CaseHistory skipped, the login may not read it" in told


def test_without_cases_there_is_nothing_to_do(org: Salesforce, tmp_path: Path) -> None:
    del org.objects["Case"]
    with pytest.raises(HearbackError, match=r"source 'desk': the login may not read Case"):
        pull_all(source_of(org), tmp_path)


# Limits and faults --------------------------------------------------------------------------------


def test_the_limit_comes_as_a_403_and_is_kept(org: Salesforce, tmp_path: Path) -> None:
    answer = Answer(LIMITED.body, 403, {"Retry-After": "1"})
    org.limit("/queryAll", answer, seconds=1, skip=3)
    found, _ = pull_all(source_of(org), tmp_path)
    assert ids(found, "Case") == set(org.objects["Case"])
    assert org.violations == []


def test_nothing_is_asked_once_the_requests_of_the_day_are_used_up(
    org: Salesforce, tmp_path: Path
) -> None:
    org.usage = "api-usage=5000/5000"
    with pytest.raises(HearbackError, match="source 'desk': the limit of the API is used up"):
        pull_all(source_of(org), tmp_path)
    assert len(org.requests) == 1


def test_requests_are_left_to_others(org: Salesforce, tmp_path: Path) -> None:
    org.usage = "api-usage=4950/5000"
    with pytest.raises(HearbackError, match="used up"):
        pull_all(source_of(org, options={"reserve_requests": 100}), tmp_path)
    found, _ = pull_all(source_of(org), tmp_path)
    assert len(ids(found, "Case")) == 5


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (fault("API_DISABLED_FOR_ORG", "no", 403), "the edition of this org has no API"),
        (fault("QUERY_TIMEOUT", "too long"), r"refused to read User \(QUERY_TIMEOUT: too long\)"),
    ],
)
def test_refusals_are_explained_in_a_line(
    org: Salesforce, tmp_path: Path, answer: Answer, told: str
) -> None:
    org.fail("/queryAll", answer, times=9)
    with pytest.raises(HearbackError, match=f"source 'desk': .*{told}"):
        pull_all(source_of(org), tmp_path)


# Signing in ---------------------------------------------------------------------------------------


def test_a_wrong_token_is_told_with_its_connection_and_without_itself(
    org: Salesforce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"password": "wrong-one"}')
    with pytest.raises(HearbackError) as raised:
        pull_all(source_of(org), tmp_path)
    assert "check connection 'desk'" in raised.value.message
    assert "wrong-one" not in raised.value.message


@pytest.mark.parametrize(
    "connection",
    [
        {"login": "app", "password": "quiet"},
        {"login": "app", "extra": {"refresh_token": "quiet"}},
    ],
)
def test_tokens_are_fetched_and_renewed_when_they_end(
    org: Salesforce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(connection))
    found: set[str] = set()
    for number, batch in enumerate(salesforce.pull(source_of(org), make_context(tmp_path))):
        if number == 2:
            org.token = "ended"
        if batch.entity == "Case" and isinstance(batch.records, list):
            found |= {record.record_id for record in batch.records}
    assert found == set(org.objects["Case"])
    assert org.tokens_given == 2


def test_a_client_that_gets_no_token_is_told_its_connection(
    org: Salesforce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"login": "app", "password": "loud"}')
    with pytest.raises(HearbackError, match="no token for these credentials; check connection"):
        pull_all(source_of(org), tmp_path)


def test_a_connection_without_secrets_says_what_it_needs(
    org: Salesforce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"login": "app"}')
    with pytest.raises(HearbackError, match="connection 'desk' needs a login"):
        pull_all(source_of(org), tmp_path)


def test_check_counts_the_cases(org: Salesforce, tmp_path: Path) -> None:
    check = find_kind("salesforce").check
    assert check is not None
    assert check(source_of(org), make_context(tmp_path)) == "5 cases"


# What comes out -----------------------------------------------------------------------------------

OPTIONS = {
    "statuses": {"On Hold": "hold"},
    "channels": {"carrier pigeon": "social"},
    "product_field": "Type",
    "csat_field": "CSAT__c",
    "csat_comment_field": "CSAT_Comment__c",
}


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    objects = load()
    for number, case in enumerate(objects["Case"], 1):
        case["CSAT__c"] = 4 if number == 2 else None
        case["CSAT_Comment__c"] = "Quick answer" if number == 2 else None
    folder = tmp_path_factory.mktemp("salesforce")
    with pytest.MonkeyPatch.context() as patch, Salesforce(objects, page_size=50) as server:
        patch.setenv("AIRFLOW_CONN_DESK", '{"password": "00Dxx!secret"}')
        source = make_source("salesforce", server.url, options=OPTIONS)
        rows = stage(folder, source)
        assert quarantined(folder, source) == []
    return rows


LOOMS, INVOICE, PIGEON, DELETED, MERGED = (an_id("500", n) for n in range(1, 6))
MIA, MACHINE, PORTAL = (an_id("005", n) for n in range(1, 4))


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-09-{text}").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("case_id", "column", "value"),
    [
        (LOOMS, "channel", "email"),
        (LOOMS, "subject", "Looms stop"),
        (LOOMS, "source_customer_id", an_id("003", 1)),
        (LOOMS, "priority", "high"),
        (LOOMS, "status", "open"),
        (LOOMS, "assignee_id", MIA),
        (LOOMS, "source_group", None),
        (LOOMS, "merged_into", None),
        (LOOMS, "opened_at", at("20 09:00")),
        (LOOMS, "updated_at", at("20 11:00:01")),
        (INVOICE, "channel", "phone"),
        (INVOICE, "status", "closed"),
        (INVOICE, "priority", "normal"),
        (PIGEON, "status", "hold"),
        (PIGEON, "channel", "social"),
        (PIGEON, "source_group", "Tier 2"),
        (PIGEON, "assignee_id", None),
        (PIGEON, "source_customer_id", "sam@new.example"),
        (DELETED, "status", "deleted"),
        (MERGED, "status", "closed"),
        (MERGED, "merged_into", LOOMS),
    ],
)
def test_cases(
    staged: dict[str, list[dict[str, Any]]], case_id: str, column: str, value: Any
) -> None:
    assert one(staged["cases"], source_case_id=case_id)[column] == value


def test_a_case_has_the_address_of_its_page(staged: dict[str, list[dict[str, Any]]]) -> None:
    url = one(staged["cases"], source_case_id=LOOMS)["url"]
    assert url.endswith(f"/lightning/r/Case/{LOOMS}/view")


@pytest.mark.parametrize(
    ("record_id", "column", "value"),
    [
        (f"{LOOMS}:description", "body", "Both looms stop after an hour, we lose orders."),
        (f"{LOOMS}:description", "author_id", an_id("003", 1)),
        (f"{LOOMS}:description", "author_role", "customer"),
        (f"{LOOMS}:description", "created_at", at("20 09:00")),
        (f"{INVOICE}:description", "author_id", MIA),
        (f"{INVOICE}:description", "author_role", "agent"),
        (f"{INVOICE}:description", "is_public", False),
        (f"{INVOICE}:description", "channel", "phone"),
        (an_id("00a", 1), "author_role", "agent"),
        (an_id("00a", 1), "is_public", False),
        (an_id("00a", 1), "body", "Ask the plant for a log."),
        (an_id("00a", 2), "author_role", "customer"),
        (an_id("00a", 2), "author_id", an_id("003", 1)),
        (an_id("00a", 2), "is_public", True),
        (an_id("02s", 1), "author_role", "customer"),
        (an_id("02s", 1), "body", "One loom burnt out today."),
        (an_id("02s", 1), "created_at", at("20 10:21")),
        (an_id("02s", 1), "source_case_id", LOOMS),
        (an_id("02s", 2), "author_role", "agent"),
        (an_id("02s", 2), "author_id", MIA),
        (an_id("02s", 2), "body", "<p>We send a technician.</p>"),
        (an_id("02s", 4), "author_role", "bot"),
    ],
)
def test_messages(
    staged: dict[str, list[dict[str, Any]]], record_id: str, column: str, value: Any
) -> None:
    assert one(staged["messages"], source_record_id=record_id)[column] == value


@pytest.mark.parametrize("record_id", [an_id("00a", 3), an_id("02s", 3), an_id("02s", 5)])
def test_deleted_comments_drafts_and_mails_without_a_case_are_no_messages(
    staged: dict[str, list[dict[str, Any]]], record_id: str
) -> None:
    assert record_id not in {row["source_record_id"] for row in staged["messages"]}


@pytest.mark.parametrize(
    ("event_id", "kind", "before", "after", "actor"),
    [
        (an_id("017", 2), "status_changed", "new", "open", MIA),
        (an_id("017", 3), "priority_changed", "low", "high", MIA),
        (an_id("017", 4), "assignee_changed", None, MIA, MIA),
        (an_id("017", 6), "assignee_changed", MIA, None, MIA),
        (f"{an_id('017', 6)}:group", "group_changed", None, "Tier 2", MIA),
        (an_id("017", 7), "status_changed", "open", "closed", MACHINE),
        (f"{DELETED}:deleted", "deleted", None, None, None),
        (f"{MERGED}:merged", "merged", None, LOOMS, None),
    ],
)
def test_events(
    staged: dict[str, list[dict[str, Any]]], event_id: str, kind: str, before: Any, after: Any,
    actor: Any,
) -> None:  # fmt: skip
    row = one(staged["case_events"], source_event_id=event_id)
    found = [row[name] for name in ("event_type", "from_value", "to_value", "actor_id")]
    assert found == [kind, before, after, actor]


def test_a_change_of_owner_by_names_is_not_told_again(
    staged: dict[str, list[dict[str, Any]]],
) -> None:
    assert an_id("017", 5) not in {row["source_event_id"] for row in staged["case_events"]}


def test_the_end_of_a_case_is_an_event_without_a_history_too(
    staged: dict[str, list[dict[str, Any]]],
) -> None:
    row = one(staged["case_events"], source_case_id=INVOICE)
    assert (row["event_type"], row["to_value"], row["event_at"]) == (
        "status_changed", "closed", at("06 09:00"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("customer_id", "column", "value"),
    [
        (an_id("003", 1), "name", "Ann Reader"),
        (an_id("003", 1), "email", "ann@customer.example"),
        (an_id("003", 1), "phone", "+1 555 0101"),
        (an_id("003", 1), "organization", "Burlington Textiles"),
        (an_id("003", 1), "region", "USA"),
        (an_id("003", 1), "birthday", date(1984, 5, 17)),
        (an_id("003", 1), "do_not_contact", True),
        (an_id("003", 1), "updated_at", at("02 09:00")),
        (an_id("003", 2), "do_not_contact", False),
        (an_id("003", 2), "organization", None),
        (an_id("003", 3), "source_customer_id", an_id("003", 3)),
        ("sam@new.example", "email", "sam@new.example"),
    ],
)
def test_customers(
    staged: dict[str, list[dict[str, Any]]], customer_id: str, column: str, value: Any
) -> None:
    assert one(staged["customers"], source_customer_id=customer_id)[column] == value


@pytest.mark.parametrize(
    ("agent_id", "column", "value"),
    [
        (MIA, "name", "Mia Lopez"),
        (MIA, "email", "mia@acme.example"),
        (MIA, "external_id", "E-17"),
        (MIA, "role", "agent"),
        (MIA, "team", "Support"),
        (MIA, "is_active", True),
        (MACHINE, "role", "bot"),
        (an_id("005", 4), "is_active", False),
    ],
)
def test_agents(
    staged: dict[str, list[dict[str, Any]]], agent_id: str, column: str, value: Any
) -> None:
    assert one(staged["agents"], source_agent_id=agent_id)[column] == value


def test_portal_users_are_no_agents(staged: dict[str, list[dict[str, Any]]]) -> None:
    assert PORTAL not in {row["source_agent_id"] for row in staged["agents"]}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("kind", "csat"),
        ("score", 4.0),
        ("scale_min", 1.0),
        ("scale_max", 5.0),
        ("comment", "Quick answer"),
        ("source_case_id", INVOICE),
        ("source_customer_id", an_id("003", 2)),
        ("answered_at", at("06 09:00")),
    ],
)
def test_satisfaction_from_a_field_of_the_case(
    staged: dict[str, list[dict[str, Any]]], column: str, value: Any
) -> None:
    assert one(staged["survey_responses"])[column] == value


@pytest.mark.parametrize(
    ("column", "value"),
    [("channel", "survey"), ("body", "Quick answer"), ("rating", 4.0), ("rating_max", 5.0)],
)
def test_its_comment_is_feedback(
    staged: dict[str, list[dict[str, Any]]], column: str, value: Any
) -> None:
    assert one(staged["feedback"])[column] == value


def test_what_was_deleted_or_merged_is_told(tmp_path: Path) -> None:
    objects = load()
    for number, case in enumerate(objects["Case"], 1):
        case["CSAT__c"] = 4 if number in (2, 4) else None
        case["CSAT_Comment__c"] = "Quick answer" if number == 2 else None
    objects["Contact"][1] |= {"IsDeleted": True, "MasterRecordId": an_id("003", 1)}
    with pytest.MonkeyPatch.context() as patch, Salesforce(objects) as server:
        patch.setenv("AIRFLOW_CONN_DESK", '{"password": "00Dxx!secret"}')
        rows = stage(tmp_path, make_source("salesforce", server.url, options=OPTIONS))
    assert {
        (row["deleted_entity"], row["source_record_id"]): row["merged_into"]
        for row in rows["deletions"]
    } == {
        ("customers", an_id("003", 2)): an_id("003", 1),
        ("customers", an_id("003", 3)): None,
        ("feedback", an_id("00a", 3)): None,
        ("survey_responses", f"{DELETED}:csat"): None,
        ("feedback", f"{DELETED}:csat"): None,
    }
    told = one(rows["deletions"], source_record_id=an_id("003", 3))
    assert told["deleted_at"] == at("02 09:00")

"""Dynamics 365: delta links that tell deletions, tables without them, every column that comes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines import extract, validate
from pipelines.errors import HearbackError, UsageError
from pipelines.settings import Source
from pipelines.sources import dynamics365, find_kind
from tests.pipelines.sources.dynamics365.server import BASE, Dataverse, refuse
from tests.pipelines.sources.pulling import (
    NOW,
    ids,
    latest,
    make_context,
    make_run,
    make_source,
    one,
    pull_all,
    pull_stopping,
    pull_told,
    quarantined,
    stage,
)
from tests.pipelines.sources.vendor_server import Answer

PAYLOADS = Path(__file__).parent / "payloads"
Rows = dict[str, list[dict[str, Any]]]


def load() -> Rows:
    return {path.stem: json.loads(path.read_text("utf-8")) for path in PAYLOADS.glob("*.json")}


def an_id(table: str, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{table}/{number}"))


@pytest.fixture
def org(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataverse]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"password": "ey.ready"}')
    with Dataverse(load(), {"incidents", "contacts"}) as server:
        assert isinstance(server, Dataverse)
        yield server


def source_of(org: Dataverse, **more: Any) -> Source:
    options = {"page_size": 2} | more.pop("options", {})
    return make_source("dynamics365", org.url, options=options, **more)


# Reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_tracked", [True, False])
def test_the_first_load_has_every_row(org: Dataverse, tmp_path: Path, is_tracked: bool) -> None:
    org.tracked = set(org.tables) if is_tracked else set()
    found, _ = pull_all(source_of(org), tmp_path)
    assert {name: ids(found, name) for name in org.tables} == {
        name: set(rows) for name, rows in org.tables.items()
    }
    assert latest(found, "incidents")[an_id("i", 1)] == org.tables["incidents"][an_id("i", 1)]


def test_the_delta_link_gives_only_what_changed_and_what_was_deleted(
    org: Dataverse, tmp_path: Path
) -> None:
    _, position = pull_all(source_of(org), tmp_path)
    org.change("incidents", an_id("i", 3), title="Changed")
    org.delete("incidents", an_id("i", 4))
    found, position = pull_all(source_of(org), tmp_path, position)
    assert ids(found, "incidents") == {an_id("i", 3), an_id("i", 4)}
    assert latest(found, "incidents")[an_id("i", 4)]["reason"] == "deleted"
    found, _ = pull_all(source_of(org), tmp_path, position)
    assert ids(found, "incidents") == set()


def test_a_delta_link_that_expired_means_reading_whole(org: Dataverse, tmp_path: Path) -> None:
    _, position = pull_all(source_of(org), tmp_path)
    org.change("incidents", an_id("i", 3), title="Changed")
    org.oldest = 1
    found, _ = pull_all(source_of(org), tmp_path, position)
    assert ids(found, "incidents") == set(org.tables["incidents"])


def test_a_link_is_renewed_once_a_day_if_nothing_changes(org: Dataverse, tmp_path: Path) -> None:
    _, first = pull_all(source_of(org), tmp_path)
    org.log.append(("nothing", "of ours"))
    _, same = pull_all(source_of(org), tmp_path, first)
    _, later = pull_all(source_of(org), tmp_path, first, now=NOW + timedelta(days=2))
    assert same == first
    assert later["incidents"]["delta"] != first["incidents"]["delta"]


def test_without_tracking_rows_come_from_a_minute_before_the_newest(
    org: Dataverse, tmp_path: Path
) -> None:
    org.tracked = set()
    _, position = pull_all(source_of(org), tmp_path)
    org.change("incidents", an_id("i", 3), modifiedon="2026-09-21T09:00:00Z")
    org.requests.clear()
    found, _ = pull_all(source_of(org), tmp_path, position)
    assert ids(found, "incidents") == {an_id("i", 1), an_id("i", 3)}
    asked = [r.query.get("$filter") for r in org.requests if r.path == f"{BASE}/incidents"]
    assert asked == ["modifiedon ge 2026-09-20T11:59:00Z"]


@pytest.mark.parametrize("is_tracked", [True, False])
def test_a_pull_that_is_stopped_after_any_batch_loses_nothing(
    org: Dataverse, tmp_path: Path, is_tracked: bool
) -> None:
    if not is_tracked:
        org.tracked = set()
    org.tables = {name: org.tables[name] for name in ("contacts", "incidents", "emails")}
    found = pull_stopping(source_of(org), tmp_path)
    assert {name: ids(found, name) for name in org.tables} == {
        name: set(rows) for name, rows in org.tables.items()
    }


def test_a_row_that_changes_while_pages_are_read_comes_at_its_latest(
    org: Dataverse, tmp_path: Path
) -> None:
    source, position, read = source_of(org), None, 0
    for batch in dynamics365.pull(source, make_context(tmp_path)):
        read += batch.entity == "incidents"
        if batch.entity == "incidents" and read == 1:
            org.change(
                "incidents", an_id("i", 1), title="Changed", modifiedon=f"{NOW:%F}T01:00:00Z"
            )
        position = batch.position or position
    org.log.append(("incidents", an_id("i", 1)))
    found, _ = pull_all(source, tmp_path, position)
    assert latest(found, "incidents")[an_id("i", 1)]["title"] == "Changed"


@pytest.mark.parametrize("is_tracked", [True, False])
def test_start_bounds_incidents_but_not_people(
    org: Dataverse, tmp_path: Path, is_tracked: bool
) -> None:
    if not is_tracked:
        org.tracked = set()
    found, _ = pull_all(source_of(org, start=date(2026, 9, 9)), tmp_path)
    assert ids(found, "incidents") == {an_id("i", n) for n in (1, 5, 6)}
    assert ids(found, "contacts") == set(org.tables["contacts"])


def test_base_url_may_end_in_the_path_of_the_api(org: Dataverse, tmp_path: Path) -> None:
    found, _ = pull_all(make_source("dynamics365", f"{org.url}{BASE}/"), tmp_path)
    assert len(ids(found, "incidents")) == 6


def test_columns_that_are_not_there_are_left_out(org: Dataverse, tmp_path: Path) -> None:
    org.columns["incidents"] -= {"sentimentvalue", "merged"}
    found, position = pull_all(source_of(org), tmp_path)
    assert len(ids(found, "incidents")) == 6
    assert position["incidents"]["absent"] == ["merged", "sentimentvalue"]


def test_a_column_of_the_options_that_is_not_there_is_named_with_the_nearest(
    org: Dataverse, tmp_path: Path
) -> None:
    source = source_of(org, options={"product_column": "titel"})
    with pytest.raises(UsageError, match="incidents has no column 'titel', did you mean 'title'"):
        pull_all(source, tmp_path)


def test_tables_that_are_not_there_are_skipped_with_a_note(org: Dataverse, tmp_path: Path) -> None:
    del org.tables["posts"]
    told: list[str] = []
    pull_all(source_of(org), tmp_path, progress=lambda text, rows: told.append(text))
    assert "extract desk: posts skipped, the login may not read it" in told


def test_the_audit_log_goes_on_a_minute_before_its_newest_entry(
    org: Dataverse, tmp_path: Path
) -> None:
    found, position = pull_all(source_of(org), tmp_path)
    entry = org.tables["audits"][an_id("au", 3)]
    told = json.loads(entry["changedata"])
    assert latest(found, "audits")[an_id("au", 3)] == entry | {
        "changes": {
            "ownerid": {"old": f"team,{an_id('t', 1)}", "new": f"systemuser,{MIA}"},
            "statuscode": {"old": "2", "new": "1"},
            "status": {"old": "2", "new": "1"},
        }
    }
    assert len(told["changedAttributes"]) == 2
    late = entry | {"auditid": an_id("au", 99), "createdon": "2026-09-20T09:06:30Z"}
    org.tables["audits"][an_id("au", 99)] = late
    org.requests.clear()
    found, _ = pull_all(source_of(org), tmp_path, position)
    assert ids(found, "audits") == {an_id("au", n) for n in (2, 3, 99)}
    asked = [r.query.get("$filter", "") for r in org.requests if r.path == f"{BASE}/audits"]
    assert asked[0].endswith(" and createdon ge 2026-09-20T09:06:00Z")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            refuse(403, "0x80040220", "Principal user is missing prvReadAuditSummary privilege"),
            "the login may not read the audit log (privilege prvReadAuditSummary)",
        ),
        (
            refuse(400, "0x80060888", "Could not find a property named 'changedata' on type 'x'."),
            "the audit log of this version does not tell what changed",
        ),
        (
            refuse(501, "0x80040800", "Not supported\nat Retrieve"),
            "Dataverse refused to read the audit log (0x80040800: Not supported)",
        ),
        (None, "auditing of incidents is off, or nothing was changed yet"),
    ],
)
def test_without_an_audit_log_all_else_goes_on_with_one_note(
    org: Dataverse, tmp_path: Path, answer: Answer | None, told: str
) -> None:
    if answer:
        org.fail("/audits", answer, times=9)
    else:
        org.tables["audits"] = {}
    found, text = pull_told(source_of(org), tmp_path)
    notes = [line for line in text.splitlines() if "history" in line or "audits" in line]
    assert notes == [f"extract desk: no history of status, owner and priority, {told}"]
    assert ids(found, "incidents") == set(org.tables["incidents"])
    assert ids(found, "audits") == set()


def test_the_audit_log_may_be_left_alone(org: Dataverse, tmp_path: Path) -> None:
    found, text = pull_told(source_of(org, options={"audit_log": False}), tmp_path)
    assert ids(found, "audits") == set()
    assert "history" not in text
    assert [request for request in org.requests if request.path == f"{BASE}/audits"] == []


@pytest.mark.parametrize("text", [None, "", "1,5~2", "[]", '{"changedAttributes": [1]}'])
def test_an_entry_without_readable_changes_is_kept_as_it_is(text: str | None) -> None:
    assert dynamics365.read_changes(text) == {}


# Limits and faults --------------------------------------------------------------------------------


def test_the_limit_is_kept(org: Dataverse, tmp_path: Path) -> None:
    body = {"error": {"code": "0x80072322", "message": "Number of requests exceeded"}}
    org.limit("/incidents", Answer(body, 429, {"Retry-After": "1"}), seconds=1)
    found, _ = pull_all(source_of(org), tmp_path)
    assert len(ids(found, "incidents")) == 6
    assert org.violations == []


@pytest.mark.parametrize("is_tracked", [True, False])
def test_a_link_to_a_further_page_that_expired_is_no_loss(
    org: Dataverse, tmp_path: Path, is_tracked: bool
) -> None:
    if not is_tracked:
        org.tracked = set()
    org.fail("/incidents", refuse(400, "0x80048d0a", "the paging cookie is invalid"), skip=2)
    found, _ = pull_all(source_of(org), tmp_path)
    assert ids(found, "incidents") == set(org.tables["incidents"])


def test_a_wrong_token_is_told_with_its_connection_and_without_itself(
    org: Dataverse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"password": "wrong-one"}')
    with pytest.raises(HearbackError) as raised:
        pull_all(source_of(org), tmp_path)
    assert "check connection 'desk'" in raised.value.message
    assert "wrong-one" not in raised.value.message


def test_a_role_that_may_not_read_incidents_is_told(org: Dataverse, tmp_path: Path) -> None:
    body = {"error": {"code": "0x80040220", "message": "SecLib::AccessCheckEx failed"}}
    org.fail("/incidents", Answer(body, 403), times=9)
    with pytest.raises(HearbackError, match="source 'desk': the login may not read incidents"):
        pull_all(source_of(org), tmp_path)


def test_tokens_are_fetched_and_renewed_when_they_end(
    org: Dataverse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"token_url": f"{org.url}/tenant-1/token"}
    connection = {"login": "app", "password": "quiet", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(connection))
    found: set[str] = set()
    for number, batch in enumerate(dynamics365.pull(source_of(org), make_context(tmp_path))):
        if number == 1:
            org.token = "ended"
        if batch.entity == "incidents" and isinstance(batch.records, list):
            found |= {record.record_id for record in batch.records}
    assert found == set(org.tables["incidents"])
    assert org.tokens_given == 2


def test_a_connection_without_a_tenant_says_what_it_needs(
    org: Dataverse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"login": "app", "password": "quiet"}')
    with pytest.raises(HearbackError, match=r"connection 'desk' needs .*extra\.tenant"):
        pull_all(source_of(org), tmp_path)


def test_check_makes_one_request(org: Dataverse, tmp_path: Path) -> None:
    check = find_kind("dynamics365").check
    assert check is not None
    assert check(source_of(org), make_context(tmp_path)) == "incidents can be read"
    assert len(org.requests) == 1


# What comes out -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """Rows after a first load, and after an incident and a contact were deleted."""
    folder = tmp_path_factory.mktemp("dynamics365")
    tracked = {"incidents", "contacts"}
    with pytest.MonkeyPatch.context() as patch, Dataverse(load(), tracked) as server:
        patch.setenv("AIRFLOW_CONN_DESK", '{"password": "ey.ready"}')
        source = make_source("dynamics365", server.url, options={"channels": {"77": "chat"}})
        stage(folder, source)
        assert isinstance(server, Dataverse)
        server.delete("incidents", an_id("i", 6))
        server.delete("contacts", an_id("c", 3))
        run = make_run(folder, source, now=datetime.now(UTC))
        extract.run(run, source.name)
        validate.run(run)
        assert quarantined(folder, source) == []
        files = run.lake.staging_manifest()["files"]
        return {
            entity: [row for entry in entries for row in run.lake.read_table(entry).to_pylist()]
            for entity, entries in files.items()
        }


SMOKE, INVOICE, TEAMS, CANCELLED, MERGED, GONE = (an_id("i", n) for n in range(1, 7))
MIA = an_id("u", 1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-09-{text}").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("case_id", "column", "value"),
    [
        (SMOKE, "channel", "email"),
        (SMOKE, "subject", "Grinder smokes"),
        (SMOKE, "source_customer_id", an_id("c", 1)),
        (SMOKE, "priority", "high"),
        (SMOKE, "status", "open"),
        (SMOKE, "assignee_id", MIA),
        (SMOKE, "source_group", None),
        (SMOKE, "opened_at", at("20 09:00")),
        (SMOKE, "updated_at", at("20 12:00")),
        (INVOICE, "channel", "phone"),
        (INVOICE, "status", "solved"),
        (INVOICE, "source_customer_id", an_id("c", 2)),
        (TEAMS, "status", "hold"),
        (TEAMS, "channel", "chat"),
        (TEAMS, "source_group", "Tier 2"),
        (TEAMS, "assignee_id", None),
        (CANCELLED, "status", "closed"),
        (CANCELLED, "merged_into", None),
        (MERGED, "merged_into", SMOKE),
        (GONE, "status", "pending"),
        (GONE, "priority", "low"),
    ],
)
def test_cases(staged: Rows, case_id: str, column: str, value: Any) -> None:
    assert one(staged["cases"], source_case_id=case_id)[column] == value


def test_a_case_has_the_address_of_its_page(staged: Rows) -> None:
    url = one(staged["cases"], source_case_id=SMOKE)["url"]
    assert url.endswith(f"/main.aspx?etn=incident&pagetype=entityrecord&id={SMOKE}")


@pytest.mark.parametrize(
    ("record_id", "column", "value"),
    [
        (f"{SMOKE}:description", "body", "The grinder smokes since this morning."),
        (f"{SMOKE}:description", "author_id", an_id("c", 1)),
        (f"{SMOKE}:description", "author_role", "customer"),
        (f"{INVOICE}:description", "author_role", "agent"),
        (f"{INVOICE}:description", "is_public", False),
        (an_id("m", 1), "author_role", "customer"),
        (an_id("m", 1), "author_id", an_id("c", 1)),
        (an_id("m", 1), "body", "<p>It smokes again.</p>"),
        (an_id("m", 1), "created_at", at("20 10:01:30")),
        (an_id("m", 1), "channel", "email"),
        (an_id("m", 2), "author_role", "agent"),
        (an_id("m", 2), "author_id", MIA),
        (an_id("m", 2), "is_public", True),
        (an_id("p", 5), "channel", "phone"),
        (an_id("p", 5), "is_public", False),
        (an_id("p", 5), "created_at", at("20 10:06")),
        (an_id("n", 1), "body", "Ask the supplier."),
        (an_id("n", 1), "is_public", False),
        (an_id("n", 1), "source_case_id", SMOKE),
        (an_id("n", 2), "attachments", ["smoke.jpg"]),
        (an_id("po", 1), "body", "Who has a spare grinder?"),
        (an_id("po", 1), "author_role", "agent"),
    ],
)
def test_messages(staged: Rows, record_id: str, column: str, value: Any) -> None:
    assert one(staged["messages"], source_record_id=record_id)[column] == value


@pytest.mark.parametrize("record_id", [an_id("m", 3), an_id("m", 4), an_id("n", 3), an_id("po", 2)])
def test_drafts_system_posts_and_what_is_about_others_are_no_messages(
    staged: Rows, record_id: str
) -> None:
    assert record_id not in {row["source_record_id"] for row in staged["messages"]}


@pytest.mark.parametrize(
    ("event_id", "kind", "after", "moment"),
    [
        (an_id("r", 1), "status_changed", "solved", at("06 08:59")),
        (f"{MERGED}:merged", "merged", SMOKE, at("09 09:00")),
    ],
)
def test_events(staged: Rows, event_id: str, kind: str, after: str, moment: datetime) -> None:
    row = one(staged["case_events"], source_event_id=event_id)
    assert [row["event_type"], row["to_value"], row["event_at"]] == [kind, after, moment]


ROBOT = an_id("u", 2)


@pytest.mark.parametrize(
    ("number", "name", "case_id", "event"),
    [
        (1, "status", SMOKE, ("status_changed", "open", "hold", MIA, at("20 09:05"))),
        (2, "priority", SMOKE, ("priority_changed", "normal", "high", MIA, at("20 09:06"))),
        (3, "status", SMOKE, ("status_changed", "hold", "open", MIA, at("20 09:07"))),
        (3, "assignee", SMOKE, ("assignee_changed", None, MIA, MIA, at("20 09:07"))),
        (3, "group", SMOKE, ("group_changed", "Tier 2", None, MIA, at("20 09:07"))),
        (4, "status", INVOICE, ("status_changed", "open", "solved", MIA, at("06 08:59"))),
        (5, "status", INVOICE, ("status_changed", "solved", "pending", ROBOT, at("06 09:30"))),
        (6, "assignee", TEAMS, ("assignee_changed", MIA, None, MIA, at("08 10:00"))),
        (6, "group", TEAMS, ("group_changed", None, "Tier 2", MIA, at("08 10:00"))),
        (8, "deleted", GONE, ("deleted", None, None, MIA, at("11 10:00"))),
        (9, "status", CANCELLED, ("status_changed", "open", "closed", MIA, at("08 11:00"))),
        (10, "status", CANCELLED, ("status_changed", "open", "pending", MIA, at("08 10:00"))),
    ],
)
def test_the_audit_log_tells_what_was_changed_and_by_whom(
    staged: Rows, number: int, name: str, case_id: str, event: tuple[Any, ...]
) -> None:
    row = one(staged["case_events"], source_event_id=f"{an_id('au', number)}:{name}")
    columns = ("event_type", "from_value", "to_value", "actor_id", "event_at")
    assert row["source_case_id"] == case_id
    assert tuple(row[column] for column in columns) == event


def test_what_is_no_event_of_the_audit_log_gives_none(staged: Rows) -> None:
    entries = {an_id("au", number) for number in range(1, 11)}
    log = [row["source_event_id"] for row in staged["case_events"] if row["record_id"] in entries]
    assert len(log) == len(set(log)) == 12


def test_a_deletion_is_an_event_of_the_time_when_it_was_seen(staged: Rows) -> None:
    row = one(staged["case_events"], source_event_id=f"{GONE}:deleted")
    assert (row["source_case_id"], row["event_at"]) == (GONE, row["captured_at"])


@pytest.mark.parametrize(
    ("customer_id", "column", "value"),
    [
        (an_id("c", 1), "name", "Susan Reed"),
        (an_id("c", 1), "email", "susan@coffee.example"),
        (an_id("c", 1), "phone", "555-0151"),
        (an_id("c", 1), "organization", "Fourth Coffee"),
        (an_id("c", 1), "external_id", "K-88"),
        (an_id("c", 1), "region", "Denmark"),
        (an_id("c", 1), "birthday", date(1979, 2, 28)),
        (an_id("c", 1), "do_not_contact", True),
        (an_id("c", 2), "do_not_contact", False),
        (an_id("a", 1), "name", "Fourth Coffee"),
        (an_id("a", 1), "external_id", "D-1001"),
    ],
)
def test_customers(staged: Rows, customer_id: str, column: str, value: Any) -> None:
    assert one(staged["customers"], source_customer_id=customer_id)[column] == value


def test_what_was_deleted_is_told_and_overwrites_nothing(staged: Rows) -> None:
    told = {(row["deleted_entity"], row["source_record_id"]) for row in staged["deletions"]}
    assert told == {("customers", an_id("c", 3)), ("survey_responses", f"{GONE}:csat")}
    contact = one(staged["customers"], source_customer_id=an_id("c", 3))
    assert contact["do_not_contact"] is not True


@pytest.mark.parametrize(
    ("agent_id", "column", "value"),
    [
        (MIA, "name", "Mia Lopez"),
        (MIA, "email", "mia@acme.example"),
        (MIA, "external_id", "E-17"),
        (MIA, "role", "agent"),
        (MIA, "is_active", True),
        (an_id("u", 2), "role", "bot"),
        (an_id("u", 3), "is_active", False),
    ],
)
def test_agents(staged: Rows, agent_id: str, column: str, value: Any) -> None:
    assert one(staged["agents"], source_agent_id=agent_id)[column] == value


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("kind", "csat"),
        ("score", 4.0),
        ("scale_min", 1.0),
        ("scale_max", 5.0),
        ("source_case_id", INVOICE),
        ("source_customer_id", an_id("c", 2)),
        ("answered_at", at("06 09:00")),
    ],
)
def test_satisfaction(staged: Rows, column: str, value: Any) -> None:
    assert one(staged["survey_responses"])[column] == value

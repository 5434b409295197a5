"""Brevo: every contact although the list shifts, who must not be written to, and writing back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.settings import Source
from pipelines.sources import brevo as kind_module
from pipelines.sources import find_kind
from pipelines.sources.brevo import BrevoAudience
from tests.pipelines.sources.brevo.server import KEY, Brevo, refusal
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


@pytest.fixture
def brevo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Brevo]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"conn_type": "http", "password": KEY}))
    monkeypatch.setattr(kind_module, "PAGE_SIZE", 15)
    with Brevo() as server:
        assert isinstance(server, Brevo)
        yield server


def source_of(brevo: Brevo, **options: Any) -> Source:
    return make_source("brevo", brevo.url, options=options)


def add(brevo: Brevo, count: int) -> None:
    for n in range(100, 100 + count):
        row = {**brevo.contacts[1], "id": n, "modifiedAt": f"2026-10-03T00:{n % 60:02}:00.000Z"}
        brevo.contacts.append(row)


def test_the_first_load_is_complete(brevo: Brevo, tmp_path: Path) -> None:
    add(brevo, 40)
    found, _ = pull_all(source_of(brevo), tmp_path)
    assert ids(found, "contacts") == {str(row["id"]) for row in brevo.contacts}
    assert latest(found, "contacts")["11"] == brevo.contacts[0]


def test_contacts_deleted_while_pages_are_read_hide_none(brevo: Brevo, tmp_path: Path) -> None:
    add(brevo, 60)
    kept = {str(row["id"]) for row in brevo.contacts[14:]}

    def delete(offset: int) -> None:
        if offset and len(brevo.contacts) > 60:
            del brevo.contacts[:14]  # more than pages overlap by

    brevo.before_page = delete
    found, _ = pull_all(source_of(brevo), tmp_path)
    assert kept <= ids(found, "contacts")


def test_a_second_pull_reads_what_changed(brevo: Brevo, tmp_path: Path) -> None:
    _, position = pull_all(source_of(brevo), tmp_path)
    brevo.contacts[0]["modifiedAt"] = "2026-10-05T00:00:00.000Z"
    found, _ = pull_all(source_of(brevo), tmp_path, position)
    assert ids(found, "contacts") == {"11", "12"}  # 12 at the bound, which is inclusive
    found, _ = pull_all(
        source_of(brevo), tmp_path, {"contacts": {"since": "2026-10-04T00:00:00+00:00"}}
    )
    assert ids(found, "contacts") == {"11"}


def test_the_next_sweep_begins_when_this_one_began(brevo: Brevo, tmp_path: Path) -> None:
    brevo.contacts[1]["modifiedAt"] = "2026-11-20T12:00:30.000Z"  # while the sweep was running
    _, position = pull_all(source_of(brevo), tmp_path)
    assert position["contacts"]["since"] == "2026-11-20T11:59:00+00:00"


def test_stopped_after_every_batch_nothing_is_lost(brevo: Brevo, tmp_path: Path) -> None:
    add(brevo, 40)
    found = pull_stopping(source_of(brevo, notes=True), tmp_path)
    assert len(ids(found, "contacts")) == 42
    assert ids(found, "notes") == {"n1"}


def test_start_bounds_the_first_load(brevo: Brevo, tmp_path: Path) -> None:
    found, _ = pull_all(make_source("brevo", brevo.url, start="2026-10-02"), tmp_path)
    assert ids(found, "contacts") == {"12"}


def test_no_notes_is_not_an_error(brevo: Brevo, tmp_path: Path) -> None:
    brevo.notes = []
    found, _ = pull_all(source_of(brevo, notes=True), tmp_path)
    assert ids(found, "notes") == set()


def test_the_limit_is_obeyed_in_seconds_left(brevo: Brevo, tmp_path: Path) -> None:
    answer = refusal(429, "too_many_requests")
    answer.headers["x-sib-ratelimit-reset"] = "1"
    brevo.limit("/contacts", answer, seconds=0.95)
    found, _ = pull_all(source_of(brevo), tmp_path)
    assert len(ids(found, "contacts")) == 2
    assert brevo.violations == []


def test_a_budget_that_is_used_up_is_waited_for(brevo: Brevo, tmp_path: Path) -> None:
    brevo.left = 1
    pull_all(source_of(brevo, notes=True), tmp_path)
    first, second = brevo.requests
    assert second.at - first.at > 0.95


@pytest.mark.parametrize("fault", [{"answer": refusal(502, "oops")}, {"cut": 30}])
def test_faults_are_survived(brevo: Brevo, tmp_path: Path, fault: dict[str, Any]) -> None:
    brevo.fail("/contacts", **fault)
    found, _ = pull_all(source_of(brevo), tmp_path)
    assert len(ids(found, "contacts")) == 2


def test_check_counts_contacts(brevo: Brevo, tmp_path: Path) -> None:
    kind = find_kind("brevo")
    assert kind.check
    assert kind.check(source_of(brevo), make_context(tmp_path)) == "2 contacts"


def test_contacts_are_written_and_put_on_lists(brevo: Brevo, tmp_path: Path) -> None:
    audience = BrevoAudience(source_of(brevo), make_context(tmp_path))
    audience.upsert_contact("ann@example.org", {"FIRSTNAME": "Ann"})
    audience.add_to_list(7, [f"c{n}@example.org" for n in range(151)])
    (first, body), (path, part), (_, rest) = brevo.written
    assert (first, body["updateEnabled"], body["email"]) == (
        "/v3/contacts",
        True,
        "ann@example.org",
    )
    assert path == "/v3/contacts/lists/7/contacts/add"
    assert (len(part["emails"]), rest["emails"]) == (150, ["c150@example.org"])


# mapping ------------------------------------------------------------------------------------------

Staged = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    with pytest.MonkeyPatch.context() as patch, Brevo() as server:
        assert isinstance(server, Brevo)
        patch.setenv("AIRFLOW_CONN_DESK", json.dumps({"conn_type": "http", "password": KEY}))
        folder = tmp_path_factory.mktemp("brevo")
        source = source_of(server, notes=True, attributes={"region": "CITY", "birthday": "BORN"})
        rows = stage(folder, source)
        assert quarantined(folder, source) == []
        yield rows


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("email", "ann@example.org"),
        ("name", "Ann Lee"),
        ("phone", "491700000001"),
        ("region", "Köln"),
        ("birthday", date(1990, 5, 4)),
        ("signup_at", datetime(2026, 1, 2, 8, tzinfo=UTC)),
        ("do_not_contact", True),
        ("updated_at", datetime(2026, 10, 1, 8, 0, 0, 123000, UTC)),
    ],
)
def test_a_contact_is_a_customer(staged: Staged, column: str, expected: object) -> None:
    assert one(staged["customers"], source_customer_id="11")[column] == expected


def test_one_who_agrees_may_be_written_to(staged: Staged) -> None:
    row = one(staged["customers"], source_customer_id="12")
    assert (row["do_not_contact"], row["name"]) == (False, None)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("source_record_id", "note-n1"),
        ("channel", "other"),
        ("source_customer_id", "11"),
        ("body", "Customer says the app logs her out every hour."),
        ("created_at", datetime(2026, 10, 1, 9, tzinfo=UTC)),
        ("updated_at", datetime(2026, 10, 1, 9, 30, tzinfo=UTC)),
    ],
)
def test_a_note_is_feedback(staged: Staged, column: str, expected: object) -> None:
    (row,) = staged["feedback"]
    assert row[column] == expected

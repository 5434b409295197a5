"""Constant Contact: contacts in every state, limits that nobody tells, and writing back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError
from pipelines.settings import Source
from pipelines.sources import find_kind
from pipelines.sources.constant_contact import ConstantContactAudience
from tests.pipelines.sources.constant_contact.server import TOKEN, ConstantContact, refusal
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
def contact(monkeypatch: pytest.MonkeyPatch) -> Iterator[ConstantContact]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"conn_type": "http", "password": TOKEN}))
    with ConstantContact() as server:
        assert isinstance(server, ConstantContact)
        yield server


def source_of(contact: ConstantContact, **options: Any) -> Source:
    return make_source("constant_contact", contact.url, options=options)


def add(contact: ConstantContact, count: int) -> None:
    for n in range(count):
        at = f"2026-10-04T00:00:{10 + 5 * n}Z"
        row = {**contact.contacts[1], "contact_id": f"x-{n}", "updated_at": at}
        contact.contacts.append(row)


def test_the_first_load_is_complete_with_deleted_contacts(
    contact: ConstantContact, tmp_path: Path
) -> None:
    found, _ = pull_all(source_of(contact), tmp_path)
    assert ids(found, "contacts") == {"c-1", "c-2", "c-3"}
    assert latest(found, "contacts")["c-1"] == contact.contacts[0]


def test_a_second_pull_reads_what_changed(contact: ConstantContact, tmp_path: Path) -> None:
    _, position = pull_all(source_of(contact), tmp_path)
    contact.contacts[0]["updated_at"] = "2026-10-05T00:00:00Z"
    found, _ = pull_all(source_of(contact), tmp_path, position)
    assert ids(found, "contacts") == {"c-1", "c-3"}  # the last second again


def test_a_contact_that_changes_while_pages_are_read_comes_again(
    contact: ConstantContact, tmp_path: Path
) -> None:
    def change(place: int) -> None:
        if place == 2:
            contact.contacts[0]["updated_at"] = "2026-11-20T12:00:05Z"
            contact.contacts[2]["updated_at"] = "2026-11-20T12:00:09Z"

    contact.before_page = change
    _, position = pull_all(source_of(contact), tmp_path)
    found, _ = pull_all(source_of(contact), tmp_path, position)
    assert "c-1" in ids(found, "contacts")


def test_stopped_after_every_batch_nothing_is_lost(
    contact: ConstantContact, tmp_path: Path
) -> None:
    add(contact, 3)
    found = pull_stopping(source_of(contact), tmp_path)
    assert len(ids(found, "contacts")) == 6


def test_an_expired_cursor_begins_the_sweep_anew(contact: ConstantContact, tmp_path: Path) -> None:
    def expire(place: int) -> None:
        if place == 2 and contact.generation == 0:
            contact.generation = 1

    contact.before_page = expire
    add(contact, 2)
    found, _ = pull_all(source_of(contact), tmp_path, None)
    assert len(ids(found, "contacts")) == 5


def test_start_bounds_the_first_load(contact: ConstantContact, tmp_path: Path) -> None:
    source = make_source("constant_contact", contact.url, start="2026-10-02")
    found, _ = pull_all(source, tmp_path)
    assert ids(found, "contacts") == {"c-2", "c-3"}


def test_a_throttled_request_waits_a_second(contact: ConstantContact, tmp_path: Path) -> None:
    contact.limit("/contacts", refusal(429, "throttled"), seconds=0.95)
    found, _ = pull_all(source_of(contact), tmp_path)
    assert len(ids(found, "contacts")) == 3
    assert contact.violations == []


def test_a_used_up_day_is_told_or_waited_for(contact: ConstantContact, tmp_path: Path) -> None:
    if datetime.now(UTC).hour == 23:
        contact.contacts = []  # under an hour to midnight: the pull would wait for it
        found, _ = pull_all(source_of(contact), tmp_path)
        assert ids(found, "contacts") == set()
        return
    contact.fail("/contacts", refusal(429, "quota_exceeded"))
    with pytest.raises(HearbackError, match=r"limit of the API is used up until .* 00:00 UTC"):
        pull_all(source_of(contact), tmp_path)
    assert len(contact.requests) == 1


@pytest.mark.parametrize("fault", [{"answer": refusal(503, "oops")}, {"cut": 30}])
def test_faults_are_survived(
    contact: ConstantContact, tmp_path: Path, fault: dict[str, Any]
) -> None:
    contact.fail("/contacts", **fault)
    found, _ = pull_all(source_of(contact), tmp_path)
    assert len(ids(found, "contacts")) == 3


def test_a_refresh_token_fetches_an_access_token(
    contact: ConstantContact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = {"login": "app", "password": "hush", "extra": {"refresh_token": "r-1"}}
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"conn_type": "http", **grant}))
    found, _ = pull_all(source_of(contact), tmp_path)
    assert len(ids(found, "contacts")) == 3


def test_check_reads_contacts(contact: ConstantContact, tmp_path: Path) -> None:
    kind = find_kind("constant_contact")
    assert kind.check
    assert kind.check(source_of(contact), make_context(tmp_path)) == "contacts can be read"


def test_contacts_are_written_and_put_on_lists(contact: ConstantContact, tmp_path: Path) -> None:
    audience = ConstantContactAudience(source_of(contact), make_context(tmp_path))
    assert audience.upsert_contact("ann@example.org", "Ann", ["l-1"]) == "c-1"
    assert audience.add_to_list("l-2", ["c-1"]) == "act-1"
    assert contact.written == [
        (
            "/v3/contacts/sign_up_form",
            {"email_address": "ann@example.org", "first_name": "Ann", "list_memberships": ["l-1"]},
        ),
        (
            "/v3/activities/add_list_memberships",
            {"source": {"contact_ids": ["c-1"]}, "list_ids": ["l-2"]},
        ),
    ]


# mapping ------------------------------------------------------------------------------------------

Staged = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    with pytest.MonkeyPatch.context() as patch, ConstantContact() as server:
        assert isinstance(server, ConstantContact)
        patch.setenv("AIRFLOW_CONN_DESK", json.dumps({"conn_type": "http", "password": TOKEN}))
        folder = tmp_path_factory.mktemp("constant_contact")
        source = source_of(server, notes=True)
        rows = stage(folder, source)
        assert quarantined(folder, source) == []
        yield rows


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("email", "ann@example.org"),
        ("name", "Ann Lee"),
        ("organization", "Acme"),
        ("signup_at", datetime(2026, 1, 2, 8, tzinfo=UTC)),
        ("do_not_contact", False),
        ("updated_at", datetime(2026, 10, 1, 8, tzinfo=UTC)),
    ],
)
def test_a_contact_is_a_customer(staged: Staged, column: str, expected: object) -> None:
    assert one(staged["customers"], source_customer_id="c-1")[column] == expected


@pytest.mark.parametrize("customer", ["c-2", "c-3"])
def test_one_who_left_or_was_deleted_is_not_written_to(staged: Staged, customer: str) -> None:
    assert one(staged["customers"], source_customer_id=customer)["do_not_contact"] is True


def test_a_note_is_feedback(staged: Staged) -> None:
    (row,) = staged["feedback"]
    assert (row["source_record_id"], row["source_customer_id"]) == ("note-n-1", "c-1")
    assert row["body"] == "Wants invoices by mail."


def test_a_deleted_contact_is_told(staged: Staged) -> None:
    (told,) = staged["deletions"]
    assert (told["deleted_entity"], told["source_record_id"]) == ("customers", "c-3")
    assert told["deleted_at"] == datetime(2026, 10, 3, 8, tzinfo=UTC)

"""Mailchimp: all members although archived ones hide and the list moves; answers to surveys."""

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
from pipelines.sources import mailchimp as kind_module
from pipelines.sources.mailchimp import MailchimpAudience
from tests.pipelines.sources.mailchimp.server import KEY, Mailchimp, problem
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
from tests.pipelines.sources.vendor_server import Answer

ANN = MailchimpAudience.find_id("Ann@example.org")


@pytest.fixture
def mailchimp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailchimp]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"conn_type": "http", "password": KEY}))
    monkeypatch.setattr(kind_module, "PAGE_SIZE", 15)
    with Mailchimp() as server:
        assert isinstance(server, Mailchimp)
        yield server


def source_of(mailchimp: Mailchimp, **options: Any) -> Source:
    return make_source("mailchimp", mailchimp.url, options=options)


def add(mailchimp: Mailchimp, count: int) -> None:
    for n in range(count):
        at = f"2026-10-05T00:{n:02}:00+00:00"
        mailchimp.members.append({**mailchimp.members[1], "id": f"{n:032x}", "last_changed": at})


def test_the_first_load_is_complete_with_archived_members(
    mailchimp: Mailchimp, tmp_path: Path
) -> None:
    add(mailchimp, 40)
    found, _ = pull_all(source_of(mailchimp), tmp_path)
    assert ids(found, "members") == {f"L1/{row['id']}" for row in mailchimp.members}
    assert latest(found, "members")[f"L1/{ANN}"] == mailchimp.members[0]
    assert ids(found, "survey_answers") == {"S1/q1/a1", "S1/q2/a2", "S1/q3/a3"}


def test_a_second_pull_reads_what_changed(mailchimp: Mailchimp, tmp_path: Path) -> None:
    _, position = pull_all(source_of(mailchimp), tmp_path)
    twin = {**mailchimp.members[1], "id": "f" * 32}  # changed in the second of the bound
    mailchimp.members.append(twin)
    mailchimp.members[0]["last_changed"] = "2026-10-06T08:00:00+00:00"
    mailchimp.members[2]["last_changed"] = "2026-10-06T08:00:00+00:00"
    found, _ = pull_all(source_of(mailchimp), tmp_path, position)
    assert {f"L1/{ANN}", f"L1/{'f' * 32}", f"L1/{'2' * 32}"} <= ids(found, "members")


def test_a_member_that_was_archived_comes_as_such(mailchimp: Mailchimp, tmp_path: Path) -> None:
    _, position = pull_all(source_of(mailchimp), tmp_path)
    mailchimp.members[0] |= {"status": "archived", "last_changed": "2026-10-07T08:00:00+00:00"}
    found, _ = pull_all(source_of(mailchimp), tmp_path, position)
    assert latest(found, "members")[f"L1/{ANN}"]["status"] == "archived"


def test_members_that_change_while_pages_are_read_hide_none(
    mailchimp: Mailchimp, tmp_path: Path
) -> None:
    """They move to the end of the list and all others forward, by more than pages overlap."""
    add(mailchimp, 50)
    everyone = {f"L1/{row['id']}" for row in mailchimp.members}

    def change(offset: int) -> None:
        if offset == 5:
            for row in mailchimp.members[3:17]:
                row["last_changed"] = "2026-10-09T00:00:00+00:00"

    mailchimp.before_page = change
    found, _ = pull_all(source_of(mailchimp), tmp_path)
    assert ids(found, "members") == everyone


def test_stopped_after_every_batch_nothing_is_lost(mailchimp: Mailchimp, tmp_path: Path) -> None:
    add(mailchimp, 40)
    found = pull_stopping(source_of(mailchimp), tmp_path)
    assert len(ids(found, "members")) == 43
    assert len(ids(found, "survey_answers")) == 3


def test_start_bounds_the_first_load(mailchimp: Mailchimp, tmp_path: Path) -> None:
    found, _ = pull_all(make_source("mailchimp", mailchimp.url, start="2026-10-02"), tmp_path)
    assert ids(found, "members") == {f"L1/{'1' * 32}", f"L1/{'2' * 32}"}


@pytest.mark.parametrize("status", [403, 429])
def test_refusals_that_are_no_json_are_waited_for(
    mailchimp: Mailchimp, tmp_path: Path, status: int
) -> None:
    mailchimp.fail("/members", Answer(b"<html>slow down</html>", status), times=2)
    found, _ = pull_all(source_of(mailchimp), tmp_path)
    assert len(ids(found, "members")) == 3


@pytest.mark.parametrize("answer", [problem(403, "Forbidden"), problem(404, "Not Found")])
def test_an_account_without_surveys_is_passed_over_with_a_note(
    mailchimp: Mailchimp, tmp_path: Path, answer: Answer
) -> None:
    mailchimp.no_surveys = answer
    told: list[str] = []
    source = source_of(mailchimp)
    found, _ = pull_all(source, tmp_path, progress=lambda text, rows: told.append(text))
    assert len(ids(found, "members")) == 3
    assert any("no surveys" in text for text in told)


@pytest.mark.parametrize("fault", [{"answer": problem(503, "Oops")}, {"cut": 30}])
def test_faults_are_survived(mailchimp: Mailchimp, tmp_path: Path, fault: dict[str, Any]) -> None:
    mailchimp.fail("/members", **fault)
    found, _ = pull_all(source_of(mailchimp), tmp_path)
    assert len(ids(found, "members")) == 3


def test_a_key_without_a_data_center_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"conn_type": "http", "password": "nocenter"}')
    with pytest.raises(HearbackError, match="ends in its data center"):
        pull_all(make_source("mailchimp"), tmp_path)


def test_check_counts_audiences(mailchimp: Mailchimp, tmp_path: Path) -> None:
    kind = find_kind("mailchimp")
    assert kind.check
    assert kind.check(source_of(mailchimp), make_context(tmp_path)) == "1 audiences"


def test_members_are_written_and_tagged(mailchimp: Mailchimp, tmp_path: Path) -> None:
    audience = MailchimpAudience(source_of(mailchimp), make_context(tmp_path), "L1")
    audience.upsert_contact("Ann@example.org", {"FNAME": "Ann"})
    audience.add_tag("Ann@example.org", "care")
    (put, path, body), (post, tags, tagged) = mailchimp.written
    assert (put, path) == ("PUT", f"lists/L1/members/{ANN}")
    assert (body["status_if_new"], body["merge_fields"]) == ("subscribed", {"FNAME": "Ann"})
    assert (post, tags) == ("POST", f"lists/L1/members/{ANN}/tags")
    assert tagged == {"tags": [{"name": "care", "status": "active"}]}


# mapping ------------------------------------------------------------------------------------------

Staged = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    with pytest.MonkeyPatch.context() as patch, Mailchimp() as server:
        assert isinstance(server, Mailchimp)
        patch.setenv("AIRFLOW_CONN_DESK", json.dumps({"conn_type": "http", "password": KEY}))
        folder = tmp_path_factory.mktemp("mailchimp")
        rule = {"q3": {"kind": "nps", "scale": [0, 10]}}
        source = source_of(server, notes=True, questions=rule)
        rows = stage(folder, source)
        assert quarantined(folder, source) == []
        yield rows


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("email", "ann@example.org"),
        ("name", "Ann Lee"),
        ("phone", "+49 170 1"),
        ("organization", "Acme"),
        ("language", "de"),
        ("region", "DE"),
        ("is_vip", True),
        ("signup_at", datetime(2026, 1, 2, 8, tzinfo=UTC)),
        ("do_not_contact", False),
        ("updated_at", datetime(2026, 10, 1, 8, tzinfo=UTC)),
    ],
)
def test_a_member_is_a_customer(staged: Staged, column: str, expected: object) -> None:
    assert one(staged["customers"], source_customer_id=ANN)[column] == expected


@pytest.mark.parametrize("customer", ["1" * 32, "2" * 32])
def test_who_left_is_not_written_to(staged: Staged, customer: str) -> None:
    assert one(staged["customers"], source_customer_id=customer)["do_not_contact"] is True


@pytest.mark.parametrize(
    ("question", "column", "expected"),
    [
        ("q1", "kind", "csat"),
        ("q1", "score", 2.0),
        ("q1", "scale_min", 1.0),
        ("q1", "scale_max", 3.0),
        ("q1", "survey_id", "S1"),
        ("q1", "source_response_id", "r1"),
        ("q1", "source_customer_id", ANN),
        ("q1", "answered_at", datetime(2026, 10, 4, 8, tzinfo=UTC)),
        ("q3", "kind", "nps"),
        ("q3", "score", 9.0),
        ("q3", "scale_max", 10.0),
    ],
)
def test_an_answer_is_scored(staged: Staged, question: str, column: str, expected: object) -> None:
    assert one(staged["survey_responses"], question_id=question)[column] == expected


@pytest.mark.parametrize(
    ("record", "channel", "body"),
    [
        ("a2", "survey", "More about repairs."),
        ("note-5", "other", "Says the newsletter comes twice."),
    ],
)
def test_words_are_feedback(staged: Staged, record: str, channel: str, body: str) -> None:
    row = one(staged["feedback"], source_record_id=record)
    assert (row["channel"], row["body"], row["source_customer_id"]) == (channel, body, ANN)

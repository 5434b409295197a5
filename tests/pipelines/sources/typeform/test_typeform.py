"""Typeform: completed responses in order, partial ones marked, questions of both languages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError
from pipelines.settings import Source
from pipelines.sources import find_kind
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
from tests.pipelines.sources.typeform.server import TOKEN, Typeform, refusal
from tests.pipelines.sources.vendor_server import Request


@pytest.fixture
def typeform(monkeypatch: pytest.MonkeyPatch) -> Iterator[Typeform]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"conn_type": "http", "password": TOKEN}))
    with Typeform() as server:
        assert isinstance(server, Typeform)
        yield server


def source_of(typeform: Typeform, **options: Any) -> Source:
    return make_source("typeform", typeform.url, options={"requests_per_second": 50, **options})


def add(typeform: Typeform, token: str, at: str) -> None:
    row = {"token": token, "landed_at": at, "submitted_at": at, "answers": []}
    typeform.responses["Fm1"].append(row)


def add_partial(typeform: Typeform, token: str, at: str = "2026-10-03T07:00:00Z") -> None:
    answer = {"field": {"id": "f_csat"}, "type": "number", "number": 3}
    row = {"token": token, "landed_at": at, "submitted_at": None, "answers": [answer]}
    typeform.partial.setdefault("Fm1", []).append(row)


def test_the_first_load_is_complete(typeform: Typeform, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(typeform), tmp_path)
    assert ids(found, "responses") == {"Fm1/t1", "Fm1/t2", "Fm1/t3"}
    assert latest(found, "responses")["Fm1/t1"] == typeform.responses["Fm1"][0]
    assert latest(found, "forms") == typeform.forms


def test_every_form_is_found(typeform: Typeform, tmp_path: Path) -> None:
    for n in range(2, 7):
        typeform.forms[f"Fm{n}"] = {**typeform.forms["Fm1"], "id": f"Fm{n}"}
    found, _ = pull_all(source_of(typeform), tmp_path)
    assert ids(found, "forms") == {f"Fm{n}" for n in range(1, 7)}


def test_a_second_pull_reads_what_is_new_and_what_may_have_come_late(
    typeform: Typeform, tmp_path: Path
) -> None:
    _, position = pull_all(source_of(typeform), tmp_path)
    add(typeform, "late", "2026-10-02T07:40:00Z")
    add(typeform, "new", "2026-10-05T00:00:00Z")
    found, _ = pull_all(source_of(typeform), tmp_path, position)
    assert ids(found, "responses") == {"Fm1/late", "Fm1/new", "Fm1/t2", "Fm1/t3"}
    assert ids(found, "forms") == set()


def test_a_form_that_changed_is_read_again(typeform: Typeform, tmp_path: Path) -> None:
    _, position = pull_all(source_of(typeform), tmp_path)
    typeform.forms["Fm1"]["last_updated_at"] = "2026-10-05T00:00:00Z"
    found, _ = pull_all(source_of(typeform), tmp_path, position)
    assert ids(found, "forms") == {"Fm1"}


def test_more_answers_in_one_second_than_a_page_holds(typeform: Typeform, tmp_path: Path) -> None:
    for n in range(7):
        add(typeform, f"same{n}", "2026-10-03T00:00:00Z")
    add(typeform, "last", "2026-10-03T00:00:09Z")
    found, _ = pull_all(source_of(typeform), tmp_path)
    assert len(ids(found, "responses")) == 11


def test_answers_that_arrive_while_pages_are_read(typeform: Typeform, tmp_path: Path) -> None:
    typeform.before_page = lambda request: (
        add(typeform, f"n{len(typeform.requests)}", "2026-10-02T08:03:11Z")
        if len(typeform.requests) < 8
        else None
    )
    found, _ = pull_all(source_of(typeform), tmp_path)
    assert ids(found, "responses") == {f"Fm1/{r['token']}" for r in typeform.responses["Fm1"]}


def test_stopped_after_every_batch_nothing_is_lost(typeform: Typeform, tmp_path: Path) -> None:
    for n in range(7):
        add(typeform, f"x{n}", f"2026-10-04T00:00:0{n}Z")
        add_partial(typeform, f"p{n}")
    found = pull_stopping(source_of(typeform), tmp_path)
    assert len(ids(found, "responses")) == 10
    assert len(ids(found, "partial_responses")) == 7


@pytest.mark.parametrize("is_partial", [False, True])
def test_a_token_that_expired_between_pages_begins_them_anew(
    typeform: Typeform, tmp_path: Path, is_partial: bool
) -> None:
    """The response that it stands for was deleted meanwhile."""
    for n in range(9):
        add_partial(typeform, f"p{n}")
        add(typeform, f"s{n}", "2026-10-05T00:00:00Z")  # more than a page holds of one second
    rows = (typeform.partial if is_partial else typeform.responses)["Fm1"]

    def delete(request: Request) -> None:
        gone = request.query.get("before" if is_partial else "after", "none")
        if gone in ("p5", "s4", "s5"):
            rows[:] = [row for row in rows if row["token"] != gone]

    typeform.before_page = delete
    found, _ = pull_all(source_of(typeform), tmp_path)
    assert len(rows) < 9 if is_partial else len(rows) < 12
    assert {f"Fm1/s{n}" for n in range(9)} <= ids(found, "responses")
    assert ids(found, "partial_responses") == {f"Fm1/p{n}" for n in range(9)}


@pytest.mark.parametrize("status", [402, 403])
def test_a_plan_without_partial_responses_is_passed_over_with_a_note(
    typeform: Typeform, tmp_path: Path, status: int
) -> None:
    add_partial(typeform, "p1")
    typeform.fail("/responses", refusal("FORBIDDEN", status), skip=2)
    told: list[str] = []
    source = source_of(typeform)
    found, _ = pull_all(source, tmp_path, progress=lambda text, rows: told.append(text))
    assert ids(found, "responses") == {"Fm1/t1", "Fm1/t2", "Fm1/t3"}
    assert ids(found, "partial_responses") == set()
    assert told == ["desk: no partial responses of Fm1 in this plan"]


def test_start_bounds_the_first_load(typeform: Typeform, tmp_path: Path) -> None:
    source = make_source("typeform", typeform.url, start="2026-10-02")
    found, _ = pull_all(source, tmp_path)
    assert ids(found, "responses") == {"Fm1/t2", "Fm1/t3"}


def test_the_limit_is_obeyed(typeform: Typeform, tmp_path: Path) -> None:
    answer = refusal("TOO_MANY_REQUESTS", 429)
    answer.headers["Retry-After"] = "1"
    typeform.limit("/responses", answer, seconds=0.95)
    found, _ = pull_all(source_of(typeform), tmp_path)
    assert len(ids(found, "responses")) == 3
    assert typeform.violations == []


def test_requests_are_spread(typeform: Typeform, tmp_path: Path) -> None:
    pull_all(source_of(typeform, requests_per_second=10), tmp_path)
    times = [request.at for request in typeform.requests]
    assert len(times) > 3
    assert times[-1] - times[0] > 0.08 * (len(times) - 1)


@pytest.mark.parametrize("fault", [{"answer": refusal("OOPS", 502)}, {"cut": 40}])
def test_faults_are_survived(typeform: Typeform, tmp_path: Path, fault: dict[str, Any]) -> None:
    typeform.fail("/responses", **fault)
    found, _ = pull_all(source_of(typeform), tmp_path)
    assert len(ids(found, "responses")) == 3


def test_a_form_that_is_not_there_is_named(typeform: Typeform, tmp_path: Path) -> None:
    with pytest.raises(HearbackError, match="form 'Fm9' is not there"):
        pull_all(source_of(typeform, forms=["Fm9"]), tmp_path)


def test_check_counts_forms(typeform: Typeform, tmp_path: Path) -> None:
    kind = find_kind("typeform")
    assert kind.check
    assert kind.check(source_of(typeform), make_context(tmp_path)) == "1 forms"


# mapping ------------------------------------------------------------------------------------------

Staged = dict[str, list[dict[str, Any]]]
LI = hashlib.md5(b"li@example.org").hexdigest()
MEI = hashlib.md5(b"mei@example.org").hexdigest()


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    with pytest.MonkeyPatch.context() as patch, Typeform() as server:
        assert isinstance(server, Typeform)
        add_partial(server, "p1")
        patch.setenv("AIRFLOW_CONN_DESK", json.dumps({"conn_type": "http", "password": TOKEN}))
        folder = tmp_path_factory.mktemp("typeform")
        source = source_of(server, case_hidden="ticket", case_source="help")
        rows = stage(folder, source)
        assert quarantined(folder, source) == []
        yield rows


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("survey_id", "Fm1"),
        ("kind", "csat"),
        ("score", 2.0),
        ("scale_min", 1.0),
        ("scale_max", 5.0),
        ("higher_is_better", True),
        ("comment", "等了三天没人回。"),
        ("source_customer_id", LI),
        ("source_case_id", "4711"),
        ("case_source", "help"),
        ("offered_at", datetime(2026, 10, 1, 8, tzinfo=UTC)),
        ("answered_at", datetime(2026, 10, 1, 8, 3, 10, tzinfo=UTC)),
        ("is_partial", False),
    ],
)
def test_a_satisfaction_score(staged: Staged, column: str, expected: object) -> None:
    row = one(staged["survey_responses"], source_response_id="t1", question_id="f_csat")
    assert row[column] == expected


@pytest.mark.parametrize(
    ("question", "kind", "score", "low", "high"),
    [
        ("f_nps", "nps", 0.0, 0.0, 10.0),
        ("f_ease", "ces", 1.0, 1.0, 3.0),
        ("f_done", "other", 0.0, 0.0, 1.0),
    ],
)
def test_other_scores(
    staged: Staged, question: str, kind: str, score: float, low: float, high: float
) -> None:
    row = one(staged["survey_responses"], source_response_id="t1", question_id=question)
    found = (row["kind"], row["score"], row["scale_min"], row["scale_max"])
    assert found == (kind, score, low, high)


def test_only_scored_questions_give_responses(staged: Staged) -> None:
    assert len(staged["survey_responses"]) == 6


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("source_record_id", "t1:f_why"),
        ("channel", "survey"),
        ("body", "等了三天没人回。"),
        ("rating", 2.0),
        ("rating_min", 1.0),
        ("rating_max", 5.0),
        ("source_customer_id", LI),
        ("source_case_id", "4711"),
        ("created_at", datetime(2026, 10, 1, 8, 3, 10, tzinfo=UTC)),
    ],
)
def test_an_open_answer_is_feedback(staged: Staged, column: str, expected: object) -> None:
    (row,) = staged["feedback"]
    assert row[column] == expected


def test_a_partial_answer_is_marked(staged: Staged) -> None:
    row = one(staged["survey_responses"], source_response_id="p1")
    assert (row["is_partial"], row["score"]) == (True, 3.0)
    assert row["answered_at"] == datetime(2026, 10, 3, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("customer", "column", "expected"),
    [(LI, "email", "Li@example.org"), (LI, "name", "李雷"), (MEI, "email", "mei@example.org")],
)
def test_respondents_are_customers(
    staged: Staged, customer: str, column: str, expected: object
) -> None:
    assert one(staged["customers"], source_customer_id=customer)[column] == expected


def test_a_hidden_field_may_hold_the_id_of_a_customer(typeform: Typeform, tmp_path: Path) -> None:
    source = source_of(typeform, customer_hidden="customer", customer_source="crm")
    rows = stage(tmp_path, source)
    row = one(rows["survey_responses"], source_response_id="t1", question_id="f_csat")
    assert (row["source_customer_id"], row["customer_source"]) == ("C-9", "crm")
    assert "customers" not in rows

"""Google Forms: every answer once at its latest version, its questions understood."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pipelines.errors import HearbackError
from pipelines.settings import Source
from pipelines.sources import find_kind
from tests.pipelines.sources.google_forms.server import TOKEN, GoogleForms, error
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
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleForms]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"conn_type": "http", "password": TOKEN}))
    with GoogleForms() as server:
        assert isinstance(server, GoogleForms)
        yield server


def source_of(google: GoogleForms, **options: Any) -> Source:
    return make_source("google_forms", google.url, options={"forms": ["form-en"], **options})


def add(google: GoogleForms, name: str, at: str) -> None:
    row = {"responseId": name, "createTime": at, "lastSubmittedTime": at, "answers": {}}
    google.responses["form-en"].append(row)


def test_the_first_load_is_complete(google: GoogleForms, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(google), tmp_path)
    assert ids(found, "responses") == {"form-en/R1", "form-en/R2", "form-en/R3"}
    assert latest(found, "responses")["form-en/R1"] == google.responses["form-en"][0]
    assert latest(found, "forms") == {"form-en": google.forms["form-en"]}


def test_a_second_pull_asks_only_for_what_is_new(google: GoogleForms, tmp_path: Path) -> None:
    _, position = pull_all(source_of(google), tmp_path)
    add(google, "R4", "2026-10-04T00:00:00Z")
    found, _ = pull_all(source_of(google), tmp_path, position)
    assert ids(found, "responses") == {"form-en/R3", "form-en/R4"}  # the last second again


def test_an_edited_answer_comes_again(google: GoogleForms, tmp_path: Path) -> None:
    _, position = pull_all(source_of(google), tmp_path)
    google.responses["form-en"][0]["lastSubmittedTime"] = "2026-10-05T00:00:00Z"
    found, _ = pull_all(source_of(google), tmp_path, position)
    assert "form-en/R1" in ids(found, "responses")


def test_an_answer_edited_while_pages_are_read_is_not_lost(
    google: GoogleForms, tmp_path: Path
) -> None:
    """It was read, is edited, and an answer newer than the edit is read after it."""

    def edit(place: int) -> None:
        if place == 2:
            google.responses["form-en"][0]["lastSubmittedTime"] = "2026-11-20T12:00:05Z"
            if len(google.responses["form-en"]) == 3:
                add(google, "R4", "2026-11-20T12:00:09Z")

    google.before_page = edit
    _, position = pull_all(source_of(google), tmp_path)
    found, _ = pull_all(source_of(google), tmp_path, position)
    assert latest(found, "responses")["form-en/R1"]["lastSubmittedTime"] == "2026-11-20T12:00:05Z"


def test_stopped_after_every_batch_nothing_is_lost(google: GoogleForms, tmp_path: Path) -> None:
    for n in range(7):
        add(google, f"X{n}", f"2026-10-04T00:00:0{n}Z")
    found = pull_stopping(source_of(google), tmp_path)
    assert len(ids(found, "responses")) == 10


def test_an_expired_page_token_begins_the_sweep_anew(google: GoogleForms, tmp_path: Path) -> None:
    for n in range(5):
        add(google, f"X{n}", f"2026-10-04T00:00:0{n}Z")

    def expire(place: int) -> None:
        if place == 4 and google.generation == 0:
            google.generation = 1

    google.before_page = expire
    found, _ = pull_all(source_of(google), tmp_path)
    assert len(ids(found, "responses")) == 8


def test_a_form_without_responses_answers_an_empty_object(
    google: GoogleForms, tmp_path: Path
) -> None:
    google.responses["form-en"] = []
    found, position = pull_all(source_of(google), tmp_path)
    assert ids(found, "responses") == set()
    add(google, "R9", "2026-10-04T00:00:00Z")
    found, _ = pull_all(source_of(google), tmp_path, position)
    assert ids(found, "responses") == {"form-en/R9"}


def test_start_bounds_the_first_load(google: GoogleForms, tmp_path: Path) -> None:
    source = make_source(
        "google_forms", google.url, options={"forms": ["form-en"]}, start="2026-10-03"
    )
    found, _ = pull_all(source, tmp_path)
    assert ids(found, "responses") == {"form-en/R2", "form-en/R3"}


def test_a_base_url_with_the_api_path_is_taken_as_it_is(
    google: GoogleForms, tmp_path: Path
) -> None:
    source = make_source("google_forms", google.url + "/v1", options={"forms": ["form-en"]})
    found, _ = pull_all(source, tmp_path)
    assert len(ids(found, "responses")) == 3


def test_the_limit_is_obeyed(google: GoogleForms, tmp_path: Path) -> None:
    refusal = error(429, "RESOURCE_EXHAUSTED")
    refusal.headers["Retry-After"] = "1"
    google.limit("/responses", refusal, seconds=0.95)
    found, _ = pull_all(source_of(google), tmp_path)
    assert len(ids(found, "responses")) == 3
    assert google.violations == []


@pytest.mark.parametrize("fault", [{"answer": error(503, "UNAVAILABLE")}, {"cut": 40}])
def test_faults_are_survived(google: GoogleForms, tmp_path: Path, fault: dict[str, Any]) -> None:
    google.fail("/responses", **fault)
    found, _ = pull_all(source_of(google), tmp_path)
    assert len(ids(found, "responses")) == 3


def test_a_refresh_token_fetches_an_access_token(
    google: GoogleForms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = {"login": "app", "password": "hush", "extra": {"refresh_token": "1//r"}}
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"conn_type": "http", **grant}))
    found, _ = pull_all(source_of(google), tmp_path)
    assert len(ids(found, "responses")) == 3


@pytest.fixture(scope="module")
def account() -> tuple[dict[str, str], str]:
    """The key of a service account as Google gives it, and its public half."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key = {
        "type": "service_account",
        "private_key_id": "key-1",
        "private_key": pem.decode(),
        "client_email": "robot@acme.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    return key, public.decode()


@pytest.mark.parametrize("form", ["path", "text", "object"])
def test_a_service_account_signs_in_by_its_key(
    google: GoogleForms,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    account: tuple[dict[str, str], str],
    form: str,
) -> None:
    key, google.public_key = account
    (tmp_path / "key.json").write_text(json.dumps(key), "utf-8")
    given = {
        "path": {"key_path": "key.json"},
        "text": {"keyfile_dict": json.dumps(key)},
        "object": {"keyfile_dict": key},
    }[form]
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"extra": given}))
    found, _ = pull_all(source_of(google), tmp_path)
    assert len(ids(found, "responses")) == 3
    assert google.counts()["/token"] == 1


def test_a_grant_that_ended_is_made_anew(
    google: GoogleForms,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    account: tuple[dict[str, str], str],
) -> None:
    key, google.public_key = account
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"extra": {"keyfile_dict": key}}))
    google.fail("/responses", error(401, "UNAUTHENTICATED"))
    found, _ = pull_all(source_of(google), tmp_path)
    assert len(ids(found, "responses")) == 3
    grants = [str(request.body) for request in google.requests if request.path == "/token"]
    assert len(grants) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"client_email": "nobody@acme.iam.gserviceaccount.com"}, "400 from /token: no token for"),
        ({"private_key": "quiet"}, "is no such key; it is the JSON file"),
        ({"private_key": None}, "is no such key; it is the JSON file"),
    ],
)
def test_a_key_that_does_not_fit_is_one_line(
    google: GoogleForms,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    account: tuple[dict[str, str], str],
    change: dict[str, Any],
    told: str,
) -> None:
    key, google.public_key = account
    extra = {"keyfile_dict": key | change}
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"extra": extra}))
    with pytest.raises(HearbackError, match=f"^source 'desk': .*{told}") as caught:
        pull_all(source_of(google), tmp_path)
    assert "connection 'desk'" in caught.value.message
    assert "PRIVATE KEY" not in caught.value.message
    assert "quiet" not in caught.value.message


def test_a_key_file_that_is_not_there_is_named(
    google: GoogleForms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"extra": {"key_path": "gone.json"}}))
    with pytest.raises(HearbackError, match=r"No such file.*; mend extra\.key_path"):
        pull_all(source_of(google), tmp_path)


def test_a_form_that_is_not_shared_is_named(google: GoogleForms, tmp_path: Path) -> None:
    with pytest.raises(HearbackError, match="form 'nowhere' is not there"):
        pull_all(source_of(google, forms=["nowhere"]), tmp_path)


def test_check_names_a_form(google: GoogleForms, tmp_path: Path) -> None:
    kind = find_kind("google_forms")
    assert kind.check
    assert "After your purchase" in kind.check(source_of(google), make_context(tmp_path))


# mapping ------------------------------------------------------------------------------------------

Staged = dict[str, list[dict[str, Any]]]
ANN = hashlib.md5(b"ann@example.org").hexdigest()
BO = hashlib.md5(b"bo@example.org").hexdigest()


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    with pytest.MonkeyPatch.context() as patch, GoogleForms() as server:
        assert isinstance(server, GoogleForms)
        patch.setenv("AIRFLOW_CONN_DESK", json.dumps({"conn_type": "http", "password": TOKEN}))
        folder = tmp_path_factory.mktemp("google_forms")
        source = source_of(server, case_question="Order number", case_source="shop")
        rows = stage(folder, source)
        assert quarantined(folder, source) == []
        yield rows


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("survey_id", "form-en"),
        ("kind", "csat"),
        ("score", 2.0),
        ("scale_min", 1.0),
        ("scale_max", 5.0),
        ("higher_is_better", True),
        ("comment", "The parcel came a week late."),
        ("source_customer_id", ANN),
        ("source_case_id", "A-77"),
        ("case_source", "shop"),
        ("answered_at", datetime(2026, 10, 2, 9, 30, 0, 123456, UTC)),
        ("is_partial", False),
        ("record_id", "form-en/R1"),
    ],
)
def test_a_satisfaction_score(staged: Staged, column: str, expected: object) -> None:
    row = one(staged["survey_responses"], source_response_id="R1", question_id="q-csat")
    assert row[column] == expected


@pytest.mark.parametrize(
    ("response", "question", "kind", "score", "low", "high"),
    [
        ("R1", "q-nps", "nps", 0.0, 0.0, 10.0),
        ("R1", "q-find", "ces", 5.0, 1.0, 5.0),
        ("R2", "q-csat", "csat", 5.0, 1.0, 5.0),
    ],
)
def test_other_scores(
    staged: Staged, response: str, question: str, kind: str, score: float, low: float, high: float
) -> None:
    row = one(staged["survey_responses"], source_response_id=response, question_id=question)
    assert (row["kind"], row["score"], row["scale_min"], row["scale_max"]) == (
        kind,
        score,
        low,
        high,
    )


def test_only_scored_questions_give_responses(staged: Staged) -> None:
    assert len(staged["survey_responses"]) == 4


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("source_record_id", "R1:q-why"),
        ("channel", "survey"),
        ("body", "The parcel came a week late."),
        ("rating", 2.0),
        ("rating_min", 1.0),
        ("rating_max", 5.0),
        ("source_customer_id", ANN),
        ("created_at", datetime(2026, 10, 1, 8, tzinfo=UTC)),
        ("updated_at", datetime(2026, 10, 2, 9, 30, 0, 123456, UTC)),
    ],
)
def test_an_open_answer_is_feedback(staged: Staged, column: str, expected: object) -> None:
    (row,) = staged["feedback"]
    assert row[column] == expected


@pytest.mark.parametrize(
    ("customer", "column", "expected"),
    [
        (ANN, "email", "Ann@example.org"),
        (ANN, "name", "Ann Lee"),
        (BO, "email", "bo@example.org"),
        (BO, "name", "Bo"),
        (BO, "updated_at", datetime(2026, 10, 3, 8, tzinfo=UTC)),
    ],
)
def test_respondents_are_customers(
    staged: Staged, customer: str, column: str, expected: object
) -> None:
    assert one(staged["customers"], source_customer_id=customer)[column] == expected


def test_options_overrule_what_a_question_is(google: GoogleForms, tmp_path: Path) -> None:
    rule = {"kind": "csat", "scale": [0, 10], "higher_is_better": False}
    rows = stage(tmp_path, source_of(google, questions={"q-nps": rule, "Why?": {"kind": "ignore"}}))
    row = one(rows["survey_responses"], source_response_id="R1", question_id="q-nps")
    assert (row["kind"], row["higher_is_better"]) == ("csat", False)
    assert "feedback" not in rows

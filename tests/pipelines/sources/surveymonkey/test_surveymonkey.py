"""SurveyMonkey: every response within the day's requests; answers joined with their questions."""

from __future__ import annotations

import copy
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
from tests.pipelines.sources.surveymonkey.server import TOKEN, Request, SurveyMonkey, refusal


@pytest.fixture
def monkey(monkeypatch: pytest.MonkeyPatch) -> Iterator[SurveyMonkey]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"conn_type": "http", "password": TOKEN}))
    with SurveyMonkey() as server:
        assert isinstance(server, SurveyMonkey)
        yield server


def source_of(monkey: SurveyMonkey, **options: Any) -> Source:
    return make_source("surveymonkey", monkey.url, options=options)


def add(monkey: SurveyMonkey, name: str, at: str, survey: str = "900") -> None:
    row = copy.deepcopy(monkey.responses["900"][1])
    row |= {"id": name, "survey_id": survey, "date_modified": at}
    monkey.responses.setdefault(survey, []).append(row)


def bulk_requests(monkey: SurveyMonkey) -> list[Request]:
    return [request for request in monkey.requests if request.path.endswith("/bulk")]


def test_the_first_load_is_complete(monkey: SurveyMonkey, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(monkey), tmp_path)
    assert ids(found, "responses") == {"1", "2", "3"}
    assert latest(found, "responses")["1"] == monkey.responses["900"][0]
    assert latest(found, "surveys") == monkey.details


def test_a_second_pull_reads_what_changed(monkey: SurveyMonkey, tmp_path: Path) -> None:
    _, position = pull_all(source_of(monkey), tmp_path)
    add(monkey, "4", "2026-10-02T08:01:00+00:00")  # in the second of the last one
    monkey.responses["900"][0]["date_modified"] = "2026-10-05T00:00:00+00:00"
    found, _ = pull_all(source_of(monkey), tmp_path, position)
    assert ids(found, "responses") == {"1", "2", "3", "4"}
    assert ids(found, "surveys") == set()


def test_questions_are_read_again_when_the_survey_changed(
    monkey: SurveyMonkey, tmp_path: Path
) -> None:
    _, position = pull_all(source_of(monkey), tmp_path)
    monkey.details["900"]["date_modified"] = "2026-10-05T00:00:00"
    found, _ = pull_all(source_of(monkey), tmp_path, position)
    assert ids(found, "surveys") == {"900"}


def test_a_response_that_changes_while_pages_are_read_hides_none(
    monkey: SurveyMonkey, tmp_path: Path
) -> None:
    """It moves to the end, and the first row of the next page takes its place."""
    for n in range(6):
        add(monkey, f"x{n}", f"2026-10-03T00:00:0{n}+00:00")

    def change(request: Request) -> None:
        if len(bulk_requests(monkey)) == 2:
            monkey.responses["900"][0]["date_modified"] = "2026-10-09T00:00:00+00:00"

    monkey.before_page = change
    found, _ = pull_all(source_of(monkey), tmp_path)
    assert len(ids(found, "responses")) == 9
    assert latest(found, "responses")["1"]["date_modified"] == "2026-10-09T00:00:00+00:00"


def test_more_responses_in_one_second_than_a_page_holds(
    monkey: SurveyMonkey, tmp_path: Path
) -> None:
    for n in range(7):
        add(monkey, f"same{n}", "2026-10-03T00:00:00+00:00")
    found, _ = pull_all(source_of(monkey), tmp_path)
    assert len(ids(found, "responses")) == 10


def test_pages_that_are_not_sorted_are_read_to_the_end(
    monkey: SurveyMonkey, tmp_path: Path
) -> None:
    monkey.sorts = False
    add(monkey, "late", "2026-10-09T00:00:00+00:00")
    for n in range(6):
        add(monkey, f"x{n}", f"2026-10-03T00:00:0{n}+00:00")
    found = pull_stopping(source_of(monkey), tmp_path)
    assert len(ids(found, "responses")) == 10


def test_stopped_after_every_batch_nothing_is_lost(monkey: SurveyMonkey, tmp_path: Path) -> None:
    for n in range(7):
        add(monkey, f"x{n}", f"2026-10-04T00:00:0{n}+00:00")
    found = pull_stopping(source_of(monkey), tmp_path)
    assert len(ids(found, "responses")) == 10


def test_the_days_requests_are_not_exceeded_and_the_next_pull_goes_on(
    monkey: SurveyMonkey, tmp_path: Path
) -> None:
    for n in range(7):
        add(monkey, f"x{n}", f"2026-10-04T00:00:0{n}+00:00")
    monkey.day_left = 4
    told: list[str] = []
    first, position = pull_all(
        source_of(monkey), tmp_path, progress=lambda text, rows: told.append(text)
    )
    assert 0 < len(ids(first, "responses")) < 10
    assert monkey.violations == []
    monkey.day_left = 500
    second, _ = pull_all(source_of(monkey), tmp_path, position)
    assert len(ids(first, "responses") | ids(second, "responses")) == 10


def test_quiet_surveys_are_left_alone_when_requests_are_scarce(
    monkey: SurveyMonkey, tmp_path: Path
) -> None:
    monkey.details["901"] = {**monkey.details["900"], "id": "901"}
    _, position = pull_all(source_of(monkey), tmp_path)
    monkey.day_left = 40  # of 500, with half of the day to go
    add(monkey, "new", "2026-10-09T00:00:00+00:00", survey="901")
    monkey.requests.clear()
    found, _ = pull_all(source_of(monkey), tmp_path, position)
    assert ids(found, "responses") == {"new"}
    assert {request.path for request in bulk_requests(monkey)} == {"/v3/surveys/901/responses/bulk"}


def test_start_bounds_the_first_load(monkey: SurveyMonkey, tmp_path: Path) -> None:
    found, _ = pull_all(make_source("surveymonkey", monkey.url, start="2026-10-02"), tmp_path)
    assert ids(found, "responses") == {"2", "3"}


def test_the_limit_is_obeyed_in_seconds_left(monkey: SurveyMonkey, tmp_path: Path) -> None:
    answer = refusal(429, "1040", "Rate limit reached")
    answer.headers["X-Ratelimit-App-Global-Minute-Remaining"] = "0"
    answer.headers["X-Ratelimit-App-Global-Minute-Reset"] = "1"
    monkey.limit("/bulk", answer, seconds=0.95)
    found, _ = pull_all(source_of(monkey), tmp_path)
    assert len(ids(found, "responses")) == 3
    assert monkey.violations == []


@pytest.mark.parametrize("fault", [{"answer": refusal(503, "1050", "Down")}, {"cut": 40}])
def test_faults_are_survived(monkey: SurveyMonkey, tmp_path: Path, fault: dict[str, Any]) -> None:
    monkey.fail("/bulk", **fault)
    found, _ = pull_all(source_of(monkey), tmp_path)
    assert len(ids(found, "responses")) == 3


def test_a_missing_scope_is_named(monkey: SurveyMonkey, tmp_path: Path) -> None:
    monkey.fail("/bulk", refusal(403, "1014", "Permission Error"), times=9)
    with pytest.raises(HearbackError, match="lacks a scope, or the plan lacks this endpoint"):
        pull_all(source_of(monkey), tmp_path)


def test_check_counts_surveys(monkey: SurveyMonkey, tmp_path: Path) -> None:
    kind = find_kind("surveymonkey")
    assert kind.check
    assert kind.check(source_of(monkey), make_context(tmp_path)) == "1 surveys"


# mapping ------------------------------------------------------------------------------------------

Staged = dict[str, list[dict[str, Any]]]
ANN = hashlib.md5(b"ann@example.org").hexdigest()


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    with pytest.MonkeyPatch.context() as patch, SurveyMonkey() as server:
        assert isinstance(server, SurveyMonkey)
        patch.setenv("AIRFLOW_CONN_DESK", json.dumps({"conn_type": "http", "password": TOKEN}))
        folder = tmp_path_factory.mktemp("surveymonkey")
        source = source_of(server, case_variable="ticket", case_source="help")
        rows = stage(folder, source)
        assert quarantined(folder, source) == []
        yield rows


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("survey_id", "900"),
        ("kind", "csat"),
        ("score", 2.0),
        ("scale_min", 1.0),
        ("scale_max", 5.0),
        ("higher_is_better", True),
        ("comment", "Answer within a day, please."),
        ("source_customer_id", ANN),
        ("source_case_id", "4711"),
        ("case_source", "help"),
        ("offered_at", datetime(2026, 10, 1, 8, tzinfo=UTC)),
        ("answered_at", datetime(2026, 10, 1, 8, 5, tzinfo=UTC)),
        ("is_partial", False),
        ("url", "https://www.example/analyze/browse/1"),
    ],
)
def test_a_satisfaction_score(staged: Staged, column: str, expected: object) -> None:
    row = one(staged["survey_responses"], source_response_id="1", question_id="10")
    assert row[column] == expected


@pytest.mark.parametrize(
    ("question", "kind", "score", "low", "high"),
    [
        ("30", "nps", 0.0, 0.0, 10.0),
        ("40/401", "ces", 3.0, 1.0, 3.0),
        ("60", "csat", 7.0, 0.0, 10.0),
    ],
)
def test_other_scores(
    staged: Staged, question: str, kind: str, score: float, low: float, high: float
) -> None:
    row = one(staged["survey_responses"], source_response_id="1", question_id=question)
    found = (row["kind"], row["score"], row["scale_min"], row["scale_max"])
    assert found == (kind, score, low, high)


def test_neither_previews_nor_unscored_answers_give_rows(staged: Staged) -> None:
    assert len(staged["survey_responses"]) == 5
    assert {row["source_record_id"] for row in staged["feedback"]} == {"1:20", "1:109"}


def test_a_partial_response_is_marked(staged: Staged) -> None:
    row = one(staged["survey_responses"], source_response_id="2")
    assert (row["is_partial"], row["score"]) == (True, 5.0)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("channel", "survey"),
        ("body", "Answer within a day, please."),
        ("rating", 2.0),
        ("rating_min", 1.0),
        ("rating_max", 5.0),
        ("source_customer_id", ANN),
        ("source_case_id", "4711"),
        ("created_at", datetime(2026, 10, 1, 8, tzinfo=UTC)),
    ],
)
def test_an_open_answer_is_feedback(staged: Staged, column: str, expected: object) -> None:
    assert one(staged["feedback"], source_record_id="1:20")[column] == expected


def test_a_comment_box_is_feedback(staged: Staged) -> None:
    row = one(staged["feedback"], source_record_id="1:109")
    assert (row["body"], row["rating"]) == ("Two answers contradicted each other.", 2.0)


def test_a_respondent_is_a_customer(staged: Staged) -> None:
    (row,) = staged["customers"]
    assert (row["source_customer_id"], row["email"]) == (ANN, "Ann@example.org")

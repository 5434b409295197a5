"""Discourse: pages of posts by id, topics that move, and every column of what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError
from pipelines.settings import Source
from pipelines.sources import discourse
from tests.pipelines.sources.discourse.server import KEY, USER, Discourse
from tests.pipelines.sources.pulling import (
    ids,
    latest,
    make_context,
    make_source,
    one,
    pull_all,
    pull_stopping,
    stage,
)
from tests.pipelines.sources.vendor_server import Answer, Request

PAYLOADS = Path(__file__).parent / "payloads"
Rows = dict[str, list[dict[str, Any]]]
ALL = {"2", "101", "102", "103", "104", "230"}


SECRETS = json.dumps({"login": USER, "password": KEY})


def make_forum() -> Discourse:
    return Discourse(
        {path.stem: json.loads(path.read_text("utf-8")) for path in PAYLOADS.glob("*.json")}
    )


@pytest.fixture
def forum(monkeypatch: pytest.MonkeyPatch) -> Iterator[Discourse]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", SECRETS)
    server = make_forum()
    yield server
    server.close()


def stage_with(folder: Path, **options: Any) -> Rows:
    server = make_forum()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_DESK", SECRETS)
        rows = stage(folder, source_of(server, options=options))
    server.close()
    return rows


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return stage_with(tmp_path_factory.mktemp("posts"))


@pytest.fixture(scope="module")
def case_rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return stage_with(tmp_path_factory.mktemp("cases"), cases=True)


def source_of(forum: Discourse, **more: Any) -> Source:
    return make_source("discourse", forum.url, **more)


def edit(forum: Discourse, post_id: int, **more: Any) -> None:
    one(forum.data["posts"], id=post_id).update(more)


def add_post(forum: Discourse, post_id: int) -> None:
    forum.data["posts"].append(
        one(forum.data["posts"], id=230) | {"id": post_id, "created_at": "2026-11-20T09:00:00.000Z"}
    )


def test_the_first_load_has_every_post(forum: Discourse, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(forum), tmp_path)
    assert ids(found, "posts") == ALL


def test_a_window_of_ids_without_posts_is_not_the_end(forum: Discourse, tmp_path: Path) -> None:
    forum.is_windowed = True
    found, _ = pull_all(source_of(forum), tmp_path)
    assert ids(found, "posts") == ALL


def test_a_post_is_kept_as_it_was_sent(forum: Discourse, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(forum), tmp_path)
    assert latest(found, "posts")["101"] == one(forum.data["posts"], id=101)


def test_subcategories_are_read(forum: Discourse, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(forum), tmp_path)
    assert ids(found, "categories") == {"4", "5", "9"}


def test_start_bounds_the_first_load(forum: Discourse, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(forum, start=date(2026, 11, 10)), tmp_path)
    assert ids(found, "topics") == {"32"}


def test_a_second_pull_reads_no_older_page(forum: Discourse, tmp_path: Path) -> None:
    source = source_of(forum)
    _, position = pull_all(source, tmp_path)
    add_post(forum, 231)
    found, _ = pull_all(source, tmp_path, position)
    assert {"231", "230"} <= ids(found, "posts") < ALL | {"231"}


def test_posts_of_the_last_days_are_read_again(forum: Discourse, tmp_path: Path) -> None:
    source = source_of(forum)
    _, position = pull_all(source, tmp_path)
    for number in range(231, 240):
        add_post(forum, number)
    pull_all(source, tmp_path, position)
    edit(forum, 230, raw="晚上非常吵。")
    found, _ = pull_all(source, tmp_path, position)
    assert latest(found, "posts")["230"]["raw"] == "晚上非常吵。"


def test_an_old_post_that_is_edited_comes_with_its_topic(forum: Discourse, tmp_path: Path) -> None:
    source = source_of(forum)
    _, position = pull_all(source, tmp_path)
    edit(forum, 104, raw="Closed today.")
    one(forum.data["topics"], id=31)["bumped_at"] = "2026-11-20T08:00:00.000Z"
    found, _ = pull_all(source, tmp_path, position)
    assert latest(found, "posts")["104"] == one(forum.data["posts"], id=104)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_topic_removed_while_topics_are_read_is_passed_over_with_a_note(
    forum: Discourse, tmp_path: Path, status: int
) -> None:
    source = source_of(forum)
    _, position = pull_all(source, tmp_path)
    for topic in forum.data["topics"]:
        topic["bumped_at"] = "2026-11-20T08:00:00.000Z"
    forum.fail("/t/31.json", Answer({"errors": ["not there"]}, status), times=9)
    told: list[str] = []
    found, _ = pull_all(source, tmp_path, position, progress=lambda text, rows: told.append(text))
    assert told == ["desk: topic 31 may not be read any more"]
    assert ids(found, "topics") == {str(topic["id"]) for topic in forum.data["topics"]}


def test_a_pull_stopped_after_any_batch_loses_nothing(
    forum: Discourse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discourse, "BATCH_ROWS", 2)
    assert ids(pull_stopping(source_of(forum), tmp_path), "posts") == ALL


def test_posts_written_during_a_stopped_sweep_come_next(
    forum: Discourse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discourse, "BATCH_ROWS", 2)
    pull = discourse.pull(source_of(forum), make_context(tmp_path))
    next(pull)
    position = next(pull).position
    for number in range(231, 240):
        add_post(forum, number)
    found, _ = pull_all(source_of(forum), tmp_path, position)
    assert {str(number) for number in range(231, 240)} | {"101", "2"} <= ids(found, "posts")


def test_topics_that_move_between_pages_are_not_lost(forum: Discourse, tmp_path: Path) -> None:
    base = one(forum.data["topics"], id=32)
    for number in range(40, 50):
        moment = f"2026-11-10T00:00:{number}.000Z"
        forum.data["topics"].append(base | {"id": number, "bumped_at": moment})

    def move(request: Request) -> None:
        if request.query["page"] == "1":
            one(forum.data["topics"], id=40)["bumped_at"] = "2026-11-20T00:00:00.000Z"

    forum.on_topics = move
    source = source_of(forum)
    found, position = pull_all(source, tmp_path)
    again, _ = pull_all(source, tmp_path, position)
    assert ids(found, "topics") | ids(again, "topics") >= {str(n) for n in range(40, 50)}


@pytest.mark.parametrize("where", ["header", "body"])
def test_haste_is_forgiven_after_the_wait(forum: Discourse, tmp_path: Path, where: str) -> None:
    body = {"errors": ["slow down"], "extras": {"wait_seconds": 1}} if where == "body" else {}
    headers = {"Retry-After": "1"} if where == "header" else {}
    forum.limit("/posts.json", Answer(body, 429, headers), 1.0)
    found, _ = pull_all(source_of(forum), tmp_path)
    assert (ids(found, "posts"), forum.violations) == (ALL, [])


def test_faults_of_the_server_are_survived(forum: Discourse, tmp_path: Path) -> None:
    forum.fail("/posts.json", Answer({}, 502))
    forum.fail("/latest.json", cut=40)
    found, _ = pull_all(source_of(forum), tmp_path)
    assert ids(found, "posts") == ALL


def test_wrong_credentials_name_the_connection(
    forum: Discourse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"login": "robot", "password": "wrong-key"}')
    with pytest.raises(HearbackError, match=r"403 .*connection 'desk'") as caught:
        pull_all(source_of(forum), tmp_path)
    assert "wrong-key" not in caught.value.message


def test_a_key_that_is_missing_is_named(
    forum: Discourse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"login": "robot"}')
    with pytest.raises(HearbackError, match=r"connection 'desk': password is missing"):
        pull_all(source_of(forum), tmp_path)


def test_check_tells_what_answered(forum: Discourse, tmp_path: Path) -> None:
    assert discourse.check(source_of(forum), make_context(tmp_path)) == "2 categories"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("channel", "forum"),
        ("source_customer_id", "52"),
        ("author", "lena"),
        ("product", "Steel kettles"),
        ("title", "Lid does not close"),
        ("body", "The lid **does not** close."),
        ("tags", ["lid", "warranty"]),
        ("created_at", datetime(2026, 11, 2, 9, tzinfo=UTC)),
        ("updated_at", datetime(2026, 11, 2, 9, 5, tzinfo=UTC)),
    ],
)
def test_a_post_as_feedback(rows: Rows, column: str, value: Any) -> None:
    assert one(rows["feedback"], source_record_id="101")[column] == value


def test_a_post_leads_to_its_page(rows: Rows) -> None:
    url = one(rows["feedback"], source_record_id="103")["url"]
    assert url.endswith("/t/lid-does-not-close/31/3")


def test_tags_that_are_objects(rows: Rows) -> None:
    assert one(rows["feedback"], source_record_id="230")["tags"] == ["静音"]


def test_an_answer_does_not_repeat_the_title(rows: Rows) -> None:
    assert one(rows["feedback"], source_record_id="103")["title"] is None


def test_posts_of_staff_and_bots_are_no_feedback(rows: Rows) -> None:
    assert {row["source_record_id"] for row in rows["feedback"]} == {"101", "103", "230"}


def test_who_writes_for_whom(rows: Rows) -> None:
    customers = {row["source_customer_id"]: row["name"] for row in rows["customers"]}
    assert customers == {"52": "Lena Holm", "53": "林晓", "54": "tom"}


def test_agents_and_bots(rows: Rows) -> None:
    agents = {row["source_agent_id"]: row["role"] for row in rows["agents"]}
    assert agents == {"7": "agent", "-1": "bot"}


def test_an_agent_without_a_badge_is_named_by_option(tmp_path: Path) -> None:
    rows = stage_with(tmp_path, agents=["tom"])
    assert {row["source_agent_id"] for row in rows["agents"]} == {"7", "-1", "54"}


@pytest.mark.parametrize(("case", "status"), [("1", "closed"), ("31", "solved"), ("32", "open")])
def test_the_status_of_a_topic(case_rows: Rows, case: str, status: str) -> None:
    assert one(case_rows["cases"], source_case_id=case)["status"] == status


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("subject", "Lid does not close"),
        ("source_customer_id", "52"),
        ("product", "Steel kettles"),
        ("opened_at", datetime(2026, 11, 2, 9, tzinfo=UTC)),
        ("updated_at", datetime(2026, 11, 3, 10, tzinfo=UTC)),
    ],
)
def test_a_topic_as_a_case(case_rows: Rows, column: str, value: Any) -> None:
    assert one(case_rows["cases"], source_case_id="31")[column] == value


@pytest.mark.parametrize(("post", "role"), [("101", "customer"), ("102", "agent"), ("104", "bot")])
def test_who_wrote_a_message(case_rows: Rows, post: str, role: str) -> None:
    assert one(case_rows["messages"], source_record_id=post)["author_role"] == role


def test_posts_of_cases_are_not_feedback_too(case_rows: Rows) -> None:
    assert case_rows.get("feedback", []) == []


@pytest.mark.parametrize("entity", ["feedback", "messages"])
def test_a_deleted_post_is_told_and_keeps_its_text(
    forum: Discourse, tmp_path: Path, entity: str
) -> None:
    by_author = {"user_deleted": True, "raw": "(post deleted by author)"}
    edit(forum, 103, **by_author)
    edit(forum, 230, deleted_at="2026-11-20T10:00:00.000Z")
    rows = stage(tmp_path, source_of(forum, options={"cases": entity == "messages"}))
    told = {row["source_record_id"]: row["deleted_at"] for row in rows["deletions"]}
    assert set(told) == {"103", "230"}
    assert told["230"] == datetime(2026, 11, 20, 10, tzinfo=UTC)
    assert not {"103", "230"} & {row["source_record_id"] for row in rows[entity]}

"""Redis streams, from a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines import extract
from pipelines.errors import HearbackError, UsageError, may_heal
from pipelines.settings import Source
from pipelines.sources import redis_streams
from tests.pipelines.sources.pulling import (
    latest,
    make_context,
    make_run,
    make_source,
    pull_all,
    pull_stopping,
    quarantined,
    stage,
)
from tests.pipelines.sources.redis_streams.server import connect, start_redis

COLUMNS = {
    "source_record_id": "_id",
    "body": "text",
    "created_at": "_time",
    "source_customer_id": "customer",
    "rating": "stars",
}


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, Any]]:
    with start_redis() as connection:
        yield connection


@pytest.fixture
def client(server: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(server))
    monkeypatch.setattr(redis_streams, "BATCH_ENTRIES", 4)
    with connect(server) as client:
        client.flushall()
        yield client


def voices(**options: Any) -> Source:
    constants = {"channel": "chat", "rating_min": 1, "rating_max": 5}
    given = {"streams": ["voices"], "columns": COLUMNS, "constants": constants}
    return make_source("redis", options={**given, **options})


def add(client: Any, *numbers: int, stream: str = "voices", **options: Any) -> None:
    for number in numbers:
        fields = {"text": f"好 {number}", "customer": f"c{number}", "stars": 4}
        client.xadd(stream, fields, id=f"17942688{number:05}-{number % 3}", **options)


def ids(found: Any) -> set[str]:
    return set(found.get("feedback", {}))


def names(*numbers: int, stream: str = "voices") -> set[str]:
    return {f"{stream}:17942688{number:05}-{number % 3}" for number in numbers}


def test_every_column_arrives_in_staging(tmp_path: Path, client: Any) -> None:
    add(client, 7)
    (row,) = stage(tmp_path, voices())["feedback"]
    assert row["record_id"] == "voices:1794268800007-1"
    assert row["source_record_id"] == "1794268800007-1"
    assert row["channel"] == "chat"
    assert row["body"] == "好 7"
    assert row["source_customer_id"] == "c7"
    assert (row["rating"], row["rating_min"], row["rating_max"]) == (4.0, 1.0, 5.0)
    assert row["created_at"] == datetime(2026, 11, 10, 0, 0, 0, 7000, UTC)


def test_every_field_is_kept(tmp_path: Path, client: Any) -> None:
    client.xadd("voices", {"a": b"\xff\x41", "b": "", "数": "1"}, id="1-1")
    found, _ = pull_all(voices(), tmp_path)
    assert latest(found, "feedback")["voices:1-1"] == {
        "a": "\\xffA", "b": "", "数": "1", "_stream": "voices", "_id": "1-1",
        "_time": "1970-01-01T00:00:00.001+00:00",
    }  # fmt: skip


def test_json_of_a_field_is_the_record(tmp_path: Path, client: Any) -> None:
    client.xadd("voices", {"j": '{"body": {"text": "hello"}}', "v": "2"}, id="1794268800000-0")
    client.xadd("voices", {"j": "{broken"}, id="1794268800001-0")
    client.xadd("voices", {"other": "x"}, id="1794268800002-0")
    source = voices(json_field="j", columns={"body": "body.text", "created_at": "_time"})
    (row,) = stage(tmp_path, source)["feedback"]
    assert row["body"] == "hello"
    broken = quarantined(tmp_path, source)
    assert [row["record_id"] for row in broken] == [
        "voices:1794268800001-0",
        "voices:1794268800002-0",
    ]
    assert all("broken_json" in str(row) for row in broken)


def test_only_new_entries_are_read(tmp_path: Path, client: Any) -> None:
    add(client, *range(1, 10))
    found, position = pull_all(voices(), tmp_path)
    assert ids(found) == names(*range(1, 10))
    found, position = pull_all(voices(), tmp_path, position)
    assert ids(found) == set()
    add(client, 10, 11)
    found, _ = pull_all(voices(), tmp_path, position)
    assert ids(found) == names(10, 11)


def test_a_pull_stopped_after_every_batch_has_every_entry_once(tmp_path: Path, client: Any) -> None:
    add(client, *range(1, 30))
    add(client, *range(1, 10), stream="voices:zh")
    found = pull_stopping(voices(streams=["voices", "voices:*"]), tmp_path)
    assert ids(found) == names(*range(1, 30)) | names(*range(1, 10), stream="voices:zh")
    assert all(len(payloads) == 1 for payloads in found["feedback"].values())


def test_entries_added_while_others_are_read_come_with_the_next_pull(
    tmp_path: Path, client: Any
) -> None:
    add(client, *range(1, 10))
    pull = redis_streams.pull(voices(), make_context(tmp_path))
    next(pull)
    add(client, 10)
    batches = list(pull)
    position = batches[-1].position
    found, _ = pull_all(voices(), tmp_path, position)
    assert ids(found) == names(10)


def test_trimmed_entries_are_reported_once(tmp_path: Path, client: Any) -> None:
    add(client, *range(1, 6))
    run = make_run(tmp_path, voices())
    extract.run(run, "desk")
    add(client, *range(6, 20))
    client.xtrim("voices", maxlen=4, approximate=False)
    with pytest.raises(HearbackError, match="before they were read: 10 of voices; keep") as caught:
        extract.run(make_run(tmp_path, voices()), "desk")
    assert not may_heal(caught.value)
    add(client, 20)
    (count,) = extract.run(make_run(tmp_path, voices()), "desk")
    assert count.count_out == 1
    entries = run.lake.raw_manifest("desk")["files"]
    rows = [row["record_id"] for e in entries for row in run.lake.read_table(e).to_pylist()]
    assert sorted(rows) == sorted(names(*range(1, 6), *range(16, 21)))


def test_entries_trimmed_after_they_were_read_are_no_loss(tmp_path: Path, client: Any) -> None:
    add(client, *range(1, 20))
    position: dict[str, Any] = {}
    pull = redis_streams.pull(voices(), make_context(tmp_path))
    for _ in range(2):
        position = next(pull).position or position
    pull.close()  # type: ignore[attr-defined]
    _, position = pull_all(voices(), tmp_path, position)
    client.xtrim("voices", maxlen=0)
    add(client, 20)
    found, _ = pull_all(voices(), tmp_path, position)
    assert ids(found) == names(20)


def test_a_loss_across_a_stopped_pull_is_counted(tmp_path: Path, client: Any) -> None:
    add(client, 1)
    _, position = pull_all(voices(), tmp_path)
    add(client, *range(2, 20))
    pull = redis_streams.pull(voices(), make_context(tmp_path, position))
    stopped = next(pull).position
    pull.close()  # type: ignore[attr-defined]
    client.xtrim("voices", maxlen=5, approximate=False)
    with pytest.raises(HearbackError, match="9 of voices"):
        pull_all(voices(), tmp_path, stopped)


def test_a_stream_that_was_made_anew_is_read_from_its_beginning(
    tmp_path: Path, client: Any
) -> None:
    add(client, 50, 51)
    _, position = pull_all(voices(), tmp_path)
    client.delete("voices")
    found, position = pull_all(voices(), tmp_path, position)
    assert ids(found) == set()
    add(client, 1, 2)
    found, _ = pull_all(voices(), tmp_path, position)
    assert ids(found) == names(1, 2)


def test_the_next_id() -> None:
    assert redis_streams.follow("5-7") == "5-8"
    assert redis_streams.follow(f"5-{2**64 - 1}") == "6-0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"streams": ["vioces"]}, "there is no stream 'vioces', did you mean 'voices'"),
        ({"streams": ["plain"]}, "'plain' is a string, not a stream"),
        ({"streams": []}, "streams"),
        ({"columns": {"bdy": "text"}}, "feedback has no column 'bdy', did you mean 'body'"),
    ],
)
def test_a_wrong_setting_is_named(
    tmp_path: Path, client: Any, options: dict[str, Any], message: str
) -> None:
    add(client, 1)
    client.set("plain", "x")
    with pytest.raises(HearbackError, match=message) as caught:
        pull_all(voices(**options), tmp_path)
    assert "\n" not in caught.value.message
    assert not may_heal(caught.value)


@pytest.mark.parametrize(
    ("change", "message", "heals"),
    [
        ({"password": "wr0ng"}, "Redis refused login and password", False),
        ({"login": "nobody"}, "Redis refused login and password", False),
        ({"port": 1}, "no answer from Redis", True),
        ({"schema": "crm"}, "is the number of a Redis database, not 'crm'", False),
        ({"extra": {"url": "http://x"}}, "is no address", False),
    ],
)
def test_a_server_that_cannot_be_used(
    tmp_path: Path,
    server: dict[str, Any],
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    message: str,
    heals: bool,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({**server, **change}))
    with pytest.raises(HearbackError, match=message) as caught:
        pull_all(voices(), tmp_path)
    assert "connection 'desk'" in caught.value.message
    assert "wr0ng" not in caught.value.message
    assert may_heal(caught.value) is heals


def test_a_user_that_may_not_read_is_told_what_it_needs(
    tmp_path: Path, server: dict[str, Any], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(client, 1)
    client.acl_setuser("guest", enabled=True, passwords=["+x"], commands=["+exists", "+type"],
                       keys=["*"])  # fmt: skip
    guest = {**server, "login": "guest", "password": "x"}
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(guest))
    with pytest.raises(HearbackError, match=r"connection 'desk' needs \+xrange"):
        pull_all(voices(), tmp_path)


def test_an_address_instead_of_parts(
    tmp_path: Path, server: dict[str, Any], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(client, 1)
    url = f"redis://127.0.0.1:{server['port']}/3"
    both = {"password": server["password"], "extra": {"url": url}}
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(both))
    assert redis_streams.check(voices(), make_context(tmp_path)) == "1 stream with 1 entries"
    found, _ = pull_all(voices(), tmp_path)
    assert ids(found) == names(1)


def test_no_connection_is_a_usage_error(tmp_path: Path) -> None:
    source = voices().model_copy(update={"connection": None})
    with pytest.raises(UsageError, match="needs a connection"):
        pull_all(source, tmp_path)

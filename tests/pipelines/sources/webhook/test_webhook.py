"""Webhooks: who is let in, what is on disk afterwards, and what a pull makes of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines import intake
from pipelines.errors import HearbackError, UsageError
from pipelines.intake import Door, make_server, open_doors, write_delivery
from pipelines.settings import Settings, Source
from pipelines.signatures import SCHEMES, find_fault
from pipelines.sources import webhook
from tests.pipelines.sources.pulling import (
    ids,
    latest,
    make_context,
    make_source,
    one,
    pull_all,
    stage,
)
from tests.pipelines.sources.pulling import pull_stopping as pull_in_steps
from tests.pipelines.sources.webhook.server import SECRET, Intake, make_headers

BODY = b'{"id": "d-1", "text": "It leaks."}'
NOW = 1_795_000_000.0
DOOR = Door(Path(), SCHEMES["hearback"], SECRET, 300, 1000)
Rows = list[dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data/intake/desk"


@pytest.fixture
def door(folder: Path) -> Iterator[Intake]:
    server = Intake(folder)
    yield server
    server.close()


def source_of(**options: Any) -> Source:
    return make_source("webhook", options={"id": "id", **options})


def deliver(folder: Path, *bodies: bytes, at: float = NOW, kind: str = "application/json") -> None:
    for number, body in enumerate(bodies):
        write_delivery(Door(folder, DOOR.scheme, SECRET, 300, 1000), body, kind, at + number)


# Signatures ---------------------------------------------------------------------------------------


def fault_of(name: str, body: bytes, headers: dict[str, str], now: float = NOW) -> str | None:
    lower = {key.lower(): value for key, value in headers.items()}
    return find_fault(SCHEMES[name], SECRET, lower, body, now, tolerance=300)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_genuine_delivery_comes_in(name: str) -> None:
    assert fault_of(name, BODY, make_headers(name, BODY, str(int(NOW)))) is None


@pytest.mark.parametrize("name", SCHEMES)
def test_a_body_that_was_changed_does_not(name: str) -> None:
    headers = make_headers(name, BODY, str(int(NOW)))
    assert fault_of(name, BODY + b" ", headers) == "the signature does not fit the body"


@pytest.mark.parametrize("name", SCHEMES)
def test_a_delivery_without_a_signature_does_not(name: str) -> None:
    assert "holds no signature" in (fault_of(name, BODY, {}) or "")


@pytest.mark.parametrize("name", [name for name, scheme in SCHEMES.items() if scheme.time])
@pytest.mark.parametrize("age", [-301, 301])
def test_a_delivery_of_another_time_does_not(name: str, age: int) -> None:
    headers = make_headers(name, BODY, str(int(NOW)))
    assert "outside the tolerance" in (fault_of(name, BODY, headers, NOW + age) or "")


@pytest.mark.parametrize("name", [name for name, scheme in SCHEMES.items() if scheme.time])
def test_a_time_that_was_changed_does_not(name: str) -> None:
    old, new = str(int(NOW)), str(int(NOW) + 200)
    headers = {k: v.replace(old, new) for k, v in make_headers(name, BODY, old).items()}
    assert fault_of(name, BODY, headers) == "the signature does not fit the body"


def test_a_time_in_iso_form_is_read() -> None:
    at = datetime.fromtimestamp(NOW, UTC).isoformat().replace("+00:00", "Z")
    assert fault_of("zendesk", BODY, make_headers("zendesk", BODY, at)) is None


def test_the_signature_of_github_is_that_of_its_documentation() -> None:
    # the example of "Validating webhook deliveries"
    wanted = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"x-hub-signature-256": f"sha256={wanted}"}
    secret, body = "It's a Secret to Everybody", b"Hello, World!"
    assert find_fault(SCHEMES["github"], secret, headers, body, NOW, tolerance=1) is None


def test_a_secret_in_base64_is_decoded() -> None:
    signed = hmac.digest(b"quiet", b"msg_1.%d.{}" % NOW, hashlib.sha256)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(NOW)),
        "webhook-signature": "v1," + base64.b64encode(signed).decode(),
    }
    secret = "whsec_" + base64.b64encode(b"quiet").decode()
    assert find_fault(SCHEMES["standard"], secret, headers, b"{}", NOW, tolerance=1) is None


# The intake ---------------------------------------------------------------------------------------


def test_a_delivery_is_on_disk_before_it_is_answered(door: Intake, folder: Path) -> None:
    status = door.post(BODY)
    (path,) = folder.glob("*/*.json")
    assert (status, json.loads(path.read_text("utf-8"))["body"]) == (202, BODY.decode())


@pytest.mark.parametrize(
    ("status", "body", "headers", "path"),
    [
        (401, BODY, {}, "/desk"),
        (401, BODY, make_headers("hearback", BODY, "1700000000"), "/desk"),
        (404, BODY, None, "/shop"),
        (413, b"x" * 1001, None, "/desk"),
    ],
)
def test_what_is_refused_leaves_nothing(
    door: Intake,
    folder: Path,
    status: int,
    body: bytes,
    headers: dict[str, str] | None,
    path: str,
) -> None:
    assert (door.post(body, headers, path), list(folder.glob("*/*"))) == (status, [])


def test_a_full_disk_asks_the_sender_to_come_again(
    door: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(intake, "write_delivery", fail)
    assert (door.post(BODY), door.told[-1].endswith("free some space")) == (503, True)


def test_a_body_that_does_not_come_is_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "TIMEOUT_SECONDS", 0.2)
    server = Intake(folder)
    headers = {**server.headers(BODY), "Content-Length": "500"}
    assert server.post(BODY, headers) == 408
    server.close()


def test_nothing_of_a_delivery_is_printed(door: Intake) -> None:
    door.post(BODY)
    door.post(b"other", door.headers(BODY))
    assert not any(word in line for line in door.told for word in ("leaks", SECRET, "v1="))


def test_a_port_in_use_is_told(door: Intake) -> None:
    with pytest.raises(HearbackError, match="give another --port"):
        make_server({}, "127.0.0.1", door.server.server_port)


def settings_of(tmp_path: Path, *sources: Source) -> Settings:
    listed = [source.model_dump(exclude_defaults=True) for source in sources]
    return Settings.model_validate({"path": tmp_path / "hearback.toml", "sources": listed})


def test_doors_stand_where_the_pull_looks(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"password": SECRET}))
    settings = settings_of(tmp_path, source_of(signature="stripe", header="X-Own"))
    door = open_doors(settings)["desk"]
    assert (door.folder, door.scheme.signature, door.scheme.time) == (folder, "x-own", "x-own")


def test_a_configuration_without_webhooks_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='no source of kind "webhook"'):
        open_doors(settings_of(tmp_path))


def test_a_secret_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"login": "x"}')
    with pytest.raises(UsageError, match="'desk' needs a connection whose password"):
        open_doors(settings_of(tmp_path, source_of()))


def test_a_signature_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'strpe' is not known.*stripe"):
        pull_all(source_of(signature="strpe"), tmp_path)


# Pulling ------------------------------------------------------------------------------------------


def test_what_came_in_is_pulled(door: Intake, tmp_path: Path) -> None:
    door.post(BODY)
    found, _ = pull_all(source_of(), tmp_path)
    assert latest(found, "events") == {"d-1": json.loads(BODY)}


def test_a_delivery_that_was_sent_twice_is_one_record(tmp_path: Path, folder: Path) -> None:
    deliver(folder, b'{"text": "Once."}', b'{"text": "Once."}')
    rows = stage(tmp_path, source_of(id=None))["feedback"]
    assert [row["body"] for row in rows] == ["Once."]


def test_items_of_a_list_are_records(tmp_path: Path, folder: Path) -> None:
    deliver(folder, b'[{"id": "a"}, {"id": "b"}]')
    assert ids(pull_all(source_of(), tmp_path)[0], "events") == {"a", "b"}


def test_a_form_is_read(tmp_path: Path, folder: Path) -> None:
    deliver(folder, b"id=f1&text=It+leaks", kind="application/x-www-form-urlencoded")
    found, _ = pull_all(source_of(), tmp_path)
    assert latest(found, "events") == {"f1": {"id": "f1", "text": "It leaks"}}


def test_a_body_that_is_not_json_is_kept_with_its_text(tmp_path: Path, folder: Path) -> None:
    deliver(folder, b"<xml/>")
    (batch,) = webhook.pull(source_of(), make_context(tmp_path))
    assert [(record.payload, record.problem) for record in batch.records] == [
        ("<xml/>", "broken_json")
    ]


def test_a_second_pull_begins_a_minute_before_the_newest(tmp_path: Path, folder: Path) -> None:
    deliver(folder, b'{"id": "a"}')
    deliver(folder, b'{"id": "b"}', at=NOW + 3600)
    _, position = pull_all(source_of(), tmp_path)
    deliver(folder, b'{"id": "c"}', at=NOW + 3590)
    assert ids(pull_all(source_of(), tmp_path, position)[0], "events") == {"b", "c"}


def test_what_was_captured_is_removed_by_the_pull_after_it(tmp_path: Path, folder: Path) -> None:
    deliver(folder, b'{"id": "a"}')
    deliver(folder, b'{"id": "b"}', at=NOW + 3600)
    _, position = pull_all(source_of(), tmp_path)
    before = len(list(folder.glob("*/*.json")))
    pull_all(source_of(), tmp_path, position)
    assert (before, len(list(folder.glob("*/*.json")))) == (2, 1)


def test_a_file_that_is_half_written_is_not_read(tmp_path: Path, folder: Path) -> None:
    deliver(folder, b'{"id": "a"}')
    (next(folder.iterdir()) / f".{int(NOW * 1e9):019d}-{'0' * 16}.json.1.part").write_text("{")
    assert ids(pull_all(source_of(), tmp_path)[0], "events") == {"a"}


def test_a_pull_stopped_after_any_batch_loses_nothing(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "BATCH_ROWS", 2)
    for number in range(7):
        deliver(folder, b'{"id": "%d"}' % number, at=NOW + 100 * number)
    assert ids(pull_in_steps(source_of(), tmp_path), "events") == {str(n) for n in range(7)}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    folder = tmp_path_factory.mktemp("webhook")
    sent = (Path(__file__).parent / "payloads/reviews.json").read_bytes()
    deliver(folder / "data/intake/desk", sent, at=time.time())
    return stage(folder, source_of())["feedback"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("channel", "chat"),
        ("author", "Lena"),
        ("source_customer_id", "52"),
        ("product", "Kettle"),
        ("language", "en"),
        ("created_at", datetime(2026, 11, 19, 9, tzinfo=UTC)),
        ("body", "The kettle leaks."),
        ("rating", 2.0),
        ("rating_min", 1.0),
        ("rating_max", 5.0),
    ],
)
def test_a_body_as_feedback(rows: Rows, column: str, value: Any) -> None:
    assert one(rows, source_record_id="d-1")[column] == value


def test_a_channel_nobody_knows(rows: Rows) -> None:
    assert one(rows, source_record_id="d-2")["channel"] == "other"


def test_other_bodies_are_mapped_by_the_configuration(tmp_path: Path, folder: Path) -> None:
    ticket = {"no": 7, "state": "done", "at": "2026-11-19T09:00:00Z"}
    sent = json.dumps({"ticket": ticket, "type": "ticket"}).encode()
    deliver(folder, sent, b'{"type": "ping"}')
    target = {
        "entity": "cases",
        "columns": {
            "source_case_id": "ticket.no",
            "status": "ticket.state",
            "opened_at": "ticket.at",
        },
        "values": {"status": {"done": "solved"}},
        "when": [{"path": "type", "among": ["ticket"]}],
    }
    rows = stage(tmp_path, source_of(id=None, mappings=[target]))["cases"]
    assert [(row["source_case_id"], row["status"]) for row in rows] == [("7", "solved")]


def test_a_check_counts_what_waits(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(folder, BODY)
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"password": SECRET}))
    told = webhook.check(source_of(), make_context(tmp_path))
    assert told.startswith("1 deliveries wait in ")
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"login": "x"}')
    with pytest.raises(HearbackError, match="needs a password"):
        webhook.check(source_of(), make_context(tmp_path))

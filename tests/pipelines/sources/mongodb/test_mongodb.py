"""MongoDB, by the real driver, from a server on loopback that speaks its protocol."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import DBRef, Decimal128, Int64, ObjectId, Regex, Timestamp
from bson.binary import Binary

from pipelines import extract, validate
from pipelines.context import StepCount
from pipelines.errors import HearbackError, UsageError, may_heal
from pipelines.settings import Source
from pipelines.sources import mongodb
from tests.pipelines.sources.mongodb.server import Store, start_mongodb
from tests.pipelines.sources.pulling import (
    latest,
    make_context,
    make_run,
    make_source,
    pull_all,
    pull_stopping,
    read_batch,
    stage,
)

COLUMNS = {
    "source_customer_id": "_id",
    "name": "name.full",
    "region": "addresses.0.city",
    "lifetime_value": "spent",
    "signup_at": "since",
    "updated_at": "changed",
}
FIRST = datetime(2026, 11, 1, 8, tzinfo=UTC)


def person(number: int, changed: Any = FIRST, **more: Any) -> dict[str, Any]:
    given = {
        "_id": ObjectId(f"{number:024x}"), "name": {"full": f"王 {number}"},
        "addresses": [{"city": "上海"}], "spent": Decimal128("12.50"), "since": "2025-01-02",
        "changed": changed,
    }  # fmt: skip
    return {**given, **more}


def key(number: int) -> str:
    return f"{number:024x}"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A server whose database ``crm`` holds the collection ``people``."""
    store = Store({"people": [], "cases": []})
    monkeypatch.setattr(mongodb, "BATCH_DOCUMENTS", 3)
    monkeypatch.setattr(mongodb, "WAIT_SECONDS", 2)
    with start_mongodb(store) as port:
        connection = {"conn_type": "mongo", "host": "127.0.0.1", "port": port, "schema": "crm"}
        monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(connection))
        yield store


def change_connection(patch: pytest.MonkeyPatch, **change: Any) -> None:
    import os

    patch.setenv(
        "AIRFLOW_CONN_DESK", json.dumps({**json.loads(os.environ["AIRFLOW_CONN_DESK"]), **change})
    )


def people(**options: Any) -> Source:
    given = {"collection": "people", "entity": "customers", "columns": COLUMNS}
    return make_source("mongodb", options={**given, **options})


def capture(folder: Path, source: Source) -> StepCount:
    (count,) = extract.run(make_run(folder, source), source.name)
    return count


def ids(found: Any) -> set[str]:
    return set(found.get("customers", {}))


def test_every_column_arrives_in_staging(tmp_path: Path, store: Store) -> None:
    store.collections["people"] = [person(7)]
    (row,) = stage(tmp_path, people(cursor="changed"))["customers"]
    assert row["source_customer_id"] == row["record_id"] == key(7)
    assert row["name"] == "王 7"
    assert row["region"] == "上海"
    assert row["lifetime_value"] == 12.5
    assert row["signup_at"] == datetime(2025, 1, 2, tzinfo=UTC)
    assert row["updated_at"] == FIRST


def test_values_of_bson_have_a_form_in_json(tmp_path: Path, store: Store) -> None:
    number = uuid.UUID("12345678-1234-5678-1234-567812345678")
    store.collections["people"] = [
        {
            "_id": 1, "oid": ObjectId(key(2)), "at": FIRST + timedelta(milliseconds=5),
            "dec": Decimal128("1E+3"), "long": Int64(2**60), "bin": Binary(b"hi"),
            "uuid": Binary.from_uuid(number), "re": Regex("a.b", "i"), "nan": float("nan"),
            "ts": Timestamp(1_700_000_000, 1), "ref": DBRef("x", ObjectId(key(3))), "none": None,
            "list": [{"a": [float("inf"), True]}], "数": "好",
        }
    ]  # fmt: skip
    found, _ = pull_all(people(columns={"name": "oid"}), tmp_path)
    assert latest(found, "customers")["1"] == {
        "_id": 1, "oid": key(2), "at": "2026-11-01T08:00:00.005000+00:00", "dec": "1E+3",
        "long": 2**60, "bin": "aGk=", "uuid": str(number), "re": "a.b", "nan": "nan",
        "ts": "2023-11-14T22:13:20+00:00", "ref": {"$ref": "x", "$id": key(3)}, "none": None,
        "list": [{"a": ["inf", True]}], "数": "好",
    }  # fmt: skip


def test_ids_of_every_type_become_text(tmp_path: Path, store: Store) -> None:
    given = ['a"b', 5, ObjectId(key(9)), {"a": 1, "b": "x"}]
    store.collections["people"] = [{"_id": value, "n": 1} for value in given]
    found, _ = pull_all(people(columns={"name": "n"}), tmp_path)
    assert ids(found) == {'a"b', "5", key(9), '{"a":1,"b":"x"}'}


def test_only_the_fields_that_are_told_are_read(tmp_path: Path, store: Store) -> None:
    store.collections["people"] = [person(1, secret="x")]
    source = people(fields=["name.full"], columns={"name": "name.full"}, cursor="changed")
    found, _ = pull_all(source, tmp_path)
    assert set(latest(found, "customers")[key(1)]) == {"_id", "name", "changed"}


def test_a_filter_chooses_documents(tmp_path: Path, store: Store) -> None:
    store.collections["people"] = [person(n, kind="vip" if n % 2 else "x") for n in range(8)]
    for cursor in (None, "changed"):
        found, _ = pull_all(people(filter={"kind": "vip"}, cursor=cursor), tmp_path)
        assert ids(found) == {key(n) for n in (1, 3, 5, 7)}


@pytest.mark.parametrize("cursor", [None, "changed", "_id"])
def test_a_pull_stopped_after_every_batch_has_every_document(
    tmp_path: Path, store: Store, cursor: str | None
) -> None:
    times = [FIRST + timedelta(hours=n // 5) for n in range(30)]
    store.collections["people"] = [person(n, at) for n, at in enumerate(times)]
    store.collections["people"] += [person(30, None), person(31, "text"), person(32, 7)]
    found = pull_stopping(people(cursor=cursor), tmp_path)
    assert ids(found) == {key(n) for n in range(33)}


def test_ties_at_the_cursor_are_neither_lost_nor_doubled(tmp_path: Path, store: Store) -> None:
    store.collections["people"] = [person(n) for n in range(10, 17)]
    source = people(cursor="changed", overlap=0)
    assert capture(tmp_path, source).count_out == 7
    store.collections["people"].append(person(3))
    count = capture(tmp_path, source)
    assert (count.count_out, count.count_unchanged) == (1, 7)


def test_only_documents_from_the_cursor_on_are_read(tmp_path: Path, store: Store) -> None:
    held = store.collections["people"] = [person(n, FIRST + timedelta(days=n)) for n in range(15)]
    source = people(cursor="changed")
    _, position = pull_all(source, tmp_path)
    held[4] = person(4, FIRST + timedelta(days=15), name={"full": "new"})
    held.append(person(20, FIRST + timedelta(days=14, minutes=-4)))  # within the overlap
    held.append(person(21, FIRST + timedelta(days=14, minutes=-6)))
    found, _ = pull_all(source, tmp_path, position)
    assert ids(found) == {key(4), key(14), key(20)}
    assert latest(found, "customers")[key(4)]["name"] == {"full": "new"}


@pytest.mark.parametrize(
    "values",
    [
        [1, 2.5, Decimal128("3.5"), Int64(4), 5],
        ["2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z",
         "2026-11-04T00:00:00Z", "2026-11-05T00:00:00Z"],
        [ObjectId.from_datetime(FIRST + timedelta(days=n)) for n in range(5)],
    ],
    ids=["numbers", "texts", "ids"],
)  # fmt: skip
def test_cursors_of_other_types(tmp_path: Path, store: Store, values: list[Any]) -> None:
    held = store.collections["people"] = [person(n, value) for n, value in enumerate(values)]
    source = people(cursor="changed", overlap=1)
    found, position = pull_all(source, tmp_path)
    assert len(ids(found)) == 5
    found, _ = pull_all(source, tmp_path, position)
    within = {key(3), key(4)} if isinstance(values[0], int) else {key(4)}
    assert ids(found) == within
    held[0] = person(0, None)
    found, _ = pull_all(source, tmp_path, position)
    assert ids(found) == within | {key(0)}


def test_a_time_of_the_future_hides_no_document_of_today(tmp_path: Path, store: Store) -> None:
    store.collections["people"] = [person(1, datetime(2099, 1, 1, tzinfo=UTC))]
    source = people(cursor="changed")
    _, position = pull_all(source, tmp_path)
    store.collections["people"].append(person(2, datetime(2026, 11, 20, 11, 59, tzinfo=UTC)))
    found, _ = pull_all(source, tmp_path, position)
    assert ids(found) == {key(1), key(2)}


def test_the_first_day_is_obeyed(tmp_path: Path, store: Store) -> None:
    store.collections["people"] = [person(1, datetime(2025, 12, 31, tzinfo=UTC)), person(2)]
    source = people(cursor="changed").model_copy(update={"start": date(2026, 1, 1)})
    found, _ = pull_all(source, tmp_path)
    assert ids(found) == {key(2)}


def test_only_changed_documents_are_captured(tmp_path: Path, store: Store) -> None:
    store.collections["people"] = [person(n) for n in range(1, 10)]
    assert capture(tmp_path, people()).count_out == 9
    store.collections["people"][4]["spent"] = Decimal128("99")
    count = capture(tmp_path, people())
    assert (count.count_in, count.count_out, count.count_unchanged) == (9, 1, 8)


def test_documents_that_change_while_they_are_read_are_not_lost(
    tmp_path: Path, store: Store
) -> None:
    """One behind the cursor and one before it: each is captured as it is in the end."""
    store.collections["people"] = [person(n, FIRST + timedelta(hours=n)) for n in range(12)]
    source = people(cursor="changed")
    pull = mongodb.pull(source, make_context(tmp_path))
    batches = [next(pull)]
    for number in (0, 11):
        changed = FIRST + timedelta(days=1, seconds=number)
        store.collections["people"][number] |= {"changed": changed, "spent": Decimal128("99")}
    batches += pull
    position = [batch.position for batch in batches if batch.position][-1]
    found = {key: payload for batch in batches for key, payload in read_batch(batch)}
    second, _ = pull_all(source, tmp_path, position)
    found |= latest(second, "customers")
    assert set(found) == {key(n) for n in range(12)}
    assert {key(0), key(11)} == {name for name, sent in found.items() if sent["spent"] == "99"}


def test_documents_that_are_gone_are_found(tmp_path: Path, store: Store) -> None:
    store.collections["people"] = [person(n) for n in range(1, 10)]
    source = people(cursor="changed", deletions=True)
    capture(tmp_path, source)
    del store.collections["people"][1:3]
    run = make_run(tmp_path, source, now=datetime.now(UTC))
    (count,) = extract.run(run, "desk")
    validate.run(run)
    assert count.count_out == 2
    entries = run.lake.staging_manifest()["files"]["deletions"]
    rows = [row for entry in entries for row in run.lake.read_table(entry).to_pylist()]
    gone = {(row["deleted_entity"], row["source_record_id"]) for row in rows}
    assert gone == {("customers", key(2)), ("customers", key(3))}
    store.collections["people"].clear()
    with pytest.raises(HearbackError, match="no document is left"):
        capture(tmp_path, source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"collection": "peple"}, "crm has no collection 'peple', did you mean 'people'"),
        ({"columns": {"name": "nam.full"}}, "has the field 'nam.full'"),
        ({"columns": {"name": "name.ful"}}, r"has the field 'name\.ful'"),
        ({"cursor": "chanegd"}, "has the field 'chanegd', did you mean 'changed'"),
        ({"cursor": "addresses"}, "a list has no order"),
        ({"columns": {"nam": "name"}}, "customers has no column 'nam', did you mean 'name'"),
        ({"colection": "people"}, "unknown option 'colection', did you mean 'collection'"),
        ({"entity": "vendor_metrics", "deletions": True}, "deletions can be told of feedback,"),
        ({"filter": {"$where": "1"}}, "MongoDB refused: unknown top level operator"),
    ],
)
def test_a_wrong_setting_is_named_at_once(
    tmp_path: Path, store: Store, options: dict[str, Any], message: str
) -> None:
    store.collections["people"] = [person(1)]
    with pytest.raises(HearbackError, match=message) as caught:
        pull_all(people(**options), tmp_path)
    assert "\n" not in caught.value.message
    assert not may_heal(caught.value)


def test_a_field_may_be_missing_if_that_is_said(tmp_path: Path, store: Store) -> None:
    store.collections["people"] = [person(1)]
    source = people(columns={**COLUMNS, "phone": "phone"}, optional=["phone"])
    assert stage(tmp_path, source)["customers"][0]["phone"] is None


def test_a_server_that_is_not_there(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongodb, "WAIT_SECONDS", 0.2)
    change_connection(monkeypatch, port=1)
    with pytest.raises(HearbackError, match="no answer from MongoDB: 127") as caught:
        pull_all(people(), tmp_path)
    assert "Topology" not in caught.value.message
    assert may_heal(caught.value)


def test_login_and_password(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.users["ann"] = "s3cret"
    store.collections["people"] = [person(1)]
    plain = {"authMechanism": "PLAIN", "authSource": "$external"}
    change_connection(monkeypatch, login="ann", password="s3cret", extra=plain)
    found, _ = pull_all(people(), tmp_path)
    assert ids(found) == {key(1)}
    change_connection(monkeypatch, password="wr0ng")
    with pytest.raises(HearbackError, match="MongoDB refused login and password") as caught:
        pull_all(people(), tmp_path)
    assert "wr0ng" not in caught.value.message
    assert not may_heal(caught.value)


def test_a_user_that_may_not_read(tmp_path: Path, store: Store) -> None:
    store.hidden = True
    with pytest.raises(HearbackError, match="user of connection 'desk' may not read this"):
        pull_all(people(), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": None}, "say which database"),
        ({"extra": {"url": "http://x"}}, "is no MongoDB address"),
        ({"extra": {"tlss": "true"}}, "is no MongoDB address: Unknown option"),
    ],
)
def test_connections_that_name_no_database(
    tmp_path: Path,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    message: str,
) -> None:
    change_connection(monkeypatch, **change)
    with pytest.raises(UsageError, match=message):
        pull_all(people(), tmp_path)


def test_an_address_instead_of_parts(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    port = json.loads(os.environ["AIRFLOW_CONN_DESK"])["port"]
    url = {"url": f"mongodb://127.0.0.1:{port}/crm"}
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"extra": url}))
    store.collections["people"] = [person(1)]
    assert mongodb.check(people(), make_context(tmp_path)) == "1 documents"
    found, _ = pull_all(people(), tmp_path)
    assert ids(found) == {key(1)}


@pytest.mark.parametrize(
    ("fault", "message"),
    [("forget_after_pages", "dropped the cursor"), ("cut_after_pages", "no answer from MongoDB")],
)
def test_a_pull_that_is_cut_goes_on_where_it_was(
    tmp_path: Path, store: Store, fault: str, message: str
) -> None:
    store.collections["people"] = [person(n, FIRST + timedelta(hours=n)) for n in range(20)]
    source = people(cursor="changed")
    setattr(store, fault, 2)
    with pytest.raises(HearbackError, match=message) as caught:
        capture(tmp_path, source)
    assert may_heal(caught.value)
    setattr(store, fault, None)
    asked = len(store.asked)
    count = capture(tmp_path, source)
    assert count.count_out + 9 == 20
    (sorted_find,) = [c for c in store.asked[asked:] if "sort" in c and "limit" not in c]
    begin = sorted_find["filter"]["changed"]["$gte"]
    assert begin == FIRST + timedelta(hours=8, minutes=-5)

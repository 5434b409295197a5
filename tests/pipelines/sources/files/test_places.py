"""Where files lie: folders, patterns, an object store; packed in every way."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import extract
from pipelines.context import StepCount
from pipelines.errors import HearbackError, UsageError, may_heal
from pipelines.settings import Source
from pipelines.sources import files
from tests.pipelines.sources.pulling import (
    make_context,
    make_run,
    make_source,
    pull_all,
    pull_stopping,
    read_batch,
)

BUCKET = "acme-exports"


def pack_zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(data)
    return sink.getvalue().to_pybytes()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": pack_zstd,
}


def make_csv(*numbers: int) -> bytes:
    return "".join(["id,text\n", *(f"{number},好 {number}\n" for number in numbers)]).encode()


def reviews(path: str, kind: str = "csv", **more: Any) -> Source:
    columns = {"source_record_id": "id", "body": "text"}
    given = {"connection": None, "options": {"path": path, "columns": columns}}
    return make_source(kind, **{**given, **more})


def capture(folder: Path, source: Source) -> StepCount:
    (count,) = extract.run(make_run(folder, source), source.name)
    return count


def ids(found: Any) -> set[str]:
    return set(found.get("feedback", {}))


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# folders ------------------------------------------------------------------------------------------


def test_a_folder_is_read_with_all_that_is_below_it(tmp_path: Path) -> None:
    put(tmp_path, "in/a.csv", make_csv(1))
    put(tmp_path, "in/2026/b.CSV", make_csv(2))
    put(tmp_path, "in/2026/c.tsv.gz", gzip.compress(make_csv(3).replace(b",", b"\t")))
    put(tmp_path, "in/_SUCCESS", b"")
    put(tmp_path, "in/.hidden.csv", make_csv(4))
    put(tmp_path, "in/~$b.csv", b"\0")
    put(tmp_path, "in/readme.md", b"x")
    put(tmp_path, "in/half.csv.part", make_csv(5))
    found, _ = pull_all(reviews("in"), tmp_path)
    assert ids(found) == {"1", "2", "3"}


def test_a_pattern_takes_what_matches(tmp_path: Path) -> None:
    for name, number in (("a-1.csv", 1), ("a-2.csv.gz", 2), ("b.csv", 3), ("x/a-4.csv", 4)):
        data = make_csv(number)
        put(tmp_path, name, gzip.compress(data) if name.endswith("gz") else data)
    (tmp_path / "a-folder").mkdir()
    assert ids(pull_all(reviews("a-*"), tmp_path)[0]) == {"1", "2"}
    assert ids(pull_all(reviews("**/a-*.csv"), tmp_path)[0]) == {"1", "4"}


def test_only_new_and_changed_files_are_read(tmp_path: Path) -> None:
    put(tmp_path, "in/a.csv", make_csv(1, 2))
    put(tmp_path, "in/b.csv", make_csv(3))
    source = reviews("in")
    assert capture(tmp_path, source).count_in == 3
    put(tmp_path, "in/c.csv", make_csv(4))
    put(tmp_path, "in/b.csv", make_csv(9, 3))
    os.utime(tmp_path / "in/a.csv", (1, 1))
    count = capture(tmp_path, source)
    assert (count.count_in, count.count_out, count.count_unchanged) == (3, 2, 1)
    assert capture(tmp_path, source).count_in == 0


def test_a_row_inserted_at_the_top_of_a_packed_file_is_one_new_row(tmp_path: Path) -> None:
    lines = [f'{{"text": "row {n}"}}\n' for n in range(9)]
    source = reviews("in", "jsonl", options={"path": "in", "columns": {"body": "text"}})
    put(tmp_path, "in/a.jsonl.gz", gzip.compress("".join(lines).encode()))
    capture(tmp_path, source)
    put(tmp_path, "in/a.jsonl.gz", gzip.compress("".join(['{"text": "new"}\n', *lines]).encode()))
    count = capture(tmp_path, source)
    assert (count.count_in, count.count_out, count.count_unchanged) == (10, 1, 9)


def test_a_pull_stopped_after_every_batch_has_every_row(tmp_path: Path) -> None:
    for number in range(12):
        put(tmp_path, f"in/{number}.csv.gz", gzip.compress(make_csv(number)))
    found = pull_stopping(reviews("in"), tmp_path)
    assert ids(found) == {str(number) for number in range(12)}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_rows_added_while_a_file_is_read_come_with_the_next_pull(tmp_path: Path, kind: str) -> None:
    count = 3 * files.BATCH_ROWS
    rows = [f'{{"id": "{n}", "text": "好 {n}"}}\n' for n in range(count + 1)]
    path = put(tmp_path, f"a.{kind}", make_csv(*range(count)))
    if kind == "jsonl":
        path.write_text("".join(rows[:-1]), "utf-8")
    added = rows[-1] if kind == "jsonl" else f"{count},好 {count}\n"
    pull = files.pull(reviews(path.name, kind), make_context(tmp_path))
    batches = [next(pull)]
    with open(path, "a", encoding="utf-8") as file:
        file.write(added)
    batches += pull
    position = batches[-1].position
    first = {key for batch in batches for key, _ in read_batch(batch)}
    second, _ = pull_all(reviews(path.name, kind), tmp_path, position)
    assert first | ids(second) == {str(n) for n in range(count + 1)}
    assert str(count) in ids(second)


def test_files_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    put(tmp_path, "in/a.csv", make_csv(1))
    put(tmp_path, "in/b.csv", make_csv(2))
    _, position = pull_all(reviews("in"), tmp_path)
    (tmp_path / "in/a.csv").unlink()
    _, position = pull_all(reviews("in"), tmp_path, position)
    assert list(position["files"]) == ["in/b.csv"]


def test_files_that_are_known_cost_no_batch(tmp_path: Path) -> None:
    for number in range(2000):
        put(tmp_path, f"in/{number}.csv", b"")
    _, position = pull_all(reviews("in"), tmp_path)
    kind = files.KINDS["csv"]
    batches = list(kind.pull(reviews("in"), make_context(tmp_path, position)))
    assert len(batches) == 1


# packed files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "excel"])
def test_every_kind_is_read_from_every_packing(tmp_path: Path, ending: str, kind: str) -> None:
    plain = {"csv": "a.csv", "jsonl": "a.jsonl", "parquet": "a.parquet", "excel": "a.xlsx"}[kind]
    path = tmp_path / plain
    if kind == "csv":
        path.write_bytes("id,text\n7,物流很快，包装完好\n".encode("gb18030"))
    elif kind == "jsonl":
        path.write_text('{"id": "7", "text": "物流很快，包装完好"}\n', "utf-8")
    elif kind == "parquet":
        pq.write_table(pa.table({"id": ["7"], "text": ["物流很快，包装完好"]}), path)
    else:
        import openpyxl

        book = openpyxl.Workbook()
        book.active.append(["id", "text"])
        book.active.append(["7", "物流很快，包装完好"])
        book.save(path)
    put(tmp_path, plain + ending, PACKERS[ending](path.read_bytes()))
    found, _ = pull_all(reviews(plain + ending, kind), tmp_path)
    (payload,) = found["feedback"]["7"]
    assert payload == {"id": "7", "text": "物流很快，包装完好"}


@pytest.mark.parametrize("ending", PACKERS)
def test_packed_parts_that_follow_each_other_are_all_read(tmp_path: Path, ending: str) -> None:
    pack = PACKERS[ending]
    put(tmp_path, f"a.csv{ending}", pack(make_csv(1)) + pack("2,好 2\n".encode()))
    found, _ = pull_all(reviews(f"a.csv{ending}"), tmp_path)
    assert ids(found) == {"1", "2"}


def test_every_member_of_an_archive_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one/rows.csv", make_csv(1))
        archive.writestr("two/rows.csv", make_csv(2))
        archive.writestr("three.csv.gz", gzip.compress(make_csv(3)))
        archive.writestr("../../escape.csv", make_csv(4))
        archive.writestr("__MACOSX/._rows.csv", b"\0")
        archive.writestr("notes.md", b"x")
    inside = set(tmp_path.parent.rglob("*"))
    found, _ = pull_all(reviews("a.zip"), tmp_path)
    assert ids(found) == {"1", "2", "3", "4"}
    assert set(tmp_path.parent.rglob("*")) == inside


def test_nothing_unpacked_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    put(tmp_path, "a.jsonl.gz", gzip.compress(b'{"id": "1", "text": "x"}\n'))
    pull_all(reviews("a.jsonl.gz", "jsonl"), tmp_path)
    pull = files.KINDS["jsonl"].pull(reviews("a.jsonl.gz", "jsonl"), make_context(tmp_path))
    next(pull)
    assert list(temporary.glob("hearback-*"))
    pull.close()  # type: ignore[attr-defined]
    assert not list(temporary.glob("hearback-*"))


@pytest.mark.parametrize("ending", [*PACKERS, ".zip"])
def test_a_damaged_file_does_not_keep_the_others_from_being_read(
    tmp_path: Path, ending: str
) -> None:
    whole = make_csv(*range(1000))
    if ending == ".zip":
        with zipfile.ZipFile(tmp_path / "w.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("rows.csv", whole)
        packed = (tmp_path / "w.zip").read_bytes()
    else:
        packed = PACKERS[ending](whole)
    put(tmp_path, f"in/a.csv{ending}", packed[: len(packed) // 2])
    put(tmp_path, "in/b.csv", make_csv(5000))
    source = reviews("in")
    with pytest.raises(
        HearbackError, match=rf"in/a\.csv{ending}.* is cut off or damaged"
    ) as caught:
        capture(tmp_path, source)
    assert "\n" not in caught.value.message
    put(tmp_path, f"in/a.csv{ending}", packed)
    assert capture(tmp_path, source).count_out == 1000


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["7"], "text": ["好"]}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    put(tmp_path, "in/a.parquet", whole[:-20])
    put(tmp_path, "in/b.parquet", whole)
    with pytest.raises(HearbackError, match=r"in/a\.parquet is cut off or damaged"):
        capture(tmp_path, reviews("in", "parquet"))


def test_an_archive_with_a_password_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("rows.csv", make_csv(1))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[6] |= 1  # the flag that says so, in the member's head and in the list at the end
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    put(tmp_path, "a.zip", bytes(data))
    with pytest.raises(HearbackError, match=r"a\.zip.* is encrypted; pack it without"):
        pull_all(reviews("a.zip"), tmp_path)


def test_a_wrong_column_of_a_packed_file_is_named(tmp_path: Path) -> None:
    put(tmp_path, "a.csv.gz", gzip.compress(b"id,txet\n1,x\n"))
    with pytest.raises(HearbackError, match=r"a\.csv has no column 'text', did you mean 'txet'"):
        files.check(reviews("a.csv.gz"), make_context(tmp_path))
    with pytest.raises(HearbackError, match=r"a\.csv has no column 'text', did you mean 'txet'"):
        pull_all(reviews("a.csv.gz"), tmp_path)


# an object store ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[str, Counter[str]]]:
    """(address, requests by method) of an object store on loopback."""
    from moto.server import ThreadedMotoServer
    from werkzeug.serving import WSGIRequestHandler

    seen: Counter[str] = Counter()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            WSGIRequestHandler,
            "log_request",
            lambda self, *_: seen.update([f"{self.command} {self.path.split('?')[0]}"]),
        )
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}", seen
        server.stop()


@pytest.fixture
def bucket(store: tuple[str, Counter[str]], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file system on an empty bucket; the connection ``desk`` leads to it."""
    import s3fs

    connection = {
        "conn_type": "aws", "login": "key", "password": "s3cret",
        "extra": {"endpoint_url": store[0], "region_name": "us-east-1"},
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(connection))
    fs = s3fs.S3FileSystem(
        key="key", secret="s3cret", endpoint_url=store[0], skip_instance_cache=True
    )
    if fs.exists(BUCKET):
        fs.rm(BUCKET, recursive=True)
    fs.mkdir(BUCKET)
    store[1].clear()
    return fs


def remote(path: str, kind: str = "csv") -> Source:
    return reviews(f"s3://{BUCKET}/{path}", kind, connection="desk")


def upload(bucket: Any, name: str, data: bytes) -> None:
    with bucket.open(f"{BUCKET}/{name}", "wb") as sink:
        sink.write(data)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("in", {"1", "2"}), ("in/", {"1", "2"}), ("in/a.csv", {"1"}), ("in/**/*.gz", {"2"}),
     ("in/*", {"1"})],
)  # fmt: skip
def test_objects_are_read(tmp_path: Path, bucket: Any, path: str, expected: set[str]) -> None:
    upload(bucket, "in/a.csv", make_csv(1))
    upload(bucket, "in/x/b.csv.gz", gzip.compress(make_csv(2)))
    upload(bucket, "in/x/_SUCCESS", b"")
    upload(bucket, "inside/c.csv", make_csv(3))
    found, _ = pull_all(remote(path), tmp_path)
    assert ids(found) == expected


def test_objects_that_are_known_are_not_fetched(
    tmp_path: Path, bucket: Any, store: tuple[str, Counter[str]]
) -> None:
    upload(bucket, "in/a.csv", make_csv(1, 2))
    upload(bucket, "in/b.csv", make_csv(3))
    source = remote("in")
    assert capture(tmp_path, source).count_in == 3
    upload(bucket, "in/a.csv", make_csv(1, 2))  # touched
    upload(bucket, "in/b.csv", make_csv(9, 3))
    store[1].clear()
    count = capture(tmp_path, source)
    assert (count.count_in, count.count_out, count.count_unchanged) == (2, 1, 1)
    assert f"GET /{BUCKET}/in/b.csv" in store[1]
    assert f"GET /{BUCKET}/in/a.csv" not in store[1]


def test_an_object_with_another_tag_and_the_same_content_is_not_read_again(
    tmp_path: Path, bucket: Any
) -> None:
    upload(bucket, "in/a.csv", make_csv(1))
    _, position = pull_all(remote("in"), tmp_path)
    position["files"][f"s3://{BUCKET}/in/a.csv"]["tag"] = "of many parts"
    found, position = pull_all(remote("in"), tmp_path, position)
    assert ids(found) == set()
    assert position["files"][f"s3://{BUCKET}/in/a.csv"]["tag"] != "of many parts"


def test_parquet_objects(tmp_path: Path, bucket: Any) -> None:
    pq.write_table(pa.table({"id": ["7"], "text": ["好"]}), tmp_path / "a.parquet")
    upload(bucket, "day=1/part-0.parquet", (tmp_path / "a.parquet").read_bytes())
    found, _ = pull_all(remote("", "parquet"), tmp_path)
    assert ids(found) == {"7"}
    assert files.check(remote("", "parquet"), make_context(tmp_path)).startswith("1 file with")


def test_a_pull_of_objects_stopped_after_every_batch(tmp_path: Path, bucket: Any) -> None:
    for number in range(6):
        upload(bucket, f"in/{number}.csv", make_csv(number, number + 100))
    found = pull_stopping(remote("in"), tmp_path)
    assert ids(found) == {str(n + k) for n in range(6) for k in (0, 100)}


def test_no_object_matches(tmp_path: Path, bucket: Any) -> None:
    with pytest.raises(HearbackError, match="no file matches s3://acme-exports/none; mend"):
        pull_all(remote("none"), tmp_path)


def test_a_bucket_that_is_not_there(tmp_path: Path, bucket: Any) -> None:
    source = reviews("s3://nowhere/in", connection="desk")
    with pytest.raises(HearbackError, match="s3://nowhere/in"):
        pull_all(source, tmp_path)


def test_a_store_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {
        "endpoint_url": "http://127.0.0.1:1",
        "config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": 2},
    }
    wrong = {"login": "key", "password": "s3cret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(wrong))
    monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)
    with pytest.raises(HearbackError, match="check connection 'desk' and the network") as caught:
        pull_all(remote("in"), tmp_path)
    assert may_heal(caught.value)
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    ("error", "message"),
    [(PermissionError("Access Denied"), "not allowed to read s3://acme-exports/in"),
     (FileNotFoundError("gone"), "there is no s3://acme-exports/in")],
)  # fmt: skip
def test_what_a_store_refuses(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("s3fs.core.S3FileSystem.find", refuse)
    with pytest.raises(HearbackError, match=message):
        pull_all(remote("in"), tmp_path)


def test_a_store_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be opened: Protocol not known: s4"):
        pull_all(reviews("s4://x/y"), tmp_path)


def test_a_time_stands_for_a_tag_where_there_is_none() -> None:
    from pipelines.sources.places import make_mark

    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert make_mark({"size": 3, "ETag": '"x"', "LastModified": at}) == {"size": 3, "tag": "x"}
    assert make_mark({"size": 3, "updated": at}) == {"size": 3, "time": str(at.timestamp())}

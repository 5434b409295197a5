"""A preview shows what a run would do with a source, and leaves nothing behind."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter

from pipelines.cli import execute
from pipelines.errors import UsageError
from pipelines.guess import Sample, guess_columns, guess_scale
from pipelines.preview_text import show
from tests.pipelines.sources.brevo.server import KEY, Brevo
from tests.pipelines.sources.web_reviews.server import Shop, page_of
from tests.pipelines.sources.zendesk.server import LOGIN, TOKEN, Zendesk
from tests.pipelines.sources.zendesk.test_zendesk import load as load_zendesk

ROWS = [
    {"id": "1", "text": "The app crashes when I pay, call +86 13800138000", "stars": 1,
     "created": "2026-11-01"},
    {"id": "2", "text": "Great kettle, thank you! ann@example.com", "stars": 5,
     "created": "2026-11-02"},
    {"id": "3", "text": "物流太慢了，客服也不回复", "stars": 2, "created": "2026-11-03"},
    {"id": "4", "text": "   ", "stars": 3, "created": "2026-11-04"},
    {"id": "5", "text": "Where is my order?", "stars": 4, "created": "never"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_traces(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Work in a folder of one's own, keep one model for all tests, and look what is left."""
    kept = tmp_path_factory.getbasetemp() / "models"
    kept.mkdir(exist_ok=True)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept))
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(tmp_path)
    yield
    left = {path.name for path in temporary.iterdir()} - {"hearback"}
    assert left == set(), "what was captured is removed"
    assert not (tmp_path / "data").exists()


def write(folder: Path, ending: str) -> Path:
    path = folder / f"reviews.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif ending == "xlsx":
        with xlsxwriter.Workbook(str(path)) as book:
            sheet = book.add_worksheet()
            for number, row in enumerate([list(ROWS[0]), *(list(r.values()) for r in ROWS)]):
                sheet.write_row(number, 0, row)
    elif ending == "json":
        path.write_text(json.dumps({"reviews": ROWS}, indent=1), encoding="utf-8")
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    else:
        lines = [list(ROWS[0]), *(row.values() for row in ROWS)]
        text = "\n".join("\t".join(map(str, line)) for line in lines)
        path.write_text(text + "\n", encoding="utf-8")
    return path


def preview(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code = execute(["try", *arguments, "--json"])
    told = capsys.readouterr()
    assert code == 0, told.err
    found: dict[str, Any] = json.loads(told.out)
    return found


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet", "xlsx"])
def test_any_file_is_captured_judged_redacted_and_labelled(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = preview(capsys, str(write(tmp_path, ending)))
    assert found["captured"] == {"feedback": 5}
    assert {row["record_id"]: row["reasons"] for row in found["quarantined"]} == {
        "4": ["empty_text"],
        "5": ["impossible_date:created_at"],
    }
    rows = {row["id"]: row for row in found["rows"]}
    assert set(rows) == {"1", "2", "3"}
    assert rows["1"]["body"] == "The app crashes when I pay, call <phone>"
    assert rows["1"]["feedback_type"] == "complaint"
    assert rows["2"]["sentiment"] == "positive"
    assert rows["3"]["language"] == "zh"
    assert found["redacted"] == {"phone": 1, "email": 1}
    assert {tuple(pair["kinds"]) for pair in found["pairs"]} == {("phone",), ("email",)}
    assert found["pairs"][0]["before"] == ROWS[0]["text"]
    assert found["samples"][0]["stored"]["rating_max"] == 5
    assert "13800138000" not in json.dumps(found["samples"])
    assert not found["stored"]
    assert not found["is_cut"]


def test_a_packed_file_is_unpacked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = tmp_path / "reviews.jsonl.gz"
    packed.write_bytes(gzip.compress(write(tmp_path, "jsonl").read_bytes()))
    assert preview(capsys, str(packed))["captured"] == {"feedback": 5}


def test_lines_say_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["try", str(write(tmp_path, "csv"))]) == 0
    told = capsys.readouterr().out
    assert told.startswith("reviews (csv): feedback 5 captured in ")
    assert (
        "columns: source_record_id = id, body = text, rating = stars, created_at = created" in told
    )
    assert "would be quarantined: 2" in told
    assert "  empty_text 1: 4 " in told
    assert "redacted: phone 1, email 1" in told
    assert "  after:  The app crashes when I pay, call <phone>" in told
    assert "nothing was stored or sent\n" in told
    assert told.rstrip().endswith(f"next: hearback add csv --set path={tmp_path / 'reviews.csv'}")


def test_chinese_is_spoken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["try", str(write(tmp_path, "csv")), "--language", "zh"]) == 0
    told = capsys.readouterr().out
    assert "没有存储或发送任何内容" in told
    assert "会被隔离：2" in told


def test_a_preview_takes_the_first_rows_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = preview(capsys, str(write(tmp_path, "csv")), "--rows", "2")
    assert found["captured"] == {"feedback": 2}
    assert found["is_cut"]


def test_a_column_can_be_named_and_a_wrong_one_names_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "words.csv"
    path.write_text("n,a,b\n1,The first of two long texts,The second of two long texts\n")
    assert preview(capsys, str(path))["rows"][0]["body"].startswith("The second")
    chosen = preview(capsys, str(path), "--set", "columns.body=a")
    assert chosen["rows"][0]["body"].startswith("The first")
    assert execute(["try", str(write(tmp_path, "csv")), "--set", "columns.body=txet"]) == 1
    assert "has no column 'txet', did you mean 'text'" in capsys.readouterr().err
    assert execute(["try", str(path), "--set", "columns.bdy=a"]) == 2
    assert "did you mean 'body'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.csv", None, "no such file"),
        ("x.doc", "x", "cannot tell what it is"),
        ("numbers.csv", "a,b\n1,2\n", "which column holds the text?"),
        ("empty.csv", "", "holds no record"),
        ("one.json", '{"a":\n1}', "holds no list of records"),
    ],
)
def test_what_cannot_be_previewed_is_one_line(
    name: str, content: str | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert execute(["try", str(tmp_path / name)]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_a_page_of_reviews(capsys: pytest.CaptureFixture[str]) -> None:
    shop = Shop()
    try:
        shop.stock(3)
        shop.pages["/"] += page_of(7, "The lid leaks, it is broken")
        found = preview(capsys, shop.url)
    finally:
        shop.close()
    assert [row["body"] for row in found["rows"]] == ["The lid leaks, it is broken 7"]
    assert sorted(path for path, _ in shop.asked) == ["/", "/robots.txt"]


def write_config(folder: Path, url: str, kind: str) -> None:
    (folder / "hearback.toml").write_text(
        f'[[sources]]\nname = "desk"\nkind = "{kind}"\nbase_url = "{url}"\nconnection = "desk"\n',
        encoding="utf-8",
    )


def test_a_source_of_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Zendesk(load_zendesk()) as desk:
        secret = {"login": LOGIN, "password": TOKEN}
        monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(secret))
        write_config(tmp_path, desk.url, "zendesk")
        found = preview(capsys, "--source", "desk")
        assert found["staged"]["cases"] == found["captured"]["tickets"]
        said = {row["entity"] for row in found["rows"]}
        assert "messages" in said
        assert said <= {"feedback", "messages", "survey_responses"}
        first = preview(capsys, "--source", "desk", "--rows", "1")
        assert set(first["captured"].values()) == {1}
        assert first["is_cut"]


def test_contacts_are_shown_without_who_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Brevo() as brevo:
        assert isinstance(brevo, Brevo)
        monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"password": KEY}))
        write_config(tmp_path, brevo.url, "brevo")
        addresses = [contact["email"] for contact in brevo.contacts if contact.get("email")]
        assert execute(["try"]) == 0
        told = capsys.readouterr().out
    assert addresses
    assert not any(address in told for address in addresses)
    assert "no texts of customers" in told


def test_a_source_that_fails_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "jsonl")
    columns = '{ source_record_id = "id", body = "text" }'
    (tmp_path / "hearback.toml").write_text(
        "".join(
            f'[[sources]]\nname = "{name}"\nkind = "jsonl"\n'
            f'options = {{ path = "{name}.jsonl", columns = {columns} }}\n'
            for name in ("gone", "reviews")
        ),
        encoding="utf-8",
    )
    assert execute(["try"]) == 1
    told = capsys.readouterr()
    assert "reviews (jsonl): feedback 5" in told.out
    assert "no file matches gone.jsonl" in told.err


def test_a_file_that_a_source_reads_is_read_as_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "jsonl")
    (tmp_path / "hearback.toml").write_text(
        '[[sources]]\nname = "mine"\nkind = "jsonl"\noptions = { path = "*.jsonl", '
        'columns = { source_record_id = "id", body = "created" } }\n',
        encoding="utf-8",
    )
    found = preview(capsys, "reviews.jsonl")
    assert found["source"] == "mine"
    assert found["rows"][0]["body"] == "2026-11-01"


def test_texts_cannot_steer_the_terminal() -> None:
    assert show("red \x1b[31m\u202e\nnext\x07") == "red �[31m� next�"
    assert show("好" * 50, 20) == "好" * 9 + "…"


def test_columns_are_told_by_their_names() -> None:
    sample = Sample(["编号", "评论内容", "评分", "评论时间", "x"], [])
    assert guess_columns(sample) == {
        "source_record_id": "编号", "body": "评论内容", "rating": "评分", "created_at": "评论时间",
    }  # fmt: skip
    spelt = guess_columns(Sample(["Review ID", "Star-Rating", "Review Text"], []))
    assert spelt == {
        "source_record_id": "Review ID",
        "rating": "Star-Rating",
        "body": "Review Text",
    }


@pytest.mark.parametrize(
    ("ratings", "scale"),
    [
        (["1", "5", "3"], (1, 5)),
        (["0", "10"], (0, 10)),
        (["7", "9"], (1, 10)),
        (["80", "35"], (0, 100)),
        (["good"], None),
        (["5000", "6000"], None),
        ([*["4"] * 40, "9"], (1, 5)),  # one that is wrong does not make the scale
    ],
)
def test_scales_are_told_by_the_numbers(
    ratings: list[str], scale: tuple[float, float] | None
) -> None:
    low, high = scale or (None, None)
    expected = {"rating_min": low, "rating_max": high} if scale else {}
    assert guess_scale(ratings) == expected


@pytest.mark.parametrize("text", ["body", "=x", "a=1 --set a=2"])
def test_assignments_are_checked(text: str) -> None:
    from pipelines.assignments import parse_assignments

    with pytest.raises(UsageError, match="--set"):
        parse_assignments(text.split(" --set "))

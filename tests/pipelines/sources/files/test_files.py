"""File sources: every row captured once, whatever its encoding, delimiter or damage."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import extract
from pipelines.errors import HearbackError, UsageError
from pipelines.sources.files import decode, find_delimiter, find_encoding, show_bytes, unique_names
from tests.pipelines.lines import make_run, write_lines

CSV = """
[[sources]]
name = "crm"
kind = "csv"
options = {{ path = "crm.csv", entity = "customers", columns = {{ source_customer_id = "id", name = "{name}" }} }}
"""  # noqa: E501


def payloads(run, source: str) -> list[dict]:
    entries = run.lake.raw_manifest(source)["files"]
    rows = [row for entry in entries for row in run.lake.read_table(entry).to_pylist()]
    return [json.loads(row["payload"]) for row in rows if row["problem"] is None]


@pytest.mark.parametrize(
    ("encoding", "delimiter"),
    [("utf-8", ","), ("utf-8-sig", ";"), ("gb18030", ","), ("gb18030", "\t"), ("utf-16", ",")],
)
def test_csv_encoding_and_delimiter_are_found(tmp_path: Path, encoding: str, delimiter: str):
    rows = [["id", "name"], ["1", "王小伟"], ["2", "张丽"], ["3", "Ann O'Neil"]]
    text = "\n".join(delimiter.join(row) for row in rows) + "\n"
    (tmp_path / "crm.csv").write_bytes(text.encode(encoding))
    run = make_run(tmp_path, CSV.format(name="name"))
    extract.run(run, "crm")
    assert [row["name"] for row in payloads(run, "crm")] == ["王小伟", "张丽", "Ann O'Neil"]


def test_csv_keeps_line_breaks_and_quotes_inside_a_cell(tmp_path: Path):
    (tmp_path / "crm.csv").write_text('id,name\n1,"two\nlines, ""quoted"""\n', "utf-8")
    run = make_run(tmp_path, CSV.format(name="name"))
    extract.run(run, "crm")
    assert payloads(run, "crm") == [{"id": "1", "name": 'two\nlines, "quoted"'}]


def test_csv_row_with_too_many_cells_is_kept_with_its_text(tmp_path: Path):
    (tmp_path / "crm.csv").write_text("id,name\n1,Ann\n2,Bob,extra\n", "utf-8")
    run = make_run(tmp_path, CSV.format(name="name"))
    extract.run(run, "crm")
    (entry,) = run.lake.raw_manifest("crm")["files"]
    rows = run.lake.read_table(entry).to_pylist()
    assert [(r["payload"], r["problem"]) for r in rows if r["problem"]] == [
        ("2,Bob,extra", "broken_row")
    ]


def test_wrong_column_names_the_nearest(tmp_path: Path):
    (tmp_path / "crm.csv").write_text("id,name\n1,Ann\n", "utf-8")
    run = make_run(tmp_path, CSV.format(name="nmae"))
    with pytest.raises(HearbackError, match="no column 'nmae', did you mean 'name'"):
        extract.run(run, "crm")


def test_wrong_canonical_column_names_the_nearest(tmp_path: Path):
    (tmp_path / "crm.csv").write_text("id,name\n1,Ann\n", "utf-8")
    source = CSV.format(name="name").replace("name =", "nam =", 2).replace("nam =", "name =", 1)
    run = make_run(tmp_path, source)
    with pytest.raises(UsageError, match="customers has no column 'nam', did you mean 'name'"):
        extract.run(run, "crm")


def test_missing_file_is_named(tmp_path: Path):
    run = make_run(tmp_path)
    with pytest.raises(HearbackError, match=r"no file matches app\.jsonl"):
        extract.run(run, "app")


def test_touching_a_file_changes_nothing(tmp_path: Path):
    write_lines(tmp_path / "app.jsonl", '{"id":"1","text":"a","created":"x","stars":1,"user":"u"}')
    run = make_run(tmp_path)
    extract.run(run, "app")
    before = run.lake.raw_manifest("app")["files"]
    os.utime(tmp_path / "app.jsonl", (1, 1))
    counts = extract.run(make_run(tmp_path), "app")
    assert run.lake.raw_manifest("app")["files"] == before
    assert sum(count.count_in for count in counts) == 0


def test_row_inserted_at_the_top_is_one_new_row(tmp_path: Path):
    rows = [f'{{"text":"row {n}","created":"x","stars":1,"user":"u","id":null}}' for n in range(9)]
    write_lines(tmp_path / "app.jsonl", *rows)
    extract.run(make_run(tmp_path), "app")
    write_lines(tmp_path / "app.jsonl", rows[0].replace("row 0", "first"), *rows)
    (count,) = extract.run(make_run(tmp_path), "app")
    assert (count.count_in, count.count_out, count.count_unchanged) == (10, 1, 9)


def test_equal_rows_without_id_stay_two_rows(tmp_path: Path):
    row = '{"text":"same","created":"x","stars":1,"user":"u","id":null}'
    write_lines(tmp_path / "app.jsonl", row, row)
    (count,) = extract.run(make_run(tmp_path), "app")
    assert count.count_out == 2


@pytest.mark.parametrize(
    ("kind", "text"), [("csv", "name\nAnn\nAnn\n"), ("jsonl", '{"name":1}\n{"name":1}\n')]
)
def test_rows_of_a_file_without_an_id_column_are_captured(tmp_path: Path, kind: str, text: str):
    (tmp_path / "plain").write_text(text, "utf-8")
    options = '{ path = "plain", columns = { body = "name" } }'
    config = f'[[sources]]\nname = "plain"\nkind = "{kind}"\noptions = {options}\n'
    (count,) = extract.run(make_run(tmp_path, config), "plain")
    assert count.count_out == 2


def test_a_record_that_returns_to_an_earlier_content_is_captured_again(tmp_path: Path):
    row = '{{"id":"1","text":"{}","created":"x","stars":1,"user":"u"}}'
    captured = []
    for text in ("a", "b", "a", "a"):
        write_lines(tmp_path / "app.jsonl", row.format(text))
        captured.append(extract.run(make_run(tmp_path), "app")[0].count_out)
    assert captured == [1, 1, 1, 0]


def test_excel_rows_are_captured(tmp_path: Path):
    from datetime import datetime

    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["id", "name", "since"])
    book.active.append([7, "王小伟", datetime(2026, 1, 2)])
    book.save(tmp_path / "crm.xlsx")
    source = CSV.format(name="name").replace("crm.csv", "crm.xlsx").replace('"csv"', '"excel"')
    run = make_run(tmp_path, source)
    extract.run(run, "crm")
    assert payloads(run, "crm") == [{"id": "7", "name": "王小伟", "since": "2026-01-02T00:00:00"}]


def test_parquet_rows_are_captured(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": [7], "name": ["王小伟"]}), tmp_path / "crm.parquet")
    source = CSV.format(name="name").replace("crm.csv", "crm.parquet").replace('"csv"', '"parquet"')
    run = make_run(tmp_path, source)
    extract.run(run, "crm")
    assert payloads(run, "crm") == [{"id": 7, "name": "王小伟"}]


def test_killed_pull_leaves_no_stray_and_repeats_nothing(tmp_path: Path):
    write_lines(tmp_path / "app.jsonl", '{"id":"1","text":"a","created":"x","stars":1,"user":"u"}')
    run = make_run(tmp_path)
    stray = Path(run.lake.root) / "raw/source=app/date=2026-11-20/half.parquet"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"PAR1 half a file")
    extract.run(run, "app")
    extract.run(make_run(tmp_path), "app")
    assert not stray.exists()
    assert len(payloads(run, "app")) == 1


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_decode_and_show(data: bytes):
    shown = show_bytes(decode(data, "utf-8"))
    shown.encode("utf-8")
    assert "\U000f00e9" not in shown


@given(st.lists(st.text(max_size=5), max_size=8))
def test_header_names_become_unique(header: list[str]):
    names = unique_names(header)
    assert len(set(names)) == len(header)
    assert all(names)


@pytest.mark.parametrize(
    ("first", "expected"), [("a,b,c", ","), ("a;b;c", ";"), ("a\tb", "\t"), ("alone", ",")]
)
def test_find_delimiter(first: str, expected: str):
    assert find_delimiter(first + "\n1") == expected


def test_single_western_bytes_are_not_taken_for_han(tmp_path: Path):
    path = tmp_path / "x.txt"
    path.write_bytes("café très très élégant, déjà vu, à bientôt\n".encode("cp1252") * 5)
    assert find_encoding(path) not in ("gb18030", "utf-8")


def test_nothing_is_committed_after_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [
        f'{{"id":"{n}","text":"t","created":"2026-11-01","stars":1,"user":"u"}}' for n in range(9)
    ]
    write_lines(tmp_path / "app.jsonl", *rows)
    run = make_run(tmp_path)

    def fail(*arguments: object, **options: object) -> None:
        raise HearbackError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(type(run.lake), "write_table", fail)
        with pytest.raises(HearbackError, match="disk full"):
            extract.run(run, "app")
    assert run.lake.raw_manifest("app")["position"] == {}
    (count,) = extract.run(make_run(tmp_path), "app")
    assert count.count_out == 9


def test_a_source_without_columns_says_what_to_write(tmp_path: Path):
    (tmp_path / "crm.csv").write_text("id,name\n1,Ann\n", "utf-8")
    source = '[[sources]]\nname = "crm"\nkind = "csv"\noptions = { path = "crm.csv" }\n'
    with pytest.raises(UsageError, match="option 'columns' names none"):
        extract.run(make_run(tmp_path, source), "crm")


def test_only_lines_with_bytes_that_are_no_text_are_marked(tmp_path: Path):
    row = '{{"id":"{}","text":"{}","created":"x","stars":1,"user":"u"}}'
    lines = [row.format(n, "\U000f0012 private" if n == 5 else "好" * 40) for n in range(400)]
    data = [line.encode() for line in lines]
    data[7] = row.format(7, "byte ?").encode().replace(b"?", b"\xff")
    (tmp_path / "app.jsonl").write_bytes(b"\r\n".join(data) + b"\n\n  \n")
    run = make_run(tmp_path)
    extract.run(run, "app")
    (entry,) = run.lake.raw_manifest("app")["files"]
    rows = {r["record_id"]: r for r in run.lake.read_table(entry).to_pylist()}
    assert len(rows) == 400
    assert [key for key, r in rows.items() if r["problem"]] == ["7"]
    assert "byte \\\\xff" in rows["7"]["payload"]
    assert rows["5"]["payload"] == lines[5] + "\r"


def test_a_repeat_within_a_pull_and_an_id_of_an_earlier_pull_are_told_apart(tmp_path: Path):
    row = '{{"id":"{}","text":"{}","created":"x","stars":1,"user":"u"}}'
    write_lines(tmp_path / "app.jsonl", row.format(1, "a"), row.format(1, "a"), row.format(2, "a"))
    (count,) = extract.run(make_run(tmp_path), "app")
    assert (count.count_in, count.count_out, count.count_duplicate) == (3, 2, 1)
    write_lines(tmp_path / "app.jsonl", row.format(1, "b"), row.format(2, "a"), row.format(3, "a"))
    (count,) = extract.run(make_run(tmp_path), "app")
    assert (count.count_out, count.count_duplicate, count.count_unchanged) == (2, 0, 1)


@pytest.mark.parametrize(
    ("text", "names", "broken"),
    [
        ('id,name\n1,a\n2,"b\n3,c\n4,d\n', ["a", "c", "d"], ['2,"b']),
        ('id,name\n1,"a"\n2,"b\n3,"c\n4,"d\n5,e\n', ["a", "e"], ['2,"b\n3,"c', '4,"d']),
        ('id,name\n1,5" wide\n2,b\n', ['5" wide', "b"], []),
        ("id,name\r\n1,a\r\n2,b\n3,c\r\n", ["a", "b", "c"], []),
        ("id,name\n1,a,x\n1,a,x\n", [], ["1,a,x", "1,a,x"]),
    ],
    ids=["unclosed", "several", "inches", "line ends", "equal"],
)
def test_no_row_of_a_damaged_csv_is_lost(
    tmp_path: Path, text: str, names: list[str], broken: list[str]
):
    (tmp_path / "crm.csv").write_bytes(text.encode())
    run = make_run(tmp_path, CSV.format(name="name"))
    extract.run(run, "crm")
    assert [row["name"] for row in payloads(run, "crm")] == names
    (entry,) = run.lake.raw_manifest("crm")["files"]
    rows = run.lake.read_table(entry).to_pylist()
    assert [r["payload"] for r in rows if r["problem"] == "broken_row"] == broken

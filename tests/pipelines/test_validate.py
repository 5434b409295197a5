"""validate: bad records are kept whole with their reason, good ones become typed rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines import extract, validate
from tests.pipelines.lines import FEEDBACK_SOURCE, make_run, write_lines

GOOD = {"id": "g", "user": "u1", "text": "很好用", "created": "2026-11-01T10:00:00Z", "stars": 5}


def line(**changes: Any) -> str:
    return json.dumps({key: value for key, value in (GOOD | changes).items() if value != ...})


BAD = {
    "broken_json": ['{"id":"b1","text":"broken'],
    "wrong_encoding": [b'{"id":"b2","text":"caf\xe9","created":"2026-11-01","stars":4,"user":"u"}'],
    "missing_id": [line(id=...)],
    "impossible_date": [line(id="b4", created="2026-13-45")],
    "rating_out_of_scale": [line(id="b5", stars=9)],
    "not_a_number": [line(id="b6", stars="five")],
    "empty_text": [line(id="b7", text="  　")],
    "oversized_text": [line(id="b8", text="x" * 20_001)],
    "control_characters": [line(id="b9", text="nul \0 here")],
    "conflicting_duplicate_id": [line(id="b10", text="one"), line(id="b10", text="two")],
}
CHANNEL_SOURCE = FEEDBACK_SOURCE.replace(
    "constants =", 'values = { language = { en = "en" } }, constants ='
).replace('body = "text"', 'body = "text", language = "lang"')


def read(run, layer: str, entity: str) -> list[dict]:
    manifest = run.lake.staging_manifest()
    entries = manifest["files" if layer == "staging" else "quarantine"].get(entity, [])
    return [row for entry in entries for row in run.lake.read_table(entry).to_pylist()]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    lines = [line(lang="en"), *(line for lines in BAD.values() for line in lines)]
    write_lines(folder / "app.jsonl", *lines, line(id="b11", lang="tlh"))
    run = make_run(folder, CHANNEL_SOURCE)
    extract.run(run, "app")
    return run, validate.run(run)


@pytest.mark.parametrize("reason", list(BAD))
def test_bad_record_is_quarantined_with_its_reason(judged, reason: str):
    run, _ = judged
    rows = [
        row
        for row in read(run, "quarantine", "feedback")
        if [code.split(":")[0] for code in row["reasons"]] == [reason]
    ]
    assert len(rows) == len(BAD[reason])


def test_unknown_value_names_its_column(judged):
    run, _ = judged
    rows = read(run, "quarantine", "feedback")
    assert [r["record_id"] for r in rows if r["reasons"] == ["unknown_value:language"]] == ["b11"]


def test_quarantined_record_is_complete(judged):
    run, _ = judged
    (row,) = [r for r in read(run, "quarantine", "feedback") if r["record_id"] == "b5"]
    assert json.loads(row["payload"]) == GOOD | {"id": "b5", "stars": 9}


def test_rows_close(judged):
    _, (count,) = judged
    assert (count.count_in, count.count_out, count.count_quarantined) == (13, 1, 12)


def test_good_row_is_typed(judged):
    run, _ = judged
    (row,) = read(run, "staging", "feedback")
    assert (row["body"], row["rating"], row["created_at"].isoformat()) == (
        "很好用",
        5.0,
        "2026-11-01T10:00:00+00:00",
    )


def test_second_run_finds_nothing_new(judged):
    run, _ = judged
    version = run.lake.staging_manifest()["version"]
    (count,) = validate.run(run)
    assert (count.count_in, run.lake.staging_manifest()["version"]) == (0, version)


def test_data_docs_are_kept(judged):
    run, _ = judged
    pages = list(run.home.docs.glob("**/data_docs/**/index.html"))
    assert pages


def test_replay_takes_a_mended_rule_to_the_quarantine(tmp_path: Path):
    write_lines(tmp_path / "app.jsonl", line(id="1", stars=9), line(id="2", stars=12))
    run = make_run(tmp_path)
    extract.run(run, "app")
    validate.run(run)
    mended = FEEDBACK_SOURCE.replace("rating_max = 5", "rating_max = 10")
    run = make_run(tmp_path, mended)
    (count,) = validate.run(run, replay=True)
    assert (count.count_in, count.count_out, count.count_quarantined) == (2, 1, 1)
    assert [row["record_id"] for row in read(run, "staging", "feedback")] == ["1"]
    assert [row["record_id"] for row in read(run, "quarantine", "feedback")] == ["2"]


def test_fill_below_the_declared_share_is_flagged(tmp_path: Path):
    source = FEEDBACK_SOURCE + "expect = { fill = { rating = 0.9 } }\n"
    write_lines(tmp_path / "app.jsonl", *(line(id=str(n), stars=None) for n in range(30)))
    run = make_run(tmp_path, source)
    extract.run(run, "app")
    (count,) = validate.run(run)
    assert "feedback.rating is filled in 0%, declared at least 90%" in (count.detail or "")


def test_volume_outside_the_declared_bounds_is_flagged(tmp_path: Path):
    source = FEEDBACK_SOURCE + "expect = { rows_min = 10 }\n"
    write_lines(tmp_path / "app.jsonl", line(id="1"))
    counts = extract.run(make_run(tmp_path, source), "app")
    assert counts[0].detail == "volume: 1 records, declared at least 10"


def test_a_field_never_seen_is_told_once(tmp_path: Path):
    write_lines(tmp_path / "app.jsonl", line(id="1", brand_new=1))
    run = make_run(tmp_path)
    extract.run(run, "app")
    first = validate.run(run)
    write_lines(tmp_path / "app.jsonl", line(id="1", brand_new=1), line(id="2", brand_new=1))
    run = make_run(tmp_path)
    extract.run(run, "app")
    second = validate.run(run)
    assert "not used: feedback: brand_new" in (first[0].detail or "")
    assert "brand_new" not in (second[0].detail or "")


MAPPED = FEEDBACK_SOURCE.replace(
    'constants = { channel = "app_store", ',
    'values = { channel = { app = "app_store", web = "web_form" } }, '
    'unknown = { channel = "other" }, constants = { ',
).replace('body = "text"', 'body = "text", channel = "via"')


def test_a_value_no_map_knows_is_told_once_and_rejects_nothing(tmp_path: Path):
    told = []
    for number, via in enumerate(["fax; [red]x", "app", "fax; [red]x", "ann@example.com"]):
        write_lines(tmp_path / "app.jsonl", *(line(id=f"{number}{n}", via=via) for n in range(3)))
        run = make_run(tmp_path, MAPPED)
        extract.run(run, "app")
        (count,) = validate.run(run)
        assert (count.count_out, count.count_quarantined) == (3, 0)
        told.append(count.detail or "")
    head = "warning: app: values of feedback.channel that are not known became other: "
    assert told == [f"{head}fax, [red]x (3)", "", "", f"{head}<email> (3)"]
    channels = [row["channel"] for row in read(run, "staging", "feedback")]
    assert sorted(set(channels)) == ["app_store", "other"]


def test_a_mark_is_no_list_of_known_values(tmp_path: Path):
    source = MAPPED.replace('web = "web_form"', 'web = "app_store"')
    write_lines(tmp_path / "app.jsonl", line(id="1", via="fax"))
    run = make_run(tmp_path, source)
    extract.run(run, "app")
    (count,) = validate.run(run)
    assert count.detail is None


def test_very_many_values_are_cut(tmp_path: Path):
    write_lines(tmp_path / "app.jsonl", *(line(id=str(n), via=f"v{n}") for n in range(300)))
    run = make_run(tmp_path, MAPPED)
    extract.run(run, "app")
    (count,) = validate.run(run)
    assert (count.detail or "").endswith(" and 290 more")
    assert len(run.lake.staging_manifest()["known_values"]["app/feedback.channel"]) == 200


def test_more_rows_than_one_group_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(validate, "GROUP_ROWS", 1)
    for number in range(3):
        write_lines(tmp_path / "app.jsonl", line(id=f"g{number}"), line(id=f"b{number}", stars=9))
        extract.run(make_run(tmp_path), "app")
    run = make_run(tmp_path)
    (count,) = validate.run(run)
    assert (count.count_in, count.count_out, count.count_quarantined) == (6, 3, 3)
    assert sorted(row["record_id"] for row in read(run, "staging", "feedback")) == [
        "g0",
        "g1",
        "g2",
    ]


def test_stars_without_words_count_on_a_review_page(tmp_path: Path):
    source = FEEDBACK_SOURCE.replace("app_store", "review")
    write_lines(tmp_path / "app.jsonl", line(id="1", text=""), line(id="2", text="", stars=None))
    run = make_run(tmp_path, source)
    extract.run(run, "app")
    validate.run(run)
    assert [row["record_id"] for row in read(run, "staging", "feedback")] == ["1"]


@pytest.mark.parametrize("born", ["1988-02-30", "0001-01-01", "2999-01-01"])
def test_impossible_birthday_is_quarantined(tmp_path: Path, born: str):
    (tmp_path / "crm.csv").write_text(f"id,born\n1,{born}\n2,1988-02-29\n", "utf-8")
    run = make_run(
        tmp_path,
        '[[sources]]\nname = "crm"\nkind = "csv"\noptions = { path = "crm.csv", '
        'entity = "customers", columns = { source_customer_id = "id", birthday = "born" } }\n',
    )
    extract.run(run, "crm")
    validate.run(run)
    assert [row["record_id"] for row in read(run, "staging", "customers")] == ["2"]

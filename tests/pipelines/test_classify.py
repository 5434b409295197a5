"""classify: what is labelled, what is left alone, and files of other people."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from models.store import save_model, write_pointer
from models.training import default_labels, train
from pipelines import classify
from pipelines.context import Run, start_run
from pipelines.entities import FACTS, LABELS
from pipelines.errors import HearbackError, UsageError
from pipelines.settings import load_settings
from pipelines.storage import Home

NOW = datetime(2026, 11, 18, 4, 0, tzinfo=UTC)
TEXTS = [
    ("en", "The parcel arrived broken and nobody answers my mails"),
    ("zh", "请问什么时候发货？"),
    ("en", "Please add a dark mode"),
    ("zh", "质量很好，非常满意"),
]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the shipped model in use."""
    folder = tmp_path_factory.mktemp("models")
    model = train(default_labels())
    model.metadata["is_default"] = True
    save_model(model, folder)
    write_pointer(folder, model.version)
    return folder


@pytest.fixture
def run(tmp_path: Path, trained: Path) -> Run:
    config = tmp_path / "hearback.toml"
    config.write_text('[project]\nhome = "home"\n', encoding="utf-8")
    settings = load_settings(config)
    settings.home.mkdir(parents=True)
    (settings.home / "models").symlink_to(trained)
    return start_run(settings, now=NOW, run_id="r1")


def again(run: Run, run_id: str, **changes: Any) -> Run:
    return start_run(run.settings, now=NOW, run_id=run_id, **changes)


def write_facts(run: Run, days: dict[str, list[tuple[str, str]]], version: int) -> None:
    """Facts of whole days, as clean would commit them."""
    manifest = run.lake.facts_manifest()
    partitions = dict(manifest["partitions"].get("feedback", {}))
    for day, texts in days.items():
        rows = [
            {
                "feedback_id": md5(f"{day}-{place}".encode()).hexdigest(),
                "source": "shop" if place % 2 else "help",
                "language": language,
                "title": None,
                "body": body,
                "text_hash": md5((body or "").encode()).hexdigest(),
                "changed_in": version,
            }
            for place, (language, body) in enumerate(texts)
        ]
        table = pa.Table.from_pylist(rows, schema=FACTS["feedback"])
        folder = run.lake.layer_folder("intermediate", "feedback", day)
        partitions[day] = run.lake.write_table(folder, "facts", table, version)
    run.lake.write_facts_manifest(
        {"version": version, "consumed": version, "partitions": {"feedback": partitions}}
    )


def read_labels(run: Run) -> dict[str, pa.Table]:
    held = run.lake.labels_manifest()["partitions"]
    return {day: run.lake.read_table(entry) for day, entry in held.items()}


def test_run_labels_every_fact(run: Run) -> None:
    write_facts(run, {"2026-11-17": TEXTS[:2], "2026-11-18": TEXTS[2:]}, 1)
    counts = classify.run(run)
    labels = read_labels(run)
    assert [(count.source, count.count_in, count.count_out) for count in counts] == [
        ("help", 2, 2),
        ("shop", 2, 2),
    ]
    assert labels["2026-11-17"].schema.equals(LABELS)
    assert labels["2026-11-17"]["feedback_type"].to_pylist() == ["complaint", "question"]
    assert labels["2026-11-18"]["feedback_type"].to_pylist() == ["suggestion", "praise"]
    assert labels["2026-11-18"]["classified_at"].to_pylist() == [NOW, NOW]


def test_second_run_changes_nothing(run: Run) -> None:
    write_facts(run, {"2026-11-17": TEXTS}, 1)
    classify.run(run)
    before = run.lake.labels_manifest()
    assert classify.run(again(run, "r2")) == []
    assert run.lake.labels_manifest() == before


def test_only_changed_texts_of_changed_days_are_labelled(run: Run) -> None:
    write_facts(run, {"2026-11-17": TEXTS, "2026-11-18": TEXTS}, 1)
    classify.run(run)
    untouched = run.lake.labels_manifest()["partitions"]["2026-11-18"]
    write_facts(run, {"2026-11-17": [*TEXTS[:3], ("zh", "太差了，我要退款")]}, 2)
    counts = classify.run(again(run, "r2"))
    manifest = run.lake.labels_manifest()
    assert sum(count.count_in for count in counts) == 4
    assert sum(count.count_out for count in counts) == 1
    assert sum(count.count_unchanged for count in counts) == 3
    assert manifest["partitions"]["2026-11-18"] == untouched
    table = read_labels(run)["2026-11-17"]
    assert sorted(table["changed_in"].to_pylist()) == [1, 1, 1, 2]
    assert (
        "complaint" in table.filter(pc.equal(table["changed_in"], 2))["feedback_type"].to_pylist()
    )


def test_replaced_file_stays_for_readers_and_goes_later(run: Run) -> None:
    write_facts(run, {"2026-11-17": TEXTS}, 1)
    classify.run(run)
    first = Path(run.lake.url(run.lake.labels_manifest()["partitions"]["2026-11-17"]["path"]))
    for version in range(2, 7):
        write_facts(run, {"2026-11-17": [*TEXTS, ("en", f"text number {version}")]}, version)
        classify.run(again(run, f"r{version}"))
        if version == 2:
            assert first.exists()
    assert not first.exists()


def test_erased_fact_loses_its_label(run: Run) -> None:
    write_facts(run, {"2026-11-17": TEXTS}, 1)
    classify.run(run)
    write_facts(run, {"2026-11-17": TEXTS[:3]}, 2)
    classify.run(again(run, "r2"))
    assert len(read_labels(run)["2026-11-17"]) == 3


def test_new_model_labels_everything_again(run: Run, tmp_path: Path) -> None:
    write_facts(run, {"2026-11-17": TEXTS}, 1)
    classify.run(run)
    old = run.lake.labels_manifest()["model_version"]
    (run.home.models).unlink()
    labels = tmp_path / "more.csv"
    labels.write_text(
        "text,language,feedback_type,need,sentiment,priority\n"
        "the gizmo wobbles,en,complaint,technical,negative,normal\n",
        encoding="utf-8",
    )
    trained = classify.train_model(run.home, [labels])
    classify.promote_model(run.home, trained["model_version"])
    counts = classify.run(again(run, "r2"))
    assert trained["model_version"] != old
    assert sum(count.count_out for count in counts) == 4
    assert set(read_labels(run)["2026-11-17"]["model_version"].to_pylist()) == {
        trained["model_version"]
    }


def test_full_refresh_labels_everything_again(run: Run) -> None:
    write_facts(run, {"2026-11-17": TEXTS}, 1)
    classify.run(run)
    counts = classify.run(again(run, "r2", full_refresh=True))
    assert sum(count.count_out for count in counts) == 4


def test_leftovers_of_a_killed_run_are_removed(run: Run) -> None:
    write_facts(run, {"2026-11-17": TEXTS}, 1)
    stray = Path(run.lake.url("classified/date=2026-11-16/labels-x.parquet"))
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"half")
    classify.run(run)
    assert not stray.exists()


def test_title_and_body_are_read_together(run: Run) -> None:
    write_facts(run, {"2026-11-17": [("en", "since yesterday")]}, 1)
    entry = run.lake.facts_manifest()["partitions"]["feedback"]["2026-11-17"]
    table = run.lake.read_table(entry)
    place = table.schema.get_field_index("title")
    table = table.set_column(place, "title", pa.array(["App crashes when I log in"]))
    pq.write_table(table, run.lake.url(entry["path"]))
    classify.run(run)
    assert read_labels(run)["2026-11-17"]["feedback_type"].to_pylist() == ["complaint"]


def test_a_rating_without_words_has_a_label_of_its_own(run: Run) -> None:
    write_facts(run, {"2026-11-17": [("en", "fine"), ("en", None), ("zh", None)]}, 1)  # type: ignore[list-item]
    classify.run(run)
    labels = read_labels(run)["2026-11-17"]
    assert labels["is_unsure"].to_pylist()[1:] == [True, True]


# Files --------------------------------------------------------------------------------------------


def write_csv(path: Path, rows: list[dict[str, str]], encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def home(run: Run) -> Home:
    return run.home


ODD_TEXTS = [
    "",
    "😀",
    "a\nb",
    "\u200b\u200d",
    "שלום עולם",
    "ok" * 5000,
    'say "hi", please',
    "差评！",
]


def test_csv_keeps_order_and_every_row(home: Home, tmp_path: Path) -> None:
    texts = [f"{text} {place}" for place in range(50) for _, text in TEXTS] + ODD_TEXTS
    rows = [{"nr": f"k{place}", "comment": text} for place, text in enumerate(texts)]
    source = write_csv(tmp_path / "in.csv", rows)
    count = classify.classify_file(home, source, tmp_path / "out.csv", id_column="nr")
    labelled = read_csv(tmp_path / "out.csv")
    assert count == len(texts)
    assert [row["id"] for row in labelled] == [row["nr"] for row in rows]
    assert list(labelled[0]) == list(classify.FILE_COLUMNS)
    assert labelled[0]["feedback_type"] == "complaint"
    assert labelled[-len(ODD_TEXTS)]["is_unsure"] == "true"


def test_rows_are_streamed_in_batches(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classify, "BATCH_ROWS", 3)
    lines = [json.dumps({"text": text}) for _, text in TEXTS * 5]
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(lines), encoding="utf-8")
    for name in ("out.jsonl", "out.parquet"):
        assert classify.classify_file(home, source, tmp_path / name) == 20
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [str(number) for number in range(1, 21)]
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == rows
    assert [row["feedback_type"] for row in rows[:4]] == [
        "complaint",
        "question",
        "suggestion",
        "praise",
    ]


def test_parquet_in(home: Home, tmp_path: Path) -> None:
    table = pa.table({"id": [7, 8], "body": ["Great, thank you!", None], "other": ["x", "y"]})
    pq.write_table(table, tmp_path / "in.parquet")
    classify.classify_file(home, tmp_path / "in.parquet", tmp_path / "out.csv")
    assert [(row["id"], row["feedback_type"]) for row in read_csv(tmp_path / "out.csv")] == [
        ("7", "praise"),
        ("8", "other"),
    ]


def test_spreadsheet_encoding_of_china(home: Home, tmp_path: Path) -> None:
    source = write_csv(
        tmp_path / "in.csv", [{"编号": "1", "评论": "质量很差，要求退款"}], "gb18030"
    )
    classify.classify_file(home, source, tmp_path / "out.csv")
    row = read_csv(tmp_path / "out.csv")[0]
    assert (row["language"], row["feedback_type"]) == ("zh", "complaint")


def test_given_language_wins(home: Home, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", [{"text": "ok", "lang": "de"}])
    classify.classify_file(home, source, tmp_path / "out.csv", language_column="lang")
    row = read_csv(tmp_path / "out.csv")[0]
    assert (row["language"], row["is_unsure"]) == ("de", "true")


def test_empty_file_gives_a_header(home: Home, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,text\n", encoding="utf-8")
    assert classify.classify_file(home, tmp_path / "in.csv", tmp_path / "out.csv") == 0
    assert (tmp_path / "out.csv").read_text().startswith('"id","language"')


@pytest.mark.parametrize(
    ("name", "content", "options", "error", "words"),
    [
        ("in.csv", b"id,txet\n1,a\n", {}, UsageError, "--text-column 'txet'"),
        ("in.csv", b"id,text\n1,a\n", {"text_column": "texts"}, UsageError, "'text'"),
        ("in.csv", b"text,comment\n1,a\n", {}, UsageError, "'text' and 'comment'"),
        ("in.csv", b"", {}, UsageError, "empty"),
        ("in.csv", b"\x00\x01\x02", {}, UsageError, "no text file"),
        ("in.csv", b"text\n\xff\xff\xff", {}, UsageError, "UTF-8"),
        ("in.jsonl", b'{"text": "a"}\n{oops\n', {}, HearbackError, "line 2"),
        ("in.jsonl", b"[1]\n", {}, HearbackError, "line 1"),
        ("in.parquet", b"PAR1 no", {}, HearbackError, "cannot read"),
        ("in.docx", b"x", {}, UsageError, "unknown kind"),
    ],
)
def test_faulty_input_is_refused(
    home: Home,
    tmp_path: Path,
    name: str,
    content: bytes,
    options: dict[str, str],
    error: type[HearbackError],
    words: str,
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error) as caught:
        classify.classify_file(home, tmp_path / name, tmp_path / "out.csv", **options)
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert not (tmp_path / "out.csv").exists()


def test_missing_input_and_unknown_output(home: Home, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        classify.classify_file(home, tmp_path / "no.csv", tmp_path / "out.csv")
    source = write_csv(tmp_path / "in.csv", [{"text": "a"}])
    with pytest.raises(UsageError, match="unknown kind"):
        classify.classify_file(home, source, tmp_path / "out.docx")


def label(text: str, language: str, labels: str) -> dict[str, str]:
    feedback_type, need, sentiment, priority = labels.split()
    return {
        "text": text,
        "language": language,
        "feedback_type": feedback_type,
        "need": need,
        "sentiment": sentiment,
        "priority": priority,
    }


# Models -------------------------------------------------------------------------------------------


def test_evaluate_measures_on_given_labels(home: Home, tmp_path: Path) -> None:
    labels = write_csv(
        tmp_path / "truth.csv",
        [
            label(
                "Broken on arrival, I want a refund", "en", "complaint after_sales negative high"
            ),
            label("太好了，谢谢", "zh", "praise other positive low"),
        ],
    )
    measures = classify.evaluate_model(home, labels)
    chosen = measures[(measures["head"] == "feedback_type") & (measures["label"] == "macro")]
    assert chosen.set_index("language").loc["all", "accuracy"] == 1.0
    assert set(measures["language"]) == {"all", "en", "zh"}


def test_promote_refuses_what_is_not_stored(home: Home) -> None:
    with pytest.raises(UsageError, match=r"stored: 1\.0-"):
        classify.promote_model(home, "9.9-none")


def test_faulty_labels_are_named(home: Home, tmp_path: Path) -> None:
    labels = write_csv(
        tmp_path / "labels.csv",
        [
            label("x", "en", "rant other neutral low"),
        ],
    )
    with pytest.raises(HearbackError, match="row 1: feedback_type 'rant'"):
        classify.train_model(home, [labels])


def test_first_need_trains_the_shipped_model(tmp_path: Path) -> None:
    config = tmp_path / "hearback.toml"
    config.write_text('[project]\nhome = "home"\n', encoding="utf-8")
    home = Home(load_settings(config))
    version = classify.load_predictor(home).model.version
    assert (home.models / "current").read_text(encoding="utf-8").strip() == version
    assert classify.load_predictor(home).model.version == version

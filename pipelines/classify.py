"""classify: labels for facts whose text or model changed, and for any file with a text column.

Labels of a created day live in one file. A day is looked at again when its facts were written
again, or when the model changed; rows that already have a label for the same text by the same model
keep it. Models are read through `models` only; this module knows where they are stored.
"""

from __future__ import annotations

import difflib
import itertools
import json
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from models.errors import ModelError
from pipelines.context import Run, StepCount, timed_step
from pipelines.entities import LABELS
from pipelines.errors import HearbackError, UsageError
from pipelines.storage import FileEntry, Home, LabelsManifest, Lake, explain_disk_errors

if TYPE_CHECKING:
    import pandas as pd

    from models.prediction import Predictor

STEP = "classify"
KEEP_DAYS, KEEP_VERSIONS = 7, 3  # how long replaced files stay for readers that hold them
BATCH_ROWS = 20_000
GROUP_ROWS = 1 << 16  # of a day's file, labelled and written at once
WORKERS = 2
FACT_COLUMNS = ["feedback_id", "source", "language", "title", "body", "text_hash"]
# Columns worth a dictionary, since their values come again, and those whose bounds readers use.
_REPEATED = [
    *("model_version", "feedback_type", "need", "sentiment", "priority"),
    *("priority_reasons.list.element", "keywords.list.element", "classified_at", "changed_in"),
]
_BOUNDED = ["changed_in"]
FILE_COLUMNS = (
    "id",
    "language",
    "feedback_type",
    "feedback_type_score",
    "need",
    "need_score",
    "sentiment",
    "sentiment_score",
    "priority",
    "priority_reasons",
    "model_version",
    "is_unsure",
    "keywords",
    "summary",
)
TEXT_NAMES = (
    *("text", "body", "comment", "comments", "review", "review_text", "content", "message"),
    *("feedback", "description", "verbatim", "tweet", "内容", "评论", "评论内容", "评价", "反馈"),
    *("留言", "文本", "正文"),
)
ID_NAMES = ("id", "record_id", "feedback_id", "ticket_id", "review_id", "uuid", "编号")
_LIST_SEPARATOR = ";"
_SNIFFED_BYTES = 1 << 20


# The step -----------------------------------------------------------------------------------------


def run(run: Run) -> list[StepCount]:
    """Label what changed; returns counts by source of the rows of days that were looked at."""
    lake = run.lake
    with timed_step(run, STEP) as counts:
        facts = lake.facts_manifest()
        labels = lake.labels_manifest()
        _remove_strays(lake, labels)
        days = facts["partitions"].get("feedback", {})
        is_behind = run.full_refresh or facts["version"] != labels["consumed"]
        if not days and not is_behind:
            return counts
        predictor = load_predictor(run.home)
        is_new_model = run.full_refresh or predictor.model.version != labels["model_version"]
        if not is_behind and not is_new_model:
            return counts
        labeller = _DayLabeller(run, predictor, labels["version"] + 1)
        partitions: dict[str, FileEntry] = {}
        behind: list[tuple[str, FileEntry, FileEntry | None]] = []
        for day, entry in sorted(days.items()):
            known = labels["partitions"].get(day)
            if known and not is_new_model and entry["version"] <= labels["consumed"]:
                partitions[day] = known
            else:
                behind.append((day, entry, known))
        # NumPy and Arrow let go of the interpreter's lock for most of a day's work.
        with ThreadPoolExecutor(WORKERS) as pool:
            written = pool.map(lambda task: labeller.label(*task), behind)
            partitions |= {day: entry for (day, _, _), entry in zip(behind, written, strict=True)}
        _commit(run, labels, partitions, facts["version"], predictor.model.version)
        counts.extend(labeller.totals[source] for source in sorted(labeller.totals))
        return counts


def _remove_strays(lake: Lake, labels: LabelsManifest) -> None:
    """Remove what a killed run left behind."""
    held = [*labels["partitions"].values(), *labels.get("superseded", [])]
    lake.remove_strays("classified", held)


def _commit(
    run: Run,
    labels: LabelsManifest,
    partitions: dict[str, FileEntry],
    consumed: int,
    model_version: str,
) -> None:
    """Write the manifest; its version moves only if a file changed."""
    named = {entry["path"] for entry in partitions.values()}
    replaced = [entry for entry in labels["partitions"].values() if entry["path"] not in named]
    is_changed = bool(replaced) or partitions != labels["partitions"]
    version = labels["version"] + is_changed
    oldest = run.now - timedelta(days=KEEP_DAYS)
    superseded = [
        entry
        for entry in labels.get("superseded", [])
        if version - entry["superseded_in"] <= KEEP_VERSIONS
        and datetime.fromisoformat(entry["superseded_at"]) >= oldest
    ]
    superseded += [
        {**entry, "superseded_in": version, "superseded_at": run.now.isoformat()}
        for entry in replaced
    ]
    manifest: LabelsManifest = {
        "version": version,
        "consumed": consumed,
        "model_version": model_version,
        "partitions": partitions,
        "superseded": superseded,
    }
    run.lake.write_labels_manifest(manifest)
    _remove_strays(run.lake, manifest)


class _DayLabeller:
    """Labels days with one model; `totals` are the counts by source."""

    def __init__(self, run: Run, predictor: Predictor, number: int) -> None:
        self._run = run
        self._predictor = predictor
        self._number = number
        self._lock = threading.Lock()
        self.totals: dict[str, StepCount] = {}

    def label(self, day: str, facts: FileEntry, known: FileEntry | None) -> FileEntry:
        """Write a day's labels anew, or keep its file when it would say the same.

        May be called by several threads.
        """
        import pyarrow.parquet as pq

        lake = self._run.lake
        reusable = None if self._run.full_refresh else known
        kept = _read_valid_labels(lake, reusable, self._predictor.model.version)
        kept_keys = _label_keys(kept) if len(kept) else None
        new = lake.new_file(lake.layer_folder("classified", None, day), "labels")
        rows = labelled = 0
        try:
            with (
                explain_disk_errors(new.relative),
                lake.fs.open(f"{lake.root}/{facts['path']}", "rb") as file,
                lake.fs.open(new.temporary, "wb") as sink,
                pq.ParquetWriter(
                    sink,
                    LABELS,
                    compression="zstd",
                    use_dictionary=_REPEATED,
                    write_statistics=_BOUNDED,
                ) as writer,
            ):
                for batch in pq.ParquetFile(file).iter_batches(GROUP_ROWS, columns=FACT_COLUMNS):
                    table = pa.Table.from_batches([batch])
                    fresh = table
                    if kept_keys is not None:
                        place = pc.index_in(_label_keys(table), kept_keys)
                        fresh = table.filter(pc.is_null(place))
                    written = self._label_rows(fresh)
                    if len(fresh) < len(table):
                        written = pa.concat_tables([kept.take(place.drop_null()), written])
                    writer.write_table(written)
                    self._count(table["source"], fresh["source"])
                    rows += len(table)
                    labelled += len(fresh)
                    self._run.progress(STEP, len(table))
        except BaseException:
            new.discard()
            raise
        if known and not labelled and rows == known["rows"]:
            new.discard()
            return known
        return new.commit(rows, self._number)

    def _label_rows(self, facts: pa.Table) -> pa.Table:
        # Arrow 26 leaves out a row whose values are all NULL when it skips NULLs: fill them first.
        parts = [pc.fill_null(facts[name], "").combine_chunks() for name in ("title", "body")]
        said = pc.utf8_trim(pc.binary_join_element_wise(*parts, "\n"), characters="\n")
        labels = self._predictor.predict(said, facts["language"].combine_chunks())
        count = len(facts)
        instant = pa.scalar(self._run.now, LABELS.field("classified_at").type)
        columns = {
            **{name: labels[name] for name in labels.column_names},
            "feedback_id": facts["feedback_id"],
            "text_hash": facts["text_hash"],
            "model_version": pa.repeat(self._predictor.model.version, count),
            "classified_at": pa.repeat(instant, count),
            "changed_in": pa.repeat(pa.scalar(self._number, pa.int64()), count),
        }
        table = pa.table([columns[name] for name in LABELS.names], names=LABELS.names)
        return table.cast(LABELS)

    def _count(self, sources: pa.ChunkedArray, labelled: pa.ChunkedArray) -> None:
        """Count rows by source: all of them, and those that were labelled."""
        seen, done = (
            {part["values"]: part["counts"] for part in pc.value_counts(names).to_pylist()}
            for names in (sources, labelled)
        )
        with self._lock:
            for source, count in seen.items():
                total = self.totals.setdefault(
                    source or "", StepCount(STEP, source=source, entity="feedback")
                )
                total.count_in += count
                total.count_out += done.get(source, 0)
                total.count_unchanged += count - done.get(source, 0)


def _read_valid_labels(lake: Lake, known: FileEntry | None, version: str) -> pa.Table:
    if known is None:
        return LABELS.empty_table()
    table = lake.read_table(known).select(LABELS.names).cast(LABELS)
    return table.filter(pc.equal(table["model_version"], version))


def _label_keys(table: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(
        table["feedback_id"], pc.fill_null(table["text_hash"], ""), "\x1f"
    )


# Models -------------------------------------------------------------------------------------------


@contextmanager
def translate_model_errors() -> Iterator[None]:
    """Turn what models complain about into what people see."""
    try:
        yield
    except ModelError as error:
        raise HearbackError(error.message) from error


def load_predictor(home: Home) -> Predictor:
    """The model in use, trained from the labels that come with Hearback on first need."""
    from models.prediction import Predictor
    from models.store import load_current_model

    with translate_model_errors(), explain_disk_errors(str(home.models)):
        return Predictor(load_current_model(home.models))


def train_model(
    home: Home,
    labels: Sequence[Path] = (),
    output: Path | None = None,
    *,
    with_shipped_labels: bool = True,
) -> dict[str, Any]:
    """Train from the shipped labels and the given CSV files, and store the model; not yet in use.

    Where a text occurs twice the later file's labels count. Returns the model's metadata with
    "path", the folder it was written to.
    """
    import pandas as pd

    from models.store import save_model
    from models.training import default_labels, read_labels, train

    with translate_model_errors(), explain_disk_errors(str(output or home.models)):
        frames = [default_labels()] if with_shipped_labels or not labels else []
        frames += [read_labels(path, str(path)) for path in labels]
        frame = pd.concat(frames, ignore_index=True).drop_duplicates("text", keep="last")
        model = train(frame)
        return {**model.metadata, "path": str(save_model(model, output or home.models))}


def evaluate_model(home: Home, labels: Path, version: str | None = None) -> pd.DataFrame:
    """Measures of a stored model (the one in use) on labels it was not trained on.

    Columns: model_version, head, language, label, count, accuracy, precision, recall, f1, ece,
    brier; one row per head, language ("all" too) and class, and one with label "macro".
    """
    from models.evaluation import evaluate_predictions
    from models.prediction import Predictor
    from models.store import load_model
    from models.training import HEADS, read_labels

    with translate_model_errors():
        predictor = (
            Predictor(load_model(home.models / version)) if version else load_predictor(home)
        )
        truth = read_labels(labels, str(labels))
        if truth.empty:
            raise UsageError(f"{labels} has no rows; give labelled texts to evaluate on")
        predicted = predictor.predict(
            truth["text"].tolist(), pa.array(truth["language"], pa.string())
        )
        measures = evaluate_predictions(truth, predicted.to_pandas(), HEADS)
    measures.insert(0, "model_version", predictor.model.version)
    return measures


def promote_model(home: Home, version: str) -> None:
    """Put a stored model into use; the next `classify` labels everything with it."""
    from models.store import list_versions, write_pointer

    stored = list_versions(home.models)
    if version not in stored:
        raise UsageError(
            f"no model {version!r} in {home.models}; stored: {', '.join(stored) or 'none'}"
        )
    with translate_model_errors(), explain_disk_errors(str(home.models)):
        write_pointer(home.models, version)


# Any file -----------------------------------------------------------------------------------------


def classify_file(
    home: Home,
    source: Path,
    output: Path,
    *,
    text_column: str | None = None,
    id_column: str | None = None,
    language_column: str | None = None,
) -> int:
    """Label every row of a CSV, JSONL or Parquet file into another; returns the number of rows.

    Rows keep their order; without an id column they are numbered from 1. The output has
    FILE_COLUMNS; in CSV the items of a list are joined with ";". The file appears whole or not at
    all.
    """
    columns, batches = open_texts(source)
    text = choose_column(columns, text_column, TEXT_NAMES, "--text-column", source)
    if text is None:
        raise UsageError(_explain_no_text_column(columns, source))
    identity = choose_column(columns, id_column, ID_NAMES, "--id-column", source)
    language = choose_column(columns, language_column, (), "--language-column", source)
    predictor = load_predictor(home)
    done = 0
    wanted = [name for name in (text, identity, language) if name]
    with _open_output(output) as write:
        for batch in batches(wanted):
            count = len(batch)
            ids = batch[identity] if identity else pa.array(range(done + 1, done + count + 1))
            write(_label_rows(predictor, batch[text], ids, batch[language] if language else None))
            done += count
    return done


def _label_rows(
    predictor: Predictor, texts: Any, ids: Any, languages: pa.ChunkedArray | None
) -> pa.Table:
    from models.language import detect_language

    said = texts.combine_chunks()
    given = (
        languages.combine_chunks() if languages is not None else pa.nulls(len(said), pa.string())
    )
    spoken = pc.coalesce(given, detect_language(said))
    labels = predictor.predict(said, spoken)
    columns = {
        **{name: labels[name] for name in labels.column_names},
        "id": pc.cast(ids, pa.string()),
        "language": spoken,
        "model_version": pa.repeat(predictor.model.version, len(said)),
    }
    return pa.table([columns[name] for name in FILE_COLUMNS], names=list(FILE_COLUMNS))


def choose_column(
    columns: Sequence[str],
    wanted: str | None,
    usual: Sequence[str],
    option: str,
    source: Path,
) -> str | None:
    """The wanted column, or the only one with a usual name; None if there is none.

    UsageError if the wanted one is missing (it names the nearest), or if several might be meant.
    """
    if wanted is not None:
        if wanted in columns:
            return wanted
        near = difflib.get_close_matches(wanted.lower(), [name.lower() for name in columns], 1, 0.0)
        nearest = [name for name in columns if near and name.lower() == near[0]]
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise UsageError(f"{source} has no column {wanted!r}{hint} Set {option}")
    named = [name for name in columns if name.strip().lower() in usual]
    if len(named) > 1 and usual == ID_NAMES:
        named = sorted(named, key=lambda name: usual.index(name.strip().lower()))[:1]
    if len(named) > 1:
        raise UsageError(f"{source}: {' and '.join(map(repr, named))} may hold it; set {option}")
    return named[0] if named else None


def _explain_no_text_column(columns: Sequence[str], source: Path) -> str:
    lowered = [name.lower() for name in columns]
    scored = [
        (max(difflib.SequenceMatcher(None, name, usual).ratio() for usual in TEXT_NAMES), place)
        for place, name in enumerate(lowered)
    ]
    nearest = f", perhaps --text-column {columns[max(scored)[1]]!r}" if scored else ""
    return (
        f"{source}: which column holds the text? Set --text-column{nearest} "
        f"(there are: {', '.join(columns) or 'none'})"
    )


Batches = Any  # a callable: column names -> iterator of tables with them, as strings


def open_texts(source: Path) -> tuple[list[str], Batches]:
    """Columns of a file and a function that streams some of them as strings."""
    if not source.exists():
        raise UsageError(f"{source} does not exist; give a CSV, JSONL or Parquet file")
    if source.is_dir():
        raise UsageError(f"{source} is a folder; give one CSV, JSONL or Parquet file")
    kind = source.suffix.lower()
    if kind in (".csv", ".tsv", ".txt"):
        return _open_csv(source, "\t" if kind == ".tsv" else ",")
    if kind in (".jsonl", ".ndjson", ".json"):
        return _open_jsonl(source)
    if kind in (".parquet", ".pq"):
        return _open_parquet(source)
    raise UsageError(f"{source}: unknown kind {kind!r}; give a .csv, .jsonl or .parquet file")


def _open_csv(source: Path, delimiter: str) -> tuple[list[str], Batches]:
    from pyarrow import csv

    encoding = _sniff_encoding(source)

    def open_reader(columns: list[str] | None) -> Any:
        return csv.open_csv(
            source,
            read_options=csv.ReadOptions(encoding=encoding, block_size=4 << 20),
            parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns or [], pa.string()),
                strings_can_be_null=False,
            ),
        )

    def batches(columns: list[str]) -> Iterator[pa.Table]:
        try:
            for batch in open_reader(columns):
                yield from _cut(pa.Table.from_batches([batch]))
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise _unreadable(source, error) from error

    try:
        with open_reader(None) as reader:
            names = list(reader.schema.names)
    except pa.ArrowInvalid as error:
        if not source.stat().st_size or "Empty CSV" in str(error):
            raise UsageError(f"{source} is empty; a CSV needs a line of column names") from error
        raise _unreadable(source, error) from error
    return names, batches


def _sniff_encoding(source: Path) -> str:
    """UTF-8, or the encoding that spreadsheets in China write."""
    with source.open("rb") as file:
        head = file.read(_SNIFFED_BYTES)
    if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError(f"{source} is no text file; give a UTF-8 CSV")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(head) == _SNIFFED_BYTES:
        head = head[: head.rfind(b"\n") + 1] or head
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        try:
            head.decode("gb18030")
        except UnicodeDecodeError:
            raise UsageError(f"{source} is neither UTF-8 nor GB18030; save it as UTF-8") from None
        return "gb18030"
    return "utf-8"


def _open_jsonl(source: Path) -> tuple[list[str], Batches]:
    def read_objects() -> Iterator[dict[str, Any]]:
        with source.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise HearbackError(
                        f"{source}, line {number}: not JSON ({error}); mend or remove the line"
                    ) from error
                if not isinstance(record, dict):
                    raise HearbackError(
                        f"{source}, line {number}: not an object; one JSON object a line is needed"
                    )
                yield record

    def batches(columns: list[str]) -> Iterator[pa.Table]:
        objects = read_objects()
        while records := list(itertools.islice(objects, BATCH_ROWS)):
            yield pa.table(
                {
                    name: pa.chunked_array([[_as_text(record.get(name)) for record in records]])
                    if any(record.get(name) is not None for record in records)
                    else pa.chunked_array([pa.nulls(len(records), pa.string())])
                    for name in columns
                }
            )

    names: dict[str, None] = {}
    for record in itertools.islice(read_objects(), 100):
        names.update(dict.fromkeys(record))
    return list(names), batches


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        # JSON may hold half of a surrogate pair, which no UTF-8 file can.
        return value and value.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(value, ensure_ascii=False)


def _open_parquet(source: Path) -> tuple[list[str], Batches]:
    import pyarrow.parquet as pq

    def batches(columns: list[str]) -> Iterator[pa.Table]:
        with pq.ParquetFile(source) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                table = pa.Table.from_batches([batch])
                try:
                    yield pa.table(
                        [table[name].cast(pa.string()) for name in columns], names=columns
                    )
                except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
                    raise _unreadable(source, error) from error

    try:
        with pq.ParquetFile(source) as file:
            return list(file.schema_arrow.names), batches
    except pa.ArrowInvalid as error:
        raise _unreadable(source, error) from error


def _cut(table: pa.Table) -> Iterator[pa.Table]:
    for begin in range(0, len(table), BATCH_ROWS):
        yield table.slice(begin, BATCH_ROWS)


def _unreadable(source: Path, error: Exception) -> HearbackError:
    return HearbackError(f"cannot read {source}: {str(error).splitlines()[0]}; mend the file")


@contextmanager
def _open_output(output: Path) -> Iterator[Any]:
    """Yield a function that writes tables; the file takes its place when all are written."""
    import pyarrow.parquet as pq
    from pyarrow import csv

    kind = output.suffix.lower()
    if kind not in (".csv", ".jsonl", ".ndjson", ".parquet", ".pq"):
        raise UsageError(f"{output}: unknown kind {kind!r}; write to .csv, .jsonl or .parquet")
    aside = output.with_name(f".{output.name}.{os.getpid()}.new")
    writers: list[Any] = []
    empty = pa.schema([pa.field(name, pa.string()) for name in FILE_COLUMNS])
    try:
        with explain_disk_errors(str(output)), aside.open("wb") as sink:

            def write(table: pa.Table) -> None:
                if kind in (".jsonl", ".ndjson"):
                    for row in table.to_pylist():
                        sink.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
                    return
                flat = _join_lists(table) if kind == ".csv" else table
                if not writers:
                    make = csv.CSVWriter if kind == ".csv" else pq.ParquetWriter
                    writers.append(make(sink, flat.schema))
                writers[0].write_table(flat)

            yield write
            if not writers and kind not in {".jsonl", ".ndjson"}:
                write(empty.empty_table())
            for writer in writers:
                writer.close()
        os.replace(aside, output)
    finally:
        aside.unlink(missing_ok=True)


def _join_lists(table: pa.Table) -> pa.Table:
    columns = [
        pc.binary_join(column, _LIST_SEPARATOR) if pa.types.is_list(column.type) else column
        for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)

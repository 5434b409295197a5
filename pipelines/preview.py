"""What a source would give: captured, judged, redacted and labelled, in a folder that is removed.

The steps extract and validate run as they are, on the first records of the source; their rows are
then cleaned, redacted and labelled by the functions that clean and classify use. Neither Airflow
nor Great Expectations is started, and nothing is kept.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import clean, extract, text, validate
from pipelines.classify import load_predictor
from pipelines.context import Run, ignore_progress, start_run
from pipelines.entities import LINEAGE, SCHEMAS
from pipelines.expectations import PlainJudge
from pipelines.redaction import redact_text, redact_texts
from pipelines.settings import Settings, Source
from pipelines.sources.base import Batch
from pipelines.sources.http import stay_brief
from pipelines.storage import Home, connect_duckdb

if TYPE_CHECKING:
    from models.prediction import Predictor
    from pipelines.context import Progress, StepCount

SECONDS = 20.0  # a source that has given something is not asked for more after this
MOST_TIMES = 5  # records of all kinds, in times of those that are wanted of one
SHOWN = 3
# What people say stands in these; the first that has rows is shown record by record.
TELLING = ("feedback", "messages", "survey_responses", "cases", "case_events")
SAID = {
    "feedback": ("title", "body"),
    "messages": ("body",),
    "survey_responses": ("comment",),
    "cases": ("subject",),
}
INSTANTS = {"feedback": "created_at", "messages": "created_at", "survey_responses": "answered_at"}
IDS = {
    "feedback": "source_record_id",
    "messages": "source_record_id",
    "survey_responses": "source_response_id",
}
HIDDEN = {"name": "<name>", "author": "<name>", "email": "<email>", "phone": "<phone>"}
PERSONAL_KEY = re.compile(
    r"(first|last|full|user|display|nick).?name|e.?mail|phone|mobile|address|author|姓名|昵称|电话|手机"
    r"|邮箱|地址",
    re.IGNORECASE,
)
TAG = re.compile(r"<(email|phone|id_card|bank_card|ip_address)>")


@dataclass(frozen=True)
class Pair:
    """A text before and after what is personal was taken out."""

    kinds: tuple[str, ...]
    before: str
    after: str


@dataclass
class Preview:
    """What a source would give. ``rows``: labelled texts; ``samples``: records, before and after.

    ``captured`` counts records by raw entity, ``staged`` rows by canonical one.
    """

    source: Source
    captured: dict[str, int] = field(default_factory=dict)
    staged: dict[str, int] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    redacted: dict[str, int] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_cut: bool = False
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "source": self.source.name,
            "kind": self.source.kind,
            "options": self.source.options,
            "captured": self.captured,
            "is_cut": self.is_cut,
            "staged": self.staged,
            "rows": self.rows,
            "samples": self.samples,
            "quarantined": self.quarantined,
            "redacted": self.redacted,
            "pairs": [vars(pair) for pair in self.pairs],
            "notes": self.notes,
            "seconds": round(self.seconds, 2),
            "stored": False,
        }


def preview_source(
    settings: Settings, source: Source, *, most: int = 1000, progress: Progress = ignore_progress
) -> Preview:
    """Capture, judge, redact and label the first records of a source; nothing is kept.

    HearbackError if a run would fail on it.
    """
    began = time.monotonic()
    found = Preview(source)
    with (
        open_nowhere(settings, source, progress) as run,
        stay_brief(),
        ThreadPoolExecutor(1) as pool,
    ):
        # What the model needs takes longer to import than the records take to read.
        predictor = pool.submit(load_predictor, run.home)
        sampler = Sampler(source, most)
        counts = extract.run(run, source.name, choose=sampler.choose)
        found.captured = {c.entity: c.count_in for c in counts if c.entity and c.count_in}
        found.is_cut = sampler.is_cut
        counts = validate.run(run, make_judge=PlainJudge)
        found.notes = read_notes(counts)
        tables = read_staged(run)
        found.staged = {entity: table.num_rows for entity, table in tables.items()}
        found.quarantined = read_quarantined(run)
        redact_all(found, tables, settings)
        found.samples = show_samples(run, tables)
        found.rows = label_rows(tables, predictor.result())
    found.seconds = time.monotonic() - began
    return found


@contextmanager
def open_nowhere(settings: Settings, source: Source, progress: Progress) -> Iterator[Run]:
    """A run whose home is a folder that is removed; only the model in use comes from elsewhere."""
    with tempfile.TemporaryDirectory(prefix="hearback-try-") as folder:
        os.symlink(find_models(settings), Path(folder) / "models")
        project = settings.project.model_copy(update={"home": folder, "lake": None})
        alone = settings.model_copy(update={"project": project, "sources": [source]})
        yield replace(start_run(alone), progress=progress)


def find_models(settings: Settings) -> Path:
    """The models of the home, if one is in use there; else a folder that keeps the shipped one."""
    own = Home(settings).models
    if (own / "current").exists():
        return own
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = cache / "hearback" / "models"
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="hearback-models-"))
    return kept


class Sampler:
    """Ends a pull once it has given enough of what people say, or has taken long enough."""

    def __init__(self, source: Source, most: int) -> None:
        from pipelines.sources import find_kind

        self.most = most
        kind = find_kind(source.kind)
        self.is_local = kind.is_local
        mappings = kind.mappings(source)
        telling = {m.raw for m in mappings if m.entity in TELLING}
        self.telling = telling or {m.raw for m in mappings}
        self.counts: Counter[str] = Counter()
        self.is_cut = False

    def choose(self, pull: Iterator[Batch]) -> Iterator[Batch]:
        deadline = time.monotonic() + SECONDS
        try:
            for batch in pull:
                room = self.most - self.counts[batch.entity]
                size = count_records(batch)
                self.counts[batch.entity] += size
                self.is_cut = self.is_cut or size > room
                if room > 0:
                    yield replace(batch, records=batch.records[:room])
                is_late = time.monotonic() > deadline and self.counts.total() > 0
                # To learn whether there is more would cost a request, but not of a file.
                if is_late or (self.has_enough() and (self.is_cut or not self.is_local)):
                    self.is_cut = True
                    return
        finally:
            close: Callable[[], None] = getattr(pull, "close", lambda: None)
            close()

    def has_enough(self) -> bool:
        full = [name for name in self.telling if self.counts[name] >= self.most]
        return bool(full) or self.counts.total() >= MOST_TIMES * self.most


def count_records(batch: Batch) -> int:
    return len(batch.records)


def read_notes(counts: list[StepCount]) -> list[str]:
    return [note for c in counts if c.detail for note in c.detail.split("; ")]


def read_staged(run: Run) -> dict[str, pa.Table]:
    """The staged rows by entity, those with what people say first."""
    files = run.lake.staging_manifest()["files"]
    order = [*(name for name in TELLING if name in files), *(n for n in files if n not in TELLING)]
    tables = {entity: pa.concat_tables(map(run.lake.read_table, files[entity])) for entity in order}
    return {entity: table for entity, table in tables.items() if table.num_rows}


def read_quarantined(run: Run) -> list[dict[str, Any]]:
    """The records that would be set aside: id, reasons, and the payload redacted."""
    entries = [e for files in run.lake.staging_manifest()["quarantine"].values() for e in files]
    found = []
    for entry in entries:
        table = run.lake.read_table(
            entry, ["record_id", "entity", "raw_entity", "reasons", "payload"]
        )
        for row in table.to_pylist():
            found.append({**row, "payload": redact_payload(row["payload"])})
    return found


def redact_payload(payload: str) -> Any:
    """A record as captured, personal data out of its texts; the text itself if it is not JSON."""
    try:
        return hide_personal(json.loads(payload))
    except ValueError:
        return redact_text(payload)


def hide_personal(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: hide_personal(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [hide_personal(inner, key) for inner in value]
    if isinstance(value, str) and value:
        shown = redact_text(value)
        return "<…>" if shown == value and PERSONAL_KEY.search(key) else shown
    return value


def redact_all(found: Preview, tables: dict[str, pa.Table], settings: Settings) -> None:
    """Clean and redact the texts in place; count what was taken out, and keep a few pairs."""
    counted: Counter[str] = Counter()
    for entity, columns in SAID.items():
        for name in columns if entity in tables else ():
            tidy = text.clean_lines if name in ("title", "subject") else text.clean_texts
            before = tidy(tables[entity][name].combine_chunks())
            after = redact_texts(before, settings.privacy.redact)
            is_changed = pc.fill_null(pc.not_equal(before, after), False)
            for old, new in zip(
                before.filter(is_changed).to_pylist(), after.filter(is_changed).to_pylist(),
                strict=True,
            ):  # fmt: skip
                kinds = Counter(TAG.findall(new)) - Counter(TAG.findall(old))
                counted.update(kinds)
                found.pairs.append(Pair(tuple(sorted(kinds)), old, new))
            place = tables[entity].column_names.index(name)
            tables[entity] = tables[entity].set_column(place, name, after)
    found.redacted = dict(counted.most_common())
    found.pairs = choose_pairs(found.pairs)


def choose_pairs(pairs: list[Pair]) -> list[Pair]:
    """A few pairs, of as many kinds of personal data as there are."""
    chosen: list[Pair] = []
    for pair in pairs:
        if {kind for one in chosen for kind in one.kinds}.issuperset(pair.kinds):
            continue
        chosen.append(pair)
    rest = [pair for pair in pairs if pair not in chosen]
    return [*chosen, *rest][:SHOWN]


def show_samples(run: Run, tables: dict[str, pa.Table]) -> list[dict[str, Any]]:
    """The first records as they were captured and as they would be stored, both redacted."""
    if not tables:
        return []
    entity, table = next(iter(tables.items()))
    rows = table.slice(0, SHOWN).to_pylist()
    wanted = {row["record_id"] for row in rows}
    payloads: dict[str, str] = {}
    for entry in run.lake.raw_manifest(rows[0]["source"])["files"]:
        raw = run.lake.read_table(entry, ["record_id", "payload"])
        chosen = raw.filter(pc.is_in(raw["record_id"], pa.array(sorted(wanted), pa.string())))
        payloads |= dict(
            zip(chosen["record_id"].to_pylist(), chosen["payload"].to_pylist(), strict=True)
        )
    lineage = {column.name for column in LINEAGE}
    return [
        {
            "entity": entity,
            "captured": redact_payload(payloads.get(row["record_id"], "")),
            "stored": {
                name: HIDDEN.get(name, row[name])
                for name in SCHEMAS[entity].names
                if name not in lineage and row[name] is not None
            },
        }
        for row in rows
    ]


def label_rows(tables: dict[str, pa.Table], predictor: Predictor) -> list[dict[str, Any]]:
    """What customers say, labelled; rows that are no feedback say why in ``excluded``."""
    parts = [told for entity in IDS if entity in tables if (told := tell(entity, tables)).num_rows]
    if not parts:
        return []
    rows = pa.concat_tables(parts)
    titles, bodies = (rows[name].combine_chunks() for name in ("title", "body"))
    said = pc.utf8_trim(
        pc.binary_join_element_wise(pc.fill_null(titles, ""), pc.fill_null(bodies, ""), "\n"),
        characters="\n",
    )
    languages = find_languages(rows, said)
    labels = predictor.predict(said, languages)
    reasons = text.find_reasons(titles, bodies)
    labelled = labels.to_pylist()
    return [
        {
            **row,
            "language": language,
            **labels_of_row,
            "excluded": None if why == "empty" and row["rating"] is not None else why,
        }
        for row, language, labels_of_row, why in zip(
            rows.to_pylist(), languages.to_pylist(), labelled, reasons.to_pylist(), strict=True
        )
    ]


def find_languages(rows: pa.Table, said: pa.Array) -> pa.Array:
    """The language that the source gives, else the one that is found."""
    from models.language import detect_language

    con = connect_duckdb()
    con.execute("set preserve_insertion_order = true")
    con.register("given", rows.select(["language"]))
    given = con.sql(f"select {clean.normalise_language('language')} as l from given")
    return pc.coalesce(given.to_arrow_table()["l"].combine_chunks(), detect_language(said))


def tell(entity: str, tables: dict[str, pa.Table]) -> pa.Table:
    """What customers say in the rows of an entity, in one shape for all."""
    table = tables[entity]
    if entity == "messages":
        table = table.filter(is_of_customer(table, tables.get("agents")))
    if entity == "survey_responses":
        table = table.filter(pc.is_valid(table["comment"]))
    columns = {
        "entity": pa.repeat(entity, table.num_rows),
        "id": table[IDS[entity]],
        "at": pc.cast(table[INSTANTS[entity]], pa.timestamp("us", "UTC")),
        "channel": take(table, "channel", pa.string()),
        "rating": take(table, "rating", pa.float64()),
        "language": take(table, "language", pa.string()),
        "title": take(table, "title", pa.string()),
        "body": table["comment" if entity == "survey_responses" else "body"],
    }
    return pa.table(columns)


def take(table: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    return table[name] if name in table.column_names else pa.nulls(table.num_rows, kind)


def is_of_customer(messages: pa.Table, agents: pa.Table | None) -> pa.Array:
    """Which messages a customer wrote for all to read; who is no known agent is a customer."""
    staff = agents["source_agent_id"].combine_chunks() if agents else pa.array([], pa.string())
    is_staff = pc.fill_null(pc.is_in(messages["author_id"], staff), False)
    role = pc.fill_null(messages["author_role"], pc.if_else(is_staff, "agent", "customer"))
    return pc.and_(
        pc.equal(role, "customer"), pc.fill_null(messages["is_public"], True)
    )  # fmt: skip

"""Pulling a source in tests: as a whole, stopped after every batch, and through to staging."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines import extract, validate
from pipelines.context import Run, start_run
from pipelines.errors import HearbackError
from pipelines.extract import to_pulled
from pipelines.mapping import used_fields
from pipelines.settings import Settings, Source
from pipelines.sources import find_kind
from pipelines.sources.base import Batch, PullContext

FOLDER = Path(__file__).parent
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
# raw entity → record id → payloads in the order in which they came
Pulled = dict[str, dict[str, list[Any]]]


def load_payloads(stem: str) -> dict[str, Any]:
    """The saved payloads of a kind, by name."""
    folder = FOLDER / stem / "payloads"
    return {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}


def at(text: str) -> datetime:
    """An instant of UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def make_source(kind: str, base_url: str | None = None, **more: Any) -> Source:
    """A source named ``desk``; ``connection`` is ``desk`` unless given."""
    settings = {"name": "desk", "kind": kind, "base_url": base_url, "connection": "desk", **more}
    return Source.model_validate(settings)


def source_maker(kind: str) -> Callable[..., Source]:
    """A function that makes sources of a kind at the address of a server."""

    def make(server: Any, **more: Any) -> Source:
        return make_source(kind, server.url, **more)

    return make


def make_context(folder: Path, position: dict[str, Any] | None = None, **more: Any) -> PullContext:
    """``position`` goes through JSON, as it does through the manifest."""
    remembered = json.loads(json.dumps(position or {}))
    return PullContext(more.pop("now", NOW), folder, folder / "state", remembered, **more)


def read_batch(batch: Batch) -> Iterator[tuple[str, Any]]:
    """(record id, payload) of a batch; JSON payloads are parsed."""
    table = to_pulled(batch)
    for record_id, payload in zip(
        table["record_id"].to_pylist(), table["payload"].to_pylist(), strict=True
    ):
        yield record_id, json.loads(payload)


def pull_all(
    source: Source, folder: Path, position: dict[str, Any] | None = None, **more: Any
) -> tuple[Pulled, dict[str, Any]]:
    """Everything that a pull gives, and the position that it leaves."""
    kind = find_kind(source.kind)
    context = make_context(folder, position, **more)
    found: Pulled = defaultdict(lambda: defaultdict(list))
    last = dict(context.position)
    for batch in kind.pull(source, context):
        for record_id, payload in read_batch(batch):
            found[batch.entity][record_id].append(payload)
        if batch.position is not None:
            last = json.loads(json.dumps(batch.position))
    return found, last


def pull_told(
    source: Source, folder: Path, position: dict[str, Any] | None = None
) -> tuple[Pulled, str]:
    """Everything that a pull gives, and what its progress told, in one text."""
    told: list[str] = []
    found, _ = pull_all(source, folder, position, progress=lambda text, rows: told.append(text))
    return found, "\n".join(told)


def pull_committed(
    source: Source, folder: Path, position: dict[str, Any]
) -> tuple[dict[str, set[str]], dict[str, Any], str]:
    """Ids that a pull leaves behind with its position, and the line that it ends with, if any."""
    found: dict[str, set[str]] = {}
    waiting: list[tuple[str, str]] = []
    told = "nothing"
    try:
        for batch in find_kind(source.kind).pull(source, make_context(folder, position)):
            waiting += [(batch.entity, record_id) for record_id, _ in read_batch(batch)]
            if batch.position is not None:
                position = json.loads(json.dumps(batch.position))
                keep(found, waiting)
    except HearbackError as error:
        return found, position, error.message
    keep(found, waiting)
    return found, position, told


def keep(found: dict[str, set[str]], waiting: list[tuple[str, str]]) -> None:
    for entity, record_id in waiting:
        found.setdefault(entity, set()).add(record_id)
    waiting.clear()


def pull_stopping(source: Source, folder: Path, most: int = 500) -> Pulled:
    """What comes together if the pull is stopped after each batch and begun again.

    What came is safe once a position came with it or after it. A pull that is stopped before leaves
    nothing, and the next one begins where it began: so each is stopped as soon as it has moved the
    position. AssertionError if it does not come to an end.
    """
    kind = find_kind(source.kind)
    found: Pulled = defaultdict(lambda: defaultdict(list))
    position: dict[str, Any] = {}
    for _ in range(most):
        pull = kind.pull(source, make_context(folder, position))
        moved = False
        for batch in pull:
            for record_id, payload in read_batch(batch):
                found[batch.entity][record_id].append(payload)
            if batch.position is not None and batch.position != position:
                position = json.loads(json.dumps(batch.position))
                moved = True
                break
        pull.close()  # type: ignore[attr-defined]
        if not moved:
            return found
    raise AssertionError(f"the pull does not end; it stands at {position}")


def ids(found: Pulled, entity: str) -> set[str]:
    return set(found.get(entity, {}))


def held_ids(server: Any, name: str) -> set[str]:
    """The ids of what a server holds in a list."""
    return {str(row["id"]) for row in server.rows[name]}


def latest(found: Pulled, entity: str) -> dict[str, Any]:
    """The last payload of each record."""
    return {record_id: payloads[-1] for record_id, payloads in found.get(entity, {}).items()}


def make_run(folder: Path, *sources: Source, now: datetime = NOW) -> Run:
    settings = Settings.model_validate(
        {
            "path": folder / "hearback.toml",
            "sources": [source.model_dump(exclude_defaults=True) for source in sources],
        }
    )
    return start_run(settings, now=now)


def stage(folder: Path, source: Source) -> dict[str, list[dict[str, Any]]]:
    """Canonical rows by entity, through the real extract and validate."""
    run = make_run(folder, source)
    extract.run(run, source.name)
    validate.run(run)
    manifest = run.lake.staging_manifest()
    return {
        entity: [row for entry in entries for row in run.lake.read_table(entry).to_pylist()]
        for entity, entries in manifest["files"].items()
    }


def stage_all(folder: Path, source: Source) -> dict[str, list[dict[str, Any]]]:
    """``stage``, which sets nothing aside."""
    found = stage(folder, source)
    assert quarantined(folder, source) == []
    return found


def find_unused(source: Source, entity: str, rows: Iterable[dict[str, Any]]) -> set[str]:
    """The fields of records that a kind's mappings neither use nor ignore by name."""
    mappings = find_kind(source.kind).mappings(source)
    return {key for row in rows for key in row} - used_fields(mappings, entity)


def quarantined(folder: Path, source: Source) -> list[dict[str, Any]]:
    """The records that ``stage`` set aside, with their reasons."""
    run = make_run(folder, source)
    entries = [e for files in run.lake.staging_manifest()["quarantine"].values() for e in files]
    tables = [run.lake.read_table(entry) for entry in entries]
    return pa.concat_tables(tables, promote_options="default").to_pylist() if tables else []


def one(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """The one row that has the wanted values."""
    found = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    assert len(found) == 1, f"{len(found)} rows with {wanted}"
    return found[0]

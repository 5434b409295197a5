"""extract: pull one source and append what is new to raw, exactly as received.

The position of a pull is saved only with the batch that is safely on disk, in the same manifest, so
that a pull stopped after any batch loses nothing and repeats nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.context import Run, StepCount, timed_step
from pipelines.entities import INSTANT
from pipelines.errors import HearbackError
from pipelines.settings import Source
from pipelines.sources import find_kind
from pipelines.sources.base import Batch, PullContext, Record
from pipelines.storage import FileEntry, RawManifest, connect_duckdb, quote, quote_list

if TYPE_CHECKING:
    import duckdb

FLUSH_ROWS = 65_536
FLUSH_BYTES = 16 << 20  # of what waits; long records are flushed sooner
FLUSH_SECONDS = 20.0
REPEATED = ["entity", "url", "problem", "captured_at", "run_id"]
KEY_HASH = "hash(entity, record_id)"

PULLED = pa.schema(
    [
        pa.field("record_id", pa.string()),
        pa.field("entity", pa.string()),
        pa.field("payload", pa.string()),
        pa.field("url", pa.string()),
        pa.field("problem", pa.string()),
    ]
)
RAW = pa.schema(
    [
        *PULLED,
        pa.field("payload_hash", pa.uint64()),
        pa.field("captured_at", INSTANT),
        pa.field("run_id", pa.string()),
    ]
)


def to_pulled(batch: Batch) -> pa.Table:
    """A batch as an Arrow table of PULLED."""
    records = batch.records
    if not isinstance(records, list):
        return pa.table(
            {
                "record_id": records["record_id"],
                "entity": pa.repeat(pa.scalar(batch.entity, pa.string()), records.num_rows),
                "payload": records["payload"],
                "url": records["url"],
                "problem": records["problem"],
            }
        ).cast(PULLED)
    return pa.table(
        {
            "record_id": [record.record_id for record in records],
            "entity": [batch.entity] * len(records),
            "payload": [payload_text(record) for record in records],
            "url": [record.url for record in records],
            "problem": [record.problem for record in records],
        },
        schema=PULLED,
    )


def payload_text(record: Record) -> str:
    if isinstance(record.payload, str):
        return record.payload
    return json.dumps(record.payload, ensure_ascii=False, separators=(",", ":"))


class RawWriter:
    """Appends batches to raw; each flush is one commit of files and position.

    Flushes are written by a thread of their own, one after another, while the next records come in.
    """

    def __init__(self, run: Run, source: Source) -> None:
        self.run = run
        self.source = source
        self.lake = run.lake
        self.manifest: RawManifest = self.lake.raw_manifest(source.name)
        self.captured_at = datetime.now(UTC)
        self.con: duckdb.DuckDBPyConnection = connect_duckdb(self.lake)
        self.con.execute("set preserve_insertion_order = true")
        self.has_met = False  # whether temp table met is there: hashes of the ids in raw
        self.counts: dict[str, StepCount] = {}
        self.waiting: list[pa.Table] = []
        self.waiting_rows = self.waiting_bytes = 0
        self.position: dict[str, Any] | None = None
        self.last_flush = time.monotonic()
        self.pool = ThreadPoolExecutor(1)
        self.writing: Future[None] | None = None
        self.is_broken = False
        self.lake.remove_strays(f"raw/source={source.name}", self.manifest["files"])

    def add(self, batch: Batch) -> None:
        table = to_pulled(batch)
        self.waiting.append(table)
        if batch.position is not None:
            self.position = batch.position
        self.count(batch.entity).count_in += table.num_rows
        self.waiting_rows += table.num_rows
        self.waiting_bytes += table.nbytes
        is_full = self.waiting_rows >= FLUSH_ROWS or self.waiting_bytes >= FLUSH_BYTES
        if is_full or time.monotonic() - self.last_flush > FLUSH_SECONDS:
            self.flush()

    def count(self, entity: str) -> StepCount:
        if entity not in self.counts:
            self.counts[entity] = StepCount("extract", self.source.name, entity)
        return self.counts[entity]

    def flush(self) -> None:
        """Hand the waiting rows to the writing thread, once it is done with those before."""
        table = pa.concat_tables(self.waiting) if self.waiting else None
        self.waiting = []
        self.waiting_rows = self.waiting_bytes = 0
        hashed = None if table is None else self.hash_rows(table)
        self.finish()
        self.last_flush = time.monotonic()
        self.writing = self.pool.submit(self.commit, table, hashed, self.position)

    def finish(self) -> None:
        """Wait until all that was flushed is committed; raises what stopped it."""
        if self.writing is not None:
            writing, self.writing = self.writing, None
            writing.result()

    def commit(
        self, table: pa.Table | None, hashed: pa.Table | None, position: dict[str, Any] | None
    ) -> None:
        """Write what is new among the rows, then the manifest with the position.

        After a failure nothing more is committed: a later position must not pass over lost rows.
        """
        if self.is_broken:
            return
        self.is_broken = True
        moved = position is not None and position != self.manifest["position"]
        version = self.manifest["version"] + 1
        files: list[FileEntry] = []
        if table is not None and hashed is not None and table.num_rows:
            files = self.write_new(table, hashed, version)
        if files or moved:
            if position is not None:
                self.manifest["position"] = position
            self.manifest["files"] += files
            self.manifest["version"] = version
            self.lake.write_raw_manifest(self.source.name, self.manifest)
        self.is_broken = False

    def write_new(self, table: pa.Table, hashed: pa.Table, version: int) -> list[FileEntry]:
        """Write the rows that are not known yet; only their keys go through DuckDB."""
        self.con.register("hashed", hashed)
        if self.are_all_new(hashed):
            (entity,) = pc.unique(hashed["entity"]).to_pylist()
            self.count(entity).count_out += table.num_rows
            fresh, payload_hash = table, hashed["payload_hash"]
        else:
            new_rows = self.find_new(hashed)
            fresh, payload_hash = table.take(new_rows["position"]), new_rows["payload_hash"]
        self.con.execute(f"insert into met select {KEY_HASH} from hashed")
        self.con.unregister("hashed")
        if not fresh.num_rows:
            return []
        written = pa.table(
            {
                **{name: fresh[name] for name in PULLED.names},
                "payload_hash": payload_hash,
                "captured_at": pa.repeat(pa.scalar(self.captured_at, INSTANT), fresh.num_rows),
                "run_id": pa.repeat(self.run.run_id, fresh.num_rows),
            }
        ).cast(RAW)
        folder = self.lake.raw_folder(self.source.name, self.captured_at.astimezone(UTC).date())
        stem = self.run.run_id
        return [self.lake.write_table(folder, stem, written, version, repeated=REPEATED)]

    def hash_rows(self, table: pa.Table) -> pa.Table:
        """entity, record_id, payload_hash and position of the rows."""
        with self.con.cursor() as con:  # the writing thread may be using the other
            con.register("pulled", table)
            payload_hash = con.sql(
                "select md5_number_lower(payload) as payload_hash from pulled"
            ).to_arrow_table()["payload_hash"]
        return pa.table(
            {
                "entity": table["entity"],
                "record_id": table["record_id"],
                "payload_hash": payload_hash,
                "position": pa.array(np.arange(table.num_rows)),
            }
        )

    def are_all_new(self, hashed: pa.Table) -> bool:
        """Whether the rows are of one entity, and no id in them is repeated or in raw already.

        Ids are compared by their hashes, which stand in memory; False may be said in vain.
        """
        con = self.con
        if not self.has_met:
            con.execute(
                f"create or replace temp table met as select {KEY_HASH} as key "
                f"from {self.earlier_rows()}"
            )
            self.has_met = True
        ((entities, keys, known),) = con.execute(
            f"""
            with keys as (select entity, {KEY_HASH} as key from hashed)
            select
                (select count(distinct entity) from keys), (select count(distinct key) from keys),
                (select count(*) from met semi join keys using (key))
            """
        ).fetchall()
        return bool(entities == 1 and keys == hashed.num_rows and known == 0)

    def find_new(self, hashed: pa.Table) -> pa.Table:
        """position and payload_hash of the rows that are new; counts all rows."""
        con = self.con
        captured = f"{quote(self.captured_at.isoformat())}::timestamptz"
        con.execute(
            f"""
            create or replace temp table known as
            with earlier as (
                select entity, record_id, payload_hash, captured_at
                from {self.earlier_rows()} as earlier
                semi join hashed using (entity, record_id)
            ),
            latest as (
                select entity, record_id, max(captured_at) as captured_at
                from earlier group by all
            )
            select distinct entity, record_id, payload_hash, captured_at = {captured} as is_now
            from earlier semi join latest using (entity, record_id, captured_at)
            """
        )
        con.execute(
            """
            create or replace temp table judged as
            with first_ones as (
                select entity, record_id, payload_hash, min(position) as position
                from hashed group by all
            )
            select hashed.*, known.is_now is not null as is_known,
                coalesce(known.is_now, false) or first_ones.position is null as is_repeat
            from hashed
            left join known using (entity, record_id, payload_hash)
            left join first_ones using (entity, record_id, payload_hash, position)
            """
        )
        for entity, new, repeated, unchanged in con.execute(
            """
            select entity, count(*) filter (not is_known and not is_repeat),
                count(*) filter (is_repeat), count(*) filter (is_known and not is_repeat)
            from judged group by entity
            """
        ).fetchall():
            count = self.count(entity)
            count.count_out += new
            count.count_duplicate += repeated
            count.count_unchanged += unchanged
        return con.sql(
            "select position, payload_hash from judged where not is_known and not is_repeat "
            "order by entity, position"
        ).to_arrow_table()

    def earlier_rows(self) -> str:
        files = self.manifest["files"]
        if not files:
            return (
                "(select null::varchar as entity, null::varchar as record_id, "
                "null::ubigint as payload_hash, null::timestamptz as captured_at where false)"
            )
        return f"read_parquet({quote_list(self.lake.url(entry['path']) for entry in files)})"

    def rows(self) -> int:
        return sum(count.count_in for count in self.counts.values())


def check_volume(source: Source, counts: dict[str, StepCount]) -> str | None:
    """A sentence if the rows captured lie outside the source's declared bounds."""
    rows = sum(count.count_in for count in counts.values())
    low, high = source.expect.rows_min, source.expect.rows_max
    if low is not None and rows < low:
        return f"volume: {rows} records, declared at least {low}"
    if high is not None and rows > high:
        return f"volume: {rows} records, declared at most {high}"
    return None


Choose = Callable[[Iterator[Batch]], Iterator[Batch]]


def take_all(pull: Iterator[Batch]) -> Iterator[Batch]:
    """Every batch of a pull."""
    return pull


def run(run: Run, source_name: str, *, choose: Choose = take_all) -> list[StepCount]:
    """Pull one source into raw; ``choose`` may leave out batches, or end the pull early.

    Raises HearbackError that names the source and what to mend; what was pulled before the fault
    stays, and the next run goes on from there.
    """
    source = run.settings.source(source_name)
    kind = find_kind(source.kind)
    if kind.needs_base_url and not (source.base_url or kind.default_url):
        raise HearbackError(
            f'source {source.name!r}: kind {source.kind} needs base_url = "https://…"'
        )
    with timed_step(run, "extract", name=source.name) as counts:
        writer = RawWriter(run, source)
        notes = [""]

        def note(text: str) -> None:
            notes[0] = f" ({text})"
            run.progress(f"extract {source.name}{notes[0]}", writer.rows())

        context = PullContext(
            now=run.now,
            folder=run.settings.folder,
            state=run.home.crawl_jobs(source.name),
            position=dict(writer.manifest["position"]),
            progress=run.progress,
            note=note,
            time_zone=run.settings.project.time_zone,
        )
        try:
            for batch in choose(kind.pull(source, context)):
                writer.add(batch)
                run.progress(f"extract {source.name}{notes[0]}", writer.rows())
        except HearbackError:
            writer.flush()
            writer.finish()
            if not writer.is_broken:
                record_partial(run, writer)
            raise
        writer.flush()
        writer.finish()
        counts.extend(writer.counts.values() or [StepCount("extract", source.name)])
        counts[0].detail = check_volume(source, writer.counts)
    return counts


def record_partial(run: Run, writer: RawWriter) -> None:
    """Report what a failed pull had captured before it stopped."""
    with timed_step(run, "extract", name=writer.source.name) as counts:
        counts.extend(writer.counts.values() or [StepCount("extract", writer.source.name)])
        counts[0].detail = "stopped by an error; the next run goes on from here"

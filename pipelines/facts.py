"""The facts in the lake, and how a run changes them.

A run puts its rows aside by day (``Spool``), compares them with what is stored (``judge``) and
writes each changed day as one new file (``write``). One manifest at the end makes all of it count
(``commit``). Only id columns are read of days that do not change.
"""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.entities import FACT_KEYS, FACTS
from pipelines.storage import (
    FactsManifest,
    FileEntry,
    Lake,
    NewFile,
    Superseded,
    explain_disk_errors,
    quote_list,
)

if TYPE_CHECKING:
    import duckdb

LAYER = "intermediate"
KEEP_DAYS = 7
KEEP_VERSIONS = 3
WRITERS = 2
ROW_GROUP = 65_536
# Columns that say when and by what a row came, not what it says.
_NOT_CONTENT = frozenset({"captured_at", "changed_in", "duplicate_of"})

# Columns whose values repeat; ids and texts only lose time in a dictionary.
_REPEATED = [
    "source", "source_kind", "channel", "product", "language", "exclusion_reason", "priority",
    "status", "source_group", "assignee_ref", "event_type", "actor_role", "opened_by_role", "kind",
    "survey_id", "question_id", "category", "scorecard", "region", "segment", "currency", "role",
    "team", "changed_in", "rating", "rating_min", "rating_max", "rating_share",
]  # fmt: skip

TEXT_KEYS = "text_keys"
BANDS = 6
# Helper columns of spooled feedback: what its text is found by.
_KEY_FIELDS = [
    pa.field("_text_key", pa.uint64()),  # NULL: too short or excluded, has no duplicates
    pa.field("_bands", pa.list_(pa.uint64())),  # near duplicates share one; NULL: has none
]
TEXT_KEY_SCHEMA = pa.schema(
    [
        pa.field("feedback_id", pa.string()),
        pa.field("text_key", pa.uint64()),
        pa.field("said_at", FACTS["feedback"].field("created_at").type),
        pa.field("bands", pa.list_(pa.uint64())),
        pa.field("duplicate_of", pa.string()),
        pa.field("near_of", pa.string()),  # the row that says almost the same; NULL: none
    ]
)


def fact_columns(entity: str) -> list[str]:
    """The columns of an entity's facts that a run works out: all but ``changed_in``."""
    return [name for name in FACTS[entity].names if name != "changed_in"]


def facts_layout() -> str:
    """Changes with the columns of the facts: files of another layout are written anew."""
    named = "\n".join(f"{entity} {schema}" for entity, schema in FACTS.items())
    return hashlib.md5(named.encode(), usedforsecurity=False).hexdigest()


def content_hash(entity: str) -> str:
    """SQL: a hash of what a fact says."""
    return f"hash({', '.join(name for name in fact_columns(entity) if name not in _NOT_CONTENT)})"


def day_name(day: Any) -> str:
    return "all" if day is None else str(day)


def set_originals(table: pa.Table, found: pa.Table) -> pa.Table:
    """Set duplicate_of (and near_of, if the table has it) of the rows that found names by id."""
    place = pc.index_in(table["feedback_id"], value_set=found["id"].combine_chunks())
    is_found = pc.is_valid(place)
    for name in ("duplicate_of", "near_of"):
        if name in table.column_names:
            values = found[name].combine_chunks().take(place.combine_chunks())
            at = table.column_names.index(name)
            table = table.set_column(at, name, pc.if_else(is_found, values, table[name]))
    return table


def make_empty(con: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema) -> str:
    """An empty table that every cursor sees; returns its name."""
    con.register("empty_rows", schema.empty_table())
    con.execute(f"create or replace table {name} as from empty_rows")
    con.unregister("empty_rows")
    return name


class Spool:
    """Rows of one entity put aside on disk by day, so that memory stays flat.

    Batches have the entity's fact columns and ``_day``, ``_origin`` (the staging entity),
    ``_is_new`` (read in this run for the first time) and, for feedback, ``_text_key`` and
    ``_bands``. Keys go to the table ``keys_<entity>``: id, day, hash, source, origin, is_new,
    updated_at, captured_at. ``has_stored``: hash what rows say, to compare it with stored ones.
    """

    def __init__(
        self, con: duckdb.DuckDBPyConnection, entity: str, folder: Path, *, has_stored: bool
    ) -> None:
        self.con = con
        self.has_stored = has_stored
        self.entity = entity
        self.rows = 0
        names = fact_columns(entity)
        self.schema = pa.schema([FACTS[entity].field(name) for name in names])
        if entity == "feedback":
            self.schema = pa.schema([*self.schema, *_KEY_FIELDS])
        self._path = folder / f"{entity}.arrow"
        self._writer: Any = None
        self._readers: dict[tuple[int, ...], Any] = {}  # by the columns that are read
        self._places: dict[str, list[int]] = defaultdict(list)
        self._count = 0
        self._lock = threading.Lock()
        text_key = (
            ", text_key ubigint, bands ubigint[], said_at timestamptz"
            if entity == "feedback"
            else ""
        )
        con.execute(
            f"create or replace table keys_{entity} (id varchar, day date, hash ubigint, "
            "source varchar, origin varchar, is_new boolean, updated_at timestamptz, "
            f"captured_at timestamptz{text_key})"
        )

    def append(self, batch: pa.Table) -> None:
        """Put one batch aside. May be called by several threads."""
        if not batch.num_rows:
            return
        key = FACT_KEYS[self.entity]
        names = batch.column_names
        content = content_hash(self.entity) if self.has_stored else "null"
        columns = [
            key, "_day", content, "source", "_origin", "_is_new",
            "updated_at" if "updated_at" in names else "null",
            "captured_at" if "captured_at" in names else "null",
        ]  # fmt: skip
        if self.entity == "feedback":
            columns += ["_text_key", "_bands", "coalesce(created_at, captured_at)"]
        cursor = self.con.cursor()
        cursor.register("batch", batch)
        cursor.execute(f"insert into keys_{self.entity} select {', '.join(columns)} from batch")
        cursor.close()
        batch = batch.sort_by("_day").combine_chunks()
        runs = pc.run_end_encode(batch["_day"].combine_chunks())
        batch = batch.select(self.schema.names).cast(self.schema)
        with self._lock, explain_disk_errors(str(self._path)):
            if self._writer is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._writer = pa.ipc.new_file(str(self._path), self.schema)
            start = 0
            for day, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
                for part in batch.slice(start, end - start).to_batches():
                    self._writer.write_batch(part)
                    self._places[day_name(day)].append(self._count)
                    self._count += 1
                start = end
            self.rows += batch.num_rows

    def close(self) -> None:
        """End the writing; from here on days can be read."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def read(self, day: str, columns: Iterable[str] | None = None) -> Iterator[pa.Table]:
        """The rows put aside for a day, about a row group at a time; columns: only these."""
        reader = self._open(self.schema.names if columns is None else columns)
        pieces: list[pa.RecordBatch] = []
        for place in self._places.get(day, []):
            with self._lock:
                pieces.append(reader.get_batch(place))
            if sum(piece.num_rows for piece in pieces) >= ROW_GROUP:
                yield pa.Table.from_batches(pieces)
                pieces = []
        if pieces:
            yield pa.Table.from_batches(pieces)

    def _open(self, columns: Iterable[str]) -> Any:
        """The reader of some columns: opening one reads where each of the batches begins."""
        fields = tuple(sorted(self.schema.get_field_index(name) for name in columns))
        with self._lock:
            if fields not in self._readers:
                options = pa.ipc.IpcReadOptions(included_fields=list(fields))
                self._readers[fields] = pa.ipc.open_file(
                    pa.OSFile(str(self._path)), options=options
                )
            return self._readers[fields]

    def remove(self) -> None:
        self._readers.clear()
        self._path.unlink(missing_ok=True)


@dataclass
class Changes:
    """What a run does to one entity, by day: ids."""

    fresh: dict[str, int] = field(default_factory=dict)  # rows to take from the spool
    skipped: dict[str, pa.Array] = field(default_factory=dict)  # rows of the spool not to take
    dropped: dict[str, pa.Array] = field(default_factory=dict)  # stored rows that go
    # stored rows whose original is another one now, and fresh rows that have one:
    # tables of id, duplicate_of, near_of
    patched: dict[str, pa.Table] = field(default_factory=dict)
    originals: dict[str, pa.Table] = field(default_factory=dict)

    @property
    def days(self) -> list[str]:
        return sorted({*self.fresh, *self.dropped, *self.patched})


def _by_day(rows: list[tuple[Any, list[str]]]) -> dict[str, pa.Array]:
    return {day_name(day): pa.array(ids, pa.string()) for day, ids in rows}


class FactStore:
    """The facts as the last manifest names them, with this run's changes on top."""

    def __init__(
        self,
        lake: Lake,
        con: duckdb.DuckDBPyConnection,
        folder: Path,
        now: datetime,
        *,
        full_refresh: bool = False,
    ) -> None:
        self.lake = lake
        self.con = con
        self.folder = folder
        self.now = now
        stored = lake.facts_manifest()
        if stored["partitions"] and stored.get("layout") != facts_layout():
            full_refresh = True
        self.consumed = 0 if full_refresh else stored["consumed"]
        self.old_version = stored["version"]
        self.version = stored["version"] + 1
        self.partitions = {name: dict(days) for name, days in stored["partitions"].items()}
        self.text_keys = dict(stored.get("text_keys", {}))
        self.superseded: list[Superseded] = list(stored.get("superseded", []))
        self.is_changed = False
        self.spools: dict[str, Spool] = {}
        self.remove_strays()
        if full_refresh:
            for days in [*self.partitions.values(), self.text_keys]:
                self._supersede(days.values())
            self.is_changed = bool(self.partitions)
            self.partitions, self.text_keys = {}, {}

    def remove_strays(self) -> None:
        """Remove what a killed run left: files that no manifest names or has named lately."""
        named = [entry for days in self.partitions.values() for entry in days.values()]
        self.lake.remove_strays(LAYER, [*named, *self.text_keys.values(), *self.superseded])

    def spool(self, entity: str) -> Spool:
        found = self.spools.get(entity)
        if found is None:
            has_stored = bool(self.partitions.get(entity))
            found = Spool(self.con, entity, self.folder, has_stored=has_stored)
            self.spools[entity] = found
        return found

    def files(self, entity: str, days: Iterable[str] | None = None) -> list[str]:
        """Where the facts of an entity (or of text_keys) stand, for read_parquet."""
        held = self.text_keys if entity == TEXT_KEYS else self.partitions.get(entity, {})
        return [
            self.lake.url(held[day]["path"]) for day in (held if days is None else days)
            if day in held
        ]  # fmt: skip

    def relation(self, entity: str, columns: str, where: str = "true") -> str:
        """SQL that reads the stored facts of an entity; no rows if there are none."""
        files = self.files(entity)
        if files:
            return f"select {columns} from read_parquet({quote_list(files)}) where {where}"
        name = make_empty(self.con, f"no_{entity}", FACTS[entity])
        return f"select {columns} from {name} where {where}"

    # comparing ----------------------------------------------------------------------------------

    def judge(
        self, entity: str, removed: str = "select null::varchar as id where false"
    ) -> Changes:
        """Compare the spooled rows with the stored ones; ``removed`` selects ids that must go.

        Leaves the table ``verdict_<entity>``: id, day, old_day, source, origin, is_new and kind
        (new, changed, unchanged, or older: the stored one is newer).
        """
        self.spool(entity).close()
        con = self.con
        con.execute(f"create or replace table removed_ids as select distinct id from ({removed})")
        if not self._find_stored(entity):
            con.execute(f"drop view if exists verdict_{entity}")
            con.execute(
                f"create view verdict_{entity} as select *, null::date as old_day, 'new' as kind "
                f"from keys_{entity}"
            )
            changes = Changes()
            changes.fresh = self._count_fresh(entity)
            return changes
        con.execute(
            f"""create or replace table verdict_{entity} as
            select
                k.*, s.day as old_day, s.id is not null as is_stored,
                case
                    when s.id is null then 'new'
                    when row(coalesce(k.updated_at, '-infinity'), k.captured_at)
                        < row(coalesce(s.updated_at, '-infinity'), s.captured_at) then 'older'
                    when k.hash = s.hash then 'unchanged'
                    else 'changed'
                end as kind
            from keys_{entity} as k left join stored as s on k.id = s.id"""
        )
        con.execute(f"drop table keys_{entity}")
        changes = Changes()
        changes.fresh = self._count_fresh(entity)
        changes.skipped = _by_day(
            con.sql(
                f"select day, list(id) from verdict_{entity} where kind in ('unchanged', 'older') "
                "group by day"
            ).fetchall()
        )
        changes.dropped = _by_day(
            con.sql(
                f"""select day, list(id) from (
                    select old_day as day, id from verdict_{entity} where kind = 'changed'
                    union all by name
                    select s.day, s.id from stored as s semi join removed_ids as r on s.id = r.id
                    where s.id not in (select id from verdict_{entity})
                ) group by day"""
            ).fetchall()
        )
        return changes

    def _count_fresh(self, entity: str) -> dict[str, int]:
        rows = self.con.sql(
            f"select day, count(*) from verdict_{entity} where kind in ('new', 'changed') "
            "group by day"
        ).fetchall()
        return {day_name(day): count for day, count in rows}

    def _find_stored(self, entity: str) -> bool:
        """The table ``stored``: id, day, hash, updated_at, captured_at of rows met again.

        False, and no table, if none is.
        """
        con, key = self.con, FACT_KEYS[entity]
        days = self.partitions.get(entity, {})
        hits: list[tuple[str]] = []
        if days:
            con.execute("create or replace table fact_files (path varchar, day date)")
            con.executemany(
                "insert into fact_files values (?, ?)",
                [
                    (self.lake.url(entry["path"]), None if day == "all" else day)
                    for day, entry in days.items()
                ],
            )
            con.execute(
                f"create or replace table wanted_ids as select id from keys_{entity} "
                "union select id from removed_ids"
            )
            hits = con.sql(
                f"select distinct filename from read_parquet({quote_list(self.files(entity))}, "
                f"filename = true) where {key} in (select id from wanted_ids)"
            ).fetchall()
        if not hits:
            return False
        names = FACTS[entity].names
        con.execute(
            f"""create or replace table stored as
            select
                {key} as id, f.day, {content_hash(entity)} as hash,
                {"updated_at" if "updated_at" in names else "null::timestamptz"} as updated_at,
                {"captured_at" if "captured_at" in names else "null::timestamptz"} as captured_at
            from read_parquet({quote_list(path for (path,) in hits)}, filename = true) as p
            join fact_files as f on p.filename = f.path
            where {key} in (select id from wanted_ids)"""
        )
        return True

    # writing ------------------------------------------------------------------------------------

    def write(self, entity: str, changes: Changes) -> None:
        """Write each changed day as one new file. Nothing counts before ``commit``."""
        if not changes.days:
            return
        self.is_changed = True
        held = self.partitions.setdefault(entity, {})
        with ThreadPoolExecutor(WRITERS) as pool:
            written = list(
                pool.map(lambda day: self._write_day(entity, day, changes), changes.days)
            )
        for day, entry, keys in written:
            self._replace(held, day, entry)
            if entity == "feedback":
                self._replace(self.text_keys, day, keys)
        self.spools[entity].remove()

    def _replace(self, held: dict[str, FileEntry], day: str, entry: FileEntry | None) -> None:
        old = held.pop(day, None)
        if old is not None:
            self._supersede([old])
        if entry is not None:
            held[day] = entry

    def _supersede(self, entries: Iterable[FileEntry]) -> None:
        for entry in entries:
            self.superseded.append(
                {**entry, "superseded_in": self.version, "superseded_at": self.now.isoformat()}
            )

    def _write_day(
        self, entity: str, day: str, changes: Changes
    ) -> tuple[str, FileEntry | None, FileEntry | None]:
        keys: list[pa.Table] = []
        pieces = self._merge_day(entity, day, changes, keys)
        entry = self._write_pieces(entity, day, FACTS[entity], pieces)
        keys_entry = None
        if entity == "feedback":
            old = self.text_keys.get(day)
            if old is not None:
                kept = self._keep(self.lake.read_table(old), "feedback_id", day, changes)
                keys.append(self._patch(kept, day, changes).cast(TEXT_KEY_SCHEMA))
            keys_entry = self._write_pieces(TEXT_KEYS, day, TEXT_KEY_SCHEMA, iter(keys))
        return day, entry, keys_entry

    def _keep(self, table: pa.Table, key: str, day: str, changes: Changes) -> pa.Table:
        dropped = changes.dropped.get(day)
        if dropped is None:
            return table
        return table.filter(pc.invert(pc.is_in(table[key], value_set=dropped)))

    def _patch(self, table: pa.Table, day: str, changes: Changes) -> pa.Table:
        """Give stored rows their new original, and mark facts that got one as changed."""
        found = changes.patched.get(day)
        if found is None:
            return table
        table = set_originals(table, found)
        if "changed_in" in table.column_names:
            is_patched = pc.is_in(table["feedback_id"], value_set=found["id"])
            version = pa.scalar(self.version, pa.int64())
            at = table.column_names.index("changed_in")
            changed_in = pc.if_else(is_patched, version, table["changed_in"])
            table = table.set_column(at, "changed_in", changed_in)
        return table

    def _merge_day(
        self, entity: str, day: str, changes: Changes, keys: list[pa.Table]
    ) -> Iterator[pa.Table]:
        schema, key = FACTS[entity], FACT_KEYS[entity]
        old = self.partitions.get(entity, {}).get(day)
        if old is not None:
            with self.lake.fs.open(f"{self.lake.root}/{old['path']}", "rb") as file:
                for batch in pq.ParquetFile(file).iter_batches(ROW_GROUP):
                    kept = self._keep(pa.Table.from_batches([batch]), key, day, changes)
                    yield self._patch(kept, day, changes).cast(schema)
        if day not in changes.fresh:
            return
        skipped = changes.skipped.get(day)
        for piece in self.spools[entity].read(day):
            rows = piece
            if skipped is not None:
                rows = rows.filter(pc.invert(pc.is_in(rows[key], value_set=skipped)))
            if entity == "feedback":
                columns = {
                    "feedback_id": rows[key],
                    "text_key": rows["_text_key"],
                    "said_at": pc.coalesce(rows["created_at"], rows["captured_at"]),
                    "bands": rows["_bands"],
                    "duplicate_of": rows["duplicate_of"],
                    "near_of": pa.nulls(len(rows), pa.string()),
                }
                found = pa.table(columns, schema=TEXT_KEY_SCHEMA)
                rows = rows.drop_columns(["_text_key", "_bands"])
                originals = changes.originals.get(day)
                if originals is not None:
                    found = set_originals(found, originals)
                    rows = set_originals(rows, originals)
                keys.append(found)
            version = pa.repeat(pa.scalar(self.version, pa.int64()), len(rows))
            yield rows.append_column(schema.field("changed_in"), version)

    def _open_sink(self, new: NewFile) -> Any:
        """Arrow's own file where there is one: it does not wait for the interpreter's lock."""
        if self.lake.is_local:
            return pa.OSFile(new.temporary, "wb")
        return self.lake.fs.open(new.temporary, "wb")

    def _write_pieces(
        self, name: str, day: str, schema: pa.Schema, pieces: Iterator[pa.Table]
    ) -> FileEntry | None:
        """One Parquet file of all pieces, in row groups of some size; None if there is no row."""
        new = self.lake.new_file(self.lake.layer_folder(LAYER, name, day), name)
        # Hash keys do not get smaller.
        packed = ("feedback_id", "said_at", "duplicate_of", "near_of")
        compression = dict.fromkeys(packed, "zstd") if name == TEXT_KEYS else "zstd"
        rows = 0
        waiting: list[pa.Table] = []
        try:
            with (
                explain_disk_errors(new.relative),
                self._open_sink(new) as sink,
                pq.ParquetWriter(
                    sink, schema, compression=compression, use_dictionary=_REPEATED
                ) as writer,
            ):
                for piece in pieces:
                    rows += piece.num_rows
                    waiting.append(piece)
                    if sum(table.num_rows for table in waiting) >= ROW_GROUP:
                        writer.write_table(pa.concat_tables(waiting))
                        waiting = []
                if waiting:
                    writer.write_table(pa.concat_tables(waiting))
        except BaseException:
            new.discard()
            raise
        if not rows:
            new.discard()
            return None
        return new.commit(rows, self.version)

    # the commit ---------------------------------------------------------------------------------

    def commit(self, consumed: int) -> None:
        """Write the manifest, then remove files that were superseded long ago.

        The version only moves if a fact changed.
        """
        if not self.is_changed and consumed == self.lake.facts_manifest()["consumed"]:
            return
        version = self.version if self.is_changed else self.old_version
        oldest = self.now - timedelta(days=KEEP_DAYS)
        kept: list[Superseded] = []
        expired: list[Superseded] = []
        for entry in self.superseded:
            is_expired = (
                version - entry["superseded_in"] > KEEP_VERSIONS
                or datetime.fromisoformat(entry["superseded_at"]) < oldest
            )
            (expired if is_expired else kept).append(entry)
        manifest: FactsManifest = {
            "version": version,
            "consumed": consumed,
            "layout": facts_layout(),
            "partitions": {name: days for name, days in self.partitions.items() if days},
            "text_keys": self.text_keys,
            "superseded": kept,
        }
        self.lake.write_facts_manifest(manifest)
        for entry in expired:
            path = f"{self.lake.root}/{entry['path']}"
            if self.lake.fs.exists(path):
                self.lake.fs.rm_file(path)

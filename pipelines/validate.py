"""validate: raw records → typed canonical rows in staging; what cannot be right → quarantine.

A record is judged whole: if one of its rows fails, the complete record goes to quarantine with its
reasons, and ``replay`` can bring it back when a rule or a mapping has been mended.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.context import Run, StepCount, timed_step
from pipelines.entities import KEYS, LINEAGE, SCHEMAS
from pipelines.expectations import (
    ROW,
    TEXTS,
    Check,
    Failure,
    Judge,
    PlainJudge,
    entity_checks,
    find_control_characters,
    narrow_columns,
)
from pipelines.mapping import (
    OTHER_VALUE,
    Lookup,
    Mapping,
    lookups,
    render_select,
    used_fields,
)
from pipelines.redaction import redact_text
from pipelines.settings import Source
from pipelines.sources import find_kind
from pipelines.sources.base import Derive
from pipelines.storage import (
    ROW_GROUP,
    FileEntry,
    Home,
    Lake,
    StagingManifest,
    connect_duckdb,
    explain_disk_errors,
    quote,
    quote_list,
)

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

GROUP_ROWS = 500_000
# A record's number: its part times PART_STRIDE, its file times FILE_STRIDE, its row in the file.
FILE_STRIDE = 1 << 32
PART_STRIDE = 1 << 52
SAMPLE_ROWS = 50_000
FEWEST_FOR_FILL = 20
MOST_VALUES = 200  # of one column that are told and remembered


@dataclass
class Outcome:
    """Files written so far, counts by (source, raw entity), warnings by source.

    ``others``: how often (source, entity, column, value) was met whose value no map knows.
    """

    files: dict[str, list[FileEntry]] = field(default_factory=lambda: defaultdict(list))
    quarantine: dict[str, list[FileEntry]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[tuple[str, str], StepCount] = field(default_factory=dict)
    warnings: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    notes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    others: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)

    def count(self, source: str, raw_entity: str) -> StepCount:
        key = (source, raw_entity)
        if key not in self.counts:
            self.counts[key] = StepCount("validate", source, raw_entity)
        return self.counts[key]


@dataclass(frozen=True)
class Part:
    """Raw records of one source, as a query, with what they are mapped to."""

    source: Source
    relation: str
    mappings: list[Mapping]


@dataclass
class Group:
    """Raw records that are judged together, on a connection of their own.

    ``staged``: their canonical rows by entity; ``failures``: what GX finds in these, later.
    """

    con: duckdb.DuckDBPyConnection
    parts: list[Part]
    staged: dict[str, pa.Table] = field(default_factory=dict)
    failures: dict[str, Future[list[Failure]]] = field(default_factory=dict)


def run(
    run: Run, *, replay: bool = False, make_judge: Callable[[Home], Judge | PlainJudge] = Judge
) -> list[StepCount]:
    """Judge what is new in raw (or, with replay, what lies in quarantine).

    Idempotent: a second call finds nothing new. The staging manifest is written last.
    """
    with timed_step(run, "validate") as counts:
        lake = run.lake
        manifest = lake.staging_manifest()
        committed = [e for entries in manifest["files"].values() for e in entries]
        committed += [e for entries in manifest["quarantine"].values() for e in entries]
        for layer in ("staging", "quarantine"):
            lake.remove_strays(layer, committed)
        validator = Validator(run, manifest, make_judge)
        if replay:
            validator.replay()
        else:
            validator.judge_new()
        counts.extend(validator.outcome.counts.values())
        for count in counts:
            count.detail = validator.describe(count) or count.detail
        if not counts:
            counts.append(StepCount("validate", detail="nothing new"))
    return counts


class Validator:
    def __init__(
        self,
        run: Run,
        manifest: StagingManifest,
        make_judge: Callable[[Home], Judge | PlainJudge] = Judge,
    ) -> None:
        self.run = run
        self.make_judge = make_judge
        self.lake: Lake = run.lake
        self.manifest = manifest
        self.version = manifest["version"] + 1
        self.outcome = Outcome()
        self.con: duckdb.DuckDBPyConnection = connect_duckdb(self.lake)
        self.con.execute("set global preserve_insertion_order = true")
        self.gx = ThreadPoolExecutor(1, "gx")
        self.starting: Future[Judge | PlainJudge] | None = None
        self.writer = ThreadPoolExecutor(1, "staging")
        self.writing: list[Future[None]] = []

    # what to judge ----------------------------------------------------------------------------

    def judge_new(self) -> None:
        consumed = dict(self.manifest["consumed"])
        if self.run.full_refresh:
            consumed = {}
            self.manifest["files"], self.manifest["quarantine"] = {}, {}
        changed = False
        waiting: list[tuple[Source, FileEntry]] = []
        for source in self.run.settings.sources:
            raw = self.lake.raw_manifest(source.name)
            seen = consumed.get(source.name, 0)
            waiting += [(source, entry) for entry in raw["files"] if entry["version"] > seen]
            changed = changed or seen != raw["version"]
            consumed[source.name] = raw["version"]
        before: Group | None = None
        for found in split_groups(waiting):
            con = self.con.cursor()
            con.execute("set time zone 'UTC'")
            parts = [self.file_part(source, files) for source, files in found.items()]
            group = self.stage_group(Group(con, parts))
            if before is not None:
                self.split_group(before)
            before = group
        if before is not None:
            self.split_group(before)
        if changed:
            self.manifest["consumed"] = consumed
            self.commit()

    def file_part(self, name: str, files: list[FileEntry]) -> Part:
        source = self.run.settings.source(name)
        paths = quote_list(self.lake.url(entry["path"]) for entry in files)
        relation = (
            "select record_id, entity, payload, url, problem, captured_at, run_id, "
            f"file_index::bigint * {FILE_STRIDE} + file_row_number as place "
            f"from read_parquet({paths}, hive_partitioning = false, file_row_number = true)"
        )
        return Part(source, relation, find_kind(source.kind).mappings(source))

    def replay(self) -> None:
        """Judge every quarantined record again; what still fails is quarantined anew."""
        entries = [e for files in self.manifest["quarantine"].values() for e in files]
        if not entries:
            return
        paths = quote_list(self.lake.url(e["path"]) for e in entries)
        self.con.execute(
            "create temp table quarantined as select *, row_number() over () as place "
            f"from read_parquet({paths}, union_by_name = true)"
        )
        self.manifest["quarantine"] = {}
        parts = [
            Part(
                source,
                "select record_id, raw_entity as entity, payload, url, "
                "case when problem = 'broken_json' and json_valid(payload) then null "
                "else problem end as problem, captured_at, run_id, place "
                f"from quarantined where source = {quote(source.name)}",
                find_kind(source.kind).mappings(source),
            )
            for source in self.run.settings.sources
        ]
        self.split_group(self.stage_group(Group(self.con, parts)))
        self.keep_orphans()
        self.commit()

    def keep_orphans(self) -> None:
        """Quarantined records of sources that are no longer configured stay where they are."""
        names = ", ".join(quote(source.name) for source in self.run.settings.sources) or "''"
        rest = f"select * exclude (place) from quarantined where source not in ({names})"
        self.write_quarantine(self.con, "other", rest)

    def commit(self) -> None:
        self.report_other_values()
        # The pages are made while the files are written: they tell of the judging alone.
        pages = None if self.starting is None else self.gx.submit(self.write_pages)
        for writing in self.writing:
            writing.result()
        for entity, files in self.outcome.files.items():
            self.manifest["files"].setdefault(entity, []).extend(files)
        for entity, files in self.outcome.quarantine.items():
            self.manifest["quarantine"].setdefault(entity, []).extend(files)
        self.manifest["version"] = self.version
        self.lake.write_staging_manifest(self.manifest)
        if pages is not None:
            pages.result()

    def write_pages(self) -> None:
        """Data Docs; runs in the thread in which GX was imported."""
        assert self.starting is not None
        self.starting.result().write_docs()

    # judging ----------------------------------------------------------------------------------

    def stage_group(self, group: Group) -> Group:
        """Map the raw records of a group, and let GX begin to judge the rows that they give.

        ``new_raw`` is a view: whole records are read again for the few that are rejected, instead
        of being held in memory.
        """
        selects = "\nunion all\n".join(
            f"select {quote(part.source.name)} as source, {quote(part.source.kind)} as "
            f"source_kind, * exclude (place), {number * PART_STRIDE} + place as raw_row "
            f"from ({part.relation})"
            for number, part in enumerate(group.parts)
        )
        group.con.execute(f"create or replace temp view new_raw as {selects}")
        self.start_judge()
        self.define_lookups(group)
        for part in group.parts:
            self.report_new_fields(group.con, part)
        for entity in sorted({m.entity for part in group.parts for m in part.mappings}):
            self.stage(group, entity)
            self.count_other_values(group, entity)
            self.check(group, entity)
        return group

    def split_group(self, group: Group) -> None:
        """Wait for what GX found, then part good rows from records that are rejected."""
        group.con.execute(
            "create or replace temp table failed "
            "(raw_row bigint, entity varchar, reason varchar, expectation varchar)"
        )
        for entity, failures in group.failures.items():
            for failure in failures.result():
                self.note_failure(group.con, entity, failure)
            for part in group.parts:
                if part.source.expect.fill:
                    self.check_fill(group.con, part.source, entity)
        self.split(group)

    def start_judge(self) -> None:
        """Import Great Expectations, which takes seconds, while DuckDB reads the records."""
        if self.starting is None:
            self.starting = self.gx.submit(self.make_judge, self.run.home)

    def define_lookups(self, group: Group) -> None:
        """Make each lookup callable in SQL, from all that its sources ever said of that entity."""
        pairs: dict[Lookup, list[str]] = defaultdict(list)
        for part in group.parts:
            files = self.lake.raw_manifest(part.source.name)["files"]
            for lookup in lookups(part.mappings) if files else ():
                rows = self.latest_raw(part.source, lookup.raw)
                derive = find_kind(part.source.kind).derive.get(lookup.raw)
                if derive:
                    pairs[lookup].append(
                        self.derive_pairs(group.con, part.source, lookup, rows, derive)
                    )
                    continue
                key, value = (
                    f"json_extract_string(payload, {quote('$.' + name)})"
                    for name in (lookup.key, lookup.value)
                )
                pairs[lookup].append(
                    f"select {quote(part.source.name)} || chr(31) || {key} as key, "
                    f"arg_max({value}, captured_at) as value from ({rows}) group by 1"
                )
        for lookup, queries in pairs.items():
            union = " union all ".join(queries)
            group.con.execute(
                f"create or replace temp table {lookup.table}_rows as "
                f"select key, any_value(value) as value from ({union}) "
                "where key is not null group by key"
            )
            group.con.execute(
                f"create or replace temp macro {lookup.table}(wanted) as "
                f"(select value from {lookup.table}_rows where key = wanted)"
            )

    def latest_raw(self, source: Source, raw: str) -> str:
        """SQL: payload and captured_at of the readable records of a raw entity of a source."""
        files = self.lake.raw_manifest(source.name)["files"]
        paths = quote_list(self.lake.url(entry["path"]) for entry in files)
        return (
            f"select record_id, payload, captured_at from read_parquet({paths}, "
            f"hive_partitioning = false) where entity = {quote(raw)} and problem is null"
        )

    def derive_pairs(
        self,
        con: duckdb.DuckDBPyConnection,
        source: Source,
        lookup: Lookup,
        rows: str,
        derive: Derive,
    ) -> str:
        """A table of key and value that a kind derives from its raw records; SQL that reads it."""
        latest = con.execute(
            f"select arg_max(payload, captured_at) from ({rows}) group by record_id"
        ).fetchall()
        found: dict[str, str | None] = {}
        for (payload,) in latest:
            for flat in derive(source, json.loads(payload)):
                value = flat.get(lookup.value)
                key = f"{source.name}{chr(31)}{flat[lookup.key]}"
                is_text = value is None or isinstance(value, str)
                found[key] = value if is_text else json.dumps(value, ensure_ascii=False)
        table = f"{lookup.table}_of_{source.name}"
        columns = [pa.array(part, pa.string()) for part in (list(found), list(found.values()))]
        con.register("derived", pa.table(columns, names=["key", "value"]))
        con.execute(f"create or replace temp table {table} as from derived")
        con.unregister("derived")
        return f"select key, value from {table}"

    def stage(self, group: Group, entity: str) -> None:
        """All canonical rows of an entity, typed, as staged_<entity>; see ``Group.staged``."""
        table = f"staged_{entity}"
        selects = "\nunion all by name\n".join(
            f"({render_select(mapping, one_source(part.source))})"
            for part in group.parts
            for mapping in part.mappings
            if mapping.entity == entity
        )
        rows = group.con.sql(selects).to_arrow_table()
        numbers = pa.array(np.arange(rows.num_rows, dtype=np.int64))
        controls = find_control_characters(rows, entity)
        group.staged[entity] = rows.append_column(ROW, numbers).append_column(
            "has_control_characters", controls
        )
        group.con.register(table, group.staged[entity])
        keys = ", ".join(KEYS[entity])
        moments = [n for n in ("updated_at", "captured_at") if n in SCHEMAS[entity].names]
        moment = ", ".join(moments)
        same = " and ".join(
            f"contents.{name} is not distinct from disputed.{name}"
            for name in [*KEYS[entity], *moments]
        )
        lineage = {column.name for column in LINEAGE}
        content = ", ".join(
            name for name in SCHEMAS[entity].names if name not in {*lineage, *KEYS[entity]}
        )
        files = quote_list(
            part.source.name for part in group.parts if not find_kind(part.source.kind).has_versions
        )
        group.con.execute(
            f"""
            create or replace temp table conflicting as
            with repeated as (
                select {keys} from {table} where list_contains({files}::varchar[], source)
                group by all having count(*) > 1
            ),
            contents as (
                select {keys}, {moment}, {ROW}, hash(({content})) as content
                from {table} semi join repeated using ({keys})
            ),
            disputed as (
                select {keys}, {moment} from contents
                group by all having count(distinct content) > 1
            )
            select contents.{ROW} from contents join disputed on {same}
            """
        )

    def check(self, group: Group, entity: str) -> None:
        """Let GX judge the narrow columns; the failing rows come into ``Group.failures``."""
        columns = ",\n".join(f"{sql} as {name}" for name, sql in narrow_columns(entity).items())
        frame = group.con.sql(
            f"""
            select {ROW}, {columns}
            from (
                select *, {ROW} in (select {ROW} from conflicting) as is_conflicting
                from staged_{entity}
            )
            """
        ).df()
        if not frame.empty:
            checks = entity_checks(entity, self.run.now)
            group.failures[entity] = self.gx.submit(self.judge, entity, frame, checks)

    def judge(self, entity: str, frame: pd.DataFrame, checks: list[Check]) -> list[Failure]:
        """What GX finds in a frame; runs in the thread in which GX was imported."""
        assert self.starting is not None
        return list(self.starting.result().judge(entity, frame, checks))

    def note_failure(self, con: duckdb.DuckDBPyConnection, entity: str, failure: Failure) -> None:
        """Count a warning by source, or put the rows of a failure into temp table failed."""
        check = failure.check
        con.register("failing", pa.table({ROW: pa.array(failure.rows, pa.int64())}))
        if check.severity == "warn":
            for source, rows in con.execute(
                f"select source, count(*) from staged_{entity} semi join failing using ({ROW}) "
                "group by source"
            ).fetchall():
                self.outcome.warnings[source][f"{entity}.{check.reason}"] += rows
        else:
            told = f"lambda x: starts_with(x, {quote(check.reason + ':')})"
            con.execute(
                f"""
                insert into failed
                select raw_row, {quote(entity)},
                    coalesce(list_filter(reasons, {told})[1], {quote(check.reason)}),
                    {quote(check.kind)}
                from staged_{entity} semi join failing using ({ROW})
                """
            )
        con.unregister("failing")

    def check_fill(self, con: duckdb.DuckDBPyConnection, source: Source, entity: str) -> None:
        """Note columns that are filled less than the source declares."""
        for column, least in source.expect.fill.items():
            if column not in SCHEMAS[entity].names:
                continue
            ((rows, filled),) = con.execute(
                f"select count(*), count({column}) from staged_{entity} "
                f"where source = {quote(source.name)}"
            ).fetchall()
            if rows >= FEWEST_FOR_FILL and filled / rows < least:
                self.outcome.notes[source.name].append(
                    f"fill: {entity}.{column} is filled in {filled / rows:.0%}, "
                    f"declared at least {least:.0%}"
                )

    def split(self, group: Group) -> None:
        """Write good rows to staging and whole failing records to quarantine; count records."""
        con, parts = group.con, group.parts
        whens = " ".join(
            f"when source = {quote(part.source.name)} and new_raw.entity = {quote(mapping.raw)} "
            f"then {quote(mapping.entity)}"
            for part in parts
            for mapping in part.mappings
        )
        chosen = f"case {whens} else 'other' end" if whens else "'other'"
        con.execute(
            f"""
            create or replace temp table rejected as
            with reasons as (
                select raw_row, any_value(entity) as entity,
                    list_sort(list_distinct(list(reason))) as reasons,
                    list_sort(list_distinct(list(expectation))) as expectations
                from failed group by raw_row
            )
            select source, source_kind, coalesce(reasons.entity, {chosen}) as entity,
                new_raw.entity as raw_entity, record_id, payload, url, problem, captured_at,
                run_id,
                coalesce(reasons.reasons, [new_raw.problem]) as reasons,
                coalesce(reasons.expectations, ['readable']) as expectations,
                {quote(datetime.now(UTC).isoformat())}::timestamptz as quarantined_at,
                {quote(self.run.run_id)} as quarantined_in, new_raw.raw_row
            from new_raw left join reasons using (raw_row)
            where new_raw.problem is not null or reasons.raw_row is not null
            """
        )
        used = " union ".join(f"select raw_row from staged_{entity}" for entity in group.staged)
        for source, raw_entity, total, rejected, good in con.execute(
            f"""
            select source, entity, count(*), count(rejected.raw_row),
                count(*) filter (rejected.raw_row is null and used.raw_row is not null)
            from new_raw
            left join (select raw_row from rejected) as rejected using (raw_row)
            left join ({used}) as used using (raw_row)
            group by source, entity
            order by source, entity
            """
        ).fetchall():
            count = self.outcome.count(source, raw_entity)
            count.count_in += total
            count.count_quarantined += rejected
            count.count_out += good
            count.count_unchanged += total - rejected - good
        rejected_rows = con.sql("select raw_row from rejected").to_arrow_table()["raw_row"]
        for entity, table in group.staged.items():
            con.unregister(f"staged_{entity}")
            self.writing.append(
                self.writer.submit(self.write_staging, entity, table, rejected_rows)
            )
        group.staged = {}
        rejected_entities = con.execute("select distinct entity from rejected").fetchall()
        for (entity,) in rejected_entities:
            rows = f"select * exclude (raw_row) from rejected where entity = {quote(entity)}"
            self.write_quarantine(con, entity, rows)
        if con is not self.con:
            con.close()

    def write_staging(self, entity: str, table: pa.Table, rejected: pa.ChunkedArray) -> None:
        """Write the rows of records that are not rejected as one file; none if there are no rows.

        Slice by slice, because the rows left are copied.
        """
        schema = SCHEMAS[entity]
        rows = table.num_rows - (
            pc.sum(pc.is_in(table["raw_row"], value_set=rejected)).as_py() or 0
        )
        if not rows:
            return
        pieces = (
            piece.filter(pc.invert(pc.is_in(piece["raw_row"], value_set=rejected)))
            .select(schema.names)
            .cast(schema)
            for piece in (
                table.slice(start, ROW_GROUP) for start in range(0, table.num_rows, ROW_GROUP)
            )
        )
        folder = self.lake.layer_folder("staging", entity, self.run.date)
        unique = {"record_id", *KEYS[entity][1:], *TEXTS.get(entity, ())}
        repeated = [name for name in schema.names if name not in unique]
        self.outcome.files[entity].append(
            self.lake.write_tables(
                folder, self.run.run_id, schema, pieces, self.version, repeated=repeated
            )
        )

    def write_quarantine(self, con: duckdb.DuckDBPyConnection, entity: str, select: str) -> None:
        """Write the rows of a query as one file; none if there are no rows."""
        new = self.lake.new_file(
            self.lake.layer_folder("quarantine", entity, self.run.date), self.run.run_id
        )
        with explain_disk_errors(new.relative):
            ((rows,),) = con.execute(
                f"copy ({select}) to {quote(new.url)} (format parquet, compression zstd, "
                f"row_group_size {ROW_GROUP})"
            ).fetchall()
        if not rows:
            new.discard()
            return
        self.outcome.quarantine[entity].append(new.commit(rows, self.version))

    # reporting --------------------------------------------------------------------------------

    def report_new_fields(self, con: duckdb.DuckDBPyConnection, part: Part) -> None:
        """Note fields that no mapping uses or ignores by name, once for each."""
        known = self.manifest.setdefault("known_fields", {})
        wanted = {lookup.raw for lookup in lookups(part.mappings)}
        for entity, names in con.execute(
            f"""
            select entity, list_sort(list_distinct(flatten(list(json_keys(payload)))))
            from (
                select * from {one_source(part.source)} where problem is null
                limit {SAMPLE_ROWS}
            )
            group by entity
            """
        ).fetchall():
            key = f"{part.source.name}/{entity}"
            expected = used_fields(part.mappings, entity) | set(known.get(key, []))
            new = sorted(set(names) - expected) if entity not in wanted else []
            if new:
                known[key] = sorted({*known.get(key, []), *new})
                listed = ", ".join(new[:10]) + (f" and {len(new) - 10} more" if new[10:] else "")
                self.outcome.notes[part.source.name].append(f"not used: {entity}: {listed}")

    def count_other_values(self, group: Group, entity: str) -> None:
        """Count the values that became ``unknown`` because their map does not have them."""
        for source, reason, rows in group.con.execute(
            f"""
            select source, reason, count(*)
            from (
                select source, unnest(reasons) as reason from staged_{entity}
                where len(reasons) > 0
            )
            where starts_with(reason, '{OTHER_VALUE}:')
            group by all
            """
        ).fetchall():
            column, value = reason.removeprefix(f"{OTHER_VALUE}:").split("=", 1)
            self.outcome.others[source, entity, column, value] += rows

    def report_other_values(self) -> None:
        """Note values that no map knows, once for each; they became what ``unknown`` says."""
        known = self.manifest.setdefault("known_values", {})
        found: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
        for (source, entity, column, value), rows in self.outcome.others.most_common():
            found[source, entity, column][value] = rows
        for (source, entity, column), rows_by_value in found.items():
            key = f"{source}/{entity}.{column}"
            told = known.get(key, [])
            new = {v: rows for v, rows in rows_by_value.items() if v not in told}
            if not new or len(told) >= MOST_VALUES:
                continue
            known[key] = [*told, *new][:MOST_VALUES]
            shown = [f"{show_value(value)} ({rows:,})" for value, rows in new.items()]
            listed = ", ".join(shown[:10]) + (f" and {len(new) - 10} more" if shown[10:] else "")
            target = find_unknown(self.run.settings.source(source), entity, column)
            self.outcome.notes[source].append(
                f"warning: {source}: values of {entity}.{column} that are not known became "
                f"{target}: {listed}"
            )

    def describe(self, count: StepCount) -> str | None:
        """Warnings and notes of a source, told once, on its first row."""
        source = count.source or ""
        first = next(c for c in self.outcome.counts.values() if c.source == source)
        if count is not first:
            return None
        told = [f"warn {name}: {rows}" for name, rows in self.outcome.warnings[source].items()]
        return "; ".join(told + self.outcome.notes[source]) or None


def show_value(value: str) -> str:
    """A value from outside as a note has it: in one line, without what is personal."""
    return " ".join(redact_text(value).replace(";", ",").split()) or "(blank)"


def find_unknown(source: Source, entity: str, column: str) -> str:
    """What a value of a column becomes if its map does not have it."""
    specs = [
        mapping.fields[column]
        for mapping in find_kind(source.kind).mappings(source)
        if mapping.entity == entity and column in mapping.fields
    ]
    return " or ".join(dict.fromkeys(spec.unknown for spec in specs if spec.unknown))


def one_source(source: Source) -> str:
    return f"(select * from new_raw where source = {quote(source.name)})"


def split_groups(waiting: list[tuple[Source, FileEntry]]) -> Iterator[dict[str, list[FileEntry]]]:
    """Files by source, in groups of about GROUP_ROWS rows, so that memory stays flat."""
    group: dict[str, list[FileEntry]] = defaultdict(list)
    rows = 0
    for source, entry in waiting:
        group[source.name].append(entry)
        rows += entry["rows"]
        if rows >= GROUP_ROWS:
            yield group
            group, rows = defaultdict(list), 0
    if group:
        yield group

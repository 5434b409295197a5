"""validate: raw records → typed canonical rows in staging; what cannot be right → quarantine.

A record is judged whole: if one of its rows fails, the complete record goes to quarantine with its
reasons, and ``replay`` can bring it back when a rule or a mapping has been mended.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from pipelines.context import Run, StepCount, timed_step
from pipelines.entities import KEYS, LINEAGE, SCHEMAS
from pipelines.expectations import ROW, Failure, Judge, entity_checks, narrow_columns
from pipelines.mapping import Lookup, Mapping, lookups, render_select, used_fields
from pipelines.settings import Source
from pipelines.sources import find_kind
from pipelines.storage import (
    ROW_GROUP,
    FileEntry,
    Lake,
    StagingManifest,
    connect_duckdb,
    explain_disk_errors,
    quote,
    quote_list,
)

if TYPE_CHECKING:
    import duckdb

GROUP_ROWS = 500_000
# A record's number: its part times PART_STRIDE, its file times FILE_STRIDE, its row in the file.
FILE_STRIDE = 1 << 32
PART_STRIDE = 1 << 52
SAMPLE_ROWS = 50_000
FEWEST_FOR_FILL = 20


@dataclass
class Outcome:
    """Files written so far, counts by (source, raw entity), warnings by source."""

    files: dict[str, list[FileEntry]] = field(default_factory=lambda: defaultdict(list))
    quarantine: dict[str, list[FileEntry]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[tuple[str, str], StepCount] = field(default_factory=dict)
    warnings: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    notes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

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


def run(run: Run, *, replay: bool = False) -> list[StepCount]:
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
        validator = Validator(run, manifest)
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
    def __init__(self, run: Run, manifest: StagingManifest) -> None:
        self.run = run
        self.lake: Lake = run.lake
        self.manifest = manifest
        self.version = manifest["version"] + 1
        self.outcome = Outcome()
        self.con: duckdb.DuckDBPyConnection = connect_duckdb(self.lake)
        self.con.execute("set preserve_insertion_order = true")
        self.judge: Judge | None = None
        self.starting: Future[Judge] | None = None

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
        for group in split_groups(waiting):
            self.judge_parts([self.file_part(source, files) for source, files in group.items()])
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
        self.judge_parts(parts)
        self.keep_orphans()
        self.commit()

    def keep_orphans(self) -> None:
        """Quarantined records of sources that are no longer configured stay where they are."""
        names = ", ".join(quote(source.name) for source in self.run.settings.sources) or "''"
        rest = f"select * exclude (place) from quarantined where source not in ({names})"
        self.write("quarantine", "other", rest)

    def commit(self) -> None:
        for entity, files in self.outcome.files.items():
            self.manifest["files"].setdefault(entity, []).extend(files)
        for entity, files in self.outcome.quarantine.items():
            self.manifest["quarantine"].setdefault(entity, []).extend(files)
        self.manifest["version"] = self.version
        self.lake.write_staging_manifest(self.manifest)
        if self.judge is not None:
            self.judge.write_docs()

    # judging ----------------------------------------------------------------------------------

    def judge_parts(self, parts: list[Part]) -> None:
        """Map, check and split the raw records of some sources.

        ``new_raw`` is a view: whole records are read again for the few that are rejected, instead
        of being held in memory.
        """
        con = self.con
        self.start_judge()
        selects = "\nunion all\n".join(
            f"select {quote(part.source.name)} as source, {quote(part.source.kind)} as "
            f"source_kind, * exclude (place), {number * PART_STRIDE} + place as raw_row "
            f"from ({part.relation})"
            for number, part in enumerate(parts)
        )
        con.execute(f"create or replace temp view new_raw as {selects}")
        self.define_lookups(parts)
        for part in parts:
            self.report_new_fields(part)
        con.execute(
            "create or replace temp table failed "
            "(raw_row bigint, entity varchar, reason varchar, expectation varchar)"
        )
        entities = sorted({mapping.entity for part in parts for mapping in part.mappings})
        for entity in entities:
            self.stage(entity, parts)
            self.check(entity, [part.source for part in parts])
        self.split(parts, entities)

    def start_judge(self) -> None:
        """Import Great Expectations, which takes seconds, while DuckDB reads the records."""
        if self.starting is None:
            pool = ThreadPoolExecutor(1)
            self.starting = pool.submit(Judge, self.run.home)
            pool.shutdown(wait=False)

    def define_lookups(self, parts: list[Part]) -> None:
        """Make each lookup callable in SQL, from all that its sources ever said of that entity."""
        pairs: dict[Lookup, list[str]] = defaultdict(list)
        for part in parts:
            files = self.lake.raw_manifest(part.source.name)["files"]
            for lookup in lookups(part.mappings) if files else ():
                paths = quote_list(self.lake.url(entry["path"]) for entry in files)
                key, value = (
                    f"json_extract_string(payload, '$.{name}')"
                    for name in (lookup.key, lookup.value)
                )
                pairs[lookup].append(
                    f"select {quote(part.source.name)} || chr(31) || {key} as key, "
                    f"arg_max({value}, captured_at) as value from read_parquet({paths}, "
                    f"hive_partitioning = false) where entity = {quote(lookup.raw)} "
                    "and problem is null group by 1"
                )
        for lookup, queries in pairs.items():
            union = " union all ".join(queries)
            self.con.execute(
                f"set variable {lookup.table} = "
                f"(select map(list(key), list(value)) from ({union}) where key is not null)"
            )
            self.con.execute(
                f"create or replace temp macro {lookup.table}(key) as "
                f"getvariable('{lookup.table}')[key]"
            )

    def stage(self, entity: str, parts: list[Part]) -> None:
        """All canonical rows of an entity, typed, in temp table staged_<entity>."""
        table = f"staged_{entity}"
        selects = "\nunion all by name\n".join(
            f"({render_select(mapping, one_source(part.source))})"
            for part in parts
            for mapping in part.mappings
            if mapping.entity == entity
        )
        self.con.execute(
            f"create or replace temp table {table} as "
            f"select *, row_number() over () as {ROW} from ({selects})"
        )
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
        self.con.execute(
            f"""
            create or replace temp table conflicting as
            with repeated as (
                select {keys} from {table} group by all having count(*) > 1
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

    def check(self, entity: str, sources: list[Source]) -> None:
        """Let GX judge the narrow columns; failing rows go to temp table failed."""
        columns = ",\n".join(f"{sql} as {name}" for name, sql in narrow_columns(entity).items())
        frame = self.con.sql(
            f"""
            select {ROW}, {columns}
            from (
                select *, {ROW} in (select {ROW} from conflicting) as is_conflicting
                from staged_{entity}
            )
            """
        ).df()
        if frame.empty:
            return
        self.judge = self.starting.result() if self.starting else Judge(self.run.home)
        for failure in self.judge.judge(entity, frame, entity_checks(entity, self.run.now)):
            self.note_failure(entity, failure)
        for source in sources:
            if source.expect.fill:
                self.check_fill(source, entity)

    def note_failure(self, entity: str, failure: Failure) -> None:
        """Count a warning by source, or put the rows of a failure into temp table failed."""
        check = failure.check
        self.con.register("failing", pa.table({ROW: pa.array(failure.rows, pa.int64())}))
        if check.severity == "warn":
            for source, rows in self.con.execute(
                f"select source, count(*) from staged_{entity} semi join failing using ({ROW}) "
                "group by source"
            ).fetchall():
                self.outcome.warnings[source][f"{entity}.{check.reason}"] += rows
        else:
            told = f"lambda x: starts_with(x, {quote(check.reason + ':')})"
            self.con.execute(
                f"""
                insert into failed
                select raw_row, {quote(entity)},
                    coalesce(list_filter(reasons, {told})[1], {quote(check.reason)}),
                    {quote(check.kind)}
                from staged_{entity} semi join failing using ({ROW})
                """
            )
        self.con.unregister("failing")

    def check_fill(self, source: Source, entity: str) -> None:
        """Note columns that are filled less than the source declares."""
        for column, least in source.expect.fill.items():
            if column not in SCHEMAS[entity].names:
                continue
            ((rows, filled),) = self.con.execute(
                f"select count(*), count({column}) from staged_{entity} "
                f"where source = {quote(source.name)}"
            ).fetchall()
            if rows >= FEWEST_FOR_FILL and filled / rows < least:
                self.outcome.notes[source.name].append(
                    f"fill: {entity}.{column} is filled in {filled / rows:.0%}, "
                    f"declared at least {least:.0%}"
                )

    def split(self, parts: list[Part], entities: list[str]) -> None:
        """Write good rows to staging and whole failing records to quarantine; count records."""
        con = self.con
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
        used = " union ".join(f"select raw_row from staged_{entity}" for entity in entities)
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
        for entity in entities:
            names = ", ".join(SCHEMAS[entity].names)
            good = f"select {names} from staged_{entity} anti join rejected using (raw_row)"
            self.write("staging", entity, good)
            con.execute(f"drop table staged_{entity}")
        rejected_entities = con.execute("select distinct entity from rejected").fetchall()
        for (entity,) in rejected_entities:
            rows = f"select * exclude (raw_row) from rejected where entity = {quote(entity)}"
            self.write("quarantine", entity, rows)

    def write(self, layer: str, entity: str, select: str) -> None:
        """Write the rows of a query as one file; none if there are no rows."""
        new = self.lake.new_file(
            self.lake.layer_folder(layer, entity, self.run.date), self.run.run_id
        )
        with explain_disk_errors(new.relative):
            ((rows,),) = self.con.execute(
                f"copy ({select}) to {quote(new.url)} (format parquet, compression zstd, "
                f"row_group_size {ROW_GROUP})"
            ).fetchall()
        if not rows:
            new.discard()
            return
        target = self.outcome.files if layer == "staging" else self.outcome.quarantine
        target[entity].append(new.commit(rows, self.version))

    # reporting --------------------------------------------------------------------------------

    def report_new_fields(self, part: Part) -> None:
        """Note fields that no mapping uses or ignores by name, once for each."""
        known = self.manifest.setdefault("known_fields", {})
        wanted = {lookup.raw for lookup in lookups(part.mappings)}
        for entity, names in self.con.execute(
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

    def describe(self, count: StepCount) -> str | None:
        """Warnings and notes of a source, told once, on its first row."""
        source = count.source or ""
        first = next(c for c in self.outcome.counts.values() if c.source == source)
        if count is not first:
            return None
        told = [f"warn {name}: {rows}" for name, rows in self.outcome.warnings[source].items()]
        return "; ".join(told + self.outcome.notes[source]) or None


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

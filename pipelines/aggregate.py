"""aggregate: facts and labels become marts, by the dbt project in ``sql/``.

The step describes the run to dbt in three schemas of the private build file: ``lake`` (views over
the exact committed files), ``config`` (teams, targets, calendars) and ``run`` (the day, and which
cases and days it touches). What was consumed is noted only after dbt has succeeded; a run that was
killed in between is followed by a full refresh.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from pipelines.calendars import expand_calendar, slice_hours
from pipelines.context import Run, StepCount, timed_step
from pipelines.entities import FACTS, INSTANT, LABELS
from pipelines.errors import HearbackError
from pipelines.settings import Calendar, Settings
from pipelines.storage import (
    FileEntry,
    Home,
    Lake,
    connect_duckdb,
    explain_disk_errors,
    quote,
    quote_list,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb
    import pyarrow as pa

SQL_FOLDER = Path(__file__).resolve().parents[1] / "sql"
STORAGE_VERSION = "v1.2.0"  # files that DuckDB 1.2 and later can open
HORIZON_DAYS = 400  # how far ahead of a run due times may lie
# Systems whose customer ids other sources quote as external ids.
RECORD_KINDS = {
    "salesforce", "zoho_crm", "dynamics365", "sql", "mongodb", "csv", "jsonl", "parquet", "excel"
}  # fmt: skip
UNCHANGED_VIEWS = [
    "path:models/staging",
    "path:models/intermediate,config.materialized:view",
    "path:models/marts,config.materialized:view",
]


@dataclass(frozen=True)
class Consumed:
    """What the build file holds already; versions of the manifests, files by partition."""

    facts_version: int
    labels_version: int
    as_of: datetime
    files: dict[tuple[str, str], str]


def run(run: Run, *, with_tests: bool = False) -> list[StepCount]:
    """Bring the marts of the build file up to the committed facts and labels.

    Rebuilds the touched cases and days; everything on ``full_refresh``, after a change of the
    configuration or of ``sql/``, and after a run that was cut off. ``with_tests`` adds the data
    tests that read whole tables.
    """
    with timed_step(run, "aggregate") as counts:
        create_build_file(run)
        with open_build_file(run) as con:
            consumed = None if run.full_refresh else read_consumed(con, run)
            mark_unfinished(con)
            write_lake_views(con, run)
            write_config(con, run)
        found = build(run, consumed, with_tests=with_tests)
        if consumed is not None and any(count.difference for count in found):
            # Rows have left the facts (an erasure): only building all again takes them out.
            found = build(run, None, with_tests=with_tests)
        with open_build_file(run) as con:
            write_comments(con, run)
            note_consumed(con, run)
        counts.extend(found)
    return counts


def build(run: Run, consumed: Consumed | None, *, with_tests: bool) -> list[StepCount]:
    """Build what has changed since ``consumed`` (None: everything) and count the rows."""
    with open_build_file(run) as con:
        write_touched(con, run, consumed)
    build_marts(run, is_full=consumed is None, with_tests=with_tests)
    with open_build_file(run) as con:
        return count_rows(con, run)


# The build file -----------------------------------------------------------------------------------


def create_build_file(run: Run) -> None:
    """Create the build file in the storage format that older DuckDB releases can read."""
    import duckdb

    path = run.home.build
    if path.exists():
        return
    with explain_disk_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as con:
        target = str(path).replace("'", "''")
        con.execute(f"attach '{target}' as build (storage_version '{STORAGE_VERSION}')")


@contextmanager
def open_build_file(run: Run) -> Iterator[duckdb.DuckDBPyConnection]:
    """The build file, closed again at the end; HearbackError if another process holds it."""
    import duckdb

    try:
        con = connect_duckdb(run.lake, run.home.build)
    except duckdb.IOException as error:
        raise HearbackError(
            f"{run.home.build} cannot be opened ({str(error).splitlines()[0]}); wait for the other "
            "run to end, or if the file is damaged delete it: it is rebuilt from the lake"
        ) from error
    try:
        yield con
    finally:
        con.close()


def write_table(con: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    """Create or replace a table of the build file from an Arrow table."""
    con.register("_incoming", table)
    con.execute(f"create or replace table {name} as select * from _incoming")
    con.unregister("_incoming")


# What has been consumed ---------------------------------------------------------------------------


def fingerprint(settings: Settings) -> str:
    """Changes with whatever makes marts built before wrong: sql/ and the configuration they use."""
    content = settings.model_dump(mode="json")
    parts = [content[part] for part in ("calendars", "sla_policies", "teams")]
    parts += [settings.project.time_zone, settings.project.calendar]
    parts += [[source.name, source.kind] for source in settings.sources]
    digest = hashlib.md5(json.dumps(parts, sort_keys=True).encode(), usedforsecurity=False)
    for path in list_project_files():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def list_project_files() -> list[Path]:
    """The files of the dbt project that decide what it builds."""
    found = [path for folder in ("models", "macros") for path in (SQL_FOLDER / folder).rglob("*")]
    used = [path for path in found if path.suffix in (".sql", ".yml")]
    return [SQL_FOLDER / "dbt_project.yml", *sorted(used)]


def read_consumed(con: duckdb.DuckDBPyConnection, run: Run) -> Consumed | None:
    """What the build file holds, or None if it has to be built as a whole."""
    tables = {"consumed", "files"}
    if has_table(con, "state", "unfinished") or not all(
        has_table(con, "state", table) for table in tables
    ):
        return None
    row = fetch_row(
        con, "select facts_version, labels_version, as_of, fingerprint from state.consumed"
    )
    if row is None or row[3] != fingerprint(run.settings) or row[2] > run.now:
        return None
    files = con.execute("select entity, part, path from state.files").fetchall()
    return Consumed(row[0], row[1], row[2], {(entity, part): path for entity, part, path in files})


def has_table(con: duckdb.DuckDBPyConnection, schema: str, name: str) -> bool:
    """Whether the build file has that table."""
    found = con.execute(
        "select 1 from duckdb_tables() where schema_name = ? and table_name = ?", [schema, name]
    )
    return bool(found.fetchall())


def fetch_row(con: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...] | None:
    """The first row; read to the end, since an unfinished result would hold the connection."""
    return next(iter(con.execute(query).fetchall()), None)


def mark_unfinished(con: duckdb.DuckDBPyConnection) -> None:
    """Note that a run is under way: if it is cut off, the next one builds everything."""
    con.execute("create schema if not exists state")
    con.execute("create or replace table state.unfinished as select true as is_unfinished")


def note_consumed(con: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Note what the marts now hold: the commit of this step."""
    import pyarrow as pa

    con.execute("begin")
    write_table(
        con,
        "state.consumed",
        pa.table(
            {
                "facts_version": [run.lake.facts_manifest()["version"]],
                "labels_version": [run.lake.labels_manifest()["version"]],
                "as_of": pa.array([run.now], INSTANT),
                "fingerprint": [fingerprint(run.settings)],
            }
        ),
    )
    files = list_files(run.lake)
    write_table(
        con,
        "state.files",
        pa.table(
            {
                "entity": pa.array([entity for entity, _ in files], pa.string()),
                "part": pa.array([part for _, part in files], pa.string()),
                "path": pa.array(list(files.values()), pa.string()),
            }
        ),
    )
    con.execute("drop table if exists state.unfinished")
    con.execute("commit")
    con.execute("checkpoint")


def list_files(lake: Lake) -> dict[tuple[str, str], str]:
    """Path of every committed partition of facts and labels, by (entity, day)."""
    files = {
        (entity, day): entry["path"]
        for entity, days in lake.facts_manifest()["partitions"].items()
        for day, entry in days.items()
    }
    labels = lake.labels_manifest()["partitions"]
    return files | {("classified", day): entry["path"] for day, entry in labels.items()}


# Schema lake --------------------------------------------------------------------------------------


def write_lake_views(con: duckdb.DuckDBPyConnection, run: Run) -> None:
    """One view over the exact committed files of each entity, typed also when there are none."""
    import pyarrow as pa

    lake = run.lake
    con.execute("create schema if not exists lake")
    partitions = lake.facts_manifest()["partitions"]
    for entity, schema in FACTS.items():
        write_view(con, lake, entity, schema, partitions.get(entity, {}).values())
    write_view(con, lake, "classified", LABELS, lake.labels_manifest()["partitions"].values())
    rejected = [e for entries in lake.staging_manifest()["quarantine"].values() for e in entries]
    write_view(con, lake, "quarantine", quarantine_schema(), rejected, is_lenient=True)
    reports = lake.read_step_reports()
    columns = {name: [row.get(name) for row in reports] for name in report_schema().names}
    columns["started_at"] = [at and datetime.fromisoformat(at) for at in columns["started_at"]]
    columns["run_date"] = [day and date.fromisoformat(day) for day in columns["run_date"]]
    write_table(con, "lake.run_report", pa.table(columns, schema=report_schema()))


def write_view(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    name: str,
    schema: pa.Schema,
    entries: Iterable[FileEntry],
    *,
    is_lenient: bool = False,
) -> None:
    """Create lake.<name> over the files; ``is_lenient`` files may lack columns of the schema."""
    empty = con.from_arrow(schema.empty_table())
    types = {column: str(kind) for column, kind in zip(empty.columns, empty.types, strict=True)}
    urls = [lake.url(entry["path"]) for entry in entries]
    found = f"read_parquet({quote_list(urls)}{', union_by_name = true' if is_lenient else ''})"
    present = set(types)
    if is_lenient and urls:
        present = set(con.sql(f"select * from {found} limit 0").columns)
    columns = ", ".join(
        f'"{column}"' if urls and column in present else f'null::{kind} as "{column}"'
        for column, kind in types.items()
    )
    source = f"from {found}" if urls else "where false"
    con.execute(f"create or replace view lake.{name} as select {columns} {source}")


@cache
def quarantine_schema() -> pa.Schema:
    """The columns of rejected rows that the marts use."""
    import pyarrow as pa

    texts = ["source", "source_kind", "record_id", "entity", "payload", "run_id", "url"]
    return pa.schema(
        [(name, pa.string()) for name in texts]
        + [("captured_at", INSTANT), ("reasons", pa.list_(pa.string()))]
    )


@cache
def report_schema() -> pa.Schema:
    """The columns of run_report."""
    import pyarrow as pa

    counts = ["count_in", "count_out", "count_quarantined", "count_duplicate", "count_unchanged"]
    return pa.schema(
        [
            ("run_id", pa.string()),
            ("run_date", pa.date32()),
            ("step", pa.string()),
            ("source", pa.string()),
            ("entity", pa.string()),
            *[(count, pa.int64()) for count in counts],
            ("is_closed", pa.bool_()),
            ("detail", pa.string()),
            ("started_at", INSTANT),
            ("seconds", pa.float64()),
            ("peak_memory_mb", pa.float64()),
        ]
    )


# Schema config ------------------------------------------------------------------------------------


def write_config(con: duckdb.DuckDBPyConnection, run: Run) -> None:
    """The parts of the configuration that the marts read, as tables."""
    import pyarrow as pa

    con.execute("create schema if not exists config")
    settings = run.settings
    for name, (schema, rows) in config_tables(settings).items():
        write_table(con, f"config.{name}", pa.Table.from_pylist(rows, schema=schema))
    write_calendars(con, run)


def config_tables(settings: Settings) -> dict[str, tuple[pa.Schema, list[dict[str, Any]]]]:
    """Schema and rows of each table of ``config`` besides the calendars."""
    import pyarrow as pa

    text, texts, number = pa.string(), pa.list_(pa.string()), pa.float64()
    project = settings.project
    zones = {calendar.name: calendar.time_zone for calendar in settings.calendars}
    teams = [
        {
            "position": position,
            "team": team.name,
            "source_groups": team.groups,
            "needs": team.needs,
            "calendar": team.calendar or project.calendar,
            "time_zone": zones.get(team.calendar or "", project.time_zone),
            "lead_email": team.lead_email,
        }
        for position, team in enumerate(settings.teams)
    ]
    # A group that bears a team's own name belongs to it without being listed.
    groups = {team.name: team.name for team in settings.teams}
    groups |= {group: team.name for team in reversed(settings.teams) for group in team.groups}
    members = [
        {
            "team": team.name,
            "name": member.name,
            "email": member.email,
            "languages": member.languages,
            "daily_capacity": member.daily_capacity,
            "calendar": member.calendar or team.calendar or project.calendar,
        }
        for team in settings.teams
        for member in team.members
    ]
    targets = [
        {
            "position": position,
            "policy": policy.name,
            "clock": policy.clock,
            "metric": "first_reply",
            "priority": priority,
            "target_minutes": minutes,
            "channels": policy.when.channel,
            "needs": policy.when.need,
            "priorities": policy.when.priority,
            "segments": policy.when.segment,
            "teams": policy.when.team,
            "tags": policy.when.tag,
        }
        for position, policy in enumerate(settings.sla_policies)
        for priority, minutes in policy.first_reply.items()
    ]
    rules = [
        {
            "rule": rule.name,
            "is_enabled": rule.enabled,
            "thresholds": list(rule.thresholds.items()),
        }
        for rule in settings.follow_up_rules
    ]
    return {
        "project": (
            pa.schema([("time_zone", text), ("calendar", text), ("languages", texts)]),
            [project.model_dump(include={"time_zone", "calendar", "languages"})],
        ),
        "sources": (
            pa.schema([("source", text), ("kind", text), ("is_system_of_record", pa.bool_())]),
            [
                {
                    "source": source.name,
                    "kind": source.kind,
                    "is_system_of_record": source.kind in RECORD_KINDS,
                }
                for source in settings.sources
            ],
        ),
        "teams": (
            pa.schema(
                [
                    ("position", pa.int64()),
                    ("team", text),
                    ("source_groups", texts),
                    ("needs", texts),
                    ("calendar", text),
                    ("time_zone", text),
                    ("lead_email", text),
                ]
            ),
            teams,
        ),
        "team_groups": (
            pa.schema([("source_group", text), ("team", text)]),
            [{"source_group": group, "team": team} for group, team in groups.items()],
        ),
        "team_members": (
            pa.schema(
                [
                    ("team", text),
                    ("name", text),
                    ("email", text),
                    ("languages", texts),
                    ("daily_capacity", pa.int64()),
                    ("calendar", text),
                ]
            ),
            members,
        ),
        "sla_targets": (
            pa.schema(
                [
                    ("position", pa.int64()),
                    ("policy", text),
                    ("clock", text),
                    ("metric", text),
                    ("priority", text),
                    ("target_minutes", number),
                    *[
                        (name, texts)
                        for name in ("channels", "needs", "priorities", "segments", "teams", "tags")
                    ],
                ]
            ),
            targets,
        ),
        "follow_up_rules": (
            pa.schema(
                [("rule", text), ("is_enabled", pa.bool_()), ("thresholds", pa.map_(text, number))]
            ),
            rules,
        ),
    }


def write_calendars(con: duckdb.DuckDBPyConnection, run: Run) -> None:
    """The calendars' versions, and their open intervals from the first case to the horizon.

    Left as they are while the configuration is the same and they reach far enough.
    """
    import pyarrow as pa

    first, last = find_range(run)
    stamp = fingerprint(run.settings)
    if has_table(con, "config", "calendar_range"):
        kept = fetch_row(con, "select fingerprint, first, last from config.calendar_range")
        if kept is not None and kept[0] == stamp and kept[1] <= first and kept[2] >= last:
            return
    # Wider than needed, so that the next days need no new expansion.
    first, last = first - timedelta(days=31), last + timedelta(days=93)
    versions: dict[str, list[Calendar]] = {}
    for calendar in run.settings.calendars:
        versions.setdefault(calendar.name, []).append(calendar)
    instant = pa.timestamp("us", tz="UTC")
    tables = [expand_calendar(entries, first, last) for entries in versions.values()]
    slots = [slice_hours(table, first, last) for table in tables]
    nothing = expand_calendar([], first, last)
    write_table(con, "config.calendar_intervals", pa.concat_tables([nothing, *tables]))
    nothing = slice_hours(nothing, first, first)[:0]
    write_table(con, "config.calendar_slots", pa.concat_tables([nothing, *slots]))
    rows = [
        {
            "calendar": calendar.name,
            "time_zone": calendar.time_zone,
            "valid_from": calendar.valid_from,
            "valid_from_at": datetime.combine(
                calendar.valid_from or date(1900, 1, 1), time(), ZoneInfo(calendar.time_zone)
            ).astimezone(UTC),
            "country": calendar.country,
            "has_make_up_days": calendar.make_up_days,
        }
        for calendar in run.settings.calendars
    ]
    schema = pa.schema(
        [
            ("calendar", pa.string()),
            ("time_zone", pa.string()),
            ("valid_from", pa.date32()),
            ("valid_from_at", instant),
            ("country", pa.string()),
            ("has_make_up_days", pa.bool_()),
        ]
    )
    write_table(con, "config.calendar_versions", pa.Table.from_pylist(rows, schema=schema))
    stamped = pa.table({"fingerprint": [stamp], "first": [first], "last": [last]})
    write_table(con, "config.calendar_range", stamped)


def find_range(run: Run) -> tuple[date, date]:
    """The days that calendars have to cover: from the first fact to the horizon after the run."""
    partitions = run.lake.facts_manifest()["partitions"]
    days = [date.fromisoformat(day) for entity in ("cases", "case_events")
            for day in partitions.get(entity, {}) if day != "all"]  # fmt: skip
    return min([run.date, *days]), run.date + timedelta(days=HORIZON_DAYS)


# Schema run ---------------------------------------------------------------------------------------


def write_touched(con: duckdb.DuckDBPyConnection, run: Run, consumed: Consumed | None) -> None:
    """What this run has to rebuild; everything if nothing was consumed."""
    import pyarrow as pa

    con.execute("create schema if not exists run")
    current = {
        "run_id": [run.run_id],
        "run_date": [run.date],
        "as_of": pa.array([run.now], INSTANT),
        "time_zone": [run.settings.project.time_zone],
    }
    write_table(con, "run.current", pa.table(current))
    write_built_views(con, is_empty=consumed is None)
    files = list_files(run.lake)
    if consumed is None:
        changed = set(files)
        cases = "select case_id, true as is_changed from lake.cases"
    else:
        changed = {key for key, path in files.items() if consumed.files.get(key) != path}
        changed |= set(consumed.files) - set(files)
        cases = " union all ".join(list_touched_queries(run, consumed, files, changed))
    con.execute(
        "create or replace table run.touched_cases as "
        f"select case_id, bool_or(is_changed) as is_changed from ({cases}) "
        "semi join lake.cases using (case_id) group by case_id"
    )
    days = sorted(list_touched_days(run, consumed, changed))
    write_table(con, "run.touched_days", pa.table({"day": pa.array(days, pa.date32())}))


def write_built_views(con: duckdb.DuckDBPyConnection, *, is_empty: bool) -> None:
    """What the marts hold from the run before: cases, and the days on which they count."""
    if is_empty:
        con.execute(
            "create or replace view run.built_cases as select null::varchar as case_id, "
            "null::varchar as customer_id, null::timestamptz as last_solved_at where false"
        )
        con.execute(
            "create or replace view run.built_days as "
            "select null::varchar as case_id, null::date as day where false"
        )
        return
    con.execute(
        "create or replace view run.built_cases as "
        "select case_id, customer_id, last_solved_at from main.cases"
    )
    days = ", ".join(
        f"({instant} at time zone time_zone)::date"
        for instant in ("opened_at", "first_reply_at", "first_resolved_at", "last_solved_at")
    )
    con.execute(
        "create or replace view run.built_days as "
        f"select case_id, unnest([{days}]) as day from main.cases "
        "union all select case_id, decided_date from main.sla_events"
    )


def list_touched_queries(
    run: Run, consumed: Consumed, files: dict[tuple[str, str], str], changed: set[tuple[str, str]]
) -> list[str]:
    """Queries of (case_id, is_changed) that together find the cases to be rebuilt."""

    def read_changed(entity: str, since: int) -> str | None:
        keys = sorted(key for key in changed if key[0] == entity and key in files)
        urls = quote_list(run.lake.url(files[key]) for key in keys)
        return f"read_parquet({urls}) where changed_in > {since}" if keys else None

    as_of = f"timestamptz '{run.now.isoformat()}'"
    queries = [
        # Running clocks move with as_of, and so does the window after a solve.
        "select case_id, false as is_changed from main.cases "
        "where status in ('new', 'open', 'pending', 'hold')",
        "select case_id, true as is_changed from main.cases "
        "where first_contact_resolved is null and status in ('solved', 'closed') "
        f"and last_solved_at + interval 7 days <= {as_of}",
    ]
    for entity in ("cases", "case_events", "feedback", "survey_responses"):
        rows = read_changed(entity, consumed.facts_version)
        if rows is not None:
            queries.append(f"select case_id, true as is_changed from {rows}")
    labels = read_changed("classified", consumed.labels_version)
    if labels is not None:
        # Labels are filed under the day of their feedback.
        days = {day for entity, day in changed if entity == "classified"}
        feedback = [run.lake.url(path) for (entity, day), path in files.items()
                    if entity == "feedback" and day in days]  # fmt: skip
        if feedback:
            queries.append(
                "select case_id, true as is_changed "
                f"from read_parquet({quote_list(sorted(feedback))}) "
                f"where feedback_id in (select feedback_id from {labels})"
            )
    customers = read_changed("customers", consumed.facts_version)
    if customers is not None and any(policy.when.segment for policy in run.settings.sla_policies):
        queries.append(
            "select case_id, true as is_changed from lake.cases "
            f"where customer_ref in (select customer_ref from {customers})"
        )
    return queries


def list_touched_days(
    run: Run, consumed: Consumed | None, changed: set[tuple[str, str]]
) -> set[date]:
    """Local days on which feedback or answers changed, and those since the last run.

    A file holds one day of UTC: in a local zone its rows lie on that day or on a neighbour.
    """
    around = [timedelta(days=days) for days in (-1, 0, 1)]
    touched = {
        date.fromisoformat(day) + step
        for entity, day in changed
        if entity in ("feedback", "classified", "survey_responses") and day != "all"
        for step in around
    }
    if consumed is not None:
        day = consumed.as_of.date() - timedelta(days=1)
        while day <= run.now.date() + timedelta(days=1):
            touched.add(day)
            day += timedelta(days=1)
    return touched


# dbt ----------------------------------------------------------------------------------------------


def build_marts(run: Run, *, is_full: bool, with_tests: bool = False) -> None:
    """Run ``dbt build`` on the build file; HearbackError names the model or test that failed."""
    arguments = ["build", "--exclude-resource-type", "unit_test"]
    if is_full:
        arguments.append("--full-refresh")
    excluded = [] if with_tests else ["tag:whole"]
    if not is_full:
        excluded += UNCHANGED_VIEWS
    if excluded:
        arguments += ["--exclude", *excluded]
    invoke_dbt(run.home, arguments)


def invoke_dbt(home: Home, arguments: list[str]) -> Any:
    """Run dbt in this process on the build file, quietly; returns its result."""
    from dbt.adapters import factory
    from dbt.cli.main import dbtRunner

    target = home.state / "dbt"
    with explain_disk_errors(str(target)):
        target.mkdir(parents=True, exist_ok=True)
    os.environ["HEARBACK_BUILD_FILE"] = str(home.build)
    options = [
        "--project-dir", str(SQL_FOLDER),
        "--profiles-dir", str(SQL_FOLDER),
        "--target-path", str(target),
        "--log-path", str(target / "logs"),
        "--log-level", "none",
        "--log-level-file", "none",
        "--quiet",
        "--no-use-colors",
    ]  # fmt: skip
    try:
        result = dbtRunner().invoke([*arguments, *options])
    finally:
        close_dbt_connections()
        factory.reset_adapters()  # type: ignore[no-untyped-call]
    if not result.success:
        raise explain_failure(result, target)
    return result.result


def close_dbt_connections() -> None:
    """Let go of the build file, which the adapter would hold until the process ends."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]


def explain_failure(result: Any, target: Path) -> HearbackError:
    """One line that names the model or test, what DuckDB said, and where the compiled SQL is."""
    for found in getattr(result.result, "results", None) or []:
        if str(found.status) in ("error", "fail", "runtime error"):
            node = found.node
            said = " ".join(str(found.message or "").split())
            path = node.compiled_path or target / "compiled"
            return HearbackError(
                f"aggregate: {node.resource_type} {node.name} "
                f"({SQL_FOLDER.name}/{node.original_file_path}) failed: {said}; "
                f"the compiled SQL is {path}"
            )
    said = " ".join(str(result.exception or "unknown cause").split())
    return HearbackError(f"aggregate: dbt could not run {SQL_FOLDER}: {said}; mend the project")


def write_comments(con: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Put the descriptions of the project into the file, where they differ from what is there."""
    manifest = json.loads((run.home.state / "dbt" / "manifest.json").read_text(encoding="utf-8"))
    nodes = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    nodes += manifest["sources"].values()
    present = {
        (schema, name): (kind, comment)
        for schema, name, kind, comment in con.execute(
            "select schema_name, table_name, 'table', comment from duckdb_tables() union all "
            "select schema_name, view_name, 'view', comment from duckdb_views() where not internal"
        ).fetchall()
    }
    columns = {
        (schema, table, column): comment
        for schema, table, column, comment in con.execute(
            "select schema_name, table_name, column_name, comment from duckdb_columns() "
            "where not internal"
        ).fetchall()
    }
    statements: list[str] = []
    for node in nodes:
        schema, name = node["schema"], node.get("identifier") or node.get("alias") or node["name"]
        kind, comment = present.get((schema, name), (None, None))
        if kind is None:
            continue
        wanted = " ".join(node["description"].split())
        if wanted and wanted != comment:
            statements.append(f'comment on {kind} {schema}."{name}" is {quote(wanted)}')
        for column in node["columns"].values():
            key = (schema, name, column["name"])
            text = " ".join(column["description"].split())
            if text and key in columns and columns[key] != text:
                statements.append(
                    f'comment on column {schema}."{name}"."{column["name"]}" is {quote(text)}'
                )
    con.execute("begin")
    for statement in statements:
        con.execute(statement)
    con.execute("commit")


# Counts -------------------------------------------------------------------------------------------


def count_rows(con: duckdb.DuckDBPyConnection, run: Run) -> list[StepCount]:
    """Facts in against rows out: every feedback row and every case stands in the marts once."""
    partitions = run.lake.facts_manifest()["partitions"]

    def count_facts(entity: str) -> int:
        return sum(entry["rows"] for entry in partitions.get(entity, {}).values())

    def count(query: str) -> int:
        row = fetch_row(con, query)
        return int(row[0]) if row is not None and row[0] is not None else 0

    volume = count(
        "select sum(numerator)::bigint from main.metrics_daily "
        "where metric = 'volume' and counted = 'feedback'"
    )
    left_out = count("select count(*) from lake.feedback where is_excluded")
    return [
        StepCount("aggregate", entity="feedback", count_in=count_facts("feedback"),
                  count_out=volume + left_out),
        StepCount("aggregate", entity="cases", count_in=count_facts("cases"),
                  count_out=count("select count(*) from main.cases")),
    ]  # fmt: skip

"""aggregate: facts and labels become marts, by the dbt project in ``sql/``.

The step describes the run to dbt in three schemas of the private build file: ``lake`` (views over
the exact committed files), ``config`` (teams, targets, calendars) and ``run`` (the day, and which
cases and days it touches). What was consumed is noted only after dbt has succeeded; a run that was
killed in between is followed by a full refresh.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipelines.build_file import (
    create_build_file,
    fetch_row,
    has_table,
    open_build_file,
    write_comments_of,
    write_rows,
)
from pipelines.config_changes import (
    has_other_zones,
    list_calendar_queries,
    list_policy_queries,
    list_team_queries,
)
from pipelines.context import Run, StepCount, timed_step
from pipelines.dbt_project import SQL_FOLDER, invoke_dbt, list_project_files, start_import
from pipelines.entities import FACTS, LABELS
from pipelines.mart_config import check_rules, write_config
from pipelines.service_levels import list_policy_warnings
from pipelines.settings import Settings
from pipelines.storage import FileEntry, Home, Lake, quote, quote_list

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from dbt.contracts.graph.manifest import Manifest

HORIZON_DAYS = 400  # how far ahead of a run due times may lie
TYPES = {
    "string": "varchar",
    "double": "double",
    "int64": "bigint",
    "bool": "boolean",
    "timestamp[us, tz=UTC]": "timestamptz",
    "list<item: string>": "varchar[]",
}
QUARANTINE_COLUMNS = {
    **dict.fromkeys(
        ("source", "source_kind", "record_id", "entity", "payload", "run_id", "url"), "varchar"
    ),
    "captured_at": "timestamptz",
    "reasons": "varchar[]",
}
REPORT_COLUMNS = {
    "run_id": "varchar",
    "run_date": "date",
    **dict.fromkeys(("step", "source", "entity"), "varchar"),
    **dict.fromkeys(
        ("count_in", "count_out", "count_quarantined", "count_duplicate", "count_unchanged"),
        "bigint",
    ),
    "is_closed": "boolean",
    "detail": "varchar",
    "started_at": "timestamptz",
    "seconds": "double",
    "peak_memory_mb": "double",
}
QUALITY_COLUMNS = {
    **dict.fromkeys(("model_version", "head", "language", "label"), "varchar"),
    "example_count": "bigint",
    **dict.fromkeys(("accuracy", "precision", "recall", "f1", "ece", "brier"), "double"),
    "is_current": "boolean",
}
STATE_COMMENTS = {
    "state.consumed": (
        "What the marts were built from. One row per build file.",
        {
            "facts_version": "Version of the manifest of facts.",
            "labels_version": "Version of the manifest of labels.",
            "as_of": "Instant up to which running clocks were counted.",
            "fingerprint": "Hash of sql/ and of the configuration that all marts depend on.",
        },
    ),
    "state.files": (
        "The files that the marts were built from. One row per entity and part.",
        {
            "entity": "Entity of the facts, or classified.",
            "part": "Day of UTC (YYYY-MM-DD), or all.",
            "path": "Path of the file below the lake.",
        },
    ),
    "state.policies": (
        "The service levels that the marts were built with. One row per build file.",
        {"content": "The policies in order, as JSON."},
    ),
}
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
    policies: list[dict[str, Any]]


def run(run: Run, *, with_tests: bool = False) -> list[StepCount]:
    """Bring the marts of the build file up to the committed facts and labels.

    Rebuilds the touched cases and days; everything on ``full_refresh``, after a change of the
    configuration or of ``sql/``, and after a run that was cut off. ``with_tests`` adds the data
    tests that read whole tables.
    """
    check_rules(run.settings, SQL_FOLDER / "models" / "follow_up")
    with timed_step(run, "aggregate") as counts:
        start_import()
        create_build_file(run.home)
        with open_build_file(run.home) as con:
            consumed = None if run.full_refresh else read_consumed(con, run)
            mark_unfinished(con)
            write_lake_views(con, run)
            write_config(con, run.settings, *find_range(run), calendar_stamp(run.settings))
        found, project = build(run, consumed, with_tests=with_tests)
        if consumed is not None and any(count.difference for count in found):
            # Rows have left the facts (an erasure): only building all again takes them out.
            found, project = build(run, None, with_tests=with_tests)
        with open_build_file(run.home) as con:
            write_comments(con, project)
            note_consumed(con, run)
        warnings = [f"warning: {text}" for text in list_policy_warnings(run.settings)]
        found[-1].detail = "; ".join(warnings) or None
        counts.extend(found)
    return counts


def build(
    run: Run, consumed: Consumed | None, *, with_tests: bool
) -> tuple[list[StepCount], Manifest]:
    """Build what has changed since ``consumed`` (None: everything) and count the rows.

    Returns the counts and the project that was built.
    """
    with open_build_file(run.home) as con:
        write_touched(con, run, consumed)
    project = build_marts(run, is_full=consumed is None, with_tests=with_tests)
    with open_build_file(run.home) as con:
        return count_rows(con, run), project


# What has been consumed ---------------------------------------------------------------------------


def fingerprint(settings: Settings) -> str:
    """Changes with what makes all marts built before wrong: sql/, and where the project is.

    Service levels, teams and calendars concern some cases: see pipelines/config_changes.py. The
    kinds of sources tell who is one customer; int_touched_cases finds the cases of those who moved.
    """
    parts = [settings.project.time_zone, settings.project.calendar]
    digest = hashlib.md5(json.dumps(parts).encode(), usedforsecurity=False)
    for path in list_project_files(("models", "macros")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def calendar_stamp(settings: Settings) -> str:
    """Changes with what calendars are expanded from."""
    calendars = settings.model_dump(mode="json", include={"calendars"})
    content = fingerprint(settings) + json.dumps(calendars, sort_keys=True)
    return hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()


def list_policies(settings: Settings) -> list[dict[str, Any]]:
    """The service levels that marts are built with, in order."""
    return [policy.model_dump(mode="json") for policy in settings.sla_policies]


def read_consumed(con: duckdb.DuckDBPyConnection, run: Run) -> Consumed | None:
    """What the build file holds, or None if it has to be built as a whole."""
    tables = {"consumed", "files", "policies"}
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
    kept = fetch_row(con, "select content from state.policies")
    policies = json.loads(kept[0]) if kept else []
    found = {(entity, part): path for entity, part, path in files}
    return Consumed(row[0], row[1], row[2], found, policies)


def mark_unfinished(con: duckdb.DuckDBPyConnection) -> None:
    """Note that a run is under way: if it is cut off, the next one builds everything."""
    con.execute("create schema if not exists state")
    con.execute("create or replace table state.unfinished as select true as is_unfinished")


def note_consumed(con: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Note what the marts now hold: the commit of this step."""
    con.execute("begin")
    consumed = {
        "facts_version": run.lake.facts_manifest()["version"],
        "labels_version": run.lake.labels_manifest()["version"],
        "as_of": run.now,
        "fingerprint": fingerprint(run.settings),
    }
    types = ["bigint", "bigint", "timestamptz", "varchar"]
    write_rows(con, "state.consumed", dict(zip(consumed, types, strict=True)), [consumed])
    files = [
        {"entity": entity, "part": part, "path": path}
        for (entity, part), path in list_files(run.lake).items()
    ]
    columns = dict.fromkeys(("entity", "part", "path"), "varchar")
    write_rows(con, "state.files", columns, files)
    policies = {"content": json.dumps(list_policies(run.settings))}
    write_rows(con, "state.policies", {"content": "varchar"}, [policies])
    for name, (about, told) in STATE_COMMENTS.items():
        write_comments_of(con, name, about, told)
    con.execute("drop table if exists state.unfinished")
    con.execute("drop schema if exists before cascade")
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
    lake = run.lake
    con.execute("create schema if not exists lake")
    partitions = lake.facts_manifest()["partitions"]
    for entity, schema in FACTS.items():
        files = partitions.get(entity, {}).values()
        write_view(con, lake, entity, read_types(schema), files)
    labels = lake.labels_manifest()["partitions"].values()
    write_view(con, lake, "classified", read_types(LABELS), labels)
    rejected = [e for entries in lake.staging_manifest()["quarantine"].values() for e in entries]
    write_view(con, lake, "quarantine", QUARANTINE_COLUMNS, rejected, is_lenient=True)
    write_rows(con, "lake.run_report", REPORT_COLUMNS, lake.read_step_reports())
    write_rows(con, "lake.model_quality", QUALITY_COLUMNS, read_model_quality(run.home))


def read_model_quality(home: Home) -> list[dict[str, Any]]:
    """What each model that is kept scored when it was trained, on labels held out from it."""
    pointer = home.models / "current"
    current = pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else None
    rows = []
    for path in sorted(home.models.glob("*/metadata.json")):
        metadata = json.loads(path.read_text(encoding="utf-8"))
        version = metadata["model_version"]
        for measure in metadata["measures"]:
            row = {
                "model_version": version,
                "example_count": measure["count"],
                "is_current": version == current,
            }
            rows.append({name: row.get(name, measure.get(name)) for name in QUALITY_COLUMNS})
    return rows


def read_types(schema: pa.Schema) -> dict[str, str]:
    """DuckDB's types of the columns of an Arrow schema."""
    return {field.name: TYPES[str(field.type)] for field in schema}


def write_view(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    name: str,
    types: dict[str, str],
    entries: Iterable[FileEntry],
    *,
    is_lenient: bool = False,
) -> None:
    """Create lake.<name> over the files; ``is_lenient`` files may lack some of the columns."""
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


# Schema config ------------------------------------------------------------------------------------


def find_range(run: Run) -> tuple[date, date]:
    """The days that calendars have to cover: from the first fact to the horizon after the run."""
    partitions = run.lake.facts_manifest()["partitions"]
    days = [
        date.fromisoformat(day)
        for entity in ("cases", "case_events")
        for day in partitions.get(entity, {})
        if day != "all"
    ]
    return min([run.date, *days]), run.date + timedelta(days=HORIZON_DAYS)


# Schema run ---------------------------------------------------------------------------------------


def write_touched(con: duckdb.DuckDBPyConnection, run: Run, consumed: Consumed | None) -> None:
    """What this run has to rebuild; everything if nothing was consumed."""
    con.execute("create schema if not exists run")
    current = {
        "run_id": run.run_id,
        "run_date": run.date,
        "as_of": run.now,
        "time_zone": run.settings.project.time_zone,
    }
    types = ["varchar", "date", "timestamptz", "varchar"]
    write_rows(con, "run.current", dict(zip(current, types, strict=True)), [current])
    write_built_views(con, run.settings, is_empty=consumed is None)
    files = list_files(run.lake)
    if consumed is None:
        changed = set(files)
        cases = "select case_id, true as is_changed, true as is_told_anew from lake.cases"
    else:
        changed = {key for key, path in files.items() if consumed.files.get(key) != path}
        changed |= set(consumed.files) - set(files)
        told = " union all ".join(list_touched_queries(run, consumed, files, changed))
        cases = f"select case_id, is_changed, is_changed as is_told_anew from ({told})"
        queries = list_policy_queries(consumed.policies, list_policies(run.settings))
        queries += list_team_queries(con) + list_calendar_queries(con)
        for query in queries:
            cases += f" union all select case_id, is_changed, false from ({query})"
    con.execute(
        "create or replace table run.touched_cases as "
        "select case_id, bool_or(is_changed) as is_changed, bool_or(is_told_anew) as is_told_anew "
        f"from ({cases}) "
        "semi join lake.cases using (case_id) group by case_id"
    )
    days = [{"day": day} for day in sorted(list_touched_days(run, consumed, changed))]
    write_rows(con, "run.touched_days", {"day": "date"}, days)


def write_built_views(
    con: duckdb.DuckDBPyConnection, settings: Settings, *, is_empty: bool
) -> None:
    """What the marts hold from the run before: cases, their days, and customers."""
    kind = "table" if has_table(con, "run", "built_customers") else "view"
    con.execute(f"drop {kind} if exists run.built_customers")
    if is_empty:
        con.execute(
            "create or replace view run.built_cases as select null::varchar as case_id, "
            "null::varchar as customer_id, null::timestamptz as last_solved_at where false"
        )
        con.execute(
            "create or replace view run.built_days as "
            "select null::varchar as case_id, null::date as day where false"
        )
        con.execute(
            "create view run.built_customers as select null::varchar as customer_id, "
            "null::varchar as segment, null::boolean as do_not_contact where false"
        )
        return
    con.execute(
        "create or replace view run.built_cases as "
        "select case_id, customer_id, last_solved_at from main.cases"
    )
    instants = ["opened_at", "first_reply_at", "first_resolved_at", "last_solved_at"]
    days = (
        f"select case_id, unnest([{list_local_days(instants)}]) as day from main.cases "
        "union all select case_id, decided_date from main.sla_events"
    )
    if has_other_zones(con):
        answered = list_local_days(["answered_at", "offered_at"])
        days += (
            f" union all select case_id, unnest([{answered}]) "
            "from main.survey_responses inner join main.cases using (case_id)"
            f" union all select case_id, {list_local_days(['reviewed_at'])} "
            "from main.quality_review_ratings inner join main.cases using (case_id)"
        )
    con.execute(f"create or replace view run.built_days as {days}")
    # Who the customer is matters only to some service levels; else nobody has changed.
    matters = any(policy.when.segment or policy.pause_do_not_contact
                  for policy in settings.sla_policies)  # fmt: skip
    con.execute(
        f"create {'table' if matters else 'view'} run.built_customers as "
        "select customer_id, segment, do_not_contact from main.customers"
    )


def list_local_days(instants: list[str]) -> str:
    """The days of instants in their case's zone, as expressions of a list."""
    return ", ".join(f"({instant} at time zone time_zone)::date" for instant in instants)


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
    figures = read_changed("vendor_metrics", consumed.facts_version)
    if figures is not None:
        queries.append(f"select case_id, false as is_changed from {figures}")
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
        if entity in ("feedback", "classified", "survey_responses", "quality_reviews")
        and day != "all"
        for step in around
    }
    if consumed is not None:
        day = consumed.as_of.date() - timedelta(days=1)
        while day <= run.now.date() + timedelta(days=1):
            touched.add(day)
            day += timedelta(days=1)
    return touched


# dbt ----------------------------------------------------------------------------------------------


def build_marts(run: Run, *, is_full: bool, with_tests: bool = False) -> Manifest:
    """Run ``dbt build`` on the build file; HearbackError names the model or test that failed.

    Returns the project as dbt has read it.
    """
    arguments = ["build", "--no-write-json", "--exclude-resource-type", "unit_test"]
    if is_full:
        arguments.append("--full-refresh")
    excluded = [] if with_tests else ["tag:whole"]
    if not is_full:
        excluded += UNCHANGED_VIEWS
    if excluded:
        arguments += ["--exclude", *excluded]
    _, manifest = invoke_dbt(run.home, arguments)
    return manifest


def write_comments(con: duckdb.DuckDBPyConnection, project: Manifest) -> None:
    """Put the descriptions of the project into the file, where they differ from what is there."""
    nodes: list[Any] = [
        node for node in project.nodes.values() if node.resource_type.value == "model"
    ]
    nodes += project.sources.values()
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
        schema, name = node.schema, node.identifier
        kind, comment = present.get((schema, name), (None, None))
        if kind is None:
            continue
        wanted = " ".join(node.description.split())
        if wanted and wanted != comment:
            statements.append(f'comment on {kind} {schema}."{name}" is {quote(wanted)}')
        for column in node.columns.values():
            key = (schema, name, column.name)
            text = " ".join(column.description.split())
            if text and key in columns and columns[key] != text:
                statements.append(
                    f'comment on column {schema}."{name}"."{column.name}" is {quote(text)}'
                )
    con.execute(";\n".join(["begin", *statements, "commit"]))


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

"""deliver: write what people receive, from the published warehouse.

``out/follow_ups/<date>/`` one list a team (XLSX and CSV), ``out/metrics/<date>/`` the metric views
(Parquet and CSV), ``out/report/<date>/index.html`` the day's report. Everything is written into a
folder aside and renamed file by file. A list that somebody has edited in place is kept beside the
new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.context import Run, StepCount, timed_step
from pipelines.errors import HearbackError
from pipelines.report.lists import ListInfo, format_row, name_files, write_csv, write_xlsx
from pipelines.report.words import load_words, make_harmless
from pipelines.storage import connect_duckdb, explain_disk_errors, quote

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

METRIC_VIEWS = (
    "csat", "nps", "ces", "response_times", "sla_compliance", "backlog", "volume",
    "quality_control",
)  # fmt: skip
EXCERPT = 220
BATCH = 5_000
WRITTEN = ".written.json"
# Control and direction-changing signs have no place in a list: some break XLSX, some hide text.
CLEAN_SQL = "regexp_replace({}, '[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\\x{{202a}}-\\x{{202e}}\\x{{2066}}-\\x{{2069}}\\x{{fffe}}\\x{{ffff}}]', '', 'g')"  # noqa: E501

# What the lists read of tables that a small installation may not have.
OPTIONAL = {
    "customers": {"customer_id": "VARCHAR", "display_name": "VARCHAR"},
    "cases": {
        "case_id": "VARCHAR",
        "subject": "VARCHAR",
        "source_case_id": "VARCHAR",
        "product": "VARCHAR",
    },
    "feedback": {
        "feedback_id": "VARCHAR",
        "case_id": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
        "title": "VARCHAR",
        "body": "VARCHAR",
        "product": "VARCHAR",
    },
}


def run(run: Run) -> list[StepCount]:
    """Write lists, metrics and report of the run's day; the same data gives the same files.

    Counts: live tasks in, rows in lists out. HearbackError if nothing has been published.
    """
    with timed_step(run, "deliver") as counts, open_published(run) as con:
        counts.append(deliver_lists(con, run))
        counts.append(deliver_metrics(con, run))
        counts.append(deliver_report(con, run))
    return counts


@contextmanager
def open_published(run: Run) -> Iterator[duckdb.DuckDBPyConnection]:
    """The published warehouse, read-only. HearbackError if there is none or it does not open."""
    import duckdb

    path = run.home.warehouse
    if not path.is_file():
        raise HearbackError(f"{path}: nothing has been published yet; run 'hearback publish' first")
    try:
        con = connect_duckdb(run.lake, path, read_only=True)
    except duckdb.Error as error:
        raise HearbackError(
            f"{path}: cannot be opened ({str(error).splitlines()[0]}); run 'hearback publish'"
        ) from error
    try:
        yield con
    finally:
        con.close()


@contextmanager
def replace_files(folder: Path) -> Iterator[Path]:
    """A folder aside; its files are renamed into ``folder`` when the block has ended well.

    What an earlier run of the day wrote and this one did not is removed; what somebody changed
    since is kept under another name.
    """
    with explain_disk_errors(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".new-*"):
            shutil.rmtree(left, ignore_errors=True)
        aside = folder / f".new-{uuid.uuid4().hex[:8]}"
        aside.mkdir()
        try:
            yield aside
            before = read_written(folder)
            written = {path.name: hash_file(path) for path in sorted(aside.iterdir())}
            for name, digest in before.items():
                keep_edited(folder / name, digest)
                if name not in written:
                    (folder / name).unlink(missing_ok=True)
            for name in written:
                os.replace(aside / name, folder / name)
            note = aside / WRITTEN
            note.write_text(json.dumps(written, ensure_ascii=False, indent=0), encoding="utf-8")
            os.replace(note, folder / WRITTEN)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def read_written(folder: Path) -> dict[str, str]:
    """Name and hash of the files that an earlier run of the day wrote."""
    try:
        found: dict[str, str] = json.loads((folder / WRITTEN).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return found


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep_edited(path: Path, digest: str) -> None:
    """Move a file aside if somebody changed it since it was written."""
    if not path.is_file() or hash_file(path) == digest:
        return
    number = 1
    while (kept := path.with_name(f"{path.stem} (edited {number}){path.suffix}")).exists():
        number += 1
    os.replace(path, kept)


def relation(con: duckdb.DuckDBPyConnection, name: str) -> str:
    """The table's name, or an empty stand-in if the warehouse does not have it."""
    if has_table(con, name):
        return f"main.{name}"
    columns = ", ".join(f"null::{kind} as {column}" for column, kind in OPTIONAL[name].items())
    return f"(select {columns} where false)"


def has_table(con: duckdb.DuckDBPyConnection, name: str) -> bool:
    rows = con.execute(
        "select 1 from information_schema.tables where table_schema = 'main' and table_name = ?",
        [name],
    ).fetchall()
    return bool(rows)


# lists ----------------------------------------------------------------------------------------


def deliver_lists(con: duckdb.DuckDBPyConnection, run: Run) -> StepCount:
    """One list a team: those of the configuration, even if empty, and any that has tasks."""
    if not has_table(con, "follow_up_tasks"):
        raise HearbackError(
            f"{run.home.warehouse}: no table follow_up_tasks; run 'hearback follow-up' and "
            "'hearback publish' first"
        )
    delivery = run.settings.delivery
    words = load_words("lists", delivery.language)
    prepare_listed(con, run)
    rows = con.execute("select team, count(*) from listed group by team order by team").fetchall()
    tasks: dict[str | None, int] = dict(rows)
    teams: list[str | None] = [team.name for team in run.settings.teams]
    teams += [team for team in tasks if team not in teams]
    labels = {team: words["text"]["no_team"] if team is None else team for team in teams}
    files = name_files(labels.values())
    written = 0
    with replace_files(run.home.out("follow_ups", run.date)) as folder:
        for team in teams:
            run.progress(f"deliver {labels[team]}", tasks.get(team, 0))
            info = ListInfo(
                team=labels[team],
                day=run.date.isoformat(),
                zone=run.settings.project.time_zone,
                written=run.now.astimezone(run.zone).replace(tzinfo=None, microsecond=0),
                language=delivery.language,
                members=tuple(
                    member.name
                    for entry in run.settings.teams
                    if team in (None, entry.name)
                    for member in entry.members
                ),
            )
            written += write_team(con, folder / files[labels[team]], team, info, delivery.formats)
    total = sum(tasks.values())
    return StepCount(
        step="deliver",
        entity="follow_up_tasks",
        count_in=total,
        count_out=written,
        detail=f"{len(teams)} lists",
    )


def prepare_listed(con: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Temporary table ``listed``: the tasks to be worked on, with what the lists show of them."""
    zone, now = quote(run.settings.project.time_zone), quote(run.now.isoformat())

    def clean(column: str) -> str:
        return CLEAN_SQL.format(column)

    con.execute(
        f"""
        create or replace temp table listed as
        with tasks as (
            select * from main.follow_up_tasks where status in ('open', 'in_progress')
        ),
        about as (
            select task_id, feedback.created_at, feedback.feedback_id, title, body, product
            from tasks join {relation(con, "feedback")} feedback
                on feedback.case_id = tasks.case_id
            union all
            select task_id, feedback.created_at, feedback.feedback_id, title, body, product
            from tasks join {relation(con, "feedback")} feedback
                on feedback.feedback_id = tasks.feedback_id and tasks.case_id is null
        ),
        latest as (
            select
                task_id,
                arg_max(coalesce(body, title), (created_at, feedback_id)) as message,
                arg_max(title, (created_at, feedback_id)) as title,
                arg_max(product, (created_at, feedback_id)) as product
            from about group by task_id
        )
        select
            tasks.task_id, tasks.team, tasks.priority, tasks.score, tasks.due_at, tasks.status,
            tasks.owner, tasks.rule, tasks.language, tasks.url,
            tasks.due_at at time zone {zone} as due_local,
            coalesce(tasks.due_at < {now}::timestamptz, false) as is_overdue,
            {clean("tasks.reason")} as reason,
            {clean("coalesce(customers.display_name, left(tasks.customer_id, 10))")} as customer,
            {clean("coalesce(cases.subject, latest.title, cases.source_case_id)")} as subject,
            {clean("coalesce(cases.product, latest.product)")} as product,
            left(regexp_replace({clean("latest.message")}, '\\s+', ' ', 'g'), {EXCERPT})
                || if(length(latest.message) > {EXCERPT}, '…', '') as message,
            {clean("tasks.suggested_action")} as suggested_action,
            {clean("tasks.suggested_reply")} as suggested_reply,
            {clean("tasks.outcome")} as outcome
        from tasks
        left join {relation(con, "customers")} customers
            on customers.customer_id = tasks.customer_id
        left join {relation(con, "cases")} cases on cases.case_id = tasks.case_id
        left join latest on latest.task_id = tasks.task_id
        """
    )


def write_team(
    con: duckdb.DuckDBPyConnection,
    path: Path,
    team: str | None,
    info: ListInfo,
    formats: list[Any],
) -> int:
    """Write a team's list in each format; returns its rows."""
    count = 0
    for form in formats:
        rows = (format_row(task, info.language) for task in read_listed(con, team))
        target = path.with_name(f"{path.name}.{form}")
        if form == "xlsx":
            count = max(count, write_xlsx(target, rows, info))
        else:
            count = max(count, write_csv(target, rows, info.language))
    return count


def read_listed(con: duckdb.DuckDBPyConnection, team: str | None) -> Iterator[dict[str, Any]]:
    """The team's tasks, the most urgent and earliest due first."""
    condition = "team is null" if team is None else f"team = {quote(team)}"
    reader = con.sql(
        f"""
        select * from listed where {condition}
        order by
            case priority when 'urgent' then 0 when 'high' then 1 when 'low' then 3 else 2 end,
            due_at nulls last, score desc nulls last, task_id
        """
    ).to_arrow_reader(BATCH)
    for batch in reader:
        yield from batch.to_pylist()


# metrics --------------------------------------------------------------------------------------


def deliver_metrics(con: duckdb.DuckDBPyConnection, run: Run) -> StepCount:
    """Each metric view as Parquet and as CSV with the same rows in the same order."""
    names = [name for name in METRIC_VIEWS if has_table(con, name)]
    total = 0
    with replace_files(run.home.out("metrics", run.date)) as folder:
        for name in names:
            run.progress(f"deliver {name}", total)
            target = quote(str(folder / f"{name}.parquet"))
            con.execute(
                f"copy (select * from main.{name} order by all) to {target} "
                "(format parquet, compression zstd)"
            )
            reader = con.sql(f"from read_parquet({target})").to_arrow_reader(50_000)
            total += write_metric_csv(folder / f"{name}.csv", reader)
    return StepCount(
        step="deliver",
        entity="metrics",
        count_in=total,
        count_out=total,
        detail=", ".join(names) or "no metric views",
    )


def write_metric_csv(path: Path, reader: pa.RecordBatchReader) -> int:
    """Stream batches into a CSV file with a byte order mark; texts are made harmless."""
    import pyarrow as pa
    import pyarrow.csv as pc

    count = 0
    with path.open("wb") as file:
        file.write(b"\xef\xbb\xbf")
        with pc.CSVWriter(file, reader.schema) as writer:
            for batch in reader:
                columns = [
                    make_texts_harmless(column) if pa.types.is_string(column.type) else column
                    for column in batch.columns
                ]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=reader.schema))
                count += batch.num_rows
    return count


def make_texts_harmless(texts: pa.Array) -> pa.Array:
    """make_harmless over an Arrow array; there are few different texts in a metric table."""
    import pyarrow as pa

    coded = texts.dictionary_encode()
    harmless = [make_harmless(text) for text in coded.dictionary.to_pylist()]
    return pa.array(harmless, texts.type).take(coded.indices)


# report ---------------------------------------------------------------------------------------


def deliver_report(con: duckdb.DuckDBPyConnection, run: Run) -> StepCount:
    """The day's report, one self-contained page."""
    from pipelines.report.page import render_report

    run.progress("deliver report", 0)
    html = render_report(con, run)
    with replace_files(run.home.out("report", run.date)) as folder:
        (folder / "index.html").write_text(html, encoding="utf-8")
    size = len(html.encode()) / 1024
    return StepCount(
        step="deliver", entity="report", count_in=1, count_out=1, detail=f"{size:.0f} KB"
    )

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
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.context import Run, StepCount, timed_step
from pipelines.errors import HearbackError
from pipelines.report.lists import ListInfo, ListJob, name_files, start_lists
from pipelines.report.words import load_words, make_harmless
from pipelines.storage import connect_duckdb, explain_disk_errors, quote
from pipelines.task_owners import list_present
from pipelines.task_store import ORDER_SQL

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

METRIC_VIEWS = (
    "csat", "nps", "ces", "response_times", "sla_compliance", "backlog", "volume",
    "quality_control", "control_charts", "agent_ranking",
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
        with deliver_lists(con, run) as finish:
            others = [deliver_metrics(con, run), deliver_report(con, run)]
            counts.append(finish())
        counts.extend(others)
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


def has_table(con: duckdb.DuckDBPyConnection, name: str, schema: str = "main") -> bool:
    rows = con.execute(
        "select 1 from information_schema.tables where table_schema = ? and table_name = ?",
        [schema, name],
    ).fetchall()
    return bool(rows)


# lists ----------------------------------------------------------------------------------------


@contextmanager
def deliver_lists(con: duckdb.DuckDBPyConnection, run: Run) -> Iterator[Callable[[], StepCount]]:
    """One list a team: those of the configuration, even if empty, and any that has tasks.

    They are written by another process while the block runs; the function waits for it. The lists
    are there when the block has ended well.
    """
    if not has_table(con, "follow_up_tasks"):
        raise HearbackError(
            f"{run.home.warehouse}: no table follow_up_tasks; run 'hearback follow-up' and "
            "'hearback publish' first"
        )
    prepare_listed(con, run)
    rows = con.execute("select team, count(*) from listed group by team order by team").fetchall()
    tasks: dict[str | None, int] = dict(rows)

    def finish() -> StepCount:
        return StepCount(
            step="deliver",
            entity="follow_up_tasks",
            count_in=sum(tasks.values()),
            count_out=sum(wait()),
            detail=f"{len(jobs)} lists",
        )

    with (
        replace_files(run.home.out("follow_ups", run.date)) as folder,
        tempfile.TemporaryDirectory(prefix="hearback-") as aside,
    ):
        jobs = list(plan_lists(con, run, tasks, folder, Path(aside)))
        with start_lists(jobs, Path(aside)) as wait:
            yield finish


def plan_lists(
    con: duckdb.DuckDBPyConnection,
    run: Run,
    tasks: dict[str | None, int],
    folder: Path,
    aside: Path,
) -> Iterator[ListJob]:
    """The lists to write into ``folder``; the tasks of each are put into ``aside``."""
    delivery = run.settings.delivery
    words = load_words("lists", delivery.language)
    teams: list[str | None] = [team.name for team in run.settings.teams]
    teams += [team for team in tasks if team not in teams]
    labels = {team: words["text"]["no_team"] if team is None else team for team in teams}
    files = name_files(labels.values())
    for number, team in enumerate(teams):
        run.progress(f"deliver {labels[team]}", tasks.get(team, 0))
        put_aside(con, team, aside / f"{number}.arrow")
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
        target = (folder / files[labels[team]]).resolve()
        yield ListJob(str(aside / f"{number}.arrow"), str(target), tuple(delivery.formats), info)


def prepare_listed(con: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Temporary table ``listed``: the tasks to be worked on, with what the lists show of them."""
    zone, now = quote(run.settings.project.time_zone), quote(run.now.isoformat())

    def clean(column: str) -> str:
        return CLEAN_SQL.format(column)

    said = relation(con, "feedback")
    if has_table(con, "stg_feedback", schema="staging"):
        said = "staging.stg_feedback"  # the same rows, without looking up their labels
    find_messages(con, said)
    plan_day(con, run)
    con.execute(
        f"""
        create or replace temp table listed as
        with tasks as (
            select * from main.follow_up_tasks where status in ('open', 'in_progress')
        ),
        latest as (
            select
                task_id,
                arg_max(coalesce(body, title), (created_at, feedback_id)) as message,
                arg_max(title, (created_at, feedback_id)) as title,
                arg_max(product, (created_at, feedback_id)) as product
            from about join (
                select feedback_id, title, body, product from {said}
                where created_at is null
                    or created_at between getvariable('about_from') and getvariable('about_to')
            ) using (feedback_id)
            group by task_id
        )
        select
            tasks.task_id, tasks.team, tasks.priority, tasks.score, tasks.due_at, tasks.status,
            tasks.owner, tasks.rule, tasks.language, tasks.url,
            tasks.due_at at time zone {zone} as due_local,
            coalesce(plan.is_later, false) as is_later,
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
        left join plan on plan.task_id = tasks.task_id
        """
    )


def plan_day(con: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Temporary table ``plan``: which tasks exceed what can be done today.

    A member does the first ``daily_capacity`` of their tasks and what they have begun, none on a
    day off; what has no owner waits. A team without members plans its work itself.
    """
    present = list_present(run.settings, run.date)
    rooms: dict[str, int] = {}
    for team in run.settings.teams:
        for member in team.members:
            room = member.daily_capacity if (team.name, member.name) in present else 0
            rooms[member.name] = max(room, rooms.get(member.name, 0))
    con.execute("create or replace temp table rooms (owner varchar, room bigint)")
    con.execute("create or replace temp table staffed (team varchar)")
    if rooms:
        con.executemany("insert into rooms values (?, ?)", list(rooms.items()))
        staffed = [(team.name,) for team in run.settings.teams if team.members]
        con.executemany("insert into staffed values (?)", staffed)
    con.execute(
        f"""
        create or replace temp table plan as
        with placed as (
            select
                task_id, team, owner, status,
                row_number() over (
                    partition by owner order by status <> 'in_progress', {ORDER_SQL}
                ) as place
            from main.follow_up_tasks where status in ('open', 'in_progress')
        )
        select
            task_id,
            status <> 'in_progress' and case
                when owner is null then coalesce(team in (select team from staffed), false)
                else coalesce(place > room, false)
            end as is_later
        from placed left join rooms using (owner)
        """
    )


def find_messages(con: duckdb.DuckDBPyConnection, said: str) -> None:
    """Temporary table ``about``: the messages of what each task is about.

    Texts are the greater part of a history: the narrow columns say which are needed, and between
    which instants (variables ``about_from`` and ``about_to``) the files are to be read for them.
    """
    con.execute(
        f"""
        create or replace temp table about as
        with tasks as (
            select task_id, case_id, feedback_id from main.follow_up_tasks
            where status in ('open', 'in_progress')
        )
        select task_id, feedback.created_at, feedback.feedback_id
        from tasks join {said} feedback on feedback.case_id = tasks.case_id
        union all
        select task_id, feedback.created_at, feedback.feedback_id
        from tasks join {said} feedback
            on feedback.feedback_id = tasks.feedback_id and tasks.case_id is null
        """
    )
    con.execute("set variable about_from = (select min(created_at) from about)")
    con.execute("set variable about_to = (select max(created_at) from about)")


def put_aside(con: duckdb.DuckDBPyConnection, team: str | None, path: Path) -> None:
    """The team's tasks as they are taken up: what there is time for today comes first."""
    import pyarrow as pa

    condition = "team is null" if team is None else f"team = {quote(team)}"
    reader = con.sql(
        f"""
        select * from listed where {condition}
        order by is_later, {ORDER_SQL}
        """
    ).to_arrow_reader(BATCH)
    with explain_disk_errors(str(path)), pa.ipc.new_file(str(path), reader.schema) as file:
        for batch in reader:
            file.write_batch(batch)


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
            rows = con.sql(f"from read_parquet({target})")
            total += write_metric_csv(folder / f"{name}.csv", join_lists(rows))
    return StepCount(
        step="deliver",
        entity="metrics",
        count_in=total,
        count_out=total,
        detail=", ".join(names) or "no metric views",
    )


def join_lists(rows: duckdb.DuckDBPyRelation) -> pa.RecordBatchReader:
    """The rows as they stand in a CSV file, which has no lists: their parts with commas between."""
    shown = [
        f'array_to_string("{name}", \', \') as "{name}"' if kind.id == "list" else f'"{name}"'
        for name, kind in zip(rows.columns, rows.types, strict=True)
    ]
    return rows.project(", ".join(shown)).to_arrow_reader(50_000)


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

"""The task store as tables of the build file: ``follow_up_tasks`` and ``follow_up_events``."""

from __future__ import annotations

import hashlib
import sqlite3
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.build_file import write_comments_of
from pipelines.settings import Settings
from pipelines.storage import explain_disk_errors
from pipelines.task_store import find_revision, holds_revision, open_store

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

BATCH = 50_000
SEEN = "state.task_store"  # which revision of the store the tables hold

TASK_COLUMNS: dict[str, tuple[str, str]] = {
    "task_id": ("VARCHAR", "Stable id: the same cause keeps it over reruns"),
    "rule": ("VARCHAR", "Rule that made the task"),
    "reason": ("VARCHAR", "Why, in the language of the lists. NULL if the rule gives none"),
    "evidence": ("VARCHAR[]", "Ids of the feedback and cases that the rule saw"),
    "customer_id": ("VARCHAR", "Customer. NULL if unknown"),
    "case_id": ("VARCHAR", "Case the task is about. NULL if it is not about a case"),
    "feedback_id": ("VARCHAR", "Feedback the task is about. NULL if about a case or customer"),
    "team": ("VARCHAR", "Team that does it. NULL if no team takes this need"),
    "owner": ("VARCHAR", "Member who does it. NULL while nobody had room or speaks the language"),
    "need": ("VARCHAR", "sales, technical, after_sales or other. NULL if not known"),
    "priority": ("VARCHAR", "urgent, high, normal or low"),
    "score": ("DOUBLE", "The rule's weight within a priority; higher first. NULL if it has none"),
    "created_at": ("TIMESTAMPTZ", "Instant the task was first made (UTC)"),
    "occurred_at": ("TIMESTAMPTZ", "Instant of what caused it (UTC). NULL if the rule gives none"),
    "due_at": ("TIMESTAMPTZ", "Instant it should be done by (UTC). NULL if it has no due time"),
    "status": ("VARCHAR", "open, in_progress, done, snoozed, cancelled or expired"),
    "status_changed_at": ("TIMESTAMPTZ", "Instant the status last changed (UTC)"),
    "status_by": ("VARCHAR", "Who changed the status last; hearback for the system"),
    "snoozed_until": ("TIMESTAMPTZ", "Instant it comes back (UTC). NULL unless snoozed"),
    "outcome": ("VARCHAR", "What came of it. NULL until someone or the system says so"),
    "suggested_action": ("VARCHAR", "What to do, in the language of the lists"),
    "suggested_reply": (
        "VARCHAR",
        "A reply to start from, in the customer's language if it is one of the project's",
    ),
    "language": ("VARCHAR", "Language of the customer. NULL if not known"),
    "url": ("VARCHAR", "Link to the record in its source. NULL if it has none"),
    "is_holdout": ("BOOLEAN", "true: left undone on purpose to measure the rule's effect"),
    "episode": ("BIGINT", "How many times this cause has opened a new task, from 1"),
    "revision": ("BIGINT", "Change of the task store that last wrote the row"),
}
EVENT_COLUMNS: dict[str, tuple[str, str]] = {
    "event_id": ("BIGINT", "Number of the event, rising"),
    "task_id": ("VARCHAR", "Task it belongs to"),
    "event_at": ("TIMESTAMPTZ", "Instant of the event (UTC)"),
    "event_type": (
        "VARCHAR",
        "created, reopened, assigned, unassigned, status_changed, snoozed, outcome_changed, "
        "priority_changed or team_changed",
    ),
    "from_value": ("VARCHAR", "Value before. NULL if there was none"),
    "to_value": ("VARCHAR", "Value after. NULL if there is none"),
    "actor": ("VARCHAR", "Who did it; hearback for the system"),
    "note": ("VARCHAR", "Why, or where the change came from. NULL if nothing was said"),
    "run_id": ("VARCHAR", "Run that did it. NULL if a person did"),
}
COMMENTS = {
    "follow_up_tasks": "Follow-up tasks with their owner, due time and outcome. One row per task.",
    "follow_up_events": (
        "What happened to follow-up tasks, append-only. One row per change of a task."
    ),
}


def write_tables(con: duckdb.DuckDBPyConnection, path: Path, settings: Settings) -> None:
    """Bring ``follow_up_tasks`` and ``follow_up_events`` of the build file up to the store.

    Only what changed since they were last written is read; everything, if the store is another or
    an older one than was read then, or if something has been erased.
    """
    load_replies(con, settings)
    with explain_disk_errors(str(path)):
        store = open_store(path)
    try:
        store.execute("begin")  # both tables as of one moment
        seen = read_seen(con)
        is_known = seen is not None and holds_revision(store, seen)
        for name, columns, key, mark in (
            ("follow_up_tasks", TASK_COLUMNS, "task_id", "revision"),
            ("follow_up_events", EVENT_COLUMNS, "event_id", "event_id"),
        ):
            is_new = create_table(con, name, columns)
            condition = "true"
            if is_known and not is_new:
                done = con.execute(f"select coalesce(max({mark}), 0) from {name}").fetchall()[0][0]
                condition = f"{mark} > {done}"
            else:
                con.execute(f"delete from {name}")
            copy_rows(con, store, name, columns, key=key, condition=condition)
        note_seen(con, find_revision(store))
        store.execute("commit")
    finally:
        store.close()


def read_seen(con: duckdb.DuckDBPyConnection) -> tuple[int, str] | None:
    """The revision of the store that the tables hold; None if they hold none."""
    con.execute("create schema if not exists state")
    con.execute(f"create table if not exists {SEEN} (revision bigint, token varchar)")
    found: list[tuple[int, str]] = con.execute(f"select revision, token from {SEEN}").fetchall()
    return found[0] if found else None


def note_seen(con: duckdb.DuckDBPyConnection, revision: tuple[int, str] | None) -> None:
    con.execute(f"delete from {SEEN}")
    if revision is not None:
        con.execute(f"insert into {SEEN} values (?, ?)", revision)
    about = "Which state of the task store the follow-up tables hold. One row per build file."
    told = {"revision": "Number of the last change.", "token": "Random mark of that change."}
    write_comments_of(con, SEEN, about, told)


def create_table(
    con: duckdb.DuckDBPyConnection, name: str, columns: dict[str, tuple[str, str]]
) -> bool:
    """Create the table with its comments, or anew if an older version had other columns.

    Returns whether it was created.
    """
    found = con.execute(
        "select column_name from information_schema.columns where table_name = ? "
        "order by ordinal_position",
        [name],
    ).fetchall()
    if [row[0] for row in found] == list(columns):
        return False
    con.execute(f"drop table if exists {name}")
    con.execute(f"create table {name} ({', '.join(f'{n} {t[0]}' for n, t in columns.items())})")
    con.execute(f"comment on table {name} is '{COMMENTS[name]}'")
    for column, (_, comment) in columns.items():
        text = comment.replace("'", "''")
        con.execute(f"comment on column {name}.{column} is '{text}'")
    return True


def copy_rows(
    con: duckdb.DuckDBPyConnection,
    store: sqlite3.Connection,
    name: str,
    columns: dict[str, tuple[str, str]],
    *,
    key: str,
    condition: str,
) -> None:
    """Copy the store's rows that meet condition into the table, in place of older versions."""
    if name == "follow_up_tasks":
        source, derived = "tasks", {"suggested_reply", "is_holdout"}
    else:
        source, derived = "events", set()
    read = {column: kind for column, (kind, _) in columns.items() if column not in derived}
    kinds = {
        column: "i" if kind in ("TIMESTAMPTZ", "BIGINT") else "f" if kind == "DOUBLE" else "s"
        for column, kind in read.items()
    }
    cursor = store.execute(f"select {', '.join(read)} from {source} where {condition}")
    shown = ", ".join(
        "coalesce(r.reply, d.reply) as suggested_reply"
        if column == "suggested_reply"
        else "false as is_holdout"
        if column == "is_holdout"
        else f"make_timestamptz(n.{column}) as {column}"
        if kind == "TIMESTAMPTZ"
        else f"string_split(n.{column}, ' ') as {column}"
        if kind == "VARCHAR[]"
        else f"n.{column}"
        for column, (kind, _) in columns.items()
    )
    joins = (
        " left join reply_languages l on l.customer_language = n.language"
        " left join reply_languages o on o.customer_language = ''"
        " left join replies r on r.rule = n.rule and r.language = coalesce(l.language, o.language)"
        " left join replies d on d.rule = '' and d.language = coalesce(l.language, o.language)"
        if name == "follow_up_tasks"
        else ""
    )
    con.register("changed_rows", stream_rows(cursor, kinds))
    if condition == "true":
        con.execute(f"insert into {name} select {shown} from changed_rows n{joins}")
    else:
        con.execute("create or replace temp table new_rows as select * from changed_rows")
        con.execute(f"delete from {name} where {key} in (select {key} from new_rows)")
        con.execute(f"insert into {name} select {shown} from new_rows n{joins}")
        con.execute("drop table new_rows")
    con.unregister("changed_rows")


def read_rows(con: duckdb.DuckDBPyConnection, query: str) -> Iterator[Iterator[tuple[Any, ...]]]:
    """A query's rows in batches; by columns, which is faster than row by row."""
    for batch in con.sql(query).to_arrow_reader(BATCH):
        yield zip(*(column.to_pylist() for column in batch.columns), strict=True)


def stream_rows(cursor: sqlite3.Cursor, kinds: dict[str, str]) -> pa.RecordBatchReader:
    """A cursor's rows as Arrow batches; kinds: ``s`` text, ``i`` whole, ``f`` real."""
    import pyarrow as pa

    types = {"s": pa.string(), "i": pa.int64(), "f": pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in kinds.items()])

    def read_batches() -> Iterator[pa.RecordBatch]:
        while rows := cursor.fetchmany(BATCH):
            columns = zip(*rows, strict=True)
            arrays = [
                pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, read_batches())


@cache
def read_replies() -> dict[str, dict[str, str]]:
    """Suggested replies by rule ('' for any rule) and language."""
    text = (resources.files("pipelines.report") / "replies.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    return {"": data["any"], **data["rules"]}


def reply_version(settings: Settings) -> str:
    """Changes when a suggested reply, its languages or the language of the lists do."""
    languages = (settings.delivery.language, choose_reply_languages(settings.project.languages))
    text = repr((read_replies(), languages))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def load_replies(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Temporary tables ``replies`` (rule, language, reply) and ``reply_languages``."""
    rows = [
        (rule, language, text.strip())
        for rule, texts in read_replies().items()
        for language, text in texts.items()
    ]
    con.execute("create or replace temp table replies (rule varchar, language varchar, reply "
                "varchar)")  # fmt: skip
    con.executemany("insert into replies values (?, ?, ?)", rows)
    con.execute("create or replace temp table reply_languages (customer_language varchar, "
                "language varchar)")  # fmt: skip
    chosen = choose_reply_languages(settings.project.languages)
    con.executemany("insert into reply_languages values (?, ?)", list(chosen.items()))


def choose_reply_languages(worked_in: list[str]) -> dict[str, str]:
    """Language of the suggested reply by the customer's; '' stands for any other and for none.

    A customer is answered in the own language if the project works in it and there are replies in
    it, else in the first of the project's languages that has replies, else in English.
    """
    written = [name for name in worked_in if name in read_replies()[""]]
    return {**{name: name for name in written}, "": next(iter(written), "en")}

"""The store of follow-up tasks: what people did with a task cannot be derived again, so it is kept.

SQLite in WAL mode. Every change happens in one ``BEGIN IMMEDIATE`` transaction: a killed process
leaves the state before or after it, never between. Instants are whole microseconds since 1970 UTC.

A *cause* (a rule and what it is about) has one ``cause_key`` for good. A task is one *episode* of a
cause: the first has ``task_id = cause_key``; a cause that comes back long after its task was closed
opens the next episode under a new id. Each transaction that changes tasks takes the next
``revision``, so that readers can ask for what changed since they last looked. A revision has a
random token: a store that was made anew or brought back from a backup counts on from an older
number, but its tokens are others.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pipelines.errors import HearbackError
from pipelines.storage import explain_disk_errors

STATUSES = ("open", "in_progress", "done", "snoozed", "cancelled", "expired")
LIVE = ("open", "in_progress", "snoozed")
PRIORITY_RANK = {"urgent": 0, "high": 1, "normal": 2, "low": 3}
LIVE_SQL = "({})".format(", ".join(f"'{status}'" for status in LIVE))
RANK_SQL = "case priority {} else 2 end".format(
    " ".join(f"when '{name}' then {rank}" for name, rank in PRIORITY_RANK.items())
)
# In which order tasks are taken up; the rules put age and due time into the score.
ORDER_SQL = f"{RANK_SQL}, -coalesce(score, 0), due_at is null, due_at, task_id"
SYSTEM = "hearback"
CAUSE_GONE = "cause gone"

# Content comes from the rules at every run; the rest is state that only people or the merge change.
CONTENT_COLUMNS = (
    "rule", "reason", "evidence", "customer_id", "case_id", "feedback_id", "team", "need",
    "priority", "score", "language", "occurred_at", "due_at", "suggested_action", "url",
    "content_hash",
)  # fmt: skip

SCHEMA = """
create table if not exists tasks (
    task_id text primary key,
    cause_key text not null,
    episode integer not null,
    is_latest integer not null,
    status text not null,
    status_changed_at integer not null,
    status_by text not null,
    owner text,
    assigned_at integer,
    created_at integer not null,
    snoozed_until integer,
    cause_gone_at integer,
    rule text not null,
    team text,
    language text,
    priority text not null,
    score real,
    occurred_at integer,
    due_at integer,
    content_hash text not null,
    customer_id text,
    case_id text,
    feedback_id text,
    need text,
    evidence text not null,
    reason text,
    suggested_action text,
    url text,
    outcome text,
    revision integer not null
) without rowid;
create index if not exists tasks_later on tasks (cause_key) where episode > 1;
create index if not exists tasks_revision on tasks (revision);
create index if not exists tasks_owned on tasks (owner, assigned_at) where owner is not null;
create index if not exists tasks_snoozed on tasks (snoozed_until) where status = 'snoozed';
create table if not exists events (
    event_id integer primary key,
    task_id text not null,
    event_at integer not null,
    event_type text not null,
    from_value text,
    to_value text,
    actor text not null,
    note text,
    run_id text
);
create trigger if not exists events_append_only before update on events
begin
    select raise(abort, 'follow-up events are append-only');
end;
create table if not exists merges (
    run_id text not null,
    merged_at integer not null
);
create table if not exists revisions (
    revision integer primary key,
    token text not null default (lower(hex(randomblob(8)))),
    is_erasure integer not null default 0
);
"""


def to_micros(instant: datetime) -> int:
    """An instant as whole microseconds since 1970 UTC."""
    delta = instant.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_micros(value: int | None) -> datetime | None:
    """The instant of whole microseconds since 1970 UTC."""
    if value is None:
        return None
    return datetime.fromtimestamp(value // 1_000_000, UTC).replace(microsecond=value % 1_000_000)


def make_task_id(cause_key: str, episode: int) -> str:
    """The id of an episode of a cause: the cause's own key for the first one."""
    if episode == 1:
        return cause_key
    return hashlib.md5(f"{cause_key}|{episode}".encode(), usedforsecurity=False).hexdigest()


def open_store(path: Path) -> sqlite3.Connection:
    """Open (and create) the task store. Rows come as tuples; commits are explicit.

    HearbackError if the file is not a task store or the folder cannot be written.
    """
    with explain_disk_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        con = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        con.execute("pragma journal_mode = wal")
        con.execute("pragma synchronous = full")  # a finished task survives a power cut too
        con.execute("pragma temp_store = memory")
        con.execute("pragma cache_size = -262144")
        con.executescript(SCHEMA)
    except sqlite3.OperationalError as error:
        raise HearbackError(
            f"{path}: cannot open the task store ({error}); check that its folder can be written "
            "and that the disk is not full"
        ) from error
    except sqlite3.DatabaseError as error:
        raise HearbackError(
            f"{path}: not a task store ({error}); restore it from a backup or move it away to "
            "start with an empty one"
        ) from error
    con.create_function("make_task_id", 2, make_task_id, deterministic=True)
    return con


def take_revision(con: sqlite3.Connection) -> int:
    """The number of a transaction that is under way; no later one gets it again."""
    revision: int = con.execute(
        "insert into revisions (revision) select 1 + max("
        "(select coalesce(max(revision), 0) from revisions), "
        "(select coalesce(max(revision), 0) from tasks)) returning revision"
    ).fetchone()[0]
    return revision


def find_revision(con: sqlite3.Connection) -> tuple[int, str] | None:
    """Number and token of the last revision; None if nothing has been written."""
    found: tuple[int, str] | None = con.execute(
        "select revision, token from revisions order by revision desc limit 1"
    ).fetchone()
    return found


def holds_revision(con: sqlite3.Connection, seen: tuple[int, str]) -> bool:
    """Whether the rows changed after ``seen`` are all that its reader lacks.

    Not if this store never had it (it is another, or an older one), or if something has been
    erased since.
    """
    number, token = seen
    is_known = con.execute(
        "select 1 from revisions where revision = ? and token = ?", (number, token)
    ).fetchone()
    is_erased = con.execute(
        "select 1 from revisions where revision > ? and is_erasure", (number,)
    ).fetchone()
    return is_known is not None and is_erased is None


@contextmanager
def write_tasks(path: Path) -> Iterator[tuple[sqlite3.Connection, int]]:
    """One write transaction: the connection and the revision that changed rows must carry.

    Another writer is waited for up to a minute. HearbackError if it still holds the store, or if
    the disk is full; the store is then as it was.
    """
    con = open_store(path)
    try:
        try:
            con.execute("begin immediate")
            yield con, take_revision(con)
            con.execute("commit")
        except sqlite3.OperationalError as error:
            roll_back(con)
            if "locked" in str(error) or "busy" in str(error):
                raise HearbackError(
                    f"{path}: another process is changing tasks; wait for it to end and try again"
                ) from error
            if "full" in str(error):
                raise HearbackError(
                    f"disk full while writing {path}; free some space and run again: the tasks are "
                    "as they were"
                ) from error
            raise
        except BaseException:
            roll_back(con)
            raise
    finally:
        con.close()


def roll_back(con: sqlite3.Connection) -> None:
    if con.in_transaction:
        con.execute("rollback")


def record_events(
    con: sqlite3.Connection,
    rows: Iterable[tuple[str, str, str | None, str | None, str | None]],
    *,
    at: int,
    actor: str,
    run_id: str | None = None,
) -> None:
    """Append events: rows of (task_id, event_type, from_value, to_value, note)."""
    con.executemany(
        "insert into events (task_id, event_type, from_value, to_value, note, event_at, actor, "
        "run_id) values (?, ?, ?, ?, ?, ?, ?, ?)",
        ((*row, at, actor, run_id) for row in rows),
    )


def erase_customer(path: Path, customer_ids: Iterable[str]) -> int:
    """Remove every task of these customers with its history; returns the number of tasks."""
    with write_tasks(path) as (con, revision):
        con.execute("update revisions set is_erasure = 1 where revision = ?", (revision,))
        con.execute("create temp table erased (customer_id text primary key)")
        con.executemany("insert or ignore into erased values (?)", ((i,) for i in customer_ids))
        con.execute(
            "delete from events where task_id in (select task_id from tasks where customer_id in "
            "(select customer_id from erased))"
        )
        count = con.execute(
            "delete from tasks where customer_id in (select customer_id from erased)"
        ).rowcount
    return count

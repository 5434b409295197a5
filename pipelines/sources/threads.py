"""What belongs to one thread of mail, remembered between pulls in a small SQLite file.

The file holds ids, times and hashes, no text and no address. It can be lost: the headers are then
read again. Messages arrive in any order and from several folders, so two threads may turn out to be
one; what was captured under the id that is given up is then told again.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TOPIC_SECONDS = 30 * 86400  # an answer without References belongs to a thread no older than this
SCHEMA = """
create table if not exists folders (folder text primary key, validity integer, scanned integer);
create table if not exists messages (
    key text primary key, thread text, at real, author text, customer text, role text,
    is_counted integer, print text
);
create index if not exists messages_by_thread on messages (thread, at);
create table if not exists names (name text primary key, thread text);
create index if not exists names_by_thread on names (thread);
create table if not exists topics (topic text primary key, thread text, at real);
create table if not exists places (
    folder text, uid integer, key text, size integer, is_owner integer,
    primary key (folder, uid)
) without rowid;
create index if not exists places_by_key on places (key);
create table if not exists retold (n integer primary key autoincrement, key text);
create table if not exists merges (
    n integer primary key autoincrement, thread text, into_thread text, at real
);
create table if not exists touched (thread text primary key);
"""


@dataclass(frozen=True)
class Sighting:
    """A message as its headers tell it. ``is_counted``: it may open a case or be part of one."""

    name: str  # its Message-ID
    fingerprint: str
    references: list[str]
    at: float
    author: str | None  # a hash, as ``customer``
    customer: str | None
    role: str
    subject: str  # without prefixes; empty if it is no answer
    is_answer: bool
    is_counted: bool


@dataclass(frozen=True)
class Place:
    """Where a message lies in a folder; ``key`` is empty until it is known."""

    uid: int
    key: str
    size: int


@dataclass(frozen=True)
class Case:
    """What is known of a thread."""

    opened_at: float
    opener: str
    opener_role: str
    customer: str | None
    assignee: str | None
    latest: str  # the key of its latest message


class Threads:
    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.con = sqlite3.connect(path, isolation_level=None)
        self.con.execute("pragma journal_mode = wal")
        self.con.execute("pragma synchronous = normal")
        self.con.executescript(SCHEMA)
        self.captured: dict[str, int] = {}  # the highest UID whose text is captured, by folder

    def close(self) -> None:
        self.con.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.con.execute("begin")
        try:
            yield
        except BaseException:
            self.con.execute("rollback")
            raise
        self.con.execute("commit")

    # folders ----------------------------------------------------------------------------------

    def open_folder(self, folder: str, validity: int) -> int:
        """The highest UID whose headers are known; 0 if the folder's UIDs mean others now."""
        found = self.con.execute(
            "select validity, scanned from folders where folder = ?", (folder,)
        ).fetchone()
        if found and found[0] == validity:
            return int(found[1])
        with self.transaction():
            self.con.execute("delete from places where folder = ?", (folder,))
            self.con.execute("insert or replace into folders values (?, ?, 0)", (folder, validity))
        return 0

    def note_scanned(self, folder: str, uid: int) -> None:
        self.con.execute("update folders set scanned = ? where folder = ?", (uid, folder))

    def list_places(self, folder: str, after: int, most: int) -> list[Place]:
        """Where the messages lie that this folder is to give, by UID."""
        return [
            Place(*row)
            for row in self.con.execute(
                "select uid, key, size from places where folder = ? and uid > ? and is_owner "
                "order by uid limit ?",
                (folder, after, most),
            )
        ]

    def drop_place(self, folder: str, uid: int) -> None:
        """A message is not where it was: another place gives it, or it is gone."""
        found = self.con.execute(
            "select key from places where folder = ? and uid = ?", (folder, uid)
        ).fetchone()
        if not found:
            return
        with self.transaction():
            self.con.execute("delete from places where folder = ? and uid = ?", (folder, uid))
            other = self.con.execute(
                "select folder, uid from places where key = ? limit 1", found
            ).fetchone()
            if other:
                self.con.execute(
                    "update places set is_owner = 1 where folder = ? and uid = ?", other
                )
                self.con.execute("insert into retold (key) values (?)", found)
                return
            self.con.execute(
                "insert or ignore into touched select thread from messages where key = ?", found
            )
            self.con.execute("delete from messages where key = ?", found)

    # messages ---------------------------------------------------------------------------------

    def add(self, told: Sighting, folder: str, place: Place, *, is_new: bool) -> None:
        """Remember a message, the thread that it belongs to, and where it lies.

        ``is_new``: its text was not captured from there before.
        """
        key = told.name
        known = self.con.execute(
            "select thread, print from messages where key = ?", (key,)
        ).fetchone()
        if known and known[1] != told.fingerprint:  # two messages of one id
            key = f"{told.name}#{told.fingerprint[:8]}"
            known = self.con.execute(
                "select thread, print from messages where key = ?", (key,)
            ).fetchone()
        if not known:
            thread = self.find_thread(told, key)
            self.con.execute(
                "insert into messages values (?, ?, ?, ?, ?, ?, ?, ?)",
                (key, thread, told.at, told.author, told.customer, told.role, told.is_counted,
                 told.fingerprint),
            )  # fmt: skip
            if is_new:
                self.con.execute("insert or ignore into touched values (?)", (thread,))
        owned = self.con.execute(
            "select 1 from places where key = ? and is_owner limit 1", (key,)
        ).fetchone()
        self.con.execute(
            "insert or replace into places values (?, ?, ?, ?, ?)",
            (folder, place.uid, key, place.size, owned is None),
        )

    def find_thread(self, told: Sighting, key: str) -> str:
        """The thread of a new message; threads that it holds together become one."""
        names = [told.name, *told.references]
        marks = ", ".join("?" * len(names))
        found = [
            str(row[0])
            for row in self.con.execute(
                f"select distinct thread from names where name in ({marks})", names
            )
        ]
        topic = hash_topic(told)
        if not found and topic and told.is_answer and not told.references:
            row = self.con.execute(
                "select thread from topics where topic = ? and abs(at - ?) < ?",
                (topic, told.at, TOPIC_SECONDS),
            ).fetchone()
            found = [str(row[0])] if row else []
        thread = found[0] if found else (told.references or [key])[0]
        if len(found) > 1:
            thread = self.merge(found, told.at)
        self.con.executemany(
            "insert or ignore into names values (?, ?)", [(name, thread) for name in names]
        )
        if topic and told.is_counted:
            self.con.execute(
                "insert or replace into topics values (?, ?, ?)", (topic, thread, told.at)
            )
        return thread

    def merge(self, threads: list[str], at: float) -> str:
        """Put threads together under the id of the one that began first."""
        marks = ", ".join("?" * len(threads))
        begun = dict(
            self.con.execute(
                f"select thread, min(at) from messages where thread in ({marks}) group by thread",
                threads,
            ).fetchall()
        )
        kept, *others = sorted(threads, key=lambda one: (begun.get(one, float("inf")), one))
        for other in others:
            keys = self.con.execute(
                "select key from messages where thread = ?", (other,)
            ).fetchall()
            told = [key for key in keys if self.was_captured(key[0])]
            self.con.executemany("insert into retold (key) values (?)", told)
            if told:
                self.con.execute(
                    "insert into merges (thread, into_thread, at) values (?, ?, ?)",
                    (other, kept, at),
                )
            for table in ("messages", "names", "topics"):
                self.con.execute(f"update {table} set thread = ? where thread = ?", (kept, other))
            self.con.execute("delete from touched where thread = ?", (other,))
        return kept

    def thread_of(self, names: Iterable[str]) -> str | None:
        """The thread of the first name that is known."""
        for name in names:
            found = self.con.execute("select thread from names where name = ?", (name,)).fetchone()
            if found:
                return str(found[0])
        return None

    def thread_of_key(self, key: str) -> str | None:
        found = self.con.execute("select thread from messages where key = ?", (key,)).fetchone()
        return str(found[0]) if found else None

    def read_case(self, thread: str) -> Case | None:
        """What is known of a thread now; None if nothing in it makes a case."""
        rows = self.con.execute(
            "select * from (select key, at, author, role, customer, 1 from messages "
            "where thread = ?1 and is_counted order by at, key limit 1) union all "
            "select * from (select key, at, author, role, customer, 2 from messages "
            "where thread = ?1 and is_counted order by at desc, key desc limit 1) union all "
            "select * from (select key, at, author, role, customer, 3 from messages "
            "where thread = ?1 and is_counted and role = 'agent' order by at desc limit 1) "
            "union all select * from (select key, at, author, role, customer, 4 from messages "
            "where thread = ?1 and is_counted and customer is not null order by at limit 1)",
            (thread,),
        ).fetchall()
        found = {row[5]: row for row in rows}
        if 1 not in found:
            return None
        first = found[1]
        return Case(
            opened_at=first[1],
            opener=first[2],
            opener_role=first[3],
            customer=found[4][4] if 4 in found else None,
            assignee=found[3][2] if 3 in found else None,
            latest=found[2][0],
        )

    # what has to be told again ----------------------------------------------------------------

    def note_outdated(self) -> None:
        """After new headers: cases whose latest message is captured already are told again."""
        latest = self.con.execute(
            "select (select key from messages as m where m.thread = t.thread and is_counted "
            "order by at desc, key desc limit 1) from touched as t"
        ).fetchall()
        with self.transaction():
            for (key,) in latest:
                if key and self.was_captured(key):
                    self.con.execute("insert into retold (key) values (?)", (key,))
            self.con.execute("delete from touched")

    def was_captured(self, key: str) -> bool:
        owner = self.con.execute(
            "select folder, uid from places where key = ? and is_owner", (key,)
        ).fetchone()
        return owner is not None and owner[1] <= self.captured.get(owner[0], 0)

    def find_places(self, key: str) -> list[tuple[str, Place]]:
        """(folder, place) of every place of a message, the likeliest first."""
        return [
            (str(row[0]), Place(row[1], key, row[2]))
            for row in self.con.execute(
                "select folder, uid, size from places where key = ? order by is_owner", (key,)
            )
        ]

    def list_retold(self, after: int, most: int) -> list[tuple[int, str]]:
        return self.con.execute(
            "select n, key from retold where n > ? order by n limit ?", (after, most)
        ).fetchall()

    def list_merges(self, after: int) -> list[tuple[int, str, str, float]]:
        return self.con.execute(
            "select n, thread, into_thread, at from merges where n > ? order by n", (after,)
        ).fetchall()

    def forget_told(self, retold: int, merged: int) -> None:
        """What the last committed position says was told."""
        for table, told in (("retold", retold), ("merges", merged)):
            self.con.execute(f"delete from {table} where n <= ?", (told,))
            if told:  # a file that was lost counts on from where the old one was
                self.con.execute(
                    "insert into sqlite_sequence (name, seq) select ?1, 0 "
                    "where not exists (select 1 from sqlite_sequence where name = ?1)",
                    (table,),
                )
                self.con.execute(
                    "update sqlite_sequence set seq = max(seq, ?) where name = ?", (told, table)
                )


def hash_topic(told: Sighting) -> str | None:
    if not told.customer or len(told.subject) < 4:
        return None
    text = f"{told.customer}\n{told.subject.lower()}"
    return hashlib.md5(text.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()

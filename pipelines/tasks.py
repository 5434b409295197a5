"""``hearback tasks``: read the follow-up tasks, change them, take an edited list back.

Everything here works on the task store, so that a change counts at once; lists and the warehouse
show it after the next run.
"""

from __future__ import annotations

import csv
import getpass
import io
import json
import re
import sqlite3
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

from pipelines.errors import HearbackError, UsageError
from pipelines.report.words import (
    fold,
    list_terms,
    load_words,
    restore,
    simplify,
)
from pipelines.settings import Settings, nearest
from pipelines.storage import Home
from pipelines.task_store import (
    LIVE,
    ORDER_SQL,
    STATUSES,
    from_micros,
    open_store,
    record_events,
    to_micros,
    write_tasks,
)

FORMATS = ("table", "csv", "json")
SHOWN = ("task_id", "priority", "due_at", "team", "owner", "status", "rule", "reason",
         "customer_id", "case_id", "outcome", "snoozed_until", "url")  # fmt: skip
EDITABLE = ("status", "owner", "snooze_until", "outcome")
PIPE_WIDTH = 200  # of a table that is not shown on a terminal
EXCEL_EPOCH = date(1899, 12, 30)


# reading --------------------------------------------------------------------------------------


def list_tasks(
    settings: Settings,
    *,
    team: str | None = None,
    owner: str | None = None,
    status: str | None = None,
    rule: str | None = None,
    form: str = "table",
    out: IO[str] | None = None,
) -> int:
    """Print tasks, the most urgent first; returns how many.

    Without ``status`` the live ones (open, in_progress, snoozed); ``all`` for every one. ``owner``
    may be ``none`` for tasks without one. ``form``: table, csv or json (one object a line).
    UsageError for a team, owner, rule or status that does not exist.
    """
    out = out or sys.stdout
    if form not in FORMATS:
        raise UsageError(f"--format {form!r}{nearest(form, list(FORMATS))}; use table, csv or json")
    where, values = ["true"], []
    if status is None:
        where.append(f"status in ({', '.join('?' * len(LIVE))})")
        values += list(LIVE)
    elif status != "all":
        where.append("status = ?")
        values.append(read_status(status))
    if owner == "none":
        where.append("owner is null")
    elif owner is not None:
        where.append("owner = ?")
        values.append(find_member(settings, owner))
    for name, value in (("team", team), ("rule", rule)):
        if value is not None:
            where.append(f"{name} = ?")
            values.append(value)
    con = open_store(Home(settings).tasks)
    try:
        for name, value in (("team", team), ("rule", rule)):
            if value is not None:
                check_known(con, settings, name, value)
            rows = con.execute(
                f"select {', '.join(SHOWN)} from tasks where {' and '.join(where)} "
                f"order by {ORDER_SQL}",
                values,
            )
        return write_rows(rows, settings, form, out)
    finally:
        con.close()


def check_known(con: sqlite3.Connection, settings: Settings, name: str, value: str) -> None:
    known = {row[0] for row in con.execute(f"select distinct {name} from tasks").fetchall()}
    known.discard(None)
    if name == "team":
        known |= {team.name for team in settings.teams}
    if value not in known:
        words = sorted(known)
        raise UsageError(
            f"--{name}: there is no {name} {value!r}{nearest(value, words)}; "
            f"there are: {', '.join(words) or 'none yet'}"
        )


def write_rows(rows: Iterable[tuple[Any, ...]], settings: Settings, form: str, out: IO[str]) -> int:
    zone = ZoneInfo(settings.project.time_zone)
    records = (
        {
            name: show_instant(value, zone) if name in ("due_at", "snoozed_until") else value
            for name, value in zip(SHOWN, row, strict=True)
        }
        for row in rows
    )
    if form == "json":
        return write_lines(records, out)
    if form == "csv":
        writer = csv.DictWriter(out, SHOWN, lineterminator="\n")
        writer.writeheader()
        count = 0
        for record in records:
            writer.writerow(record)
            count += 1
        return count
    return write_table(records, out)


def write_lines(records: Iterable[dict[str, Any]], out: IO[str]) -> int:
    count = 0
    for record in records:
        out.write(json.dumps(record, ensure_ascii=False) + "\n")
        count += 1
    return count


def write_table(records: Iterable[dict[str, Any]], out: IO[str]) -> int:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown = ("task_id", "priority", "due_at", "team", "owner", "status", "reason")
    for name in shown:
        table.add_column(name, no_wrap=name != "reason")
    count = 0
    for record in records:
        cells = {**record, "task_id": record["task_id"][:10]}
        table.add_row(*(Text(str(cells[name] or "")) for name in shown))
        count += 1
    console = Console(file=out, highlight=False, width=None if out.isatty() else PIPE_WIDTH)
    console.print(table)
    console.print(f"{count:,} task{'' if count == 1 else 's'}; an id may be cut short if unique")
    return count


def show_instant(value: int | None, zone: ZoneInfo) -> str | None:
    instant = from_micros(value)
    return instant.astimezone(zone).strftime("%Y-%m-%d %H:%M") if instant else None


# changing -------------------------------------------------------------------------------------


def complete_task(settings: Settings, task_id: str, outcome: str | None = None) -> str:
    """Mark a task done; returns the line to print. UsageError if no task has the id."""
    return change_one(settings, task_id, {"status": "done", "outcome": outcome})


def snooze_task(settings: Settings, task_id: str, until: str) -> str:
    """Put a task off until a day, an instant or after a span (``3d``, ``4h``); returns the line to
    print. UsageError if until cannot be read or has passed."""
    instant = read_until(until, ZoneInfo(settings.project.time_zone), datetime.now(UTC))
    return change_one(settings, task_id, {"status": "snoozed", "snoozed_until": instant})


def assign_task(settings: Settings, task_id: str, owner: str) -> str:
    """Give a task to a member (by name or mail); ``none`` takes it from its owner. Returns the line
    to print. UsageError if there is no such member."""
    name = None if owner == "none" else find_member(settings, owner)
    return change_one(settings, task_id, {"owner": name})


def change_one(settings: Settings, task_id: str, change: dict[str, Any]) -> str:
    with write_tasks(Home(settings).tasks) as (con, revision):
        task = find_task(con, task_id)
        if change.get("outcome", "") is None:
            del change["outcome"]
        if change.get("status") == "snoozed" and task["status"] not in LIVE:
            raise UsageError(f"task {task['task_id'][:10]} is {task['status']}: nothing to put off")
        done = apply_change(con, task, change, revision=revision, note=None)
    zone = ZoneInfo(settings.project.time_zone)
    words = [
        f"{name} {show_instant(to_micros(value), zone) if isinstance(value, datetime) else value}"
        for name, value in done.items()
    ]
    return f"{task['task_id'][:10]}: {', '.join(words) or 'no change'}; {task['reason'] or ''}"


def find_task(con: sqlite3.Connection, task_id: str) -> dict[str, Any]:
    """The task of an id or of a beginning of it that only one task has."""
    wanted = task_id.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{4,32}", wanted):
        raise UsageError(
            f"task {task_id!r}: not a task id; 'hearback tasks list' shows them (at least 4 signs)"
        )
    rows = fetch_tasks(con, "task_id >= ? and task_id < ? limit 2", (wanted, wanted + "g"))
    if not rows:
        raise UsageError(f"task {task_id!r}: there is none; 'hearback tasks list' shows them")
    if len(rows) > 1:
        raise UsageError(f"task {task_id!r}: several begin like that; give more of the id")
    return rows[0]


TASK_STATE = ("task_id", "status", "owner", "outcome", "snoozed_until", "status_changed_at",
              "status_by", "reason")  # fmt: skip


def fetch_tasks(con: sqlite3.Connection, where: str, values: Iterable[Any]) -> list[dict[str, Any]]:
    rows = con.execute(f"select {', '.join(TASK_STATE)} from tasks where {where}", tuple(values))
    return [dict(zip(TASK_STATE, row, strict=True)) for row in rows.fetchall()]


def apply_change(
    con: sqlite3.Connection,
    task: dict[str, Any],
    change: dict[str, Any],
    *,
    revision: int,
    note: str | None,
) -> dict[str, Any]:
    """Write what differs, with an event for each; returns what was changed."""
    now, actor = to_micros(datetime.now(UTC)), getpass.getuser()
    events: list[tuple[str, str, str | None, str | None, str | None]] = []
    done: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    task_id = task["task_id"]
    if change.get("status", task["status"]) != task["status"]:
        events.append((task_id, "status_changed", task["status"], change["status"], note))
        columns |= {"status": change["status"], "status_changed_at": now, "status_by": actor}
        columns["snoozed_until"] = None
        done["status"] = change["status"]
    if "snoozed_until" in change:
        until = to_micros(change["snoozed_until"])
        if until != task["snoozed_until"]:
            shown = change["snoozed_until"].astimezone(UTC).isoformat()
            events.append((task_id, "snoozed", None, shown, note))
            columns["snoozed_until"] = until
            done["snoozed_until"] = change["snoozed_until"]
    if "owner" in change and change["owner"] != task["owner"]:
        kind = "assigned" if change["owner"] else "unassigned"
        events.append((task_id, kind, task["owner"], change["owner"], note))
        columns |= {"owner": change["owner"], "assigned_at": now if change["owner"] else None}
        done["owner"] = change["owner"] or "none"
    if "outcome" in change and change["outcome"] != task["outcome"]:
        events.append((task_id, "outcome_changed", task["outcome"], change["outcome"], note))
        columns["outcome"] = change["outcome"]
        done["outcome"] = change["outcome"]
    if events:
        columns["revision"] = revision
        con.execute(
            f"update tasks set {', '.join(f'{name} = ?' for name in columns)} where task_id = ?",
            (*columns.values(), task_id),
        )
        record_events(con, events, at=now, actor=actor)
    return done


def read_status(word: str) -> str:
    """A status by its key or its word in either language; UsageError with the nearest."""
    found = list_terms("statuses").get(fold(word))
    if found is None:
        raise UsageError(
            f"status {word!r} is not known{nearest(word, list(STATUSES))}; "
            f"use {', '.join(STATUSES)}"
        )
    return found


def find_member(settings: Settings, word: str) -> str:
    """A member's name by name or mail; UsageError with the nearest. Without teams: any."""
    members = [member for team in settings.teams for member in team.members]
    for member in members:
        if fold(word) in (fold(member.name), fold(member.email)):
            return member.name
    if not members:
        return word
    names = sorted({member.name for member in members})
    raise UsageError(
        f"owner {word!r} is no member of a team{nearest(word, names)}; "
        f"members are: {', '.join(names)}"
    )


def read_until(text: str, zone: ZoneInfo, now: datetime) -> datetime:
    """``2026-11-30``, ``2026-11-30 14:00``, ``3d`` or ``4h`` as an instant after now."""
    span = re.fullmatch(r"(\d{1,4})\s*([hdw])", text.strip().lower())
    if span:
        unit = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}[span[2]]
        return now + int(span[1]) * unit
    instant = read_local_time(text, zone)
    if instant <= now:
        raise UsageError(f"until {text!r} has passed; give a later day")
    return instant


def read_local_time(value: Any, zone: ZoneInfo) -> datetime:
    """A day or an instant as people and spreadsheets write it: ISO, year first with / or ., a date
    cell, or an Excel day number. UsageError if day and month could be confused."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=zone) if value.tzinfo is None else value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=zone)
    text = str(value).strip()
    if re.fullmatch(r"\d{5}(\.\d+)?", text):
        days = float(text)
        naive = datetime(EXCEL_EPOCH.year, EXCEL_EPOCH.month, EXCEL_EPOCH.day)
        return (naive + timedelta(days=days)).replace(tzinfo=zone, microsecond=0)
    year_first = re.sub(r"^(\d{4})[/.年](\d{1,2})[/.月](\d{1,2})日?", r"\1-\2-\3", text)
    found = re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ](.+))?", year_first)
    if found is None:
        raise UsageError(
            f"{text!r} is not a date that can be read one way only; write it like 2026-11-30"
        )
    try:
        day = date(int(found[1]), int(found[2]), int(found[3]))
        clock = datetime.strptime(found[4].strip()[:5], "%H:%M").time() if found[4] else None
    except ValueError:
        raise UsageError(f"{text!r} is not a date; write it like 2026-11-30") from None
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    return midnight.replace(hour=clock.hour, minute=clock.minute) if clock else midnight


# taking a list back ---------------------------------------------------------------------------


@dataclass
class ImportReport:
    """What became of the rows of an edited list; ``lines`` say what was not taken and why."""

    read: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: int = 0
    lines: list[str] = field(default_factory=list)

    def describe(self) -> str:
        return (
            f"{self.read} rows read: {self.changed} changed, {self.unchanged} as they were, "
            f"{self.refused} not taken"
        )


@dataclass(frozen=True)
class ListRow:
    """A row of an edited list: its number in the file and its known cells."""

    number: int
    cells: dict[str, Any]


def import_list(settings: Settings, path: Path) -> ImportReport:
    """Take an edited follow-up list (XLSX or CSV) back into the task store, in one transaction.

    Each fault is one line of the report that names the row; the other rows are taken. A field that
    the list did not change is left alone, whatever happened to the task since; a field that both
    changed is a conflict and stays as it is in the store. HearbackError if the file is no list.
    """
    report = ImportReport()
    rows = list(read_list(path, report))
    zone = ZoneInfo(settings.project.time_zone)
    counts: dict[str, list[ListRow]] = {}
    for row in rows:
        counts.setdefault(read_id(row), []).append(row)
    report.read = len(rows)
    with write_tasks(Home(settings).tasks) as (con, revision):
        for task_id, group in counts.items():
            try:
                task = find_listed(con, task_id, group)
                change, conflicts = find_edits(settings, task, group[0], zone)
            except UsageError as error:
                report.refused += len(group)
                report.lines.append(f"row {group[0].number}: {error.message}")
                continue
            done = apply_change(con, task, change, revision=revision, note=f"list {path.name}")
            report.lines += [f"row {group[0].number}: {line}" for line in conflicts]
            if conflicts and not done:
                report.refused += len(group)
            else:
                report.changed += bool(done)
                report.unchanged += len(group) - bool(done)
    return report


def read_id(row: ListRow) -> str:
    return str(row.cells.get("task_id") or "").strip().lower()


def find_listed(con: sqlite3.Connection, task_id: str, group: list[ListRow]) -> dict[str, Any]:
    """The task of a row; UsageError if there is none, or if two rows say different things of it."""
    if not task_id:
        raise UsageError("the task id is empty; not taken")
    found = fetch_tasks(con, "task_id = ?", (task_id,))
    if not found:
        hint = ""
        if re.fullmatch(r"[\d.]+e\+?\d+|\d+\.0", task_id):
            hint = " (a spreadsheet has turned it into a number: use the XLSX list)"
        raise UsageError(f"there is no task {task_id!r}{hint}; not taken")
    edits = {tuple(str(row.cells.get(name) or "") for name in EDITABLE) for row in group}
    if len(edits) > 1:
        numbers = " and ".join(str(row.number) for row in group)
        raise UsageError(f"rows {numbers} say different things of task {task_id[:10]}; not taken")
    return found[0]


def find_edits(
    settings: Settings, task: dict[str, Any], row: ListRow, zone: ZoneInfo
) -> tuple[dict[str, Any], list[str]]:
    """The fields that the list changed, and a line for each that the store changed too.

    UsageError for a value that cannot be taken.
    """
    wanted = read_wanted(settings, row, zone)
    base = str(row.cells.get("base") or "").split("|")
    listed = dict(zip(("status", "owner", "outcome"), base, strict=True)) if len(base) == 3 else {}
    now = {name: simplify(task[name]) for name in ("status", "owner", "outcome")}
    change: dict[str, Any] = {}
    conflicts: list[str] = []
    for name in ("status", "owner", "outcome"):
        if name not in wanted:
            continue
        value = simplify(wanted[name])
        if value == now[name] or value == listed.get(name, object()):
            continue
        if name in listed and listed[name] != now[name]:
            when = show_instant(task["status_changed_at"], zone)
            conflicts.append(
                f"task {task['task_id'][:10]}: {name} was changed to "
                f"{now[name] or 'nothing'!r} since the list was written (status by "
                f"{task['status_by']}, {when}); {value or 'nothing'!r} not taken"
            )
            continue
        change[name] = wanted[name]
    status = change.get("status", task["status"])
    if status == "snoozed" and "snoozed_until" in wanted:
        change["snoozed_until"] = wanted["snoozed_until"]
    if change.get("status") == "snoozed" and "snoozed_until" not in wanted:
        raise UsageError("status is snoozed but no day is given to come back on; not taken")
    if change.get("status") == "expired":
        raise UsageError("status expired is the system's own; use cancelled; not taken")
    return change, conflicts


def read_wanted(settings: Settings, row: ListRow, zone: ZoneInfo) -> dict[str, Any]:
    """What the editable cells of a row say; an empty owner or outcome means none."""
    wanted: dict[str, Any] = {}
    cells = row.cells
    if str(cells.get("status") or "").strip():
        wanted["status"] = read_status(str(cells["status"]).strip())
    if "owner" in cells:
        owner = restore(str(cells["owner"] or "").strip())
        unassigned = {
            fold(load_words("lists", name)["text"]["unassigned"]) for name in ("en", "zh")
        }
        empty = not owner or fold(owner) in unassigned
        wanted["owner"] = None if empty else find_listed_owner(settings, owner, cells)
    if "outcome" in cells:
        outcome = restore(str(cells["outcome"] or "").strip())
        wanted["outcome"] = outcome or None
    if cells.get("snooze_until") not in (None, ""):
        wanted["snoozed_until"] = read_local_time(cells["snooze_until"], zone)
    return wanted


def find_listed_owner(settings: Settings, owner: str, cells: dict[str, Any]) -> str:
    """A member, or the owner that the list was written with, even if they have left since."""
    parts = str(cells.get("base") or "").split("|")
    if len(parts) == 3 and simplify(owner) == parts[1]:
        return owner
    return find_member(settings, owner)


def read_list(path: Path, report: ImportReport) -> Iterator[ListRow]:
    """The rows of a list with its known columns, in either language and any order."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    lines = read_sheet(path) if path.suffix.lower() in (".xlsx", ".xlsm") else read_csv(path)
    header: dict[int, str] | None = None
    seen: list[str] = []
    for number, cells in enumerate(lines, start=1):
        if header is None:
            seen = [str(cell or "").strip() for cell in cells]
            header = match_header(path, seen, report)
            if header is None and number >= 10:
                break
            continue
        known = {name: cells[at] for at, name in header.items() if at < len(cells)}
        if any(value not in (None, "") for value in known.values()):
            yield ListRow(number, known)
    if header is None:
        word = load_words("lists", "en")["columns"]["task_id"]
        raise UsageError(
            f"{path}: no column {word!r} in the first rows; give a list that "
            "'hearback deliver' wrote, with its header"
        )


def match_header(path: Path, cells: list[str], report: ImportReport) -> dict[int, str] | None:
    """Column number → key, or None if the row is not the header. Changed names become lines."""
    terms = list_terms("columns")
    found = {at: terms[fold(cell)] for at, cell in enumerate(cells) if fold(cell) in terms}
    if "task_id" not in found.values():
        return None
    if len(set(found.values())) < len(found):
        twice = sorted({name for name in found.values() if list(found.values()).count(name) > 1})
        raise UsageError(f"{path}: column {twice[0]!r} is there twice; keep one of them")
    unknown = [cell for at, cell in enumerate(cells) if cell and at not in found]
    missing = [name for name in EDITABLE if name not in found.values()]
    words = {
        load_words("lists", language)["columns"][name]: name
        for name in missing
        for language in ("en", "zh")
    }
    for cell in unknown:
        report.lines.append(f"column {cell!r} is not known{nearest(cell, list(words))}; not read")
    for name in missing:
        report.lines.append(f"column {name!r} is missing; {name} of every task stays as it is")
    if len(missing) == len(EDITABLE):
        raise UsageError(
            f"{path}: none of the columns {', '.join(EDITABLE)} is there; nothing to take"
        )
    if "base" not in found.values():
        report.lines.append(
            "column 'As listed' is missing: changes made since the list was written cannot be seen"
        )
    return found


def read_sheet(path: Path) -> Iterator[tuple[Any, ...]]:
    """Cell values of the first sheet, row by row."""
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (zipfile.BadZipFile, InvalidFileException, KeyError, OSError) as error:
        raise HearbackError(
            f"{path}: not an XLSX file that can be read ({error}); save it again as .xlsx"
        ) from error
    try:
        yield from book.worksheets[0].iter_rows(values_only=True)
    finally:
        book.close()


def read_csv(path: Path) -> Iterator[list[str]]:
    """Rows of a CSV file as spreadsheets save it: UTF-8, UTF-16 or GB 18030; comma, semicolon or
    tab. HearbackError if it is none of these."""
    data = path.read_bytes()
    encodings = ["utf-16"] if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ["utf-8-sig", "gb18030"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        raise HearbackError(f"{path}: neither UTF-8 nor GB 18030 text; save it as CSV UTF-8")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    yield from csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)


def print_import(report: ImportReport, out: IO[str] | None = None) -> None:
    """The lines of a report, then the counts."""
    out = out or sys.stdout
    for line in report.lines:
        out.write(line + "\n")
    out.write(report.describe() + "; the next run shows them in the lists and the warehouse\n")

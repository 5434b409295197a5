"""Calls: notes and transcripts as files, one feedback a call.

Folders of .txt, .md, .vtt, .srt (a call a file), .json (a call, or a list of them), .jsonl (a call
a line) and .csv (a call a row, or a row for each thing said). What the customer said is the
feedback; what the agent said is a reply in the call's case. A note without speakers is what the
customer said, as the agent wrote it down.

With ``case_source`` a call belongs to a case of that source, and what agents said stays in raw.
Else calls make cases of their own: those that name the same case are one. A file that was only
touched is not read again; one that changed gives new versions of its calls.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic import Field as Option

from pipelines.entities import CASE_STATUSES
from pipelines.errors import HearbackError, UsageError
from pipelines.mail import decode_bytes, hash_address
from pipelines.mapping import LOCAL_FORMATS, Field, Mapping, When
from pipelines.settings import Source, TimeZone
from pipelines.sources.base import Batch, Kind, PullContext, Record, read_options
from pipelines.sources.transcripts import (
    NAMES,
    WORDS,
    Roles,
    Turn,
    first_of,
    parse_time,
    read_captions,
    read_items,
    read_labelled,
    settle_captions,
)
from pipelines.text import clean_line, shorten

BATCH_ROWS = 500
SUFFIXES = (".txt", ".md", ".vtt", ".srt", ".json", ".jsonl", ".csv")
# What a file may call a thing, in lower case.
ALIASES: dict[str, tuple[str, ...]] = {
    "id": ("id", "call id", "callid", "contactid", "contact id", "uuid", "通话编号", "通话id",
           "录音编号", "流水号"),
    "case": ("case", "case id", "caseid", "case number", "ticket", "ticket id", "ticket number",
             "工单", "工单号", "工单编号", "案件", "案件编号"),
    "customer": ("customer id", "customerid", "customer number", "client id", "客户编号", "客户号",
                 "客户id", "会员号"),
    "caller": ("caller", "phone", "caller number", "from number", "来电号码", "主叫号码", "主叫",
               "电话"),
    "agent": ("agent id", "agentid", "agent name", "agent username", "坐席工号", "工号", "坐席姓名",
              "客服工号"),
    "time": ("time", "date", "datetime", "started at", "started", "start time", "call time",
             "call date", "created at", "timestamp", "日期", "时间", "通话时间", "开始时间",
             "来电时间"),
    "duration": ("duration", "duration seconds", "call duration", "length", "talk time", "时长",
                 "通话时长"),
    "language": ("language", "languagecode", "lang", "语言"),
    "subject": ("subject", "title", "topic", "主题", "标题"),
    "product": ("product", "产品"),
}  # fmt: skip
NOTES = ("note", "notes", "summary", "body", "transcript", "备注", "通话内容", "通话记录", "记录")
LISTS = ("turns", "segments", "utterances", "transcript", "Transcript", "messages", "dialogue",
         "dialog", "conversation", "sentences", "entries", "对话", "通话内容")  # fmt: skip
STAMP = re.compile(
    r"(?<!\d)(20\d\d)[-_.年]?(0[1-9]|1[0-2])[-_.月]?(0[1-9]|[12]\d|3[01])日?"
    r"(?:[T_ \-]*([01]\d|2[0-3])[-_:.时]?([0-5]\d)[-_:.分]?([0-5]\d)?)?(?!\d)"
)
CASE = re.compile(r"(?:case|ticket|工单|案件)[-_ #]?([A-Za-z0-9]+(?:-\d+)?)", re.IGNORECASE)
HEADER = re.compile(r"^\s*[*_#-]*\s*([^:：\n]{1,30}?)\s*[*_]*\s*[:：]\s*[*_]*\s*(\S.{0,200}?)\s*$")
ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")
PARTS = ("id", "case", "customer", "caller", "agent", "time", "language", "subject", "product")


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Option(description="file or pattern, from the folder of hearback.toml")
    name_pattern: str | None = Option(
        default=None,
        description="regular expression of file names with groups such as (?P<case>…); "
        "id case customer caller agent time language subject product",
    )
    fields: dict[str, str] = Option(
        default_factory=dict, description='what files call a thing, such as case = "Ref"'
    )
    agents: list[str] = Option(default_factory=list, description="speakers who are agents")
    customers: list[str] = Option(default_factory=list, description="speakers who are customers")
    first_speaker: Literal["agent", "customer"] = Option(
        default="agent", description="who speaks first where no label tells"
    )
    time_zone: TimeZone | None = Option(default=None, description="zone of times that name none")
    use_file_time: bool = Option(
        default=False, description="a call without a time has that of its file"
    )
    case_source: str | None = Option(default=None, description="source whose cases calls belong to")
    customer_source: str | None = Option(
        default=None, description="source whose ids the customers have"
    )
    case_status: str = Option(default="closed", description="status of the calls' own cases")
    product: str | None = Option(default=None, description="what the calls are about")
    max_bytes: int = Option(default=20_000_000, ge=1, description="bigger files are set aside")

    @field_validator("name_pattern")
    @classmethod
    def check_pattern(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression ({error})") from None
        wrong = sorted(set(groups) - set(PARTS))
        if wrong or not groups:
            raise ValueError(f"its groups must be among {', '.join(PARTS)}, not {wrong}")
        return pattern

    @field_validator("fields")
    @classmethod
    def check_fields(cls, fields: dict[str, str]) -> dict[str, str]:
        known = [*ALIASES, "text", "speaker"]
        wrong = sorted(set(fields) - set(known))
        if wrong:
            raise ValueError(f"{wrong[0]!r} is none of {', '.join(known)}")
        return fields

    @field_validator("case_status")
    @classmethod
    def check_status(cls, status: str) -> str:
        if status not in CASE_STATUSES:
            raise ValueError(f"{status!r} is none of {', '.join(CASE_STATUSES)}")
        return status


# What was read ------------------------------------------------------------------------------------


class Ledger:
    """Files and calls that were read, in a small SQLite file beside the position.

    Each row has the number of the batch that it came with; what a later pull finds above the number
    that its position remembers was never committed.
    """

    def __init__(self, path: Path, committed: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.con = sqlite3.connect(path, isolation_level=None)
        self.con.executescript(
            "pragma journal_mode = wal; pragma synchronous = normal;"
            "create table if not exists files (path text primary key, size integer,"
            " mtime_ns integer, sha256 text, n integer);"
            "create table if not exists calls (id text primary key, case_id text, at text,"
            " minutes real, n integer);"
            "create index if not exists calls_by_case on calls (case_id);"
        )
        for table in ("files", "calls"):
            self.con.execute(f"delete from {table} where n > ?", (committed,))
        self.con.execute("begin")

    def save(self) -> None:
        """To be called before the position of a batch is given away."""
        self.con.execute("commit")
        self.con.execute("begin")

    def close(self) -> None:
        self.con.execute("commit")
        self.con.close()

    def is_known(self, key: str, path: Path) -> tuple[bool, tuple[int, int, str] | None]:
        """(whether the file is as it was, its new mark if its time or size is another)."""
        stat = path.stat()
        row = self.con.execute(
            "select size, mtime_ns, sha256 from files where path = ?", (key,)
        ).fetchone()
        if row and row[:2] == (stat.st_size, stat.st_mtime_ns):
            return True, None
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return bool(row and row[2] == digest), (stat.st_size, stat.st_mtime_ns, digest)

    def note_file(self, key: str, mark: tuple[int, int, str], batch: int) -> None:
        self.con.execute("insert or replace into files values (?, ?, ?, ?, ?)", (key, *mark, batch))

    def note_call(self, call: dict[str, Any], batch: int) -> None:
        self.con.execute(
            "insert or replace into calls values (?, ?, ?, ?, ?)",
            (call["id"], call["case_id"], call["started_at"], call["minutes"], batch),
        )

    def read_case(self, case_id: str) -> dict[str, Any]:
        """When the first and the last call of a case began, and how long all of them took."""
        row = self.con.execute(
            "select min(at), max(at), sum(minutes) from calls where case_id = ?", (case_id,)
        ).fetchone()
        return {"opened_at": row[0], "updated_at": row[1], "minutes": row[2]}


def find_paths(source: Source, options: Options, context: PullContext) -> list[Path]:
    found = sorted(glob.glob(str(context.folder / options.path), recursive=True))
    paths = [Path(path) for path in found if path.lower().endswith(SUFFIXES)]
    if not paths:
        raise HearbackError(
            f"source {source.name!r}: no file of calls matches {options.path} (from "
            f"{context.folder}); mend options.path. Files end in {', '.join(SUFFIXES)}"
        )
    return [path for path in paths if path.is_file()]


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """The calls of every file that is new or changed."""
    options = read_options(source, Options)
    batch = int(context.position.get("batch", 0))
    ledger = Ledger(context.state / "calls.sqlite", batch)
    try:
        batch += 1
        records: list[Record] = []
        has_news = False
        for path in find_paths(source, options, context):
            key = Path(os.path.relpath(path, context.folder)).as_posix()
            is_known, mark = ledger.is_known(key, path)
            if mark is None:
                continue
            has_news = True
            if not is_known:
                for record in read_file(path, key, options, context):
                    records.append(settle_case(record, ledger, batch))
                    if len(records) >= BATCH_ROWS:  # the file itself is noted with its end
                        yield Batch("calls", records)
                        records = []
            ledger.note_file(key, mark, batch)
            if len(records) >= BATCH_ROWS // 2:
                ledger.save()
                yield Batch("calls", records, {"batch": batch})
                batch += 1
                records, has_news = [], False
        if has_news:
            ledger.save()
            yield Batch("calls", records, {"batch": batch})
    finally:
        ledger.close()


def settle_case(record: Record, ledger: Ledger, batch: int) -> Record:
    if isinstance(record.payload, dict):
        ledger.note_call(record.payload, batch)
        record.payload["of_case"] = ledger.read_case(record.payload["case_id"])
    return record


def check(source: Source, context: PullContext) -> str:
    options = read_options(source, Options)
    paths = find_paths(source, options, context)
    newest = max(paths, key=lambda path: path.stat().st_mtime)
    found = next(iter(read_file(newest, newest.name, options, context)), None)
    if found is None or found.problem:
        why = found.problem if found else "it is empty"
        raise HearbackError(f"source {source.name!r}: {newest.name} cannot be read: {why}")
    told = found.payload if isinstance(found.payload, dict) else {}
    roles = ", ".join(sorted({turn["role"] for turn in told.get("turns", [])})) or "no speakers"
    return f"{len(paths)} file{'s' if paths[1:] else ''}; {newest.name} has {roles}"


# One file -----------------------------------------------------------------------------------------


def read_file(path: Path, key: str, options: Options, context: PullContext) -> Iterator[Record]:
    """The calls in a file; what cannot be read keeps its text as a problem."""
    make = Maker(key, options, context)
    told = read_name(path, options)
    if options.use_file_time:
        stamp = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        told.setdefault("time", stamp.isoformat())
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield from read_json(decode_file(line).strip(), number, told, make)
        return
    if path.stat().st_size > options.max_bytes:
        with open(path, "rb") as file:
            head = decode_bytes(file.read(1000), None)
        yield Record(key, head, problem="oversized_text")
        return
    text = decode_file(path.read_bytes())
    if not text.strip():
        return
    if suffix in (".txt", ".md"):
        header, body = split_header(text, options)
        if suffix == ".md":
            heading = re.search(r"^#{1,6}\s+(.+)$", body, re.MULTILINE)
            if heading and not body[: heading.start()].strip():
                header.setdefault("subject", heading[1])
                body = body[heading.end() :]
            body = re.sub(r"^#{1,6}\s+", "", body, flags=re.MULTILINE)
        yield make.record(told | header, read_labelled(body, make.roles), body, None)
    elif suffix in (".vtt", ".srt"):
        header = read_notes(text, options)
        yield make.record(told | header, settle_captions(read_captions(text), make.roles), "", None)
    elif suffix == ".csv":
        yield from read_table(text, told, make)
    else:
        yield from read_json(text, 0, told, make)


def decode_file(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace").replace("\r\n", "\n").replace("\r", "\n")
    text = decode_bytes(data.removeprefix(b"\xef\xbb\xbf"), None)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_name(path: Path, options: Options) -> dict[str, str]:
    """What a file's name says; without a pattern a time and a case."""
    stem = path.stem
    if options.name_pattern:
        found = re.search(options.name_pattern, stem)
        told = {name: text for name, text in found.groupdict().items() if text} if found else {}
        stamp = STAMP.search(told.get("time", ""))
        return told | ({"time": write_stamp(stamp)} if stamp else {})
    told = {}
    stamp, case = STAMP.search(stem), CASE.search(stem)
    if stamp:
        told["time"] = write_stamp(stamp)
    if case:
        told["case"] = case[1]
    return told


def write_stamp(stamp: re.Match[str]) -> str:
    year, month, day, hour, minute, second = stamp.groups()
    clock = f" {hour}:{minute}:{second or '00'}" if hour else ""
    return f"{year}-{month}-{day}{clock}"


def find_part(key: str, options: Options) -> str | None:
    """What a key of a file means."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key.strip()).replace("_", " ").replace("-", " ")
    names = {key.strip().lower(), plain.lower(), plain.lower().replace(" ", "")}
    for part, own in options.fields.items():
        if own.lower() in names:
            return part
    return next((part for part, known in ALIASES.items() if names & set(known)), None)


def split_header(text: str, options: Options) -> tuple[dict[str, str], str]:
    """("Case: 4711" and the like at the top of a text, the rest of it)."""
    lines = text.split("\n")
    told: dict[str, str] = {}
    place = 0
    is_front = lines[0].strip() == "---"
    for place in range(1 if is_front else 0, len(lines)):
        line = lines[place]
        if is_front and line.strip() == "---":
            return told, "\n".join(lines[place + 1 :])
        match = HEADER.match(" ".join(line.split())) if len(line) < 300 else None
        part = find_part(match[1], options) if match else None
        if match and part and part not in ("text", "speaker"):
            told[part] = match[2].strip("\"'")
        elif line.strip() and not is_front and not line.startswith("#"):
            break
    return told, "\n".join(lines[place:])


def read_notes(text: str, options: Options) -> dict[str, str]:
    """What NOTE blocks of a WebVTT file say of the call."""
    told: dict[str, str] = {}
    for block in re.split(r"\n[ \t]*\n", text):
        if block.lstrip("\n").startswith("NOTE"):
            told |= split_header(block.lstrip("\n").removeprefix("NOTE").strip(), options)[0]
    return told


def read_table(text: str, told: dict[str, str], make: Maker) -> Iterator[Record]:
    """A call for each row; where a column names the speaker, for the rows of one id."""
    from pipelines.sources.files import find_delimiter

    csv.field_size_limit(make.options.max_bytes)
    try:
        rows = list(csv.DictReader(io.StringIO(text), delimiter=find_delimiter(text[:10_000])))
    except csv.Error:
        yield Record(make.key, text[:10_000], problem="broken_row")
        return
    names = [name for name in (rows[0] if rows else {}) if name]
    speaker = find_column(names, "speaker", NAMES, make.options)
    words = find_column(names, "text", (*WORDS, *NOTES), make.options)
    if words is None:
        raise HearbackError(
            f"{make.key} has no column of what was said; name it in options.fields, such as "
            f'fields = {{ text = "…" }}; its columns are: {", ".join(names[:30])}'
        )
    calls: dict[str, list[dict[str, str]]] = {}
    for number, row in enumerate(rows):
        meta = read_meta(row, make.options)
        same = meta.get("id") or (meta.get("case") if speaker else None)
        calls.setdefault(same or (make.key if speaker else f"{number}"), []).append(row)
    for same, group in calls.items():
        meta = told | read_meta(group[0], make.options)
        if speaker and same != make.key:
            meta.setdefault("id", same)
        if speaker:
            items = [{"speaker": row[speaker], "text": row[words] or ""} | starts(row)
                     for row in group]  # fmt: skip
            yield make.record(meta, read_items(items), "", None)
        else:
            note = group[0][words] or ""
            yield make.record(meta, read_labelled(note, make.roles), note, group[0])


def starts(row: dict[str, str]) -> dict[str, str]:
    return {name: row[name] for name in ("start", "start_time", "offset") if row.get(name)}


def find_column(
    names: list[str], part: str, known: tuple[str, ...], options: Options
) -> str | None:
    own = options.fields.get(part, "").lower()
    lower = {name.strip().lower(): name for name in names}
    wanted = [own] if own else [name.lower() for name in known]
    return next((lower[name] for name in wanted if name in lower), None)


def read_meta(item: dict[str, Any], options: Options) -> dict[str, str]:
    """What an object or a row says of the call."""
    told: dict[str, str] = {}
    for key, value in item.items():
        part = find_part(key, options) if isinstance(key, str) else None
        if part in (None, "text", "speaker") or value in (None, ""):
            continue
        plain = first_of(value, ("id", "name", "value")) if isinstance(value, dict) else value
        if isinstance(plain, str | int | float) and part:
            told.setdefault(part, str(plain).strip())
    return told


def read_json(text: str, number: int, told: dict[str, str], make: Maker) -> Iterator[Record]:
    """The calls of a JSON text: an object, a list of objects, or a list of turns."""
    try:
        found = json.loads(text)
        if ESCAPED.search(text):  # half a character is none, and cannot be stored
            whole = json.dumps(found, ensure_ascii=False).encode("utf-8", "replace").decode()
            found = json.loads(whole)
    except ValueError:
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
        yield Record(f"{make.key}#{digest}", text[:10_000], problem="broken_json")
        return
    items = found if isinstance(found, list) else [found]
    is_call = any(isinstance(item, dict) and find_words(item) is not None for item in items)
    is_turns = isinstance(found, list) and all(
        isinstance(item, dict) and first_of(item, NAMES) and first_of(item, WORDS) for item in items
    )
    if is_turns:
        yield make.record(told, read_items(items), "", None)
        return
    if not is_call:
        yield Record(make.key, text[:10_000], problem="empty_text")
        return
    is_one = len(items) == 1 and not number
    for item in items:
        if not isinstance(item, dict):
            continue
        words = find_words(item)
        inner = item.get("metadata")
        meta = told | (read_meta(inner, make.options) if isinstance(inner, dict) else {})
        meta |= read_meta(item, make.options)
        if isinstance(words, list):
            yield make.record(meta, read_items(words), "", None if is_one else item)
        else:
            note = str(words or "")
            yield make.record(meta, read_labelled(note, make.roles), note, None if is_one else item)


def find_words(item: dict[str, Any]) -> Any:
    """The turns of a call, or its text."""
    lists = [item[name] for name in LISTS if isinstance(item.get(name), list) and item[name]]
    if lists:
        return lists[0]
    texts = (*NOTES, *WORDS)
    return next((item[n] for n in texts if isinstance(item.get(n), str) and item[n].strip()), None)


class Maker:
    """Makes the records of one file."""

    def __init__(self, key: str, options: Options, context: PullContext) -> None:
        self.key = key
        self.options = options
        self.zone = ZoneInfo(options.time_zone or context.time_zone)
        self.roles = Roles(options.agents, options.customers, options.first_speaker)

    def record(
        self, told: dict[str, str], turns: list[Turn], note: str, item: dict[str, Any] | None
    ) -> Record:
        """The record of a call. ``item``: of several calls in a file, what tells it apart."""
        call_id = told.get("id")
        if not call_id:
            call_id = self.key
            if item is not None:
                content = json.dumps(item, sort_keys=True, ensure_ascii=False, default=str)
                call_id += "#" + hashlib.sha256(content.encode()).hexdigest()[:16]
        roles = self.roles.settle(turns)
        said = [turn for turn in turns if roles[turn.speaker] == "customer"]
        answers = [turn for turn in turns if roles[turn.speaker] == "agent"]
        words = "\n".join(turn.text for turn in said) or ("" if turns else note.strip())
        first = next((turn.at for turn in said if turn.at is not None), 0.0)
        replied = next((t.at for t in answers if t.at is not None and t.at >= first), None)
        started_at = read_instant(told.get("time"), self.zone)
        agents = [t.speaker for t in answers if t.speaker and not self.roles.find(t.speaker)]
        payload = {
            "id": call_id,
            "file": self.key,
            "case": told.get("case"),
            "case_id": told.get("case") or call_id,
            "customer": find_customer(told),
            "agent": told.get("agent") or next(iter(agents), None),
            "started_at": started_at,
            "replied_at": add_seconds(started_at, replied),
            "minutes": find_minutes(told.get("duration"), turns),
            "language": told.get("language"),
            "subject": clean_line(told["subject"]) if told.get("subject") else None,
            "product": told.get("product") or self.options.product,
            "turns": [
                {"speaker": t.speaker, "role": roles[t.speaker], "at": t.at, "text": t.text}
                for t in turns
            ],
            "note": None if turns else note,
            "said": shorten(words),
            "answers": shorten("\n".join(turn.text for turn in answers)) or None,
        }
        return Record(call_id, payload)


def find_customer(told: dict[str, str]) -> str | None:
    """The customer's id; a hash where it is a mail address or a phone number."""
    customer = told.get("customer")
    if customer:
        return hash_address(customer) if "@" in customer else customer
    caller = re.sub(r"[^\d+a-z@.]", "", told.get("caller", "").lower())
    return hash_address(caller) if caller else None


def read_instant(text: str | None, zone: ZoneInfo) -> str | None:
    """A time in UTC, as ISO 8601; the text itself where it cannot be read."""
    if not text:
        return None
    found: datetime | None = None
    if re.fullmatch(r"\d{10}(?:\.\d+)?|\d{13}", text):
        found = datetime.fromtimestamp(float(text) / (1000 if len(text) == 13 else 1), UTC)
    else:
        for read in (datetime.fromisoformat, *(make_reader(form) for form in LOCAL_FORMATS)):
            try:
                found = read(text)
                break
            except ValueError:
                continue
    if found is None:
        return text
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC).isoformat()


def make_reader(form: str) -> Any:
    return lambda text: datetime.strptime(text, form)


def add_seconds(started_at: str | None, seconds: float | None) -> str | None:
    try:
        start = datetime.fromisoformat(started_at or "")
    except ValueError:
        return started_at
    return datetime.fromtimestamp(start.timestamp() + (seconds or 0), UTC).isoformat()


def find_minutes(duration: str | None, turns: list[Turn]) -> float | None:
    """A call's length: "12:30", "750", "12.5 min", "12分30秒"; else when its last words began."""
    if duration:
        text = duration.strip().lower()
        if re.fullmatch(r"(?:\d{1,2}:)?\d{1,3}:\d{2}", text):
            return round(parse_time(text) / 60, 3)
        spoken = re.fullmatch(
            r"(?:(\d+)\s*(?:h|hours?|小时|时)\s*)?(?:([\d.]+)\s*(?:m|min|mins|minutes?|分钟?)\s*)?"
            r"(?:([\d.]+)\s*(?:s|sec|secs|seconds?|秒)?)?", text,
        )  # fmt: skip
        if spoken and text:
            hours, minutes, seconds = (float(part or 0) for part in spoken.groups())
            return round(hours * 60 + minutes + seconds / 60, 3)
        return None
    times = [turn.at for turn in turns if turn.at is not None]
    return round(times[-1] / 60, 3) if times and times[-1] > 0 else None


# What the records mean ----------------------------------------------------------------------------

IGNORED = (
    "file",
    "turns",
    "note",
    "case_id",
    "answers",
    "replied_at",
    "minutes",
    "of_case",
    "agent",
)


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    if options.case_source == source.name:
        raise UsageError(f"source {source.name!r}: case_source must be another source")
    started_at = Field("started_at", "instant")
    agent = {
        "source_agent_id": Field("agent"),
        "name": Field("agent"),
        "role": Field(const="agent"),
        "is_active": Field(const=True),
    }
    feedback = {
        "source_record_id": Field("id"),
        "channel": Field(const="phone"),
        "source_case_id": Field("case"),
        "case_source": Field(const=options.case_source),
        "source_customer_id": Field("customer"),
        "customer_source": Field(const=options.customer_source),
        "product": Field("product"),
        "language": Field("language"),
        "created_at": started_at,
        "title": Field("subject"),
        "body": Field("said"),
    }
    is_dated = When("started_at")
    only_said = Mapping(
        "calls", "feedback", feedback, (When("said"),), ignored=IGNORED,
        required=("source_record_id",),
    )  # fmt: skip
    if options.case_source:
        return [only_said]
    # A case needs a time; a call that has none is no more than what was said.
    undated = replace(only_said, when=(*only_said.when, When("started_at", is_negated=True)))
    message = {
        "source_record_id": Field("id"),
        "source_case_id": Field("case_id"),
        "is_public": Field(const=True),
        "channel": Field(const="phone"),
    }
    customer_said = message | {
        "author_id": Field("customer"),
        "author_role": Field(const="customer"),
        "created_at": started_at,
        "body": Field("said"),
        "sequence": Field(const=0.0),
    }
    agent_said = message | {
        "source_record_id": Field("id", suffix=":agent"),
        "author_id": Field("agent"),
        "author_role": Field(const="agent"),
        "created_at": Field("replied_at", "instant"),
        "body": Field("answers"),
        "sequence": Field(const=1.0),
    }
    case = {
        "source_case_id": Field("case_id"),
        "channel": Field(const="phone"),
        "subject": Field("subject"),
        "source_customer_id": Field("customer"),
        "status": Field(const=options.case_status),
        "assignee_id": Field("agent"),
        "product": Field("product"),
        "opened_at": Field("of_case.opened_at", "instant"),
        "updated_at": Field("of_case.updated_at", "instant"),
    }
    handling = {
        "source_case_id": Field("case_id"),
        "metric": Field(const="handling"),
        "clock": Field(const="calendar"),
        "value": Field("of_case.minutes", "number"),
        "updated_at": Field("of_case.updated_at", "instant"),
    }
    ids = ("source_record_id",)
    return [
        undated,
        Mapping("calls", "messages", customer_said, (is_dated, When("said")), required=ids),
        Mapping("calls", "messages", agent_said, (is_dated, When("answers")), required=ids),
        Mapping("calls", "cases", case, (is_dated,), required=("source_case_id",)),
        Mapping("calls", "vendor_metrics", handling, (is_dated, When("of_case.minutes"))),
        Mapping("calls", "agents", agent, (When("agent"),)),
    ]


KINDS = {
    "calls": Kind(
        "calls",
        "Notes and transcripts of calls: text, Markdown, WebVTT, SubRip, JSON, CSV; "
        "what the customer said is the feedback",
        Options,
        ("cases", "messages", "feedback", "vendor_metrics", "agents"),
        pull,
        mappings,
        check=check,
        is_local=True,
        summary_zh="通话备注与转写文件：文本、Markdown、WebVTT、SubRip、JSON、CSV；客户说的话即反馈",
    )
}

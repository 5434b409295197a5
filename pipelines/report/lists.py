"""Follow-up lists as people open them: one XLSX and one CSV a team, with the same rows.

``python -m pipelines.report.lists`` writes lists in a process of its own, so that the rest of a
delivery goes on meanwhile: it reads ``ListJob`` objects as JSON and answers with the rows of each.

The texts come from outside: in XLSX they are written as strings, in CSV a cell that a spreadsheet
would take for a formula gets an apostrophe, which ``hearback tasks import`` takes off again.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines.errors import HearbackError
from pipelines.report.words import describe_state, load_words, make_harmless
from pipelines.storage import explain_disk_errors
from pipelines.task_store import STATUSES

COLUMNS = (
    "plan", "priority", "due", "overdue", "reason", "customer", "subject", "product", "language",
    "message", "suggested_action", "suggested_reply", "link", "owner", "status", "snooze_until",
    "outcome", "rule", "base", "task_id",
)  # fmt: skip
WIDTHS = {
    "plan": 7, "priority": 8, "due": 15, "overdue": 8, "reason": 27, "customer": 13, "subject": 22,
    "product": 12, "language": 9, "message": 38, "suggested_action": 24, "suggested_reply": 40,
    "link": 6, "owner": 10, "status": 11, "snooze_until": 12, "outcome": 20, "rule": 20, "base": 12,
    "task_id": 34,
}  # fmt: skip
EDITABLE = ("owner", "status", "snooze_until", "outcome")
WRAPPED = ("reason", "customer", "subject", "product", "message", "suggested_action",
           "suggested_reply", "outcome")  # fmt: skip
ROW_HEIGHT = 70  # five lines; the rest of a text shows in the formula bar
SHEET_ROWS = 1_048_575
SHEET_LINKS = 65_000  # what a sheet may hold
LINK_LENGTH = 2_000
RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))}


@dataclass(frozen=True)
class ListInfo:
    """What a list says about itself: team, day, zone, when it was written and who may own tasks."""

    team: str
    day: str
    zone: str
    written: datetime  # local, without zone
    language: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class ListJob:
    """A list to write: an Arrow file with its tasks, where it goes (a path without ending)."""

    tasks: str
    target: str
    formats: tuple[str, ...]
    info: ListInfo


@contextmanager
def start_lists(jobs: list[ListJob], folder: Path) -> Iterator[Callable[[], list[int]]]:
    """Write the lists in a process of its own; the function waits for it and gives their rows.

    ``folder`` holds what it is told. Leaving the block stops it. HearbackError, from the function,
    with what kept it from writing.
    """
    told = folder / "jobs.json"
    told.write_text(json.dumps([asdict(job) for job in jobs], default=str), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.report.lists", str(told.resolve())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        cwd=Path(__file__).parents[2],
    )

    def wait() -> list[int]:
        said, errors = process.communicate()
        if process.returncode:
            lines = errors.strip().splitlines() or ["the process was stopped"]
            raise HearbackError(lines[-1])
        counts: list[int] = json.loads(said)
        return counts

    try:
        yield wait
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def main() -> None:
    """Write the lists of the file that the command line names; prints the rows of each."""
    told = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        sys.stdout.write(json.dumps([write_list(read_job(job)) for job in told]))
    except HearbackError as error:
        raise SystemExit(str(error)) from None


def read_job(told: dict[str, Any]) -> ListJob:
    info = told["info"]
    info["written"] = datetime.fromisoformat(info["written"])
    info["members"] = tuple(info["members"])
    return ListJob(told["tasks"], told["target"], tuple(told["formats"]), ListInfo(**info))


def write_list(job: ListJob) -> int:
    """Write a team's list in each format; returns its rows. HearbackError if the disk is full."""
    count = 0
    for form in job.formats:
        rows = (format_row(task, job.info.language) for task in read_tasks(Path(job.tasks)))
        target = Path(f"{job.target}.{form}")
        with explain_disk_errors(str(target)):
            if form == "xlsx":
                count = max(count, write_xlsx(target, rows, job.info))
            else:
                count = max(count, write_csv(target, rows, job.info.language))
    return count


def read_tasks(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa

    with pa.ipc.open_file(str(path)) as reader:
        for number in range(reader.num_record_batches):
            yield from reader.get_batch(number).to_pylist()


def name_files(teams: Iterable[str]) -> dict[str, str]:
    """Team → file name without ending, safe on every system; no two alike, whatever the case."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for team in teams:
        text = unicodedata.normalize("NFC", team)
        text = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]+', "_", text).strip(". ")
        while len(text.encode()) > 120:
            text = text[:-1]
        if not text or text.casefold().split(".")[0] in RESERVED:
            text = f"team_{text}"
        name, number = text, 2
        while name.casefold() in taken:
            name, number = f"{text}-{number}", number + 1
        taken.add(name.casefold())
        names[team] = name
    return names


def format_row(task: dict[str, Any], language: str) -> dict[str, Any]:
    """A task as the list shows it: words for codes, local times, the state it was listed with."""
    words = load_words("lists", language)
    texts = words["text"]
    return {
        "plan": texts["later"] if task["is_later"] else texts["today"],
        "priority": words["priorities"].get(task["priority"], task["priority"]),
        "due": task["due_local"],
        "overdue": texts["overdue"] if task["is_overdue"] else "",
        "reason": task["reason"] or "",
        "customer": task["customer"] or "",
        "subject": task["subject"] or "",
        "product": task["product"] or "",
        "language": words["languages"].get(task["language"], task["language"] or ""),
        "message": task["message"] or "",
        "suggested_action": task["suggested_action"] or "",
        "suggested_reply": task["suggested_reply"] or "",
        "link": task["url"] or "",
        "owner": task["owner"] or "",
        "status": words["statuses"][task["status"]],
        "snooze_until": "",
        "outcome": task["outcome"] or "",
        "rule": task["rule"],
        "base": describe_state(task["status"], task["owner"], task["outcome"]),
        "task_id": task["task_id"],
    }


def write_csv(path: Path, rows: Iterator[dict[str, Any]], language: str) -> int:
    """UTF-8 with a byte order mark, so that Excel and WPS read the Chinese; returns the rows."""
    heads = load_words("lists", language)["columns"]
    count = 0
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(heads[name] for name in COLUMNS)
        for row in rows:
            cells = (
                value.strftime("%Y-%m-%d %H:%M")
                if isinstance(value, datetime)
                else make_harmless(str(value or ""))
                for value in (row[name] for name in COLUMNS)
            )
            writer.writerow(cells)
            count += 1
    return count


def write_xlsx(path: Path, rows: Iterator[dict[str, Any]], info: ListInfo) -> int:
    """The list, a sheet that explains it, and the drop-downs' values; returns the rows.

    Written row by row at flat memory. The same tasks give the same bytes.
    """
    import xlsxwriter

    words = load_words("lists", info.language)
    book = xlsxwriter.Workbook(
        str(path), {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    )
    book.set_properties(
        {"title": f"{info.team} {info.day}", "author": "Hearback", "created": info.written}
    )
    book.set_size(2400, 1400)
    formats = make_formats(book)
    sheet = book.add_worksheet(words["text"]["sheet"])
    legend = book.add_worksheet(words["text"]["legend"])
    values = book.add_worksheet("values")
    count, counts = write_rows(sheet, rows, formats, words)
    lay_out(sheet, formats, words, info, count)
    ranges = write_values(values, words, info)
    add_choices(sheet, ranges, words, count)
    write_legend(legend, formats, words, info, counts)
    sheet.activate()
    book.close()
    return count


def make_formats(book: Any) -> dict[str, Any]:
    base = {"font_name": "Microsoft YaHei", "font_size": 10, "valign": "top", "border": 1,
            "border_color": "#E3E6EA"}  # fmt: skip
    head = {**base, "bold": True, "font_color": "#FFFFFF", "valign": "vcenter", "text_wrap": True}
    plain = {"font_name": "Microsoft YaHei", "font_size": 10, "valign": "top"}
    return {
        "cell": book.add_format(base),
        "middle": book.add_format({**base, "align": "center"}),
        "wrap": book.add_format({**base, "text_wrap": True}),
        "edit": book.add_format({**base, "bg_color": "#F3F8F4", "text_wrap": True}),
        "edit_day": book.add_format({**base, "bg_color": "#F3F8F4", "num_format": "yyyy-mm-dd"}),
        "due": book.add_format({**base, "num_format": "yyyy-mm-dd hh:mm", "align": "left"}),
        "link": book.add_format({**base, "font_color": "#0B5CAD", "underline": 1}),
        "small": book.add_format({**base, "font_color": "#8A929B", "font_size": 8}),
        "head": book.add_format({**head, "bg_color": "#3C4A5A"}),
        "head_edit": book.add_format({**head, "bg_color": "#1E7B4F"}),
        "urgent": book.add_format({"bg_color": "#B3261E", "font_color": "#FFFFFF", "bold": True}),
        "high": book.add_format({"bg_color": "#FBD9A5", "font_color": "#5B3A00", "bold": True}),
        "low": book.add_format({"font_color": "#7A828B"}),
        "late": book.add_format({"font_color": "#B3261E", "bold": True}),
        "finished": book.add_format({"font_color": "#A3AAB2", "bg_color": "#F4F5F6"}),
        "title": book.add_format({**plain, "bold": True, "font_size": 14}),
        "plain": book.add_format({**plain, "text_wrap": True}),
        "term": book.add_format({**plain, "bold": True, "text_wrap": True}),
    }


def write_rows(
    sheet: Any, rows: Iterator[dict[str, Any]], formats: dict[str, Any], words: dict[str, Any]
) -> tuple[int, dict[str, int]]:
    """Header and rows; returns the rows and how many are for today, late, without an owner."""
    sheet.set_row(0, 30)
    for at, name in enumerate(COLUMNS):
        kind = "head_edit" if name in EDITABLE else "head"
        sheet.write_string(0, at, words["columns"][name], formats[kind])
    looks = {name: pick_format(name, formats) for name in COLUMNS}
    count, links = 0, 0
    counts = {"open": 0, "today": 0, "later": 0, "overdue": 0, "unowned": 0}
    for row in rows:
        if count == SHEET_ROWS:
            break
        count += 1
        counts["open"] += 1
        counts["later" if row["plan"] == words["text"]["later"] else "today"] += 1
        counts["overdue"] += bool(row["overdue"])
        counts["unowned"] += not row["owner"]
        sheet.set_row(count, ROW_HEIGHT)
        for at, name in enumerate(COLUMNS):
            value = row[name]
            if name == "due" and value is not None:
                sheet.write_datetime(count, at, value, formats["due"])
            elif name == "link" and is_link(value) and links < SHEET_LINKS:
                links += 1
                sheet.write_url(count, at, value, formats["link"], words["text"]["open_link"])
            elif value:
                sheet.write_string(count, at, str(value), looks[name])
            else:
                sheet.write_blank(count, at, None, looks[name])
    return count, counts


def is_link(value: str) -> bool:
    return value.startswith(("https://", "http://")) and len(value) <= LINK_LENGTH


def pick_format(name: str, formats: dict[str, Any]) -> Any:
    if name in ("plan", "priority", "overdue"):
        return formats["middle"]
    if name == "snooze_until":
        return formats["edit_day"]
    if name in EDITABLE:
        return formats["edit"]
    if name in ("rule", "base", "task_id"):
        return formats["small"]
    return formats["wrap" if name in WRAPPED else "cell"]


def lay_out(
    sheet: Any, formats: dict[str, Any], words: dict[str, Any], info: ListInfo, count: int
) -> None:
    """Widths, frozen head, filter, colours and the page for printing."""
    for at, name in enumerate(COLUMNS):
        sheet.set_column(at, at, WIDTHS[name], None, {"hidden": name == "base"})
    sheet.freeze_panes(1, 3)
    last = max(count, 1)
    sheet.autofilter(0, 0, last, len(COLUMNS) - 1)
    status = column_letter("status")
    finished = [words["statuses"][name] for name in ("done", "cancelled")]
    tests = ",".join(f'${status}2="{word}"' for word in finished)
    sheet.conditional_format(
        1, 0, last, len(COLUMNS) - 1,
        {"type": "formula", "criteria": f"=OR({tests})", "format": formats["finished"],
         "stop_if_true": True},
    )  # fmt: skip
    later = words["text"]["later"]
    sheet.conditional_format(
        1, 0, last, 0,
        {"type": "cell", "criteria": "==", "value": f'"{later}"', "format": formats["finished"]},
    )  # fmt: skip
    first = COLUMNS.index("priority")
    for name in ("urgent", "high", "low"):
        sheet.conditional_format(
            1, first, last, first,
            {"type": "cell", "criteria": "==", "value": f'"{words["priorities"][name]}"',
             "format": formats[name]},
        )  # fmt: skip
    due = column_letter("due")
    sheet.conditional_format(  # goes red by itself while the list is open
        1, COLUMNS.index("due"), last, COLUMNS.index("overdue"),
        {"type": "formula", "criteria": f'=AND(ISNUMBER(${due}2),${due}2<NOW())',
         "format": formats["late"]},
    )  # fmt: skip
    sheet.set_landscape()
    sheet.set_paper(9)
    sheet.set_margins(left=0.3, right=0.3, top=0.6, bottom=0.5)
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(0)
    sheet.print_area(0, 0, last, COLUMNS.index("outcome"))
    title = words["text"]["title"].format(team=info.team, date=info.day).replace("&", "&&")
    sheet.set_header(f"&L&B{title}&R{info.zone}"[:255])
    sheet.set_footer("&R&P / &N")
    sheet.set_zoom(90)


def column_letter(name: str) -> str:
    from xlsxwriter.utility import xl_col_to_name

    return str(xl_col_to_name(COLUMNS.index(name)))


def write_values(sheet: Any, words: dict[str, Any], info: ListInfo) -> dict[str, str]:
    """The drop-downs' values on a hidden sheet (a list in place may hold 255 signs only)."""
    columns = {
        "owner": list(info.members),
        "status": [words["statuses"][name] for name in STATUSES if name != "expired"],
        "outcome": list(words["outcomes"].values()),
    }
    height = max(len(values) for values in columns.values())
    for number in range(height):  # row by row: the sheet is written as it grows
        for at, values in enumerate(columns.values()):
            if number < len(values):
                sheet.write_string(number, at, values[number])
    sheet.hide()
    return {
        name: f"=values!${letter}$1:${letter}${len(values)}"
        for letter, (name, values) in zip("ABC", columns.items(), strict=True)
        if values
    }


def add_choices(sheet: Any, ranges: dict[str, str], words: dict[str, Any], count: int) -> None:
    """Drop-downs for owner, status and outcome, and a day for snoozed tasks."""
    last = max(count, 1)
    for name, source in ranges.items():
        at = COLUMNS.index(name)
        is_free = name == "outcome"
        sheet.data_validation(
            1, at, last, at,
            {
                "validate": "list",
                "source": source,
                "ignore_blank": True,
                "show_error": not is_free,
                "error_title": words["columns"][name],
                "error_message": words["text"]["choose"],
            },
        )  # fmt: skip
    at = COLUMNS.index("snooze_until")
    sheet.data_validation(
        1, at, last, at,
        {
            "validate": "date",
            "criteria": ">",
            "value": datetime(2020, 1, 1),
            "ignore_blank": True,
            "error_title": words["columns"]["snooze_until"],
            "error_message": words["text"]["write_day"],
        },
    )  # fmt: skip


def write_legend(
    sheet: Any,
    formats: dict[str, Any],
    words: dict[str, Any],
    info: ListInfo,
    counts: dict[str, int],
) -> None:
    texts = words["text"]
    sheet.hide_gridlines(2)
    sheet.set_column(0, 0, 22)
    sheet.set_column(1, 1, 100)
    sheet.set_row(0, 26)
    sheet.write_string(0, 0, texts["title"].format(team=info.team, date=info.day), formats["title"])
    sheet.write_string(1, 0, texts["counts"].format(**counts))
    written = info.written.strftime("%Y-%m-%d %H:%M")
    sheet.write_string(2, 0, texts["times"].format(zone=info.zone, written=written))
    for number, (term, text) in enumerate(words["help"].items(), start=4):
        sheet.set_row(number, 30)
        sheet.write_string(number, 0, term, formats["term"])
        sheet.write_string(number, 1, text, formats["plain"])
    sheet.set_landscape()
    sheet.set_paper(9)
    sheet.fit_to_pages(1, 0)


if __name__ == "__main__":
    main()

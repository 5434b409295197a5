"""What a run did, in a few lines: records by source, tasks by team, headline metrics, paths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.storage import Home, connect_duckdb

if TYPE_CHECKING:
    import duckdb
    from rich.console import Console

    from pipelines.context import Run
    from pipelines.launcher import RunEnd
    from pipelines.settings import Settings

WINDOW_DAYS = 28

FOLLOW_UPS = """
select coalesce(team, '(no team)') as team, priority, count(*) as tasks
from follow_up_tasks
where status in ('open', 'in_progress')
group by all
"""


@dataclass
class SourceCount:
    """Records of one source in one run. in = accepted + quarantined + duplicates + unchanged."""

    source: str
    count_in: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicates: int = 0
    unchanged: int = 0


def count_sources(rows: Iterable[dict[str, Any]]) -> list[SourceCount]:
    """Records by source, from the report rows of extract and validate.

    What validate takes up from an earlier, interrupted run counts as in as well.
    """
    found: dict[str, SourceCount] = {}
    handed_on: dict[str, int] = {}
    for row in rows:
        name, step = row["source"], row["step"]
        if not name or step not in ("extract", "validate"):
            continue
        count = found.setdefault(name, SourceCount(name))
        count.duplicates += row["count_duplicate"]
        count.unchanged += row["count_unchanged"]
        if step == "extract":
            count.count_in += row["count_in"]
            handed_on[name] = handed_on.get(name, 0) - row["count_out"]
        else:
            handed_on[name] = handed_on.get(name, 0) + row["count_in"]
            count.accepted += row["count_out"]
            count.quarantined += row["count_quarantined"]
    for name, left_from_earlier in handed_on.items():
        found[name].count_in += max(0, left_from_earlier)
    return sorted(found.values(), key=lambda count: count.source)


def print_counts(run: Run, step: str) -> None:
    """The counts of one step on a terminal, a line for each source and entity."""
    from rich.console import Console
    from rich.table import Table

    from pipelines.progress import end_progress

    end_progress()
    table = Table(box=None, pad_edge=False)
    for title in ("source", "entity"):
        table.add_column(title)
    for title in ("in", "out", "quarantined", "duplicates", "unchanged"):
        table.add_column(title, justify="right")
    table.add_column("note")
    rows = [row for row in run.lake.read_step_reports(run.run_id) if row["step"] == step]
    for row in sorted(rows, key=lambda row: (row["source"] or "", row["entity"] or "")):
        kinds = ("in", "out", "quarantined", "duplicate", "unchanged")
        counts = [f"{row[f'count_{kind}']:,}" for kind in kinds]
        table.add_row(row["source"] or "", row["entity"] or "", *counts, row["detail"] or "")
    Console(highlight=False).print(table)


def print_summary(console: Console, settings: Settings, end: RunEnd, seconds: float) -> None:
    """The closing summary of a run."""
    home = Home(settings)
    rows = home.lake.read_step_reports(end.run_id)
    counts = count_sources(rows)
    console.print()
    print_sources(console, counts)
    if end.is_success and not any(count.accepted + count.quarantined for count in counts):
        since = find_last_capture(home)
        told = f" since {since}" if since else ""
        console.print(f"\nnothing new{told}: nothing was added twice")
    if home.warehouse.exists():
        with connect_duckdb(home.lake, home.warehouse, read_only=True) as con:
            print_follow_ups(console, con)
            print_headlines(console, con, settings.project.time_zone)
    console.print()
    for label, path in list_outputs(home, rows):
        console.print(f"{label:<10} {path}", soft_wrap=True)
    print_warnings(console, rows)
    for task, message in end.errors.items():
        console.print(f"\n[red]✗[/] {task.replace('--', ' ')}: ", end="")
        console.print(message, markup=False, soft_wrap=True)
    verdict = "[green]done[/]" if end.is_success else "[red]failed[/]"
    console.print(f"\n{verdict} in {seconds:.0f} s (run {end.run_id})")


def print_sources(console: Console, counts: list[SourceCount]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("records")
    for title in ("in", "accepted", "quarantined", "duplicates", "unchanged"):
        table.add_column(title, justify="right")
    for count in counts:
        values = (
            count.count_in,
            count.accepted,
            count.quarantined,
            count.duplicates,
            count.unchanged,
        )
        table.add_row(count.source, *(f"{value:,}" for value in values))
    console.print(table)


def find_last_capture(home: Home) -> str | None:
    """When raw last grew, in words, from the manifests' newest files."""
    import pyarrow.parquet as pq

    newest = None
    for source in home.lake.list_raw_sources():
        for entry in home.lake.raw_manifest(source)["files"][-1:]:
            with home.lake.fs.open(f"{home.lake.root}/{entry['path']}", "rb") as file:
                table = pq.read_table(file, columns=["captured_at"])
            if table.num_rows:
                captured = table["captured_at"][0].as_py()
                newest = max(newest, captured) if newest else captured
    return f"{newest:%Y-%m-%d %H:%M} UTC" if newest else None


def print_follow_ups(console: Console, con: duckdb.DuckDBPyConnection) -> None:
    from rich.table import Table

    by_team: dict[str, dict[str, int]] = {}
    for team, priority, tasks in con.execute(FOLLOW_UPS).fetchall():
        by_team.setdefault(team, {})[priority] = tasks
    if not by_team:
        console.print("\nno follow-up is open")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("follow-ups")
    priorities = ("urgent", "high", "normal", "low")
    for title in ("open", *priorities):
        table.add_column(title, justify="right")
    for team, found in sorted(by_team.items()):
        values = [sum(found.values()), *(found.get(priority, 0) for priority in priorities)]
        table.add_row(team, *(f"{value:,}" for value in values))
    console.print()
    console.print(table)


def print_headlines(console: Console, con: duckdb.DuckDBPyConnection, zone: str) -> None:
    """Volume, CSAT, first reply and backlog of the days up to the published one."""
    from pipelines.report.numbers import read_headlines

    rows = con.execute("select (as_of at time zone ?)::date from run.current", [zone]).fetchall()
    if not rows:
        return
    found = read_headlines(con, zone, rows[0][0], WINDOW_DAYS)
    console.print(f"\n{WINDOW_DAYS} days to {rows[0][0]}")
    console.print(
        f"  volume       {found.feedback:,} pieces of feedback, {found.cases:,} cases opened"
    )
    if found.csat is not None:
        interval = f"95 %: {found.csat.low:.1%} to {found.csat.high:.1%}"
        size = f"{found.csat.size:,} ratings"
        console.print(f"  CSAT         {found.csat.value:.1%} of {size} ({interval})")
    if found.reply_minutes is not None:
        console.print(f"  first reply  {format_minutes(found.reply_minutes)} (median)")
    console.print(
        f"  backlog      {found.backlog:,} cases were open at the end of the last full day"
    )


def print_warnings(console: Console, rows: list[dict[str, Any]]) -> None:
    """What the steps warn of, once each."""
    from rich.markup import escape

    told = {
        text.strip()
        for row in rows
        for text in (row["detail"] or "").split(";")
        if text.strip().startswith("warning: ")
    }
    for text in sorted(told):
        shown = escape(text.removeprefix("warning: "))  # values from outside may be in it
        console.print(f"\n[yellow]![/] {shown}", soft_wrap=True)


def format_minutes(minutes: float) -> str:
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 2880 else f"{minutes / 1440:.1f} days"


def list_outputs(home: Home, rows: list[dict[str, Any]]) -> list[tuple[str, Path]]:
    """What a run wrote for people, as far as it is there."""
    from datetime import date

    days = {row["run_date"] for row in rows}
    found = []
    for day in sorted(date.fromisoformat(str(day)) for day in days):
        found += [
            ("lists", home.out("follow_ups", day)),
            ("report", home.out("report", day) / "index.html"),
        ]
    found.append(("warehouse", home.warehouse))
    return [(label, path) for label, path in found if path.exists()]

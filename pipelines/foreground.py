"""The commands that stay at the terminal: a run of the pipeline, the web page, the demo."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.context import STEPS
from pipelines.errors import UsageError
from pipelines.launcher import (
    USER,
    AirflowApi,
    RunEnd,
    TaskState,
    name_run,
    run_daily,
    start_airflow,
)
from pipelines.settings import Project, Settings, load_settings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

DEMO_FOLDER = Path("data/demo")
MARKS = {"success": "✓", "failed": "✗", "upstream_failed": "✗", "skipped": "–", "running": "…"}


def list_days(first: date, last: date) -> list[date]:
    """Each day from first to last; UsageError if they are out of order."""
    if last < first:
        raise UsageError(f"--to {last} lies before --from {first}; exchange them")
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def run_pipeline(
    config: Path,
    days: list[date | None],
    sources: tuple[str, ...],
    *,
    full_refresh: bool,
    demo: bool,
) -> bool:
    """Run the daily pipeline for each day through one Airflow, then say what came out.

    Returns whether every task of every day succeeded.
    """
    from rich.console import Console
    from rich.markup import escape

    from pipelines.service_levels import list_policy_warnings
    from pipelines.summary import print_summary

    console = Console(highlight=False)
    began = time.monotonic()
    ends: list[tuple[RunEnd, date | None]] = []
    with ExitStack() as stack:
        api = stack.enter_context(
            start_on(config, sources, is_demo=demo, is_scheduled=False, console=console)
        )
        settings = api.airflow.settings
        for text in list_policy_warnings(settings):
            console.print(f"[yellow]![/] {escape(text)}", soft_wrap=True)
        if demo:
            days = [day or last_demo_day() for day in days]
        for day in days:
            run_id = name_run(day, settings)
            with ProgressView(console) as view:
                end = run_daily(
                    api,
                    run_id=run_id,
                    day=day,
                    sources=sources,
                    full_refresh=full_refresh,
                    watch=view.show,
                )
            ends.append((end, day))
    for end, _ in ends:
        print_summary(console, settings, end, time.monotonic() - began)
    return all(end.is_success for end, _ in ends)


@contextmanager
def start_on(
    config: Path, sources: tuple[str, ...], *, is_demo: bool, is_scheduled: bool, console: Console
) -> Iterator[AirflowApi]:
    """Airflow on the given configuration, or on the demo, which is made while Airflow prepares."""
    tell = make_teller(console)
    if not is_demo:
        settings = check_sources(load_settings(config), sources)
        with start_airflow(settings, is_scheduled=is_scheduled, tell=tell) as api:
            yield api
        return
    with ExitStack() as stack:

        def make_demo() -> None:
            tell("making the demo's sources" if is_new_demo() else "starting the demo's sources")
            check_sources(load_settings(stack.enter_context(open_demo(DEMO_FOLDER))), sources)

        folder = DEMO_FOLDER.absolute()
        project = Project(home=str(folder / "home"))
        settings = Settings(project=project, path=folder / "hearback.toml")
        with start_airflow(
            settings, is_scheduled=is_scheduled, tell=tell, meanwhile=make_demo
        ) as api:
            api.airflow.settings = load_settings(settings.path)
            yield api


def is_new_demo() -> bool:
    return last_demo_day() is None


def last_demo_day() -> date | None:
    """The demo's own today: at its end some cases are about to miss their first reply."""
    from pipelines import demo

    return demo.remembered_until(DEMO_FOLDER)


def check_sources(settings: Settings, names: tuple[str, ...]) -> Settings:
    """The settings, if the sources asked for exist; UsageError before anything is started."""
    for name in names:
        settings.source(name)
    if not any(source.enabled for source in settings.sources):
        raise UsageError(f"{settings.path}: no enabled source; add a [[sources]] entry")
    return settings


def make_teller(console: Console) -> Callable[[str], None]:
    began = time.monotonic()

    def tell(message: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:5.1f} s[/]  {message}")

    return tell


class ProgressView:
    """The steps of a run as they go: a live table on a terminal, a line a task elsewhere."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self.console = console
        self.began = time.monotonic()
        self.told: set[str] = set()
        self.live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> ProgressView:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def show(self, tasks: list[TaskState], rows: dict[str, int]) -> None:
        if self.console.is_terminal:
            self.live.update(self.draw(tasks, rows))
        for task in sorted(tasks, key=order_of):
            if task.is_ended and task.key not in self.told:
                self.told.add(task.key)
                self.console.print(self.describe(task))

    def describe(self, task: TaskState) -> str:
        seconds = f"{task.seconds:6.1f} s" if task.seconds is not None else "        "
        mark = MARKS.get(task.state or "", " ")
        return f"  {mark} {task.key.replace('--', ' '):<28}{seconds}"

    def draw(self, tasks: list[TaskState], rows: dict[str, int]) -> Table:
        from rich.table import Table

        table = Table(box=None, show_header=False, padding=(0, 1))
        for task in sorted(tasks, key=order_of):
            if not task.is_ended:
                count = f"{rows[task.key]:,} rows" if rows.get(task.key) else ""
                mark = MARKS.get(task.state or "", " ")
                table.add_row(f"  {mark}", task.key.replace("--", " "), task.state or "", count)
        table.add_row("", f"[dim]{time.monotonic() - self.began:.0f} s[/]", "", "")
        return table


def order_of(task: TaskState) -> tuple[int, str]:
    step = task.key.split("--")[0]
    order = ("list_sources", *STEPS, "check_sources")
    return (order.index(step) if step in order else len(order), task.key)


def serve(config: Path, *, demo: bool) -> None:
    """Airflow with its schedules until Ctrl-C; prints where it is and how to sign in."""
    from rich.console import Console

    console = Console(highlight=False)
    with start_on(config, (), is_demo=demo, is_scheduled=True, console=console) as api:
        console.print(f"Airflow:  {api.airflow.address}")
        console.print(f"sign in:  {USER} / {api.airflow.secrets['password']}")
        console.print("Ctrl-C stops it.")
        try:
            api.wait_until_stopped()
        except KeyboardInterrupt:
            console.print("stopping")


def serve_demo(folder: Path) -> None:
    """The demo sources until Ctrl-C."""
    from rich.console import Console

    console = Console(highlight=False)
    with open_demo(folder) as config:
        console.print(f"configuration: {config}")
        console.print("Ctrl-C stops it.")
        while True:
            time.sleep(3600)


@contextmanager
def open_demo(folder: Path) -> Iterator[Path]:
    """The demo's files and servers; yields its configuration file."""
    from pipelines import demo

    with demo.serve(folder) as servers:
        os.environ.update(demo.demo_connections(servers))
        assert servers.config is not None
        yield servers.config

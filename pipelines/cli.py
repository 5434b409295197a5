"""The ``hearback`` command: one thin function a command, each importing what it needs when called.

Exit codes: 0 ok, 1 failed, 2 wrong usage. Errors are one line on standard error.
"""

from __future__ import annotations

import os
import sys
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.errors import HearbackError

if TYPE_CHECKING:
    from pipelines.context import Run
    from pipelines.settings import Settings
    from pipelines.storage import Home


class Format(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"


class Spoken(StrEnum):
    en = "en"
    zh = "zh"


app = typer.Typer(
    help="Everything customers say, in one warehouse and one daily follow-up list.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
tasks = typer.Typer(help="Follow-up tasks: read, change, or take back an edited list.")
app.add_typer(tasks, name="tasks", no_args_is_help=True)
calendars = typer.Typer(help="Work calendars: see what they say.")
app.add_typer(calendars, name="calendar", no_args_is_help=True)

TaskId = Annotated[str, typer.Argument(help="Id of the task; its first characters will do.")]


def load_environment(config: Path) -> Path:
    """Read the .env beside the configuration before the command begins."""
    from pipelines.env_file import load_env_file

    load_env_file(config)
    return config


def read_day(text: str) -> datetime:
    """A day of the command line, as midnight."""
    try:
        return datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no day; write it as 2026-01-31") from None


Config = Annotated[
    Path,
    typer.Option(
        "--config",
        envvar="HEARBACK_CONFIG",
        callback=load_environment,
        help="The configuration file; .env beside it is read too.",
    ),
]
Day = Annotated[
    datetime | None,
    typer.Option(
        "--date", parser=read_day, metavar="YYYY-MM-DD", help="Day to work on; today unless given."
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Option("--source", help="Only this source; may be given several times."),
]
Refresh = Annotated[
    bool, typer.Option("--full-refresh", help="Rebuild everything after raw, not only the new.")
]
Tongue = Annotated[
    Spoken | None, typer.Option("--language", help="en or zh; default: that of the environment.")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="An answer; may be given several times."),
]
DEFAULT_CONFIG = Path("hearback.toml")
STOPPED = 130  # what shells return for a program that Ctrl-C ended

# Typer carries its own copy of click's errors and names only some of them.
WrongUsage, CommandError = typer.BadParameter.__mro__[1:3]


def read_settings(config: Path) -> Settings:
    from pipelines.settings import load_settings

    return load_settings(config)


def find_home(config: Path) -> Home:
    """The home of the configuration; of the defaults if there is no hearback.toml here."""
    from pipelines.settings import Settings
    from pipelines.storage import Home

    if config == DEFAULT_CONFIG and not config.exists():
        return Home(Settings(path=config.absolute()))
    return Home(read_settings(config))


def open_run(config: Path, day: datetime | None, names: list[str] | None, refresh: bool) -> Run:
    from pipelines.context import start_run
    from pipelines.progress import show_progress

    return start_run(
        read_settings(config),
        day=day.date() if day else None,
        sources=tuple(names or ()),
        full_refresh=refresh,
        progress=show_progress,
    )


def perform(run: Run, step: str) -> None:
    """Run one step and print its counts."""
    from pipelines.steps import run_step
    from pipelines.summary import print_counts

    run_step(run, step, wait_seconds=0)
    print_counts(run, step)


@app.callback()
def take_config(
    config: Annotated[
        Path | None, typer.Option("--config", help="The configuration file, for any command.")
    ] = None,
) -> None:
    """Customer feedback from every channel, labelled, measured and followed up."""
    if config is not None:  # what a command itself is told goes before
        os.environ["HEARBACK_CONFIG"] = str(config)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to write them.")] = Path("."),
) -> None:
    """Write a commented hearback.toml and .env.example."""
    from pipelines.starter import write_starter

    for path in write_starter(folder):
        typer.echo(f"wrote {path}")
    typer.echo("next: edit it, then run 'hearback doctor'")


@app.command()
def sources(
    config: Config = DEFAULT_CONFIG,
    kind: Annotated[
        str | None, typer.Option(help="Show this kind: options, secrets, what it gives.")
    ] = None,
    language: Tongue = None,
) -> None:
    """The kinds of source there are, and the sources of the configuration."""
    from pipelines.doctor import list_sources
    from pipelines.sources import all_kinds, find_kind
    from pipelines.sources.describe import describe_kind, list_kinds
    from pipelines.wording import find_language

    spoken = find_language(language.value if language else None)
    if kind:
        for line in describe_kind(find_kind(kind), spoken):
            typer.echo(line)
        return
    typer.echo("种类：" if spoken == "zh" else "kinds:")
    for line in list_kinds(all_kinds(), spoken):
        typer.echo(line)
    if config.is_file():
        typer.echo(f"\nsources of {config}:")
        for line in list_sources(read_settings(config)):
            typer.echo(f"  {line}")


@app.command()
def add(
    kind: Annotated[str, typer.Argument(help="Kind of source; 'hearback sources' lists them.")],
    *,
    config: Config = DEFAULT_CONFIG,
    given: Assignments = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing; what is missing is an error.")
    ] = False,
    language: Tongue = None,
) -> None:
    """Set a source up: asks what is required, shows three of its records, then writes it."""
    from pipelines.adding import Terminal, add_source
    from pipelines.wording import find_language

    def ask(question: str, default: str | None, is_secret: bool) -> str:
        answer: str = typer.prompt(question, default=default, hide_input=is_secret)
        return answer

    terminal = Terminal(typer.echo) if yes else Terminal(typer.echo, ask, typer.confirm)
    spoken = find_language(language.value if language else None)
    add_source(config, kind, given or (), terminal, spoken)


@app.command()
def schema() -> None:
    """Print the JSON Schema of hearback.toml."""
    import json

    from pipelines.settings import Settings

    typer.echo(json.dumps(Settings.model_json_schema(), indent=2, ensure_ascii=False))


@app.command()
def doctor(
    config: Config = DEFAULT_CONFIG,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no source for anything over the network.")
    ] = False,
) -> None:
    """Check configuration, sources, calendars, model and disk; green means 'run' works."""
    from pipelines.doctor import examine

    is_well = True
    for finding in examine(config, is_offline=offline):
        typer.echo("\n".join(finding.lines))
        is_well = is_well and finding.is_ok
    if not is_well:
        raise typer.Exit(1)


@app.command(name="try")
def try_source(
    what: Annotated[
        str | None, typer.Argument(metavar="[FILE|URL]", help="A file, or a page of reviews.")
    ] = None,
    *,
    config: Config = DEFAULT_CONFIG,
    source: Annotated[str | None, typer.Option(help="A source of the configuration.")] = None,
    given: Assignments = None,
    rows: Annotated[int, typer.Option(min=1, help="Records to capture at most.")] = 1000,
    shown: Annotated[int, typer.Option("--show", min=0, help="Labelled texts to print.")] = 10,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all of it as JSON, one line a source.")
    ] = False,
    language: Tongue = None,
) -> None:
    """Preview a file, a page or a source: captured, redacted, labelled; nothing is stored."""
    from pipelines.trying import try_all

    faults = try_all(
        config,
        what,
        source,
        given or (),
        most=rows,
        shown=shown,
        as_json=as_json,
        language=language.value if language else None,
        tell=typer.echo,
    )
    if faults:
        raise HearbackError("; ".join(faults))


@app.command()
def run(
    config: Config = DEFAULT_CONFIG,
    day: Day = None,
    source: Names = None,
    full_refresh: Refresh = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Run on the demo sources, kept in data/demo.")
    ] = False,
) -> None:
    """The whole daily pipeline through Airflow, in the foreground."""
    from pipelines.foreground import run_pipeline

    days = [day.date() if day else None]
    if not run_pipeline(config, days, tuple(source or ()), full_refresh=full_refresh, demo=demo):
        raise typer.Exit(1)


@app.command()
def backfill(
    first: Annotated[
        datetime, typer.Option("--from", parser=read_day, metavar="YYYY-MM-DD", help="First day.")
    ],
    last: Annotated[
        datetime, typer.Option("--to", parser=read_day, metavar="YYYY-MM-DD", help="Last day.")
    ],
    config: Config = DEFAULT_CONFIG,
    full_refresh: Refresh = False,
) -> None:
    """Run the pipeline for each of some earlier days, oldest first."""
    from pipelines.foreground import list_days, run_pipeline

    days: list[date | None] = [*list_days(first.date(), last.date())]
    if not run_pipeline(config, days, (), full_refresh=full_refresh, demo=False):
        raise typer.Exit(1)


@app.command()
def simulate(
    *,
    config: Config = DEFAULT_CONFIG,
    policies: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML with other [[sla_policies]].")
    ] = None,
    calendar: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML with other [[calendars]] or [[teams]]."),
    ] = None,
    first: Annotated[
        datetime | None,
        typer.Option(
            "--from", parser=read_day, metavar="YYYY-MM-DD", help="First day of breaches."
        ),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option("--to", parser=read_day, metavar="YYYY-MM-DD", help="Last day of breaches."),
    ] = None,
    cases: Annotated[
        bool, typer.Option("--cases", help="List the cases behind the figures.")
    ] = False,
    form: Annotated[
        Format, typer.Option("--format", "--output", help="How to print.")
    ] = Format.table,
    language: Tongue = None,
) -> None:
    """Replay history under other targets, hours or teams: which breaches appear or vanish."""
    from pipelines import simulate as machine
    from pipelines.wording import find_language

    question = machine.Question(
        policies=policies,
        calendar=calendar,
        first=first.date() if first else None,
        last=last.date() if last else None,
        form=form.value,
        shows_cases=cases,
        language=find_language(language.value if language else None),
    )
    for line in machine.simulate(read_settings(config), question, sys.stdout):
        typer.echo(line, err=True)


@app.command()
def ui(
    config: Config = DEFAULT_CONFIG,
    demo: Annotated[
        bool, typer.Option("--demo", help="Work on the demo sources, kept in data/demo.")
    ] = False,
) -> None:
    """Airflow with its web page and its schedules, until Ctrl-C."""
    from pipelines.foreground import serve

    serve(config, demo=demo)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo lives.")] = Path("data/demo"),
) -> None:
    """The demo sources alone, on loopback, until Ctrl-C."""
    from pipelines.foreground import serve_demo

    serve_demo(folder)


@app.command()
def extract(config: Config = DEFAULT_CONFIG, day: Day = None, source: Names = None) -> None:
    """Capture what is new from the sources into raw."""
    from pipelines.steps import run_step
    from pipelines.summary import print_counts

    run = open_run(config, day, source, False)
    names = run.sources or [s.name for s in run.settings.sources if s.enabled]
    faults = []
    for name in names:
        try:
            run_step(run, "extract", name, wait_seconds=0)
        except HearbackError as error:
            faults.append(error.message)
    print_counts(run, "extract")
    if faults:
        raise HearbackError("; ".join(faults))


@app.command()
def validate(
    config: Config = DEFAULT_CONFIG,
    day: Day = None,
    source: Names = None,
    full_refresh: Refresh = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Judge what is in quarantine again.")
    ] = False,
) -> None:
    """Type and judge new raw records: into staging, or into quarantine with the reasons."""
    run = open_run(config, day, source, full_refresh)
    if not replay:
        perform(run, "validate")
        return
    from pipelines.steps import run_step
    from pipelines.summary import print_counts

    run_step(run, "validate", wait_seconds=0, replay=True)
    print_counts(run, "validate")


@app.command()
def clean(
    config: Config = DEFAULT_CONFIG,
    day: Day = None,
    source: Names = None,
    full_refresh: Refresh = False,
) -> None:
    """Redact, de-duplicate and merge new staging rows into facts."""
    perform(open_run(config, day, source, full_refresh), "clean")


@app.command(name="classify-new")
def classify_new(
    config: Config = DEFAULT_CONFIG,
    day: Day = None,
    source: Names = None,
    full_refresh: Refresh = False,
) -> None:
    """Label feedback whose text or model is new."""
    perform(open_run(config, day, source, full_refresh), "classify")


@app.command()
def aggregate(
    config: Config = DEFAULT_CONFIG,
    day: Day = None,
    source: Names = None,
    full_refresh: Refresh = False,
) -> None:
    """Rebuild the tables of the days and cases that changed."""
    perform(open_run(config, day, source, full_refresh), "aggregate")


@app.command(name="follow-up")
def follow_up(
    config: Config = DEFAULT_CONFIG,
    day: Day = None,
    source: Names = None,
    full_refresh: Refresh = False,
) -> None:
    """Decide the follow-up tasks of the day."""
    perform(open_run(config, day, source, full_refresh), "follow_up")


@app.command()
def publish(
    config: Config = DEFAULT_CONFIG,
    day: Day = None,
    source: Names = None,
    full_refresh: Refresh = False,
) -> None:
    """Swap the finished warehouse in."""
    perform(open_run(config, day, source, full_refresh), "publish")


@app.command()
def deliver(
    config: Config = DEFAULT_CONFIG,
    day: Day = None,
    source: Names = None,
    full_refresh: Refresh = False,
) -> None:
    """Write the lists, the metrics and the report."""
    perform(open_run(config, day, source, full_refresh), "deliver")


@app.command()
def classify(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="CSV, JSONL or Parquet.")],
    *,
    output: Annotated[Path, typer.Option(help="File to write; its ending says which kind.")],
    config: Config = DEFAULT_CONFIG,
    text_column: Annotated[str | None, typer.Option(help="Column that holds the text.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column that holds the id.")] = None,
    language_column: Annotated[
        str | None, typer.Option(help="Column that holds the language, if known.")
    ] = None,
) -> None:
    """Label any file of texts; row order is kept."""
    from pipelines.classify import classify_file

    rows = classify_file(
        find_home(config),
        source,
        output,
        text_column=text_column,
        id_column=id_column,
        language_column=language_column,
    )
    typer.echo(f"{rows:,} rows labelled in {output}")


@app.command()
def train(
    labels: Annotated[
        list[Path] | None, typer.Option(help="CSV of corrected labels; may be given several times.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder; default: models of home.")] = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Train a model from the shipped labels and your own; 'promote' puts it into use."""
    from pipelines.classify import train_model

    made = train_model(find_home(config), labels or (), output)
    typer.echo(f"{made['path']}: version {made['model_version']}")


@app.command()
def evaluate(
    labels: Annotated[Path, typer.Option(help="CSV of labels that were not trained on.")],
    version: Annotated[str | None, typer.Option(help="Stored model; default: in use.")] = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Measure a model on held-out labels: per head, language and class."""
    from pipelines.classify import evaluate_model

    measures = evaluate_model(find_home(config), labels, version)
    typer.echo(measures.to_string(index=False, float_format=lambda value: f"{value:.3f}"))


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="Stored model.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Put a stored model into use; the next run labels everything with it."""
    from pipelines.classify import promote_model

    promote_model(find_home(config), version)
    typer.echo(f"{version} is in use from the next run on")


@tasks.command(name="list")
def list_tasks(
    *,
    config: Config = DEFAULT_CONFIG,
    team: Annotated[str | None, typer.Option(help="Only this team's.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only this person's; 'none': nobody's.")] = None,
    status: Annotated[
        str | None, typer.Option(help="Only this status; 'all': every one. Default: live ones.")
    ] = None,
    rule: Annotated[str | None, typer.Option(help="Only this rule's.")] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.table,
) -> None:
    """The follow-up tasks, the most urgent first."""
    from pipelines import tasks

    settings = read_settings(config)
    tasks.list_tasks(
        settings, team=team, owner=owner, status=status, rule=rule, form=form.value, out=sys.stdout
    )


@tasks.command()
def done(
    task_id: TaskId,
    config: Config = DEFAULT_CONFIG,
    outcome: Annotated[str | None, typer.Option(help="What came of it.")] = None,
) -> None:
    """Mark a task as done."""
    from pipelines.tasks import complete_task

    typer.echo(complete_task(read_settings(config), task_id, outcome))


@tasks.command()
def snooze(
    task_id: TaskId,
    until: Annotated[str, typer.Option(help="Day or time to bring it back: 2026-11-30 [09:00].")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Put a task aside until a day or time."""
    from pipelines.tasks import snooze_task

    typer.echo(snooze_task(read_settings(config), task_id, until))


@tasks.command()
def assign(
    task_id: TaskId,
    owner: Annotated[str, typer.Argument(help="Name or e-mail of a team member.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Give a task to a member of a team."""
    from pipelines.tasks import assign_task

    typer.echo(assign_task(read_settings(config), task_id, owner))


@tasks.command(name="import")
def import_tasks(
    file: Annotated[Path, typer.Argument(help="The edited list, XLSX or CSV.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Take an edited list back: status, owner, outcome."""
    from pipelines.tasks import import_list, print_import

    report = import_list(read_settings(config), file)
    print_import(report, sys.stdout)
    if report.refused:
        raise typer.Exit(1)


@calendars.command(name="show")
def show_calendar(
    *,
    config: Config = DEFAULT_CONFIG,
    month: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m"], metavar="YYYY-MM", help="Default: this month."),
    ] = None,
    calendar: Annotated[str | None, typer.Option(help="Only this calendar.")] = None,
    form: Annotated[
        Format, typer.Option("--format", "--output", help="How to print.")
    ] = Format.table,
    language: Tongue = None,
) -> None:
    """A month of each work calendar: hours, holidays, make-up days, and where each is from."""
    from pipelines.calendar_page import show_calendars
    from pipelines.wording import find_language

    spoken = find_language(language.value if language else None)
    day = month.date() if month else None
    settings = read_settings(config)
    notes = show_calendars(settings, day, calendar, sys.stdout, form=form.value, language=spoken)
    for note in notes:
        typer.echo(note, err=True)


@app.command()
def intake(
    config: Config = DEFAULT_CONFIG,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any free one.", min=0, max=65535)] = 8787,
) -> None:
    """Take signed webhooks for sources of kind webhook, until Ctrl-C."""
    from pipelines.intake import serve

    serve(read_settings(config), host, port, typer.echo)


@app.command()
def query(
    sql: Annotated[
        str, typer.Argument(metavar="SQL|FILE", help="One SELECT, or a .sql file that holds it.")
    ],
    config: Config = DEFAULT_CONFIG,
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.table,
) -> None:
    """Ask the published warehouse; read-only."""
    from pipelines.query import read_question, run_query

    run_query(read_settings(config), read_question(sql), form.value, sys.stdout)


@app.command()
def explain(
    metric: Annotated[str, typer.Argument(help="Name of the metric, such as csat.")],
    *,
    day: Annotated[
        datetime, typer.Option("--date", parser=read_day, metavar="YYYY-MM-DD", help="Its day.")
    ],
    config: Config = DEFAULT_CONFIG,
    dialect: Annotated[
        str, typer.Option(help="Reading: house, zendesk, fivetran or mozilla.")
    ] = "house",
    clock: Annotated[str | None, typer.Option(help="calendar or business; default: both.")] = None,
    team: Annotated[str | None, typer.Option(help="Only this team.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent: id or shown name.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only this customer, by id.")] = None,
    segment: Annotated[str | None, typer.Option(help="Only this segment of customers.")] = None,
    product: Annotated[str | None, typer.Option(help="Only this product.")] = None,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    need: Annotated[str | None, typer.Option(help="Only this need.")] = None,
    priority: Annotated[str | None, typer.Option(help="Only this priority.")] = None,
    text_language: Annotated[str | None, typer.Option(help="Only texts in this language.")] = None,
    sla_metric: Annotated[
        str | None, typer.Option(help="Of service levels only this one, such as next_reply.")
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Print every record.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="Write all records to a .csv or .json file.")
    ] = None,
    language: Tongue = None,
) -> None:
    """A metric of a day: definition, components, interval, the records behind it, what was left
    out and why."""
    from pipelines.explain import CUTS, DIALECTS, Question, check_choice, run_explain
    from pipelines.wording import find_language

    check_choice("--dialect", dialect, DIALECTS)
    if clock is not None:
        check_choice("--clock", clock, ("calendar", "business"))
    given = locals()
    cuts = {name: given[name] for name in CUTS if given[name]}
    question = Question(metric, day.date(), dialect, clock, cuts)
    spoken = find_language(language.value if language else None)
    run_explain(read_settings(config), question, spoken, show_all=show_all, output=output)


def main(arguments: list[str] | None = None) -> None:
    """The console script: runs the command and turns errors into one line and an exit code."""
    sys.exit(execute(sys.argv[1:] if arguments is None else arguments))


def execute(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(arguments or ["--help"], prog_name="hearback", standalone_mode=False)
        if code == STOPPED:
            complain("stopped")
        return code if isinstance(code, int) else 0
    except HearbackError as error:
        complain(error.message)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        complain("stopped")
        return STOPPED
    except Exception as error:
        if isinstance(error, CommandError):
            return explain_usage(error)
        if os.environ.get("HEARBACK_DEBUG"):
            raise
        first = (str(error).splitlines() or [""])[0]
        hint = "a fault in Hearback; HEARBACK_DEBUG=1 shows where"
        complain(f"{type(error).__name__}: {first} ({hint})")
        return 1


def explain_usage(error: Any) -> int:
    """One line for a command that was written wrongly; returns the exit code."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context else "hearback"
    message = error.format_message() or "a command is missing"
    complain(f"{message} (see '{where} --help')")
    return 2 if isinstance(error, WrongUsage) else 1


def complain(message: str) -> None:
    typer.echo(f"hearback: {' '.join(message.split())}", err=True)


if __name__ == "__main__":
    main()

"""``hearback simulate``: history under other targets, hours or teams, and what would change.

The models of ``sql/`` are run twice in a file of their own, which is removed at the end: with the
configuration as it is, then with what the given files put in its place. The second time only what
lies between the changed tables and the service levels is built again.
"""

from __future__ import annotations

import tempfile
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pydantic import ValidationError

from pipelines.aggregate import find_range, write_lake_views, write_touched
from pipelines.build_file import create_build_file, fetch_row, open_build_file
from pipelines.context import Run, start_run
from pipelines.dbt_project import invoke_dbt
from pipelines.errors import UsageError
from pipelines.mart_config import list_rows, write_config
from pipelines.query import ask, write_csv, write_json_lines, write_table
from pipelines.service_levels import list_policy_warnings
from pipelines.settings import Settings, explain_fault, nearest
from pipelines.storage import Home, connect_duckdb
from pipelines.wording import Language

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

TABLES = ("sla_policies", "calendars", "teams")
CALENDAR_TABLES = ("calendar_intervals", "calendar_slots", "calendar_versions")
HEADINGS = {
    "team": "团队",
    "need": "需求",
    "metric": "指标",
    "breaches": "现有违约",
    "breaches_simulated": "模拟违约",
    "appear": "新增",
    "vanish": "消失",
    "change": "变化",
    "case_id": "工单",
    "source_case_id": "来源工单号",
    "clock": "第几次计时",
    "breach_at": "现在违约于",
    "breach_at_simulated": "模拟违约于",
    "target_minutes": "现有目标（分钟）",
    "target_minutes_simulated": "模拟目标（分钟）",
}
SAID = {
    "en": "{now:,} breaches as it is, {then:,} as simulated: {appear:,} appear, {vanish:,} vanish. "
    "--cases lists them.",
    "zh": "现有违约 {now:,} 次，模拟后 {then:,} 次：新增 {appear:,} 次，消失 {vanish:,} 次。"
    "用 --cases 列出工单。",
}
COMPARE = """
create or replace table main.compared as
with present as (
    select * from main.present where is_breached and not is_excluded
    and decided_date between coalesce(?, decided_date) and coalesce(?, decided_date)
),
simulated as (
    select * from main.sla_events where is_breached and not is_excluded
    and decided_date between coalesce(?, decided_date) and coalesce(?, decided_date)
)
select
    coalesce(simulated.team, present.team) as team,
    coalesce(simulated.need, present.need) as need,
    metric,
    case_id,
    cases.source_case_id,
    cycle as clock,
    present.breach_at as breach_at,
    simulated.breach_at as breach_at_simulated,
    coalesce(present.target_minutes, before.target_minutes) as target_minutes,
    coalesce(simulated.target_minutes, after.target_minutes) as target_minutes_simulated,
    present.case_id is not null as is_present,
    simulated.case_id is not null as is_simulated
from present
full join simulated using (case_id, metric, cycle)
left join lake.cases as cases using (case_id)
left join (
    select case_id, metric, cycle, arg_max(target_minutes, application) as target_minutes
    from main.present group by all
) as before using (case_id, metric, cycle)
left join (
    select case_id, metric, cycle, arg_max(target_minutes, application) as target_minutes
    from main.sla_events group by all
) as after using (case_id, metric, cycle)
"""
BY_TEAM = """
select
    team,
    need,
    metric,
    count(*) filter (is_present) as breaches,
    count(*) filter (is_simulated) as breaches_simulated,
    count(*) filter (is_simulated and not is_present) as appear,
    count(*) filter (is_present and not is_simulated) as vanish
from main.compared group by all order by all
"""
BY_CASE = """
select
    if(is_simulated, 'appears', 'vanishes') as change,
    * exclude (is_present, is_simulated)
from main.compared
where is_present <> is_simulated
order by change, team, need, metric, case_id, clock
"""


class ScratchHome(Home):
    """A home whose build file, and what dbt writes beside it, stand in another folder."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        super().__init__(settings)
        self.folder = folder

    @property
    def build(self) -> Path:
        return self.folder / super().build.name

    @property
    def state(self) -> Path:
        return self.folder


@dataclass(frozen=True)
class Question:
    """What to put in the place of the configuration, which days to look at, and how to show it."""

    policies: Path | None = None
    calendar: Path | None = None
    first: date | None = None
    last: date | None = None
    form: str = "table"
    shows_cases: bool = False
    language: Language = "en"


def simulate(settings: Settings, question: Question, out: TextIO) -> list[str]:
    """Print what would change; returns what to say beside it."""
    files = [path for path in (question.policies, question.calendar) if path]
    if not files:
        raise UsageError("nothing to simulate: give --policies FILE, --calendar FILE or both")
    if question.first and question.last and question.first > question.last:
        raise UsageError(f"--from {question.first} lies after --to {question.last}")
    other = read_scenario(settings, files)
    with open_scratch(settings) as home:
        run = start_run(settings, now=read_as_of(settings))
        build_present(run, home)
        build_scenario(run, home, other)
        with open_build_file(home) as con:
            con.execute(f"set time zone '{settings.project.time_zone}'")
            days = [question.first, question.last]
            con.execute(COMPARE, days * 2)
            show(con, question, out)
            said = summarize(con, question.language)
    return [*list_policy_warnings(other), said]


def read_scenario(settings: Settings, files: list[Path]) -> Settings:
    """The configuration with the tables of the files in place of its own.

    UsageError that names the file if it holds anything else, or what it holds is wrong.
    """
    content = settings.model_dump(exclude_unset=True, exclude={"path"})
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
            given = tomllib.loads(text)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"{path}: not valid TOML in UTF-8: {error}") from None
        for name in given:
            if name not in TABLES:
                raise UsageError(
                    f"{path}: {name!r} cannot be simulated{nearest(name, list(TABLES))}; "
                    f"a file may hold [[{']], [['.join(TABLES)}]]"
                )
        if not given:
            raise UsageError(f"{path}: holds none of [[{']], [['.join(TABLES)}]]")
        content |= given
        try:
            found = Settings.model_validate({**content, "path": settings.path})
        except ValidationError as error:
            raise UsageError(explain_fault(path, text, error)) from None
    return found


def read_as_of(settings: Settings) -> datetime:
    """The instant of the published warehouse, so that figures compare; now if there is none."""
    home = Home(settings)
    if not home.warehouse.is_file():
        return datetime.now(UTC)
    with connect_duckdb(home.lake, home.warehouse, read_only=True) as con:
        row = fetch_row(con, "select as_of from run.current")
    return row[0].astimezone(UTC) if row else datetime.now(UTC)


@contextmanager
def open_scratch(settings: Settings) -> Iterator[ScratchHome]:
    """A home for one simulation, removed whatever happens."""
    state = Home(settings).state
    state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="simulate-", dir=state) as folder:
        home = ScratchHome(settings, Path(folder))
        create_build_file(home)
        yield home


def build_present(run: Run, home: Home) -> None:
    """Service levels with the configuration as it is, and all that they are made from."""
    with open_build_file(home) as con:
        write_lake_views(con, run)
        write_config(con, run.settings, *find_range(run), "present")
        write_touched(con, run, None)
    invoke_dbt(home, ["run", "--full-refresh", "--no-write-json", "--select", "+sla_events"])


def build_scenario(run: Run, home: Home, other: Settings) -> None:
    """The same with another configuration: only what depends on the tables that differ."""
    with open_build_file(home) as con:
        con.execute("create table main.present as select * from main.sla_events")
        write_config(con, other, *find_range(run), "simulated")
    changed = list_changed_tables(run.settings, other)
    if changed:
        # What lies below a changed table and above the service levels.
        chosen = [f"source:config.{name}+,+sla_events" for name in changed]
        invoke_dbt(home, ["run", "--full-refresh", "--no-write-json", "--select", *chosen])


def list_changed_tables(settings: Settings, other: Settings) -> list[str]:
    """The tables of schema config that two configurations fill differently."""
    before, after = list_rows(settings), list_rows(other)
    changed = [name for name in before if before[name] != after[name]]
    if settings.calendars != other.calendars:
        changed += [name for name in CALENDAR_TABLES if name not in changed]
    return changed


def show(con: duckdb.DuckDBPyConnection, question: Question, out: TextIO) -> None:
    sql = BY_CASE if question.shows_cases else BY_TEAM
    if question.form == "table" and question.language == "zh":
        columns = con.sql(sql).columns
        renamed = ", ".join(f'"{name}" as "{HEADINGS[name]}"' for name in columns)
        sql = f"select {renamed} from ({sql})"
    writers: dict[str, Any] = {"csv": write_csv, "json": write_json_lines, "table": write_table}
    writers[question.form](ask(con, sql), out)


def summarize(con: duckdb.DuckDBPyConnection, language: Language) -> str:
    row = fetch_row(
        con,
        "select count(*) filter (is_present), count(*) filter (is_simulated), "
        "count(*) filter (is_simulated and not is_present), "
        "count(*) filter (is_present and not is_simulated) from main.compared",
    )
    now, then, appear, vanish = row or (0, 0, 0, 0)
    return SAID[language].format(now=now, then=then, appear=appear, vanish=vanish)

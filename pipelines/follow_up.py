"""follow_up: merge the rules' candidates into the task store and give each task an owner and a due
time.

``follow_up_candidates`` (build file) holds one row per rule and case, piece of feedback or customer
that the rules in ``sql/`` found worth a task today. The store keeps what people did. After the
merge the tables ``follow_up_tasks`` and ``follow_up_events`` of the build file say what the store
says.

What a task is about: its case; without one the piece of feedback; without either the customer. A
rule about customers leaves the other two NULL and names its rows in ``evidence``.

Who may be contacted: a customer marked do_not_contact gets no task, for nearly every task ends in a
message to the customer. The exception is an answer that the customer is waiting for: the rules of
``DUTY_PREFIXES`` on a case of theirs that is still open.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.context import Run, StepCount, timed_step
from pipelines.errors import HearbackError
from pipelines.settings import Settings
from pipelines.storage import Lake, connect_duckdb, quote
from pipelines.task_owners import assign_owners
from pipelines.task_store import (
    CAUSE_GONE,
    CONTENT_COLUMNS,
    LIVE_SQL,
    RANK_SQL,
    SYSTEM,
    record_events,
    to_micros,
    write_tasks,
)
from pipelines.task_tables import read_rows, reply_version, stream_rows, write_tables

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

REOPEN_DAYS = 14.0  # a cause that returns sooner reopens its task; later it opens a new one
EXPIRE_DAYS = 30.0  # a task nobody took up expires this long after it was due
DUTY_PREFIXES = ("sla_", "first_reply_", "next_reply_", "unanswered_")
RULE_OFF = "rule switched off"
DAY_MICROS = 86_400_000_000


@dataclass
class Outcome:
    """What a merge did, and what the run should warn about."""

    count_in: int = 0
    created: int = 0
    updated: int = 0
    reopened: int = 0
    kept: int = 0
    duplicate: int = 0
    held_back: int = 0
    gone: int = 0
    expired: int = 0
    woken: int = 0
    assigned: int = 0
    warnings: list[str] = field(default_factory=list)

    def describe(self) -> str:
        names = ("created", "updated", "reopened", "gone", "expired", "woken", "assigned")
        parts = [f"{getattr(self, name)} {name}" for name in names if getattr(self, name)]
        if self.held_back:
            parts.append(f"{self.held_back} held back: customer asked for no contact")
        return "; ".join(parts + [f"warning: {text}" for text in self.warnings]) or "no change"


def run(run: Run) -> list[StepCount]:
    """Merge today's candidates into the task store and write both task tables to the build file.

    Running it twice changes nothing. HearbackError if the build file or the candidates are missing.
    """
    with timed_step(run, "follow_up") as counts:
        con = open_build(run.home.build, run.lake)
        try:
            result = Outcome()
            prepare_candidates(con, run, result)
            with write_tasks(run.home.tasks) as (store, revision):
                if is_backfill(store, run):
                    result.kept = count_candidates(con)
                    result.warnings.append("a later day was merged already; tasks left as they are")
                else:
                    merge_candidates(con, store, run, revision, result)
            run.progress("follow_up tables", 0)
            write_tables(con, run.home.tasks, run.settings)
            con.execute("checkpoint")
        finally:
            con.close()
        counts.append(
            StepCount(
                step="follow_up",
                entity="follow_up_tasks",
                count_in=result.count_in,
                count_out=result.created + result.updated + result.reopened,
                count_quarantined=result.held_back,
                count_duplicate=result.duplicate,
                count_unchanged=result.kept,
                detail=result.describe(),
            )
        )
    return counts


# candidates -----------------------------------------------------------------------------------


def open_build(path: Path, lake: Lake) -> duckdb.DuckDBPyConnection:
    """The build file, open for writing. HearbackError if it is missing, busy or damaged."""
    import duckdb

    if not path.is_file():
        raise HearbackError(f"{path}: no build file yet; run 'hearback aggregate' first")
    try:
        con = connect_duckdb(lake, path)
    except duckdb.IOException as error:
        if "lock" in str(error).lower():
            raise HearbackError(
                f"{path}: another process is writing it; wait for that run to end and try again"
            ) from error
        raise HearbackError(f"{path}: cannot be opened ({first_line(error)})") from error
    found = con.execute(
        "select count(*) from information_schema.tables where table_name = 'follow_up_candidates'"
    ).fetchone()
    if found != (1,):
        con.close()
        raise HearbackError(
            f"{path}: no table follow_up_candidates; run 'hearback aggregate' first"
        )
    return con


def first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def has_table(con: duckdb.DuckDBPyConnection, name: str) -> bool:
    return bool(
        con.execute(
            "select count(*) from information_schema.tables where table_name = ?", [name]
        ).fetchall()[0][0]
    )


def count_candidates(con: duckdb.DuckDBPyConnection) -> int:
    return int(con.execute("select count(*) from cand").fetchall()[0][0])


def prepare_candidates(con: duckdb.DuckDBPyConnection, run: Run, result: Outcome) -> None:
    """Temporary table ``cand``: one row per cause, with its key, team, due time and content hash.

    Candidates of one cause are joined: the most urgent one speaks, the evidence is united.
    """
    pick_candidates(con, run.settings)
    count_from_listing(con, run)
    total, held, causes = con.execute(
        "select count(*), count(*) filter (is_held_back), "
        "count(distinct cause_key) filter (not is_held_back) from picked"
    ).fetchall()[0]
    result.count_in, result.held_back = int(total), int(held)
    result.duplicate = int(total) - int(held) - int(causes)
    add_due_times(con, run.settings, result)
    con.execute(
        f"""
        create or replace temp table cand as
        with kept as (
            select
                picked.* exclude (due_at, occurred_at, score, evidence, language, is_held_back),
                list_sort(list_distinct(coalesce(evidence, []))) as evidence,
                round(score, 6) as score,
                split_part(lower(language), '-', 1) as language,
                epoch_us(occurred_at) as occurred_at,
                epoch_us(coalesce(picked.due_at, dues.due)) as due_at
            from picked left join dues
                on dues.calendar = picked.calendar and dues.basis = picked.due_basis_at
                and dues.minutes = picked.due_minutes
            where not is_held_back
        ),
        crowded as (select cause_key from kept group by cause_key having count(*) > 1),
        best_of as (
            select
                arg_min(kept, ({RANK_SQL}, -coalesce(score, 0), due_at, feedback_id)) as best,
                list_sort(list_distinct(flatten(list(evidence)))) as evidence,
                max(occurred_at) as occurred_at
            from kept semi join crowded using (cause_key)
            group by kept.cause_key
        ),
        causes as (
            select * from kept anti join crowded using (cause_key)
            union all by name
            select unnest(struct_update(best, evidence := evidence, occurred_at := occurred_at))
            from best_of
        ),
        finished as (
            select * replace (array_to_string(evidence, ' ') as evidence) from causes
        )
        select
            cause_key, rule, reason, evidence, customer_id, case_id, feedback_id, team, need,
            priority, score, language, occurred_at, due_at, suggested_action, url,
            md5(concat_ws(chr(31), ?, reason, evidence, coalesce(customer_id, '-'),
                coalesce(team, '-'), coalesce(need, '-'), priority, coalesce(score, 0),
                coalesce(language, '-'), coalesce(occurred_at, 0), coalesce(due_at, 0),
                coalesce(suggested_action, '-'), coalesce(url, '-'))) as content_hash
        from finished
        """,
        [reply_version(run.settings)],
    )
    con.execute("drop table picked")


def pick_candidates(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Temporary table ``picked``: candidates of rules that are on, with cause, team, calendar, the
    words of the lists' language, and whether the customer may not be contacted."""
    disabled = [rule.name for rule in settings.follow_up_rules if not rule.enabled]
    teams_of_needs: dict[str, str] = {}
    for team in settings.teams:  # the first team that takes a need has it
        for need in team.needs:
            teams_of_needs.setdefault(need, team.name)
    default = settings.project.calendar or ""
    calendars = {team.name: team.calendar or default for team in settings.teams}
    for name, key, value, rows in (
        ("need_teams", "need", "need_team", teams_of_needs),
        ("team_calendars", "team", "calendar", calendars),
    ):
        con.execute(f"create or replace temp table {name} ({key} varchar, {value} varchar)")
        if rows:
            con.executemany(f"insert into {name} values (?, ?)", list(rows.items()))
    order = "{0}_zh, {0}" if settings.delivery.language == "zh" else "{0}, {0}_zh"
    is_duty = " or ".join(f"starts_with(c.rule, {quote(prefix)})" for prefix in DUTY_PREFIXES)
    silent = "false"
    if has_table(con, "customers"):
        silent = "c.customer_id in (select customer_id from customers where do_not_contact)"
    if has_table(con, "cases"):
        unsolved = "select case_id from cases where status in ('new', 'open', 'pending', 'hold')"
        silent += f" and not (({is_duty}) and coalesce(c.case_id in ({unsolved}), false))"
    con.execute(
        f"""
        create or replace temp table picked as
        select
            c.rule, c.evidence, c.customer_id, c.case_id, c.feedback_id, c.need, c.language,
            c.score, c.occurred_at, c.due_at, c.due_basis_at, c.due_minutes, c.url,
            coalesce({order.format("reason")}) as reason,
            coalesce({order.format("suggested_action")}) as suggested_action,
            coalesce(c.team, need_teams.need_team) as team,
            coalesce(team_calendars.calendar, {quote(default)}) as calendar,
            coalesce(c.priority, 'normal') as priority,
            md5(concat_ws(chr(31), c.rule, case
                when c.case_id is not null then 'case' || chr(31) || c.case_id
                when c.feedback_id is not null then 'feedback' || chr(31) || c.feedback_id
                else 'customer' || chr(31) || coalesce(c.customer_id, '') end)) as cause_key,
            coalesce({silent}, false) as is_held_back
        from follow_up_candidates c
        left join need_teams on need_teams.need = c.need
        left join team_calendars
            on team_calendars.team = coalesce(c.team, need_teams.need_team)
        where not list_contains(?::varchar[], c.rule)
        """,
        [disabled],
    )


def count_from_listing(con: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Let due minutes count from when a task was first on a list, if that is later than its cause.

    Nobody can be late for what was not known. A due time that a rule gives (``due_at``) stays.
    """
    import pyarrow as pa

    rows: list[tuple[str, int]] = []
    if run.home.tasks.is_file():
        with closing(sqlite3.connect(f"{run.home.tasks.as_uri()}?mode=ro", uri=True)) as store:
            rows = store.execute(
                "select cause_key, min(created_at) from tasks "
                f"where status in {LIVE_SQL} group by 1"
            ).fetchall()
    listed = pa.table(
        {
            "cause_key": pa.array([key for key, _ in rows], pa.string()),
            "created_at": pa.array([at for _, at in rows], pa.int64()),
        }
    )
    con.register("listed_rows", listed)
    con.execute(
        """
        create or replace temp table picked as
        select picked.* replace (
            greatest(due_basis_at, make_timestamptz(coalesce(created_at, ?))) as due_basis_at
        )
        from picked left join listed_rows using (cause_key)
        """,
        [to_micros(run.now)],
    )
    con.unregister("listed_rows")


def add_due_times(con: duckdb.DuckDBPyConnection, settings: Settings, result: Outcome) -> None:
    """Temporary table ``dues``: when so many open minutes of a calendar have passed.

    A team without a calendar uses the project's; without that too, every minute counts.
    """
    import pyarrow as pa

    con.execute(
        "create or replace temp table dues (calendar varchar, basis timestamptz, minutes double, "
        "due timestamptz)"
    )
    needed = (
        "from picked where due_at is null and due_basis_at is not null and due_minutes is not null"
    )
    names = con.execute(f"select distinct calendar {needed} order by 1").fetchall()
    for (name,) in names:
        wanted = con.sql(
            f"select distinct calendar, due_basis_at, due_minutes {needed} "
            f"and calendar = {quote(name)}"
        ).to_arrow_table()
        basis = wanted["due_basis_at"].to_numpy().astype("datetime64[us]")
        due = find_due_times(settings, name, basis, wanted["due_minutes"].to_numpy())
        found = pa.array(due, pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))
        if found.null_count:
            result.warnings.append(
                f"{found.null_count} due times lie beyond what calendar {name!r} has open hours "
                "for: give it hours"
            )
        con.register("due_rows", wanted.append_column("due", found))
        con.execute("insert into dues select * from due_rows")
        con.unregister("due_rows")


def find_due_times(
    settings: Settings,
    calendar: str,
    basis: NDArray[np.datetime64],
    minutes: NDArray[np.float64],
) -> NDArray[np.datetime64]:
    """Instants (UTC) by which so many open minutes have passed; NaT where the calendar has none."""
    import numpy as np

    from pipelines.calendars import add_business_minutes, expand_calendar

    if not calendar:
        return basis + (minutes * 60e6).astype("timedelta64[us]")
    versions = [version for version in settings.calendars if version.name == calendar]
    first = basis.min().astype("datetime64[D]").item() - timedelta(days=1)
    last = basis.max().astype("datetime64[D]").item()
    # Ten times the span that eight-hour days would take leaves room for weekends and long holidays.
    reach = timedelta(days=40 + float(np.max(minutes)) / 48)
    return add_business_minutes(basis, minutes, expand_calendar(versions, first, last + reach))


# merge ----------------------------------------------------------------------------------------


def is_backfill(store: sqlite3.Connection, run: Run) -> bool:
    """Has a later instant been merged already? Its causes are newer than this run's."""
    latest = store.execute("select max(merged_at) from merges").fetchone()[0]
    return latest is not None and latest > to_micros(run.now)


def merge_candidates(
    con: duckdb.DuckDBPyConnection,
    store: sqlite3.Connection,
    run: Run,
    revision: int,
    result: Outcome,
) -> None:
    """Bring the store in line with ``cand``, inside the caller's transaction."""
    now = to_micros(run.now)
    run.progress("follow_up merge", count_candidates(con))
    decide_actions(con, store, run.settings, now, result)
    write_content(con, store, revision, now)
    set_reopened(store, revision, now)
    record_decisions(store, run, now)
    close_gone(store, run, revision, now, result)
    wake_and_expire(store, run, revision, now, result)
    result.assigned, warnings = assign_owners(store, run, revision, now)
    result.warnings += warnings
    store.execute("insert into merges values (?, ?)", (run.run_id, now))


def decide_actions(
    con: duckdb.DuckDBPyConnection,
    store: sqlite3.Connection,
    settings: Settings,
    now: int,
    result: Outcome,
) -> None:
    """Temporary table ``decided`` (store and DuckDB): what to do with each cause of today.

    A live task is updated if the rule says something new. A closed one stays closed while its cause
    just lasts; it is reopened if the cause happened again after it was done, or went and came back
    within reopen_days. Later than that the cause gets a new task. What a person cancelled stays so.
    """
    store.execute("create temp table rules (rule text primary key, reopen integer, expire integer)")
    store.executemany("insert into rules values (?, ?, ?)", rule_windows(con, store, settings))
    store.execute(
        "create temp table seen (cause_key text primary key, rule text, content_hash text, "
        "occurred_at integer, evidence text) without rowid"
    )
    query = "select cause_key, rule, content_hash, occurred_at, evidence from cand order by 1"
    for rows in read_rows(con, query):
        store.executemany("insert into seen values (?, ?, ?, ?, ?)", rows)
    store.execute(
        "create temp table decided (cause_key text primary key, act text, from_status text, "
        "from_priority text, from_team text, old_task_id text, cause_gone_at integer, "
        "episode integer, task_id text) without rowid"
    )
    store.execute(
        f"""
        insert into decided
        with judged as (
            select
                s.cause_key, t.task_id, t.episode, t.status, t.cause_gone_at, t.priority, t.team,
                case
                    when t.task_id is null then 'create'
                    when t.status in {LIVE_SQL}
                        then iif(t.content_hash = s.content_hash, 'keep', 'update')
                    when t.cause_gone_at is null
                        then iif(
                            t.status = 'done' and s.occurred_at > t.status_changed_at
                                and s.occurred_at > coalesce(t.occurred_at, 0)
                                and s.evidence <> t.evidence, 'reopen', 'keep')
                    when :now - t.cause_gone_at
                        > (select reopen from rules where rules.rule = s.rule) then 'create'
                    when t.status = 'cancelled' and t.status_by <> '{SYSTEM}' then 'keep'
                    else 'reopen'
                end as act
            from seen s
            -- The first episode has the cause's key as its id; later ones are few.
            left join tasks t on t.task_id = coalesce(
                (select task_id from tasks later where later.cause_key = s.cause_key
                    and later.episode > 1 and later.is_latest = 1), s.cause_key)
        )
        select
            cause_key, act, status, priority, team, task_id, cause_gone_at,
            iif(act = 'create', coalesce(episode, 0) + 1, episode),
            case
                when act <> 'create' then task_id
                when episode is null then cause_key
                else make_task_id(cause_key, episode + 1)
            end
        from judged order by cause_key
        """,
        {"now": now},
    )
    acts = dict(store.execute("select act, count(*) from decided group by act").fetchall())
    result.created, result.updated = acts.get("create", 0), acts.get("update", 0)
    result.reopened, result.kept = acts.get("reopen", 0), acts.get("keep", 0)
    changed = store.execute("select cause_key, task_id, episode from decided where act <> 'keep'")
    kinds = {"cause_key": "s", "task_id": "s", "episode": "i"}
    con.register("changed", stream_rows(changed, kinds))
    con.execute("create or replace temp table decided as select * from changed")
    con.unregister("changed")


def rule_windows(
    con: duckdb.DuckDBPyConnection, store: sqlite3.Connection, settings: Settings
) -> list[tuple[str, int, int]]:
    """(rule, reopen window, time to expiry) in microseconds for every rule that has tasks."""
    names = {row[0] for row in con.execute("select distinct rule from cand").fetchall()}
    names |= {row[0] for row in store.execute("select distinct rule from tasks").fetchall()}
    own = {rule.name: rule.thresholds for rule in settings.follow_up_rules}
    return [
        (
            name,
            round(own.get(name, {}).get("reopen_days", REOPEN_DAYS) * DAY_MICROS),
            round(own.get(name, {}).get("expire_days", EXPIRE_DAYS) * DAY_MICROS),
        )
        for name in sorted(names)
    ]


def write_content(
    con: duckdb.DuckDBPyConnection, store: sqlite3.Connection, revision: int, now: int
) -> None:
    """Insert new tasks and bring what the rules say into the others; state is left alone."""
    store.execute(
        "update tasks set is_latest = 0 where task_id in (select old_task_id from decided "
        "where act = 'create' and old_task_id is not null)"
    )
    names = ", ".join(CONTENT_COLUMNS)
    marks = ", ".join("?" * len(CONTENT_COLUMNS))
    updates = ", ".join(f"{name} = excluded.{name}" for name in CONTENT_COLUMNS)
    statement = (
        f"insert into tasks (task_id, cause_key, episode, {names}, is_latest, created_at, status, "
        f"status_changed_at, status_by, revision) values (?, ?, ?, {marks}, 1, {now}, 'open', "
        f"{now}, '{SYSTEM}', {revision}) on conflict (task_id) do update set {updates}, "
        "revision = excluded.revision"
    )
    query = (
        f"select decided.task_id, cand.cause_key, decided.episode, {names} "
        "from cand join decided using (cause_key) order by decided.task_id"
    )
    for rows in read_rows(con, query):
        store.executemany(statement, rows)


def set_reopened(store: sqlite3.Connection, revision: int, now: int) -> None:
    """Open the tasks whose cause returned, and forget that causes of today were once gone."""
    store.execute(
        "update tasks set status = 'open', status_changed_at = ?, status_by = ?, outcome = null, "
        "snoozed_until = null, cause_gone_at = null, revision = ? "
        "where task_id in (select task_id from decided where act = 'reopen')",
        (now, SYSTEM, revision),
    )
    store.execute(
        "update tasks set cause_gone_at = null where task_id in "
        "(select task_id from decided where act = 'keep' and cause_gone_at is not null)"
    )


def record_decisions(store: sqlite3.Connection, run: Run, now: int) -> None:
    """Events of created and reopened tasks and of changed priorities and teams."""
    columns = (
        "insert into events (task_id, event_at, event_type, from_value, to_value, actor, note, "
        "run_id) "
    )
    stamp = {"now": now, "run": run.run_id, "actor": SYSTEM}
    store.execute(
        columns + "select task_id, :now, iif(act = 'create', 'created', 'reopened'), "
        "iif(act = 'create', null, from_status), 'open', :actor, iif(act = 'create', null, "
        "'the cause is back'), :run from decided where act in ('create', 'reopen')",
        stamp,
    )
    for name in ("priority", "team"):
        store.execute(
            columns + f"select d.task_id, :now, '{name}_changed', d.from_{name}, t.{name}, :actor, "
            "null, :run from decided d join tasks t on t.task_id = d.task_id "
            f"where d.act in ('update', 'reopen') and d.from_{name} is not t.{name}",
            stamp,
        )


def close_gone(
    store: sqlite3.Connection, run: Run, revision: int, now: int, result: Outcome
) -> None:
    """Cancel live tasks whose cause is gone; mark closed ones, so that a return is noticed."""
    off = [rule.name for rule in run.settings.follow_up_rules if not rule.enabled]
    store.execute("create temp table off_rules (rule text primary key)")
    store.executemany("insert into off_rules values (?)", [(name,) for name in off])
    store.execute(
        """
        create temp table gone as
        select task_id, status as from_status, rule in (select rule from off_rules) as is_off
        from tasks
        where is_latest = 1 and cause_gone_at is null
            and cause_key not in (select cause_key from seen)
        """
    )
    store.execute(
        f"insert into events (task_id, event_at, event_type, from_value, to_value, actor, note, "
        f"run_id) select task_id, ?, 'status_changed', from_status, 'cancelled', ?, "
        f"iif(is_off, '{RULE_OFF}', '{CAUSE_GONE}'), ? from gone where from_status in {LIVE_SQL}",
        (now, SYSTEM, run.run_id),
    )
    result.gone = store.execute(
        f"update tasks set status = 'cancelled', status_changed_at = ?, status_by = ?, "
        f"outcome = (select iif(is_off, '{RULE_OFF}', '{CAUSE_GONE}') from gone "
        "where gone.task_id = tasks.task_id), snoozed_until = null, revision = ? "
        f"where task_id in (select task_id from gone where from_status in {LIVE_SQL})",
        (now, SYSTEM, revision),
    ).rowcount
    store.execute(
        "update tasks set cause_gone_at = ? where task_id in (select task_id from gone)", (now,)
    )


def wake_and_expire(
    store: sqlite3.Connection, run: Run, revision: int, now: int, result: Outcome
) -> None:
    """Bring snoozed tasks back when their time comes; expire what nobody took up long after due."""
    woken = store.execute(
        "select task_id, 'status_changed', status, 'open', 'snooze ended' from tasks "
        "where status = 'snoozed' and snoozed_until <= ?",
        (now,),
    ).fetchall()
    expired = store.execute(
        "select task_id, 'status_changed', status, 'expired', 'long overdue and not taken up' "
        "from tasks where status = 'open' and due_at < ? - (select expire from rules "
        "where rules.rule = tasks.rule)",
        (now,),
    ).fetchall()
    store.executemany(
        f"update tasks set status = ?, status_changed_at = {now}, status_by = '{SYSTEM}', "
        f"snoozed_until = null, revision = {revision} where task_id = ?",
        [(status, task_id) for task_id, _, _, status, _ in woken + expired],
    )
    record_events(store, woken + expired, at=now, actor=SYSTEM, run_id=run.run_id)
    result.woken, result.expired = len(woken), len(expired)

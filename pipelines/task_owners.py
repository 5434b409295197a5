"""Who does a follow-up task: by team, language, daily capacity and the work already carried."""

from __future__ import annotations

import heapq
import sqlite3
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pipelines.context import Run
from pipelines.settings import Settings, Team
from pipelines.task_store import LIVE_SQL, ORDER_SQL, SYSTEM, record_events, to_micros


@dataclass
class Seat:
    """A member's place in a team: what they speak, what they carry, how much more they can take."""

    name: str
    languages: frozenset[str]
    capacity: int
    load: int
    room: int


def assign_owners(
    store: sqlite3.Connection, run: Run, revision: int, now: int
) -> tuple[int, list[str]]:
    """Give live tasks without an owner to members of their team.

    Who has a task of a case gets the others of that case too: two people must not answer the same
    customer. Otherwise a member takes at most ``daily_capacity`` new tasks a day of the project's
    zone; among those who speak the customer's language the next task, most urgent first, goes to
    the one with the least open work for their capacity. Whose calendar is closed on the run's day
    gets nothing new. An owner is kept while they are in the configuration. Returns how many were
    given out, and warnings of those that were not.
    """
    teams = {team.name: team for team in run.settings.teams}
    present = list_present(run.settings, run.date)
    release_departed(store, run, revision, now)
    assigned = give_to_owner_of_case(store, run, revision, now)
    day_start = datetime.combine(run.date, datetime.min.time(), run.zone)
    day = (to_micros(day_start), to_micros(day_start + timedelta(days=1)))
    owned = store.execute(
        f"select owner, sum(status in {LIVE_SQL}), sum(assigned_at >= ? and assigned_at < ?) "
        "from tasks where owner is not null group by owner",
        day,
    ).fetchall()
    loads = {owner: load for owner, load, _ in owned}
    taken = {owner: given for owner, _, given in owned}
    seats: dict[str, Seat] = {}
    chosen: list[tuple[str, str]] = []
    waiting = count_waiting(store)
    for name in sorted({team for team, _ in waiting if team in teams}):
        languages = sorted(language for team, language in waiting if team == name)
        chosen += share_out(
            store, teams[name], languages, present=present, seats=seats, loads=loads, taken=taken
        )
    set_owners(store, chosen, run, revision, now)
    if chosen:
        assigned += len(chosen) + give_to_owner_of_case(store, run, revision, now)
        waiting = count_waiting(store)
    return assigned, explain_unowned(waiting, teams, present)


def list_present(settings: Settings, day: date) -> set[tuple[str, str]]:
    """(team, member) of those who work on a local day.

    A member's own calendar counts, else the team's, else the project's; without any, every day is
    a working day.
    """
    from pipelines.calendars import expand_calendar

    is_open: dict[str, bool] = {}
    for name in {calendar.name for calendar in settings.calendars}:
        versions = [version for version in settings.calendars if version.name == name]
        is_open[name] = expand_calendar(versions, day, day).num_rows > 0
    return {
        (team.name, member.name)
        for team in settings.teams
        for member in team.members
        if is_open.get(member.calendar or team.calendar or settings.project.calendar or "", True)
    }


def count_waiting(store: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """Live tasks without an owner by team and language ('' if not known)."""
    rows = store.execute(
        "select team, language, count(*) from tasks "
        f"where owner is null and status in {LIVE_SQL} group by 1, 2"
    ).fetchall()
    return {(team or "", language or ""): count for team, language, count in rows}


def give_to_owner_of_case(store: sqlite3.Connection, run: Run, revision: int, now: int) -> int:
    """Give waiting tasks to who has another live task of the same case in the same team."""
    store.execute("drop table if exists temp.owned_cases")
    store.execute(
        "create temp table owned_cases (case_id text, team text, owner text, "
        "primary key (case_id, team)) without rowid"
    )
    store.execute(
        "insert into owned_cases select case_id, team, min(owner) "
        "from tasks indexed by tasks_owned "
        f"where owner is not null and status in {LIVE_SQL} and case_id is not null "
        "and team is not null group by 1, 2"
    )
    chosen = store.execute(
        "select owned_cases.owner, tasks.task_id from tasks "
        "cross join owned_cases on owned_cases.case_id = tasks.case_id "
        "and owned_cases.team = tasks.team "
        f"where tasks.owner is null and tasks.status in {LIVE_SQL}"
    ).fetchall()
    set_owners(store, chosen, run, revision, now)
    return len(chosen)


def set_owners(
    store: sqlite3.Connection,
    chosen: list[tuple[str, str]],
    run: Run,
    revision: int,
    now: int,
) -> None:
    """Write (owner, task_id) and an event for each."""
    store.executemany(
        f"update tasks set owner = ?, assigned_at = {now}, revision = {revision} where task_id = ?",
        chosen,
    )
    record_events(
        store,
        ((task_id, "assigned", None, owner, None) for owner, task_id in chosen),
        at=now,
        actor=SYSTEM,
        run_id=run.run_id,
    )


def release_departed(store: sqlite3.Connection, run: Run, revision: int, now: int) -> None:
    """Take live tasks back from owners who are no longer a member of any team."""
    members = {member.name for team in run.settings.teams for member in team.members}
    if not members:
        return
    owners = store.execute(
        f"select distinct owner from tasks where status in {LIVE_SQL} and owner is not null"
    ).fetchall()
    for owner in sorted(row[0] for row in owners if row[0] not in members):
        store.execute(
            "insert into events (task_id, event_at, event_type, from_value, actor, note, run_id) "
            "select task_id, ?, 'unassigned', owner, ?, 'no longer a member of any team', ? "
            f"from tasks where owner = ? and status in {LIVE_SQL}",
            (now, SYSTEM, run.run_id, owner),
        )
        store.execute(
            "update tasks set owner = null, assigned_at = null, revision = ? "
            f"where owner = ? and status in {LIVE_SQL}",
            (revision, owner),
        )


def share_out(
    store: sqlite3.Connection,
    team: Team,
    languages: list[str],
    *,
    present: set[tuple[str, str]],
    seats: dict[str, Seat],
    loads: dict[str, int],
    taken: dict[str, int],
) -> list[tuple[str, str]]:
    """(owner, task_id) for as many waiting tasks of the team as its members have room for."""
    for member in team.members:
        if member.name not in seats:
            room = max(0, member.daily_capacity - taken.get(member.name, 0))
            spoken = frozenset(word.lower().split("-")[0] for word in member.languages)
            seats[member.name] = Seat(
                member.name, spoken, member.daily_capacity, loads.get(member.name, 0), room
            )
    ours = [seats[member.name] for member in team.members if (team.name, member.name) in present]
    room = sum(seat.room for seat in ours)
    queues = [
        store.execute(
            f"select {ORDER_SQL}, coalesce(language, ''), case_id from tasks "
            f"where team = ? and language is ? and owner is null and status in {LIVE_SQL} "
            f"order by {ORDER_SQL} limit ?",
            (team.name, language or None, room),
        ).fetchall()
        for language in languages
        if room and any(speaks(seat, language) for seat in ours)
    ]
    chosen: list[tuple[str, str]] = []
    given: dict[str, str] = {}
    for *_, task_id, language, case_id in heapq.merge(*queues):
        if case_id in given:
            chosen.append((given[case_id], task_id))
            continue
        able = [seat for seat in ours if seat.room and speaks(seat, language)]
        if able:
            # Of two with the same load the one who speaks fewer languages: the other is rarer.
            seat = min(able, key=lambda s: (s.load / s.capacity, len(s.languages), s.name))
            seat.load += 1
            seat.room -= 1
            chosen.append((seat.name, task_id))
            if case_id is not None:
                given[case_id] = seat.name
    return chosen


def speaks(seat: Seat, language: str) -> bool:
    return not language or language in seat.languages


def explain_unowned(
    waiting: dict[tuple[str, str], int], teams: dict[str, Team], present: set[tuple[str, str]]
) -> list[str]:
    """What keeps live tasks without an owner, with what to change: one warning a cause."""
    at_work = {team for team, _ in present}
    causes: Counter[str] = Counter()
    for (team, language), count in waiting.items():
        owned = f"of team {team!r} without an owner"
        if not team:
            cause = "without a team: add a [[teams]] entry that takes their need"
        elif team not in teams:
            cause = f"of team {team!r}, which is not in the configuration"
        elif not teams[team].members:
            cause = f"{owned}: it has no members"
        elif language and not any(
            language in {word.lower().split("-")[0] for word in member.languages}
            for member in teams[team].members
        ):
            cause = f"{owned}: nobody there speaks {language!r}"
        elif team not in at_work:
            cause = f"{owned}: nobody there works today"
        else:
            cause = f"{owned}: no room left today" + (f" for {language!r}" if language else "")
        causes[cause] += count
    return [f"{count} task{'s' * (count > 1)} {cause}" for cause, count in causes.items()]

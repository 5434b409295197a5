"""What service levels say of one case, worked out instant by instant from its events.

Written without a look at the SQL: it walks through a case as a person would with the log in hand.
Slow, and meant to be.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from pipelines.settings import SLA_METRICS, SlaPolicy

UNSOLVED = ("new", "open", "pending", "hold")
RUNNING = {
    "next_reply": UNSOLVED,
    "periodic_update": UNSOLVED,
    "pausable_update": ("new", "open", "hold"),
    "requester_wait": ("new", "open", "hold"),
    "agent_work": ("new", "open"),
    "total_resolution": UNSOLVED,
}
Spans = list[tuple[datetime, datetime]]
NOTHING = timedelta(0)


@dataclass
class Told:
    """A case as the sources tell it; ``changes`` are (instant, what, new value) in order."""

    opened: datetime
    channel: str
    tags: list[str]
    group: str
    priority: str
    is_not_contacted: bool = False
    changes: list[tuple[datetime, str, str]] = field(default_factory=list)

    def at(self, what: str, when: datetime) -> str:
        """Status, priority or group after everything up to an instant."""
        value = {"status": "new", "priority": self.priority, "group": self.group}[what]
        for instant, name, new in self.changes:
            if name == what and instant <= when:
                value = new
        return value

    def instants(self) -> list[datetime]:
        return sorted({instant for instant, _, _ in self.changes})


@dataclass(frozen=True)
class Clock:
    metric: str
    cycle: int
    started: datetime
    fulfilled: datetime | None
    ended: datetime | None


def list_clocks(case: Told, as_of: datetime) -> Iterator[Clock]:
    """Every clock that the case sets going, in the order of its cycles."""
    spoken = [(case.opened, "asked")]
    spoken += [(when, what) for when, what, _ in case.changes if what in ("asked", "replied")]
    replies = [when for when, what in spoken if what == "replied"]
    status = case.at("status", as_of)
    entered = [(when, new) for when, what, new in case.changes if what == "status"]
    before = ["new", *(new for _, new in entered)]
    left = [
        when
        for (when, new), old in zip(entered, before, strict=False)
        if new not in UNSOLVED and old in UNSOLVED
    ]
    solved = [when for when, new in entered if new == "solved"]
    settled = left[-1] if status not in UNSOLVED else None
    first_settled = (solved or left)[0] if status not in UNSOLVED else None

    def make(metric: str, cycle: int, started: datetime, answered: datetime | None) -> Clock:
        end = answered or (max(settled, started) if settled else None)
        return Clock(metric, cycle, started, answered, end)

    first = replies[0] if replies else None
    yield Clock("first_reply", 1, case.opened, first, first or first_settled)
    cycle, asked, is_answered = 0, None, False
    for when, what in spoken:
        if what == "asked" and asked is None:
            asked = when
        elif what == "replied":
            if asked is not None and is_answered:
                cycle += 1
                yield make("next_reply", cycle, asked, when)
            asked, is_answered = None, True
    if asked is not None and is_answered:
        yield make("next_reply", cycle + 1, asked, None)
    for metric in ("periodic_update", "pausable_update"):
        for number, when in enumerate(replies, 1):
            following = replies[number] if number < len(replies) else None
            yield make(metric, number, when, following)
    for metric in ("requester_wait", "agent_work", "total_resolution"):
        yield make(metric, 1, case.opened, settled)


@dataclass
class Ruler:
    """Measures open time: all of it on the calendar clock, that of a calendar on the other."""

    calendars: dict[str, Spans]

    def measure(self, calendar: str | None, start: datetime, stop: datetime) -> timedelta:
        if calendar is None:
            return stop - start
        found = NOTHING
        for opens, closes in self.calendars[calendar]:
            found += max(NOTHING, min(stop, closes) - max(start, opens))
        return found

    def advance(self, calendar: str | None, start: datetime, left: timedelta) -> datetime | None:
        """The first instant at which so much open time has passed."""
        if calendar is None:
            return start + left
        spans = self.calendars[calendar]
        at = max(0, bisect_right(spans, (start, start)) - 1)
        for opens, closes in spans[at:]:
            here = closes - max(start, opens)
            if here >= left:
                return max(start, opens) + left
            left -= max(NOTHING, here)
        return None


def find_policy(
    case: Told, when: datetime, policies: list[SlaPolicy], team: Callable[[str], str]
) -> SlaPolicy | None:
    own = team(case.at("group", when))
    priority = case.at("priority", when)
    for policy in policies:
        wanted = policy.when
        if (
            (not wanted.channel or case.channel in wanted.channel)
            and (not wanted.priority or priority in wanted.priority)
            and (not wanted.team or own in wanted.team)
            and (not wanted.tag or set(case.tags) & set(wanted.tag))
        ):
            return policy
    return None


def judge(
    case: Told,
    policies: list[SlaPolicy],
    as_of: datetime,
    ruler: Ruler,
    team: Callable[[str], str],
    calendar_of: Callable[[str], str],
) -> list[dict[str, Any]]:
    """The rows of sla_events of a case."""
    rows: list[dict[str, Any]] = []
    for metric in SLA_METRICS:
        number = 0
        for clock in list_clocks(case, as_of):
            if clock.metric != metric:
                continue
            for row in judge_clock(case, clock, policies, as_of, ruler, team, calendar_of):
                number += 1
                rows.append({"metric": metric, "application": number, "cycle": clock.cycle, **row})
    return rows


def judge_clock(
    case: Told,
    clock: Clock,
    policies: list[SlaPolicy],
    as_of: datetime,
    ruler: Ruler,
    team: Callable[[str], str],
    calendar_of: Callable[[str], str],
) -> Iterator[dict[str, Any]]:
    end = clock.ended or max(as_of, clock.started)
    moments = [clock.started]
    if clock.metric != "first_reply":
        moments += [t for t in case.instants() if t > clock.started]
        moments = [t for t in moments if clock.ended is None or t < clock.ended or t == moments[0]]
    promised: list[tuple[datetime, SlaPolicy | None, str]] = []
    for moment in moments:
        now = (find_policy(case, moment, policies, team), case.at("priority", moment))
        if not promised or promised[-1][1:] != now:
            promised.append((moment, *now))
    for place, (applied, policy, priority) in enumerate(promised):
        replaced = promised[place + 1][0] if place + 1 < len(promised) else None
        target = policy.targets.get(clock.metric, {}).get(priority) if policy else None  # type: ignore[call-overload]
        if policy is None or target is None:
            continue
        if policy.pause_do_not_contact and case.is_not_contacted:
            continue
        is_business = policy.clocks.get(clock.metric, policy.clock) == "business"  # type: ignore[call-overload]
        stretches, is_running = [], False
        points = [clock.started, *(t for t in case.instants() if clock.started < t < end), end]
        for start, stop in pairwise(points):
            status = case.at("status", start)
            group = case.opened if clock.metric == "first_reply" else start
            calendar = calendar_of(case.at("group", group)) if is_business else None
            runs = clock.metric == "first_reply" or status in RUNNING[clock.metric]
            if runs and status not in policy.pause_statuses:
                stretches.append((start, stop, calendar))
                is_running = clock.ended is None and stop == end
        if not stretches:
            continue
        wanted = timedelta(minutes=target)
        elapsed = sum(
            (ruler.measure(calendar, a, b) for a, b, calendar in stretches), start=NOTHING
        )
        until = elapsed
        if replaced is not None:
            until = sum(
                (ruler.measure(c, a, min(b, replaced)) for a, b, c in stretches if a < replaced),
                start=NOTHING,
            )
        is_broken = until > wanted
        if is_broken:
            replaced = None
        breach = find_breach(stretches, wanted, ruler, clock, is_running=is_running)
        is_met = replaced is None and clock.fulfilled is not None and not is_broken
        yield {
            "policy": policy.name,
            "priority": priority,
            "applied_at": applied,
            "replaced_at": replaced,
            "target_minutes": target,
            "in_business_hours": is_business,
            "breach_at": max(breach, applied) if breach else None,
            "fulfilled_at": None if replaced else clock.fulfilled,
            "elapsed_minutes": (until if replaced else elapsed) / timedelta(minutes=1),
            "is_breached": True if is_broken else False if is_met else None,
            "is_active": clock.ended is None and replaced is None,
            "is_paused": clock.ended is None and replaced is None and not is_running,
        }
        if is_broken:
            return


def find_breach(
    stretches: list[tuple[datetime, datetime, str | None]],
    left: timedelta,
    ruler: Ruler,
    clock: Clock,
    *,
    is_running: bool,
) -> datetime | None:
    """When the target was used up; where it was not, when it would be."""
    for start, stop, calendar in stretches[:-1]:
        here = ruler.measure(calendar, start, stop)
        if here >= left:
            return ruler.advance(calendar, start, left)
        left -= here
    start, stop, calendar = stretches[-1]
    if ruler.measure(calendar, start, stop) < left and clock.ended is None and not is_running:
        return None
    return ruler.advance(calendar, start, left)

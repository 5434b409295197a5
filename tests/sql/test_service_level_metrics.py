"""The seven metrics of service levels: cases worked out by hand, and random ones by an oracle."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from mart_world import AS_OF, World, at
from sla_oracle import UNSOLVED, Ruler, Told, judge

from pipelines.calendars import expand_calendar

CASES = 400
EVERY = ("urgent", "high", "normal", "low")
SEVEN = {
    "first_reply": 30, "next_reply": 45, "periodic_update": 120, "pausable_update": 90,
    "requester_wait": 240, "agent_work": 180, "total_resolution": 600,
}  # fmt: skip
POLICIES: list[dict[str, Any]] = [
    {"name": "worked", "when": {"tag": ["worked"]}, "clock": "calendar", **SEVEN},
    {"name": "worked_urgent", "when": {"tag": ["by priority"]}, "clock": "calendar",
     "total_resolution": {"urgent": 60, "normal": 600}, "first_reply": {"urgent": 30, "low": 90}},
    {"name": "worked_business", "when": {"tag": ["business"]}, "total_resolution": 600,
     "clocks": {"total_resolution": "business"}, "clock": "calendar", "agent_work": 100},
    {"name": "worked_pause", "when": {"tag": ["paused"]}, "clock": "calendar",
     "pause_statuses": ["hold"], "requester_wait": 240, "first_reply": 60},
    {"name": "urgent_europe", "when": {"team": ["Europe"], "priority": ["urgent", "high"]},
     "first_reply": 60, "next_reply": 90, "requester_wait": 300, "agent_work": 200},
    {"name": "quiet", "when": {"tag": ["vip"]}, "pause_do_not_contact": True,
     "pause_statuses": ["hold", "pending"], "clock": "business",
     "clocks": {"next_reply": "calendar"}, "first_reply": 200, "next_reply": 300,
     "periodic_update": 400, "total_resolution": {"urgent": 300, "normal": 1500}},
    {"name": "chat", "when": {"channel": ["chat"]}, "clock": "calendar", **SEVEN},
    {"name": "rest", **{metric: dict(zip(EVERY, (m, 2 * m, 3 * m, 5 * m), strict=True))
                        for metric, m in SEVEN.items()}},
]  # fmt: skip


def pick_changes(chance: random.Random, opened: datetime) -> list[tuple[datetime, str, str]]:
    """What may befall a case in a week; the log of statuses is whole."""
    when, status, found = opened, "new", []
    for _ in range(chance.randrange(14)):
        when += timedelta(seconds=chance.choice((1, 60, 600, 7200, 30000, 90000))
                          * chance.randrange(1, 5))  # fmt: skip
        if when >= AS_OF:
            break
        what = chance.choice(("asked", "replied", "replied", "status", "status", "priority",
                              "group", "solved with a reply"))  # fmt: skip
        if what in ("asked", "replied"):
            found.append((when, what, ""))
        elif what == "priority":
            found.append((when, what, chance.choice(EVERY)))
        elif what == "group":
            found.append((when, what, chance.choice(("billing", "invoices", "eu"))))
        elif what == "status":
            status = chance.choice([s for s in (*UNSOLVED, "solved", "closed") if s != status])
            found.append((when, what, status))
        elif status in UNSOLVED:
            status = "solved"
            found += [(when, "replied", ""), (when, "status", status)]
    return found


def make_case(chance: random.Random) -> Told:
    opened = at("02 00:00") + timedelta(seconds=chance.randrange(18 * 86400))
    return Told(
        opened=opened,
        channel=chance.choice(("email", "email", "chat")),
        tags=chance.choice(([], [], ["vip"], ["other"])),
        group=chance.choice(("billing", "invoices", "eu")),
        priority=chance.choice(EVERY),
        is_not_contacted=chance.random() < 0.2,
        changes=pick_changes(chance, opened),
    )


def put_case(world: World, name: str, case: Told) -> None:
    """The case as rows of facts: what was first is told by the first change alone."""

    def write(instant: datetime) -> str:
        return f"{instant:%d %H:%M:%S}"

    last = {what: case.at(what, AS_OF) for what in ("status", "priority", "group")}
    world.add_case(
        name, write(case.opened), status=last["status"], channel=case.channel, tags=case.tags,
        priority=last["priority"], source_group=last["group"], created_as="new",
    )  # fmt: skip
    world.put("customers", name, customer_ref=f"customer of {name}", source="support",
              source_customer_id=name, do_not_contact=case.is_not_contacted)  # fmt: skip
    now = {"status": "new", "priority": case.priority, "group": case.group}
    for instant, what, value in case.changes:
        if what in ("asked", "replied"):
            event, role = (("customer_message", "customer") if what == "asked"
                           else ("agent_reply", "agent"))  # fmt: skip
            world.add_event(name, write(instant), event, role)
            continue
        world.add_event(name, write(instant), f"{what}_changed", from_value=now[what],
                        to_value=value)  # fmt: skip
        now[what] = value


def put_worked(world: World) -> None:
    """Cases whose answers stand in the tests below."""
    world.add_case("three turns", "10 09:00", status="pending", tags=["worked"])
    world.add_event("three turns", "10 09:20", "agent_reply")
    world.add_event("three turns", "10 10:00", "customer_message", "customer")
    world.add_event("three turns", "10 10:30", "customer_message", "customer")
    world.add_event("three turns", "10 10:45", "agent_reply")  # 45 after the oldest: in time
    world.add_event("three turns", "10 11:00", "customer_message", "customer")
    world.add_event("three turns", "10 11:46", "agent_reply")  # 46: too late
    world.add_status("three turns", "10 12:00", "new", "pending")

    world.add_case("back again", "10 09:00", status="open", tags=["worked"])
    world.add_event("back again", "10 09:10", "agent_reply")
    world.add_status("back again", "10 10:00", "new", "hold")
    world.add_status("back again", "10 11:00", "hold", "pending")
    world.add_status("back again", "10 13:00", "pending", "solved")
    world.add_status("back again", "20 10:00", "solved", "open")

    world.add_case("more urgent", "10 09:00", tags=["by priority"], priority="urgent")
    world.add_event("more urgent", "10 09:30", "priority_changed", from_value="normal",
                    to_value="low")  # fmt: skip
    world.add_event("more urgent", "10 12:00", "priority_changed", from_value="low",
                    to_value="urgent")  # fmt: skip
    world.add_case("less urgent", "10 09:00", tags=["by priority"], priority="normal")
    world.add_event("less urgent", "10 09:59", "priority_changed", from_value="urgent",
                    to_value="normal")  # fmt: skip
    world.add_case("too late to calm down", "10 09:00", tags=["by priority"], priority="normal")
    world.add_event("too late to calm down", "10 10:01", "priority_changed", from_value="urgent",
                    to_value="normal")  # fmt: skip

    # 17:00 in Shanghai; an hour today, 450 minutes on Thursday, 90 on Friday until 10:30.
    world.add_case("over days", "18 09:00", tags=["business"])
    # Half an hour in Shanghai, then three in Berlin, where it is 10:30.
    world.add_case("moves west", "19 09:00", status="solved", source_group="eu", tags=["business"])
    world.add_event("moves west", "19 09:30", "group_changed", from_value="billing", to_value="eu")
    world.add_status("moves west", "19 12:30", "new", "solved")

    world.add_case("on hold", "20 08:00", status="hold", tags=["paused"])
    world.add_status("on hold", "20 10:00", "new", "hold")
    world.add_case("off hold", "20 06:00", status="open", tags=["paused"])
    world.add_status("off hold", "20 07:00", "new", "hold")
    world.add_status("off hold", "20 11:00", "hold", "open")


@pytest.fixture(scope="module")
def cases() -> dict[str, Told]:
    chance = random.Random(4)
    return {f"random {number}": make_case(chance) for number in range(CASES)}


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory, cases: dict[str, Told]) -> World:
    world = World(tmp_path_factory.mktemp("levels"), sla_policies=POLICIES)
    put_worked(world)
    for name, case in cases.items():
        put_case(world, name, case)
    world.commit()
    world.build()
    return world


def find(world: World, case_id: str, metric: str) -> list[dict[str, Any]]:
    return world.query(
        f"select * from sla_events where case_id = '{case_id}' and metric = '{metric}' "
        "order by application"
    )


def test_next_reply_counts_from_the_oldest_unanswered_message(levels: World) -> None:
    rows = find(levels, "three turns", "next_reply")
    assert [(row["started_at"], row["elapsed_minutes"], row["is_breached"]) for row in rows] == [
        (at("10 10:00"), 45, False),
        (at("10 11:00"), 46, True),
    ]


def test_updates_run_from_reply_to_reply_and_one_of_them_pauses(levels: World) -> None:
    rows = find(levels, "three turns", "periodic_update")
    assert [row["elapsed_minutes"] for row in rows[:2]] == [85, 61]
    assert [row["is_breached"] for row in rows] == [False, False, True]
    assert rows[2]["breach_at"] == at("10 13:46")
    # 14 minutes until pending; then it stands, and no breach is foreseen.
    last = find(levels, "three turns", "pausable_update")[2]
    assert (last["elapsed_minutes"], last["is_active"], last["is_paused"]) == (14, True, True)
    assert (last["breach_at"], last["is_breached"]) == (None, None)


def test_a_reopened_case_goes_on_where_it_stood(levels: World) -> None:
    elapsed = {
        metric: find(levels, "back again", metric)[0]
        for metric in ("requester_wait", "agent_work", "total_resolution")
    }
    # 60 new, 60 on hold, 120 pending; from the 20th at 10:00 another 120 until 12:00.
    assert {metric: row["elapsed_minutes"] for metric, row in elapsed.items()} == {
        "requester_wait": 240, "agent_work": 180, "total_resolution": 360
    }  # fmt: skip
    assert all(row["is_breached"] is None and row["is_active"] for row in elapsed.values())
    assert elapsed["requester_wait"]["breach_at"] == at("20 12:00")
    assert elapsed["total_resolution"]["breach_at"] == at("20 16:00")


def test_a_priority_changed_later_applies_its_target_to_the_running_clock(levels: World) -> None:
    rows = find(levels, "more urgent", "total_resolution")
    # Low has no target; urgent is applied after three hours and allows one: broken at once.
    assert [(row["priority"], row["applied_at"], row["is_breached"]) for row in rows] == [
        ("normal", at("10 09:00"), None),
        ("urgent", at("10 12:00"), True),
    ]
    assert (rows[0]["replaced_at"], rows[0]["elapsed_minutes"]) == (at("10 09:30"), 30)
    assert rows[1]["breach_at"] == rows[1]["decided_at"] == at("10 12:00")
    rows = find(levels, "less urgent", "total_resolution")
    assert [(row["priority"], row["is_breached"]) for row in rows] == [
        ("urgent", None), ("normal", True)
    ]  # fmt: skip
    assert rows[1]["breach_at"] == at("10 19:00")


def test_what_is_broken_stays_broken_and_counts_once(levels: World) -> None:
    rows = find(levels, "too late to calm down", "total_resolution")
    assert [(row["priority"], row["is_breached"]) for row in rows] == [("urgent", True)]
    assert (rows[0]["breach_at"], rows[0]["replaced_at"]) == (at("10 10:00"), None)


def test_first_reply_is_promised_once_when_the_case_is_opened(levels: World) -> None:
    assert find(levels, "more urgent", "first_reply") == []  # normal has no target
    row = find(levels, "less urgent", "first_reply")[0]
    assert (row["priority"], row["target_minutes"], row["replaced_at"]) == ("urgent", 30, None)


def test_each_metric_may_have_a_clock_of_its_own(levels: World) -> None:
    row = find(levels, "over days", "total_resolution")[0]
    assert (row["in_business_hours"], row["is_breached"]) == (True, True)
    assert row["breach_at"] == at("20 02:30")
    assert find(levels, "over days", "agent_work")[0]["breach_at"] == at("18 10:40")


def test_running_clocks_follow_the_calendar_in_force(levels: World) -> None:
    row = find(levels, "moves west", "total_resolution")[0]
    # 09:00 to 09:30 is 17:00 to 17:30 in Shanghai; then 10:30 to 12:00 and 13:30 in Berlin.
    assert row["elapsed_minutes"] == 30 + 90
    assert (row["is_breached"], row["fulfilled_at"]) == (False, at("19 12:30"))


def test_statuses_that_pause_stop_the_clock(levels: World) -> None:
    row = find(levels, "on hold", "requester_wait")[0]
    assert (row["elapsed_minutes"], row["is_paused"], row["breach_at"]) == (120, True, None)
    row = find(levels, "off hold", "requester_wait")[0]
    assert (row["elapsed_minutes"], row["breach_at"]) == (120, at("20 14:00"))
    # The first reply, too: an hour before and an hour after is on the minute.
    row = find(levels, "off hold", "first_reply")[0]
    assert (row["elapsed_minutes"], row["is_breached"]) == (120, True)
    assert row["breach_at"] == at("20 07:00")


def test_metrics_are_kept_apart(levels: World) -> None:
    rows = levels.query(
        "select sla_metric, sum(met_count) as met, sum(breached_count) as breached "
        "from sla_compliance group by all order by all"
    )
    direct = levels.query(
        "select metric as sla_metric, count(*) filter (not is_breached) as met, "
        "count(*) filter (is_breached) as breached from sla_events "
        "where is_breached is not null and not is_excluded group by all order by all"
    )
    assert rows == direct
    assert {row["sla_metric"] for row in rows} == set(SEVEN)


def test_case_knows_whether_any_of_its_levels_broke(levels: World) -> None:
    assert levels.case("three turns")["sla_breached"] is True
    assert levels.case("moves west")["sla_breached"] is True  # agent work, on the calendar clock
    assert levels.case("on hold")["sla_breached"] is True


def test_random_cases_agree_with_the_oracle(levels: World, cases: dict[str, Told]) -> None:
    settings = levels.settings
    teams = {group: team.name for team in settings.teams for group in team.groups}
    calendars = {team.name: team.calendar or settings.project.calendar for team in settings.teams}
    ruler = Ruler({
        calendar.name: [
            (row["open_at"], row["close_at"])
            for row in expand_calendar([calendar], at("01 00:00").date(),
                                       AS_OF.date() + timedelta(days=90)).to_pylist()
        ]
        for calendar in settings.calendars
    })  # fmt: skip
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
    for row in levels.query("select * from sla_events order by case_id, application"):
        if row["case_id"] in found:
            found[row["case_id"]].append(row)
    seen: dict[tuple[str, bool | None], int] = {}
    for name, case in cases.items():
        wanted = judge(case, settings.sla_policies, AS_OF, ruler, teams.__getitem__,
                       lambda group: str(calendars[teams[group]]))  # fmt: skip
        key = lambda row: (row["metric"], row["application"])  # noqa: E731
        got = sorted(found[name], key=key)
        wanted = sorted(wanted, key=key)
        shown = [{column: row[column] for column in (wanted or [{}])[0]} for row in got]
        for row in (*shown, *wanted):
            row["elapsed_minutes"] = round(row["elapsed_minutes"], 6)
        for row, right in zip(shown, wanted, strict=False):
            assert row == right, (name, case)
        assert len(shown) == len(wanted), (name, case)
        for row in wanted:
            kind = (row["metric"], row["is_breached"])
            seen[kind] = seen.get(kind, 0) + 1
    # Every metric was met, missed and left open by some.
    assert len(seen) == 3 * len(SEVEN), seen

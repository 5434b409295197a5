"""The step: what it rebuilds, what it leaves, and what it says when something fails."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "sql"))

from mart_world import AS_OF, OFFICE_HOURS, WEEK, World, at, make_settings

from pipelines import aggregate, config_changes, dbt_project
from pipelines.errors import HearbackError
from pipelines.mart_config import write_config

TABLES = ("cases", "sla_events", "metrics_daily", "metric_parity", "survey_responses",
          "quality_reviews", "follow_up_candidates", "customers", "orders", "feedback",
          "quality_control", "metric_records", "surges",
          "intermediate.int_case_statuses")  # fmt: skip


POLICIES = [
    {"name": "chat", "when": {"channel": ["chat"]}, "first_reply": 30},
    {"name": "low", "when": {"priority": ["low"]}, "clock": "calendar", "total_resolution": 9000},
    {"name": "standard", "first_reply": {"urgent": 60, "normal": 240}, "next_reply": 600,
     "periodic_update": 900, "requester_wait": 1500, "agent_work": 300,
     "clocks": {"agent_work": "calendar"}, "total_resolution": 3000},
]  # fmt: skip


def fill(world: World) -> None:
    """Cases in all states of life, answers, and a customer of two systems."""
    world.add_case("old", "02 02:00", status="solved", customer_ref="a")
    world.add_event("old", "02 03:00", "agent_reply")
    world.add_status("old", "02 04:00", "new", "solved")
    world.add_case("running", "19 02:00", customer_ref="b")
    world.add_event("running", "19 03:00", "agent_reply")
    world.add_event("running", "19 04:00", "customer_message", "customer")
    world.add_case("awaited", "20 11:50", customer_ref="c")
    world.add_case("solved of late", "16 02:00", status="solved", customer_ref="d")
    world.add_status("solved of late", "16 03:00", "new", "solved")
    world.add_case("to be erased", "10 02:00", customer_ref="e")
    world.add_feedback("review", "12 02:00", channel="review")
    world.add_answer("answer", "12 02:00", "csat", 5, case_id="old")
    add_figure(world, "old", "first_reply", 60, "calendar")
    add_figure(world, "old", "first_reply", 7, "business")
    add_figure(world, "solved of late", "first_resolution", 45, "calendar")
    add_figure(world, "running", "requester_wait", 9, "calendar")
    world.add_feedback("post", "11 02:00", channel="forum")
    world.add_answer("to be deleted", "09 02:00", "csat", 1, case_id="old")
    world.add_answer("of no case", "08 02:00", "nps", 0)
    for name, day, case in (("moved", "07", None), ("added to", "06", None), ("gone", "05", None),
                            ("of a case", "04", "old"), ("early", "09", "new")):  # fmt: skip
        world.add_rating(name, f"{day} 02:00", "tone", 5, case_id=case)
        world.add_rating(name, f"{day} 03:00", "solution", 2, case_id=case)
    world.put("orders", "o", order_id="o", source="support", source_order_id="o",
              customer_ref="b", ordered_at=at("01 00:00"))  # fmt: skip
    world.put("customers", "d", customer_ref="d", source="support", source_customer_id="d")
    world.put("customers", "e", customer_ref="e", source="support", source_customer_id="e")
    for name, mail in (("a", "one"), ("b", "two")):
        world.put("customers", name, customer_ref=name, source="support",
                  source_customer_id=name, email_key=mail)  # fmt: skip


def change(world: World) -> None:
    """What one more day may bring: new, late, moved, relabelled, joined."""
    world.add_case("new", "20 23:00", customer_ref="a")
    # A late reply and a late reopening of an old case.
    world.add_event("old", "02 02:30", "agent_reply")
    world.add_status("old", "20 13:00", "solved", "open")
    world.rows["cases"]["old"] |= {"status": "open", "changed_in": world.version}
    # Another policy for a case that runs, and a clock that somebody answers.
    world.add_event("awaited", "20 13:00", "priority_changed", from_value="normal", to_value="low")
    world.rows["cases"]["awaited"] |= {"priority": "low", "changed_in": world.version}
    world.add_event("running", "20 15:00", "agent_reply")
    # A new case of a customer whose earlier one was solved this week.
    world.add_case("again", "21 01:00", customer_ref="d")
    # The figure of a case of which nothing else has changed, and one that is withdrawn.
    add_figure(world, "solved of late", "first_resolution", 60, "calendar")
    world.remove("vendor_metrics", "running requester_wait calendar")
    world.add_feedback("review", "12 02:00", channel="review", label={"sentiment": "negative"})
    world.add_answer("answer", "12 02:00", "csat", 5, case_id="old")
    world.add_answer("better answer", "20 14:00", "csat", 1, case_id="old")
    world.put("customers", "b", customer_ref="b", source="support",
              source_customer_id="b", email_key="one")  # fmt: skip
    # A review that is done anew on another day, one with another rating later, one of two deleted.
    world.add_rating("moved", "10 02:00", "tone", 5)
    world.add_rating("moved", "10 02:00", "solution", 5)
    world.add_rating("added to", "14 02:00", "spelling", 1, is_critical=True)
    world.add_rating("gone", "05 02:00", "tone", 5, is_excluded=True, exclusion_reason="deleted")
    # Deleted in the source, and a customer merged into another one.
    for entity, key in (("feedback", "post"), ("survey_responses", "to be deleted"),
                        ("survey_responses", "of no case"), ("orders", "o")):  # fmt: skip
        gone = {"is_excluded": True, "exclusion_reason": "deleted"}
        row = {k: v for k, v in world.rows[entity][key].items() if k != "changed_in"}
        world.put(entity, key, **(row | gone))
    world.put("customers", "d", customer_ref="d", source="support", source_customer_id="d",
              merged_into="e", is_excluded=True, exclusion_reason="merged")  # fmt: skip


def add_figure(world: World, case_id: str, metric: str, value: float, clock: str) -> None:
    """What the help desk itself says of a case."""
    key = f"{case_id} {metric} {clock}"
    world.put("vendor_metrics", key, vendor_metric_id=key, case_id=case_id, source="support",
              metric=metric, clock=clock, value=value, updated_at=AS_OF)  # fmt: skip


def dump(world: World) -> dict[str, list[dict[str, Any]]]:
    """All rows of the stored tables, in order, sums rounded."""
    found = {}
    for table in TABLES:
        rows = world.query(f"select * from {table}")
        rounded = [
            {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()} for row in rows
        ]
        found[table] = sorted(rounded, key=repr)
    return found


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, World]:
    """The same facts, built day by day and built at once."""
    stepwise, at_once = (
        World(tmp_path_factory.mktemp(name), sla_policies=POLICIES)
        for name in ("stepwise", "at_once")
    )
    fill(stepwise)
    stepwise.commit()
    stepwise.build()
    for world in (stepwise, at_once):
        if world is at_once:
            fill(world)
        change(world)
        world.commit()
    stepwise.build(AS_OF + timedelta(days=1))
    at_once.build(AS_OF + timedelta(days=1))
    return stepwise, at_once


@pytest.mark.parametrize("table", TABLES)
def test_day_by_day_equals_at_once(worlds: tuple[World, World], table: str) -> None:
    stepwise, at_once = worlds
    assert dump(stepwise)[table] == dump(at_once)[table]


def test_only_touched_cases_are_rebuilt(worlds: tuple[World, World]) -> None:
    stepwise, _ = worlds
    rows = stepwise.query("select case_id from run.touched_cases where is_changed order by all")
    changed = [row["case_id"] for row in rows]
    assert sorted(changed) == ["again", "awaited", "new", "old", "running"]


def test_running_twice_changes_nothing(worlds: tuple[World, World]) -> None:
    stepwise, _ = worlds
    before = dump(stepwise)
    stepwise.build(AS_OF + timedelta(days=1))
    assert dump(stepwise) == before


def test_counts_close_and_erased_rows_leave_the_marts(worlds: tuple[World, World]) -> None:
    _, world = worlds
    world.remove("cases", "to be erased")
    world.remove("feedback", "opening of to be erased")
    world.commit()
    counts = world.build(AS_OF + timedelta(days=1))
    assert [(c.entity, c.count_in, c.count_out) for c in counts] == [
        ("feedback", 8, 8), ("cases", 6, 6)
    ]  # fmt: skip
    assert world.query("select 1 from cases where case_id = 'to be erased'") == []


def test_descriptions_stand_in_the_file_as_comments(worlds: tuple[World, World]) -> None:
    stepwise, _ = worlds
    bare = stepwise.query(
        "select schema_name, table_name, column_name from duckdb_columns() "
        "where not internal and comment is null"
    )
    assert bare == []
    tables = stepwise.query(
        "select table_name, comment from duckdb_tables() union all "
        "select view_name, comment from duckdb_views() where not internal"
    )
    assert [row["table_name"] for row in tables if "One row" not in (row["comment"] or "")] == []


def test_views_work_under_another_name(worlds: tuple[World, World], tmp_path: Path) -> None:
    stepwise, _ = worlds
    copy = tmp_path / "published.duckdb"
    copy.write_bytes(stepwise.home.build.read_bytes())
    with duckdb.connect() as con:
        con.execute(f"attach '{copy}' as elsewhere (read_only)")
        rows = con.execute("select count(*) from elsewhere.feedback").fetchall()
    assert rows == [(9,)]


def test_interrupted_run_is_followed_by_a_full_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    fill(world)
    world.commit()
    world.build()
    modes: list[bool] = []

    def cut_off(run: object, *, is_full: bool, with_tests: bool = False) -> None:
        modes.append(is_full)
        raise KeyboardInterrupt

    monkeypatch.setattr(aggregate, "build_marts", cut_off)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            world.build()
    assert modes == [False, True]


def test_failing_model_is_named_with_its_compiled_sql(tmp_path: Path) -> None:
    # Nothing stands in the build file yet.
    world = World(tmp_path)
    world.home.build.parent.mkdir(parents=True)
    with pytest.raises(HearbackError) as caught:
        dbt_project.invoke_dbt(world.home, ["run", "--select", "stg_feedback"])
    assert "model stg_feedback (sql/models/staging/stg_feedback.sql) failed" in caught.value.message
    assert "compiled SQL is" in caught.value.message
    assert "\n" not in caught.value.message


def test_empty_lake_gives_empty_marts(tmp_path: Path) -> None:
    world = World(
        tmp_path, calendars=[], teams=[], sla_policies=[], project={"home": str(tmp_path)}
    )
    world.build()
    assert world.query("select count(*) as n from cases") == [{"n": 0}]
    assert world.query("select count(*) as n from feedback") == [{"n": 0}]


def test_quality_of_the_models_stands_in_the_warehouse(tmp_path: Path) -> None:
    world = World(tmp_path)
    measures = [
        {"head": "need", "language": "zh", "label": "sales", "count": 9, "accuracy": 0.9,
         "precision": 0.8, "recall": 0.7, "f1": 0.75, "ece": None, "brier": None},
        {"head": "need", "language": "zh", "label": "macro", "count": 30, "accuracy": 0.85,
         "precision": 0.8, "recall": 0.8, "f1": 0.8, "ece": 0.02, "brier": 0.3},
    ]  # fmt: skip
    for version in ("1.0-old", "1.0-new"):
        folder = world.home.models / version
        folder.mkdir(parents=True)
        metadata = {"model_version": version, "measures": measures}
        (folder / "metadata.json").write_text(json.dumps(metadata))
    (world.home.models / "current").write_text("1.0-new\n")
    world.commit()
    world.build()
    rows = world.query("select * from model_quality order by is_current, label desc")
    assert [row["model_version"] for row in rows] == ["1.0-old"] * 2 + ["1.0-new"] * 2
    assert [row["is_current"] for row in rows] == [False, False, True, True]
    assert (rows[0]["example_count"], rows[0]["f1"], rows[0]["ece"]) == (9, 0.75, None)
    assert (rows[1]["label"], rows[1]["ece"], rows[1]["brier"]) == ("macro", 0.02, 0.3)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"name": "unanswered_complain"}, "did you mean 'unanswered_complaint'"),
        (
            {"name": "unanswered_complaint", "thresholds": {"hour": 2}},
            "no threshold 'hour', did you mean 'hours'",
        ),
    ],
)
def test_unknown_rule_or_threshold_is_named(
    tmp_path: Path, rule: dict[str, Any], message: str
) -> None:
    world = World(tmp_path, follow_up_rules=[rule])
    with pytest.raises(HearbackError, match=message):
        world.build()


def test_rules_are_switched_off_and_tuned(tmp_path: Path) -> None:
    rules = [
        {"name": "first_reply_at_risk", "thresholds": {"hours": 10_000}},
        {"name": "low_satisfaction_after_resolution", "enabled": False},
    ]
    world = World(tmp_path, follow_up_rules=rules)
    fill(world)
    world.add_answer("bad answer", "14 02:00", "nps", 0, case_id="old")
    world.commit()
    world.build()
    rows = world.query("select rule, case_id from follow_up_candidates order by all")
    assert {row["rule"] for row in rows} == {"first_reply_at_risk"}
    assert "awaited" in {row["case_id"] for row in rows}


def test_other_service_levels_rebuild_only_the_cases_they_may_judge_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat, low, standard = POLICIES
    changed = [{**chat, "first_reply": 10}, low, standard]

    def fill_more(world: World) -> None:
        fill(world)
        world.add_case("chat", "03 02:00", status="solved", channel="chat")
        world.add_event("chat", "03 02:20", "agent_reply")
        world.add_status("chat", "03 03:00", "new", "solved")
        world.commit()

    stepwise = World(tmp_path / "stepwise", sla_policies=POLICIES)
    fill_more(stepwise)
    stepwise.build()
    modes: list[bool] = []
    build_marts = aggregate.build_marts

    def watch(run: Any, *, is_full: bool, with_tests: bool = False) -> Any:
        modes.append(is_full)
        return build_marts(run, is_full=is_full, with_tests=with_tests)

    monkeypatch.setattr(aggregate, "build_marts", watch)
    stepwise.settings = make_settings(tmp_path / "stepwise", sla_policies=changed)
    stepwise.build()
    at_once = World(tmp_path / "at_once", sla_policies=changed)
    fill_more(at_once)
    at_once.build()
    found, wanted = dump(stepwise), dump(at_once)
    for table in TABLES:
        assert found[table] == wanted[table], table
    touched = stepwise.query("select case_id from run.touched_cases where is_changed")
    assert [row["case_id"] for row in touched] == ["chat"]
    assert modes == [False, True]
    # It was broken at the thirtieth minute before, and now at the tenth.
    [event] = stepwise.query("select target_minutes from sla_events where case_id = 'chat'")
    assert event["target_minutes"] == 10


LEVELS = [
    {"name": "promised", "when": {"tag": ["promised"]}, "first_reply": 240},
    {"name": "gold", "when": {"segment": ["gold"]}, "clock": "calendar", "first_reply": 15},
]
HOURS = dict.fromkeys(WEEK, OFFICE_HOURS)
CHINA, BERLIN = (
    {"name": name, "time_zone": zone, "hours": HOURS, "closed": [date(2026, 10, 1)]}
    for name, zone in (("china", "Asia/Shanghai"), ("berlin", "Europe/Berlin"))
)
BILLING = {"name": "Billing", "groups": ["billing", "invoices"]}
EUROPE = {"name": "Europe", "groups": ["eu"], "calendar": "berlin"}
NIGHT = {"name": "Night", "groups": ["night"], "calendar": "berlin"}
DESK, CRM, SHOP = (
    {"name": name, "kind": kind}
    for name, kind in (("support", "zendesk"), ("crm", "salesforce"), ("shop", "zendesk"))
)


def add_two_teams(world: World) -> None:
    """Solved cases on two calendars, and customers whom a system of record joins."""
    world.add_case("berlin", "04 08:00", status="solved", source_group="eu")
    world.add_event("berlin", "04 09:00", "agent_reply")
    world.add_answer("late in the evening", "11 20:00", "csat", 2, case_id="berlin")
    world.add_rating("as late", "14 20:00", "tone", 4, case_id="berlin")
    world.add_status("berlin", "04 14:00", "new", "solved")
    world.add_case("handed over", "05 02:00", status="solved", source_group="eu")
    world.add_event("handed over", "05 09:00", "group_changed", from_value="billing",
                    to_value="eu")  # fmt: skip
    world.add_status("handed over", "05 10:00", "new", "solved")
    # Answered at once: the promise would have been broken on the morning of the thirteenth.
    world.add_case("promised", "12 15:00", status="solved", source_group="eu", tags=["promised"])
    world.add_event("promised", "12 15:30", "agent_reply")
    world.add_status("promised", "12 15:30", "new", "solved")
    world.add_case("running", "16 02:00")
    world.add_case("quick", "18 02:00", status="solved")
    world.add_status("quick", "18 02:30", "new", "solved")
    world.add_case("figure", "06 02:00", status="solved")
    world.add_status("figure", "06 03:00", "new", "solved")
    add_figure(world, "figure", "full_resolution", 7, "business")
    # Of one person, by the id of the system of record.
    world.add_case("first", "09 02:00", status="solved", source_group="night", customer_ref="crm 1")
    world.add_status("first", "09 03:00", "new", "solved")
    world.add_case("second", "10 02:00", status="solved", customer_ref="shop 1")
    world.add_status("second", "10 03:00", "new", "solved")
    world.add_case("of gold", "03 02:00", status="solved", customer_ref="crm 2")
    world.add_event("of gold", "03 02:30", "agent_reply")
    world.add_status("of gold", "03 03:00", "new", "solved")
    for number in ("1", "2"):
        world.put("customers", f"crm {number}", customer_ref=f"crm {number}", source="crm",
                  source_customer_id=number)  # fmt: skip
        world.put("customers", f"shop {number}", customer_ref=f"shop {number}", source="shop",
                  source_customer_id=f"s{number}", external_id=number, segment="gold")  # fmt: skip


@pytest.fixture(scope="module")
def two_teams(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("two teams"), sla_policies=LEVELS,
                  calendars=[CHINA, BERLIN], sources=[DESK, CRM, SHOP])  # fmt: skip
    add_two_teams(world)
    world.commit()
    world.build()
    return world


def close(calendar: dict[str, Any], day: int, month: int = 3) -> dict[str, Any]:
    return {**calendar, "closed": [date(2026, month, day), *calendar["closed"]]}


@pytest.mark.parametrize(
    ("changes", "concerned"),
    [
        ({}, set()),
        ({"calendars": [CHINA, close(BERLIN, 4)]}, {"berlin", "figure"}),
        ({"calendars": [CHINA, close(BERLIN, 5)]}, {"handed over", "figure"}),
        ({"calendars": [close(CHINA, 5), BERLIN]}, {"handed over", "figure"}),
        ({"calendars": [close(CHINA, 18), BERLIN]}, {"quick", "running", "figure"}),
        ({"calendars": [CHINA, close(BERLIN, 13)]}, {"promised", "figure"}),
        # A Saturday is closed anyway, and in August nothing of this is left.
        ({"calendars": [CHINA, close(BERLIN, 7)]}, set()),
        ({"calendars": [CHINA, close(BERLIN, 3, month=8)]}, set()),
        ({"calendars": [CHINA, BERLIN, {**BERLIN, "valid_from": date(2026, 3, 5), "hours": {}}]},
         {"handed over", "promised", "figure"}),
        # Any calendar may explain a figure.
        ({"calendars": [CHINA, BERLIN, {**CHINA, "name": "spare"}]}, {"figure"}),
        ({"teams": [BILLING, EUROPE, NIGHT]}, {"first"}),
        ({"teams": [BILLING, {**EUROPE, "name": "EMEA"}]}, {"berlin", "handed over", "promised"}),
        ({"teams": [BILLING, {**EUROPE, "calendar": "china"}]},
         {"berlin", "handed over", "promised"}),
        ({"teams": [{**BILLING, "groups": ["billing", "night"]}, EUROPE]}, {"first"}),
        ({"teams": [EUROPE, {**BILLING, "needs": ["sales"], "lead_email": "a@b.example"}]}, set()),
    ],
)  # fmt: skip
def test_other_hours_and_teams_concern_some_cases(
    two_teams: World, tmp_path: Path, changes: dict[str, Any], concerned: set[str]
) -> None:
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(two_teams.home.build.read_bytes())
    usual = {"sla_policies": LEVELS, "calendars": [CHINA, BERLIN]}
    settings = make_settings(tmp_path, **(usual | changes))
    with duckdb.connect(str(copy)) as con:
        write_config(con, settings, date(2026, 2, 1), date(2027, 4, 1), "other")
        queries = config_changes.list_team_queries(con)
        queries += config_changes.list_calendar_queries(con)
        found = {case for query in queries for case, _ in con.execute(query).fetchall()}
    assert found == concerned


def test_other_hours_teams_and_sources_give_what_building_at_once_gives(
    two_teams: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All teams leave the zone in which what the evenings brought was counted; and the system of
    # record, by which two customers were one, is none any more.
    after = {
        "sla_policies": LEVELS,
        "sources": [DESK, {**CRM, "kind": "zendesk"}, SHOP],
        "teams": [BILLING, {**EUROPE, "calendar": "china"}],
        "calendars": [close(CHINA, 12), BERLIN],
    }
    shutil.copytree(two_teams.settings.home, tmp_path / "stepwise")
    stepwise, at_once = (World(tmp_path / name, **after) for name in ("stepwise", "at once"))
    add_two_teams(at_once)
    at_once.commit()
    modes: list[bool] = []
    build_marts = aggregate.build_marts

    def watch(run: Any, *, is_full: bool, with_tests: bool = False) -> Any:
        modes.append(is_full)
        return build_marts(run, is_full=is_full, with_tests=with_tests)

    monkeypatch.setattr(aggregate, "build_marts", watch)
    stepwise.build()
    at_once.build()
    found, wanted = dump(stepwise), dump(at_once)
    for table in TABLES:
        assert found[table] == wanted[table], table
    assert modes == [False, True]
    assert stepwise.case("first")["first_contact_resolved"]
    all_cases = {row["case_id"] for row in stepwise.query("select case_id from cases")}
    rebuilt = {row["case_id"] for row in stepwise.query("from intermediate.int_touched_cases")}
    assert all_cases - rebuilt == {"quick"}


def test_what_makes_all_marts_wrong_and_what_does_not(tmp_path: Path) -> None:
    person = {"name": "Ann", "email": "ann@example.com"}

    def mark(**changes: Any) -> str:
        return aggregate.fingerprint(make_settings(tmp_path, **changes))

    assert mark() == mark(teams=[{"name": "Billing", "members": [person]}])
    assert mark() == mark(sla_policies=[], sources=[])
    assert mark() == mark(calendars=[CHINA], teams=[])
    zone = {"home": str(tmp_path), "time_zone": "Europe/Berlin", "calendar": "china"}
    assert mark() != mark(project=zone)
    assert mark() != mark(project={**zone, "time_zone": "Asia/Shanghai", "calendar": "berlin"})


def test_an_unchanged_list_and_another_order_of_service_levels() -> None:
    named = [
        {"name": name, "when": {"channel": channel, "tag": []}}
        for name, channel in (("a", ["chat"]), ("b", ["it's"]))
    ]
    assert config_changes.list_policy_queries(named, named) == []
    turned = config_changes.list_policy_queries(named, named[::-1])
    assert len(turned) == 2
    assert "channel in ('it''s')" in turned[0]


def test_a_level_that_applies_no_more_leaves_the_marts(tmp_path: Path) -> None:
    world = World(tmp_path, sla_policies=[{"name": "urgent", "when": {"priority": ["urgent"]},
                                           "first_reply": 60}])  # fmt: skip
    world.add_case("calmed", "18 02:00", priority="urgent")
    world.commit()
    world.build()
    assert len(world.query("select 1 from sla_events")) == 1
    world.rows["cases"]["calmed"] |= {"priority": "low", "changed_in": world.version}
    world.commit()
    world.build()
    assert world.query("select 1 from sla_events") == []
    assert world.case("calmed")["sla_breached"] is None

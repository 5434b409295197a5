from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines import follow_up
from pipelines.context import StepCount
from pipelines.errors import HearbackError
from pipelines.settings import Settings
from pipelines.storage import Home
from pipelines.task_store import erase_customer, open_store, to_micros, write_tasks
from pipelines.task_tables import read_replies
from pipelines.tasks import complete_task
from tests.pipelines.follow_up_world import (
    CONFIG,
    NOW,
    candidate,
    make_run,
    make_settings,
    read_build,
    write_candidates,
)

DAY = timedelta(days=1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path)


def merge(
    settings: Settings, rows: list[dict[str, Any]], now: datetime = NOW, run_id: str = "r1"
) -> StepCount:
    write_candidates(settings, rows)
    return follow_up.run(make_run(settings, now, run_id))[0]


def set_state(settings: Settings, changes: str, where: str = "true") -> None:
    """Change tasks as a person would."""
    with write_tasks(Home(settings).tasks) as (con, revision):
        con.execute(f"update tasks set {changes}, revision = {revision} where {where}")


def read_tasks(settings: Settings, columns: str) -> list[tuple[Any, ...]]:
    return read_build(settings, f"select {columns} from follow_up_tasks order by task_id")


def read_events(settings: Settings) -> list[tuple[Any, ...]]:
    return read_build(
        settings,
        "select event_type, from_value, to_value, note from follow_up_events order by event_id",
    )


def test_task_holds_what_the_rule_says(settings: Settings) -> None:
    merge(settings, [candidate()])
    row = read_build(
        settings,
        "select rule, reason, evidence, customer_id, case_id, team, owner, priority, score, status,"
        " suggested_action, language, url, is_holdout, outcome, created_at, due_at"
        " from follow_up_tasks",
    )[0]
    assert row[:13] == (
        "complaint_open", "A complaint has no answer", ["f1"], "u1", "c1", "support", "Bo", "high",
        1.0, "open", "Answer the customer", "en", "https://desk.example/c1",
    )  # fmt: skip
    assert row[13] is False
    assert row[14] is None
    assert row[15] == NOW


def test_due_time_counts_the_teams_open_minutes(settings: Settings) -> None:
    # 11:30 in Shanghai + 60 minutes, with lunch from 12:00 to 13:30: 14:00.
    at_half_past = datetime(2026, 11, 18, 3, 30, tzinfo=UTC)
    merge(settings, [candidate()], now=at_half_past)
    assert read_tasks(settings, "due_at") == [(datetime(2026, 11, 18, 6, 0, tzinfo=UTC),)]


def test_due_time_counts_from_the_first_list_for_ever(settings: Settings) -> None:
    # The cause is from 11:30, the first list from 12:00, in the lunch break: 13:30 + 60 minutes.
    merge(settings, [candidate()])
    merge(settings, [candidate()], now=NOW + timedelta(days=1), run_id="r2")
    assert read_tasks(settings, "due_at") == [(datetime(2026, 11, 18, 6, 30, tzinfo=UTC),)]


def test_due_time_of_the_rule_is_kept(settings: Settings) -> None:
    due = datetime(2026, 11, 22, 1, 2, tzinfo=UTC)
    merge(settings, [candidate(due_at=due)])
    assert read_tasks(settings, "due_at") == [(due,)]


def test_due_time_without_calendar_counts_every_minute(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, config='[project]\nhome = "home"\n')
    merge(settings, [candidate()])
    assert read_tasks(settings, "due_at") == [(datetime(2026, 11, 18, 5, 0, tzinfo=UTC),)]


def test_rerun_changes_nothing(settings: Settings) -> None:
    merge(settings, [candidate(), candidate(case_id="c2")])
    before = read_tasks(settings, "*"), read_events(settings)
    count = merge(settings, [candidate(case_id="c2"), candidate()], NOW, "r2")
    assert (read_tasks(settings, "*"), read_events(settings)) == before
    assert (count.count_out, count.count_unchanged) == (0, 2)


def test_person_s_work_survives_reruns(settings: Settings) -> None:
    merge(settings, [candidate()])
    [(task_id, owner, created)] = read_tasks(settings, "task_id, owner, created_at")
    complete_task(settings, task_id, "solved")
    later = datetime.now(UTC) + DAY
    merge(settings, [candidate(reason="It still has no answer", score=9.0)], later, "r2")
    assert read_tasks(settings, "task_id, owner, created_at, status, outcome") == [
        (task_id, owner, created, "done", "solved")
    ]


def test_live_task_follows_the_rule(settings: Settings) -> None:
    merge(settings, [candidate()])
    before = read_tasks(settings, "task_id, owner, created_at")
    merge(settings, [candidate(priority="urgent", reason="Now urgent")], NOW + DAY, "r2")
    assert read_tasks(settings, "task_id, owner, created_at") == before
    assert read_tasks(settings, "priority, reason") == [("urgent", "Now urgent")]
    assert ("priority_changed", "high", "urgent", None) in read_events(settings)


def test_candidates_of_one_cause_make_one_task(settings: Settings) -> None:
    count = merge(
        settings,
        [
            candidate(evidence=["f2"], priority="low", score=5.0, reason="low"),
            candidate(evidence=["f1", "f2"], priority="urgent", reason="urgent"),
            candidate(evidence=None, priority="normal"),
        ],
    )
    assert read_tasks(settings, "evidence, priority, reason") == [
        (["f1", "f2"], "urgent", "urgent")
    ]
    assert (count.count_in, count.count_out, count.count_duplicate) == (3, 1, 2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"feedback_id": "f7"}),
        ({"case_id": None, "feedback_id": "f1"}, {"customer_id": "u2"}),
        ({"case_id": None, "feedback_id": None}, {"evidence": ["f8", "f9"]}),
    ],
)
def test_same_cause_keeps_its_id(
    settings: Settings, first: dict[str, Any], second: dict[str, Any]
) -> None:
    merge(settings, [candidate(**first)])
    before = read_tasks(settings, "task_id")
    merge(settings, [candidate(**{**first, **second})], NOW + DAY, "r2")
    assert read_tasks(settings, "task_id") == before


def test_different_causes_have_different_ids(settings: Settings) -> None:
    rows = [
        candidate(),
        candidate(rule="other_rule"),
        candidate(case_id="c2"),
        candidate(case_id=None, feedback_id="c1"),
        candidate(case_id=None, customer_id="c1"),
    ]
    merge(settings, rows)
    assert len({row[0] for row in read_tasks(settings, "task_id")}) == 5


# causes that go and come back -----------------------------------------------------------------


def test_gone_cause_closes_its_task(settings: Settings) -> None:
    merge(settings, [candidate(), candidate(case_id="c2")])
    count = merge(settings, [candidate(case_id="c2")], NOW + DAY, "r2")
    assert read_build(
        settings, "select status, outcome, status_by from follow_up_tasks where case_id = 'c1'"
    ) == [("cancelled", "cause gone", "hearback")]
    assert ("status_changed", "open", "cancelled", "cause gone") in read_events(settings)
    assert "1 gone" in str(count.detail)


def test_returning_cause_reopens_its_task(settings: Settings) -> None:
    merge(settings, [candidate()])
    before = read_tasks(settings, "task_id, owner, created_at")
    merge(settings, [], NOW + DAY, "r2")
    merge(settings, [candidate()], NOW + 5 * DAY, "r3")
    assert read_tasks(settings, "task_id, owner, created_at") == before
    assert read_tasks(settings, "status, outcome") == [("open", None)]
    assert ("reopened", "cancelled", "open", "the cause is back") in read_events(settings)


def test_cause_that_returns_late_gets_a_new_task(settings: Settings) -> None:
    merge(settings, [candidate()])
    merge(settings, [], NOW + DAY, "r2")
    count = merge(settings, [candidate()], NOW + 20 * DAY, "r3")
    assert count.count_out == 1
    assert sorted(read_tasks(settings, "episode, status")) == [(1, "cancelled"), (2, "open")]
    ids = read_tasks(settings, "task_id")
    merge(settings, [candidate()], NOW + 21 * DAY, "r4")
    assert read_tasks(settings, "task_id") == ids


def test_window_of_return_is_a_threshold_of_the_rule(tmp_path: Path) -> None:
    settings = make_settings(
        tmp_path,
        '[[follow_up_rules]]\nname = "complaint_open"\nthresholds = { reopen_days = 30 }\n',
    )
    merge(settings, [candidate()])
    merge(settings, [], NOW + DAY, "r2")
    merge(settings, [candidate()], NOW + 20 * DAY, "r3")
    assert read_tasks(settings, "episode, status") == [(1, "open")]


def test_done_task_stays_done_while_its_cause_lasts(settings: Settings) -> None:
    merge(settings, [candidate()])
    complete_task(settings, read_tasks(settings, "task_id")[0][0])
    merge(settings, [candidate(evidence=["f1", "f2"])], datetime.now(UTC) + DAY, "r2")
    assert read_tasks(settings, "status") == [("done",)]


def test_done_task_reopens_when_it_happens_again(settings: Settings) -> None:
    merge(settings, [candidate()])
    complete_task(settings, read_tasks(settings, "task_id")[0][0])
    again = datetime.now(UTC) + timedelta(hours=2)
    merge(settings, [candidate(evidence=["f1", "f2"], occurred_at=again)], again, "r2")
    assert read_tasks(settings, "status, episode") == [("open", 1)]


def test_what_a_person_cancelled_stays_cancelled(settings: Settings) -> None:
    merge(settings, [candidate()])
    set_state(settings, "status = 'cancelled', status_by = 'An'")
    merge(settings, [], NOW + DAY, "r2")
    merge(settings, [candidate()], NOW + 2 * DAY, "r3")
    assert read_tasks(settings, "status") == [("cancelled",)]


def test_long_overdue_task_expires_unless_taken_up(settings: Settings) -> None:
    merge(settings, [candidate(), candidate(case_id="c2")])
    set_state(settings, "status = 'in_progress'", "case_id = 'c2'")
    rows = [candidate(), candidate(case_id="c2")]
    merge(settings, rows, NOW + 40 * DAY, "r2")
    assert read_build(settings, "select case_id, status from follow_up_tasks order by 1") == [
        ("c1", "expired"),
        ("c2", "in_progress"),
    ]


def test_snoozed_task_wakes(settings: Settings) -> None:
    merge(settings, [candidate()])
    until = to_micros(NOW + 2 * DAY)
    set_state(settings, f"status = 'snoozed', snoozed_until = {until}")
    merge(settings, [candidate()], NOW + DAY, "r2")
    assert read_tasks(settings, "status") == [("snoozed",)]
    merge(settings, [candidate()], NOW + 3 * DAY, "r3")
    assert read_tasks(settings, "status, snoozed_until") == [("open", None)]
    assert ("status_changed", "snoozed", "open", "snooze ended") in read_events(settings)


def test_earlier_day_leaves_the_tasks_alone(settings: Settings) -> None:
    merge(settings, [candidate()])
    before = read_tasks(settings, "*")
    count = merge(settings, [], NOW - 3 * DAY, "r2")
    assert read_tasks(settings, "*") == before
    assert "a later day was merged already" in str(count.detail)


def test_switched_off_rule_makes_no_tasks(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    merge(settings, [candidate()])
    settings = make_settings(
        tmp_path, '[[follow_up_rules]]\nname = "complaint_open"\nenabled = false\n'
    )
    merge(settings, [candidate()], NOW + DAY, "r2")
    assert read_tasks(settings, "status, outcome") == [("cancelled", "rule switched off")]


# who may be contacted -------------------------------------------------------------------------


def add_people(settings: Settings, status: str = "open") -> None:
    import duckdb

    with duckdb.connect(str(Home(settings).build)) as con:
        con.execute("create table customers as select 'u1' customer_id, true do_not_contact")
        con.execute(f"create table cases as select 'c1' case_id, '{status}' status")


@pytest.mark.parametrize(
    ("rule", "status", "made"),
    [
        ("low_satisfaction", "open", 0),
        ("first_reply_at_risk", "open", 1),
        ("first_reply_at_risk", "solved", 0),
    ],
)
def test_do_not_contact_leaves_only_duties(
    settings: Settings, rule: str, status: str, made: int
) -> None:
    write_candidates(settings, [candidate(rule=rule)])
    add_people(settings, status)
    count = follow_up.run(make_run(settings))[0]
    assert (count.count_out, count.count_quarantined) == (made, 1 - made)


# owners ---------------------------------------------------------------------------------------


def test_do_not_contact_holds_for_duties_without_a_case(settings: Settings) -> None:
    write_candidates(
        settings, [candidate(rule="unanswered_complaint", case_id=None, feedback_id="f1")]
    )
    add_people(settings)
    count = follow_up.run(make_run(settings))[0]
    assert (count.count_out, count.count_quarantined) == (0, 1)


def owners(settings: Settings) -> dict[str | None, int]:
    rows = read_build(settings, "select owner, count(*) from follow_up_tasks group by 1")
    return dict(rows)


def test_members_take_no_more_than_their_capacity(settings: Settings) -> None:
    count = merge(settings, [candidate(case_id=f"c{n}") for n in range(10)])
    assert owners(settings) == {"An": 4, "Bo": 2, None: 4}
    assert "4 tasks of team 'support' without an owner: no room left today" in str(count.detail)


def test_tasks_of_one_case_go_to_one_person(settings: Settings) -> None:
    rows = [candidate(case_id=f"c{n}") for n in range(5)]
    rows += [candidate(case_id=f"c{n}", rule="other_rule", priority="low") for n in range(5)]
    merge(settings, rows)
    assert read_build(
        settings,
        "select count(*) from (select case_id from follow_up_tasks group by case_id "
        "having count(distinct owner) = 1 and count(owner) = 2)",
    ) == [(5,)]
    merge(settings, [*rows, candidate(case_id="c1", rule="third_rule")], NOW + DAY, "r2")
    assert read_build(
        settings,
        "select count(distinct owner), count(owner) from follow_up_tasks where case_id = 'c1'",
    ) == [(1, 3)]


def test_load_is_shared_in_proportion(tmp_path: Path) -> None:
    settings = make_settings(
        tmp_path,
        '[[teams]]\nname = "big"\nmembers = [\n'
        '{ name = "A", email = "a@x.example", daily_capacity = 30 },\n'
        '{ name = "B", email = "b@x.example", daily_capacity = 10 },\n'
        '{ name = "C", email = "c@x.example", daily_capacity = 0 }]\n',
    )
    merge(settings, [candidate(case_id=f"c{n}", team="big") for n in range(20)])
    assert owners(settings) == {"A": 15, "B": 5}


def test_most_urgent_tasks_are_given_out_first(settings: Settings) -> None:
    rows = [candidate(case_id=f"n{n}", priority="low") for n in range(9)]
    merge(settings, [*rows, candidate(case_id="now", priority="urgent")])
    assert read_build(
        settings, "select owner is not null from follow_up_tasks where case_id = 'now'"
    ) == [(True,)]


def test_only_those_who_speak_the_language_get_it(settings: Settings) -> None:
    merge(settings, [candidate(case_id=f"c{n}", language="zh-CN") for n in range(6)])
    assert owners(settings) == {"An": 4, None: 2}


def test_who_is_off_today_gets_nothing(tmp_path: Path) -> None:
    """Bo works on Thursdays only, by a calendar of their own."""
    config = CONFIG.replace("daily_capacity = 2 }", 'daily_capacity = 2, calendar = "thursdays" }')
    calendar = '[[calendars]]\nname = "thursdays"\ntime_zone = "Asia/Shanghai"\n'
    extra = calendar + '[calendars.hours]\nthursday = ["09:00-12:00"]\n'
    settings = make_settings(tmp_path, extra, config)
    rows = [candidate(case_id=f"c{n}") for n in range(10)]
    merge(settings, rows)
    assert owners(settings) == {"An": 4, None: 6}
    merge(settings, rows, NOW + DAY, "r2")
    assert owners(settings) == {"An": 8, "Bo": 2}


def test_nobody_gets_work_on_a_day_off_of_all(settings: Settings) -> None:
    count = merge(settings, [candidate()], NOW + 4 * DAY)
    assert owners(settings) == {None: 1}
    assert "1 task of team 'support' without an owner: nobody there works today" in str(
        count.detail
    )


def test_room_comes_back_the_next_day(settings: Settings) -> None:
    rows = [candidate(case_id=f"c{n}") for n in range(10)]
    merge(settings, rows)
    merge(settings, rows, NOW + timedelta(hours=2), "r2")
    assert owners(settings)[None] == 4
    merge(settings, rows, NOW + DAY, "r3")
    assert None not in owners(settings)


def test_owner_is_kept(settings: Settings) -> None:
    rows = [candidate(case_id=f"c{n}") for n in range(6)]
    merge(settings, rows)
    before = read_tasks(settings, "task_id, owner")
    merge(settings, rows, NOW + 3 * DAY, "r2")
    assert read_tasks(settings, "task_id, owner") == before


def test_work_of_one_who_left_is_given_to_others(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    merge(settings, [candidate()])
    assert owners(settings) == {"Bo": 1}
    settings = settings.model_copy(
        update={
            "teams": [
                team.model_copy(update={"members": [m for m in team.members if m.name != "Bo"]})
                for team in settings.teams
            ]
        }
    )
    merge(settings, [candidate()], NOW + DAY, "r2")
    assert owners(settings) == {"An": 1}


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({"team": "nowhere"}, "of team 'nowhere', which is not in the configuration"),
        ({"team": None, "need": "sales"}, "without a team"),
        ({"language": "ja"}, "nobody there speaks 'ja'"),
    ],
)
def test_task_without_owner_is_made_and_warned_of(
    settings: Settings, values: dict[str, Any], warning: str
) -> None:
    count = merge(settings, [candidate(**values)])
    assert owners(settings) == {None: 1}
    assert warning in str(count.detail)


def test_team_is_found_by_need(settings: Settings) -> None:
    merge(settings, [candidate(team=None, need="after_sales", language="zh")])
    assert read_tasks(settings, "team, owner") == [("售后", "陈晨")]


def test_empty_team_is_warned_of(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, '[[teams]]\nname = "empty"\n')
    count = merge(settings, [candidate(team="empty")])
    assert "it has no members" in str(count.detail)


# tables ---------------------------------------------------------------------------------------


def test_reply_is_in_the_customers_language(settings: Settings) -> None:
    merge(settings, [candidate(language="zh"), candidate(case_id="c2", language="fr")])
    replies = {row[0]: row[1] for row in read_tasks(settings, "language, suggested_reply")}
    assert "您好" in replies["zh"]
    assert replies["fr"].isascii()


@pytest.mark.parametrize(
    ("languages", "expected"),
    [
        ('["en", "zh"]', {"zh": "zh", "en": "en", "fr": "en"}),
        ('["zh", "en"]', {"zh": "zh", "en": "en", "fr": "zh"}),
        ('["en"]', {"zh": "en", "en": "en", "fr": "en"}),
        ('["fr", "zh"]', {"zh": "zh", "en": "zh", "fr": "zh"}),
        ('["fr"]', {"zh": "en", "en": "en", "fr": "en"}),
    ],
)
def test_reply_is_in_a_language_of_the_project(
    tmp_path: Path, languages: str, expected: dict[str, str]
) -> None:
    config = CONFIG.replace("[project]\n", f"[project]\nlanguages = {languages}\n")
    settings = make_settings(tmp_path, config=config)
    merge(settings, [candidate(language=name, case_id=f"c-{name}") for name in expected])
    replies = dict(read_tasks(settings, "language, suggested_reply"))
    assert {name: "zh" if "您好" in reply else "en" for name, reply in replies.items()} == expected


def test_every_rule_has_a_reply_in_both_languages() -> None:
    files = (Path(__file__).parents[2] / "sql" / "models" / "follow_up").glob("rule_*.sql")
    rules = {path.stem.removeprefix("rule_") for path in files}
    replies = read_replies()
    assert rules
    assert rules <= set(replies)
    assert all(set(texts) == {"en", "zh"} for texts in replies.values())


def test_lists_in_chinese_have_chinese_reasons(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, '[delivery]\nlanguage = "zh"\n')
    merge(settings, [candidate()])
    assert read_tasks(settings, "reason, suggested_action") == [("投诉尚未回复", "回复客户")]


def test_tables_and_columns_are_described(settings: Settings) -> None:
    merge(settings, [candidate()])
    assert read_build(
        settings,
        "select count(*) from duckdb_columns() "
        "where table_name in ('follow_up_tasks', 'follow_up_events') and comment is null",
    ) == [(0,)]
    rows = read_build(
        settings, "select comment from duckdb_tables() where table_name = 'follow_up_tasks'"
    )
    assert "One row per task" in rows[0][0]


def test_new_build_file_gets_the_whole_history(settings: Settings) -> None:
    merge(settings, [candidate()])
    merge(settings, [], NOW + DAY, "r2")
    before = read_tasks(settings, "*"), read_events(settings)
    Home(settings).build.unlink()
    merge(settings, [], NOW + 2 * DAY, "r3")
    assert (read_tasks(settings, "*"), read_events(settings)) == before


def test_erased_customer_leaves_the_tables(settings: Settings) -> None:
    merge(settings, [candidate(), candidate(case_id="c2", customer_id="u2")])
    assert erase_customer(Home(settings).tasks, ["u1"]) == 1
    merge(settings, [candidate(case_id="c2", customer_id="u2")], NOW, "r2")
    assert read_tasks(settings, "customer_id") == [("u2",)]
    assert {row[0] for row in read_build(settings, "select task_id from follow_up_events")} == {
        row[0] for row in read_tasks(settings, "task_id")
    }


def test_a_store_made_anew_replaces_what_the_tables_held(settings: Settings) -> None:
    merge(settings, [candidate(reason="old"), candidate(case_id="c2", reason="old")])
    for path in Home(settings).tasks.parent.glob(f"{Home(settings).tasks.name}*"):
        path.unlink()
    merge(settings, [candidate(reason="new"), candidate(case_id="c2", reason="new")], run_id="r2")
    assert read_tasks(settings, "reason, revision") == [("new", 1), ("new", 1)]
    assert {row[0] for row in read_build(settings, "select run_id from follow_up_events")} == {"r2"}


def test_a_store_from_a_backup_replaces_what_came_after_it(settings: Settings) -> None:
    store = Home(settings).tasks
    merge(settings, [candidate(), candidate(case_id="c2")])
    shutil.copy(store, kept := store.with_name("kept"))
    set_state(settings, "status = 'done'", "case_id = 'c2'")
    merge(settings, [candidate(), candidate(case_id="c2")], NOW, "r2")
    assert sorted(read_tasks(settings, "status")) == [("done",), ("open",)]
    for path in store.parent.glob(f"{store.name}*"):
        path.unlink()
    shutil.copy(kept, store)
    for _ in range(3):  # its revisions count on, past what the tables have seen
        set_state(settings, "outcome = 'called'", "case_id <> 'c2'")
    merge(settings, [candidate(), candidate(case_id="c2")], NOW, "r3")
    assert read_tasks(settings, "status") == [("open",), ("open",)]


def test_an_erased_task_leaves_the_tables_when_as_many_have_come(settings: Settings) -> None:
    merge(settings, [candidate(), candidate(case_id="c2", customer_id="u2")])
    assert erase_customer(Home(settings).tasks, ["u1"]) == 1
    merge(settings, [candidate(case_id=c, customer_id="u2") for c in ("c2", "c3")], NOW, "r2")
    assert sorted(read_tasks(settings, "case_id")) == [("c2",), ("c3",)]


def test_history_cannot_be_rewritten(settings: Settings) -> None:
    merge(settings, [candidate()])
    con = open_store(Home(settings).tasks)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        con.execute("update events set actor = 'someone'")
    con.close()


def test_missing_build_file_says_what_to_run(settings: Settings) -> None:
    with pytest.raises(HearbackError, match="run 'hearback aggregate' first"):
        follow_up.run(make_run(settings))


def test_killed_merge_is_finished_by_the_next_run(settings: Settings) -> None:
    write_candidates(settings, [candidate(case_id=f"c{n}") for n in range(3)])
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.pipelines.follow_up_world import make_run\n"
        "from pipelines import follow_up\n"
        "from pipelines.settings import load_settings\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "setattr(follow_up, sys.argv[2], die)\n"
        "follow_up.run(make_run(load_settings(Path(sys.argv[1]))))\n"
    )
    for place in ("close_gone", "write_tables"):  # before and after the store's commit
        done = subprocess.run(
            [sys.executable, "-c", script, settings.path, place],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            check=False,
        )
        assert done.returncode == -signal.SIGKILL
    follow_up.run(make_run(settings, run_id="r2"))
    assert len(read_tasks(settings, "task_id")) == 3
    assert [row[0] for row in read_events(settings)].count("created") == 3

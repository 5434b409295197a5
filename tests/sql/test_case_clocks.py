"""Case clocks: events in, columns of ``cases`` out."""

from __future__ import annotations

import pytest
from mart_world import World, at


def test_case_solved_without_reply_has_touch_none(golden: World) -> None:
    assert golden.case("automated")["touch"] == "none"


def test_case_opened_by_agent_has_touch_one(golden: World) -> None:
    assert golden.case("outbound")["touch"] == "one"


def test_first_reply_of_case_opened_by_agent_is_the_later_comment(golden: World) -> None:
    assert golden.case("outbound")["first_reply_minutes"] == 90


def test_opening_by_agent_is_not_counted_as_reply(golden: World) -> None:
    case = golden.case("outbound")
    assert (case["agent_reply_count"], case["customer_message_count"]) == (1, 0)


@pytest.mark.parametrize(
    ("column", "count"),
    [("reopen_count", 1), ("reopen_count_mozilla", 0), ("reopen_count_fivetran", 1)],
)
def test_reopening_in_three_dialects(golden: World, column: str, count: int) -> None:
    assert golden.case("settled twice")[column] == count


def test_full_resolution_counts_to_last_solve(golden: World) -> None:
    case = golden.case("settled twice")
    assert (case["first_resolution_minutes"], case["full_resolution_minutes"]) == (60, 180)


def test_reopened_case_keeps_last_solve_and_has_no_full_resolution(golden: World) -> None:
    case = golden.case("reopened")
    assert case["last_solved_at"] == at("02 03:00")
    assert case["full_resolution_minutes"] is None
    assert case["touch"] is None
    assert case["reopen_count_mozilla"] == 1


def test_rating_from_good_to_bad(golden: World) -> None:
    case = golden.case("rated")
    assert (case["good_to_bad_count"], case["bad_to_good_count"]) == (1, 0)
    assert case["csat_satisfied"] is False


def test_closing_a_solved_case_is_no_second_solve(golden: World) -> None:
    case = golden.case("rated")
    assert case["status"] == "closed"
    assert case["full_resolution_minutes"] == 60
    assert case["closed_at"] == at("06 03:00")
    assert case["handoff_count"] == 1


def test_unreplied_case_is_counted_and_bots_do_not_reply(golden: World) -> None:
    case = golden.case("unreplied")
    assert case["first_reply_minutes"] is None
    assert case["agent_reply_count"] == 0
    assert case["internal_note_count"] == 1
    assert case["unsolved_age_minutes"] == 34 * 60
    unreplied = golden.query(
        "select count(*) as n from cases where agent_reply_count = 0 and status = 'new' "
        "and not is_excluded"
    )
    assert unreplied[0]["n"] >= 1


def test_turns_add_up_and_unanswered_ones_add_nothing(golden: World) -> None:
    case = golden.case("talkative")
    assert case["total_reply_minutes"] == 27.5
    assert case["customer_message_count"] == 4
    assert case["agent_reply_count"] == 3
    assert case["handoff_count"] == 1


def test_running_clocks_stop_at_as_of(golden: World) -> None:
    case = golden.case("talkative")
    assert case["requester_wait_minutes"] == 68
    assert case["agent_wait_minutes"] == (18 * 24 + 12) * 60 - 188
    assert case["on_hold_minutes"] == 0
    assert case["solve_minutes"] == (18 * 24 + 10) * 60


def test_lunch_break_is_not_business_time(golden: World) -> None:
    case = golden.case("lunch")
    assert case["first_reply_minutes"] == 150
    assert case["first_reply_business_minutes"] == 60
    assert case["full_resolution_business_minutes"] == 60
    assert case["total_reply_business_minutes"] == 60
    assert case["agent_work_business_minutes"] == 60


def test_single_events_keep_the_calendar_of_the_opening(golden: World) -> None:
    # 15:00 to 18:00 in Shanghai.
    assert golden.case("handed over")["first_reply_business_minutes"] == 180


def test_waiting_follows_the_calendar_in_force(golden: World) -> None:
    # 15:00–17:00 in Shanghai, then 10:00–11:00 in Berlin.
    assert golden.case("handed over")["agent_work_business_minutes"] == 180
    assert golden.case("handed over")["team"] == "Europe"
    assert golden.case("handed over")["time_zone"] == "Europe/Berlin"


def test_excluded_case_keeps_its_row(golden: World) -> None:
    case = golden.case("spam")
    assert (case["is_excluded"], case["exclusion_reason"]) == (True, "spam")


def test_status_without_event_dates_from_last_update(golden: World) -> None:
    case = golden.case("unlogged")
    assert case["is_status_inferred"] is True
    assert case["first_resolution_minutes"] == 24 * 60


@pytest.mark.parametrize(
    ("case_id", "resolved"),
    [("first try", False), ("second try", True), ("settled twice", False), ("just solved", None)],
)
def test_first_contact_resolution(golden: World, case_id: str, resolved: bool | None) -> None:
    assert golden.case(case_id)["first_contact_resolved"] is resolved


def test_latest_answer_is_the_score_of_the_case(golden: World) -> None:
    case = golden.case("talkative")
    assert (case["csat_score"], case["csat_satisfied"]) == (5, True)


def test_group_becomes_the_team_that_owns_it(golden: World) -> None:
    assert golden.case("lunch")["team"] == "Billing"


@pytest.mark.parametrize("case_id", ["deleted at once", "passed around"])
def test_odd_case_has_one_row(golden: World, case_id: str) -> None:
    rows = golden.query(f"select status from cases where case_id = '{case_id}'")
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("case_id", "issues"),
    [
        ("lunch", []),
        ("settled twice", []),
        ("solved early", ["solved_before_creation", "event_before_creation"]),
        ("clock set back", ["events_out_of_order", "event_in_the_future"]),
        ("without events", ["no_events", "status_without_event"]),
        ("unlogged", ["status_without_event"]),
    ],
)
def test_records_that_contradict_each_other_are_flagged(
    golden: World, case_id: str, issues: list[str]
) -> None:
    assert golden.case(case_id)["data_issues"] == issues
    rows = golden.query(f"select issue, effect from case_anomalies where case_id = '{case_id}'")
    assert sorted(row["issue"] for row in rows) == sorted(issues)
    assert all(row["effect"] for row in rows)


def test_solve_before_the_creation_counts_at_the_creation(golden: World) -> None:
    case = golden.case("solved early")
    assert (case["first_resolution_minutes"], case["agent_work_minutes"]) == (0, 0)


def test_group_given_before_the_creation_holds_from_the_creation_on(golden: World) -> None:
    assert golden.case("solved early")["team"] == "Europe"
    calendars = golden.query(
        "select calendar, is_opening from intermediate.int_case_calendars "
        "where case_id = 'solved early' order by is_opening desc"
    )
    assert [row["calendar"] for row in calendars] == ["berlin", "berlin"]


def test_instants_decide_where_numbers_contradict_them(golden: World) -> None:
    assert golden.case("clock set back")["first_reply_minutes"] == 60

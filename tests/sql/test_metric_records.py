"""The records behind the metrics: their sums are the metrics, whatever the cut."""

from __future__ import annotations

import re

import pytest
from mart_world import World

DIMENSIONS = (
    "metric", "dialect", "clock", "cohort", "cohort_date", "counted", "source", "channel",
    "team", "need", "sla_metric",
)  # fmt: skip
COMPONENTS = (
    "numerator", "denominator", "value_sum", "value_sum_squares", "value_count", "left_out_count",
)  # fmt: skip
EXPECTED = {
    "volume", "backlog", "csat", "response_rate", "nps", "ces", "first_reply", "total_reply",
    "first_resolution", "full_resolution", "requester_wait", "agent_wait", "agent_work", "on_hold",
    "solve", "reopen", "zero_touch", "one_touch", "two_touch", "multi_touch", "first_contact",
    "sla", "excluded", "good_to_bad", "bad_to_good", "agent_replies", "customer_messages",
    "internal_notes", "handoffs", "unsolved_age", "unreplied", "duration_weighted_csat",
    "resolution_time_ratio", "review_score", "review_pass",
}  # fmt: skip


def sum_query(table: str, dimensions: tuple[str, ...] = DIMENSIONS) -> str:
    sums = ", ".join(f"round(sum({name}), 6) as {name}" for name in COMPONENTS)
    counted = "" if table == "metrics_daily" else (
        "where left_out_reason is null or left_out_count > 0"
    )  # fmt: skip
    return f"select {', '.join(dimensions)}, {sums} from {table} {counted} group by all"


def test_every_metric_is_measured(golden: World) -> None:
    rows = golden.query("select distinct metric from metrics_daily")
    assert {row["metric"] for row in rows} == EXPECTED


def test_records_sum_to_every_row_of_the_metrics(golden: World) -> None:
    ours = golden.query(f"from ({sum_query('metrics_daily')}) order by all")
    theirs = golden.query(f"from ({sum_query('metric_records')}) order by all")
    assert len(ours) > 200
    assert ours == theirs


@pytest.mark.parametrize("dimension", ["source", "channel", "team", "need"])  # what both are cut by
def test_metrics_by_a_dimension_are_those_of_the_day(golden: World, dimension: str) -> None:
    by = ("metric", "dialect", "clock", "cohort", "cohort_date", "counted", "sla_metric")
    ours = golden.query(f"from ({sum_query('metrics_daily', (*by, dimension))}) order by all")
    sums = ", ".join(f"round({name}, 6) as {name}" for name in COMPONENTS)
    theirs = golden.query(
        f"select {', '.join(by)}, member as {dimension}, {sums} from metrics_by "
        f"where dimension = '{dimension}' order by all"
    )
    assert ours == theirs


@pytest.mark.parametrize("dimension", ["agent", "customer", "segment", "product", "language"])
def test_every_dimension_holds_all_that_was_counted(golden: World, dimension: str) -> None:
    rows = golden.query(
        "select metric, round(sum(coalesce(denominator, value_count, numerator)), 6) as n "
        f"from metrics_by where dimension = '{dimension}' group by metric order by metric"
    )
    assert rows == golden.query(
        "select metric, round(sum(coalesce(denominator, value_count, numerator)), 6) as n "
        "from metrics_daily group by metric order by metric"
    )


def test_one_customer(golden: World) -> None:
    rows = golden.query(
        "select sum(numerator) as n from metrics_by where dimension = 'customer' "
        "and metric = 'volume' and counted = 'case' and member = 'returning'"
    )
    assert rows == [{"n": 2}]


def test_segment_is_that_of_the_customer(golden: World) -> None:
    # The case "ignored" is of desk 1, who is the gold customer of the CRM.
    rows = golden.query(
        "select case_id from metric_records where metric = 'volume' and counted = 'case' "
        "and segment = 'gold'"
    )
    assert rows == [{"case_id": "ignored"}]


def test_what_is_left_out_has_a_reason_and_no_numbers(golden: World) -> None:
    rows = golden.query(
        "select left_out_reason as reason, count(*) as n, count(numerator) as numbers, "
        "count(value_sum) as sums from metric_records where left_out_reason is not null "
        "group by all order by reason"
    )
    reasons = {row["reason"] for row in rows}
    assert reasons == {
        "answered_again", "deleted", "no_duration", "not_rated", "spam", "window_not_over",
    }  # fmt: skip
    assert all(row["numbers"] == row["sums"] == 0 for row in rows)


def test_an_earlier_answer_about_the_same_case_is_left_out(golden: World) -> None:
    rows = golden.query(
        "select record_id, left_out_reason as reason from metric_records "
        "where metric = 'csat' and case_id = 'talkative' order by all"
    )
    assert rows == [
        {"record_id": "csat, first", "reason": "answered_again"},
        {"record_id": "csat, latest", "reason": None},
        {"record_id": "csat, latest but deleted", "reason": "deleted"},
    ]


def test_a_metric_can_be_cut_by_the_day_of_the_opening(golden: World) -> None:
    rows = golden.query(
        "select opened_date::varchar as day, sum(value_sum) / sum(value_count) as mean "
        "from metric_records where metric = 'full_resolution' and clock = 'calendar' "
        "and case_id in ('automated', 'outbound') group by all"
    )
    assert rows == [{"day": "2026-03-02", "mean": (24 * 60 + 120) / 2}]


def test_unsolved_cases_without_a_reply_are_counted(golden: World) -> None:
    rows = golden.query(
        "select sum(numerator) as unreplied, sum(denominator) as unsolved "
        "from metrics_daily where metric = 'unreplied'"
    )
    assert rows == golden.query(
        "select count(*) filter (where agent_reply_count = 0)::double as unreplied, "
        "count(*)::double as unsolved from cases "
        "where not is_excluded and status in ('new', 'open', 'pending', 'hold')"
    )
    assert rows[0]["unreplied"] > 0


def test_touches_of_solved_cases_add_up(golden: World) -> None:
    rows = golden.query(
        "select sum(numerator) as touched, max(solved) as solved from metrics_daily, "
        "(select count(*)::double as solved from cases where touch is not null and not is_excluded)"
        " where dialect = 'house' and metric in "
        "('zero_touch', 'one_touch', 'two_touch', 'multi_touch')"
    )
    assert rows[0]["touched"] == rows[0]["solved"] > 10


def test_rating_from_good_to_bad_is_a_metric(golden: World) -> None:
    rows = golden.query(
        "select metric, record_id from metric_records "
        "where metric in ('good_to_bad', 'bad_to_good') and numerator = 1"
    )
    assert rows == [{"metric": "good_to_bad", "record_id": "rated"}]


def test_a_question_for_one_metric_reads_only_what_it_needs(golden: World) -> None:
    plan = golden.query(
        "explain select sum(value_sum) from metric_records "
        "where metric = 'first_reply' and clock = 'calendar'"
    )
    text = str(plan)
    assert len(re.findall(r"main\.cases", text)) == 1
    assert "survey_responses" not in text


def test_other_readings_stand_beside_the_house(golden: World) -> None:
    # What an agent wrote at the opening is a first reply, and a touch, to Fivetran's package.
    rows = golden.query(
        "select dialect, value_sum as minutes from metric_records where metric = 'first_reply' "
        "and clock = 'calendar' and case_id = 'outbound' order by dialect"
    )
    assert rows == [{"dialect": "fivetran", "minutes": 0}, {"dialect": "house", "minutes": 90}]
    touches = golden.query(
        "select metric, dialect from metric_records where numerator = 1 and case_id = 'outbound' "
        "and metric in ('one_touch', 'two_touch') order by dialect"
    )
    assert touches == [
        {"metric": "two_touch", "dialect": "fivetran"},
        {"metric": "one_touch", "dialect": "house"},
    ]

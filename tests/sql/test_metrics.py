"""metrics_daily and the views on it: components, intervals, days."""

from __future__ import annotations

from typing import Any

import pytest
from mart_world import World


def find(world: World, where: str) -> dict[str, Any]:
    rows = world.query(f"select * from metrics_daily where {where}")
    assert len(rows) == 1
    return rows[0]


def test_csat_and_its_wilson_interval(golden: World) -> None:
    row = find(golden, "metric = 'csat' and cohort_date = '2026-03-10'")
    assert (row["numerator"], row["denominator"], row["value"]) == (5, 10, 0.5)
    assert row["ci_low"] == pytest.approx(0.237, abs=5e-4)
    assert row["ci_high"] == pytest.approx(0.763, abs=5e-4)
    assert row["is_small_sample"] is False


def test_only_the_latest_answer_about_a_case_counts(golden: World) -> None:
    rows = golden.query("select * from csat where team = 'Billing' and channel = 'email'")
    assert [(row["rated_date"].isoformat(), row["satisfied_count"]) for row in rows] == [
        ("2026-03-12", 1)
    ]


def test_unanswered_survey_lowers_the_response_rate(golden: World) -> None:
    row = find(golden, "metric = 'response_rate' and cohort_date = '2026-03-10'")
    assert row["denominator"] - row["numerator"] == 1


def test_nps_and_its_multinomial_interval(golden: World) -> None:
    row = golden.query("select * from nps where rated_date = '2026-03-10'")[0]
    assert (row["promoter_count"], row["detractor_count"], row["nps"]) == (2, 2, 0)
    half = 196 * (0.8 / 5) ** 0.5
    assert row["ci_high"] == pytest.approx(half, abs=0.01)
    assert row["ci_low"] == pytest.approx(-half, abs=0.01)


def test_ces_turns_scales_whose_low_end_is_easy(golden: World) -> None:
    row = golden.query("select * from ces")[0]
    assert (row["easy_count"], row["rated_count"]) == (2, 3)
    assert row["mean_score"] == pytest.approx((5 + 7 + 4) / 3)


def test_mean_and_its_t_interval(golden: World) -> None:
    # First replies of 2 March by the Billing team: scipy's t-interval of the same numbers.
    rows = golden.query(
        "select first_reply_minutes as x from cases where team = 'Billing' and channel = 'email' "
        "and first_reply_at::date = '2026-03-02' and need = 'technical' and not is_excluded"
    )
    from scipy import stats

    values = [row["x"] for row in rows]
    low, high = stats.t.interval(
        0.95, len(values) - 1, loc=sum(values) / len(values), scale=stats.sem(values)
    )
    found = find(
        golden,
        "metric = 'first_reply' and dialect = 'house' and clock = 'calendar' and "
        "team = 'Billing' and "
        "need = 'technical' and cohort_date = '2026-03-02'",
    )
    assert found["value_count"] == len(values) == 4
    assert found["ci_low"] == pytest.approx(low, rel=1e-6)
    assert found["ci_high"] == pytest.approx(high, rel=1e-6)
    assert found["is_small_sample"] is True


def test_days_are_cut_in_the_zone_of_the_team(golden: World) -> None:
    rows = golden.query(
        "select team, created_date::varchar as day from volume "
        "where counted = 'case' and channel = 'phone' order by team"
    )
    assert rows == [
        {"team": "Billing", "day": "2026-03-06"},
        {"team": "Europe", "day": "2026-03-05"},
    ]


def test_volume_counts_every_kept_feedback_row_once(golden: World) -> None:
    counted = golden.query("select sum(record_count) as n from volume where counted = 'feedback'")
    kept = "select count(*)::double as n from feedback where not is_excluded"
    assert counted == golden.query(kept)


def test_excluded_cases_are_counted_by_reason(golden: World) -> None:
    rows = golden.query(
        "select counted, exclusion_reason as reason, numerator as n from metrics_daily "
        "where metric = 'excluded' order by all"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("case", "deleted", 1), ("case", "spam", 1), ("case", "spam", 1),
        ("feedback", "deleted", 1),
    ]  # fmt: skip


def test_backlog_of_each_finished_day(golden: World) -> None:
    rows = golden.query(
        "select snapshot_date::varchar as day, age_band, sum(case_count) as n from backlog "
        "where snapshot_date >= '2026-03-19' group by all order by all"
    )
    # 20 March has not ended in Shanghai at noon UTC, though one is said to be solved on the 22nd.
    assert rows == [
        {"day": "2026-03-19", "age_band": "0-1 days", "n": 3},
        {"day": "2026-03-19", "age_band": "1-3 days", "n": 5},
        {"day": "2026-03-19", "age_band": "7-30 days", "n": 4},
    ]


def test_reopening_in_each_dialect(golden: World) -> None:
    rows = golden.query(
        "select dialect, sum(numerator) as n from metrics_daily where metric = 'reopen' "
        "group by dialect order by dialect"
    )
    assert rows == [
        {"dialect": "fivetran", "n": 1},
        {"dialect": "house", "n": 2},
        {"dialect": "mozilla", "n": 1},
    ]


def test_views_read_the_same_rows(golden: World) -> None:
    names = golden.query(
        "select count(*) as n from response_times where metric = 'first_reply' "
        "union all select count(*) from metrics_daily where metric = 'first_reply' "
        "and dialect = 'house'"
    )
    assert names[0] == names[1]


def test_duration_weighted_csat_of_the_source_articles(golden: World) -> None:
    row = find(golden, "metric = 'duration_weighted_csat' and channel = 'api'")
    assert row["value"] == pytest.approx(0.658136, abs=5e-7)
    assert (row["value_count"], row["left_out_count"]) == (5, 1)


def test_resolution_time_ratio_counts_from_the_start_of_the_month(golden: World) -> None:
    # 13 March 10:00 in Shanghai is minute 17 880 of the month.
    row = find(golden, "metric = 'resolution_time_ratio' and channel = 'api'")
    minutes = [10, 20, 30, 40, 50, 30]
    expected = sum((17_880 + taken) / taken for taken in minutes) / len(minutes)
    assert row["value"] == pytest.approx(expected)

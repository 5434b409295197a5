"""Follow-up candidates: what each rule finds and leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import jinja2
import pytest
from mart_world import World, at

ROOT = Path(__file__).resolve().parents[2]


def find(world: World, rule: str) -> list[dict[str, Any]]:
    return world.query(
        f"select * from follow_up_candidates where rule = '{rule}' order by case_id, feedback_id"
    )


def test_unanswered_complaint_finds_case_and_grave_review(golden: World) -> None:
    rows = find(golden, "unanswered_complaint")
    assert [row["feedback_id"] for row in rows] == ["ignored complaint", "bad review"]


def test_candidate_says_why_in_both_languages(golden: World) -> None:
    row = find(golden, "unanswered_complaint")[0]
    assert row["reason"].startswith("Complaint without a reply for 57 hours (priority high)")
    assert row["reason_zh"].startswith("投诉已 57 小时无人回复（优先级：高）")
    assert row["evidence"] == ["ignored complaint"]
    assert row["customer_id"] == "crm 7"
    assert (row["due_basis_at"], row["due_minutes"]) == (at("18 03:00"), 240)
    # 0.4 × high (0.75) + 0.4 × (1 − e^(−57/72)) + 0.2 for a VIP
    assert row["score"] == 0.7188


def test_high_complaint_stays_high_for_a_vip_only_or_after_long(golden: World) -> None:
    rows = find(golden, "unanswered_complaint")
    assert [row["priority"] for row in rows] == ["high", "normal"]
    assert [row["due_minutes"] for row in rows] == [240, 240]


def test_worst_answers_come_first(golden: World) -> None:
    rows = find(golden, "low_satisfaction_after_resolution")
    assert {row["case_id"]: row["priority"] for row in rows} == {
        "settled twice": "normal", "took 30": "normal", "took 40": "normal", "took 50": "high",
    }  # fmt: skip
    assert all(0 < row["score"] <= 1 for row in rows)


def test_low_satisfaction_after_resolution(golden: World) -> None:
    rows = find(golden, "low_satisfaction_after_resolution")
    assert [row["case_id"] for row in rows] == ["settled twice", "took 30", "took 40", "took 50"]
    assert rows[0]["evidence"] == ["settled twice", "bad after solve"]


def test_first_reply_at_risk_before_and_after_the_breach(golden: World) -> None:
    rows = {row["case_id"]: row for row in find(golden, "first_reply_at_risk")}
    assert rows["chat running"]["due_at"] == at("20 12:15")
    assert rows["chat running"]["reason"].startswith("First reply due in 15 minutes")
    assert rows["chat overdue"]["reason"].startswith("First reply overdue by 30 minutes")
    assert "over the weekend" not in rows


def test_sla_at_risk_takes_the_nearest_promise_of_a_case(golden: World) -> None:
    rows = {row["case_id"]: row for row in find(golden, "sla_at_risk")}
    assert {name: (row["due_at"], row["reason"]) for name, row in rows.items()} == {
        "next reply due": (
            at("20 12:30"), "Next reply due in 30 minutes (target 120 minutes, policy promises).",
        ),
        "due and overdue": (
            at("20 13:00"), "Next reply due in 1 hour (target 120 minutes, policy promises).",
        ),
        "resolution overdue": (
            at("20 08:00"), "Resolution overdue by 4 hours (target 3000 minutes, policy promises).",
        ),
    }  # fmt: skip
    due, overdue = rows["next reply due"], rows["resolution overdue"]
    assert due["reason_zh"] == "后续回复将在 30 分钟后超时（目标 120 分钟，规则 promises）。"
    assert overdue["reason_zh"] == "解决已超时 4 小时（目标 3000 分钟，规则 promises）。"
    assert due["evidence"] == ["next reply due"]
    assert (due["occurred_at"], overdue["occurred_at"]) == (at("20 10:30"), at("18 06:00"))
    # 0.4 × normal (0.5) + 0.4 × (1 − 0.5 h / 4 h); what is overdue presses fully
    assert (due["score"], overdue["score"]) == (0.55, 0.6)
    assert due["suggested_action"].startswith("Answer the customer")
    assert overdue["suggested_action"].startswith("Settle the case")


def test_first_reply_that_is_owed_makes_no_second_task(golden: World) -> None:
    rows = golden.query(
        "select rule from follow_up_candidates where case_id = 'first reply owed' order by all"
    )
    assert [row["rule"] for row in rows] == ["first_reply_at_risk"]


@pytest.mark.parametrize(
    ("hours", "english", "chinese"),
    [
        (0.001, "1 minute", "1 分钟"),
        (0.25, "15 minutes", "15 分钟"),
        (0.994, "1 hour", "1 小时"),
        (1.04, "1 hour", "1 小时"),
        (2.5, "2.5 hours", "2.5 小时"),
        (9.96, "10 hours", "10 小时"),
        (57.2, "57 hours", "57 小时"),
        (71.6, "3 days", "3 天"),
        (160.8, "7 days", "7 天"),
    ],
)
def test_times_are_said_as_people_say_them(hours: float, english: str, chinese: str) -> None:
    macros = (ROOT / "sql/macros/follow_up.sql").read_text(encoding="utf-8")
    con = duckdb.connect()
    for language, told in (("en", english), ("zh", chinese)):
        call = "{{ say_hours('" + str(hours) + "', '" + language + "') }}"
        sql = jinja2.Environment(extensions=["jinja2.ext.do"]).from_string(macros + call).render()
        assert con.sql(f"select {sql}").fetchall() == [(told,)]

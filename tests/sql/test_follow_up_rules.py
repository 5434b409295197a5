"""Follow-up candidates: what each rule finds and leaves alone."""

from __future__ import annotations

from typing import Any

from mart_world import World, at


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
    assert row["score"] > 1


def test_low_satisfaction_after_resolution(golden: World) -> None:
    rows = find(golden, "low_satisfaction_after_resolution")
    assert [row["case_id"] for row in rows] == ["settled twice", "took 30", "took 40", "took 50"]
    assert rows[0]["evidence"] == ["settled twice", "bad after solve"]


def test_first_reply_at_risk_before_and_after_the_breach(golden: World) -> None:
    rows = {row["case_id"]: row for row in find(golden, "first_reply_at_risk")}
    assert rows["chat running"]["due_at"] == at("20 12:15")
    assert rows["chat running"]["reason"].startswith("First reply due in 0.2 hours")
    assert rows["chat overdue"]["reason"].startswith("First reply overdue by 0.5 hours")
    assert "over the weekend" not in rows

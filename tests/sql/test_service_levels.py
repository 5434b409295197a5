"""Service levels: one row for each first reply that was due."""

from __future__ import annotations

from typing import Any

from mart_world import World, at


def find(world: World, case_id: str) -> dict[str, Any]:
    return world.query(f"select * from sla_events where case_id = '{case_id}'")[0]


def test_reply_on_the_minute_is_in_time(golden: World) -> None:
    row = find(golden, "chat in time")
    assert row["policy"] == "chat"
    assert row["is_breached"] is False
    assert row["elapsed_minutes"] == 30
    assert row["in_business_hours"] is False


def test_late_reply_breached_at_the_due_time(golden: World) -> None:
    row = find(golden, "chat late")
    assert row["is_breached"] is True
    assert row["breach_at"] == at("07 02:30")
    assert row["decided_at"] == at("07 02:30")


def test_unreplied_case_breaches_without_fulfilment(golden: World) -> None:
    row = find(golden, "chat overdue")
    assert (row["is_breached"], row["is_active"], row["fulfilled_at"]) == (True, True, None)


def test_running_case_is_not_decided(golden: World) -> None:
    row = find(golden, "chat running")
    assert row["is_breached"] is None
    assert row["is_active"] is True
    assert row["breach_at"] == at("20 12:15")
    assert row["elapsed_minutes"] == 15


def test_business_target_is_projected_over_the_weekend(golden: World) -> None:
    row = find(golden, "over the weekend")
    assert row["in_business_hours"] is True
    assert row["breach_at"] == at("23 04:00")


def test_target_is_that_of_the_priority_at_the_opening(golden: World) -> None:
    row = find(golden, "calmed down")
    assert (row["priority"], row["target_minutes"]) == ("urgent", 60)


def test_solved_without_reply_before_the_breach_is_never_decided(golden: World) -> None:
    row = find(golden, "first try")
    assert (row["is_breached"], row["is_active"]) == (None, False)


def test_case_shows_its_breach(golden: World) -> None:
    assert golden.case("chat late")["sla_breached"] is True
    assert golden.case("chat running")["sla_breached"] is None


def test_compliance_counts_decided_rows(golden: World) -> None:
    rows = golden.query(
        "select sum(met_count) as met, sum(breached_count) as breached from sla_compliance "
        "where channel = 'chat' and decided_date = '2026-03-07'"
    )
    assert rows == [{"met": 1, "breached": 1}]

"""Analysts read while a run goes on: neither fails, neither waits."""

from __future__ import annotations

from tests.line.world import Scenario


def test_open_transaction_sees_what_it_saw(late: Scenario) -> None:
    before, after = late.notes["held"]
    assert before == after
    assert late.notes["holder_code"] == 0


def test_visitors_never_fail(late: Scenario) -> None:
    for visit in late.notes["visits"]:
        assert visit["visits"] > 5
        assert visit["faults"] == []


def test_visitors_see_the_old_or_the_new_whole(late: Scenario) -> None:
    for visit in late.notes["visits"]:
        assert visit["seen"] == [late.notes["held"][0], late.notes["new_reader"]]


def test_new_readers_see_the_new(late: Scenario) -> None:
    before, after = late.notes["held"][0], late.notes["new_reader"]
    assert after[0] > before[0]
    assert after[1] > before[1]

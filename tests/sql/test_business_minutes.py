"""Business minutes of the model against a count minute by minute, over random calendars."""

from __future__ import annotations

from pathlib import Path

from tests.bench.calendar_cases import compare


def test_model_counts_what_a_count_minute_by_minute_counts(tmp_path: Path) -> None:
    """Split shifts, zones with changes of the clocks, versions, holidays, make-up workdays, own
    lines, and cases that go from calendar to calendar. ``make bench-calendars`` draws more."""
    found = compare(tmp_path, seed=20261128, calendars=40, cases=2_000)
    assert found.intervals == 18_000
    assert found.different[:5] == []

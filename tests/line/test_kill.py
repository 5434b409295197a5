"""A step killed anywhere is finished by the next run, as if nothing had happened."""

from __future__ import annotations

import os
import signal
import time

import pytest

from pipelines.storage import TEMPORARY, TEMPORARY_SECONDS, Lake
from tests.line.killing import MOMENTS, Moment
from tests.line.world import Scenario, compare, list_lake_faults


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_step_was_killed_at_its_moment(killed: Scenario, moment: Moment) -> None:
    assert killed.notes["codes"][str(moment)] == -signal.SIGKILL


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_every_file_that_counts_is_whole_after_the_kill(killed: Scenario, moment: Moment) -> None:
    assert killed.notes["faults"][str(moment)] == []


def test_all_tables_are_those_of_a_run_never_killed(killed: Scenario, finished: Scenario) -> None:
    assert compare(killed.notes["tables"], finished.notes["first"]["tables"]) == {}


def test_lists_are_those_of_a_run_never_killed(killed: Scenario, finished: Scenario) -> None:
    assert len(killed.notes["lists"]) > 1
    assert compare(killed.notes["lists"], finished.notes["first"]["lists"]) == {}


def test_nothing_half_written_is_left(killed: Scenario) -> None:
    assert list_lake_faults(killed.home) == []
    assert [path.name for path in killed.home.rglob("*.tmp*")] == []


def test_temporary_files_of_killed_runs_go_after_a_day(killed: Scenario) -> None:
    lake = Lake(killed.home / "lake")
    folder = killed.home / "lake" / TEMPORARY
    left, fresh = list(folder.iterdir()), folder / "somebody-is-writing-this"
    assert left
    day_ago = time.time() - TEMPORARY_SECONDS - 60
    for path in left:
        os.utime(path, (day_ago, day_ago))
    fresh.touch()
    files = [e for entries in lake.staging_manifest()["files"].values() for e in entries]
    assert lake.remove_strays("staging", files) == 0
    assert list(folder.iterdir()) == [fresh]

"""Running one step: under a lock, with its error kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipelines.context import Run, StepCount, start_run
from pipelines.errors import HearbackError
from pipelines.settings import load_settings
from pipelines.steps import hold_lock, read_progress, run_step


@pytest.fixture
def run(tmp_path: Path) -> Run:
    path = tmp_path / "hearback.toml"
    path.write_text("[project]\n", encoding="utf-8")
    return start_run(load_settings(path), run_id="r1")


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A step module of its own, to be given a ``run``."""
    module = ModuleType("pipelines.clean")
    monkeypatch.setitem(sys.modules, "pipelines.clean", module)
    return module


def test_a_step_gives_its_rows_and_says_how_far_it_is(run: Run, step: Any) -> None:
    def perform(run: Run) -> list[StepCount]:
        run.progress("clean", 70)
        assert read_progress(run.home.progress("r1")) == {"clean": 70}
        return [StepCount("clean", count_in=3, count_out=3), StepCount("clean", count_out=4)]

    step.run = perform
    assert run_step(run, "clean") == 7
    assert run.lake.read_run_errors("r1") == {}


def test_the_error_of_a_step_is_kept_until_it_succeeds(run: Run, step: Any) -> None:
    def fail(run: Run) -> list[StepCount]:
        raise HearbackError("file 'a': damaged; restore it")

    step.run = fail
    with pytest.raises(HearbackError):
        run_step(run, "clean")
    assert run.lake.read_run_errors("r1") == {"clean": "file 'a': damaged; restore it"}
    step.run = lambda run: []
    run_step(run, "clean")
    assert run.lake.read_run_errors("r1") == {}


def test_a_fault_of_ours_is_kept_in_one_line(run: Run, step: Any) -> None:
    def fail(run: Run) -> list[StepCount]:
        raise KeyError("a\nb")

    step.run = fail
    with pytest.raises(KeyError):
        run_step(run, "clean")
    assert run.lake.read_run_errors("r1")["clean"].startswith("KeyError: ")


def test_errors_of_a_run_are_no_rows_of_its_report(run: Run, step: Any) -> None:
    run.lake.write_run_error("r1", "clean", "broken")
    assert run.lake.read_step_reports("r1") == []


def test_options_reach_the_step(run: Run, step: Any) -> None:
    given = {}
    step.run = lambda run, **options: given.update(options) or []
    run_step(run, "clean", replay=True)
    assert given == {"replay": True}


def test_two_processes_never_work_on_the_same_files(run: Run, step: Any) -> None:
    step.run = lambda run: []
    with (
        hold_lock(run.home.lock("pipeline"), refusal="taken"),
        pytest.raises(HearbackError, match=r"clean: another process \(\d+\) is at work"),
    ):
        run_step(run, "clean", wait_seconds=0.3)
    run_step(run, "clean", wait_seconds=0)


def test_sources_do_not_wait_for_each_other(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("pipelines.extract")
    module.run = lambda run, source: [StepCount("extract", source, count_in=1, count_out=1)]
    monkeypatch.setitem(sys.modules, "pipelines.extract", module)
    with hold_lock(run.home.lock("extract--shop"), refusal="taken"):
        assert run_step(run, "extract", "forum", wait_seconds=0) == 1
        with pytest.raises(HearbackError, match="extract--shop: another process"):
            run_step(run, "extract", "shop", wait_seconds=0)


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    code = (
        "import os, sys; from pathlib import Path; from pipelines.steps import hold_lock\n"
        "with hold_lock(Path(sys.argv[1]), refusal='taken'): os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=root, check=False)
    assert done.returncode == -9
    with hold_lock(path, refusal="taken"):
        assert path.read_text().isdigit()

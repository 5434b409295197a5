"""Scenarios of the whole line, each played once for all tests and all workers."""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.line import killing, world
from tests.line.world import Scenario


def play_once(
    factory: pytest.TempPathFactory, name: str, play: Callable[[Path], dict[str, Any]]
) -> Scenario:
    """Play a scenario, or wait for the worker that plays it and take its notes."""
    base = factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / f"line-{name}"
    folder.mkdir(exist_ok=True)
    notes = folder / "notes.pickle"
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not notes.exists():
            found = play(folder)
            notes.write_bytes(pickle.dumps(found))
    return Scenario(folder, pickle.loads(notes.read_bytes()))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    return play_once(tmp_path_factory, "finished", world.play_finished)


@pytest.fixture(scope="session")
def late(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    return play_once(tmp_path_factory, "late", world.play_late)


@pytest.fixture(scope="session")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    return play_once(tmp_path_factory, "killed", killing.play_killed)

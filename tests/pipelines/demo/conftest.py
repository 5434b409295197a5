"""One small demo world for all tests of the demo; tests only read it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipelines.demo import DemoServers, generate, start_servers
from tests.pipelines.demo.worlds import SCALE, UNTIL, SmallWorld


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    directory = tmp_path_factory.mktemp("demo")
    return SmallWorld(directory, generate(directory, until=UNTIL, scale=SCALE))


@pytest.fixture
def served(small_world: SmallWorld) -> Iterator[DemoServers]:
    with start_servers(small_world.directory, 0, 0) as servers:
        yield servers

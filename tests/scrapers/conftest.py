"""Fixtures of the crawl tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scrapers.loopback import Page, Site


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    yield found
    found.close()


@pytest.fixture
def other_site() -> Iterator[Site]:
    found = Site()
    found.pages["/"] = Page("<p>another site</p>")
    yield found
    found.close()

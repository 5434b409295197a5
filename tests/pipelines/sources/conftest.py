"""What the tests of all kinds of sources have in common."""

from __future__ import annotations

import pytest

from pipelines.validate import Validator


@pytest.fixture(autouse=True)
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pages of Great Expectations: nobody reads those of a source's tests."""
    monkeypatch.setattr(Validator, "write_pages", lambda self: None)

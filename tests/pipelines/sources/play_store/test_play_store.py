"""Google Play: reviews found by their shape, languages, saved pages, and every column."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError, UsageError
from pipelines.settings import Source
from pipelines.sources import play_store
from tests.pipelines.sources.play_store.server import PAYLOADS, PlayStore
from tests.pipelines.sources.pulling import (
    ids,
    latest,
    make_context,
    make_source,
    one,
    pull_all,
    pull_stopping,
    stage,
)
from tests.pipelines.sources.vendor_server import Answer

ALL = {"4f1c-01", "4f1c-02", "4f1c-03"}


@pytest.fixture
def store() -> Iterator[PlayStore]:
    server = PlayStore()
    yield server
    server.close()


def source_of(store: PlayStore, **more: Any) -> Source:
    options = {"apps": ["com.acme.kettle"], "languages": ["en", "zh"], **more.pop("options", {})}
    return make_source("play_store", store.url, connection=None, options=options, **more)


def test_reviews_of_every_language_come_once(store: PlayStore, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(store), tmp_path)
    assert {key: len(sent) for key, sent in found["reviews"].items()} == dict.fromkeys(ALL, 1)


def test_a_review_is_kept_whole(store: PlayStore, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(store), tmp_path)
    assert latest(found, "reviews")["4f1c-01"]["sent"][7][1] == "Please write to us."


def test_the_aggregate_is_kept(store: PlayStore, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(store), tmp_path)
    about = latest(found, "apps")["com.acme.kettle"]
    assert about["aggregateRating"]["ratingCount"] == "812"


def test_start_bounds_the_load(store: PlayStore, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(store, start=date(2026, 11, 18)), tmp_path)
    assert ids(found, "reviews") == {"4f1c-01", "4f1c-03"}


def test_a_pull_stopped_after_any_batch_loses_nothing(store: PlayStore, tmp_path: Path) -> None:
    assert ids(pull_stopping(source_of(store), tmp_path), "reviews") == ALL


def test_a_page_without_reviews_is_told(store: PlayStore, tmp_path: Path) -> None:
    store.pages["en"] = b"<html></html>"
    told: list[str] = []
    source = source_of(store, options={"languages": ["en"]})
    pull_all(source, tmp_path, progress=lambda text, rows: told.append(text))
    assert told == ["desk: no reviews on the page of com.acme.kettle in en-us that are new to it"]


def test_faults_of_the_server_are_survived(store: PlayStore, tmp_path: Path) -> None:
    store.limit("/store", Answer(None, 429, {"Retry-After": "1"}), 1.0)
    store.fail("/store", Answer(None, 503))
    store.fail("/store", cut=700)
    found, _ = pull_all(source_of(store), tmp_path)
    assert (ids(found, "reviews"), store.violations) == (ALL, [])


def test_an_app_that_is_not_there_is_named(store: PlayStore, tmp_path: Path) -> None:
    with pytest.raises(HearbackError, match=r"no app com\.acme\.pan in us"):
        pull_all(source_of(store, options={"apps": ["com.acme.pan"]}), tmp_path)


def test_a_page_that_leads_elsewhere_is_not_followed(store: PlayStore, tmp_path: Path) -> None:
    store.fail("/store", Answer(None, 302, {"Location": "http://127.0.0.1:9/consent"}))
    with pytest.raises(HearbackError, match=r"leads elsewhere.*options\.path"):
        pull_all(source_of(store), tmp_path)


def test_something_to_read_is_needed(store: PlayStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give apps, or path with saved pages"):
        pull_all(source_of(store, options={"apps": []}), tmp_path)


def test_check_counts_the_reviews_of_a_page(store: PlayStore, tmp_path: Path) -> None:
    told = play_store.check(source_of(store), make_context(tmp_path))
    assert told == "2 reviews on the page of com.acme.kettle"


# Saved pages --------------------------------------------------------------------------------------


def saved_source(tmp_path: Path) -> Source:
    shutil.copytree(PAYLOADS, tmp_path / "pages")
    return make_source("play_store", connection=None, options={"path": "pages"})


def test_saved_pages_are_read(tmp_path: Path) -> None:
    assert ids(pull_all(saved_source(tmp_path), tmp_path)[0], "reviews") == ALL


def test_saved_pages_are_read_once(tmp_path: Path) -> None:
    source = saved_source(tmp_path)
    _, position = pull_all(source, tmp_path)
    assert pull_all(source, tmp_path, position)[0] == {}


def test_a_saved_page_of_something_else_is_named(tmp_path: Path) -> None:
    source = saved_source(tmp_path)
    (tmp_path / "pages/a.html").write_text("<html></html>", encoding="utf-8")
    with pytest.raises(HearbackError, match=r"a\.html is no page of an app"):
        pull_all(source, tmp_path)


def test_a_folder_without_pages_is_told(tmp_path: Path) -> None:
    source = make_source("play_store", connection=None, options={"path": "nowhere"})
    with pytest.raises(HearbackError, match=r"no page matches nowhere; mend options\.path"):
        pull_all(source, tmp_path)


Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    server = PlayStore()
    found = stage(tmp_path_factory.mktemp("play"), source_of(server))["feedback"]
    server.close()
    return found


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("channel", "app_store"),
        ("author", "Lena Holm"),
        ("product", "Acme Kettle"),
        ("language", "en"),
        ("created_at", datetime.fromtimestamp(1795000000, UTC)),
        ("body", 'It never "pairs"; I tried }); twice.'),
        ("rating", 2.0),
        ("rating_min", 1.0),
        ("rating_max", 5.0),
        ("tags", ["4.1.0"]),
        ("url", "https://play.google.com/store/apps/details?id=com.acme.kettle&reviewId=4f1c-01"),
    ],
)
def test_a_review_as_feedback(rows: Rows, column: str, value: Any) -> None:
    assert one(rows, source_record_id="4f1c-01")[column] == value


def test_a_review_in_another_language(rows: Rows) -> None:
    assert one(rows, source_record_id="4f1c-03")["language"] == "zh"

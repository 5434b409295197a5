"""Apple's review feed: ten pages, lone entries, and every column of what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError, UsageError
from pipelines.settings import Source
from pipelines.sources import app_store
from tests.pipelines.sources.app_store.server import AppStore, Rows
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

ENTRIES = Path(__file__).parent / "payloads" / "entries.json"
BOTH = {"us-12001", "us-12002"}


def load() -> Rows:
    rows: Rows = json.loads(ENTRIES.read_text("utf-8"))
    return rows


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[AppStore]:
    quick = app_store.Limits(is_limited=app_store.LIMITS.is_limited)
    monkeypatch.setattr(app_store, "LIMITS", quick)
    server = AppStore(load())
    yield server
    server.close()


def source_of(store: AppStore, **more: Any) -> Source:
    options = {"apps": ["777"], **more.pop("options", {})}
    return make_source("app_store", store.url, connection=None, options=options, **more)


def fill(store: AppStore, count: int) -> set[str]:
    """So many reviews, an hour apart; gives the ids of their records."""
    rows = [
        load()[0]
        | {
            "id": {"label": str(n)},
            "updated": {"label": f"2026-10-{1 + n // 24:02d}T{n % 24:02d}:00:00-07:00"},
        }
        for n in range(count)
    ]
    store.rows["us"] = rows
    return {f"us-{n}" for n in range(count)}


def test_the_first_load_reads_every_page_that_there_is(store: AppStore, tmp_path: Path) -> None:
    store.size = 5
    wanted = fill(store, 60)
    found, _ = pull_all(source_of(store), tmp_path)
    assert ids(found, "reviews") == {f"us-{n}" for n in range(10, 60)} < wanted


def test_a_review_is_kept_as_it_was_sent(store: AppStore, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(store), tmp_path)
    sent = latest(found, "reviews")["us-12002"]
    assert sent == {**load()[0], "app": "777", "country": "us"}


def test_a_lone_review_and_every_country(store: AppStore, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(store, options={"countries": ["us", "DE"]}), tmp_path)
    assert ids(found, "reviews") == BOTH | {"de-12002"}


def test_the_entry_of_the_app_itself_is_no_review(store: AppStore, tmp_path: Path) -> None:
    about = {"id": {"label": "777"}, "updated": {"label": "2026-11-20T00:00:00-07:00"}}
    store.rows["us"].append(about)
    found, _ = pull_all(source_of(store), tmp_path)
    assert ids(found, "reviews") == BOTH


def test_a_second_pull_stops_at_what_is_known(store: AppStore, tmp_path: Path) -> None:
    store.size = 5
    fill(store, 60)
    _, position = pull_all(source_of(store), tmp_path)
    store.requests.clear()
    pull_all(source_of(store), tmp_path, position)
    # A day and an hour, five reviews a page; each but the last is read twice.
    assert len(store.requests) == 11


def test_a_review_removed_while_pages_are_read_hides_none(store: AppStore, tmp_path: Path) -> None:
    """All behind it move up, one of them from a page that is still to come to one that was read."""
    store.size = 5
    wanted = fill(store, 20)

    def remove() -> None:
        store.rows["us"] = [row for row in store.rows["us"] if row["id"]["label"] != "17"]

    store.before_page[2] = remove
    found, _ = pull_all(source_of(store), tmp_path)
    assert ids(found, "reviews") == wanted


def test_an_edited_review_comes_again(store: AppStore, tmp_path: Path) -> None:
    _, position = pull_all(source_of(store), tmp_path)
    one(store.rows["us"], id={"label": "12001"})["updated"]["label"] = "2026-11-20T01:00:00-07:00"
    found, _ = pull_all(source_of(store), tmp_path, position)
    assert "us-12001" in ids(found, "reviews")


def test_start_bounds_the_first_load(store: AppStore, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(store, start=date(2026, 11, 1)), tmp_path)
    assert ids(found, "reviews") == {"us-12002"}


def test_an_empty_feed_is_told_and_forgets_nothing(store: AppStore, tmp_path: Path) -> None:
    _, position = pull_all(source_of(store), tmp_path)
    store.rows["us"] = []
    told: list[str] = []
    _, after = pull_all(
        source_of(store), tmp_path, position, progress=lambda text, rows: told.append(text)
    )
    assert (told, after) == (["desk: no reviews of app 777 in us now"], position)


def test_a_pull_stopped_after_any_batch_loses_nothing(store: AppStore, tmp_path: Path) -> None:
    store.size = 5
    wanted = fill(store, 20)
    assert ids(pull_stopping(source_of(store), tmp_path), "reviews") == wanted


def test_faults_of_the_server_are_survived(store: AppStore, tmp_path: Path) -> None:
    store.limit("/page=1/", Answer(None, 429, {"Retry-After": "1"}), 1.0)
    store.fail("/page=1/", Answer(None, 503))
    store.fail("/page=1/", cut=50)
    found, _ = pull_all(source_of(store), tmp_path)
    assert (ids(found, "reviews"), store.violations) == (BOTH, [])


def test_an_app_that_is_not_there_is_named(store: AppStore, tmp_path: Path) -> None:
    store.fail("/page=1/", Answer(None, 400))
    with pytest.raises(HearbackError, match=r"no reviews for app 777 in 'us': mend options"):
        pull_all(source_of(store), tmp_path)


def test_a_name_is_no_number_of_an_app(store: AppStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'kettle' is not the number of an app"):
        pull_all(source_of(store, options={"apps": ["kettle"]}), tmp_path)


def test_check_counts_the_first_page(store: AppStore, tmp_path: Path) -> None:
    told = app_store.check(source_of(store), make_context(tmp_path))
    assert told == "2 reviews on the first page of app 777"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    server = AppStore(load())
    found = stage(tmp_path_factory.mktemp("store"), source_of(server))["feedback"]
    server.close()
    return found


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("channel", "app_store"),
        ("author", "lena_h"),
        ("product", "777"),
        ("created_at", datetime(2026, 11, 18, 16, tzinfo=UTC)),
        ("title", "Pairing fails"),
        ("body", "It never finds my kettle."),
        ("rating", 2.0),
        ("rating_min", 1.0),
        ("rating_max", 5.0),
        ("tags", ["4.1.0"]),
        ("url", "https://apps.apple.com/us/app/id777?see-all=reviews"),
    ],
)
def test_a_review_as_feedback(rows: Rows, column: str, value: Any) -> None:
    assert one(rows, source_record_id="12002")[column] == value

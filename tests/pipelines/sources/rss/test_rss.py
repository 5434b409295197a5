"""RSS and Atom: feeds that did not change, older pages, and every column of what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError, UsageError
from pipelines.settings import Source
from pipelines.sources import rss
from tests.pipelines.sources.pulling import (
    ids,
    make_context,
    make_source,
    one,
    pull_all,
    pull_stopping,
    stage,
)
from tests.pipelines.sources.rss.server import Feeds
from tests.pipelines.sources.vendor_server import Answer, Request

R1, R2 = "tag:acme.example,2026:r1", "tag:acme.example,2026:r2"


@pytest.fixture
def feeds() -> Iterator[Feeds]:
    server = Feeds()
    yield server
    server.close()


def source_of(feeds: Feeds, *urls: str, **more: Any) -> Source:
    options = {"urls": list(urls or ["reviews.xml"]), **more.pop("options", {})}
    return make_source("rss", feeds.url, connection=None, options=options, **more)


def test_the_first_load_follows_older_pages(feeds: Feeds, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(feeds), tmp_path)
    assert ids(found, "entries") == {R1, R2}


def test_base_url_may_be_the_feed_itself(feeds: Feeds, tmp_path: Path) -> None:
    source = make_source("rss", f"{feeds.url}/reviews.xml", connection=None)
    assert ids(pull_all(source, tmp_path)[0], "entries") == {R1, R2}


def test_start_bounds_the_first_load(feeds: Feeds, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(feeds, start=date(2026, 11, 1)), tmp_path)
    assert ids(found, "entries") == {R2}


@pytest.mark.parametrize("has_etags", [True, False])
def test_a_feed_that_did_not_change_is_not_sent(
    feeds: Feeds, tmp_path: Path, has_etags: bool
) -> None:
    feeds.has_etags = has_etags
    _, position = pull_all(source_of(feeds), tmp_path)
    found, _ = pull_all(source_of(feeds), tmp_path, position)
    assert found == {}


def test_a_feed_that_changed_is_read_again(feeds: Feeds, tmp_path: Path) -> None:
    _, position = pull_all(source_of(feeds), tmp_path)
    feeds.feeds["/reviews.xml"] = feeds.feeds["/reviews.xml"].replace(b":r2<", b":r3<")
    found, _ = pull_all(source_of(feeds), tmp_path, position)
    assert ids(found, "entries") == {"tag:acme.example,2026:r3"}


def test_an_entry_without_an_id_is_known_by_its_link(feeds: Feeds, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(feeds, "forum.xml"), tmp_path)
    assert {"t-5", "https://acme.example/t/6"} < ids(found, "entries")


def test_an_entry_without_anything_keeps_its_id(feeds: Feeds, tmp_path: Path) -> None:
    first, second = (pull_all(source_of(feeds, "forum.xml"), tmp_path)[0] for _ in range(2))
    assert ids(first, "entries") == ids(second, "entries")


def test_a_pull_stopped_after_any_batch_loses_nothing(feeds: Feeds, tmp_path: Path) -> None:
    found = pull_stopping(source_of(feeds, "reviews.xml", "forum.xml"), tmp_path)
    assert {R1, R2, "t-5"} < ids(found, "entries")


def test_haste_is_forgiven_after_the_wait(feeds: Feeds, tmp_path: Path) -> None:
    feeds.limit("/reviews.xml", Answer(None, 429, {"Retry-After": "1"}), 1.0)
    found, _ = pull_all(source_of(feeds), tmp_path)
    assert (ids(found, "entries"), feeds.violations) == ({R1, R2}, [])


def test_a_failing_server_is_asked_again(feeds: Feeds, tmp_path: Path) -> None:
    feeds.fail("/reviews.xml", Answer(None, 503))
    feeds.fail("/older.xml", cut=60)
    found, _ = pull_all(source_of(feeds), tmp_path)
    assert ids(found, "entries") == {R1, R2}


@pytest.mark.parametrize("status", [404, 410])
def test_an_older_page_that_expired_ends_the_feed_with_a_note(
    feeds: Feeds, tmp_path: Path, status: int
) -> None:
    feeds.fail("/older.xml", Answer(None, status), times=9)
    told: list[str] = []
    source = source_of(feeds)
    found, position = pull_all(source, tmp_path, progress=lambda text, rows: told.append(text))
    assert ids(found, "entries") == {R2}
    assert told == [f"desk: older entries of {feeds.url}/older.xml are gone"]
    assert ids(pull_all(source, tmp_path, position)[0], "entries") == set()


def test_an_entry_published_while_pages_are_read_comes_with_the_next_pull(
    feeds: Feeds, tmp_path: Path
) -> None:
    before = feeds.feeds["/reviews.xml"]
    new = before.replace(R2.encode(), b"tag:acme.example,2026:r9")

    def publish(request: Request) -> None:
        if request.path == "/older.xml":
            feeds.feeds["/reviews.xml"] = new

    feeds.on_page = publish
    source = source_of(feeds)
    found, position = pull_all(source, tmp_path)
    assert ids(found, "entries") == {R1, R2}
    assert ids(pull_all(source, tmp_path, position)[0], "entries") == {"tag:acme.example,2026:r9"}


def test_wrong_credentials_name_the_connection(
    feeds: Feeds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds.login = ("reader", "right")
    source = make_source("rss", f"{feeds.url}/reviews.xml")
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"login": "reader", "password": "right"}))
    assert ids(pull_all(source, tmp_path)[0], "entries") == {R1, R2}
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"login": "reader", "password": "quiet"}))
    with pytest.raises(HearbackError, match=r"401 .* refused; check connection 'desk'") as caught:
        pull_all(source, tmp_path)
    assert "quiet" not in caught.value.message


def test_a_feed_that_the_login_may_not_read_names_the_connection(
    feeds: Feeds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"login": "reader", "password": "right"}))
    feeds.fail("/reviews.xml", Answer(b"members only", 403), times=9)
    with pytest.raises(HearbackError, match=r"403 .*: not allowed.*; check connection 'desk'"):
        pull_all(make_source("rss", f"{feeds.url}/reviews.xml"), tmp_path)


def test_a_page_that_is_no_feed_is_told(feeds: Feeds, tmp_path: Path) -> None:
    with pytest.raises(HearbackError, match=r"/about is not a feed; give the address"):
        pull_all(source_of(feeds, "about"), tmp_path)


def test_an_address_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs base_url or options\.urls"):
        pull_all(make_source("rss", connection=None), tmp_path)


def test_check_names_the_feed(feeds: Feeds, tmp_path: Path) -> None:
    assert rss.check(source_of(feeds), make_context(tmp_path)) == "Kettle reviews: 1 entries"


Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    server = Feeds()
    source = source_of(
        server, "reviews.xml", "forum.xml", options={"channel": "review", "product": "Kettle"}
    )
    found = stage(tmp_path_factory.mktemp("rss"), source)["feedback"]
    server.close()
    return found


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("channel", "review"),
        ("author", "Lena Holm"),
        ("product", "Kettle"),
        ("language", "de"),
        ("created_at", datetime(2026, 11, 18, 9, tzinfo=UTC)),
        ("updated_at", datetime(2026, 11, 19, 9, tzinfo=UTC)),
        ("title", "Undicht"),
        ("body", "<p>Der Deckel ist <b>undicht</b>.</p>"),
        ("rating", 2.0),
        ("rating_max", 5.0),
        ("url", "https://acme.example/r/2"),
    ],
)
def test_an_atom_entry_as_feedback(rows: Rows, column: str, value: Any) -> None:
    assert one(rows, source_record_id=R2)[column] == value


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("author", "林晓"),
        ("created_at", datetime(2026, 11, 19, 1, 30, tzinfo=UTC)),
        ("title", "水壶漏水"),
        ("body", "<p>刚买就漏水。</p>"),
        ("rating", None),
    ],
)
def test_an_rss_item_as_feedback(rows: Rows, column: str, value: Any) -> None:
    assert one(rows, source_record_id="t-5")[column] == value

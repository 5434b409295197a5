"""Pulls of review pages from a site on loopback, batch by batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.errors import HearbackError, UsageError
from pipelines.mapping import used_fields
from pipelines.settings import Source
from pipelines.sources import web_reviews
from pipelines.sources.base import Batch, PullContext
from tests.pipelines.sources.pulling import stage
from tests.pipelines.sources.web_reviews.server import Shop, page_of


@pytest.fixture
def shop() -> Iterator[Shop]:
    found = Shop()
    yield found
    found.close()


def make_source(url: str | None, **options: Any) -> Source:
    options = {"delay": 0, "sitemap": False, **options}
    return Source(name="reviews", kind="web_reviews", base_url=url, options=options)


def make_context(folder: Path, position: dict[str, Any] | None = None) -> PullContext:
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    return PullContext(now, folder, folder / "state", position or {}, time_zone="Asia/Shanghai")


def bodies(batches: list[Batch]) -> list[str]:
    found: list[str] = []
    for batch in batches:
        assert isinstance(batch.records, list)
        found += [str(record.payload["body"]) for record in batch.records]  # type: ignore[index]
    return sorted(found)


def expected(*numbers: int) -> list[str]:
    return sorted(f"Text of review {number}" for number in numbers)


def crawls_of(folder: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.is_running()
        and process.status() != psutil.STATUS_ZOMBIE
        and any(str(folder) in part for part in process.cmdline())
    ]


def test_second_pull_brings_only_what_changed(shop: Shop, tmp_path: Path) -> None:
    shop.stock(5)
    source = make_source(shop.url)
    first = list(web_reviews.pull(source, make_context(tmp_path)))
    assert bodies(first) == expected(*range(5))
    records = first[0].records
    assert isinstance(records, list)
    record = next(r for r in records if r.record_id.endswith("10000"))
    assert record.url == f"{shop.url}/p/0#r-10000"
    assert isinstance(record.payload, dict)
    assert record.payload["created_at"] == "2024-05-01T00:00:00+00:00", "the project's zone"
    assert not {"page_url", "url", "review_id"} & set(record.payload)
    position = json.loads(json.dumps(first[-1].position))
    assert position["crawl"] is None
    left = {path.name for path in (tmp_path / "state").iterdir()}
    assert left == {"crawl.log", "stats.json"}, "no review is kept outside the lake"

    shop.pages["/p/3"] = page_of(33)
    second = list(web_reviews.pull(source, make_context(tmp_path, position)))
    assert bodies(second) == expected(33)
    assert [status for path, status in shop.asked if path == "/p/1"] == [200, 304]

    position = json.loads(json.dumps(second[-1].position))
    shop.asked.clear()
    new_settings = make_source(shop.url, language="en")
    third = list(web_reviews.pull(new_settings, make_context(tmp_path, position)))
    assert bodies(third) == expected(0, 1, 2, 33, 4), "pages are read anew for new settings"


def test_pull_stopped_after_a_batch_loses_nothing(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_reviews, "BATCH_SECONDS", 0.2)
    shop.stock(30)
    shop.seconds = 0.1
    source = make_source(shop.url)
    pull = web_reviews.pull(source, make_context(tmp_path))
    first = next(batch for batch in pull if batch.records)
    assert crawls_of(tmp_path), "batches come while the crawl goes on"
    position = json.loads(json.dumps(first.position))
    pull.close()  # type: ignore[attr-defined]
    assert crawls_of(tmp_path) == []
    rest = list(web_reviews.pull(source, make_context(tmp_path, position)))
    assert sorted(bodies([first]) + bodies(rest)) == expected(*range(30)), "each exactly once"
    assert max(path_counts(shop).values()) == 1, "no page is fetched twice"


def path_counts(shop: Shop) -> dict[str, int]:
    paths = [path for path, _ in shop.asked if path.startswith("/p/")]
    return {path: paths.count(path) for path in paths}


def test_crawl_that_takes_too_long_is_stopped_and_goes_on(shop: Shop, tmp_path: Path) -> None:
    shop.stock(12)
    shop.seconds = 0.7
    context = make_context(tmp_path)
    batches: list[Batch] = []
    with pytest.raises(HearbackError, match=r"stopped after 0\.07 minutes") as caught:
        batches.extend(web_reviews.pull(make_source(shop.url, max_minutes=0.07), context))
    assert caught.value.message.startswith("source reviews: ")
    assert crawls_of(tmp_path) == []


def test_pages_that_fail_break_off_or_ask_to_wait_are_asked_for_again(
    shop: Shop, tmp_path: Path
) -> None:
    shop.stock(5)
    shop.faults = {"/p/1": [503, 502], "/p/2": [0], "/p/3": [429]}
    batches = list(web_reviews.pull(make_source(shop.url), make_context(tmp_path)))
    assert bodies(batches) == expected(*range(5))
    assert len(shop.times["/p/1"]) == 3
    first, second = shop.times["/p/3"]
    assert second - first >= 1


def test_pages_that_may_not_be_read_are_told_and_hide_no_other(shop: Shop, tmp_path: Path) -> None:
    shop.stock(3)
    shop.faults = {"/p/1": [403] * 9}
    batches = list(web_reviews.pull(make_source(shop.url), make_context(tmp_path)))
    assert bodies(batches) == expected(0, 2)
    shop.faults = {"/": [403] * 9}
    with pytest.raises(HearbackError, match=r"^source reviews: .* answered 403"):
        list(web_reviews.pull(make_source(shop.url), make_context(tmp_path)))


def test_site_that_is_down_is_said_in_one_line(shop: Shop, tmp_path: Path) -> None:
    shop.close()
    with pytest.raises(HearbackError) as caught:
        list(web_reviews.pull(make_source(shop.url), make_context(tmp_path)))
    assert caught.value.message == (
        f"source reviews: {shop.url}/ refused the connection; check base_url or that the site is up"
    )


def test_selector_that_matches_nothing_is_an_error(shop: Shop, tmp_path: Path) -> None:
    shop.pages = {"/": "<p class='review'>Nice</p>"}
    source = make_source(shop.url, selectors={"item": ".revew", "body": "p"})
    with pytest.raises(HearbackError, match=r"'\.revew' matches nothing on 1 pages"):
        list(web_reviews.pull(source, make_context(tmp_path)))


def test_wrong_selector_is_said_in_one_line(shop: Shop, tmp_path: Path) -> None:
    source = make_source(shop.url, selectors={"item": "li["})
    with pytest.raises(HearbackError) as caught:
        list(web_reviews.pull(source, make_context(tmp_path)))
    assert caught.value.message == ("source reviews: selectors.item: 'li[' is not a CSS selector")


def test_page_whose_reviews_cannot_be_read_is_captured_as_broken() -> None:
    page = {
        "url": "http://a.test/p?x=1", "final_url": "http://a.test/p?x=1", "records": [],
        "notes": {"reviews_unreadable": 1},
    }  # fmt: skip
    (record,) = web_reviews.read_records(page, {})
    assert (record.record_id, record.problem) == ("page:/p?x=1", "broken_json")


def test_relative_date_stays_as_it_was_first_read() -> None:
    dates: dict[str, list[str | None]] = {}

    def read(created: str, created_at: str) -> Any:
        review = {
            "review_id": "7", "page_url": "", "url": "", "notes": ["date_relative"],
            "created": created, "created_at": created_at,
        }  # fmt: skip
        (record,) = web_reviews.read_records({"records": [review], "notes": {}}, dates)
        return record.payload

    first = read("3 days ago", "2026-11-17T12:00:00+00:00")
    assert read("1 week ago", "2026-11-18T12:00:00+00:00") == first


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        (None, {}, "needs base_url"),
        ("shop.test", {}, "not an http"),
        ("http://a.test", {"selektors": {}}, "did you mean 'selectors'"),
        ("http://a.test", {"selectors": {"itm": "li"}}, "selectors.itm"),
        ("http://a.test", {"deny": ["("]}, "not a regular expression"),
        ("http://a.test", {"max_pages": 0}, "max_pages"),
        ("http://a.test", {"time_zone": "Asia/Shangai"}, "Asia/Shanghai"),
    ],
)
def test_wrong_options_are_usage_errors(
    url: str | None, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        list(web_reviews.pull(make_source(url, **options), make_context(tmp_path)))
    assert words in caught.value.message


def test_start_urls_are_joined_to_base_url() -> None:
    source = make_source("https://a.test/shop/", start_urls=["/en/", "reviews"])
    options = web_reviews.Options.model_validate(source.options)
    assert web_reviews.find_start_urls(source, options) == [
        "https://a.test/en/",
        "https://a.test/shop/reviews",
    ]


def test_every_field_of_a_review_is_used_or_ignored_by_name() -> None:
    from scrapers.parsing import make_record
    from scrapers.review import Review

    record = make_record(Review("json-ld", 0, is_post=True), "1", "http://a.test/", None)
    payload = set(record) - {"review_id", "page_url", "url"}
    assert payload == used_fields(web_reviews.mappings(make_source("http://a.test")), "reviews")


def test_posts_are_feedback_of_a_forum(shop: Shop, tmp_path: Path) -> None:
    post = {
        "@type": "DiscussionForumPosting", "headline": "It leaks", "text": "Since the update.",
        "author": "Bo", "datePublished": "2024-05-02T08:00:00Z", "url": "/d/1",
    }  # fmt: skip
    text = f'<script type="application/ld+json">{json.dumps(post)}</script>'
    shop.pages = {"/": page_of(1) + text}
    rows = stage(tmp_path, make_source(shop.url, posts=True))["feedback"]
    assert {(row["channel"], row["body"]) for row in rows} == {
        ("review", "Text of review 1"),
        ("forum", "Since the update."),
    }


def test_pages_are_read_again_once_posts_are_wanted(shop: Shop, tmp_path: Path) -> None:
    shop.stock(1)
    (*_, last) = web_reviews.pull(make_source(shop.url), make_context(tmp_path))
    shop.asked.clear()
    list(web_reviews.pull(make_source(shop.url, posts=True), make_context(tmp_path, last.position)))
    assert ("/p/0", 200) in shop.asked


def test_secrets_do_not_reach_the_crawl(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SUPPORT", "https://login:word@a.test")
    shop.stock(1)
    shop.seconds = 0.5
    files = web_reviews.CrawlFiles(tmp_path / "state")
    files.begin({"id": "1"})
    config = {"start_urls": [shop.url], "delay": 0}
    files.config.write_text(json.dumps(config), encoding="utf-8")
    with files.log.open("wb") as log:
        process = web_reviews.start_crawl(files, log)
    try:
        assert "AIRFLOW_CONN_SUPPORT" not in psutil.Process(process.pid).environ()
    finally:
        web_reviews.stop_crawl(process)


def test_a_check_fetches_the_first_page_and_robots_txt_alone(shop: Shop, tmp_path: Path) -> None:
    shop.stock(3)
    shop.pages["/"] += page_of(77)
    told = web_reviews.check(make_source(shop.url, max_pages=500), make_context(tmp_path))
    assert told == f"1 reviews on {shop.url}"
    assert sorted(path for path, _ in shop.asked) == ["/", "/robots.txt"]
    assert not (tmp_path / "state").exists()


def test_a_check_of_a_site_that_is_not_there_is_one_line(shop: Shop, tmp_path: Path) -> None:
    shop.pages = {}
    with pytest.raises(HearbackError, match=r"^source reviews: .*404"):
        web_reviews.check(make_source(shop.url), make_context(tmp_path))

"""Whole crawls against a site on loopback, each in a process of its own as in real use."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from scrapy.exceptions import CannotResolveHostError, DownloadTimeoutError
from scrapy.http import Response
from scrapy.spidermiddlewares.httperror import HttpError

from scrapers.config import ConfigError, make_config
from scrapers.middlewares import ForbiddenByRobots, OffSite, RobotsUnreadable, read_retry_after
from scrapers.spiders.reviews import explain_failure
from tests.scrapers.loopback import Page, Site

ROOT = Path(__file__).resolve().parents[2]


def review_html(number: int, more: str = "") -> str:
    review = {
        "@type": "Review", "@id": f"#review-{10_000 + number}", "author": f"Writer {number}",
        "datePublished": "2024-05-01", "reviewBody": f"Text of review {number}.",
        "reviewRating": {"ratingValue": 4},
    }  # fmt: skip
    script = f'<script type="application/ld+json">{json.dumps(review)}</script>'
    return f"<html lang='en'><head>{script}</head><body>{more}</body></html>"


class Crawl:
    """One job folder; ``run`` may be called again."""

    def __init__(self, folder: Path, site: Site, **config: Any) -> None:
        self.folder = folder
        self.config = {"start_urls": [f"{site.url}/"], "delay": 0, **config}
        self.output = folder / "pages.ndjson"
        self.stats_path = folder / "stats.json"
        self.stderr = ""

    def start(self) -> subprocess.Popen[str]:
        config = self.folder / "config.json"
        config.write_text(json.dumps(self.config), encoding="utf-8")
        return subprocess.Popen(
            [
                sys.executable, "-m", "scrapers.crawl", "--config", str(config),
                "--output", str(self.output), "--stats", str(self.stats_path),
                "--jobdir", str(self.folder / "job"),
            ],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self) -> int:
        process = self.start()
        _, self.stderr = process.communicate(timeout=60)
        return process.returncode

    def next(self) -> None:
        """Get ready for the next crawl, which knows what this one learnt."""
        known = json.loads((self.folder / "job/known_pages.json").read_text(encoding="utf-8"))
        self.config["known_pages"] = known
        self.output.unlink()

    @property
    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = json.loads(self.stats_path.read_text(encoding="utf-8"))
        return stats

    @property
    def pages(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text(encoding="utf-8").splitlines()]

    @property
    def reviews(self) -> list[str]:
        return sorted(record["body"] for page in self.pages for record in page["records"])


def expected_reviews(*numbers: int) -> list[str]:
    return sorted(f"Text of review {number}." for number in numbers)


def wait_for(condition: Any, seconds: float = 30.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def shop(site: Site, other_site: Site) -> Site:
    """A list of three pages, six reviews, and everything that must not be fetched."""
    site.pages = {
        "/robots.txt": Page(
            f"User-agent: *\nDisallow: /private/\nSitemap: {site.url}/map.xml\n", has_etag=False
        ),
        "/": Page(
            "<a href='/p/1'>1</a><a href='/p/2'>2</a><a href='/private/3'>3</a>"
            f"<a href='{other_site.url}/'>away</a><a href='/leave'>out</a><a href='/flaky'>f</a>"
            "<a href='/p/old'>old</a><a href='/missing'>gone</a><a href='/admin/9'>denied</a>"
            "<a rel='next' href='/?page=2'>more</a>"
        ),
        "/?page=2": Page("<a href='/p/4'>4</a><a rel='next' href='/?page=3'>more</a>"),
        "/?page=3": Page("<a href='/p/5'>5</a>"),
        "/map.xml": Page(
            f"<sitemapindex><sitemap><loc>{site.url}/map-1.xml.gz</loc></sitemap></sitemapindex>",
            headers={"Content-Type": "application/xml"},
        ),
        "/map-1.xml.gz": Page(
            gzip.compress(
                b"<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'><url><loc>"
                + f"{site.url}/p/6</loc><lastmod>2024-01-01</lastmod></url></urlset>".encode()
            ),
            headers={"Content-Type": "application/gzip"},
        ),
        "/p/1": Page(review_html(1)),
        "/p/2": Page(review_html(2)),
        "/private/3": Page(review_html(3)),
        "/p/4": Page(review_html(4)),
        "/p/5": Page(review_html(5)),
        "/p/6": Page(review_html(6)),
        "/admin/9": Page(review_html(9)),
        "/flaky": Page(review_html(7), failures=2),
        "/leave": Page(status=302, headers={"Location": f"{other_site.url}/"}),
        "/p/old": Page(status=301, headers={"Location": "/p/1"}),
    }
    return site


def test_crawl_and_second_crawl(shop: Site, other_site: Site, tmp_path: Path) -> None:
    crawl = Crawl(tmp_path, shop, deny=["^/admin/"])
    assert crawl.run() == 0, crawl.stderr
    assert crawl.reviews == expected_reviews(1, 2, 4, 5, 6, 7), "pagination, sitemap, retry"
    assert shop.count("/private/3") == 0, "robots.txt forbids it"
    assert shop.count("/admin/9") == 0, "deny forbids it"
    assert other_site.asked == [], "no link and no redirect leaves the site"
    assert shop.count("/flaky") == 3, "two failures, then the page"
    assert all("Hearback" in agent for agent in shop.agents)
    stats = crawl.stats
    assert stats["robots_forbidden"] == 1
    assert stats["offsite_redirects"] == 1
    assert stats["gone"] == 1
    assert stats["pages"] == stats["items"] == 9
    assert stats["records"] == 6
    assert stats["retries"] == 2

    crawl.next()
    shop.asked.clear()
    shop.pages["/p/2"].body = review_html(22)
    shop.pages["/?page=3"].body = "<a href='/p/5'>5</a><a href='/p/8'>8</a>"
    shop.pages["/p/8"] = Page(review_html(8))
    assert crawl.run() == 0, crawl.stderr
    assert crawl.reviews == expected_reviews(22, 8), "only what is new or changed"
    assert crawl.stats["not_modified"] == 6
    assert crawl.stats["unchanged_by_sitemap"] == 1
    assert shop.count("/p/6") == 0, "the sitemap says that it is unchanged"
    assert ("/p/5", 304) in shop.asked


def test_killed_crawl_goes_on(site: Site, tmp_path: Path) -> None:
    numbers = range(24)
    links = "".join(f"<a href='/p/{n}'>{n}</a>" for n in numbers)
    site.pages["/"] = Page(links)
    for n in numbers:
        site.pages[f"/p/{n}"] = Page(review_html(n), seconds=0.05)
    crawl = Crawl(tmp_path, site, sitemap=False)
    process = crawl.start()
    wait_for(lambda: crawl.output.exists() and crawl.output.read_bytes().count(b"\n") >= 8)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {page["url"] for page in crawl.pages[:7]}
    with crawl.output.open("a", encoding="utf-8") as output:
        output.write('{"url": "half a li')
    site.asked.clear()
    assert crawl.run() == 0, crawl.stderr
    assert sorted(set(crawl.reviews)) == expected_reviews(*numbers)
    assert crawl.stats["is_resumed"] is True
    assert not {site.url + path for path, _ in site.asked} & done, "nothing done is fetched again"


def test_stopped_crawl_goes_on(site: Site, tmp_path: Path) -> None:
    numbers = range(12)
    site.pages["/"] = Page("".join(f"<a href='/p/{n}'>{n}</a>" for n in numbers))
    for n in numbers:
        site.pages[f"/p/{n}"] = Page(review_html(n), seconds=0.1)
    crawl = Crawl(tmp_path, site, sitemap=False)
    process = crawl.start()
    wait_for(lambda: crawl.output.exists() and crawl.output.read_bytes().count(b"\n") >= 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 1
    assert crawl.stats["finish_reason"] == "shutdown"
    assert crawl.run() == 0, crawl.stderr
    assert crawl.reviews == expected_reviews(*numbers), "each review exactly once"


def test_page_limit_leaves_the_rest_for_the_next_crawl(site: Site, tmp_path: Path) -> None:
    site.pages["/"] = Page("".join(f"<a href='/p/{n}'>{n}</a>" for n in range(6)))
    for n in range(6):
        site.pages[f"/p/{n}"] = Page(review_html(n))
    crawl = Crawl(tmp_path, site, sitemap=False, max_pages=4)
    assert crawl.run() == 0, crawl.stderr
    first = crawl.reviews
    assert (crawl.stats["pages"], crawl.stats["left_for_next_crawl"]) == (4, 3)
    crawl.next()
    assert crawl.run() == 0, crawl.stderr
    assert sorted(first + crawl.reviews) == expected_reviews(*range(6))


def test_depth_allow_and_crawl_delay_bound_the_crawl(site: Site, tmp_path: Path) -> None:
    site.pages["/robots.txt"] = Page("User-agent: *\nCrawl-delay: 0.4")
    site.pages["/"] = Page("<a href='/p/1'>1</a><a href='/blog'>b</a><a href='?page=2'>2</a>")
    site.pages["/?page=2"] = Page("<a href='/p/3'>3</a>")
    site.pages["/p/1"] = Page(review_html(1, "<a href='/p/2'>2</a>"))
    site.pages["/p/2"] = Page(review_html(2))
    site.pages["/p/3"] = Page(review_html(3))
    site.pages["/blog"] = Page(review_html(4))
    crawl = Crawl(tmp_path, site, sitemap=False, allow=["^/p/"], max_depth=1)
    assert crawl.run() == 0, crawl.stderr
    assert crawl.reviews == expected_reviews(1, 3)
    assert crawl.stats["links_too_deep"] == 1
    assert site.times[-1] - site.times[1] > 0.5, "three gaps of Crawl-delay, at least half of each"
    crawl.next()
    site.pages["/?page=2"].body = "<a href='/p/3'>3</a><a href='/p/5'>5</a>"
    site.pages["/p/5"] = Page(review_html(5))
    assert crawl.run() == 0, crawl.stderr
    assert crawl.reviews == expected_reviews(5), "a list's next page is known though not in allow"


def test_forbidden_start_pages_are_never_asked_for_together(site: Site, tmp_path: Path) -> None:
    site.pages["/robots.txt"] = Page("User-agent: Hearback\nDisallow: /no/", seconds=0.3)
    site.pages["/"] = Page("x")
    urls = [f"{site.url}/no/{n}" for n in range(6)]
    crawl = Crawl(tmp_path, site, sitemap=False, start_urls=[f"{site.url}/", *urls])
    assert crawl.run() == 1
    assert [path for path, _ in site.asked] == ["/robots.txt", "/"]
    assert crawl.stats["robots_forbidden"] == 6


def test_failing_robots_forbids_everything(site: Site, tmp_path: Path) -> None:
    site.pages = {"/robots.txt": Page(status=503), "/": Page(review_html(1))}
    crawl = Crawl(tmp_path, site, retries=1)
    assert crawl.run() == 1
    assert crawl.stderr.splitlines()[-1] == (
        f"{site.url}/ answered 503 for robots.txt; check base_url or that the site is up"
    )
    assert site.count("/") == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (HttpError(Response("http://a.test/", status=403)), "answered 403"),
        (CannotResolveHostError(), "has a host name that cannot be found"),
        (DownloadTimeoutError(), "did not answer within 30 s"),
        (ForbiddenByRobots("is forbidden by robots.txt"), "is forbidden by robots.txt"),
        (RobotsUnreadable(DownloadTimeoutError()), "did not answer within 30 s"),
        (OffSite("http://b.test/ is on another site"), "redirects away"),
        (OSError("odd"), "failed (OSError: odd)"),
    ],
)
def test_failure_in_words(error: Exception, words: str) -> None:
    assert words in explain_failure(error, 30.0)


def test_refused_connection_is_said_in_words(site: Site, tmp_path: Path) -> None:
    crawl = Crawl(tmp_path, site, retries=0)
    site.close()
    assert crawl.run() == 1
    assert crawl.stderr.splitlines()[-1] == (
        f"{site.url}/ refused the connection; check base_url or that the site is up"
    )


def test_crawl_ends_with_its_caller(site: Site, tmp_path: Path) -> None:
    site.pages["/"] = Page("<a href='?page=2'>next</a>", seconds=1.0)
    site.pages["/?page=2"] = Page("", seconds=60.0)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"start_urls": [f"{site.url}/"], "delay": 0, "sitemap": False}))
    caller = (
        "import os, subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-m', 'scrapers.crawl', *sys.argv[1:],"
        " '--parent', str(os.getpid())])\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [
            sys.executable, "-c", caller, "--config", str(config),
            "--output", str(tmp_path / "o"), "--stats", str(tmp_path / "s"),
            "--jobdir", str(tmp_path / "job"),
        ],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    wait_for(lambda: site.asked)
    process.kill()
    process.wait()
    wait_for(lambda: not is_running(pid), 20)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"start_urls": []}, "start_urls is empty"),
        ({"start_urls": ["shop.test"]}, "not an http(s) address"),
        ({"start_urls": ["http://a.test"], "pages": 3}, "unknown key 'pages'"),
        ({"start_urls": ["http://a.test"], "allow": ["("]}, "not a regular expression"),
        ({"start_urls": ["http://a.test"], "max_pages": 0}, "max_pages must be at least 1"),
        ({"start_urls": ["http://a.test"], "selectors": {"item": "["}}, "not a CSS selector"),
        ({"start_urls": ["http://a.test"], "time_zone": "Mars/X"}, "not an IANA time zone"),
    ],
)
def test_wrong_configuration_is_explained(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("(", r"\(").replace(")", r"\)")):
        make_config(config)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0.0), (b"7", 7.0), (b"Fri, 20 Nov 2026 12:00:30 GMT", 30.0), (b"soon", 0.0),
        (b"Fri, 20 Nov 2026 11:00:00 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after(header: bytes | None, seconds: float) -> None:
    assert read_retry_after(header, datetime(2026, 11, 20, 12, tzinfo=UTC)) == seconds

"""Run one crawl in this process: ``python -m scrapers.crawl --config … --output … --stats …``.

Meant to be a subprocess: Scrapy's event loop can be started only once in a process. Exit codes: 0
the crawl finished, 1 it did not (the last line on stderr says why), 2 wrong usage. A crawl that was
stopped or killed goes on where it was when it is run again with the same job folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from scrapers.config import ConfigError, CrawlConfig, read_config

STATS_NAMES = (
    "pages", "records", "not_modified", "unchanged_by_sitemap", "gone", "errors",
    "robots_forbidden", "offsite_redirects", "redirects_to_known_pages", "not_html", "sitemaps",
    "sitemaps_missing", "sitemaps_unreadable", "sitemaps_left_out", "links_too_deep",
    "left_for_next_crawl", "selector_matches",
)  # fmt: skip
KNOWN_PAGES_FILE = "known_pages.json"


def read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scrapers.crawl", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON; see scrapers.config")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, one a page")
    parser.add_argument("--stats", type=Path, required=True, help="JSON written at the end")
    parser.add_argument("--jobdir", type=Path, required=True, help="folder of the crawl's state")
    parser.add_argument("--parent", type=int, default=0, help="stop if this process ends")
    return parser.parse_args(arguments)


def make_settings(config: CrawlConfig, output: Path, parent: int) -> Any:
    """Scrapy's settings for one crawl."""
    from scrapy.settings import Settings

    settings = Settings()
    settings.setmodule("scrapers.settings")
    settings.setdict(
        {
            "HEARBACK_OUTPUT": str(output),
            "HEARBACK_PARENT": parent,
            "EXTENSIONS": {"scrapers.extensions.ParentWatch": 0},
            "DOWNLOAD_DELAY": config.delay,
            "AUTOTHROTTLE_START_DELAY": config.delay,
            "DOWNLOAD_TIMEOUT": config.timeout,
            "RETRY_TIMES": config.retries,
        },
        priority="cmdline",
    )
    if config.user_agent:
        settings.set("USER_AGENT", config.user_agent, priority="cmdline")
    return settings


def write_json(path: Path, value: Any) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    part.replace(path)


def explain_outcome(reason: str, spider: Any) -> str | None:
    """Why a crawl counts as failed, in one line, or None."""
    if spider.failed_starts:
        failed = spider.failed_starts[0]
        if "forbidden by robots.txt" in failed["error"]:
            hint = "take it out of start_urls or ask the site's owner"
        else:
            hint = "check base_url or that the site is up"
        return f"{failed['url']} {failed['error']}; {hint}"
    if reason != "finished":
        return f"the crawl stopped early ({reason}); run it again to go on"
    return None


def run_crawl(
    config: CrawlConfig, output: Path, stats_path: Path, jobdir: Path, parent: int
) -> int:
    """Crawl to the end, write the stats and what the next crawl should know; the exit code."""
    from scrapy.crawler import CrawlerProcess

    from scrapers.journal import Journal
    from scrapers.spiders.reviews import ReviewsSpider

    begin = time.monotonic()
    journal = Journal.open(jobdir, config)
    process = CrawlerProcess(make_settings(config, output, parent))
    crawler = process.create_crawler(ReviewsSpider)
    process.crawl(crawler, config=config, journal=journal)
    process.start()
    spider: Any = crawler.spider
    found: dict[str, Any] = crawler.stats.get_stats() if crawler.stats else {}
    reason = str(found.get("finish_reason", "failed to start"))
    if spider is None:
        sys.stderr.write("the crawl could not start; see the lines above\n")
        return 1
    write_json(jobdir / KNOWN_PAGES_FILE, spider.next_known_pages())
    journal.close(is_finished=reason == "finished")
    problem = explain_outcome(reason, spider)
    write_json(
        stats_path,
        {
            "finish_reason": reason,
            "problem": problem,
            **{name: spider.counts.get(name, 0) for name in STATS_NAMES},
            "items": found.get("item_scraped_count", 0),
            "requests": found.get("downloader/request_count", 0),
            "retries": found.get("retry/count", 0),
            "bytes": found.get("downloader/response_bytes", 0),
            "seconds": round(time.monotonic() - begin, 3),
            "is_resumed": journal.is_resumed,
            "error_samples": spider.errors,
        },
    )
    if problem:
        sys.stderr.write(f"{problem}\n")
    return 1 if problem else 0


def main(arguments: list[str] | None = None) -> int:
    options = read_arguments(arguments)
    try:
        config = read_config(options.config)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return run_crawl(config, options.output, options.stats, options.jobdir, options.parent)


if __name__ == "__main__":
    sys.exit(main())

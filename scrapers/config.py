"""The configuration of one crawl, as the caller writes it to a JSON file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from scrapers.parsing import ParseOptions
from scrapers.selected import check_selectors


class ConfigError(Exception):
    """The configuration cannot be used; the message is one line that says what to mend."""


@dataclass(frozen=True)
class CrawlConfig:
    """``start_urls`` are fetched; links are followed on their sites only, to ``max_depth``.

    ``allow`` and ``deny`` are regular expressions searched in path and query; start URLs and
    pagination need not match ``allow``. ``max_pages`` bounds pages downloaded (answers "not
    modified" are free); what is left over is fetched by the next crawl. ``delay`` is the least
    number of seconds between two requests to a host. ``known_pages`` maps URLs to what the last
    crawl learnt (etag, last_modified, lastmod, depth, checked_at).
    """

    start_urls: tuple[str, ...]
    sitemap: bool = True
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    max_pages: int = 1000
    max_depth: int = 5
    delay: float = 1.0
    timeout: float = 30.0
    retries: int = 3
    selectors: dict[str, str] = field(default_factory=dict)
    language: str | None = None
    time_zone: str = "UTC"
    user_agent: str | None = None
    posts: bool = False
    known_pages: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def parse_options(self) -> ParseOptions:
        return ParseOptions(self.selectors, self.language, self.time_zone, self.posts)


def read_config(path: Path) -> CrawlConfig:
    """The checked configuration in a JSON file; ConfigError says what is wrong with it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: not a JSON object")
    return make_config(data)


def make_config(data: dict[str, Any]) -> CrawlConfig:
    """A CrawlConfig from plain values; ConfigError names the key that is wrong."""
    known = {entry.name for entry in fields(CrawlConfig)}
    for key in data:
        if key not in known:
            raise ConfigError(f"unknown key {key!r}; the keys are {', '.join(sorted(known))}")
    data = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
    if not data.get("start_urls"):
        raise ConfigError("start_urls is empty; give the address of a page with reviews")
    config = CrawlConfig(**data)
    for url in config.start_urls:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ConfigError(f"start_urls: {url!r} is not an http(s) address")
    for key in ("allow", "deny"):
        for pattern in getattr(config, key):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(
                    f"{key}: {pattern!r} is not a regular expression ({error})"
                ) from None
    for key, least in (("max_pages", 1), ("max_depth", 0), ("delay", 0), ("timeout", 0.1)):
        if getattr(config, key) < least:
            raise ConfigError(f"{key} must be at least {least}, not {getattr(config, key)}")
    problem = check_selectors(config.selectors)
    if problem:
        raise ConfigError(problem)
    try:
        ZoneInfo(config.time_zone)
    except (KeyError, ValueError, OSError):
        raise ConfigError(f"time_zone: {config.time_zone!r} is not an IANA time zone") from None
    return config

"""What a crawl gives: one item a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ReviewPage:
    """One page that was fetched, with its reviews (often none).

    ``url`` is the address asked for, ``final_url`` where redirects led. etag, last_modified (HTTP
    headers) and lastmod (sitemap) are what a later crawl needs to skip the page while it is
    unchanged; null where the site does not send them. ``records`` are as in
    ``scrapers.parsing.make_record``; ``notes`` count what could not be read.
    """

    url: str
    final_url: str
    fetched_at: str
    status: int
    depth: int
    is_pagination: bool = False
    etag: str | None = None
    last_modified: str | None = None
    lastmod: str | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)

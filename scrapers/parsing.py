"""From a page's HTML to review records. Pure: no network, no clock, no settings object.

A review is an item that somebody wrote about something: schema.org Review and its kinds, in
JSON-LD, microdata, RDFa or microformats, or whatever the configured CSS selectors point at. An
AggregateRating, an Article or a Recipe by itself is no review, nor is a fact check (ClaimReview).
Posts of forums and comments are read if they are asked for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urljoin

from scrapers.identity import distrust_numbering, make_review_id, merge_reviews
from scrapers.markup import parse_tree
from scrapers.review import Review
from scrapers.selected import read_selected
from scrapers.structured import read_structured
from scrapers.values import DateReader, check_language, infer_date_order, read_language


@dataclass(frozen=True)
class ParseOptions:
    """What the configuration says about a site's pages."""

    selectors: Mapping[str, str] = field(default_factory=dict)
    language: str | None = None
    time_zone: str = "UTC"
    posts: bool = False


@dataclass
class ParsedPage:
    """``records`` as in ``make_record``; ``notes`` say what could not be read, with counts."""

    records: list[dict[str, Any]]
    notes: dict[str, int]
    selector_matches: int = 0


def parse_page(
    text: str, url: str, fetched_at: datetime, options: ParseOptions | None = None
) -> ParsedPage:
    """The review records of one page.

    ``text`` is the decoded HTML, ``fetched_at`` the instant that relative dates count back from.
    The same review in several notations is one record.
    """
    options = options or ParseOptions()
    tree = parse_tree(text)
    if tree is None:
        return ParsedPage([], {})
    notes: Counter[str] = Counter()
    page_language = options.language or tree.get("lang") or tree.get("xml:lang")
    reviews: list[Review] = []
    selector_matches = 0
    if options.selectors.get("item"):
        selected, selector_matches, left_out = read_selected(tree, url, options.selectors)
        reviews.extend(selected)
        notes["selected_without_content"] += left_out
    structured, page_product = read_structured(tree, text, url, notes, posts=options.posts)
    reviews.extend(structured)
    for review in reviews:
        review.product = review.product or page_product
    read_dates(reviews, fetched_at, page_language, options.time_zone)
    distrust_numbering(reviews)
    merged = merge_reviews(reviews)
    language = read_language(page_language)
    records = make_records(merged, url, language)
    if "\ufffd" in text:
        notes["undecodable_characters"] += text.count("\ufffd")
    return ParsedPage(records, {key: n for key, n in notes.items() if n}, selector_matches)


def read_dates(
    reviews: list[Review], fetched_at: datetime, html_lang: str | None, time_zone: str
) -> None:
    """Fill created_at of every review; numeric dates are read in the order that the page shows."""
    order, is_assumed = infer_date_order([r.created for r in reviews if r.created], html_lang)
    reader = DateReader(fetched_at, time_zone, read_language(html_lang), order, is_assumed)
    for review in reviews:
        if review.created is None:
            review.notes.append("date_missing")
            continue
        review.created_at, note = reader.read(review.created)
        if note:
            review.notes.append(note)


def make_records(
    reviews: list[Review], page_url: str, language: str | None
) -> list[dict[str, Any]]:
    """The records of a page; reviews that cannot be told apart get ids ending in ~2, ~3 …"""
    given: Counter[str] = Counter()
    link_counts = Counter(review.url for review in reviews if review.url)
    records = []
    for review in reviews:
        if review.url and link_counts[review.url] > 1:
            review.url = None  # a link that several reviews share is the product's
        review_id = make_review_id(review, page_url)
        given[review_id] += 1
        if given[review_id] > 1:
            review_id += f"~{given[review_id]}"
        records.append(make_record(review, review_id, page_url, language))
    return records


def make_record(
    review: Review, review_id: str, page_url: str, language: str | None
) -> dict[str, Any]:
    """One review as JSON-ready fields. Null: the page does not say, or ``notes`` says why.

    created is the date as written, created_at ISO 8601 in UTC; rating lies within rating_min and
    rating_max and higher is better; language is a code (en, zh …), null if the text's script
    contradicts what the page declares. Only what is no review has a channel.
    """
    rating = review.rating
    text = f"{review.title or ''} {review.body or ''}"
    own_language = read_language(review.language) or language
    link = urljoin(page_url, review.url) if review.url else None
    if link is None and review.own_id and re.match(r"https?://|/|#", review.own_id):
        link = urljoin(page_url, review.own_id)
    if link is None and review.anchor:
        link = urljoin(page_url, f"#{review.anchor}")
    notes = review.notes + list(rating.notes if rating else ())
    channel = {"channel": "forum"} if review.is_post else {}
    return {
        "review_id": review_id,
        "page_url": page_url,
        "url": link if link and link.startswith(("http://", "https://")) else page_url,
        "title": review.title,
        "body": review.body,
        "rating": rating.value if rating else None,
        "rating_min": rating.minimum if rating else None,
        "rating_max": rating.maximum if rating else None,
        "author": review.author,
        "created": review.created,
        "created_at": review.created_at.isoformat() if review.created_at else None,
        "language": check_language(own_language, text),
        "product": review.product,
        "markup": review.markup,
        "notes": notes,
        **channel,
    }

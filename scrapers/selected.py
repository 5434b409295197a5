"""Reviews in plain markup, found by the configured CSS selectors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import html_text
from cssselect import SelectorError
from parsel import Selector

from scrapers.review import Review, as_number, clean_text, element_id
from scrapers.values import Rating, parse_rating

SELECTOR_KEYS = (
    "item", "id", "title", "body", "rating", "rating_max", "author", "date", "product", "next",
)  # fmt: skip
RATING_ATTRIBUTES = ("content", "data-rating", "data-score", "data-value", "aria-label", "title",
                     "alt", "value", "class", "style")  # fmt: skip


def read_selected(
    tree: Any, url: str, selectors: Mapping[str, str]
) -> tuple[list[Review], int, int]:
    """(reviews that the selectors point at, items matched, items without text and rating)."""
    page = Selector(root=tree, type="html")
    shared_product = _select_text(page, selectors.get("product"))
    found: list[Review] = []
    items = page.css(selectors["item"])
    for item in items:
        review = Review("selectors", object())
        if selectors.get("id"):
            review.own_id = _select_text(item, selectors["id"])
        else:
            review.own_id, review.is_id_trusted = element_id(item.root), False
        review.anchor = item.root.get("id") or None
        review.title = clean_text(_select_text(item, selectors.get("title")))
        review.body = clean_text(_select_text(item, selectors.get("body")))
        review.author = clean_text(_select_text(item, selectors.get("author")))
        review.product = clean_text(_select_text(item, selectors.get("product")) or shared_product)
        review.created = _select_date(item, selectors.get("date"))
        review.rating = _select_rating(item, selectors)
        review.language = _closest_language(item.root)
        if review.body or review.title or review.rating:
            found.append(review)
    return found, len(items), len(items) - len(found)


def check_selectors(selectors: Mapping[str, str]) -> str | None:
    """What is wrong with configured selectors, or None."""
    page = Selector(text="<p></p>", type="html")
    for key, css in selectors.items():
        if key not in SELECTOR_KEYS:
            return f"selectors.{key} is unknown; the keys are {', '.join(SELECTOR_KEYS)}"
        try:
            page.css(css)
        except (ValueError, SelectorError):
            return f"selectors.{key}: {css!r} is not a CSS selector"
    if "::" in selectors.get("item", ""):
        return f"selectors.item: {selectors['item']!r} must select elements, not text"
    if selectors and "item" not in selectors and set(selectors) != {"next"}:
        return "selectors.item is missing: the selector of one review's element"
    return None


def _select_text(scope: Any, css: str | None) -> str | None:
    if not css:
        return None
    for found in scope.css(css):
        text = _root_text(found.root)
        if text:
            return text
    return None


def _root_text(root: Any) -> str:
    if isinstance(root, str):
        return root.strip()
    return str(html_text.etree_to_text(root)).strip()


def _select_date(scope: Any, css: str | None) -> str | None:
    """A date: its machine form if the element has one, else what is shown."""
    for found in scope.css(css) if css else ():
        root = found.root
        if isinstance(root, str):
            return root.strip() or None
        for name in ("datetime", "content", "data-time", "data-date"):
            if (root.get(name) or "").strip():
                return str(root.get(name)).strip()
        title = (root.get("title") or "").strip()
        # "2 days ago" often carries the full date as its title.
        if re.search(r"(?<!\d)(?:19|20)\d\d(?!\d)", title):
            return title
        if text := _root_text(root):
            return text
    return None


def _select_rating(scope: Any, selectors: Mapping[str, str]) -> Rating | None:
    if not selectors.get("rating"):
        return None
    best = _select_text(scope, selectors.get("rating_max"))
    for found in scope.css(selectors["rating"]):
        for text in _rating_texts(found.root):
            rating = parse_rating(as_number(text), best)
            if rating is not None:
                return rating
    return None


def _rating_texts(root: Any) -> Iterator[str]:
    """Where a rating may be written on an element or just inside it, plainest first."""
    if isinstance(root, str):
        yield root
        return
    elements = [root, *root.iterdescendants()][:12]
    yield from (e.get(n) for e in elements for n in RATING_ATTRIBUTES[:4] if e.get(n))
    yield from filter(None, [_root_text(root)])
    yield from (e.get(n) for e in elements for n in RATING_ATTRIBUTES[4:] if e.get(n))


def _closest_language(element: Any) -> str | None:
    for node in [element, *element.iterancestors()]:
        if node.tag in ("html", "body"):
            return None
        if node.get("lang"):
            return str(node.get("lang"))
    return None

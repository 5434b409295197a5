"""One review while a page is read: what its notations say, before they are put together."""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import html_text

from scrapers.markup import Markup
from scrapers.values import Rating, parse_number

ID_ATTRIBUTES = ("data-review-id", "data-reviewid", "data-comment-id", "data-cid", "data-id", "id")


@dataclass
class Review:
    """One review in one notation; ``block`` tells siblings of one list from repetitions."""

    markup: Markup
    block: object
    own_id: str | None = None
    is_id_trusted: bool = True
    url: str | None = None
    anchor: str | None = None  # where on the page it stands; may be a mere position
    title: str | None = None
    body: str | None = None
    rating: Rating | None = None
    author: str | None = None
    created: str | None = None
    created_at: datetime | None = None
    language: str | None = None
    product: str | None = None
    notes: list[str] = field(default_factory=list)
    is_post: bool = False  # of a forum, or a comment: no review


def clean_text(text: str | None) -> str | None:
    """Text without tags, entities and control characters; None if nothing is left."""
    if text is None:
        return None
    for _ in range(2):  # JSON-LD often holds text that was escaped twice
        if "&" in text:
            text = html.unescape(text)
    if re.search(r"</?(?:p|br|div|span|b|i|em|strong|a|ul|ol|li|h\d|blockquote|img)\b[^>]*>", text):
        text = html_text.extract_text(text)
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    text = re.sub(r"[ \t\u00a0]+", " ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() or None


def as_number(value: str | None) -> str | float | None:
    """A bare number as a number, so that '4.5' is never read as a fraction or a class name."""
    if value is not None and re.fullmatch(r"-?\d+(?:[.,]\d+)?", value.strip()):
        return parse_number(value)
    return value


def element_id(element: Any) -> str | None:
    return next(
        (element.get(n).strip() for n in ID_ATTRIBUTES if (element.get(n) or "").strip()), None
    )

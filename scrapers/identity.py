"""Which findings are one review, and the id that it keeps from crawl to crawl."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from scrapers.review import Review
from scrapers.values import Rating

PAGE_PARAMETERS = re.compile(
    r"^(page|pg|p|paged|seite|pagina|sida|start|offset|from|sort|order|orderby|lang|filter|ref|"
    r"sid|sessionid|phpsessid|jsessionid|utm_\w+|gclid|fbclid|msclkid|spm)$",
    re.IGNORECASE,
)
PAGE_IN_PATH = re.compile(r"/(?:page|seite|pagina|sida)[/-]?\d+(?=/|$)", re.IGNORECASE)
LASTING_ID = re.compile(r"\d{4}|[0-9a-f]{8}-[0-9a-f]{4}-", re.IGNORECASE)


def distrust_numbering(reviews: list[Review]) -> None:
    """Drop ids that are no ids: shared by several reviews, or mere positions on the page.

    An HTML id such as review-1, review-2 … counts positions; the next review would shift them all.
    Ids of four digits and more, and all that the page declares as identifiers, are kept.
    """
    for markup in {review.markup for review in reviews}:
        own = [review for review in reviews if review.markup == markup and review.own_id]
        texts: dict[str, set[tuple[str | None, str | None]]] = {}
        for review in own:
            texts.setdefault(review.own_id or "", set()).add((review.author, review.body))
        for review in own:
            if len(texts[review.own_id or ""]) > 1 or not (
                review.is_id_trusted or LASTING_ID.search(review.own_id or "")
            ):
                review.own_id = None


def _squeeze(text: str | None) -> str:
    """Letters and digits only, lower case: the same text in two notations compares equal."""
    return "".join(c for c in unicodedata.normalize("NFKC", text or "").lower() if c.isalnum())


def merge_reviews(reviews: list[Review]) -> list[Review]:
    """One review for each that the page shows, gaps filled from its other notations."""
    merged: list[tuple[Review, set[object]]] = []
    index: dict[tuple[str, str], list[int]] = {}
    for review in reviews:
        keys = _match_keys(review)
        found = next(
            (
                place
                for key in keys
                for place in index.get(key, ())
                if is_same_review(merged[place][0], review, merged[place][1])
            ),
            None,
        )
        if found is None:
            merged.append((review, {(review.markup, review.block)}))
            found = len(merged) - 1
        else:
            fill_gaps(merged[found][0], review)
            merged[found][1].add((review.markup, review.block))
        for key in keys:
            index.setdefault(key, []).append(found)
    return [review for review, _ in merged]


def _match_keys(review: Review) -> list[tuple[str, str]]:
    keys = []
    if review.own_id:
        keys.append(("id", re.split(r"[#/=]", review.own_id.rstrip("/"))[-1]))
    text = _squeeze(review.body or review.title)
    if text:
        keys.append(("text", text[:24]))
    if not review.body:
        keys.append(("bare", f"{_squeeze(review.author)}|{review.created_at}"))
    return keys


def is_same_review(known: Review, other: Review, blocks: set[object]) -> bool:
    """Whether two findings are one review: no field contradicts, and they are no siblings."""
    has_same_id = bool(known.own_id and known.own_id == other.own_id)
    if (other.markup, other.block) in blocks and not has_same_id:
        return False
    if known.markup == other.markup and not has_same_id:
        # Repeated within one notation, as in "most helpful" above the list: all must agree.
        return bool(known.author and known.created) and _content(known) == _content(other)
    if known.author and other.author and _squeeze(known.author) != _squeeze(other.author):
        return False
    if known.created_at and other.created_at:
        apart = abs((known.created_at - other.created_at).total_seconds())
        # Notations may give the day in one zone and the instant in another.
        is_other_day = apart > 36 * 3600
    else:
        is_other_day = False
    if is_other_day:
        return False
    if known.rating and other.rating and _share(known.rating) != _share(other.rating):
        return False
    if bool(known.body) != bool(other.body):
        return True
    a, b = _squeeze(known.body), _squeeze(other.body)
    return a.startswith(b) or b.startswith(a)


def _content(review: Review) -> tuple[object, ...]:
    return review.author, review.created, review.title, review.body, review.rating


def _share(rating: Rating) -> float | None:
    if rating.value is None or rating.maximum is None or rating.minimum is None:
        return None
    return round((rating.value - rating.minimum) / (rating.maximum - rating.minimum), 2)


def fill_gaps(known: Review, other: Review) -> None:
    """Take from other what known lacks, and the longer of two texts."""
    if len(other.body or "") > len(known.body or "") + 10:
        known.body = other.body
    if known.created_at is None and other.created_at is not None:
        known.created, known.created_at = other.created, other.created_at
        known.notes = [n for n in known.notes if not n.startswith("date_")]
        known.notes += [n for n in other.notes if n.startswith("date_")]
    if known.own_id is None:
        known.own_id = other.own_id
    for name in ("url", "anchor", "title", "body", "rating", "author", "language", "product"):
        if getattr(known, name) is None:
            setattr(known, name, getattr(other, name))


def stable_path(url: str) -> str:
    """Path and telling parameters of a page: the same on every host, port and page number."""
    parts = urlsplit(url)
    path = PAGE_IN_PATH.sub("", parts.path).rstrip("/") or "/"
    query = sorted(
        (k, v)
        for k, v in parse_qsl(parts.query, keep_blank_values=True)
        if not PAGE_PARAMETERS.match(k)
    )
    return path + ("?" + urlencode(query) if query else "")


def make_review_id(review: Review, page_url: str) -> str:
    """The id that the page gives a review, else a hash of page path, author, date and text.

    Never holds host or port, so that a site that moves keeps its ids. Short ids hold only within
    their page and get its path; a relative date changes every day and is left out of the hash.
    """
    for own, is_link in ((review.own_id, False), (review.url, True)):
        if not own:
            continue
        if re.match(r"https?://|/|#|\?", own) or is_link:
            full = urlsplit(urljoin(page_url, own))
            if not full.fragment and stable_path(full.geturl()) == stable_path(page_url):
                continue
            name = stable_path(full.geturl()) + (f"#{full.fragment}" if full.fragment else "")
        elif len(re.findall(r"\d", own)) >= 5 or re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", own, re.I):
            name = own
        else:
            name = f"{stable_path(page_url)}#{own}"
        return name if len(name) <= 200 else hashlib.sha1(name.encode()).hexdigest()
    is_lasting = "date_relative" not in review.notes and "date_year_assumed" not in review.notes
    created = review.created if is_lasting else None
    parts = (stable_path(page_url), review.author, created, review.body or review.title)
    text = "\x1f".join(part or "" for part in parts)
    return hashlib.sha1(text.encode("utf-8", "replace")).hexdigest()

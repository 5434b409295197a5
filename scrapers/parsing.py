"""From a page's HTML to review records. Pure: no network, no clock, no settings object.

A review is an item that somebody wrote about something: schema.org Review and its kinds, in
JSON-LD, microdata or RDFa, or whatever the configured CSS selectors point at. An AggregateRating,
an Article or a Recipe by itself is no review, nor is a fact check (ClaimReview).
"""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import html_text
from cssselect import SelectorError
from parsel import Selector

from scrapers.markup import (
    Markup,
    Node,
    Path,
    as_list,
    first_text,
    parse_tree,
    read_json_ld,
    read_microdata,
    read_rdfa,
    walk,
)
from scrapers.values import (
    DateReader,
    Rating,
    check_language,
    infer_date_order,
    parse_number,
    parse_rating,
    read_language,
)

REVIEW_TYPES = frozenset({"Review", "UserReview", "CriticReview", "EmployerReview"})
NOT_FEEDBACK = frozenset({"ClaimReview", "MediaReview", "AggregateRating"})
REVIEW_KEYS = frozenset({"review", "reviews"})
NO_PRODUCT = frozenset({
    "WebPage", "ItemPage", "CollectionPage", "WebSite", "ItemList", "ListItem", "BreadcrumbList",
    "Person", "ImageObject",
})  # fmt: skip
PRODUCTS = frozenset({
    "Product", "ProductGroup", "Book", "Movie", "SoftwareApplication", "MobileApplication",
    "LocalBusiness", "Hotel", "Restaurant", "Recipe", "Course", "Game", "VideoGame",
})  # fmt: skip
SELECTOR_KEYS = (
    "item", "id", "title", "body", "rating", "rating_max", "author", "date", "product", "next",
)  # fmt: skip
ID_ATTRIBUTES = ("data-review-id", "data-reviewid", "data-comment-id", "data-cid", "data-id", "id")
RATING_ATTRIBUTES = ("content", "data-rating", "data-score", "data-value", "aria-label", "title",
                     "alt", "value", "class", "style")  # fmt: skip
PAGE_PARAMETERS = re.compile(
    r"^(page|pg|p|paged|seite|pagina|sida|start|offset|from|sort|order|orderby|lang|filter|ref|"
    r"sid|sessionid|phpsessid|jsessionid|utm_\w+|gclid|fbclid|msclkid|spm)$",
    re.IGNORECASE,
)
PAGE_IN_PATH = re.compile(r"/(?:page|seite|pagina|sida)[/-]?\d+(?=/|$)", re.IGNORECASE)
LASTING_ID = re.compile(r"\d{4}|[0-9a-f]{8}-[0-9a-f]{4}-", re.IGNORECASE)


@dataclass(frozen=True)
class ParseOptions:
    """What the configuration says about a site's pages."""

    selectors: Mapping[str, str] = field(default_factory=dict)
    language: str | None = None
    time_zone: str = "UTC"


@dataclass
class Review:
    """One review in one notation; ``block`` tells siblings of one list from repetitions."""

    markup: Markup
    block: object
    own_id: str | None = None
    is_id_trusted: bool = True
    url: str | None = None
    title: str | None = None
    body: str | None = None
    rating: Rating | None = None
    author: str | None = None
    created: str | None = None
    created_at: datetime | None = None
    language: str | None = None
    product: str | None = None
    notes: list[str] = field(default_factory=list)


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
    structured, page_product = read_structured(tree, text, url, notes)
    reviews.extend(structured)
    for review in reviews:
        if review.markup == "selectors":
            review.product = review.product or page_product
    read_dates(reviews, fetched_at, page_language, options.time_zone)
    distrust_numbering(reviews)
    merged = merge_reviews(reviews)
    language = read_language(page_language)
    records = make_records(merged, url, language)
    if "\ufffd" in text:
        notes["undecodable_characters"] += text.count("\ufffd")
    return ParsedPage(records, {key: n for key, n in notes.items() if n}, selector_matches)


# Structured data


def read_structured(
    tree: Any, text: str, url: str, notes: Counter[str]
) -> tuple[list[Review], str | None]:
    """(the reviews of a page's JSON-LD, microdata and RDFa, in this order, its product if one)."""
    nodes, problems = read_json_ld(tree)
    notes.update(problems)
    reviews = find_reviews(nodes, "json-ld")
    shown = nodes
    if "itemtype" in text:
        nodes, problems = read_microdata(tree, url)
        notes.update(problems)
        reviews += find_reviews(nodes, "microdata")
        shown = shown + nodes
    if re.search(r"typeof\s*=\s*[\"']?[^\"'>]*Review(?!-?aggregate)", text, re.IGNORECASE):
        nodes, problems = read_rdfa(text, url)
        notes.update(problems)
        reviews += find_reviews(nodes, "rdfa")
    names = {first_text(node, "name") for node in shown if node.types & PRODUCTS} - {None}
    return reviews, clean_text(names.pop()) if len(names) == 1 else None


def is_review(node: Node, key: str) -> bool:
    """Whether a node is one person's review, with something in it."""
    if node.types & NOT_FEEDBACK:
        return False
    if not (node.types & REVIEW_TYPES or (key in REVIEW_KEYS and not node.types)):
        return False
    rating = _rating_node(node)
    if any(first_text(part, "reviewCount", "ratingCount") for part in (node, rating)):
        return False
    # A title or an author alone is a link to a review, not a review.
    return bool(
        first_text(node, "reviewBody", "description", "text", "articleBody", "positiveNotes")
        or rating
    )


def find_reviews(nodes: list[Node], markup: Markup) -> list[Review]:
    """The reviews among nodes and in them; a node reached on several ways counts once."""
    seen: dict[int, Review] = {}
    page_best = _only_scale(nodes)
    for node, path in walk(nodes):
        key, parent = path[-1] if path else ("", None)
        if not is_review(node, key):
            continue
        product = _product(node, path)
        if id(node) in seen:
            seen[id(node)].product = seen[id(node)].product or product
            continue
        best = _aggregate_best(parent) or page_best
        block = object() if markup != "json-ld" else id(parent) if parent else "top"
        review = _read_node(node, markup, block, best)
        review.product = product
        seen[id(node)] = review
    return list(seen.values())


def _read_node(node: Node, markup: Markup, block: object, best: float | None) -> Review:
    review = Review(markup, block)
    review.own_id, review.is_id_trusted = _node_id(node)
    review.url = _node_url(node)
    review.title = clean_text(first_text(node, "name", "headline", "summary", "title"))
    review.body = clean_text(
        first_text(node, "reviewBody", "description", "text", "articleBody") or _pros_and_cons(node)
    )
    review.author = clean_text(_author(node))
    review.created = first_text(
        node, "datePublished", "dateCreated", "dtreviewed", "uploadDate", "dateModified"
    ) or _shown_text(node, "datePublished", "dateCreated", "dtreviewed")
    review.language = first_text(node, "inLanguage")
    rating = _rating_node(node)
    if rating is not None:
        value = first_text(rating, "ratingValue", "value", "name")
        review.rating = parse_rating(
            _as_number(value),
            first_text(rating, "bestRating", "best"),
            first_text(rating, "worstRating", "worst"),
            best,
        )
    return review


def _as_number(value: str | None) -> str | float | None:
    """A bare number as a number, so that '4.5' is never read as a fraction or a class name."""
    if value is not None and re.fullmatch(r"-?\d+(?:[.,]\d+)?", value.strip()):
        return parse_number(value)
    return value


def _rating_node(node: Node) -> Node | None:
    """The node that holds ratingValue: reviewRating's, or the review itself."""
    for name in ("reviewRating", "rating"):
        for value in node.props.get(name, ()):
            if isinstance(value, Node):
                if first_text(value, "ratingValue", "value", "name") is not None:
                    return value
            elif str(value).strip():
                return Node(props={**node.props, "ratingValue": [value]})
    return node if first_text(node, "ratingValue") else None


def _aggregate_best(parent: Node | None) -> float | None:
    """bestRating of the AggregateRating beside a review: the scale of ratings that name none."""
    for value in parent.props.get("aggregateRating", ()) if parent else ():
        best = parse_number(first_text(value, "bestRating")) if isinstance(value, Node) else None
        if best:
            return best
    return None


def _only_scale(nodes: list[Node]) -> float | None:
    """The scale of a page whose aggregate ratings all name the same one."""
    scales = {_aggregate_best(node) for node, _ in walk(nodes)} - {None}
    return scales.pop() if len(scales) == 1 else None


def _product(node: Node, path: Path) -> str | None:
    """What is reviewed: itemReviewed, else the nearest thing with a name around the review."""
    reviewed = first_text(node, "itemReviewed", "itemreviewed")
    if reviewed:
        return clean_text(reviewed)
    for _, above in reversed(path):
        if above.types and not above.types & (NO_PRODUCT | REVIEW_TYPES):
            name = first_text(above, "name", "headline")
            if name:
                return clean_text(name)
    return None


def _author(node: Node) -> str | None:
    names: list[str] = []
    for value in [*node.props.get("author", ()), *node.props.get("reviewer", ())]:
        if isinstance(value, Node):
            joined = " ".join(
                filter(None, (first_text(value, "givenName"), first_text(value, "familyName")))
            )
            name = first_text(value, "name", "alternateName") or joined
        else:
            name = str(value).strip()
        if name and not re.match(r"https?://", name) and name not in names:
            names.append(name)
    return ", ".join(names) or _shown_text(node, "author", "reviewer")


def _pros_and_cons(node: Node) -> str | None:
    parts: list[str] = []
    for name in ("positiveNotes", "negativeNotes"):
        for value in node.props.get(name, ()):
            items = (
                value.props.get("itemListElement", [value]) if isinstance(value, Node) else [value]
            )
            texts = [first_text(i, "name") if isinstance(i, Node) else str(i) for i in items]
            parts.extend(text for text in texts if text)
    return "\n".join(parts) or None


def _shown_text(node: Node, *names: str) -> str | None:
    """The visible text of a microdata property whose machine value is missing or a link."""
    if node.element is None:
        return None
    for name in names:
        for element in node.element.xpath(
            ".//*[contains(concat(' ',@itemprop,' '), $n)]", n=f" {name} "
        ):
            text = " ".join(element.itertext()).strip()
            if text:
                return text
    return None


def _node_id(node: Node) -> tuple[str | None, bool]:
    """(the id that the page gives a review, whether it was given as one)."""
    if node.id and not node.id.startswith("_:"):
        return node.id, True
    identifier = first_text(node, "identifier", "reviewId", "commentId")
    if identifier:
        return identifier, True
    return (None, True) if node.element is None else (_element_id(node.element), False)


def _node_url(node: Node) -> str | None:
    for name in ("url", "mainEntityOfPage"):
        for value in node.props.get(name, ()):
            text = (value.id or first_text(value, "url")) if isinstance(value, Node) else str(value)
            if text and text.strip():
                return text.strip()
    return None


def _element_id(element: Any) -> str | None:
    return next(
        (element.get(n).strip() for n in ID_ATTRIBUTES if (element.get(n) or "").strip()), None
    )


# Plain markup


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
            review.own_id, review.is_id_trusted = _element_id(item.root), False
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
            rating = parse_rating(_as_number(text), best)
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


# Values


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


# Identity


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
    for name in ("url", "title", "body", "rating", "author", "language", "product"):
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
    contradicts what the page declares.
    """
    rating = review.rating
    text = f"{review.title or ''} {review.body or ''}"
    own_language = read_language(review.language) or language
    link = urljoin(page_url, review.url) if review.url else None
    if link is None and review.own_id and re.match(r"https?://|/|#", review.own_id):
        link = urljoin(page_url, review.own_id)
    notes = review.notes + list(rating.notes if rating else ())
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
    }


__all__ = ["ParseOptions", "ParsedPage", "as_list", "check_selectors", "parse_page", "stable_path"]

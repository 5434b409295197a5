"""Reviews in a page's structured data: JSON-LD, microdata, RDFa and microformats.

If they are asked for, posts of forums, comments, questions and answers as well.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from scrapers.markup import (
    Markup,
    Node,
    Path,
    first_text,
    read_json_ld,
    read_microdata,
    read_microformats,
    read_rdfa,
    walk,
)
from scrapers.review import Review, as_number, clean_text, element_id
from scrapers.values import parse_number, parse_rating

REVIEW_TYPES = frozenset({"Review", "UserReview", "CriticReview", "EmployerReview"})
NOT_FEEDBACK = frozenset({"ClaimReview", "MediaReview", "AggregateRating"})
POST_TYPES = frozenset({
    "DiscussionForumPosting", "Comment", "UserComments", "Question", "Answer",
})  # fmt: skip
# Questions that the site asks itself.
NO_POSTS_IN = frozenset({"FAQPage", "Quiz"})
MICROFORMAT_REVIEW = re.compile(r"class\s*=\s*[\"']?[^\"'>]*\bh-?review(?![-\w])", re.IGNORECASE)
POST_TEXTS = ("text", "articleBody", "commentText")
POST_DATES = ("datePublished", "dateCreated", "commentTime")
AUTHORS = ("author", "reviewer", "creator")
REVIEW_KEYS = frozenset({"review", "reviews"})
NO_PRODUCT = frozenset({
    "WebPage", "ItemPage", "CollectionPage", "WebSite", "ItemList", "ListItem", "BreadcrumbList",
    "Person", "ImageObject",
})  # fmt: skip
PRODUCTS = frozenset({
    "Product", "ProductGroup", "Book", "Movie", "SoftwareApplication", "MobileApplication",
    "LocalBusiness", "Hotel", "Restaurant", "Recipe", "Course", "Game", "VideoGame",
})  # fmt: skip


def read_structured(
    tree: Any, text: str, url: str, notes: Counter[str], *, posts: bool = False
) -> tuple[list[Review], str | None]:
    """(the reviews of a page's notations, JSON-LD first, its product if there is one)."""
    nodes, problems = read_json_ld(tree)
    notes.update(problems)
    reviews = find_reviews(nodes, "json-ld", notes, posts=posts)
    shown = nodes
    if "itemtype" in text:
        nodes, problems = read_microdata(tree, url)
        notes.update(problems)
        reviews += find_reviews(nodes, "microdata", notes, posts=posts)
        shown = shown + nodes
    wanted = "Review(?!-?aggregate)" + ("|Posting|Comment|Question|Answer" if posts else "")
    if re.search(rf"typeof\s*=\s*[\"']?[^\"'>]*(?:{wanted})", text, re.IGNORECASE):
        nodes, problems = read_rdfa(text, url)
        notes.update(problems)
        reviews += find_reviews(nodes, "rdfa", notes, posts=posts)
    if MICROFORMAT_REVIEW.search(text):
        nodes, problems = read_microformats(text, url)
        notes.update(problems)
        reviews += find_reviews(nodes, "microformats", notes)
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


def is_editorial(node: Node, parent: Node | None) -> bool:
    """Whether a review is an article of a publisher's own, and no word of a customer.

    A review within a product is not, even if the service that collected it is named as publisher.
    """
    if "CriticReview" in node.types:
        return True
    publishers = node.props.get("publisher", [])
    is_published = any(
        isinstance(one, Node) and one.types & {"Organization", "NewsMediaOrganization"}
        for one in publishers
    )
    return parent is None and is_published and bool(first_text(node, "headline"))


def is_post(node: Node, path: Path) -> bool:
    """Whether a node is what somebody wrote in a forum or below an article."""
    if not node.types & POST_TYPES or any(above.types & NO_POSTS_IN for _, above in path):
        return False
    return bool(first_text(node, *POST_TEXTS) or "Question" in node.types) and bool(
        node.props.get("author") or node.props.get("creator") or first_text(node, *POST_DATES)
    )


def find_reviews(
    nodes: list[Node], markup: Markup, notes: Counter[str], *, posts: bool = False
) -> list[Review]:
    """The reviews among nodes and in them; a node reached on several ways counts once.

    Editorial ones are left out, and counted in ``notes``.
    """
    seen: dict[int, Review] = {}
    page_best = _only_scale(nodes)
    for node, path in walk(nodes):
        key, parent = path[-1] if path else ("", None)
        is_said = posts and is_post(node, path)
        if not is_said and not is_review(node, key):
            continue
        if not is_said and is_editorial(node, parent):
            notes["editorial_reviews"] += 1
            continue
        product = _post_product(path) if is_said else _product(node, path)
        if id(node) in seen:
            seen[id(node)].product = seen[id(node)].product or product
            continue
        best = _aggregate_best(parent) or page_best
        block = object() if markup != "json-ld" else id(parent) if parent else "top"
        review = _read_node(node, markup, block, best)
        review.product = product
        review.is_post = is_said
        seen[id(node)] = review
    return list(seen.values())


def _read_node(node: Node, markup: Markup, block: object, best: float | None) -> Review:
    review = Review(markup, block)
    review.own_id, review.is_id_trusted = _node_id(node)
    review.url = _node_url(node)
    if node.element is not None:
        review.anchor = node.element.get("id") or None
    review.title = clean_text(first_text(node, "name", "headline", "summary", "title"))
    review.body = clean_text(
        first_text(node, "reviewBody", "description", *POST_TEXTS) or _pros_and_cons(node)
    )
    review.author = clean_text(_author(node))
    review.created = first_text(
        node, *POST_DATES, "dtreviewed", "uploadDate", "dateModified"
    ) or _shown_text(node, "datePublished", "dateCreated", "dtreviewed")
    review.language = first_text(node, "inLanguage")
    rating = _rating_node(node)
    if rating is not None:
        value = first_text(rating, "ratingValue", "value", "name")
        review.rating = parse_rating(
            as_number(value),
            first_text(rating, "bestRating", "best"),
            first_text(rating, "worstRating", "worst"),
            best,
        )
    return review


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


def _post_product(path: Path) -> str | None:
    """The product that a post stands below; a thread's title is none."""
    names = [first_text(above, "name") for _, above in reversed(path) if above.types & PRODUCTS]
    return next((clean_text(name) for name in names if name), None)


def _author(node: Node) -> str | None:
    names: list[str] = []
    values = [*node.props.get("author", ()), *node.props.get("reviewer", ())]
    for value in values or node.props.get("creator", []):
        if isinstance(value, Node):
            joined = " ".join(
                filter(None, (first_text(value, "givenName"), first_text(value, "familyName")))
            )
            name = first_text(value, "name", "alternateName") or joined
        else:
            name = str(value).strip()
        if name and not re.match(r"https?://", name) and name not in names:
            names.append(name)
    return ", ".join(names) or _shown_text(node, *AUTHORS)


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
    return (None, True) if node.element is None else (element_id(node.element), False)


def _node_url(node: Node) -> str | None:
    for name in ("url", "mainEntityOfPage"):
        for value in node.props.get(name, ()):
            text = (value.id or first_text(value, "url")) if isinstance(value, Node) else str(value)
            if text and text.strip():
                return text.strip()
    return None

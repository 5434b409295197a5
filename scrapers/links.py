"""Which links of a page a crawl may follow. Pure: HTML and URLs in, links out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

from parsel import Selector
from scrapy.linkextractors import IGNORED_EXTENSIONS
from w3lib.url import canonicalize_url, url_query_cleaner

from scrapers.identity import PAGE_IN_PATH

TRACKING = (
    "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "gclid", "fbclid",
    "msclkid", "spm", "phpsessid", "jsessionid", "sessionid",
)  # fmt: skip
PAGE_NUMBER = re.compile(r"^(page|pg|p|paged|seite|pagina|sida|start|offset)$", re.IGNORECASE)
NEXT_CLASSES = re.compile(r"(^|[-_\s])(next|older|more-reviews|load-more)([-_\s]|$)", re.I)
NEXT_TEXTS = frozenset({
    "next", "next page", "next »", "older", "more reviews", "下一页", "下页", "后页", "下一頁",
    "次へ", "次のページ", "nächste", "nächste seite", "weiter", "siguiente", "página siguiente",
    "suivant", "page suivante", "suivante", "nästa", "nästa sida", "далее", "следующая", "próxima",
    "avanti", "volgende", "»", "›", ">",
})  # fmt: skip
PAGER = re.compile(
    r"(^|[-_\s])(pagination|pager|paging|paginator|page-numbers|pages)([-_\s]|$)", re.I
)
# Links that act on the site rather than show it.
NEVER = re.compile(
    r"/(?:log-?in|log-?out|sign-?in|sign-?up|sign-?out|register|cart|basket|checkout|wp-admin|"
    r"wp-login\.php|add-to-cart)(?:[/?#.]|$)|[?&](?:add-to-cart|replytocom|share|print)=",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Link:
    """A link on the same site; ``is_pagination`` if it leads on in the same list."""

    url: str
    is_pagination: bool = False


def site_of(url: str) -> tuple[str, int | None]:
    """(host without www., port or None if it is the scheme's own): what must not be left."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return (parts.hostname or "").removeprefix("www."), None if port == default else port


def tidy_url(url: str) -> str:
    """The URL to ask for: no fragment, no tracking or session parameters, sorted query."""
    tidy = canonicalize_url(url_query_cleaner(url, TRACKING, remove=True, keep_fragments=False))
    return str(tidy)


def matches(patterns: list[re.Pattern[str]], url: str) -> bool:
    """Whether any pattern is found in the path and query of url."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return any(pattern.search(target) for pattern in patterns)


def find_links(tree: Any, url: str, next_selector: str | None = None) -> Iterator[Link]:
    """The links of a page to http(s) pages on its own site, each once, pagination first.

    Pagination is rel=next, the configured selector, a link in an element classed as a pager, a
    link that says "next" in one of the languages known here, or this page's own address with
    another page number. Links marked nofollow are left out unless they lead on in the list.
    """
    base = urljoin(url, next(iter(tree.xpath("//base/@href")), ""))
    configured = _select_links(tree, next_selector)
    has_nofollow = _has_nofollow(tree)
    found: dict[str, Link] = {}
    plain: dict[str, Link] = {}
    for element in tree.iter("a", "link", "area"):
        rel = (element.get("rel") or "").lower().split()
        href = (element.get("href") or "").strip()
        if not href or (element.tag == "link" and "next" not in rel):
            continue
        try:
            target = tidy_url(urljoin(base, href))
        except ValueError:
            continue
        if not is_page(target) or site_of(target) != site_of(url) or NEVER.search(target):
            continue
        leads_on = (
            "next" in rel
            or element in configured
            or (not has_nofollow and _looks_like_pager(element, target, url))
        )
        if leads_on:
            found.setdefault(target, Link(target, True))
        elif not has_nofollow and "nofollow" not in rel:
            plain.setdefault(target, Link(target))
    yield from found.values()
    yield from (link for target, link in plain.items() if target not in found)


def is_page(url: str) -> bool:
    """Whether url may be a page: http(s), and no ending of pictures, archives and the like."""
    parts = urlsplit(url)
    ending = parts.path.rsplit("/", 1)[-1].rpartition(".")[2].lower()
    return parts.scheme in ("http", "https") and ending not in IGNORED_EXTENSIONS


def _select_links(tree: Any, css: str | None) -> set[Any]:
    if not css:
        return set()
    roots = [found.root for found in Selector(root=tree, type="html").css(css)]
    links: set[Any] = set()
    for root in roots:
        if isinstance(root, str):  # "a.more::attr(href)"
            links.update(a for a in tree.iter("a") if (a.get("href") or "").strip() == root.strip())
        else:
            links.update(root.iter("a", "link"))
    return links


def _has_nofollow(tree: Any) -> bool:
    return any(
        (meta.get("name") or "").lower() == "robots"
        and re.search(r"\b(nofollow|none)\b", (meta.get("content") or "").lower())
        for meta in tree.iter("meta")
    )


def _looks_like_pager(element: Any, target: str, url: str) -> bool:
    if element.tag == "link":
        return False
    text = " ".join(element.itertext()).strip().lower()
    if text.rstrip(" »›>→") in NEXT_TEXTS or text in NEXT_TEXTS:
        return _same_list(target, url) or bool(NEXT_CLASSES.search(element.get("class") or ""))
    if NEXT_CLASSES.search(element.get("class") or "") and _same_list(target, url):
        return True
    if target != tidy_url(url) and _is_numbered_sibling(target, url):
        return True
    above = [element, *list(element.iterancestors())[:3]]
    return any(PAGER.search(node.get("class") or "") for node in above) and _same_list(target, url)


def _same_list(target: str, url: str) -> bool:
    """Whether two addresses may be pages of one list: the same path but for a page number."""
    a, b = urlsplit(target).path, urlsplit(url).path
    return PAGE_IN_PATH.sub("", a).rstrip("/") == PAGE_IN_PATH.sub("", b).rstrip("/")


def _is_numbered_sibling(target: str, url: str) -> bool:
    """Whether target is url with only a page number changed or added."""
    if not _same_list(target, url):
        return False

    def rest(address: str) -> list[tuple[str, str]]:
        query = parse_qsl(urlsplit(address).query, keep_blank_values=True)
        return sorted((k, v) for k, v in query if not PAGE_NUMBER.match(k))

    numbered = any(
        PAGE_NUMBER.match(k) and v.isdigit() for k, v in parse_qsl(urlsplit(target).query)
    )
    return rest(target) == rest(url) and (
        numbered or bool(PAGE_IN_PATH.search(urlsplit(target).path))
    )

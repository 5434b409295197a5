"""Which links of a page are followed."""

from __future__ import annotations

import re

import pytest

from scrapers.links import find_links, is_page, matches, site_of, tidy_url
from scrapers.markup import parse_tree

HERE = "https://shop.test/reviews?page=2"


def links(body: str, css: str | None = None) -> dict[str, bool]:
    """Links found, by address: whether they are pagination."""
    tree = parse_tree(f"<html><body>{body}</body></html>")
    return {link.url: link.is_pagination for link in find_links(tree, HERE, css)}


@pytest.mark.parametrize(
    "body",
    [
        "<a href='/reviews?page=3'>3</a>",
        "<a rel='next' href='/reviews?page=3'>more</a>",
        "<link rel='next' href='/reviews?page=3'>",
        "<div class='pagination'><span><a href='/reviews?page=3'>three</a></span></div>",
        "<a href='?page=3'>下一页</a>",
        "<a href='?page=3' class='btn next'>→</a>",
        "<a rel='next nofollow' href='?page=3'>more</a>",
    ],
)
def test_pagination_is_recognised(body: str) -> None:
    assert links(body) == {"https://shop.test/reviews?page=3": True}


@pytest.mark.parametrize(
    "body",
    [
        "<a href='/reviews/page/3'>Next</a>",
        "<nav class='pager'><a href='/reviews/page/3'>3</a></nav>",
    ],
)
def test_page_number_in_the_path_is_recognised(body: str) -> None:
    assert links(body) == {"https://shop.test/reviews/page/3": True}


def test_configured_selector_makes_pagination() -> None:
    assert links("<a class='suite' href='/suite'>x</a>", ".suite") == {
        "https://shop.test/suite": True
    }


def test_configured_attribute_makes_pagination() -> None:
    found = links("<a class='suite' href='/suite'>x</a>", ".suite::attr(href)")
    assert found == {"https://shop.test/suite": True}


def test_next_article_is_no_pagination() -> None:
    assert links("<a href='/p/8'>Next</a>") == {"https://shop.test/p/8": False}


@pytest.mark.parametrize(
    "href",
    [
        "https://other.test/", "https://shop.test:8443/", "mailto:a@shop.test",
        "javascript:void(0)", "#top", "/photo.jpg", "/manual.pdf", "/login?next=/",
        "/p/1?add-to-cart=1",
        "http://[broken",
        "", "ftp://shop.test/x",
    ],
)  # fmt: skip
def test_link_is_left_out(href: str) -> None:
    found = links(f"<a href='{href}'>x</a>")
    assert set(found) <= {HERE}


def test_nofollow_link_is_left_out() -> None:
    assert links("<a rel='nofollow' href='/p/1'>x</a>") == {}


def test_nofollow_page_is_respected() -> None:
    assert links("<meta name='robots' content='NOFOLLOW'><a href='/p/1'>x</a>") == {}


def test_base_element_is_respected() -> None:
    assert links("<base href='/shop/'><a href='p/1'>x</a>") == {"https://shop.test/shop/p/1": False}


def test_tracking_and_fragment_are_dropped() -> None:
    assert tidy_url("http://a.test/p?b=2&utm_source=x&a=1#top") == "http://a.test/p?a=1&b=2"


@pytest.mark.parametrize(
    ("a", "b", "is_same"),
    [
        ("http://a.test/", "https://www.a.test/x", True),
        ("http://a.test/", "http://a.test:80/", True),
        ("http://127.0.0.1:8001/", "http://127.0.0.1:8002/", False),
        ("http://a.test/", "http://b.a.test/", False),
        ("http://a.test:99999/", "http://a.test/", False),
    ],
)
def test_site(a: str, b: str, is_same: bool) -> None:
    assert (site_of(a) == site_of(b)) is is_same


def test_patterns_see_path_and_query_only() -> None:
    assert not matches([re.compile("shop")], "https://shop.test/p?x=1")


@pytest.mark.parametrize(
    ("url", "expected"), [("http://a.test/x.html", True), ("http://a.test/x.zip", False)]
)
def test_is_page(url: str, expected: bool) -> None:
    assert is_page(url) is expected

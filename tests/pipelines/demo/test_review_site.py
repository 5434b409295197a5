"""The review site: links, robots.txt, sitemap, markups, scales, unchanged pages."""

from __future__ import annotations

import json
import re
from urllib.parse import urljoin

import httpx
import lxml.html
import pytest

from pipelines.demo import DemoServers
from pipelines.demo.catalog import PRODUCTS
from pipelines.demo.review_site import SELECTORS, markup_of, rate, scale_of
from tests.pipelines.demo.reader import read_lines
from tests.pipelines.demo.worlds import SmallWorld


def fetch(servers: DemoServers, path: str, **headers: str) -> httpx.Response:
    return httpx.get(urljoin(servers.reviews.url, path), headers=headers, trust_env=False)


def walk(servers: DemoServers) -> dict[str, str]:
    """Every page that links lead to, apart from those that robots.txt forbids."""
    found: dict[str, str] = {}
    waiting = ["/"]
    with httpx.Client(base_url=servers.reviews.url, trust_env=False) as client:
        while waiting:
            path = waiting.pop()
            if path in found or path.startswith("/private/"):
                continue
            found[path] = client.get(path).raise_for_status().text
            waiting += [str(link) for link in lxml.html.fromstring(found[path]).xpath("//a/@href")]
    return found


def test_links_lead_to_every_public_review_and_to_no_other(
    served: DemoServers, small_world: SmallWorld
) -> None:
    pages = walk(served)
    ids = re.findall(r'id="(r\d+)"', "".join(pages.values()))
    rows = read_lines(small_world.directory / "served" / "reviews.jsonl")
    public = {row["id"] for row in rows if not row["private"]}
    assert len(ids) == len(set(ids))
    assert set(ids) == public
    assert len(public) == small_world.truth.counts["reviews.reviews"]["valid_ids"]


def test_robots_closes_private_pages_that_hold_reviews(
    served: DemoServers, small_world: SmallWorld
) -> None:
    assert "Disallow: /private/" in fetch(served, "/robots.txt").text
    assert "/private/moderation" in fetch(served, "/").text
    rows = read_lines(small_world.directory / "served" / "reviews.jsonl")
    hidden = [row["id"] for row in rows if row["private"]]
    page = fetch(served, "/private/moderation").text
    assert hidden
    assert all(f'id="{name}"' in page for name in hidden)


def test_sitemap_lists_pages_with_their_last_change(served: DemoServers) -> None:
    text = fetch(served, "/sitemap.xml").text
    links = re.findall(r"<loc>(.*?)</loc><lastmod>(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)", text)
    paths = {link.removeprefix(served.reviews.url).replace("&amp;", "&") for link, _ in links}
    assert {f"/{language}/products/breeze" for language in ("en", "zh")} <= paths
    assert not any(path.startswith("/private/") for path in paths)
    assert paths == set(walk(served))


def test_each_markup_and_scale_is_used() -> None:
    assert {markup_of(p) for p in PRODUCTS} == {"json-ld", "microdata", "plain"}
    used = {(markup_of(p), scale_of(p)) for p in PRODUCTS}
    assert used == {(m, s) for m in ("json-ld", "microdata", "plain") for s in (5, 10, 100)}


@pytest.mark.parametrize(("stars", "scale", "shown"), [(4, 5, 4), (4, 10, 8), (1, 100, 20)])
def test_stars_on_a_scale(stars: int, scale: int, shown: int) -> None:
    assert rate(stars, scale) == shown


def test_json_ld_holds_the_reviews_of_its_page(served: DemoServers) -> None:
    key = next(p.key for p in PRODUCTS if markup_of(p) == "json-ld")
    tree = lxml.html.fromstring(fetch(served, f"/zh/products/{key}").text)
    data = json.loads(tree.xpath('//script[@type="application/ld+json"]')[0].text)
    assert data["@type"] == "Product"
    shown = tree.xpath('//li[@class="entry"]/@id')
    assert [review["identifier"] for review in data["review"]] == shown
    assert {type(review["author"]) for review in data["review"]} <= {str, dict}


def test_documented_selectors_find_plain_reviews(served: DemoServers) -> None:
    key = next(p.key for p in PRODUCTS if markup_of(p) == "plain")
    tree = lxml.html.fromstring(fetch(served, f"/en/products/{key}").text)
    items = tree.cssselect(SELECTORS["item"])
    assert items
    for item in items:
        for name in ("title", "body", "rating", "author", "date"):
            assert item.cssselect(SELECTORS[name]), name


def test_an_unchanged_page_is_not_sent_again(served: DemoServers) -> None:
    first = fetch(served, "/en/products/breeze")
    by_tag = fetch(served, "/en/products/breeze", **{"If-None-Match": first.headers["ETag"]})
    by_time = fetch(
        served, "/en/products/breeze", **{"If-Modified-Since": first.headers["Last-Modified"]}
    )
    assert by_tag.status_code == by_time.status_code == 304
    assert by_tag.content == b""
    other = fetch(served, "/en/products/breeze", **{"If-None-Match": '"other"'})
    assert other.status_code == 200


def test_an_article_is_marked_up_as_one(served: DemoServers) -> None:
    text = fetch(served, "/en/articles/how-we-choose").text
    assert '"@type": "Article"' in text
    assert "Review" not in text


def test_an_unknown_page_is_404(served: DemoServers) -> None:
    assert fetch(served, "/en/products/none").status_code == 404

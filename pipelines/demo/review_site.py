"""A small shop's site with reviews in JSON-LD, in microdata and in plain markup.

Plain pages are meant to be read with ``SELECTORS``.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections import defaultdict
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import cached_property
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from pipelines.demo.catalog import LANGUAGES, PRODUCTS, Product
from pipelines.demo.company import OFFSET, to_iso
from pipelines.demo.http_server import Answer, LoopbackServer

PAGE_SIZE = 60
SELECTORS = {
    "item": "li.customer-review",
    "title": ".review-headline",
    "body": ".review-text",
    "rating": ".review-score",
    "author": ".review-author",
    "date": ".review-date",
    "product": "h1.product-name",
    "next": "a.next-page",
}
MARKUPS = ("json-ld", "microdata", "plain")
SCALES = (5, 10, 100)
WORDS = {
    "en": {
        "shop": "Lanting",
        "products": "All products",
        "next": "Next page",
        "reviews": "Customer reviews",
        "reply": "Reply from Lanting",
        "thanks": "Thank you for telling us. Please write to care@lanting.example, we will help.",
        "lang": "en",
        "article": "How we choose what we sell",
    },
    "zh": {
        "shop": "兰汀",
        "products": "全部商品",
        "next": "下一页",
        "reviews": "用户评价",
        "reply": "商家回复",
        "thanks": "感谢您的反馈，请联系在线客服，我们尽快为您处理。",
        "lang": "zh-CN",
        "article": "我们如何选品",
    },
}
ARTICLE = {
    "en": "We try every product for six weeks before we sell it. Of ten we keep one.",
    "zh": "每件商品上架前我们都会试用六周，十件里通常只留下一件。",
}
Review = dict[str, Any]


def markup_of(product: Product) -> str:
    return MARKUPS[PRODUCTS.index(product) % len(MARKUPS)]


def scale_of(product: Product) -> int:
    return SCALES[PRODUCTS.index(product) // len(MARKUPS) % len(SCALES)]


def rate(stars: int, scale: int) -> int:
    """Stars of five on a scale that begins at 0 or 1: 4 of 5 are 8 of 10 and 80 of 100."""
    return stars * scale // 5


def with_zone(second: int) -> str:
    return datetime.fromtimestamp(second + OFFSET, UTC).strftime("%Y-%m-%dT%H:%M:%S+08:00")


def say_day(second: int, language: str) -> str:
    at = datetime.fromtimestamp(second + OFFSET, UTC)
    if language == "zh":
        return f"{at.year}年{at.month}月{at.day}日 {at:%H:%M}"
    return f"{at.day} {at:%B %Y}, {at:%H:%M}"


def esc(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")


class ReviewServer(LoopbackServer):
    """Serves ``directory``'s reviews; ``/private/`` is closed to robots and holds some too."""

    def __init__(self, directory: Path, port: int = 0):
        self.shelves: dict[tuple[str, str], list[Review]] = defaultdict(list)
        self.hidden: list[Review] = []
        with (directory / "served" / "reviews.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                review = json.loads(line)
                if review["private"]:
                    self.hidden.append(review)
                else:
                    self.shelves[review["language"], review["product"]].append(review)
        for shelf in self.shelves.values():
            shelf.sort(key=lambda review: (-review["created"], review["id"]))
        self.newest = max(
            (r["updated"] for shelf in self.shelves.values() for r in shelf), default=0
        )
        super().__init__(port)

    @cached_property
    def pages(self) -> dict[str, tuple[str, int]]:
        """Path (and query) → (HTML, last change in seconds)."""
        pages = {
            "/": (self.home(), self.newest),
            "/private/moderation": (self.moderation(), self.newest),
        }
        for language in LANGUAGES:
            pages[f"/{language}/"] = (self.listing(language), self.newest)
            pages[f"/{language}/articles/how-we-choose"] = (self.article(language), 1_767_225_600)
            for product in PRODUCTS:
                shelf = self.shelves[language, product.key]
                count = max(1, -(-len(shelf) // PAGE_SIZE))
                for number in range(1, count + 1):
                    rows = shelf[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
                    path = product_path(language, product.key, number)
                    changed = max((r["updated"] for r in rows), default=0)
                    pages[path] = (
                        self.product_page(language, product, rows, number, count),
                        changed,
                    )
        return pages

    def answer(self, path: str, query: dict[str, str], request: BaseHTTPRequestHandler) -> Answer:
        if path == "/robots.txt":
            text = f"User-agent: *\nDisallow: /private/\n\nSitemap: {self.url}/sitemap.xml\n"
            return Answer(200, text.encode(), "text/plain; charset=utf-8")
        if path == "/sitemap.xml":
            return Answer(200, self.sitemap().encode(), "application/xml")
        if path == "/_demo/stats":
            with self.lock:
                return Answer(200, json.dumps(self.stats).encode())
        number = query.get("page", "1")
        key = path if number == "1" else f"{path}?page={number}"
        if key not in self.pages:
            return Answer(
                404, b"<!doctype html><title>Not found</title>", "text/html; charset=utf-8"
            )
        text, changed = self.pages[key]
        body = text.encode()
        tag = '"' + hashlib.sha1(body, usedforsecurity=False).hexdigest()[:20] + '"'
        modified = datetime.fromtimestamp(changed, UTC)
        headers = {
            "ETag": tag,
            "Last-Modified": format_datetime(modified, usegmt=True),
            "Cache-Control": "no-cache",
        }
        if is_known(request, tag, modified):
            return Answer(304, headers=headers)
        return Answer(200, body, "text/html; charset=utf-8", headers)

    def sitemap(self) -> str:
        rows = []
        for path, (_, changed) in self.pages.items():
            if path.startswith("/private/"):
                continue
            link = html.escape(self.url + path)
            rows.append(f"<url><loc>{link}</loc><lastmod>{to_iso(changed)}</lastmod></url>")
        inner = "\n".join(rows)
        head = '<?xml version="1.0" encoding="UTF-8"?>'
        return f'{head}\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{inner}\n</urlset>\n'

    def frame(self, language: str, title: str, inner: str, head: str = "") -> str:
        words = WORDS[language]
        links = "".join(
            f'<a href="{href}">{text}</a> '
            for href, text in (
                ("/", words["shop"]),
                (f"/{language}/", words["products"]),
                (f"/{language}/articles/how-we-choose", words["article"]),
                ("/private/moderation", "Moderation"),
            )
        )
        return (
            f'<!doctype html>\n<html lang="{words["lang"]}">\n<head><meta charset="utf-8">'
            f"<title>{esc(title)} – {words['shop']}</title>{head}</head>\n"
            f"<body><nav>{links}</nav>\n"
            f"<main>{inner}</main>\n<footer>© {words['shop']}</footer></body></html>\n"
        )

    def home(self) -> str:
        inner = (
            "<h1>Lanting 兰汀</h1>"
            '<p><a href="/en/">English shop</a> · <a href="/zh/">中文商城</a></p>'
            '<p><a href="/private/moderation">Reviews that wait for moderation</a></p>'
        )
        return self.frame("en", "Lanting 兰汀", inner)

    def moderation(self) -> str:
        items = "".join(
            self.plain_item(review, 5, number) for number, review in enumerate(self.hidden)
        )
        return self.frame("en", "Moderation", f'<ul class="reviews">{items}</ul>')

    def listing(self, language: str) -> str:
        items = "".join(
            f'<li><a href="/{language}/products/{p.key}">{esc(p.name(language))}</a></li>'
            for p in PRODUCTS
        )
        words = WORDS[language]
        return self.frame(
            language, words["products"], f"<h1>{words['products']}</h1><ul>{items}</ul>"
        )

    def article(self, language: str) -> str:
        words = WORDS[language]
        data = {
            "@context": "https://schema.org",
            "@type": "Article",
            "headline": words["article"],
            "author": {"@type": "Organization", "name": words["shop"]},
            "datePublished": "2026-01-01",
            "articleBody": ARTICLE[language],
        }
        inner = f"<article><h1>{words['article']}</h1><p>{ARTICLE[language]}</p></article>"
        return self.frame(language, words["article"], inner, ld_script(data))

    def product_page(
        self, language: str, product: Product, rows: list[Review], number: int, count: int
    ) -> str:
        words, scale = WORDS[language], scale_of(product)
        name = product.name(language)
        head, follow = "", ""
        if number < count:
            href = product_path(language, product.key, number + 1)
            head = f'<link rel="next" href="{href}">'
            follow = f'<p><a class="next-page" rel="next" href="{href}">{words["next"]}</a></p>'
        if number > 1:
            head += f'<link rel="prev" href="{product_path(language, product.key, number - 1)}">'
        kind = markup_of(product)
        if kind == "json-ld":
            head += ld_script(product_data(name, rows, scale))
            items = "".join(self.shown_item(review, scale) for review in rows)
            body = f'<h1>{esc(name)}</h1><h2>{words["reviews"]}</h2><ul class="list">{items}</ul>'
        elif kind == "microdata":
            items = "".join(self.micro_item(review, scale, n) for n, review in enumerate(rows))
            body = (
                '<div itemscope itemtype="https://schema.org/Product">'
                f'<h1 itemprop="name">{esc(name)}</h1><h2>{words["reviews"]}</h2>{items}</div>'
            )
        else:
            items = "".join(self.plain_item(review, scale, n) for n, review in enumerate(rows))
            body = (
                f'<h1 class="product-name">{esc(name)}</h1><h2>{words["reviews"]}</h2>'
                f'<ul class="reviews">{items}</ul>'
            )
        title = name if number == 1 else f"{name} ({number})"
        return self.frame(language, title, body + follow, head)

    def shown_item(self, review: Review, scale: int) -> str:
        """What a person sees; machines read the page's JSON-LD."""
        return (
            f'<li class="entry" id="{review["id"]}"><b>{esc(review["title"])}</b> '
            f"{rate(review['stars'], scale)}/{scale}<p>{esc(review['text'])}</p></li>"
        )

    def micro_item(self, review: Review, scale: int, number: int) -> str:
        name = esc(review["author"])
        person = f'<span itemprop="name">{name}</span>'
        author = (
            f'<span itemprop="author">{name}</span>'
            if number % 2
            else f'<span itemprop="author" itemscope itemtype="https://schema.org/Person">{person}</span>'
        )
        return (
            f'<article id="{review["id"]}" itemprop="review" itemscope '
            'itemtype="https://schema.org/Review">'
            f'<h3 itemprop="name">{esc(review["title"])}</h3>'
            '<div itemprop="reviewRating" itemscope itemtype="https://schema.org/Rating">'
            f'<meta itemprop="worstRating" content="{0 if scale == 100 else 1}">'
            f'<span itemprop="ratingValue">{rate(review["stars"], scale)}</span>/'
            f'<span itemprop="bestRating">{scale}</span></div>'
            f'<p itemprop="reviewBody">{esc(review["text"])}</p>{author} '
            f'<time itemprop="datePublished" datetime="{with_zone(review["created"])}">'
            f"{say_day(review['created'], review['language'])}</time>"
            f"{self.reply(review)}</article>"
        )

    def plain_item(self, review: Review, scale: int, number: int) -> str:
        value = rate(review["stars"], scale)
        score = f"{value}%" if scale == 100 else f"{value}/{scale}"
        return (
            f'<li class="customer-review" id="{review["id"]}">'
            f'<h3 class="review-headline">{esc(review["title"])}</h3>'
            f'<span class="review-score">{score}</span>'
            f'<p class="review-text">{esc(review["text"])}</p>'
            f'<span class="review-author">{esc(review["author"])}</span> '
            f'<span class="review-date">{say_day(review["created"], review["language"])}</span>'
            f"{self.reply(review)}</li>"
        )

    def reply(self, review: Review) -> str:
        """Now and then the shop answers below a bad review; that is no review."""
        if review["stars"] > 1 or int(review["id"][1:]) % 6:
            return ""
        words = WORDS[review["language"]]
        return f'<div class="staff-reply"><b>{words["reply"]}</b> <q>{words["thanks"]}</q></div>'


def product_path(language: str, key: str, number: int) -> str:
    path = f"/{language}/products/{key}"
    return path if number == 1 else f"{path}?page={number}"


def ld_script(data: dict[str, Any]) -> str:
    text = json.dumps(data, ensure_ascii=False).replace("</", "<\\/")
    return f'<script type="application/ld+json">{text}</script>'


def product_data(name: str, rows: list[Review], scale: int) -> dict[str, Any]:
    reviews = [
        {
            "@type": "Review",
            "identifier": review["id"],
            "url": f"#{review['id']}",
            "name": review["title"],
            "reviewBody": review["text"],
            "author": {"@type": "Person", "name": review["author"]} if n % 2 else review["author"],
            "datePublished": with_zone(review["created"]),
            "reviewRating": {
                "@type": "Rating",
                "ratingValue": rate(review["stars"], scale),
                "bestRating": scale,
                "worstRating": 0 if scale == 100 else 1,
            },
        }
        for n, review in enumerate(rows)
    ]
    data: dict[str, Any] = {"@context": "https://schema.org", "@type": "Product", "name": name}
    if rows:
        mean = sum(rate(review["stars"], scale) for review in rows) / len(rows)
        data["aggregateRating"] = {
            "@type": "AggregateRating",
            "ratingValue": round(mean, 1),
            "bestRating": scale,
            "reviewCount": len(rows),
        }
    return {**data, "review": reviews}


def is_known(request: BaseHTTPRequestHandler, tag: str, modified: datetime) -> bool:
    """Whether the asker has this very version already."""
    given = request.headers.get("If-None-Match")
    if given is not None:
        return tag in (part.strip().removeprefix("W/") for part in given.split(","))
    since = request.headers.get("If-Modified-Since")
    if not since:
        return False
    try:
        return parsedate_to_datetime(since) >= modified
    except (TypeError, ValueError):
        return False

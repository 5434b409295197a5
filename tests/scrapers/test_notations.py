"""Every notation in every language: the same review comes out of each."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from scrapers.parsing import ParseOptions, parse_page

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
# language: (product, author, what was said, the 5th of March 2024 as people write it there)
WORDS = {
    "en": ("Steel kettle", "Moira", "The lid leaks after a week.", "March 5, 2024"),
    "zh": ("空气炸锅", "老王", "用了三天就不加热了。", "2024年3月5日"),
    "de": ("Wasserkocher", "Jörg", "Der Deckel schließt nicht.", "5. März 2024"),
    "es": ("Cafetera", "Ana Gil", "Gotea por la junta.", "5 de marzo de 2024"),
    "fr": ("Aspirateur", "Zoé", "Il s'arrête sans raison.", "5 mars 2024"),
    "sv": ("Vattenkokare", "Åsa", "Locket läcker efter en vecka.", "5 mars 2024"),
    "ja": ("電気ケトル", "さくら", "一週間で壊れました。", "2024年3月5日"),
    "ru": ("Чайник", "Ольга", "Крышка протекает через неделю.", "5 марта 2024"),
    "it": ("Moka", "Giulia", "La guarnizione perde.", "5 marzo 2024"),
    "pt": ("Liquidificador", "Renata", "Queimou o motor.", "5 de março de 2024"),
    "nl": ("Waterkoker", "Joost", "Het deksel lekt na een week.", "5 maart 2024"),
    "pl": ("Lampka", "Ola", "Lampka miga i grzeje się.", "5 marca 2024"),
    "ko": ("주전자", "민지", "일주일 만에 고장났어요.", "2024년 3월 5일"),
    "tr": ("Çaydanlık", "Elif", "Kapağı bir haftada kırıldı.", "5 Mart 2024"),
}
CSS = {
    "item": ".r", "body": ".b", "rating": ".s", "author": ".a", "date": ".d", "product": "h1",
}  # fmt: skip


def script(value: Any) -> str:
    return f'<script type="application/ld+json">{json.dumps(value, ensure_ascii=False)}</script>'


def review(author: str, said: str, when: str) -> dict[str, Any]:
    return {
        "@type": "Review", "author": {"@type": "Person", "name": author}, "reviewBody": said,
        "datePublished": when, "reviewRating": {"@type": "Rating", "ratingValue": "2"},
    }  # fmt: skip


def json_ld_in_product(product: str, author: str, said: str, when: str) -> str:
    return script({"@type": "Product", "name": product, "review": review(author, said, when)})


def json_ld_graph(product: str, author: str, said: str, when: str) -> str:
    about = review(author, said, when) | {"@id": "#r1", "itemReviewed": {"@id": "#p"}}
    return script({"@graph": [{"@type": "Product", "@id": "#p", "name": product}, about]})


def json_ld_list(product: str, author: str, said: str, when: str) -> str:
    about = review(author, said, when) | {"itemReviewed": {"@type": "Thing", "name": product}}
    return script({"@type": "ItemList", "itemListElement": [{"@type": "ListItem", "item": about}]})


def json_ld_broken(product: str, author: str, said: str, when: str) -> str:
    whole = json_ld_in_product(product, author, said, when)
    return whole.replace("{", '{"description": "a "quote" that breaks", ', 1) + (
        '<div itemscope itemtype="https://schema.org/Product">'
        f'<b itemprop="name">{product}</b></div>'
    )


def microdata(product: str, author: str, said: str, when: str) -> str:
    return (
        f'<div itemscope itemtype="https://schema.org/Product"><h1 itemprop="name">{product}</h1>'
        '<div itemprop="review" itemscope itemtype="https://schema.org/Review">'
        '<i itemprop="author" itemscope itemtype="https://schema.org/Person">'
        f'<b itemprop="name">{author}</b></i><i itemprop="datePublished">{when}</i>'
        '<i itemprop="reviewRating" itemscope itemtype="https://schema.org/Rating">'
        '<meta itemprop="ratingValue" content="2"></i>'
        f'<p itemprop="reviewBody">{said}</p></div></div>'
    )


def old_vocabulary(product: str, author: str, said: str, when: str) -> str:
    return (
        '<div itemscope itemtype="http://data-vocabulary.org/Review">'
        f'<b itemprop="itemreviewed">{product}</b><i itemprop="reviewer">{author}</i>'
        f'<i itemprop="dtreviewed">{when}</i><i itemprop="rating">2</i>'
        f'<p itemprop="description">{said}</p></div>'
    )


def rdfa(product: str, author: str, said: str, when: str) -> str:
    return (
        f'<div vocab="https://schema.org/" typeof="Product"><h1 property="name">{product}</h1>'
        f'<div property="review" typeof="Review"><i property="author">{author}</i>'
        f'<i property="datePublished">{when}</i><i property="reviewRating" typeof="Rating">'
        f'<b property="ratingValue">2</b></i><p property="reviewBody">{said}</p></div></div>'
    )


def hreview(product: str, author: str, said: str, when: str) -> str:
    return (
        f'<div class="hreview"><b class="item"><i class="fn">{product}</i></b>'
        f'<b class="reviewer vcard"><i class="fn">{author}</i></b><i class="dtreviewed">{when}</i>'
        f'<i class="rating">2</i><div class="description">{said}</div></div>'
    )


def h_review(product: str, author: str, said: str, when: str) -> str:
    return (
        f'<div class="h-review"><a class="p-item h-item" href="/p">{product}</a>'
        f'<b class="p-author h-card">{author}</b><i class="dt-published">{when}</i>'
        f'<i class="p-rating">2</i><div class="e-content">{said}</div></div>'
    )


def plain(product: str, author: str, said: str, when: str) -> str:
    return (
        f'<h1>{product}</h1><ul><li class="r"><b class="a">{author}</b><i class="d">{when}</i>'
        f'<i class="s">★★☆☆☆</i><p class="b">{said}</p></li></ul>'
    )


NOTATIONS = (
    json_ld_in_product, json_ld_graph, json_ld_list, json_ld_broken, microdata, old_vocabulary,
    rdfa, hreview, h_review, plain,
)  # fmt: skip


def test_ten_notations_and_eight_languages_at_least() -> None:
    assert len(NOTATIONS) >= 10
    assert len(WORDS) >= 8


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize("notation", NOTATIONS, ids=lambda make: make.__name__)
def test_a_review_is_the_same_in_each(notation: Any, language: str) -> None:
    product, author, said, when = WORDS[language]
    html = f"<html lang='{language}'><body>{notation(product, author, said, when)}</body></html>"
    options = ParseOptions(CSS if notation is plain else {})
    (record,) = parse_page(html, "https://site.test/p/1", NOW, options).records
    told = {name: record[name] for name in ("product", "author", "body", "rating", "rating_max")}
    assert told == {
        "product": product, "author": author, "body": said, "rating": 2.0, "rating_max": 5.0,
    }  # fmt: skip
    assert record["created_at"] == "2024-03-05T00:00:00+00:00"
    assert record["language"] == language
    assert record["notes"] == []

"""Pages in, review records out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrapers.decoding import decode_page
from scrapers.identity import stable_path
from scrapers.parsing import ParsedPage, ParseOptions, parse_page
from scrapers.selected import check_selectors

PAGES = Path(__file__).parent / "pages"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
FRENCH = {
    "item": ".un-avis", "title": ".titre", "body": ".texte", "rating": ".note", "author": ".qui",
    "date": ".quand", "product": "h1.produit",
}  # fmt: skip
RUSSIAN = {
    "item": ".review", "body": ".text", "rating": ".stars", "author": ".user", "date": ".date",
    "product": ".product-name",
}  # fmt: skip
CHINESE = {
    "item": ".comment-item", "body": ".said", "rating": ".user-stars", "author": ".who",
    "date": ".when", "product": "h1.name",
}  # fmt: skip
OPTIONS = {
    "fr_selectors": ParseOptions(FRENCH),
    "ru_selectors": ParseOptions(RUSSIAN),
    "zh_gb": ParseOptions(CHINESE, time_zone="Asia/Shanghai"),
    "zh_graph": ParseOptions(time_zone="Asia/Shanghai"),
    "nl_forum": ParseOptions(posts=True),
    "ko_qa": ParseOptions(posts=True),
    "pl_comments": ParseOptions(posts=True),
}
ENCODINGS = {"de_latin": "cp1252", "zh_gb": "gb18030"}


def read_page(name: str) -> ParsedPage:
    text = (PAGES / f"{name}.html").read_text(encoding="utf-8")
    text, _ = decode_page(text.encode(ENCODINGS.get(name, "utf-8")), b"text/html")
    return parse_page(text, f"https://site.test/p/{name}", NOW, OPTIONS.get(name))


def parse(body: str, url: str = "https://site.test/p/1", **options: Any) -> ParsedPage:
    return parse_page(f"<html lang='en'>{body}</html>", url, NOW, ParseOptions(**options))


def json_ld(text: str) -> str:
    return f'<script type="application/ld+json">{text}</script>'


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("en_product", 2), ("zh_graph", 2), ("de_microdata", 2), ("es_rdfa", 1), ("sv_list", 3),
        ("fr_selectors", 2), ("ja_jsonld", 1), ("ru_selectors", 2), ("en_double", 1),
        ("en_broken", 2), ("en_article", 0), ("en_critic", 1), ("en_recipe", 4), ("de_latin", 1),
        ("zh_gb", 2), ("en_editorial", 1), ("it_hreview", 2), ("pt_hreview2", 1), ("nl_forum", 2),
        ("ko_qa", 2), ("pl_comments", 1), ("tr_vocabulary", 1),
    ],
)  # fmt: skip
def test_reviews_of_a_page(name: str, count: int) -> None:
    assert len(read_page(name).records) == count


def test_editorial_reviews_are_counted() -> None:
    assert read_page("en_editorial").notes["editorial_reviews"] == 2


@pytest.mark.parametrize(
    ("name", "index", "field", "expected"),
    [
        ("en_product", 0, "review_id", "/p/kettle#review-81001"),
        ("en_product", 0, "url", "https://shop.test/p/kettle#review-81001"),
        ("en_product", 0, "title", "Leaks & drips"),
        ("en_product", 0, "body", "The lid leaks after a week.\n\nDon't buy."),
        ("en_product", 0, "rating", 2.0),
        ("en_product", 0, "rating_min", 1.0),
        ("en_product", 0, "rating_max", 5.0),
        ("en_product", 0, "author", "Moira B."),
        ("en_product", 0, "created", "2025-03-02T08:15:00+01:00"),
        ("en_product", 0, "created_at", "2025-03-02T07:15:00+00:00"),
        ("en_product", 0, "language", "en"),
        ("en_product", 0, "product", "Steel kettle 1.7 l"),
        ("en_product", 0, "markup", "json-ld"),
        ("en_product", 0, "page_url", "https://site.test/p/en_product"),
        ("en_product", 1, "author", "Tom"),
        ("en_product", 1, "title", None),
        ("en_product", 1, "rating", 5.0),
        ("zh_graph", 0, "review_id", "/p/zh_graph#r1"),
        ("zh_graph", 0, "body", "用了三天就不加热了，客服一直不回复。"),
        ("zh_graph", 0, "author", "老王"),
        ("zh_graph", 0, "product", "空气炸锅"),
        ("zh_graph", 0, "rating", 2.0),
        ("zh_graph", 0, "rating_min", 0.0),
        ("zh_graph", 0, "rating_max", 10.0),
        ("zh_graph", 0, "created_at", "2025-03-04T16:00:00+00:00"),
        ("zh_graph", 0, "language", "zh"),
        ("zh_graph", 1, "created_at", "2025-03-06T12:30:00+00:00"),
        ("de_microdata", 0, "review_id", "bewertung-20417"),
        ("de_microdata", 0, "url", "https://site.test/p/de_microdata#bewertung-20417"),
        ("de_microdata", 0, "title", "Bequem"),
        ("de_microdata", 0, "body", "Sehr bequem,\naber die Sohle löst sich."),
        ("de_microdata", 0, "author", "Lena"),
        ("de_microdata", 0, "created", "5. März 2024"),
        ("de_microdata", 0, "created_at", "2024-03-05T00:00:00+00:00"),
        ("de_microdata", 0, "rating", 4.5),
        ("de_microdata", 0, "product", "Wanderschuh Alpin"),
        ("de_microdata", 0, "markup", "microdata"),
        ("de_microdata", 1, "author", "Jörg"),
        ("de_microdata", 1, "rating", 1.0),
        ("de_microdata", 1, "rating_max", 5.0),
        ("es_rdfa", 0, "review_id", "/p/es_rdfa#opinion-55310"),
        ("es_rdfa", 0, "body", "Hace buen café, pero gotea por la junta."),
        ("es_rdfa", 0, "author", "Ana Gil"),
        ("es_rdfa", 0, "rating", 4.0),
        ("es_rdfa", 0, "created_at", "2024-05-01T00:00:00+00:00"),
        ("es_rdfa", 0, "product", "Cafetera Roma"),
        ("es_rdfa", 0, "language", "es"),
        ("es_rdfa", 0, "markup", "rdfa"),
        ("sv_list", 0, "product", "Vintervägen"),
        ("sv_list", 0, "language", "sv"),
        ("sv_list", 0, "rating", None),
        ("sv_list", 2, "rating", 40.0),
        ("sv_list", 2, "rating_min", 0.0),
        ("sv_list", 2, "rating_max", 100.0),
        ("sv_list", 2, "created_at", "2026-11-17T12:00:00+00:00"),
        ("sv_list", 2, "notes", ["date_relative"]),
        ("fr_selectors", 0, "url", "https://site.test/p/fr_selectors#avis-1"),
        ("fr_selectors", 0, "title", "Déçu"),
        ("fr_selectors", 0, "body", "Il s'arrête sans raison."),
        ("fr_selectors", 0, "rating", 3.0),
        ("fr_selectors", 0, "rating_max", 10.0),
        ("fr_selectors", 0, "author", "Luc"),
        ("fr_selectors", 0, "created", "il y a 3 jours"),
        ("fr_selectors", 0, "created_at", "2026-11-17T12:00:00+00:00"),
        ("fr_selectors", 0, "product", "Aspirateur Zéphyr"),
        ("fr_selectors", 0, "markup", "selectors"),
        ("fr_selectors", 1, "rating", 8.5),
        ("fr_selectors", 1, "created_at", "2024-03-05T00:00:00+00:00"),
        ("ja_jsonld", 0, "review_id", "R3K20045"),
        ("ja_jsonld", 0, "title", "すぐ壊れた"),
        ("ja_jsonld", 0, "rating", 2.0),
        ("ja_jsonld", 0, "rating_max", 5.0),
        ("ja_jsonld", 0, "created_at", "2024-03-05T00:00:00+00:00"),
        ("ja_jsonld", 0, "language", "ja"),
        ("ru_selectors", 0, "review_id", "7730012"),
        ("ru_selectors", 0, "rating", 4.0),
        ("ru_selectors", 0, "rating_max", 5.0),
        ("ru_selectors", 0, "created_at", "2024-03-05T00:00:00+00:00"),
        ("ru_selectors", 0, "product", "Чайник"),
        ("ru_selectors", 1, "created_at", "2024-03-04T10:00:00+00:00"),
        ("ru_selectors", 1, "language", "ru"),
        ("en_double", 0, "rating", 4.0),
        ("en_double", 0, "markup", "json-ld"),
        ("en_double", 0, "review_id", "comment-640021"),
        ("en_broken", 0, "body", "The coating came off."),
        ("en_broken", 1, "rating", 5.0),
        ("en_critic", 0, "product", "Harbour fish cakes"),
        ("en_critic", 0, "rating", 7.9),
        ("en_critic", 0, "rating_max", 10.0),
        ("en_editorial", 0, "body", "Mine leaks."),
        ("en_recipe", 0, "body", None),
        ("en_recipe", 0, "rating", 5.0),
        ("en_recipe", 1, "rating", None),
        ("en_recipe", 1, "notes", ["rating_outside_scale"]),
        ("en_recipe", 2, "language", None),
        ("en_recipe", 2, "created_at", None),
        ("en_recipe", 2, "notes", ["date_missing"]),
        ("en_recipe", 3, "created", "sometime soon"),
        ("en_recipe", 3, "created_at", None),
        ("en_recipe", 3, "notes", ["date_unreadable"]),
        ("de_latin", 0, "body", "Für 20 € völlig überteuert – „nie wieder“."),
        ("de_latin", 0, "author", "Jürgen"),
        ("de_latin", 0, "rating", 2.0),
        ("de_latin", 0, "rating_min", 1.0),
        ("de_latin", 0, "rating_max", 6.0),
        ("de_latin", 0, "notes", ["rating_scale_reversed"]),
        ("de_latin", 0, "created_at", "2024-08-12T00:00:00+00:00"),
        ("zh_gb", 0, "body", "音质不错，就是降噪一般。"),
        ("zh_gb", 0, "author", "镕镕"),
        ("zh_gb", 0, "rating", 4.0),
        ("zh_gb", 0, "review_id", "913021077"),
        ("zh_gb", 0, "created_at", "2024-04-15T02:36:39+00:00"),
        ("it_hreview", 0, "title", "Perde acqua"),
        ("it_hreview", 0, "body", "La guarnizione perde.\n\nPeccato."),
        ("it_hreview", 0, "author", "Giulia R."),
        ("it_hreview", 0, "rating", 2.0),
        ("it_hreview", 0, "rating_max", 5.0),
        ("it_hreview", 0, "created_at", "2024-05-01T00:00:00+00:00"),
        ("it_hreview", 0, "product", "Moka Bella 3 tazze"),
        ("it_hreview", 0, "markup", "microformats"),
        ("it_hreview", 1, "title", None),
        ("it_hreview", 1, "rating", 4.0),
        ("pt_hreview2", 0, "review_id", "/p/vento#r-90017"),
        ("pt_hreview2", 0, "title", "Parou de funcionar"),
        ("pt_hreview2", 0, "body", "Queimou o motor na segunda semana."),
        ("pt_hreview2", 0, "author", "Renata"),
        ("pt_hreview2", 0, "rating", 1.0),
        ("pt_hreview2", 0, "created_at", "2024-03-05T12:30:00+00:00"),
        ("pt_hreview2", 0, "product", "Liquidificador Vento"),
        ("nl_forum", 0, "review_id", "/d/4411"),
        ("nl_forum", 0, "title", "Accu laadt niet op"),
        ("nl_forum", 0, "channel", "forum"),
        ("nl_forum", 0, "product", None),
        ("nl_forum", 1, "body", "Hier precies hetzelfde."),
        ("nl_forum", 1, "author", "Anke"),
        ("nl_forum", 1, "created_at", "2024-05-06T09:00:00+00:00"),
        ("ko_qa", 0, "title", "전원이 켜지지 않아요"),
        ("ko_qa", 1, "review_id", "/q/1#a-70021"),
        ("ko_qa", 1, "author", "지훈"),
        ("pl_comments", 0, "review_id", "comment-660311"),
        ("pl_comments", 0, "body", "Lampka miga i grzeje się."),
        ("pl_comments", 0, "author", "Ola"),
        ("pl_comments", 0, "created_at", "2024-07-01T10:00:00+00:00"),
        ("pl_comments", 0, "product", "Lampka biurkowa"),
        ("tr_vocabulary", 0, "review_id", "yorum-44120"),
        ("tr_vocabulary", 0, "rating", 9.0),
        ("tr_vocabulary", 0, "rating_max", 10.0),
        ("tr_vocabulary", 0, "product", "Çay makinesi"),
        ("zh_gb", 1, "rating", 1.0),
        ("zh_gb", 1, "created_at", "2026-11-17T12:00:00+00:00"),
    ],
)  # fmt: skip
def test_field_of_a_review(name: str, index: int, field: str, expected: Any) -> None:
    assert read_page(name).records[index][field] == expected


@pytest.mark.parametrize("name", ["nl_forum", "ko_qa", "pl_comments"])
def test_posts_are_left_alone_unless_they_are_asked_for(name: str) -> None:
    text = (PAGES / f"{name}.html").read_text(encoding="utf-8")
    assert parse_page(text, "https://site.test/p", NOW).records == []


def test_a_review_has_no_channel_of_its_own() -> None:
    assert "channel" not in read_page("it_hreview").records[0]


def test_longer_text_of_two_notations_is_kept() -> None:
    assert str(read_page("en_double").records[0]["body"]).endswith("pay for more levels.")


def test_double_submission_keeps_both_reviews_apart() -> None:
    first, second = (record["review_id"] for record in read_page("sv_list").records[:2])
    assert second == f"{first}~2"


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("en_broken", "json_ld_salvaged"),
        ("en_broken", "reviews_unreadable"),
        ("fr_selectors", "selected_without_content"),
    ],
)
def test_what_was_not_read_is_counted(name: str, note: str) -> None:
    assert read_page(name).notes[note] == 1


def test_trailing_comma_is_no_fault() -> None:
    page = parse(json_ld('{"@type":"Review","reviewBody":"Fine.",}'))
    assert (len(page.records), page.notes) == (1, {})


def test_escaped_json_ld_is_repaired() -> None:
    page = parse(
        json_ld("{&quot;@type&quot;:&quot;Review&quot;,&quot;reviewBody&quot;:&quot;Ok&quot;}")
    )
    assert page.records[0]["body"] == "Ok"


def test_two_objects_in_one_script_are_both_read() -> None:
    one = '{"@type":"Review","author":"A","reviewBody":"%s"}'
    assert len(parse(json_ld(one % "First one" + "\n" + one % "Second one")).records) == 2


def test_aggregate_rating_beside_reviews_sets_their_scale() -> None:
    page = parse(
        json_ld(
            '{"@type":"Product","name":"X","aggregateRating":{"@type":"AggregateRating",'
            '"ratingValue":8,"bestRating":10},"review":{"@type":"Review","reviewBody":"Good",'
            '"reviewRating":{"ratingValue":"4"}}}'
        )
    )
    assert page.records[0]["rating_max"] == 10.0


def test_value_above_the_default_scale_is_noted() -> None:
    page = parse(json_ld('{"@type":"Review","reviewBody":"Hm","reviewRating":{"ratingValue":87}}'))
    assert page.records[0]["notes"] == ["date_missing", "rating_scale_guessed"]


@pytest.mark.parametrize(
    "review",
    [
        '{"@type":"Review","name":"All reviews","ratingValue":4,"reviewCount":12}',
        '{"@type":"Review","reviewRating":{"@type":"AggregateRating","ratingValue":4,"ratingCount":9}}',
        '{"@type":"Review","@id":"#r","author":"A"}',
        '{"@type":"Review","name":"Read the review","url":"/r"}',
    ],
)
def test_what_stands_for_many_or_nothing_is_no_review(review: str) -> None:
    assert parse(json_ld(review)).records == []


def test_old_vocabulary_is_understood() -> None:
    page = parse(
        "<div itemscope itemtype='http://data-vocabulary.org/Review'><b itemprop='summary'>Fine</b>"
        "<span itemprop='reviewer'>Ann</span><time itemprop='dtreviewed' datetime='2024-05-01'>"
        "</time><span itemprop='rating'>4</span><p itemprop='description'>Works well.</p></div>"
    )
    record = page.records[0]
    assert [record[name] for name in ("title", "author", "body", "rating", "created")] == [
        "Fine", "Ann", "Works well.", 4.0, "2024-05-01",
    ]  # fmt: skip


def test_circle_of_references_ends() -> None:
    page = parse(
        json_ld(
            '{"@graph":[{"@type":"Product","@id":"#p","name":"X","review":{"@id":"#r"}},'
            '{"@type":"Review","@id":"#r","reviewBody":"Good","itemReviewed":{"@id":"#p"}}]}'
        )
    )
    assert [record["product"] for record in page.records] == ["X"]


def test_graph_in_which_all_refer_to_all_is_read_at_once() -> None:
    ids = [f"#n{n}" for n in range(60)]
    nodes: list[dict[str, Any]] = [
        {"@type": "Product", "@id": own, "name": own, "related": [{"@id": other} for other in ids]}
        for own in ids
    ]
    nodes[-1]["review"] = {"@type": "Review", "reviewBody": "Good"}
    page = parse(json_ld(json.dumps({"@graph": nodes})))
    assert [record["product"] for record in page.records] == ["#n59"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["@type", "@id", "@graph", "@value", "@list", "review", "reviewRating", "author",
                 "ratingValue", "bestRating", "reviewBody", "datePublished", "itemReviewed",
                 "name", "url", "identifier", "inLanguage", "positiveNotes", "aggregateRating"]
            ),
            inner | st.sampled_from(["Review", "Product", "#1", "AggregateRating", "5", "4,5/5"]),
            max_size=5,
        )
    ),
    max_leaves=25,
)  # fmt: skip


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(JSON_VALUES)
def test_any_json_ld_is_read_without_a_fault(value: Any) -> None:
    page = parse(json_ld(json.dumps({"@type": "Review", "reviewBody": "Good", "review": value})))
    ids = [record["review_id"] for record in page.records]
    assert len(set(ids)) == len(ids) >= 1
    json.dumps(page.records, allow_nan=False)


@settings(deadline=None, max_examples=80)
@given(st.text(alphabet="<>/=\"' abitemscoprvewdyR\x00é评", max_size=200))
def test_any_html_is_read_without_a_fault(text: str) -> None:
    page = parse(f"{text}<p class='r'>Good</p>", selectors={"item": ".r", "body": ".r"})
    assert isinstance(page.records, list)


@pytest.mark.parametrize("html", ["", " ", "<!-- -->", "plain text", "\x00", "<html></html>"])
def test_page_without_anything_has_no_reviews(html: str) -> None:
    assert parse_page(html, "https://site.test/", NOW).records == []


def test_id_does_not_depend_on_host_and_port() -> None:
    review = json_ld(
        '{"@type":"Review","author":"A","datePublished":"2024-01-02","reviewBody":"Good"}'
    )
    ids = {
        parse(review, url).records[0]["review_id"]
        for url in (
            "http://127.0.0.1:8011/p/1",
            "https://shop.test/p/1",
            "https://shop.test/p/1?page=2",
        )
    }
    assert len(ids) == 1


def test_id_differs_between_products() -> None:
    review = json_ld('{"@type":"Review","author":"A","reviewBody":"Good"}')
    ids = {parse(review, f"https://shop.test/item?id={n}").records[0]["review_id"] for n in (1, 2)}
    assert len(ids) == 2


def test_id_does_not_move_with_a_relative_date() -> None:
    html = json_ld('{"@type":"Review","author":"A","reviewBody":"Good","datePublished":"%s ago"}')
    ids = {parse(html % when).records[0]["review_id"] for when in ("2 days", "3 days")}
    assert len(ids) == 1


def test_positions_on_the_page_are_no_ids() -> None:
    def page(texts: list[str]) -> ParsedPage:
        items = "".join(f"<li id='review-{n}'><p>{t}</p></li>" for n, t in enumerate(texts, 1))
        return parse(f"<ul>{items}</ul>", selectors={"item": "li", "body": "p"})

    old = page(["First words", "Second words"]).records[0]["review_id"]
    assert page(["Brand new", "First words", "Second words"]).records[1]["review_id"] == old


def test_shared_id_is_no_id() -> None:
    page = parse(
        json_ld(
            '[{"@type":"Review","@id":"#review","reviewBody":"One"},'
            '{"@type":"Review","@id":"#review","reviewBody":"Two"}]'
        )
    )
    assert len({record["review_id"] for record in page.records}) == 2


def test_same_words_of_two_people_are_two_reviews() -> None:
    page = parse(
        "<li><b>Ann</b><p>Good product</p></li><li><b>Bob</b><p>Good product</p></li>",
        selectors={"item": "li", "body": "p", "author": "b"},
    )
    assert len(page.records) == 2


def test_day_above_twelve_decides_the_order_of_a_page() -> None:
    page = parse(
        "<li><i>03/04/2024</i><p>One</p></li><li><i>25/04/2024</i><p>Two</p></li>",
        selectors={"item": "li", "body": "p", "date": "i"},
    )
    assert page.records[0]["created_at"] == "2024-04-03T00:00:00+00:00"


@pytest.mark.parametrize(
    ("selectors", "word"),
    [
        ({"item": "div["}, "not a CSS selector"),
        ({"itm": "div"}, "unknown"),
        ({"body": "p"}, "selectors.item is missing"),
        ({"item": "li::text"}, "must select elements"),
    ],
)
def test_wrong_selectors_are_explained(selectors: dict[str, str], word: str) -> None:
    assert word in str(check_selectors(selectors))


def test_right_selectors_pass() -> None:
    assert check_selectors({"item": "li", "rating": "span::attr(title)", "next": "a.more"}) is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a.test:8080/p/1/", "/p/1"),
        ("http://a.test/p/1/page/3", "/p/1"),
        ("http://a.test/p?id=7&page=2&utm_source=x&sort=new", "/p?id=7"),
    ],
)
def test_stable_path(url: str, expected: str) -> None:
    assert stable_path(url) == expected


def test_wrongly_declared_character_set_is_seen() -> None:
    body = "<meta charset='utf-8'><p>镕镕</p>".encode("gb18030")
    assert decode_page(body, b"text/html") == (
        "<meta charset='utf-8'><p>镕镕</p>",
        {"wrong_encoding": 1},
    )

"""The phrase banks: every line renders, texts differ, labels fit."""

from __future__ import annotations

import random
import re
from datetime import datetime

import pytest

from pipelines.demo import catalog
from pipelines.demo.texts import (
    FEEDBACK_TYPES,
    KINDS,
    STYLES,
    Writer,
    load_bank,
    parse_choice,
    render_line,
)
from pipelines.entities import FEEDBACK_TYPES as KNOWN_TYPES
from pipelines.entities import NEEDS, PRIORITIES, SENTIMENTS
from tests.pipelines.demo.reader import read_lines
from tests.pipelines.demo.worlds import SmallWorld

AT = datetime(2026, 11, 19, 15, 30)
HAN = re.compile(r"[一-鿿]")


@pytest.fixture(params=catalog.LANGUAGES)
def writer(request: pytest.FixtureRequest) -> Writer:
    return Writer(request.param, random.Random(5))


def test_choices_nest() -> None:
    assert parse_choice("a [b|c [d|]]|e") == [
        ["a ", [["b"], ["c ", [["d"], []]]]],
        ["e"],
    ]


def test_an_open_bracket_is_an_error() -> None:
    with pytest.raises(ValueError, match="not closed"):
        parse_choice("a [b|c")


def test_every_line_renders_without_left_overs(writer: Writer) -> None:
    for topic in writer.topics:
        assert set(topic.lines) <= set(KINDS.values())
        for lines in topic.lines.values():
            for line in lines:
                facts = writer.facts(catalog.PRODUCTS[0], AT)
                text = render_line(line, random.Random(1), facts)
                assert text.strip(), topic.name
                assert not re.search(r"[{}|]", text), text


def test_both_banks_cover_the_same_topics() -> None:
    english, chinese = (
        {(topic.scope, topic.kind, topic.name) for topic in load_bank(language)}
        for language in catalog.LANGUAGES
    )
    assert english == chinese


def test_labels_are_the_warehouses(writer: Writer) -> None:
    for topic in writer.topics:
        if topic.is_helper:
            continue
        assert topic.label.feedback_type in KNOWN_TYPES
        assert topic.label.need in NEEDS
        assert topic.label.sentiment in SENTIMENTS
        assert topic.label.priority in PRIORITIES


@pytest.mark.parametrize("kind", FEEDBACK_TYPES)
def test_every_product_has_something_to_say_of_each_type(writer: Writer, kind: str) -> None:
    for product in catalog.PRODUCTS:
        for style in STYLES:
            if style == "reply":
                continue
            topic = writer.choose_topic(product, kind, in_app=style == "app")
            written = writer.write(topic, style, writer.facts(product, AT))
            assert written.body
            assert written.subject
            assert written.label.feedback_type == kind


def test_the_writer_uses_its_own_language(writer: Writer) -> None:
    shares = []
    for _ in range(200):
        topic = writer.choose_topic(writer.rng.choice(catalog.PRODUCTS), "complaint")
        body = writer.write(topic, "web", writer.facts(catalog.PRODUCTS[0], AT)).body
        shares.append(len(HAN.findall(body)) / len(body))
    mean = sum(shares) / len(shares)
    assert mean > 0.5 if writer.language == "zh" else mean == 0


def test_an_urgent_sentence_makes_an_urgent_label(writer: Writer) -> None:
    product = catalog.BY_KEY["breeze"]
    topic = writer.by_name["late_delivery"]
    found = {}
    for _ in range(300):
        written = writer.write(topic, "web", writer.facts(product, AT))
        found[written.label.priority] = written.body
    assert set(found) == {"normal", "high", "urgent"}


def test_an_edited_text_is_near_but_not_equal(writer: Writer) -> None:
    for _ in range(100):
        topic = writer.choose_topic(writer.rng.choice(catalog.PRODUCTS), "complaint")
        facts = writer.facts(catalog.PRODUCTS[0], AT)
        body = writer.write(topic, "web", facts).body
        edited = writer.edit(body, facts)
        assert edited != body
        assert abs(len(edited) - len(body)) < 60


def test_long_texts_are_nearly_all_different(small_world: SmallWorld) -> None:
    rows = read_lines(small_world.directory / "served" / "reviews.jsonl")
    for language in catalog.LANGUAGES:
        texts = [row["text"] for row in rows if row["language"] == language]
        least = 60 if language == "en" else 25
        long = [text for text in texts if len(text) >= least]
        assert len(set(texts)) / len(texts) > 0.6
        assert len(set(long)) / len(long) > 0.9

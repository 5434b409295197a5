"""Languages by script and stop words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.language import detect_language


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The room was cold", "en"),
        ("ok", "en"),
        ("gr8 app!!", "en"),
        ("房间很冷", "zh"),
        ("Google Chrome崩溃", "zh"),
        ("iPhone 15 Pro很不错", "zh"),
        ("今日はとても良かったです", "ja"),
        ("안녕하세요", "ko"),
        ("Очень плохо", "ru"),
        ("Дуже погано її", "uk"),
        ("خدمة سيئة", "ar"),
        ("چرا اینجا", "fa"),
        ("מוצר טוב", "he"),
        ("Πολύ κακό", "el"),
        ("แย่มาก", "th"),
        ("बहुत खराब", "hi"),
        ("El servicio es muy malo y no funciona", "es"),
        ("sehr gut, aber die App ist nicht schnell", "de"),
        ("C'est très bien mais le service est lent", "fr"),
        ("terima kasih aplikasi ini sangat bagus", "id"),
        ("zxcv qwer asdf poiu lkjh mnbv", "other"),
        ("😀", "und"),
        ("12345 !!", "und"),
        ("", "und"),
    ],
)
def test_language_of_text(text: str, expected: str) -> None:
    assert detect_language([text]).to_pylist() == [expected]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=6))
def test_every_text_gets_the_language_it_gets_alone(texts: list[str]) -> None:
    together = detect_language(texts).to_pylist()
    assert together == [detect_language([text]).to_pylist()[0] for text in texts]

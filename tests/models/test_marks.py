"""Words found in texts by their bytes."""

from __future__ import annotations

import pytest

from models.errors import ModelError
from models.marks import Literals, squeeze


def test_literals_are_found_wherever_they_stand_and_in_any_case() -> None:
    words = Literals({1: ["wrote:", "发件人"], 2: ["Test case"]})
    texts = ["Bob WROTE: hi", "发件人", "a test Case", "wrote", "", "TEST CASE: bob wrote:", None]
    assert words.find(texts).tolist() == [1, 1, 2, 0, 0, 3, 0]


def test_a_word_that_goes_on_in_the_next_text_is_not_found() -> None:
    assert Literals({1: ["urgent"]}).find(["urg", "ent", "urge", "nt urgent"]).tolist() == [
        *(0, 0, 0),
        1,
    ]


def test_words_that_begin_alike_are_told_apart() -> None:
    words = Literals({1: ["mail delivery"], 2: ["mail order"], 4: ["mail"]})
    assert words.find(["mail order", "mail delivery", "mails"]).tolist() == [6, 5, 4]


def test_signs_that_count_as_s_and_k_mark_all_groups() -> None:
    assert Literals({1: ["seo services"], 2: ["risk"]}).find(["ſeo", "\u212a", "k"]).tolist() == [
        *(255, 255),
        0,
    ]


def test_literals_of_less_than_four_bytes_are_refused() -> None:
    with pytest.raises(ModelError, match="'vx'"):
        Literals({1: ["vx"]})


def test_squeezed_texts_have_neither_spaces_nor_marks() -> None:
    texts = ["  Don't STOP — now!", "好，很好。 OK", None, "“é”…", "•"]
    assert squeeze(texts).to_pylist() == ["dontstopnow", "好很好ok", "", "é", "•"]

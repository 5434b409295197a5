"""The compiled tokenizer finds what a plain reading of its rules finds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from models.kernels import HAN, POWER, PREFIX_LENGTH, SYMBOL, WORD
from models.tokens import as_string_array, iterate_chunks, tokenize

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
NEAR_TEXT = st.text("abAÉéßİ好不Ｈ５！!?'😀👍🏽$1.\u200b\u0301\n，कि\U00020000", max_size=30)
INVISIBLE = "'’‘ʼ`\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\ufe0e\ufe0f"
MASK = (1 << 64) - 1


def fold(character: str) -> str:
    if 0xFF01 <= ord(character) <= 0xFF5E:
        character = chr(ord(character) - 0xFEE0)
    if ord(character) > 0xFFFF or len(character.lower()) != 1:
        return character
    return character.lower()


def kind_of(character: str) -> int | None:
    """WORD, HAN or SYMBOL; None if it parts tokens; -1 if it is passed over."""
    point = ord(character)
    hidden = 0x202A <= point <= 0x202E or 0x2066 <= point <= 0x2069
    if character in INVISIBLE or hidden or 0x1F3FB <= point <= 0x1F3FF:
        return -1
    han = [(0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)]
    if any(low <= point <= high for low, high in [*han, (0x20000, 0x3FFFD)]):
        return HAN
    symbols = [(0x2190, 0x21FF), (0x2300, 0x23FF), (0x2600, 0x27BF), (0x2B00, 0x2BFF)]
    if character in "!?$€£¥%" or any(low <= point <= high for low, high in symbols):
        return SYMBOL
    if point > 0xFFFF:
        return SYMBOL if 0x1F000 <= point < 0x20000 else WORD if point < 0x1F000 else None
    is_mark = 0x300 <= point < 0x370 or 0x610 <= point <= 0x61A or 0x64B <= point <= 0x65F
    return WORD if character.isalnum() or is_mark or 0x900 <= point < 0xE80 else None


def mix(value: int) -> int:
    value = ((value ^ (value >> 32)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 29)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 32)


def sum_up(letters: str) -> int:
    return sum(
        ord(letter) * pow(int(POWER), place, 1 << 64) for place, letter in enumerate(letters)
    )


def read_tokens(text: str) -> list[tuple[int, int, int, str]]:
    """Kind, start, end and folded letters of each token."""
    found: list[tuple[int, int, int, str]] = []
    is_open = False
    letters = [fold(character) for character in text]
    for place, letter in enumerate(letters):
        kind = kind_of(letter)
        is_third = place > 1 and letters[place - 2] == letters[place - 1] == letter
        if kind == -1 or (is_third and not letter.isdigit()):
            continue
        if kind == WORD and is_open:
            _, start, _, before = found.pop()
            found.append((WORD, start, place + 1, before + letter))
        elif kind is not None:
            found.append((kind, place, place + 1, letter))
        is_open = kind == WORD
    return found


@settings(max_examples=400, deadline=None)
@given(st.lists(ANY_TEXT | NEAR_TEXT, max_size=6))
def test_tokens_are_those_of_the_rules(texts: list[str]) -> None:
    found = tokenize(as_string_array(texts))
    expected = [(row, *token) for row, text in enumerate(texts) for token in read_tokens(text)]
    assert found.points.tobytes().decode("utf-32-le") == "".join(texts)
    assert np.diff(found.point_offsets).tolist() == [len(text) for text in texts]
    begins = found.point_offsets[found.rows]
    assert expected == [
        (row, kind, start, end, letters)
        for row, kind, start, end, (*_, letters) in zip(
            found.rows,
            found.kinds,
            found.starts - begins,
            found.ends - begins,
            expected,
            strict=True,
        )
    ]
    sums = [sum_up(letters) & MASK for *_, letters in expected]
    assert found.hashes.tolist() == list(map(mix, sums))
    for prefix, (_, kind, *_, letters) in zip(found.prefixes.tolist(), expected, strict=True):
        is_long = kind == WORD and len(letters) > PREFIX_LENGTH
        head = sum_up(letters[:PREFIX_LENGTH])
        assert prefix == (mix((head * 3 + 1) & MASK) if is_long else 0)
    counts = [len(read_tokens(text)) for text in texts]
    assert found.row_offsets.tolist() == np.cumsum([0, *counts]).tolist()


@settings(max_examples=50, deadline=None)
@given(st.lists(NEAR_TEXT, min_size=2, max_size=6))
def test_a_slice_has_the_tokens_of_its_texts(texts: list[str]) -> None:
    found = tokenize(as_string_array(texts).slice(1))
    alone = tokenize(as_string_array(texts[1:]))
    assert found.hashes.tolist() == alone.hashes.tolist()
    assert found.row_offsets.tolist() == alone.row_offsets.tolist()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=20))
def test_what_is_no_utf8_is_read_and_nothing_beyond_it(data: bytes) -> None:
    offsets = pa.py_buffer(np.array([0, len(data)], np.int64))
    found = tokenize(pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(data)))
    assert len(found.points) <= len(data)
    assert (found.points <= 0x10FFFF).all()
    assert (found.ends <= len(found.points)).all()


def test_long_texts_are_chunks_of_their_own() -> None:
    texts = as_string_array(["好" * 60_000 + "!", "a b", "", "c"])
    chunks = list(iterate_chunks(texts))
    assert [first for first, _ in chunks] == [0, 1]
    assert [len(tokens.hashes) for _, tokens in chunks] == [3, 3]

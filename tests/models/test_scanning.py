"""One pass over the bytes tells what the tokens of the same texts tell."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from models.language import decide_language, detect_language, vocabulary
from models.near_duplicates import _shingle
from models.scanning import _FACTORS, _SHIFTS, MINIMA, scan
from models.tokens import as_string_array, tokenize

ALPHABET = "aABcé ßñіїґپچ中文汉カなひ한국١２３12 3..!!?￥😀👍🏽'’\u200d\ufe0f\u0301\x1f\n-"
WORDS = ("the", "la", "de", "und", "soooo", "don't", "很", "好", "pro15")
TEXTS = st.lists(
    st.one_of(
        st.text(ALPHABET, max_size=30),
        st.text(ALPHABET, min_size=100, max_size=160),
        st.lists(st.sampled_from(WORDS)).map(" ".join),
    ),
    min_size=1,
    max_size=6,
)


@given(TEXTS)
def test_signatures_are_the_least_hashes_of_the_shingles(texts: list[str]) -> None:
    rows, shingles = _shingle(tokenize(as_string_array(texts)))
    narrow = (shingles >> np.uint64(32)).astype(np.uint32)
    found = scan(texts)
    assert np.flatnonzero(found.is_signed).tolist() == sorted(set(rows.tolist()))
    for row in np.flatnonzero(found.is_signed):
        hashes = narrow[rows == row][:, None] * _FACTORS + _SHIFTS
        assert found.minima[row].tolist() == hashes.min(axis=0).tolist()
    assert found.minima.shape == (len(texts), MINIMA)


@given(TEXTS)
def test_tokens_are_counted_as_the_tokenizer_makes_them(texts: list[str]) -> None:
    tokens = tokenize(as_string_array(texts))
    assert scan(texts, vocabulary()).token_counts.tolist() == np.diff(tokens.row_offsets).tolist()


@given(TEXTS, TEXTS)
def test_the_language_of_a_body_is_told_without_its_title(
    titles: list[str], bodies: list[str]
) -> None:
    pairs = list(zip(titles, bodies, strict=False))
    skipped = np.array([len(title.encode()) + 1 for title, _ in pairs])
    found = scan([f"{title}\x1f{body}" for title, body in pairs], vocabulary(), skipped=skipped)
    assert decide_language(found).equals(detect_language([body for _, body in pairs]))


def test_a_slice_is_read_as_the_same_texts_by_themselves() -> None:
    whole = pa.array(
        ["the first of them", None, "很好用，谢谢你们", "la aplicación no es muy buena"]
    )
    assert detect_language(whole[2:]).to_pylist() == ["zh", "es"]


def test_no_texts_give_no_rows() -> None:
    assert scan(pa.array([], pa.string()), vocabulary()).script_counts.shape[0] == 0

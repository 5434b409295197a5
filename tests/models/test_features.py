"""Tokens and features: the same text gives the same features, whatever stands beside it."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import tokens
from models.errors import ModelError
from models.features import TextFeatures
from models.kernels import find_buckets
from models.lexicon import PhraseTable, load_lexicon
from models.tokens import as_string_array, tokenize

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
NEAR_TEXT = st.text("ab 好不!?'😀.\u200b\n，A", max_size=30)


@pytest.fixture(scope="module")
def features() -> TextFeatures:
    texts = [
        "the food was not good",
        "the food is good",
        "味道不好，服务也不好",
        "味道很好，服务好",
    ]
    return TextFeatures().fit(texts)


def written_tokens(text: str) -> list[str]:
    found = tokenize(as_string_array([text]))
    return [text[start:end] for start, end in zip(found.starts, found.ends, strict=True)]


def hash_of(text: str) -> list[int]:
    return tokenize(as_string_array([text])).hashes.tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world", ["Hello", "world"]),
        ("app闪退了", ["app", "闪", "退", "了"]),
        ("why?! €5", ["why", "?", "!", "€", "5"]),
        ("ok😀😀", ["ok", "😀", "😀"]),
        ("don't stop", ["don't", "stop"]),
        ("one\nTwo", ["one", "Two"]),
        ("", []),
        (" ,.;", []),
    ],
)
def test_tokens_are_words_han_and_symbols(text: str, expected: list[str]) -> None:
    assert written_tokens(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("DON’T", "dont"),
        ("soooooo good", "soo good"),
        ("Ｈｅｌｌｏ！", "hello!"),
        ("wor\u200bd", "word"),
        ("好好好好好", "好好"),
        ("👍🏽", "👍"),
    ],
)
def test_ways_to_write_the_same(one: str, other: str) -> None:
    assert hash_of(one) == hash_of(other)


def test_repeated_digits_are_kept() -> None:
    assert hash_of("1000") != hash_of("100")


@settings(max_examples=150, deadline=None)
@given(st.lists(ANY_TEXT | NEAR_TEXT, min_size=1, max_size=8))
def test_batch_and_single_texts_give_the_same_features(
    features: TextFeatures, texts: list[str]
) -> None:
    together = features.transform(texts)
    alone = [features.transform([text]) for text in texts]
    assert together.shape == (len(texts), features.column_count)
    for row, matrix in enumerate(alone):
        assert np.array_equal(together[row].toarray(), matrix.toarray())


@settings(max_examples=150, deadline=None)
@given(ANY_TEXT)
def test_tokens_lie_inside_the_text_and_in_order(text: str) -> None:
    found = tokenize(as_string_array([text]))
    assert (found.starts < found.ends).all()
    assert (found.ends[:-1] <= found.starts[1:]).all()
    assert not len(found.ends) or found.ends[-1] <= len(text)


def test_chunks_do_not_change_features(
    features: TextFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"the food was not good {number} 味道不好" for number in range(50)]
    whole = features.transform(texts)
    monkeypatch.setattr(tokens, "CHUNK_BYTES", 100)
    assert (whole != features.transform(texts)).nnz == 0


def test_a_text_longer_than_a_chunk(features: TextFeatures) -> None:
    matrix = features.transform(["the food was good " * 20_000, "the food was good"])
    assert matrix.shape[0] == 2
    assert matrix[0].nnz >= matrix[1].nnz


def test_columns_are_those_of_the_hashes(features: TextFeatures) -> None:
    texts = as_string_array(["the food was not good, 味道很好 unheard of", "服务也不好", ""])
    [(_, part)] = features.iterate(texts)
    buckets = np.full((len(part.tokens.hashes), 3), -9, np.int64)
    find_buckets(part.tokens, buckets)
    places = {bucket: column for column, bucket in enumerate(features.buckets_.tolist())}
    expected = [[places.get(bucket, -1) for bucket in row] for row in buckets.tolist()]
    assert part.columns.tolist() == expected
    assert 0 < (part.columns >= 0).sum() < part.columns.size


def test_every_phrase_is_found_where_it_stands() -> None:
    words = [f"word{number}" for number in range(3_000)]
    extra = (*words, *(f"{one} {two}" for one, two in itertools.pairwise(words)))
    features = TextFeatures(extra_phrases=extra).fit(["one text"])
    [(_, part)] = features.iterate(as_string_array([" ".join(words[:1000])]))
    found = [features.phrases[entry] for entry in part.hits.entries.tolist()]
    assert sorted(found) == sorted([*words[:1000], *extra[3_000:3_999]])


def test_buckets_out_of_order_are_refused() -> None:
    with pytest.raises(ModelError, match="ascending"):
        TextFeatures().restore(np.array([5, 3], np.uint32), np.ones(2, np.float32))


def test_sliced_null_and_dictionary_arrays(features: TextFeatures) -> None:
    plain = pa.array(["x", "the food is good", None, "味道不好"])
    expected = features.transform(["the food is good", "", "味道不好"])
    assert (features.transform(plain.slice(1)) != expected).nnz == 0
    assert (features.transform(plain.dictionary_encode().slice(1)) != expected).nnz == 0
    assert (features.transform(pa.chunked_array([plain])[1:]) != expected).nnz == 0
    assert features.transform(pa.array([], pa.string())).shape[0] == 0


def test_numbers_are_refused(features: TextFeatures) -> None:
    with pytest.raises(ModelError, match="must be strings"):
        features.transform(pa.array([1, 2]))


def cues_of(features: TextFeatures, text: str) -> dict[str, float]:
    matrix = features.transform([text]).toarray()[0]
    names = features.get_feature_names_out()
    return {
        name: value
        for name, value in zip(names, matrix, strict=True)
        if value and not name.startswith("bucket")
    }


@pytest.mark.parametrize(
    ("text", "present", "absent"),
    [
        ("this is good", {"positive", "praise_balance"}, {"negative", "blame_balance"}),
        ("this is not beautiful", {"blame_balance", "positive_negated"}, {"positive"}),
        ("no problem", {"positive"}, {"negative", "blame_balance"}),
        ("i would not recommend it", {"negative"}, {"praise_balance"}),
        ("nice room but dirty", {"blame_balance_at_end"}, {"praise_balance_at_end"}),
        ("不好用", {"blame_balance"}, {"praise_balance"}),
        ("没问题", {"positive"}, {"negative"}),
        ("请问有货吗？", {"question_form", "question_mark", "sales", "is_han"}, {"positive"}),
        ("how do i reset it", {"question_form_first"}, {"question_mark"}),
        ("please add a timer", {"change_request", "request_first"}, set()),
        ("希望增加夜间模式", {"change_request", "request_first"}, set()),
        ("I WANT A REFUND!!", {"capitals", "many_exclamations", "after_sales"}, set()),
        ("my lawyer will call", {"reason_legal_threat"}, set()),
        ("xyzzy", {"no_cue"}, {"positive", "negative"}),
    ],
)
def test_cues(features: TextFeatures, text: str, present: set[str], absent: set[str]) -> None:
    found = set(cues_of(features, text))
    assert present <= found
    assert not absent & found


def test_negator_does_not_reach_into_the_next_text(features: TextFeatures) -> None:
    assert "positive_negated" in cues_of(features, "it is not beautiful")
    matrix = features.transform(["it is not", "beautiful"]).toarray()
    names = features.get_feature_names_out().tolist()
    assert matrix[1, names.index("positive_negated")] == 0


def test_cue_phrases_are_short_enough_to_be_found(features: TextFeatures) -> None:
    phrases = load_lexicon().phrases
    for first, part in features.iterate(as_string_array(phrases)):
        for row in range(part.tokens.row_count):
            hits = slice(part.hits.offsets[row], part.hits.offsets[row + 1])
            size = part.tokens.row_offsets[row + 1] - part.tokens.row_offsets[row]
            assert size in part.hits.lengths[hits], phrases[first + row]


def test_phrase_with_too_many_tokens_is_refused() -> None:
    with pytest.raises(ModelError, match="5 tokens"):
        PhraseTable(["one two three four five"])

"""Texts to sparse features: hashed words, single Han characters and their pairs, and cues.

Hashed block: 1- and 2-grams of tokens, first five letters of longer words, 3-grams of Han
characters. Columns seen in fewer than two training texts are left out; values are inverse document
frequencies scaled to length 1 (a text without a known column has an empty block).
Cue block: how many phrases of each class of `cues.toml` a text has, which of them are negated or
follow a "but", and its outer form (question mark, length, capitals).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin

from models.lexicon import MAX_TOKENS, Hits, Lexicon, PhraseTable, load_lexicon
from models.tokens import (
    HAN,
    Array,
    TokenBatch,
    as_string_array,
    gram_hashes,
    iterate_chunks,
)

FEATURES_VERSION = "1"
BUCKET_BITS = 19
_NO_GRAM = 1 << BUCKET_BITS
_NEGATION_REACH = 3
# Topic classes count every phrase; of the others only the longest of overlapping phrases counts,
# so that "not recommend" is not also "recommend".
_TOPICS = {"sales", "technical", "after_sales", "money", "waiting", "failure"}
_DERIVED = (
    "praise_balance",
    "blame_balance",
    "praise_balance_at_end",
    "blame_balance_at_end",
    "positive_negated",
    "negative_negated",
    "question_mark",
    "question_mark_at_end",
    "question_form_first",
    "request_first",
    "many_exclamations",
    "exclamation",
    "capitals",
    "no_cue",
    "is_han",
)
_POLAR = _DERIVED[:6]
# How much a word counts that is praise or blame only in company ("quick", "late").
_WEAK = 0.4
_CUE_SCALE = 0.6


@dataclass(frozen=True)
class BatchFeatures:
    """Features of one chunk of texts, with what is needed to explain them.

    matrix: float32 CSR [n, columns]; cues: float32 [n, cue columns], the cue block of the matrix;
    columns_of_grams: three arrays [T], [T - 1], [T], -1 where not a column: words, pairs, and first
    letters of words or 3-grams of Han characters.
    """

    tokens: TokenBatch
    hits: Hits
    matrix: sparse.csr_matrix
    columns_of_grams: list[Array]
    cues: Array


class TextFeatures(TransformerMixin, BaseEstimator):
    """Transformer from texts to a float32 CSR matrix [n texts, n columns].

    min_texts: a hashed column is kept when at least so many training texts have it.
    extra_phrases: further phrases to look for (keywords); they are in the hits, not in the columns.
    Fitted: buckets_ uint32 [columns], ascending; idf_ float32 [columns].
    """

    def __init__(self, min_texts: int = 2, extra_phrases: tuple[str, ...] = ()) -> None:
        self.min_texts = min_texts
        self.extra_phrases = extra_phrases

    def fit(self, X: Any, y: Any = None) -> Self:
        texts = as_string_array(X)
        keys = [np.zeros(0, np.int64)]
        for first, tokens in iterate_chunks(texts):
            for buckets in _bucket_grams(tokens, gram_hashes(tokens.hashes, 3)):
                rows = first + tokens.rows[: len(buckets)]
                keys.append(np.unique((buckets << np.int64(32)) | rows))
        seen = np.unique(np.concatenate(keys))
        buckets, counts = np.unique(seen >> 32, return_counts=True)
        is_gram = buckets < _NO_GRAM
        buckets, counts = buckets[is_gram], counts[is_gram]
        kept = counts >= self.min_texts
        idf = np.log((1 + len(texts)) / (1 + counts[kept])) + 1
        return self.restore(buckets[kept].astype(np.uint32), idf.astype(np.float32))

    def restore(self, buckets: Array, idf: Array) -> Self:
        """Set what `fit` learned, as read from a model file."""
        self.buckets_ = buckets
        self.idf_ = idf
        # Two bytes a bucket, where they are enough, keep the table in the cache.
        kind = np.int16 if len(buckets) < 1 << 15 else np.int32
        self._column_of_bucket = np.full((1 << BUCKET_BITS) + 1, -1, kind)
        self._column_of_bucket[buckets] = np.arange(len(buckets), dtype=kind)
        self._lexicon = load_lexicon()
        known = {phrase: entry for entry, phrase in enumerate(self._lexicon.phrases)}
        added = [phrase for phrase in self.extra_phrases if phrase not in known]
        self._table = PhraseTable([*self._lexicon.phrases, *added])
        self._cues = _CueCounter(self._lexicon)
        return self

    def transform(self, X: Any) -> sparse.csr_matrix:
        parts = [part.matrix for _, part in self.iterate(as_string_array(X))]
        if not parts:
            return sparse.csr_matrix((0, self.column_count), dtype=np.float32)
        return sparse.vstack(parts, format="csr")

    def iterate(self, texts: pa.Array) -> Iterator[tuple[int, BatchFeatures]]:
        """Yield (first row, features) chunk by chunk; `texts` as from `as_string_array`."""
        for first, tokens in iterate_chunks(texts):
            yield first, self._build(tokens)

    @property
    def column_count(self) -> int:
        return len(self.buckets_) + len(self._cues.names)

    @property
    def phrases(self) -> list[str]:
        """Phrases by entry number of a hit."""
        known = set(self._lexicon.phrases)
        return [*self._lexicon.phrases, *(p for p in self.extra_phrases if p not in known)]

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        names = [f"bucket_{bucket}" for bucket in self.buckets_]
        return np.array([*names, *self._cues.names], dtype=object)

    @property
    def cue_names(self) -> tuple[str, ...]:
        return self._cues.names

    def locate_cues(self, part: BatchFeatures) -> dict[str, list[tuple[int, int]]]:
        """Where the phrases behind each cue column stand: (first token, token after the last).

        In the order of `cue_names`; no place for columns of the outer form.
        """
        return self._cues.locate(part.tokens, part.hits)

    def _build(self, tokens: TokenBatch) -> BatchFeatures:
        grams = gram_hashes(tokens.hashes, 3)
        columns = [
            np.take(self._column_of_bucket, buckets) for buckets in _bucket_grams(tokens, grams)
        ]
        hits = self._table.find(tokens, grams)
        cues = self._cues.count(tokens, hits)
        matrix = self._assemble(tokens, columns, cues)
        return BatchFeatures(tokens, hits, matrix, columns, cues)

    def _assemble(self, tokens: TokenBatch, columns: list[Array], cues: Array) -> sparse.csr_matrix:
        """Put the blocks side by side; entries of a row are in no order and may repeat a column."""
        size = tokens.row_count
        rows, hashed = [], []
        for column in columns:
            kept = np.flatnonzero(column >= 0)
            rows.append(np.take(tokens.rows, kept))
            hashed.append(np.take(column, kept))
        values = [np.take(self.idf_, column) for column in hashed]
        squares = [
            np.bincount(row, value * value, minlength=size)
            for row, value in zip(rows, values, strict=True)
        ]
        norms = np.sqrt(sum(squares)).astype(np.float32)
        blocks = [
            (row, column, value / np.take(norms, row))
            for row, column, value in zip(rows, hashed, values, strict=True)
        ]
        cue_rows, cue_columns = np.nonzero(cues)
        blocks.append((cue_rows, cue_columns + len(self.buckets_), cues[cue_rows, cue_columns]))
        counts = [np.bincount(row, minlength=size) for row, _, _ in blocks]
        indptr = np.concatenate([[0], np.cumsum(sum(counts))])
        indices = np.empty(indptr[-1], np.int32)
        data = np.empty(indptr[-1], np.float32)
        begin = indptr[:-1]
        for (row, column, value), count in zip(blocks, counts, strict=True):
            # Each block is ordered by row: an entry moves by what stands before it in other blocks.
            shift = begin - (np.cumsum(count) - count)
            place = np.arange(len(row)) + np.take(shift, row)
            indices[place] = column
            data[place] = value
            begin = begin + count
        return sparse.csr_matrix((data, indices, indptr), shape=(size, self.column_count))


def _bucket_grams(tokens: TokenBatch, grams: list[Array]) -> list[Array]:
    """Hash buckets of the 1-gram, 2-gram, and prefix or Han 3-gram at each token: int64.

    _NO_GRAM where there is none.
    """
    shift = np.uint64(64 - BUCKET_BITS)
    single = (grams[0] >> shift).view(np.int64)
    paired = (grams[1] >> shift).view(np.int64)
    rows = tokens.rows
    paired[rows[1:] != rows[:-1]] = _NO_GRAM
    third = (tokens.prefixes >> shift).view(np.int64)
    third[tokens.prefixes == 0] = _NO_GRAM
    if len(rows) > 2:
        is_triple = (rows[2:] == rows[:-2]) & (tokens.kinds[:-2] == HAN)
        np.copyto(third[:-2], (grams[2] >> shift).view(np.int64), where=is_triple)
    return [single, paired, third]


class _CueCounter:
    """Counts cue classes and derives polarity and form; dense float32 [n, cue columns]."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self.names = (*lexicon.classes, *_DERIVED)
        self._is_topic = np.array(
            [name in _TOPICS or name.startswith("reason_") for name in lexicon.classes]
        )
        self._sizes = np.diff(lexicon.offsets)
        self._strength = np.zeros(len(lexicon.classes))
        for name, strength in (("positive", 1.0), ("negative", -1.0)):
            self._strength[lexicon.class_number(name)] = strength
            self._strength[lexicon.class_number(f"{name}_weak")] = strength * _WEAK
        self._positive = lexicon.class_number("positive")
        self._negative = lexicon.class_number("negative")
        self._negator = lexicon.class_number("negator")
        self._contrast = lexicon.class_number("contrast")
        self._question = lexicon.class_number("question_form")
        self._request = lexicon.class_number("change_request")

    def count(self, tokens: TokenBatch, hits: Hits) -> Array:
        size, class_count = tokens.row_count, len(self._lexicon.classes)
        starts, classes, ends = self._expand(tokens, hits)
        rows = tokens.rows[starts]
        strength = self._strength[classes]
        is_positive, is_negative = strength > 0, strength < 0

        reach = np.zeros(len(tokens.hashes) + _NEGATION_REACH + 1, bool)
        for step in range(_NEGATION_REACH):
            reach[ends[classes == self._negator] + step] = True
        token_first = np.take(tokens.row_offsets, rows)
        negated = reach[starts] & (starts > token_first)
        # A negator at the end of one text must not reach into the next.
        near = np.zeros(len(tokens.hashes) + 1, np.int64)
        near[ends[classes == self._negator]] = ends[classes == self._negator]
        reached_from = np.maximum.accumulate(near)[starts]
        negated &= reached_from > token_first

        last_contrast = np.full(size, -1)
        is_contrast = classes == self._contrast
        np.maximum.at(last_contrast, rows[is_contrast], starts[is_contrast])
        at_end = starts > last_contrast[rows]

        blame = (is_negative & ~negated) | (is_positive & negated)
        praise = is_positive & ~negated
        excused = is_negative & negated

        def per_row(mask: Array) -> Array:
            return np.bincount(rows[mask], np.abs(strength[mask]), minlength=size)

        counts = np.bincount(rows * class_count + classes, minlength=size * class_count)
        counts = np.log1p(counts.reshape(size, class_count))
        is_strong = np.abs(strength) == 1
        counts[:, self._positive] = np.log1p(per_row(praise & is_strong))
        counts[:, self._negative] = np.log1p(per_row(blame & is_strong))
        norms = np.sqrt((counts * counts).sum(axis=1, keepdims=True))
        cues = np.zeros((size, len(self.names)), np.float32)
        np.divide(counts, norms, out=cues[:, :class_count], where=norms > 0, casting="unsafe")
        derived = [
            *_balance(per_row(praise) + 0.5 * per_row(excused), per_row(blame)),
            *_balance(per_row(praise & at_end), per_row(blame & at_end)),
            per_row(is_positive & negated) > 0,
            per_row(excused) > 0,
            *self._question_marks(tokens),
            _any(rows[(classes == self._question) & (starts - token_first < 2)], size),
            _any(rows[(classes == self._request) & (starts - token_first < 3)], size),
            *_form(tokens),
            norms[:, 0] == 0,
            _is_han(tokens),
        ]
        for offset, column in enumerate(derived):
            cues[:, class_count + offset] = column
        return cues * np.float32(_CUE_SCALE)

    def locate(self, tokens: TokenBatch, hits: Hits) -> dict[str, list[tuple[int, int]]]:
        """Token spans of the phrases behind each column."""
        starts, classes, ends = self._expand(tokens, hits)
        strength = self._strength[classes]
        held = [classes == number for number in range(len(self._lexicon.classes))]
        # A negated word of praise is blame: every polar word stands behind every polar column.
        polar = strength != 0
        held += [polar if name in _POLAR else polar & False for name in _DERIVED]
        return {
            name: list(zip(starts[mask].tolist(), ends[mask].tolist(), strict=True))
            for name, mask in zip(self.names, held, strict=True)
        }

    def _expand(self, tokens: TokenBatch, hits: Hits) -> tuple[Array, Array, Array]:
        """One element per (hit, class): first token, class, token after the last."""
        own = hits.entries < len(self._sizes)
        starts, lengths, entries = hits.starts[own], hits.lengths[own], hits.entries[own]
        cover = np.zeros(len(tokens.hashes) + MAX_TOKENS, np.int8)
        for length in range(2, MAX_TOKENS + 1):
            here = starts[lengths == length]
            for step in range(length):
                cover[here + step] = length
        longest = np.maximum(cover[starts], cover[starts + lengths - 1]) <= lengths
        sizes = self._sizes[entries]
        owner = np.repeat(np.arange(len(starts)), sizes)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        classes = self._lexicon.members[self._lexicon.offsets[entries][owner] + within]
        counted = longest[owner] | self._is_topic[classes]
        owner, classes = owner[counted], classes[counted]
        return starts[owner], classes, starts[owner] + lengths[owner]

    def _question_marks(self, tokens: TokenBatch) -> tuple[Array, Array]:
        marks = np.flatnonzero((tokens.points == ord("?")) | (tokens.points == 0xFF1F))
        rows = np.searchsorted(tokens.point_offsets, marks, side="right") - 1
        near_end = np.take(tokens.point_offsets, rows + 1) - marks <= 3
        size = tokens.row_count
        return (
            np.bincount(rows, minlength=size) > 0,
            np.bincount(rows[near_end], minlength=size) > 0,
        )


def _any(rows: Array, size: int) -> Array:
    return np.bincount(rows, minlength=size) > 0


def _balance(praise: Array, blame: Array) -> tuple[Array, Array]:
    """How far praise outweighs blame, and the reverse; both 0 or more and growing slowly."""
    difference = (praise - blame) / np.sqrt(praise + blame + 1)
    return np.maximum(difference, 0), np.maximum(-difference, 0)


def _form(tokens: TokenBatch) -> tuple[Array, Array, Array]:
    size = tokens.row_count
    marks = np.flatnonzero((tokens.points == ord("!")) | (tokens.points == 0xFF01))
    rows = np.searchsorted(tokens.point_offsets, marks, side="right") - 1
    exclamations = np.bincount(rows, minlength=size)
    capitals = np.flatnonzero((tokens.points - np.uint32(65)) < 26)
    rows = np.searchsorted(tokens.point_offsets, capitals, side="right") - 1
    lengths = np.diff(tokens.point_offsets)
    shouted = (np.bincount(rows, minlength=size) > 0.4 * lengths) & (lengths > 8)
    return exclamations > 1, exclamations > 0, shouted


def _is_han(tokens: TokenBatch) -> Array:
    counts = np.diff(tokens.row_offsets)
    han = np.bincount(tokens.rows[tokens.kinds == HAN], minlength=tokens.row_count)
    return 2 * han > counts

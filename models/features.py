"""Texts to sparse features: hashed words, single Han characters and their pairs, and cues.

Hashed block: 1- and 2-grams of tokens, first five letters of longer words, 3-grams of Han
characters. Columns seen in fewer than two training texts are left out; values are inverse document
frequencies scaled to length 1 (a text without a known column has an empty block).
Cue block: how many phrases of each class of `cues.toml` a text has, which of them are negated or
follow a "but", and its outer form (question mark, length, capitals).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin

from models.errors import ModelError
from models.kernels import (
    BUCKET_BITS,
    DERIVED_CUES,
    IS_COLUMN,
    MAX_TOKENS,
    SPECIAL_CLASSES,
    CueTables,
    Hits,
    PhraseTables,
    Scratch,
    assemble_rows,
    find_buckets,
    make_scratch,
    read_features,
)
from models.lexicon import (
    Lexicon,
    PhraseTable,
    count_before,
    load_lexicon,
    make_hits,
    set_bits,
    trim_hits,
)
from models.tokens import Array, TokenBatch, as_string_array, iterate_chunks

FEATURES_VERSION = "1"
# Topic classes count every phrase; of the others only the longest of overlapping phrases counts,
# so that "not recommend" is not also "recommend".
_TOPICS = {"sales", "technical", "after_sales", "money", "waiting", "failure"}
_POLAR = DERIVED_CUES[:6]
# How much a word counts that is praise or blame only in company ("quick", "late").
_WEAK = 0.4


@dataclass(frozen=True)
class BatchFeatures:
    """Features of one chunk of n texts with T tokens.

    columns: int32 [T, 3], the hashed columns of each token, -1 if none: word, pair, and first
    letters of a word or 3-gram of Han characters; cues: float32 [n, cue columns].
    """

    tokens: TokenBatch
    hits: Hits
    columns: Array
    cues: Array
    scratch: Scratch


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
            buckets = np.empty((len(tokens.hashes), 3), np.int64)
            find_buckets(tokens, buckets)
            rows = np.repeat(first + tokens.rows, 3)[buckets.ravel() >= 0]
            keys.append(np.unique((buckets[buckets >= 0] << np.int64(32)) | rows))
        seen = np.unique(np.concatenate(keys))
        buckets, counts = np.unique(seen >> 32, return_counts=True)
        kept = counts >= self.min_texts
        idf = np.log((1 + len(texts)) / (1 + counts[kept])) + 1
        return self.restore(buckets[kept].astype(np.uint32), idf.astype(np.float32))

    def restore(self, buckets: Array, idf: Array) -> Self:
        """Set what `fit` learned, as read from a model file.

        Raises ModelError if the buckets are no ascending numbers of slots: columns are found by
        their rank.
        """
        numbers = buckets.astype(np.int64)
        if (np.diff(numbers, prepend=-1, append=1 << BUCKET_BITS) <= 0).any():
            raise ModelError("the buckets of a model are not ascending; train the model again")
        self.buckets_ = buckets
        self.idf_ = idf
        self._lexicon = load_lexicon()
        known = {phrase: entry for entry, phrase in enumerate(self._lexicon.phrases)}
        added = [phrase for phrase in self.extra_phrases if phrase not in known]
        tables = PhraseTable([*self._lexicon.phrases, *added]).tables
        set_bits(tables.cells, IS_COLUMN, numbers)
        tables.firsts[:, 0] = count_before(numbers)
        self._tables = tables
        self._cues = _CueReader(self._lexicon)
        return self

    def transform(self, X: Any) -> sparse.csr_matrix:
        parts = [self.assemble(part) for _, part in self.iterate(as_string_array(X))]
        if not parts:
            return sparse.csr_matrix((0, self.column_count), dtype=np.float32)
        return sparse.vstack(parts, format="csr")

    def iterate(self, texts: pa.Array) -> Iterator[tuple[int, BatchFeatures]]:
        """Yield (first row, features) chunk by chunk; `texts` as from `as_string_array`."""
        for first, tokens in iterate_chunks(texts):
            yield first, self._read(tokens)

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

    def assemble(self, part: BatchFeatures) -> sparse.csr_matrix:
        """The blocks side by side; entries of a row are in no order and may repeat a column."""
        size = part.columns.size + part.cues.size
        indptr = np.zeros(part.tokens.row_count + 1, np.int64)
        indices, data = np.empty(size, np.int32), np.empty(size, np.float32)
        assemble_rows(
            part.tokens.row_offsets, part.columns, part.cues, self.idf_, indptr, indices, data
        )
        count = int(indptr[-1])
        return sparse.csr_matrix(
            (data[:count], indices[:count], indptr), shape=(len(indptr) - 1, self.column_count)
        )

    def make_room(self, tokens: TokenBatch) -> BatchFeatures:
        """Room for the features of texts with these tokens, or with room for so many."""
        return BatchFeatures(
            tokens=tokens,
            hits=make_hits(tokens),
            columns=np.empty((len(tokens.hashes), 3), np.int32),
            cues=np.empty((tokens.row_count, len(self._cues.names)), np.float32),
            scratch=make_scratch(len(tokens.hashes), len(self._cues.tables.strengths)),
        )

    @property
    def tables(self) -> tuple[PhraseTables, CueTables]:
        """What kernels read texts with."""
        return self._tables, self._cues.tables

    def _read(self, tokens: TokenBatch) -> BatchFeatures:
        room = self.make_room(tokens)
        read_features(tokens, *self.tables, room.hits, room.columns, room.cues, room.scratch)
        return replace(room, hits=trim_hits(room.hits))


class _CueReader:
    """Cue classes as the kernels read them, and where their phrases stand."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._classes = lexicon.classes
        self.names = (*lexicon.classes, *DERIVED_CUES)
        strengths = np.zeros(len(lexicon.classes))
        for name, strength in (("positive", 1.0), ("negative", -1.0)):
            strengths[lexicon.class_number(name)] = strength
            strengths[lexicon.class_number(f"{name}_weak")] = strength * _WEAK
        is_topic = [name in _TOPICS or name.startswith("reason_") for name in lexicon.classes]
        self.tables = CueTables(
            offsets=lexicon.offsets,
            members=lexicon.members,
            strengths=strengths,
            is_topic=np.array(is_topic),
            special=np.array([lexicon.class_number(name) for name in SPECIAL_CLASSES]),
        )

    def locate(self, tokens: TokenBatch, hits: Hits) -> dict[str, list[tuple[int, int]]]:
        """Token spans of the phrases behind each column."""
        starts, classes, ends = self._expand(tokens, hits)
        is_polar = self.tables.strengths[classes] != 0
        held = [classes == number for number in range(len(self._classes))]
        # A negated word of praise is blame: every polar word stands behind every polar column.
        held += [is_polar if name in _POLAR else is_polar & False for name in DERIVED_CUES]
        return {
            name: list(zip(starts[mask].tolist(), ends[mask].tolist(), strict=True))
            for name, mask in zip(self.names, held, strict=True)
        }

    def _expand(self, tokens: TokenBatch, hits: Hits) -> tuple[Array, Array, Array]:
        """One element per (hit, class) that counts: first token, class, token after the last."""
        sizes_of_entries = np.diff(self.tables.offsets)
        own = hits.entries < len(sizes_of_entries)
        starts, lengths, entries = hits.starts[own], hits.lengths[own], hits.entries[own]
        cover = np.zeros(len(tokens.hashes) + MAX_TOKENS, np.int8)
        for length in range(2, MAX_TOKENS + 1):
            here = starts[lengths == length]
            for step in range(length):
                cover[here + step] = length
        longest = np.maximum(cover[starts], cover[starts + lengths - 1]) <= lengths
        sizes = sizes_of_entries[entries]
        owner = np.repeat(np.arange(len(starts)), sizes)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        classes = self.tables.members[self.tables.offsets[entries][owner] + within]
        counted = longest[owner] | self.tables.is_topic[classes]
        owner, classes = owner[counted], classes[counted]
        return starts[owner], classes, starts[owner] + lengths[owner]

"""Finds texts that say almost the same: MinHash bands for candidates, true Jaccard to decide.

Shingles are pairs of neighbouring words or Han characters (symbols and marks do not count). Six
bands of three minima each find a pair of Jaccard similarity 0.8 with probability
1 - (1 - 0.8**3)**6 = 0.986 (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4).

Of ten words, one slip of the pen takes two pairs of nine away and leaves a similarity of 0.64. So
short texts are compared by pairs of neighbouring letters; they are alike from 0.7 on if they name
the same numbers: "order 1201 is late" is not "order 1377 is late".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.errors import ModelError
from models.kernels import SYMBOL
from models.scanning import (
    BANDS,
    MIN_CHARACTERS,
    MINIMA,
    ROWS_PER_BAND,
    SHORT_CHARACTERS,
    as_signatures,
    scan,
)
from models.tokens import (
    Array,
    TokenBatch,
    as_string_array,
    fold_letters,
    gram_hashes,
    iterate_chunks,
)

MIN_SIMILARITY = 0.8
MIN_SIMILARITY_SHORT = 0.7
SIGNATURE_TYPE = pa.list_(pa.uint32(), MINIMA)
# Pairs with fewer equal minima are not looked at; one of similarity 0.7 has so few in 6 of 1,000.
_MIN_EQUAL_MINIMA = 8
RESULT_SCHEMA = pa.schema(
    [
        pa.field("feedback_id", pa.string()),
        pa.field("duplicate_of", pa.string()),
        pa.field("similarity", pa.float64()),
    ]
)
_COLUMNS = ("feedback_id", "group_key", "created_at", "text")
_PAIRS_AT_ONCE = 1 << 15
_MIX = np.uint64(0x9E3779B97F4A7C15)


def sign_texts(texts: Any) -> pa.Array:
    """MinHash signatures, fixed_size_list<uint32>[18]; null for texts too short to compare.

    Signatures of the same text are equal in every run, so that they may be stored.
    """
    return as_signatures(scan(texts))


def find_near_duplicates(table: pa.Table, existing: pa.Table | None = None) -> pa.Table:
    """Rows of `table` that repeat an earlier row of the same group almost word for word.

    table, existing: feedback_id, group_key, created_at, text, and optionally `signature` as from
    `sign_texts`. Rows of `existing` are compared with but never returned. A null group_key is
    compared with nothing. Returns RESULT_SCHEMA: duplicate_of is the earliest similar row (by
    created_at, then feedback_id) that is no duplicate itself; similarity is the Jaccard similarity
    of the two, at least 0.8 (0.7 for short texts).
    """
    parts = [_complete(part) for part in (existing, table) if part is not None and len(part)]
    if not parts:
        return RESULT_SCHEMA.empty_table()
    rows = pa.concat_tables(parts).combine_chunks()
    is_new = np.ones(len(rows), bool)
    if existing is not None:
        is_new[: len(existing)] = False
    left, right = _find_candidates(rows, is_new)
    similarity = _measure_pairs(rows["text"], left, right)
    similar = similarity >= _find_bounds(rows["text"], left, right)
    left, right, similarity = left[similar], right[similar], similarity[similar]
    later, earlier, similarity = _choose_originals(left, right, similarity, is_new, rows)
    ids = rows["feedback_id"]
    return pa.table(
        [ids.take(pa.array(later)), ids.take(pa.array(earlier)), pa.array(similarity)],
        schema=RESULT_SCHEMA,
    )


def _complete(table: pa.Table) -> pa.Table:
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise ModelError(f"near duplicates: no column {missing[0]!r}; give {', '.join(_COLUMNS)}")
    signatures = (
        table["signature"].cast(SIGNATURE_TYPE)
        if "signature" in table.column_names
        else pa.chunked_array([sign_texts(table["text"])])
    )
    return pa.table(
        {
            "feedback_id": table["feedback_id"].cast(pa.string()),
            "group_key": table["group_key"].cast(pa.string()),
            "created_at": table["created_at"].cast(pa.timestamp("us", "UTC")),
            "text": table["text"].cast(pa.large_string()),
            "signature": signatures,
        }
    )


def _shingle(tokens: TokenBatch) -> tuple[Array, Array]:
    """Rows (ascending) and hashes of the shingles of texts long enough to be compared."""
    said = np.flatnonzero(tokens.kinds != SYMBOL)
    lengths = np.diff(tokens.point_offsets)
    is_long = lengths >= SHORT_CHARACTERS
    rows, pairs = _pair_up(tokens.rows[said], tokens.hashes[said], is_long)
    letters, of_text = fold_letters(tokens)
    letters *= _MIX
    letters ^= letters >> np.uint64(29)
    short_rows, short_pairs = _pair_up(of_text, letters, (lengths >= MIN_CHARACTERS) & ~is_long)
    rows = np.concatenate([rows, short_rows])
    order = np.argsort(rows, kind="stable")
    return rows[order], np.concatenate([pairs, short_pairs])[order]


def _pair_up(rows: Array, hashes: Array, is_wanted: Array) -> tuple[Array, Array]:
    """Rows and hashes of neighbours within the wanted rows."""
    pairs = gram_hashes(hashes, 2)[1]
    kept = (rows[1:] == rows[:-1]) & is_wanted[rows[:-1]]
    return rows[:-1][kept], pairs[kept]


def _find_bounds(texts: pa.ChunkedArray, left: Array, right: Array) -> Array:
    """The least similarity at which two texts are alike; above 1 where they name other numbers."""
    texts = pc.fill_null(texts, "")
    is_short = pc.less(pc.utf8_length(texts), SHORT_CHARACTERS).to_numpy()
    are_short = is_short[left] & is_short[right]
    numbers = pc.replace_substring_regex(texts, "[^0-9]+", " ").combine_chunks()
    codes = numbers.dictionary_encode().indices.to_numpy()
    bounds = np.where(are_short, MIN_SIMILARITY_SHORT, MIN_SIMILARITY)
    bounds[are_short & (codes[left] != codes[right])] = 2.0
    return bounds


def _find_candidates(rows: pa.Table, is_new: Array) -> tuple[Array, Array]:
    """Pairs that share a band within a group: each row with the first and the one before it."""
    signatures = rows["signature"].combine_chunks()
    comparable = pc.and_(pc.is_valid(signatures), pc.is_valid(rows["group_key"]))
    places = np.flatnonzero(comparable.to_numpy())
    if not len(places):
        return places, places
    groups = rows["group_key"].combine_chunks().dictionary_encode().indices
    group = groups.fill_null(0).to_numpy()[places].astype(np.uint64)
    flat = signatures.values[signatures.offset * MINIMA : (signatures.offset + len(rows)) * MINIMA]
    minima = flat.to_numpy().reshape(-1, MINIMA)
    found = []
    for band in range(BANDS):
        key = group * _MIX
        for number in range(band * ROWS_PER_BAND, (band + 1) * ROWS_PER_BAND):
            key = (key ^ minima[places, number]) * _MIX
            key ^= key >> np.uint64(29)
        order = np.argsort(key, kind="stable")
        key, member = key[order], places[order]
        same = key[1:] == key[:-1]
        begins = np.concatenate([[True], ~same])
        head = member[np.maximum.accumulate(np.where(begins, np.arange(len(key)), 0))]
        found.append(_pair(head[1:][same], member[1:][same], len(rows)))
        found.append(_pair(member[:-1][same], member[1:][same], len(rows)))
    pairs = np.unique(np.concatenate(found))
    left, right = np.divmod(pairs, len(rows))
    useful = is_new[left] | is_new[right]
    left, right = left[useful], right[useful]
    alike = np.zeros(len(left), np.int64)
    for number in range(MINIMA):
        column = minima[:, number]
        alike += column[left] == column[right]
    useful = alike >= _MIN_EQUAL_MINIMA
    return left[useful], right[useful]


def _pair(one: Array, other: Array, size: int) -> Array:
    return np.minimum(one, other) * size + np.maximum(one, other)


def _measure_pairs(texts: pa.ChunkedArray, left: Array, right: Array) -> Array:
    """Jaccard similarity of the shingle sets of pairs of texts."""
    similarity = np.zeros(len(left))
    for begin in range(0, len(left), _PAIRS_AT_ONCE):
        part = slice(begin, begin + _PAIRS_AT_ONCE)
        involved, where = np.unique(np.concatenate([left[part], right[part]]), return_inverse=True)
        shingles, offsets = _shingle_sets(texts.take(pa.array(involved)))
        sizes = np.diff(offsets)
        count = len(where) // 2
        both = np.concatenate(
            [
                _pair_keys(where[:count], shingles, offsets),
                _pair_keys(where[count:], shingles, offsets),
            ]
        )
        both.sort()
        shared = (both[1:][both[1:] == both[:-1]] >> np.uint64(48)).astype(np.int64)
        common = np.bincount(shared, minlength=count)
        union = sizes[where[:count]] + sizes[where[count:]] - common
        similarity[part] = common / np.maximum(union, 1)
    return similarity


def _shingle_sets(texts: pa.ChunkedArray) -> tuple[Array, Array]:
    """Different shingles of each text and where each text's begin."""
    strings = as_string_array(texts)
    counts = np.zeros(len(strings), np.int64)
    parts = []
    for first, tokens in iterate_chunks(strings):
        rows, shingles = _shingle(tokens)
        order = np.lexsort((shingles, rows))
        rows, shingles = rows[order], shingles[order]
        fresh = np.ones(len(rows), bool)
        fresh[1:] = (rows[1:] != rows[:-1]) | (shingles[1:] != shingles[:-1])
        counts[first : first + tokens.row_count] = np.bincount(
            rows[fresh], minlength=tokens.row_count
        )
        parts.append(shingles[fresh])
    return np.concatenate(parts), np.concatenate([[0], np.cumsum(counts)])


def _pair_keys(members: Array, shingles: Array, offsets: Array) -> Array:
    """48 bits of each shingle of each pair's member, below the number of the pair."""
    sizes = np.diff(offsets)[members]
    pair = np.repeat(np.arange(len(members)), sizes)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = shingles[offsets[members][pair] + within]
    return (pair.astype(np.uint64) << np.uint64(48)) | (chosen >> np.uint64(16))


def _choose_originals(
    left: Array, right: Array, similarity: Array, is_new: Array, rows: pa.Table
) -> tuple[Array, Array, Array]:
    """For each new row similar to an earlier original: the row, the earliest such one, similarity.

    Rows of `existing` count as earlier than all new ones: what was said of them is not undone.
    """
    involved = np.unique(np.concatenate([left, right]))
    if not len(involved):
        return involved, involved, similarity
    few = rows.select(["created_at", "feedback_id"]).take(pa.array(involved))
    few = few.append_column("is_new", pa.array(is_new[involved]))
    keys = [("is_new", "ascending"), ("created_at", "ascending"), ("feedback_id", "ascending")]
    order = pc.sort_indices(few, sort_keys=keys).to_numpy()
    rank = np.empty(len(involved), np.int64)
    rank[order] = np.arange(len(involved))
    one = rank[np.searchsorted(involved, left)]
    other = rank[np.searchsorted(involved, right)]
    earlier, later = np.minimum(one, other), np.maximum(one, other)
    by_later = np.lexsort((earlier, later))
    is_duplicate = np.zeros(len(involved), bool)
    kept = []
    for pair in by_later.tolist():
        row = later[pair]
        if (
            not is_duplicate[row]
            and not is_duplicate[earlier[pair]]
            and is_new[involved[order[row]]]
        ):
            is_duplicate[row] = True
            kept.append(pair)
    chosen = np.array(kept, np.int64)
    member = involved[order]
    return member[later[chosen]], member[earlier[chosen]], similarity[chosen]

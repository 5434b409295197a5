"""What one pass over texts tells: their scripts and stop words, and their MinHash signatures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from models.kernels import scan_texts
from models.tokens import Array, as_string_array, character_table, utf8_of

BANDS, ROWS_PER_BAND = 6, 3
MINIMA = BANDS * ROWS_PER_BAND
MIN_CHARACTERS = 15
SHORT_CHARACTERS = 120
_RANDOM = np.random.default_rng(20260101)
_FACTORS = _RANDOM.integers(0, 1 << 31, MINIMA, np.uint32) * np.uint32(2) + np.uint32(1)
_SHIFTS = _RANDOM.integers(0, 1 << 32, MINIMA, np.uint32)


@dataclass(frozen=True)
class Vocabulary:
    """What languages are told by.

    scripts: uint8 by code point, below ``script_count``. word_hashes: uint64, an open hash table of
    2**k slots by the low bits; word_members: uint32, the languages of each word by their bits, 0 in
    an empty slot.
    """

    scripts: Array
    script_count: int
    word_hashes: Array
    word_members: Array
    language_count: int


NO_VOCABULARY = Vocabulary(np.zeros(1, np.uint8), 1, np.zeros(1, np.uint64), np.zeros(1, "u4"), 1)


@dataclass(frozen=True)
class Scan:
    """What n texts hold.

    script_counts: int32 [n, scripts], characters; word_counts: int32 [n, languages], stop words;
    token_counts: int32 [n]. minima: uint32 [n, MINIMA], to be read where is_signed: bool [n].
    """

    script_counts: Array
    word_counts: Array
    token_counts: Array
    minima: Array
    is_signed: Array


def scan(
    texts: Any,
    vocabulary: Vocabulary = NO_VOCABULARY,
    *,
    skipped: Array | None = None,
    is_signing: bool = True,
) -> Scan:
    """Read texts once. ``skipped``: bytes in front of each of which no language is counted."""
    strings = as_string_array(texts)
    data, offsets = utf8_of(strings)
    begins = offsets[:-1] if skipped is None else offsets[:-1] + skipped
    if vocabulary is NO_VOCABULARY:
        begins = offsets[1:]
    size = len(strings)
    found = Scan(
        np.zeros((size, vocabulary.script_count), np.int32),
        np.zeros((size, vocabulary.language_count), np.int32),
        np.zeros(size, np.int32),
        np.full((size, MINIMA), 0xFFFFFFFF, np.uint32),
        np.zeros(size, bool),
    )
    scan_texts(
        *(data, offsets, begins, character_table(), vocabulary.scripts),
        *(vocabulary.word_hashes, vocabulary.word_members, _FACTORS, _SHIFTS),
        *(found.script_counts, found.word_counts, found.token_counts),
        *(found.minima, found.is_signed),
        MIN_CHARACTERS if is_signing else np.iinfo(np.int64).max,
        SHORT_CHARACTERS if is_signing else np.iinfo(np.int64).max,
    )
    return found


def as_signatures(found: Scan) -> pa.Array:
    """Signatures as fixed_size_list<uint32>[MINIMA]; null where a text is too short to compare."""
    return pa.FixedSizeListArray.from_arrays(
        pa.array(found.minima.ravel()), MINIMA, mask=pa.array(~found.is_signed)
    )

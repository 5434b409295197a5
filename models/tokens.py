"""Texts to tokens, for a whole batch at once.

A token is a run of letters and digits, a single Han character, or a single symbol that carries
meaning (``! ?``, currency signs, emoji). One pass over the bytes of the batch finds them all; no
Python code runs per text.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from models import kernels
from models.errors import ModelError
from models.kernels import (
    COLLAPSES_SHIFT,
    FOLDED_BITS,
    FOLDED_MASK,
    HAN,
    KIND_MASK,
    POWER,
    SKIP,
    SYMBOL,
    WORD,
    tokenize_bytes,
)

Array = kernels.Array
TokenBatch = kernels.TokenBatch
CHUNK_BYTES = 1 << 17
_POINTS = 0x110000
_SKIPPED = (
    "'\u2019\u2018\u02bc`\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f"
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufe0e\ufe0f"
)
_SYMBOLS = "!?$€£¥%"


def as_string_array(texts: Any) -> pa.Array:
    """Any sequence of texts as one ``large_string`` array; a null becomes an empty text."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if not isinstance(texts, pa.Array):
        texts = pa.array(list(texts), type=pa.large_string())
    if isinstance(texts, pa.ChunkedArray):
        texts = pa.concat_arrays(texts.chunks)
    if pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_decode()
    if pa.types.is_null(texts.type):
        return pa.array([""] * len(texts), type=pa.large_string())
    if not (
        pa.types.is_string(texts.type)
        or pa.types.is_large_string(texts.type)
        or pa.types.is_string_view(texts.type)
    ):
        raise ModelError(f"texts must be strings, not {texts.type}; choose another text column")
    texts = texts.cast(pa.large_string())
    return texts.fill_null("") if texts.null_count else texts


def iterate_chunks(texts: pa.Array) -> Iterator[tuple[int, TokenBatch]]:
    """Yield (first row, tokens) for pieces of about 128 kB, whose arrays fit a core's cache."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset :][: len(texts) + 1]
    start = 0
    while start < len(texts):
        stop = int(np.searchsorted(offsets, offsets[start] + CHUNK_BYTES, side="right")) - 1
        stop = min(max(stop, start + 1), len(texts))
        yield start, tokenize(texts.slice(start, stop - start))
        start = stop


def utf8_of(texts: pa.Array) -> tuple[Array, Array]:
    """The bytes of a ``large_string`` array without nulls, and int64 [n + 1] offsets into them."""
    if not len(texts):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset :][: len(texts) + 1]
    buffer = texts.buffers()[2]
    return np.frombuffer(buffer, np.uint8) if buffer else np.zeros(0, np.uint8), offsets


def tokenize(texts: pa.Array) -> TokenBatch:
    """Tokenise a ``large_string`` array without nulls; what is no UTF-8 is read as U+FFFD."""
    data, byte_offsets = utf8_of(texts)
    room = make_tokens(len(texts), int(byte_offsets[-1] - byte_offsets[0]))
    tokenize_bytes(data, byte_offsets, character_table(), room)
    points, point_offsets, row_offsets, *parts = room
    count = int(row_offsets[-1])
    return TokenBatch(
        points[: int(point_offsets[-1])],
        point_offsets,
        row_offsets,
        *(part[:count] for part in parts),
    )


def make_tokens(row_count: int, size: int) -> TokenBatch:
    """Room for the tokens of `row_count` texts of together `size` bytes.

    There are at most as many characters and tokens as bytes; memory never touched costs nothing.
    """
    rows, starts, ends = (np.empty(size, np.int64) for _ in range(3))
    return TokenBatch(
        points=np.empty(size, np.uint32),
        point_offsets=np.zeros(row_count + 1, np.int64),
        row_offsets=np.zeros(row_count + 1, np.int64),
        rows=rows,
        starts=starts,
        ends=ends,
        kinds=np.empty(size, np.uint8),
        hashes=np.empty(size, np.uint64),
        prefixes=np.empty(size, np.uint64),
    )


def fold_letters(tokens: TokenBatch) -> tuple[Array, Array]:
    """The letters, digits and Han characters of a batch, folded, uint64; and the text of each."""
    entries = np.take(character_table(), tokens.points)
    kinds = (entries >> FOLDED_BITS) & KIND_MASK
    places = np.flatnonzero((kinds == WORD) | (kinds == HAN))
    rows = np.repeat(np.arange(tokens.row_count), np.diff(tokens.point_offsets))
    return (entries[places] & FOLDED_MASK).astype(np.uint64), rows[places]


def gram_hashes(hashes: Array, size: int) -> list[Array]:
    """Hashes of the 1- to size-grams that start at each token; uint64, [T], [T - 1], …

    Grams are taken over the whole batch: those that cross the end of a text must be left out by the
    caller.
    """
    grams = [hashes]
    for length in range(2, size + 1):
        last = hashes[length - 1 :]
        grams.append(extend_grams(grams[-1][: len(last)], last))
    return grams


def extend_grams(grams: Array, last: Array) -> Array:
    """Hashes of grams that are one token longer."""
    longer: Array = grams * POWER + last
    return longer


@functools.cache
def character_table() -> Array:
    """What a character counts as, by code point, packed as the kernels read it; uint32."""
    folded = _fold_table()
    kinds = np.take(_kind_table(), folded).astype(np.uint32)
    collapses = np.take(_collapse_table(), folded).astype(np.uint32)
    return folded | (kinds << FOLDED_BITS) | (collapses << COLLAPSES_SHIFT)


def _fold_table() -> Array:
    """Lower case, and full-width forms as the usual ones."""
    table = np.arange(_POINTS, dtype=np.uint32)
    for point in range(0x10000):
        lower = chr(point).lower()
        if len(lower) == 1:
            table[point] = ord(lower)
    wide = np.arange(0xFF01, 0xFF5F)
    table[wide] = table[wide - 0xFEE0]
    table[0x3000] = 0x20
    return table


def _kind_table() -> Array:
    table = np.zeros(_POINTS, np.uint8)
    for point in range(0x10000):
        character = chr(point)
        if character.isalnum() or 0x0300 <= point < 0x0370:
            table[point] = WORD
    # Marks of Indic, Thai and Arabic scripts are no alphanumerics, yet belong to the word.
    table[0x0610:0x061B] = table[0x064B:0x0660] = table[0x0900:0x0E80] = WORD
    table[0x10000:0x1F000] = WORD
    for low, high in ((0x3040, 0x3100), (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00)):
        table[low:high] = HAN
    table[0x20000:0x3FFFE] = HAN
    for low, high in ((0x2190, 0x2200), (0x2300, 0x2400), (0x2600, 0x27C0), (0x2B00, 0x2C00)):
        table[low:high] = SYMBOL
    table[0x1F000:0x20000] = SYMBOL
    table[0x1F3FB:0x1F400] = SKIP  # skin tones
    for character in _SYMBOLS:
        table[ord(character)] = SYMBOL
    for character in _SKIPPED:
        table[ord(character)] = SKIP
    return table


def _collapse_table() -> Array:
    """True for characters whose long repeats are emphasis, not meaning: all but digits."""
    table = np.ones(_POINTS, bool)
    for point in range(0x10000):
        if chr(point).isdigit():
            table[point] = False
    return table

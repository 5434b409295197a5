"""Texts to tokens, for a whole batch at once.

A token is a run of letters and digits, a single Han character, or a single symbol that carries
meaning (``! ?``, currency signs, emoji). Everything is done on one array of code points for the
batch, so that the cost is a few nanoseconds a character and no Python code runs per text.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.errors import ModelError

# numpy's scalar types make every expression unreadable under strict typing; arrays are described
# in docstrings instead.
Array = NDArray[Any]

SEPARATOR, WORD, HAN, SYMBOL, SKIP = 0, 1, 2, 3, 4
CHUNK_BYTES = 1 << 17
PREFIX_LENGTH = 5
_POINTS = 0x110000
_POWER = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_SKIPPED = (
    "'\u2019\u2018\u02bc`\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f"
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufe0e\ufe0f"
)
_SYMBOLS = "!?$€£¥%"


@dataclass(frozen=True)
class TokenBatch:
    """Tokens of a batch of n texts with T tokens and N code points.

    points: uint32 [N], as written; point_offsets: int64 [n + 1] into it.
    row_offsets: int64 [n + 1] into the token arrays; rows: int64 [T].
    starts, ends: int64 [T] into points; kinds: uint8 [T] (WORD, HAN, SYMBOL).
    hashes: uint64 [T]; prefixes: uint64 [T], 0 where the token is no word longer than five letters.
    """

    points: Array
    point_offsets: Array
    row_offsets: Array
    rows: Array
    starts: Array
    ends: Array
    kinds: Array
    hashes: Array
    prefixes: Array

    @property
    def row_count(self) -> int:
        return len(self.row_offsets) - 1


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


def tokenize(texts: pa.Array) -> TokenBatch:
    """Tokenise a ``large_string`` array without nulls."""
    points, offsets = _decode(texts)
    folded = np.take(_fold_table(), points)
    kinds = np.take(_kind_table(), folded)
    first = np.zeros(len(points) + 1, bool)
    first[offsets] = True
    places, clean_offsets, folded, kinds = _drop_skipped(folded, kinds, first, offsets)
    if places is not None:
        first = np.zeros(len(folded) + 1, bool)
        first[clean_offsets] = True

    single = kinds >= HAN
    same = kinds[1:] == kinds[:-1]
    inner = kinds == WORD
    inner[1:] &= same
    inner[:1] = False
    inner &= ~first[:-1]
    is_token = kinds != SEPARATOR
    starts = np.flatnonzero(is_token & ~inner)
    last = np.ones(len(kinds), bool)
    last[:-1] = ~inner[1:]
    ends = np.flatnonzero(is_token & (single | last)) + 1

    row_offsets = np.searchsorted(starts, clean_offsets)
    rows = np.repeat(np.arange(len(row_offsets) - 1), np.diff(row_offsets))
    powers, inverses = _powers(len(folded) + 1)
    sums = np.zeros(len(folded) + 1, np.uint64)
    np.cumsum(folded * powers[: len(folded)], out=sums[1:])
    base = np.take(sums, starts)
    unshift = np.take(inverses, starts)
    hashes = _mix((np.take(sums, ends) - base) * unshift)

    prefixes = np.zeros(len(starts), np.uint64)
    long_words = np.flatnonzero(ends - starts > PREFIX_LENGTH)
    cut = starts[long_words] + PREFIX_LENGTH
    prefixes[long_words] = _mix(
        (sums[cut] - base[long_words]) * unshift[long_words] * np.uint64(3) + np.uint64(1)
    )
    token_kinds = np.take(kinds, starts)
    if places is not None:
        starts, ends = places[starts], places[ends - 1] + 1
    return TokenBatch(
        points, offsets, row_offsets, rows, starts, ends, token_kinds, hashes, prefixes
    )


def fold_letters(tokens: TokenBatch) -> tuple[Array, Array]:
    """The letters, digits and Han characters of a batch, folded, uint64; and the text of each."""
    folded = np.take(_fold_table(), tokens.points)
    kinds = np.take(_kind_table(), folded)
    places = np.flatnonzero((kinds == WORD) | (kinds == HAN))
    rows = np.repeat(np.arange(tokens.row_count), np.diff(tokens.point_offsets))
    return folded[places].astype(np.uint64), rows[places]


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
    longer: Array = grams * _POWER + last
    return longer


def _decode(texts: pa.Array) -> tuple[Array, Array]:
    if not len(texts):
        return np.zeros(0, np.uint32), np.zeros(1, np.int64)
    byte_offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset :][: len(texts) + 1]
    data = texts.buffers()[2]
    raw = data[int(byte_offsets[0]) : int(byte_offsets[-1])].to_pybytes() if data else b""
    points = np.frombuffer(raw.decode("utf-8").encode("utf-32-le"), np.uint32)
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(pc.utf8_length(texts).to_numpy(zero_copy_only=False), out=offsets[1:])
    return points, offsets


def _drop_skipped(
    folded: Array, kinds: Array, first: Array, offsets: Array
) -> tuple[Array | None, Array, Array, Array]:
    """Drop invisible characters, apostrophes and the third and later of equal letters in a row.

    "don’t" and "dont", "soooo" and "soo" become the same token.
    """
    skip = kinds == SKIP
    if len(folded) > 2:
        same = (folded[1:] == folded[:-1]) & ~first[1:-1]
        skip[2:] |= same[1:] & same[:-1] & np.take(_collapse_table(), folded[2:])
    dropped = np.flatnonzero(skip)
    if not len(dropped):
        return None, offsets, folded, kinds
    keep = ~skip
    return (
        np.flatnonzero(keep),
        offsets - np.searchsorted(dropped, offsets),
        folded[keep],
        kinds[keep],
    )


def _mix(values: Array) -> Array:
    values = (values ^ (values >> np.uint64(32))) * _MIX_A
    values = (values ^ (values >> np.uint64(29))) * _MIX_B
    return values ^ (values >> np.uint64(32))


@functools.lru_cache(maxsize=2)
def _powers_of(size: int) -> tuple[Array, Array]:
    base = np.full(size, _POWER, np.uint64)
    base[0] = 1
    inverse = np.full(size, np.uint64(pow(int(_POWER), -1, 1 << 64)), np.uint64)
    inverse[0] = 1
    return np.cumprod(base, dtype=np.uint64), np.cumprod(inverse, dtype=np.uint64)


def _powers(size: int) -> tuple[Array, Array]:
    """Powers of the hash base and of its inverse modulo 2**64, at least `size` of each."""
    return _powers_of(max(CHUNK_BYTES + 1, 1 << (size - 1).bit_length()))


@functools.cache
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


@functools.cache
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


@functools.cache
def _collapse_table() -> Array:
    """True for characters whose long repeats are emphasis, not meaning: all but digits."""
    table = np.ones(_POINTS, bool)
    for point in range(0x10000):
        if chr(point).isdigit():
            table[point] = False
    return table

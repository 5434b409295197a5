"""Cheap passes over the bytes of texts that tell which of them a costly rule has to look at.

None misses a text that its rule would match; what they mark in vain is for the rule to sort out.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from models.errors import ModelError
from models.kernels import LITERAL_FACTOR, find_literals, find_personal, find_untidy, squeeze_texts
from models.tokens import Array, as_string_array, utf8_of

_LITERAL_BYTES = 4


class Literals:
    """Finds which groups of words occur in texts. A literal has four bytes of UTF-8 at least."""

    def __init__(self, groups: Mapping[int, Iterable[str]]) -> None:
        """``groups``: words by the bit (1, 2, … 128) that tells of them. ASCII case is ignored."""
        words = [(word.lower().encode(), bit) for bit, group in groups.items() for word in group]
        short = [word.decode() for word, _ in words if len(word) < _LITERAL_BYTES]
        if short:
            raise ModelError(f"the literal {short[0]!r} has less than 4 bytes; use a longer one")
        self._letters = np.frombuffer(b"".join(word for word, _ in words), np.uint8)
        self._offsets = np.cumsum([0, *(len(word) for word, _ in words)], dtype=np.int64)
        self._bits = np.array([bit for _, bit in words], np.uint8)
        self._first = np.full(1 << 16, -1, np.int16)
        self._following = np.full(len(words), -1, np.int16)
        self._bitmap = np.zeros(1 << 11, np.uint32)
        for number, (word, _) in enumerate(words):
            key = (int.from_bytes(word[:4], "big") * LITERAL_FACTOR & 0xFFFFFFFF) >> 16
            self._following[number] = self._first[key]
            self._first[key] = number
            self._bitmap[key >> 5] |= np.uint32(1 << (key & 31))

    def find(self, texts: Any) -> Array:
        """uint8 [n]: the bits of the groups of which a text holds a word, or may hold one."""
        data, offsets = utf8_of(as_string_array(texts))
        found = np.empty(len(offsets) - 1, np.uint8)
        find_literals(
            *(data, offsets, self._bitmap, self._first, self._following),
            *(self._letters, self._offsets, self._bits, found),
        )
        return found


def mark_untidy(texts: Any) -> Array:
    """bool [n]: markup, control or odd spaces, doubled spaces, or a line that looks quoted."""
    data, offsets = utf8_of(as_string_array(texts))
    marks = np.empty(len(offsets) - 1, bool)
    find_untidy(data, offsets, marks)
    return marks


def mark_personal(texts: Any) -> Array:
    """bool [n]: an at sign, digits in numbers, or an address may be in the text."""
    data, offsets = utf8_of(as_string_array(texts))
    marks = np.empty(len(offsets) - 1, bool)
    find_personal(data, offsets, marks)
    return marks


def squeeze(texts: Any) -> pa.Array:
    """ASCII lower case without white space and punctuation, also the wide one of Chinese."""
    data, offsets = utf8_of(as_string_array(texts))
    squeezed = np.empty(int(offsets[-1] - offsets[0]) if len(offsets) else 0, np.uint8)
    places = np.zeros(len(offsets), np.int64)
    squeeze_texts(data, offsets, _squeeze_table(), squeezed, places)
    return pa.LargeStringArray.from_buffers(
        len(places) - 1, pa.py_buffer(places), pa.py_buffer(squeezed[: int(places[-1])])
    )


@functools.cache
def _squeeze_table() -> Array:
    table = np.zeros(256 + 3 * 64 * 64, np.uint8)
    table[:256] = np.frombuffer(bytes(range(256)).lower(), np.uint8)
    table[[code for code in range(128) if not chr(code).isalnum()]] = 0
    leads = [0xE2, 0xE3, 0xEF]
    table[leads] = 1
    for sign in "，。！？、；：（）～…“”‘’《》【】「」『』．—–":
        first, second, third = sign.encode()
        table[256 + leads.index(first) * 4096 + (second & 63) * 64 + (third & 63)] = 1
    return table

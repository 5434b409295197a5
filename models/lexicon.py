"""Phrases found in texts by their hash: cue words (`cues.toml`) and the model's keywords."""

from __future__ import annotations

import functools
import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
import pyarrow as pa

from models.errors import ModelError
from models.kernels import (
    BEGINS_LONGER,
    BUCKET_BITS,
    CELL_BITS,
    IS_PHRASE,
    IS_WORD,
    MAX_TOKENS,
    Hits,
    PhraseTables,
)
from models.tokens import Array, TokenBatch, gram_hashes, tokenize

_ENDINGS = (
    "",
    *("s", "es", "d", "ed", "e", "ing", "ion", "ions", "er", "ers", "or", "ly", "ment", "ments"),
    *("able", "ful", "fully", "y", "ied", "ies", "al", "ive", "ance", "ation", "ating", "ated"),
)


class PhraseTable:
    """The given phrases by their hashes, as kernels look them up. Entry = index into `phrases`.

    Phrases of one token are looked up at every token, longer ones only where their first two tokens
    stand.
    """

    def __init__(self, phrases: Sequence[str]) -> None:
        tokens = tokenize(pa.array(phrases, type=pa.large_string()))
        counts = np.diff(tokens.row_offsets)
        wrong = np.flatnonzero((counts < 1) | (counts > MAX_TOKENS))
        if len(wrong):
            raise ModelError(
                f"phrase {phrases[wrong[0]]!r} has {counts[wrong[0]]} tokens; "
                f"a phrase has 1 to {MAX_TOKENS}: shorten it"
            )
        grams = gram_hashes(tokens.hashes, MAX_TOKENS)
        hashes = np.zeros(len(phrases), np.uint64)
        for size, of_size in enumerate(grams, start=1):
            rows = np.flatnonzero(counts == size)
            hashes[rows] = of_size[tokens.row_offsets[rows]]
        known, entries = np.unique(hashes, return_index=True)
        cells = np.zeros((1 << CELL_BITS, 4), np.uint64)
        set_bits(cells, IS_PHRASE, _slots(known))
        set_bits(cells, IS_WORD, _slots(hashes[counts == 1]))
        longer = tokens.row_offsets[np.flatnonzero(counts > 1)]
        if len(longer):
            set_bits(cells, BEGINS_LONGER, _slots(grams[1][longer]))
        firsts = np.zeros((1 << CELL_BITS, 2), np.int32)
        firsts[:, 1] = count_before(_slots(known))
        self.tables = PhraseTables(cells, firsts, known, entries)


def set_bits(cells: Array, kind: int, slots: Array) -> None:
    """Set the bit of a kind for these slots."""
    np.bitwise_or.at(cells[:, kind], slots >> 6, np.uint64(1) << (slots & 63).astype(np.uint64))


def count_before(slots: Array) -> Array:
    """How many of the slots, ascending, stand before each cell."""
    return np.searchsorted(slots, np.arange(1 << CELL_BITS) << 6)


def make_hits(tokens: TokenBatch) -> Hits:
    """Room for all phrases that tokens can hold; memory never touched costs nothing."""
    size = MAX_TOKENS * len(tokens.hashes)
    offsets = np.zeros(tokens.row_count + 1, np.int64)
    return Hits(offsets, *(np.empty(size, np.int64) for _ in range(3)))


def trim_hits(hits: Hits) -> Hits:
    """Only what was found."""
    count = int(hits.offsets[-1])
    return Hits(hits.offsets, hits.starts[:count], hits.lengths[:count], hits.entries[:count])


def _slots(hashes: Array) -> Array:
    return (hashes >> np.uint64(64 - BUCKET_BITS)).view(np.int64)


@dataclass(frozen=True)
class Lexicon:
    """Cue phrases and their classes: members[offsets[p]:offsets[p + 1]] are classes of phrase p."""

    classes: tuple[str, ...]
    phrases: tuple[str, ...]
    offsets: Array
    members: Array
    digest: str

    def class_number(self, name: str) -> int:
        return self.classes.index(name)


@functools.cache
def load_lexicon() -> Lexicon:
    """Read `cues.toml`; raises ModelError when a phrase is too long."""
    content = resources.files("models").joinpath("cues.toml").read_bytes()
    classes_of: dict[str, list[int]] = {}
    sections = tomllib.loads(content.decode("utf-8"))
    for number, section in enumerate(sections.values()):
        english = [phrase.strip() for phrase in section["en"].split(",")]
        for phrase in [*_expand_endings(english), *section["zh"].split()]:
            known = classes_of.setdefault(phrase, [])
            if phrase and number not in known:
                known.append(number)
    classes_of.pop("", None)
    members = list(classes_of.values())
    return Lexicon(
        classes=tuple(sections),
        phrases=tuple(classes_of),
        offsets=np.cumsum([0, *map(len, members)]),
        members=np.array([number for numbers in members for number in numbers]),
        digest=hashlib.sha256(content).hexdigest(),
    )


def _expand_endings(phrases: list[str]) -> list[str]:
    expanded = []
    for phrase in phrases:
        if phrase.endswith("*"):
            expanded += [phrase[:-1] + ending for ending in _ENDINGS]
        else:
            expanded.append(phrase)
    return expanded

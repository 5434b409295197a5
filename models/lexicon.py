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
from models.tokens import Array, TokenBatch, extend_grams, gram_hashes, tokenize

MAX_TOKENS = 4
_BITMAP_BITS = 19
_EMPTY, _SHARED = -1, -2
_ENDINGS = (
    "",
    *("s", "es", "d", "ed", "e", "ing", "ion", "ions", "er", "ers", "or", "ly", "ment", "ments"),
    *("able", "ful", "fully", "y", "ied", "ies", "al", "ive", "ance", "ation", "ating", "ated"),
)


@dataclass(frozen=True)
class Hits:
    """Phrases found in a batch, ordered by first token and length; all int64 [number of hits]."""

    starts: Array
    lengths: Array
    entries: Array


class PhraseTable:
    """Finds which of the given phrases occur in a batch of tokens. Entry = index into `phrases`.

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
        self._hashes, self._entries = np.unique(hashes, return_index=True)
        slots, firsts, sharing = np.unique(
            _slots(self._hashes), return_index=True, return_counts=True
        )
        self._place_of_slot = np.full(1 << _BITMAP_BITS, _EMPTY, np.int32)
        self._place_of_slot[slots] = np.where(sharing > 1, _SHARED, firsts)
        self._is_word = _bitmap(hashes[counts == 1])
        longer = tokens.row_offsets[np.flatnonzero(counts > 1)]
        self._begins_longer = _bitmap(grams[1][longer]) if len(longer) else None

    def find(self, tokens: TokenBatch, grams: list[Array]) -> Hits:
        """All occurrences; `grams` are the hashes of 1- and 2-grams of the tokens (at least)."""
        places = np.flatnonzero(np.take(self._is_word, _slots(grams[0])))
        found = [self._match(places, grams[0][places], 1)]
        if self._begins_longer is not None and len(grams[0]) > 1:
            places = np.flatnonzero(np.take(self._begins_longer, _slots(grams[1])))
            hashes = grams[1][places]
            for size in range(2, MAX_TOKENS + 1):
                if size > 2:
                    fits = places + size <= len(tokens.hashes)
                    places = places[fits]
                    hashes = extend_grams(hashes[fits], tokens.hashes[places + size - 1])
                inside = tokens.rows[places] == tokens.rows[places + size - 1]
                places, hashes = places[inside], hashes[inside]
                found.append(self._match(places, hashes, size))
        first = np.concatenate([starts for starts, _, _ in found])
        order = np.argsort(first, kind="stable")
        lengths = np.concatenate([np.full(len(starts), size) for starts, _, size in found])
        entries = np.concatenate([entries for _, entries, _ in found])
        return Hits(first[order], lengths[order], entries[order])

    def _match(self, places: Array, hashes: Array, size: int) -> tuple[Array, Array, int]:
        near = np.take(self._place_of_slot, _slots(hashes))
        shared = np.flatnonzero(near == _SHARED)
        if len(shared):
            sought = np.searchsorted(self._hashes, hashes[shared])
            near[shared] = np.minimum(sought, len(self._hashes) - 1)
        match = np.flatnonzero((near >= 0) & (np.take(self._hashes, near) == hashes))
        return places[match], self._entries[near[match]], size


def _slots(hashes: Array) -> Array:
    return (hashes >> np.uint64(64 - _BITMAP_BITS)).view(np.int64)


def _bitmap(hashes: Array) -> Array:
    bitmap = np.zeros(1 << _BITMAP_BITS, bool)
    bitmap[_slots(hashes)] = True
    return bitmap


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

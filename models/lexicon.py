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
from models.tokens import Array, TokenBatch, gram_hashes, tokenize

MAX_TOKENS = 4
_BITMAP_BITS = 18
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
    """Finds which of the given phrases occur in a batch of tokens. Entry = index into `phrases`."""

    def __init__(self, phrases: Sequence[str]) -> None:
        tokens = tokenize(pa.array(phrases, type=pa.large_string()))
        counts = np.diff(tokens.row_offsets)
        wrong = np.flatnonzero((counts < 1) | (counts > MAX_TOKENS))
        if len(wrong):
            raise ModelError(
                f"phrase {phrases[wrong[0]]!r} has {counts[wrong[0]]} tokens; "
                f"a phrase has 1 to {MAX_TOKENS}: shorten it"
            )
        hashes = np.zeros(len(phrases), np.uint64)
        for size, grams in enumerate(gram_hashes(tokens.hashes, MAX_TOKENS), start=1):
            rows = np.flatnonzero(counts == size)
            hashes[rows] = grams[tokens.row_offsets[rows]]
        self._hashes, self._entries = np.unique(hashes, return_index=True)
        self._bitmap = np.zeros(1 << _BITMAP_BITS, bool)
        self._bitmap[hashes >> np.uint64(64 - _BITMAP_BITS)] = True

    def find(self, tokens: TokenBatch, grams: list[Array]) -> Hits:
        """All occurrences; `grams` are the 1- to 4-gram hashes of the tokens."""
        starts, lengths, entries = [], [], []
        for size, hashes in enumerate(grams, start=1):
            slots = (hashes >> np.uint64(64 - _BITMAP_BITS)).view(np.int64)
            places = np.flatnonzero(np.take(self._bitmap, slots))
            places = places[tokens.rows[places] == tokens.rows[places + size - 1]]
            found = np.minimum(np.searchsorted(self._hashes, hashes[places]), len(self._hashes) - 1)
            match = self._hashes[found] == hashes[places]
            places = places[match]
            starts.append(places)
            lengths.append(np.full(len(places), size))
            entries.append(self._entries[found[match]])
        first = np.concatenate(starts)
        order = np.argsort(first, kind="stable")
        return Hits(first[order], np.concatenate(lengths)[order], np.concatenate(entries)[order])


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

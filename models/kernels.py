"""Loops over characters and tokens, compiled to machine code by numba.

A kernel lets go of the interpreter's lock, allocates nothing, and is compiled once: when this
module is first imported, which `make setup` does, into the folder's cache or, where that cannot be
written, the user's.
All kernels stand in this one file, since numba compiles anew when a kernel's file has changed and
does not look into others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, types
from numpy.typing import NDArray

# numpy's scalar types make every expression unreadable under strict typing; arrays are described
# in docstrings instead.
Array = NDArray[Any]

SEPARATOR, WORD, HAN, SYMBOL, SKIP = 0, 1, 2, 3, 4
PREFIX_LENGTH = 5
MAX_TOKENS = 4  # of a phrase
NEGATION_REACH = 3  # tokens
# Top bits of a gram's hash: its bucket, and its slot in the tables of phrases.
BUCKET_BITS = 19
_BUCKET_SHIFT = np.uint64(64 - BUCKET_BITS)
# 64 neighbouring slots are a cell; of each slot it has one bit of each of these kinds: is it a
# column, is it that of a phrase of one token, of the first two tokens of a phrase, of any phrase?
CELL_BITS = BUCKET_BITS - 6
IS_COLUMN, IS_WORD, BEGINS_LONGER, IS_PHRASE = range(4)
_CELL_SHIFT = np.uint64(64 - CELL_BITS)
_SLOT_MASK = np.uint64(63)
# Numbers of classes of cues, in the order of CueTables.special.
SPECIAL_CLASSES = ("positive", "negative", "negator", "contrast", "question_form", "change_request")
DERIVED_CUES = (
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
LOGS = np.log1p(np.arange(64))  # of one more than small counts
_CUE_SCALE = np.float32(0.6)
HEAD_COUNT, CLASS_COUNT = 4, 16  # labels, and classes of all labels
MAX_KEYWORDS = 5
SUMMARY_LENGTH = 120
# What a character may be in the table of marks, by bits.
BLANK, ENDS_SENTENCE, SPACE = 1, 2, 4
_SHORT_SENTENCE = 4
_TOKENS_AT_ONCE = 64
# Share of urgent and high that makes the model's own doubt enough for a rule to count.
_LEANING = 0.3
# An entry of the character table: the folded code point, its kind, and whether repeats collapse.
FOLDED_BITS, KIND_BITS = 21, 3
FOLDED_MASK, KIND_MASK = (1 << FOLDED_BITS) - 1, (1 << KIND_BITS) - 1
COLLAPSES_SHIFT = FOLDED_BITS + KIND_BITS
_NO_CHARACTER = 0xFFFFFFFF
_REPLACEMENT = 0xFFFD

POWER = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_ONE, _THREE = np.uint64(1), np.uint64(3)
LITERAL_FACTOR = 0x9E3779B1

# Counting references to arrays, which a kernel never keeps, would cost most of the time.
_OPTIONS = {"nogil": True, "_nrt": False, "error_model": "numpy"}
_INTRINSIC: Any = extending.intrinsic
_JIT: Any = numba.njit  # its own types leave out what arrays and options there are

Function = TypeVar("Function", bound=Callable[..., Any])


def _given(element: Any) -> Any:
    """The type of a one-dimensional array that a kernel only reads."""
    return types.Array(element, 1, "C", readonly=True)


def compile_kernel(*arguments: Any) -> Callable[[Function], Function]:
    """Compile for these argument types, or load from the cache."""

    def decorate(function: Function) -> Function:
        try:
            return cast(Function, _JIT(arguments, cache=True, **_OPTIONS)(function))
        except (RuntimeError, OSError):
            # Neither the package's folder nor the user's can be written.
            return cast(Function, _JIT(arguments, **_OPTIONS)(function))

    return decorate


def inline_kernel(function: Function) -> Function:
    """A part of other kernels, compiled with them."""
    return cast(Function, _JIT(**_OPTIONS, forceinline=True)(function))


class TokenBatch(NamedTuple):
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


class PhraseTables(NamedTuple):
    """Phrases by hash.

    cells: uint64 [2 ** CELL_BITS, 4], by the top bits of a hash: a bit of each kind for each slot.
    firsts: int32 [2 ** CELL_BITS, 2], the column of a cell's first bit of IS_COLUMN, and where in
    `hashes` the phrases of a cell begin. Both fit a core's cache, which a table of slots does not.
    hashes: uint64 [phrases], ascending; entries: int64 [phrases], the number of each.
    """

    cells: Array
    firsts: Array
    hashes: Array
    entries: Array


class Hits(NamedTuple):
    """Phrases found in a batch of n texts, ordered by first token and length.

    offsets: int64 [n + 1]; starts, lengths, entries: int64 [hits].
    """

    offsets: Array
    starts: Array
    lengths: Array
    entries: Array


class CueTables(NamedTuple):
    """Classes of cue phrases.

    offsets: int64 [phrases + 1] into members: int64, the classes of each phrase.
    strengths: float64 [classes], how much praise (below 0: blame) a phrase of a class is.
    is_topic: bool [classes]; special: int64, the numbers of SPECIAL_CLASSES.
    """

    offsets: Array
    members: Array
    strengths: Array
    is_topic: Array
    special: Array


class Scratch(NamedTuple):
    """Room for kernels to work in, all zero between texts where they rely on it.

    covers: int64, reached: bool [T + MAX_TOKENS]; saliences: float32 [T];
    counts: float64 [classes of cues]; sums: float32, margins: float64 [CLASS_COUNT].
    """

    covers: Array
    reached: Array
    saliences: Array
    counts: Array
    sums: Array
    margins: Array


def make_scratch(token_count: int, cue_class_count: int) -> Scratch:
    return Scratch(
        covers=np.zeros(token_count + MAX_TOKENS, np.int64),
        reached=np.zeros(token_count + MAX_TOKENS, np.bool_),
        saliences=np.zeros(token_count, np.float32),
        counts=np.zeros(cue_class_count, np.float64),
        sums=np.zeros(CLASS_COUNT, np.float32),
        margins=np.zeros(CLASS_COUNT, np.float64),
    )


class ModelTables(NamedTuple):
    """A model as `label_texts` reads it.

    weights: float32 [hashed columns + 1, CLASS_COUNT], times the column's idf; traits: float32
    [hashed columns + 1, 2], idf squared and salience; the last row of both, which a column of -1
    is, is zero;
    cue_weights: float32 [cue columns, CLASS_COUNT]; intercepts: float64 [CLASS_COUNT];
    head_bounds: int64 [HEAD_COUNT + 1], the classes of each head; thresholds: float64 [HEAD_COUNT];
    unserved: int64 [HEAD_COUNT], the class of a text in a language that is not served;
    priority_rules: int64 [3]: the classes complaint and negative, and how many levels rules have;
    reason_columns, reason_levels: int64 [reasons]; rule_scores: float64 [levels];
    keyword_of_entry: int64 [entries], -1 if none;
    marks: uint8 [2 ** 16], by code point.
    """

    weights: Array
    traits: Array
    cue_weights: Array
    intercepts: Array
    head_bounds: Array
    thresholds: Array
    unserved: Array
    priority_rules: Array
    reason_columns: Array
    reason_levels: Array
    rule_scores: Array
    keyword_of_entry: Array
    marks: Array


class Labels(NamedTuple):
    """What `label_texts` fills, for n texts.

    classes: int8 [HEAD_COUNT, n]; scores: float64 [HEAD_COUNT, n]; is_unsure: bool [n].
    Lists: int32 offsets [n + 1] of each; reasons: int64, keywords: int64, summary: uint8 (UTF-8).
    """

    classes: Array
    scores: Array
    is_unsure: Array
    reason_offsets: Array
    reasons: Array
    keyword_offsets: Array
    keywords: Array
    summary_offsets: Array
    summary: Array


U8, U32, U64, I64 = types.uint8, types.uint32, types.uint64, types.int64
F32, F64, BOOL = types.float32, types.float64, types.boolean
I8, I32 = types.int8, types.int32
NAMED: Any = types  # numba does not say what types its own types take
TOKENS = NAMED.NamedTuple(
    [U32[::1], I64[::1], I64[::1], I64[::1], I64[::1], I64[::1], U8[::1], U64[::1], U64[::1]],
    TokenBatch,
)
PHRASES = NAMED.NamedTuple([U64[:, ::1], I32[:, ::1], U64[::1], I64[::1]], PhraseTables)
HITS = NAMED.NamedUniTuple(I64[::1], 4, Hits)
CUES = NAMED.NamedTuple([I64[::1], I64[::1], F64[::1], BOOL[::1], I64[::1]], CueTables)
SCRATCH = NAMED.NamedTuple([I64[::1], BOOL[::1], F32[::1], F64[::1], F32[::1], F64[::1]], Scratch)
MODEL = NAMED.NamedTuple(
    [
        *(F32[:, ::1], F32[:, ::1], F32[:, ::1], F64[::1], I64[::1], F64[::1], I64[::1]),
        *(I64[::1], I64[::1], I64[::1], F64[::1], I64[::1], U8[::1]),
    ],
    ModelTables,
)
LABELS = NAMED.NamedTuple(
    [
        *(I8[:, ::1], F64[:, ::1], BOOL[::1], I32[::1], I64[::1], I32[::1], I64[::1]),
        *(I32[::1], U8[::1]),
    ],
    Labels,
)


@inline_kernel
def mix(value: Any) -> Any:
    """Spread a sum over all 64 bits."""
    value = (value ^ (value >> np.uint64(32))) * _MIX_A
    value = (value ^ (value >> np.uint64(29))) * _MIX_B
    return value ^ (value >> np.uint64(32))


@inline_kernel
def decode_character(data: Any, at: Any, stop: Any) -> Any:
    """The code point of several bytes at `at`, and where the next begins; never beyond `stop`."""
    first = np.uint32(data[at])
    size = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    if first < 0xC0 or at + size > stop:
        return np.uint32(_REPLACEMENT), at + 1
    code = first & np.uint32(0x7F >> size)
    for place in range(at + 1, at + size):
        code = (code << np.uint32(6)) | (np.uint32(data[place]) & np.uint32(0x3F))
    if code > 0x10FFFF:
        code = np.uint32(_REPLACEMENT)
    return code, at + size


@inline_kernel
def take_minima(minima: Any, row: Any, shingle: Any, factors: Any, shifts: Any) -> None:
    """Take a shingle into a row's signature: the least value of each hash function."""
    narrow = np.uint32(shingle >> np.uint64(32))
    for number in range(minima.shape[1]):
        value = np.uint32(narrow * factors[number] + shifts[number])
        minima[row, number] = min(minima[row, number], value)


@compile_kernel(
    *(_given(U8), _given(I64), _given(I64), _given(U32), _given(U8)),
    *(_given(U64), _given(U32), _given(U32), _given(U32)),
    *(types.int32[:, ::1], types.int32[:, ::1], types.int32[::1]),
    *(U32[:, ::1], types.boolean[::1]),
    *(I64, I64),
)
def scan_texts(
    data: Any,
    byte_offsets: Any,
    begins: Any,
    characters: Any,
    scripts: Any,
    word_hashes: Any,
    word_members: Any,
    factors: Any,
    shifts: Any,
    script_counts: Any,
    word_counts: Any,
    token_counts: Any,
    minima: Any,
    is_signed: Any,
    min_characters: Any,
    short_characters: Any,
) -> None:
    """What tells a text's language, and its MinHash signature, in one pass over its UTF-8.

    Languages are counted from the byte ``begins`` of each row on: characters by script, and stop
    words by the bits of ``word_members``, found in the open hash table ``word_hashes``. A signature
    is taken of the whole row: of pairs of neighbouring letters where the text is short, of
    neighbouring words and Han characters else. Tokens are those of ``tokenize_bytes``.
    """
    word_slots = np.uint64(len(word_hashes) - 1)
    languages = word_counts.shape[1]
    for row in range(len(byte_offsets) - 1):
        at, stop = byte_offsets[row], byte_offsets[row + 1]
        length = 0
        for place in range(at, stop):
            length += (data[place] & 0xC0) != 0x80
        by_letters = length < short_characters
        by_words = not by_letters
        by_letters &= length >= min_characters
        last = before_last = np.uint32(_NO_CHARACTER)
        in_word = is_counted = has_left = False
        total, power, left = np.uint64(0), _ONE, np.uint64(0)
        while True:
            is_over = at >= stop
            kind = np.uint32(SEPARATOR)
            folded = np.uint32(0)
            if not is_over:
                counts_here = at >= begins[row]
                if data[at] < 0x80:
                    code = np.uint32(data[at])
                    at += 1
                else:
                    code, at = decode_character(data, at, stop)
                if counts_here:
                    script_counts[row, scripts[code]] += 1
                entry = characters[code]
                folded = entry & np.uint32(FOLDED_MASK)
                kind = (entry >> np.uint32(FOLDED_BITS)) & np.uint32(KIND_MASK)
                if by_letters and kind in (WORD, HAN):
                    letter = np.uint64(folded) * POWER
                    letter ^= letter >> np.uint64(29)
                    if has_left:
                        take_minima(minima, row, left * POWER + letter, factors, shifts)
                        is_signed[row] = True
                    left, has_left = letter, True
                is_repeat = folded == last and last == before_last and entry >> COLLAPSES_SHIFT
                before_last, last = last, folded
                if is_repeat or kind == SKIP:
                    continue
                if kind == WORD and in_word:
                    total += np.uint64(folded) * power
                    power *= POWER
                    continue
            if in_word:
                token = mix(total)
                if is_counted:
                    token_counts[row] += 1
                    slot = token & word_slots
                    while word_members[slot]:
                        if word_hashes[slot] == token:
                            for language in range(languages):
                                word_counts[row, language] += (word_members[slot] >> language) & 1
                            break
                        slot = (slot + _ONE) & word_slots
                if by_words:
                    if has_left:
                        take_minima(minima, row, left * POWER + token, factors, shifts)
                        is_signed[row] = True
                    left, has_left = token, True
            if is_over:
                break
            in_word = kind == WORD
            is_counted = counts_here
            if in_word:
                total, power = np.uint64(folded), POWER
            elif kind != SEPARATOR:
                token_counts[row] += counts_here
                if by_words and kind == HAN:
                    token = mix(np.uint64(folded))
                    if has_left:
                        take_minima(minima, row, left * POWER + token, factors, shifts)
                        is_signed[row] = True
                    left, has_left = token, True


@compile_kernel(
    *(_given(U8), _given(I64), _given(U32), _given(types.int16)),
    *(_given(types.int16), _given(U8), _given(I64), _given(U8), U8[::1]),
)
def find_literals(
    data: Any,
    byte_offsets: Any,
    bitmap: Any,
    first: Any,
    following: Any,
    letters: Any,
    literal_offsets: Any,
    bits: Any,
    found: Any,
) -> None:
    """Set the bits of the literals that stand in each row, whatever the case of ASCII letters.

    A literal is looked for where its first four bytes are: ``bitmap`` tells whether any begins with
    these (by a hash of 16 bits), ``first`` which, ``following`` which other one. All bits are set
    where "ſ" or the Kelvin sign stand, which RE2 takes for "s" and "k".
    """
    for row in range(len(byte_offsets) - 1):
        begin, stop = byte_offsets[row], byte_offsets[row + 1]
        window = np.uint32(0)
        flags = np.uint8(0)
        for at in range(begin, stop):
            sign = np.uint32(data[at])
            if np.uint32(sign - np.uint32(65)) < np.uint32(26):
                sign += np.uint32(32)
            window = np.uint32((window << np.uint32(8)) | sign)
            key = np.uint32(np.uint32(window * np.uint32(LITERAL_FACTOR)) >> np.uint32(16))
            if (bitmap[key >> np.uint32(5)] >> (key & np.uint32(31))) & np.uint32(1):
                literal = first[key]
                while literal >= 0:
                    size = literal_offsets[literal + 1] - literal_offsets[literal]
                    here = at - 3
                    if here >= begin and here + size <= stop:
                        is_same = True
                        for place in range(size):
                            other = data[here + place]
                            if 65 <= other <= 90:
                                other += 32
                            if other != letters[literal_offsets[literal] + place]:
                                is_same = False
                                break
                        if is_same:
                            flags |= bits[literal]
                    literal = following[literal]
            is_long_s = sign == 0xBF and (window & np.uint32(0xFFFF)) == 0xC5BF
            if is_long_s or (sign == 0xAA and (window & np.uint32(0xFFFFFF)) == 0xE284AA):
                flags = np.uint8(255)
        found[row] = flags


@compile_kernel(_given(U8), _given(I64), types.boolean[::1])
def find_untidy(data: Any, byte_offsets: Any, is_untidy: Any) -> None:
    """Mark rows with markup, odd signs, spaces or breaks, or a line that begins with ">" or "--".

    A row begins as a line does: after a break.
    """
    for row in range(len(byte_offsets) - 1):
        begin, stop = byte_offsets[row], byte_offsets[row + 1]
        window = np.uint32(0x0A0A0A0A)
        is_odd = begin < stop and (data[stop - 1] == 32 or data[stop - 1] == 10)
        for at in range(begin, stop):
            sign = np.uint32(data[at])
            window = np.uint32((window << np.uint32(8)) | sign)
            if sign >= 0x80:
                before = (window >> np.uint32(8)) & np.uint32(0xFF)
                lead = (window >> np.uint32(16)) & np.uint32(0xFF)
                is_odd |= sign in (0xC2, 0xCC, 0xCD)
                is_odd |= lead == 0xE1 and before == 0x9A
                is_odd |= lead == 0xE2 and (
                    before == 0x81 or (before == 0x80 and (sign < 0x90 or sign >= 0xA8))
                )
                is_odd |= lead == 0xE3 and before == 0x80 and sign == 0x80
                is_odd |= lead == 0xEF and before == 0xBB
            elif sign <= 32:
                before = (window >> np.uint32(8)) & np.uint32(0xFF)
                is_odd |= sign < 32 and sign != 10
                # of two spaces or breaks beside each other, only two breaks may stay
                is_odd |= before == 32 or (before == 10 and sign == 32)
                is_odd |= (window & np.uint32(0xFFFFFF)) == 0x0A0A0A
            else:
                is_odd |= sign in (0x3C, 0x26, 0x7F)
                is_odd |= sign == 0x3E and (window & np.uint32(0xFF00)) == 0x0A00
                is_odd |= (window & np.uint32(0xFFFFFF)) == 0x0A2D2D
            if is_odd:
                break
        is_untidy[row] = is_odd


@compile_kernel(_given(U8), _given(I64), types.boolean[::1])
def find_personal(data: Any, byte_offsets: Any, may_hold: Any) -> None:
    """Mark rows with an at sign, seven digits close together, or the dots or colons of an address.

    Full-width digits, stops and at signs mark a row by themselves.
    """
    for row in range(len(byte_offsets) - 1):
        digits, gap = 0, 0
        dots = 0
        colons, hexes = 0, 0
        window = np.uint32(0x41414141)
        is_found: Any = False
        for at in range(byte_offsets[row], byte_offsets[row + 1]):
            sign = np.uint32(data[at])
            window = np.uint32((window << np.uint32(8)) | sign)
            if sign >= 0x80:
                dots = colons = hexes = 0
                # Brackets, dashes and plus signs of three bytes may stand between digits.
                if sign < 0xC0 or sign in (0xE2, 0xEF):
                    gap += 1
                else:
                    digits = 0
                wide = window & np.uint32(0xFFFFFF)
                is_found = 0xEFBC90 <= wide <= 0xEFBC99 or wide in (0xEFBC8E, 0xEFBCA0)
            elif np.uint32(sign - np.uint32(48)) < np.uint32(10):
                digits = digits + 1 if gap <= 9 else 1
                gap = 0
                hexes += 1
                is_found |= digits >= 7 or dots >= 3 or colons >= 2
            else:
                before = (window >> np.uint32(8)) & np.uint32(0xFF)
                if sign in (32, 40, 41, 43, 45, 46):
                    gap += 1
                else:
                    digits = 0
                letter = sign | np.uint32(32)
                if sign == 46:
                    dots = dots + 1 if np.uint32(before - np.uint32(48)) < np.uint32(10) else 0
                else:
                    dots = 0
                if sign == 58:
                    if hexes > 4:
                        colons = 0
                    colons += before != 58
                    hexes = 0
                elif 97 <= letter <= 102:
                    hexes += 1
                    is_found |= colons >= 2
                else:
                    colons = hexes = 0
                is_found |= sign == 64
                if sign in (93, 41):
                    third = (window >> np.uint32(16)) & np.uint32(0xFF)
                    is_found |= (before | np.uint32(32)) == 116
                    is_found |= before <= 32 and (third | np.uint32(32)) == 116
            if is_found:
                break
        may_hold[row] = is_found


@compile_kernel(_given(U8), _given(I64), _given(U8), U8[::1], I64[::1])
def squeeze_texts(
    data: Any, byte_offsets: Any, lower: Any, squeezed: Any, squeezed_offsets: Any
) -> None:
    """Copy the bytes of each row by a table; left out are those it has 0 for, and wide marks.

    The table has 1 for the first byte of a wide mark of three bytes, whose others tell which it is:
    ``lower`` goes on behind its 256 bytes with a table of 64 x 64 for each of E2, E3 and EF.
    """
    to = 0
    squeezed_offsets[0] = 0
    for row in range(len(byte_offsets) - 1):
        at, stop = byte_offsets[row], byte_offsets[row + 1]
        while at < stop:
            sign = lower[data[at]]
            if sign == 1:
                number = 0 if data[at] == 0xE2 else 1 if data[at] == 0xE3 else 2
                place = 256 + number * 4096
                place += (data[at + 1] & 63) * 64 + (data[at + 2] & 63)
                if lower[place]:
                    at += 3
                    continue
                sign = data[at]
            if sign:
                squeezed[to] = sign
                to += 1
            at += 1
        squeezed_offsets[row + 1] = to


@inline_kernel
def tokenize_text(
    data: Any, at: Any, stop: Any, characters: Any, row: Any, point: Any, token: Any, tokens: Any
) -> Any:
    """Write the characters and tokens of a text from `point` and `token` on; returns their ends."""
    last = before_last = np.uint32(_NO_CHARACTER)
    in_word, length = False, 0
    total, power = np.uint64(0), _ONE
    while at < stop:
        if data[at] < 0x80:
            code = np.uint32(data[at])
            at += 1
        else:
            code, at = decode_character(data, at, stop)
        tokens.points[point] = code
        point += 1
        entry = characters[code]
        folded = entry & np.uint32(FOLDED_MASK)
        kind = (entry >> np.uint32(FOLDED_BITS)) & np.uint32(KIND_MASK)
        is_repeat = folded == last and last == before_last and entry >> COLLAPSES_SHIFT
        before_last, last = last, folded
        if is_repeat or kind == SKIP:
            continue
        if kind == WORD and in_word:
            if length == PREFIX_LENGTH:
                tokens.prefixes[token - 1] = mix(total * _THREE + _ONE)
            total += np.uint64(folded) * power
            power *= POWER
            length += 1
            tokens.ends[token - 1] = point
            continue
        if in_word:
            tokens.hashes[token - 1] = mix(total)
        in_word = kind == WORD
        if kind == SEPARATOR:
            continue
        tokens.rows[token], tokens.kinds[token] = row, kind
        tokens.starts[token], tokens.ends[token] = point - 1, point
        tokens.prefixes[token] = 0
        if in_word:
            total, power, length = np.uint64(folded), POWER, 1
        else:
            tokens.hashes[token] = mix(np.uint64(folded))
        token += 1
    if in_word:
        tokens.hashes[token - 1] = mix(total)
    return point, token


@compile_kernel(_given(U8), _given(I64), _given(U32), TOKENS)
def tokenize_bytes(data: Any, byte_offsets: Any, characters: Any, tokens: Any) -> None:
    """Fill a TokenBatch from UTF-8; its arrays by character or token are long enough.

    Invisible characters, apostrophes and the third and later of equal letters in a row are passed
    over: "don’t" and "dont", "soooo" and "soo" become the same token.
    """
    point = token = 0
    tokens.point_offsets[0] = tokens.row_offsets[0] = 0
    for row in range(len(byte_offsets) - 1):
        point, token = tokenize_text(
            data, byte_offsets[row], byte_offsets[row + 1], characters, row, point, token, tokens
        )
        tokens.point_offsets[row + 1], tokens.row_offsets[row + 1] = point, token


@inline_kernel
def hash_grams(tokens: Any, token: Any, end: Any) -> Any:
    """Hashes of the 1- and 2-gram at a token, and of its prefix or Han 3-gram; 0 if none.

    `end`: the end of the text's tokens.
    """
    single, third = tokens.hashes[token], tokens.prefixes[token]
    pair = np.uint64(0)
    if token + 1 < end:
        pair = single * POWER + tokens.hashes[token + 1]
        if token + 2 < end and tokens.kinds[token] == HAN:
            third = pair * POWER + tokens.hashes[token + 2]
    return single, pair, third


@inline_kernel
def count_bits(word: Any) -> Any:
    """How many bits of 64 are set; compilers know this form."""
    word -= (word >> _ONE) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + (
        (word >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)


@inline_kernel
def has_bit(phrases: Any, value: Any, kind: Any) -> Any:
    """Whether a hash's slot is of a kind."""
    bits = phrases.cells[value >> _CELL_SHIFT, kind]
    return (bits >> ((value >> _BUCKET_SHIFT) & _SLOT_MASK)) & _ONE


@inline_kernel
def find_column(phrases: Any, value: Any) -> Any:
    """The hashed column of a gram, -1 if none; columns are numbered as their slots are."""
    cell = value >> _CELL_SHIFT
    slot = (value >> _BUCKET_SHIFT) & _SLOT_MASK
    bits = phrases.cells[cell, IS_COLUMN]
    before = count_bits(bits & ((_ONE << slot) - _ONE))
    column = phrases.firsts[cell, 0] + np.int32(before)
    is_known = np.int32((bits >> slot) & _ONE) & np.int32(value != 0)
    return column if is_known else np.int32(-1)


@inline_kernel
def find_entry(phrases: Any, value: Any) -> Any:
    """The phrase of a hash, -1 if none."""
    if has_bit(phrases, value, IS_PHRASE):
        place = phrases.firsts[value >> _CELL_SHIFT, 1]
        while phrases.hashes[place] < value and place + 1 < len(phrases.hashes):
            place += 1
        if phrases.hashes[place] == value:
            return phrases.entries[place]
    return np.int64(-1)


@inline_kernel
def find_phrases_at(
    tokens: Any, token: Any, end: Any, pair: Any, phrases: Any, hits: Any, hit: Any
) -> Any:
    """Add the phrases that begin at a token to `hits`; returns how many there are now."""
    if has_bit(phrases, tokens.hashes[token], IS_WORD):
        entry = find_entry(phrases, tokens.hashes[token])
        if entry >= 0:
            hits.starts[hit], hits.lengths[hit], hits.entries[hit] = token, 1, entry
            hit += 1
    if token + 1 < end and has_bit(phrases, pair, BEGINS_LONGER):
        gram = pair
        for length in range(2, MAX_TOKENS + 1):
            if token + length > end:
                break
            if length > 2:
                gram = gram * POWER + tokens.hashes[token + length - 1]
            entry = find_entry(phrases, gram)
            if entry >= 0:
                hits.starts[hit], hits.lengths[hit], hits.entries[hit] = token, length, entry
                hit += 1
    return hit


@compile_kernel(TOKENS, I64[:, ::1])
def find_buckets(tokens: Any, buckets: Any) -> None:
    """Fill int64 [T, 3] with the buckets of each token's grams, -1 for none."""
    for row in range(len(tokens.row_offsets) - 1):
        end = tokens.row_offsets[row + 1]
        for token in range(tokens.row_offsets[row], end):
            for kind, value in enumerate(hash_grams(tokens, token, end)):
                buckets[token, kind] = np.int64(value >> _BUCKET_SHIFT) if value else -1


@inline_kernel
def cover_tokens(covers: Any, start: Any, length: Any) -> None:
    """Note at each token of a phrase the length of the longest phrase over it."""
    for token in range(start, start + length):
        covers[token] = max(covers[token], length)


@inline_kernel
def balance(praise: Any, blame: Any) -> Any:
    """How far praise outweighs blame; grows slowly."""
    return (praise - blame) / np.sqrt(praise + blame + 1)


@inline_kernel
def is_counted(tables: Any, hits: Any, hit: Any, covers: Any, member: Any) -> Any:
    """Whether a phrase counts for a class: the longest of overlapping ones, any for a topic."""
    if tables.is_topic[tables.members[member]]:
        return True
    start, length = hits.starts[hit], hits.lengths[hit]
    return max(covers[start], covers[start + length - 1]) <= length


@inline_kernel
def count_cues(tokens: Any, row: Any, tables: Any, hits: Any, scratch: Any, cues: Any) -> None:
    """Fill a row of cue columns."""
    covers, reached, counts = scratch.covers, scratch.reached, scratch.counts
    positive, negative, negator, contrast, question, request = tables.special
    first, end = tokens.row_offsets[row], tokens.row_offsets[row + 1]
    class_count = len(tables.strengths)
    last_contrast = np.int64(-1)
    for hit in range(hits.offsets[row], hits.offsets[row + 1]):
        if hits.entries[hit] < len(tables.offsets) - 1 and hits.lengths[hit] > 1:
            cover_tokens(covers, hits.starts[hit], hits.lengths[hit])
    for hit in range(hits.offsets[row], hits.offsets[row + 1]):
        entry, start = hits.entries[hit], hits.starts[hit]
        if entry >= len(tables.offsets) - 1:
            continue
        for member in range(tables.offsets[entry], tables.offsets[entry + 1]):
            number = tables.members[member]
            if number == negator and is_counted(tables, hits, hit, covers, member):
                after = start + hits.lengths[hit]
                reached[after : min(after + NEGATION_REACH, end)] = True
            if number == contrast and is_counted(tables, hits, hit, covers, member):
                last_contrast = max(last_contrast, start)

    counts[:] = 0
    praise = blame = excused = praise_at_end = blame_at_end = 0.0
    strong_praise = strong_blame = negated_praise = 0.0
    question_first = request_first = False
    for hit in range(hits.offsets[row], hits.offsets[row + 1]):
        entry, start = hits.entries[hit], hits.starts[hit]
        if entry >= len(tables.offsets) - 1:
            continue
        for member in range(tables.offsets[entry], tables.offsets[entry + 1]):
            if not is_counted(tables, hits, hit, covers, member):
                continue
            number = tables.members[member]
            counts[number] += 1
            question_first |= number == question and start - first < 2
            request_first |= number == request and start - first < 3
            strength = tables.strengths[number]
            if strength == 0:
                continue
            size, is_negated, is_late = abs(strength), reached[start], start > last_contrast
            if strength > 0 and not is_negated:
                praise += size
                praise_at_end += size * is_late
                strong_praise += size == 1
            elif strength < 0 and is_negated:
                excused += size
            else:
                negated_praise += size * is_negated
                blame += size
                blame_at_end += size * is_late
                strong_blame += size == 1
    counts[positive], counts[negative] = strong_praise, strong_blame
    norm = 0.0
    for number in range(class_count):
        if counts[number]:
            size = counts[number]
            counts[number] = LOGS[np.int64(size)] if size < len(LOGS) else np.log1p(size)
            norm += counts[number] * counts[number]
    norm = np.sqrt(norm)
    for number in range(class_count):
        cues[number] = np.float32(counts[number] / norm) if norm > 0 else np.float32(0)
    overall = balance(praise + 0.5 * excused, blame)
    late = balance(praise_at_end, blame_at_end)
    cues[class_count], cues[class_count + 1] = max(overall, 0.0), max(-overall, 0.0)
    cues[class_count + 2], cues[class_count + 3] = max(late, 0.0), max(-late, 0.0)
    cues[class_count + 4], cues[class_count + 5] = negated_praise > 0, excused > 0
    cues[class_count + 8], cues[class_count + 9] = question_first, request_first
    cues[class_count + 13] = norm == 0
    describe_form(tokens, row, cues[class_count:])
    for number in range(len(cues)):
        cues[number] *= _CUE_SCALE
    covers[first:end] = 0
    reached[first:end] = False


@inline_kernel
def describe_form(tokens: Any, row: Any, derived: Any) -> None:
    """Fill what DERIVED_CUES say of marks, capitals and script."""
    first, end = tokens.point_offsets[row], tokens.point_offsets[row + 1]
    questions = exclamations = capitals = han = 0
    last_question = first - 4
    for place in range(first, end):
        point = tokens.points[place]
        if point in (0x3F, 0xFF1F):
            questions += 1
            last_question = place
        exclamations += point in (0x21, 0xFF01)
        capitals += np.uint32(0x41) <= point <= np.uint32(0x5A)
    for token in range(tokens.row_offsets[row], tokens.row_offsets[row + 1]):
        han += tokens.kinds[token] == HAN
    derived[6] = questions > 0
    derived[7] = questions > 0 and end - last_question <= 3
    derived[10], derived[11] = exclamations > 1, exclamations > 0
    derived[12] = end - first > 8 and capitals > 0.4 * (end - first)
    derived[14] = 2 * han > tokens.row_offsets[row + 1] - tokens.row_offsets[row]


@inline_kernel
def read_text(
    tokens: Any,
    row: Any,
    phrases: Any,
    cue_tables: Any,
    hits: Any,
    columns: Any,
    cues: Any,
    scratch: Any,
) -> None:
    """Fill the text's part of `hits` and `columns`, and its row of cues."""
    hit, end = hits.offsets[row], tokens.row_offsets[row + 1]
    for token in range(tokens.row_offsets[row], end):
        single, pair, third = hash_grams(tokens, token, end)
        columns[token, 0] = find_column(phrases, single)
        columns[token, 1] = find_column(phrases, pair)
        columns[token, 2] = find_column(phrases, third)
        hit = find_phrases_at(tokens, token, end, pair, phrases, hits, hit)
    hits.offsets[row + 1] = hit
    count_cues(tokens, row, cue_tables, hits, scratch, cues)


@compile_kernel(TOKENS, PHRASES, CUES, HITS, I32[:, ::1], F32[:, ::1], SCRATCH)
def read_features(
    tokens: Any, phrases: Any, cue_tables: Any, hits: Any, columns: Any, cues: Any, scratch: Any
) -> None:
    """Fill `hits` (room for MAX_TOKENS a token), columns [T, 3] (-1: none), cues [n, columns]."""
    hits.offsets[0] = 0
    for row in range(len(tokens.row_offsets) - 1):
        read_text(tokens, row, phrases, cue_tables, hits, columns, cues[row], scratch)


@compile_kernel(*(_given(I64), I32[:, ::1], F32[:, ::1], _given(F32), I64[::1], I32[::1], F32[::1]))
def assemble_rows(
    row_offsets: Any, columns: Any, cues: Any, idf: Any, indptr: Any, indices: Any, data: Any
) -> None:
    """Fill a CSR matrix: hashed columns scaled to length 1, then cues.

    indices and data have room for 3 a token and all cues.
    """
    at = 0
    indptr[0] = 0
    for row in range(len(row_offsets) - 1):
        begin, norm = at, 0.0
        for kind in range(3):
            squares = 0.0
            for token in range(row_offsets[row], row_offsets[row + 1]):
                column = columns[token, kind]
                if column >= 0:
                    indices[at], data[at] = column, idf[column]
                    squares += idf[column] * idf[column]
                    at += 1
            norm += squares
        length = np.float32(np.sqrt(norm))
        for place in range(begin, at):
            data[place] /= length
        for column in range(cues.shape[1]):
            if cues[row, column]:
                indices[at], data[at] = len(idf) + column, cues[row, column]
                at += 1
        indptr[row + 1] = at


def _type_add_rows(
    typing_context: Any, sums: Any, first: Any, second: Any, third: Any
) -> tuple[Any, Callable[..., Any]]:
    """Add three rows of CLASS_COUNT weights to sums, as one vector: loops are not made into such
    when they are this short.
    """
    row = F32[::1]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), CLASS_COUNT)
        places = [
            builder.bitcast(
                context.make_array(kind)(context, builder, value).data, vector.as_pointer()
            )
            for kind, value in zip(signature.args, arguments, strict=True)
        ]
        of_sums, *of_rows = (builder.load(place, align=4) for place in places)
        of_rows = builder.fadd(builder.fadd(of_rows[0], of_rows[1]), of_rows[2])
        builder.store(builder.fadd(of_sums, of_rows), places[0], align=4)
        return context.get_dummy_value()

    return types.void(row, row, row, row), generate


add_rows: Any = _INTRINSIC(_type_add_rows)


@inline_kernel
def weigh_text(tokens: Any, row: Any, columns: Any, cues: Any, model: Any, scratch: Any) -> Any:
    """Set margins and the salience of the text's tokens; returns how many features are known."""
    sums, margins, saliences = scratch.sums, scratch.margins, scratch.saliences
    weights, traits = model.weights, model.traits
    known, squares = 0, 0.0
    margins[:] = 0
    end = tokens.row_offsets[row + 1]
    # Sums of few tokens at a time: single precision is fast, and stays exact over a long text.
    for begin in range(tokens.row_offsets[row], end, _TOKENS_AT_ONCE):
        sums[:] = 0
        for token in range(begin, min(begin + _TOKENS_AT_ONCE, end)):
            first, second, third = columns[token, 0], columns[token, 1], columns[token, 2]
            known += (first >= 0) + (second >= 0) + (third >= 0)
            of_first, of_second, of_third = traits[first], traits[second], traits[third]
            squares += np.float64(of_first[0]) + of_second[0] + of_third[0]
            saliences[token] = of_first[1] + of_second[1] + of_third[1]
            add_rows(sums, weights[first], weights[second], weights[third])
        for number in range(CLASS_COUNT):
            margins[number] += sums[number]
    sums[:] = 0
    for cue in range(len(cues)):
        if cues[cue]:
            known += 1
            for number in range(CLASS_COUNT):
                sums[number] += cues[cue] * model.cue_weights[cue, number]
    scale = 1 / np.sqrt(squares) if squares else 0.0
    for number in range(CLASS_COUNT):
        margins[number] = margins[number] * scale + sums[number] + model.intercepts[number]
    return known


@inline_kernel
def choose_classes(
    row: Any, served: Any, known: Any, model: Any, margins: Any, labels: Any
) -> None:
    """Set each head's class, score and doubt; margins become probabilities."""
    is_unsure = served < 2 or known <= 2
    for head in range(HEAD_COUNT):
        first, end = model.head_bounds[head], model.head_bounds[head + 1]
        best = first
        for number in range(first + 1, end):
            if margins[number] > margins[best]:
                best = number
        highest, total = margins[best], 0.0
        for number in range(first, end):
            margins[number] = np.exp(margins[number] - highest)
            total += margins[number]
        for number in range(first, end):
            margins[number] /= total
        is_unsure |= margins[best] < model.thresholds[head]
        if served:
            labels.classes[head, row], labels.scores[head, row] = best - first, margins[best]
        else:
            labels.classes[head, row] = model.unserved[head]
            labels.scores[head, row] = 1 / (end - first)
    labels.is_unsure[row] = is_unsure


@inline_kernel
def lift_priority(row: Any, served: Any, cues: Any, model: Any, shares: Any, labels: Any) -> None:
    """Raise the priority to what the rules ask for and list the reasons; shares: probabilities.

    The heads are those of models.training.HEADS in their order.
    """
    complaint, negative, no_rule = model.priority_rules
    urgent = model.head_bounds[3]
    counts = labels.classes[0, row] == complaint or labels.classes[2, row] == negative
    counts |= shares[urgent] + shares[urgent + 1] >= _LEANING
    wanted = no_rule
    at = labels.reason_offsets[row]
    for reason in range(len(model.reason_columns)):
        if counts and served and cues[model.reason_columns[reason]] > 0:
            labels.reasons[at] = reason
            at += 1
            wanted = min(wanted, model.reason_levels[reason])
    if wanted < labels.classes[3, row]:
        labels.classes[3, row] = wanted
        labels.scores[3, row] = max(shares[urgent + wanted], model.rule_scores[wanted])
    if labels.classes[3, row] < 2 and wanted > labels.classes[3, row]:
        labels.reasons[at] = len(model.reason_columns)
        at += 1
    labels.reason_offsets[row + 1] = at


@inline_kernel
def pick_keywords(
    tokens: Any, row: Any, hits: Any, model: Any, covers: Any, at: Any, keywords: Any
) -> Any:
    """Write the text's lowest keyword numbers, ascending, from `at` on; returns the end.

    Of overlapping words only the longest is kept; a Chinese word must not straddle a gap.
    """
    begin = at
    for hit in range(hits.offsets[row], hits.offsets[row + 1]):
        if model.keyword_of_entry[hits.entries[hit]] >= 0:
            cover_tokens(covers, hits.starts[hit], hits.lengths[hit])
    for hit in range(hits.offsets[row], hits.offsets[row + 1]):
        keyword = model.keyword_of_entry[hits.entries[hit]]
        start, length = hits.starts[hit], hits.lengths[hit]
        last = start + length - 1
        if keyword < 0 or covers[start] != length or covers[last] != length:
            continue
        if tokens.kinds[start] == HAN and tokens.ends[last] - tokens.starts[start] != length:
            continue
        place = begin
        while place < at and keywords[place] < keyword:
            place += 1
        if place < at and keywords[place] == keyword:
            continue
        if at - begin < MAX_KEYWORDS:
            at += 1
        for moved in range(at - 1, place, -1):
            keywords[moved] = keywords[moved - 1]
        if place < at:
            keywords[place] = keyword
    covers[tokens.row_offsets[row] : tokens.row_offsets[row + 1]] = 0
    return at


@inline_kernel
def find_best_sentence(tokens: Any, row: Any, marks: Any, saliences: Any) -> Any:
    """Where the sentence of most weight begins and ends; a full stop ends one only before a blank.

    The weight is that of its tokens over the root of their number, which favours no length.
    """
    points = tokens.points
    first, end = tokens.point_offsets[row], tokens.point_offsets[row + 1]
    token, last_token = tokens.row_offsets[row], tokens.row_offsets[row + 1]
    best_begin, best_end, best_weight = end, end, -1.0
    begin = first
    for place in range(first, end):
        is_end = place + 1 == end or marks[min(points[place], 0xFFFF)] & ENDS_SENTENCE
        if points[place] == 0x2E and place + 1 < end:
            is_end |= marks[min(points[place + 1], 0xFFFF)] & BLANK
        if not is_end:
            continue
        weight, count = 0.0, 0
        while token < last_token and tokens.starts[token] <= place:
            weight += saliences[token]
            count += 1
            token += 1
        weight /= np.sqrt(count + _SHORT_SENTENCE)
        if weight > best_weight:
            best_begin, best_end, best_weight = begin, place + 1, weight
        begin = place + 1
    return best_begin, best_end


@inline_kernel
def encode_character(point: Any, at: Any, data: Any) -> Any:
    """Write a code point as UTF-8; returns where the next goes."""
    if point < 0x80:
        data[at] = point
        return at + 1
    if point < 0x800:
        data[at] = 0xC0 | (point >> 6)
        data[at + 1] = 0x80 | (point & 0x3F)
        return at + 2
    if point < 0x10000:
        data[at] = 0xE0 | (point >> 12)
        data[at + 1] = 0x80 | ((point >> 6) & 0x3F)
        data[at + 2] = 0x80 | (point & 0x3F)
        return at + 3
    data[at] = 0xF0 | (point >> 18)
    data[at + 1] = 0x80 | ((point >> 12) & 0x3F)
    data[at + 2] = 0x80 | ((point >> 6) & 0x3F)
    data[at + 3] = 0x80 | (point & 0x3F)
    return at + 4


@inline_kernel
def write_summary(points: Any, begin: Any, end: Any, marks: Any, at: Any, data: Any) -> Any:
    """Write a sentence, trimmed and cut to SUMMARY_LENGTH characters; returns where it ends."""
    while begin < end and marks[min(points[begin], 0xFFFF)] & BLANK:
        begin += 1
    is_cut = end - begin > SUMMARY_LENGTH
    if is_cut:
        end = begin + SUMMARY_LENGTH - 1
    while begin < end and marks[min(points[begin], 0xFFFF)] & SPACE:
        begin += 1
    while begin < end and marks[min(points[end - 1], 0xFFFF)] & SPACE:
        end -= 1
    for place in range(begin, end):
        at = encode_character(points[place], at, data)
    return encode_character(np.uint32(0x2026), at, data) if is_cut else at


@compile_kernel(
    *(_given(U8), _given(I64), _given(U32), PHRASES, CUES, MODEL, _given(I64)),
    *(TOKENS, HITS, I32[:, ::1], F32[:, ::1], SCRATCH, LABELS),
)
def label_texts(
    data: Any,
    byte_offsets: Any,
    characters: Any,
    phrases: Any,
    cue_tables: Any,
    model: Any,
    served: Any,
    tokens: Any,
    hits: Any,
    columns: Any,
    cues: Any,
    scratch: Any,
    labels: Any,
) -> None:
    """Fill `labels` from UTF-8, one text at a time, so that what is known of it stays in the cache.

    served: int64 [n], 2 if the language is served, 1 for a text without letters, else 0.
    tokens to scratch: room to work in, for one text, the longest.
    """
    hits.offsets[0] = tokens.point_offsets[0] = tokens.row_offsets[0] = 0
    for row in range(len(byte_offsets) - 1):
        tokens.point_offsets[1], tokens.row_offsets[1] = tokenize_text(
            data, byte_offsets[row], byte_offsets[row + 1], characters, 0, 0, 0, tokens
        )
        read_text(tokens, 0, phrases, cue_tables, hits, columns, cues[0], scratch)
        known = weigh_text(tokens, 0, columns, cues[0], model, scratch)
        choose_classes(row, served[row], known, model, scratch.margins, labels)
        lift_priority(row, served[row], cues[0], model, scratch.margins, labels)
        labels.keyword_offsets[row + 1] = pick_keywords(
            tokens, 0, hits, model, scratch.covers, labels.keyword_offsets[row], labels.keywords
        )
        begin, end = find_best_sentence(tokens, 0, model.marks, scratch.saliences)
        labels.summary_offsets[row + 1] = write_summary(
            tokens.points, begin, end, model.marks, labels.summary_offsets[row], labels.summary
        )

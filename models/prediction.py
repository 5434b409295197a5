"""Labels, scores, keywords and a summary for batches of texts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.errors import ModelError
from models.features import BatchFeatures
from models.kernels import (
    BLANK,
    ENDS_SENTENCE,
    HAN,
    HEAD_COUNT,
    MAX_KEYWORDS,
    SPACE,
    SUMMARY_LENGTH,
    Labels,
    ModelTables,
    label_texts,
)
from models.language import SERVED_LANGUAGES, detect_language
from models.priority import NO_RULE, REASONS, RULE_LEVELS
from models.tokens import Array, as_string_array, character_table, make_tokens, utf8_of
from models.training import HEADS, Model

MODEL_REASON = "model"
LABEL_SCHEMA = pa.schema(
    [
        *(
            pa.field(name, kind)
            for head in HEADS
            for name, kind in ((head, pa.string()), (f"{head}_score", pa.float64()))
        ),
        pa.field("priority_reasons", pa.list_(pa.string())),
        pa.field("is_unsure", pa.bool_()),
        pa.field("keywords", pa.list_(pa.string())),
        pa.field("summary", pa.string()),
    ]
)
# What is said of a text that the model does not serve: nothing, with the score of a guess.
_UNSERVED = {
    "feedback_type": "other",
    "need": "other",
    "sentiment": "neutral",
    "priority": "normal",
}
# Heads whose doubt makes a text unsure.
_DOUBTED = ("feedback_type", "sentiment")
_SENTENCE_ENDS = "。！？；!?;\n\r…"
_BLANKS = "\t\n\v\f\r \u00a0\u3000"
_ROWS_AT_ONCE = 1 << 16
_LINE_BYTES = 64  # of a processor's cache


class Predictor:
    """Applies a model. Building one takes about 0.1 s; it may be used for any number of batches."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._features = model.features()
        hashed = len(model.buckets)
        if model.weights.shape != (self._features.column_count, sum(map(len, HEADS.values()))):
            raise ModelError(
                f"model {model.version} does not fit this version of Hearback; train it again"
            )
        bounds = np.cumsum([0, *map(len, HEADS.values())])
        self._slices = {
            head: slice(*pair) for head, pair in zip(HEADS, itertools.pairwise(bounds), strict=True)
        }
        deciding = np.r_[self._slices["feedback_type"], self._slices["sentiment"]]
        salience = np.linalg.norm(model.weights[:hashed, deciding], axis=1) * model.idf
        # Keywords are numbered from the rarest on, so that the lowest numbers are the best.
        order = np.argsort(-model.keyword_idf, kind="stable")
        ranked = [model.keywords[number] for number in order.tolist()]
        rank = {word: number for number, word in enumerate(ranked)}
        self._keywords = pa.array(ranked, pa.string())
        self._reasons = pa.array([*REASONS, MODEL_REASON], pa.string())
        cue_names = self._features.cue_names
        self._tables = ModelTables(
            weights=_align_rows(model.weights[:hashed] * model.idf[:, None]),
            traits=_align_rows(
                np.stack([model.idf * model.idf, salience.astype(np.float32)], axis=1)
            ),
            cue_weights=model.weights[hashed:].copy(),
            intercepts=model.intercepts.astype(np.float64),
            head_bounds=bounds,
            thresholds=np.array(
                [model.thresholds[head] if head in _DOUBTED else 0.0 for head in HEADS]
            ),
            unserved=np.array([classes.index(_UNSERVED[head]) for head, classes in HEADS.items()]),
            priority_rules=np.array(
                [
                    HEADS["feedback_type"].index("complaint"),
                    HEADS["sentiment"].index("negative"),
                    NO_RULE,
                ]
            ),
            reason_columns=np.array([cue_names.index(f"reason_{reason}") for reason in REASONS]),
            reason_levels=np.array([RULE_LEVELS.index(level) for level in REASONS.values()]),
            rule_scores=np.array([model.rule_scores[level] for level in RULE_LEVELS]),
            keyword_of_entry=np.array([rank.get(word, -1) for word in self._features.phrases]),
            marks=_find_marks(),
        )

    def predict(self, texts: Any, languages: pa.Array | None = None) -> pa.Table:
        """Label texts; one row a text, in the same order, with the columns of LABEL_SCHEMA.

        `<head>_score` is the calibrated probability of the chosen label (sentiment_score too: how
        sure the sentiment is, not how strong). `languages`: codes as from `detect_language`, which
        is used where they are null or not given. Texts in other languages, and texts with nothing
        the model knows, are unsure. `priority_reasons`: rules that apply, and "model" where urgent
        or high is the model's judgement alone. `keywords`: at most five, rarest first. `summary`:
        the weightiest sentence, at most 120 characters.
        """
        strings = as_string_array(texts)
        served = self._find_served(strings, languages)
        parts = [
            self._predict_rows(strings[begin : begin + _ROWS_AT_ONCE], served[begin:])
            for begin in range(0, len(strings), _ROWS_AT_ONCE)
        ]
        if not parts:
            return LABEL_SCHEMA.empty_table()
        return pa.Table.from_batches(parts).combine_chunks()

    def explain(self, text: str, limit: int = 8) -> dict[str, list[tuple[str, float]]]:
        """The words and cues that decided each label, strongest first.

        Weights are what a word adds to the chosen label's margin over the mean of the others. What
        comes from a class of cues is shared among its words; what comes from the form of the text
        is named in brackets, such as "[question_mark]".
        """
        strings = as_string_array([text])
        found = {}
        _, part = next(self._features.iterate(strings))
        matrix = self._features.assemble(part)
        margins = matrix @ self.model.weights + self.model.intercepts
        words = self._find_words(text, part)
        for head, columns in self._slices.items():
            weights = self.model.weights[matrix.indices][:, columns]
            chosen = int(margins[0, columns].argmax())
            others = np.delete(weights, chosen, axis=1).mean(axis=1)
            shares = (weights[:, chosen] - others) * matrix.data
            total: dict[str, float] = {}
            for column, share in zip(matrix.indices.tolist(), shares.tolist(), strict=True):
                for word in words[column]:
                    total[word] = total.get(word, 0.0) + share / len(words[column])
            ranked = sorted(total.items(), key=lambda item: -item[1])
            found[head] = [(word, round(share, 4)) for word, share in ranked[:limit] if share > 0]
        return found

    def _find_served(self, strings: pa.Array, languages: pa.Array | None) -> Array:
        if languages is None:
            languages = pa.nulls(len(strings), pa.string())
        if isinstance(languages, pa.ChunkedArray):
            languages = languages.combine_chunks()
        if len(languages) != len(strings):
            raise ModelError(
                f"{len(languages)} languages for {len(strings)} texts; give one for each text"
            )
        languages = pc.utf8_lower(pc.utf8_slice_codeunits(languages.cast(pa.string()), 0, 2))
        if languages.null_count:
            unknown = pc.is_null(languages)
            detected = detect_language(strings.filter(unknown))
            languages = pc.replace_with_mask(languages, unknown, detected)
        served: Array = pc.is_in(languages, pa.array(SERVED_LANGUAGES)).to_numpy(False)
        # "und" has no letters, yet emoji and marks say something.
        undetermined: Array = pc.equal(languages, "un").to_numpy(False)
        undetermined |= pc.equal(languages, "und").to_numpy(False)
        return np.where(served, 2, np.where(undetermined, 1, 0))

    def _predict_rows(self, strings: pa.Array, served: Array) -> pa.RecordBatch:
        labels = _make_labels(strings)
        data, offsets = utf8_of(strings)
        longest = int(np.diff(offsets).max(initial=0))
        room = self._features.make_room(make_tokens(1, longest))
        label_texts(
            *(data, offsets, character_table(), *self._features.tables, self._tables),
            *(served[: len(strings)], room.tokens, room.hits, room.columns, room.cues),
            *(room.scratch, labels),
        )
        columns: list[pa.Array] = []
        for number, classes in enumerate(HEADS.values()):
            named = pa.DictionaryArray.from_arrays(labels.classes[number], pa.array(classes))
            columns += [named.cast(pa.string()), pa.array(labels.scores[number])]
        columns += [
            _list_array(labels.reason_offsets, labels.reasons, self._reasons),
            pa.array(labels.is_unsure),
            _list_array(labels.keyword_offsets, labels.keywords, self._keywords),
            pa.StringArray.from_buffers(
                len(strings),
                pa.py_buffer(labels.summary_offsets),
                pa.py_buffer(labels.summary[: labels.summary_offsets[-1]].copy()),
            ),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=LABEL_SCHEMA)

    def _find_words(self, text: str, part: BatchFeatures) -> dict[int, list[str]]:
        """The words of the text behind each column of a one-text batch."""
        tokens = part.tokens
        hashed = len(self.model.buckets)
        words: dict[int, list[str]] = {}
        for kind, columns in enumerate(part.columns.T.tolist()):
            for token, column in enumerate(columns):
                extent = kind if kind < 2 or tokens.kinds[token] == HAN else 0
                if column >= 0:
                    word = text[tokens.starts[token] : tokens.ends[token + extent]]
                    words.setdefault(column, []).append(word)
        for number, (name, places) in enumerate(self._features.locate_cues(part).items()):
            spans = [text[tokens.starts[first] : tokens.ends[end - 1]] for first, end in places]
            words[hashed + number] = spans or [f"[{name}]"]
        return words


def _align_rows(table: Array) -> Array:
    """The rows in single precision and one of zeros, none across more of the cache's lines than it
    need be.
    """
    rows, width = table.shape
    room = np.zeros((rows + 1) * width + _LINE_BYTES // 4, np.float32)
    begin = -room.ctypes.data % _LINE_BYTES // 4
    aligned: Array = room[begin : begin + (rows + 1) * width].reshape(rows + 1, width)
    aligned[:rows] = table
    return aligned


def _find_marks() -> Array:
    """What the code points below 2**16 are to a summary, by the bits of the kernels."""
    marks = np.zeros(1 << 16, np.uint8)
    marks[[ord(mark) for mark in _BLANKS]] |= BLANK
    marks[[ord(mark) for mark in _SENTENCE_ENDS]] |= ENDS_SENTENCE
    marks[[point for point in range(1 << 16) if chr(point).isspace()]] |= SPACE
    return marks


def _make_labels(strings: pa.Array) -> Labels:
    """Room for what is said of texts; memory never touched costs nothing."""
    size = len(strings)
    offsets = [np.zeros(size + 1, np.int32) for _ in range(3)]
    return Labels(
        classes=np.empty((HEAD_COUNT, size), np.int8),
        scores=np.empty((HEAD_COUNT, size), np.float64),
        is_unsure=np.empty(size, np.bool_),
        reason_offsets=offsets[0],
        reasons=np.empty(size * (len(REASONS) + 1), np.int64),
        keyword_offsets=offsets[1],
        keywords=np.empty(size * MAX_KEYWORDS, np.int64),
        summary_offsets=offsets[2],
        summary=np.empty(size * 4 * SUMMARY_LENGTH, np.uint8),
    )


def _list_array(offsets: Array, values: Array, names: pa.Array) -> pa.Array:
    """Lists of names; `values` index into them."""
    chosen = names.take(pa.array(values[: offsets[-1]]))
    return pa.ListArray.from_arrays(pa.array(offsets), chosen)

"""Labels, scores, keywords and a summary for batches of texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.errors import ModelError
from models.features import BatchFeatures
from models.keywords import MAX_KEYWORDS
from models.language import SERVED_LANGUAGES, detect_language
from models.priority import NO_RULE, REASONS, RULE_LEVELS, find_reasons, lowest_level
from models.tokens import HAN, Array, as_string_array
from models.training import HEADS, Model, softmax

SUMMARY_LENGTH = 120
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
# Share of urgent and high that makes the model's own doubt enough for a rule to count.
_LEANING = 0.3
_SENTENCE_ENDS = "。！？；!?;\n\r…"
_SHORT_SENTENCE = 4


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
        self._slices = {}
        first = 0
        for head, classes in HEADS.items():
            self._slices[head] = slice(first, first + len(classes))
            first += len(classes)
        deciding = np.r_[self._slices["feedback_type"], self._slices["sentiment"]]
        salience = np.linalg.norm(model.weights[:hashed, deciding], axis=1) * model.idf
        self._salience = np.append(salience, 0).astype(np.float32)  # the last for "no column"
        # Keywords are numbered from the rarest on, so that sorting numbers puts the best first.
        order = np.argsort(-model.keyword_idf, kind="stable")
        ranked = [model.keywords[number] for number in order.tolist()]
        rank = {word: number for number, word in enumerate(ranked)}
        phrases = self._features.phrases
        self._keyword_of_entry = np.array([rank.get(phrase, -1) for phrase in phrases])
        self._keywords = pa.array(ranked, pa.string())
        self._reasons = pa.array([*REASONS, MODEL_REASON], pa.string())

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
            self._predict_chunk(part, served[first : first + part.tokens.row_count])
            for first, part in self._features.iterate(strings)
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
        margins = part.matrix @ self.model.weights + self.model.intercepts
        words = self._find_words(text, part)
        for head, columns in self._slices.items():
            weights = self.model.weights[part.matrix.indices][:, columns]
            chosen = int(margins[0, columns].argmax())
            others = np.delete(weights, chosen, axis=1).mean(axis=1)
            shares = (weights[:, chosen] - others) * part.matrix.data
            total: dict[str, float] = {}
            for column, share in zip(part.matrix.indices.tolist(), shares.tolist(), strict=True):
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

    def _predict_chunk(self, part: BatchFeatures, served: Array) -> pa.RecordBatch:
        # One row a class: reducing along the long axis is several times faster.
        margins = np.ascontiguousarray((part.matrix @ self.model.weights).T, np.float64)
        margins += self.model.intercepts[:, None]
        labels: dict[str, Array] = {}
        scores: dict[str, Array] = {}
        probabilities: dict[str, Array] = {}
        unsure = served < 2
        for head, place in self._slices.items():
            head_probabilities = softmax(margins[place], axis=0)
            labels[head] = head_probabilities.argmax(axis=0)
            scores[head] = head_probabilities.max(axis=0)
            probabilities[head] = head_probabilities
            if head in ("feedback_type", "sentiment"):
                unsure = unsure | (scores[head] < self.model.thresholds[head])
        known = np.bincount(
            np.repeat(np.arange(part.tokens.row_count), np.diff(part.matrix.indptr)),
            minlength=part.tokens.row_count,
        )
        unsure = unsure | (known <= 2)
        for head, classes in HEADS.items():
            labels[head][served == 0] = classes.index(_UNSERVED[head])
            scores[head][served == 0] = 1 / len(classes)
        reasons = self._lift_priority(part, labels, scores, probabilities, served)
        reason_rows, reason_numbers = np.nonzero(reasons)
        columns: list[pa.Array] = []
        for head, classes in HEADS.items():
            numbers = pa.array(labels[head].astype(np.int8))
            named = pa.DictionaryArray.from_arrays(numbers, pa.array(classes))
            columns += [named.cast(pa.string()), pa.array(scores[head])]
        columns += [
            _list_array(reason_rows, reason_numbers, len(reasons), self._reasons),
            pa.array(unsure),
            self._find_keywords(part),
            self._summarise(part),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=LABEL_SCHEMA)

    def _lift_priority(
        self,
        part: BatchFeatures,
        labels: dict[str, Array],
        scores: dict[str, Array],
        probabilities: dict[str, Array],
        served: Array,
    ) -> Array:
        """Raise priorities to what the rules ask for; returns bool [n, reasons + "model"]."""
        complaint = HEADS["feedback_type"].index("complaint")
        negative = HEADS["sentiment"].index("negative")
        leaning = probabilities["priority"][:2].sum(axis=0) >= _LEANING
        counts = (
            (labels["feedback_type"] == complaint) | (labels["sentiment"] == negative) | leaning
        )
        reasons = find_reasons(part.cues, self._features.cue_names)
        reasons &= (counts & (served > 0))[:, None]
        wanted = lowest_level(reasons)
        lifted = wanted < labels["priority"]
        rule_scores = np.array([self.model.rule_scores[level] for level in RULE_LEVELS])
        own = np.take_along_axis(
            probabilities["priority"], np.minimum(wanted, NO_RULE - 1)[None, :], axis=0
        )[0]
        raised = np.maximum(own, rule_scores[np.minimum(wanted, NO_RULE - 1)])
        scores["priority"] = np.where(lifted, raised, scores["priority"])
        labels["priority"] = np.where(lifted, wanted, labels["priority"])
        by_model = (labels["priority"] < 2) & (wanted > labels["priority"])
        return np.column_stack([reasons, by_model])

    def _find_keywords(self, part: BatchFeatures) -> pa.Array:
        tokens, hits = part.tokens, part.hits
        keywords = np.take(self._keyword_of_entry, hits.entries)
        kept = keywords >= 0
        keywords, starts, lengths = keywords[kept], hits.starts[kept], hits.lengths[kept]
        # Of overlapping words only the longest is kept; a Chinese word must not straddle a gap.
        cover = np.zeros(len(tokens.hashes) + 4, np.int8)
        for length in range(1, 5):
            here = starts[lengths == length]
            for step in range(length):
                cover[here + step] = length
        last = starts + lengths - 1
        whole = tokens.ends[last] - tokens.starts[starts] == lengths
        whole |= tokens.kinds[starts] != HAN
        longest = (cover[starts] == lengths) & (cover[last] == lengths) & whole
        keywords, rows = keywords[longest], tokens.rows[starts[longest]]
        pairs = np.sort(rows * len(self._keywords) + keywords)
        pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)]]
        rows, keywords = np.divmod(pairs, max(len(self._keywords), 1))
        counts = np.bincount(rows, minlength=tokens.row_count)
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        top = rank < MAX_KEYWORDS
        return _list_array(rows[top], keywords[top], tokens.row_count, self._keywords)

    def _summarise(self, part: BatchFeatures) -> pa.Array:
        """The sentence whose words weigh most in type and sentiment, cut to 120 characters."""
        tokens = part.tokens
        points, size = tokens.points, tokens.row_count
        if not len(points):
            return pa.array([""] * size, pa.string())
        first = _find_sentences(points, tokens.point_offsets)
        row_of = np.searchsorted(tokens.point_offsets, first, side="right") - 1
        weights = np.zeros(len(tokens.hashes) + 1, np.float32)
        for columns in part.columns_of_grams:
            weights[: len(columns)] += np.take(self._salience, columns)
        token_bounds = np.append(np.searchsorted(tokens.starts, first), len(tokens.starts))
        count = np.diff(token_bounds)
        sentence = np.repeat(np.arange(len(first)), count)
        total = np.bincount(sentence, weights[:-1], minlength=len(first))
        order = np.lexsort(
            (-np.arange(len(first)), total / np.sqrt(count + _SHORT_SENTENCE), row_of)
        )
        best = np.full(size, len(first))
        best[row_of[order]] = order
        begin = np.append(first, len(points))[best]
        end = np.append(first[1:], [len(points)] * 2)[best]
        begin = np.minimum(_skip_blanks(points, begin), end)
        cut = end - begin > SUMMARY_LENGTH
        end = np.where(cut, begin + SUMMARY_LENGTH - 1, end)
        summary = pc.utf8_trim_whitespace(_slice_texts(points, begin, end))
        if not cut.any():
            return summary
        return pc.if_else(pa.array(cut), pc.binary_join_element_wise(summary, "…", ""), summary)

    def _find_words(self, text: str, part: BatchFeatures) -> dict[int, list[str]]:
        """The words of the text behind each column of a one-text batch."""
        tokens = part.tokens
        hashed = len(self.model.buckets)
        words: dict[int, list[str]] = {}
        for kind, columns in enumerate(part.columns_of_grams):
            for token, column in enumerate(columns.tolist()):
                extent = kind if kind < 2 or tokens.kinds[token] == HAN else 0
                if column >= 0:
                    word = text[tokens.starts[token] : tokens.ends[token + extent]]
                    words.setdefault(column, []).append(word)
        for number, (name, places) in enumerate(self._features.locate_cues(part).items()):
            spans = [text[tokens.starts[first] : tokens.ends[end - 1]] for first, end in places]
            words[hashed + number] = spans or [f"[{name}]"]
        return words


def _table_of(marks: str) -> Array:
    table = np.zeros(0x10000, bool)
    table[[ord(mark) for mark in marks]] = True
    return table


_IS_BLANK = _table_of("\t\n\v\f\r \u00a0\u3000")
_ENDS_SENTENCE = _table_of(_SENTENCE_ENDS)


def _find_sentences(points: Array, offsets: Array) -> Array:
    """Where sentences start, ascending; a full stop ends one only before a blank."""
    narrow = np.minimum(points, 0xFFFF)
    ends = np.take(_ENDS_SENTENCE, narrow)
    stops = np.flatnonzero(narrow[:-1] == ord("."))
    ends[stops[np.take(_IS_BLANK, narrow[stops + 1])]] = True
    is_start = np.zeros(len(points) + 1, bool)
    is_start[1:] = ends
    is_start[offsets] = True
    return np.flatnonzero(is_start[:-1])


def _skip_blanks(points: Array, begin: Array) -> Array:
    """The first places at or after `begin` that are not blank."""
    while True:
        here = np.take(points, begin, mode="clip")
        is_blank = np.take(_IS_BLANK, np.minimum(here, 0xFFFF)) & (begin < len(points))
        if not is_blank.any():
            return begin
        begin = begin + is_blank


def _slice_texts(points: Array, begin: Array, end: Array) -> pa.Array:
    """points[begin[i]:end[i]] as strings."""
    lengths = np.maximum(end - begin, 0)
    total = int(lengths.sum())
    places = np.arange(total) + np.repeat(begin - (np.cumsum(lengths) - lengths), lengths)
    chosen = points[places]
    sizes = 1 + (chosen > 0x7F) + (chosen > 0x7FF) + (chosen > 0xFFFF).astype(np.int64)
    through = np.concatenate([[0], np.cumsum(sizes)])
    offsets = through[np.concatenate([[0], np.cumsum(lengths)])].astype(np.int32)
    data = chosen.astype("<u4").tobytes().decode("utf-32-le").encode("utf-8")
    return pa.StringArray.from_buffers(len(begin), pa.py_buffer(offsets), pa.py_buffer(data))


def _list_array(rows: Array, values: Array, size: int, names: pa.Array) -> pa.Array:
    """Lists of names by row; `rows` ascending, `values` index into names."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=size))])
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), names.take(pa.array(values, pa.int64()))
    )

"""Learns the four labels from labelled texts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import sklearn
from scipy import sparse
from scipy.optimize import minimize_scalar
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from models.errors import ModelError
from models.evaluation import measure_head
from models.features import FEATURES_VERSION, TextFeatures
from models.keywords import build_vocabulary
from models.lexicon import load_lexicon
from models.priority import RULE_LEVELS, find_rule_levels
from models.tokens import Array, as_string_array

HEADS: dict[str, tuple[str, ...]] = {
    "feedback_type": ("suggestion", "complaint", "praise", "question", "other"),
    "need": ("sales", "technical", "after_sales", "other"),
    "sentiment": ("positive", "neutral", "negative"),
    "priority": ("urgent", "high", "normal", "low"),
}
LABEL_COLUMNS = ("text", "language", *HEADS)
MODEL_FORMAT = "1.0"
FOLDS = 5
DEFAULT_SEED = 20
_PENALTY = 0.3
_MIN_TEXTS = 2
# A label is unsure when labels with scores like it or lower are wrong more often than this, and
# no head calls more than this share of the held-out texts unsure.
_TOLERATED_ERROR = 0.4
_LARGEST_UNSURE_SHARE = 0.12


@dataclass
class Model:
    """A trained model. Scores of a head = softmax(features @ weights + intercepts)[its columns].

    buckets: uint32 [hashed columns]; idf: float32 [hashed columns]
    weights: float32 [columns, 16], the four heads side by side in the order of HEADS
    intercepts: float32 [16]; thresholds: lowest score that is not unsure, by head
    rule_scores: share of held-out texts lifted to a level by a rule that were at least that urgent
    """

    buckets: Array
    idf: Array
    weights: Array
    intercepts: Array
    thresholds: dict[str, float]
    rule_scores: dict[str, float]
    keywords: list[str]
    keyword_idf: Array
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> str:
        return str(self.metadata["model_version"])

    def fingerprint(self) -> str:
        """The version that the content has: equal content, equal version."""
        digest = hashlib.sha256()
        for part in (self.buckets, self.idf, self.weights, self.intercepts, self.keyword_idf):
            # Rounded, so that the last bit of a sum does not make another version.
            digest.update(np.round(part.astype(np.float64), 4).tobytes())
        rest = [self.keywords, expected_ingredients(), sklearn.__version__]
        digest.update(json.dumps([*rest, self.thresholds, self.rule_scores]).encode())
        return f"{MODEL_FORMAT}-{digest.hexdigest()[:12]}"

    def features(self) -> TextFeatures:
        features = TextFeatures(_MIN_TEXTS, tuple(self.keywords))
        return features.restore(self.buckets, self.idf)


def default_labels() -> pd.DataFrame:
    """The labelled texts that come with Hearback."""
    with resources.files("models").joinpath("labels/feedback_labels.csv").open("rb") as file:
        return read_labels(file, "feedback_labels.csv")


def read_labels(source: Any, name: str) -> pd.DataFrame:
    """Labelled texts from a CSV path or file; ModelError if columns or labels are not known."""
    try:
        table = pa_csv.read_csv(
            source,
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(LABEL_COLUMNS, pa.string()), strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"cannot read labels from {name}: {reason}; give a UTF-8 CSV") from error
    return check_labels(table.to_pandas(), name)


def check_labels(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The label columns as strings; ModelError names the first column or row that is wrong."""
    missing = [column for column in LABEL_COLUMNS if column not in frame]
    if missing:
        raise ModelError(
            f"{name}: no column {missing[0]!r}; labels need the columns {', '.join(LABEL_COLUMNS)}"
        )
    for head, classes in HEADS.items():
        wrong = frame.index[~frame[head].isin(classes)]
        if len(wrong):
            raise ModelError(
                f"{name}, row {frame.index.tolist().index(wrong[0]) + 1}: {head} "
                f"{frame[head].loc[wrong[0]]!r} is none of {', '.join(classes)}; mend the label"
            )
    return frame.loc[:, list(LABEL_COLUMNS)].astype(object).reset_index(drop=True)


def train(frame: pd.DataFrame | pa.Table, *, seed: int = DEFAULT_SEED) -> Model:
    """Train all heads; the same rows and seed give the same model and model_version.

    frame: LABEL_COLUMNS, one row per text; every class of every head at least five times.
    Scores are calibrated on held-out folds (one temperature per head); the measures in the metadata
    are of the same folds, with features learned without the held-out texts.
    """
    labels = check_labels(frame.to_pandas() if isinstance(frame, pa.Table) else frame, "labels")
    labels = labels.drop_duplicates("text").sort_values("text", ignore_index=True)
    _check_counts(labels)
    texts = as_string_array(labels["text"].tolist())
    margins, rule_levels = _hold_out(labels, texts, seed)

    keywords, keyword_idf = build_vocabulary(labels["text"])
    features = TextFeatures(_MIN_TEXTS).fit(texts)
    matrix = features.transform(texts)
    weights, intercepts, thresholds, measures = [], [], {}, []
    chosen: dict[str, Array] = {}
    for head, classes in HEADS.items():
        truth = labels[head].to_numpy(object)
        temperature = _fit_temperature(margins[head], _class_numbers(truth, classes))
        probabilities = softmax(margins[head] / temperature)
        chosen[head] = np.array(classes, object)[probabilities.argmax(axis=1)]
        thresholds[head] = _find_threshold(probabilities.max(axis=1), chosen[head] == truth)
        measures.append(
            measure_head(
                head,
                classes,
                truth=truth,
                predicted=chosen[head],
                probabilities=probabilities,
                languages=labels["language"].to_numpy(object),
            )
        )
        classifier = _fit_head(matrix, truth, classes, seed)
        weights.append(classifier[0].T / temperature)
        intercepts.append(classifier[1] / temperature)

    model = Model(
        buckets=features.buckets_,
        idf=features.idf_,
        weights=np.ascontiguousarray(np.hstack(weights), np.float32),
        intercepts=np.concatenate(intercepts).astype(np.float32),
        thresholds=thresholds,
        rule_scores=_score_rules(labels, chosen, rule_levels),
        keywords=keywords,
        keyword_idf=np.array(keyword_idf, np.float32),
    )
    model.metadata = _describe(model, labels, pd.concat(measures, ignore_index=True), seed)
    return model


def softmax(margins: Array, axis: int = 1) -> Array:
    """Margins, of which `axis` runs over the classes, to probabilities."""
    shifted = np.exp(margins - margins.max(axis=axis, keepdims=True))
    return shifted / shifted.sum(axis=axis, keepdims=True)


def labels_digest(labels: pd.DataFrame) -> str:
    """sha256 over the label columns, whatever the order of the rows."""
    lines = sorted("\x1f".join(row) for row in labels.itertuples(index=False))
    return hashlib.sha256("\x1e".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def expected_ingredients() -> dict[str, str]:
    """What a model must have been built with to be used by this code."""
    return {
        "format": MODEL_FORMAT,
        "features": FEATURES_VERSION,
        "cues_sha256": load_lexicon().digest,
    }


def _hold_out(labels: pd.DataFrame, texts: pa.Array, seed: int) -> tuple[dict[str, Array], Array]:
    """Margins [n, classes] of every text from models that have not seen it, and its rule level."""
    strata = labels["language"] + labels["feedback_type"]
    margins = {head: np.zeros((len(labels), len(classes))) for head, classes in HEADS.items()}
    rule_levels = np.zeros(len(labels), np.int64)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for seen, unseen in folds.split(np.zeros(len(labels)), strata):
        features = TextFeatures(_MIN_TEXTS).fit(texts.take(pa.array(seen)))
        matrix = features.transform(texts.take(pa.array(seen)))
        held_out = features.transform(texts.take(pa.array(unseen)))
        cues = held_out[:, len(features.buckets_) :].toarray()
        rule_levels[unseen] = find_rule_levels(cues, features.cue_names)
        for head, classes in HEADS.items():
            truth = labels[head].to_numpy(object)[seen]
            weights, intercepts = _fit_head(matrix, truth, classes, seed)
            margins[head][unseen] = held_out @ weights.T + intercepts
    return margins, rule_levels


def _fit_head(
    matrix: sparse.csr_matrix, truth: Array, classes: tuple[str, ...], seed: int
) -> tuple[Array, Array]:
    """Weights [classes, columns] and intercepts [classes] of one-against-the-rest linear models."""
    classifier = LinearSVC(C=_PENALTY, class_weight="balanced", random_state=seed, max_iter=5000)
    classifier.fit(matrix, _class_numbers(truth, classes))
    return classifier.coef_, classifier.intercept_


def _class_numbers(truth: Array, classes: tuple[str, ...]) -> Array:
    return np.array([classes.index(label) for label in truth])


def _fit_temperature(margins: Array, truth: Array) -> float:
    """The divisor of margins with the least log loss (Guo et al. 2017, temperature scaling)."""

    def log_loss(log_temperature: float) -> float:
        probabilities = softmax(margins / np.exp(log_temperature))
        return float(-np.log(probabilities[np.arange(len(truth)), truth] + 1e-12).mean())

    return float(np.exp(minimize_scalar(log_loss, bounds=(-4, 3), method="bounded").x))


def _find_threshold(scores: Array, is_right: Array) -> float:
    order = np.argsort(scores, kind="stable")
    wrong_so_far = np.cumsum(~is_right[order]) / np.arange(1, len(scores) + 1)
    largest = int(len(scores) * _LARGEST_UNSURE_SHARE)
    tolerable = np.flatnonzero(wrong_so_far[:largest] > _TOLERATED_ERROR)
    return float(scores[order][tolerable[-1]]) if len(tolerable) else float(scores.min())


def _score_rules(
    labels: pd.DataFrame, chosen: dict[str, Array], rule_levels: Array
) -> dict[str, float]:
    """Share of texts with a rule of a level, in complaints, that are at least so urgent."""
    truth = _class_numbers(labels["priority"].to_numpy(object), HEADS["priority"])
    is_blame = (chosen["feedback_type"] == "complaint") | (chosen["sentiment"] == "negative")
    scores = {}
    for number, level in enumerate(RULE_LEVELS):
        lifted = is_blame & (rule_levels == number)
        # One imagined hit and one imagined miss keep the share off 0 and 1 where examples are few.
        scores[level] = float(((truth[lifted] <= number).sum() + 1) / (lifted.sum() + 2))
    return scores


def _check_counts(labels: pd.DataFrame) -> None:
    for head, classes in HEADS.items():
        counts = labels[head].value_counts()
        for name in classes:
            if counts.get(name, 0) < FOLDS:
                raise ModelError(
                    f"only {counts.get(name, 0)} different texts are labelled {head}={name}; "
                    f"training needs at least {FOLDS} of each: add labelled texts"
                )


def _describe(
    model: Model, labels: pd.DataFrame, measures: pd.DataFrame, seed: int
) -> dict[str, Any]:
    return {
        "model_version": model.fingerprint(),
        **expected_ingredients(),
        "sklearn": sklearn.__version__,
        "seed": seed,
        "labels_sha256": labels_digest(labels),
        "label_counts": {
            head: {name: int((labels[head] == name).sum()) for name in classes}
            for head, classes in HEADS.items()
        },
        "language_counts": {
            str(name): int(count) for name, count in labels["language"].value_counts().items()
        },
        "thresholds": model.thresholds,
        "rule_scores": model.rule_scores,
        "measures": json.loads(measures.to_json(orient="records")),
    }

"""How good labels are: per class, per head, per language, and how honest the scores are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from models.tokens import Array

CALIBRATION_BINS = 10
MEASURE_COLUMNS = (
    "head",
    "language",
    "label",
    "count",
    "accuracy",
    "precision",
    "recall",
    "f1",
    "ece",
    "brier",
)


def measure_head(
    head: str,
    classes: tuple[str, ...],
    *,
    truth: Array,
    predicted: Array,
    probabilities: Array,
    languages: Array,
) -> pd.DataFrame:
    """Measures of one head: a row per language ("all" too) and class, and one with label "macro".

    truth, predicted: class names [n]; probabilities: [n, classes]; languages: [n].
    accuracy of a class = (TP + TN) / (TP + TN + FP + FN); of "macro": share of right labels.
    precision, recall and f1 are 0 where undefined; macro rows are the mean over the classes that
    occur in truth. ece and brier (macro rows only, NaN elsewhere): expected calibration error of
    the chosen label's score over ten equal bins, and the mean squared error of all scores.
    """
    rows = []
    for language in ("all", *sorted(set(languages.tolist()) - {"all"})):
        chosen = np.ones(len(truth), bool) if language == "all" else languages == language
        here = [
            _measure_class(truth[chosen] == name, predicted[chosen] == name) for name in classes
        ]
        occurring = [row for row in here if row["count"]]
        rows += [
            {"head": head, "language": language, "label": name, **row, "ece": None, "brier": None}
            for name, row in zip(classes, here, strict=True)
        ]
        rows.append(
            {
                "head": head,
                "language": language,
                "label": "macro",
                "count": int(chosen.sum()),
                "accuracy": float((truth[chosen] == predicted[chosen]).mean())
                if any(chosen)
                else 0,
                **{
                    name: float(np.mean([row[name] for row in occurring])) if occurring else 0.0
                    for name in ("precision", "recall", "f1")
                },
                **_measure_scores(classes, truth[chosen], probabilities[chosen]),
            }
        )
    return pd.DataFrame(rows, columns=list(MEASURE_COLUMNS))


def _measure_class(truth: Array, predicted: Array) -> dict[str, Any]:
    true_positive = int((truth & predicted).sum())
    false_positive = int((~truth & predicted).sum())
    false_negative = int((truth & ~predicted).sum())
    true_negative = len(truth) - true_positive - false_positive - false_negative
    return {
        "count": int(truth.sum()),
        "accuracy": (true_positive + true_negative) / max(len(truth), 1),
        "precision": true_positive / max(true_positive + false_positive, 1),
        "recall": true_positive / max(true_positive + false_negative, 1),
        "f1": 2 * true_positive / max(2 * true_positive + false_positive + false_negative, 1),
    }


def _measure_scores(
    classes: tuple[str, ...], truth: Array, probabilities: Array
) -> dict[str, float]:
    if not len(truth):
        return {"ece": 0.0, "brier": 0.0}
    wanted = truth[:, None] == np.array(classes)[None, :]
    brier = float(((probabilities - wanted) ** 2).sum(axis=1).mean())
    score = probabilities.max(axis=1)
    right = wanted[np.arange(len(truth)), probabilities.argmax(axis=1)]
    bins = np.minimum((score * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    sizes = np.bincount(bins, minlength=CALIBRATION_BINS)
    gaps = np.abs(
        np.bincount(bins, score, CALIBRATION_BINS) - np.bincount(bins, right, CALIBRATION_BINS)
    )
    return {"ece": float(gaps.sum() / sizes.sum()), "brier": brier}


def evaluate_predictions(
    truth: pd.DataFrame, predicted: pd.DataFrame, heads: dict[str, tuple[str, ...]]
) -> pd.DataFrame:
    """Measures of labels against truth, all heads that truth has; frames row by row the same texts.

    truth: a column per head and optionally `language`; predicted: `<head>` and `<head>_score`.
    Only the chosen label's score is known here: the rest is spread evenly for `brier`.
    """
    parts = []
    languages = (
        truth["language"].to_numpy(object)
        if "language" in truth
        else np.full(len(truth), "all", object)
    )
    for head, classes in heads.items():
        if head not in truth:
            continue
        labels = predicted[head].to_numpy(object)
        scores = predicted[f"{head}_score"].to_numpy(float)
        chosen = labels[:, None] == np.array(classes)[None, :]
        rest = (1 - scores) / (len(classes) - 1)
        probabilities = np.where(chosen, scores[:, None], rest[:, None])
        parts.append(
            measure_head(
                head,
                classes,
                truth=truth[head].to_numpy(object),
                predicted=labels,
                probabilities=probabilities,
                languages=languages,
            )
        )
    return pd.concat(parts, ignore_index=True)

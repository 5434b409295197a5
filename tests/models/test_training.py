"""Training: deterministic, honest, and plain about labels it cannot use."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from models.errors import ModelError
from models.evaluation import evaluate_predictions, measure_head
from models.training import HEADS, Model, default_labels, read_labels, train


def test_shipped_labels_cover_every_class_in_both_languages() -> None:
    counts = default_labels().groupby(["language", "feedback_type"]).size()
    for language in ("en", "zh"):
        for name in HEADS["feedback_type"]:
            assert counts.loc[(language, name)] >= 200, (language, name)


def test_shipped_labels_hold_no_text_twice() -> None:
    assert not default_labels()["text"].duplicated().any()


def test_same_labels_in_any_order_give_the_same_version(model: Model) -> None:
    shuffled = default_labels().sample(frac=1, random_state=3)
    again = train(pa.Table.from_pandas(shuffled, preserve_index=False))
    assert again.version == model.version
    assert np.array_equal(again.weights, model.weights)


def test_another_label_gives_another_version(model: Model) -> None:
    labels = default_labels()
    is_praise = labels["feedback_type"] == "praise"
    labels.loc[labels.index[is_praise][0], "sentiment"] = "negative"
    assert train(labels).version != model.version


@pytest.mark.parametrize(
    ("head", "least"),
    [("feedback_type", 0.75), ("need", 0.55), ("sentiment", 0.75), ("priority", 0.7)],
)
def test_held_out_quality(model: Model, head: str, least: float) -> None:
    rows = [
        row for row in model.metadata["measures"] if row["head"] == head and row["label"] == "macro"
    ]
    by_language = {row["language"]: row for row in rows}
    assert by_language["all"]["f1"] >= least
    assert by_language["all"]["ece"] <= 0.06
    assert set(by_language) == {"all", "en", "zh"}


def test_metadata_says_what_the_model_was_made_of(model: Model) -> None:
    labels = default_labels()
    assert model.metadata["label_counts"]["need"]["sales"] == (labels["need"] == "sales").sum()
    assert model.metadata["language_counts"] == labels["language"].value_counts().to_dict()
    assert len(model.metadata["labels_sha256"]) == 64


def test_measures_by_hand() -> None:
    truth = np.array(["a", "a", "b", "b"], object)
    predicted = np.array(["a", "b", "b", "b"], object)
    probabilities = np.array([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9], [0.3, 0.7]])
    rows = measure_head(
        "head",
        ("a", "b"),
        truth=truth,
        predicted=predicted,
        probabilities=probabilities,
        languages=np.array(["en"] * 4, object),
    )
    whole = rows[rows["language"] == "all"].to_dict("records")
    a, b, macro = whole
    assert (a["accuracy"], a["precision"], a["recall"]) == (0.75, 1.0, 0.5)
    assert (b["accuracy"], b["recall"], b["count"]) == (0.75, 1.0, 2)
    assert b["precision"] == pytest.approx(2 / 3)
    assert macro["accuracy"] == 0.75
    assert macro["f1"] == pytest.approx((2 / 3 + 0.8) / 2)
    assert macro["brier"] == pytest.approx((2 * 0.2**2 + 2 * 0.6**2 + 2 * 0.1**2 + 2 * 0.3**2) / 4)
    # Bins 0.6, 0.7, 0.8 and 0.9 hold one text each.
    assert macro["ece"] == pytest.approx((0.6 + 0.3 + 0.2 + 0.1) / 4)


def test_evaluation_of_predictions_leaves_out_heads_without_truth() -> None:
    truth = pd.DataFrame({"sentiment": ["positive", "negative"]})
    predicted = pd.DataFrame({"sentiment": ["positive"] * 2, "sentiment_score": [0.9, 0.5]})
    measures = evaluate_predictions(truth, predicted, HEADS)
    assert set(measures["head"]) == {"sentiment"}
    macro = measures[(measures["label"] == "macro") & (measures["language"] == "all")]
    assert macro["accuracy"].tolist() == [0.5]


def test_unknown_label_is_named() -> None:
    labels = default_labels().head(3)
    labels.loc[1, "priority"] = "asap"
    with pytest.raises(ModelError, match="row 2: priority 'asap'"):
        train(labels)


def test_missing_column_is_named() -> None:
    with pytest.raises(ModelError, match="no column 'need'"):
        train(default_labels().drop(columns="need"))


def test_too_few_examples_are_named() -> None:
    labels = default_labels()
    with pytest.raises(ModelError, match="need=sales"):
        train(labels[labels["need"] != "sales"])


def test_file_that_is_no_csv_is_refused() -> None:
    with pytest.raises(ModelError, match=r"cannot read labels from x\.csv"):
        read_labels(io.BytesIO(b""), "x.csv")

"""The same work done the straightforward way: one pandas frame, from the file to the lists.

Great Expectations on the whole frame with its pages, regular expressions through ``Series.str``,
TfidfVectorizer and LogisticRegression, ``groupby``, ``to_excel``: what the libraries' own guides
show. Called by run_bench; ``python -m tests.bench.plain_line RECORDS FOLDER TASKS``.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.measure import Meter

METER = Meter(float(os.environ.get("BENCH_BEGAN", time.time())))

import great_expectations as gx  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from scipy.stats import binom, false_discovery_control  # noqa: E402
from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402

from tests.bench.records import NOW  # noqa: E402

LABELS = Path(__file__).parents[2] / "models/labels/feedback_labels.csv"
HEADS = ("feedback_type", "need", "sentiment", "priority")
TOKENS = r"(?u)[a-zA-Z0-9']+|[\u4e00-\u9fff]"
WORDS = re.compile(TOKENS)
GAP = pd.Timedelta(days=30)
PERSONAL = {
    "email": r"[A-Za-z0-9._%+\-]+@[A-Za-z0-9.\-]+\.[A-Za-z]{2,}",
    "id_card": r"\b\d{6}(?:19|20)\d{9}[\dXx]\b",
    "bank_card": r"\b\d(?:[ \-]?\d){14,18}\b",
    "phone": r"(?:\+?86[ \-]?)?1[3-9]\d[ \-]?\d{4}[ \-]?\d{4}|\(\d{3}\) ?\d{3}-\d{4}"
    r"|\b0\d{4} \d{6}\b|\+\d{1,3}[ \-]\d{2,5}(?:[ \-]\d{2,5}){1,4}",
    "ip_address": r"\b\d{1,3}(?:\.\d{1,3}){3}\b",
}
TEAM_OF_NEED = {"technical": "technical", "after_sales": "after_sales"}
HOURS_OF_PRIORITY = {"urgent": 2, "high": 8, "normal": 24, "low": 72}


def read_records(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """(records, lines that are no JSON)."""
    rows, broken = [], []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                rows.append(json.loads(line))
            except ValueError:
                broken.append(line)
    return pd.DataFrame(rows), broken


def validate(frame: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(good rows, quarantined rows with reasons), judged by GX on the whole frame.

    The checkpoint leaves its pages (Data Docs) in ``folder``.
    """
    frame = frame.reset_index(names="row")
    frame["stars_number"] = pd.to_numeric(frame["stars"], errors="coerce")
    frame["created_at"] = pd.to_datetime(
        frame["created"], errors="coerce", utc=True, format="ISO8601"
    ).dt.tz_localize(None)
    frame["said"] = frame["text"].str.strip()
    e: Any = gx.expectations
    latest = NOW.replace(tzinfo=None)
    checks = [
        ("missing_id", e.ExpectColumnValuesToNotBeNull(column="id")),
        ("conflicting_duplicate_id", e.ExpectColumnValuesToBeUnique(column="id")),
        ("impossible_date", e.ExpectColumnValuesToNotBeNull(column="created_at")),
        ("impossible_date", e.ExpectColumnValuesToBeBetween(
            column="created_at", min_value=pd.Timestamp("1995-01-01"), max_value=latest)),
        ("not_a_number", e.ExpectColumnValuesToNotBeNull(column="stars_number")),
        ("rating_out_of_scale", e.ExpectColumnValuesToBeBetween(
            column="stars_number", min_value=1, max_value=5)),
        ("empty_text", e.ExpectColumnValueLengthsToBeBetween(column="said", min_value=1)),
        ("oversized_text", e.ExpectColumnValueLengthsToBeBetween(
            column="text", max_value=20_000)),
        ("control_characters", e.ExpectColumnValuesToNotMatchRegex(
            column="text", regex="[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f]")),
        ("wrong_encoding", e.ExpectColumnValuesToNotMatchRegex(column="text", regex="\ufffd")),
    ]  # fmt: skip
    context = gx.get_context(mode="file", project_root_dir=folder)
    batch = (
        context.data_sources.add_pandas("line")
        .add_dataframe_asset("feedback")
        .add_batch_definition_whole_dataframe("all")
    )
    suite = gx.ExpectationSuite(name="feedback", expectations=[check for _, check in checks])
    definition = gx.ValidationDefinition(
        name="feedback", data=batch, suite=context.suites.add(suite)
    )
    checkpoint = gx.Checkpoint(
        name="feedback",
        validation_definitions=[context.validation_definitions.add(definition)],
        actions=[gx.checkpoint.UpdateDataDocsAction(name="pages")],
        result_format={
            "result_format": "COMPLETE",
            "unexpected_index_column_names": ["row"],
            "include_unexpected_rows": False,
        },
    )
    found = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame})
    [outcome] = found.run_results.values()
    reasons: dict[int, list[str]] = {}
    for (reason, _), result in zip(checks, outcome.results, strict=True):
        for found in result.result.get("unexpected_index_list") or []:
            reasons.setdefault(int(found["row"]), []).append(reason)
    is_bad = frame["row"].isin(list(reasons))
    quarantine = frame[is_bad].assign(reasons=frame.loc[is_bad, "row"].map(reasons))
    return frame[~is_bad].copy(), quarantine


def clean(frame: pd.DataFrame) -> pd.DataFrame:
    """Markup and personal data out, language and duplicates found."""
    body = frame["text"].str.replace(r"<[^>]+>", " ", regex=True)
    body = body.str.replace(r"[ \t\u3000]+", " ", regex=True).str.strip()
    for kind, pattern in PERSONAL.items():
        body = body.str.replace(pattern, f"<{kind}>", regex=True)
    frame["body"] = body
    count_han = body.str.count(r"[\u4e00-\u9fff]")
    frame["language"] = np.where(count_han / body.str.len().clip(lower=1) > 0.15, "zh", "en")
    frame = frame.sort_values("created_at")
    key = body.str.lower().str.replace(r"[\W_]+", "", regex=True).loc[frame.index]
    frame["key"] = key
    first = frame.groupby(["user", "product", "key"])["id"].transform("first")
    frame["duplicate_of"] = first.where(first != frame["id"])
    near = find_near_duplicates(frame[frame["duplicate_of"].isna()])
    frame["duplicate_of"] = frame["duplicate_of"].fillna(frame["id"].map(near))
    return frame


def find_near_duplicates(frame: pd.DataFrame) -> dict[str, str]:
    """Id → id of the earlier text of the same customer about the same product that is nearly it.

    Jaccard similarity of pairs of words or Han characters, as Hearback has it.
    """
    frame = frame[frame["body"].str.len() >= 15]
    frame = frame[frame.duplicated(["user", "product"], keep=False)]
    frame = frame.sort_values(["user", "product", "created_at"])
    found: dict[str, str] = {}
    group: tuple[str, str] | None = None
    earlier: list[tuple[str, pd.Timestamp, set[tuple[str, str]]]] = []
    columns = (frame[name] for name in ("id", "user", "product", "created_at", "body"))
    for record, user, product, at, body in zip(*columns, strict=True):
        words = WORDS.findall(body.lower())
        pairs = set(itertools.pairwise(words))
        if group != (user, product):
            group, earlier = (user, product), []
        for other, before, others in earlier:
            if at - before > GAP or min(len(pairs), len(others)) < 0.8 * max(
                len(pairs), len(others)
            ):
                continue
            common = len(pairs & others)
            if common and common >= 0.8 * (len(pairs) + len(others) - common):
                found[record] = found.get(other, other)
                break
        earlier.append((record, at, pairs))
    return found


def train() -> tuple[TfidfVectorizer, dict[str, LogisticRegression]]:
    labels = pd.read_csv(LABELS, keep_default_na=False)
    vectorizer = TfidfVectorizer(token_pattern=TOKENS, ngram_range=(1, 2), sublinear_tf=True)
    features = vectorizer.fit_transform(labels["text"])
    heads = {
        head: LogisticRegression(max_iter=1000, C=10, class_weight="balanced").fit(
            features, labels[head]
        )
        for head in HEADS
    }
    return vectorizer, heads


def classify(
    frame: pd.DataFrame, vectorizer: TfidfVectorizer, heads: dict[str, LogisticRegression]
) -> pd.DataFrame:
    """The four labels with their scores, a keyword and a summary."""
    features = vectorizer.transform(frame["body"])
    for head, model in heads.items():
        chances = model.predict_proba(features)
        frame[head] = model.classes_[chances.argmax(axis=1)]
        frame[f"{head}_score"] = chances.max(axis=1)
    names = vectorizer.get_feature_names_out()
    frame["keyword"] = names[np.asarray(features.argmax(axis=1)).ravel()]
    frame["summary"] = frame["body"].str.split(r"[.。?？!！]", n=1, regex=True).str[0].str[:120]
    return frame


def add_interval(table: pd.DataFrame) -> pd.DataFrame:
    """A 95 % Wilson interval of numerator / denominator."""
    n, z = table["denominator"], 1.959964
    share = table["numerator"] / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return table.assign(value=share, ci_low=middle - half, ci_high=middle + half)


def aggregate(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Ten metric tables by day and dimension, and the surges."""
    kept = frame[frame["duplicate_of"].isna()].copy()
    kept["day"] = kept["created_at"].dt.tz_localize("UTC").dt.tz_convert("Asia/Shanghai").dt.date
    kept["is_satisfied"] = kept["stars_number"] >= 4
    kept["is_negative"] = kept["sentiment"] == "negative"
    kept["is_urgent"] = kept["priority"].isin(["urgent", "high"])
    kept["is_promoter"] = kept["stars_number"] == 5
    kept["is_complaint"] = kept["feedback_type"] == "complaint"

    def rate(flag: str, *by: str) -> pd.DataFrame:
        table = kept.groupby(["day", *by])[flag].agg(numerator="sum", denominator="count")
        return add_interval(table.reset_index())

    return {
        "surges": list_surges(kept),
        "volume": kept.groupby(["day", "product", "language"]).size().reset_index(name="count"),
        "volume_by_need": kept.groupby(["day", "need", "feedback_type"]).size().reset_index(),
        "customers": kept.groupby(["day", "product"])["user"].nunique().reset_index(),
        "csat": rate("is_satisfied", "product"),
        "csat_by_language": rate("is_satisfied", "language"),
        "negative": rate("is_negative", "product", "language"),
        "urgent": rate("is_urgent", "need"),
        "promoters": rate("is_promoter", "product"),
        "complaints": rate("is_complaint", "product"),
        "stars": kept.groupby(["day", "product"])["stars_number"]
        .agg(["mean", "std", "median", "count"])
        .reset_index(),
    }


def find_surges(kept: pd.DataFrame, by: str) -> pd.DataFrame:
    """Days on which a group had a larger share than in the 56 days before, with p-values."""
    counts = kept.groupby(["day", by]).size().unstack(fill_value=0)
    earlier = counts.rolling(56, min_periods=28).sum().shift()
    shares = earlier.div(earlier.sum(axis=1), axis=0)
    totals = counts.sum(axis=1).to_numpy()[:, None]
    tails = pd.DataFrame(
        binom.sf(counts.to_numpy() - 1, totals, shares.to_numpy()), counts.index, counts.columns
    )
    table = counts.stack().rename("count").to_frame()
    table = table.assign(p_value=tails.stack(), expected=(shares * totals).stack())
    return table.rename_axis(["day", "value"]).reset_index().assign(dimension=by)


def list_surges(kept: pd.DataFrame) -> pd.DataFrame:
    """The surges of all groups, at a false discovery rate of 4 % a day."""
    complaints = kept[kept["is_complaint"]]
    tables = [find_surges(kept, by) for by in ("product", "need", "feedback_type", "language")]
    tables.append(find_surges(complaints, "product").assign(dimension="complaints by product"))
    table = pd.concat(tables).dropna(subset=["p_value"])
    table["q_value"] = table.groupby("day")["p_value"].transform(false_discovery_control)
    return table.assign(is_alert=table["q_value"] <= 0.04)


def follow_up(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """The tasks: urgent and high complaints, one a customer, the most pressing first."""
    wanted = frame[
        (frame["sentiment"] == "negative")
        & frame["priority"].isin(["urgent", "high"])
        & frame["duplicate_of"].isna()
    ].copy()
    age_days = (NOW.replace(tzinfo=None) - wanted["created_at"]).dt.total_seconds() / 86_400
    wanted["score"] = wanted["priority_score"] + (5 - wanted["stars_number"]) / 5 - age_days / 30
    wanted = wanted.sort_values("score", ascending=False).drop_duplicates("user").head(most)
    hours = pd.to_timedelta(wanted["priority"].map(HOURS_OF_PRIORITY), unit="h")
    wanted["due_at"] = NOW.replace(tzinfo=None) + hours
    wanted["team"] = wanted["need"].map(TEAM_OF_NEED).fillna("sales")
    columns = ["id", "user", "team", "priority", "score", "due_at", "summary", "body", "language"]
    return wanted[columns]


def deliver(tasks: pd.DataFrame, tables: dict[str, pd.DataFrame], folder: Path) -> None:
    """One workbook and one CSV a team, one CSV a metric table."""
    for team, rows in tasks.groupby("team"):
        harmless = rows.copy()
        for column in harmless.select_dtypes(["object", "str"]):
            is_formula = harmless[column].str.match(r"^[=+\-@]")
            harmless[column] = harmless[column].where(~is_formula, "'" + harmless[column])
        harmless.to_csv(folder / f"{team}.csv", index=False, encoding="utf-8-sig")
        harmless.to_excel(folder / f"{team}.xlsx", index=False, engine="xlsxwriter")
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)


def main(records: Path, folder: Path, most: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    METER.tell_start_up()
    with METER.step("to Parquet") as rows:
        frame, broken = read_records(records)
        frame.astype({"stars": "str"}).to_parquet(folder / "raw.parquet")
        rows.append(len(frame) + len(broken))
    with METER.step("validate") as rows:
        frame, quarantine = validate(frame, folder)
        frame.drop(columns="stars").to_parquet(folder / "staging.parquet")
        quarantine.astype({"stars": "str"}).to_parquet(folder / "quarantine.parquet")
        rows.append(len(frame) + len(quarantine))
    with METER.step("clean") as rows:
        frame = clean(frame)
        rows.append(len(frame))
    with METER.step("train"):
        vectorizer, heads = train()
    with METER.step("classify") as rows:
        frame = classify(frame, vectorizer, heads)
        frame.drop(columns="stars").to_parquet(folder / "classified.parquet")
        rows.append(len(frame))
    with METER.step("aggregate") as rows:
        tables = aggregate(frame)
        rows.append(len(frame))
    with METER.step("follow_up") as rows:
        tasks = follow_up(frame, most)
        rows.append(len(tasks))
    with METER.step("deliver") as rows:
        deliver(tasks, tables, folder)
        rows.append(len(tasks))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

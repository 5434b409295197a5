"""Near duplicates: the earliest wins, groups are kept apart, short texts are left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ModelError
from models.near_duplicates import (
    MIN_SIMILARITY_SHORT,
    RESULT_SCHEMA,
    SHORT_CHARACTERS,
    find_near_duplicates,
    sign_texts,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
LONG = (
    "the parcel arrived two weeks late and the box was completely crushed so both of the "
    "glasses inside were broken and nobody from the support team answered any of my mails"
)
HAN = (
    "酒店的位置不错，但是前台的服务态度实在太差了，等了一个小时才办好入住，房间里还有一股很重的霉味"
)


def rows(*items: tuple[str, str | None, int, str], **extra: Any) -> pa.Table:
    return pa.table(
        {
            "feedback_id": [item[0] for item in items],
            "group_key": pa.array([item[1] for item in items], pa.string()),
            "created_at": [START + timedelta(minutes=item[2]) for item in items],
            "text": [item[3] for item in items],
            **extra,
        }
    )


def found(table: pa.Table, existing: pa.Table | None = None) -> dict[str, str]:
    result = find_near_duplicates(table, existing)
    assert result.schema.equals(RESULT_SCHEMA)
    assert all(score >= MIN_SIMILARITY_SHORT for score in result["similarity"].to_pylist())
    return dict(
        zip(result["feedback_id"].to_pylist(), result["duplicate_of"].to_pylist(), strict=True)
    )


@pytest.mark.parametrize("text", [LONG, HAN])
def test_small_changes_are_found_and_the_earliest_wins(text: str) -> None:
    table = rows(
        ("c", "g", 3, text + "!!"), ("a", "g", 1, text), ("b", "g", 2, text.upper() + " ok")
    )
    assert found(table) == {"b": "a", "c": "a"}


def test_other_texts_are_left_alone() -> None:
    other = "the waiter was friendly and brought us fresh bread and olives while we were waiting"
    assert found(rows(("a", "g", 1, LONG), ("b", "g", 2, other), ("c", "g", 3, HAN))) == {}


def test_groups_are_kept_apart() -> None:
    table = rows(
        ("a", "g", 1, LONG), ("b", "h", 2, LONG), ("c", None, 3, LONG), ("d", None, 4, LONG)
    )
    assert found(table) == {}


@pytest.mark.parametrize("text", ["great app", "很好，非常满意", "", "thanks a lot"])
def test_short_texts_are_left_alone(text: str) -> None:
    assert found(rows(("a", "g", 1, text), ("b", "g", 2, text))) == {}


def test_equal_times_are_settled_by_id() -> None:
    assert found(rows(("b", "g", 1, LONG), ("a", "g", 1, LONG))) == {"b": "a"}


def test_existing_rows_win_and_are_not_returned() -> None:
    existing = rows(("old", "g", 50, LONG))
    new = rows(("new", "g", 1, LONG), ("other", "g", 2, HAN))
    assert found(new, existing) == {"new": "old"}
    assert found(rows(), existing) == {}


def test_stored_signatures_give_the_same_answer() -> None:
    existing = rows(("old", "g", 0, LONG), ("han", "g", 0, HAN))
    new = rows(("new", "g", 1, LONG + " really"), ("x", "g", 1, "ok"))
    signed = existing.append_column("signature", sign_texts(existing["text"]))
    also = new.append_column("signature", sign_texts(new["text"]))
    assert found(also, signed) == found(new, existing) == {"new": "old"}


def test_signatures_do_not_depend_on_the_batch() -> None:
    together = sign_texts([LONG, "short", HAN])
    assert together.null_count == 1
    assert together[0] == sign_texts([LONG])[0]
    assert together[2] == sign_texts([HAN])[0]


def test_a_duplicate_is_never_the_original_of_another() -> None:
    words = LONG.split()
    chain = [" ".join(words[step:] + ["extra"] * step) for step in range(6)]
    table = rows(*((str(place), "g", place, text) for place, text in enumerate(chain)))
    pairs = found(table)
    assert pairs
    assert not set(pairs) & set(pairs.values())


def test_missing_column_is_named() -> None:
    with pytest.raises(ModelError, match="group_key"):
        find_near_duplicates(rows(("a", "g", 1, LONG)).drop_columns(["group_key"]))


def shingles(text: str) -> set[tuple[str, str]]:
    """Neighbouring words, of a short text neighbouring letters."""
    is_short = len(text) < SHORT_CHARACTERS
    return set(pairwise(text.replace(" ", "") if is_short else text.split()))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How long do I have to return it?", "How long do I have to reurn it?"),
        ("Worked straight out of the box, even my dad managed", "Worked striaght out of the box, "
         "even my dad managed 🤔"),
        ("没抱希望，没想到处理这么快，服务真没话说", "没抱希望，没想到处理这么快，服务真是没话说"),
    ],
)  # fmt: skip
def test_a_slip_of_the_pen_in_a_short_text_is_found(one: str, other: str) -> None:
    assert found(rows(("a", "g", 1, one), ("b", "g", 2, other))) == {"b": "a"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Order 1201 has not arrived yet", "Order 1377 has not arrived yet"),
        ("订单1201到现在还没有收到货，请尽快处理", "订单1377到现在还没有收到货，请尽快处理"),
        ("the charger is too loud at night", "the delivery was too late at night"),
    ],
)
def test_short_texts_about_different_things_are_left_alone(one: str, other: str) -> None:
    assert found(rows(("a", "g", 1, one), ("b", "g", 2, other))) == {}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.sampled_from(["alpha", "beta", "gamma", "delta", "omega"]), min_size=3, max_size=12
        ),
        min_size=2,
        max_size=12,
    )
)
def test_every_pair_returned_is_truly_similar(texts: list[list[str]]) -> None:
    said = [" ".join(words) for words in texts]
    table = rows(*((f"{place:02}", "g", place, text) for place, text in enumerate(said)))
    for row in find_near_duplicates(table).to_pylist():
        one, other = int(row["feedback_id"]), int(row["duplicate_of"])
        assert other < one
        union = shingles(said[one]) | shingles(said[other])
        common = shingles(said[one]) & shingles(said[other])
        assert row["similarity"] == pytest.approx(len(common) / len(union))
    exact = {text for text in said if len(text) >= 15}
    marked = set(find_near_duplicates(table)["feedback_id"].to_pylist())
    left = [text for place, text in enumerate(said) if f"{place:02}" not in marked]
    assert all(left.count(text) == 1 for text in exact if text in left)

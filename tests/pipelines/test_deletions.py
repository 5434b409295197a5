"""What a source says is gone stays, and is left out: rows in, rows out."""

from __future__ import annotations

from datetime import timedelta
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.clean_world import NOW, World, at, case, message, review

LINEAGE = ("changed_in", "captured_at")


def ref(record: str, source: str = "shop") -> str:
    return md5(f"{source}\x1f{record}".encode(), usedforsecurity=False).hexdigest()


def deletion(entity: str, key: str, **more: Any) -> dict[str, Any]:
    return {"deleted_entity": entity, "source_record_id": key, **more}


def content(world: World) -> dict[str, list[dict[str, Any]]]:
    """What all facts say; not when each was written, and by which capture of the same."""
    return {
        entity: sorted(
            ({k: v for k, v in row.items() if k not in LINEAGE} for row in world.facts(entity)),
            key=str,
        )
        for entity in (
            "feedback",
            "survey_responses",
            "quality_reviews",
            "customers",
            "orders",
            "case_events",
        )
    }


def check_full_is_same(world: World) -> None:
    before = content(world)
    world.clean(full_refresh=True)
    assert content(world) == before


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


ANSWER = {"source_response_id": "s1", "answered_at": at("05 10:00"), "score": 5.0, "kind": "csat"}
ROWS: dict[str, list[dict[str, Any]]] = {
    "feedback": [review("r1"), review("r2")],
    "survey_responses": [
        {**ANSWER, "question_id": "q1"},
        {**ANSWER, "question_id": "q2"},
        {**ANSWER, "source_response_id": "s2", "question_id": "q1"},
    ],
    "quality_reviews": [
        {"source_review_id": key, "category": name, "score": 5.0, "reviewed_at": at("05 10:00")}
        for key, name in (("q1", "tone"), ("q1", "solution"), ("q2", "tone"))
    ],
    "customers": [{"source_customer_id": "u1", "name": "Jo", "is_vip": True},
                  {"source_customer_id": "u2", "region": "EU"}],
    "orders": [{"source_order_id": "o1", "ordered_at": at("05 10:00"), "amount": 9.5},
               {"source_order_id": "o2", "ordered_at": at("05 11:00"), "amount": 2.0}],
}  # fmt: skip
GONE = [
    deletion("feedback", "r1"),
    deletion("survey_responses", "s1"),
    deletion("quality_reviews", "q1"),
    deletion("customers", "u1", merged_into="u2"),
    deletion("orders", "o1", deleted_at=at("06 10:00")),
]


@pytest.mark.parametrize("order", ["rows first", "together", "deletions first"])
def test_what_is_gone_is_kept_and_left_out(world: World, order: str) -> None:
    if order == "together":
        world.stage_all({**ROWS, "deletions": GONE})
    elif order == "rows first":
        world.stage_all(ROWS)
        world.clean()
        world.stage_all({"deletions": GONE})
    else:  # a page of deletions that was captured after the rows, and validated before them
        world.captures = 10
        world.stage_all({"deletions": GONE})
        world.clean()
        world.captures = 0
        world.stage_all(ROWS)
    counts = world.clean()
    assert all(count.difference == 0 for count in counts.values())

    gone = world.fact("feedback", source_record_id="r1")
    assert (gone["is_excluded"], gone["exclusion_reason"]) == (True, "deleted")
    assert gone["body"] == "The charger of number r1 is broken"
    kept = world.fact("feedback", source_record_id="r2")
    assert (kept["is_excluded"], kept["exclusion_reason"]) == (False, None)

    reasons = {
        (row["source_response_id"], row["question_id"]): (row["is_excluded"], row["score"])
        for row in world.facts("survey_responses")
    }
    assert reasons == {("s1", "q1"): (True, 5), ("s1", "q2"): (True, 5), ("s2", "q1"): (False, 5)}

    reviews = [
        (row["source_review_id"], row["is_excluded"]) for row in world.facts("quality_reviews")
    ]
    assert sorted(reviews) == [("q1", True), ("q1", True), ("q2", False)]

    merged = world.fact("customers", source_customer_id="u1")
    assert (merged["exclusion_reason"], merged["merged_into"]) == ("merged", ref("u2"))
    assert merged["is_vip"] is True
    assert world.fact("customers", source_customer_id="u2")["is_excluded"] is False

    order_gone = world.fact("orders", source_order_id="o1")
    assert (order_gone["is_excluded"], order_gone["amount"]) == (True, 9.5)
    assert world.fact("orders", source_order_id="o2")["exclusion_reason"] is None
    check_full_is_same(world)


def test_a_deletion_is_counted_and_changes_nothing_twice(world: World) -> None:
    world.stage_all(ROWS)
    world.clean()
    world.stage_all({"deletions": [*GONE, deletion("orders", "never seen")]})
    count = world.clean()["shop", "deletions"]
    assert (count.count_in, count.count_out, count.count_duplicate) == (6, 6, 0)
    version = world.lake.facts_manifest()["version"]
    world.stage_all({"deletions": GONE})
    world.clean()
    assert world.lake.facts_manifest()["version"] == version


def test_what_comes_back_counts_again(world: World) -> None:
    world.stage_all({**ROWS, "deletions": GONE})
    world.clean()
    world.stage_all(ROWS)
    world.clean()
    for entity in ROWS:
        assert {row["is_excluded"] for row in world.facts(entity)} == {False}
    assert world.fact("customers", source_customer_id="u1")["merged_into"] is None
    check_full_is_same(world)


def test_an_older_version_that_is_pushed_late_brings_nothing_back(world: World) -> None:
    order = {**ROWS["orders"][0], "updated_at": at("06 09:00")}
    world.stage_all({"orders": [order], "deletions": GONE})
    world.clean()
    world.stage("orders", {**order, "updated_at": at("06 09:30"), "amount": 10.0})
    world.clean()
    assert world.fact("orders")["exclusion_reason"] == "deleted"
    assert world.fact("orders")["amount"] == 10
    world.stage("orders", {**order, "updated_at": at("06 11:00")})
    world.clean()
    assert world.fact("orders")["exclusion_reason"] is None
    check_full_is_same(world)


def test_a_message_that_is_gone_is_no_feedback_and_stays_an_event(world: World) -> None:
    messages = [
        message("m1", "c1", author_role="customer"),
        message("m2", "c1", author_role="customer", created_at=at("05 11:00"), sequence=2),
    ]
    world.stage_all({"cases": [case("c1")], "messages": messages})
    world.clean()
    world.stage("deletions", deletion("feedback", "m2"))
    world.clean()
    assert world.fact("feedback", source_record_id="m2")["exclusion_reason"] == "deleted"
    assert world.fact("feedback", source_record_id="m1")["exclusion_reason"] is None
    events = [row["event_type"] for row in world.facts("case_events")]
    assert events.count("customer_message") == 2
    check_full_is_same(world)
    world.stage(
        "messages",
        message("m3", "c1", author_role="customer", created_at=at("05 12:00"), sequence=3),
    )
    world.clean()  # the case is worked out whole once more
    assert world.fact("feedback", source_record_id="m2")["exclusion_reason"] == "deleted"
    check_full_is_same(world)


DELETED_CASE: dict[str, list[dict[str, Any]]] = {
    "cases": [case("c1", status="deleted", updated_at=at("07 10:00"))],
    "case_events": [
        {"source_event_id": "e1", "source_case_id": "c1", "event_type": "deleted",
         "event_at": at("07 10:00"), "actor_id": "a1"},
    ],
}  # fmt: skip
SAID_IN_CASE: dict[str, list[dict[str, Any]]] = {
    "messages": [
        message("m1", "c1", author_role="customer"),
        message("m2", "c1", author_role="customer", created_at=at("06 11:00"), sequence=2),
        message("m3", "c2", author_role="customer"),
    ],
    "feedback": [review("r1", source_case_id="c1"), review("r2", source_case_id="c2")],
}


def reasons(world: World) -> dict[str, str | None]:
    found = world.facts("feedback")
    assert all(row["is_excluded"] == (row["exclusion_reason"] is not None) for row in found)
    return {row["source_record_id"]: row["exclusion_reason"] for row in found}


OUT = {"m1": "case_deleted", "m2": "case_deleted", "m3": None, "r1": "case_deleted", "r2": None}


@pytest.mark.parametrize("told_by", ["cases", "case_events"])
@pytest.mark.parametrize("order", ["rows first", "together", "deletion first"])
def test_what_was_said_in_a_deleted_case_is_left_out(
    world: World, order: str, told_by: str
) -> None:
    gone = {told_by: DELETED_CASE[told_by]}
    if order == "together":
        world.stage_all({**SAID_IN_CASE, **gone})
    elif order == "rows first":
        world.stage_all({**SAID_IN_CASE, "cases": [case("c1"), case("c2")]})
        world.clean()
        assert reasons(world) == dict.fromkeys(OUT)
        world.stage_all(gone)
    else:
        world.stage_all(gone)
        world.clean()
        world.stage_all({"feedback": SAID_IN_CASE["feedback"]})
        world.clean()
        world.stage_all({"messages": SAID_IN_CASE["messages"]})
    counts = world.clean()
    assert all(count.difference == 0 for count in counts.values())
    assert reasons(world) == OUT
    check_full_is_same(world)


def test_a_case_that_is_there_again_brings_back_what_was_said_in_it(world: World) -> None:
    world.stage_all({**SAID_IN_CASE, **DELETED_CASE, "deletions": [deletion("feedback", "m2")]})
    world.clean()
    assert reasons(world) == {**OUT, "m2": "deleted"}
    restored = {
        "source_event_id": "e2", "source_case_id": "c1", "event_type": "status_changed",
        "event_at": at("08 10:00"), "to_value": "open",
    }  # fmt: skip
    world.stage_all({"cases": [case("c1", updated_at=at("08 10:00"))], "case_events": [restored]})
    world.clean()
    assert reasons(world) == {**dict.fromkeys(OUT), "m2": "deleted"}
    check_full_is_same(world)


def test_a_deletion_reaches_what_staging_holds_no_longer(world: World) -> None:
    world.stage_all({**SAID_IN_CASE, "cases": [case("c1"), case("c2")]})
    world.clean()
    before = {row["source_record_id"]: row["body"] for row in world.facts("feedback")}
    manifest = world.lake.staging_manifest()
    manifest["files"] = {}
    world.lake.write_staging_manifest(manifest)
    world.stage_all({"case_events": DELETED_CASE["case_events"]})
    world.clean()
    assert reasons(world) == OUT
    world.stage_all({"cases": DELETED_CASE["cases"]})
    world.clean()
    assert reasons(world) == OUT
    assert {row["source_record_id"]: row["body"] for row in world.facts("feedback")} == before


def test_a_version_of_before_does_not_bring_feedback_of_a_deleted_case_back(world: World) -> None:
    seen = review("r1", updated_at=at("06 10:00"), source_case_id="c1")
    world.stage_all({"feedback": [seen], "cases": [case("c1")]})
    world.clean()
    older = review("r1", updated_at=at("05 10:00"), source_case_id="c2")
    world.stage_all({"feedback": [older], **DELETED_CASE})
    count = world.clean()["shop", "feedback"]
    assert (count.count_in, count.count_duplicate) == (1, 1)
    assert reasons(world) == {"r1": "case_deleted"}
    check_full_is_same(world)


def test_what_repeats_a_deleted_text_is_the_original_now(world: World) -> None:
    text = "The very same words, long enough to be told from a stock answer"
    world.stage("feedback", review("first", text, source_customer_id="u"))
    world.stage(
        "feedback", review("second", text, source_customer_id="u", created_at=at("06 10:00"))
    )
    world.clean()
    first = world.fact("feedback", source_record_id="first")["feedback_id"]
    assert world.fact("feedback", source_record_id="second")["duplicate_of"] == first
    world.stage("deletions", deletion("feedback", "first"))
    world.clean()
    assert world.fact("feedback", source_record_id="second")["duplicate_of"] is None
    check_full_is_same(world)


def test_facts_of_an_older_layout_are_written_anew(world: World) -> None:
    world.stage_all(ROWS)
    world.clean()
    manifest = world.lake.facts_manifest()
    entry = manifest["partitions"]["orders"]["2026-11-05"]
    old = world.lake.read_table(entry).drop_columns(["is_excluded", "exclusion_reason"])
    folder = world.lake.layer_folder("intermediate", "orders", "2026-11-05")
    manifest["partitions"]["orders"]["2026-11-05"] = world.lake.write_table(
        folder, "orders", old, manifest["version"]
    )
    del manifest["layout"]
    world.lake.write_facts_manifest(manifest)
    world.stage("deletions", deletion("orders", "o1"))
    world.clean(now=NOW + timedelta(hours=1))
    reasons = {row["source_order_id"]: row["exclusion_reason"] for row in world.facts("orders")}
    assert reasons == {"o1": "deleted", "o2": None}
    assert len(world.facts("feedback")) == 2

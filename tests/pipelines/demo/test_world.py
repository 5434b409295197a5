"""The whole demo: the same again, complete, and true to what its truth says."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import stat
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.demo import (
    Truth,
    demo_connections,
    generate,
    remembered_until,
    serve,
    start_servers,
    write_config,
)
from pipelines.demo.config import render_config
from pipelines.demo.truth import read_labels
from pipelines.errors import HearbackError
from pipelines.settings import load_settings
from pipelines.sources import find_kind
from pipelines.sources.base import read_options
from tests.pipelines.demo.reader import Reader, read_lines
from tests.pipelines.demo.worlds import SCALE, UNTIL, SmallWorld

END = datetime(2026, 11, 19, 16, tzinfo=UTC)  # midnight in Asia/Shanghai after the last day
TEN_REASONS = {
    "broken_json", "wrong_encoding", "missing_id", "impossible_date", "rating_out_of_scale",
    "unknown_value", "empty_text", "oversized_text", "control_characters",
    "conflicting_duplicate_id",
}  # fmt: skip
FILES = {
    "survey": "survey.csv",
    "app_feedback": "app_feedback.jsonl",
    "crm": "customers.csv",
}


def digest(directory: Path) -> dict[str, str]:
    """A hash of every file that the demo wrote, its memory (ports, token) apart."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "demo.json"
    }


def load_stream(world: SmallWorld, name: str) -> dict[str, dict[str, Any]]:
    path = world.directory / "served" / f"{name}.tsv"
    with path.open(encoding="utf-8", newline="\n") as lines:
        rows = [json.loads(line.split("\t", 2)[2]) for line in lines]
    return {str(row["id"]): row for row in rows}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        generate(tmp_path / name, until=UNTIL, scale=0.02)
    generate(tmp_path / "c", until=UNTIL, scale=0.02, seed=8)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert digest(tmp_path / "a") != digest(tmp_path / "c")


def test_a_second_start_writes_nothing(tmp_path: Path) -> None:
    first = generate(tmp_path, until=UNTIL, scale=0.02)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert generate(tmp_path, until=UNTIL, scale=0.02) == first
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_stopped_generation_is_done_again(tmp_path: Path) -> None:
    generate(tmp_path, until=UNTIL, scale=0.02)
    before = digest(tmp_path)
    memory = json.loads((tmp_path / "demo.json").read_text())
    del memory["made"]
    (tmp_path / "demo.json").write_text(json.dumps(memory))
    (tmp_path / "survey.csv").write_text("half a fi")
    generate(tmp_path, until=UNTIL, scale=0.02)
    assert digest(tmp_path) == before


def test_the_day_and_the_ports_are_remembered(tmp_path: Path) -> None:
    assert remembered_until(tmp_path) is None
    with serve(tmp_path, until=date(2026, 3, 8), scale=0.02) as first:
        ports = first.helpdesk.port, first.reviews.port
    with serve(tmp_path, scale=0.02) as second:
        assert second.until == date(2026, 3, 8) == remembered_until(tmp_path)
        assert (second.helpdesk.port, second.reviews.port) == ports
        assert second.token == first.token
    assert stat.S_IMODE(os.stat(tmp_path / "demo.json").st_mode) == 0o600


def test_a_taken_port_is_replaced_or_named(tmp_path: Path) -> None:
    with serve(tmp_path, until=UNTIL, scale=0.02) as first:
        with start_servers(tmp_path) as second:
            assert second.helpdesk.port != first.helpdesk.port
        with pytest.raises(HearbackError, match=f"port {first.helpdesk.port} cannot be used"):
            start_servers(tmp_path, helpdesk_port=first.helpdesk.port)


def test_nothing_to_serve_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HearbackError, match="holds no demo"):
        start_servers(tmp_path)


def test_an_instant_without_a_zone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HearbackError, match="no time zone"):
        generate(tmp_path, until=UNTIL, scale=0.02, as_of=datetime(2026, 11, 1))


def test_truth_is_read_back_as_written(small_world: SmallWorld) -> None:
    assert Truth.load(small_world.directory) == small_world.truth


def test_half_of_everything_is_chinese(small_world: SmallWorld) -> None:
    labels = read_labels(small_world.directory)
    share = Counter(row["language"] for row in labels)["zh"] / len(labels)
    assert 0.45 < share < 0.55


def test_labels_cover_every_type_and_source(small_world: SmallWorld) -> None:
    labels = read_labels(small_world.directory)
    assert len(labels) == small_world.truth.counts["feedback.items"]["valid_ids"]
    keys = {(row["source"], row["source_record_id"]) for row in labels}
    assert len(keys) == len(labels)
    types = Counter(row["feedback_type"] for row in labels)
    assert min(types.values()) / len(labels) > 0.04
    assert {row["priority"] for row in labels} == {"urgent", "high", "normal", "low"}
    assert {row["source"] for row in labels} == {"helpdesk", "reviews", "survey", "app_feedback"}


def test_labelled_messages_are_served(small_world: SmallWorld) -> None:
    acts = load_stream(small_world, "ticket_events").values()
    served = {
        str(c["id"]): c for a in acts for c in a["child_events"] if c["event_type"] == "Comment"
    }
    labelled = [r for r in read_labels(small_world.directory) if r["source"] == "helpdesk"]
    ratings = load_stream(small_world, "satisfaction_ratings")
    served |= {f"rating-{name}": rating for name, rating in ratings.items() if rating["comment"]}
    assert {row["source_record_id"] for row in labelled} <= set(served)
    assert sum(row["part"] == "rating" for row in labelled) == sum(
        rating["comment"] is not None for rating in ratings.values()
    )
    openings = [row for row in labelled if row["part"] == "opening"]
    assert len(openings) == small_world.truth.counts["helpdesk.tickets"]["valid_ids"]


def test_planted_cases_are_served(small_world: SmallWorld) -> None:
    truth = small_world.truth
    tickets = load_stream(small_world, "tickets")
    for name in ("spam", "tests", "opened_by_bot", "deleted", "unanswered_complaints"):
        found = getattr(truth, name)
        assert len(found) >= 3, name
        assert set(found) <= set(tickets), name
    for row in truth.merged:
        assert "closed_by_merge" in tickets[row["id"]]["tags"]
        assert row["into"] in tickets
    for row in truth.low_satisfaction:
        assert tickets[row["case_id"]]["satisfaction_rating"]["score"] == "bad"
    for name in truth.unanswered_complaints:
        assert tickets[name]["status"] in ("new", "open")


def test_cases_at_risk_break_their_promise_within_hours(small_world: SmallWorld) -> None:
    tickets = load_stream(small_world, "tickets")
    assert len(small_world.truth.at_risk) >= 5
    for row in small_world.truth.at_risk:
        breach = datetime.fromisoformat(row["breach_at"])
        assert END <= breach <= END + timedelta(hours=8)
        assert tickets[row["case_id"]]["status"] in ("new", "open")


def test_duplicates_say_the_same(small_world: SmallWorld) -> None:
    texts = {
        "helpdesk": {k: t["description"] for k, t in load_stream(small_world, "tickets").items()},
        "reviews": {
            r["id"]: r["text"]
            for r in read_lines(small_world.directory / "served" / "reviews.jsonl")
        },
        "app_feedback": {row["id"]: row["text"] for row in good_posts(small_world)},
    }
    for pair in small_world.truth.exact_duplicates:
        assert texts[pair["source"]][pair["id"]] == texts[pair["source"]][pair["of"]]
    for pair in small_world.truth.near_duplicates:
        assert texts[pair["source"]][pair["id"]] != texts[pair["source"]][pair["of"]]
    found = Counter(p["source"] for p in small_world.truth.exact_duplicates)
    assert set(found) == {"helpdesk", "reviews", "app_feedback"}


def good_posts(world: SmallWorld) -> list[dict[str, Any]]:
    bad = {r["line"] for r in world.truth.invalid_rows if r["source"] == "app_feedback"}
    lines = (world.directory / "app_feedback.jsonl").read_bytes().split(b"\n")
    return [json.loads(text) for n, text in enumerate(lines, 1) if n not in bad and text]


def test_there_are_five_rows_of_each_of_ten_faults(small_world: SmallWorld) -> None:
    counts = Counter(row["reason"] for row in small_world.truth.invalid_rows)
    assert set(counts) == TEN_REASONS
    assert min(counts.values()) >= 5


@pytest.mark.parametrize("source", FILES)
def test_invalid_rows_stand_at_their_lines(small_world: SmallWorld, source: str) -> None:
    lines = (small_world.directory / FILES[source]).read_bytes().split(b"\n")
    rows = [row for row in small_world.truth.invalid_rows if row["source"] == source]
    assert rows
    for row in rows:
        data = lines[row["line"] - 1]
        text = data.decode("utf-8", "replace")
        if row["reason"] == "wrong_encoding":
            with pytest.raises(UnicodeDecodeError):
                data.decode("utf-8")
            assert data.decode("gb18030")
        elif row["reason"] == "broken_json":
            with pytest.raises(json.JSONDecodeError):
                json.loads(text)
        elif row["reason"] == "oversized_text":
            assert len(text) > 20_000
        elif row["reason"] == "control_characters" and source == "survey":
            assert any(sign in text for sign in "\x00\x01\x02\x0e")
        elif row["id"].strip():
            assert row["id"] in text


def test_good_rows_can_be_read(small_world: SmallWorld) -> None:
    counts = small_world.truth.counts
    rows = good_posts(small_world)
    assert len({row["id"] for row in rows}) == counts["app_feedback.feedback"]["valid_ids"]
    bad = {r["line"] for r in small_world.truth.invalid_rows if r["source"] == "survey"}
    lines = (small_world.directory / "survey.csv").read_bytes().split(b"\n")
    good = [line.decode() for n, line in enumerate(lines, 1) if n not in bad and line]
    answers = list(csv.DictReader(good))
    assert len({row["response_id"] for row in answers}) == counts["survey.responses"]["valid_ids"]
    assert all(not row["csat_1_5"] or 1 <= int(row["csat_1_5"]) <= 5 for row in answers)
    assert {row["answered_at"] == "" for row in answers} == {True, False}


def test_one_product_surges_in_both_languages(small_world: SmallWorld) -> None:
    surge = small_world.truth.surge
    assert surge["day"] == "2026-11-14"
    assert surge["count"] >= 4 * surge["base_per_day"]
    assert set(surge["by_language"]) == {"en", "zh"}
    assert min(surge["by_language"].values()) >= 3


def test_one_team_is_slow(small_world: SmallWorld) -> None:
    slow = small_world.truth.slow_team
    assert slow["team"] == "Finance Desk"
    assert slow["share_missed"] > 0.5
    assert slow["share_missed_others"] < 0.2


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    directory = tmp_path_factory.mktemp("earlier")
    as_of = END - timedelta(days=4)
    return SmallWorld(directory, generate(directory, until=UNTIL, scale=SCALE, as_of=as_of))


def test_an_earlier_world_knows_nothing_later(small_world: SmallWorld, earlier: SmallWorld) -> None:
    limit = (END - timedelta(days=4)).timestamp()
    acts = load_stream(earlier, "ticket_events")
    assert max(act["timestamp"] for act in acts.values()) <= limit
    assert acts.items() <= load_stream(small_world, "ticket_events").items()
    reviews = read_lines(earlier.directory / "served" / "reviews.jsonl")
    assert max(row["updated"] for row in reviews) <= limit
    local = (END - timedelta(days=4) + timedelta(hours=8)).strftime("%Y-%m-%d %H:%M:%S")
    assert max(row["updated"] for row in good_posts(earlier)) <= local


def test_late_changes_happen_between_the_two_worlds(
    small_world: SmallWorld, earlier: SmallWorld
) -> None:
    assert not earlier.truth.late_changes
    late = small_world.truth.late_changes
    assert {row["source"] for row in late} == {
        "helpdesk",
        "reviews",
        "app_feedback",
        "survey",
        "crm",
    }
    before, after = load_stream(earlier, "tickets"), load_stream(small_world, "tickets")
    for row in late:
        if row["source"] == "helpdesk":
            assert before[row["id"]]["updated_at"] < after[row["id"]]["updated_at"]
            assert before[row["id"]]["status"] == "hold"
    posts = {row["id"]: row for row in good_posts(earlier)}
    for row in good_posts(small_world):
        if row["id"] in {r["id"] for r in late if r["source"] == "app_feedback"}:
            assert posts[row["id"]]["updated"] < row["updated"]


def test_an_earlier_cursor_finds_exactly_what_came_later(
    small_world: SmallWorld, earlier: SmallWorld
) -> None:
    with start_servers(earlier.directory, 0, 0) as servers:
        *_, last = Reader(servers).read_export("tickets", 1000)
    with start_servers(small_world.directory, 0, 0) as servers:
        page = Reader(servers).get("incremental/tickets/cursor.json", cursor=last["after_cursor"])
    before, after = load_stream(earlier, "tickets"), load_stream(small_world, "tickets")
    changed = {name for name, ticket in after.items() if before.get(name) != ticket}
    assert {str(ticket["id"]) for ticket in page["tickets"]} == changed


def test_the_configuration_is_accepted_and_points_at_the_servers(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    with start_servers(small_world.directory, 0, 0) as servers:
        path = write_config(small_world.directory, tmp_path / "home", servers, tmp_path / "h.toml")
        settings = load_settings(path)
        connections = demo_connections(servers)
        assert servers.token not in path.read_text()
    assert settings.home == (tmp_path / "home").resolve()
    assert settings.source("helpdesk").base_url == servers.helpdesk.url
    for source in settings.sources:
        options = read_options(source, find_kind(source.kind).options)
        file = getattr(options, "path", None)
        assert file is None or (settings.folder / file).is_file()
    connection = json.loads(connections["AIRFLOW_CONN_HELPDESK"])
    assert connection["login"] == "demo@hearback.example/token"
    assert connection["password"] == servers.token
    assert {team.name for team in settings.teams} == set(
        small_world.truth.slow_team["missed_by_team"]
    )


def test_paths_that_need_quoting_are_quoted() -> None:
    text = render_config(home='a "b"', folder="c", helpdesk_url="http://x", reviews_url="http://y")
    assert 'home      = "a \\"b\\""' in text


def test_the_next_day_is_served_at_the_same_place(tmp_path: Path) -> None:
    first_day = END - timedelta(days=1)
    generate(tmp_path, until=UNTIL, scale=0.02, as_of=first_day)
    with start_servers(tmp_path) as first:
        address, token = first.helpdesk.url, first.token
    later = generate(tmp_path, until=UNTIL, scale=0.02)
    with start_servers(tmp_path) as second:
        assert (second.helpdesk.url, second.token) == (address, token)
        (page,) = Reader(second).read_export("tickets", 1000)
    assert len(page["tickets"]) == later.counts["helpdesk.tickets"]["valid_ids"]

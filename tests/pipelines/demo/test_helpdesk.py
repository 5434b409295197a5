"""The help desk: Zendesk's wire format, its throttling, and what histories say."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import httpx
import pytest

from pipelines.demo import DemoServers
from pipelines.demo.catalog import BOT_ID, SYSTEM_ID
from pipelines.demo.serving import LOGIN
from tests.pipelines.demo.reader import Reader
from tests.pipelines.demo.worlds import SmallWorld


@pytest.fixture
def reader(served: DemoServers) -> Reader:
    return Reader(served)


def test_no_or_wrong_token_is_refused_as_zendesk_does(served: DemoServers) -> None:
    url = served.helpdesk.url + "/api/v2/groups.json"
    for auth in (None, (LOGIN, "wrong"), ("demo@hearback.example", served.token)):
        answer = httpx.get(url, auth=auth, trust_env=False)
        assert answer.status_code == 401
        assert answer.json() == {"error": "Couldn't authenticate you"}


def test_cursor_export_gives_every_ticket_once(reader: Reader, small_world: SmallWorld) -> None:
    pages = list(reader.read_export("tickets", 50))
    ids = [ticket["id"] for page in pages for ticket in page["tickets"]]
    assert len(ids) == len(set(ids)) == small_world.truth.counts["helpdesk.tickets"]["valid_ids"]
    assert [page["end_of_stream"] for page in pages] == [False] * (len(pages) - 1) + [True]
    assert set(pages[0]) == {
        "tickets", "after_url", "before_url", "after_cursor", "before_cursor", "end_of_stream"
    }  # fmt: skip
    again = reader.get("incremental/tickets/cursor.json", cursor=pages[-1]["after_cursor"])
    assert again["tickets"] == []
    assert again["end_of_stream"] is True


def test_cursor_export_starts_at_its_start_time(reader: Reader) -> None:
    (everything,) = reader.read_export("tickets", 1000)
    middle = everything["tickets"][100]["generated_timestamp"]
    (later,) = reader.read_export("tickets", 1000, start=middle)
    expected = [t["id"] for t in everything["tickets"] if t["generated_timestamp"] >= middle]
    assert [ticket["id"] for ticket in later["tickets"]] == expected


def test_event_pages_repeat_the_record_they_ended_with(
    reader: Reader, small_world: SmallWorld
) -> None:
    pages = list(reader.read_events(200))
    for before, after in pairwise(pages):
        ids = {event["id"] for event in before["ticket_events"]}
        assert ids & {event["id"] for event in after["ticket_events"]}
        assert before["end_time"] == before["ticket_events"][-1]["timestamp"]
        assert before["count"] == len(before["ticket_events"]) == 200
    ids = {event["id"] for page in pages for event in page["ticket_events"]}
    assert len(ids) == small_world.truth.counts["helpdesk.ticket_events"]["valid_ids"]


def test_child_events_have_zendesks_shape(reader: Reader) -> None:
    events = [event for page in reader.read_events(1000) for event in page["ticket_events"]]
    first = events[0]
    assert set(first) >= {"id", "ticket_id", "timestamp", "updater_id", "via", "child_events"}
    kinds = Counter(child["event_type"] for event in events for child in event["child_events"])
    assert set(kinds) == {"Create", "Change", "Comment"}
    for event in events:
        for child in event["child_events"]:
            if child["event_type"] == "Change":
                assert "previous_value" in child
            if child["event_type"] == "Comment":
                assert set(child) >= {"author_id", "body", "html_body", "public"}


def test_comment_texts_come_only_when_asked_for(reader: Reader) -> None:
    page = reader.get("incremental/ticket_events.json", start_time=0, per_page=50)
    children = [child for event in page["ticket_events"] for child in event["child_events"]]
    assert any(child["event_type"] == "Comment" for child in children)
    assert not any("body" in child for child in children)


def test_start_time_of_today_is_refused(served: DemoServers) -> None:
    answer = httpx.get(
        served.helpdesk.url + "/api/v2/incremental/tickets/cursor.json",
        params={"start_time": 1 << 33},
        auth=(LOGIN, served.token),
        trust_env=False,
    )
    assert answer.status_code == 400
    assert answer.json()["error"] == "StartTimeTooRecent"


def test_a_patient_client_gets_everything_without_a_violation(
    reader: Reader, served: DemoServers, small_world: SmallWorld
) -> None:
    ids = [e["id"] for page in reader.read_events(40) for e in page["ticket_events"]]
    stats = served.helpdesk.stats
    assert len(set(ids)) == small_world.truth.counts["helpdesk.ticket_events"]["valid_ids"]
    assert stats["throttled"] >= 1
    assert stats["failed"] >= 1
    assert stats["violations"] == 0


def test_a_client_that_does_not_wait_is_counted(served: DemoServers) -> None:
    with httpx.Client(auth=(LOGIN, served.token), trust_env=False) as client:
        url = served.helpdesk.url + "/api/v2/groups.json"
        answers = [client.get(url) for _ in range(14)]
    assert answers[11].status_code == answers[12].status_code == 429
    assert answers[11].headers["Retry-After"] == "1"
    assert served.helpdesk.stats["violations"] == 2
    shown = httpx.get(served.helpdesk.url + "/_demo/stats", trust_env=False).json()
    assert shown["violations"] == 2


def test_lists_page_by_cursor_and_by_number(reader: Reader, small_world: SmallWorld) -> None:
    pages = list(reader.read_list("satisfaction_ratings", 100))
    ids = [r["id"] for page in pages for r in page["satisfaction_ratings"]]
    assert len(ids) == len(set(ids))
    assert len(ids) == small_world.truth.counts["helpdesk.satisfaction_ratings"]["valid_ids"]
    numbered = reader.get("satisfaction_ratings.json", page=2, per_page=100)
    assert [r["id"] for r in numbered["satisfaction_ratings"]] == ids[100:200]
    assert numbered["count"] == len(ids)


def test_comments_of_a_deleted_ticket_are_gone(reader: Reader, small_world: SmallWorld) -> None:
    gone = small_world.truth.deleted[0]
    (page,) = reader.read_export("tickets", 1000)
    ticket = next(t for t in page["tickets"] if str(t["id"]) == gone)
    assert ticket["status"] == "deleted"
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        reader.get(f"tickets/{gone}/comments.json")
    kept = next(t for t in page["tickets"] if t["status"] == "closed")
    comments = reader.get(f"tickets/{kept['id']}/comments.json")["comments"]
    assert comments[0]["body"] == kept["description"]


def test_metric_sets_come_with_tickets_when_asked_for(reader: Reader) -> None:
    page = reader.get(
        "incremental/tickets/cursor.json", start_time=0, per_page=20, include="metric_sets"
    )
    for ticket in page["tickets"]:
        assert ticket["metric_set"]["ticket_id"] == ticket["id"]
        assert set(ticket["metric_set"]["reply_time_in_minutes"]) == {"calendar", "business"}


def replay(events: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The last value of each field of each ticket, from its events."""
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for event in sorted(events, key=lambda event: event["id"]):
        for child in event["child_events"]:
            for name in ("status", "priority", "group_id", "assignee_id", "tags"):
                if name in child:
                    if child["event_type"] == "Change":
                        assert found[event["ticket_id"]].get(name) == child["previous_value"]
                    found[event["ticket_id"]][name] = child[name]
    return found


def test_tickets_agree_with_their_events(reader: Reader) -> None:
    (page,) = reader.read_export("tickets", 1000)
    events = {e["id"]: e for p in reader.read_events(1000) for e in p["ticket_events"]}
    replayed = replay(list(events.values()))
    last: dict[int, str] = {}
    for event in events.values():
        last[event["ticket_id"]] = max(last.get(event["ticket_id"], ""), event["created_at"])
    for ticket in page["tickets"]:
        state = replayed[ticket["id"]]
        for name in ("status", "priority", "group_id", "assignee_id", "tags"):
            assert ticket[name] == state.get(name), (ticket["id"], name)
        assert ticket["updated_at"] == last[ticket["id"]]


def test_histories_hold_what_a_desk_sees(reader: Reader) -> None:
    events = {e["id"]: e for p in reader.read_events(1000) for e in p["ticket_events"]}
    children = [(e, c) for e in events.values() for c in e["child_events"]]
    statuses = Counter(c["status"] for _, c in children if "status" in c)
    assert set(statuses) == {"new", "open", "pending", "hold", "solved", "closed", "deleted"}
    comments = [(e, c) for e, c in children if c["event_type"] == "Comment"]
    assert any(c["author_id"] == BOT_ID for _, c in comments)
    assert any(not c["public"] for _, c in comments)
    closers = {e["updater_id"] for e, c in children if c.get("status") == "closed"}
    assert SYSTEM_ID in closers
    reopened = [
        c for _, c in children if c.get("previous_value") == "solved" and c.get("status") == "open"
    ]
    assert reopened
    scores = Counter(c["satisfaction_score"] for _, c in children if "satisfaction_score" in c)
    assert scores["offered"] > scores["good"] > scores["bad"] > 0


def test_users_point_at_the_crm(reader: Reader, small_world: SmallWorld) -> None:
    users = [u for page in reader.read_export("users", 100) for u in page["users"]]
    text = (small_world.directory / "customers.csv").read_bytes().decode("utf-8", "replace")
    known = {line.split(",")[0] for line in text.splitlines()}
    customers = [u for u in users if u["role"] == "end-user"]
    linked = [u for u in customers if u["external_id"]]
    assert 0.8 < len(linked) / len(customers) < 1
    assert {u["external_id"] for u in linked} <= known
    staff = [u for u in users if u["role"] == "agent"]
    assert [u["name"] for u in staff if "bot" in u["tags"]] == ["Lanlan 小兰"]
    assert len(staff) == 25


def test_only_loopback_is_served(served: DemoServers) -> None:
    assert served.helpdesk.server.server_address[0] == "127.0.0.1"
    assert served.reviews.server.server_address[0] == "127.0.0.1"


def test_the_token_is_not_shown(served: DemoServers) -> None:
    assert served.token not in repr(served)
    assert served.token not in json.dumps(dict(served.helpdesk.stats))

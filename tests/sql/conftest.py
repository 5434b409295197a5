"""One world of cases, built once for all tests that only read it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mart_world import World, at


def add_golden_cases(world: World) -> None:
    """The cases that the metric definitions name, and the ones around them."""
    # Solved by an automation, nobody ever replied.
    world.add_case("automated", "02 02:00", status="solved")
    world.add_status("automated", "03 02:00", "new", "solved", role="system")

    # Opened by an agent: the opening text is no reply, the later comment is.
    world.add_case("outbound", "02 02:00", status="solved", opened_by_role="agent")
    world.add_event("outbound", "02 02:00", "agent_reply")
    world.add_event("outbound", "02 03:30", "agent_reply")
    world.add_status("outbound", "02 04:00", "open", "solved")

    # Solved, pending, solved again, all within one second: the sequence decides.
    world.add_case("settled twice", "02 02:00", status="solved")
    world.add_event("settled twice", "02 02:30", "agent_reply")
    world.add_status("settled twice", "02 03:00", "new", "solved")
    world.add_status("settled twice", "02 03:00", "solved", "pending")
    world.add_status("settled twice", "02 05:00", "pending", "solved")

    world.add_case("reopened", "02 02:00", status="open")
    world.add_status("reopened", "02 03:00", "new", "solved")
    world.add_status("reopened", "02 04:00", "solved", "open")

    world.add_case("rated", "02 02:00", status="closed")
    world.add_event("rated", "02 02:10", "agent_reply")
    world.add_event("rated", "02 02:20", "agent_reply", actor_ref="agent 2")
    world.add_status("rated", "02 03:00", "new", "solved")
    world.add_event("rated", "02 03:01", "rated", "customer", to_value="offered")
    world.add_event("rated", "02 03:02", "rated", "customer", from_value="offered", to_value="good")
    world.add_event("rated", "02 03:03", "rated", "customer", from_value="good", to_value="bad")
    world.add_status("rated", "06 03:00", "solved", "closed", role="system")

    world.add_case("unreplied", "19 02:00", status="new", priority="urgent")
    world.add_event("unreplied", "19 02:01", "bot_message", "bot")
    world.add_event("unreplied", "19 02:02", "agent_reply", "bot")
    world.add_event("unreplied", "19 02:03", "internal_note", is_public=False)

    # Two turns answered, a third one not; a message within a turn starts nothing.
    world.add_case("talkative", "02 02:00", status="pending")
    world.add_event("talkative", "02 02:05", "customer_message", "customer")
    world.add_event("talkative", "02 02:20", "agent_reply")
    world.add_event("talkative", "02 02:25", "agent_reply")
    world.add_event("talkative", "02 03:00", "customer_message", "customer")
    world.add_event("talkative", "02 03:07:30", "agent_reply", actor_ref="agent 2")
    world.add_status("talkative", "02 03:08", "new", "pending")
    world.add_event("talkative", "02 09:00", "customer_message", "customer")

    # 11:30 to 14:00 in Shanghai with a break from 12:00 to 13:30.
    world.add_case("lunch", "02 03:30", status="solved", assignee_ref="agent 1")
    world.add_event("lunch", "02 06:00", "agent_reply")
    world.add_status("lunch", "02 06:00", "new", "solved")

    # Handed from Shanghai to Berlin: waiting follows the team, the first reply does not.
    world.add_case("handed over", "02 07:00", status="solved", source_group="eu")
    world.add_event("handed over", "02 09:00", "group_changed", from_value="billing", to_value="eu")
    world.add_event("handed over", "02 10:00", "agent_reply")
    world.add_status("handed over", "02 10:00", "new", "solved")

    # 18:00 on the 5th in Berlin, 01:00 on the 6th in Shanghai.
    for name, group in (("berlin evening", "eu"), ("shanghai night", "billing")):
        world.add_case(name, "05 17:00", status="solved", source_group=group, channel="phone")
        world.add_status(name, "05 18:00", "new", "solved")

    world.add_case("spam", "02 02:00", is_excluded=True, exclusion_reason="spam")
    world.add_case("deleted at once", "02 02:00", status="deleted", created_as="deleted",
                   is_excluded=True, exclusion_reason="deleted")  # fmt: skip
    # Groups that the source logs without a sequence.
    world.add_case("passed around", "02 02:00", status="solved", source_group="eu")
    for old, new in (("billing", "eu"), ("eu", "billing"), ("billing", "eu")):
        world.add_event("passed around", "02 02:00", "group_changed", sequence=None,
                        from_value=old, to_value=new)  # fmt: skip
    world.add_status("passed around", "02 03:00", "new", "solved")
    # Records that contradict each other.
    world.add_case("solved early", "02 02:00", status="solved", source_group="eu")
    world.add_event("solved early", "02 01:00", "group_changed", from_value="billing",
                    to_value="eu")  # fmt: skip
    world.add_status("solved early", "02 01:30", "new", "solved")
    world.add_case("clock set back", "10 02:00", status="solved")
    world.add_event("clock set back", "10 04:00", "agent_reply")
    world.add_event("clock set back", "10 03:00", "agent_reply")
    world.add_status("clock set back", "10 05:00", "new", "solved")
    world.add_event("clock set back", "21 03:00", "internal_note", is_public=False)
    world.add_case("clock fast", "19 02:00", status="solved")
    world.add_status("clock fast", "22 03:00", "new", "solved")
    world.add_case("without events", "02 02:00", status="solved", opened_by_role="agent",
                   updated_at=at("03 02:00"))  # fmt: skip
    world.remove("case_events", next(reversed(world.rows["case_events"])))
    # Known by its present status alone.
    world.add_case("unlogged", "02 02:00", status="solved", updated_at=at("03 02:00"))

    # Solved at once, but the customer came back with the same need within a week.
    world.add_case("first try", "02 02:00", status="solved", customer_ref="returning")
    world.add_status("first try", "02 03:00", "new", "solved")
    world.add_case("second try", "05 02:00", status="solved", customer_ref="returning")
    world.add_status("second try", "05 03:00", "new", "solved")
    world.add_case("just solved", "18 02:00", status="solved")
    world.add_status("just solved", "18 03:00", "new", "solved")


def add_chats(world: World) -> None:
    """Cases of the service level for chats: 30 minutes by the calendar."""
    world.add_case("chat in time", "07 02:00", channel="chat", status="solved")
    world.add_event("chat in time", "07 02:30", "agent_reply")
    world.add_status("chat in time", "07 02:40", "new", "solved")
    world.add_case("chat late", "07 02:00", channel="chat")
    world.add_event("chat late", "07 02:31", "agent_reply")
    world.add_case("chat overdue", "20 11:00", channel="chat")
    world.add_case("chat running", "20 11:45", channel="chat")
    # Business minutes: Friday 17:00 in Shanghai plus 240 is Monday 12:00.
    world.add_case("over the weekend", "20 09:00")
    # Urgent when it was opened; what it became later does not matter.
    world.add_case("calmed down", "19 01:00", priority="normal")
    world.add_event(
        "calmed down", "19 05:00", "priority_changed", from_value="urgent", to_value="normal"
    )


def add_promises(world: World) -> None:
    """Cases of the service levels beside the first reply, at noon of the 20th."""

    def add(name: str, opened: str, replied: str | None, **values: Any) -> None:
        world.add_case(name, opened, channel="social", tags=["promised"], **values)
        if replied:
            world.add_event(name, replied, "agent_reply")

    add("next reply due", "20 08:00", "20 08:30")
    world.add_event("next reply due", "20 10:30", "customer_message", "customer")
    add("due and overdue", "18 06:00", "18 06:10")
    world.add_event("due and overdue", "20 11:00", "customer_message", "customer")
    add("resolution overdue", "18 06:00", "18 06:10")
    world.add_event("resolution overdue", "20 10:00", "agent_reply")
    add("first reply owed", "18 06:00", None)
    add("waits for the customer", "20 08:00", "20 08:20", status="pending")
    world.add_status("waits for the customer", "20 08:30", "new", "pending")
    add("broken long ago", "01 06:00", "01 06:10")
    add("promise kept", "20 08:00", "20 08:20", status="solved")
    world.add_status("promise kept", "20 08:30", "new", "solved")
    add("spam, promised", "18 06:00", "18 06:10", is_excluded=True, exclusion_reason="spam")


def add_answers(world: World) -> None:
    """Answers to surveys, and two customers who are one person."""
    for number, score in enumerate([5, 5, 4, 4, 4, 3, 3, 2, 1, 1]):
        world.add_answer(f"csat {number}", "10 02:00", "csat", score)
    world.add_answer("csat, first", "11 02:00", "csat", 1, case_id="talkative")
    world.add_answer("csat, latest", "12 02:00", "csat", 5, case_id="talkative")
    world.add_answer("csat, offered", "10 02:00", "csat", None, answered_at=None)
    for number, score in enumerate([10, 9, 8, 6, 0]):
        world.add_answer(f"nps {number}", "10 02:00", "nps", score)
    world.add_answer("ces easy", "10 02:00", "ces", 5)
    world.add_answer("ces turned", "10 02:00", "ces", 1, higher_is_better=False)
    world.add_answer("ces hard", "10 02:00", "ces", 4)
    world.add_answer("bad after solve", "09 02:00", "nps", 3, case_id="settled twice")

    usual = {"source": "support", "display_name": "A", "is_vip": False}
    world.put("customers", "desk 1", **usual, customer_ref="desk 1", source_customer_id="1",
              external_id="C-7")  # fmt: skip
    world.put("customers", "crm 7", customer_ref="crm 7", source="crm", source_customer_id="C-7",
              email_key="mail 7", display_name="Record", is_vip=True, segment="gold")  # fmt: skip
    world.put("customers", "shop 3", **usual, customer_ref="shop 3", source_customer_id="3",
              email_key="mail 7")  # fmt: skip
    world.put("customers", "desk 2", **usual, customer_ref="desk 2", source_customer_id="2",
              email_key="mail 2")  # fmt: skip
    world.put("orders", "order 1", order_id="order 1", source="crm", source_order_id="1",
              customer_ref="shop 3", ordered_at=at("01 00:00"), status="paid")  # fmt: skip


def add_deleted(world: World) -> None:
    """What a source says is gone: kept, and left out."""
    gone = {"is_excluded": True, "exclusion_reason": "deleted"}
    world.add_answer("csat, deleted", "10 02:00", "csat", 1, **gone)
    world.add_answer("csat, latest but deleted", "13 02:00", "csat", 1, case_id="talkative", **gone)
    world.add_answer("deleted after solve", "09 02:00", "nps", 0, case_id="lunch", **gone)
    world.add_feedback("deleted post", "18 03:00", channel="forum", customer_ref="desk 3", **gone)
    world.put("orders", "order 2", order_id="order 2", source="crm", source_order_id="2",
              customer_ref="shop 3", ordered_at=at("02 00:00"), **gone)  # fmt: skip
    usual = {"source": "support", "display_name": "M", **gone}
    world.put("customers", "desk 8", **usual, customer_ref="desk 8", source_customer_id="8")
    # Merged into desk 2 by way of another one; the last knows of nobody that is there.
    merged = usual | {"exclusion_reason": "merged"}
    for number, into in ((3, 4), (4, 2), (5, 99)):
        key = f"desk {number}"
        world.put("customers", key, **merged, customer_ref=key, source_customer_id=str(number),
                  merged_into=f"desk {into}", is_vip=True, signup_at=at("01 00:00"))  # fmt: skip


def add_rated_durations(world: World) -> None:
    """Ratings 5 to 1 of cases that took 10 to 50 minutes."""
    for rating, minutes in zip((5, 4, 3, 2, 1), (10, 20, 30, 40, 50), strict=True):
        name = f"took {minutes}"
        world.add_case(name, "13 02:00", channel="api", status="solved")
        world.add_status(name, f"13 02:{minutes}", "new", "solved")
        world.add_answer(name, "13 04:00", "csat", rating, case_id=name, survey_id=name)
    world.add_case("not rated", "13 02:00", channel="api", status="solved")
    world.add_status("not rated", "13 02:30", "new", "solved")


def add_reviews(world: World) -> None:
    """Quality reviews: by weight, failed by a critical category, at the mark, left out."""
    world.add_rating("weighted", "16 02:00", "tone", 5, weight=2, case_id="lunch")
    world.add_rating("weighted", "16 02:00", "solution", 3, case_id="lunch")
    world.add_rating("weighted", "16 02:00", "spelling", None, weight=3, case_id="lunch")
    yes_or_no = {"scale_min": 0, "scale_max": 1, "is_critical": True}
    world.add_rating("failed", "16 02:00", "tone", 5, agent_ref="agent 7")
    world.add_rating("failed", "16 02:00", "privacy", 0, agent_ref="agent 7", weight=0.05,
                     **yes_or_no)  # fmt: skip
    world.add_rating("at the mark", "16 02:00", "tone", 4, weight=4, agent_ref="agent 7")
    world.add_rating("at the mark", "16 02:00", "privacy", 1, agent_ref="agent 7", **yes_or_no)
    # Half of the points is not failed. The day is that of the latest rating.
    world.add_rating("half", "15 02:00", "tone", 5)
    world.add_rating("half", "16 15:59", "privacy", 2, scale_max=3, is_critical=True)
    world.add_rating("nothing rated", "16 02:00", "tone", None)
    world.add_rating("without weight", "16 02:00", "tone", 5, weight=0)
    world.add_rating("of spam", "16 02:00", "tone", 5, case_id="spam")
    gone = {"is_excluded": True, "exclusion_reason": "deleted"}
    world.add_rating("deleted", "16 02:00", "tone", 1, **gone)


def add_complaints(world: World) -> None:
    """What the follow-up rules look for, and what they must leave alone."""
    complaint = {"feedback_type": "complaint", "priority": "high"}
    world.add_case("ignored", "18 02:00", customer_ref="desk 1")
    world.add_feedback("ignored complaint", "18 03:00", case_id="ignored",
                       customer_ref="desk 1", label=complaint)  # fmt: skip
    world.add_case("answered", "18 02:00")
    world.add_feedback("answered complaint", "18 03:00", case_id="answered", label=complaint)
    world.add_event("answered", "18 04:00", "agent_reply")
    world.add_feedback("bad review", "18 03:00", channel="review", label=complaint)
    world.add_feedback("mild review", "18 03:00", channel="review",
                       label={"feedback_type": "complaint"})  # fmt: skip
    world.add_feedback("unsure review", "18 03:00", channel="review",
                       label=complaint | {"is_unsure": True})  # fmt: skip


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The built world; all whole-table tests of the project have passed on it."""
    world = World(tmp_path_factory.mktemp("golden"))
    for add in (
        add_golden_cases,
        add_chats,
        add_promises,
        add_answers,
        add_deleted,
        add_rated_durations,
        add_reviews,
        add_complaints,
    ):
        add(world)
    world.commit()
    world.build(with_tests=True)
    return world

"""The demo world as it was at one instant: what its help desk, site and files show then."""

from __future__ import annotations

import html
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.demo import catalog, files
from pipelines.demo.cases import TARGET_HOURS, Audit, Event, Ticket
from pipelines.demo.company import DAY, DAYS, HOUR, OFFSET, User, to_iso
from pipelines.demo.truth import LABELS_FILE, Truth
from pipelines.demo.world import SURGE_DAY, Post, World

BASE = "@BASE@"  # replaced by the server's own address
SERVED = "served"
RATING_FIRST_ID = 700_000_000


def write_view(world: World, directory: Path, truth: Truth, now: int) -> None:
    """Write files, served records, labels and truth of the world as it was at ``now`` (seconds)."""
    (directory / SERVED).mkdir(parents=True, exist_ok=True)
    tickets = [t for t in world.tickets if t.opened <= now]
    write_helpdesk(world, directory / SERVED, truth, tickets, now)
    write_reviews(world, directory / SERVED, truth, now)
    write_files(world, directory, truth, tickets, now)
    write_labels(world, directory, truth, tickets, now)
    note_cases(truth, tickets, now)
    note_low_answers(world, truth, now)
    note_pairs(world, truth, now)
    note_late_changes(world, truth, now)
    note_surge(world, truth, tickets, now)
    note_slow_team(truth, tickets, now)


def seen(ticket: Ticket, now: int) -> list[Audit]:
    return [audit for audit in ticket.audits if audit.at <= now]


def state_at(audits: Iterable[Audit]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for audit in audits:
        for event in audit.events:
            if event.field:
                state[event.field] = event.value
    return state


# help desk


def show_text(text: str) -> str:
    body = html.escape(text, quote=False).replace("\n", "<br>")
    return f'<div class="zd-comment" dir="auto">{body}</div>'


def child_of(event: Event, via: str) -> dict[str, Any]:
    """A child event as the incremental feed shows it, with include=comment_events."""
    child: dict[str, Any] = {"id": event.id, "via": via, "via_reference_id": None}
    if event.kind == "Comment":
        child |= {
            "comment_present": True,
            "comment_public": event.is_public,
            "type": "Comment",
            "author_id": event.author,
            "body": event.value,
            "html_body": show_text(event.value),
            "plain_body": event.value,
            "public": event.is_public,
            "attachments": [],
            "event_type": "Comment",
        }
        return child
    child["event_type"] = event.kind
    child[event.field] = event.value
    if event.kind == "Change":
        child["previous_value"] = event.previous
    if event.field == "tags" and event.kind == "Change":
        before, after = set(event.previous or []), set(event.value)
        child["added_tags"] = sorted(after - before)
        child["removed_tags"] = sorted(before - after)
    return child


def audit_record(ticket: Ticket, audit: Audit) -> dict[str, Any]:
    return {
        "id": audit.id,
        "ticket_id": ticket.id,
        "timestamp": audit.at,
        "created_at": to_iso(audit.at),
        "updater_id": audit.updater,
        "via": audit.via,
        "system": {},
        "event_type": "Audit",
        "child_events": [child_of(event, audit.via) for event in audit.events],
    }


def via_of(ticket: Ticket) -> dict[str, Any]:
    channel = {"chat": "native_messaging"}.get(ticket.channel, ticket.channel)
    source: dict[str, Any] = {"from": {}, "to": {}, "rel": None}
    if ticket.channel == "email":
        source["from"] = {"address": ticket.user.email, "name": ticket.user.name}
        source["to"] = {"address": "care@lanting.example", "name": "Lanting Care"}
    if ticket.channel == "voice":
        source["rel"] = "inbound"
    return {"channel": channel, "source": source}


def ticket_record(ticket: Ticket, audits: list[Audit], state: dict[str, Any]) -> dict[str, Any]:
    score = state.get("satisfaction_score", "unoffered")
    rating: dict[str, Any] = {"score": score}
    if score in ("good", "bad"):
        rating |= {"id": RATING_FIRST_ID + ticket.id, "comment": state.get("satisfaction_comment")}
    updated = audits[-1].at
    return {
        "url": f"{BASE}/api/v2/tickets/{ticket.id}.json",
        "id": ticket.id,
        "external_id": None,
        "via": via_of(ticket),
        "created_at": to_iso(ticket.opened),
        "updated_at": to_iso(updated),
        "generated_timestamp": updated,
        "type": {"question": "question", "complaint": "incident"}.get(ticket.label.feedback_type),
        "subject": ticket.subject,
        "raw_subject": ticket.subject,
        "description": ticket.body,
        "priority": state.get("priority"),
        "status": state["status"],
        "recipient": "care@lanting.example" if ticket.channel == "email" else None,
        "requester_id": ticket.user.id,
        "submitter_id": ticket.submitter,
        "assignee_id": state.get("assignee_id"),
        "organization_id": None,
        "group_id": state.get("group_id"),
        "collaborator_ids": [],
        "follower_ids": [],
        "email_cc_ids": [],
        "forum_topic_id": None,
        "problem_id": None,
        "has_incidents": False,
        "is_public": True,
        "due_at": None,
        "tags": state["tags"],
        "custom_fields": [
            {"id": catalog.PRODUCT_FIELD, "value": ticket.product.name("en")},
            {"id": catalog.LANGUAGE_FIELD, "value": ticket.language},
        ],
        "satisfaction_rating": rating,
        "sharing_agreement_ids": [],
        "custom_status_id": None,
        "followup_ids": [],
        "ticket_form_id": 360030001,
        "brand_id": 360040001,
        "allow_channelback": False,
        "allow_attachments": True,
        "from_messaging_channel": ticket.channel == "chat",
    }


def metric_record(ticket: Ticket, audits: list[Audit]) -> dict[str, Any]:
    """The vendor's own figures of a ticket, in whole minutes.

    This desk has no schedule, so business minutes equal calendar minutes.
    """
    status, since = "new", ticket.opened
    spent: Counter[str] = Counter()
    replies = reopens = 0
    first_reply = first_solved = last_solved = latest_comment = assigned = first_assigned = None
    assignees: set[int] = set()
    groups: set[int] = set()
    status_at = ticket.opened
    for number, audit in enumerate(audits):
        for event in audit.events:
            if event.kind == "Comment":
                latest_comment = audit.at
                if number and event.author_role == "agent" and event.is_public:
                    replies += 1
                    first_reply = first_reply or audit.at
            elif event.field == "assignee_id":
                assigned = audit.at
                first_assigned = first_assigned or audit.at
                assignees.add(event.value)
            elif event.field == "group_id":
                groups.add(event.value)
            elif event.field == "status" and event.kind == "Change":
                spent[status] += audit.at - since
                done = ("solved", "closed")
                if event.value == "solved":
                    first_solved, last_solved = first_solved or audit.at, audit.at
                if status in done and event.value not in (*done, "deleted"):
                    reopens += 1
                status, since, status_at = event.value, audit.at, audit.at

    def minutes(seconds: int | None) -> dict[str, int | None]:
        value = None if seconds is None else seconds // 60
        return {"calendar": value, "business": value}

    is_done = status in ("solved", "closed")
    wait = spent["new"] + spent["open"] + spent["hold"]
    return {
        "url": f"{BASE}/api/v2/ticket_metrics/{360090000 + ticket.id}.json",
        "id": 360090000 + ticket.id,
        "ticket_id": ticket.id,
        "created_at": to_iso(ticket.opened),
        "updated_at": to_iso(audits[-1].at),
        "group_stations": len(groups),
        "assignee_stations": len(assignees),
        "reopens": reopens,
        "replies": replies,
        "assigned_at": to_iso(assigned) if assigned else None,
        "initially_assigned_at": to_iso(first_assigned) if first_assigned else None,
        "solved_at": to_iso(last_solved) if last_solved and is_done else None,
        "status_updated_at": to_iso(status_at),
        "latest_comment_added_at": to_iso(latest_comment) if latest_comment else None,
        "reply_time_in_minutes": minutes(first_reply - ticket.opened if first_reply else None),
        "first_resolution_time_in_minutes": minutes(
            first_solved - ticket.opened if first_solved else None
        ),
        "full_resolution_time_in_minutes": minutes(
            last_solved - ticket.opened if last_solved and is_done else None
        ),
        "agent_wait_time_in_minutes": minutes(spent["pending"] if is_done else None),
        "requester_wait_time_in_minutes": minutes(wait if is_done else None),
        "on_hold_time_in_minutes": minutes(spent["hold"]),
    }


def user_record(user: User) -> dict[str, Any]:
    is_vip = bool(user.customer and user.customer.versions[0][2])
    return {
        "id": user.id,
        "url": f"{BASE}/api/v2/users/{user.id}.json",
        "name": user.name,
        "email": user.email,
        "created_at": to_iso(user.created),
        "updated_at": to_iso(user.created),
        "time_zone": "Beijing" if user.language == "zh" else "London",
        "iana_time_zone": "Asia/Shanghai" if user.language == "zh" else "Europe/London",
        "phone": user.phone,
        "locale": "zh-CN" if user.language == "zh" else "en-GB",
        "organization_id": None,
        "role": "end-user",
        "verified": True,
        "external_id": user.external_id,
        "tags": ["vip"] if is_vip else [],
        "alias": None,
        "active": True,
        "suspended": False,
        "notes": None,
        "user_fields": {},
    }


def staff_records(created: int) -> list[dict[str, Any]]:
    records = []
    for agent in catalog.AGENTS:
        user = User(
            agent.user_id, agent.name, agent.email, agent.languages[0], created, agent.hr_id, None
        )
        group = catalog.TEAM_BY_NAME[agent.team].group_id
        records.append(
            user_record(user)
            | {"role": "agent", "active": agent.is_active, "default_group_id": group}
        )
    bot = User(catalog.BOT_ID, catalog.BOT_NAME, "bot@lanting.example", "en", created, None, None)
    records.append(user_record(bot) | {"role": "agent", "tags": ["bot"], "alias": "bot"})
    return records


def write_stream(path: Path, records: Iterable[tuple[int, int, dict[str, Any]]]) -> int:
    """One line a record: sort key, id, JSON; in the order of the keys. Returns their number."""
    rows = sorted(records, key=lambda row: row[:2])
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for key, number, record in rows:
            text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
            out.write(f"{key}\t{number}\t{text}\n")
    return len(rows)


def write_helpdesk(
    world: World, served: Path, truth: Truth, tickets: list[Ticket], now: int
) -> None:
    created = world.period.start - 300 * DAY
    users = [(u.created, u.id, user_record(u)) for u in world.users if u.created <= now]
    users += [(created, record["id"], record) for record in staff_records(created)]
    cases, acts, ratings, metrics = [], [], [], []
    comments = bad = children = 0
    rejected = {id(event): reason for _, event, reason in world.bad_comments}
    for ticket in tickets:
        audits = seen(ticket, now)
        state = state_at(audits)
        last = audits[-1].at
        cases.append((last, ticket.id, ticket_record(ticket, audits, state)))
        metrics.append((last, ticket.id, metric_record(ticket, audits)))
        for audit in audits:
            acts.append((audit.at, audit.id, audit_record(ticket, audit)))
            for event in audit.events:
                children += 1
                comments += event.kind == "Comment"
                if id(event) in rejected:
                    bad += 1
                    truth.invalid_rows.append(
                        {
                            "source": "helpdesk",
                            "stream": "messages",
                            "file": None,
                            "line": None,
                            "id": str(event.id),
                            "reason": rejected[id(event)],
                        }
                    )
        if "satisfaction_score" in state:
            ratings.append(rating_record(ticket, audits, state))
    groups = [(0, team.group_id, group_record(team, created)) for team in catalog.TEAMS]
    numbers = {
        "tickets": write_stream(served / "tickets.tsv", cases),
        "users": write_stream(served / "users.tsv", users),
        "ticket_events": write_stream(served / "ticket_events.tsv", acts),
        "satisfaction_ratings": write_stream(served / "satisfaction_ratings.tsv", ratings),
        "ticket_metrics": write_stream(served / "ticket_metrics.tsv", metrics),
        "groups": write_stream(served / "groups.tsv", groups),
    }
    for stream, number in numbers.items():
        truth.counts[f"helpdesk.{stream}"] = dict.fromkeys(
            ("records_served", "distinct_ids", "valid_ids"), number
        )
    truth.counts["helpdesk.messages"] = {
        "records_served": comments,
        "distinct_ids": comments,
        "valid_ids": comments - bad,
    }
    truth.counts["helpdesk.child_events"] = dict.fromkeys(
        ("records_served", "distinct_ids", "valid_ids"), children
    )


def group_record(team: catalog.Team, created: int) -> dict[str, Any]:
    return {
        "url": f"{BASE}/api/v2/groups/{team.group_id}.json",
        "id": team.group_id,
        "is_public": True,
        "name": team.name,
        "description": team.zh,
        "default": team.name == "After-sales Care",
        "deleted": False,
        "created_at": to_iso(created),
        "updated_at": to_iso(created),
    }


def rating_record(
    ticket: Ticket, audits: list[Audit], state: dict[str, Any]
) -> tuple[int, int, dict[str, Any]]:
    times = [a.at for a in audits for e in a.events if e.field == "satisfaction_score"]
    number = RATING_FIRST_ID + ticket.id
    record = {
        "url": f"{BASE}/api/v2/satisfaction_ratings/{number}.json",
        "id": number,
        "assignee_id": state.get("assignee_id"),
        "group_id": state.get("group_id"),
        "requester_id": ticket.user.id,
        "ticket_id": ticket.id,
        "score": state["satisfaction_score"],
        "created_at": to_iso(times[0]),
        "updated_at": to_iso(times[-1]),
        "comment": state.get("satisfaction_comment"),
        "reason": None,
        "reason_id": None,
        "reason_code": None,
    }
    return times[-1], number, record


# reviews and files


def write_reviews(world: World, served: Path, truth: Truth, now: int) -> None:
    rows, public = [], 0
    for post in world.reviews:
        version = post.state(now)
        if version is None:
            continue
        public += not post.is_private
        rows.append(
            {
                "id": post.id,
                "product": post.product.key,
                "language": post.language,
                "author": post.author,
                "title": post.title,
                "text": version.text,
                "stars": version.stars,
                "created": post.created,
                "updated": version.at,
                "private": post.is_private,
            }
        )
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (served / "reviews.jsonl").write_text(text + "\n", encoding="utf-8")
    truth.counts["reviews.reviews"] = dict.fromkeys(
        ("records_served", "distinct_ids", "valid_ids"), public
    )


def write_files(
    world: World, directory: Path, truth: Truth, tickets: list[Ticket], now: int
) -> None:
    def rng(name: str) -> random.Random:
        return random.Random(f"{truth.seed}/{truth.until}/{name}")

    rows, repeated = files.make_survey_rows(world, now, rng("survey"))
    files.write_rows(
        directory / "survey.csv",
        "survey",
        "responses",
        rows,
        truth,
        columns=files.SURVEY_COLUMNS,
        repeated=repeated,
    )
    rows, repeated = files.make_post_rows(world, now, rng("posts"))
    files.write_rows(
        directory / "app_feedback.jsonl", "app_feedback", "feedback", rows, truth, repeated=repeated
    )
    rows, _ = files.make_customer_rows(world, now, rng("crm"))
    files.write_rows(
        directory / "customers.csv", "crm", "customers", rows, truth, columns=files.CRM_COLUMNS
    )
    rows = files.make_order_rows(world, now)
    files.write_rows(directory / "orders.jsonl", "erp", "orders", rows, truth)
    rows = files.make_review_rows(list_solves(tickets, now), now, truth)
    files.write_rows(
        directory / "quality_reviews.csv",
        "quality",
        "reviews",
        rows,
        truth,
        columns=files.REVIEW_COLUMNS,
    )
    rows = files.make_agent_rows(world.period.start)
    files.write_rows(
        directory / "agents.csv", "hr", "agents", rows, truth, columns=files.HR_COLUMNS
    )


def list_solves(tickets: list[Ticket], now: int) -> list[files.Solve]:
    """First solves of cases that somebody opened in earnest, whatever becomes of them later."""
    found = []
    leads: dict[str, int] = {}  # of each team the first
    lead_of = {a.user_id: leads.setdefault(a.team, a.user_id) for a in catalog.AGENTS}
    for ticket in tickets:
        audits = seen(ticket, now)
        if ticket.plants & {"spam", "test", "bot"}:
            continue
        for place, audit in enumerate(audits):
            if any(event.field == "status" and event.value == "solved" for event in audit.events):
                agent: int = state_at(audits[: place + 1]).get("assignee_id") or 0
                lead = lead_of.get(agent)
                if lead and lead != agent:
                    found.append(files.Solve(ticket.id, audit.at, agent, lead, ticket.language))
                break
    return found


# labels and truth


def write_labels(
    world: World, directory: Path, truth: Truth, tickets: list[Ticket], now: int
) -> None:
    count = 0
    with (directory / LABELS_FILE).open("w", encoding="utf-8") as out:
        for row in list_labels(world, tickets, now):
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    truth.counts["feedback.items"] = dict.fromkeys(
        ("records_served", "distinct_ids", "valid_ids"), count
    )


def list_labels(world: World, tickets: list[Ticket], now: int) -> Iterator[dict[str, Any]]:
    """The label of every feedback item that a correct pipeline accepts."""
    rejected = {id(event) for _, event, _ in world.bad_comments}
    for ticket in tickets:
        for number, audit in enumerate(seen(ticket, now)):
            for event in audit.events:
                if event.label is not None and id(event) not in rejected:
                    yield {
                        "source": "helpdesk",
                        "source_record_id": str(event.id),
                        "part": "message" if number else "opening",
                        "case_id": str(ticket.id),
                        **asdict(event.label),
                        "language": ticket.language,
                        "author_role": "bot" if "bot" in ticket.plants else event.author_role,
                        "created_at": to_iso(audit.at),
                    }
        yield from label_rating(ticket, now)
    for source, part, posts in (
        ("reviews", "review", world.reviews),
        ("app_feedback", "post", world.posts),
    ):
        for post in posts:
            version = post.state(now)
            if version is not None and not post.is_private:
                yield {
                    "source": source,
                    "source_record_id": post.id,
                    "part": part,
                    "case_id": None,
                    **asdict(version.label),
                    "language": post.language,
                    "author_role": "customer",
                    "created_at": to_iso(post.created),
                }
    for row in world.surveys:
        if row.label and row.answered and row.answered <= now:
            yield {
                "source": "survey",
                "source_record_id": row.id,
                "part": "survey",
                "case_id": str(row.ticket.id) if row.ticket else None,
                **asdict(row.label),
                "language": row.language,
                "author_role": "customer",
                "created_at": to_iso(row.answered),
            }


def label_rating(ticket: Ticket, now: int) -> Iterator[dict[str, Any]]:
    """The label of the comment that came with a case's rating, if there is one."""
    audits = seen(ticket, now)
    state = state_at(audits)
    if state.get("satisfaction_comment"):
        is_good = state["satisfaction_score"] == "good"
        yield {
            "source": "helpdesk",
            "source_record_id": f"rating-{RATING_FIRST_ID + ticket.id}",
            "part": "rating",
            "case_id": str(ticket.id),
            "feedback_type": "praise" if is_good else "complaint",
            "need": ticket.label.need,
            "sentiment": "positive" if is_good else "negative",
            "priority": "low" if is_good else "normal",
            "language": ticket.language,
            "author_role": "customer",
            "created_at": to_iso(rated_at(audits)),
        }


def rated_at(audits: list[Audit]) -> int:
    return max(a.at for a in audits for e in a.events if e.field == "satisfaction_score")


def is_replied(audits: list[Audit]) -> bool:
    return first_reply_at(audits) is not None


def first_reply_at(audits: list[Audit]) -> int | None:
    for audit in audits[1:]:
        for event in audit.events:
            if event.kind == "Comment" and event.author_role == "agent" and event.is_public:
                return audit.at
    return None


def note_cases(truth: Truth, tickets: list[Ticket], now: int) -> None:
    """Lists of cases by what has become of them at ``now``."""
    for ticket in tickets:
        audits = seen(ticket, now)
        state = state_at(audits)
        name = str(ticket.id)
        if "spam" in ticket.plants:
            truth.spam.append(name)
        if "test" in ticket.plants:
            truth.tests.append(name)
        if "bot" in ticket.plants:
            truth.opened_by_bot.append(name)
        if state["status"] == "deleted":
            truth.deleted.append(name)
            continue
        if ticket.merged_into is not None and "closed_by_merge" in state["tags"]:
            truth.merged.append({"id": name, "into": str(ticket.merged_into.id)})
            continue
        if ticket.plants & {"spam", "test", "bot"}:
            continue
        if state.get("satisfaction_score") == "bad":
            rated = to_iso(rated_at(audits))
            truth.low_satisfaction.append({"case_id": name, "rated_at": rated})
        if is_replied(audits) or state["status"] in ("solved", "closed"):
            continue
        age = now - ticket.opened
        if ticket.label.feedback_type == "complaint" and age > DAY:
            truth.unanswered_complaints.append(name)
        priority = state.get("priority") or "normal"
        breach = ticket.opened + TARGET_HOURS[priority] * HOUR
        found = {
            "case_id": name,
            "priority": priority,
            "opened_at": to_iso(ticket.opened),
            "breach_at": to_iso(breach),
        }
        if breach <= now:
            truth.breached.append(found)
        elif breach <= now + 8 * HOUR:
            truth.at_risk.append(found)


def note_low_answers(world: World, truth: Truth, now: int) -> None:
    """Cases that a survey answered after their last solve calls bad."""
    for row in world.surveys:
        if row.ticket is None or row.answered is None or row.answered > now:
            continue
        audits = seen(row.ticket, now)
        solves = [
            audit.at
            for audit in audits
            for event in audit.events
            if event.field == "status" and event.value == "solved"
        ]
        is_low = (row.csat or 5) <= 3 or (10 if row.nps is None else row.nps) <= 6
        if is_low and solves and solves[-1] <= row.answered:
            rated = to_iso(row.answered)
            truth.low_survey_answers.append({"case_id": str(row.ticket.id), "rated_at": rated})


def note_pairs(world: World, truth: Truth, now: int) -> None:
    for kind, source, copy, original in world.duplicates:
        if isinstance(copy, Ticket) and isinstance(original, Ticket):
            if copy.opened > now:
                continue
            copy_id, of_id = str(copy.id), str(original.id)
        elif isinstance(copy, Post) and isinstance(original, Post):
            if copy.created > now:
                continue
            copy_id, of_id = copy.id, original.id
        else:
            raise TypeError(
                f"duplicate of {type(copy).__name__}: expected two tickets or two posts"
            )
        pairs = truth.exact_duplicates if kind == "exact" else truth.near_duplicates
        pairs.append({"source": source, "id": copy_id, "of": of_id})


def note_late_changes(world: World, truth: Truth, now: int) -> None:
    """Records older than a fortnight that changed in the last three days of the period."""
    since = world.period.end - 3 * DAY
    found: list[tuple[str, str, str, int]] = []
    for ticket in world.tickets:
        if "late" in ticket.plants:
            moved = [a.at for a in ticket.audits if since - HOUR <= a.at <= now]
            if moved:
                found.append(("helpdesk", "tickets", str(ticket.id), moved[0]))
    for source, stream, posts in (
        ("reviews", "reviews", world.reviews),
        ("app_feedback", "feedback", world.posts),
    ):
        for post in posts:
            if len(post.versions) > 1 and post.versions[-1].at <= now:
                found.append((source, stream, post.id, post.versions[-1].at))
    for row in world.surveys:
        if row.answered and since <= row.answered <= now and row.answered - row.invited > 10 * DAY:
            found.append(("survey", "responses", row.id, row.answered))
    for customer in world.customers:
        if len(customer.versions) > 1 and customer.versions[-1][0] <= now:
            found.append(("crm", "customers", customer.id, customer.versions[-1][0]))
    truth.late_changes = [
        {"source": source, "stream": stream, "id": name, "changed_at": to_iso(at)}
        for source, stream, name, at in found
    ]


def note_surge(world: World, truth: Truth, tickets: list[Ticket], now: int) -> None:
    product = catalog.BY_KEY[catalog.SURGE_PRODUCT]
    found = [
        ("helpdesk", t.opened, t.language)
        for t in tickets
        if t.product is product
        and t.label.feedback_type == "complaint"
        and not t.plants & {"deleted"}
    ]
    for source, posts in (("reviews", world.reviews), ("app_feedback", world.posts)):
        found += [
            (source, p.created, p.language)
            for p in posts
            if p.product is product
            and p.created <= now
            and not p.is_private
            and p.versions[0].label.feedback_type == "complaint"
        ]
    by_day = Counter((at - world.period.start) // DAY for _, at, _ in found)
    that_day = [row for row in found if (row[1] - world.period.start) // DAY == SURGE_DAY]
    day = world.period.start + SURGE_DAY * DAY + OFFSET
    others = sum(count for number, count in by_day.items() if number != SURGE_DAY)
    truth.surge = {
        "product": product.key,
        "product_names": [product.en, product.zh],
        "day": to_iso(day)[:10],
        "count": len(that_day),
        "base_per_day": round(others / (DAYS - 1), 3),
        "by_language": dict(sorted(Counter(row[2] for row in that_day).items())),
        "by_source": dict(sorted(Counter(row[0] for row in that_day).items())),
    }


def note_slow_team(truth: Truth, tickets: list[Ticket], now: int) -> None:
    """Share of normal-priority cases whose first reply took over 8 hours (calendar), by team."""
    met: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    limit = TARGET_HOURS["normal"] * HOUR
    names = {team.group_id: team.name for team in catalog.TEAMS}
    for ticket in tickets:
        audits = seen(ticket, now)
        state = state_at(audits)
        if state.get("priority") != "normal" or ticket.plants & {"spam", "test", "bot", "deleted"}:
            continue
        if ticket.merged_into is not None:
            continue
        team = names[state["group_id"]]
        replied = first_reply_at(audits)
        if replied is not None and replied - ticket.opened <= limit:
            met[team] += 1
        elif replied is not None or now - ticket.opened > limit:
            missed[team] += 1
    slow = catalog.SLOW_TEAM
    rest = [team.name for team in catalog.TEAMS if team.name != slow]

    def share(teams: list[str]) -> float:
        bad, good = sum(missed[t] for t in teams), sum(met[t] for t in teams)
        return round(bad / max(bad + good, 1), 4)

    truth.slow_team = {
        "team": slow,
        "priority": "normal",
        "target_hours": TARGET_HOURS["normal"],
        "clock": "calendar",
        "share_missed": share([slow]),
        "share_missed_others": share(rest),
        "missed_by_team": {team.name: share([team.name]) for team in catalog.TEAMS},
        "cases_by_team": {t.name: met[t.name] + missed[t.name] for t in catalog.TEAMS},
    }

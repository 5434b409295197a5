"""Support cases and their histories, act by act, as a help desk would have logged them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipelines.demo import catalog
from pipelines.demo.catalog import Agent, Product, Team
from pipelines.demo.company import DAY, HOUR, OFFSET, User
from pipelines.demo.texts import CALL_NOTE, Label, Writer

CHANNELS = ("web", "email", "chat", "voice", "twitter", "wechat")
CHANNEL_WEIGHTS = (38, 27, 18, 6, 5, 6)
VIA_WORDS = {
    "web": "Web form",
    "email": "Mail",
    "chat": "Chat",
    "voice": "Phone call (inbound)",
    "twitter": "Twitter",
    "wechat": "WeChat",
    "api": "Web service",
    "rule": "Rule",
}
STYLE_OF = {
    "web": "web",
    "email": "email",
    "chat": "chat",
    "voice": "phone",
    "twitter": "social",
    "wechat": "chat",
}
FIRST_REPLY_HOURS = {"urgent": 0.35, "high": 1.1, "normal": 2.0, "low": 5.0}
TARGET_HOURS = {"urgent": 1, "high": 4, "normal": 8, "low": 24}


@dataclass(slots=True)
class Event:
    """One child of an audit. ``kind`` is Create, Change or Comment."""

    kind: str
    field: str = ""
    value: Any = None
    previous: Any = None
    author: int = 0
    is_public: bool = True
    label: Label | None = None
    author_role: str = ""
    id: int = 0


@dataclass(slots=True)
class Audit:
    at: int
    updater: int
    via: str
    events: list[Event]
    id: int = 0


@dataclass
class Ticket:
    user: User
    product: Product
    label: Label
    channel: str
    subject: str
    body: str
    opened: int
    team: Team
    topic: str = ""
    submitter: int = 0
    id: int = 0
    audits: list[Audit] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    plants: set[str] = field(default_factory=set)
    merged_into: Ticket | None = None

    @property
    def language(self) -> str:
        return self.user.language

    def act(self, at: int, updater: int, via: str, *events: Event | None) -> int:
        """Log one act, never before the last one; the instant it was logged at."""
        if self.audits:
            at = max(at, self.audits[-1].at)
        self.audits.append(Audit(at, updater, via, [event for event in events if event]))
        return at

    def change(self, name: str, value: Any) -> Event | None:
        """The change of a field, or None if it stands so already."""
        previous = self.state.get(name)
        if previous == value:
            return None
        self.state[name] = value
        return Event("Change" if self.audits else "Create", name, value, previous)

    def set_first(self, name: str, value: Any) -> Event:
        self.state[name] = value
        return Event("Create", name, value)


def choose_team(label: Label, product: Product) -> Team:
    """The team that the desk's routing gives a case to: money matters to the finance desk."""
    if product.scene == "finance" and label.need == "after_sales":
        return catalog.TEAM_BY_NAME[catalog.SLOW_TEAM]
    for team in catalog.TEAMS:
        if label.need in team.needs:
            return team
    return catalog.TEAM_BY_NAME["After-sales Care"]


class Historian:
    """Tells what happened to each case after it was opened."""

    def __init__(self, rng: random.Random, writers: dict[str, Writer]):
        self.rng, self.writers = rng, writers
        self.agents = {
            (team.name, language): [
                agent
                for agent in catalog.AGENTS
                if agent.team == team.name and language in agent.languages and agent.is_active
            ]
            for team in catalog.TEAMS
            for language in catalog.LANGUAGES
        }

    def open_ticket(self, ticket: Ticket) -> None:
        """The first acts: the customer's words (or an agent's note of a call) and the routing."""
        rng, at = self.rng, ticket.opened
        via = VIA_WORDS[ticket.channel]
        tags = [ticket.product.key, ticket.product.scene, ticket.language]
        if ticket.channel == "voice":
            agent = rng.choice(self.agents[ticket.team.name, ticket.language])
            ticket.submitter = agent.user_id
            role, author = "agent", agent.user_id
            ticket.body = (
                rng.choice(CALL_NOTE[ticket.language]).replace(
                    "{date}", f"{datetime.fromtimestamp(at + OFFSET, UTC):%m-%d %H:%M}"
                )
                + ticket.body
            )
        else:
            ticket.submitter = ticket.user.id
            role, author = "customer", ticket.user.id
        ticket.act(
            at,
            author,
            via,
            ticket.set_first("subject", ticket.subject),
            ticket.set_first("requester_id", ticket.user.id),
            ticket.set_first("status", "new"),
            ticket.set_first("tags", tags),
            Event(
                "Comment", value=ticket.body, author=author, label=ticket.label, author_role=role
            ),
        )
        wrong = rng.random() < 0.08
        team = rng.choice(catalog.TEAMS) if wrong else ticket.team
        ticket.act(
            at,
            catalog.SYSTEM_ID,
            VIA_WORDS["rule"],
            ticket.change("group_id", team.group_id),
            ticket.change("priority", self.choose_priority(ticket)),
        )
        if ticket.channel in ("web", "chat", "wechat") and rng.random() < 0.5:
            self.bot_says(ticket, at + rng.randint(3, 40))

    def choose_priority(self, ticket: Ticket) -> str:
        """What triage made of it: mostly right."""
        if "at_risk" in ticket.plants or self.rng.random() < 0.85:
            return ticket.label.priority
        return self.rng.choice(("normal", "normal", "high", "low"))

    def bot_says(self, ticket: Ticket, at: int) -> None:
        text = self.say(ticket, "bot", at)
        comment = Event("Comment", value=text, author=catalog.BOT_ID, author_role="bot")
        ticket.act(at, catalog.BOT_ID, VIA_WORDS["api"], comment)

    def say(self, ticket: Ticket, kind: str, at: int, agent: Agent | None = None) -> str:
        names = {"customer": ticket.user.name.split()[0]}
        if agent is not None:
            names["agent"] = agent.name if ticket.language == "zh" else agent.name.split()[0]
        day = datetime.fromtimestamp(at + OFFSET, UTC)
        writer = self.writers[ticket.language]
        return writer.say_extra(kind, writer.facts(ticket.product, day, **names))

    def delay_first_reply(self, ticket: Ticket, priority: str) -> int:
        """Seconds until somebody answers: by priority, slower in one team, slow at night."""
        rng = self.rng
        hours = FIRST_REPLY_HOURS[priority] * rng.lognormvariate(0, 0.75)
        if ticket.team.name == catalog.SLOW_TEAM:
            hours = hours * 4.5 + 2
        at = ticket.opened + int(hours * HOUR)
        hour = (at + OFFSET) % DAY / HOUR
        if (hour >= 22.5 or hour < 8) and priority != "urgent" and rng.random() < 0.35:
            morning = (at + OFFSET) // DAY * DAY - OFFSET + 8 * HOUR + (DAY if hour >= 22.5 else 0)
            at = morning + int(rng.expovariate(1) * HOUR)
        return max(at - ticket.opened, 90)

    def tell(self, ticket: Ticket) -> None:
        """The whole life of an ordinary case after its opening."""
        rng = self.rng
        fate = rng.random()
        if ticket.label.feedback_type in ("praise", "other") and fate < 0.12:
            at = ticket.act(
                ticket.opened + rng.randint(DAY, 2 * DAY),
                catalog.SYSTEM_ID,
                VIA_WORDS["rule"],
                ticket.change("status", "solved"),
            )
            self.close(ticket, at)
            return
        agent = rng.choice(self.agents[ticket.team.name, ticket.language])
        answered = ticket.opened + self.delay_first_reply(ticket, ticket.state["priority"])
        self.take_up(ticket, agent, answered)
        at = self.reply(ticket, agent, answered, "agent_first", self.next_status(ticket))
        for _ in range(4):
            if ticket.state["status"] == "solved":
                break
            at, agent = self.one_round(ticket, agent, at)
        if ticket.state["status"] != "solved":
            at = self.reply(ticket, agent, at + rng.randint(HOUR, DAY), "agent_solve", "solved")
        self.after_solving(ticket, agent, at)

    def take_up(self, ticket: Ticket, agent: Agent, answered: int) -> None:
        """What happens before the first answer: regrouping, assignment, a note, an escalation."""
        rng = self.rng
        span = max(answered - ticket.opened - 30, 1)
        moment = ticket.opened + int(span * rng.uniform(0.1, 0.6))
        group = ticket.change("group_id", ticket.team.group_id)
        if group:
            ticket.act(moment, agent.user_id, VIA_WORDS["web"], group)
        if rng.random() < 0.55:
            moment = ticket.act(
                moment + int(span * 0.1),
                agent.user_id,
                VIA_WORDS["web"],
                ticket.change("assignee_id", agent.user_id),
                ticket.change("status", "open"),
            )
        if rng.random() < 0.06:
            raised = "urgent" if ticket.state["priority"] == "high" else "high"
            ticket.act(
                moment + int(span * 0.05),
                agent.user_id,
                VIA_WORDS["web"],
                ticket.change("priority", raised),
            )
        if rng.random() < 0.3:
            self.note(ticket, agent, moment + int(span * rng.uniform(0.05, 0.3)))

    def note(self, ticket: Ticket, agent: Agent, at: int) -> int:
        text = self.say(ticket, "note", at, agent)
        comment = Event(
            "Comment", value=text, author=agent.user_id, is_public=False, author_role="agent"
        )
        return ticket.act(at, agent.user_id, VIA_WORDS["web"], comment)

    def reply(self, ticket: Ticket, agent: Agent, at: int, kind: str, status: str) -> int:
        text = self.say(ticket, kind, at, agent)
        comment = Event("Comment", value=text, author=agent.user_id, author_role="agent")
        return ticket.act(
            at,
            agent.user_id,
            VIA_WORDS["email" if ticket.channel == "email" else "web"],
            comment,
            ticket.change("assignee_id", agent.user_id),
            ticket.change("status", status),
        )

    def next_status(self, ticket: Ticket) -> str:
        chance = self.rng.random()
        easy = ticket.label.feedback_type != "complaint"
        if chance < (0.4 if easy else 0.2):
            return "solved"
        return "pending" if chance < 0.88 else "open" if chance < 0.95 else "hold"

    def one_round(self, ticket: Ticket, agent: Agent, at: int) -> tuple[int, Agent]:
        """One turn of waiting, the customer's answer and ours."""
        rng = self.rng
        if ticket.state["status"] == "hold":
            at = ticket.act(
                at + rng.randint(DAY, 5 * DAY),
                agent.user_id,
                VIA_WORDS["web"],
                ticket.change("status", "open"),
            )
        elif rng.random() < 0.82:
            at = self.customer_says(ticket, at + int(5 * HOUR * rng.lognormvariate(0, 0.9)))
        else:
            by_rule = rng.random() < 0.5
            at = ticket.act(
                at + rng.randint(2 * DAY, 5 * DAY),
                catalog.SYSTEM_ID if by_rule else agent.user_id,
                VIA_WORDS["rule" if by_rule else "web"],
                ticket.change("status", "solved"),
            )
            return at, agent
        if rng.random() < 0.07:
            agent = rng.choice(self.agents[ticket.team.name, ticket.language])
            at = self.note(ticket, agent, at + rng.randint(300, HOUR))
        slow = 2.5 if ticket.team.name == catalog.SLOW_TEAM else 1.0
        at += int(slow * 2.5 * HOUR * rng.lognormvariate(0, 0.8))
        chance = rng.random()
        if chance < 0.62:
            return self.reply(ticket, agent, at, "agent_solve", "solved"), agent
        status = "hold" if chance > 0.92 else "pending"
        return self.reply(ticket, agent, at, "agent_next", status), agent

    def customer_says(self, ticket: Ticket, at: int, name: str | None = None) -> int:
        """A later message of the customer; it wakes a case that waits."""
        rng = self.rng
        kind = ticket.label.feedback_type
        if name is None:
            weights = {
                "complaint": (12, 18, 22, 33, 15),
                "question": (30, 5, 10, 30, 25),
            }.get(kind, (50, 3, 2, 30, 15))
            names = ("fu_thanks", "fu_chase", "fu_notfixed", "fu_info", "fu_question")
            name = rng.choices(names, weights)[0]
        writer = self.writers[ticket.language]
        topic = writer.by_name[name]
        facts = writer.facts(ticket.product, datetime.fromtimestamp(at + OFFSET, UTC))
        written = writer.write(topic, "reply", facts)
        label = Label(
            written.label.feedback_type,
            ticket.label.need,
            written.label.sentiment,
            written.label.priority,
        )
        comment = Event(
            "Comment",
            value=written.body,
            author=ticket.user.id,
            label=label,
            author_role="customer",
        )
        wakes = ticket.state["status"] in ("pending", "solved", "hold")
        return ticket.act(
            at,
            ticket.user.id,
            VIA_WORDS["email" if ticket.channel == "email" else "web"],
            comment,
            ticket.change("status", "open") if wakes else None,
        )

    def after_solving(self, ticket: Ticket, agent: Agent, at: int) -> None:
        """Reopening, rating and closing."""
        rng = self.rng
        unhappy = 0.1 + (0.14 if ticket.team.name == catalog.SLOW_TEAM else 0)
        if rng.random() < 0.012:
            ticket.act(
                at + rng.randint(600, 3 * HOUR),
                agent.user_id,
                VIA_WORDS["web"],
                ticket.change("status", "pending"),
            )
            at = self.reply(ticket, agent, at + rng.randint(4 * HOUR, DAY), "agent_solve", "solved")
        if rng.random() < (0.13 if ticket.label.feedback_type == "complaint" else 0.05):
            unhappy += 0.3
            back = self.customer_says(
                ticket, at + rng.randint(HOUR, 3 * DAY), rng.choice(("fu_notfixed", "fu_thanks"))
            )
            at = self.reply(ticket, agent, back + rng.randint(HOUR, DAY), "agent_solve", "solved")
        self.rate(ticket, at, unhappy)
        self.close(ticket, at)

    def rate(self, ticket: Ticket, solved: int, unhappy: float) -> None:
        rng = self.rng
        offered = ticket.act(
            solved + rng.randint(20 * HOUR, 25 * HOUR),
            catalog.SYSTEM_ID,
            VIA_WORDS["rule"],
            ticket.change("satisfaction_score", "offered"),
        )
        if rng.random() > 0.38:
            return
        score = "bad" if rng.random() < unhappy else "good"
        at = offered + int(6 * HOUR * rng.lognormvariate(0, 1))
        at = self.score(ticket, min(at, solved + 3 * DAY), score)
        if rng.random() < 0.06:
            self.score(ticket, at + rng.randint(600, 8 * HOUR), "good" if score == "bad" else "bad")

    def score(self, ticket: Ticket, at: int, score: str) -> int:
        comment = None
        if self.rng.random() < 0.5 or ticket.state.get("satisfaction_comment"):
            text = self.say(ticket, f"rate_{score}", at)
            comment = ticket.change("satisfaction_comment", text)
        return ticket.act(
            at,
            ticket.user.id,
            VIA_WORDS["email"],
            ticket.change("satisfaction_score", score),
            comment,
        )

    def close(self, ticket: Ticket, solved: int) -> None:
        """Closed by the automation that runs on the hour, four days after the last solving."""
        at = (solved + 4 * DAY) // HOUR * HOUR + HOUR
        ticket.act(at, catalog.SYSTEM_ID, VIA_WORDS["rule"], ticket.change("status", "closed"))

    def merge(self, ticket: Ticket, target: Ticket, at: int, agent: Agent) -> None:
        """Close a case as part of another one; ids are filled in when they are known."""
        ticket.merged_into = target
        note = Event(
            "Comment",
            value="{merge_note}",
            author=agent.user_id,
            is_public=False,
            author_role="agent",
        )
        tags = [*ticket.state["tags"], "closed_by_merge"]
        ticket.act(
            at,
            agent.user_id,
            VIA_WORDS["web"],
            note,
            ticket.change("status", "closed"),
            ticket.change("tags", tags),
        )

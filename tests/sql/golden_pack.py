"""The golden pack of ``tests/golden``: its form, and its rows as clean would write them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from hashlib import md5
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from mart_world import World
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pipelines.settings import WEEKDAYS

FOLDER = Path(__file__).parents[1] / "golden"
DIALECTS = ("zendesk", "fivetran", "mozilla")
BOTS = {"robot"}

Role = Literal["customer", "agent", "bot", "system"]


def read_instant(value: Any) -> datetime:
    """ "2026-03-02 10:00", seconds may follow; UTC."""
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return found.replace(tzinfo=UTC)


Instant = Annotated[datetime, BeforeValidator(read_instant)]
Answers = dict[str, Any]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Event(Strict):
    at: Instant
    act: str
    by: Role = "agent"
    who: str | None = None
    from_: str | None = Field(default=None, alias="from")
    to: str | None = None
    public: bool = True


class Plain(Strict):
    """What happened to a case."""

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    opened: Instant
    events: list[Event]
    opened_by: Role = "customer"
    created_as: str | None = None
    status: str | None = None
    updated: Instant | None = None
    calendar: str | None = "office"
    channel: str = "email"
    priority: str = "normal"
    customer: str | None = None
    need: str = "technical"
    assignee: str | None = None
    excluded: str | None = None
    merged_into: str | None = None

    @property
    def last_status(self) -> str:
        """The status as the source tells it now: what is given, else the last one logged."""
        logged = [e.to for e in self.events if e.act == "status_changed" and e.to]
        return self.status or (logged[-1] if logged else self.created_as or "new")

    @property
    def last_group(self) -> str | None:
        moves = [event.to for event in self.events if event.act == "group_changed"]
        return moves[-1] if moves else self.calendar


class Told(Strict):
    """In words what an entry is about, and how its answers were worked out."""

    says: str
    says_zh: str
    worked: str
    metrics: list[Answers] = []


class Figure(Strict):
    """What the help desk itself says; without a cause it has to agree with ours."""

    metric: str
    value: float
    clock: Literal["calendar", "business"] = "calendar"
    at: Instant | None = None
    cause: str | None = None
    reading: str | None = None


class Case(Plain, Told):
    """A case and what must be said of it: by the house, and by dialects where they differ."""

    house: Answers = {}
    zendesk: Answers = {}
    fivetran: Answers = {}
    mozilla: Answers = {}
    sla: Answers | None = None
    theirs: list[Figure] = []

    @model_validator(mode="after")
    def check_answers(self) -> Case:
        for column in self.house:
            if column.endswith("_minutes") and not column.endswith("_business_minutes"):
                other = column.replace("_minutes", "_business_minutes")
                assert other in self.house, f"{self.id}: {column} on one clock only"
        assert self.house or self.sla or self.theirs, f"{self.id}: nothing is answered"
        return self

    def answers(self, dialect: str) -> Answers:
        """Every column that is answered, as a dialect reads it."""
        return self.house | (getattr(self, dialect) if dialect != "house" else {})


class Survey(Strict):
    kind: Literal["csat", "nps", "ces"]
    scale: tuple[float, float]
    scores: list[float | None]
    at: Instant | None = None
    offered: Instant | None = None
    higher_is_better: bool = True
    case: str | None = None


class Group(Told):
    """Cases and answers to surveys that are counted together."""

    id: str
    cases: list[Plain] = []
    answers: list[Survey] = []


class Topic(Strict):
    about: str
    about_zh: str
    cases: list[Case] = []
    groups: list[Group] = []


def read_topics() -> list[Topic]:
    files = [path for path in sorted(FOLDER.glob("*.yaml")) if path.stem != "setting"]
    return [Topic.model_validate(yaml.safe_load(path.read_text("utf-8"))) for path in files]


def spread_hours(hours: dict[str, list[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, spans in hours.items():
        days = {"weekdays": WEEKDAYS[:5], "every_day": WEEKDAYS}.get(name, (name,))
        found |= dict.fromkeys(days, spans)
    return found


def make_world(home: Path) -> World:
    """The built marts of the whole pack."""
    setting = yaml.safe_load((FOLDER / "setting.yaml").read_text(encoding="utf-8"))
    calendars = [entry | {"hours": spread_hours(entry["hours"])} for entry in setting["calendars"]]
    names = dict.fromkeys(entry["name"] for entry in calendars)
    world = World(
        home,
        project={"home": str(home), "time_zone": setting["time_zone"]},
        calendars=calendars,
        teams=[{"name": name, "calendar": name} for name in names],
        sla_policies=setting["policies"],
    )
    for topic in read_topics():
        for case in topic.cases:
            put_case(world, case, case.id)
            put_figures(world, case)
        for group in topic.groups:
            put_group(world, group)
    world.commit()
    world.build(read_instant(setting["as_of"]))
    return world


def name_agent(source: str, name: str) -> str:
    return md5(f"{source}\x1f{name}".encode(), usedforsecurity=False).hexdigest()


def put_case(world: World, case: Plain, source: str) -> None:
    """The rows of a case; each entry of the pack is a source of its own."""
    world.put(
        "cases", case.id, case_id=case.id, source=source, source_kind="zendesk",
        source_case_id=case.id, channel=case.channel, subject=case.id,
        customer_ref=case.customer or f"customer of {case.id}", priority=case.priority,
        status=case.last_status, source_group=case.last_group,
        assignee_ref=name_agent(source, case.assignee) if case.assignee else None,
        opened_at=case.opened, opened_by_role=case.opened_by,
        updated_at=case.updated or case.opened,
        is_excluded=case.excluded is not None, exclusion_reason=case.excluded,
        merged_into=case.merged_into,
    )  # fmt: skip
    opening = Event(at=case.opened, act="created", by=case.opened_by, to=case.created_as)
    said = Event(at=case.opened, act="customer_message", by="customer")
    first = [opening, said] if case.opened_by == "customer" else [opening]
    for number, event in enumerate([*first, *case.events]):
        who = event.who or {"agent": "anna", "bot": "robot"}.get(event.by, event.by)
        world.put(
            "case_events", f"{case.id} {number}", event_id=f"{case.id} {number}",
            case_id=case.id, source=source, event_at=event.at, event_type=event.act,
            actor_ref=name_agent(source, who), actor_role=event.by, is_public=event.public,
            from_value=event.from_, to_value=event.to, sequence=number,
        )  # fmt: skip
    for name in BOTS:
        ref = name_agent(source, name)
        world.put("agents", ref, agent_ref=ref, source=source, source_agent_id=name, role="bot")
    if case.opened_by == "customer":
        put_opening(world, case, source)


def put_opening(world: World, case: Plain, source: str) -> None:
    key = f"opening of {case.id}"
    world.put(
        "feedback", key, feedback_id=key, source=source, source_kind="zendesk",
        source_record_id=key, channel=case.channel, case_id=case.id, language="en",
        created_at=case.opened, updated_at=case.opened, captured_at=case.opened, body=key,
        text_hash=key, is_opening=True, is_excluded=case.excluded is not None,
    )  # fmt: skip
    world.put(
        "labels", key, feedback_id=key, text_hash=key, model_version="test",
        classified_at=case.opened, feedback_type="question", need=case.need, sentiment="neutral",
        priority="normal", is_unsure=False,
    )  # fmt: skip


def put_figures(world: World, case: Case) -> None:
    for figure in case.theirs:
        key = f"{case.id} {figure.metric} {figure.clock}"
        world.put(
            "vendor_metrics", key, vendor_metric_id=key, case_id=case.id, source=case.id,
            metric=figure.metric, clock=figure.clock, value=figure.value, updated_at=figure.at,
        )  # fmt: skip


def put_group(world: World, group: Group) -> None:
    for case in group.cases:
        put_case(world, case, group.id)
    number = 0
    for survey in group.answers:
        for score in survey.scores:
            number += 1
            key = f"{group.id} {number}"
            world.put(
                "survey_responses", key, response_id=key, source=group.id, survey_id=group.id,
                question_id=survey.kind, kind=survey.kind, score=score,
                scale_min=survey.scale[0], scale_max=survey.scale[1],
                higher_is_better=survey.higher_is_better, case_id=survey.case,
                offered_at=survey.offered or survey.at, answered_at=survey.at,
            )  # fmt: skip


def find_metrics(world: World, source: str, wanted: Answers) -> list[Answers]:
    """Rows of metrics_daily of an entry that are what the keys of ``wanted`` say they are."""
    dimensions = ("metric", "dialect", "clock", "counted", "cohort_date", "exclusion_reason")
    usual = {"dialect": "house"}
    sought = usual | {name: wanted[name] for name in dimensions if name in wanted}
    where = " and ".join(f"{name} = {literal(value)}" for name, value in sought.items())
    return world.query(f"select * from metrics_daily where source = '{source}' and {where}")


def literal(value: Any) -> str:
    return f"date '{value}'" if isinstance(value, date) else f"'{value}'"

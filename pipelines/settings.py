"""hearback.toml: its shape, its defaults, and errors that say what to mend."""

from __future__ import annotations

import difflib
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pipelines.errors import UsageError

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
LANGUAGE_PATTERN = r"^[a-z]{2,3}$"
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,39}$"
Need = Literal["sales", "technical", "after_sales", "other"]
Priority = Literal["urgent", "high", "normal", "low"]
Status = Literal["new", "open", "pending", "hold"]
Clock = Literal["calendar", "business"]
SlaMetric = Literal[
    "first_reply",
    "next_reply",
    "periodic_update",
    "pausable_update",
    "requester_wait",
    "agent_work",
    "total_resolution",
]
SLA_METRICS: tuple[SlaMetric, ...] = get_args(SlaMetric)


def check_time_zone(value: str) -> str:
    """Return value if it is an IANA zone; ValueError with the nearest zone otherwise."""
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, IsADirectoryError):
        from zoneinfo import available_timezones

        near = difflib.get_close_matches(value, sorted(available_timezones()), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{value!r} is not an IANA time zone{hint}") from None
    return value


TimeZone = Annotated[str, AfterValidator(check_time_zone)]


class FaultAt(ValueError):
    """A fault that shows only in the whole configuration, with the place where it stands."""

    def __init__(self, location: tuple[int | str, ...], message: str) -> None:
        super().__init__(message)
        self.location = location


class Table(BaseModel):
    """A table of the configuration file: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Project(Table):
    home: str = "data"
    lake: str | None = Field(
        default=None, description="folder or object-store URL; default: home/lake"
    )
    time_zone: TimeZone = "Asia/Shanghai"
    languages: list[Annotated[str, Field(pattern=LANGUAGE_PATTERN)]] = Field(
        default=["en", "zh"],
        min_length=1,
        description="languages you work in, the main one first (ISO 639-1): suggested replies are "
        "in the customer's if it is among them, else in the first",
    )
    calendar: str | None = Field(default=None, description="work calendar of cases without a team")


class Expectation(Table):
    """Declared bounds of a source: outside them a run flags it."""

    rows_min: int | None = Field(
        default=None, ge=0, description="fewest records a run should capture"
    )
    rows_max: int | None = Field(
        default=None, ge=0, description="most records a run should capture"
    )
    fill: dict[str, float] = Field(
        default_factory=dict, description="least share filled, by column"
    )


class Source(Table):
    name: str = Field(pattern=NAME_PATTERN)
    kind: str
    base_url: str | None = None
    connection: str | None = None
    start: date | None = None
    schedule: str | None = None
    enabled: bool = True
    options: dict[str, Any] = Field(default_factory=dict)
    expect: Expectation = Expectation()


class Calendar(Table):
    """Opening hours. Hours are "HH:MM-HH:MM" in the calendar's zone, several a day."""

    name: str = Field(pattern=NAME_PATTERN)
    time_zone: TimeZone
    hours: dict[str, list[str]] = Field(default_factory=dict)
    country: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z]{2}(-[A-Za-z0-9]{1,3})?$",
        description="ISO 3166 code whose public holidays are free: CN, US, DE-BY",
    )
    make_up_days: bool = Field(default=False, description="China's make-up workdays add time")
    make_up_hours: str = "monday"
    closed: list[date] = Field(default_factory=list, description="own free days")
    open: list[date] = Field(default_factory=list, description="own working days")
    valid_from: date | None = None

    @field_validator("hours")
    @classmethod
    def check_hours(cls, hours: dict[str, list[str]]) -> dict[str, list[str]]:
        for day, spans in hours.items():
            if day not in WEEKDAYS:
                raise ValueError(f"{day!r} is not a weekday; use {', '.join(WEEKDAYS)}")
            previous, earlier = -1, ""
            for span in spans:
                begin, end = parse_span(span)
                if begin < previous:
                    raise ValueError(
                        f"{day}: intervals overlap or are out of order: {earlier!r} and {span!r}; "
                        "each must begin when or after the one before it ends"
                    )
                previous, earlier = end, span
        return hours

    @field_validator("make_up_hours")
    @classmethod
    def check_weekday(cls, day: str) -> str:
        if day not in WEEKDAYS:
            raise ValueError(f"{day!r} is not a weekday; use {', '.join(WEEKDAYS)}")
        return day

    @field_validator("closed", "open")
    @classmethod
    def check_days(cls, days: list[date]) -> list[date]:
        twice = sorted({day for day in days if days.count(day) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is listed twice; leave one of the two out")
        return days

    @model_validator(mode="after")
    def check_own_days(self) -> Calendar:
        both = sorted(set(self.closed) & set(self.open))
        if both:
            raise ValueError(
                f"{both[0]} is listed under 'closed' and under 'open'; a day can be one of them"
            )
        borrowed = self.hours.get(self.make_up_hours)
        if self.make_up_days and any(self.hours.values()) and not borrowed:
            raise ValueError(
                f"make-up workdays take the hours of {self.make_up_hours}, which has none; "
                "set make_up_hours to a weekday that has"
            )
        return self


def parse_span(span: str) -> tuple[int, int]:
    """ "HH:MM-HH:MM" → (begin, end) in minutes since local midnight; end may be 24:00."""
    match = re.fullmatch(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})", span.strip())
    if match is None:
        raise ValueError(f'{span!r} is not an interval; write "09:00-12:00"')
    h1, m1, h2, m2 = (int(part) for part in match.groups())
    begin, end = h1 * 60 + m1, h2 * 60 + m2
    if m1 <= 59 and m2 <= 59 and h1 < 24 and end < begin:
        raise ValueError(
            f"{span!r} goes over midnight, which an interval may not; write "
            f'"{h1:02}:{m1:02}-24:00" there and "00:00-{h2:02}:{m2:02}" on the next day'
        )
    if m1 > 59 or m2 > 59 or not 0 <= begin < end <= 1440:
        raise ValueError(f"{span!r} must begin before it ends, within 00:00-24:00")
    return begin, end


class SlaConditions(Table):
    channel: list[str] = Field(default_factory=list)
    need: list[Need] = Field(default_factory=list)
    priority: list[Priority] = Field(default_factory=list)
    segment: list[str] = Field(default_factory=list)
    team: list[str] = Field(default_factory=list)
    tag: list[str] = Field(default_factory=list)


def spread_target(value: object) -> object:
    """One number is the target of every priority."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return dict.fromkeys(get_args(Priority), value)
    return value


Targets = Annotated[
    dict[Priority, Annotated[float, Field(gt=0)]],
    BeforeValidator(spread_target),
    Field(default_factory=dict),
]


class SlaPolicy(Table):
    """Targets in minutes by priority; the first policy whose conditions match applies."""

    name: str = Field(pattern=NAME_PATTERN)
    when: SlaConditions = SlaConditions()
    clock: Clock = "business"
    clocks: dict[SlaMetric, Clock] = Field(
        default_factory=dict, description="metrics that run on another clock than 'clock'"
    )
    first_reply: Targets
    next_reply: Targets
    periodic_update: Targets
    pausable_update: Targets
    requester_wait: Targets
    agent_work: Targets
    total_resolution: Targets
    pause_statuses: list[Status] = Field(
        default_factory=list, description="statuses in which every clock of the policy stands still"
    )
    pause_do_not_contact: bool = Field(
        default=False, description="nothing is promised to customers who are not to be contacted"
    )

    @property
    def targets(self) -> dict[SlaMetric, dict[Priority, float]]:
        """Minutes by metric and priority, of the metrics that have any."""
        found = {metric: getattr(self, metric) for metric in SLA_METRICS}
        return {metric: minutes for metric, minutes in found.items() if minutes}


class Member(Table):
    name: str
    email: str
    languages: list[str] = ["en", "zh"]
    daily_capacity: int = Field(20, ge=0)
    calendar: str | None = None


class Team(Table):
    name: str
    groups: list[str] = Field(default_factory=list, description="groups of the sources it owns")
    needs: list[Need] = Field(default_factory=list)
    members: list[Member] = Field(default_factory=list)
    lead_email: str | None = None
    calendar: str | None = None


class FollowUpRule(Table):
    name: str
    enabled: bool = True
    thresholds: dict[str, float] = Field(default_factory=dict)


class Delivery(Table):
    formats: list[Literal["xlsx", "csv"]] = ["xlsx", "csv"]
    language: Literal["en", "zh"] = "en"
    failure_webhook_connection: str | None = Field(
        default=None, description="Airflow connection of a webhook that hears of failed runs"
    )


class Privacy(Table):
    redact: list[str] = ["email", "phone", "id_card", "bank_card", "ip_address"]
    show_names: bool = False


class Settings(Table):
    project: Project = Project()
    sources: list[Source] = Field(default_factory=list)
    calendars: list[Calendar] = Field(default_factory=list)
    sla_policies: list[SlaPolicy] = Field(default_factory=list)
    teams: list[Team] = Field(default_factory=list)
    follow_up_rules: list[FollowUpRule] = Field(default_factory=list)
    delivery: Delivery = Delivery()
    privacy: Privacy = Privacy()
    path: Path = Field(Path("hearback.toml"), exclude=True)

    @property
    def folder(self) -> Path:
        """The folder of the configuration file: relative paths start there."""
        return self.path.parent

    @property
    def home(self) -> Path:
        """The folder that holds lake/, warehouse/, out/, models/ and docs/."""
        return (self.folder / self.project.home).resolve()

    def source(self, name: str) -> Source:
        """The source of that name; UsageError with the nearest name if there is none."""
        for source in self.sources:
            if source.name == name:
                return source
        names = [source.name for source in self.sources]
        raise UsageError(
            f"{self.path}: there is no source {name!r}{nearest(name, names)}; "
            f"sources are: {', '.join(names) or 'none'}"
        )

    @model_validator(mode="after")
    def check_names(self) -> Settings:
        for label, names in (
            ("source", [s.name for s in self.sources]),
            ("team", [t.name for t in self.teams]),
            ("SLA policy", [p.name for p in self.sla_policies]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{label} {twice[0]!r} is defined twice; names must be unique")
        calendars = sorted({c.name for c in self.calendars})
        self._check_versions()
        used = [self.project.calendar, *(t.calendar for t in self.teams)]
        used += [m.calendar for t in self.teams for m in t.members]
        for name in used:
            if name is not None and name not in calendars:
                raise ValueError(
                    f"calendar {name!r} is not defined{nearest(name, calendars)}; "
                    "add a [[calendars]] entry of that name"
                )
        self._check_policy_teams()
        for name in calendars:
            entries = [c for c in self.calendars if c.name == name]
            if not any(any(c.hours.values()) for c in entries):
                raise FaultAt(
                    ("calendars", self.calendars.index(entries[0]), "name"),
                    f"calendar {name!r} is never open; give 'hours' to at least one weekday",
                )
        return self

    def _check_policy_teams(self) -> None:
        """Policies name teams; where none is configured, groups of the sources stand for them."""
        teams = [team.name for team in self.teams]
        for at, policy in enumerate(self.sla_policies):
            for name in policy.when.team:
                if teams and name not in teams:
                    raise FaultAt(
                        ("sla_policies", at, "when", "team"),
                        f"team {name!r} is not defined{nearest(name, teams)}; "
                        f"teams are: {', '.join(teams)}",
                    )

    def _check_versions(self) -> None:
        """Each version of a calendar begins on a day of its own."""
        known: set[tuple[str, date | None]] = set()
        for at, entry in enumerate(self.calendars):
            if (entry.name, entry.valid_from) in known:
                begin = f"valid_from {entry.valid_from}" if entry.valid_from else "no valid_from"
                raise FaultAt(
                    ("calendars", at, "valid_from" if entry.valid_from else "name"),
                    f"calendar {entry.name!r} has two versions with {begin}: a calendar is defined "
                    "twice with the same valid_from; each version needs a day of its own",
                )
            known.add((entry.name, entry.valid_from))


def nearest(word: str, words: list[str]) -> str:
    """', did you mean X?' for the word most like it, else the empty string."""
    found = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f", did you mean {found[0]!r}?" if found else ""


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at location may hold."""
    model: Any = Settings
    for part in location:
        if isinstance(part, int):
            continue
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
        field = model.model_fields.get(part)
        if field is None:
            return []
        model = _table_of(field.annotation)
    if isinstance(model, type) and issubclass(model, BaseModel):
        return [key for key in model.model_fields if key != "path"]
    return []


def _table_of(annotation: Any) -> Any:
    """The Table class inside an annotation such as list[Source] or Email | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _table_of(inner)
        if found is not None:
            return found
    return None


def _find_line(text: str, location: tuple[int | str, ...]) -> int | None:
    """The line (from 1) of the key at location, found by counting its table's headers."""
    keys = [part for part in location if isinstance(part, str)]
    index = next((part for part in location if isinstance(part, int)), 0)
    if not keys:
        return None
    lines = text.splitlines()
    header = re.compile(rf"^\s*\[\[?\s*{re.escape(keys[0])}\b")
    starts = [n for n, line in enumerate(lines) if header.match(line)]
    begin = (starts[index] if index < len(starts) else starts[0]) if starts else 0
    wanted = re.compile(rf'(^|[\s{{,.])"?{re.escape(keys[-1])}"?\s*[=\]]')
    for number in range(begin, len(lines)):
        if number > begin and starts and re.match(r"^\s*\[", lines[number]) and len(keys) == 1:
            break
        if wanted.search(lines[number].split("#")[0]):
            return number + 1
    return begin + 1 if starts else None


def explain_fault(path: Path, text: str, error: ValidationError) -> str:
    """The first fault of a configuration as one line: file, line, key, what is wrong, the mend."""
    # a misspelt key is also a missing one: the misspelling says more
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    cause = first.get("ctx", {}).get("error")
    location = cause.location if isinstance(cause, FaultAt) else tuple(first["loc"])
    location = tuple(part for part in location if part != "[key]")  # it is the key that is wrong
    key = ".".join(str(part) for part in location) or "the file"
    line = _find_line(text, location)
    where = f"{path}:{line}" if line else str(path)
    if first["type"] == "extra_forbidden":
        words = _keys_at(location[:-1])
        hint = nearest(str(location[-1]), words) or f"; keys here: {', '.join(words)}"
        message = f"unknown key {key!r}{hint}"
    elif first["type"] == "missing":
        message = f"{key!r} is required and missing"
    elif first["type"] == "literal_error":
        words = re.findall(r"'([^']*)'", str(first.get("ctx", {}).get("expected", "")))
        given = str(first.get("input"))
        message = f"{key}: {given!r} is not known{nearest(given, words)}; use {', '.join(words)}"
    else:
        given = first.get("input")
        shown = f" (got {given!r})" if isinstance(given, str | int | float | bool) else ""
        message = f"{key}: {first['msg'].removeprefix('Value error, ')}{shown}"
    more = error.error_count() - 1
    return f"{where}: {message}" + (f" (and {more} more)" if more else "")


def load_settings(path: Path | str) -> Settings:
    """Read and check hearback.toml.

    Raises UsageError that names the file, the line or key, and the nearest right key.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such configuration; run 'hearback init' to write one")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from None
    if "path" in data:
        raise UsageError(f"{path}: unknown key 'path'")
    try:
        return Settings.model_validate({**data, "path": path.absolute()})
    except ValidationError as error:
        raise UsageError(explain_fault(path, text, error)) from None

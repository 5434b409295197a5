"""hearback.toml: its shape, its defaults, and errors that say what to mend."""

from __future__ import annotations

import difflib
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pipelines.errors import UsageError

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,39}$"
Need = Literal["sales", "technical", "after_sales", "other"]
Priority = Literal["urgent", "high", "normal", "low"]
Clock = Literal["calendar", "business"]


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


class Table(BaseModel):
    """A table of the configuration file: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Project(Table):
    home: str = "data"
    lake: str | None = Field(
        default=None, description="folder or object-store URL; default: home/lake"
    )
    time_zone: TimeZone = "Asia/Shanghai"
    languages: list[str] = ["en", "zh"]
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
        default=None, description="ISO 3166 code whose public holidays are free"
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
            previous = -1
            for begin, end in (parse_span(span) for span in spans):
                if begin < previous:
                    raise ValueError(f"{day}: intervals overlap or are out of order: {spans}")
                previous = end
        return hours


def parse_span(span: str) -> tuple[int, int]:
    """ "HH:MM-HH:MM" → (begin, end) in minutes since local midnight; end may be 24:00."""
    match = re.fullmatch(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})", span.strip())
    if match is None:
        raise ValueError(f'{span!r} is not an interval; write "09:00-12:00"')
    h1, m1, h2, m2 = (int(part) for part in match.groups())
    begin, end = h1 * 60 + m1, h2 * 60 + m2
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


class SlaPolicy(Table):
    """Targets in minutes by priority; the first policy whose conditions match applies."""

    name: str = Field(pattern=NAME_PATTERN)
    when: SlaConditions = SlaConditions()
    clock: Clock = "business"
    first_reply: dict[Priority, float] = Field(default_factory=dict)


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
        versions = [(c.name, c.valid_from) for c in self.calendars]
        if len(set(versions)) < len(versions):
            raise ValueError("a calendar is defined twice with the same valid_from")
        calendars = sorted({c.name for c in self.calendars})
        used = [self.project.calendar, *(t.calendar for t in self.teams)]
        used += [m.calendar for t in self.teams for m in t.members]
        for name in used:
            if name is not None and name not in calendars:
                raise ValueError(
                    f"calendar {name!r} is not defined{nearest(name, calendars)}; "
                    "add a [[calendars]] entry of that name"
                )
        return self


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


def _explain(path: Path, text: str, error: ValidationError) -> str:
    """The first fault of a configuration as one line: file, line, key, what is wrong, the mend."""
    # a misspelt key is also a missing one: the misspelling says more
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    location = tuple(first["loc"])
    key = ".".join(str(part) for part in location) or "the file"
    line = _find_line(text, location)
    where = f"{path}:{line}" if line else str(path)
    if first["type"] == "extra_forbidden":
        words = _keys_at(location[:-1])
        hint = nearest(str(location[-1]), words) or f"; keys here: {', '.join(words)}"
        message = f"unknown key {key!r}{hint}"
    elif first["type"] == "missing":
        message = f"{key!r} is required and missing"
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
        raise UsageError(_explain(path, text, error)) from None

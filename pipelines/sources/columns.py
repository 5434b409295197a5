"""Columns named in the configuration: how kinds without a schema of their own say what is which."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.entities import KEYS, SCHEMAS
from pipelines.errors import UsageError
from pipelines.mapping import RECORD_ID, Field, Mapping, Path, When, columns_to_fields
from pipelines.settings import Source, TimeZone, nearest
from pipelines.sources.deletions import find_true_values, list_marks, map_marked, split_marks


class Question(BaseModel):
    """A survey column that asks for a score."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str = Option(description="column with the score")
    kind: Literal["csat", "nps", "ces", "other"] = Option(description="what the question asks for")
    scale: tuple[float, float] = Option(description="worst and best number")
    higher_is_better: bool = Option(default=True, description="whether a high score is a good one")


class ColumnOptions(BaseModel):
    """Options of a kind whose records are rows; ``is_nested``: dots lead into a value."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    is_nested: ClassVar[bool] = False

    entity: str = Option(default="feedback", description="canonical entity, or survey")
    columns: dict[str, str] = Option(default_factory=dict, description="canonical = column")
    constants: dict[str, str | float | bool] = Option(
        default_factory=dict, description="canonical = the same value for all"
    )
    values: dict[str, dict[str, str]] = Option(default_factory=dict, description="value maps")
    unknown: dict[str, str] = Option(
        default_factory=dict, description="by column: what a value outside of values becomes"
    )
    ignored: list[str] = Option(default_factory=list, description="columns that are not used")
    time_zone: TimeZone | None = Option(default=None, description="zone of times that name none")
    questions: list[Question] = Option(
        default_factory=list, description="survey: columns with scores"
    )
    comment: str | None = Option(default=None, description="survey: column of the comment")
    case: str | None = Option(default=None, description="survey: column of the case's id")
    case_source: str | None = Option(default=None, description="the source of that id")
    customer: str | None = Option(default=None, description="survey: column of the customer's id")
    customer_source: str | None = Option(default=None, description="the source of that id")
    offered_at: str | None = Option(default=None, description="survey: column of when it was sent")
    answered_at: str | None = Option(
        default=None, description="survey: column of when it was answered"
    )
    language: str | None = Option(
        default=None, description="survey: column of the comment's language"
    )
    survey_id: str | None = Option(default=None, description="survey: its name; else the source's")

    @property
    def identity(self) -> Field:
        """Where a survey's response id comes from."""
        return Field(RECORD_ID)

    @property
    def named_columns(self) -> list[str]:
        """Every column that the configuration maps."""
        single = [self.comment, self.case, self.customer, self.offered_at, self.answered_at,
                  self.language]  # fmt: skip
        named = [*self.columns.values(), *(q.column for q in self.questions)]
        return named + [column for column in single if column]

    def map_marks(self, entity: str) -> dict[str, Path]:
        """The columns that mark rows of an entity as gone."""
        _, marks = split_marks(entity, self.columns)
        return {name: self.path_to(column) for name, column in marks.items()}

    @property
    def true_values(self) -> list[str]:
        """The values of ``is_deleted`` that mean so, if the configuration names any."""
        return find_true_values(self.values.get("is_deleted", {}))

    def path_to(self, column: str) -> Path:
        return column if self.is_nested else (column,)

    def field_of(self, column: str | None) -> Field:
        return Field(self.path_to(column)) if column else Field()


def record_key(entity: str) -> str:
    """The canonical column that holds a record's id within its source."""
    if entity not in KEYS:
        raise UsageError(
            f"entity {entity!r} does not exist{nearest(entity, [*KEYS, 'survey'])}; "
            f"entities are: {', '.join([*KEYS, 'survey'])}"
        )
    return KEYS[entity][1]


def check_columns(source: Source, options: ColumnOptions) -> None:
    """UsageError if the configuration names a canonical column that does not exist."""
    if options.entity == "survey":
        if not options.questions:
            raise UsageError(f"source {source.name!r}: entity survey needs options.questions")
        return
    record_key(options.entity)
    names = [*SCHEMAS[options.entity].names, *list_marks(options.entity)]
    if not options.columns:
        raise UsageError(
            f"source {source.name!r}: option 'columns' names none; say which column of the source "
            f'is which, such as columns = {{ {names[6]} = "…" }}; columns of {options.entity} are: '
            f"{', '.join(names[6:])}"
        )
    for name in [*options.columns, *options.constants, *options.values, *options.unknown]:
        if name not in names:
            raise UsageError(
                f"source {source.name!r}: {options.entity} has no column {name!r}"
                f"{nearest(name, names)}"
            )


def map_columns(
    source: Source,
    options: ColumnOptions,
    *,
    ignored: tuple[str, ...] = (),
    when: tuple[When, ...] = (),
) -> list[Mapping]:
    """The configured columns, as mappings of the one raw entity.

    ``ignored`` and ``when`` are those of the kind itself.
    """
    zone = options.time_zone or "UTC"
    left = (*options.ignored, *ignored)
    if options.entity == "survey":
        marks = options.map_marks("survey_responses")
        return list_once(
            marked
            for found in map_survey(source, options, zone)
            for marked in map_marked(
                replace(found, ignored=left, when=(*found.when, *when)), marks, options.true_values
            )
        )
    key = record_key(options.entity)
    columns, _ = split_marks(options.entity, options.columns)
    fields = {
        name: replace(
            field,
            path=options.path_to(columns[name]),
            unknown=options.unknown.get(name),
        )
        for name, field in columns_to_fields(options.entity, columns, options.values).items()
    }
    fields |= {name: Field(const=value) for name, value in options.constants.items()}
    if options.entity in ("feedback", "messages"):
        fields.setdefault("channel", Field(const="other"))
    for name in ("case_source", "customer_source"):
        value = getattr(options, name)
        if value and name in SCHEMAS[options.entity].names:
            fields.setdefault(name, Field(const=value))
    fields.setdefault(key, Field(RECORD_ID))
    mapping = Mapping(
        options.entity,
        options.entity,
        fields,
        when=when,
        time_zone=zone,
        ignored=left,
        required=(key,),
    )
    return map_marked(mapping, options.map_marks(options.entity), options.true_values)


def list_once(mappings: Iterable[Mapping]) -> list[Mapping]:
    """Each mapping once: the questions of a survey share the deletion of its response."""
    found: list[Mapping] = []
    found.extend(mapping for mapping in mappings if mapping not in found)
    return found


def map_survey(source: Source, options: ColumnOptions, zone: str) -> list[Mapping]:
    """One response for each question asked, and a feedback row for the comment."""
    identity = options.identity
    offered = replace(options.field_of(options.offered_at), type="instant")
    answered = replace(options.field_of(options.answered_at), type="instant")
    answered = answered if options.answered_at else offered
    shared = {
        "source_customer_id": options.field_of(options.customer),
        "customer_source": Field(const=options.customer_source),
        "source_case_id": options.field_of(options.case),
        "case_source": Field(const=options.case_source),
        "updated_at": answered,
    }
    found = [
        Mapping(
            "survey",
            "survey_responses",
            shared
            | {
                "source_response_id": identity,
                "survey_id": Field(const=options.survey_id or source.name),
                "question_id": Field(const=question.column),
                "kind": Field(const=question.kind),
                "score": Field(options.path_to(question.column), "number"),
                "scale_min": Field(const=float(question.scale[0])),
                "scale_max": Field(const=float(question.scale[1])),
                "higher_is_better": Field(const=question.higher_is_better),
                "comment": options.field_of(None if place else options.comment),
                "offered_at": offered,
                "answered_at": answered,
            },
            time_zone=zone,
            required=("source_response_id",),
        )
        for place, question in enumerate(options.questions)
    ]
    if options.comment:
        rated = next((q for q in options.questions if q.kind == "csat"), options.questions[0])
        found.append(
            Mapping(
                "survey",
                "feedback",
                shared
                | {
                    "source_record_id": identity,
                    "channel": Field(const="survey"),
                    "language": options.field_of(options.language),
                    "created_at": answered,
                    "body": options.field_of(options.comment),
                    "rating": Field(options.path_to(rated.column), "number"),
                    "rating_min": Field(const=float(rated.scale[0])),
                    "rating_max": Field(const=float(rated.scale[1])),
                },
                when=(When(options.path_to(options.comment)),),
                time_zone=zone,
                required=("source_record_id",),
            )
        )
    return found

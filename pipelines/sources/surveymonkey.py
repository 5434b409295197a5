"""SurveyMonkey: surveys and their responses, within the requests of a day.

A draft or private app has 500 requests a day. One request lists all surveys; a survey's questions
are read only when it changed; surveys whose number of responses changed are read first, the quiet
ones only while half of the day's requests, spread over the day, are left. When none is left the
pull ends with a note and the next one goes on. Responses are read in the order of their change,
each page from the second in which the last one ended, because rows that change move to the end.

Answers carry ids only, so questions and choices are looked up in the survey. Previews stay in raw
and are not customers. What the API does not give: responses that were deleted. A slider is scored,
but is not taken as the rating of the open answers beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError
from pipelines.mapping import Field, Lookup, Mapping, Pick, When, values
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.http import (
    Budget,
    Limits,
    explain_http_errors,
    open_client,
    read_number,
    retry_after,
)
from pipelines.sources.questions import OPEN, SCORED, Asked, QuestionOptions, describe_form

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response

DEFAULT_URL = "https://api.surveymonkey.com"
PAGE_SIZE = 100
LIST_SIZE = 1000
HEADER = "X-Ratelimit-App-Global-"
DAY_SECONDS = 86_400
CLOCKS_APART = timedelta(minutes=1)
SHOWN = "date_modified,date_created,response_count,language"
NOT_CUSTOMERS = ("preview", "survey_preview")


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    surveys: list[str] | None = Option(default=None, description="ids of surveys; all if not set")
    questions: dict[str, QuestionOptions] = Option(
        default_factory=dict, description="what a question is, by its id or title"
    )
    customer_variable: str | None = Option(
        default=None, description="the custom variable that holds the customer's id"
    )
    customer_source: str | None = Option(default=None, description="the source of that id")
    case_variable: str | None = Option(
        default=None, description="the custom variable that holds the case's id"
    )
    case_source: str | None = Option(default=None, description="the source of that id")


@dataclass
class Day:
    """What is left of the day's requests, as the last answer said; None: it says nothing."""

    left: float | None = None
    limit: float = 500
    reset: float = DAY_SECONDS

    def learn(self, response: Response) -> None:
        left = read_number(response, HEADER + "Day-Remaining")
        if left is not None:
            self.left = left
            self.limit = read_number(response, HEADER + "Day-Limit") or self.limit
            self.reset = read_number(response, HEADER + "Day-Reset") or 0

    @property
    def is_spent(self) -> bool:
        return self.left is not None and self.left < 1

    @property
    def spares_quiet(self) -> bool:
        """Whether surveys in which nothing seems to have happened may be asked."""
        share = min(self.reset / DAY_SECONDS, 1) / 2
        return self.left is None or self.left > self.limit * share


@dataclass
class Session:
    client: RESTClient
    day: Day = field(default_factory=Day)


def _open(source: Source, context: PullContext) -> Session:
    from dlt.sources.helpers.rest_client.auth import BearerTokenAuth

    connection = context.connection(source)
    if not connection.password:
        raise HearbackError(
            f"source {source.name!r}: connection {source.connection!r} needs a password "
            "(the access token)"
        )
    day = Day()

    def budget(response: Response) -> Budget | None:
        day.learn(response)
        minute = read_number(response, HEADER + "Minute-Remaining")
        if minute is None:
            return None if day.left is None else Budget(int(day.left), 0.0)
        return Budget(int(minute), read_number(response, HEADER + "Minute-Reset") or 0.0)

    def wait(response: Response) -> float | None:
        day.learn(response)
        if day.is_spent:
            return day.reset
        asked = retry_after(response)
        return read_number(response, HEADER + "Minute-Reset") if asked is None else asked

    auth = BearerTokenAuth(connection.password)
    limits = Limits(budget=budget, wait_seconds=wait)
    client = open_client(source, context, "/v3", auth=auth, limits=limits, default_url=DEFAULT_URL)
    return Session(client, day)


def _get(session: Session, path: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    response = session.client.get(path, params=params)
    response.raise_for_status()
    body: dict[str, Any] = response.json()
    return body


def check(source: Source, context: PullContext) -> str:
    """How many surveys the account has."""
    with explain_http_errors(source.name, source.connection):
        body = _get(_open(source, context), "surveys", {"per_page": 1})
    return f"{body.get('total', len(body['data'])):,} surveys"


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Surveys that changed, and responses by the time of their change."""
    options = read_options(source, Options)
    session = _open(source, context)
    position = copy.deepcopy(context.position)
    began = context.now.astimezone(UTC) - CLOCKS_APART
    with explain_http_errors(source.name, source.connection):
        surveys = list(_list_surveys(session, options))
        for survey in sorted(surveys, key=lambda found: _is_quiet(found, position)):
            place = position.setdefault(survey["id"], {})
            if session.day.is_spent:
                context.progress(f"{source.name}: the day's requests are used up", 0)
                return
            if _is_quiet(survey, position) and not session.day.spares_quiet:
                continue
            yield from _pull_survey(session, survey, position)
            yield from _pull_responses(session, survey["id"], position, source, began)
            if not session.day.is_spent:
                place["count"] = survey.get("response_count")


def _is_quiet(survey: dict[str, Any], position: dict[str, Any]) -> bool:
    place = position.get(survey["id"], {})
    count = survey.get("response_count")
    return count is not None and place.get("count") == count


def _list_surveys(session: Session, options: Options) -> Iterator[dict[str, Any]]:
    if options.surveys is not None:
        yield from ({"id": survey_id} for survey_id in options.surveys)
        return
    params = {"per_page": LIST_SIZE, "include": SHOWN, "page": 1}
    seen: set[str] = set()
    while True:
        body = _get(session, "surveys", params)
        for survey in body["data"]:
            if survey["id"] not in seen:
                seen.add(survey["id"])
                yield survey
        if not body.get("links", {}).get("next"):
            return
        params["page"] = int(str(params["page"])) + 1


def _pull_survey(
    session: Session, survey: dict[str, Any], position: dict[str, Any]
) -> Iterator[Batch]:
    """The survey's questions, if they may have changed since they were read."""
    place = position[survey["id"]]
    changed = survey.get("date_modified")
    if changed is not None and changed == place.get("changed"):
        return
    details = _get(session, f"surveys/{survey['id']}/details")
    place["changed"] = changed
    record = Record(str(details["id"]), details, details.get("analyze_url"))
    yield Batch("surveys", [record], copy.deepcopy(position))


def _pull_responses(
    session: Session,
    survey_id: str,
    position: dict[str, Any],
    source: Source,
    began: datetime,
) -> Iterator[Batch]:
    """Pages by time of change; where they are not in that order, by number and to the end."""
    place = position[survey_id]
    since = _read_time(place["since"]) if place.get("since") else None
    if since is None and source.start:
        since = datetime.combine(source.start, time.min, UTC)
    newest, page, is_sorted = since, 1, True
    while not session.day.is_spent:
        params: dict[str, Any] = {"per_page": PAGE_SIZE, "page": page}
        params |= {"sort_by": "date_modified", "sort_order": "ASC"}
        if since:
            params["start_modified_at"] = since.strftime("%Y-%m-%dT%H:%M:%S")
        body = _get(session, f"surveys/{survey_id}/responses/bulk", params)
        rows = body["data"]
        times = [_read_time(row["date_modified"]) for row in rows]
        is_sorted = is_sorted and times == sorted(times)
        newest = max([*times, *([newest] if newest else [])], default=None)
        has_next = bool(rows and body.get("links", {}).get("next"))
        if newest and (is_sorted or not has_next):
            # What changed while unsorted pages were read may stand on a page read before.
            safe = newest if is_sorted else min(newest, began)
            place["since"] = (safe - timedelta(seconds=1)).isoformat()
        records = [Record(str(row["id"]), row, row.get("analyze_url")) for row in rows]
        yield Batch("responses", records, copy.deepcopy(position))
        if not has_next:
            return
        next_since = newest - timedelta(seconds=1) if newest else None
        if is_sorted and next_since and (since is None or next_since > since):
            since, page = next_since, 1
        else:
            page += 1


def _read_time(text: str) -> datetime:
    """ISO with or without an offset; without one it is UTC."""
    read = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)


def read_questions(survey: dict[str, Any]) -> list[Asked]:
    """The questions of a survey; a matrix of one row is one question, of several one for each."""
    found: list[Asked] = []
    for page in survey.get("pages", []):
        for question in page.get("questions", []):
            found += _read_question(question)
    return found


def _read_question(question: dict[str, Any]) -> list[Asked]:
    key, family = str(question["id"]), question.get("family")
    title = " ".join(part.get("heading") or "" for part in question.get("headings", []))
    answers = question.get("answers") or {}
    choices = _read_choices(answers)
    rows = answers.get("rows") or []
    if family == "single_choice":
        return [Asked(key, title, "choice", choices=choices)]
    if family == "matrix" and question.get("subtype") in ("rating", "single"):
        is_nps = len(choices) == 11 and [label for _, label in choices][:1] == ["0"]
        if len(rows) < 2:
            return [Asked(key, title, "choice", choices=choices, is_nps=False)]
        return [
            Asked(f"{key}/{row['id']}", f"{title} {row.get('text') or ''}".strip(), "choice",
                  choices=choices, is_nps=is_nps)
            for row in rows
        ]  # fmt: skip
    if family == "demographic":
        kinds = {row.get("type") for row in rows}
        return [Asked(key, title, "email" if "email" in kinds else "none")]
    if family == "open_ended":
        shown = question.get("display_options") or {}
        if shown.get("display_type") == "slider":
            limits = question.get("validation") or {}
            low, high = limits.get("min", 0), limits.get("max", 100)
            ends = shown.get("left_label") or "", shown.get("right_label") or ""
            return [Asked(key, title, "scale", float(low), float(high), *ends)]
        return [Asked(key, title, "none" if question.get("subtype") == "numerical" else "text")]
    return [Asked(key, title, "none")]


def _read_choices(answers: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Ids and labels; where a scale labels its ends only, the weights are the labels."""
    listed = [choice for choice in answers.get("choices") or [] if not choice.get("is_na")]
    labels = [" ".join((choice.get("text") or "").split()) for choice in listed]
    weights = [choice.get("weight") for choice in listed]
    if not all(labels) and all(weight is not None for weight in weights):
        labels = [
            f"{weight} {label}".strip() for weight, label in zip(weights, labels, strict=True)
        ]
    return tuple((str(c["id"]), label) for c, label in zip(listed, labels, strict=True))


def derive_survey(source: Source, survey: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What lookups read: answers name a row or a choice, so these stand for their question."""
    options = read_options(source, Options)
    form = str(survey["id"])
    asked = {question.id: question for question in read_questions(survey)}
    rows = {
        str(question["id"]): [str(row["id"]) for row in question["answers"].get("rows") or []]
        for page in survey.get("pages", [])
        for question in page.get("questions", [])
        if question.get("answers")
    }
    by_id: dict[str, dict[str, Any]] = {}
    for flat in describe_form(form, list(asked.values()), options.questions):
        key = flat["key"]
        if "rated_by" in flat:
            flat["rated_by"] = flat["rated_by"].split("/")[0]
        if "score" in flat:
            question, _, answer = key.removeprefix(f"{form}/").rpartition("/")
            about = {} if "/" in question or rows.get(question) else by_id[question]
            if "/" in question or asked[question].shape == "choice":  # ids, not numbers
                yield {**about, "key": f"{form}/{answer}", "score": flat["score"]}
        if "question" in flat:
            by_id[flat["question"]] = flat
            question, _, row = flat["question"].partition("/")
            yield from (
                {**flat, "key": f"{form}/{only}"} for only in [row or None, *rows.get(question, [])]
                if only and (row == only or not row)
            )  # fmt: skip
        yield flat
    yield from _derive_comments(form, survey, by_id)


def _derive_comments(
    form: str, survey: dict[str, Any], by_id: dict[str, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The comment boxes of choice questions: open, unless they are one more choice."""
    for page in survey.get("pages", []):
        for question in page.get("questions", []):
            other = (question.get("answers") or {}).get("other") or {}
            if other.get("id") and not other.get("is_answer_choice"):
                yield {"key": f"{form}/{other['id']}", "kind": OPEN}


QUESTIONS, ANSWERS = "pages[*].questions[*]", "pages[*].questions[*].answers[*]"
CHOSEN, TEXT = "item.answers.0.choice_id", "item.answers.0.text"
TEXTS = tuple(f"item.answers.{place}.text" for place in range(1, 10))
CONTACT = "metadata.contact"
CONTACT_MAIL = r'"email"\s*:\s*(?:\{[^{}]*"value"\s*:\s*)?"([^"]+@[^"]+)"'
PARTIAL = values(
    {"completed": "false", "partial": "true", "overquota": "true", "disqualified": "true"}
)
IGNORED = (
    "id", "survey_id", "collector_id", "recipient_id", "total_time", "ip_address", "custom_value",
    "custom_variables", "edit_url", "analyze_url", "href", "page_path", "logic_path",
    "date_created", "metadata", "quiz_results",
)  # fmt: skip


def _look_up(value: str) -> Lookup:
    return Lookup("surveys", "key", value, "survey_id", is_strict=True)


def _of_survey(value: str) -> Lookup:
    return Lookup("surveys", "key", value, is_strict=True)


IS_CUSTOMER = When("collection_mode", NOT_CUSTOMERS, is_negated=True)


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)

    def variable(name: str | None) -> Field:
        return Field(("custom_variables", name)) if name else Field()

    person = {
        "source_customer_id": variable(options.customer_variable)
        if options.customer_variable
        else Field(CONTACT, pattern=CONTACT_MAIL, is_hashed=True),
        "customer_source": Field(const=options.customer_source),
        "source_case_id": variable(options.case_variable),
        "case_source": Field(const=options.case_source),
        "updated_at": Field("date_modified", "instant"),
    }
    found = [
        _map_scores(person, "item.row_id", (When("item.row_id"),)),
        _map_scores(person, "item.choice_id", (When("item.row_id", is_negated=True),)),
        _map_sliders(person),
        _map_texts(person),
        _map_comments(person),
    ]
    return found if options.customer_variable else [*found, *_map_customers()]


def _response(person: dict[str, Field]) -> dict[str, Field]:
    return {
        **person,
        "source_response_id": Field("id"),
        "survey_id": Field("survey_id"),
        "offered_at": Field("date_created", "instant"),
        "answered_at": Field("date_modified", "instant"),
        "is_partial": Field("response_status", "boolean", values=PARTIAL, unknown="true"),
    }


def _asked(by: str) -> dict[str, Field]:
    """What was asked, known by a row, a choice or a question."""
    return {
        "question_id": Field(by, lookup=_look_up("question")),
        "kind": Field(by, lookup=_look_up("kind")),
        "scale_min": Field(by, "number", lookup=_look_up("scale_min")),
        "scale_max": Field(by, "number", lookup=_look_up("scale_max")),
        "higher_is_better": Field(by, "boolean", lookup=_look_up("higher_is_better")),
        "comment": Field(TEXT, pick=Pick(QUESTIONS, "item.id", by, _look_up("comment_by"))),
    }


def _map_scores(person: dict[str, Field], by: str, when: tuple[When, ...]) -> Mapping:
    return Mapping(
        "responses",
        "survey_responses",
        {
            **_response(person),
            **_asked(by),
            "score": Field("item.choice_id", "number", lookup=_look_up("score")),
        },
        explode=ANSWERS,
        when=(
            IS_CUSTOMER,
            *when,
            When(by, SCORED, lookup=_look_up("kind")),
            When("item.choice_id", lookup=_look_up("score")),
        ),
        required=("source_response_id", "question_id"),
        ignored=IGNORED,
    )


def _map_sliders(person: dict[str, Field]) -> Mapping:
    return Mapping(
        "responses",
        "survey_responses",
        {**_response(person), **_asked("item.id"), "score": Field(TEXT, "number")},
        explode=QUESTIONS,
        when=(
            IS_CUSTOMER,
            When(TEXT),
            When("item.id", SCORED, lookup=_look_up("kind")),
            When("item.id", lookup=_look_up("score"), also=(TEXT,), joined_by="/"),
        ),
        required=("source_response_id", "question_id"),
    )


def _said(person: dict[str, Field], about: str) -> dict[str, Field]:
    rated_by = Pick(QUESTIONS, "item.id", "survey_id", _of_survey("rated_by"))
    return {
        **person,
        "source_record_id": Field("id", also=(about,), joined_by=":"),
        "channel": Field(const="survey"),
        "created_at": Field("date_created", "instant"),
        "rating": Field(CHOSEN, "number", pick=rated_by, lookup=_look_up("score")),
        "rating_min": Field("survey_id", "number", lookup=_of_survey("rating_min")),
        "rating_max": Field("survey_id", "number", lookup=_of_survey("rating_max")),
    }


def _map_texts(person: dict[str, Field]) -> Mapping:
    return Mapping(
        "responses",
        "feedback",
        {**_said(person, "item.id"), "body": Field(TEXT, also=TEXTS, joined_by="\n")},
        explode=QUESTIONS,
        when=(IS_CUSTOMER, When("item.id", (OPEN,), lookup=_look_up("kind")), When(TEXT)),
        required=("source_record_id",),
    )


def _map_comments(person: dict[str, Field]) -> Mapping:
    is_comment = When("item.other_id", (OPEN,), lookup=_look_up("kind"))
    return Mapping(
        "responses",
        "feedback",
        {**_said(person, "item.other_id"), "body": Field("item.text")},
        explode=ANSWERS,
        when=(IS_CUSTOMER, is_comment, When("item.text")),
        required=("source_record_id",),
    )


def _map_customers() -> list[Mapping]:
    return [
        Mapping(
            "responses",
            "customers",
            {
                "source_customer_id": Field(CONTACT, pattern=CONTACT_MAIL, is_hashed=True),
                "email": Field(CONTACT, pattern=CONTACT_MAIL),
                "updated_at": Field("date_modified", "instant"),
            },
            when=(IS_CUSTOMER, When(CONTACT, pattern=CONTACT_MAIL)),
            required=("source_customer_id",),
        )
    ]


KINDS = {
    "surveymonkey": Kind(
        "surveymonkey",
        "SurveyMonkey: responses with scores, open answers and comments, partial ones marked",
        Options,
        ("survey_responses", "feedback", "customers"),
        pull,
        mappings,
        needs_connection=True,
        secrets=(
            Secret(
                "password",
                "access token with View Surveys and View Response Details",
                "developer.surveymonkey.com → My Apps → Settings",
            ),
        ),
        check=check,
        derive={"surveys": derive_survey},
        default_url=DEFAULT_URL,
        summary_zh="SurveyMonkey：答卷的评分、开放题与附言，未完成的会标明",
    )
}

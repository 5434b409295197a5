"""Mailchimp: members of every audience, archived ones too, and the answers to its surveys.

Members come by the time of their change; archived ones are hidden from the plain list and asked for
once more. Answers have no time to go on from and are read whole. What the API does not give: the
scale of a range question (say it in ``questions``), answers of one response together (so an open
answer has no rating), and members who were deleted for good.

Mailchimp refuses haste with 429 or 403, often without JSON, and never says for how long.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from collections.abc import Mapping as Pairs
from datetime import UTC, datetime, time, timedelta
from hashlib import md5
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError
from pipelines.mapping import RECORD_ID, Field, Lookup, Mapping, When, values
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.http import Limits, explain_http_errors, open_client
from pipelines.sources.offsets import walk_offsets
from pipelines.sources.questions import OPEN, Asked, QuestionOptions, describe_form

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response

PAGE_SIZE = 1000
CLOCKS_APART = timedelta(minutes=1)
REFUSING = values(
    {"subscribed": "false", "transactional": "false", "pending": "false", "unsubscribed": "true",
     "cleaned": "true", "archived": "true"}
)  # fmt: skip


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    lists: list[str] | None = Option(default=None, description="ids of audiences; all if not set")
    surveys: bool = Option(default=True, description="read the answers to surveys")
    notes: bool = Option(default=False, description="notes hold what customers said")
    questions: dict[str, QuestionOptions] = Option(
        default_factory=dict, description="what a question is, by its id or text"
    )


def is_limited(response: Response) -> bool:
    """429, or a 403 that is no answer of the API itself: those are JSON."""
    is_json = "json" in response.headers.get("Content-Type", "")
    return response.status_code == 429 or (response.status_code == 403 and not is_json)


def _open(source: Source, context: PullContext) -> RESTClient:
    from requests.auth import HTTPBasicAuth

    connection = context.connection(source)
    key = connection.password or ""
    _, dash, center = key.rpartition("-")
    if not key or not (dash or source.base_url):
        raise HearbackError(
            f"source {source.name!r}: connection {source.connection!r} needs a password "
            "(the API key, which ends in its data center, such as -us21)"
        )
    url = f"https://{center}.api.mailchimp.com"
    auth = HTTPBasicAuth(connection.login or "hearback", key)
    limits = Limits(is_limited=is_limited)
    return open_client(source, context, "/3.0", auth=auth, limits=limits, default_url=url)


def _get(client: RESTClient, path: str, params: dict[str, Any]) -> dict[str, Any]:
    response = client.get(path, params=params)
    response.raise_for_status()
    body: dict[str, Any] = response.json()
    return body


def check(source: Source, context: PullContext) -> str:
    """How many audiences there are."""
    with explain_http_errors(source.name, source.connection):
        body = _get(_open(source, context), "lists", {"count": 1, "offset": 0})
    return f"{body['total_items']:,} audiences"


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Members that changed, audience by audience, and all answers to surveys."""
    options = read_options(source, Options)
    client = _open(source, context)
    position = copy.deepcopy(context.position)
    with explain_http_errors(source.name, source.connection):
        for list_id in _list_audiences(client, options):
            for status in ("", "archived"):
                yield from _pull_members(
                    client, list_id, status, position, source=source, now=context.now
                )
            if options.surveys:
                yield from _pull_surveys(client, list_id, context)


def _read_rows(
    client: RESTClient, path: str, items: str, place: dict[str, Any], **params: Any
) -> Iterator[list[dict[str, Any]]]:
    """Pages of a collection."""

    def read(offset: int) -> list[dict[str, Any]]:
        page = {"count": PAGE_SIZE, "offset": offset, **params}
        found: list[dict[str, Any]] = _get(client, path, page).get(items, [])
        return found

    return walk_offsets(read, "id", PAGE_SIZE, place)


def _list_audiences(client: RESTClient, options: Options) -> list[str]:
    if options.lists is not None:
        return options.lists
    pages = _read_rows(client, "lists", "lists", {})
    return list(dict.fromkeys(row["id"] for rows in pages for row in rows))


def _pull_members(
    client: RESTClient,
    list_id: str,
    status: str,
    position: dict[str, Any],
    *,
    source: Source,
    now: datetime,
) -> Iterator[Batch]:
    """Members by the time of their change; the next sweep begins where this one was safe."""
    start = source.start and datetime.combine(source.start, time.min, UTC).isoformat()
    place = position.setdefault(f"{list_id}/{status}", {"since": start})
    if "offset" not in place:
        place["began"] = (now - CLOCKS_APART).astimezone(UTC).isoformat()
        place["newest"] = place["since"]
    params = {"sort_field": "last_changed", "sort_dir": "ASC"}
    if status:
        params["status"] = status
    if place["since"]:
        # The bound is exclusive, and more may have changed in its second.
        since = datetime.fromisoformat(place["since"]) - timedelta(seconds=1)
        params["since_last_changed"] = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
    for rows in _read_rows(client, f"lists/{list_id}/members", "members", place, **params):
        times = [datetime.fromisoformat(row["last_changed"]) for row in rows if row["last_changed"]]
        if place["newest"]:
            times.append(datetime.fromisoformat(place["newest"]))
        place["newest"] = max(times).isoformat() if times else None
        if "offset" not in place:
            newest, began = place.pop("newest"), datetime.fromisoformat(place.pop("began"))
            if newest:
                place["since"] = min(datetime.fromisoformat(newest), began).isoformat()
        records = [Record(f"{list_id}/{row['id']}", row) for row in rows]
        yield Batch("members", records, copy.deepcopy(position))


def _pull_surveys(client: RESTClient, list_id: str, context: PullContext) -> Iterator[Batch]:
    """Questions and answers; an account without surveys is passed over with a note."""
    from requests.exceptions import HTTPError

    try:
        surveys = [
            row
            for rows in _read_rows(client, f"lists/{list_id}/surveys", "surveys", {})
            for row in rows
        ]
    except HTTPError as error:
        if error.response is None or error.response.status_code not in (403, 404):
            raise
        context.progress(f"mailchimp: audience {list_id} has no surveys to read", 0)
        return
    for survey_id in dict.fromkeys(str(row["id"]) for row in surveys):
        path = f"reporting/surveys/{survey_id}/questions"
        questions = [row for rows in _read_rows(client, path, "questions", {}) for row in rows]
        records = [Record(f"{survey_id}/{row['id']}", row) for row in questions]
        yield Batch("survey_questions", records)
        for question in questions:
            place: dict[str, Any] = {}
            for rows in _read_rows(client, f"{path}/{question['id']}/answers", "answers", place):
                prefix = f"{survey_id}/{question['id']}"
                yield Batch("survey_answers", [Record(f"{prefix}/{r['id']}", r) for r in rows])


def read_question(question: dict[str, Any]) -> Asked:
    """A question of a survey, of type pickOne, pickMany, range, text or email."""
    key, title, kind = str(question["id"]), question.get("query") or "", question.get("type")
    if kind == "pickOne":
        labels = [option["label"] for option in question.get("options") or []]
        return Asked(key, title, "choice", choices=tuple((label, label) for label in labels))
    if kind in ("text", "email"):
        return Asked(key, title, "email" if kind == "email" else "text")
    return Asked(key, title, "none")


def derive_question(source: Source, question: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What lookups read of a question."""
    overrides = read_options(source, Options).questions
    return describe_form(str(question["survey_id"]), [read_question(question)], overrides)


SURVEY, IN_QUESTION = "^([^/]+)/", "^([^/]+/[^/]+)/"


def _about(value: str) -> Lookup:
    return Lookup("survey_questions", "key", value, is_strict=True)


SCORE = Lookup(
    "survey_questions", "key", "score", RECORD_ID, is_strict=True, within_pattern=IN_QUESTION
)


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    found = [_map_members(), *_map_answers()]
    if options.notes:
        fields = {
            "source_record_id": Field("last_note.note_id", prefix="note-"),
            "channel": Field(const="other"),
            "source_customer_id": Field("id"),
            "created_at": Field("last_note.created_at", "instant"),
            "updated_at": Field("last_note.created_at", "instant"),
            "body": Field("last_note.note"),
        }
        when = (When("last_note.note"),)
        found.append(
            Mapping("members", "feedback", fields, when=when, required=("source_record_id",))
        )
    return found


def _map_members() -> Mapping:
    return Mapping(
        "members",
        "customers",
        {
            "source_customer_id": Field("id"),
            "name": Field("full_name"),
            "email": Field("email_address"),
            "phone": Field("merge_fields.PHONE", also=("sms_phone_number",)),
            "organization": Field("merge_fields.COMPANY"),
            "language": Field("language"),
            "region": Field("location.country_code"),
            "is_vip": Field("vip", "boolean"),
            "signup_at": Field("timestamp_signup", "instant", also=("timestamp_opt",)),
            "do_not_contact": Field("status", "boolean", values=REFUSING, unknown="true"),
            "updated_at": Field("last_changed", "instant"),
        },
        required=("source_customer_id",),
        ignored=(
            "unique_email_id", "contact_id", "web_id", "email_type", "unsubscribe_reason",
            "consents_to_one_to_one_messaging", "sms_subscription_status", "interests", "stats",
            "sms_subscription_last_updated", "ip_signup", "ip_opt", "member_rating", "email_client",
            "source", "tags_count", "tags", "list_id", "last_note", "_links",
            "marketing_permissions",
        ),
    )  # fmt: skip


def _map_answers() -> list[Mapping]:
    asked = {
        "kind": Field(RECORD_ID, pattern=IN_QUESTION, lookup=_about("kind")),
        "scale_min": Field(RECORD_ID, "number", pattern=IN_QUESTION, lookup=_about("scale_min")),
        "scale_max": Field(RECORD_ID, "number", pattern=IN_QUESTION, lookup=_about("scale_max")),
        "higher_is_better": Field(
            RECORD_ID, "boolean", pattern=IN_QUESTION, lookup=_about("higher_is_better")
        ),
    }
    person = {
        "source_customer_id": Field("contact.email_id"),
        "updated_at": Field("submitted_at", "instant"),
    }
    return [
        Mapping(
            "survey_answers",
            "survey_responses",
            {
                **person,
                **asked,
                "source_response_id": Field("response_id"),
                "survey_id": Field(RECORD_ID, pattern=SURVEY),
                "question_id": Field(RECORD_ID, pattern="^[^/]+/([^/]+)/"),
                "score": Field("value", "number", lookup=SCORE),
                "answered_at": Field("submitted_at", "instant"),
            },
            when=(When("value", lookup=SCORE),),
            required=("source_response_id", "question_id"),
            ignored=("id", "is_new_contact", "_links"),
        ),
        Mapping(
            "survey_answers",
            "feedback",
            {
                **person,
                "source_record_id": Field("id"),
                "channel": Field(const="survey"),
                "created_at": Field("submitted_at", "instant"),
                "body": Field("value"),
            },
            when=(
                When(RECORD_ID, (OPEN,), pattern=IN_QUESTION, lookup=_about("kind")),
                When("value"),
            ),
            required=("source_record_id",),
        ),
    ]


class MailchimpAudience:
    """Writes members and their tags. Errors are those of ``explain_http_errors``."""

    def __init__(self, source: Source, context: PullContext, list_id: str) -> None:
        self.source = source
        self.client = _open(source, context)
        self.path = f"lists/{list_id}/members"

    @staticmethod
    def find_id(email: str) -> str:
        """A member's id: the md5 of the address in lower case, as Mailchimp wants it."""
        return md5(email.strip().lower().encode(), usedforsecurity=False).hexdigest()

    def upsert_contact(self, email: str, merge_fields: Pairs[str, Any]) -> None:
        """Create the member, or change these fields; who unsubscribed stays so."""
        body = {
            "email_address": email,
            "status_if_new": "subscribed",
            "merge_fields": dict(merge_fields),
        }
        with explain_http_errors(self.source.name, self.source.connection):
            path = f"{self.path}/{self.find_id(email)}"
            self.client.request(path, method="PUT", json=body).raise_for_status()

    def add_tag(self, email: str, tag: str) -> None:
        """Give a member a tag, which is a static segment of the audience."""
        body = {"tags": [{"name": tag, "status": "active"}]}
        with explain_http_errors(self.source.name, self.source.connection):
            path = f"{self.path}/{self.find_id(email)}/tags"
            self.client.post(path, json=body).raise_for_status()


KINDS = {
    "mailchimp": Kind(
        "mailchimp",
        "Mailchimp: members with who does not want to be written to, answers to surveys",
        Options,
        ("customers", "survey_responses", "feedback"),
        pull,
        mappings,
        needs_connection=True,
        secrets=(
            Secret(
                "password",
                "API key with its data center, such as …-us21",
                "Profile → Extras → API keys",
            ),
        ),
        check=check,
        derive={"survey_questions": derive_question},
        default_url="https://<dc>.api.mailchimp.com",
        summary_zh="Mailchimp：受众成员（含不愿被联系者）与问卷答案",
    )
}

"""Google Forms: the forms that the options name, and their responses.

Responses come in no order, so the time to go on from is the time at which a sweep began, if no
newer answer was seen before it. An edited response comes again under its id. What the API does not
give: a list of forms (that is Google Drive's), partial responses, and the respondent's address
unless the form collects it. A response does not name its form; the raw record's id does.
"""

from __future__ import annotations

import copy
import json
import time as clock
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError
from pipelines.mapping import RECORD_ID, Field, Lookup, Mapping, Pick, When
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.http import explain_http_errors, make_token_auth, open_client
from pipelines.sources.questions import (
    OPEN,
    SCORED,
    Asked,
    QuestionOptions,
    describe_form,
)

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient

DEFAULT_URL = "https://forms.googleapis.com"
TOKEN_URL = "https://oauth2.googleapis.com/token"
SCOPES = " ".join(
    f"https://www.googleapis.com/auth/forms.{name}.readonly" for name in ("body", "responses")
)
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GRANT_SECONDS = 3600
PAGE_SIZE = 1000  # 5,000 may be asked for, at five times the memory
CLOCKS_APART = timedelta(minutes=1)  # how far our clock may be from the vendor's
FORM = "^([^/]+)/"  # the part of a response's record id that is its form


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    forms: list[str] = Option(min_length=1, description="ids of the forms, from their addresses")
    questions: dict[str, QuestionOptions] = Option(
        default_factory=dict, description="what a question is, by its id or title"
    )
    customer_question: str | None = Option(
        default=None, description="the question whose answer is the customer's id"
    )
    customer_source: str | None = Option(default=None, description="the source of that id")
    case_question: str | None = Option(
        default=None, description="the question whose answer is the case's id"
    )
    case_source: str | None = Option(default=None, description="the source of that id")


@dataclass(frozen=True)
class ServiceAccount:
    """The key of a service account, as Google gives it as a file of JSON."""

    email: str
    key_id: str
    private_key: str = field(repr=False)

    def make_grant(self) -> dict[str, str]:
        """What asks for an access token (RFC 7523); good for an hour."""
        import jwt

        now = int(clock.time())
        claims = {
            "iss": self.email,
            "scope": SCOPES,
            "aud": TOKEN_URL,
            "iat": now,
            "exp": now + GRANT_SECONDS,
        }
        signed = jwt.encode(claims, self.private_key, "RS256", headers={"kid": self.key_id})
        return {"grant_type": JWT_GRANT, "assertion": signed}


def read_account(source: Source, context: PullContext) -> ServiceAccount | None:
    """The service account of a connection: its key as a file, or as text; None if it has none.

    The names are those of Airflow's connections to Google.
    """
    from jwt import PyJWTError

    connection = context.connection(source)
    path, text = connection.extra.get("key_path"), connection.extra.get("keyfile_dict")
    if not path and not text:
        return None
    where = f"source {source.name!r}: the key of the service account in connection"
    try:
        if path:
            text = (context.folder / path).read_text("utf-8")
        told = text if isinstance(text, dict) else json.loads(text or "")
        account = ServiceAccount(
            told["client_email"], told.get("private_key_id", ""), told["private_key"]
        )
        account.make_grant()
    except OSError as error:
        raise HearbackError(
            f"{where} {source.connection!r} cannot be read ({error.strerror}); mend extra.key_path"
        ) from None
    except (ValueError, KeyError, TypeError, PyJWTError):  # whose texts may show the key
        raise HearbackError(
            f"{where} {source.connection!r} is no such key; it is the JSON file that Google gives "
            "for a service account"
        ) from None
    return account


def _open(source: Source, context: PullContext) -> RESTClient:
    """A client that is signed in by an access token, or by what fetches one.

    That is a refresh token, or the key of a service account that the forms are shared with.
    """
    from dlt.sources.helpers.rest_client.auth import BearerTokenAuth

    connection = context.connection(source)
    client = open_client(source, context, "/v1", default_url=DEFAULT_URL)
    site = (source.base_url or "").rstrip("/").removesuffix("/v1")
    token_url = f"{site}/token" if site else TOKEN_URL
    if account := read_account(source, context):
        client.auth = make_token_auth(client, source.connection, token_url, account.make_grant)
        return client
    if not connection.password:
        raise HearbackError(
            f"source {source.name!r}: connection {source.connection!r} needs a password (an access "
            "token, or the client secret beside login and extra.refresh_token), or the key of a "
            "service account in extra.key_path"
        )
    client.auth = BearerTokenAuth(connection.password)
    if refresh_token := connection.extra.get("refresh_token"):
        request = {
            "grant_type": "refresh_token",
            "client_id": connection.login or "",
            "client_secret": connection.password,
            "refresh_token": refresh_token,
        }
        client.auth = make_token_auth(client, source.connection, token_url, request)
    return client


def check(source: Source, context: PullContext) -> str:
    """One form's title."""
    options = read_options(source, Options)
    with explain_http_errors(source.name, source.connection):
        form = _read_form(_open(source, context), options.forms[0])
    return f"form {form.get('info', {}).get('title') or options.forms[0]!r} answers"


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Each form as it stands now, and its responses given or edited since the last sweep."""
    options = read_options(source, Options)
    client = _open(source, context)
    position = copy.deepcopy(context.position)
    with explain_http_errors(source.name, source.connection):
        for form_id in options.forms:
            form = _read_form(client, form_id)
            yield Batch("forms", [Record(form_id, form, form.get("responderUri"))])
            yield from _pull_responses(client, form_id, position, source, context)


def _read_form(client: RESTClient, form_id: str) -> dict[str, Any]:
    response = client.get(f"forms/{form_id}")
    if response.status_code == 404:
        raise HearbackError(
            f"form {form_id!r} is not there, or not shared with this login; check options.forms"
        )
    response.raise_for_status()
    form: dict[str, Any] = response.json()
    return form


def _pull_responses(
    client: RESTClient,
    form_id: str,
    position: dict[str, Any],
    source: Source,
    context: PullContext,
) -> Iterator[Batch]:
    """One sweep over what is new; a page token that has expired begins the sweep anew."""
    from requests.exceptions import HTTPError

    start = source.start and datetime.combine(source.start, time.min, UTC).isoformat()
    place = position.setdefault(form_id, {"since": start})
    began = (context.now - CLOCKS_APART).astimezone(UTC).isoformat()
    if "token" not in place:
        place |= {"began": began, "newest": place["since"]}
    for attempt in range(3):
        try:
            yield from _sweep(client, form_id, position)
            return
        except HTTPError as error:
            is_refused = error.response is not None and error.response.status_code in (400, 404)
            if not is_refused or "token" not in place or attempt == 2:
                raise
            place |= {"began": began, "newest": place["since"]}
            del place["token"]


def _sweep(client: RESTClient, form_id: str, position: dict[str, Any]) -> Iterator[Batch]:
    place = position[form_id]
    params: dict[str, Any] = {"pageSize": PAGE_SIZE}
    if place["since"]:
        params["filter"] = f"timestamp >= {_to_zulu(place['since'])}"
    while True:
        if "token" in place:
            params["pageToken"] = place["token"]
        response = client.get(f"forms/{form_id}/responses", params=params)
        response.raise_for_status()
        body = response.json()
        rows = body.get("responses", [])
        times = [_read_time(row["lastSubmittedTime"]) for row in rows]
        if place["newest"]:
            times.append(_read_time(place["newest"]))
        place["newest"] = max(times).isoformat() if times else None
        token = body.get("nextPageToken")
        if token:
            place["token"] = token
        else:
            _end_sweep(place)
        records = [Record(f"{form_id}/{row['responseId']}", row) for row in rows]
        yield Batch("responses", records, copy.deepcopy(position))
        if not token:
            return


def _end_sweep(place: dict[str, Any]) -> None:
    """The next sweep begins at the newest answer, but not after this one began."""
    if place["newest"]:
        since = min(_read_time(place["newest"]), _read_time(place["began"]))
        before = _read_time(place["since"]) if place["since"] else since
        place["since"] = max(since, before).isoformat()
    for name in ("token", "newest", "began"):
        place.pop(name, None)


def _read_time(text: str) -> datetime:
    """RFC 3339; digits of a fraction beyond microseconds are cut."""
    head, dot, tail = text.replace("Z", "+00:00").partition(".")
    if not dot:
        return datetime.fromisoformat(head)
    digits, sign, zone = tail.partition("+")
    return datetime.fromisoformat(f"{head}.{digits[:6]:0<6}{sign}{zone}")


def _to_zulu(text: str) -> str:
    """Whole seconds: a time is read again rather than skipped."""
    return _read_time(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_questions(form: dict[str, Any]) -> list[Asked]:
    """The questions of a form, the rows of a grid one each."""
    found = []
    for item in form.get("items", []):
        title = item.get("title") or ""
        if "questionItem" in item:
            found.append(_read_question(item["questionItem"]["question"], title))
        group = item.get("questionGroupItem", {})
        choice = group.get("grid", {}).get("columns")
        for question in group.get("questions", []):
            row = question.get("rowQuestion", {}).get("title") or ""
            asked = {"choiceQuestion": choice} if choice else {}
            found.append(_read_question(question | asked, f"{title} {row}".strip()))
    return found


def _read_question(question: dict[str, Any], title: str) -> Asked:
    key = question["questionId"]
    if scale := question.get("scaleQuestion"):
        ends = scale.get("lowLabel") or "", scale.get("highLabel") or ""
        # The API leaves out a zero.
        return Asked(key, title, "scale", scale.get("low", 0), scale.get("high", 0), *ends)
    if rating := question.get("ratingQuestion"):
        return Asked(key, title, "stars", 1, rating.get("ratingScaleLevel", 5))
    if choice := question.get("choiceQuestion"):
        if choice.get("type") == "CHECKBOX":
            return Asked(key, title, "none")
        labels = [option["value"] for option in choice.get("options", []) if "value" in option]
        return Asked(key, title, "choice", choices=tuple((label, label) for label in labels))
    return Asked(key, title, "text" if "textQuestion" in question else "none")


def derive_form(source: Source, form: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What lookups read of a form."""
    options = read_options(source, Options)
    named = {"customer_by": options.customer_question, "case_by": options.case_question}
    return describe_form(form["formId"], read_questions(form), options.questions, named)


def _look_up(value: str) -> Lookup:
    return Lookup("forms", "key", value, RECORD_ID, is_strict=True, within_pattern=FORM)


def _pick(named: str) -> Pick:
    by_form = Lookup("forms", "key", named, is_strict=True)
    return Pick("answers.*", "item.questionId", RECORD_ID, by_form, pattern=FORM)


ANSWER = "item.textAnswers.answers.0.value"
QUESTION = "item.questionId"


def _of_form(value: str) -> Field:
    by_form = Lookup("forms", "key", value, is_strict=True)
    return Field(RECORD_ID, "number", pattern=FORM, lookup=by_form)


def _score(pick: Pick | None = None) -> Field:
    answer = {"also": (ANSWER,), "joined_by": "/", "lookup": _look_up("score")}
    return Field(QUESTION, "number", pick=pick, **answer)  # type: ignore[arg-type]


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    person = {
        "source_customer_id": Field(ANSWER, pick=_pick("customer_by"))
        if options.customer_question
        else Field("respondentEmail", also=(ANSWER,), pick=_pick("email_by"), is_hashed=True),
        "customer_source": Field(const=options.customer_source),
        "source_case_id": Field(ANSWER, pick=_pick("case_by"))
        if options.case_question
        else Field(),
        "case_source": Field(const=options.case_source),
        "updated_at": Field("lastSubmittedTime", "instant"),
    }
    is_scored = When(QUESTION, SCORED, lookup=_look_up("kind"))
    has_score = When(QUESTION, lookup=_look_up("score"), also=(ANSWER,), joined_by="/")
    found = [
        Mapping(
            "responses",
            "survey_responses",
            {
                **person,
                "source_response_id": Field("responseId"),
                "survey_id": Field(RECORD_ID, pattern=FORM),
                "question_id": Field(QUESTION),
                "kind": Field(QUESTION, lookup=_look_up("kind")),
                "score": _score(),
                "scale_min": Field(QUESTION, "number", lookup=_look_up("scale_min")),
                "scale_max": Field(QUESTION, "number", lookup=_look_up("scale_max")),
                "higher_is_better": Field(QUESTION, "boolean", lookup=_look_up("higher_is_better")),
                "comment": Field(
                    ANSWER,
                    pick=Pick("answers.*", QUESTION, QUESTION, _look_up("comment_by")),
                ),
                "answered_at": Field("lastSubmittedTime", "instant"),
                "is_partial": Field(const=False),
            },
            explode="answers.*",
            when=(is_scored, has_score),
            required=("source_response_id", "question_id"),
            ignored=("formId", "createTime", "totalScore"),
        ),
        Mapping(
            "responses",
            "feedback",
            {
                **person,
                "source_record_id": Field("responseId", also=(QUESTION,), joined_by=":"),
                "channel": Field(const="survey"),
                "created_at": Field("createTime", "instant"),
                "body": Field(ANSWER),
                "rating": _score(_pick("rated_by")),
                "rating_min": _of_form("rating_min"),
                "rating_max": _of_form("rating_max"),
            },
            explode="answers.*",
            when=(When(QUESTION, (OPEN,), lookup=_look_up("kind")), When(ANSWER)),
            required=("source_record_id",),
        ),
    ]
    if options.customer_question:
        return found
    details = {
        "name": Field(ANSWER, pick=_pick("name_by")),
        "phone": Field(ANSWER, pick=_pick("phone_by")),
        "organization": Field(ANSWER, pick=_pick("company_by")),
        "updated_at": Field("lastSubmittedTime", "instant"),
    }
    for path, more in (
        ("respondentEmail", {"when": (When("respondentEmail"),)}),
        (
            ANSWER,
            {
                "explode": "answers.*",
                "when": (
                    When("respondentEmail", is_negated=True),
                    When(QUESTION, ("email",), lookup=_look_up("kind")),
                    When(ANSWER),
                ),
            },
        ),
    ):
        fields = {
            "source_customer_id": Field(path, is_hashed=True),
            "email": Field(path),
            **details,
        }
        required = ("source_customer_id",)
        found.append(Mapping("responses", "customers", fields, required=required, **more))
    return found


KINDS = {
    "google_forms": Kind(
        "google_forms",
        "Google Forms: responses with scores, open answers and respondents",
        Options,
        ("survey_responses", "feedback", "customers"),
        pull,
        mappings,
        needs_connection=True,
        secrets=(
            Secret(
                "password",
                "access token with forms.body.readonly and forms.responses.readonly, or the "
                "secret of an OAuth client",
                "Google Cloud console → APIs & Services → Credentials",
            ),
            Secret(
                "extra.key_path",
                "file with the key of a service account that the forms are shared with",
                "Google Cloud console → IAM → Service accounts → Keys",
                is_optional=True,
                replaces=("password",),
            ),
            Secret(
                "extra.keyfile_dict",
                "that key itself, as JSON",
                "Google Cloud console → IAM → Service accounts → Keys",
                is_optional=True,
                replaces=("password",),
            ),
            Secret(
                "login",
                "id of the OAuth client",
                "Google Cloud console → APIs & Services → Credentials",
                is_optional=True,
            ),
            Secret(
                "extra.refresh_token",
                "refresh token of the OAuth client",
                "OAuth consent of that client",
                is_optional=True,
            ),
        ),
        check=check,
        derive={"forms": derive_form},
        default_url=DEFAULT_URL,
        summary_zh="Google 表单：答卷的评分、开放题与填写人",
    )
}

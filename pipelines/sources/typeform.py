"""Typeform: forms, completed responses, and partial ones.

Completed responses are read in the order of their submission, each page from the second in which
the last one ended: a token of ``after`` excludes sorting and may expire. The vendor says that an
answer may show up half an hour late, so the next pull begins an hour before the newest one. Partial
responses have no time to go on from; they are read whole each time, and only if the form keeps
them. Neither says which form it belongs to; the raw record's id does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError
from pipelines.mapping import RECORD_ID, Field, Lookup, Mapping, Path, Pick, When
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.http import Limits, explain_http_errors, open_client
from pipelines.sources.questions import OPEN, SCORED, Asked, QuestionOptions, describe_form

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient

DEFAULT_URL = "https://api.typeform.com"
PAGE_SIZE = 1000
FORMS_PAGE_SIZE = 200
TRIES = 2  # how often pages are begun anew
MAY_COME_LATE = timedelta(hours=1)
FORM = "^([^/]+)/"  # the part of a response's record id that is its form


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    forms: list[str] | None = Option(default=None, description="ids of forms; all if not set")
    questions: dict[str, QuestionOptions] = Option(
        default_factory=dict, description="what a question is, by its id or title"
    )
    partial: bool = Option(default=True, description="read partial responses too")
    customer_hidden: str | None = Option(
        default=None, description="the hidden field that holds the customer's id"
    )
    customer_source: str | None = Option(default=None, description="the source of that id")
    case_hidden: str | None = Option(
        default=None, description="the hidden field that holds the case's id"
    )
    case_source: str | None = Option(default=None, description="the source of that id")
    requests_per_second: float = Option(
        default=2, gt=0, le=50, description="most requests a second"
    )


def _open(source: Source, context: PullContext) -> RESTClient:
    from dlt.sources.helpers.rest_client.auth import BearerTokenAuth

    connection = context.connection(source)
    if not connection.password:
        raise HearbackError(
            f"source {source.name!r}: connection {source.connection!r} needs a password "
            "(the personal access token)"
        )
    auth = BearerTokenAuth(connection.password)
    limits = Limits(per_second=read_options(source, Options).requests_per_second)
    return open_client(source, context, auth=auth, limits=limits, default_url=DEFAULT_URL)


def check(source: Source, context: PullContext) -> str:
    """How many forms the account has."""
    with explain_http_errors(source.name, source.connection):
        response = _open(source, context).get("forms", params={"page": 1, "page_size": 1})
        response.raise_for_status()
        return f"{response.json()['total_items']:,} forms"


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Forms that changed, and the responses of every form since the remembered time."""
    options = read_options(source, Options)
    client = _open(source, context)
    position = copy.deepcopy(context.position)
    with explain_http_errors(source.name, source.connection):
        for form_id, changed in _list_forms(client, options):
            place = position.setdefault(form_id, {})
            if changed is None or changed != place.get("form_changed"):
                form = _read_form(client, form_id)
                place["form_changed"] = changed
                url = form.get("_links", {}).get("display")
                yield Batch("forms", [Record(form_id, form, url)], copy.deepcopy(position))
            yield from _pull_responses(client, form_id, position, source)
            if options.partial:
                yield from _pull_partial(client, form_id, source, context)


def _list_forms(client: RESTClient, options: Options) -> Iterator[tuple[str, str | None]]:
    """Ids of the forms and when each was changed (None: not known)."""
    from dlt.sources.helpers.rest_client.paginators import PageNumberPaginator

    if options.forms is not None:
        yield from ((form_id, None) for form_id in options.forms)
        return
    pages = client.paginate(
        "forms",
        params={"page_size": FORMS_PAGE_SIZE},
        paginator=PageNumberPaginator(base_page=1, page_param="page", total_path="page_count"),
        data_selector="items",
    )
    seen: set[str] = set()  # a form that changes while pages are read moves to the first one
    for page in pages:
        for form in page:
            if form["id"] not in seen:
                seen.add(form["id"])
                yield form["id"], form.get("last_updated_at")


def _read_form(client: RESTClient, form_id: str) -> dict[str, Any]:
    response = client.get(f"forms/{form_id}")
    if response.status_code == 404:
        raise HearbackError(f"form {form_id!r} is not there; check options.forms")
    response.raise_for_status()
    form: dict[str, Any] = response.json()
    return form


def _read_page(client: RESTClient, form_id: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """A page of responses; None if the token that it follows is not known any more."""
    response = client.get(f"forms/{form_id}/responses", params={"page_size": PAGE_SIZE} | params)
    if response.status_code in (400, 404) and ("after" in params or "before" in params):
        return None
    response.raise_for_status()
    body: dict[str, Any] = response.json()
    return body


def _use_up(form_id: str, tries: int) -> int:
    """A response whose token leads to the next page may be deleted meanwhile: begin anew."""
    if tries == 0:
        raise HearbackError(f"the pages of form {form_id!r} end too soon; run it again later")
    return tries - 1


def _has_more(body: dict[str, Any]) -> bool:
    return bool(body["items"]) and body.get("page_count", 1) > 1


def _records(form_id: str, rows: list[dict[str, Any]]) -> list[Record]:
    return [Record(f"{form_id}/{row['token']}", row) for row in rows]


def _pull_responses(
    client: RESTClient, form_id: str, position: dict[str, Any], source: Source
) -> Iterator[Batch]:
    """Page by page in the order of submission; a second that fills a page is walked by token."""
    place = position[form_id]
    start = source.start and datetime.combine(source.start, time.min, UTC).isoformat()
    since = _read_time(place["since"]) - MAY_COME_LATE if "since" in place else None
    if since is None and start:
        since = _read_time(start)
    after: str | None = None
    tries = TRIES
    while True:
        params: dict[str, Any] = {"response_type": "completed"}
        if since:
            params["since"] = since.strftime("%Y-%m-%dT%H:%M:%S")
        params |= {"after": after} if after else {"sort": "submitted_at,asc"}
        body = _read_page(client, form_id, params)
        if body is None:
            after, tries = None, _use_up(form_id, tries)
            continue
        rows = body["items"]
        newest = max((_read_time(row["submitted_at"]) for row in rows), default=None)
        if newest:
            known = _read_time(place["since"]) if "since" in place else newest
            place["since"] = max(newest, known).isoformat()
        yield Batch("responses", _records(form_id, rows), copy.deepcopy(position))
        if not _has_more(body):
            return
        has_moved = newest is not None and (since is None or newest.replace(microsecond=0) > since)
        after = None if has_moved else rows[-1]["token"]
        since = newest.replace(microsecond=0) if has_moved and newest else since


def _pull_partial(
    client: RESTClient, form_id: str, source: Source, context: PullContext
) -> Iterator[Batch]:
    """All partial responses, newest first; a token that brings nothing new ends it.

    A plan that lacks them is passed over with a note.
    """
    from requests.exceptions import HTTPError

    params: dict[str, Any] = {"response_type": "partial"}
    if source.start:
        params["since"] = f"{source.start.isoformat()}T00:00:00"
    seen: set[str] = set()
    tries = TRIES
    while True:
        try:
            body = _read_page(client, form_id, params)
        except HTTPError as error:
            if error.response is None or error.response.status_code not in (402, 403):
                raise
            context.progress(f"{source.name}: no partial responses of {form_id} in this plan", 0)
            return
        if body is None:
            del params["before"]
            tries = _use_up(form_id, tries)
            continue
        rows = [row for row in body["items"] if row["token"] not in seen]
        seen.update(row["token"] for row in rows)
        if rows:
            yield Batch("partial_responses", _records(form_id, rows))
        last = body["items"][-1]["token"] if body["items"] else None
        if not _has_more(body) or last == params.get("before"):
            return
        params["before"] = last


def _read_time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def read_questions(form: dict[str, Any]) -> list[Asked]:
    """The questions of a form; those of a group are taken out of it."""
    found: list[Asked] = []
    for field in form.get("fields", []):
        inner = field.get("properties", {}).get("fields")
        if inner and field["type"] in ("matrix", "group", "inline_group", "contact_info"):
            title = field["title"] if field["type"] == "matrix" else ""
            named = [{**part, "title": f"{title} {part['title']}".strip()} for part in inner]
            found += read_questions({"fields": named})
        else:
            found.append(_read_question(field))
    return found


def _read_question(field: dict[str, Any]) -> Asked:
    key, title, kind = field["id"], field.get("title") or "", field["type"]
    about = field.get("properties", {})
    labels = about.get("labels", {})
    ends = labels.get("left") or "", labels.get("right") or ""
    if kind == "nps":
        return Asked(key, title, "scale", 0, 10, *ends, is_nps=True)
    if kind == "opinion_scale":
        low = 1 if about.get("start_at_one") else 0
        # A scale of eleven steps from zero is 0 to 10.
        return Asked(key, title, "scale", low, low + about.get("steps", 11) - 1, *ends)
    if kind == "rating":
        return Asked(key, title, "stars", 1, about.get("steps", 5))
    if kind == "yes_no":
        return Asked(key, title, "choice", choices=(("true", "Yes"), ("false", "No")))
    is_choice = kind in ("multiple_choice", "picture_choice", "dropdown")
    if is_choice and not about.get("allow_multiple_selection"):
        choices = tuple((c["label"], c["label"]) for c in about.get("choices", []))
        return Asked(key, title, "choice", choices=choices)
    if kind in ("short_text", "long_text"):
        return Asked(key, title, "text")
    if kind == "email":
        return Asked(key, title, "email")
    if kind == "phone_number":
        return Asked(key, title, "phone")
    return Asked(key, title, "none")


def derive_form(source: Source, form: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What lookups read of a form."""
    return describe_form(form["id"], read_questions(form), read_options(source, Options).questions)


QUESTION = "item.field.id"
TEXT = "item.text"
CHOSEN: tuple[Path, ...] = ("item.number", "item.choice.label", "item.boolean")


def _look_up(value: str) -> Lookup:
    return Lookup("forms", "key", value, RECORD_ID, is_strict=True, within_pattern=FORM)


def _pick(named: str) -> Pick:
    by_form = Lookup("forms", "key", named, is_strict=True)
    return Pick("answers[*]", QUESTION, RECORD_ID, by_form, pattern=FORM)


def _score(pick: Pick | None = None) -> Field:
    return Field(
        QUESTION, "number", also=CHOSEN, joined_by="/", lookup=_look_up("score"), pick=pick
    )


def _of_form(value: str) -> Field:
    by_form = Lookup("forms", "key", value, is_strict=True)
    return Field(RECORD_ID, "number", pattern=FORM, lookup=by_form)


IGNORED = (
    "landing_id", "response_id", "metadata", "calculated", "variables", "hidden", "response_type",
    "outcome", "thankyou_screen_ref", "staged_at", "landed_at", "submitted_at", "ending", "tags",
)  # fmt: skip


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    found = []
    for raw, at, is_partial in (
        ("responses", "submitted_at", False),
        ("partial_responses", "landed_at", True),
    ):
        found += _map_answers(raw, at, options, is_partial=is_partial)
        if not options.customer_hidden:
            found += _map_customers(raw, at)
    return found


def _map_answers(raw: str, at: str, options: Options, *, is_partial: bool) -> list[Mapping]:
    def hidden(name: str | None) -> Field:
        return Field(("hidden", name)) if name else Field()

    by_mail = Field("hidden.email", also=("item.email",), pick=_pick("email_by"), is_hashed=True)
    person = {
        "source_customer_id": hidden(options.customer_hidden)
        if options.customer_hidden
        else by_mail,
        "customer_source": Field(const=options.customer_source),
        "source_case_id": hidden(options.case_hidden),
        "case_source": Field(const=options.case_source),
        "updated_at": Field(at, "instant"),
    }
    has_score = When(QUESTION, lookup=_look_up("score"), also=CHOSEN, joined_by="/")
    return [
        Mapping(
            raw,
            "survey_responses",
            {
                **person,
                "source_response_id": Field("token"),
                "survey_id": Field(RECORD_ID, pattern=FORM),
                "question_id": Field(QUESTION),
                "kind": Field(QUESTION, lookup=_look_up("kind")),
                "score": _score(),
                "scale_min": Field(QUESTION, "number", lookup=_look_up("scale_min")),
                "scale_max": Field(QUESTION, "number", lookup=_look_up("scale_max")),
                "higher_is_better": Field(QUESTION, "boolean", lookup=_look_up("higher_is_better")),
                "comment": Field(
                    TEXT, pick=Pick("answers[*]", QUESTION, QUESTION, _look_up("comment_by"))
                ),
                "offered_at": Field("landed_at", "instant"),
                "answered_at": Field(at, "instant"),
                "is_partial": Field(const=is_partial),
            },
            explode="answers[*]",
            when=(When(QUESTION, SCORED, lookup=_look_up("kind")), has_score),
            required=("source_response_id", "question_id"),
            ignored=IGNORED,
        ),
        Mapping(
            raw,
            "feedback",
            {
                **person,
                "source_record_id": Field("token", also=(QUESTION,), joined_by=":"),
                "channel": Field(const="survey"),
                "created_at": Field(at, "instant"),
                "body": Field(TEXT),
                "rating": _score(_pick("rated_by")),
                "rating_min": _of_form("rating_min"),
                "rating_max": _of_form("rating_max"),
            },
            explode="answers[*]",
            when=(When(QUESTION, (OPEN,), lookup=_look_up("kind")), When(TEXT)),
            required=("source_record_id",),
        ),
    ]


def _map_customers(raw: str, at: str) -> list[Mapping]:
    details = {
        "name": Field(TEXT, pick=_pick("name_by")),
        "phone": Field("item.phone_number", also=(TEXT,), pick=_pick("phone_by")),
        "organization": Field(TEXT, pick=_pick("company_by")),
        "updated_at": Field(at, "instant"),
    }
    from_hidden = Mapping(
        raw,
        "customers",
        {
            "source_customer_id": Field("hidden.email", is_hashed=True),
            "email": Field("hidden.email"),
            **details,
        },
        when=(When("hidden.email"),),
        required=("source_customer_id",),
    )
    answered = Mapping(
        raw,
        "customers",
        {
            "source_customer_id": Field("item.email", is_hashed=True),
            "email": Field("item.email"),
            **details,
        },
        explode="answers[*]",
        when=(When("hidden.email", is_negated=True), When("item.email")),
        required=("source_customer_id",),
    )
    return [from_hidden, answered]


KINDS = {
    "typeform": Kind(
        "typeform",
        "Typeform: completed and partial responses with scores, open answers and respondents",
        Options,
        ("survey_responses", "feedback", "customers"),
        pull,
        mappings,
        needs_connection=True,
        secrets=(
            Secret(
                "password",
                "personal access token with forms:read and responses:read",
                "Account → Personal tokens",
            ),
        ),
        check=check,
        derive={"forms": derive_form},
        default_url=DEFAULT_URL,
        summary_zh="Typeform：完整与未完成答卷的评分、开放题与填写人",
    )
}

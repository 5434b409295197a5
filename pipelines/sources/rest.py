"""Any REST API, declared: where its endpoints are, how they page, and which field is which column.

Names follow dlt's ``rest_api`` where it has them: paginators take dlt's arguments. An endpoint with
a ``cursor`` is asked only for what changed. If its answers come in the order of the cursor
(``is_sorted``), every page is remembered, and numbered pages begin just before the time at which
the last one ended, lest a record that changes hides others; if not, only the end of the pull is,
and never a time later than its beginning. An endpoint with a ``parent`` is read for each record of
that one, so that its records come when the parent changes. The path ``@record_id`` is the id that a
record has in raw. Nothing tells deletions unless a field of the API does.
"""

from __future__ import annotations

import copy
import inspect
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urljoin, urlsplit

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic import Field as Option

from pipelines.entities import KEYS, LINEAGE, SCHEMAS
from pipelines.errors import HearbackError, UsageError
from pipelines.mapping import (
    CAPTURED_AT,
    RECORD_ID,
    Field,
    Lookup,
    Mapping,
    When,
    columns_to_fields,
    values,
)
from pipelines.settings import Source, nearest
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.changes import walk_changes
from pipelines.sources.deletions import find_true_values, list_marks, map_marked, split_marks
from pipelines.sources.http import (
    Budget,
    Limits,
    explain_http_errors,
    make_token_auth,
    open_client,
    read_number,
    retry_after,
)

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from dlt.sources.helpers.rest_client.paginators import BasePaginator
    from requests import Response

PLACE = re.compile(r"\{([\w.]+)\}")
PAGINATORS = {
    "none": "SinglePagePaginator",
    "link_header": "HeaderLinkPaginator",
    "json_link": "JSONLinkPaginator",
    "cursor": "JSONResponseCursorPaginator",
    "header_cursor": "HeaderCursorPaginator",
    "offset": "OffsetPaginator",
    "page_number": "PageNumberPaginator",
}
BY_TOKEN = ("link_header", "json_link", "cursor", "header_cursor")
EXPIRED = (400, 404, 410)  # how APIs answer a token that leads to no page any more
FAR_BEFORE = timedelta(days=2)  # further than zones and days can differ
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CHILD_ROWS = 1000
RESET_UNITS = {"seconds": 1.0, "milliseconds": 0.001, "unix": 1.0, "unix_ms": 0.001}

Paths = str | list[str]  # a dotted path, or keys that are taken as they are


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Auth(Strict):
    """How requests are signed; the secrets are in the connection."""

    type: Literal["bearer", "basic", "http_basic", "api_key", "oauth2_client_credentials"] = Option(
        description="how requests are signed"
    )
    name: str = Option(default="Authorization", description="header or parameter of an api_key")
    location: Literal["header", "query"] = Option(
        default="header", description="where an api_key goes"
    )
    token_url: str | None = Option(default=None, description="where tokens come from")
    access_token_request_data: dict[str, str] = Option(
        default_factory=dict, description="more fields of the request for a token, such as scope"
    )


class LimitOptions(Strict):
    """How the API says that it has had enough."""

    requests_per_second: float | None = Option(
        default=None, gt=0, description="most requests a second"
    )
    remaining_header: str | None = Option(
        default=None, description="header with the requests that are left"
    )
    reset_header: str | None = Option(
        default=None, description="header that says when there are more"
    )
    reset_unit: Literal["seconds", "milliseconds", "unix", "unix_ms"] = Option(
        default="seconds", description="what the reset header counts in"
    )
    refusals: list[int] = Option(default=[429], description="statuses that mean: too many requests")


class Cursor(Strict):
    """What tells new records from old ones."""

    field: str = Option(description="path of the time of change in a record")
    param: str | None = Option(
        default=None, description="query parameter; else write {cursor} in params, json or path"
    )
    format: Literal["iso", "unix", "unix_ms", "date"] = Option(
        default="iso", description="how the API writes times"
    )
    initial: datetime | date | None = Option(
        default=None, description="first value; else the source's start"
    )
    overlap_seconds: int = Option(default=60, ge=0, description="seconds that are read again")
    is_sorted: bool = Option(default=False, description="answers come in the order of the field")


class Lookups(Strict):
    """The name behind an id: ``value`` of the record of another endpoint whose ``key`` it is."""

    endpoint: str = Option(description="endpoint whose records hold the name")
    key: str = Option(default="id", description="field that the id is compared with")
    value: str = Option(description="field with the name")


class Condition(Strict):
    """Keep a record if the value at path is there, is one of ``among`` or matches a pattern."""

    path: Paths = Option(description="path in the record")
    among: list[str] = Option(default_factory=list, description="values to keep")
    pattern: str = Option(default="", description="regular expression to match")
    is_negated: bool = Option(default=False, description="keep what does not match")


class Target(Strict):
    """Which canonical entity the records give, and from where its columns come."""

    entity: str = Option(description="canonical entity")
    columns: dict[str, Paths] = Option(
        default_factory=dict, description="canonical = path in the record"
    )
    constants: dict[str, str | float | bool] = Option(
        default_factory=dict, description="canonical = the same value for all"
    )
    values: dict[str, dict[str, str]] = Option(
        default_factory=dict, description="by column: the API's value = canonical value"
    )
    unknown: dict[str, str] = Option(
        default_factory=dict, description="by column: what a value outside of values becomes"
    )
    lookups: dict[str, Lookups] = Option(
        default_factory=dict, description="by column: the name behind an id"
    )
    explode: str | None = Option(
        default=None, description="path of a list whose items give a row each"
    )
    when: list[Condition] = Option(default_factory=list, description="which records to keep")

    @model_validator(mode="after")
    def check_columns(self) -> Target:
        if self.entity not in SCHEMAS:
            raise ValueError(
                f"{self.entity!r} is no entity{nearest(self.entity, list(SCHEMAS))}; "
                f"there are {', '.join(SCHEMAS)}"
            )
        lineage = {column.name for column in LINEAGE}
        known = [name for name in SCHEMAS[self.entity].names if name not in lineage]
        known += list_marks(self.entity)
        for part in (self.columns, self.constants):
            for name in part:
                if name not in known:
                    raise ValueError(f"{self.entity} has no column {name!r}{nearest(name, known)}")
        for named in (self.values, self.unknown, self.lookups):
            for name in named:
                if name not in self.columns:
                    where = nearest(name, list(self.columns))
                    raise ValueError(f"column {name!r} is not in columns{where}")
        for name in KEYS[self.entity]:
            if name != "source" and name not in self.columns and name not in self.constants:
                raise ValueError(f"{self.entity} needs the column {name!r}; add it to columns")
        return self


class Endpoint(Strict):
    """One list of records of the API."""

    path: str = Option(description="below base_url; {field} is a field of the parent's record")
    name: str = Option(default="", description="name in raw; else the last part of the path")
    method: Literal["GET", "POST"] = Option(default="GET", description="how it is asked")
    params: dict[str, str | int | float | bool] = Option(
        default_factory=dict, description="query parameters"
    )
    body: dict[str, Any] | None = Option(
        default=None, alias="json", description="body of the request, as JSON"
    )
    record_path: str | None = Option(
        default=None, description="path of the list of records in an answer; else the whole answer"
    )
    may_lack_records: bool = Option(
        default=False, description="the API leaves record_path out where there are no records"
    )
    paginator: dict[str, Any] = Option(
        default={"type": "none"}, description="how pages follow: type, and dlt's arguments"
    )
    cursor: Cursor | None = Option(default=None, description="what tells new records from old ones")
    id: str | list[str] = Option(default="id", description="path, or paths, that name a record")
    url: str | None = Option(default=None, description="path of the address that people open")
    parent: str | None = Option(default=None, description="name of the endpoint above")
    include_from_parent: list[str] = Option(
        default_factory=list, description="fields added to each record as _<parent>_<field>"
    )
    entity: str | None = Option(default=None, description="canonical entity")
    columns: dict[str, Paths] = Option(
        default_factory=dict, description="canonical = path in the record"
    )
    constants: dict[str, str | float | bool] = Option(
        default_factory=dict, description="canonical = the same value for all"
    )
    values: dict[str, dict[str, str]] = Option(
        default_factory=dict, description="by column: the API's value = canonical value"
    )
    unknown: dict[str, str] = Option(
        default_factory=dict, description="by column: what a value outside of values becomes"
    )
    lookups: dict[str, Lookups] = Option(
        default_factory=dict, description="by column: the name behind an id"
    )
    explode: str | None = Option(
        default=None, description="path of a list whose items give a row each"
    )
    when: list[Condition] = Option(default_factory=list, description="which records to keep")
    mappings: list[Target] = Option(
        default_factory=list, description="for records that give rows of several entities"
    )
    optional: list[str] = Option(
        default_factory=list, description="fields that records may lack altogether"
    )
    ignored: list[str] = Option(default_factory=list, description="fields that are not used")

    @model_validator(mode="after")
    def check_paginator(self) -> Endpoint:
        make_paginator(self.paginator)
        self.targets()
        return self

    @property
    def raw(self) -> str:
        parts = [part for part in self.path.split("/") if part and "{" not in part]
        return self.name or (parts[-1] if parts else "records")

    @property
    def may_shift(self) -> bool:
        """Whether pages are numbered, of a list in whose order a record that changes moves."""
        cursor, text = self.cursor, f"{self.path} {self.params} {self.body}"
        is_numbered = self.paginator.get("type") in ("page_number", "offset")
        return (
            is_numbered
            and cursor is not None
            and cursor.is_sorted
            and cursor.format != "date"
            and (cursor.param is not None or "{cursor}" in text)
        )

    def targets(self) -> list[Target]:
        """What the records give: the endpoint's own mapping, then the further ones."""
        if self.entity is None:
            return list(self.mappings)
        own = {name: getattr(self, name) for name in Target.model_fields}
        return [Target.model_validate(own), *self.mappings]


class Options(Strict):
    endpoints: list[Endpoint] = Option(min_length=1, description="lists of records to read")
    auth: Auth | None = Option(default=None, description="how requests are signed")
    headers: dict[str, str] = Option(
        default_factory=dict, description="further headers of every request, no secrets"
    )
    limits: LimitOptions = Option(
        default=LimitOptions(), description="how the API says that it has had enough"
    )
    time_zone: str = Option(default="UTC", description="zone of times that name none")

    @model_validator(mode="after")
    def check_names(self) -> Options:
        names = [endpoint.raw for endpoint in self.endpoints]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two endpoints are called {name!r}; give one another name")
        for number, endpoint in enumerate(self.endpoints):
            above = names[:number]
            if endpoint.parent and endpoint.parent not in above:
                raise ValueError(
                    f"endpoint {endpoint.raw!r}: no endpoint {endpoint.parent!r} stands before it"
                    f"{nearest(endpoint.parent, above)}"
                )
            if endpoint.parent and endpoint.cursor:
                raise ValueError(
                    f"endpoint {endpoint.raw!r} follows the cursor of its parent; remove its own"
                )
            for target in endpoint.targets():
                for lookup in target.lookups.values():
                    if lookup.endpoint not in names:
                        raise ValueError(
                            f"no endpoint is called {lookup.endpoint!r}"
                            f"{nearest(lookup.endpoint, names)}"
                        )
        return self


def make_paginator(declared: dict[str, Any]) -> BasePaginator:
    """dlt's paginator of that type with those arguments; ValueError names the nearest right one."""
    from dlt.sources.helpers.rest_client import paginators

    arguments = dict(declared)
    kind = str(arguments.pop("type", "none"))
    if kind not in PAGINATORS:
        raise ValueError(
            f"{kind!r} is no paginator{nearest(kind, list(PAGINATORS))}; "
            f"there are {', '.join(PAGINATORS)}"
        )
    made = getattr(paginators, PAGINATORS[kind])
    known = [name for name in inspect.signature(made.__init__).parameters if name != "self"]
    for name in arguments:
        if name not in known:
            raise ValueError(f"paginator {kind} has no {name!r}{nearest(name, known)}")
    if kind in ("offset", "page_number"):
        arguments.setdefault("total_path", None)
    try:
        paginator: BasePaginator = made(**arguments)
    except TypeError as error:
        raise ValueError(f"paginator {kind}: {str(error).split(') ')[-1]}") from None
    return paginator


def read_path(record: Any, path: Paths) -> Any:
    """The value at a path; None if there is none."""
    value = record
    for part in path if isinstance(path, list) else path.split("."):
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value.get(part)
        else:
            return None
    return value


def fill_places(text: Any, places: dict[str, Any], *, is_path: bool = False) -> Any:
    """A text, or the texts in a dict or list, with ``{name}`` replaced; others stay as they are."""
    if isinstance(text, dict):
        return {key: fill_places(value, places) for key, value in text.items()}
    if isinstance(text, list):
        return [fill_places(value, places) for value in text]
    if not isinstance(text, str):
        return text
    whole = PLACE.fullmatch(text)
    if whole and whole[1] in places and not is_path:
        return places[whole[1]]

    def fill(found: re.Match[str]) -> str:
        if found[1] not in places:
            return found[0]
        value = str(places[found[1]])
        return quote(value, safe="") if is_path else value

    return PLACE.sub(fill, text)


def parse_moment(value: Any) -> datetime | None:
    """An instant from ISO 8601, or from seconds or milliseconds since 1970; None if it is none."""
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    try:
        number = float(value)
    except ValueError:
        pass
    else:
        return datetime.fromtimestamp(number / 1000 if number > 1e11 else number, UTC)
    try:
        return parse_moment(datetime.fromisoformat(str(value)))
    except ValueError:
        return None


def write_moment(moment: datetime, form: str) -> str | int:
    """An instant as the API wants it."""
    if form == "unix":
        return int(moment.timestamp())
    if form == "unix_ms":
        return int(moment.timestamp() * 1000)
    if form == "date":
        return f"{moment:%Y-%m-%d}"
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def make_limits(options: LimitOptions) -> Limits:
    def read_reset(response: Response) -> float | None:
        if not options.reset_header:
            return None
        value = read_number(response, options.reset_header)
        if value is None:
            return None
        seconds = value * RESET_UNITS[options.reset_unit]
        return max(seconds - time.time() if "unix" in options.reset_unit else seconds, 0.0)

    def read_wait(response: Response) -> float | None:
        asked = retry_after(response)
        return read_reset(response) if asked is None else asked

    def read_budget(response: Response) -> Budget | None:
        left = read_number(response, options.remaining_header or "")
        return None if left is None else Budget(int(left), read_reset(response) or 0.0)

    return Limits(
        is_limited=lambda response: response.status_code in options.refusals,
        wait_seconds=read_wait,
        budget=read_budget,
        per_second=options.requests_per_second,
    )


def connect(source: Source, context: PullContext, options: Options) -> RESTClient:
    client = open_client(
        source, context, headers=dict(options.headers), limits=make_limits(options.limits)
    )
    client.auth = sign_in(source, context, client, options)
    return client


def sign_in(source: Source, context: PullContext, client: RESTClient, options: Options) -> Any:
    """What signs the requests. HearbackError names the connection and what is missing in it."""
    from dlt.sources.helpers.rest_client.auth import APIKeyAuth, BearerTokenAuth, HttpBasicAuth

    if options.auth is None and source.connection is None:
        return None
    connection = context.connection(source)
    kind = options.auth.type if options.auth else "basic" if connection.login else "bearer"
    needs_login = kind in ("basic", "http_basic", "oauth2_client_credentials")
    if not connection.password or (needs_login and not connection.login):
        wanted = "a login and a password" if needs_login else "a password (the token or key)"
        raise HearbackError(f"connection {connection.id!r} needs {wanted}")
    login, password = connection.login or "", connection.password
    if kind == "bearer":
        return BearerTokenAuth(token=password)
    if needs_login and kind != "oauth2_client_credentials":
        return HttpBasicAuth(username=login, password=password)
    assert options.auth
    if kind == "api_key":
        return APIKeyAuth(name=options.auth.name, api_key=password, location=options.auth.location)
    url = options.auth.token_url or connection.extra.get("token_url")
    if not url:
        raise UsageError(f"source {source.name!r}: auth needs token_url")
    request = {
        "grant_type": "client_credentials", "client_id": login, "client_secret": password,
        **options.auth.access_token_request_data,
    }  # fmt: skip
    token_url = urljoin((source.base_url or "").rstrip("/") + "/", url)
    return make_token_auth(client, source.connection, token_url, request)


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Every record that is new or changed since the remembered position, endpoint by endpoint."""
    options = read_options(source, Options)
    reader = Reader(source, options, connect(source, context, options), context)
    with explain_http_errors(source.name, source.connection):
        for endpoint in options.endpoints:
            if endpoint.parent is None:
                yield from reader.read(endpoint)


def check(source: Source, context: PullContext) -> str:
    """The first page of the first endpoint, with the fields that its columns name."""
    options = read_options(source, Options)
    reader = Reader(source, options, connect(source, context, options), context)
    endpoint = options.endpoints[0]
    with explain_http_errors(source.name, source.connection):
        for rows in reader.read_whole(endpoint, None):
            reader.check_fields(endpoint, rows)
            return f"{len(rows)} records on the first page of {endpoint.raw}"
    return f"no record of {endpoint.raw}"


@dataclass
class Reader:
    """Reads endpoints and what is below them; ``position`` has, by name, the cursor's ``since``."""

    source: Source
    options: Options
    client: RESTClient
    context: PullContext

    def __post_init__(self) -> None:
        self.position: dict[str, Any] = copy.deepcopy(self.context.position)
        self.children = {
            endpoint.raw: [
                child for child in self.options.endpoints if child.parent == endpoint.raw
            ]
            for endpoint in self.options.endpoints
        }

    def read(self, endpoint: Endpoint) -> Iterator[Batch]:
        """An endpoint's pages, each followed by what belongs to its records."""
        place = self.position.setdefault(endpoint.raw, {})
        begun, newest = datetime.now(UTC), parse_moment(place.get("since"))
        is_first = not place
        read = self.read_in_order if endpoint.may_shift else self.read_whole
        for rows in read(endpoint, newest):
            if is_first and rows:
                self.check_fields(endpoint, rows)
                is_first = False
            yield Batch(endpoint.raw, self.make_records(endpoint, rows))
            yield from self.read_children(endpoint, rows)
            newest = self.find_newest(endpoint, rows, newest)
            if newest and endpoint.cursor and endpoint.cursor.is_sorted:
                place["since"] = newest.isoformat()
                yield Batch(endpoint.raw, [], copy.deepcopy(self.position))
        if newest and endpoint.cursor and not endpoint.cursor.is_sorted:
            # What changed while pages were read may stand on one that was read before.
            since = parse_moment(place.get("since"))
            end = min(newest, begun)
            place["since"] = (max(end, since) if since else end).isoformat()
            yield Batch(endpoint.raw, [], copy.deepcopy(self.position))

    def read_whole(
        self, endpoint: Endpoint, since: datetime | None
    ) -> Iterator[list[dict[str, Any]]]:
        return self.read_pages(endpoint, {}, self.find_begin(endpoint, since))

    def read_in_order(
        self, endpoint: Endpoint, since: datetime | None
    ) -> Iterator[list[dict[str, Any]]]:
        """Numbered pages in the order of the cursor, each from the time at which the last ended.

        A record that changes leaves its page and moves all behind it, so that further pages of
        one walk would skip some.
        """
        cursor = endpoint.cursor
        assert cursor
        field = cursor.field

        def read(begin: datetime, pages: Any) -> tuple[list[dict[str, Any]], Any]:
            pages = pages or self.read_pages(endpoint, {}, None if begin == EPOCH else begin)
            rows: list[dict[str, Any]] = next(pages, [])
            ids = [record.record_id for record in self.make_records(endpoint, rows)]
            found = [{"id": key, "row": row} for key, row in zip(ids, rows, strict=True)]
            times = [find_change(one) for one in found]
            if times != sorted(times):
                raise UsageError(
                    f"source {self.source.name!r}: {endpoint.raw} does not come in the order of "
                    f"{field!r}; remove cursor.is_sorted"
                )
            if times and begin != EPOCH and times[0] < begin - FAR_BEFORE:
                raise UsageError(
                    f"source {self.source.name!r}: {endpoint.raw} gives records from long before "
                    "the time that is asked for; mend cursor.param, or remove cursor.is_sorted"
                )
            return found, pages if rows else None

        def find_change(found: dict[str, Any]) -> datetime:
            return parse_moment(read_path(found["row"], field)) or EPOCH

        begin = self.find_begin(endpoint, since) or EPOCH
        for found, _ in walk_changes(endpoint.raw, read, find_change, begin):
            if found:
                yield [one["row"] for one in found]

    def find_begin(self, endpoint: Endpoint, since: datetime | None) -> datetime | None:
        """From when on to ask for what changed: ``since`` with its overlap, or the first value."""
        cursor = endpoint.cursor
        if cursor is None:
            return None
        if since:
            since -= timedelta(seconds=cursor.overlap_seconds)
        first = parse_moment(cursor.initial or self.source.start)
        return max((moment for moment in (since, first) if moment), default=None)

    def read_children(self, endpoint: Endpoint, rows: list[dict[str, Any]]) -> Iterator[Batch]:
        """The records below those of a page, many parents in a batch; then those below them."""
        for child in self.children[endpoint.raw]:
            waiting: list[dict[str, Any]] = []
            for row in rows:
                for page in self.read_pages(child, row, None):
                    waiting += [self.include_parent(child, row, below) for below in page]
                if len(waiting) >= CHILD_ROWS:
                    yield from self.give_children(child, waiting)
                    waiting = []
            if waiting:
                yield from self.give_children(child, waiting)

    def give_children(self, child: Endpoint, rows: list[dict[str, Any]]) -> Iterator[Batch]:
        yield Batch(child.raw, self.make_records(child, rows))
        yield from self.read_children(child, rows)

    def include_parent(
        self, child: Endpoint, parent: dict[str, Any], row: dict[str, Any]
    ) -> dict[str, Any]:
        added = {
            f"_{child.parent}_{name}": read_path(parent, name) for name in child.include_from_parent
        }
        return row | added

    def read_pages(
        self, endpoint: Endpoint, parent: dict[str, Any], since: datetime | None
    ) -> Iterator[list[dict[str, Any]]]:
        """The records of each page; a walk whose next page has expired is begun anew, once."""
        from requests.exceptions import HTTPError

        is_by_token = endpoint.paginator.get("type") in BY_TOKEN
        for is_last_try in (not is_by_token, True):
            count = 0
            try:
                for rows in self.walk_pages(endpoint, parent, since):
                    count += 1
                    yield rows
                return
            except HTTPError as error:
                status = error.response.status_code if error.response is not None else 0
                if is_last_try or not count or status not in EXPIRED:
                    raise
                self.context.progress(
                    f"{self.source.name}: {status} for page {count + 1} of {endpoint.raw}; its "
                    "cursor may have expired: begun anew",
                    0,
                )

    def walk_pages(
        self, endpoint: Endpoint, parent: dict[str, Any], since: datetime | None
    ) -> Iterator[list[dict[str, Any]]]:
        """The records of each page, as they came."""
        from dlt.sources.helpers.rest_client.exceptions import IgnoreResponseException
        from requests.exceptions import JSONDecodeError

        def look(response: Response, *args: Any, **more: Any) -> None:
            if response.status_code in (204, 304):
                raise IgnoreResponseException
            response.raise_for_status()

        places = self.find_places(endpoint, parent, since)
        params = fill_places(dict(endpoint.params), places)
        cursor = endpoint.cursor
        if cursor and cursor.param and "cursor" in places:
            params[cursor.param] = places["cursor"]
        paginator = make_paginator(endpoint.paginator)
        pages = self.client.paginate(
            fill_places(endpoint.path, places, is_path=True),
            method=endpoint.method,
            params=params,
            json=fill_places(endpoint.body, places) if endpoint.body else None,
            paginator=paginator,
            data_selector=endpoint.record_path or "$",
            hooks={"response": [look]},
        )
        is_first = True
        while True:
            try:
                page = next(pages, None)
            except JSONDecodeError:
                raise
            except ValueError as error:
                # dlt's text may hold the whole answer
                told = str(error).split(" .Expected", maxsplit=1)[0].split(" in the response")[0]
                raise HearbackError(
                    f"source {self.source.name!r}: paginator of {endpoint.raw}: {told[:200]}; "
                    "mend its paths"
                ) from None
            if page is None:
                return
            if is_first:
                self.check_record_path(endpoint, page.response.json())
                is_first = False
            self.check_link(endpoint, paginator)
            rows = list(page)
            if any(not isinstance(row, dict) for row in rows):
                raise HearbackError(
                    f"source {self.source.name!r}: the records of {endpoint.raw} are no objects; "
                    "mend its record_path"
                )
            yield rows

    def find_places(
        self, endpoint: Endpoint, parent: dict[str, Any], since: datetime | None
    ) -> dict[str, Any]:
        """What ``{name}`` in path, params and json stands for."""
        places: dict[str, Any] = {}
        text = f"{endpoint.path} {endpoint.params} {endpoint.body}"
        if parent:
            for name in set(PLACE.findall(text)):
                value = read_path(parent, name)
                if value is None and f"{{{name}}}" in endpoint.path:
                    keys = list(parent)
                    raise HearbackError(
                        f"source {self.source.name!r}: {endpoint.parent} has no field {name!r} for "
                        f"the path of {endpoint.raw}{nearest(name, keys)}"
                    )
                places[name] = value
        cursor = endpoint.cursor
        if cursor:
            if since:
                places["cursor"] = write_moment(since, cursor.format)
            elif "{cursor}" in text:
                raise UsageError(
                    f"source {self.source.name!r}: {endpoint.raw} wants {{cursor}}; set "
                    "cursor.initial or the source's start"
                )
        return places

    def check_record_path(self, endpoint: Endpoint, body: Any) -> None:
        """A wrong record_path is an error, not an empty list."""
        path = endpoint.record_path
        if not path or endpoint.may_lack_records or not re.fullmatch(r"[\w.]+", path):
            return
        if read_path(body, path) is None:
            keys = list(body) if isinstance(body, dict) else []
            raise UsageError(
                f"source {self.source.name!r}: the answer of {endpoint.raw} has no "
                f"{path!r}{nearest(path.split('.')[0], keys)}; mend its record_path"
            )

    def check_link(self, endpoint: Endpoint, paginator: BasePaginator) -> None:
        """The next page must be at the host of base_url: it is asked for with our secrets."""
        link = urlsplit(str(getattr(paginator, "_next_reference", None) or ""))
        home = urlsplit(self.source.base_url or "").netloc
        if link.scheme in ("http", "https") and link.netloc != home:
            raise HearbackError(
                f"source {self.source.name!r}: the next page of {endpoint.raw} is at {link.netloc},"
                f" not at {home}; set base_url to that host"
            )

    def check_fields(self, endpoint: Endpoint, rows: list[dict[str, Any]]) -> None:
        """UsageError for a field that no record of a page has while another is nearly its name."""
        keys = sorted({key for row in rows for key in row})
        wanted = [path for target in endpoint.targets() for path in target.columns.values()]
        wanted += [endpoint.cursor.field] if endpoint.cursor else []
        for path in wanted:
            name = path[0] if isinstance(path, list) else path.split(".")[0]
            is_from_item = isinstance(path, str) and path.startswith("item.")
            if is_from_item or name in (*keys, *endpoint.optional, RECORD_ID, CAPTURED_AT):
                continue
            if hint := nearest(name, keys):
                raise UsageError(
                    f"source {self.source.name!r}: {endpoint.raw} has no field {name!r}{hint}; "
                    "mend its columns, or name the field in optional if records may lack it"
                )

    def find_newest(
        self, endpoint: Endpoint, rows: list[dict[str, Any]], newest: datetime | None
    ) -> datetime | None:
        cursor = endpoint.cursor
        if cursor is None:
            return None
        moments = [parse_moment(read_path(row, cursor.field)) for row in rows]
        if rows and not any(moments):
            keys = list(rows[0])
            raise HearbackError(
                f"source {self.source.name!r}: no record of {endpoint.raw} has a time in "
                f"{cursor.field!r}{nearest(cursor.field.split('.')[0], keys)}; mend cursor.field"
            )
        return max((m for m in (newest, *moments) if m), default=None)

    def make_records(self, endpoint: Endpoint, rows: list[dict[str, Any]]) -> list[Record]:
        paths = endpoint.id if isinstance(endpoint.id, list) else [endpoint.id]
        records = []
        for row in rows:
            parts = [read_path(row, path) for path in paths]
            for path, part in zip(paths, parts, strict=True):
                if part is None:
                    raise HearbackError(
                        f"source {self.source.name!r}: a record of {endpoint.raw} has no "
                        f"{path!r}{nearest(path, list(row))}; mend its id"
                    )
            url = read_path(row, endpoint.url) if endpoint.url else None
            records.append(Record("/".join(map(str, parts)), row, str(url) if url else None))
        return records


def as_path(path: Paths) -> str | tuple[str, ...]:
    return tuple(path) if isinstance(path, list) else path


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    return [
        mapping
        for endpoint in options.endpoints
        for target in endpoint.targets()
        for mapping in map_target(target, make_mapping(options, endpoint, target))
    ]


def map_target(target: Target, mapping: Mapping) -> list[Mapping]:
    """The mapping of a target, and of the deletions that its columns mark."""
    _, marks = split_marks(target.entity, target.columns)
    paths = {name: as_path(path) for name, path in marks.items()}
    return map_marked(mapping, paths, find_true_values(target.values.get("is_deleted", {})))


def make_mapping(options: Options, endpoint: Endpoint, target: Target) -> Mapping:
    """A target as the mapping that it declares: each column by its type."""
    columns, _ = split_marks(target.entity, target.columns)
    typed = columns_to_fields(target.entity, dict.fromkeys(columns, ""), {})
    fields = {name: Field(const=value) for name, value in target.constants.items()}
    for name, path in columns.items():
        known = target.lookups.get(name)
        fields[name] = Field(
            as_path(path),
            typed[name].type,
            values(target.values.get(name, {})),
            target.unknown.get(name),
            lookup=Lookup(known.endpoint, known.key, known.value) if known else None,
        )
    paths = endpoint.id if isinstance(endpoint.id, list) else [endpoint.id]
    beside = [endpoint.cursor.field] if endpoint.cursor else []
    added = [f"_{endpoint.parent}_{name}" for name in endpoint.include_from_parent]
    return Mapping(
        endpoint.raw,
        target.entity,
        fields,
        when=tuple(
            When(as_path(found.path), tuple(found.among), found.is_negated, found.pattern)
            for found in target.when
        ),
        explode=target.explode,
        time_zone=options.time_zone,
        ignored=(*endpoint.ignored, *added, *(path.split(".")[0] for path in [*paths, *beside])),
        required=tuple(name for name in KEYS[target.entity] if name in target.columns),
    )


KINDS = {
    "rest": Kind(
        "rest",
        "Any REST API, such as that of an ERP, OA or HR system: endpoints, paging, cursor and "
        "columns are declared",
        Options,
        tuple(SCHEMAS),
        pull,
        mappings,
        needs_base_url=True,
        secrets=(
            Secret(
                "password",
                "token, API key or password",
                "documentation of the API",
                is_optional=True,
            ),
            Secret(
                "login",
                "user or client id, if the API wants one",
                "documentation of the API",
                is_optional=True,
            ),
        ),
        check=check,
        summary_zh="任意 REST API（如 ERP、OA、人事系统）：在配置中声明端点、分页、游标与字段",
    )
}

"""GitHub issues: issues with their comments and events; pull requests are left out.

Issues and comments are read in the order of their change, each page from the time of the last row
of the one before, so that a record that changes meanwhile hides no other. Each issue is a case, and
its text and comments are messages: owners, members and collaborators write as agents, others as
customers; an issue without a text says what its title says. Answers that have not changed cost
nothing of the hourly budget (ETag).

What GitHub does not give: mail addresses, satisfaction, priorities (name the labels that mean one),
and issues that were deleted or moved to another repository.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic import Field as Option

from pipelines.errors import HearbackError
from pipelines.mapping import Field, Lookup, Mapping, When, values
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.http import (
    Limits,
    explain_http_errors,
    header_budget,
    keep_host,
    open_client,
    read_number,
    retry_after,
)

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response

PAGE_SIZE = 100
NO_FURTHER = 422  # for a page further back than GitHub lets one read
SECONDARY_WAIT = 60.0  # what GitHub asks for if a refusal names no time
TEAM = ("OWNER", "MEMBER", "COLLABORATOR")
EVENTS = {
    "closed": ("status_changed", "closed"),
    "reopened": ("status_changed", "open"),
    "assigned": ("assignee_changed", None),
    "unassigned": ("assignee_changed", None),
    "labeled": ("tags_changed", None),
    "unlabeled": ("tags_changed", None),
    "marked_as_duplicate": ("merged", None),
}


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    repositories: list[str] = Option(min_length=1, description="owner/name of each")
    priorities: dict[str, str] = Option(
        default_factory=dict, description="first label of an issue = urgent high normal low"
    )

    @field_validator("repositories")
    @classmethod
    def check_names(cls, names: list[str]) -> list[str]:
        for name in names:
            if len([part for part in name.split("/") if part]) != 2:
                raise ValueError(f"{name!r} is not owner/name")
        return names


def is_limited(response: Response) -> bool:
    """Whether a 403 or 429 is one for haste: GitHub refuses both ways, for both of its limits."""
    if response.status_code == 429:
        return True
    return response.status_code == 403 and (
        read_number(response, "x-ratelimit-remaining") == 0
        or "Retry-After" in response.headers
        or "rate limit" in response.text.lower()
    )


def find_wait(response: Response) -> float:
    asked = retry_after(response)
    if asked is not None:
        return asked
    reset = read_number(response, "x-ratelimit-reset")
    if reset is not None and read_number(response, "x-ratelimit-remaining") == 0:
        return max(reset - time.time(), 0.0)
    return SECONDARY_WAIT


LIMITS = Limits(
    is_limited=is_limited,
    wait_seconds=find_wait,
    budget=header_budget(("x-ratelimit-remaining",), ("x-ratelimit-reset",), is_unix_time=True),
)


def open_api(source: Source, context: PullContext) -> RESTClient:
    headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
    if source.connection:
        token = context.connection(source).password
        if not token:
            raise HearbackError(
                f"connection {source.connection!r}: password is missing; it is the token"
            )
        headers["Authorization"] = f"Bearer {token}"
    return open_client(
        source, context, headers=headers, limits=LIMITS, default_url=KINDS[source.kind].default_url
    )


def get(
    client: RESTClient, source: Source, path: str, etag: str | None = None, **params: Any
) -> Response:
    """An answer, which may be 304 if ``etag`` is given; HearbackError names a missing repository.

    A repository whose issues are switched off answers 410.
    """
    headers = {"If-None-Match": etag} if etag else None
    response = client.get(path, params=params, headers=headers)
    if response.status_code == 404:
        place = "/".join(path.split("repos/", 1)[-1].split("/")[:2])
        raise HearbackError(
            f"no repository {place}, or the token may not read it; mend options.repositories or "
            f"give the token of connection {source.connection!r} the right to read issues"
        )
    is_further_page = not params and response.status_code == NO_FURTHER
    if response.status_code != 410 and not is_further_page:
        response.raise_for_status()
    return response


def check(source: Source, context: PullContext) -> str:
    options = read_options(source, Options)
    with explain_http_errors(source.name, source.connection):
        client = open_api(source, context)
        for name in options.repositories:
            get(client, source, f"repos/{name}/issues", per_page=1, state="all")
    return ", ".join(options.repositories)


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    options = read_options(source, Options)
    position = copy.deepcopy(context.position)
    with explain_http_errors(source.name, source.connection):
        client = open_api(source, context)
        for name in options.repositories:
            issues = f"repos/{name}/issues"
            if get(client, source, issues, per_page=1, state="all").status_code == 410:
                context.progress(f"{source.name}: the issues of {name} are switched off", 0)
                continue
            reader = Reader(client, source, position.setdefault(name, {}), position)
            yield from pull_changes(reader, issues, "issues")
            yield from pull_changes(reader, f"{issues}/comments", "comments")
            yield from pull_events(reader, f"{issues}/events", context)


@dataclass(frozen=True)
class Reader:
    """What reading one repository needs; ``state`` is its part of ``position``."""

    client: RESTClient
    source: Source
    state: dict[str, Any]
    position: dict[str, Any]

    def get(self, path: str, etag: str | None = None, **params: Any) -> Response:
        return get(self.client, self.source, path, etag, **params)

    def batch(self, entity: str, rows: list[dict[str, Any]], *, is_safe: bool = True) -> Batch:
        records = [Record(str(row["id"]), row, row.get("html_url")) for row in rows]
        return Batch(entity, records, copy.deepcopy(self.position) if is_safe else None)


def is_issue(row: dict[str, Any]) -> bool:
    """Issues and their comments; GitHub lists pull requests with them."""
    return "pull_request" not in row and "/pull/" not in (row.get("html_url") or "")


def pull_changes(reader: Reader, path: str, entity: str) -> Iterator[Batch]:
    """Rows by the time of their change; a page whose rows share one second is paged through."""
    state, source = reader.state, reader.source
    known = state.get(entity, {})
    since = known.get("since") or (f"{source.start}T00:00:00Z" if source.start else None)
    etag = known.get("etag")
    order = {"sort": "updated", "direction": "asc", "per_page": PAGE_SIZE}
    first: dict[str, Any] = {**order, "state": "all"} if entity == "issues" else order
    link: str | None = None
    while True:
        params = {} if link else first | ({"since": since} if since else {})
        response = reader.get(link or path, etag, **params)
        if response.status_code == 304:
            return
        rows = response.json()
        newest = rows[-1]["updated_at"] if rows else since
        follows = response.links.get("next", {}).get("url")
        is_stuck = newest == since
        if not link:
            etag_of_page = response.headers.get("ETag")
        state[entity] = {"since": newest}
        if is_stuck and not link and not follows and etag_of_page:
            state[entity]["etag"] = etag_of_page
        yield reader.batch(entity, [row for row in rows if is_issue(row)])
        if not follows:
            return
        etag = None
        link = keep_host(reader.client.base_url, follows) if is_stuck else None
        since = newest


def pull_events(reader: Reader, path: str, context: PullContext) -> Iterator[Batch]:
    """Events, newest first, down to the newest that is known; it is remembered at the end.

    GitHub bounds how far back one may page: where it gives no more, that is the end, with a note.
    """
    state, source = reader.state, reader.source
    known = state.get("events", {})
    newest = known.get("id", 0)
    etag: str | None = known.get("etag")
    kept: dict[str, Any] = {}
    link: str | None = None
    while True:
        params = {} if link else {"per_page": PAGE_SIZE}
        response = reader.get(link or path, etag, **params)
        if response.status_code == 304:
            return
        if response.status_code == NO_FURTHER:
            context.progress(f"{source.name}: GitHub gives no older events of {path}", 0)
            state["events"] = kept
            yield reader.batch("events", [])
            return
        rows = response.json()
        if not link:
            kept = {"id": max([newest, *(row["id"] for row in rows)])}
            kept |= {"etag": response.headers["ETag"]} if "ETag" in response.headers else {}
        follows = response.links.get("next", {}).get("url")
        new = [
            row
            for row in rows
            if row["id"] > newest and row.get("issue") and is_issue(row["issue"])
        ]
        first = f"{source.start}T00:00:00Z" if source.start else ""
        is_over = (
            not follows
            or any(row["id"] <= newest for row in rows)
            or all(row["created_at"] < first for row in rows)
        )
        if is_over:
            state["events"] = kept
        yield reader.batch("events", new, is_safe=is_over)
        if is_over:
            return
        link, etag = keep_host(reader.client.base_url, str(follows)), None


IGNORED = (
    "active_lock_reason", "assignees", "author_association", "closed_at", "closed_by", "comments",
    "comments_url", "draft", "events_url", "issue_dependencies_summary", "issue_field_values",
    "issue_url", "labels", "labels_url", "locked", "milestone", "node_id", "number",
    "parent_issue_url", "performed_via_github_app", "pin", "pinned_comment", "reactions",
    "repository_url", "score", "state_reason", "sub_issues_summary", "timeline_url", "type", "url",
    "html_url", "user", "id",
)  # fmt: skip
IGNORED_EVENT = (
    "commit_id", "commit_url", "node_id", "performed_via_github_app", "url", "assigner", "assignee",
    "label", "rename", "milestone", "lock_reason", "review_requester", "requested_reviewer",
    "requested_team", "dismissed_review", "state_reason", "project_card", "sub_issue",
    "parent_issue", "author_association",
)  # fmt: skip
NUMBERED = r"/repos/(.+/issues/\d+)$"
BOT = When("user.type", ("Bot",))
NO_BOT = When("user.type", ("Bot",), is_negated=True)
ROLES: dict[str, tuple[When, ...]] = {
    "bot": (BOT,),
    "agent": (NO_BOT, When("author_association", TEAM)),
    "customer": (NO_BOT, When("author_association", TEAM, is_negated=True)),
}


def derive_tags(source: Source, issue: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The names of an issue's labels."""
    names = [label["name"] if isinstance(label, dict) else label for label in issue["labels"]]
    yield {"id": issue["id"], "tags": json.dumps(names, ensure_ascii=False)}


def mappings(source: Source) -> list[Mapping]:
    """Case ids are owner/name/issues/number: numbers are unique within a repository only."""
    options = read_options(source, Options)
    case_of = {
        "issues": Field("url", pattern=NUMBERED),
        "comments": Field("issue_url", pattern=NUMBERED),
        "events": Field("issue.url", pattern=NUMBERED),
    }
    priority = values(options.priorities)
    found = [
        Mapping(
            "issues",
            "cases",
            {
                "source_case_id": case_of["issues"],
                "channel": Field(const="forum"),
                "subject": Field("title"),
                "source_customer_id": Field("user.id"),
                "submitter_id": Field("user.id"),
                "priority": Field("labels.0.name", values=priority, unknown="normal")
                if priority
                else Field(),
                "status": Field("state", values=values({"open": "open", "closed": "closed"})),
                "assignee_id": Field("assignee.id"),
                "product": Field("repository_url", pattern=r"/([^/]+)$"),
                "tags": Field(
                    "id", "text_list", lookup=Lookup("issues", "id", "tags", is_strict=True)
                ),
                "opened_at": Field("created_at", "instant"),
                "updated_at": Field("updated_at", "instant"),
            },
            required=("source_case_id",),
            ignored=IGNORED,
        )
    ]
    for raw, prefix in (("issues", "issue-"), ("comments", "")):
        for role, whens in ROLES.items():
            person = {"name": Field("user.login"), "updated_at": Field("updated_at", "instant")}
            ids = {"source_customer_id": Field("user.id")}
            if role != "customer":
                ids = {"source_agent_id": Field("user.id"), "role": Field(const=role)}
            entity = "customers" if role == "customer" else "agents"
            found += [
                Mapping(raw, entity, {**ids, **person}, when=whens, required=(next(iter(ids)),)),
                Mapping(
                    raw,
                    "messages",
                    {
                        "source_record_id": Field("id", prefix=prefix),
                        "source_case_id": case_of[raw],
                        "author_id": Field("user.id"),
                        "author_role": Field(const=role),
                        "is_public": Field(const=True),
                        "channel": Field(const="forum"),
                        "created_at": Field("created_at", "instant"),
                        "body": Field("body", also=("title",) if raw == "issues" else ()),
                        "sequence": Field("id", "integer") if raw == "comments" else Field(),
                    },
                    when=whens,
                    required=("source_record_id", "source_case_id"),
                    ignored=IGNORED,
                ),
            ]
    found.append(
        Mapping(
            "issues",
            "case_events",
            {
                "source_event_id": Field("id", prefix="created-"),
                "source_case_id": case_of["issues"],
                "event_at": Field("created_at", "instant"),
                "event_type": Field(const="created"),
                "actor_id": Field("user.id"),
                "is_public": Field(const=True),
            },
            required=("source_event_id", "source_case_id"),
        )
    )
    for name, (event_type, to) in EVENTS.items():
        old = name.startswith("un")
        value = Field("label.name", also=("assignee.id",))
        before = {"status_changed": Field(const="open" if to == "closed" else "closed")}
        found.append(
            Mapping(
                "events",
                "case_events",
                {
                    "source_event_id": Field("id"),
                    "source_case_id": case_of["events"],
                    "event_at": Field("created_at", "instant"),
                    "event_type": Field(const=event_type),
                    "actor_id": Field("actor.id"),
                    "is_public": Field(const=True),
                    "from_value": before.get(event_type, value if old else Field()),
                    "to_value": Field(const=to) if to else Field() if old else value,
                    "sequence": Field("id", "integer"),
                },
                when=(When("event", (name,)),),
                required=("source_event_id", "source_case_id"),
                ignored=IGNORED_EVENT,
            )
        )
    return found


KINDS = {
    "github_issues": Kind(
        "github_issues",
        "GitHub issues with comments and events; pull requests are left out",
        Options,
        ("cases", "messages", "case_events", "customers", "agents"),
        pull,
        mappings,
        secrets=(
            Secret(
                "password",
                "token that may read issues; public repositories need none",
                "GitHub → Settings → Developer settings → Personal access tokens",
                is_optional=True,
            ),
        ),
        check=check,
        derive={"issues": derive_tags},
        default_url="https://api.github.com",
        summary_zh="GitHub issues 及其评论与事件；不含 pull request",
    )
}

"""Discourse: posts, topics and categories of a forum.

Posts are read by falling id, 50 a page, down to the newest one that is known and over those of the
last days again, whose texts may still change. Older posts that are edited show by their topic,
which moves up; such a topic is read anew. Posts of the staff are agents' and no feedback. With
``cases`` each topic is a case, and its posts are the case's messages.

What Discourse does not give: the times of edits to old posts other than a topic's last, who closed
a topic and when, mail addresses. Posts that were deleted are told where the login may see them.
Private messages are not read.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError
from pipelines.mapping import Field, Lookup, Mapping, When
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.deletions import map_deletion
from pipelines.sources.http import Limits, explain_http_errors, open_client, retry_after

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response

WINDOW = 50  # ids that a page of posts covers at most, in older versions of Discourse
CHUNK = 20  # posts of a topic that may be asked for at once
OVERLAP = timedelta(minutes=1)
BATCH_ROWS = 1000


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    reread_days: int = Option(default=7, ge=0, description="days whose posts are read again")
    agents: list[str] = Option(
        default_factory=list, description="user names of agents besides admins and moderators"
    )
    bots: list[str] = Option(
        default=["system", "discobot"], min_length=1, description="user names that are bots"
    )
    cases: bool = Option(default=False, description="a topic is a support case")


def find_wait(response: Response) -> float | None:
    """Seconds that a refusal asks to wait; Discourse says it in a header or in the body."""
    seconds = retry_after(response)
    if seconds is not None:
        return seconds
    try:
        return float(response.json()["extras"]["wait_seconds"])
    except (ValueError, KeyError, TypeError):
        return None


def open_forum(source: Source, context: PullContext) -> RESTClient:
    headers = {"Accept": "application/json"}
    if source.connection:
        connection = context.connection(source)
        if not connection.password:
            raise HearbackError(
                f"connection {source.connection!r}: password is missing; it is the API key"
            )
        headers["Api-Key"] = connection.password
        headers["Api-Username"] = connection.login or "system"
    return open_client(source, context, headers=headers, limits=Limits(wait_seconds=find_wait))


def get(client: RESTClient, path: str, **params: Any) -> dict[str, Any]:
    response = client.get(path, params=params)
    response.raise_for_status()
    body: dict[str, Any] = response.json()
    return body


def check(source: Source, context: PullContext) -> str:
    with explain_http_errors(source.name, source.connection):
        body = get(open_forum(source, context), "categories.json")
    return f"{len(body['category_list']['categories'])} categories"


def read_instant(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.max.replace(tzinfo=UTC)


def find_first(source: Source) -> datetime | None:
    return datetime.combine(source.start, time(), UTC) if source.start else None


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    options = read_options(source, Options)
    position = copy.deepcopy(context.position)
    first = find_first(source)
    again = context.now - timedelta(days=options.reread_days)
    with explain_http_errors(source.name, source.connection):
        client = open_forum(source, context)
        yield pull_categories(client)
        yield from pull_posts(source, client, position, first, again)
        yield from pull_topics(source, client, position, context, again)


def pull_categories(client: RESTClient) -> Batch:
    body = get(client, "categories.json", include_subcategories="true")
    found: dict[str, Record] = {}
    for category in body["category_list"]["categories"]:
        for one in (category, *(category.get("subcategory_list") or ())):
            found[str(one["id"])] = Record(str(one["id"]), one)
    return Batch("categories", list(found.values()))


def make_post(source: Source, post: dict[str, Any]) -> Record:
    site = (source.base_url or "").rstrip("/")
    path = f"t/{post.get('topic_slug') or '-'}/{post['topic_id']}/{post['post_number']}"
    return Record(str(post["id"]), post, f"{site}/{path}")


def pull_posts(
    source: Source,
    client: RESTClient,
    position: dict[str, Any],
    first: datetime | None,
    again: datetime,
) -> Iterator[Batch]:
    """Finish the sweep that was stopped, if one was, then sweep what has come since."""
    if "sweep" in position.setdefault("posts", {}):
        yield from sweep_posts(source, client, position, first, again)
    floor = position["posts"].get("newest", 0)
    position["posts"]["sweep"] = {"top": 0, "before": None, "floor": floor}
    yield from sweep_posts(source, client, position, first, again)


def sweep_posts(
    source: Source,
    client: RESTClient,
    position: dict[str, Any],
    first: datetime | None,
    again: datetime,
) -> Iterator[Batch]:
    """Posts from ``before`` down to ``floor``, and on while they are younger than ``again``."""
    sweep = position["posts"]["sweep"]
    records: list[Record] = []
    while True:
        before = sweep["before"]
        rows = get(client, "posts.json", **({"before": before} if before else {}))["latest_posts"]
        records += [make_post(source, row) for row in rows]
        lowest = min((row["id"] for row in rows), default=None)
        sweep["top"] = max([sweep["top"], *(row["id"] for row in rows)])
        youngest = max((read_instant(row["created_at"]) for row in rows), default=None)
        if lowest is None:  # a window of ids without a public post
            sweep["before"] = (before or 0) - WINDOW
        else:
            sweep["before"] = lowest - 1
        is_known = sweep["before"] <= sweep["floor"] and (youngest is None or youngest < again)
        is_early = first is not None and youngest is not None and youngest < first
        if sweep["before"] <= 0 or is_known or is_early:
            position["posts"] = {"newest": max(sweep["top"], sweep["floor"])}
            yield Batch("posts", records, copy.deepcopy(position))
            return
        if len(records) >= BATCH_ROWS:
            # What is read again need not be remembered: a stopped pull would never get past it.
            is_new = sweep["before"] > sweep["floor"]
            yield Batch("posts", records, copy.deepcopy(position) if is_new else None)
            records = []


def pull_topics(
    source: Source,
    client: RESTClient,
    position: dict[str, Any],
    context: PullContext,
    again: datetime,
) -> Iterator[Batch]:
    """Topics in which something moved, newest first; pages that shift only repeat topics.

    A topic that moved though its last post is old has an edited post: its posts come again.
    """
    since = position.get("topics", {}).get("since")
    floor = datetime.fromisoformat(since) - OVERLAP if since else find_first(source)
    seen: set[int] = set()
    newest = since
    page = 0
    while True:
        body = get(client, "latest.json", order="activity", page=page, no_definitions="true")
        topics = body["topic_list"]["topics"]
        recent = [
            topic
            for topic in topics
            if floor is None or read_instant(topic.get("bumped_at")) >= floor
        ]
        moved = [topic for topic in recent if topic["id"] not in seen]
        seen.update(topic["id"] for topic in topics)
        if page == 0:
            newest = max(topic["bumped_at"] for topic in recent) if recent else since
        site = (source.base_url or "").rstrip("/")
        yield Batch(
            "topics",
            [Record(str(t["id"]), t, f"{site}/t/{t['slug']}/{t['id']}") for t in moved],
        )
        if since:
            for topic in moved:
                if read_instant(topic.get("last_posted_at")) < again:
                    yield from pull_topic(source, client, topic["id"], context)
        # Pinned topics come first whatever their age.
        is_old = topics and all(topic.get("pinned") for topic in recent)
        if not topics or not body["topic_list"].get("more_topics_url") or is_old:
            break
        page += 1
    if newest:
        position["topics"] = {"since": newest}
    yield Batch("topics", [], copy.deepcopy(position))


def pull_topic(
    source: Source, client: RESTClient, topic_id: int, context: PullContext
) -> Iterator[Batch]:
    """All posts of a topic, with what ``posts.json`` says of its topic in each.

    A topic that was deleted or made private since it was listed is passed over with a note.
    """
    response = client.get(f"t/{topic_id}.json", params={"include_raw": "true"})
    if response.status_code in (403, 404, 410):
        context.progress(f"{source.name}: topic {topic_id} may not be read any more", 0)
        return
    response.raise_for_status()
    body = response.json()
    stream = body["post_stream"]
    told = {"topic_title": body.get("title"), "category_id": body.get("category_id")}
    told["topic_slug"] = body.get("slug")
    yield Batch("posts", [make_post(source, told | post) for post in stream["posts"]])
    have = {post["id"] for post in stream["posts"]}
    rest = [post_id for post_id in stream.get("stream", ()) if post_id not in have]
    for start in range(0, len(rest), CHUNK):
        chunk = {"post_ids[]": rest[start : start + CHUNK], "include_raw": "true"}
        posts = get(client, f"t/{topic_id}/posts.json", **chunk)["post_stream"]["posts"]
        yield Batch("posts", [make_post(source, told | post) for post in posts])


IGNORED_POST = (
    "actions_summary", "admin", "avatar_template", "bookmarked", "can_accept_answer",
    "can_delete", "can_edit", "can_recover", "can_see_hidden_post", "can_translate",
    "can_unaccept_answer", "can_view_edit_history", "can_wiki", "cooked", "cooked_hidden",
    "current_user_reaction", "current_user_used_main_reaction", "custom_fields",
    "display_username", "edit_reason", "excerpt", "flair_bg_color", "flair_color",
    "flair_group_id", "flair_name", "flair_url", "has_post_localizations", "hidden",
    "incoming_link_count", "is_localized", "like_count", "link_counts", "locale", "mentioned_users",
    "moderator", "post_localizations_count", "post_url", "posts_count", "primary_group_name",
    "quote_count", "quoted", "raw", "reaction_users_count", "reactions", "read", "readers_count",
    "reads", "reply_count", "reply_to_post_number", "reply_to_user", "reviewable_id",
    "reviewable_score_count", "reviewable_score_pending_count", "score", "seen_count",
    "topic_accepted_answer", "accepted_answer", "topic_html_title", "topic_slug", "truncated",
    "trust_level", "user_suspended", "user_title", "version", "via_email", "wiki",
    "yours", "title_is_group", "user_cakedate", "user_birthdate", "user_status", "badges_granted",
    "akismet_state", "event", "calendar_details", "polls", "polls_votes", "action_code", "can_vote",
)  # fmt: skip
IGNORED_TOPIC = (
    "allowed_user_count", "archetype", "archived", "bookmarked", "bumped", "can_have_answer",
    "can_vote", "excerpt", "fancy_title", "featured_link", "has_summary", "highest_post_number",
    "image_url", "last_poster_username", "like_count", "liked", "pinned", "pinned_globally",
    "posters", "posts_count", "reply_count", "slug", "tags_descriptions", "thumbnails", "unpinned",
    "unseen", "user_voted", "views", "visible", "vote_count", "featured_user_id", "op_like_count",
    "deleted_by", "last_posted_at", "category_id", "id", "title", "tags", "created_at",
    "bumped_at", "closed", "has_accepted_answer", "accepted_answer",
)  # fmt: skip
CATEGORY = Lookup("categories", "id", "name")
TAGS = Lookup("topics", "id", "tags", is_strict=True)


def derive_tags(source: Source, topic: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Tags are names, and objects with a name since Discourse 3.6."""
    tags = [tag["name"] if isinstance(tag, dict) else tag for tag in topic.get("tags") or ()]
    yield {"id": topic["id"], "tags": json.dumps(tags, ensure_ascii=False)}


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    bots = tuple(options.bots)
    regular = When("post_type", ("1",))
    # One that its author deleted has a remark in place of its text.
    is_there = (
        When("deleted_at", is_negated=True),
        When("user_deleted", ("true",), is_negated=True),
    )
    no_bot = When("username", bots, is_negated=True)
    roles: dict[str, list[tuple[When, ...]]] = {
        "agent": [(When("staff", ("true",)), no_bot)],
        "bot": [(When("username", bots),)],
        "customer": [(When("staff", ("true",), is_negated=True), no_bot)],
    }
    if options.agents:
        named = tuple(options.agents)
        (others,) = roles["customer"]
        roles["agent"].append((*others, When("username", named)))
        roles["customer"] = [(*others, When("username", named, is_negated=True))]
    person = {"name": Field("name", also=("username",)), "external_id": Field("username")}
    updated = {"updated_at": Field("updated_at", "instant")}
    text = Field("raw", also=("cooked",))
    post = {
        "source_record_id": Field("id"),
        "channel": Field(const="forum"),
        "created_at": Field("created_at", "instant"),
        "body": text,
    }
    (customer,) = roles["customer"]
    found = [
        Mapping(
            "posts",
            "customers",
            {"source_customer_id": Field("user_id"), **person, **updated},
            when=customer,
            required=("source_customer_id",),
            ignored=IGNORED_POST,
        )
    ]
    for is_opening in () if options.cases else (True, False):
        fields = {
            **post,
            **updated,
            "source_customer_id": Field("user_id"),
            "author": Field("username"),
            "product": Field("category_id", lookup=CATEGORY),
            "title": Field("topic_title") if is_opening else Field(),
            "tags": Field("topic_id", "text_list", lookup=TAGS),
        }
        opening = When("post_number", ("1",), is_negated=not is_opening)
        found.append(
            Mapping(
                "posts",
                "feedback",
                fields,
                when=(regular, opening, *customer, *is_there),
                required=("source_record_id",),
            )
        )
    for role in ("agent", "bot"):
        for whens in roles[role]:
            fields = {"source_agent_id": Field("user_id"), **person, "role": Field(const=role)}
            found.append(
                Mapping(
                    "posts",
                    "agents",
                    {**fields, **updated},
                    when=whens,
                    required=("source_agent_id",),
                )
            )
    for role, groups in roles.items():
        for whens in groups if options.cases else ():
            fields = {
                **post,
                "source_case_id": Field("topic_id"),
                "author_id": Field("user_id"),
                "author_role": Field(const=role),
                "is_public": Field(const=True),
                "sequence": Field("post_number", "integer"),
            }
            found.append(
                Mapping(
                    "posts",
                    "messages",
                    fields,
                    when=(regular, *whens, *is_there),
                    required=("source_record_id", "source_case_id"),
                )
            )
    for gone in ((When("deleted_at"),), (is_there[0], When("user_deleted", ("true",)))):
        found.append(
            map_deletion(
                "posts", "feedback", Field("id"), when=(regular, *gone),
                deleted_at=Field("deleted_at", "instant", also=("updated_at",)),
                updated_at=updated["updated_at"],
            )
        )  # fmt: skip
    solved = When("has_accepted_answer", ("true",))
    closed = When("closed", ("true",))
    not_closed = When("closed", ("true",), is_negated=True)
    states = {
        "closed": (closed,),
        "solved": (not_closed, solved),
        "open": (not_closed, When("has_accepted_answer", ("true",), is_negated=True)),
    }
    for status, state in states.items() if options.cases else ():
        found.append(
            Mapping(
                "topics",
                "cases",
                {
                    "source_case_id": Field("id"),
                    "channel": Field(const="forum"),
                    "subject": Field("title"),
                    "source_customer_id": Field("posters.0.user_id"),
                    "product": Field("category_id", lookup=CATEGORY),
                    "status": Field(const=status),
                    "tags": Field("tags", "text_list"),
                    "opened_at": Field("created_at", "instant"),
                    "updated_at": Field("bumped_at", "instant"),
                },
                when=state,
                required=("source_case_id",),
                ignored=IGNORED_TOPIC,
            )
        )
    return found


KINDS = {
    "discourse": Kind(
        "discourse",
        "Discourse forums: posts, topics, categories; posts of the staff are agents'",
        Options,
        ("feedback", "customers", "agents", "cases", "messages", "deletions"),
        pull,
        mappings,
        needs_base_url=True,
        secrets=(
            Secret("login", "user name of the API key", "Admin → API → Keys", is_optional=True),
            Secret("password", "API key", "Admin → API → Keys", is_optional=True),
        ),
        check=check,
        derive={"topics": derive_tags},
        summary_zh="Discourse 论坛：帖子、主题、分类；员工的帖子归客服",
    )
}

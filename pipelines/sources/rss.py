"""RSS and Atom: entries of any feed, such as reviews, posts of a forum or a blog's comments.

A feed that has not changed since (ETag, Last-Modified) is not sent again. An entry is known by its
id, else by its link, else by its text; one that the publisher edited is a new version of itself.
Ratings are read where a feed has them (``im:rating``, ``review:rating``, ``gd:rating`` …).

What feeds do not give: anything older than their last entries. A feed that is read too seldom loses
entries between two pulls, and nothing tells it: schedule it as often as it moves. Feeds with links
to older pages (RFC 5005, ``rel="next"``) are followed to the end on the first load.
"""

from __future__ import annotations

import calendar
import copy
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.errors import HearbackError, UsageError
from pipelines.mapping import RECORD_ID, Field, Mapping
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.http import explain_http_errors, keep_host, open_client

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response

MOST_PAGES = 1000
GONE = (404, 410)
RATINGS = ("im_rating", "review_rating", "gd_rating", "rating", "ns1_rating")
CHANNELS = ("review", "forum", "social", "app_store", "other")


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    urls: list[str] = Option(
        default_factory=list, description="feeds, absolute or below base_url; default: base_url"
    )
    channel: str = Option(
        default="forum",
        pattern="^(" + "|".join(CHANNELS) + ")$",
        description="channel of the entries",
    )
    product: str | None = Option(default=None, description="what the entries are about")
    rating_max: float = Option(default=5, gt=0, description="best rating of a feed of reviews")
    rating_min: float = Option(default=1, description="worst rating of a feed of reviews")


def find_urls(source: Source, options: Options) -> list[str]:
    """The addresses of the feeds; UsageError if there are none."""
    base = source.base_url or ""
    urls = [urljoin(base.rstrip("/") + "/", url) for url in options.urls] or [base]
    if not all(url.startswith(("http://", "https://")) for url in urls):
        raise UsageError(
            f"source {source.name!r}: kind rss needs base_url or options.urls with the http(s) "
            "address of a feed"
        )
    return urls


def open_feeds(source: Source, context: PullContext) -> RESTClient:
    auth = None
    if source.connection:
        connection = context.connection(source)
        auth = (connection.login or "", connection.password or "")
    headers = {"Accept": "application/atom+xml, application/rss+xml, application/xml;q=0.9, */*"}
    return open_client(source, context, auth=auth, headers=headers)


def check(source: Source, context: PullContext) -> str:
    urls = find_urls(source, read_options(source, Options))
    with explain_http_errors(source.name, source.connection):
        feed = parse(fetch(open_feeds(source, context), urls[0], {}), source)
    return f"{feed.feed.get('title') or urls[0]}: {len(feed.entries)} entries"


def fetch(client: RESTClient, url: str, known: dict[str, str]) -> Response:
    names = {"etag": "If-None-Match", "last_modified": "If-Modified-Since"}
    headers = {names[key]: value for key, value in known.items()}
    response = client.get(url, headers=headers or None)
    response.raise_for_status()
    return response


def parse(response: Response, source: Source) -> Any:
    """What feedparser makes of an answer; HearbackError if it is no feed."""
    import feedparser

    kind = response.headers.get("Content-Type", "")
    feed = feedparser.parse(
        response.content,
        response_headers={"content-type": kind, "content-location": response.url},
        sanitize_html=False,
        resolve_relative_uris=False,
    )
    is_broken = feed.bozo and "xml" in type(feed.bozo_exception).__module__
    if not feed.version or (is_broken and not feed.entries):
        raise HearbackError(
            f"source {source.name!r}: {response.url.split('?')[0]} is not a feed; give the address "
            "of its RSS or Atom feed in options.urls"
        )
    return feed


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Entries of each feed that changed; its validators are remembered after its last page."""
    options = read_options(source, Options)
    position = copy.deepcopy(context.position)
    with explain_http_errors(source.name, source.connection):
        client = open_feeds(source, context)
        for url in find_urls(source, options):
            known = position.get(url)
            response = fetch(client, url, known or {})
            if response.status_code == 304:
                continue
            validators = {
                key: response.headers[name]
                for key, name in (("etag", "ETag"), ("last_modified", "Last-Modified"))
                if name in response.headers
            }
            is_first = known is None
            yield from read_pages(client, source, response, context, is_first=is_first)
            position[url] = validators
            yield Batch("entries", [], copy.deepcopy(position))


def read_pages(
    client: RESTClient, source: Source, response: Response, context: PullContext, *, is_first: bool
) -> Iterator[Batch]:
    """The entries of a feed, and of its older pages if it is read for the first time.

    An older page that is not there any more ends them with a note.
    """
    read: set[str] = set()
    while True:
        feed = parse(response, source)
        day = f"{source.start}" if source.start else ""
        records = [make_record(entry) for entry in feed.entries]
        recent = [r for r in records if not day or is_since(r, day)]
        yield Batch("entries", recent)
        following = next(
            (link["href"] for link in feed.feed.get("links", ()) if link.get("rel") == "next"), None
        )
        read.add(response.url)
        if not (is_first and following and recent) or len(read) >= MOST_PAGES:
            return
        host = urljoin(response.url, "/")
        address = keep_host(host, urljoin(response.url, following))
        if address in read:
            return
        response = client.get(address)
        if response.status_code in GONE:
            context.progress(f"{source.name}: older entries of {address} are gone", 0)
            return
        response.raise_for_status()


def is_since(record: Record, day: str) -> bool:
    assert isinstance(record.payload, dict)
    at = record.payload.get("published_at") or record.payload.get("updated_at")
    return at is None or at >= day


def make_record(entry: Any) -> Record:
    """An entry as feedparser names its parts, and its instants as ISO 8601 beside them.

    Ids that several feeds share are told apart by nothing: an entry in two feeds is one record.
    """
    payload = {key: value for key, value in entry.items() if not key.endswith("_parsed")}
    for name in ("published", "updated"):
        parsed = entry.get(f"{name}_parsed") if name in entry else None
        if parsed:
            payload[f"{name}_at"] = datetime.fromtimestamp(calendar.timegm(parsed), UTC).isoformat()
    text = json.dumps(payload, default=str, ensure_ascii=False, sort_keys=True)
    link = entry.get("link")
    key = entry.get("id") or link or hashlib.sha256(text.encode()).hexdigest()[:32]
    return Record(str(key), json.loads(text), link)


IGNORED = (
    "authors", "author_detail", "comments", "contributors", "guidislink", "id", "link", "links",
    "published", "updated", "summary_detail", "title_detail", "media_content", "media_thumbnail",
    "slash_comments", "wfw_commentrss", "source", "rights", "rights_detail", "thr_total",
    "thr_count", "thr_in-reply-to", "im_votesum", "im_votecount", "im_contenttype", "im_version",
    "publisher", "publisher_detail", "credit", "enclosures", "tags", "discourse_topicpinned",
    "discourse_topicclosed", "discourse_topicarchived", "created", "expired", "href",
)  # fmt: skip


def mappings(source: Source) -> list[Mapping]:
    """Entries are feedback; the full text counts before the summary."""
    options = read_options(source, Options)
    rated = {
        "rating": Field(RATINGS[0], "number", also=RATINGS[1:]),
        "rating_min": Field(const=options.rating_min),
        "rating_max": Field(const=options.rating_max),
    }
    fields = {
        "source_record_id": Field(RECORD_ID),
        "channel": Field(const=options.channel),
        "author": Field("author", also=("author_detail.name",)),
        "product": Field(const=options.product),
        "language": Field("content.0.language", also=("title_detail.language",)),
        "created_at": Field("published_at", "instant", also=("updated_at",)),
        "updated_at": Field("updated_at", "instant", also=("published_at",)),
        "title": Field("title"),
        "body": Field("content.0.value", also=("summary", "title")),
        **(rated if options.channel in ("review", "app_store") else {}),
    }
    return [Mapping("entries", "feedback", fields, ignored=IGNORED, required=("source_record_id",))]


KINDS = {
    "rss": Kind(
        "rss",
        "RSS and Atom feeds; a feed that has not changed is not sent again",
        Options,
        ("feedback",),
        pull,
        mappings,
        secrets=(
            Secret(
                "login",
                "user of a feed behind a password",
                "who publishes the feed",
                is_optional=True,
            ),
            Secret("password", "its password", "who publishes the feed", is_optional=True),
        ),
        check=check,
        summary_zh="RSS 与 Atom 订阅源；没有变化的不会重新下载",
    )
}

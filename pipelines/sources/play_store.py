"""Google Play: the reviews on an app's page as it is served, by language and country.

The page holds them in its ``AF_initDataCallback`` blocks, as arrays without names. They are found
by their shape, not by the block's key, which changes from one release of the page to the next.
Pages that were saved from a browser may be read from a folder instead.

What a page does not give: more than the first reviews that it shows (about 20 for each language and
country; read it often, or in more of them), the reviewer's id, the time of an edit. The developer's
answers stay in raw. The aggregate rating of JSON-LD is kept in raw as ``apps``.
"""

from __future__ import annotations

import copy
import glob
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic import Field as Option

from pipelines.errors import HearbackError
from pipelines.mapping import Field, Lookup, Mapping
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, read_options
from pipelines.sources.http import explain_http_errors, open_client

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient

PAGE = "store/apps/details"
BLOCK = re.compile(r"AF_initDataCallback\(\s*\{.*?\bdata\s*:\s*(?:function\(\)\s*\{\s*return\s+)?")
JSON_LD = re.compile(
    r"<script[^>]+type=[\"']?application/ld\+json[\"']?[^>]*>(.*?)</script>", re.DOTALL
)
LANGUAGE = re.compile(r"<html[^>]*?\blang=[\"']?([A-Za-z-]+)")
APP = re.compile(r"/store/apps/details\?(?:[^\"'\s<>]*?&(?:amp;)?)?id=([A-Za-z]\w*(?:\.\w+)+)")
MOST_DEPTH = 8


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    apps: list[str] = Option(default_factory=list, description="ids such as com.acme.kettle")
    languages: list[str] = Option(default=["en"], min_length=1, description="hl of the page")
    countries: list[str] = Option(default=["us"], min_length=1, description="gl of the page")
    path: str | None = Option(default=None, description="saved pages: a folder or a pattern")

    @model_validator(mode="after")
    def check_origin(self) -> Options:
        if not self.apps and not self.path:
            raise ValueError("give apps, or path with saved pages")
        return self


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    options = read_options(source, Options)
    if options.path:
        yield from pull_saved(source, context, options.path)
    seen: set[str] = set()  # a review may stand on the pages of several languages
    with explain_http_errors(source.name):
        client = open_store(source, context)
        for app in options.apps:
            for language in options.languages:
                for country in options.countries:
                    page = fetch(client, app, language, country)
                    where = f"{app} in {language}-{country}"
                    yield from read_page(source, context, page, (app, language, where), seen)


def pull_saved(source: Source, context: PullContext, path: str) -> Iterator[Batch]:
    """Reviews of saved pages that are new or changed; HearbackError if there is no page."""
    folder = context.folder / path
    found = sorted(glob.glob(f"{folder}/*.htm*" if folder.is_dir() else str(folder)))
    if not found:
        raise HearbackError(f"source {source.name!r}: no page matches {path}; mend options.path")
    position = copy.deepcopy(context.position)
    known: dict[str, str] = position.setdefault("files", {})
    for name in found:
        content = Path(name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if known.get(Path(name).name) == digest:
            continue
        page = content.decode("utf-8", "replace")
        app, language = APP.search(page), LANGUAGE.search(page)
        if not app:
            raise HearbackError(
                f"source {source.name!r}: {Path(name).name} is no page of an app in Google Play"
            )
        told = (app[1], language[1] if language else "", Path(name).name)
        yield from read_page(source, context, page, told, set())
        known[Path(name).name] = digest
        yield Batch("reviews", [], copy.deepcopy(position))


def open_store(source: Source, context: PullContext) -> RESTClient:
    return open_client(source, context, default_url=KINDS[source.kind].default_url)


def fetch(client: RESTClient, app: str, language: str, country: str) -> str:
    """A page; redirects are not followed, since they lead away from the store (consent pages)."""
    response = client.session.get(
        f"{client.base_url}/{PAGE}",
        params={"id": app, "hl": language, "gl": country},
        allow_redirects=False,
    )
    if response.status_code == 404:
        raise HearbackError(f"no app {app} in {country}; mend options.apps or options.countries")
    if 300 <= response.status_code < 400:
        raise HearbackError(
            f"the page of {app} leads elsewhere, perhaps to a question for consent; save pages "
            "from a browser and give their folder in options.path"
        )
    response.raise_for_status()
    return response.content.decode("utf-8", "replace")


def check(source: Source, context: PullContext) -> str:
    options = read_options(source, Options)
    if options.path and not options.apps:
        return f"saved pages in {options.path}"
    with explain_http_errors(source.name):
        client = open_store(source, context)
        page = fetch(client, options.apps[0], options.languages[0], options.countries[0])
    return f"{len(find_reviews(page))} reviews on the page of {options.apps[0]}"


def read_page(
    source: Source,
    context: PullContext,
    page: str,
    told: tuple[str, str, str],
    seen: set[str],
) -> Iterator[Batch]:
    """The reviews of a page that are not seen yet; ``told``: app, language, what to call it."""
    app, language, where = told
    about = find_app(page)
    if about:
        yield Batch("apps", [Record(app, {"app": app, **about})])
    first = f"{source.start}" if source.start else ""
    records = []
    for review in find_reviews(page):
        payload = {"app": app, "language": language, **name_parts(review)}
        if payload["id"] not in seen and payload["at"] >= first:
            link = f"https://play.google.com/{PAGE}?id={app}&reviewId={payload['id']}"
            records.append(Record(payload["id"], payload, link))
            seen.add(payload["id"])
    if not records:
        context.progress(f"{source.name}: no reviews on the page of {where} that are new to it", 0)
    yield Batch("reviews", records)


def find_reviews(page: str) -> list[list[Any]]:
    """The arrays of a page that have the shape of a review, each id once."""
    decoder = json.JSONDecoder()
    found: dict[str, list[Any]] = {}
    for match in BLOCK.finditer(page):
        try:
            data, _ = decoder.raw_decode(page, match.end())
        except ValueError:
            continue  # a block that is no JSON holds code, not reviews
        for review in walk(data, MOST_DEPTH):
            found.setdefault(review[0], review)
    return list(found.values())


def walk(data: Any, depth: int) -> Iterator[list[Any]]:
    if not isinstance(data, list) or depth < 0:
        return
    if is_review(data):
        yield data
        return
    for part in data:
        yield from walk(part, depth - 1)


def is_review(data: list[Any]) -> bool:
    """[id, [name, …], stars, …, text, [seconds, …], …]."""
    if len(data) < 6:
        return False
    key, author, stars, text, at = data[0], data[1], data[2], data[4], data[5]
    return (
        isinstance(key, str)
        and isinstance(author, list)
        and bool(author)
        and (author[0] is None or isinstance(author[0], str))
        and type(stars) is int
        and 1 <= stars <= 5
        and (text is None or isinstance(text, str))
        and isinstance(at, list)
        and bool(at)
        and type(at[0]) is int
        and at[0] > 1_000_000_000
    )


def name_parts(review: list[Any]) -> dict[str, Any]:
    """A review with names for the parts that are known, and the whole of it as it was sent."""
    reply = review[7] if len(review) > 7 and isinstance(review[7], list) else []
    return {
        "id": review[0],
        "author": review[1][0],
        "rating": review[2],
        "text": review[4],
        "at": datetime.fromtimestamp(review[5][0], UTC).isoformat(),
        "thumbs_up": review[6] if len(review) > 6 else None,
        "reply": reply[1] if len(reply) > 1 else None,
        "version": review[10] if len(review) > 10 and isinstance(review[10], str) else None,
        "sent": review,
    }


def find_app(page: str) -> dict[str, Any] | None:
    """What JSON-LD says of the app: its name, and the count and mean of its ratings."""
    for text in JSON_LD.findall(page):
        try:
            found = json.loads(text)
        except ValueError:
            try:
                found = json.loads(unescape(text))
            except ValueError:
                continue
        if isinstance(found, dict) and found.get("@type") == "SoftwareApplication":
            return found
    return None


def mappings(source: Source) -> list[Mapping]:
    """A rating without a text says nothing that could be labelled; validate sets it aside."""
    read_options(source, Options)
    fields = {
        "source_record_id": Field("id"),
        "channel": Field(const="app_store"),
        "author": Field("author"),
        "product": Field("app", lookup=Lookup("apps", "app", "name")),
        "language": Field("language"),
        "created_at": Field("at", "instant"),
        "updated_at": Field("at", "instant"),
        "body": Field("text"),
        "rating": Field("rating", "number"),
        "rating_min": Field(const=1.0),
        "rating_max": Field(const=5.0),
        "tags": Field("version", "text_list"),
    }
    ignored = ("thumbs_up", "reply", "sent")
    return [Mapping("reviews", "feedback", fields, ignored=ignored, required=("source_record_id",))]


KINDS = {
    "play_store": Kind(
        "play_store",
        "Google Play: the first reviews on an app's page, by language and country; or saved pages",
        Options,
        ("feedback",),
        pull,
        mappings,
        check=check,
        default_url="https://play.google.com",
        summary_zh="Google Play：应用页面上最前面的评价，按语言和国家；也可读取保存的页面",
    )
}

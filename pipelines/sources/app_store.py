"""Apple's App Store: the public feed of customer reviews, by app and country.

Each country's newest reviews come first, 50 a page, at most ten pages: a pull reads down to what
it already knows. A review that was edited comes to the top again, with its new text. Behind each
page the one before it is read once more: where a review was removed, one has moved up to it.

What the feed does not give: more than the last 500 reviews of a country, answers of the developer,
and, at times, anything: Apple now and then sends a page without reviews that had some the day
before. Such a feed is told in the progress, and read again on the next pull.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic import Field as Option

from pipelines.errors import HearbackError
from pipelines.mapping import Field, Mapping
from pipelines.settings import Source
from pipelines.sources.base import Batch, Kind, PullContext, Record, read_options
from pipelines.sources.http import Limits, explain_http_errors, open_client

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.client import RESTClient

MOST_PAGES = 10
OVERLAP = timedelta(days=1)
# Apple refuses haste with 403 as well; it tells no time to wait.
LIMITS = Limits(is_limited=lambda response: response.status_code in (403, 429), per_second=5)


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    apps: list[str] = Option(min_length=1, description="numbers of the apps, as in their address")
    countries: list[str] = Option(default=["us"], min_length=1, description="two letters each")

    @field_validator("apps", mode="before")
    @classmethod
    def check_apps(cls, apps: Any) -> list[str]:
        found = [str(app).removeprefix("id") for app in apps]
        for app in found:
            if not app.isdigit():
                raise ValueError(f"{app!r} is not the number of an app")
        return found


def get_entries(client: RESTClient, country: str, app: str, page: int) -> list[dict[str, Any]]:
    """The reviews of a page; Apple sends a lone one without a list, and the app itself first."""
    response = client.get(
        f"{country.lower()}/rss/customerreviews/page={page}/id={app}/sortby=mostrecent/json"
    )
    if response.status_code == 400:
        raise HearbackError(
            f"no reviews for app {app} in {country!r}: mend options.apps or options.countries"
        )
    response.raise_for_status()
    entries = response.json().get("feed", {}).get("entry") or []
    listed = entries if isinstance(entries, list) else [entries]
    return [entry for entry in listed if "im:rating" in entry]


def open_store(source: Source, context: PullContext) -> RESTClient:
    return open_client(source, context, limits=LIMITS, default_url=KINDS[source.kind].default_url)


def check(source: Source, context: PullContext) -> str:
    options = read_options(source, Options)
    with explain_http_errors(source.name):
        client = open_store(source, context)
        count = len(get_entries(client, options.countries[0], options.apps[0], 1))
    return f"{count} reviews on the first page of app {options.apps[0]}"


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    options = read_options(source, Options)
    position = copy.deepcopy(context.position)
    with explain_http_errors(source.name):
        client = open_store(source, context)
        for app in options.apps:
            for country in options.countries:
                yield from pull_feed(client, source, context, (app, country.lower()), position)


def pull_feed(
    client: RESTClient,
    source: Source,
    context: PullContext,
    feed: tuple[str, str],
    position: dict[str, Any],
) -> Iterator[Batch]:
    """Reviews of one app in one country, down to a day before the newest known one."""
    app, country = feed
    key = f"{app}/{country}"
    known = position.get(key)
    floor = datetime.fromisoformat(known) - OVERLAP if known else None
    first = f"{source.start}" if source.start else ""
    newest = known
    last: list[dict[str, Any]] = []
    for page in range(1, MOST_PAGES + 1):
        entries = get_entries(client, country, app, page)
        own = list(entries)
        if page > 1:
            before = get_entries(client, country, app, page - 1)
            entries += [entry for entry in before if entry not in last]
        last = own
        if not entries and page == 1:
            context.progress(f"{source.name}: no reviews of app {app} in {country} now", 0)
        times = [entry["updated"]["label"] for entry in entries]
        newest = max([*times, *([newest] if newest else [])], key=read_time, default=None)
        records = [
            Record(
                f"{country}-{entry['id']['label']}",
                {**entry, "app": app, "country": country},
                f"https://apps.apple.com/{country}/app/id{app}?see-all=reviews",
            )
            for entry in entries
            if entry["updated"]["label"] >= first
        ]
        is_old = floor is not None and any(read_time(at) < floor for at in times)
        if not own or is_old or not records or page == MOST_PAGES:
            position[key] = newest
            yield Batch("reviews", records, copy.deepcopy(position) if newest else None)
            return
        yield Batch("reviews", records)


def read_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


LANGUAGES = {
    "cn": "zh", "tw": "zh", "hk": "zh", "jp": "ja", "kr": "ko", "de": "de", "at": "de", "fr": "fr",
    "es": "es", "mx": "es", "it": "it", "br": "pt", "pt": "pt", "ru": "ru", "us": "en", "gb": "en",
    "au": "en", "nz": "en", "ie": "en",
}  # fmt: skip


def mappings(source: Source) -> list[Mapping]:
    """The language of a review is not told; it is found from its text."""
    read_options(source, Options)
    fields = {
        "source_record_id": Field("id.label"),
        "channel": Field(const="app_store"),
        "author": Field("author.name.label"),
        "product": Field("app"),
        "created_at": Field("updated.label", "instant"),
        "updated_at": Field("updated.label", "instant"),
        "title": Field("title.label"),
        "body": Field("content.label", also=("title.label",)),
        "rating": Field(("im:rating", "label"), "number"),
        "rating_min": Field(const=1.0),
        "rating_max": Field(const=5.0),
        "tags": Field(("im:version", "label"), "text_list"),
    }
    ignored = ("link", "im:voteSum", "im:contentType", "im:voteCount", "country", "rights")
    return [Mapping("reviews", "feedback", fields, ignored=ignored, required=("source_record_id",))]


KINDS = {
    "app_store": Kind(
        "app_store",
        "Apple's App Store: the last 500 reviews of an app in each country",
        Options,
        ("feedback",),
        pull,
        mappings,
        check=check,
        default_url="https://itunes.apple.com",
        summary_zh="苹果 App Store：每个国家最近 500 条评价",
    )
}

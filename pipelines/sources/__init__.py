"""The kinds of source there are. A kind is one module of this package that defines ``KIND``."""

from __future__ import annotations

from importlib import import_module

from pipelines.errors import UsageError
from pipelines.settings import nearest
from pipelines.sources.base import Kind

MODULES = {
    "zendesk": "zendesk",
    "salesforce": "salesforce",
    "dynamics365": "dynamics365",
    "rest": "rest",
    "freshdesk": "freshdesk",
    "helpscout": "helpscout",
    "intercom": "intercom",
    "chatwoot": "chatwoot",
    "zoho_desk": "zoho_desk",
    "zoho_crm": "zoho_crm",
    "web_reviews": "web_reviews",
    "discourse": "discourse",
    "surveymonkey": "surveymonkey",
    "google_forms": "google_forms",
    "typeform": "typeform",
    "mailchimp": "mailchimp",
    "constant_contact": "constant_contact",
    "brevo": "brevo",
    "github_issues": "github_issues",
    "rss": "rss",
    "app_store": "app_store",
    "webhook": "webhook",
    "play_store": "play_store",
    "sql": "sql",
    "imap": "imap",
    "redis": "redis_streams",
    "mongodb": "mongodb",
    "calls": "calls",
    "csv": "files",
    "jsonl": "files",
    "parquet": "files",
    "excel": "files",
}


def find_kind(name: str) -> Kind:
    """The kind of that name; UsageError with the nearest name if there is none."""
    module = MODULES.get(name)
    if module is None:
        raise UsageError(
            f"unknown source kind {name!r}{nearest(name, list(MODULES))}; "
            f"kinds are: {', '.join(sorted(MODULES))}"
        )
    kinds: dict[str, Kind] = import_module(f"pipelines.sources.{module}").KINDS
    return kinds[name]


def all_kinds() -> list[Kind]:
    return [find_kind(name) for name in MODULES]

"""The demo's hearback.toml: every kind of table, with comments that say what it is for."""

from __future__ import annotations

import json
from importlib import resources
from string import Template

from pipelines.demo import catalog
from pipelines.demo.review_site import SELECTORS

CALENDARS = {
    "Sales Desk": "every_day",
    "Technical Support": "every_day",
    "After-sales Care": "every_day",
    catalog.SLOW_TEAM: "china_desk",
}


def quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def render_team(team: catalog.Team) -> str:
    members = [a for a in catalog.AGENTS if a.team == team.name and a.is_active]
    lines = [
        f"    {{ name = {quote(a.name)}, email = {quote(a.email)}, "
        f"languages = {quote_list(a.languages)}, daily_capacity = {a.capacity} }},"
        for a in members
    ]
    return "\n".join(
        [
            "",
            "[[teams]]",
            f"name       = {quote(team.name)}           # {team.zh}",
            f"groups     = [{quote(team.name)}]",
            f"needs      = {quote_list(team.needs)}",
            f"lead_email = {quote(members[0].email)}",
            f"calendar   = {quote(CALENDARS[team.name])}",
            "members    = [",
            *lines,
            "]",
            "",
        ]
    )


def quote_list(values: tuple[str, ...]) -> str:
    return json.dumps(list(values), ensure_ascii=False)


def render_config(*, home: str, folder: str, helpdesk_url: str, reviews_url: str) -> str:
    """The configuration as text; ``home`` and ``folder`` are relative to where it is written."""
    text = (resources.files("pipelines.demo") / "hearback.toml.in").read_text(encoding="utf-8")
    return Template(text).substitute(
        home=quote(home),
        helpdesk_url=quote(helpdesk_url),
        reviews_url=quote(reviews_url + "/"),
        bot=catalog.BOT_ID,
        product_field=catalog.PRODUCT_FIELD,
        selectors="\n".join(f"{name} = {quote(value)}" for name, value in SELECTORS.items()),
        survey=quote(f"{folder}/survey.csv"),
        posts=quote(f"{folder}/app_feedback.jsonl"),
        customers=quote(f"{folder}/customers.csv"),
        orders=quote(f"{folder}/orders.jsonl"),
        reviews_file=quote(f"{folder}/quality_reviews.csv"),
        agents=quote(f"{folder}/agents.csv"),
        teams="".join(render_team(team) for team in catalog.TEAMS),
    )

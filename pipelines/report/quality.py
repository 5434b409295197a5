"""Quality monitoring in the report: control charts and who can be told from whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from pipelines.report import charts
from pipelines.report.numbers import has_tables
from pipelines.storage import quote

if TYPE_CHECKING:
    import duckdb

# What is charted, over all teams: (chart, metric, statistic, clock).
CHARTS = (
    ("p", "csat", "share", "calendar"),
    ("p", "review_pass", "share", "calendar"),
    ("p", "sla", "share", "business"),
    ("p", "sla", "share", "calendar"),
    ("xmr", "first_reply", "median", "calendar"),
    ("xmr", "resolution", "median", "calendar"),
)
LEAST_POINTS = 8  # fewer days are no chart: no rule of a run could fire
TOP_RANKED = 12


@dataclass(frozen=True)
class Point:
    """A day of a control chart."""

    day: date
    value: float
    centre: float
    low: float | None
    high: float | None
    rule: int | None
    side: str | None


def chart_query(chart: str, metric: str, statistic: str, clock: str, last: date) -> str:
    return (
        "select cohort_date, value, centre_line, lower_limit, upper_limit, rule, side\n"
        "from control_charts\n"
        f"where chart = {quote(chart)} and metric = {quote(metric)} "
        f"and statistic = {quote(statistic)}\n"
        f"    and clock = {quote(clock)} and dimension = 'all' "
        f"and cohort_date <= date {quote(last.isoformat())}\n"
        "order by cohort_date"
    )


def ranking_query(dimension: str) -> str:
    return (
        "select place, display_name, denominator, value, ci_low, ci_high, is_small_sample,\n"
        "    is_like_best, len(indistinct_from) as indistinct_count\n"
        "from agent_ranking\n"
        f"where dimension = {quote(dimension)} and metric = 'csat'\n"
        "order by place, display_name"
    )


def draw_control_charts(
    con: duckdb.DuckDBPyConnection, last: date, words: dict[str, Any]
) -> list[dict[str, Any]]:
    """The charts that have enough days, with what fired in words."""
    from markupsafe import Markup

    if not has_tables(con, "control_charts"):
        return []
    found = []
    for spec in CHARTS:
        query = chart_query(*spec, last)
        points = [Point(*row) for row in con.execute(query).fetchall()]
        if len(points) < LEAST_POINTS:
            continue
        chart, metric, _, clock = spec
        key = metric if metric != "sla" else f"sla_{clock}"
        title = words["control_titles"][key]
        summary = describe_chart(points, words, is_share=chart == "p")
        svg = charts.draw_control(f"control-{key}", points, is_share=chart == "p")
        alt = words["chart_of"].format(title=title, summary=summary)
        found.append(
            {"title": title, "svg": Markup(svg), "alt": alt, "note": summary, "query": query}
        )
    return found


def describe_chart(points: Sequence[Point], words: dict[str, Any], *, is_share: bool) -> str:
    """The centre, and the last days that a rule picked out."""

    def say(value: float) -> str:
        if is_share:
            return f"{100 * value:.0f} %"
        return str(words["hours"].format(n=f"{value / 60:.1f}"))

    text = str(words["control_centre"].format(centre=say(points[-1].centre), n=len(points)))
    fired = [point for point in points if point.rule is not None]
    if not fired:
        return f"{text} {words['control_calm']}"
    latest = fired[-1]
    return text + " " + words["control_fired"].format(
        n=len(fired), day=latest.day, value=say(latest.value),
        rule=words["control_rules"][str(latest.rule)],
    )  # fmt: skip


def list_ranking(con: duckdb.DuckDBPyConnection, words: dict[str, Any]) -> list[dict[str, Any]]:
    """Teams, then agents, by CSAT with intervals; each with the query behind it."""
    if not has_tables(con, "agent_ranking"):
        return []
    found = []
    for dimension in ("team", "agent"):
        query = ranking_query(dimension)
        cursor = con.execute(query)
        names = [column[0] for column in cursor.description or []]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        if len(rows) > 1:
            found.append(
                {
                    "title": words["ranking_titles"][dimension],
                    "rows": rows[:TOP_RANKED],
                    "rest": max(0, len(rows) - TOP_RANKED),
                    "query": query,
                }
            )
    return found

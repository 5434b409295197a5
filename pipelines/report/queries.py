"""The question behind each figure of the report, as text for whoever wants to look further.

Each can be given to ``hearback query``. A test asks them all, and holds the headline figures to the
answers.
"""

from __future__ import annotations

from datetime import date, timedelta

from pipelines.storage import quote

SHARES = {"csat": "csat", "nps": "nps", "target": "sla"}


def span(first: date, last: date, column: str = "cohort_date") -> str:
    return f"{column} between date '{first.isoformat()}' and date '{last.isoformat()}'"


def list_queries(day: date, zone: str, *, days: int, window: int, weeks: int) -> dict[str, str]:
    """By figure: ``tile_…`` for the headlines, else the name of the chart or table."""
    month, recent = day - timedelta(days=days - 1), day - timedelta(days=window - 1)
    week, first_week = day - timedelta(days=6), day - timedelta(days=7 * weeks - 1)
    feedback = "from metrics_daily\nwhere metric = 'volume' and counted = 'feedback'"
    found = {
        "tile_feedback": (
            f"select sum(numerator) as messages\n{feedback}\n    and {span(week, day)}"
        ),
        "tile_complaints": (
            "select sum(numerator) filter (where feedback_type = 'complaint')\n"
            f"    / sum(numerator) as share\n{feedback}\n    and {span(week, day)}"
        ),
        "tile_tasks": (
            "select team, count(*) as tasks\nfrom follow_up_tasks\n"
            "where status in ('open', 'in_progress')\ngroup by team"
        ),
        "speed": (
            "select team, median(first_reply_minutes) as reply_minutes\nfrom cases\n"
            "where not is_excluded and "
            f"{span(recent, day, f'(first_reply_at at time zone {quote(zone)})::date')}\n"
            "group by team order by team"
        ),
        "speed_chart": (
            "select team, sum(numerator) as met, sum(denominator) as decided\nfrom metrics_daily\n"
            "where metric = 'sla' and sla_metric = 'first_reply'\n"
            f"    and {span(recent, day)}\n"
            "group by team order by team"
        ),
        "backlog": (
            "select snapshot_date, age_band, sum(case_count) as cases\nfrom backlog\n"
            f"where {span(month, day, 'snapshot_date')}\ngroup by all order by all"
        ),
    }
    for name, by in (
        ("volume", "cohort_date, feedback_type"), ("channel", "channel"), ("language", "language"),
    ):  # fmt: skip
        found[name] = (
            f"select {by}, sum(numerator) as messages\n{feedback}\n    and {span(month, day)}\n"
            "group by all order by all"
        )
    for name, metric in SHARES.items():
        found[f"tile_{name}"] = share_query(metric, span(recent, day))
    for metric in ("csat", "nps"):
        counted = f"cohort_date + ((date '{day.isoformat()}' - cohort_date) % 7)::int as week_until"
        found[metric] = share_query(metric, span(first_week, day), counted)
    return found


def share_query(metric: str, when: str, by: str | None = None) -> str:
    """A share and its interval from summed components, by the functions of the warehouse."""
    sums = "sum(numerator) as n, sum(denominator) as d, sum(value_sum_squares) as q"
    values = ",\n    ".join(
        f"metric_{part}({quote(metric)}, n, d, null, q, null) as {part}"
        for part in ("value", "low", "high")
    )
    listed = f"{by}, {sums}" if by else sums
    if metric == "sla":
        when = f"sla_metric = 'first_reply' and {when}"
    return (
        f"with summed as (\n    select {listed}\n    from metrics_daily\n"
        f"    where metric = {quote(metric)} and dialect = 'house'\n        and {when}\n"
        + ("    group by 1\n" if by else "")
        + f")\nselect {'week_until, ' if by else ''}d as size,\n    {values}\nfrom summed"
        + ("\norder by week_until" if by else "")
    )

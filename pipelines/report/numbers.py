"""The numbers of the report, read from the warehouse by SQL. Rates are made from summed components,
as the metric tables store them; nothing here defines a metric."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import sqrt
from typing import TYPE_CHECKING, Any

from pipelines.storage import quote
from pipelines.task_store import ORDER_SQL

if TYPE_CHECKING:
    import duckdb

Z95 = 1.959963984540054
MOST_SURGES = 8  # on the page; the mart has all
TYPES = ("complaint", "question", "suggestion", "praise", "other")
AGES = ("0-1 days", "1-3 days", "3-7 days", "7-30 days", "30 days or more")


@dataclass(frozen=True)
class Share:
    """A proportion (or, for NPS, points / 100) with its 95 % interval and size."""

    value: float
    low: float
    high: float
    size: int


@dataclass(frozen=True)
class Surge:
    """An alert of the mart surges: k of the day's n, against the usual share."""

    counted: str
    dimension: str
    value: str
    day: date
    count: int
    total: int
    usual: float
    chance: float

    @property
    def share(self) -> float:
        return self.count / self.total


@dataclass(frozen=True)
class Headlines:
    """A span of days in a few numbers; None where nothing was counted."""

    feedback: int
    cases: int
    csat: Share | None
    reply_minutes: float | None
    backlog: int


def wilson_share(good: float, size: float) -> Share | None:
    """Wilson score interval (Wilson 1927), None if nothing was counted."""
    if not size:
        return None
    p, z2 = good / size, Z95**2
    middle = (p + z2 / (2 * size)) / (1 + z2 / size)
    half = Z95 / (1 + z2 / size) * sqrt(p * (1 - p) / size + z2 / (4 * size**2))
    return Share(p, max(0.0, middle - half), min(1.0, middle + half), round(size))


def nps_share(difference: float, either: float, size: float) -> Share | None:
    """NPS / 100 from promoters − detractors and promoters + detractors; multinomial variance."""
    if not size:
        return None
    value = difference / size
    half = Z95 * sqrt(max(0.0, either / size - value**2) / size)
    return Share(value, max(-1.0, value - half), min(1.0, value + half), round(size))


def has_tables(con: duckdb.DuckDBPyConnection, *names: str) -> bool:
    found = con.execute(
        "select count(distinct table_name) from information_schema.tables "
        "where table_schema = 'main' and list_contains(?, table_name)",
        [list(names)],
    ).fetchall()
    return int(found[0][0]) == len(names)


def list_days(last: date, count: int) -> list[date]:
    return [last - timedelta(days=back) for back in range(count - 1, -1, -1)]


def read_volume(
    con: duckdb.DuckDBPyConnection, days: list[date]
) -> tuple[dict[str, list[float]], dict[str, float], dict[str, float]]:
    """Messages by type and day, by channel, by language. NULL becomes the key ''."""
    by_type = {name: [0.0] * len(days) for name in (*TYPES, "")}
    by_channel: dict[str, float] = {}
    by_language: dict[str, float] = {}
    if not has_tables(con, "metrics_daily"):
        return by_type, by_channel, by_language
    rows = con.execute(
        "select cohort_date, coalesce(feedback_type, ''), coalesce(channel, ''), "
        "coalesce(language, ''), sum(numerator) from metrics_daily "
        "where metric = 'volume' and counted = 'feedback' and cohort_date between ? and ? "
        "group by all",
        [days[0], days[-1]],
    ).fetchall()
    for day, kind, channel, language, count in rows:
        by_type.setdefault(kind, [0.0] * len(days))[(day - days[0]).days] += count
        by_channel[channel] = by_channel.get(channel, 0) + count
        by_language[language] = by_language.get(language, 0) + count
    return by_type, by_channel, by_language


def read_components(
    con: duckdb.DuckDBPyConnection, metric: str, first: date, last: date, by: str = "cohort_date"
) -> list[tuple[Any, float, float, float]]:
    """(group, numerator, denominator, value_sum_squares) of a metric, summed; of the service
    levels that of the first reply."""
    if not has_tables(con, "metrics_daily"):
        return []
    rows: list[tuple[Any, float, float, float]] = con.execute(
        f"select {by}, sum(numerator), sum(denominator), coalesce(sum(value_sum_squares), 0) "
        "from metrics_daily where metric = ? and dialect = 'house' and cohort_date between ? and ? "
        "and coalesce(sla_metric, 'first_reply') = 'first_reply' group by 1 order by 1",
        [metric, first, last],
    ).fetchall()
    return rows


def read_weekly(
    con: duckdb.DuckDBPyConnection, metric: str, last: date, weeks: int
) -> list[tuple[date, Share | None]]:
    """A satisfaction metric by week of seven days ending on ``last`` or whole weeks before it."""
    first = last - timedelta(days=7 * weeks - 1)
    sums = [[0.0, 0.0, 0.0] for _ in range(weeks)]
    for day, good, size, squares in read_components(con, metric, first, last):
        week = sums[(day - first).days // 7]
        for at, value in enumerate((good, size, squares)):
            week[at] += value
    make = nps_share if metric == "nps" else None
    return [
        (
            first + timedelta(days=7 * number + 6),
            make(good, squares, size) if make else wilson_share(good, size),
        )
        for number, (good, size, squares) in enumerate(sums)
    ]


def read_share(
    con: duckdb.DuckDBPyConnection, metric: str, first: date, last: date
) -> Share | None:
    """A metric over all of a span of days."""
    good = size = squares = 0.0
    for _, numerator, denominator, sum_squares in read_components(con, metric, first, last):
        good, size, squares = good + numerator, size + denominator, squares + sum_squares
    return nps_share(good, squares, size) if metric == "nps" else wilson_share(good, size)


def read_headlines(con: duckdb.DuckDBPyConnection, zone: str, last: date, count: int) -> Headlines:
    """``count`` days up to ``last``: volume, satisfaction, the median first reply of the cases
    opened in them, and the cases that were unsolved at the end of the last day that is over."""
    first = last - timedelta(days=count - 1)
    by_type, _, _ = read_volume(con, list_days(last, count))
    backlog = read_backlog(con, list_days(last, count))  # it may end before the last day
    cases, reply_minutes = 0, None
    if has_tables(con, "cases"):
        cases, reply_minutes = con.execute(
            "select count(*), median(first_reply_minutes) from cases "
            "where not is_excluded and (opened_at at time zone ?)::date between ? and ?",
            [zone, first, last],
        ).fetchall()[0]
    return Headlines(
        feedback=round(sum(map(sum, by_type.values()))),
        cases=cases,
        csat=read_share(con, "csat", first, last),
        reply_minutes=reply_minutes,
        backlog=round(sum(values[-1] for values in backlog.values() if values)),
    )


def read_speed(
    con: duckdb.DuckDBPyConnection, zone: str, first: date, last: date
) -> list[dict[str, Any]]:
    """By team: first replies and solved cases of the days, their medians as the customer
    waited (calendar time), and the share of first replies in target."""
    if not has_tables(con, "cases"):
        return []
    local = f"at time zone {quote(zone)})::date between ? and ?"
    span = [first, last]
    rows = con.execute(
        f"""
        select
            coalesce(team, '') as team,
            count(*) filter ((first_reply_at {local}) as replies,
            median(first_reply_minutes)
                filter ((first_reply_at {local}) as reply_minutes,
            count(*) filter ((last_solved_at {local} and status in ('solved', 'closed')) as solved,
            median(full_resolution_minutes)
                filter ((last_solved_at {local} and status in ('solved', 'closed')) as solve_minutes
        from cases where not is_excluded group by 1 order by 1
        """.replace("filter (", "filter (where "),
        span * 4,
    ).fetchall()
    targets = {
        team or "": wilson_share(good, size)
        for team, good, size, _ in read_components(con, "sla", first, last, by="team")
    }
    return [
        {
            "team": team,
            "replies": replies,
            "reply_minutes": reply,
            "solved": solved,
            "solve_minutes": solve,
            "in_target": targets.get(team),
        }
        for team, replies, reply, solved, solve in rows
        if replies or solved
    ]


def read_backlog(con: duckdb.DuckDBPyConnection, days: list[date]) -> dict[str, list[float]]:
    """Unsolved cases at the end of each day by age band; days after the last known one are left
    out of every list."""
    found = {age: [0.0] * len(days) for age in AGES}
    if not has_tables(con, "metrics_daily"):
        return found
    rows = con.execute(
        "select cohort_date, age_band, sum(numerator) from metrics_daily "
        "where metric = 'backlog' and cohort_date between ? and ? group by all",
        [days[0], days[-1]],
    ).fetchall()
    for day, age, count in rows:
        found.setdefault(age, [0.0] * len(days))[(day - days[0]).days] += count
    known = max(((row[0] - days[0]).days for row in rows), default=-1) + 1
    return {age: values[:known] for age, values in found.items()}


def find_surges(con: duckdb.DuckDBPyConnection, last: date) -> tuple[date | None, list[Surge]]:
    """The alerts of the mart on the last day that was tested and on the day before, of which a run
    in its course saw a part; and that last day. The least likely first, each group once: by its
    complaints rather than by all that was said of it.
    """
    if not has_tables(con, "surges"):
        return None, []
    tested = con.execute(
        "select max(created_date) from surges where created_date <= ? and p_value is not null",
        [last],
    ).fetchall()[0][0]
    if tested is None:
        return None, []
    rows = con.execute(
        """
        select counted, dimension, value, created_date, k, n, p, p_value
        from surges
        where is_alert and created_date between ?::date - 1 and ?::date
        qualify row_number() over (
            partition by dimension, value
            order by counted = 'complaint' desc, created_date desc
        ) = 1
        order by p_value, counted, dimension, value
        limit ?
        """,
        [tested, tested, MOST_SURGES],
    ).fetchall()
    return tested, [Surge(*row) for row in rows]


def read_tasks(
    con: duckdb.DuckDBPyConnection, now: datetime, zone: str, top: int
) -> list[dict[str, Any]]:
    """By team: how many tasks are to be done, and the first ``top`` of them."""
    if not has_tables(con, "follow_up_tasks"):
        return []
    stamp = quote(now.isoformat())
    names = "display_name" if has_tables(con, "customers") else "null"
    people = "customers" if has_tables(con, "customers") else "(select null::varchar customer_id)"
    cursor = con.execute(
        f"""
        with ranked as (
            select
                coalesce(team, '') as team, priority, reason, owner, url,
                due_at at time zone {quote(zone)} as due,
                coalesce(due_at < {stamp}::timestamptz, false) as is_overdue,
                coalesce((due_at at time zone {quote(zone)})::date
                    = ({stamp}::timestamptz at time zone {quote(zone)})::date, false) as is_today,
                coalesce({names}, left(tasks.customer_id, 10), '') as customer,
                row_number() over (partition by team order by {ORDER_SQL}) as place
            from follow_up_tasks tasks
            left join {people} customers on customers.customer_id = tasks.customer_id
            where status in ('open', 'in_progress')
        ),
        counts as (
            select
                team, count(*) as open, count(*) filter (where is_overdue) as overdue,
                count(*) filter (where is_today and not is_overdue) as due_today,
                count(*) filter (where owner is null) as unowned
            from ranked group by team
        )
        select counts.team, counts.open, counts.overdue, counts.due_today, counts.unowned,
            ranked.priority, ranked.reason, ranked.owner, ranked.url, ranked.due,
            ranked.is_overdue, ranked.customer
        from counts join ranked using (team)
        where place <= {top}
        order by counts.overdue desc, counts.open desc, counts.team, place
        """
    )
    teams: dict[str, dict[str, Any]] = {}
    for team, total, overdue, due_today, unowned, *task in cursor.fetchall():
        entry = teams.setdefault(
            team,
            {"team": team, "open": total, "overdue": overdue, "due_today": due_today,
             "unowned": unowned, "tasks": []},
        )  # fmt: skip
        fields = ("priority", "reason", "owner", "url", "due", "is_overdue", "customer")
        entry["tasks"].append(dict(zip(fields, task, strict=True)))
    return list(teams.values())


def read_quarantine(
    con: duckdb.DuckDBPyConnection, run_id: str
) -> dict[str, list[tuple[str, int]]]:
    """(reason, records) of the run by source, the most frequent first."""
    found: dict[str, list[tuple[str, int]]] = {}
    if not has_tables(con, "quarantine_summary"):
        return found
    rows = con.execute(
        "select source, reason, sum(record_count)::bigint from quarantine_summary "
        "where run_id = ? group by all order by 1, 3 desc, 2",
        [run_id],
    ).fetchall()
    for source, reason, count in rows:
        found.setdefault(source, []).append((reason, count))
    return found

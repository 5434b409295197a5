"""The day's report: one page that needs nothing else, in English or Chinese."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from pipelines.context import Run
from pipelines.report import charts, numbers, quality
from pipelines.report.numbers import Share, list_days
from pipelines.report.parity import read_parity
from pipelines.report.queries import list_queries
from pipelines.report.words import load_words
from pipelines.summary import count_sources

if TYPE_CHECKING:
    import duckdb

DAYS, WINDOW, WEEKS, TOP_TASKS, TOP_BARS = 30, 28, 12, 6, 8


def render_report(con: duckdb.DuckDBPyConnection, run: Run) -> str:
    """The HTML of the run's day, from the open warehouse and the run's own counts."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    words = load_words("report", run.settings.delivery.language)
    environment = Environment(
        loader=PackageLoader("pipelines.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["minutes"] = lambda value: format_minutes(value, words)
    environment.filters["percent"] = format_percent
    template = environment.get_template("report.html.j2")
    return template.render(
        t=words,
        day=run.date.isoformat(),
        as_of=words["as_of"].format(
            instant=run.now.astimezone(run.zone).strftime("%Y-%m-%d %H:%M"),
            zone=run.settings.project.time_zone,
            run_id=run.run_id,
        ),
        window=words["window"].format(days=WINDOW),
        **collect_parts(con, run, words),
    )


def collect_parts(
    con: duckdb.DuckDBPyConnection, run: Run, words: dict[str, Any]
) -> dict[str, Any]:
    """Everything the template shows, by part."""
    day, zone = run.date, run.settings.project.time_zone
    days = list_days(day, DAYS)
    by_type, by_channel, by_language = numbers.read_volume(con, days)
    first = day - timedelta(days=WINDOW - 1)
    teams = numbers.read_tasks(con, run.now, zone, TOP_TASKS)
    speed = numbers.read_speed(con, zone, first, day)
    is_open = run.now.astimezone(run.zone).date() == day
    surge_day, surges = numbers.find_surges(con, day)
    return {
        "tiles": list_tiles(con, day, by_type, teams, words),
        "teams": teams,
        "happened": draw_volume(days, by_type, by_channel, by_language, words, is_open=is_open),
        "surges": surges,
        "surge_day": surge_day,
        "surge_line": lambda surge: describe_surge(surge, words),
        "satisfaction": draw_satisfaction(con, day, words),
        "speed": speed,
        "speed_charts": draw_speed(speed, words),
        "backlog": draw_backlog(con, days, words),
        "control": quality.draw_control_charts(con, day, words),
        "ranking": quality.list_ranking(con, words),
        "queries": list_queries(day, zone, days=DAYS, window=WINDOW, weeks=WEEKS),
        "sources": list_sources(con, run),
        "parity": read_parity(con),
        "errors": run.lake.read_run_errors(run.run_id),
    }


# tiles ----------------------------------------------------------------------------------------


def list_tiles(
    con: duckdb.DuckDBPyConnection,
    day: date,
    by_type: dict[str, list[float]],
    teams: list[dict[str, Any]],
    words: dict[str, Any],
) -> list[dict[str, str]]:
    """The headline numbers: value, what it is, and a note."""
    totals = [sum(values) for values in zip(*by_type.values(), strict=True)]
    week, before = sum(totals[-7:]), sum(totals[-14:-7])
    bad, bad_before = sum(by_type["complaint"][-7:]), sum(by_type["complaint"][-14:-7])
    first = day - timedelta(days=WINDOW - 1)
    csat = numbers.read_share(con, "csat", first, day)
    nps = numbers.read_share(con, "nps", first, day)
    target = numbers.read_share(con, "sla", first, day)
    note = words["overdue_note"].format(
        overdue=sum(team["overdue"] for team in teams),
        unowned=sum(team["unowned"] for team in teams),
    )
    tiles = [
        (
            f"{week:,.0f}",
            words["tile_feedback"],
            words["versus"].format(change=f"{week / before - 1:+.0%}") if before else "",
        ),
        (
            format_percent(bad / week) if week else "–",
            words["tile_complaints"],
            words["points"].format(change=f"{100 * (bad / week - bad_before / before):+.1f}")
            if week and before
            else "",
        ),
        (show_share(csat), words["tile_csat"], describe_interval(csat, words)),
        (
            f"{100 * nps.value:+.0f}" if nps else "–",
            words["tile_nps"],
            describe_interval(nps, words, is_percent=False),
        ),
        (show_share(target), words["tile_target"], describe_interval(target, words)),
        (f"{sum(team['open'] for team in teams):,}", words["tile_tasks"], note),
    ]
    names = ("feedback", "complaints", "csat", "nps", "target", "tasks")
    return [
        {"name": f"tile_{name}", "value": value, "label": label, "note": text}
        for name, (value, label, text) in zip(names, tiles, strict=True)
    ]


def show_share(share: Share | None) -> str:
    return format_percent(share.value) if share else "–"


def format_percent(value: float) -> str:
    return f"{100 * value:.0f} %" if value in (0, 1) or value >= 0.1 else f"{100 * value:.1f} %"


def describe_interval(
    share: Share | None, words: dict[str, Any], *, is_percent: bool = True
) -> str:
    if share is None:
        return ""
    show: Callable[[float], str] = format_percent if is_percent else lambda v: f"{100 * v:+.0f}"
    text = words["interval"].format(low=show(share.low), high=show(share.high), n=share.size)
    return f"{text} ({words['small']})" if share.size < 5 else str(text)


def format_minutes(value: float | None, words: dict[str, Any]) -> str:
    """Minutes below two hours, hours below two days, then days."""
    if value is None:
        return "–"
    if value < 120:
        return str(words["minutes"].format(n=f"{value:.0f}"))
    if value < 2880:
        return str(words["hours"].format(n=f"{value / 60:.1f}"))
    return str(words["days"].format(n=f"{value / 1440:.1f}"))


# charts ---------------------------------------------------------------------------------------


def make_chart(title: str, svg: str, summary: str, words: dict[str, Any]) -> dict[str, Any]:
    from markupsafe import Markup

    alt = words["chart_of"].format(title=title, summary=summary)
    return {"title": title, "svg": Markup(svg), "alt": alt, "note": "", "query": ""}


def describe_span(days: Sequence[date], values: Sequence[float], words: dict[str, Any]) -> str:
    top = max(range(len(values)), key=lambda at: values[at])
    return str(
        words["chart_span"].format(
            first=days[0], last=days[-1], high=f"{values[top]:,.0f}", high_day=days[top],
            latest=f"{values[-1]:,.0f}",
        )
    )  # fmt: skip


def draw_volume(
    days: list[date],
    by_type: dict[str, list[float]],
    by_channel: dict[str, float],
    by_language: dict[str, float],
    words: dict[str, Any],
    *,
    is_open: bool,
) -> list[dict[str, Any]]:
    totals = [sum(values) for values in zip(*by_type.values(), strict=True)]
    if not any(totals):
        return []
    window = words["window"].format(days=DAYS)
    stack = [
        (words["types"].get(name, words["unknown"]), values, charts.COLOURS.get(name, "#DDE1E6"))
        for name, values in by_type.items()
        if any(values)
    ]
    found = [
        make_chart(
            words["volume_title"] + (words["so_far"] if is_open else ""),
            charts.draw_stack("volume", days, stack),
            describe_span(days, totals, words),
            words,
        )
    ]
    for name, counts, table in (
        ("channel", by_channel, "channels"),
        ("language", by_language, "languages"),
    ):
        bars = rank_bars(counts, words[table], words)
        found.append(
            make_chart(
                words[f"{name}_title"].format(window=window),
                charts.draw_bars(name, bars),
                "; ".join(f"{label} {value:,.0f}" for label, value in bars),
                words,
            )
            | {"name": name}
        )
    return found


def rank_bars(
    counts: dict[str, float], names: dict[str, str], words: dict[str, Any]
) -> list[tuple[str, float]]:
    """The greatest counts with their words; what is left is joined as other."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    bars = [(names.get(key, key or words["none"]), value) for key, value in ranked[:TOP_BARS]]
    rest = sum(value for _, value in ranked[TOP_BARS:])
    return [*bars, (words["other"], rest)] if rest else bars


def draw_satisfaction(
    con: duckdb.DuckDBPyConnection, day: date, words: dict[str, Any]
) -> list[dict[str, Any]]:
    found = []
    for metric, low in (("csat", 0.0), ("nps", -1.0)):
        weeks = numbers.read_weekly(con, metric, day, WEEKS)
        known = [(end, share) for end, share in weeks if share is not None]
        if not known:
            continue
        svg = charts.draw_weeks(metric, weeks, low=low, high=1.0, is_percent=metric == "csat")
        end, share = known[-1]
        summary = f"{end}: {describe_interval(share, words, is_percent=metric == 'csat')}"
        found.append(make_chart(words[f"{metric}_title"], svg, summary, words) | {"name": metric})
    return found


def draw_speed(speed: list[dict[str, Any]], words: dict[str, Any]) -> list[dict[str, Any]]:
    teams = [
        (row["team"] or words["no_team"], row["in_target"]) for row in speed if row["in_target"]
    ]
    if not teams:
        return []
    title = words["speed_title"].format(window=words["window"].format(days=WINDOW))
    summary = "; ".join(f"{team} {format_percent(share.value)}" for team, share in teams)
    return [make_chart(title, charts.draw_targets("speed", teams), summary, words)]


def draw_backlog(
    con: duckdb.DuckDBPyConnection, days: list[date], words: dict[str, Any]
) -> list[dict[str, Any]]:
    bands = numbers.read_backlog(con, days)
    known = len(next(iter(bands.values())))
    totals = [sum(values) for values in zip(*bands.values(), strict=True)]
    if not any(totals):
        return []
    stack = [
        (words["ages"].get(age, age), values, colour)
        for (age, values), colour in zip(bands.items(), charts.AGE_COLOURS, strict=False)
    ]
    shown = days[:known]
    svg = charts.draw_stack("backlog", shown, stack)
    return [make_chart(words["backlog_title"], svg, describe_span(shown, totals, words), words)]


# rows -----------------------------------------------------------------------------------------


def describe_surge(surge: numbers.Surge, words: dict[str, Any]) -> str:
    odds = 1 / max(surge.chance, 1e-300)
    chance = words["tiny" if odds > 1e6 else "odds"].format(odds=f"{odds:,.0f}")
    known = {"feedback_type": "types", "channel": "channels", "need": "needs"}
    names = words[known[surge.dimension]] if surge.dimension in known else {}
    return str(
        words["surge_line"].format(
            group=words["surge_groups"][surge.dimension].format(
                value=names.get(surge.value, surge.value)
            ),
            k=surge.count, what=words["surge_counted"][surge.counted], day=surge.day,
            share=format_percent(surge.share), usual=format_percent(surge.usual), chance=chance,
        )
    )  # fmt: skip


def list_sources(con: duckdb.DuckDBPyConnection, run: Run) -> list[dict[str, Any]]:
    """By source: the run's counts, why records were quarantined, and why it failed if it did."""
    counts = {row.source: row for row in count_sources(run.lake.read_step_reports(run.run_id))}
    reasons = numbers.read_quarantine(con, run.run_id)
    errors = {
        task.removeprefix("extract--"): message
        for task, message in run.lake.read_run_errors(run.run_id).items()
        if task.startswith("extract--")
    }
    return [
        {
            "source": name,
            "counts": counts.get(name),
            "reasons": reasons.get(name, []),
            "error": errors.get(name),
        }
        for name in sorted({*counts, *errors})
    ]

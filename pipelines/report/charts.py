"""Small charts as inline SVG: text stays text, so that Chinese shows in the reader's own font."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

from pipelines.report.numbers import Share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipelines.report.quality import Point

# Okabe and Ito's colours: told apart with every common colour blindness.
COLOURS = {
    "complaint": "#D55E00",
    "question": "#56B4E9",
    "suggestion": "#CC79A7",
    "praise": "#009E73",
    "other": "#B8BEC6",
    "": "#DDE1E6",
}
AGE_COLOURS = ("#CFE3F3", "#8DBFE3", "#4A90C4", "#1F5F93", "#0B2F52")
INK, FAINT, LINE = "#333B45", "#7A838E", "#0072B2"
WIDTH, HEIGHT = 5.4, 2.7  # inches: legible at the width of a phone too
INTERVAL_GREY = "#9DB9CC"


@contextmanager
def figure(name: str, height: float = HEIGHT) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes without frame; fixed ids so that the same data give the same SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.size": 9.5,
        "axes.edgecolor": "#C8CED6",
        "axes.labelcolor": FAINT,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "text.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "axes.axisbelow": True,
    }
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        drawing = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = drawing.subplots()
        yield drawing, axes


def to_svg(drawing: Any) -> str:
    """The SVG element alone, scaled to its column; without metadata and name spaces."""
    buffer = io.StringIO()
    drawing.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.S)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    return re.sub(r'<svg ([^>]*?)height="[^"]*"([^>]*?)width="[^"]*"', r"<svg \1\2", text, count=1)


def put_dates(axes: Any, days: Sequence[date], every: int) -> None:
    ticks = list(range(len(days) - 1, -1, -every))[::-1]
    axes.set_xticks(ticks, [f"{days[at].month}/{days[at].day}" for at in ticks])
    axes.set_xlim(-0.7, len(days) - 0.3)


def draw_stack(
    name: str,
    days: Sequence[date],
    series: Sequence[tuple[str, Sequence[float], str]],
) -> str:
    """Stacked bars by day; series of (label, values, colour), the first at the bottom."""
    with figure(name) as (drawing, axes):
        base = [0.0] * len(days)
        for label, values, colour in series:
            axes.bar(range(len(days)), values, 0.82, bottom=base, color=colour, label=label)
            base = [low + value for low, value in zip(base, values, strict=True)]
        axes.yaxis.grid(True, color="#E8EBEF", linewidth=0.8)
        axes.yaxis.get_major_locator().set_params(integer=True, nbins=5)
        axes.set_ylim(0, max([*base, 1]) * 1.05)
        put_dates(axes, days, 7)
        drawing.legend(
            loc="outside upper left", ncols=3, frameon=False, handlelength=0.9,
            handletextpad=0.4, columnspacing=1.1, fontsize=9,
        )  # fmt: skip
        return to_svg(drawing)


def draw_bars(name: str, bars: Sequence[tuple[str, float]]) -> str:
    """Horizontal bars with their values, the greatest on top."""
    height = 0.5 + 0.27 * max(len(bars), 2)
    with figure(name, height) as (drawing, axes):
        labels = [label for label, _ in bars][::-1]
        values = [value for _, value in bars][::-1]
        total = sum(values) or 1
        axes.barh(range(len(bars)), values, 0.68, color=LINE)
        for at, value in enumerate(values):
            axes.annotate(
                f"{value:,.0f}  ({value / total:.0%})", (value, at), (4, 0),
                textcoords="offset points", va="center", fontsize=9,
            )  # fmt: skip
        axes.set_yticks(range(len(bars)), labels, color=INK)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.set_xlim(0, max([*values, 1]) * 1.32)
        return to_svg(drawing)


def draw_weeks(
    name: str,
    weeks: Sequence[tuple[date, Share | None]],
    *,
    low: float,
    high: float,
    is_percent: bool,
) -> str:
    """A line of weekly values with their intervals; weeks without answers are gaps."""
    with figure(name) as (drawing, axes):
        known = [(at, share) for at, (_, share) in enumerate(weeks) if share is not None]
        places = [at for at, _ in known]
        values = [share.value for _, share in known]
        errors = [
            [share.value - share.low for _, share in known],
            [share.high - share.value for _, share in known],
        ]
        axes.errorbar(
            places, values, errors, fmt="none", ecolor=INTERVAL_GREY, elinewidth=5, alpha=0.7
        )
        axes.plot(places, values, color=LINE, marker="o", markersize=5, linewidth=1.6)
        if known:
            at, share = known[-1]
            text = f"{share.value:.0%}" if is_percent else f"{100 * share.value:+.0f}"
            axes.annotate(
                text, (at, share.value), (9, 0), textcoords="offset points", va="center",
                fontweight="bold", color=LINE,
            )  # fmt: skip
        if low < 0:
            axes.axhline(0, color="#C8CED6", linewidth=0.8)
        axes.yaxis.grid(True, color="#E8EBEF", linewidth=0.8)
        axes.set_ylim(low, high)
        axes.yaxis.set_major_formatter(
            lambda value, _: f"{value:.0%}" if is_percent else f"{100 * value:+.0f}"
        )
        put_dates(axes, [day for day, _ in weeks], 2)
        axes.set_xlim(-0.5, len(weeks) + 0.3)
        return to_svg(drawing)


def draw_targets(name: str, teams: Sequence[tuple[str, Share]]) -> str:
    """A dot and an interval a team, from 0 to 100 %."""
    height = 0.7 + 0.32 * max(len(teams), 2)
    with figure(name, height) as (drawing, axes):
        rows = list(teams)[::-1]
        for at, (_, share) in enumerate(rows):
            axes.plot(
                [share.low, share.high], [at, at], color=INTERVAL_GREY, linewidth=6, alpha=0.7,
                solid_capstyle="butt",
            )  # fmt: skip
            axes.plot([share.value], [at], "o", color=LINE, markersize=7)
            axes.annotate(
                f"{share.value:.0%}  n={share.size:,}", (1.03, at), va="center", fontsize=9,
                annotation_clip=False,
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), [label for label, _ in rows], color=INK)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlim(0, 1.25)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.xaxis.grid(True, color="#E8EBEF", linewidth=0.8)
        return to_svg(drawing)


def draw_control(name: str, points: Sequence[Point], *, is_share: bool) -> str:
    """A control chart: the days, centre and limits, and in red what a rule picked out."""
    with figure(name) as (drawing, axes):
        places = range(len(points))
        scale = 1.0 if is_share else 1 / 60
        values = [point.value * scale for point in points]
        for limit, style in (("low", ":"), ("high", ":"), ("centre", "-")):
            line = [getattr(point, limit) for point in points]
            if all(value is not None for value in line):
                axes.plot(
                    places, [value * scale for value in line], style, color=FAINT, linewidth=1.1,
                    drawstyle="steps-mid",
                )  # fmt: skip
        axes.plot(places, values, color=LINE, marker="o", markersize=2.6, linewidth=0.9)
        fired = [(at, point) for at, point in enumerate(points) if point.rule is not None]
        axes.plot(
            [at for at, _ in fired], [point.value * scale for _, point in fired], "o",
            color=COLOURS["complaint"], markersize=5.5,
        )  # fmt: skip
        for at, point in fired[-6:]:
            axes.annotate(
                str(point.rule), (at, point.value * scale),
                (0, 6 if point.side == "high" else -6), textcoords="offset points",
                ha="center", va="bottom" if point.side == "high" else "top", fontsize=8,
                color=COLOURS["complaint"],
            )  # fmt: skip
        axes.yaxis.grid(True, color="#E8EBEF", linewidth=0.8)
        axes.yaxis.set_major_formatter(
            lambda value, _: f"{value:.0%}" if is_share else f"{value:.3g} h"
        )
        axes.margins(y=0.12)
        put_dates(axes, [point.day for point in points], 14)
        return to_svg(drawing)

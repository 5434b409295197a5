"""``hearback explain``: a metric of a day with its definition, components, interval and rows.

Whatever is shown comes from queries of the published warehouse that are printed beside it.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pipelines.errors import HearbackError, UsageError
from pipelines.query import open_warehouse, show, show_json
from pipelines.report.words import load_words, make_harmless
from pipelines.settings import Settings, nearest
from pipelines.storage import explain_disk_errors, quote

if TYPE_CHECKING:
    import duckdb

    from pipelines.wording import Language

SHOWN_ROWS = 20
# Options of the command and the columns of metric_records that they choose by.
CUTS = {
    "source": "source",
    "channel": "channel",
    "team": "team",
    "agent": "agent_id",
    "customer": "customer_id",
    "segment": "segment",
    "product": "product",
    "text_language": "language",
    "need": "need",
    "priority": "priority",
    "sla_metric": "sla_metric",
}
STORED_CUTS = {"source", "channel", "team", "need", "sla_metric"}
DIALECTS = ("house", "zendesk", "fivetran", "mozilla")
COMPONENTS = (
    "numerator", "denominator", "value_sum", "value_sum_squares", "value_count", "left_out_count",
)  # fmt: skip
IDENTITY = ("counted", "sla_metric", "dialect", "clock", "cohort")
ROW_COLUMNS = """\
    records.counted, records.sla_metric, records.clock, records.record_id, cases.source_case_id, records.source, records.channel,
    records.team, records.agent_id, records.customer_id, records.product, records.need,
    records.numerator, records.denominator, records.value_sum as value,
    records.left_out_reason, coalesce(cases.subject, feedback.title, left(feedback.body, 60)) as about,
    coalesce(cases.url, feedback.url) as url"""  # noqa: E501


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UsageError(
            f"{option} {value!r}{nearest(value, list(choices))}; use one of {', '.join(choices)}"
        )


@dataclass(frozen=True)
class Question:
    """What is asked for: a metric on a day, in one reading, for some of the records."""

    metric: str
    day: date
    dialect: str = "house"
    clock: str | None = None
    cuts: Mapping[str, str] | None = None

    def where(self, table: str = "") -> str:
        """The condition that chooses it in ``metric_records`` or ``metrics_daily``."""
        dot = f"{table}." if table else ""
        parts = [
            f"{dot}metric = {quote(self.metric)}",
            f"{dot}dialect = {quote(self.dialect)}",
            f"{dot}cohort_date = date {quote(self.day.isoformat())}",
        ]
        if self.clock:
            parts.append(f"{dot}clock = {quote(self.clock)}")
        parts += [f"{dot}{CUTS[name]} = {quote(value)}" for name, value in self.list_cuts()]
        return "\n    and ".join(parts)

    def list_cuts(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in (self.cuts or {}).items() if value]


def sum_query(question: Question) -> str:
    """The components, summed, with value and interval: one row a reading that was left open."""
    sums = ",\n        ".join(f"sum({name}) as {name}" for name in COMPONENTS)
    given = f"{quote(question.metric)}, {', '.join(COMPONENTS[:-1])}"
    return (
        f"with summed as (\n    select\n        {', '.join(IDENTITY)},\n        {sums}\n"
        f"    from metric_records\n    where {question.where()}\n"
        "    and (left_out_reason is null or left_out_count > 0)\n    group by all\n)\n"
        f"select *, metric_value({given}) as value,\n    metric_low({given}) as ci_low,\n"
        f"    metric_high({given}) as ci_high\nfrom summed\norder by {', '.join(IDENTITY)}"
    )


def stored_query(question: Question) -> str:
    """The same sums from the stored table."""
    sums = ", ".join(f"sum({name}) as {name}" for name in COMPONENTS)
    return (
        f"select {', '.join(IDENTITY)}, {sums}\nfrom metrics_daily\n"
        f"where {question.where()}\ngroup by all\norder by {', '.join(IDENTITY)}"
    )


def row_query(question: Question, limit: int | None) -> str:
    """The records behind the sums, those that were left out last."""
    cut = f"\nlimit {limit}" if limit is not None else ""
    return (
        f"select\n{ROW_COLUMNS}\nfrom metric_records as records\n"
        "left join cases on records.case_id = cases.case_id\n"
        "left join feedback on records.counted = 'feedback' "
        "and records.record_id = feedback.feedback_id\n"
        f"where {question.where('records')}\n"
        "order by records.left_out_reason nulls first, records.clock, records.record_id" + cut
    )


def left_out_query(question: Question) -> str:
    return (
        "select left_out_reason, count(*) as records\nfrom metric_records\n"
        f"where {question.where()}\n    and left_out_reason is not null\n"
        "group by all\norder by records desc, left_out_reason"
    )


# asking ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Explanation:
    """What the warehouse answers to a question."""

    question: Question
    told: dict[str, Any]  # the metric's row of metric_definitions
    sums: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    row_count: int
    left_out: list[dict[str, Any]]
    is_house_reading: bool  # the dialect reads this metric as the house does


def ask_rows(con: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    cursor = con.execute(query)
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def explain_metric(
    con: duckdb.DuckDBPyConnection, question: Question, limit: int | None
) -> Explanation:
    """Ask for a metric. UsageError for a metric, a day or a member that is not there.

    HearbackError if the records do not sum to what the stored table says.
    """
    told = find_definition(con, question.metric)
    question = name_agent(con, question)
    is_house = False
    if question.dialect != "house" and not has_dialect(con, question):
        question, is_house = replace_dialect(question), True
    sums = ask_rows(con, sum_query(question))
    left_out = ask_rows(con, left_out_query(question))
    if not sums and not left_out:
        raise UsageError(explain_nothing(con, question))
    check_stored(con, question, sums)
    count = ask_rows(con, f"select count(*) as n from metric_records\nwhere {question.where()}")[0][
        "n"
    ]
    rows = ask_rows(con, row_query(question, limit))
    return Explanation(question, told, sums, rows, count, left_out, is_house)


def find_definition(con: duckdb.DuckDBPyConnection, metric: str) -> dict[str, Any]:
    told = {row["metric"]: row for row in ask_rows(con, "select * from metric_definitions")}
    if metric not in told:
        raise UsageError(
            f"there is no metric {metric!r}"
            + (nearest(metric, list(told)) or f"; metrics are: {', '.join(sorted(told))}")
        )
    return told[metric]


def name_agent(con: duckdb.DuckDBPyConnection, question: Question) -> Question:
    """An agent may be given by the name that is shown."""
    given = (question.cuts or {}).get("agent")
    if not given:
        return question
    rows = ask_rows(con, f"select agent_id from agents where display_name = {quote(given)}")
    if not rows:
        return question
    cuts = {**(question.cuts or {}), "agent": rows[0]["agent_id"]}
    return Question(question.metric, question.day, question.dialect, question.clock, cuts)


def has_dialect(con: duckdb.DuckDBPyConnection, question: Question) -> bool:
    clock = f" and clock = {quote(question.clock)}" if question.clock else ""
    found = ask_rows(
        con,
        f"select 1 from metrics_daily where metric = {quote(question.metric)} "
        f"and dialect = {quote(question.dialect)}{clock} limit 1",
    )
    return bool(found)


def replace_dialect(question: Question) -> Question:
    return Question(question.metric, question.day, "house", question.clock, question.cuts)


def explain_nothing(con: duckdb.DuckDBPyConnection, question: Question) -> str:
    """Why there is nothing: a member that nobody has, a clock, or the day."""
    metric = quote(question.metric)
    for name, value in question.list_cuts():
        column = CUTS[name]
        found = ask_rows(
            con,
            f"select distinct {column} as member from metric_records "
            f"where metric = {metric} and {column} is not null",
        )
        members = sorted(str(row["member"]) for row in found)
        if value not in members:
            listed = f"; there are: {', '.join(members)}" if 0 < len(members) <= 20 else ""
            return (
                f"{question.metric}: no {name.replace('_', '-')} {value!r}"
                f"{nearest(value, members) or listed}"
            )
    days = ask_rows(
        con,
        "select min(cohort_date) as first, max(cohort_date) as last,\n"
        f"    max(cohort_date) filter (where cohort_date <= date {quote(question.day.isoformat())})"
        f" as before\nfrom metrics_daily where metric = {metric}",
    )[0]
    if days["last"] is None:
        return f"{question.metric}: nothing has been measured yet"
    near = days["before"] or days["first"]
    return (
        f"{question.metric}: nothing on {question.day} for what was asked; there is something from "
        f"{days['first']} to {days['last']}, such as --date {near}"
    )


def check_stored(
    con: duckdb.DuckDBPyConnection, question: Question, sums: Sequence[dict[str, Any]]
) -> None:
    """Hold the sums of the records against the stored table, where that is cut alike."""
    if not {name for name, _ in question.list_cuts()} <= STORED_CUTS:
        return
    stored = ask_rows(con, stored_query(question))
    if len(stored) != len(sums) or any(
        not is_close(row[name], other[name])
        for row, other in zip(sums, stored, strict=True)
        for name in COMPONENTS
    ):
        raise HearbackError(
            f"{question.metric} on {question.day}: the records do not sum to metrics_daily; run "
            "'hearback aggregate --full-refresh' and report it"
        )


def is_close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= 1e-6 * max(1.0, abs(one), abs(other))


# showing --------------------------------------------------------------------------------------


def run_explain(
    settings: Settings,
    question: Question,
    language: Language,
    *,
    show_all: bool = False,
    output: Path | None = None,
    out: TextIO | None = None,
) -> None:
    """Print the answer; all rows go to ``output`` (``.csv`` or ``.json``) if it is given."""
    if output is not None and output.suffix not in (".csv", ".json"):
        raise UsageError(f"--output {output}: name a file that ends in .csv or .json")
    with open_warehouse(settings) as con:
        limit = None if show_all or output else SHOWN_ROWS
        found = explain_metric(con, question, limit)
    if output is not None:
        write_rows(output, found.rows)
    shown = found.rows if show_all else found.rows[:SHOWN_ROWS]
    print_explanation(found, shown, load_words("explain", language), out or sys.stdout)
    if output is not None:
        words = load_words("explain", language)
        (out or sys.stdout).write(words["written"].format(n=len(found.rows), path=output) + "\n")


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with (
        explain_disk_errors(str(path)),
        path.open(
            "w", encoding="utf-8-sig" if path.suffix == ".csv" else "utf-8", newline=""
        ) as to,
    ):
        if path.suffix == ".json":
            json.dump(rows, to, ensure_ascii=False, indent=1, default=show_json)
            return
        writer = csv.writer(to)
        writer.writerow(rows[0] if rows else [])
        for row in rows:
            cells = (show(value) for value in row.values())
            writer.writerow(
                make_harmless(cell) if isinstance(cell, str) else cell for cell in cells
            )


def print_explanation(
    found: Explanation, rows: Sequence[dict[str, Any]], words: dict[str, Any], out: TextIO
) -> None:
    told, question = found.told, found.question
    is_chinese = words["lang"] == "zh-CN"
    name, text = (
        (told["name_zh"], told["definition_zh"])
        if is_chinese
        else (told["name"], told["definition"])
    )
    lines = [f"{name} ({question.metric}) {question.day}", text]
    cuts = "; ".join(f"{key.replace('_', '-')} = {value}" for key, value in question.list_cuts())
    lines += [cuts] if cuts else []
    lines += [words["as_house"]] if found.is_house_reading else []
    for sums in found.sums:
        lines += ["", *describe_sums(sums, told["unit"], words)]
    lines += ["", words["components_from"], indent(sum_query(question))]
    out.write("\n".join(lines) + "\n\n")
    print_left_out(found, words, out)
    heading = words["rows"].format(shown=len(rows), all=found.row_count)
    out.write(f"{heading}\n{indent(row_query(question, None))}\n")
    print_table(rows, out)


def describe_sums(sums: dict[str, Any], unit: str, words: dict[str, Any]) -> list[str]:
    """One reading: what it is, its value with interval, and the components."""
    known = [str(sums[key]) for key in IDENTITY if sums[key] is not None]
    identity = ", ".join(words["identity"].get(name, name) for name in known)
    value = format_value(sums["value"], unit, words)
    if sums["ci_low"] is not None:
        value += " " + words["interval"].format(
            low=format_value(sums["ci_low"], unit, words),
            high=format_value(sums["ci_high"], unit, words),
        )
    size = next(
        (sums[name] for name in ("denominator", "value_count") if sums[name] is not None),
        sums["numerator"],
    )
    if size is not None and size < 5:
        value += f" ({words['small']})"
    parts = [f"{name} {sums[name]:,.6g}" for name in COMPONENTS if sums[name] is not None]
    return [f"{identity}: {value}", "  " + ", ".join(parts)]


def format_value(value: float | None, unit: str, words: dict[str, Any]) -> str:
    if value is None:
        return "–"
    if unit == "share":
        return f"{100 * value:.1f} %"
    if unit == "minutes":
        return str(words["minutes"].format(n=f"{value:,.1f}"))
    if unit == "points":
        return f"{value:+.1f}"
    return f"{value:,.6g}"


def indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def print_left_out(found: Explanation, words: dict[str, Any], out: TextIO) -> None:
    if not found.left_out:
        out.write(words["nothing_left_out"] + "\n\n")
        return
    out.write(words["left_out"] + "\n")
    for row in found.left_out:
        reason = row["left_out_reason"]
        out.write(f"  {row['records']:,} {words['reasons'].get(reason, reason)}\n")
    out.write(indent(left_out_query(found.question)) + "\n\n")


def print_table(rows: Sequence[dict[str, Any]], out: TextIO) -> None:
    """The rows without the columns in which nothing stands."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipelines.query import PIPE_WIDTH, format_cell

    names = [name for name in (rows[0] if rows else ()) if any(r[name] is not None for r in rows)]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        cells = ("" if row[name] is None else format_cell(row[name]) for name in names)
        table.add_row(*(Text(cell) for cell in cells))
    width = None if out.isatty() else PIPE_WIDTH
    Console(file=out, highlight=False, width=width).print(table)

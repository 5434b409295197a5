"""What was planted in the demo is found, and nothing else is taken for it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest
import yaml

from pipelines.demo.truth import Truth
from tests.line import world
from tests.line.world import Scenario, compare, open_warehouse

QUARANTINED = """
    select source, record_id, payload, list_distinct(
        list_transform(reasons, lambda reason: split_part(reason, ':', 1))
    ) as reasons
    from lake.quarantine
"""
KINDS = {
    "broken_json", "conflicting_duplicate_id", "control_characters", "empty_text",
    "impossible_date", "missing_id", "oversized_text", "rating_out_of_scale", "unknown_value",
    "wrong_encoding",
}  # fmt: skip


@pytest.fixture(scope="module")
def truth(finished: Scenario) -> Truth:
    return Truth.load(finished.folder / "demo")


@pytest.fixture(scope="module")
def con(finished: Scenario) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_warehouse(finished.home) as found:
        yield found


def ask(con: duckdb.DuckDBPyConnection, query: str, *values: Any) -> list[tuple[Any, ...]]:
    return con.execute(query, list(values)).fetchall()


def ask_one(con: duckdb.DuckDBPyConnection, query: str, *values: Any) -> Any:
    ((found,),) = ask(con, query, *values)
    return found


# every valid record arrives -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "query"),
    [
        ("helpdesk.tickets", "select count(*) from cases"),
        ("helpdesk.users", "select (select count(*) from lake.customers where source = 'helpdesk') "
         "+ (select count(*) from lake.agents where source = 'helpdesk')"),
        ("helpdesk.satisfaction_ratings",
         "select count(*) from survey_responses where source = 'helpdesk'"),
        ("helpdesk.messages", "select count(*) from case_events where event_type in "
         "('customer_message', 'agent_reply', 'internal_note', 'bot_message')"),
        ("reviews.reviews", "select count(*) from feedback where source = 'reviews'"),
        ("app_feedback.feedback", "select count(*) from feedback where source = 'app_feedback'"),
        ("crm.customers", "select count(*) from lake.customers where source = 'crm'"),
        ("erp.orders", "select count(*) from orders"),
        ("quality.reviews", "select count(*) from quality_reviews"),
        ("hr.agents", "select count(*) from lake.agents where source = 'hr'"),
    ],
)  # fmt: skip
def test_every_valid_record_arrives(
    con: duckdb.DuckDBPyConnection, truth: Truth, stream: str, query: str
) -> None:
    assert ask_one(con, query) == truth.counts[stream]["valid_ids"]


def test_reviews_score_as_planted(con: duckdb.DuckDBPyConnection, truth: Truth) -> None:
    found = ask(
        con,
        "select count(*), count(*) filter (where is_passed), "
        "count(*) filter (where has_failed_critical) from quality_reviews "
        "where case_id in (select case_id from cases) "
        "and agent_id in (select agent_id from agents)",
    )
    assert found == [tuple(truth.quality.values())]
    assert truth.quality["failed_critical"] > 0


def test_every_valid_survey_row_arrives(con: duckdb.DuckDBPyConnection, truth: Truth) -> None:
    rows = ask_one(
        con,
        "select count(*) from survey_responses where source = 'survey' and kind = 'csat'",
    )
    assert rows == truth.counts["survey.responses"]["valid_ids"]


def test_every_said_thing_is_feedback(finished: Scenario, con: duckdb.DuckDBPyConnection) -> None:
    """Openings, messages, calls noted by agents, reviews, posts, comments of surveys, ratings."""
    lines = (finished.folder / "demo" / "truth_labels.jsonl").read_text("utf-8").splitlines()
    labels = {
        (row["source"], row["source_record_id"]): (row["part"], row["author_role"])
        for row in map(json.loads, lines)
        if row["author_role"] != "bot"
    }
    found = set(ask(con, "select source, source_record_id from feedback"))
    assert Counter(labels[key] for key in labels.keys() - found) == Counter()


# what no pipeline may accept ------------------------------------------------------------------


def list_quarantined(con: duckdb.DuckDBPyConnection) -> Counter[tuple[str, str]]:
    rows = ask(con, f"select source, unnest(reasons) as reason from ({QUARANTINED})")
    return Counter((source, reason) for source, reason in rows)


def test_demo_plants_all_ten_kinds(truth: Truth) -> None:
    assert {row["reason"] for row in truth.invalid_rows} == KINDS


def test_each_invalid_row_is_quarantined_for_its_reason(
    con: duckdb.DuckDBPyConnection, truth: Truth
) -> None:
    planted = Counter((row["source"], row["reason"]) for row in truth.invalid_rows)
    assert list_quarantined(con) == planted


def test_nothing_else_is_quarantined(con: duckdb.DuckDBPyConnection, truth: Truth) -> None:
    assert ask_one(con, "select count(*) from lake.quarantine") == len(truth.invalid_rows)


def test_invalid_rows_are_quarantined_whole(con: duckdb.DuckDBPyConnection, truth: Truth) -> None:
    """Each planted id stands in a quarantined record (a message in that of its audit)."""
    held: dict[tuple[str, str], list[str]] = {}
    for source, record, payload, reasons in ask(con, QUARANTINED):
        for reason in reasons:
            held.setdefault((source, reason), []).append(f"{record} {payload}")
    missing = [
        row
        for row in truth.invalid_rows
        if row["id"]
        and not any(row["id"] in text for text in held.get((row["source"], row["reason"]), []))
    ]
    assert missing == []


def test_no_invalid_row_reaches_the_marts(con: duckdb.DuckDBPyConnection, truth: Truth) -> None:
    arrived = set(ask(con, "select source, source_record_id from feedback"))
    planted = {(row["source"], row["id"]) for row in truth.invalid_rows if row["id"]}
    assert planted & arrived == set()


# duplicates -----------------------------------------------------------------------------------


def list_duplicates(con: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], tuple[str, str]]:
    """Who points to whom, by the names that the truth uses: a case stands for its opening."""
    rows = ask(
        con,
        """
        with named as (
            select f.feedback_id, f.source,
                case when f.source = 'helpdesk' then
                    case when l.is_opening then c.source_case_id else f.source_record_id end
                else f.source_record_id end as name,
                f.duplicate_of
            from feedback as f
            join lake.feedback as l using (feedback_id)
            left join cases as c on f.case_id = c.case_id
        )
        select n.source, n.name, o.source, o.name
        from named as n join named as o on n.duplicate_of = o.feedback_id
        """,
    )
    return {(row[0], row[1]): (row[2], row[3]) for row in rows}


def list_found(pairs: list[dict[str, str]], found: dict[Any, Any]) -> list[bool]:
    """Whether the two of a pair point one to the other, or both to the same first one."""
    hits = []
    for pair in pairs:
        one, other = (pair["source"], pair["id"]), (pair["source"], pair["of"])
        first, second = found.get(one, one), found.get(other, other)
        hits.append(first == second)
    return hits


def test_exact_duplicates_are_found(con: duckdb.DuckDBPyConnection, truth: Truth) -> None:
    hits = list_found(truth.exact_duplicates, list_duplicates(con))
    assert len(hits) >= 10
    assert sum(hits) / len(hits) >= 0.98


def test_near_duplicates_are_found(con: duckdb.DuckDBPyConnection, truth: Truth) -> None:
    hits = list_found(truth.near_duplicates, list_duplicates(con))
    assert len(hits) >= 8
    assert sum(hits) / len(hits) >= 0.8


def test_few_others_are_called_duplicates(con: duckdb.DuckDBPyConnection, truth: Truth) -> None:
    pairs = truth.exact_duplicates + truth.near_duplicates
    planted = {(pair["source"], name) for pair in pairs for name in (pair["id"], pair["of"])}
    others = [key for key in list_duplicates(con) if key not in planted]
    total = ask_one(con, "select count(*) from feedback")
    # Customers do say the same again, word for word, in other cases of theirs.
    assert len(others) <= 0.005 * total, others[:10]


# cases that count for nothing -----------------------------------------------------------------


def list_planted_exclusions(truth: Truth) -> dict[str, str]:
    """Reason by case, in the order in which the first that holds counts."""
    named = {
        "opened_by_bot": truth.opened_by_bot,
        "test": truth.tests,
        "spam": truth.spam,
        "merged": [row["id"] for row in truth.merged],
        "deleted": truth.deleted,
    }
    return {case: reason for reason, cases in named.items() for case in cases}


@pytest.mark.parametrize("reason", ["deleted", "merged", "spam", "test", "opened_by_bot"])
def test_case_is_excluded_for_its_reason(
    con: duckdb.DuckDBPyConnection, truth: Truth, reason: str
) -> None:
    planted = {case for case, why in list_planted_exclusions(truth).items() if why == reason}
    found = ask(con, "select source_case_id from cases where exclusion_reason = ?", reason)
    assert planted
    assert {case for (case,) in found} == planted


def test_no_other_case_is_excluded(con: duckdb.DuckDBPyConnection, truth: Truth) -> None:
    excluded = ask(con, "select source_case_id, exclusion_reason from cases where is_excluded")
    assert dict(excluded) == list_planted_exclusions(truth)


# late changes ---------------------------------------------------------------------------------

# What was asked of people in between is history, not derived from the records alone; the demo
# spoils other rows each day; the calendars reach as far as the run that first needed them.
HISTORY = {
    "main.follow_up_tasks", "main.follow_up_events", "main.quarantine_summary", "lake.quarantine",
    "main.calendars",
}  # fmt: skip


def drop_as_of(rows: list[str]) -> list[str]:
    """A settled case keeps the instant up to which it was counted last."""
    return sorted(
        json.dumps({key: value for key, value in json.loads(row).items() if key != "as_of"})
        for row in rows
    )


def test_late_changes_give_what_one_run_at_the_end_gives(
    late: Scenario, finished: Scenario, truth: Truth
) -> None:
    assert len(truth.late_changes) >= 10
    one, other = (
        {name: drop_as_of(rows) for name, rows in tables.items() if name not in HISTORY}
        for tables in (late.notes["tables"], finished.notes["first"]["tables"])
    )
    assert compare(one, other) == {}


def test_late_run_quarantines_what_one_run_at_the_end_does(
    late: Scenario, finished: Scenario
) -> None:
    one, other = late.notes["tables"], finished.notes["first"]["tables"]
    assert set(other["lake.quarantine"]) <= set(one["lake.quarantine"])


def test_earlier_run_saw_the_earlier_world(late: Scenario) -> None:
    before, after = (len(late.notes[name]["main.cases"]) for name in ("first", "tables"))
    assert 0 < before < after


# the slow team and the surge ------------------------------------------------------------------


def test_slow_team_is_visible(con: duckdb.DuckDBPyConnection, truth: Truth) -> None:
    rows = ask(
        con,
        """
        select team = ?, sum(breached_count) / sum(met_count + breached_count)
        from sla_compliance where priority = 'normal' group by all
        """,
        truth.slow_team["team"],
    )
    missed: dict[bool, float] = dict(rows)
    assert missed[True] == pytest.approx(truth.slow_team["share_missed"], abs=0.05)
    assert missed[False] == pytest.approx(truth.slow_team["share_missed_others"], abs=0.05)
    assert missed[True] > 1.5 * missed[False]


def test_surge_is_visible(con: duckdb.DuckDBPyConnection, truth: Truth) -> None:
    surge = truth.surge
    rows = ask(
        con,
        """
        select created_date::varchar, sum(record_count) from volume
        where counted = 'feedback'
        and product in (select unnest(?::varchar[])) and feedback_type = 'complaint'
        group by all
        """,
        [surge["product"], *surge["product_names"]],
    )
    volume = {day: float(count) for day, count in rows}
    others = sorted(count for day, count in volume.items() if day != surge["day"])
    assert volume[surge["day"]] >= 0.7 * surge["count"]
    assert volume[surge["day"]] > others[-1]


def test_surge_is_an_alert_on_its_first_day(con: duckdb.DuckDBPyConnection, truth: Truth) -> None:
    rows = ask(
        con,
        """
        select surges.value, surges.k, surges.examples, feedback.product, feedback.feedback_type
        from surges, unnest(surges.examples) as told (feedback_id)
        join feedback using (feedback_id)
        where is_alert and counted = 'complaint' and created_date = ?::date
        """,
        truth.surge["day"],
    )
    names = {truth.surge["product"], *truth.surge["product_names"]}
    assert rows
    for value, count, examples, product, feedback_type in rows:
        assert value in names
        assert (product, feedback_type) == (value, "complaint")
        assert 5 <= count <= truth.surge["count"]
        assert len(examples) == 5


# the desk's own figures -----------------------------------------------------------------------


def test_differences_from_the_desks_figures_have_causes(
    con: duckdb.DuckDBPyConnection,
) -> None:
    """The desk of the demo keeps no hours, and tells what a case is held for at its last change."""
    rows = ask(con, "select clock, is_match, cause, count(*) from metric_parity group by all")
    assert {cause for *_, cause, _ in rows} == {None, "calendar_choice", "late_data"}
    assert all(count for *_, count in rows)
    calendar = {is_match: count for clock, is_match, _, count in rows if clock == "calendar"}
    assert calendar[True] > 100 * calendar.get(False, 0)
    figures = ask_one(con, "select count(*) from vendor_metrics join cases using (case_id)")
    assert sum(count for *_, count in rows) == figures


# who must be called ---------------------------------------------------------------------------


def list_task_cases(con: duckdb.DuckDBPyConnection, rule: str) -> set[str]:
    rows = ask(
        con,
        "select c.source_case_id from follow_up_tasks as t join cases as c using (case_id) "
        "where t.rule = ?",
        rule,
    )
    return {case for (case,) in rows}


def read_threshold(rule: str, name: str) -> float:
    """The default of a rule's threshold, as its yml says."""
    text = (world.ROOT / f"sql/models/follow_up/rule_{rule}.yml").read_text("utf-8")
    (model,) = yaml.safe_load(text)["models"]
    return float(model["config"]["meta"]["thresholds"][name])


def list_needy_cases(truth: Truth, rule: str) -> set[str]:
    if rule == "unanswered_complaint":
        return set(truth.unanswered_complaints)
    now = datetime.fromisoformat(truth.as_of)
    if rule == "first_reply_at_risk":
        first = now - timedelta(days=read_threshold(rule, "days_breached"))
        last = now + timedelta(hours=read_threshold(rule, "hours"))
        return {
            row["case_id"]
            for row in truth.at_risk + truth.breached
            if first <= datetime.fromisoformat(row["breach_at"]) <= last
        }
    since = now - timedelta(days=read_threshold(rule, "days"))  # what is older is old news
    return {
        row["case_id"]
        for row in truth.low_satisfaction + truth.low_survey_answers
        if datetime.fromisoformat(row["rated_at"]) >= since
    }


@pytest.mark.parametrize(
    "rule", ["first_reply_at_risk", "low_satisfaction_after_resolution", "unanswered_complaint"]
)
def test_cases_that_need_somebody_have_tasks_and_no_others(
    con: duckdb.DuckDBPyConnection, truth: Truth, rule: str
) -> None:
    planted, found = list_needy_cases(truth, rule), list_task_cases(con, rule)
    assert planted
    recall = len(found & planted) / len(planted)
    precision = len(found & planted) / max(len(found), 1)
    assert recall >= 0.8, f"missed: {sorted(planted - found)}"
    # Whether a text is a complaint is the model's word; the other two rules count and measure.
    least = 0.7 if rule == "unanswered_complaint" else 0.9
    assert precision >= least, f"for nothing: {sorted(found - planted)}"


def test_run_ends_with_the_demo(con: duckdb.DuckDBPyConnection, truth: Truth) -> None:
    as_of = ask_one(con, "select distinct as_of from cases")
    assert as_of.astimezone(UTC) == datetime.fromisoformat(truth.as_of)
    assert world.UNTIL.isoformat() == truth.until

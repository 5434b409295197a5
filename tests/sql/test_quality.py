"""Quality monitoring: spread, control charts, rankings, with figures worked out by hand."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import duckdb
import pytest
from mart_world import World

from pipelines.dbt_project import SQL_FOLDER

FIRST = date(2026, 3, 1)


def find_quality(world: World, measure: str, period: str, dimension: str = "channel") -> Any:
    (row,) = world.query(
        f"select * from quality_control where measure = '{measure}' and period = '{period}' "
        f"and clock = 'calendar' and dimension = '{dimension}' and member = 'api'"
    )
    return row


@pytest.mark.parametrize(
    ("period", "begins"), [("day", date(2026, 3, 13)), ("week", date(2026, 3, 9))]
)
def test_spread_of_satisfaction(golden: World, period: str, begins: date) -> None:
    # Ratings 5, 4, 3, 2, 1.
    row = find_quality(golden, "satisfaction", period)
    assert row["period_date"] == begins
    assert (row["value_count"], row["mean"], row["median"]) == (5, 3, 3)
    assert row["variance"] == pytest.approx(2.5)
    assert row["standard_deviation"] == pytest.approx(2.5**0.5)
    assert row["p90"] == pytest.approx(4.6)
    assert row["is_small_sample"] is False


def test_spread_of_resolutions(golden: World) -> None:
    # 10, 20, 30, 40, 50 and 30 minutes.
    row = find_quality(golden, "resolution", "day")
    assert (row["value_count"], row["mean"], row["median"]) == (6, 30, 30)
    assert row["variance"] == pytest.approx(200)
    assert row["p90"] == pytest.approx(45)


def test_score_of_a_review(golden: World) -> None:
    rows = golden.query("select review_id, review_score, is_passed from quality_reviews")
    scores = {row["review_id"]: (row["review_score"], row["is_passed"]) for row in rows}
    # tone 100 · 2, solution 50 · 1, spelling not rated
    assert scores.pop("weighted") == (pytest.approx(250 / 3), True)
    assert scores == {
        "failed": (0, False), "at the mark": (80, True), "half": (75, False),
        "nothing rated": (None, None), "without weight": (None, None), "of spam": (100, True),
        "deleted": (None, None),
    }  # fmt: skip


def test_score_of_a_category(golden: World) -> None:
    rows = golden.query(
        "select category, category_score, is_failed from quality_review_ratings "
        "where review_id in ('weighted', 'failed', 'half') order by all"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("privacy", 0, True), ("privacy", 50, False), ("solution", 50, None),
        ("spelling", None, None), ("tone", 100, None), ("tone", 100, None), ("tone", 100, None),
    ]  # fmt: skip


def test_reviews_are_a_mean_and_a_share(golden: World) -> None:
    mean, share = (
        golden.query(
            f"select sum(value_sum) as total, sum(value_count) as n, sum(numerator) as hits, "
            f"sum(denominator) as of_all, min(cohort_date) as first, max(cohort_date) as last "
            f"from metrics_daily where metric = '{metric}'"
        )[0]
        for metric in ("review_score", "review_pass")
    )
    assert (mean["total"], mean["n"]) == (pytest.approx(250 / 3 + 80 + 75), 4)
    assert (share["hits"], share["of_all"]) == (2, 4)
    assert {mean["first"], mean["last"]} == {date(2026, 3, 16)}


def test_reviews_that_do_not_count_have_a_reason(golden: World) -> None:
    rows = golden.query(
        "select record_id, left_out_reason from metric_records "
        "where metric = 'review_pass' and left_out_reason is not null order by all"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("deleted", "deleted"), ("nothing rated", "not_rated"), ("of spam", "spam"),
        ("without weight", "not_rated"),
    ]  # fmt: skip


def test_review_is_of_its_agent_else_of_the_agent_of_its_case(golden: World) -> None:
    rows = golden.query(
        "select record_id, agent_id, team, channel from metric_records "
        "where metric = 'review_score' and left_out_reason is null order by all"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("at the mark", "agent 7", None, None), ("failed", "agent 7", None, None),
        ("half", None, None, None), ("weighted", "agent 1", "Billing", "email"),
    ]  # fmt: skip
    (ranked,) = golden.query(
        "select numerator, denominator, value, is_small_sample from agent_ranking "
        "where metric = 'review_pass' and member = 'agent 7'"
    )
    assert tuple(ranked.values()) == (1, 2, 0.5, True)


def test_spread_and_charts_of_reviews(golden: World) -> None:
    (row,) = golden.query(
        "select value_count, mean, median from quality_control "
        "where measure = 'review' and period = 'week' and dimension = 'all'"
    )
    assert tuple(row.values()) == (4, pytest.approx((250 / 3 + 80 + 75) / 4), 77.5)
    charts = golden.query(
        "select chart, metric, statistic, value from control_charts "
        "where metric in ('review', 'review_pass') and dimension = 'all' order by all"
    )
    assert [tuple(row.values()) for row in charts] == [
        ("p", "review_pass", "share", 0.5),
        ("xmr", "review", "mean", pytest.approx((250 / 3 + 80 + 75) / 4)),
        ("xmr", "review", "median", 77.5),
    ]


def test_all_of_a_day_are_those_of_its_teams(golden: World) -> None:
    rows = golden.query(
        "select dimension, measure, clock, period, sum(value_count) as n from quality_control "
        "group by all order by measure, clock, period, dimension"
    )
    counts: dict[Any, set[int]] = {}
    for row in rows:
        counts.setdefault((row["measure"], row["clock"], row["period"]), set()).add(row["n"])
    assert counts
    assert all(len(found) == 1 for found in counts.values())


# control charts -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def charts(golden: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The views of the warehouse over series written by hand."""
    path = tmp_path_factory.mktemp("charts") / "hand.duckdb"
    shutil.copy(golden.home.build, path)
    with duckdb.connect(str(path)) as con:
        con.execute("delete from quality_control; delete from metrics_daily")
        yield con


def put_daily(con: Any, measure: str, values: list[float]) -> None:
    con.executemany(
        "insert into quality_control (measure, clock, period, period_date, dimension, member, "
        "value_count, mean, median) values (?, 'calendar', 'day', ?, 'team', ?, 9, ?, ?)",
        [(measure, FIRST + timedelta(days=at), measure, value, -value)
         for at, value in enumerate(values)],
    )  # fmt: skip


def put_shares(con: Any, team: str, shares: list[tuple[float, float]]) -> None:
    con.executemany(
        "insert into metrics_daily (metric, dialect, clock, cohort_date, team, numerator, "
        "denominator) values ('csat', 'house', 'calendar', ?, ?, ?, ?)",
        [(FIRST + timedelta(days=at), team, *share) for at, share in enumerate(shares)],
    )


def read_chart(con: Any, member: str, statistic: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = con.sql(
        f"select * from control_charts where member = '{member}' and dimension = 'team' "
        f"and statistic = '{statistic}' order by cohort_date"
    ).to_arrow_table().to_pylist()  # fmt: skip
    return found


def test_xmr_limits(charts: Any) -> None:
    # Ranges 2, 1, 2, 4: mean 2.25, over 1.128 is 1.994681.
    put_daily(charts, "resolution", [10, 12, 11, 13, 9])
    rows = read_chart(charts, "resolution", "mean")
    assert [row["moving_range"] for row in rows] == [None, 2, 1, 2, 4]
    assert rows[0]["centre_line"] == 11
    assert rows[0]["sigma"] == pytest.approx(1.994681, abs=1e-6)
    assert rows[0]["upper_limit"] == pytest.approx(16.984043, abs=1e-6)
    assert rows[0]["lower_limit"] == pytest.approx(5.015957, abs=1e-6)
    assert rows[0]["moving_range_limit"] == pytest.approx(3.267 * 2.25)
    assert [row["rule"] for row in rows] == [None] * 5
    assert rows[0]["is_provisional"] is True
    median = read_chart(charts, "resolution", "median")
    assert median[0]["centre_line"] == -11
    assert median[0]["lower_limit"] == 0  # durations have no less


def test_point_beyond_three_sigma(charts: Any) -> None:
    put_daily(charts, "first_reply", [10] * 9 + [40])
    rows = read_chart(charts, "first_reply", "mean")
    assert rows[-1]["deviation"] == pytest.approx(27 / (30 / 9 / 1.128))
    assert (rows[-1]["rule"], rows[-1]["side"]) == (1, "high")


def test_p_chart_limits_follow_the_size_of_the_day(charts: Any) -> None:
    # 60 of 100 in all: sigma is sqrt(0.24 / n).
    put_shares(charts, "limits", [(10, 20), (20, 20), (30, 60)])
    rows = read_chart(charts, "limits", "share")
    assert [row["centre_line"] for row in rows] == pytest.approx([0.6] * 3)
    assert rows[0]["sigma"] == pytest.approx((0.24 / 20) ** 0.5)
    assert rows[2]["sigma"] == pytest.approx((0.24 / 60) ** 0.5)
    assert rows[2]["upper_limit"] == pytest.approx(0.6 + 3 * (0.24 / 60) ** 0.5)
    assert rows[1]["rule"] == 1  # 0.4 above the centre, 3.65 sigma
    assert rows[0]["upper_limit"] == pytest.approx(0.928634, abs=1e-6)


def test_limit_of_a_share_is_no_more_than_all(charts: Any) -> None:
    put_shares(charts, "few", [(5, 10), (5, 10), (10, 10)])
    assert read_chart(charts, "few", "share")[0]["upper_limit"] == 1


def test_day_without_variation_has_no_rule(charts: Any) -> None:
    put_daily(charts, "satisfaction", [4, 4, 4, 4, 4, 4, 4, 4, 4])
    rows = read_chart(charts, "satisfaction", "mean")
    assert {(row["rule"], row["deviation"]) for row in rows} == {(None, None)}


# rankings -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three agents: 40 of 40, 36 of 40 and 8 of 40 answers satisfied; a fourth with one answer."""
    world = World(tmp_path_factory.mktemp("ranked"))
    agents = {"ann": (40, 40), "bob": (36, 40), "cem": (8, 40), "dee": (1, 1)}
    for agent, (good, size) in agents.items():
        world.put("agents", agent, agent_ref=agent, source="support", source_agent_id=agent,
                  display_name=agent.title(), role="agent")  # fmt: skip
        for number in range(size):
            name = f"{agent} {number}"
            world.add_case(name, "10 02:00", status="solved", assignee_ref=agent)
            world.add_status(name, f"10 03:{number:02}", "new", "solved")
            score = 5 if number < good else 1
            world.add_answer(name, "11 02:00", "csat", score, case_id=name)
    world.commit()
    world.build()
    return world


def test_agents_are_ranked_and_those_alike_are_named(ranked: World) -> None:
    rows = ranked.query(
        "select * from agent_ranking where dimension = 'agent' and metric = 'csat' "
        "order by place, member"
    )
    assert [(row["place"], row["member"], row["display_name"]) for row in rows] == [
        (1, "ann", "Ann"), (1, "dee", "Dee"), (3, "bob", "Bob"), (4, "cem", "Cem"),
    ]  # fmt: skip
    found = {row["member"]: row for row in rows}
    # Wilson: 40/40 [0.912, 1], 36/40 [0.769, 0.960], 8/40 [0.105, 0.348], 1/1 [0.207, 1].
    assert found["bob"]["ci_low"] == pytest.approx(0.7695, abs=1e-4)
    assert found["ann"]["indistinct_from"] == ["dee", "bob"]
    assert found["cem"]["indistinct_from"] == ["dee"]
    assert found["dee"]["is_small_sample"] is True
    assert [found[name]["is_like_best"] for name in ("ann", "bob", "cem", "dee")] == [
        True, True, True, True,
    ]  # fmt: skip


def test_shorter_is_better(ranked: World) -> None:
    rows = ranked.query(
        "select place, member, value from agent_ranking where dimension = 'agent' "
        "and metric = 'full_resolution' and clock = 'calendar' order by place, member"
    )
    assert [(row["place"], row["member"], row["value"]) for row in rows] == [
        (1, "dee", 60), (2, "ann", 79.5), (2, "bob", 79.5), (2, "cem", 79.5),
    ]  # fmt: skip


# intervals ------------------------------------------------------------------------------------


def test_wilson_interval_is_that_of_scipy(golden: World) -> None:
    from scipy.stats import binomtest

    rows = golden.query(
        "select numerator, denominator, ci_low, ci_high from metrics_daily "
        "where denominator is not null and metric <> 'nps'"
    )
    assert len(rows) > 50
    for row in rows:
        exact = binomtest(int(row["numerator"]), int(row["denominator"])).proportion_ci(
            method="wilson"
        )
        assert row["ci_low"] == pytest.approx(exact.low, abs=1e-9)
        assert row["ci_high"] == pytest.approx(exact.high, abs=1e-9)


def test_quantile_of_student_is_that_of_scipy() -> None:
    import numpy as np
    from jinja2 import Environment
    from scipy.stats import t

    text = (SQL_FOLDER / "macros" / "statistics.sql").read_text(encoding="utf-8")
    call = Environment().from_string(text + "{{ student_quantile('n') }}").render()
    with duckdb.connect() as con:
        rows = con.sql(f"select n, {call} from range(1, 2000) r(n)").fetchall()
    sizes, found = np.array(rows).T
    assert np.allclose(found, t.ppf(0.975, sizes), rtol=1e-4)

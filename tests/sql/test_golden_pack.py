"""Every answer of the golden pack, through the real models, in every dialect."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
import yaml
from golden_pack import (
    DIALECTS,
    FOLDER,
    Answers,
    Case,
    Told,
    find_metrics,
    make_world,
    read_instant,
    read_topics,
)
from mart_world import World

from pipelines.dbt_project import SQL_FOLDER

TOPICS = read_topics()
CASES = [case for topic in TOPICS for case in topic.cases]
GROUPS = [group for topic in TOPICS for group in topic.groups]
NOT_COMPONENTS = {
    "metric",
    "dialect",
    "clock",
    "counted",
    "cohort_date",
    "exclusion_reason",
    "rows",
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module")
def rows(pack: World) -> dict[str, Answers]:
    return {row["case_id"]: row for row in pack.query("select * from cases")}


def agrees(found: Any, wanted: Any, tolerance: float = 1e-6) -> bool:
    if isinstance(found, datetime) and wanted is not None:
        return bool(found == read_instant(wanted))
    if isinstance(found, float) and wanted is not None:
        return bool(found == pytest.approx(wanted, abs=tolerance))
    return bool(found == wanted)


def list_differences(found: Answers, wanted: Answers, tolerance: float = 1e-6) -> list[str]:
    return [
        f"{name}: {found[name]} and not {value}"
        for name, value in wanted.items()
        if not agrees(found[name], value, tolerance)
    ]


def test_the_pack_is_large_enough() -> None:
    assert len(CASES) + len(GROUPS) >= 60
    ids = [entry.id for entry in (*CASES, *GROUPS)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(rows: dict[str, Answers], case: Case) -> None:
    found = rows[case.id]
    assert list_differences(found, case.house) == []
    for dialect in DIALECTS:
        read = {name: found.get(f"{name}_{dialect}", found[name]) for name in case.house}
        assert list_differences(read, case.answers(dialect)) == [], dialect


@pytest.mark.parametrize("case", [case for case in CASES if case.sla], ids=lambda case: case.id)
def test_service_level(pack: World, case: Case) -> None:
    found = pack.query(
        f"select * from sla_events where case_id = '{case.id}' and metric = 'first_reply'"
    )
    assert len(found) == 1
    assert list_differences(found[0], case.sla or {}) == []


@pytest.mark.parametrize("case", [case for case in CASES if case.theirs], ids=lambda case: case.id)
def test_parity(pack: World, case: Case) -> None:
    rows = pack.query(f"select * from metric_parity where case_id = '{case.id}'")
    found = {(row["metric"], row["clock"]): row for row in rows}
    assert len(rows) == len(case.theirs)
    for figure in case.theirs:
        row = found[figure.metric, figure.clock]
        assert (row["is_match"], row["cause"]) == (figure.cause is None, figure.cause), row
        assert row["theirs"] == figure.value
        if figure.reading:
            assert row["reading"] == figure.reading


def test_every_cause_is_in_the_pack(pack: World) -> None:
    model = yaml.safe_load((SQL_FOLDER / "models/marts/metric_parity.yml").read_text("utf-8"))
    columns = {column["name"]: column for column in model["models"][0]["columns"]}
    listed = columns["cause"]["data_tests"][0]["accepted_values"]["arguments"]["values"]
    rows = pack.query("select distinct cause from metric_parity where cause is not null")
    assert {row["cause"] for row in rows} == set(listed)


@pytest.mark.parametrize(
    "entry", [entry for entry in (*CASES, *GROUPS) if entry.metrics], ids=lambda entry: entry.id
)
def test_metrics(pack: World, entry: Any) -> None:
    for wanted in entry.metrics:
        found = find_metrics(pack, entry.id, wanted)
        assert len(found) == wanted.get("rows", 1), wanted
        if found:
            components = {key: wanted[key] for key in wanted if key not in NOT_COMPONENTS}
            bounds = {key: components.pop(key) for key in ("ci_low", "ci_high") & wanted.keys()}
            assert list_differences(found[0], components) == []
            # With as many digits as a hand works out.
            tolerance = 5e-3 if wanted["metric"] == "nps" else 5e-4
            assert list_differences(found[0], bounds, tolerance) == []


def test_a_wrong_answer_is_noticed(rows: dict[str, Answers]) -> None:
    found = rows["reply-over-lunch"]
    assert list_differences(found, {"first_reply_business_minutes": 61}) != []
    assert list_differences(found, {"first_reply_business_minutes": None}) != []
    assert list_differences(rows["never-replied"], {"first_reply_minutes": 0}) != []


def test_every_dialect_and_both_clocks_are_told_apart() -> None:
    for dialect in DIALECTS:
        assert any(getattr(case, dialect) for case in CASES), dialect
    assert any("_business_minutes" in name for case in CASES for name in case.house)


def test_every_entry_says_it_in_both_languages() -> None:
    entries: list[Told] = [*CASES, *GROUPS]
    for entry in entries:
        assert any("\u4e00" <= letter <= "\u9fff" for letter in entry.says_zh), entry.says
    for name in ("README.md", "README.zh.md"):
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert all(f"`{path.name}`" in text for path in FOLDER.glob("*.yaml")), name

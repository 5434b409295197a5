"""The bench of the sources measures what it says: clones are apart, pulls are whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.sources import MODULES
from tests.bench.source_bench import ROOT, find_unmeasured
from tests.bench.source_clones import Cloner, Shape
from tests.bench.source_faults import (
    FAULTS,
    NAMED,
    find_faults,
    find_reason,
    find_tests,
    render_table,
)
from tests.bench.source_server import VENDORS, load
from tests.bench.source_stocks import STOCKS
from tests.pipelines.sources.discourse import server as discourse_server
from tests.pipelines.sources.pulling import make_source, pull_all

STEMS = sorted(set(MODULES.values()))


def test_clones_have_ids_and_times_of_their_own_and_keep_their_links() -> None:
    shape = Shape({"tickets": "id", "ticket_events": "id"}, ("ticket_id",))
    cloner = Cloner(load("zendesk"), shape)
    made = cloner.clone(5 * cloner.count())
    tickets, events = made["tickets"], made["ticket_events"]
    ids = {row["id"] for row in tickets}
    assert len(tickets) == len(ids) == 5 * len(load("zendesk")["tickets"])
    assert {row["ticket_id"] for row in events} <= ids
    assert len({row["ticket_id"] for row in events}) >= 5
    assert len({row["updated_at"] for row in tickets}) >= 5
    assert made["groups"] == load("zendesk")["groups"]


def test_two_kinds_are_measured(tmp_path: Path) -> None:
    output = tmp_path / "sources.json"
    command = [sys.executable, "-m", "tests.bench.source_bench", "--rows", "50", "100"]
    done = subprocess.run(
        [*command, "--kinds", "freshdesk", "brevo", "--output", str(output)],
        cwd=ROOT,
        env={**os.environ, "HEARBACK_BENCH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(output.read_text("utf-8"))
    desk, audience = told["kinds"]
    assert "| freshdesk |" in done.stdout
    for result, least in ((desk, 20), (audience, 1)):
        small, large = result["pulls"]
        assert small["records"] < large["records"] <= 110
        assert small["mb"] > 0
        assert small["requests"] >= least
    assert desk["pulls"][1]["entities"]["tickets"] > desk["pulls"][0]["entities"]["tickets"]
    assert desk["pulls"][1]["violations"] == []


def test_no_kind_is_left_out() -> None:
    assert find_unmeasured() == []


@pytest.mark.parametrize(
    ("name", "entity", "records"),
    [
        ("surveymonkey", "responses", 300),
        ("typeform", "responses", 300),
        ("rss", "entries", 300),
        ("imap", "messages", 300),
        ("mongodb", "feedback", 300),
        ("redis", "feedback", 300),
        ("web_reviews", "reviews", 40),
    ],
)
def test_a_big_server_gives_all_that_it_holds(
    name: str, entity: str, records: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = VENDORS[name]
    server = vendor.serve(records)
    try:
        secrets = json.dumps(vendor.secrets).replace("{url}", server.url)
        monkeypatch.setenv("AIRFLOW_CONN_DESK", secrets)
        found, _ = pull_all(make_source(vendor.kind, server.url, **vendor.more()), tmp_path)
    finally:
        server.close()
    assert len(found[entity]) == records
    assert server.violations == []


@pytest.mark.parametrize(
    ("name", "lists"), [("discourse", ("posts", "topics")), ("github_issues", ("comments",))]
)
def test_a_big_server_pages_as_the_tests_own_does(
    name: str, lists: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = VENDORS[name]
    server = vendor.serve(400)
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(vendor.secrets))
    source = make_source(vendor.kind, server.url, **vendor.more())
    found, _ = pull_all(source, tmp_path)
    own = type(server).__bases__[0](server.data)  # type: ignore[attr-defined]
    monkeypatch.setattr(discourse_server, "PAGE", 50)
    again, _ = pull_all(source.model_copy(update={"base_url": own.url}), tmp_path)
    server.close()
    own.close()
    assert {entity: set(sent) for entity, sent in found.items()} == {
        entity: set(sent) for entity, sent in again.items()
    }
    assert all(len(found[entity]) > 50 for entity in lists)


@pytest.mark.parametrize("name", ["excel", "calls", "webhook", "play_store", "parquet"])
def test_a_stock_holds_the_records_of_its_lines(name: str, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    rows = [
        {"id": f"r-{n}", "text": f"水壶 {n}", "created": "2026-11-01", "stars": 4, "user": f"u{n}",
         "product": "Kettle"}
        for n in range(90)
    ]  # fmt: skip
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    stock = STOCKS[name]
    folder = tmp_path / "stock"
    folder.mkdir()
    stock.write(lines, folder)
    source = make_source(stock.kind, connection=None, options=stock.options)
    found, _ = pull_all(source, folder)
    assert max(len(sent) for sent in found.values()) == 90


def test_faults_are_read_from_tests() -> None:
    assert set(find_faults("zendesk")) == set(FAULTS)
    tests_of_rows = find_faults("sql")["5xx"]  # 500 rows are no answer
    assert tests_of_rows == ["test_postgres_that_goes_away_while_rows_are_read"]


@pytest.mark.parametrize("stem", STEMS)
def test_every_fault_is_tested_or_cannot_occur(stem: str) -> None:
    found = find_faults(stem)
    assert {fault for fault in FAULTS if not find_reason(stem, fault)} == set(found)
    tests = {test.name for test in find_tests(stem)}
    assert set(NAMED.get(stem, {}).values()) <= tests


def test_contributors_read_which_faults_cannot_occur() -> None:
    assert render_table() in (ROOT / "CONTRIBUTING.md").read_text("utf-8")

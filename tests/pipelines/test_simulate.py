"""The time machine: other targets and hours over the same history, case by case."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "sql"))

from mart_world import World, at

from pipelines import simulate
from pipelines.errors import UsageError
from pipelines.simulate import Question, list_changed_tables, read_scenario

STRICTER = """
[[sla_policies]]
name = "chat"
when = { channel = ["chat"] }
clock = "calendar"
first_reply = { normal = 10 }
[[sla_policies]]
name = "standard"
first_reply = { normal = 300 }
"""
# From 17:00 in Shanghai nobody is there; the reply of the next morning comes earlier then.
SHORTER = """
[[calendars]]
name = "china"
time_zone = "Asia/Shanghai"
hours = { monday = ["09:00-12:00"], tuesday = ["11:00-12:00"] }
[[calendars]]
name = "berlin"
time_zone = "Europe/Berlin"
hours = { monday = ["09:00-12:00", "13:30-18:00"], tuesday = ["09:00-12:00"] }
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three cases of which two would be judged otherwise; no build file is there."""
    world = World(tmp_path_factory.mktemp("history"))
    # Answered after 20 minutes of 30.
    world.add_case("quick chat", "02 02:00", channel="chat", status="pending")
    world.add_event("quick chat", "02 02:20", "agent_reply")
    # 10:00 to 16:00 in Shanghai: 270 business minutes of 240.
    world.add_case("slow mail", "02 02:00", status="pending")
    world.add_event("slow mail", "02 08:00", "agent_reply")
    # 10:00 to the next day's 12:00: 480 + 180, late under either.
    world.add_case("slower mail", "02 02:00", status="pending", source_group="eu")
    world.add_event("slower mail", "04 04:00", "agent_reply")
    world.commit()
    (world.home.root / "stricter.toml").write_text(STRICTER)
    (world.home.root / "shorter.toml").write_text(SHORTER)
    return world


def run(world: World, name: str, **changes: Any) -> tuple[str, list[str]]:
    out = io.StringIO()
    path = world.home.root / name
    which = "calendar" if name == "shorter.toml" else "policies"
    said = simulate.simulate(world.settings, Question(**{which: path}, **changes), out)
    return out.getvalue(), said


def test_figures_by_team_and_need_and_the_cases_behind_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[list[str]] = []
    ask_dbt = simulate.invoke_dbt

    def watch(home: Any, arguments: list[str]) -> Any:
        result, manifest = ask_dbt(home, arguments)
        built.append(sorted(found.node.name for found in result.results))
        return result, manifest

    monkeypatch.setattr(simulate, "invoke_dbt", watch)
    text, said = run(world, "stricter.toml", form="csv", shows_cases=True)
    rows = {row["case_id"]: row for row in csv.DictReader(io.StringIO(text))}
    assert {name: row["change"] for name, row in rows.items()} == {
        "quick chat": "appears", "slow mail": "vanishes"
    }  # fmt: skip
    chat, mail = rows["quick chat"], rows["slow mail"]
    assert (chat["breach_at"], chat["team"], chat["need"]) == ("", "Billing", "technical")
    assert chat["breach_at_simulated"].startswith("2026-03-02 10:10")
    assert (mail["target_minutes"], mail["target_minutes_simulated"]) == ("240.0", "300.0")
    assert said == ["2 breaches as it is, 2 as simulated: 1 appear, 1 vanish. --cases lists them."]
    # Other policies touch nothing above them.
    assert "int_case_statuses" in built[0]
    assert built[1] == ["int_sla_applications", "int_sla_clocks", "sla_events"]
    # Nothing is left, and the build file of the runs was never made.
    assert not world.home.build.exists()
    assert list(world.home.state.glob("simulate-*")) == []


def test_other_hours_by_team(world: World) -> None:
    text, said = run(world, "shorter.toml", form="json", language="zh")
    rows = [json.loads(line) for line in text.splitlines()]
    # In Shanghai 10:00 to 12:00 is 120 of 240 now.
    assert [(row["team"], row["breaches"], row["appear"], row["vanish"]) for row in rows] == [
        ("Billing", 1, 0, 1), ("Europe", 1, 0, 0)
    ]  # fmt: skip
    assert said == ["现有违约 2 次，模拟后 1 次：新增 0 次，消失 1 次。用 --cases 列出工单。"]


def test_days_and_headings(world: World) -> None:
    day = at("03 00:00").date()
    text, _ = run(world, "stricter.toml", first=day, language="zh")
    assert "团队" in text
    assert "Europe" not in text  # its breach is of the 2nd
    assert "Billing" not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[project]\nhome = "x"\n', "'project' cannot be simulated"),
        ("[[sla_policy]]\n", "did you mean 'sla_policies'"),
        ("", "holds none of [[sla_policies]]"),
        ("[[", "not valid TOML"),
        ('[[sla_policies]]\nname = "p"\nfirst_replies = 3\n', "other.toml:3: unknown key"),
        ('[[teams]]\nname = "t"\ncalendar = "chna"\n', "did you mean 'china'"),
    ],
)
def test_wrong_file_is_told_in_one_line(world: World, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "other.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_scenario(world.settings, [path])
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_nothing_to_simulate_and_days_turned_round(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give --policies FILE"):
        simulate.simulate(world.settings, Question(), io.StringIO())
    days = {"first": at("03 00:00").date(), "last": at("02 00:00").date()}
    with pytest.raises(UsageError, match="lies after"):
        simulate.simulate(world.settings, Question(policies=tmp_path, **days), io.StringIO())


def test_only_tables_that_differ_are_named(world: World) -> None:
    root = world.home.root
    policies = read_scenario(world.settings, [root / "stricter.toml"])
    assert list_changed_tables(world.settings, policies) == ["sla_targets"]
    hours = read_scenario(world.settings, [root / "shorter.toml"])
    assert set(list_changed_tables(world.settings, hours)) == {
        "calendar_intervals", "calendar_slots", "calendar_versions"
    }  # fmt: skip
    assert list_changed_tables(world.settings, world.settings) == []

"""A month of the work calendars as it is shown, and what is told beside it."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipelines.calendar_page import show_calendars
from pipelines.cli import execute
from pipelines.settings import Calendar, Settings
from pipelines.special_days import list_warnings

DAY = ["09:00-12:00", "13:30-18:00"]
WEEK = dict.fromkeys(("monday", "tuesday", "wednesday", "thursday", "friday"), DAY)
OCTOBER = date(2026, 10, 1)
CHINA = {
    "name": "office", "time_zone": "Asia/Shanghai", "country": "CN", "make_up_days": True,
    "hours": WEEK, "closed": [date(2026, 10, 9), date(2026, 10, 10)], "open": [date(2026, 10, 7)],
}  # fmt: skip
BERLIN = {
    "name": "berlin", "time_zone": "Europe/Berlin", "country": "DE-BY",
    "hours": {"sunday": ["00:00-24:00"], "monday": ["09:00-17:00"]},
}  # fmt: skip
LATER = {**BERLIN, "hours": {"monday": ["09:00-12:00"]}, "valid_from": date(2026, 10, 26)}


def show(*calendars: dict[str, Any], form: str = "json", **choice: Any) -> tuple[str, list[str]]:
    settings = Settings.model_validate({"calendars": list(calendars)})
    out = io.StringIO()
    notes = show_calendars(
        settings, choice.get("month", OCTOBER), choice.get("name"), out,
        form=form, language=choice.get("language", "en"),
    )  # fmt: skip
    return out.getvalue(), notes


def read_days(*calendars: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    rows = [json.loads(line) for line in show(*calendars)[0].splitlines()]
    return {(row["calendar"], row["date"]): row for row in rows}


@pytest.fixture(scope="module")
def days() -> dict[tuple[str, str], dict[str, Any]]:
    return read_days(CHINA, BERLIN, LATER)


def test_every_day_of_the_month_stands_once_a_calendar(days: dict[Any, Any]) -> None:
    assert len(days) == 62


def test_holiday_has_both_names_and_the_library_that_knows_it(days: dict[Any, Any]) -> None:
    day = days["office", "2026-10-01"]
    assert (day["mark"], day["intervals"], day["open_minutes"]) == ("holiday", [], 0)
    assert (day["name"], day["name_zh"]) == ("National Day", "国庆节")
    assert day["origin"].startswith("chinesecalendar 1.")
    assert day["origin"].endswith(", CN")


def test_make_up_workday_has_the_hours_of_a_monday() -> None:
    day = read_days({**CHINA, "closed": []})["office", "2026-10-10"]
    assert (day["mark"], day["weekday"], day["intervals"]) == ("make_up", "saturday", DAY)
    assert day["name_zh"] == "国庆节调休上班"


def test_own_lines_name_the_key_and_what_they_overrule(days: dict[Any, Any]) -> None:
    own_free, worked = days["office", "2026-10-09"], days["office", "2026-10-07"]
    assert own_free["origin"] == "hearback.toml: 'closed' of calendar 'office'"
    assert (worked["mark"], worked["open_minutes"]) == ("open", 450)
    assert "overrules National Day (chinesecalendar" in worked["origin"]


def test_holiday_of_a_part_of_a_country() -> None:
    row = read_days(BERLIN)["berlin", "2026-10-03"]
    assert (row["name"], row["origin"].split(", ")[1]) == ("German Unity Day", "DE-BY")
    corpus = show(BERLIN, month=date(2026, 6, 1))[0]
    assert "Corpus Christi" in corpus


def test_day_on_which_clocks_go_back_has_an_hour_more(days: dict[Any, Any]) -> None:
    day = days["berlin", "2026-10-25"]
    assert (day["clock_change_minutes"], day["open_minutes"]) == (-60, 1500)


def test_new_version_is_marked_and_holds_from_its_day(days: dict[Any, Any]) -> None:
    before, after = days["berlin", "2026-10-19"], days["berlin", "2026-10-26"]
    assert (before["open_minutes"], after["open_minutes"]) == (480, 180)
    assert (before["valid_from"], after["valid_from"]) == (None, "2026-10-26")
    assert (before["starts_version"], after["starts_version"]) == (False, True)


def test_table_is_read_by_people_in_two_languages() -> None:
    english, notes = show(CHINA, form="table")
    assert "office · 2026-10 · Asia/Shanghai" in english
    assert "2026-10-01 Thu  holiday: National Day · 国庆节  (chinesecalendar" in english
    assert "10 own free day" in english
    assert "09:00-12:00" in english
    # 12th to 16th, 19th to 23rd, 26th to 30th, the 8th, and the own working day.
    assert "open on 17 days, 127.5 hours" in english
    assert notes == []
    chinese, _ = show(CHINA, form="table", language="zh")
    assert "2026-10-01 周四  节假日: National Day · 国庆节" in chinese
    assert "上班 17 天，共 127.5 小时" in chinese


def test_csv_has_the_same_rows() -> None:
    rows = list(csv.DictReader(io.StringIO(show(CHINA, form="csv")[0])))
    assert [row["intervals"] for row in rows[6:8]] == [" ".join(DAY)] * 2
    assert (rows[0]["mark"], rows[0]["starts_version"]) == ("holiday", "false")


@pytest.mark.parametrize(
    ("changes", "month", "note"),
    [
        ({}, date(2027, 2, 1), "are known until 2026-12-31 (chinesecalendar"),
        ({"closed": [date(2026, 10, 2)]}, OCTOBER, "closed 2026-10-02 is a holiday already"),
        ({"country": "US"}, OCTOBER, "make_up_days are China's, and country is 'US'"),
        ({"country": "US", "make_up_days": False}, date(2150, 1, 1), "US are known from 1777 to"),
    ],
)
def test_what_is_not_known_or_has_no_effect_is_told(
    changes: dict[str, Any], month: date, note: str
) -> None:
    _, notes = show({**CHINA, **changes}, month=month)
    assert any(note in line for line in notes), notes


def test_version_that_has_ended_tells_nothing_of_later_years() -> None:
    old = Calendar(name="c", time_zone="UTC", country="CN", hours=WEEK)
    new = Calendar(name="c", time_zone="UTC", hours=WEEK, valid_from=date(2026, 12, 1))
    assert list_warnings([old, new], date(2026, 1, 1), date(2027, 12, 31)) == []
    assert len(list_warnings([old], date(2026, 1, 1), date(2027, 12, 31))) == 1


def test_command_prints_notes_beside_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "hearback.toml"
    config.write_text(
        '[[calendars]]\nname = "office"\ntime_zone = "UTC"\ncountry = "CN"\n'
        'hours = { monday = ["09:00-10:00"] }\n',
        encoding="utf-8",
    )
    given = ["calendar", "show", "--config", str(config), "--month", "2027-01", "--output", "csv"]
    assert execute(given) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 32
    assert "known until 2026-12-31" in err
    assert execute([*given, "--calendar", "offise"]) == 2
    assert "there is no calendar 'offise', did you mean 'office'?" in capsys.readouterr().err

"""hearback.toml: every fault names the file, the line or key, and the nearest right key."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.settings import load_settings, parse_span


def load(tmp_path: Path, text: str):
    path = tmp_path / "hearback.toml"
    path.write_text(text, "utf-8")
    return load_settings(path)


WRONG = [
    ('[project]\ntime_zon = "UTC"\n', r"hearback\.toml:2: unknown key 'project\.time_zon', did you mean 'time_zone'"),  # noqa: E501
    ('[projekt]\nhome = "x"\n', r"hearback\.toml:1: unknown key 'projekt', did you mean 'project'"),
    ('[project]\ntime_zone = "Asia/Shanghia"\n', r":2: .*not an IANA time zone; did you mean 'Asia/Shanghai'"),  # noqa: E501
    ('[[sources]]\nname = "a"\n', r"'sources\.0\.kind' is required and missing"),
    ('[[sources]]\nname = "A b"\nkind = "csv"\n', r":2: sources\.0\.name: .*\(got 'A b'\)"),
    ('[[sources]]\nname = "a"\nkind = "csv"\n\n[[sources]]\nname = "a"\nkind = "csv"\n', "source 'a' is defined twice"),  # noqa: E501
    ('[project]\nhome = "data\n', "not valid TOML"),
    ('[[calendars]]\nname = "cn"\ntime_zone = "UTC"\nhours = { monday = ["09:00-12:00", "11:00-13:00"] }\n', "hearback.toml:4: calendars.0.hours: monday: intervals overlap or are out of order: '09:00-12:00' and '11:00-13:00'"),  # noqa: E501
    ('[[calendars]]\nname = "cn"\ntime_zone = "UTC"\nhours = { monday = ["22:00-06:00"] }\n', "goes over midnight, which an interval may not; write \"22:00-24:00\" there and \"00:00-06:00\" on the next day"),  # noqa: E501
    ('[[calendars]]\nname = "cn"\ntime_zone = "Asia/Shangai"\n', "hearback.toml:3: calendars.0.time_zone: 'Asia/Shangai' is not an IANA time zone; did you mean 'Asia/Shanghai'?"),  # noqa: E501
    ('[[calendars]]\nname = "cn"\ntime_zone = "UTC"\nclosed = [2026-10-01, 2026-10-02, 2026-10-01]\n', "hearback.toml:4: calendars.0.closed: 2026-10-01 is listed twice"),  # noqa: E501
    ('[[calendars]]\nname = "cn"\ntime_zone = "UTC"\nclosed = [2026-10-01]\nopen = [2026-10-01]\n', "2026-10-01 is listed under 'closed' and under 'open'"),  # noqa: E501
    ('[[calendars]]\nname = "cn"\ntime_zone = "UTC"\nmake_up_hours = "mon"\n', "'mon' is not a weekday"),  # noqa: E501
    ('[[calendars]]\nname = "cn"\ntime_zone = "UTC"\nmake_up_days = true\nhours = { friday = ["09:00-12:00"] }\n', "make-up workdays take the hours of monday, which has none"),  # noqa: E501
    ('[[calendars]]\nname = "cn"\ntime_zone = "UTC"\nhours = { monday = ["09:00-12:00"] }\nvalid_from = 2026-01-01\n[[calendars]]\nname = "cn"\ntime_zone = "UTC"\nvalid_from = 2026-01-01\n', "hearback.toml:9: calendars.1.valid_from: calendar 'cn' has two versions with valid_from 2026-01-01"),  # noqa: E501
    ('[[calendars]]\nname = "us"\ntime_zone = "UTC"\nhours = { monday = ["09:00-12:00"] }\n[[calendars]]\nname = "cn"\ntime_zone = "UTC"\n', "hearback.toml:6: calendars.1.name: calendar 'cn' is never open"),  # noqa: E501
    ('[[calendars]]\nname = "cn"\ntime_zone = "UTC"\nhours = { montag = ["09:00-12:00"] }\n', "'montag' is not a weekday"),  # noqa: E501
    ('[[sla_policies]]\nname = "p"\nfirst_reply = { hihg = 60 }\n', "hearback.toml:3: sla_policies.0.first_reply.hihg: 'hihg' is not known, did you mean 'high'\\?; use urgent, high, normal, low"),  # noqa: E501
    ('[[sla_policies]]\nname = "p"\nfirst_reply = 0\n', "greater than 0"),
    ('[[sla_policies]]\nname = "p"\nnext_replies = 60\n', "did you mean 'next_reply'"),
    ('[[teams]]\nname = "Billing"\n[[sla_policies]]\nname = "p"\nwhen = { team = ["Biling"] }\nfirst_reply = 60\n', "hearback.toml:5: sla_policies.0.when.team: team 'Biling' is not defined, did you mean 'Billing'\\?; teams are: Billing"),  # noqa: E501
    ('[[teams]]\nname = "t"\ncalendar = "chna"\n[[calendars]]\nname = "china"\ntime_zone = "UTC"\n', "calendar 'chna' is not defined, did you mean 'china'"),  # noqa: E501
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_fault_is_told_in_one_line(tmp_path: Path, text: str, message: str):
    with pytest.raises(UsageError, match=message) as caught:
        load(tmp_path, text)
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2


def test_second_source_is_found_by_its_line(tmp_path: Path):
    text = '[[sources]]\nname = "a"\nkind = "csv"\n\n[[sources]]\nname = "b"\nkindd = "csv"\n'
    with pytest.raises(UsageError, match=r"hearback\.toml:7: unknown key 'sources\.1\.kindd'"):
        load(tmp_path, text)


def test_missing_file_says_what_to_run(tmp_path: Path):
    with pytest.raises(UsageError, match="run 'hearback init'"):
        load_settings(tmp_path / "none.toml")


def test_file_that_is_not_utf8(tmp_path: Path):
    path = tmp_path / "hearback.toml"
    path.write_bytes("[project]\nhome = '数据'\n".encode("gb18030"))
    with pytest.raises(UsageError, match="not UTF-8"):
        load_settings(path)


def test_home_is_relative_to_the_file(tmp_path: Path):
    assert load(tmp_path, '[project]\nhome = "x"\n').home == tmp_path / "x"


def test_unknown_source_names_the_nearest(tmp_path: Path):
    settings = load(tmp_path, '[[sources]]\nname = "reviews"\nkind = "csv"\n')
    with pytest.raises(UsageError, match="did you mean 'reviews'"):
        settings.source("review")


@pytest.mark.parametrize("span", ["9-12", "12:00-09:00", "09:00-24:30", "09:60-10:00", ""])
def test_wrong_interval(span: str):
    with pytest.raises(ValueError, match=r"interval|begin before"):
        parse_span(span)


def test_interval_may_end_at_midnight():
    assert parse_span("18:00-24:00") == (1080, 1440)

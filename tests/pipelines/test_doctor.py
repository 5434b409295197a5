"""What would make a run fail is found before the run."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.doctor import Finding, examine
from tests.pipelines.sources.brevo.server import KEY, Brevo
from tests.pipelines.sources.vendor_server import Answer

HEALTHY = """
[project]
calendar = "office"
[[sources]]
name = "shop"
kind = "csv"
options = { path = "shop.csv", columns = { source_record_id = "id", body = "text" } }
[[calendars]]
name = "office"
time_zone = "Asia/Shanghai"
country = "CN"
[calendars.hours]
monday = ["09:00-12:00"]
"""


def faults(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "hearback.toml"
    path.write_text(text, encoding="utf-8")
    (tmp_path / "shop.csv").write_text("id,text\n1,good\n", encoding="utf-8")
    return [finding.text for finding in examine(path) if not finding.is_ok]


def test_a_healthy_project_has_no_fault(tmp_path: Path) -> None:
    assert faults(tmp_path, HEALTHY) == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("[project]", "[projct]", "did you mean 'project'"),
        ('kind = "csv"', 'kind = "cvs"', "did you mean 'csv'"),
        ("columns =", "colums =", "did you mean 'columns'"),
        ('body = "text"', 'body = "txet"', "did you mean 'text'"),
        ('body = "text"', 'boby = "text"', "did you mean 'body'"),
        ('kind = "csv"', 'kind = "csv"\nenabled = false', "no enabled source"),
        ('monday = ["09:00-12:00"]', "", "calendar 'office' is never open"),
        ('kind = "csv"', 'kind = "csv"\nconnection = "nobody"', "export AIRFLOW_CONN_NOBODY"),
        ("[[calendars]]", '[delivery]\nfailure_webhook_connection = "bell"\n[[calendars]]', "BELL"),
    ],
)
def test_a_fault_is_one_line_that_says_what_to_mend(
    tmp_path: Path, before: str, after: str, told: str
) -> None:
    (fault,) = faults(tmp_path, HEALTHY.replace(before, after, 1))
    assert told in fault
    assert "\n" not in fault


def test_a_full_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 5_000_000

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage)
    (fault,) = faults(tmp_path, HEALTHY)
    assert fault.startswith("disk: 5 MB free at")


def test_a_fault_is_what_why_and_a_line_to_type(tmp_path: Path) -> None:
    path = tmp_path / "hearback.toml"
    path.write_text(HEALTHY.replace("shop.csv", "shp.csv"), encoding="utf-8")
    (fault,) = [finding for finding in examine(path) if not finding.is_ok]
    assert fault.lines == [
        "✗ source shop",
        f"    no file matches shp.csv (from {tmp_path}); mend options.path",
        f"    $ ${{EDITOR:-vi}} +5 {path}",
    ]


@pytest.fixture
def brevo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Brevo]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"password": KEY}))
    with Brevo() as server:
        assert isinstance(server, Brevo)
        yield server


def look_at_brevo(tmp_path: Path, url: str, **more: Any) -> Finding:
    path = tmp_path / "hearback.toml"
    path.write_text(
        f'[[sources]]\nname = "desk"\nkind = "brevo"\nbase_url = "{url}"\nconnection = "desk"\n',
        encoding="utf-8",
    )
    (found,) = [finding for finding in examine(path, **more) if finding.what == "source desk"]
    return found


def test_a_source_is_asked_once(brevo: Brevo, tmp_path: Path) -> None:
    found = look_at_brevo(tmp_path, brevo.url)
    assert found.lines == [f"✓ source desk: brevo, {len(brevo.contacts)} contacts"]
    assert len(brevo.requests) == 1


def test_offline_asks_nothing(brevo: Brevo, tmp_path: Path) -> None:
    found = look_at_brevo(tmp_path, brevo.url, is_offline=True)
    assert found.lines == ["✓ source desk: brevo (not asked: --offline)"]
    assert brevo.requests == []


def test_refused_credentials_lead_to_the_secrets(
    brevo: Brevo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"password": "hunter2"}))
    found = look_at_brevo(tmp_path, brevo.url)
    assert not found.is_ok
    assert found.why.startswith("401 from /v3/contacts: the credentials were refused")
    assert found.fix == f"${{EDITOR:-vi}} {tmp_path / '.env'}  # AIRFLOW_CONN_DESK"
    assert "hunter2" not in "".join(found.lines)


def test_a_server_that_is_not_there_leads_to_curl(tmp_path: Path, brevo: Brevo) -> None:
    brevo.close()
    began = time.monotonic()
    found = look_at_brevo(tmp_path, brevo.url)
    assert "cannot reach" in found.why
    assert found.fix == f"curl -sSI {brevo.url}"
    assert time.monotonic() - began < 15


def test_a_long_wait_is_told_instead_of_waited_for(brevo: Brevo, tmp_path: Path) -> None:
    brevo.fail("contacts", Answer({}, 429, {"x-sib-ratelimit-reset": "60"}), times=9)
    began = time.monotonic()
    assert "the limit of the API is used up until" in look_at_brevo(tmp_path, brevo.url).why
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "excel"])
def test_columns_of_every_kind_of_file_are_compared(kind: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    import xlsxwriter

    path = tmp_path / f"shop.{'xlsx' if kind == 'excel' else kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"id": ["1"], "text": ["good"]}), path)
    elif kind == "excel":
        with xlsxwriter.Workbook(str(path)) as book:
            book.add_worksheet().write_row(0, 0, ["id", "text"])
    else:
        lines = {"csv": "id;text\n1;good\n", "jsonl": '{"id": 1, "text": "good"}\n'}
        path.write_text(lines[kind], encoding="utf-8")
    good = HEALTHY.replace('"csv"', f'"{kind}"').replace("shop.csv", path.name)
    assert faults(tmp_path, good) == []
    (fault,) = faults(tmp_path, good.replace('"text"', '"txt"'))
    assert "did you mean 'text'" in fault


def test_a_file_of_another_kind_is_one_line(tmp_path: Path) -> None:
    for kind in ("parquet", "excel"):
        (fault,) = faults(tmp_path, HEALTHY.replace('"csv"', f'"{kind}"'))
        assert "shop.csv is no" in fault


def test_secrets_that_others_can_read_are_found(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("AIRFLOW_CONN_X={}\n", encoding="utf-8")
    path.chmod(0o644)
    (fault,) = faults(tmp_path, HEALTHY)
    assert fault == f"secrets: {path} can be read by others"
    path.chmod(0o600)
    assert faults(tmp_path, HEALTHY) == []


def test_a_damaged_model_is_found(tmp_path: Path) -> None:
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    (models / "current").write_text("gone\n")
    (fault,) = faults(tmp_path, HEALTHY)
    assert fault.startswith("model: ")
    assert "hearback train" in fault


def test_a_file_that_is_not_there_is_found(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, HEALTHY.replace("shop.csv", "shp.csv"))
    assert fault.startswith("source shop: ")
    assert "shp.csv" in fault


def test_a_run_needs_nothing_of_this(tmp_path: Path) -> None:
    findings: Any = list(examine(tmp_path / "none.toml"))
    assert [finding.is_ok for finding in findings] == [False]
    assert "run 'hearback init'" in findings[0].text


def said_of_languages(tmp_path: Path, languages: str, teams: str = "") -> str:
    path = tmp_path / "hearback.toml"
    text = HEALTHY.replace("[project]\n", f"[project]\nlanguages = {languages}\n") + teams
    path.write_text(text, encoding="utf-8")
    (tmp_path / "shop.csv").write_text("id,text\n1,good\n", encoding="utf-8")
    (found,) = [f for f in examine(path) if f.text.startswith("languages: ")]
    assert found.is_ok
    return found.text


def test_languages_without_a_model_are_named(tmp_path: Path) -> None:
    assert said_of_languages(tmp_path, '["zh", "en"]') == "languages: zh, en"
    assert "no model labels de:" in said_of_languages(tmp_path, '["en", "de"]')


def test_languages_that_nobody_speaks_are_named(tmp_path: Path) -> None:
    team = """
[[teams]]
name = "Care"
members = [{ name = "Ann", email = "ann@example.com", languages = ["en-GB"] }]
"""
    assert "no member of a team speaks zh:" in said_of_languages(tmp_path, '["en", "zh"]', team)


def test_a_language_is_a_code(tmp_path: Path) -> None:
    text = HEALTHY.replace("[project]\n", '[project]\nlanguages = ["English"]\n')
    (fault,) = faults(tmp_path, text)
    assert "project.languages" in fault

"""What would make a run fail is found before the run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.doctor import examine

HEALTHY = """
[project]
calendar = "office"
[[sources]]
name = "shop"
kind = "csv"
options = { path = "shop.csv", entity = "feedback" }
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
        ("entity =", "entty =", "did you mean 'entity'"),
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

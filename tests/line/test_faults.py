"""What goes wrong outside is told in one line, stops nothing else, and is mended by a next run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import extract
from pipelines.cli import execute
from pipelines.context import Run, start_run
from pipelines.demo import DemoServers, demo_connections, generate, start_servers, write_config
from pipelines.errors import HearbackError
from pipelines.settings import load_settings
from tests.line.world import PSEUDONYM_KEY, ROOT, UNTIL, list_lake_faults

SCALE = 0.03
CONNECTION = "AIRFLOW_CONN_HELPDESK"
FILES = ("survey", "app_feedback", "crm", "erp", "quality", "hr")
SOURCES = {*FILES, "helpdesk", "reviews"}
# As a disk that is full: no file may grow beyond that many bytes.
SMALL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from pipelines.cli import main
main(sys.argv[2:])
"""


class Place:
    """A home of its own that reads the demo, and what the command says about it."""

    def __init__(
        self, folder: Path, servers: DemoServers, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.home, self.demo, self.capsys = folder / "home", servers.directory, capsys
        self.config = write_config(servers.directory, self.home, servers, folder / "hearback.toml")

    def command(self, name: str, *options: str) -> list[str]:
        return [name, "--config", str(self.config), "--date", UNTIL.isoformat(), *options]

    def do(self, name: str, *options: str) -> tuple[int, str]:
        """Exit code and the line on standard error."""
        self.capsys.readouterr()
        code = execute(self.command(name, *options))
        return code, self.capsys.readouterr().err.strip()

    def run(self) -> Run:
        return start_run(load_settings(self.config), day=UNTIL)

    def captured(self) -> set[str]:
        """Sources of which something was captured."""
        folder = self.home / "lake" / "_manifests" / "raw"
        found = {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}
        return {name for name, manifest in found.items() if manifest["files"]}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServers]:
    folder = tmp_path_factory.mktemp("faults")
    generate(folder, until=UNTIL, scale=SCALE)
    with start_servers(folder) as servers:
        yield servers


@pytest.fixture
def place(
    tmp_path: Path,
    demo: DemoServers,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    for name, value in demo_connections(demo).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HEARBACK_PSEUDONYM_KEY", PSEUDONYM_KEY)
    return Place(tmp_path, demo, capsys)


def check_line(line: str, *parts: str) -> None:
    assert "\n" not in line
    assert line.startswith("hearback: ")
    assert [part for part in parts if part not in line] == [], line


# the sources ----------------------------------------------------------------------------------


def test_wrong_credentials(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    right = os.environ[CONNECTION]
    monkeypatch.setenv(CONNECTION, json.dumps(json.loads(right) | {"password": "wrong"}))
    with pytest.raises(HearbackError, match=r"'helpdesk': 401 .* the credentials were refused"):
        extract.run(place.run(), "helpdesk")
    code, line = place.do("extract")
    assert code == 1
    check_line(line, "helpdesk", "the credentials were refused")
    assert "wrong" not in line
    assert place.captured() == SOURCES - {"helpdesk"}
    monkeypatch.setenv(CONNECTION, right)
    assert place.do("extract") == (0, "")
    assert place.captured() == SOURCES


def test_missing_connection(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONNECTION)
    code, line = place.do("extract", "--source", "helpdesk", "--source", "erp")
    assert code == 1
    check_line(line, "helpdesk", f"export {CONNECTION}")
    assert place.captured() == {"erp"}


def test_server_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(tmp_path / "demo", until=UNTIL, scale=SCALE)
    with start_servers(tmp_path / "demo") as servers:
        place = Place(tmp_path, servers, capsys)
        for name, value in demo_connections(servers).items():
            monkeypatch.setenv(name, value)
    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", lambda seconds: None)  # the waits between retries
        code, line = place.do("extract", "--source", "helpdesk", "--source", "crm")
    assert code == 1
    check_line(line, "helpdesk", "cannot reach", "check the network and base_url")
    assert place.captured() == {"crm"}
    with start_servers(tmp_path / "demo") as servers:
        write_config(servers.directory, place.home, servers, place.config)
        assert place.do("extract", "--source", "helpdesk") == (0, "")
    assert place.captured() == {"crm", "helpdesk"}


def test_missing_file(place: Place) -> None:
    file, aside = place.demo / "orders.jsonl", place.demo / "orders.aside"
    file.rename(aside)
    try:
        with pytest.raises(HearbackError, match=r"orders\.jsonl"):
            extract.run(place.run(), "erp")
        code, line = place.do("extract", *(f"--source={name}" for name in FILES))
    finally:
        aside.rename(file)
    assert code == 1
    check_line(line, "erp", "orders.jsonl")
    assert place.captured() == {*FILES} - {"erp"}
    assert place.do("extract", "--source", "erp") == (0, "")
    assert place.captured() == {*FILES}


# the home -------------------------------------------------------------------------------------


def run_on_small_disk(place: Place, limit: int, name: str, *options: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", SMALL_DISK, str(limit), *place.command(name, *options)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr.strip()


def test_full_disk_while_capturing(place: Place) -> None:
    code, line = run_on_small_disk(place, 12_000, "extract", "--source", "erp", "--source", "hr")
    assert code == 1
    check_line(line, "erp", "disk full while writing", "free some space and run again")
    assert place.captured() == {"hr"}
    assert place.do("extract", "--source", "erp") == (0, "")
    assert place.captured() == {"erp", "hr"}
    assert list_lake_faults(place.home) == []


def test_full_disk_while_validating(place: Place) -> None:
    assert place.do("extract", "--source", "erp") == (0, "")
    code, line = run_on_small_disk(place, 8_000, "validate")
    assert code == 1
    check_line(line, "disk full while writing", "free some space and run again")
    assert not (place.home / "lake" / "_manifests" / "staging.json").exists()
    assert place.do("validate") == (0, "")
    manifest = json.loads((place.home / "lake/_manifests/staging.json").read_text("utf-8"))
    assert sum(entry["rows"] for entry in manifest["files"]["orders"]) > 100
    assert list_lake_faults(place.home) == []


def test_damaged_manifest_of_a_source(place: Place) -> None:
    names = [f"--source={name}" for name in ("crm", "erp")]
    assert place.do("extract", *names) == (0, "")
    manifest = place.home / "lake" / "_manifests" / "raw" / "crm.json"
    whole = manifest.read_text("utf-8")
    manifest.write_text(whole[: len(whole) // 2], "utf-8")
    code, line = place.do("extract", *names)
    assert code == 1
    check_line(line, "crm", "crm.json is damaged", "restore it from a backup, or delete it")
    manifest.write_text(whole, "utf-8")
    assert place.do("extract", *names) == (0, "")
    assert manifest.read_text("utf-8") == whole


def test_damaged_manifest_of_a_step(place: Place) -> None:
    assert place.do("extract", "--source", "erp") == (0, "")
    assert place.do("validate") == (0, "")
    manifest = place.home / "lake" / "_manifests" / "staging.json"
    rows = {entry["rows"] for entry in json.loads(manifest.read_text("utf-8"))["files"]["orders"]}
    manifest.write_text('{"version": 1, "files"', "utf-8")
    for step in ("validate", "clean"):
        code, line = place.do(step)
        assert code == 1
        check_line(line, "staging.json is damaged", "delete it and run with --full-refresh")
    manifest.unlink()
    assert place.do("validate", "--full-refresh") == (0, "")
    again = json.loads(manifest.read_text("utf-8"))["files"]["orders"]
    assert {entry["rows"] for entry in again} == rows


# the configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["extract", "validate", "aggregate", "publish"])
def test_unknown_key_names_the_nearest_right_one(place: Place, step: str) -> None:
    text = place.config.read_text("utf-8")
    place.config.write_text(text.replace("time_zone = ", "timezone = ", 1), "utf-8")
    code, line = place.do(step)
    assert code == 2
    check_line(line, "timezone", "time_zone")
    assert place.captured() == set()


def test_unknown_source_is_wrong_usage(place: Place) -> None:
    code, line = place.do("extract", "--source", "helpdesc")
    assert code == 2
    check_line(line, "helpdesc", "helpdesk")

"""The command line: help everywhere, exit codes, errors in one line on standard error."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pipelines.cli import app, execute, main
from pipelines.errors import HearbackError
from pipelines.settings import load_settings
from pipelines.sources import all_kinds

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = {
    "init", "try", "add", "sources", "schema", "doctor", "run", "ui", "extract", "validate",
    "clean",
    "classify-new", "aggregate", "follow-up", "publish", "deliver", "classify", "train",
    "evaluate", "promote", "tasks", "query", "backfill", "demo",
}  # fmt: skip


def list_commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from list_commands(inner, (*path, name))


COMMANDS = list(list_commands(typer.main.get_command(app)))


def test_the_commands_are_those_of_the_contract() -> None:
    assert {path[0] for path in COMMANDS if path} >= CONTRACT
    inner = {path[1] for path in COMMANDS if len(path) == 2 and path[0] == "tasks"}
    assert inner == {"list", "done", "snooze", "assign", "import"}
    assert ("calendar", "show") in COMMANDS


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*path, "--help"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"Usage: hearback {' '.join(path)}".strip())
    assert told.err == ""


def test_alone_it_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([]) == 0
    assert "Commands:" in capsys.readouterr().out


def test_the_configuration_may_stand_before_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEARBACK_CONFIG", "other.toml")
    path = tmp_path / "mine.toml"
    assert execute(["--config", str(path), "doctor", "--offline"]) == 1
    assert str(path) in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["runn"], "No such command 'runn'"),
        (["run", "--dat", "2026-01-01"], "No such option: --dat"),
        (["run", "--date", "tomorrow"], "write it as 2026-01-31"),
        (["run", "--date", "2026-13-01"], "Invalid value for '--date': '2026-13-01' is no day;"),
        (["query"], "Missing argument 'SQL|FILE'"),
        (["backfill", "--from", "2026-01-01"], "Missing option '--to'"),
        (["query", "select 1", "--format", "xml"], "Invalid value for '--format'"),
        (["tasks", "drop"], "No such command 'drop'"),
    ],
)
def test_wrong_usage_is_one_line_and_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("hearback: ")
    assert told in shown.err
    assert "--help" in shown.err
    assert shown.err.count("\n") == 1


def test_a_missing_configuration_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["run", "--config", str(tmp_path / "no.toml")]) == 2
    assert "no such configuration; run 'hearback init'" in capsys.readouterr().err


def test_an_unknown_source_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hearback.toml"
    path.write_text('[[sources]]\nname = "shop"\nkind = "csv"\n', encoding="utf-8")
    assert execute(["run", "--config", str(path), "--source", "shpo"]) == 2
    assert "did you mean 'shop'" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_days_out_of_order_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["backfill", "--from", "2026-01-02", "--to", "2026-01-01"]) == 2
    assert "exchange them" in capsys.readouterr().err


def test_init_writes_a_configuration_that_is_read_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["init", str(tmp_path)]) == 0
    assert load_settings(tmp_path / "hearback.toml").sources[0].name == "reviews"
    assert "AIRFLOW_CONN_" in (tmp_path / ".env.example").read_text(encoding="utf-8")
    capsys.readouterr()
    assert execute(["init", str(tmp_path)]) == 2
    assert "already there" in capsys.readouterr().err


def test_init_keeps_an_example_of_the_environment_that_is_there(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text("mine", encoding="utf-8")
    assert execute(["init", str(tmp_path)]) == 0
    assert (tmp_path / ".env.example").read_text(encoding="utf-8") == "mine"
    assert (tmp_path / "hearback.toml").exists()


def test_doctor_fails_on_what_would_fail_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_DESK", raising=False)
    path = tmp_path / "hearback.toml"
    path.write_text(
        '[[sources]]\nname = "desk"\nkind = "zendesk"\nbase_url = "https://x.example"\n'
        'connection = "desk"\n',
        encoding="utf-8",
    )
    assert execute(["doctor", "--config", str(path)]) == 1
    told = capsys.readouterr().out
    assert "✗ source desk\n    connection 'desk' is not set; export AIRFLOW_CONN_DESK" in told
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"login": "a", "password": "b"}')
    assert execute(["doctor", "--offline", "--config", str(path)]) == 0
    assert "✗" not in capsys.readouterr().out


def test_sources_lists_kinds_and_entries(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hearback.toml"
    path.write_text('[[sources]]\nname = "shop"\nkind = "csv"\nenabled = false\n', encoding="utf-8")
    assert execute(["sources", "--config", str(path)]) == 0
    told = capsys.readouterr().out
    for kind in all_kinds():
        assert kind.summary in told
        assert all(secret.where in told for secret in kind.secrets)
    assert "shop" in told
    assert "switched off" in told


def test_a_kind_is_described_in_the_language_of_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert execute(["sources", "--kind", "zendesk"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"page_size +whole number +1000 +records asked for at once", told)
    assert re.search(r"password +API token +from: Admin Center → Apps and integrations", told)
    assert told.endswith("next: hearback add zendesk\n")
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert execute(["sources", "--kind", "zendesk"]) == 0
    assert "一次请求多少条记录" in capsys.readouterr().out
    assert execute(["sources", "--kind", "zendesk", "--language", "en"]) == 0
    assert capsys.readouterr().out == told


def test_options_in_options_are_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["sources", "--kind", "rest", "--language", "en"]) == 0
    told = capsys.readouterr().out
    assert "in options.endpoints.cursor:" in told
    assert re.search(r"method +GET \| POST +\"GET\" +how it is asked", told)
    assert re.search(r"endpoints +list of table +required", told)


def test_an_unknown_kind_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["sources", "--kind", "zendsk"]) == 2
    assert "did you mean 'zendesk'" in capsys.readouterr().err


def test_every_command_reads_the_env_file_and_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "hearback.toml"
    config.write_text("", encoding="utf-8")
    (tmp_path / ".env").write_text("AIRFLOW_CONN_A='{\"a\": 1}'\nAIRFLOW_CONN_B=file\n")
    monkeypatch.setenv("AIRFLOW_CONN_B", "environment")
    monkeypatch.delenv("AIRFLOW_CONN_A", raising=False)
    monkeypatch.setattr("os.environ", dict(os.environ))
    execute(["doctor", "--config", str(config)])
    assert os.environ["AIRFLOW_CONN_A"] == '{"a": 1}'
    assert os.environ["AIRFLOW_CONN_B"] == "environment"


def test_airflow_is_started_with_what_the_env_file_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.env_file import load_env_file
    from pipelines.launcher import EmbeddedAirflow

    config = tmp_path / "hearback.toml"
    config.write_text("", encoding="utf-8")
    (tmp_path / ".env").write_text("AIRFLOW_CONN_A=x\n")
    monkeypatch.setattr("os.environ", dict(os.environ))
    load_env_file(config)
    environment = EmbeddedAirflow(load_settings(config)).environment(is_scheduled=False)
    assert environment["AIRFLOW_CONN_A"] == "x"


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    assert execute(["schema"]) == 0
    assert "sources" in json.loads(capsys.readouterr().out)["properties"]


def test_a_failed_step_is_one_line_and_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hearback.toml"
    path.write_text(
        '[[sources]]\nname = "shop"\nkind = "csv"\n'
        'options = { path = "none.csv", entity = "feedback", columns = { body = "text" } }\n',
        encoding="utf-8",
    )
    assert execute(["extract", "--config", str(path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("hearback: source 'shop': ")
    assert "none.csv" in told
    assert told.count("\n") == 1


def test_ctrl_c_is_one_line_and_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(path: Path, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.doctor.examine", interrupt)
    assert execute(["doctor"]) == 130
    assert capsys.readouterr().err == "hearback: stopped\n"


def test_a_fault_of_ours_is_one_line_and_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path, **options: Any) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("pipelines.doctor.examine", fail)
    monkeypatch.delenv("HEARBACK_DEBUG", raising=False)
    assert execute(["doctor"]) == 1
    told = capsys.readouterr().err
    assert told == (
        "hearback: RuntimeError: first (a fault in Hearback; HEARBACK_DEBUG=1 shows where)\n"
    )
    monkeypatch.setenv("HEARBACK_DEBUG", "1")
    with pytest.raises(RuntimeError):
        execute(["doctor"])


def test_an_error_of_several_lines_is_told_in_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path, **options: Any) -> None:
        raise HearbackError("one\n  two")

    monkeypatch.setattr("pipelines.doctor.examine", fail)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "hearback: one two\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pipelines.cli import execute; execute(['--help'])\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"pandas", "numpy", "pyarrow", "duckdb", "sklearn", "airflow", "httpx", "pydantic"}
    assert heavy.isdisjoint(done.stderr.split())

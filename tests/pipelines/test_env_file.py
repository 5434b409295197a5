"""Secrets in .env: private, never overwritten, kept out of git, and read back as they were."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pytest

from pipelines.env_file import encode_connection, read_env_file, write_connection
from pipelines.errors import UsageError

AWKWARD = 'it\'s "$HOME" \\n `id` \\u0027 密码\n#'


def write(folder: Path, name: str = "desk", **fields: object) -> Path:
    return write_connection(folder / "hearback.toml", name, fields)


def test_a_connection_comes_back_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path, login="ann", password=AWKWARD, extra={"tenant": "t'1"})
    found = json.loads(read_env_file(path)["AIRFLOW_CONN_DESK"])
    assert found == {
        "conn_type": "http", "login": "ann", "password": AWKWARD, "extra": {"tenant": "t'1"},
    }  # fmt: skip


def test_a_shell_reads_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, password=AWKWARD)
    script = f'set -a; . {path}; printf %s "$AIRFLOW_CONN_DESK"'
    told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert told == read_env_file(path)["AIRFLOW_CONN_DESK"]
    assert json.loads(told)["password"] == AWKWARD


def test_nothing_is_left_that_quotes_could_break() -> None:
    text = encode_connection({"password": AWKWARD})
    assert not {"'", "$"} & set(text)
    assert "\\\\" not in text


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1", encoding="utf-8")
    (tmp_path / ".env").chmod(0o644)
    path = write(tmp_path, password="p")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_env_file(path)["A"] == "1"
    assert "AIRFLOW_CONN_DESK" in read_env_file(path)


def test_a_connection_is_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path, password="first")
    before = path.read_bytes()
    with pytest.raises(UsageError, match="has AIRFLOW_CONN_DESK already"):
        write(tmp_path, password="second")
    assert path.read_bytes() == before


def test_git_is_told_once(tmp_path: Path) -> None:
    ignored = tmp_path / ".gitignore"
    ignored.write_text("*.log", encoding="utf-8")
    write(tmp_path, password="p")
    write(tmp_path, "shop", password="p")
    assert ignored.read_text(encoding="utf-8") == "*.log\n.env\n"


def test_a_dollar_in_a_value_stays(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=one\nB=${A}two\nexport C='x y' # note\n", encoding="utf-8")
    assert read_env_file(path) == {"A": "one", "B": "${A}two", "C": "x y"}


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"A=\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_env_file(path)

"""The two commands of a fresh machine, and the help that names the others."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_alone_it_prints_help_that_names_every_target() -> None:
    done = make()
    assert done.returncode == 0
    targets = set(re.findall(r"^\.PHONY: (\S+)$", MAKEFILE, re.MULTILINE)) - {"help"}
    told = set(re.findall(r"^  make (\S+)", done.stdout, re.MULTILINE)) - {"help"}
    assert told == targets
    assert {"run", "test", "check", "ui", "bench", "clean"} <= told


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["run"], "hearback run --demo"),
        (["run", "CONFIG=my.toml"], "hearback run --config my.toml"),
        (["ui"], "hearback ui --demo"),
        (["test"], "pytest -n 2"),
    ],
)
def test_a_target_is_one_command(arguments: list[str], command: str) -> None:
    assert command in make("--dry-run", *arguments).stdout


def test_check_is_what_ci_runs() -> None:
    plan = make("--dry-run", "check").stdout
    for tool in ("ruff check", "ruff format --check", "mypy", "lint-imports", "sqlfluff lint"):
        assert tool in plan
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert ci[-1] == "make check"


def test_an_old_python_is_refused_in_words(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\nexit 1\n')
    old.chmod(0o755)
    for name in ("Makefile", "requirements.lock"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        ["make", "setup", f"PYTHON={old}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "Python 3.9.2 does not fit; install Python 3.11 to 3.13" in done.stderr

"""The example of CONTRIBUTING.md is written to files and run, word for word."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipelines.sources import MODULES, find_kind
from pipelines.sources.describe import describe_kind, list_tables

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(?:python|json)\n(?:#|//) (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILES: dict[str, str] = dict(BLOCK.findall(TEXT))
STEM = "acme_desk"
MODULE = f"pipelines/sources/{STEM}.py"
SERVER, TESTS = (f"tests/pipelines/sources/{STEM}/{name}.py" for name in ("server", f"test_{STEM}"))
NAMES = re.findall(r"^def (test_\w+)", FILES[TESTS], re.MULTILINE)


def test_the_example_is_whole() -> None:
    payloads = f"tests/pipelines/sources/{STEM}/payloads/tickets.json"
    assert set(FILES) == {MODULE, SERVER, payloads, TESTS}
    assert len(NAMES) >= 5


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the example's tests, with the kind and its server in their places."""
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    monkeypatch.setitem(MODULES, STEM, STEM)
    loaded = {name: load(tmp_path / name, name, monkeypatch) for name in (MODULE, SERVER, TESTS)}
    return loaded[TESTS]


def load(path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a file under the name that it would have in its place."""
    dotted = name.removesuffix(".py").replace("/", ".")
    spec = importlib.util.spec_from_file_location(dotted, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, dotted, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_the_tests_of_the_example_pass(
    name: str, example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture = inspect.unwrap(example.desk)
    desk = getattr(fixture, "_get_wrapped_function", lambda: fixture)()(monkeypatch)
    given: dict[str, Any] = {
        "desk": next(desk), "tmp_path": tmp_path / "work", "monkeypatch": monkeypatch,
    }  # fmt: skip
    given["tmp_path"].mkdir()
    test = getattr(example, name)
    try:
        test(**{part: given[part] for part in inspect.signature(test).parameters})
    finally:
        assert next(desk, None) is None, "the server is stopped"


def test_the_example_keeps_the_pattern(example: ModuleType) -> None:
    kind = find_kind(STEM)
    assert kind.check
    assert kind.summary_zh
    assert all(secret.where for secret in kind.secrets)
    for _, model in list_tables(kind.options):
        assert all(field.description for field in model.model_fields.values())
    assert "一次请求多少条记录" in "\n".join(describe_kind(kind, "zh"))


@pytest.mark.parametrize("name", [MODULE, SERVER, TESTS])
def test_the_example_is_written_as_the_rest(name: str) -> None:
    for command in (["check", "--ignore", "I001"], ["format", "--check", "--diff"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", name, "-"],
            input=FILES[name], capture_output=True, text=True, cwd=ROOT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

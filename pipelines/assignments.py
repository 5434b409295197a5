"""``--set field=value``: answers on the command line, for ``add`` and ``try``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any

from pipelines.errors import UsageError


def parse_value(text: str) -> Any:
    """What a text is in TOML, such as a number, a list or a table; else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_assignments(given: Iterable[str]) -> dict[str, str]:
    """Values by field, as they were written; UsageError if one is no field=value or comes twice."""
    found: dict[str, str] = {}
    for text in given:
        name, sign, value = text.partition("=")
        name = name.strip()
        if not sign or not name:
            raise UsageError(f"--set {text!r}: write it as field=value")
        if name in found:
            raise UsageError(f"--set {name}: given twice; keep one")
        found[name] = value.strip()
    return found


def put(table: dict[str, Any], path: str, value: Any) -> None:
    """Set a value in tables within tables; UsageError if the path leads through another value."""
    *parents, last = path.split(".")
    inner = table
    for part in parents:
        inner = inner.setdefault(part, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {path}: {part!r} is no table")
    inner[last] = value


def read_options_given(given: dict[str, str]) -> dict[str, Any]:
    """Options of a source as a table; ``options.`` in front of a name may be left out."""
    options: dict[str, Any] = {}
    for name, text in given.items():
        path, value = name.removeprefix("options."), parse_value(text)
        is_column = path.startswith("columns.") and not isinstance(value, str)
        put(options, path, text if is_column else value)
    return options

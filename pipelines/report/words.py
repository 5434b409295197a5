"""The words of lists and reports in English and Chinese, read from the TOML files beside this."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from pipelines.errors import HearbackError

LANGUAGES = ("en", "zh")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@cache
def load_words(name: str, language: str) -> dict[str, Any]:
    """The words of ``lists`` or ``report`` in one language. HearbackError if it has none."""
    text = (resources.files(__package__) / f"{name}.toml").read_text(encoding="utf-8")
    words: dict[str, Any] = tomllib.loads(text)
    if language not in words:
        raise HearbackError(
            f"[delivery] language {language!r}: there are texts in {', '.join(words)} only"
        )
    return words[language]


@cache
def list_terms(table: str) -> dict[str, str]:
    """Every word that means a key of a table of ``lists`` (statuses, columns …), folded → key."""
    terms: dict[str, str] = {}
    for language in LANGUAGES:
        for key, word in load_words("lists", language)[table].items():
            terms[fold(word)] = key
            terms[fold(key)] = key
    return terms


def fold(word: str) -> str:
    """A word as it is compared: case, blanks and underscores do not count."""
    return "".join(word.casefold().replace("_", " ").split())


def make_harmless(value: str) -> str:
    """A CSV cell that no spreadsheet takes for a formula."""
    return f"'{value}" if value.startswith(FORMULA_STARTS) else value


def restore(value: str) -> str:
    """What ``make_harmless`` was given."""
    return value[1:] if value.startswith("'") and value[1:].startswith(FORMULA_STARTS) else value


def describe_state(status: str, owner: str | None, outcome: str | None) -> str:
    """What a list shows of a task's state, so that an edit is told from an older list."""
    return "|".join(simplify(part) for part in (status, owner, outcome))


def simplify(value: str | None) -> str:
    return (value or "").replace("|", "/").strip()

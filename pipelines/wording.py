"""In which language the commands speak, and what texts of the code are called in it."""

from __future__ import annotations

import os
import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

Language = Literal["en", "zh"]
VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")  # the first that is set counts, as for gettext


def find_language(wanted: Language | None = None) -> Language:
    """The wanted language, else Chinese if the environment says so, else English."""
    if wanted:
        return wanted
    named = next((value for name in VARIABLES if (value := os.environ.get(name))), "")
    return "zh" if named.lower().startswith("zh") else "en"


@cache
def chinese_texts() -> dict[str, str]:
    """Chinese by English, of what options and secrets are for."""
    text = files("pipelines.sources").joinpath("zh.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text))


def translate(text: str, language: Language) -> str:
    """A text of the code in a language; the text itself where nobody has translated it."""
    return chinese_texts().get(text, text) if language == "zh" else text

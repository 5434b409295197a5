"""The table of kinds, for the terminal and for both READMEs: one origin, the kinds themselves.

``python -m pipelines.sources.listing`` writes it into the READMEs; a test holds them to it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines.sources import all_kinds
from pipelines.sources.base import Kind
from pipelines.sources.describe import secrets_text

BEGIN, END = "<!-- kinds -->", "<!-- /kinds -->"
HEADS = {
    "README.md": "| kind | what it reads | gives | its connection holds |",
    "README.zh.md": "| 种类 | 读取什么 | 得到 | 连接里要有 |",
}


def escape_cell(text: str) -> str:
    """A text that stays within its cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def render_row(kind: Kind, *, is_chinese: bool) -> str:
    summary = kind.summary_zh if is_chinese else kind.summary
    entities = ", ".join(f"`{entity}`" for entity in kind.entities)
    secrets = escape_cell(secrets_text(kind, "zh" if is_chinese else "en"))
    cells = [f"`{kind.name}`", escape_cell(summary), entities, secrets]
    return "| " + " | ".join(cells) + " |"


def render_table(readme: str) -> str:
    """The Markdown table of all kinds for one of HEADS."""
    rows = [render_row(kind, is_chinese="zh" in readme) for kind in all_kinds()]
    return "\n".join([HEADS[readme], "|---|---|---|---|", *rows])


def replace_table(text: str, table: str) -> str:
    """A README's text with the table between its marks replaced."""
    head, rest = text.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    return f"{head}{BEGIN}\n{table}\n{END}{tail}"


def main(folder: Path) -> None:
    for readme in HEADS:
        path = folder / readme
        text = path.read_text(encoding="utf-8")
        path.write_text(replace_table(text, render_table(readme)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd())

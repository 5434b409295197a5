"""A preview as lines for a terminal. Texts from outside are shown without what could steer it."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pipelines.preview import Preview
from pipelines.sources.describe import align
from pipelines.wording import Language

TEXT_CELLS = 72
HEADS = ("feedback_type", "need", "sentiment", "priority")
WORDS: dict[str, dict[str, str]] = {
    "en": {
        "captured": "{name} ({kind}): {rows} captured in {seconds:.1f} s",
        "cut": "the first of more",
        "columns": "columns",
        "sample": "as captured → as it would be stored",
        "labelled": "labelled: {n} of {total} texts",
        "no_texts": "no texts of customers in these records",
        "head": "type|need|sentiment|priority|why|text",
        "shares": "in all",
        "unsure": "unsure: {n} (languages without a model, or nothing that the model knows)",
        "excluded": "kept out of figures",
        "quarantined": "would be quarantined: {n}",
        "redacted": "redacted",
        "nothing_redacted": "redacted: nothing found",
        "before": "before", "after": "after",
        "notes": "also",
        "none": "nothing was captured",
        "end": "nothing was stored or sent",
        "next": "next",
    },
    "zh": {
        "captured": "{name}（{kind}）：采集 {rows}，用时 {seconds:.1f} 秒",
        "cut": "只取前一部分",
        "columns": "列",
        "sample": "采集到的样子 → 将存储的样子",
        "labelled": "已分类：{total} 条文本中的前 {n} 条",
        "no_texts": "这些记录里没有客户的文本",
        "head": "类型|需求|情绪|优先级|原因|文本",
        "shares": "合计",
        "unsure": "不确定：{n}（没有模型的语言，或模型不认识的内容）",
        "excluded": "不计入统计",
        "quarantined": "会被隔离：{n}",
        "redacted": "已脱敏",
        "nothing_redacted": "脱敏：没有发现个人信息",
        "before": "之前", "after": "之后",
        "notes": "另外",
        "none": "没有采集到记录",
        "end": "没有存储或发送任何内容",
        "next": "下一步",
    },
}  # fmt: skip


def show(value: Any, cells: int = TEXT_CELLS) -> str:
    """A value in one line of so many cells, without control, format and direction characters."""
    from rich.cells import cell_len, set_cell_size

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    plain = "".join(
        " " if sign in "\t\r\n" else "\ufffd" if unicodedata.category(sign)[0] == "C" else sign
        for sign in text
    )
    line = " ".join(plain.split())
    return line if cell_len(line) <= cells else set_cell_size(line, cells - 1).rstrip() + "…"


def count(numbers: dict[str, int]) -> str:
    return ", ".join(f"{show(name)} {number:,}" for name, number in numbers.items())


def show_samples(found: Preview, words: dict[str, str]) -> Iterator[str]:
    if found.samples:
        yield ""
        yield f"{words['sample']}:"
    for number, sample in enumerate(found.samples, 1):
        yield f"  {number}. {show(sample['captured'], 4 * TEXT_CELLS)}"
        stored = "; ".join(
            f"{name} = {show(value, 2 * TEXT_CELLS)}" for name, value in sample["stored"].items()
        )
        yield f"     → {sample['entity']}: {stored}"


def show_labels(found: Preview, words: dict[str, str], most: int) -> Iterator[str]:
    """The first labelled texts, then how often each label was given."""
    yield ""
    if not found.rows:
        yield words["no_texts"]
        return
    rows = found.rows[:most]
    yield words["labelled"].format(n=len(rows), total=f"{len(found.rows):,}") + ":"
    lines = [tuple(words["head"].split("|"))]
    for row in rows:
        said = " · ".join(filter(None, (row["title"], row["body"])))
        why = ", ".join(row["priority_reasons"] or [])
        lines.append((*(row[head] for head in HEADS), why, show(said)))
    yield from align(lines)
    for head in HEADS:
        shares = Counter(row[head] for row in found.rows)
        yield f"  {words['shares']}: {head}: {count(dict(shares.most_common()))}"
    unsure = sum(bool(row["is_unsure"]) for row in found.rows)
    if unsure:
        yield f"  {words['unsure'].format(n=unsure)}"
    excluded = Counter(row["excluded"] for row in found.rows if row["excluded"])
    if excluded:
        yield f"  {words['excluded']}: {count(dict(excluded))}"


def show_quarantine(found: Preview, words: dict[str, str]) -> Iterator[str]:
    """How many records have each reason, with one of them."""
    yield ""
    yield words["quarantined"].format(n=f"{len(found.quarantined):,}")
    reasons = Counter(reason for row in found.quarantined for reason in row["reasons"])
    for reason, number in reasons.most_common():
        first = next(row for row in found.quarantined if reason in row["reasons"])
        record = f"{show(first['record_id'], 40)} {show(first['payload'])}"
        yield f"  {show(reason)} {number:,}: {record}"


def show_redaction(found: Preview, words: dict[str, str]) -> Iterator[str]:
    yield ""
    if not found.redacted:
        yield words["nothing_redacted"]
        return
    yield f"{words['redacted']}: {count(found.redacted)}"
    for pair in found.pairs:
        yield f"  {words['before']}: {show(pair.before, 2 * TEXT_CELLS)}"
        yield f"  {words['after']}:  {show(pair.after, 2 * TEXT_CELLS)}"


def show_heading(found: Preview, words: dict[str, str]) -> Iterator[str]:
    """The columns of a file, and what the steps note."""
    columns = found.source.options.get("columns")
    if isinstance(columns, dict):
        yield f"  {words['columns']}: {', '.join(f'{k} = {show(v)}' for k, v in columns.items())}"
    for note in found.notes:
        yield f"  {words['notes']}: {show(note, 4 * TEXT_CELLS)}"


def show_records(found: Preview, language: Language) -> Iterator[str]:
    """A few records as captured and as stored, and what would be set aside; none if none came."""
    words = WORDS[language]
    if not found.captured:
        return
    yield from show_heading(found, words)
    yield from show_samples(found, words)
    if found.quarantined:
        yield from show_quarantine(found, words)


def show_preview(
    found: Preview, language: Language, *, most: int = 10, advice: str = ""
) -> Iterator[str]:
    """All of a preview, line by line; ``advice`` is the next command to type."""
    words = WORDS[language]
    rows = count(found.captured) or words["none"]
    told = {"name": found.source.name, "kind": found.source.kind, "seconds": found.seconds}
    cut = f" ({words['cut']})" if found.is_cut else ""
    yield words["captured"].format(rows=rows, **told) + cut
    yield from show_heading(found, words)
    yield from show_samples(found, words)
    yield from show_labels(found, words, most)
    yield from show_quarantine(found, words)
    yield from show_redaction(found, words)
    yield ""
    yield words["end"]
    if advice:
        yield f"{words['next']}: {advice}"

"""A kind of source as ``hearback sources --kind`` shows it: options, secrets, what comes of it."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipelines.sources.base import Kind, find_model
from pipelines.wording import Language, translate

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "str": "text", "int": "whole number", "float": "number", "bool": "true or false",
        "date": "date", "datetime": "date", "Any": "anything", "dict": "table",
        "list": "list of {}",
        "model": "table", "required": "required", "gives": "gives",
        "entry": "keys of its [[sources]] entry",
        "options": "options", "none": "none", "inside": "in {}",
        "secrets": "its connection holds", "next": "next", "where": "from",
        "needs_url": "address of the vendor's API or of your site; required",
        "may_url": "address, if it is not {}", "free_url": "address that paths are below, if any",
        "connection": "name of the connection that holds the secrets",
        "start": "first day to pull", "schedule": "how often it is captured besides the daily run",
        "optional": "optional",
    },
    "zh": {
        "str": "文本", "int": "整数", "float": "数字", "bool": "true 或 false",
        "date": "日期", "datetime": "日期", "Any": "任意", "dict": "表", "list": "{}列表",
        "model": "表", "required": "必填", "gives": "得到",
        "entry": "[[sources]] 条目的键",
        "options": "选项", "none": "无", "inside": "{} 之内",
        "secrets": "连接里要有", "next": "下一步", "where": "来自",
        "needs_url": "供应商 API 或你的站点的地址；必填",
        "may_url": "地址（不是 {} 时）", "free_url": "路径所在的地址（需要时）",
        "connection": "保存密钥的连接的名称",
        "start": "从哪一天开始采集", "schedule": "除每日运行外多久采集一次",
        "optional": "可选",
    },
}  # fmt: skip


def name_type(annotation: Any, language: Language) -> str:
    """A type in a few words: ``list of text``, ``GET | POST``, ``whole number``."""
    words = WORDS[language]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(str(value) for value in inner)
    if origin in (Union, types.UnionType):
        names = [name_type(part, language) for part in inner if part is not type(None)]
        return " | ".join(dict.fromkeys(names))
    if origin is list:
        return words["list"].format(name_type(inner[0], language))
    if origin is tuple:
        return f"[{', '.join(name_type(part, language) for part in inner)}]"
    if origin is dict:
        return words["dict"]
    if hasattr(annotation, "__metadata__"):
        return name_type(inner[0], language)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return words["model"]
    return words.get(getattr(annotation, "__name__", "Any"), str(annotation))


def show_default(field: FieldInfo, language: Language) -> str:
    """The default as hearback.toml would write it; empty where leaving it out says nothing."""
    if field.is_required():
        return WORDS[language]["required"]
    default = field.get_default(call_default_factory=True)
    if default is None or isinstance(default, BaseModel) or default in ({}, [], ""):
        return ""
    value = list(default) if isinstance(default, tuple) else default
    return json.dumps(value, ensure_ascii=False)


def list_tables(model: type[BaseModel], name: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """(path, model) of an options model and of every table in it, each model once."""
    seen: set[type[BaseModel]] = set()
    waiting = [(name, model)]
    while waiting:
        path, found = waiting.pop(0)
        if found in seen:
            continue
        seen.add(found)
        yield path, found
        for key, field in found.model_fields.items():
            inner = find_model(field.annotation)
            if inner:
                waiting.append((f"{path}.{field.alias or key}".lstrip("."), inner))


def align(rows: Sequence[Sequence[str]], indent: str = "  ") -> Iterator[str]:
    """Rows of cells as lines whose columns stand below each other, Han characters too."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)
        ]
        yield (indent + "  ".join(cells)).rstrip()


def describe_options(kind: Kind, language: Language) -> Iterator[str]:
    words = WORDS[language]
    for path, model in list_tables(kind.options):
        title = f"{words['options']} ([sources.options])" if not path else ""
        yield ""
        yield (title or words["inside"].format(f"options.{path}")) + ":"
        rows = [
            (
                field.alias or key,
                name_type(field.annotation, language),
                show_default(field, language),
                translate(field.description or "", language),
            )
            for key, field in model.model_fields.items()
        ]
        yield from align(rows) if rows else [f"  {words['none']}"]


def describe_entry(kind: Kind, language: Language) -> Iterator[str]:
    words = WORDS[language]
    yield ""
    yield f"{words['entry']}:"
    if kind.default_url:
        url = words["may_url"].format(kind.default_url)
    else:
        url = words["needs_url"] if kind.needs_base_url else words["free_url"]
    rows = [("base_url", url)]
    if kind.secrets:
        rows.append(("connection", words["connection"]))
    rows += [("start", words["start"]), ("schedule", words["schedule"])]
    yield from align(rows)


def describe_secrets(kind: Kind, language: Language) -> Iterator[str]:
    words = WORDS[language]
    if not kind.secrets:
        return
    yield ""
    yield f"{words['secrets']} (AIRFLOW_CONN_<NAME>):"
    yield from align(
        [
            (
                secret.field,
                translate(secret.what, language)
                + (f" ({words['optional']})" if secret.is_optional else ""),
                f"{words['where']}: {translate(secret.where, language)}" if secret.where else "",
            )
            for secret in kind.secrets
        ]
    )


def describe_kind(kind: Kind, language: Language) -> Iterator[str]:
    """All that one has to know to set up a source of a kind, line by line."""
    words = WORDS[language]
    yield f"{kind.name}: {kind.summary_zh if language == 'zh' else kind.summary}"
    yield f"{words['gives']}: {', '.join(kind.entities)}"
    yield from describe_options(kind, language)
    yield from describe_entry(kind, language)
    yield from describe_secrets(kind, language)
    yield ""
    yield f"{words['next']}: hearback add {kind.name}"


def list_kinds(kinds: Sequence[Kind], language: Language) -> Iterator[str]:
    """Two lines a kind: what it reads, then what it gives and what its connection holds."""
    words = WORDS[language]
    for kind in kinds:
        yield f"  {kind.name:<18} {kind.summary_zh if language == 'zh' else kind.summary}"
        yield f"  {'':<18} {words['gives']}: {', '.join(kind.entities)}"
        if kind.secrets:
            yield f"  {'':<18} {words['secrets']}: {secrets_text(kind, language)}"


def secrets_text(kind: Kind, language: Language) -> str:
    """What the connection must hold and where one gets it, in one line."""
    return "; ".join(
        f"{secret.field}: {translate(secret.what, language)}"
        + (f" ({translate(secret.where, language)})" if secret.where else "")
        for secret in kind.secrets
    )

"""One stem a kind: its module, its tests, and all that people are told of it, in both languages."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from pipelines.entities import SCHEMAS
from pipelines.errors import UsageError
from pipelines.settings import NAME_PATTERN, Source
from pipelines.sources import MODULES, all_kinds, find_kind
from pipelines.sources.base import Kind, read_options
from pipelines.sources.describe import describe_kind, list_tables
from pipelines.wording import chinese_texts

TESTS = Path(__file__).parent
SOURCES = Path(__file__).resolve().parents[3] / "pipelines" / "sources"
KINDS = all_kinds()
STEMS = sorted(set(MODULES.values()))
SECRET = re.compile(r"login|password|host|extra\.[a-z_]+")
HAN = re.compile("[一-鿿]")
# Menus and addresses of vendors are the same in every language.
SAME_EVERYWHERE = re.compile(r".* → .*|\S+\.(com|net|io|org)")


def list_texts(kind: Kind) -> set[str]:
    """All that is said of a kind's options and secrets."""
    models = [model for _, model in list_tables(kind.options)]
    found = {field.description or "" for model in models for field in model.model_fields.values()}
    for secret in kind.secrets:
        found |= {secret.what, secret.where}
    return found


def test_every_module_that_has_kinds_is_entered() -> None:
    with_kinds = {
        path.stem
        for path in SOURCES.glob("*.py")
        if re.search(r"^KINDS\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert with_kinds == set(STEMS)


@pytest.mark.parametrize("stem", STEMS)
def test_a_module_has_tests_of_its_stem(stem: str) -> None:
    folder = TESTS / stem
    assert (folder / f"test_{stem}.py").is_file()
    kinds = import_module(f"pipelines.sources.{stem}").KINDS
    assert set(kinds) == {name for name, module in MODULES.items() if module == stem}
    if not all(kind.is_local for kind in kinds.values()):
        servers = {path.name for path in folder.glob("*.py")} - {f"test_{stem}.py"}
        assert servers, "a server on loopback of its own, such as server.py"


def test_no_folder_of_tests_is_without_its_module() -> None:
    folders = {path.name for path in TESTS.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == set(STEMS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_says_what_it_is(kind: Kind) -> None:
    assert find_kind(kind.name) is kind
    assert re.fullmatch(NAME_PATTERN, kind.name)
    assert kind.summary
    assert not HAN.search(kind.summary)
    assert HAN.search(kind.summary_zh)
    assert kind.entities
    assert set(kind.entities) <= set(SCHEMAS)
    assert kind.check is not None, "doctor asks every source"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_option_is_described(kind: Kind) -> None:
    for path, model in list_tables(kind.options):
        assert model.model_config.get("extra") == "forbid", path or kind.name
        for name, field in model.model_fields.items():
            assert field.description, f"{path}.{name} of {kind.name} needs a description"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_option_that_is_mistyped_names_the_right_one(kind: Kind) -> None:
    (*_, name) = kind.options.model_fields
    source = Source(name="desk", kind=kind.name, options={f"{name[:-1]}_{name[-1]}": "x"})
    with pytest.raises(UsageError, match=f"source 'desk': unknown option .*{name}"):
        read_options(source, kind.options)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_secret_says_where_it_is_made(kind: Kind) -> None:
    if kind.needs_connection:
        assert kind.secrets
    for secret in kind.secrets:
        assert SECRET.fullmatch(secret.field)
        assert secret.what
        assert secret.where, f"{secret.field} of {kind.name} needs where one gets it"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_all_is_said_in_chinese_too(kind: Kind) -> None:
    known = chinese_texts()
    missing = [
        text
        for text in list_texts(kind)
        if text not in known and not SAME_EVERYWHERE.fullmatch(text)
    ]
    assert missing == [], "add them to pipelines/sources/zh.toml"
    assert kind.name in "\n".join(describe_kind(kind, "zh"))


def test_nothing_is_translated_in_vain() -> None:
    said = {text for kind in KINDS for text in list_texts(kind)}
    assert set(chinese_texts()) <= said
    assert all(HAN.search(chinese) for chinese in chinese_texts().values())

"""What the documents say against what the code has: tables, links, commands, names."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from pipelines import task_tables
from pipelines.context import STEPS
from pipelines.deliver import METRIC_VIEWS
from pipelines.entities import SCHEMAS
from pipelines.expectations import entity_checks
from pipelines.settings import Settings
from pipelines.sources import MODULES, all_kinds, find_kind
from pipelines.sources.listing import render_table, replace_table

ROOT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.zh.md")
DOCUMENTS = (*READMES, "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md")
PICTURES = ("docs/way-of-the-data.svg", "docs/way-of-the-data.zh.svg")
CODE_FOLDERS = ("dags", "pipelines", "scrapers", "models", "sql", "tests")
CODE_FILES = ("*.py", "*.sql", "*.yml", "*.toml", "*.md")
OUTSIDE = ("cp", "mkdir", "docker")  # commands of the documents that are not ours
INTERNAL_VARIABLES = {
    "HEARBACK_PARENT", "HEARBACK_OUTPUT", "HEARBACK_BUILD_FILE", "HEARBACK_LAKE",
}  # fmt: skip


@cache
def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def read_tables(name: str) -> list[list[list[str]]]:
    """Tables of a document: rows of cells, the heads left out."""
    tables: list[list[list[str]]] = []
    rows: list[str] = []
    for line in [*re.sub(r"```.*?```", "", read(name), flags=re.DOTALL).splitlines(), ""]:
        if line.startswith("|"):
            rows.append(line)
        elif rows:
            tables.append([[cell.strip() for cell in row.strip("|").split("|")] for row in rows])
            rows = []
    return [table[2:] for table in tables]


def find_code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def list_keys(name: str, sample: str) -> list[str]:
    """The first cells of the one table of a document that has the row ``sample``."""
    found = [
        [find_code(row[0])[0] if find_code(row[0]) else row[0] for row in table]
        for table in read_tables(name)
    ]
    (keys,) = [keys for keys in found if sample in keys]
    return keys


def find_row(name: str, key: str) -> list[str]:
    (row,) = [row for table in read_tables(name) for row in table if find_code(row[0])[:1] == [key]]
    return row


def list_blocks(name: str) -> list[tuple[str, str]]:
    """(language, content) of every code block of a document."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", read(name), re.DOTALL | re.MULTILINE)


def list_shell_lines() -> Iterator[str]:
    for name in DOCUMENTS:
        for language, content in list_blocks(name):
            if language == "sh":
                yield from content.splitlines()


def list_targets() -> set[str]:
    return set(re.findall(r"^\.PHONY: (\S+)$", read("Makefile"), re.MULTILINE))


@cache
def read_command() -> Any:
    """The command line as click sees it."""
    from typer.main import get_command

    from pipelines.cli import app

    return get_command(app)


def list_commands(group: Any, prefix: str = "hearback") -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from list_commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}"


def read_dag_tasks(module: str) -> list[str]:
    """Ids of the tasks that a DAG file makes, in the order of the file."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(read(f"dags/{module}.py"))):
        if not isinstance(node, ast.Call):
            continue
        inner = node.func
        if isinstance(inner, ast.Name) and inner.id == "step" and node.args:
            found.append((node.lineno, ast.literal_eval(node.args[0])))
        if not (isinstance(inner, ast.Call) and getattr(inner.func, "id", "") == "task"):
            continue
        ids = [word.value for word in inner.keywords if word.arg == "task_id"]
        if not ids:
            found.append((node.lineno, ast.unparse(node.args[0]).rsplit(".", 1)[-1]))
        elif isinstance(ids[0], ast.Constant):
            found.append((node.lineno, str(ids[0].value)))
    return [name for _, name in sorted(found, key=lambda task: task[0])]


def read_dags() -> dict[str, list[str]]:
    """Tasks by DAG id; an id that is made from a source's name has <source> in its place."""
    dags = {}
    for path in (ROOT / "dags").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r'dag_id=f?"([^"]+)"', text):
            dags[re.sub(r"\{[^}]*\}", "<source>", name)] = read_dag_tasks(path.stem)
    return dags


def list_models(folder: str) -> dict[str, dict[str, Any]]:
    """The dbt models that a folder's yml files describe, by name."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((ROOT / "sql" / "models" / folder).glob("*.yml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        found |= {model["name"]: model for model in content.get("models", ())}
    return found


def list_marts() -> set[str]:
    return {path.stem for path in (ROOT / "sql/models/marts").glob("*.sql")} | set(
        task_tables.COMMENTS
    )


def list_reasons() -> set[str]:
    """Reasons that reject: those of the checks, and what the readers of sources say of a record."""
    from datetime import UTC, datetime

    now = datetime(2026, 1, 1, tzinfo=UTC)
    checks = [check for entity in SCHEMAS for check in entity_checks(entity, now)]
    read_problems = {
        problem
        for path in (ROOT / "pipelines/sources").glob("*.py")
        for problem in re.findall(
            r"""["']((?:broken|wrong)_[a-z]+)["']""", path.read_text(encoding="utf-8")
        )
    }
    return {check.reason for check in checks if check.severity == "fail"} | read_problems


# the tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("readme", READMES)
def test_make_targets(readme: str) -> None:
    assert list_keys(readme, "make run") == [
        f"make {name}" for name in re.findall(r"^\.PHONY: (\S+)$", read("Makefile"), re.MULTILINE)
    ]


@pytest.mark.parametrize("readme", READMES)
def test_commands(readme: str) -> None:
    keys = list_keys(readme, "hearback run")
    assert sorted(keys) == sorted(list_commands(read_command()))


@pytest.mark.parametrize("readme", READMES)
def test_steps(readme: str) -> None:
    assert list_keys(readme, "validate") == list(STEPS)


@pytest.mark.parametrize("readme", READMES)
def test_kinds_of_source(readme: str) -> None:
    text = read(readme)
    assert list_keys(readme, "zendesk") == list(MODULES)
    told = "run 'python -m pipelines.sources.listing'"
    assert replace_table(text, render_table(readme)) == text, told
    assert all(kind.summary and kind.summary_zh for kind in all_kinds())


@pytest.mark.parametrize("readme", READMES)
def test_dags_and_their_tasks(readme: str) -> None:
    dags = read_dags()
    assert set(list_keys(readme, "feedback_daily")) == set(dags)
    for name, tasks in dags.items():
        assert find_code(find_row(readme, name)[2]) == tasks


@pytest.mark.parametrize("readme", READMES)
def test_follow_up_rules_and_their_thresholds(readme: str) -> None:
    rules = list_models("follow_up")
    files = {path.stem for path in (ROOT / "sql/models/follow_up").glob("*.sql")}
    assert set(rules) == files
    keys = list_keys(readme, "unanswered_complaint")
    assert sorted(f"rule_{key}" for key in keys) == sorted(files)
    for key in keys:
        told = re.findall(r"`(\w+)`\s*[(（]([\d.]+)[)）]", find_row(readme, key)[2])
        thresholds = rules[f"rule_{key}"]["config"]["meta"]["thresholds"]
        assert {name: float(value) for name, value in told} == thresholds


@pytest.mark.parametrize("readme", READMES)
def test_tables_of_the_warehouse(readme: str) -> None:
    keys = list_keys(readme, "cases")
    assert sorted(keys) == sorted(list_marts())
    for key in keys:
        assert find_row(readme, key)[1].endswith(("?", "？"))


def test_every_mart_is_described() -> None:
    files = {path.stem for path in (ROOT / "sql/models/marts").glob("*.sql")}
    described = list_models("marts")
    assert set(described) == files
    assert all("One row per" in model["description"] for model in described.values())


@pytest.mark.parametrize("readme", READMES)
def test_reasons_of_quarantine(readme: str) -> None:
    assert sorted(list_keys(readme, "missing_id")) == sorted(list_reasons())


@pytest.mark.parametrize("readme", READMES)
def test_tables_of_the_configuration(readme: str) -> None:
    keys = [key.strip("[]") for key in list_keys(readme, "[project]")]
    assert keys == [name for name in Settings.model_fields if name != "path"]


@pytest.mark.parametrize("readme", READMES)
def test_metrics_that_are_delivered(readme: str) -> None:
    told = find_code(find_row(readme, "out/metrics/<date>/")[1])
    assert told == [name for name in METRIC_VIEWS if name in list_marts()]


@pytest.mark.parametrize("readme", READMES)
def test_the_configuration_shown_is_valid(readme: str) -> None:
    blocks = [content for language, content in list_blocks(readme) if language == "toml"]
    assert blocks
    for block in blocks:
        settings = Settings.model_validate(tomllib.loads(block))
        rules = {f"rule_{rule.name}" for rule in settings.follow_up_rules}
        assert rules <= set(list_models("follow_up"))
        assert {source.kind for source in settings.sources} <= set(MODULES)
        for source in settings.sources:
            assert find_kind(source.kind).mappings(source)


def test_the_changelog_names_every_table_of_the_warehouse() -> None:
    changed = {row[0].strip("`") for table in read_tables("CHANGELOG.md") for row in table}
    assert list_marts() <= changed


def test_the_changelog_has_the_version_of_the_project() -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert f"## [{version}]" in read("CHANGELOG.md")


# the two languages ----------------------------------------------------------------------------


def test_both_languages_have_the_same_headings() -> None:
    levels = [re.findall(r"^(#+) ", read(name), re.MULTILINE) for name in READMES]
    assert levels[0] == levels[1]


def test_both_languages_have_the_same_code_blocks() -> None:
    assert list_blocks("README.md") == list_blocks("README.zh.md")


def test_both_languages_have_tables_with_the_same_keys() -> None:
    english, chinese = (read_tables(name) for name in READMES)
    assert [len(table) for table in english] == [len(table) for table in chinese]
    for ours, theirs in zip(english, chinese, strict=True):
        for row, translated in zip(ours, theirs, strict=True):
            assert find_code(row[0]) == find_code(translated[0])


def test_the_chinese_page_is_chinese() -> None:
    for line in re.sub(r"```.*?```", "", read("README.zh.md"), flags=re.DOTALL).splitlines():
        words = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)", "", line)
        if len(re.findall(r"[A-Za-z]{2,}", words)) > 3:
            assert re.search(r"[一-鿿]", words), line


# links, commands, names -----------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_somewhere(document: str) -> None:
    folder = (ROOT / document).parent
    links = re.findall(r"\]\(([^)\s]+)\)", read(document))
    assert [
        link for link in links if "://" not in link and not (folder / link.split("#")[0]).exists()
    ] == []


@pytest.mark.parametrize("line", sorted(set(list_shell_lines())))
def test_every_command_shown_is_a_command(line: str) -> None:
    words = shlex.split(line)
    if words[0] == "make":
        assert set(words[1:]) - {word for word in words if "=" in word} <= list_targets()
    elif words[0] == ".venv/bin/hearback":
        check_arguments(words[1:])
    elif words[:4] == [".venv/bin/python", "-m", "pytest", words[-1]]:
        assert (ROOT / words[-1]).exists()
    elif words[:2] == [".venv/bin/python", "-m"]:
        assert find_spec(words[2])
    else:
        assert words[0] in OUTSIDE


def check_arguments(words: list[str]) -> None:
    """Parse a call as the command line would, without performing it."""
    command = read_command()
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)


def test_a_wrong_option_would_be_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        check_arguments(["tasks", "list", "--boss", "Ann"])


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "README.md"])
def test_every_file_named_exists(document: str) -> None:
    paths = [
        code
        for code in find_code(re.sub(r"```.*?```", "", read(document), flags=re.DOTALL))
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?|\w+/", code)
        and code.split("/")[0] in (*CODE_FOLDERS, "data", "docs", "docker")
    ]
    made = ("sql/target", "data/demo/hearback.toml", "docs/", "models/")
    assert [path for path in paths if not (ROOT / path).exists() and path not in made] == []


def test_every_name_that_contributors_read_is_in_the_code() -> None:
    names = {
        code
        for code in find_code(re.sub(r"```.*?```", "", read("CONTRIBUTING.md"), flags=re.DOTALL))
        if re.fullmatch(r"[A-Za-z_]\w*", code) and len(code) > 3
    } - {"verb_object"}
    text = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in CODE_FOLDERS
        for pattern in CODE_FILES
        for path in (ROOT / folder).rglob(pattern)
        if path.name != "test_docs.py"
    )
    assert len(names) > 20
    assert sorted(name for name in names if not re.search(rf"\b{name}", text)) == []


@pytest.mark.parametrize("picture", PICTURES)
def test_the_picture_names_every_step_and_layer(picture: str) -> None:
    root = ElementTree.fromstring(read(picture))
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert set(STEPS) <= texts
    assert {"raw", "staging", "quarantine", "intermediate", "classified", "marts"} <= texts
    assert "prefers-color-scheme: dark" in read(picture)


def test_the_example_environment_names_every_variable_and_gives_no_value() -> None:
    told = re.findall(r"^#? ?([A-Z_]+)=(.*)$", read(".env.example"), re.MULTILINE)
    assert all(value == "" for _, value in told)
    used = {
        name
        for room in ("dags", "pipelines", "scrapers", "models")
        for path in (ROOT / room).rglob("*.py")
        for name in re.findall(r'"(HEARBACK_[A-Z_]+)"', path.read_text(encoding="utf-8"))
    }
    assert {name for name, _ in told if name.startswith("HEARBACK_")} == used - INTERNAL_VARIABLES


def test_only_the_readme_of_data_is_kept_in_git() -> None:
    lines = read(".gitignore").splitlines()
    assert lines.index("data/*") < lines.index("!data/README.md")

"""The dbt project as a whole: its unit tests, its documentation, its rules."""

from __future__ import annotations

import json

import yaml
from mart_world import World

from pipelines.dbt_project import SQL_FOLDER, invoke_dbt

MODELS = SQL_FOLDER / "models"


def test_unit_tests_pass_with_rows_in_and_out(golden: World) -> None:
    result, _ = invoke_dbt(golden.home, ["test", "--select", "test_type:unit"])
    assert {str(found.status) for found in result.results} == {"pass"}
    assert len(result.results) >= 4


def test_documentation_is_generated_offline(golden: World) -> None:
    invoke_dbt(golden.home, ["docs", "generate", "--static"])
    catalog = json.loads((golden.home.state / "dbt" / "catalog.json").read_text())
    assert "model.hearback.cases" in catalog["nodes"]
    assert (golden.home.state / "dbt" / "static_index.html").exists()


def test_every_model_stands_beside_its_description() -> None:
    bare = [path.name for path in MODELS.rglob("*.sql") if not path.with_suffix(".yml").exists()]
    assert bare == []


def test_every_description_ends_with_its_grain() -> None:
    for path in MODELS.rglob("*.yml"):
        for model in yaml.safe_load(path.read_text(encoding="utf-8")).get("models", []):
            assert "One row" in model["description"].split(". ")[-1], path.name


def test_rule_of_an_analyst_needs_one_model_and_one_description() -> None:
    """Rules have no list: the folder alone decides, through the hook on it.

    A rule may stand back for another one; nothing else knows of any.
    """
    project = yaml.safe_load((SQL_FOLDER / "dbt_project.yml").read_text())
    hook = project["models"]["hearback"]["follow_up"]["+post-hook"]
    assert "add_candidates" in hook
    for path in (MODELS / "follow_up").glob("*.sql"):
        others = [other for other in MODELS.rglob("*.sql") if other.parent != path.parent]
        assert all(path.stem not in other.read_text(encoding="utf-8") for other in others)

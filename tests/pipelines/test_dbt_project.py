"""What dbt has read of the project is kept, and read anew when it cannot be used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "sql"))

from mart_world import World

from pipelines import dbt_project
from pipelines.dbt_project import hash_project, load_manifest


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the project as dbt has read it; dbt reads it no more."""
    folder = tmp_path / "kept"
    load_manifest(folder)

    def fail() -> None:
        raise AssertionError("dbt has read the project again")

    monkeypatch.setattr(dbt_project, "parse_project", fail)
    return folder


def test_what_was_read_is_kept_whole(kept: Path) -> None:
    assert [path.name for path in kept.iterdir()] == [f"project-{hash_project()}.msgpack"]
    manifest = load_manifest(kept)
    assert "model.hearback.cases" in manifest.nodes
    assert "macro.hearback.threshold" in manifest.macros


def test_damaged_or_missing_file_is_read_anew(kept: Path) -> None:
    path = next(kept.iterdir())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(AssertionError, match="read the project again"):
        load_manifest(kept)
    path.unlink()
    with pytest.raises(AssertionError, match="read the project again"):
        load_manifest(kept)


def test_changed_project_is_read_anew(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbt_project, "hash_project", lambda: "other")
    with pytest.raises(AssertionError, match="read the project again"):
        load_manifest(kept)


def test_home_keeps_it_where_the_installation_cannot(kept: Path, tmp_path: Path) -> None:
    installation = tmp_path / "file, not a folder"
    installation.write_text("")
    assert "model.hearback.cases" in load_manifest(installation, kept).nodes


def test_older_projects_are_removed_and_the_next_folder_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = load_manifest(tmp_path / "first")
    monkeypatch.setattr(dbt_project, "parse_project", lambda: manifest)
    installation = tmp_path / "file, not a folder"
    installation.write_text("")
    home = tmp_path / "home"
    home.mkdir()
    (home / "project-older.msgpack").write_text("")
    load_manifest(installation, home)
    assert [path.name for path in home.iterdir()] == [f"project-{hash_project()}.msgpack"]


def test_build_works_when_the_project_is_read_in_the_same_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dbt_project, "SHARED_FOLDER", tmp_path / "nothing kept yet")
    world = World(tmp_path)
    world.commit()
    world.build()
    assert world.query("select count(*) as n from cases") == [{"n": 0}]

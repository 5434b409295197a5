"""The dbt project in ``sql/``: read once an installation, run in this process on the build file.

Reading the project costs dbt three seconds, whatever there is to build. What it has read is kept,
named by the content of the project and the versions of dbt, and handed to the next call.
``python -m pipelines.dbt_project`` reads it ahead, when Hearback is installed.
"""

from __future__ import annotations

import gc
import hashlib
import os
import tempfile
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from pipelines.errors import HearbackError
from pipelines.storage import explain_disk_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbt.contracts.graph.manifest import Manifest

    from pipelines.storage import Home

SQL_FOLDER = Path(__file__).resolve().parents[1] / "sql"
SHARED_FOLDER = SQL_FOLDER / "target"  # of the installation; read-only in some
FOLDERS = ("models", "macros", "tests")
BUILD_NAME = "build.duckdb"  # dbt names the database after the file


def list_project_files(folders: tuple[str, ...] = FOLDERS) -> list[Path]:
    """The files of the dbt project, in a fixed order."""
    found = [path for folder in folders for path in (SQL_FOLDER / folder).rglob("*")]
    used = [path for path in found if path.suffix in (".sql", ".yml")]
    return [SQL_FOLDER / "dbt_project.yml", SQL_FOLDER / "profiles.yml", *sorted(used)]


def hash_project() -> str:
    """Changes with whatever changes what dbt reads out of the project."""
    digest = hashlib.sha256()
    for name in ("dbt-core", "dbt-adapters", "dbt-common", "dbt-duckdb"):
        digest.update(f"{name} {version(name)}\n".encode())
    for path in list_project_files():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(SQL_FOLDER)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:32]


def load_manifest(*folders: Path) -> Manifest:
    """The project as dbt has read it: from the first folder that has it, else read and kept."""
    name = f"project-{hash_project()}.msgpack"
    for folder in folders:
        manifest = read_manifest(folder / name)
        if manifest is not None:
            return manifest
    manifest = parse_project()
    for at, folder in enumerate(folders):
        try:
            keep_manifest(manifest, folder / name)
        except OSError as error:
            if at == len(folders) - 1:
                with explain_disk_errors(str(folder)):
                    raise error
        else:
            break
    return manifest


def read_manifest(path: Path) -> Manifest | None:
    """A manifest that was kept; None if there is none or it cannot be read."""
    from dbt.contracts.graph.manifest import Manifest
    from dbt.parser.manifest import extended_mashumuro_decoder

    try:
        content = path.read_bytes()
    except OSError:
        return None
    try:
        manifest: Manifest = Manifest.from_msgpack(content, decoder=extended_mashumuro_decoder)
    except Exception:  # whatever a damaged file makes the decoder raise: it is read anew
        return None
    manifest.build_flat_graph()  # type: ignore[no-untyped-call]
    return manifest


def keep_manifest(manifest: Manifest, path: Path) -> None:
    """Keep a manifest under its name, whole or not at all, in place of those of other projects."""
    from dbt.parser.manifest import extended_mashumaro_encoder

    path.parent.mkdir(parents=True, exist_ok=True)
    content = manifest.to_msgpack(extended_mashumaro_encoder)
    number, aside = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    finally:
        Path(aside).unlink(missing_ok=True)
    for older in path.parent.glob("project-*.msgpack"):
        if older != path:
            older.unlink(missing_ok=True)


def parse_project() -> Manifest:
    """Let dbt read the project. HearbackError if it cannot."""
    from dbt.adapters import factory
    from dbt.cli.main import dbtRunner

    with tempfile.TemporaryDirectory(prefix="hearback-") as aside:
        target = Path(aside)
        try:
            name_build_file(target / BUILD_NAME)
            result = dbtRunner().invoke(["parse", "--no-write-json", *list_options(target)])
        finally:
            factory.reset_adapters()  # type: ignore[no-untyped-call]
    if not result.success:
        raise explain_failure(result, target)
    manifest: Manifest = result.result  # type: ignore[assignment]
    return manifest


def list_options(target: Path) -> list[str]:
    """Where dbt finds the project and leaves its files; it says nothing itself."""
    return [
        "--project-dir", str(SQL_FOLDER),
        "--profiles-dir", str(SQL_FOLDER),
        "--target-path", str(target),
        "--log-path", str(target / "logs"),
        "--log-level", "none",
        "--log-level-file", "none",
        "--quiet",
        "--no-use-colors",
    ]  # fmt: skip


def name_build_file(path: Path) -> None:
    """Tell sql/profiles.yml which file is built."""
    os.environ["HEARBACK_BUILD_FILE"] = str(path)


def find_target(home: Home) -> Path:
    """Where dbt leaves its files: compiled SQL, and the artefacts of ``docs generate``."""
    return home.state / "dbt"


def load_project(home: Home) -> Manifest:
    """The manifest for a home, which keeps it if the installation cannot."""
    return load_manifest(SHARED_FOLDER, find_target(home))


def invoke_dbt(home: Home, arguments: list[str]) -> tuple[Any, Manifest]:
    """Run dbt in this process on the build file, quietly; returns its result and the project.

    HearbackError names the model or test that failed.
    """
    target = find_target(home)
    with explain_disk_errors(str(target)):
        target.mkdir(parents=True, exist_ok=True)
    with pause_collection():
        from dbt.adapters import factory
        from dbt.cli.main import dbtRunner

        manifest = load_project(home)
        try:
            name_build_file(home.build)
            os.environ["HEARBACK_LAKE"] = home.lake.url("").rstrip("/")
            result = dbtRunner(manifest=manifest).invoke([*arguments, *list_options(target)])
        finally:
            close_dbt_connections()
            factory.reset_adapters()  # type: ignore[no-untyped-call]
    if not result.success:
        raise explain_failure(result, target)
    return result.result, manifest


def start_import() -> None:
    """Import dbt, which takes seconds, in a thread while DuckDB prepares what it will build from.

    Whoever imports it next waits for the thread, and sees what stopped it.
    """
    Thread(target=import_module, args=("dbt.cli.main",), daemon=True).start()


@contextmanager
def pause_collection() -> Iterator[None]:
    """dbt makes many small objects and hardly a cycle: looking for cycles takes a tenth of it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def close_dbt_connections() -> None:
    """Let go of the build file, which the adapter would hold until the process ends."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]


def explain_failure(result: Any, target: Path) -> HearbackError:
    """One line that names the model or test, what DuckDB said, and where the compiled SQL is."""
    for found in getattr(result.result, "results", None) or []:
        if str(found.status) in ("error", "fail", "runtime error"):
            node = found.node
            said = " ".join(str(found.message or "").split())
            # A unit test has no compiled file of its own.
            path = getattr(node, "compiled_path", None) or target / "compiled"
            return HearbackError(
                f"aggregate: {node.resource_type} {node.name} "
                f"({SQL_FOLDER.name}/{node.original_file_path}) failed: {said}; "
                f"the compiled SQL is {path}"
            )
    said = " ".join(str(result.exception or "unknown cause").split())
    return HearbackError(f"aggregate: dbt could not run {SQL_FOLDER}: {said}; mend the project")


if __name__ == "__main__":
    load_manifest(SHARED_FOLDER)

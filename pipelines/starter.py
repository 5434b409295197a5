"""The files that ``hearback init`` writes."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from pipelines.errors import UsageError
from pipelines.storage import explain_disk_errors

FILES = {"hearback.toml": "hearback.toml", ".env.example": "env.example"}


def write_starter(folder: Path) -> list[Path]:
    """Write the commented files and return those written; an .env.example that is there is kept.

    UsageError, and nothing written, if there is a hearback.toml.
    """
    config = folder / "hearback.toml"
    if config.exists():
        raise UsageError(f"{config} is already there; move it away or choose another folder")
    wanted = {
        folder / name: template for name, template in FILES.items() if not (folder / name).exists()
    }
    for path, template in wanted.items():
        text = read_template(template)
        with explain_disk_errors(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return list(wanted)


def read_template(name: str) -> str:
    return files("pipelines").joinpath("templates", name).read_text(encoding="utf-8")

"""Where hearback.toml is for Airflow's programs: the DAG files, the tasks and the notices."""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.settings import Settings, load_settings


def config_path() -> Path:
    """hearback.toml: HEARBACK_CONFIG, else of the current folder, else beside the dags folder."""
    if given := os.environ.get("HEARBACK_CONFIG"):
        return Path(given)
    here = Path.cwd() / "hearback.toml"
    return here if here.is_file() else Path(__file__).resolve().parent.parent / "hearback.toml"


def read_settings() -> Settings:
    return load_settings(config_path())

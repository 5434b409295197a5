"""Lets dbt's own DuckDB connection read a lake on an object store.

dbt-duckdb loads this by name (``plugins`` in ``sql/profiles.yml``). DuckDB's extension for object
stores is not in the package index; the file system that the steps use is registered instead.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dbt.adapters.duckdb.plugins import BasePlugin

from pipelines.storage import Lake

if TYPE_CHECKING:
    import duckdb


class Plugin(BasePlugin):
    """``pipelines.dbt_project`` says in HEARBACK_LAKE where the lake is."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        root = os.environ.get("HEARBACK_LAKE")
        lake = Lake(root) if root else None
        if lake is not None and not lake.is_local:
            conn.register_filesystem(lake.fs)

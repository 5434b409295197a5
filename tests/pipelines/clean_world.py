"""A lake in a folder that clean is run on: rows in, rows out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines import clean
from pipelines.context import StepCount, start_run
from pipelines.entities import SCHEMAS
from pipelines.settings import Settings
from pipelines.storage import Lake

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def at(text: str) -> datetime:
    """2026-11-<text>, such as "05 10:30"."""
    return datetime.strptime(f"2026-11-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


class World:
    def __init__(self, folder: Path, **privacy: Any) -> None:
        self.settings = Settings.model_validate(
            {"path": folder / "hearback.toml", "privacy": privacy}
        )
        self.lake = Lake(self.settings.home / "lake")
        self.captures = 0

    def stage(self, entity: str, *rows: dict[str, Any], source: str = "shop") -> None:
        """Add rows to staging as validate does: a file, then the manifest."""
        self.stage_all({entity: rows}, source=source)

    def stage_all(
        self, entities: dict[str, Iterable[dict[str, Any]]], source: str = "shop"
    ) -> None:
        manifest = self.lake.staging_manifest()
        manifest["version"] += 1
        self.captures += 1
        captured_at = NOW - timedelta(days=1) + timedelta(minutes=self.captures)
        for entity, rows in entities.items():
            filled = [
                {"source": source, "source_kind": "jsonl", "captured_at": captured_at,
                 "run_id": "r", "record_id": f"{entity}-{n}", **row}
                for n, row in enumerate(rows)
            ]  # fmt: skip
            table = pa.Table.from_pylist(filled, SCHEMAS[entity])
            folder = self.lake.layer_folder("staging", entity, NOW.date())
            entry = self.lake.write_table(folder, "part", table, manifest["version"])
            manifest["files"].setdefault(entity, []).append(entry)
        self.lake.write_staging_manifest(manifest)

    def clean(self, **options: Any) -> dict[tuple[str, str], StepCount]:
        run = start_run(self.settings, now=options.pop("now", NOW), **options)
        return {(c.source or "", c.entity or ""): c for c in clean.run(run)}

    def facts(self, entity: str) -> list[dict[str, Any]]:
        """All facts of an entity, each with the day it is filed under as ``_day``."""
        days = self.lake.facts_manifest()["partitions"].get(entity, {})
        return [
            {**row, "_day": day}
            for day, entry in sorted(days.items())
            for row in self.lake.read_table(entry).to_pylist()
        ]

    def fact(self, entity: str, **wanted: Any) -> dict[str, Any]:
        """The one fact that has the wanted values."""
        found = [row for row in self.facts(entity) if all(row[k] == v for k, v in wanted.items())]
        assert len(found) == 1, f"{len(found)} {entity} with {wanted}"
        return found[0]

    def lake_files(self) -> set[str]:
        base = Path(self.lake.root) / "intermediate"
        return {str(path.relative_to(self.lake.root)) for path in base.rglob("*.parquet")}


def review(key: str, body: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "source_record_id": key, "channel": "review", "created_at": at("05 10:00"),
        "body": f"The charger of number {key} is broken" if body is None else body, **more,
    }  # fmt: skip


def case(key: str, **more: Any) -> dict[str, Any]:
    return {
        "source_case_id": key, "channel": "email", "subject": f"Charger {key}",
        "source_customer_id": "u1", "submitter_id": "u1", "status": "open",
        "opened_at": at("05 10:00"), "updated_at": at("05 10:00"), **more,
    }  # fmt: skip


def message(key: str, case_key: str, **more: Any) -> dict[str, Any]:
    return {
        "source_record_id": key, "source_case_id": case_key, "author_id": "u1",
        "is_public": True, "created_at": at("05 10:00"), "sequence": 1,
        "body": f"Message {key}: the charger does not work", **more,
    }  # fmt: skip

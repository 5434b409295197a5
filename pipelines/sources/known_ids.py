"""The ids that a source without a record of deletions had, so that those which are gone are found.

They stand in Parquet files of the source's own folder: one file for a complete list, whose name is
part of the position, and beside it the ids of the records that were read since, batch by batch. A
pull that was killed therefore knows what it had read, and a list counts only once the position that
names it is safely on disk.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.entities import DELETABLE
from pipelines.mapping import CAPTURED_AT, RECORD_ID, Field, Mapping, When
from pipelines.sources.deletions import map_deletion
from pipelines.storage import connect_duckdb, quote_list

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 10_000
DELETED = "_deleted"  # the key of a record that says that another one is gone
# Entities of which a deletion can be told.
MARKED = ("feedback", "messages", "cases", "survey", "survey_responses", "quality_reviews",
          "customers", "orders", "agents")  # fmt: skip


class KnownIds:
    """``list_name`` is the list that the last committed position names."""

    def __init__(self, folder: Path, list_name: str | None) -> None:
        self.folder = folder
        self.current = list_name or "none"
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.parquet"):
            if path.stem.split("+")[0] != self.current:
                path.unlink()

    def add(self, ids: pa.Array) -> None:
        """Note ids of records that are about to be captured."""
        self._write([ids], f"{self.current}+{uuid.uuid4().hex}")

    def find_gone(self, ids: Iterable[pa.Array]) -> tuple[str, int, Iterator[list[str]]]:
        """(name of a new list, how many it has, known ids that are not in it) for a complete list.

        Nothing is gone if nothing was known.
        """
        name = uuid.uuid4().hex
        count = self._write(ids, name)
        before = sorted(str(path) for path in self.folder.glob(f"{self.current}*.parquet"))
        return name, count, self._list_gone(before, name) if before else iter(())

    def _list_gone(self, before: list[str], name: str) -> Iterator[list[str]]:
        con = connect_duckdb()
        reader = con.sql(
            f"""
            select distinct record_id from read_parquet({quote_list(before)}) as before
            anti join read_parquet({quote_list([str(self.folder / f"{name}.parquet")])})
                using (record_id)
            order by record_id
            """
        ).to_arrow_reader(BATCH_ROWS)
        for batch in reader:
            yield batch.column("record_id").to_pylist()

    def _write(self, arrays: Iterable[pa.Array], stem: str) -> int:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([pa.field("record_id", pa.string())])
        path = self.folder / f"{stem}.parquet"
        aside = path.with_suffix(".part")
        rows = 0
        with pq.ParquetWriter(str(aside), schema, compression="zstd") as writer:
            for ids in arrays:
                writer.write_table(pa.table({"record_id": ids}, schema=schema))
                rows += len(ids)
        aside.replace(path)
        return rows


def map_gone(entity: str) -> list[Mapping]:
    """What a row that is gone means for its entity."""
    is_gone = (When(DELETED),)
    if entity in ("survey", "survey_responses"):
        given = ("survey_responses", "feedback") if entity == "survey" else (entity,)
        return [map_deletion(entity, name, Field(RECORD_ID), when=is_gone) for name in given]
    if entity in (*DELETABLE, "messages"):
        deleted = "feedback" if entity == "messages" else entity
        return [map_deletion(entity, deleted, Field(RECORD_ID), when=is_gone)]
    fields = {
        "cases": {
            "source_event_id": Field(RECORD_ID, suffix=":deleted"),
            "source_case_id": Field(RECORD_ID),
            "event_at": Field(CAPTURED_AT, "instant"),
            "event_type": Field(const="deleted"),
            "actor_role": Field(const="system"),
        },
        "agents": {
            "source_agent_id": Field(RECORD_ID),
            "is_active": Field(const=False),
            "updated_at": Field(CAPTURED_AT, "instant"),
        },
    }[entity]
    target = "case_events" if entity == "cases" else entity
    key = next(iter(fields))
    return [Mapping(entity, target, fields, when=is_gone, required=(key,))]

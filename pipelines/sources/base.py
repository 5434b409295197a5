"""What a source kind declares, and what a pull yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipelines.connections import Connection, get_connection
from pipelines.errors import UsageError
from pipelines.mapping import Mapping
from pipelines.settings import Source, nearest

if TYPE_CHECKING:
    import pyarrow as pa

Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True)
class Record:
    """One record as received. ``payload`` is a dict, or the text that ``problem`` is about."""

    record_id: str
    payload: dict[str, Any] | str
    url: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Batch:
    """Records of one raw entity.

    ``records`` is a list, or an Arrow table with record_id, payload (JSON text), url and problem.
    ``position`` is what to remember once this batch and all before it are safely on disk; None
    leaves the remembered position as it is.
    """

    entity: str
    records: list[Record] | pa.Table
    position: dict[str, Any] | None = None


@dataclass(frozen=True)
class PullContext:
    """What a pull may use. ``position`` is what the last committed batch said to remember."""

    now: datetime
    folder: Path  # relative paths in options start here
    state: Path  # a folder of this source's own, kept between runs
    position: dict[str, Any] = field(default_factory=dict)
    progress: Callable[[str, int], None] = lambda message, rows: None
    time_zone: str = "UTC"
    allowed_hosts: tuple[str, ...] = ()

    def connection(self, source: Source) -> Connection:
        """The source's secrets; UsageError or HearbackError names what is missing."""
        if source.connection is None:
            raise UsageError(
                f'source {source.name!r} needs a connection; add connection = "{source.name}" '
                f"to its entry and export AIRFLOW_CONN_{source.name.upper()}"
            )
        return get_connection(source.connection)


@dataclass(frozen=True)
class Kind:
    """One kind of source: its options, what it gives, and how it is pulled."""

    name: str
    summary: str
    options: type[BaseModel]
    entities: tuple[str, ...]
    pull: Callable[[Source, PullContext], Iterator[Batch]]
    mappings: Callable[[Source], list[Mapping]]
    needs_base_url: bool = False
    needs_connection: bool = False
    secrets: str = ""


def read_options(source: Source, model: type[Options]) -> Options:
    """The source's options, checked; UsageError names the source, the key and the nearest key."""
    try:
        return model.model_validate(source.options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = nearest(key, list(model.model_fields)) or (
                f"; options of {source.kind} are: {', '.join(model.model_fields)}"
            )
            raise UsageError(f"source {source.name!r}: unknown option {key!r}{hint}") from None
        if first["type"] == "missing":
            raise UsageError(
                f"source {source.name!r}: option {key!r} is required for kind {source.kind}"
            ) from None
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"source {source.name!r}: option {key!r}: {message}") from None

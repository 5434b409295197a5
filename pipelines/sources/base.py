"""What a source kind declares, and what a pull yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

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
    note: Callable[[str], None] = lambda text: None  # a wait, or the budget that is left
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
class Secret:
    """One thing that a source's connection must hold, and where one gets it.

    ``field`` is ``login``, ``password``, ``host``, or ``extra.<name>`` of the Airflow connection.
    Where it is given, the fields in ``replaces`` are not required.
    """

    field: str
    what: str
    where: str = ""
    is_optional: bool = False
    replaces: tuple[str, ...] = ()


# One raw record → flat records that lookups may read, such as the questions of a form.
Derive = Callable[[Source, dict[str, Any]], Iterator[dict[str, Any]]]


@dataclass(frozen=True)
class Kind:
    """One kind of source: its options, what it gives, and how it is pulled.

    ``check`` makes one cheap request and says in a few words what answered; it raises what a pull
    would. ``is_local``: it makes none and looks at files. ``derive`` names, by raw entity, what its
    records hold for lookups. ``default_url`` is where the vendor's API lives if base_url is not
    set. ``has_versions``: a record that comes twice in one pull has changed in between, and the
    later one counts; in a file two rows of one id that say different things contradict each other.
    """

    name: str
    summary: str
    options: type[BaseModel]
    entities: tuple[str, ...]
    pull: Callable[[Source, PullContext], Iterator[Batch]]
    mappings: Callable[[Source], list[Mapping]]
    needs_base_url: bool = False
    needs_connection: bool = False
    secrets: tuple[Secret, ...] = ()
    check: Callable[[Source, PullContext], str] | None = None
    derive: dict[str, Derive] = field(default_factory=dict)
    default_url: str | None = None
    summary_zh: str = ""
    has_versions: bool = True
    is_local: bool = False


def read_options(source: Source, model: type[Options]) -> Options:
    """The source's options, checked; UsageError names the source, the key and the nearest key."""
    try:
        return model.model_validate(source.options)
    except ValidationError as error:
        found = error.errors()  # a key that is not known explains one that is missing
        first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = keys_at(model, first["loc"])
            hint = nearest(str(first["loc"][-1]), known) or (
                f"; options of {source.kind} are: {', '.join(known)}"
            )
            raise UsageError(f"source {source.name!r}: unknown option {key!r}{hint}") from None
        if first["type"] == "missing":
            raise UsageError(
                f"source {source.name!r}: option {key!r} is required for kind {source.kind}"
            ) from None
        message = first["msg"].removeprefix("Value error, ")
        where = f"option {key!r}" if key else "options"
        raise UsageError(f"source {source.name!r}: {where}: {message}") from None


def keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand beside the last part of a location in a model."""
    fields = model.model_fields
    for part in location[:-1]:
        named = {field.alias or name: field for name, field in fields.items()}
        inner = find_model(named[str(part)].annotation) if part in named else None
        fields = inner.model_fields if inner else fields
    return [field.alias or name for name, field in fields.items()]


def find_model(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as ``list[Model]`` or ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := find_model(part))), None)

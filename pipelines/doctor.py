"""``hearback doctor``: what would make a run fail, found before the run."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import HearbackError
from pipelines.settings import Settings, load_settings
from pipelines.storage import Home

if TYPE_CHECKING:
    from pipelines.settings import Source

FREE_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: all well, or what to mend."""

    is_ok: bool
    text: str


def examine(config: Path) -> Iterator[Finding]:
    """The findings, in the order in which they are to be mended."""
    try:
        settings = load_settings(config)
    except HearbackError as error:
        yield Finding(False, error.message)
        return
    yield Finding(True, f"configuration: {settings.path}")
    if not any(source.enabled for source in settings.sources):
        yield Finding(False, f"{settings.path}: no enabled source; add a [[sources]] entry")
    for source in settings.sources:
        if source.enabled:
            yield from ask(f"source {source.name}", lambda: check_source(settings, source))  # noqa: B023
    yield from ask("calendars", lambda: check_calendars(settings))
    yield from ask("notices", lambda: check_delivery(settings))
    yield from ask("model", lambda: check_model(settings))
    yield from ask("disk", lambda: check_disk(settings))


def ask(what: str, check: Callable[[], str]) -> Iterator[Finding]:
    try:
        yield Finding(True, f"{what}: {check()}")
    except HearbackError as error:
        message = error.message.removeprefix(f"source {what.removeprefix('source ')!r}: ")
        yield Finding(False, f"{what}: {message}")


def check_source(settings: Settings, source: Source) -> str:
    """Kind, options, files, address and connection of a source; returns its kind."""
    from pipelines.connections import get_connection
    from pipelines.sources import find_kind
    from pipelines.sources.base import read_options

    kind = find_kind(source.kind)
    options = read_options(source, kind.options)
    path = getattr(options, "path", None)
    if path and not glob.glob(str(settings.folder / path), recursive=True):
        raise HearbackError(f"no file matches {path} (from {settings.folder}); mend options.path")
    if kind.needs_base_url and not source.base_url:
        raise HearbackError(f'kind {kind.name} needs base_url = "https://…"; add it')
    if kind.needs_connection and not source.connection:
        raise HearbackError(
            f'kind {kind.name} needs a connection; add connection = "{source.name}" and export '
            f"AIRFLOW_CONN_{source.name.upper()} ({kind.secrets})"
        )
    if source.connection:
        get_connection(source.connection)
    return kind.name


def check_calendars(settings: Settings) -> str:
    """Expand every calendar over this year: holidays and zones that are not known show here."""
    from pipelines.calendars import expand_calendar

    year = date.today().year
    names = sorted({calendar.name for calendar in settings.calendars})
    for name in names:
        versions = [calendar for calendar in settings.calendars if calendar.name == name]
        open_spans = expand_calendar(versions, date(year, 1, 1), date(year, 12, 31))
        if not open_spans.num_rows:
            raise HearbackError(f"calendar {name!r} is never open in {year}; add hours to it")
    return ", ".join(names) or "none; business minutes count around the clock"


def check_delivery(settings: Settings) -> str:
    from pipelines.connections import get_connection

    connection = settings.delivery.failure_webhook_connection
    if connection:
        get_connection(connection)
    return connection or "files only"


def check_model(settings: Settings) -> str:
    """The model in use loads; without one, the first run trains the one that comes along."""
    from models.errors import ModelError
    from models.store import load_model, read_pointer

    folder = Home(settings).models
    try:
        version = read_pointer(folder)
        if version is None:
            return "none yet; the first run trains the one that comes with Hearback"
        return f"{load_model(folder / version).version}"
    except ModelError as error:
        raise HearbackError(str(error)) from None


def check_disk(settings: Settings) -> str:
    """Room and permission where the home is, or will be."""
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        raise HearbackError(f"not allowed to write {folder}; mend its permissions")
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES:
        raise HearbackError(f"{free / 1e6:.0f} MB free at {folder}; a run wants 1 GB")
    return f"{free / 1e9:.0f} GB free at {settings.home}"


def list_kinds() -> list[str]:
    """A line for each kind of source."""
    from pipelines.sources import all_kinds

    return [f"{kind.name:<14} {kind.summary}" for kind in all_kinds()]


def list_sources(settings: Settings) -> list[str]:
    """A line for each source of the configuration."""
    return [
        f"{source.name:<20} {source.kind:<14} {source.schedule or 'daily'}"
        + ("" if source.enabled else "  (switched off)")
        for source in settings.sources
    ]

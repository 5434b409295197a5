"""``hearback doctor``: what would make a run fail, found before the run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.env_file import connection_variable, env_file, is_private, read_env_file
from pipelines.errors import HearbackError, UsageError
from pipelines.settings import Settings, load_settings
from pipelines.storage import Home

if TYPE_CHECKING:
    from pipelines.settings import Source
    from pipelines.sources.base import Kind, PullContext

FREE_BYTES = 1_000_000_000
EDITOR = "${EDITOR:-vi}"


@dataclass(frozen=True)
class Finding:
    """What was looked at and what was found; ``fix`` is a line to type where it is not well."""

    is_ok: bool
    what: str
    why: str
    fix: str = ""

    @property
    def text(self) -> str:
        return f"{self.what}: {self.why}"

    @property
    def lines(self) -> list[str]:
        """One line if all is well; else what, why, and what to type."""
        if self.is_ok:
            return [f"✓ {self.text}"]
        return [f"✗ {self.what}", f"    {' '.join(self.why.split())}", f"    $ {self.fix}"]


def examine(config: Path, *, is_offline: bool = False) -> Iterator[Finding]:
    """The findings, in the order in which they are to be mended.

    ``is_offline``: sources are looked at, but none is asked for anything over a network.
    """
    try:
        settings = load_settings(config)
    except HearbackError as error:
        fix = edit(config, error.message) if config.is_file() else "hearback init"
        yield Finding(False, "configuration", error.message, fix)
        return
    yield Finding(True, "configuration", str(settings.path))
    yield from examine_secrets(config)
    if not any(source.enabled for source in settings.sources):
        why = f"{settings.path}: no enabled source; add a [[sources]] entry"
        yield Finding(False, "sources", why, "hearback sources")
    for source in settings.sources:
        if source.enabled:
            yield examine_source(settings, source, is_offline=is_offline)
    here = edit(config)
    yield ask("languages", lambda: check_languages(settings), here)
    yield ask("calendars", lambda: check_calendars(settings), here)
    yield ask("service levels", lambda: check_service_levels(settings), here)
    yield ask("notices", lambda: check_delivery(settings), edit(env_file(config)))
    yield ask("model", lambda: check_model(settings), f"hearback train{at(config)}")
    yield ask("disk", lambda: check_disk(settings), f"df -h {shlex.quote(str(settings.home))}")


def ask(what: str, check: Callable[[], str], fix: str) -> Finding:
    try:
        return Finding(True, what, check())
    except HearbackError as error:
        return Finding(False, what, error.message, fix)


def at(config: Path) -> str:
    """The option that names a configuration, if it is not the one of this folder."""
    is_usual = config.absolute() == Path("hearback.toml").absolute()
    return "" if is_usual else f" --config {shlex.quote(str(config))}"


def edit(path: Path, message: str = "") -> str:
    """The line to type that opens a file, at the line that a message names."""
    line = re.search(rf"{re.escape(path.name)}:(\d+):", message)
    return f"{EDITOR} {f'+{line[1]} ' if line else ''}{shlex.quote(str(path))}"


def examine_secrets(config: Path) -> Iterator[Finding]:
    """Whether .env, where there is one, can be read, and by its owner only."""
    path = env_file(config)
    if not path.exists():
        return
    try:
        count = len(read_env_file(path))
    except HearbackError as error:
        yield Finding(False, "secrets", error.message, edit(path))
        return
    if is_private(path):
        yield Finding(True, "secrets", f"{path}: {count} variables")
        return
    fix = f"chmod 600 {shlex.quote(str(path))}"
    yield Finding(False, "secrets", f"{path} can be read by others", fix)


def examine_source(settings: Settings, source: Source, *, is_offline: bool) -> Finding:
    what = f"source {source.name}"
    try:
        return Finding(True, what, check_source(settings, source, is_offline=is_offline))
    except HearbackError as error:
        why = error.message.removeprefix(f"source {source.name!r}: ")
        why = why.removeprefix(f"source {source.name}: ")
        return Finding(False, what, why, suggest(settings, source, error))


def suggest(settings: Settings, source: Source, error: HearbackError) -> str:
    """The line to type that helps most against what is wrong with a source."""
    from requests.exceptions import ConnectionError as ConnectError
    from requests.exceptions import Timeout

    from pipelines.sources import MODULES

    cause = error.__cause__
    if source.kind not in MODULES:
        return "hearback sources"
    if isinstance(cause, ConnectError | Timeout):
        request = getattr(cause, "request", None)
        url = source.base_url or str(getattr(request, "url", None) or "").split("?", maxsplit=1)[0]
        return f"curl -sSI {shlex.quote(url)}"
    status = getattr(getattr(cause, "response", None), "status_code", 0)
    is_about_secrets = status in (401, 403) or "connection " in error.message
    if is_about_secrets and source.connection:
        return f"{edit(env_file(settings.path))}  # {connection_variable(source.connection)}"
    if isinstance(error, UsageError):
        return f"hearback sources --kind {source.kind}"
    return edit_source(settings, source)


def edit_source(settings: Settings, source: Source) -> str:
    """The line to type that opens the configuration at a source."""
    lines = settings.path.read_text(encoding="utf-8").splitlines()
    named = re.compile(rf"""\s*name\s*=\s*["']{source.name}["']""")
    places = [number for number, line in enumerate(lines, 1) if named.match(line)]
    return f"{EDITOR} {f'+{places[0]} ' if places else ''}{shlex.quote(str(settings.path))}"


def check_source(settings: Settings, source: Source, *, is_offline: bool) -> str:
    """Kind, options, columns, address and connection of a source, then one cheap request.

    Returns the kind and what answered.
    """
    from pipelines.sources import find_kind
    from pipelines.sources.base import read_options
    from pipelines.sources.http import stay_brief

    kind = find_kind(source.kind)
    read_options(source, kind.options)
    check_entry(kind, source)
    answer = f"{kind.name} (not asked: --offline)"
    is_near = kind.is_local and "://" not in str(source.options.get("path", ""))
    if kind.check and (is_near or not is_offline):
        with stay_brief():
            answer = f"{kind.name}, {kind.check(source, make_context(settings, source))}"
    kind.mappings(source)
    return answer


def check_entry(kind: Kind, source: Source) -> None:
    """HearbackError if a source lacks the address or the connection that its kind needs."""
    from pipelines.connections import get_connection
    from pipelines.sources.describe import secrets_text

    if kind.needs_base_url and not (source.base_url or kind.default_url):
        raise HearbackError(f'kind {kind.name} needs base_url = "https://…"; add it')
    if kind.needs_connection and not source.connection:
        raise HearbackError(
            f'kind {kind.name} needs a connection; add connection = "{source.name}" and export '
            f"{connection_variable(source.name)} ({secrets_text(kind, 'en')})"
        )
    if source.connection:
        get_connection(source.connection)


def make_context(settings: Settings, source: Source) -> PullContext:
    """What a pull from the beginning would be given; nothing is kept of it."""
    from pipelines.sources.base import PullContext

    return PullContext(
        now=datetime.now(UTC),
        folder=settings.folder,
        state=Home(settings).crawl_jobs(source.name),
        time_zone=settings.project.time_zone,
    )


def check_calendars(settings: Settings) -> str:
    """Expand every calendar over this year: holidays and zones that are not known show here, and
    what is not published yet of the next year, into which due times reach."""
    from pipelines.calendars import expand_calendar
    from pipelines.special_days import list_warnings

    year = date.today().year
    names = sorted({calendar.name for calendar in settings.calendars})
    found = [", ".join(names) or "none; business minutes count around the clock"]
    for name in names:
        versions = [calendar for calendar in settings.calendars if calendar.name == name]
        open_spans = expand_calendar(versions, date(year, 1, 1), date(year, 12, 31))
        if not open_spans.num_rows:
            raise HearbackError(f"calendar {name!r} is never open in {year}; add hours to it")
        found += list_warnings(versions, date(year, 1, 1), date(year + 1, 12, 31))
    return "; ".join(found)


def check_service_levels(settings: Settings) -> str:
    """Which policies there are, and what keeps one of them from ever applying."""
    from pipelines.service_levels import list_policy_warnings

    names = ", ".join(policy.name for policy in settings.sla_policies) or "none"
    return "; ".join([names, *list_policy_warnings(settings)])


def check_languages(settings: Settings) -> str:
    """Which of the project's languages are labelled, and answered by somebody."""
    from models.language import SERVED_LANGUAGES

    languages = settings.project.languages
    found = [", ".join(languages)]
    strange = [name for name in languages if name not in SERVED_LANGUAGES]
    if strange:
        found.append(
            f"no model labels {', '.join(strange)}: such texts are kept, counted and marked unsure"
        )
    members = [member for team in settings.teams for member in team.members]
    spoken = {word.lower().split("-")[0] for member in members for word in member.languages}
    silent = [name for name in languages if members and name not in spoken]
    if silent:
        found.append(f"no member of a team speaks {', '.join(silent)}: such tasks get no owner")
    return "; ".join(found)


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


def list_sources(settings: Settings) -> list[str]:
    """A line for each source of the configuration."""
    return [
        f"{source.name:<20} {source.kind:<14} {source.schedule or 'daily'}"
        + ("" if source.enabled else "  (switched off)")
        for source in settings.sources
    ]

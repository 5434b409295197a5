"""Making the demo, serving it and writing the configuration that reads it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pipelines.demo.config import render_config
from pipelines.demo.helpdesk import HelpdeskServer
from pipelines.demo.review_site import ReviewServer
from pipelines.demo.truth import TRUTH_FILE, Truth
from pipelines.errors import HearbackError

MEMORY = "demo.json"
LOGIN = "demo@hearback.example/token"
CONNECTION = "helpdesk"
DEFAULT_SEED = 7
AnyServer = TypeVar("AnyServer", HelpdeskServer, ReviewServer)


def read_memory(directory: Path) -> dict[str, Any]:
    """What the demo in this folder remembers: day, seed, ports, token; empty if there is none."""
    path = directory / MEMORY
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise HearbackError(
            f"{path}: not valid JSON; delete the folder to make the demo anew"
        ) from None
    return found if isinstance(found, dict) else {}


def write_memory(directory: Path, memory: dict[str, Any]) -> None:
    """Write it whole, readable by its owner only: it holds the help desk's token."""
    path = directory / MEMORY
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        json.dump(memory, out, indent=1)
    os.replace(draft, path)


def remembered_until(directory: Path) -> date | None:
    """The last day of the demo that is kept in this folder, None if there is none yet."""
    until = read_memory(directory).get("until")
    return date.fromisoformat(until) if until else None


def edition() -> str:
    """A short name of this code and its phrases: another edition makes other data."""
    digest = hashlib.sha256()
    package = resources.files("pipelines.demo")
    names = ("catalog.py", "texts.py", "company.py", "cases.py", "world.py", "files.py", "view.py")
    for name in (*names, "truth.py", "phrases/en.txt", "phrases/zh.txt"):
        digest.update((package / name).read_bytes())
    return digest.hexdigest()[:16]


def generate(
    directory: Path,
    *,
    seed: int = DEFAULT_SEED,
    until: date,
    scale: float = 1.0,
    as_of: datetime | None = None,
) -> Truth:
    """Write the demo of the 90 days up to the end of ``until`` (Asia/Shanghai); its truth.

    The same arguments give the same bytes; what is there already is used again. ``as_of`` (aware)
    shows the world as it was at that instant: later records are not there yet, later changes have
    not happened. HearbackError if as_of has no time zone.
    """
    from pipelines.demo.company import Period, to_iso
    from pipelines.demo.view import write_view
    from pipelines.demo.world import Builder

    if as_of is not None and as_of.tzinfo is None:
        raise HearbackError(f"demo: as_of {as_of} has no time zone; give an aware instant")
    period = Period(until)
    now = period.end - 1 if as_of is None else min(int(as_of.timestamp()), period.end - 1)
    wanted = {
        "edition": edition(),
        "seed": seed,
        "until": until.isoformat(),
        "scale": scale,
        "as_of": to_iso(now),
    }
    directory.mkdir(parents=True, exist_ok=True)
    memory = read_memory(directory)
    if memory.get("made") == wanted and (directory / TRUTH_FILE).is_file():
        return Truth.load(directory)
    memory.pop("made", None)
    write_memory(directory, memory)
    truth = Truth(
        seed,
        until.isoformat(),
        scale,
        to_iso(now),
        to_iso(period.start),
        to_iso(period.end),
    )
    write_view(Builder(seed, until, scale).build(), directory, truth, now)
    truth.save(directory)
    write_memory(directory, {**memory, "made": wanted, "until": until.isoformat(), "seed": seed})
    return truth


@dataclass
class DemoServers:
    """The running demo sources. Leaving the context stops them; ``stop`` may be called twice."""

    directory: Path
    helpdesk: HelpdeskServer
    reviews: ReviewServer
    token: str = field(repr=False)
    config: Path | None = None
    """The configuration that reads them, if one was written."""
    until: date | None = None

    def stop(self) -> None:
        self.helpdesk.stop()
        self.reviews.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def start_servers(
    directory: Path, helpdesk_port: int | None = None, reviews_port: int | None = None
) -> DemoServers:
    """Serve what ``generate`` wrote, on 127.0.0.1 only.

    A port of None takes the one used last time if it is free, else any free one; 0 takes any free
    one. HearbackError if there is nothing to serve or a port that was asked for is in use.
    """
    memory = read_memory(directory)
    if "made" not in memory:
        raise HearbackError(f"{directory}: holds no demo; generate it first")
    token = memory.get("token") or secrets.token_urlsafe(24)
    ports = memory.get("ports", {})
    helpdesk = bind(
        lambda port: HelpdeskServer(directory, LOGIN, token, port),
        helpdesk_port,
        ports.get("helpdesk"),
    )
    try:
        reviews = bind(
            lambda port: ReviewServer(directory, port), reviews_port, ports.get("reviews")
        )
    except BaseException:
        helpdesk.stop()
        raise
    used = {"helpdesk": helpdesk.port, "reviews": reviews.port}
    write_memory(directory, {**memory, "token": token, "ports": used})
    helpdesk.start()
    reviews.start()
    return DemoServers(directory, helpdesk, reviews, token, until=remembered_until(directory))


def bind(make: Callable[[int], AnyServer], asked: int | None, before: int | None) -> AnyServer:
    """A server on the port asked for, else on the one used before, else on any free one."""
    if asked is not None:
        try:
            return make(asked)
        except OSError as error:
            raise HearbackError(
                f"demo: port {asked} cannot be used ({error.strerror}); give another one"
            ) from None
    if before is not None:
        try:
            return make(before)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
    return make(0)


def demo_connections(servers: DemoServers) -> dict[str, str]:
    """The environment variables that hold the demo's secrets."""
    connection = {
        "conn_type": "http",
        "login": LOGIN,
        "password": servers.token,
        "host": servers.helpdesk.url,
    }
    return {f"AIRFLOW_CONN_{CONNECTION.upper()}": json.dumps(connection)}


def write_config(
    directory: Path, home: Path, servers: DemoServers, path: Path | None = None
) -> Path:
    """Write the demo's hearback.toml (to ``path``, else into the directory) and return its path."""
    path = path or directory / "hearback.toml"
    folder = path.parent.resolve()

    def relative(target: Path) -> str:
        return Path(os.path.relpath(target.resolve(), folder)).as_posix()

    text = render_config(
        home=relative(home),
        folder=relative(directory),
        helpdesk_url=servers.helpdesk.url,
        reviews_url=servers.reviews.url,
    )
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    return path


def serve(
    directory: Path,
    *,
    home: Path | None = None,
    until: date | None = None,
    seed: int | None = None,
    scale: float = 1.0,
    helpdesk_port: int | None = None,
    reviews_port: int | None = None,
) -> DemoServers:
    """The whole demo, ready to be read: made or found again, served, configured.

    Without ``until`` it is the demo of the day that this folder remembers, else of yesterday in
    Asia/Shanghai, so that a later run reads the same data. The home of the configuration is
    ``directory/home`` unless given.
    """
    memory = read_memory(directory)
    if until is None:
        until = remembered_until(directory) or last_finished_day()
    if seed is None:
        seed = int(memory.get("seed", DEFAULT_SEED))
    generate(directory, seed=seed, until=until, scale=scale)
    servers = start_servers(directory, helpdesk_port, reviews_port)
    servers.config = write_config(directory, home or directory / "home", servers)
    return servers


def last_finished_day() -> date:
    return (datetime.now(UTC) + timedelta(hours=8)).date() - timedelta(days=1)

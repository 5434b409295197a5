"""intake: a small HTTP server that takes signed webhooks into the folders of webhook sources.

A delivery is answered with 202 once it is safely on disk, and not before: a sender that hears
anything else sends it again. Nothing of a body or a header is ever printed.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pipelines.connections import get_connection
from pipelines.errors import HearbackError, UsageError
from pipelines.settings import Settings
from pipelines.signatures import SCHEMES, Scheme, find_fault
from pipelines.sources.base import read_options
from pipelines.sources.webhook import Options, find_folder

TIMEOUT_SECONDS = 10
MOST_AT_ONCE = 32


@dataclass(frozen=True)
class Door:
    """Where deliveries of one source come in."""

    folder: Path
    scheme: Scheme
    secret: str
    tolerance_seconds: float
    max_bytes: int


def open_doors(settings: Settings) -> dict[str, Door]:
    """The enabled webhook sources by name; UsageError if there are none, or a secret is missing."""
    doors = {}
    for source in settings.sources:
        if source.kind != "webhook" or not source.enabled:
            continue
        options = read_options(source, Options)
        secret = get_connection(source.connection).password if source.connection else None
        if not secret:
            raise UsageError(
                f"source {source.name!r} needs a connection whose password is the secret that the "
                "sender signs with"
            )
        scheme = SCHEMES[options.signature]
        if options.header:
            own = options.header.lower()
            time_header = own if scheme.time == scheme.signature else scheme.time
            scheme = replace(scheme, signature=own, time=time_header)
        folder = find_folder(source, options, settings.folder)
        doors[source.name] = Door(
            folder, scheme, secret, options.tolerance_seconds, options.max_bytes
        )
    if not doors:
        raise UsageError('there is no source of kind "webhook"; add one to hearback.toml')
    return doors


def write_delivery(door: Door, body: bytes, content_type: str, now: float) -> str:
    """Write a delivery to a file of its own and give its name; OSError if that fails."""
    arrived = int(now * 1e9)
    envelope = {
        "arrived_at": datetime.fromtimestamp(now, UTC).isoformat(),
        "content_type": content_type,
        "body": body.decode("utf-8", "backslashreplace"),
    }
    folder = door.folder / f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{arrived:019d}-{hashlib.sha256(body).hexdigest()[:16]}.json"
    part = folder / f".{name}.{threading.get_ident()}.part"
    try:
        with open(part, "w", encoding="utf-8") as file:
            json.dump(envelope, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / name)
    finally:
        part.unlink(missing_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return name


def make_server(
    doors: dict[str, Door],
    host: str,
    port: int,
    tell: Callable[[str], None] = lambda text: None,
) -> ThreadingHTTPServer:
    """A server that is not running yet; ``tell`` hears one line for each delivery."""
    free = threading.BoundedSemaphore(MOST_AT_ONCE)

    class Handler(BaseHTTPRequestHandler):
        timeout = TIMEOUT_SECONDS
        server_version = "hearback"
        sys_version = ""

        def log_message(self, format: str, *args: object) -> None:
            """Request lines may hold secrets; ``tell`` says what there is to say."""

        def do_GET(self) -> None:
            self.answer(200 if self.path == "/health" else 404, {})

        def do_POST(self) -> None:
            if not free.acquire(blocking=False):
                self.answer(503, {"error": "too many deliveries at once"})
                return
            try:
                status, told = self.take()
            except TimeoutError:
                status, told = 408, "the body did not come in time"
            finally:
                free.release()
            self.answer(status, {"id" if status == 202 else "error": told})

        def take(self) -> tuple[int, str]:
            name = self.path.split("?")[0].strip("/")
            door = doors.get(name)
            if door is None:
                return 404, "no source of that name"
            length = self.headers.get("Content-Length", "")
            if not length.isdigit():
                return 411, "Content-Length is needed"
            if int(length) > door.max_bytes:
                tell(f"{name}: refused {int(length):,} bytes")
                return 413, f"more than {door.max_bytes} bytes"
            body = self.rfile.read(int(length))
            if len(body) < int(length):
                return 400, "the body is cut off"
            headers = {key.lower(): value for key, value in self.headers.items()}
            now = time.time()
            fault = find_fault(
                door.scheme, door.secret, headers, body, now, tolerance=door.tolerance_seconds
            )
            if fault:
                tell(f"{name}: refused, {fault}")
                return 401, fault
            try:
                written = write_delivery(door, body, headers.get("content-type", ""), now)
            except OSError as error:
                tell(f"{name}: cannot write to {door.folder} ({error.strerror}); free some space")
                return 503, "not stored; send it again"
            tell(f"{name}: took {len(body):,} bytes")
            return 202, written

        def answer(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.close_connection = True  # what is left of a refused body is not read
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content)

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise HearbackError(
            f"cannot listen on {host}:{port} ({error.strerror}); give another --port"
        ) from None
    server.daemon_threads = True
    return server


def serve(settings: Settings, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Take deliveries until Ctrl-C."""
    doors = open_doors(settings)
    server = make_server(doors, host, port, tell)
    for name in doors:
        tell(f"{name}: POST http://{host}:{server.server_port}/{name}")
    try:
        server.serve_forever()
    finally:
        server.server_close()

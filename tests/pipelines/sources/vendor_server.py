"""A strict vendor on loopback: the base of every API kind's own server in these tests.

A subclass answers requests; this base signs people in, refuses haste, injects faults, and remembers
every request, so that a test can tell whether a connector was obedient.
"""

from __future__ import annotations

import json
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

Rows = list[dict[str, Any]]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Request:
    """One request: path without query, query values (the last of each name), headers, JSON body."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: Any
    at: float  # monotonic seconds


@dataclass
class Answer:
    """What to send. ``body``: bytes as they are, anything else as JSON; None: no body."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """What to answer instead, ``times`` times, to requests whose path contains ``path``.

    ``cut``: send only so many bytes of the right answer. ``closed_seconds``: requests that come
    within so many seconds of a fault are violations.
    """

    path: str
    answer: Answer | None = None
    times: int = 1
    cut: int | None = None
    closed_seconds: float = 0.0
    skip: int = 0  # let so many requests pass first


class VendorServer:
    """Serves on loopback from ``with`` to its end. Subclasses define ``respond`` and ``allows``.

    ``is_still``: nobody changes the rows while it serves, so that what was made of them, such as an
    order, may be kept. With many rows, pages would otherwise take longer the more there are.
    """

    is_still = False

    def __init__(self) -> None:
        self._made: dict[Any, Any] = {}
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.faults: list[Fault] = []
        self.closed_until = 0.0
        self._lock = threading.Lock()
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else the body waits 40 ms for the headers' receipt

            def log_message(self, format: str, *args: object) -> None:
                """Keep test output clean."""

            def handle_one(self) -> None:
                vendor._handle(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> VendorServer:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # what a subclass says -------------------------------------------------------------------------

    def allows(self, request: Request) -> bool:
        """Whether the request is signed as the vendor wants it."""
        raise AssertionError("a vendor says who may come in")

    def respond(self, request: Request) -> Answer:
        """The answer to a request that is allowed."""
        raise AssertionError("a vendor says what it answers")

    def refuse(self, request: Request) -> Answer:
        """The answer to a request that is not signed."""
        return Answer({"error": "not authorised"}, 401)

    # what a subclass uses -------------------------------------------------------------------------

    def make(self, key: Any, make: Callable[[], Made]) -> Made:
        """What ``make`` gives, made once if the rows stand still."""
        if not self.is_still:
            return make()
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    def group(self, name: str, rows: Rows, key: str) -> dict[Any, Rows]:
        """Rows by what stands under ``key``; ``name`` says which rows they are."""
        return self.make(("group", name, key), lambda: group_rows(rows, key))

    def sort(self, name: str, rows: Rows, key: Callable[[dict[str, Any]], Any]) -> list[Any]:
        """Rows in the order of ``key``, each behind its key: ``(key, row)``."""
        return self.make(("sort", name), lambda: sort_rows(rows, key))

    # what tests ask -------------------------------------------------------------------------------

    def fail(self, path: str, answer: Answer | None = None, **more: Any) -> None:
        """Answer otherwise for a while; see Fault."""
        self.faults.append(Fault(path, answer, **more))

    def limit(self, path: str, answer: Answer, seconds: float, **more: Any) -> None:
        """Refuse for haste; a request within ``seconds`` of the refusal is a violation."""
        self.faults.append(Fault(path, answer, closed_seconds=seconds, **more))

    def counts(self) -> Counter[str]:
        """Requests by path."""
        return Counter(request.path for request in self.requests)

    # the server -----------------------------------------------------------------------------------

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        at = time.monotonic()
        length = int(handler.headers.get("Content-Length") or 0)
        raw = handler.rfile.read(length) if length else b""
        parts = urlsplit(handler.path)
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = raw.decode("utf-8", "replace")
        query = {name: found[-1] for name, found in parse_qs(parts.query, True).items()}
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Request(handler.command, parts.path, query, headers, body, at)
        with self._lock:
            self.requests.append(request)
            if at < self.closed_until:
                early = self.closed_until - at
                self.violations.append(f"{request.path}: {early:.2f} s inside the closed window")
            fault = self._take_fault(request)
        if fault and fault.answer is not None:
            answer = fault.answer
        elif not self.allows(request):
            answer = self.refuse(request)
        else:
            answer = self.respond(request)
        if fault and fault.closed_seconds:
            with self._lock:
                self.closed_until = time.monotonic() + fault.closed_seconds
        self._send(handler, answer, fault.cut if fault else None)

    def _take_fault(self, request: Request) -> Fault | None:
        for fault in self.faults:
            if fault.path not in request.path or fault.times <= 0:
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.times -= 1
            return fault
        return None

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer, cut: int | None) -> None:
        if isinstance(answer.body, bytes):
            content, kind = answer.body, "text/plain"
        elif answer.body is None:
            content, kind = b"", ""
        else:
            content = json.dumps(answer.body, ensure_ascii=False).encode()
            kind = "application/json"
        headers = {**({"Content-Type": kind} if kind else {}), **answer.headers}
        handler.send_response(answer.status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if answer.status not in (204, 304):
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if cut is not None:
            handler.wfile.write(content[:cut])
            handler.close_connection = True
        elif answer.status not in (204, 304):
            handler.wfile.write(content)


Respond = Callable[[Request], Answer]


def group_rows(rows: Rows, key: str) -> dict[Any, Rows]:
    found: dict[Any, Rows] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def sort_rows(rows: Rows, key: Callable[[dict[str, Any]], Any]) -> list[Any]:
    return sorted(((key(row), row) for row in rows), key=lambda pair: pair[0])


def cut_sorted(pairs: list[Any], least: Any, begin: int, size: int) -> tuple[Rows, int]:
    """(a page of the rows whose key is not below ``least``, how many of these there are)."""
    first = bisect_left(pairs, least, key=lambda pair: pair[0])
    page = pairs[first + begin : first + begin + size]
    return [row for _, row in page], len(pairs) - first


def read_instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))

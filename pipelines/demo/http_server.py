"""What both demo servers share: a threaded loopback server that stops clean and counts."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

HOST = "127.0.0.1"


@dataclass
class Answer:
    status: int
    body: bytes = b""
    content_type: str = "application/json; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


class Server(ThreadingHTTPServer):
    """Refuses to share its port, so that a second demo is noticed and not answered by the first."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    allow_reuse_port = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news; anything else is told as usual."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class LoopbackServer:
    """A server on 127.0.0.1 in a thread of its own. ``port`` 0 takes any free one.

    ``stats`` counts what was asked and answered; ``paths`` every path that was asked for.
    """

    def __init__(self, port: int = 0):
        self.stats: Counter[str] = Counter()
        self.paths: Counter[str] = Counter()
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            timeout = 60

            def do_GET(self) -> None:
                self.respond(with_body=True)

            def do_HEAD(self) -> None:
                self.respond(with_body=False)

            def respond(self, with_body: bool) -> None:
                parts = urlsplit(self.path)
                query = dict(parse_qsl(parts.query, keep_blank_values=True))
                with outer.lock:
                    outer.stats["requests"] += 1
                    outer.paths[parts.path] += 1
                answer = outer.answer(parts.path, query, self)
                with outer.lock:
                    outer.stats[f"status_{answer.status}"] += 1
                self.send_response(answer.status)
                if answer.status != 304:
                    self.send_header("Content-Type", answer.content_type)
                    self.send_header("Content-Length", str(len(answer.body)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if with_body and answer.status != 304:
                    self.wfile.write(answer.body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: the demo's own counters say what was asked."""

        self.server = Server((HOST, port), Handler)
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def answer(self, path: str, query: dict[str, str], request: BaseHTTPRequestHandler) -> Answer:
        raise NotImplementedError

    def start(self) -> Self:
        self.thread.start()
        return self

    def stop(self) -> None:
        """Stop answering and give the port back; twice is harmless."""
        if self.thread.is_alive():
            self.server.shutdown()
            self.thread.join(5)
        self.server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

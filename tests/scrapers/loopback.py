"""A web site on loopback, made of a dictionary."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """``failures`` answers of 500 come before the page itself."""

    body: str | bytes = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    failures: int = 0
    seconds: float = 0.0
    has_etag: bool = True


class Site:
    """Serves ``pages`` by path with query; ``asked`` lists (path, status) of every request."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, int]] = []
        self.times: list[float] = []
        self.agents: set[str] = set()
        self.lock = threading.Lock()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Keep test output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        page = self.pages.get(handler.path, Page("<p>not here</p>", 404, has_etag=False))
        self.agents.add(handler.headers.get("User-Agent", ""))
        body = page.body.encode() if isinstance(page.body, str) else page.body
        etag = f'"{hashlib.sha1(body).hexdigest()[:12]}"'
        status = page.status
        with self.lock:
            if page.failures:
                page.failures -= 1
                status = 500
            elif page.has_etag and handler.headers.get("If-None-Match") == etag:
                status = 304
            self.asked.append((handler.path, status))
            self.times.append(time.monotonic())
        if page.seconds:
            time.sleep(page.seconds)
        sent = b"" if status == 304 else body
        handler.send_response(status)
        headers = {"Content-Type": "text/html; charset=utf-8", **page.headers}
        if page.has_etag:
            headers["ETag"] = etag
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(sent)))
        handler.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the crawl was killed
            handler.wfile.write(sent)

    def count(self, path: str) -> int:
        return sum(asked == path for asked, _ in self.asked)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

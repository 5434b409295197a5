"""A shop on loopback whose pages have reviews."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def page_of(number: int, text: str = "Text of review") -> str:
    review = {
        "@type": "Review", "@id": f"#r-{10_000 + number}", "author": "Ann",
        "datePublished": "2024-05-01T08:00:00", "reviewBody": f"{text} {number}",
        "reviewRating": {"ratingValue": 4},
    }  # fmt: skip
    return f'<script type="application/ld+json">{json.dumps(review)}</script>'


class Shop:
    """A list page and ``size`` product pages with one review each.

    ``faults``: statuses that a path answers before its page; 0 is a page that breaks off.
    """

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.asked: list[tuple[str, int]] = []
        self.times: dict[str, list[float]] = {}
        self.faults: dict[str, list[int]] = {}
        self.seconds = 0.0
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                shop.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Keep test output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stock(self, size: int) -> None:
        links = "".join(f"<a href='/p/{n}'>{n}</a>" for n in range(size))
        self.pages = {"/": links} | {f"/p/{n}": page_of(n) for n in range(size)}

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = self.pages.get(handler.path)
        etag = f'"{hash(body)}"'
        status = 200 if body is not None else 404
        if body is not None and handler.headers.get("If-None-Match") == etag:
            status = 304
        self.times.setdefault(handler.path, []).append(time.monotonic())
        waiting = self.faults.get(handler.path)
        fault = waiting.pop(0) if waiting else None
        status = fault or status
        self.asked.append((handler.path, status))
        time.sleep(self.seconds)
        handler.send_response(status)
        if status == 429:
            handler.send_header("Retry-After", "1")
        sent = (body or "").encode() if status == 200 else b""
        handler.send_header("Content-Length", str(len(sent)))
        handler.send_header("Content-Type", "text/html")
        handler.send_header("ETag", etag)
        handler.end_headers()
        handler.wfile.write(sent[: len(sent) // 2] if fault == 0 else sent)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

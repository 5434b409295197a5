"""A site with feeds on loopback; it answers 304 as it should."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

PAYLOADS = Path(__file__).parent / "payloads"


class Feeds(VendorServer):
    """``/<name>.xml`` is the saved feed of that name."""

    def __init__(self) -> None:
        super().__init__()
        self.feeds = {f"/{path.name}": path.read_bytes() for path in PAYLOADS.glob("*.xml")}
        self.has_etags = True
        self.login: tuple[str, str] | None = None
        self.on_page: Callable[[Request], None] = lambda request: None

    def allows(self, request: Request) -> bool:
        if self.login is None:
            return True
        sent = base64.b64encode(":".join(self.login).encode()).decode()
        return request.headers.get("authorization") == f"Basic {sent}"

    def respond(self, request: Request) -> Answer:
        self.on_page(request)
        content = self.feeds.get(request.path)
        if content is None:
            return Answer(b"<html><body>no feed</body></html>", 200, {"Content-Type": "text/html"})
        tag = f'"{hashlib.sha256(content).hexdigest()[:12]}"'
        date = "Thu, 19 Nov 2026 10:00:00 GMT"
        known = request.headers.get("if-none-match"), request.headers.get("if-modified-since")
        if known in {(tag, None), (None, date)}:
            return Answer(None, 304)
        headers = {"ETag": tag} if self.has_etags else {"Last-Modified": date}
        return Answer(content, headers={"Content-Type": "application/xml", **headers})

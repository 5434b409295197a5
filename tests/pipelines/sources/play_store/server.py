"""Pages of Google Play on loopback."""

from __future__ import annotations

from pathlib import Path

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

PAYLOADS = Path(__file__).parent / "payloads"


class PlayStore(VendorServer):
    """One app, with a page for each saved language."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = {path.stem: path.read_bytes() for path in PAYLOADS.glob("*.html")}

    def allows(self, request: Request) -> bool:
        return True

    def respond(self, request: Request) -> Answer:
        assert request.path == "/store/apps/details"
        if request.query["id"] != "com.acme.kettle":
            return Answer(b"not found", 404)
        assert len(request.query["gl"]) == 2
        page = self.pages[request.query["hl"]]
        return Answer(page, headers={"Content-Type": "text/html; charset=utf-8"})

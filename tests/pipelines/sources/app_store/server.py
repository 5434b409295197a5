"""Apple's feed of customer reviews on loopback."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

PLACE = re.compile(r"/(\w\w)/rss/customerreviews/page=(\d+)/id=(\d+)/sortby=mostrecent/json")
Rows = list[dict[str, Any]]


class AppStore(VendorServer):
    """Reviews by country, newest first; a lone entry comes without a list."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows = {"us": rows, "de": rows[:1]}
        self.size = 50
        self.before_page: dict[int, Callable[[], None]] = {}  # done once, then forgotten

    def allows(self, request: Request) -> bool:
        return True

    def respond(self, request: Request) -> Answer:
        found = PLACE.fullmatch(request.path)
        if not found or int(found[2]) > 10:
            return Answer({"error": "CustomerReviews RSS page depth is limited to 10"}, 400)
        self.before_page.pop(int(found[2]), lambda: None)()
        rows = sorted(self.rows[found[1]], key=lambda row: row["updated"]["label"], reverse=True)
        page = int(found[2])
        shown: Any = rows[(page - 1) * self.size : page * self.size]
        feed = {"title": {"label": "iTunes Store: Customer Reviews"}}
        if not shown:
            return Answer({"feed": feed})
        return Answer({"feed": {**feed, "entry": shown[0] if len(shown) == 1 else shown}})

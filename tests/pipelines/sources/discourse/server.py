"""A Discourse forum on loopback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

KEY, USER = "quiet-key", "robot"
PAGE = 3
Rows = list[dict[str, Any]]


class Discourse(VendorServer):
    """Posts by falling id, ``PAGE`` of them at once; topics by their last movement."""

    def __init__(self, data: dict[str, Rows]) -> None:
        super().__init__()
        self.data = data
        self.is_windowed = False  # older versions: a page covers a window of ids, and may be empty
        self.on_topics: Callable[[Request], None] = lambda request: None

    def allows(self, request: Request) -> bool:
        signed = request.headers.get("api-key"), request.headers.get("api-username")
        return signed == (KEY, USER) and "api_key" not in request.query

    def refuse(self, request: Request) -> Answer:
        return Answer({"errors": ["You are not permitted"], "error_type": "invalid_access"}, 403)

    def respond(self, request: Request) -> Answer:
        if request.path == "/categories.json":
            return Answer({"category_list": {"categories": self.data["categories"]}})
        if request.path == "/posts.json":
            return Answer({"latest_posts": self.list_posts(request.query.get("before"))})
        if request.path == "/latest.json":
            self.on_topics(request)
            return self.list_topics(int(request.query["page"]))
        parts = request.path.strip("/").removesuffix(".json").split("/")
        assert parts[0] == "t"
        assert request.query["include_raw"] == "true"
        posts = [post for post in self.data["posts"] if post["topic_id"] == int(parts[1])]
        (topic,) = [topic for topic in self.data["topics"] if topic["id"] == int(parts[1])]
        told = ("topic_title", "category_id", "topic_slug")
        bare = [{k: v for k, v in post.items() if k not in told} for post in posts]
        if parts[-1] == "posts":
            return Answer({"post_stream": {"posts": bare[PAGE:]}})
        stream = {"posts": bare[:PAGE], "stream": [post["id"] for post in posts]}
        return Answer({**topic, "post_stream": stream})

    def list_posts(self, before: str | None) -> Rows:
        rows = sorted(self.data["posts"], key=lambda post: -post["id"])
        if before:
            rows = [post for post in rows if post["id"] <= int(before)]
            if self.is_windowed:
                rows = [post for post in rows if post["id"] > int(before) - 50]
        return rows[:PAGE]

    def list_topics(self, page: int) -> Answer:
        rows = sorted(self.data["topics"], key=lambda topic: topic["bumped_at"], reverse=True)
        rows.sort(key=lambda topic: not topic["pinned"])
        shown = rows[page * PAGE : (page + 1) * PAGE]
        more = (
            {"more_topics_url": f"/latest?page={page + 1}"} if len(rows) > (page + 1) * PAGE else {}
        )
        return Answer({"topic_list": {"topics": shown, **more}})

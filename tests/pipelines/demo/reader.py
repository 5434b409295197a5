"""A patient client of the demo's help desk: waits when told to, tries a failed page again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from pipelines.demo import DemoServers
from pipelines.demo.serving import LOGIN


class Reader:
    def __init__(self, servers: DemoServers):
        self.base = servers.helpdesk.url + "/api/v2/"
        self.client = httpx.Client(auth=(LOGIN, servers.token), timeout=20, trust_env=False)

    def get(self, url: str, **params: Any) -> dict[str, Any]:
        full = url if url.startswith("http") else self.base + url
        for _ in range(5):
            answer = self.client.get(full, params=params or None)
            if answer.status_code == 429:
                time.sleep(float(answer.headers["Retry-After"]))
            elif answer.status_code != 500:
                body: dict[str, Any] = answer.raise_for_status().json()
                return body
        raise AssertionError(f"{full}: refused five times")

    def read_export(self, name: str, per_page: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """The pages of a cursor export."""
        page = self.get(f"incremental/{name}/cursor.json", start_time=start, per_page=per_page)
        while True:
            yield page
            if page["end_of_stream"]:
                return
            page = self.get(
                f"incremental/{name}/cursor.json", cursor=page["after_cursor"], per_page=per_page
            )

    def read_events(self, per_page: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """The pages of the time-based event export, followed by their links."""
        page = self.get(
            "incremental/ticket_events.json",
            start_time=start,
            include="comment_events",
            per_page=per_page,
        )
        while True:
            yield page
            if page["end_of_stream"]:
                return
            page = self.get(page["next_page"])

    def read_list(self, name: str, size: int) -> Iterator[dict[str, Any]]:
        page = self.get(f"{name}.json", **{"page[size]": size})
        while True:
            yield page
            if not page["meta"]["has_more"]:
                return
            page = self.get(page["links"]["next"])


def read_lines(path: Any) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]

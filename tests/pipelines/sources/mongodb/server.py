"""As much of a MongoDB server as the connector asks for, on loopback, in MongoDB's own messages.

Written from the documentation of the wire protocol (OP_MSG, and OP_QUERY for the first greeting).
It is strict: a command, an option or an operator that it does not know is refused as a real server
would refuse a wrong one.
"""

from __future__ import annotations

import contextlib
import socketserver
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import bson
from bson import Decimal128, ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion

Document = dict[str, Any]
CODEC: CodecOptions[Document] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
FIND_OPTIONS = {"find", "filter", "projection", "sort", "batchSize", "limit", "singleBatch",
                "allowDiskUse", "lsid", "$db", "$readPreference"}  # fmt: skip
TYPES: list[tuple[str, Any]] = [
    ("null", type(None)), ("number", int | float | Decimal128), ("string", str), ("object", dict),
    ("array", list), ("binData", bytes), ("objectId", ObjectId), ("date", datetime),
]  # fmt: skip
GREETING = {
    "ok": 1, "isWritablePrimary": True, "ismaster": True, "helloOk": True,
    "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000,
    "minWireVersion": 0, "maxWireVersion": 21, "readOnly": False,
}  # fmt: skip


class RefusedError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.reply = {"ok": 0, "code": code, "errmsg": message}


class CutError(Exception):
    """The connection is to be closed without an answer."""


@dataclass
class Store:
    """What the server holds and how it fails; ``asked`` are the commands it was sent."""

    collections: dict[str, list[Document]]
    asked: list[Document] = field(default_factory=list)
    users: dict[str, str] = field(default_factory=dict)
    cut_after_pages: int | None = None
    forget_after_pages: int | None = None
    hidden: bool = False  # the user may not read
    cursors: dict[int, tuple[str, list[Document]]] = field(default_factory=dict)
    pages: int = 0

    def answer(self, command: Document) -> Document:
        self.asked.append(command)
        name = next(iter(command))
        match name:
            case "hello" | "ismaster" | "isMaster":
                return GREETING
            case "ping" | "endSessions":
                return {"ok": 1}
            case "saslStart":
                return self.sign_in(command)
            case "listCollections":
                found = [{"name": key, "type": "collection"} for key in self.collections]
                return {"ok": 1, "cursor": {"id": 0, "ns": "crm", "firstBatch": found}}
            case "count":
                return {"ok": 1, "n": len(self.collections[command["count"]])}
            case "killCursors":
                for one in command["cursors"]:
                    self.cursors.pop(one, None)
                return {"ok": 1, "cursorsKilled": command["cursors"], "cursorsNotFound": [],
                        "cursorsAlive": [], "cursorsUnknown": []}  # fmt: skip
            case "find":
                return self.find(command)
            case "getMore":
                return self.get_more(command)
        raise RefusedError(59, f"no such command: '{name}'")

    def sign_in(self, command: Document) -> Document:
        _, user, password = bytes(command["payload"]).split(b"\0", 2)
        if command["mechanism"] != "PLAIN" or self.users.get(user.decode()) != password.decode():
            raise RefusedError(18, "Authentication failed.")
        return {"ok": 1, "conversationId": 1, "done": True, "payload": b""}

    def find(self, command: Document) -> Document:
        unknown = set(command) - FIND_OPTIONS
        if unknown:
            raise RefusedError(40415, f"BSON field {unknown.pop()!r} is an unknown field.")
        if self.hidden:
            raise RefusedError(13, "not authorized on crm to execute command { find }")
        found = [
            one for one in self.collections[command["find"]]
            if matches(one, command.get("filter", {}))
        ]  # fmt: skip
        for name, direction in reversed(command.get("sort", {}).items()):
            found.sort(key=lambda one: rank(dig(one, name)), reverse=direction < 0)
        found = [project(one, command.get("projection")) for one in found]
        if command.get("limit"):
            found = found[: command["limit"]]
        size = command.get("batchSize", 101)
        is_whole = command.get("singleBatch") or len(found) <= size
        return self.reply("firstBatch", command["find"], found[:size], [] if is_whole
                          else found[size:])  # fmt: skip

    def get_more(self, command: Document) -> Document:
        self.pages += 1
        if self.cut_after_pages is not None and self.pages > self.cut_after_pages:
            raise CutError
        forget = self.forget_after_pages is not None and self.pages > self.forget_after_pages
        if forget or command["getMore"] not in self.cursors:
            raise RefusedError(43, f"cursor id {command['getMore']} not found")
        name, rest = self.cursors.pop(command["getMore"])
        size = command["batchSize"]
        return self.reply("nextBatch", name, rest[:size], rest[size:])

    def reply(self, key: str, name: str, page: list[Document], rest: list[Document]) -> Document:
        cursor = 0
        if rest:
            cursor = len(self.asked) + 1000
            self.cursors[cursor] = (name, rest)
        return {"ok": 1, "cursor": {"id": bson.Int64(cursor), "ns": f"crm.{name}", key: page}}


def dig(document: Any, path: str) -> Any:
    for part in path.split("."):
        document = document.get(part) if isinstance(document, dict) else None
    return document


def project(document: Document, projection: Document | None) -> Document:
    if not projection:
        return document
    found: Document = {}
    for path in projection:
        *parents, leaf = path.split(".")
        inside: Any = document
        target = found
        for part in parents:
            inside = inside.get(part, {}) if isinstance(inside, dict) else {}
            target = target.setdefault(part, {})
        if isinstance(inside, dict) and leaf in inside:
            target[leaf] = inside[leaf]
    return found


def type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return next(name for name, kinds in TYPES if isinstance(value, kinds))


def rank(value: Any) -> tuple[int, Any]:
    """What values are compared by: their type, then themselves."""
    place = [name for name, _ in TYPES].index(type_of(value))
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    return place, value if value is not None else 0


def matches(document: Document, condition: Document) -> bool:
    for key, wanted in condition.items():
        if key == "$and":
            if not all(matches(document, part) for part in wanted):
                return False
        elif key.startswith("$"):
            raise RefusedError(2, f"unknown top level operator: {key}")
        elif not fits(dig(document, key), wanted):
            return False
    return True


def fits(value: Any, wanted: Any) -> bool:
    if not (isinstance(wanted, dict) and any(key.startswith("$") for key in wanted)):
        return bool(value == wanted)
    for operator, operand in wanted.items():
        match operator:
            case "$type":
                found = type_of(value) == operand
            case "$not":
                found = not fits(value, operand)
            case "$ne":
                found = value != operand
            case "$gte":
                found = type_of(value) == type_of(operand) and rank(value) >= rank(operand)
            case _:
                raise RefusedError(2, f"unknown operator: {operator}")
        if not found:
            return False
    return True


class Handler(socketserver.BaseRequestHandler):
    server: Any

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, CutError):
            while header := self.read(16):
                length, request, _, code = struct.unpack("<iiii", header)
                body = self.read(length - 16)
                self.request.sendall(self.respond(request, code, body))

    def read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            part = self.request.recv(size - len(found))
            if not part:
                return b""
            found += part
        return found

    def respond(self, request: int, code: int, body: bytes) -> bytes:
        if code == OP_QUERY:
            start = body.index(b"\0", 4) + 9
            reply = bson.encode(self.ask(bson.decode(body[start:], CODEC)))
            content = struct.pack("<iqii", 8, 0, 0, 1) + reply
            return struct.pack("<iiii", len(content) + 16, 1, request, OP_REPLY) + content
        assert code == OP_MSG
        assert body[4] == 0, "a section that is no command"
        content = struct.pack("<IB", 0, 0) + bson.encode(self.ask(bson.decode(body[5:], CODEC)))
        return struct.pack("<iiii", len(content) + 16, 1, request, OP_MSG) + content

    def ask(self, command: Document) -> Document:
        with self.server.lock:
            try:
                return self.server.store.answer(command)
            except RefusedError as refused:
                return refused.reply


@contextlib.contextmanager
def start_mongodb(store: Store) -> Iterator[int]:
    """The port of a server that holds what the store holds."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.store = store  # type: ignore[attr-defined]
        server.lock = threading.Lock()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()

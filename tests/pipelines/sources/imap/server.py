"""An IMAP server on loopback (RFC 3501, 7628, 2971): strict about what a reader must not do.

It answers EXAMINE and BODY.PEEK. What marks a message as read or changes a folder is a violation.
"""

from __future__ import annotations

import base64
import json
import re
import socketserver
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

PASSWORD, TOKEN = "quiet-secret", "quiet-token"
LOGIN = "support@acme.example"
CHANGING = {"STORE", "COPY", "MOVE", "EXPUNGE", "APPEND", "DELETE", "RENAME", "CREATE", "SELECT"}


@dataclass
class Message:
    data: bytes
    at: datetime = datetime(2026, 11, 15, 9, tzinfo=UTC)
    flags: str = ""


@dataclass
class Folder:
    """``messages`` by UID. A UID is never given twice, unless ``validity`` changes."""

    flags: str = ""
    validity: int = 7
    next_uid: int = 1
    messages: dict[int, Message] = field(default_factory=dict)

    def add(self, data: bytes, at: datetime | None = None) -> int:
        uid = self.next_uid
        self.messages[uid] = Message(data, at) if at else Message(data)
        self.next_uid += 1
        return uid


@dataclass
class Fault:
    """For commands that match: say ``answer`` instead, or break off after ``cut`` bytes."""

    pattern: str
    answer: str | None = None
    cut: int | None = None
    times: int = 1
    skip: int = 0


class ImapServer:
    """``context``: TLS from the beginning, or by STARTTLS if ``is_late``."""

    def __init__(self, context: ssl.SSLContext | None = None, *, is_late: bool = False) -> None:
        self.folders: dict[str, Folder] = {"INBOX": Folder(), "Sent": Folder("\\Sent")}
        self.commands: list[str] = []
        self.violations: list[str] = []
        self.faults: list[Fault] = []
        self.connections = 0
        self.needs_id = False
        self.capabilities = "IMAP4rev1 ID AUTH=XOAUTH2 AUTH=PLAIN"
        self.on_command: Callable[[str], None] = lambda line: None
        imap = self

        class Handler(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True

            def setup(self) -> None:
                if context and not is_late:
                    self.wrap()
                super().setup()

            def wrap(self) -> None:
                assert context is not None
                self.request.settimeout(5)
                self.request = context.wrap_socket(self.request, server_side=True)

            def start_tls(self) -> tuple[Any, Any]:
                self.wrap()
                super().setup()
                return self.rfile, self.wfile

            def handle(self) -> None:
                imap.connections += 1
                try:
                    Session(imap, self.rfile, self.wfile, self.start_tls).run()
                except (ConnectionError, OSError, ssl.SSLError):
                    return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that hangs up is no news."""

        self._server = Server(("127.0.0.1", 0), Handler)
        port = self._server.server_address[1]
        self.needs_tls = is_late
        self.url = f"imap{'s' if context and not is_late else ''}://127.0.0.1:{port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> ImapServer:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def fail(self, pattern: str, answer: str | None = None, **more: Any) -> None:
        self.faults.append(Fault(pattern, answer, **more))

    def take_fault(self, line: str) -> Fault | None:
        for fault in self.faults:
            if fault.times <= 0 or not re.search(fault.pattern, line):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.times -= 1
            return fault
        return None


class Session:
    def __init__(
        self, server: ImapServer, reader: Any, writer: Any, start_tls: Callable[[], tuple[Any, Any]]
    ) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.start_tls = start_tls
        self.needs_tls = server.needs_tls
        self.is_in = self.is_known = False
        self.folder: Folder | None = None
        self.left: int | None = None  # bytes that may still be sent

    def send(self, data: bytes) -> None:
        if self.left is not None:
            data = data[: self.left]
            self.left -= len(data)
        self.writer.write(data)
        self.writer.flush()
        if self.left == 0:
            raise ConnectionError("cut")

    def say(self, line: str) -> None:
        self.send(line.encode("utf-8") + b"\r\n")

    def run(self) -> None:
        self.say(f"* OK [CAPABILITY {self.server.capabilities}] ready")
        while line := self.reader.readline():
            text = line.decode("utf-8").rstrip("\r\n")
            tag, _, rest = text.partition(" ")
            self.server.commands.append(re.sub(r"^LOGIN .*", "LOGIN", rest))
            self.server.on_command(rest)
            fault = self.server.take_fault(rest)
            if fault and fault.answer is not None:
                self.say(fault.answer if fault.answer[0] == "*" else f"{tag} {fault.answer}")
                if fault.answer.startswith("* BYE"):
                    return
                continue
            self.left = fault.cut if fault else None
            if not self.answer(tag, rest):
                return

    def answer(self, tag: str, rest: str) -> bool:
        name, _, args = rest.partition(" ")
        name = name.upper()
        if name == "LOGOUT":
            self.say("* BYE see you")
            self.say(f"{tag} OK done")
            return False
        if name in CHANGING:
            self.server.violations.append(rest)
        if name == "CAPABILITY":
            late = " STARTTLS" if self.needs_tls else ""
            self.say(f"* CAPABILITY {self.server.capabilities}{late}")
            self.say(f"{tag} OK done")
        elif name == "STARTTLS" and self.needs_tls:
            self.say(f"{tag} OK begin")
            self.reader, self.writer = self.start_tls()
            self.needs_tls = False
        elif name == "LOGIN":
            if self.needs_tls:
                self.server.violations.append("a password without TLS")
            found = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', args)
            user, password = (quoted or plain for quoted, plain in found)
            self.let_in(tag, user == LOGIN and password == PASSWORD)
        elif name == "AUTHENTICATE":
            self.authenticate(tag, args)
        elif not self.is_in:
            self.server.violations.append(f"not signed in: {rest}")
            self.say(f"{tag} BAD not signed in")
        elif name == "ID":
            self.is_known = True
            self.say('* ID ("name" "strict")')
            self.say(f"{tag} OK done")
        elif name == "LIST":
            for folder, one in self.server.folders.items():
                self.say(f'* LIST (\\HasNoChildren {one.flags}) "/" "{folder}"')
            self.say(f"{tag} OK done")
        elif name == "EXAMINE":
            self.examine(tag, args.strip('"'))
        elif name == "UID" and self.folder is not None:
            self.answer_uid(tag, args)
        else:
            self.say(f"{tag} BAD {name}")
        return True

    def let_in(self, tag: str, is_right: bool) -> None:
        self.is_in = is_right
        self.say(f"{tag} OK done" if is_right else f"{tag} NO [AUTHENTICATIONFAILED] wrong")

    def authenticate(self, tag: str, method: str) -> None:
        self.say("+ ")
        told = base64.b64decode(self.reader.readline()).decode()
        if method == "PLAIN":
            self.let_in(tag, told == f"\0{LOGIN}\0{PASSWORD}")
            return
        is_right = told == f"user={LOGIN}\1auth=Bearer {TOKEN}\1\1"
        if not is_right:  # RFC 7628: the reason comes as a challenge, the client answers empty
            self.say("+ " + base64.b64encode(json.dumps({"status": "401"}).encode()).decode())
            if self.reader.readline().strip():
                self.server.violations.append("a refused token was sent again")
        self.let_in(tag, is_right)

    def examine(self, tag: str, name: str) -> None:
        if self.server.needs_id and not self.is_known:
            self.say(f"{tag} NO EXAMINE Unsafe Login. Please contact the provider for help")
            return
        self.folder = self.server.folders.get(name)
        if self.folder is None:
            self.say(f"{tag} NO no such folder")
            return
        self.say(f"* {len(self.folder.messages)} EXISTS")
        self.say(f"* OK [UIDVALIDITY {self.folder.validity}]")
        self.say(f"* OK [UIDNEXT {self.folder.next_uid}]")
        self.say(f"{tag} OK [READ-ONLY]")

    def answer_uid(self, tag: str, args: str) -> None:
        assert self.folder is not None
        name, _, rest = args.partition(" ")
        if name.upper() == "SEARCH":
            found = self.pick(re.search(r"UID (\S+)", rest)[1])  # type: ignore[index]
            since = re.search(r"SINCE (\S+)", rest)
            if since:
                day = datetime.strptime(since[1], "%d-%b-%Y").replace(tzinfo=UTC)
                found = [uid for uid in found if self.folder.messages[uid].at >= day]
            self.say("* SEARCH " + " ".join(map(str, found)))
            self.say(f"{tag} OK done")
        elif name.upper() == "FETCH":
            wanted, _, parts = rest.partition(" ")
            if re.search(r"BODY\[|RFC822(?!\.SIZE)", parts):
                self.server.violations.append(f"marks as read: {rest}")
            numbers = {uid: n for n, uid in enumerate(sorted(self.folder.messages), 1)}
            for uid in self.pick(wanted):
                self.send_message(numbers[uid], uid, parts)
            self.say(f"{tag} OK done")
        else:
            self.server.violations.append(args)
            self.say(f"{tag} BAD")

    def pick(self, wanted: str) -> list[int]:
        assert self.folder is not None
        uids = sorted(self.folder.messages)
        last = uids[-1] if uids else 0
        found: set[int] = set()
        for part in wanted.split(","):
            ends = [last if end == "*" else int(end) for end in part.split(":")]
            low, high = min(ends), max(ends)
            found.update(uid for uid in uids if low <= uid <= high)
        return sorted(found)

    def send_message(self, number: int, uid: int, parts: str) -> None:
        assert self.folder is not None
        message = self.folder.messages.get(uid)
        if message is None:
            return
        data, label = message.data, "BODY[]"
        if "HEADER" in parts:
            data, label = data.split(b"\r\n\r\n")[0] + b"\r\n\r\n", "BODY[HEADER]"
        cut = re.search(r"<(\d+)\.(\d+)>", parts)
        if cut:
            data, label = data[int(cut[1]) :][: int(cut[2])], f"BODY[]<{cut[1]}>"
        at = message.at.strftime("%d-%b-%Y %H:%M:%S +0000")
        head = f'* {number} FETCH (UID {uid} FLAGS ({message.flags}) INTERNALDATE "{at}"'
        self.send(
            f"{head} RFC822.SIZE {len(message.data)} {label} {{{len(data)}}}\r\n".encode()
            + data
            + b")\r\n"
        )

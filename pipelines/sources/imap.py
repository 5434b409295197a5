"""IMAP: a support mailbox, one case a thread.

Folders are opened read-only (EXAMINE) and messages are peeked at: nothing is marked as read. A pull
reads the headers of what is new in all folders first, so that threads are known, then the texts.
The position is UIDVALIDITY and the highest UID of each folder; where UIDVALIDITY changes the folder
is read again, and messages are known by their Message-ID. A message that lies in two folders, or
was moved, is one. What is deleted in the mailbox stays captured: it was said.

Whose address is ``own`` is an agent, anybody else a customer. A case is open while the customer
wrote last and pending while an agent did; mail knows nothing of solved. Answers of machines,
bounces, circulars and spam are kept as excluded feedback with the reason, and open no case.

Tokens: token_url is ``https://oauth2.googleapis.com/token`` for Google, and for Microsoft 365
``https://login.microsoftonline.com/<tenant>/oauth2/v2.0/token`` with the scope
``https://outlook.office365.com/.default``. Without a refresh_token the client signs in.
"""

from __future__ import annotations

import imaplib
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote as quote_url
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from pipelines.connections import Connection
from pipelines.errors import HearbackError, UsageError
from pipelines.mail import (
    Author,
    Mail,
    Owners,
    describe_body,
    find_author,
    find_bounced,
    find_reason,
    hash_address,
    strip_prefix,
)
from pipelines.mapping import Field, Mapping, When, values
from pipelines.settings import Source, nearest
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.http import describe_connection
from pipelines.sources.threads import Place, Sighting, Threads

if TYPE_CHECKING:
    from imap_tools import BaseMailBox

Result = TypeVar("Result")
HEADERS_AT_ONCE = 500
TEXTS_AT_ONCE = 200
BYTES_AT_ONCE = 8 << 20
SKIPPED_FOLDERS = {"\\drafts", "\\trash", "\\junk", "\\flagged", "\\important", "\\noselect",
                   "\\nonexistent"}  # fmt: skip
SKIPPED_NAMES = re.compile(
    r"(?:^|[/.])(?:drafts?|trash|bin|junk(?: e?-?mail)?|spam|deleted(?: items| messages)?|outbox"
    r"|草稿箱?|垃圾(?:邮件|箱)?|已删除(?:邮件)?|广告邮件|订阅邮件)$",
    re.IGNORECASE,
)
SENT_NAMES = re.compile(
    r"(?:^|[/.])(?:sent(?: items| mail| messages)?|已发送(?:邮件)?|发件箱)$", re.IGNORECASE
)
WAITS = (1.0, 5.0, 15.0, 60.0)  # after each failure in a row
LONGEST_WAIT = 3600.0
BACKOFF = re.compile(r"backoff time:?\s*(\d+)", re.IGNORECASE)  # Outlook, in milliseconds
BUSY = re.compile(
    r"\[(?:UNAVAILABLE|INUSE|LIMIT|SERVERBUG|THROTTLED|OVERQUOTA)\]|throttl|too many|try again"
    r"|bandwidth limits",
    re.IGNORECASE,
)
DRAFT = re.compile(r"FLAGS \([^)]*\\Draft\b", re.IGNORECASE)
CLIENT = ("name", "hearback", "version", "1")


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    own: list[str] = Option(
        default_factory=list,
        description='addresses of agents and of the mailbox, "@acme.example" for a whole domain; '
        "default: the login",
    )
    folders: list[str] = Option(
        default_factory=list, description="default: all but drafts, trash and junk"
    )
    exclude: list[str] = Option(default_factory=list, description="folders that are not read")
    security: Literal["tls", "starttls", "none"] | None = Option(
        default=None, description="default: tls for imaps://, starttls for imap://"
    )
    ca_file: str | None = Option(default=None, description="certificates to trust, PEM")
    max_bytes: int = Option(
        default=1 << 20, ge=4096, description="of bigger messages only the beginning is read"
    )
    timeout_seconds: float = Option(default=60, gt=0, description="longest wait for an answer")
    product: str | None = Option(default=None, description="what the mailbox is about")
    link: str | None = Option(
        default=None, description="address of a message in your mail client, {id}: its Message-ID"
    )


# The mailbox --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folder:
    name: str
    is_sent: bool


@dataclass(frozen=True)
class Fetched:
    """A message's UID, what else the server said of it, and the bytes that were asked for."""

    uid: int
    told: str
    data: bytes | None

    @property
    def size(self) -> int:
        found = re.search(r"RFC822\.SIZE (\d+)", self.told)
        return int(found[1]) if found else len(self.data or b"")

    def read(self) -> Mail:
        found = re.search(r'INTERNALDATE "\s*([^"]+)"', self.told)
        arrived = datetime.now(UTC)
        if found:
            arrived = datetime.strptime(found[1], "%d-%b-%Y %H:%M:%S %z").astimezone(UTC)
        return Mail.read(self.data or b"", arrived)


class Refused(Exception):
    """The server said NO or BAD."""


class CommandRefused(HearbackError):
    """The server said NO or BAD, and is not merely busy."""


class Mailbox:
    """A connection that is opened again where it breaks."""

    def __init__(self, source: Source, context: PullContext, options: Options) -> None:
        self.source = source
        self.context = context
        self.options = options
        self.connection: Connection = context.connection(source)
        self.box: BaseMailBox | None = None
        self.opened: str | None = None
        self.was_in = False  # whether this mailbox could be opened before
        self.commands = 0

    def fault(self, text: str) -> HearbackError:
        named = describe_connection(self.source.connection)
        return HearbackError(f"source {self.source.name!r}: {text}{named}")

    def close(self) -> None:
        box, self.box, self.opened = self.box, None, None
        if box is not None:
            try:
                box.client.logout()
            except (OSError, imaplib.IMAP4.error):
                box.client.shutdown()

    # signing in -------------------------------------------------------------------------------

    def connect(self) -> BaseMailBox:
        from imap_tools import MailBox, MailBoxStartTls, MailBoxUnencrypted

        host, port, security = find_server(self.source, self.options)
        timeout = self.options.timeout_seconds
        trust = ssl.create_default_context(cafile=self.options.ca_file)
        if security == "tls":
            return MailBox(host, port or 993, timeout=timeout, ssl_context=trust)
        if security == "starttls":
            return MailBoxStartTls(host, port or 143, timeout=timeout, ssl_context=trust)
        return MailBoxUnencrypted(host, port or 143, timeout=timeout)

    def sign_in(self, client: imaplib.IMAP4) -> None:
        login, password = self.connection.login, self.connection.password
        data: Any
        if not login:
            raise self.fault("login is missing")
        if self.connection.extra.get("access_token") or self.connection.extra.get("token_url"):
            answers = iter([f"user={login}\1auth=Bearer {self.read_token()}\1\1".encode()])
            # A refusal comes as one more challenge, which wants an empty answer.
            typ, data = client.authenticate("XOAUTH2", lambda challenge: next(answers, b""))
        elif not password:
            raise self.fault("password is missing")
        elif login.isascii() and password.isascii():
            typ, data = client.login(login, password)
        else:
            plain = f"\0{login}\0{password}".encode()
            typ, data = client.authenticate("PLAIN", lambda challenge: plain)
        if typ != "OK":
            raise imaplib.IMAP4.error(tell(data))

    def read_token(self) -> str:
        """The access token that the connection holds, or a new one from token_url."""
        import httpx

        extra = self.connection.extra
        if not extra.get("token_url"):
            return extra["access_token"]
        grant = "refresh_token" if extra.get("refresh_token") else "client_credentials"
        form = {"grant_type": grant}
        names = ("client_id", "client_secret", "refresh_token", "scope")
        form |= {name: extra[name] for name in names if extra.get(name)}
        try:
            answer = httpx.post(extra["token_url"], data=form, timeout=30, trust_env=False)
            token = answer.json().get("access_token") if answer.is_success else None
        except (httpx.HTTPError, ValueError) as error:
            raise self.fault(f"token_url gave no token ({type(error).__name__})") from None
        if not token:
            raise self.fault(f"token_url gave no token (status {answer.status_code})")
        return str(token)

    def open(self) -> BaseMailBox:
        """The connection, signed in. A refused sign-in is no reason to try again."""
        if self.box is not None:
            return self.box
        try:
            box = self.connect()
        except socket.gaierror:
            host = find_server(self.source, self.options)[0]
            raise self.fault(f"there is no host {host!r}; mend base_url") from None
        except ssl.SSLCertVerificationError as error:
            raise self.fault(
                f"the server's certificate is not trusted ({error.verify_message}); "
                "set options.ca_file if it is your own"
            ) from None
        except ssl.SSLError as error:
            raise self.fault(
                f"no TLS at {self.source.base_url} ({error.reason}); check port and "
                "options.security"
            ) from None
        try:
            self.sign_in(box.client)
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error as error:
            text = tell_error(error)
            if BUSY.search(text):
                raise Refused(text) from None
            raise self.fault(f"the credentials were refused ({text[:120]})") from None
        if b"ID" in b" ".join(part or b"" for part in box.client.capability()[1]).split():
            imaplib.Commands.setdefault("ID", ("AUTH", "SELECTED"))
            listed = " ".join(f'"{word}"' for word in CLIENT)
            box.client._simple_command("ID", f"({listed})")  # some open no folder for strangers
        self.box = box
        self.was_in = True
        return box

    # commands ---------------------------------------------------------------------------------

    def run(self, work: Callable[[BaseMailBox], Result]) -> Result:
        """What ``work`` gives; again after a wait where the connection breaks or is refused."""
        waits = list(WAITS if self.was_in else WAITS[:2])
        while True:
            try:
                return work(self.open())
            except (imaplib.IMAP4.abort, OSError, EOFError) as error:
                text, wait = tell_error(error), None
                self.drop()
            except Refused as error:
                text = str(error)
                if not BUSY.search(text):
                    raise CommandRefused(self.fault(text[:200]).message) from None
                found = BACKOFF.search(text)
                wait = int(found[1]) / 1000 if found else None
                self.drop()
            if wait is not None and wait > LONGEST_WAIT:
                raise self.fault(f"asked to wait for {wait / 3600:.1f} hours; run it later")
            if not waits:
                host = find_server(self.source, self.options)[0]
                raise self.fault(f"{host} cannot be reached or breaks off ({text[:120]})")
            wait = max(wait or 0.0, waits.pop(0))
            self.context.note(f"waits for {wait:.0f} s: {text[:60]}")
            time.sleep(wait)

    def drop(self) -> None:
        if self.box is not None:
            self.box.client.shutdown()
        self.box, self.opened = None, None

    def list_folders(self) -> list[Folder]:
        """The folders to read; UsageError if one that is named does not exist."""

        def work(box: BaseMailBox) -> list[Any]:
            try:
                return list(box.folder.list())
            except imaplib.IMAP4.abort:
                raise
            except Exception as error:
                raise Refused(tell_error(error)) from None

        found = self.run(work)
        names = [one.name for one in found]
        for name in [*self.options.folders, *self.options.exclude]:
            if name not in names:
                raise UsageError(
                    f"source {self.source.name!r}: there is no folder {name!r}"
                    f"{nearest(name, names)}; folders are: {', '.join(names)}"
                )
        folders: list[Folder] = []
        whole: list[Folder] = []
        for one in found:
            flags = {flag.lower() for flag in one.flags}
            is_special = bool(flags & SKIPPED_FOLDERS or SKIPPED_NAMES.search(one.name))
            wanted = one.name in self.options.folders if self.options.folders else not is_special
            if wanted and one.name not in self.options.exclude:
                is_sent = "\\sent" in flags or bool(SENT_NAMES.search(one.name))
                (whole if "\\all" in flags else folders).append(Folder(one.name, is_sent))
        # A folder of all mail holds what was archived; what lies elsewhere, too, is read there.
        return folders + whole

    def select(self, box: BaseMailBox, name: str) -> int:
        """Open a folder read-only; how many messages it has."""
        from imap_tools.utils import encode_folder

        self.opened = None
        try:
            typ, data = box.client.select(encode_folder(name).decode(), readonly=True)
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error as error:
            raise Refused(f"folder {name!r}: {tell_error(error)}") from None
        if typ != "OK":
            raise Refused(f"folder {name!r}: {tell(data)}")
        self.opened = name
        return int((data or [b"0"])[0] or 0)

    def examine(self, name: str) -> tuple[int, int]:
        """(UIDVALIDITY, messages) of a folder, opened read-only."""

        def work(box: BaseMailBox) -> tuple[int, int]:
            count = self.select(box, name)
            validity = box.client.response("UIDVALIDITY")[1]
            return int((validity or [b"0"])[0] or 0), count

        return self.run(work)

    def ask(self, folder: str, command: str, *args: str) -> list[Any]:
        """The data of a UID command within a folder."""

        def work(box: BaseMailBox) -> list[Any]:
            if self.opened != folder:
                self.select(box, folder)
            self.commands += 1
            try:
                typ, data = box.client.uid(command, *args)
            except imaplib.IMAP4.abort:
                raise
            except imaplib.IMAP4.error as error:
                raise Refused(tell_error(error)) from None
            if typ != "OK":
                raise Refused(f"folder {folder!r}: {tell(data)}")
            return list(data)

        return self.run(work)

    def search(self, folder: str, after: int) -> list[int]:
        """UIDs above ``after``, in order."""
        since = self.source.start
        wanted = [f"UID {after + 1}:*"]
        if since:
            wanted.append(f"SINCE {since.day:02d}-{MONTHS[since.month - 1]}-{since.year}")
        data = self.ask(folder, "SEARCH", " ".join(wanted))
        found = {int(uid) for uid in b" ".join(part or b"" for part in data).split()}
        return sorted(uid for uid in found if uid > after)  # "*" is the last one, however low

    def fetch(self, folder: str, uids: list[int], part: str) -> Iterator[Fetched]:
        """What there is of messages that are still there.

        One that the server cannot give comes without bytes; it hinders no other.
        """
        parts = f"(UID FLAGS INTERNALDATE RFC822.SIZE {part})"
        try:
            data = self.ask(folder, "FETCH", join_uids(uids), parts)
        except CommandRefused as error:
            if len(uids) == 1:
                yield Fetched(uids[0], error.message, None)
                return
            for half in (uids[: len(uids) // 2], uids[len(uids) // 2 :]):
                yield from self.fetch(folder, half, part)
            return
        for place, answer in enumerate(data):
            if not isinstance(answer, tuple):
                continue
            after = data[place + 1] if place + 1 < len(data) else b""
            told = answer[0] + (after if isinstance(after, bytes) else b"")
            text = told.decode("ascii", "replace")
            uid = re.search(r"\bUID (\d+)", text)
            if uid:
                yield Fetched(int(uid[1]), text, answer[1])


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def tell(data: Any) -> str:
    """An answer's text, on one line."""
    parts = [part.decode("utf-8", "replace") for part in data or [] if isinstance(part, bytes)]
    return " ".join(" ".join(parts).split())


def tell_error(error: BaseException) -> str:
    told = error.args[0] if error.args else ""
    text = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(error)
    return " ".join(text.split()) or type(error).__name__


def join_uids(uids: list[int]) -> str:
    """UIDs as IMAP writes sets: runs as first:last."""
    runs: list[list[int]] = []
    for uid in uids:
        if runs and uid == runs[-1][1] + 1:
            runs[-1][1] = uid
        else:
            runs.append([uid, uid])
    return ",".join(str(a) if a == b else f"{a}:{b}" for a, b in runs)


def find_server(source: Source, options: Options) -> tuple[str, int | None, str]:
    """(host, port, security) by base_url and options; UsageError if the address is none."""
    parts = urlsplit(source.base_url or "")
    if parts.scheme not in ("imaps", "imap") or not parts.hostname:
        raise UsageError(
            f'source {source.name!r}: kind imap needs base_url = "imaps://imap.acme.example"'
        )
    default = "tls" if parts.scheme == "imaps" else "starttls"
    return parts.hostname, parts.port, options.security or default


# The pull -----------------------------------------------------------------------------------------


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Messages that are new in any folder, then what has to be told again because of them."""
    options = read_options(source, Options)
    mailbox = Mailbox(source, context, options)
    owners = find_owners(source, options, mailbox.connection)
    threads = Threads(context.state / "threads.sqlite")
    try:
        yield from Reader(mailbox, threads, owners, context.position).read()
    finally:
        mailbox.close()
        threads.close()


def find_owners(source: Source, options: Options, connection: Connection) -> Owners:
    own = [entry.strip().lower() for entry in options.own]
    login = (connection.login or "").lower()
    if "@" in login:
        own.append(login)
    if not own:
        raise UsageError(
            f"source {source.name!r}: options.own must name the mailbox's addresses, since the "
            "login is none"
        )
    return Owners(frozenset(own))


class Reader:
    def __init__(
        self, mailbox: Mailbox, threads: Threads, owners: Owners, position: dict[str, Any]
    ) -> None:
        self.mailbox = mailbox
        self.threads = threads
        self.owners = owners
        self.at: dict[str, dict[str, int]] = {
            name: dict(at) for name, at in position.get("folders", {}).items()
        }
        threads.captured = {name: at["uid"] for name, at in self.at.items()}
        self.retold = int(position.get("retold", 0))
        self.merged = int(position.get("merged", 0))
        self.sent: set[str] = set()
        self.unread: list[Record] = []

    def position(self) -> dict[str, Any]:
        folders = {name: dict(at) for name, at in self.at.items()}
        return {"folders": folders, "retold": self.retold, "merged": self.merged}

    def read(self) -> Iterator[Batch]:
        self.threads.forget_told(self.retold, self.merged)
        folders = self.mailbox.list_folders()
        self.sent = {folder.name for folder in folders if folder.is_sent}
        folders = self.scan_all(folders)
        self.threads.note_outdated()
        if self.unread:
            yield Batch("messages", self.unread)
        for folder in folders:
            yield from self.read_folder(folder.name)
        self.threads.note_outdated()
        yield from self.tell_again()

    def scan_all(self, folders: list[Folder]) -> list[Folder]:
        """Scan folders; which of them could be opened.

        One that the login may see and not open (as of colleagues) is passed over with a note,
        unless the options name it.
        """
        opened, refused = [], None
        for folder in folders:
            try:
                self.mailbox.examine(folder.name)
            except CommandRefused as error:
                refused = error
                if self.mailbox.options.folders:
                    raise
                self.mailbox.context.progress(f"not read: {error.message}", 0)
                continue
            self.scan(folder.name)
            opened.append(folder)
        if refused and not opened:
            raise refused
        return opened

    def scan(self, folder: str) -> None:
        """Remember the headers of all that is new in a folder."""
        validity, _ = self.mailbox.examine(folder)
        if self.at.get(folder, {}).get("validity") != validity:
            self.at[folder] = {"validity": validity, "uid": 0}
        self.threads.captured[folder] = self.at[folder]["uid"]
        scanned = self.threads.open_folder(folder, validity)
        uids = self.mailbox.search(folder, scanned)
        for start in range(0, len(uids), HEADERS_AT_ONCE):
            chunk = uids[start : start + HEADERS_AT_ONCE]
            found = list(self.mailbox.fetch(folder, chunk, "BODY.PEEK[HEADER]"))
            with self.threads.transaction():
                for one in found:
                    if one.data is None:
                        self.unread.append(self.set_aside(folder, one))
                    elif not DRAFT.search(one.told):
                        is_new = one.uid > self.at[folder]["uid"]
                        place = Place(one.uid, "", one.size)
                        self.threads.add(
                            self.sight(one.read(), folder), folder, place, is_new=is_new
                        )
                self.threads.note_scanned(folder, chunk[-1])
            self.mailbox.context.note(f"{folder}: {start + len(chunk):,} headers")

    def sight(self, mail: Mail, folder: str) -> Sighting:
        told = describe_sender(mail, self.owners, is_sent=folder in self.sent)
        subject = mail.subject
        topic = strip_prefix(subject)
        author, customer = told.author.address, told.author.customer
        return Sighting(
            name=mail.id,
            fingerprint=mail.fingerprint,
            references=mail.references,
            at=mail.sent_at.timestamp(),
            author=hash_address(author) if author else None,
            customer=hash_address(customer) if customer else None,
            role=told.author.role,
            subject=topic,
            is_answer=topic != subject,
            is_counted=told.reason is None and told.author.role != "bot",
        )

    def read_folder(self, folder: str) -> Iterator[Batch]:
        """Texts of the messages that this folder is to give."""
        while places := self.threads.list_places(folder, self.at[folder]["uid"], TEXTS_AT_ONCE):
            chunk = take_bytes(places, self.mailbox.options.max_bytes)
            records, missing = self.read_texts(folder, chunk)
            for uid in missing:
                self.threads.drop_place(folder, uid)
            self.at[folder]["uid"] = self.threads.captured[folder] = chunk[-1].uid
            yield Batch("messages", records, self.position())
        scanned = self.threads.open_folder(folder, self.at[folder]["validity"])
        if scanned > self.at[folder]["uid"]:
            self.at[folder]["uid"] = scanned
            yield Batch("messages", [], self.position())

    def read_texts(self, folder: str, places: list[Place]) -> tuple[list[Record], set[int]]:
        """(records, UIDs that give none). Of a big message only the beginning is fetched."""
        gone: set[int] = set()
        keys = {place.uid: place.key for place in places}
        most = self.mailbox.options.max_bytes
        small = [place.uid for place in places if place.size <= most]
        big = [place.uid for place in places if place.size > most]
        records = []
        for uids, part in ((small, "BODY.PEEK[]"), (big, f"BODY.PEEK[]<0.{most}>")):
            if not uids:
                continue
            for one in self.mailbox.fetch(folder, uids, part):
                key = keys.pop(one.uid, None)
                if key is None:
                    continue
                if one.data is None:
                    records.append(self.set_aside(folder, one))
                    gone.add(one.uid)
                else:
                    records.append(self.describe(one, key, folder))
        return records, gone | set(keys)

    def set_aside(self, folder: str, one: Fetched) -> Record:
        """The record of a message that the server cannot give."""
        name = f"{folder}/{self.at[folder]['validity']}/{one.uid}"
        return Record(name, f"{name}: {one.told}", problem="broken_message")

    def describe(self, fetched: Fetched, key: str, folder: str) -> Record:
        """The record of a message. Where it lies is not in it: that may change."""
        mail = fetched.read()
        most = self.mailbox.options.max_bytes
        told = describe_sender(mail, self.owners, is_sent=folder in self.sent)
        author = told.author
        subject = mail.subject
        references = mail.references
        reason = told.reason
        if reason == "bounce":
            references = [*references, *find_bounced(mail.message)]
        thread = self.threads.thread_of_key(key)
        case = self.threads.read_case(thread) if thread else None
        if case is None and reason == "bounce":
            thread = self.threads.thread_of(references)
            case = self.threads.read_case(thread) if thread else None
        payload: dict[str, Any] = {
            "id": key,
            "thread": thread if case else None,
            "references": references,
            "sent_at": mail.sent_at.isoformat(),
            "from": mail.addresses("From"),
            "to": mail.addresses("To"),
            "cc": mail.addresses("Cc"),
            "reply_to": mail.addresses("Reply-To"),
            "subject": subject,
            "topic": strip_prefix(subject) or subject,
            "author": {"address": author.address, "name": author.name},
            "role": author.role,
            "is_public": author.is_public,
            "channel": "web_form" if author.is_form else "email",
            "reason": reason,
            "reason_header": told.header,
            "size": fetched.size,
            "is_cut": len(fetched.data or b"") < fetched.size and fetched.size > most,
            "group": self.find_group(mail),
            **describe_body(mail),
        }
        if case and case.latest == key and thread:
            payload["case"] = {
                "opened_at": datetime.fromtimestamp(case.opened_at, UTC).isoformat(),
                "opener": case.opener,
                "customer": case.customer,
                "assignee": case.assignee,
                "status": "pending" if author.role == "agent" and author.is_public else "open",
            }
        link = self.mailbox.options.link
        url = link.replace("{id}", quote_url(mail.id, safe="")) if link else None
        return Record(key, payload, url)

    def find_group(self, mail: Mail) -> str | None:
        """The own address that a message was written to: what teams divide their work by."""
        for header in ("Delivered-To", "To", "Cc"):
            for one in mail.addresses(header):
                if self.owners.has(one["address"]):
                    return one["address"]
        return None

    def tell_again(self) -> Iterator[Batch]:
        """Messages whose thread, or whose case, is another by now; and threads that were merged."""
        while rows := self.threads.list_retold(self.retold, TEXTS_AT_ONCE):
            records: list[Record] = []
            for key in dict.fromkeys(key for _, key in rows):
                for folder, place in self.threads.find_places(key):
                    if folder not in self.at:
                        continue
                    found, _ = self.read_texts(folder, [place])
                    records += found
                    if found:
                        break
            self.retold = rows[-1][0]
            yield Batch("messages", records, self.position())
        merges = self.threads.list_merges(self.merged)
        if merges:
            self.merged = merges[-1][0]
            records = [
                Record(thread, {"thread": thread, "into": into,
                                "at": datetime.fromtimestamp(at, UTC).isoformat()})
                for _, thread, into, at in merges
            ]  # fmt: skip
            yield Batch("merges", records, self.position())


@dataclass(frozen=True)
class Told:
    """Who speaks; why it is no customer's word, and the header that says so."""

    author: Author
    reason: str | None
    header: str | None


def describe_sender(mail: Mail, owners: Owners, *, is_sent: bool) -> Told:
    """Who speaks, and why it is no customer's word if it is none.

    What our own machines say to customers is no reason to leave anything out: it is a bot's word.
    """
    found = find_reason(mail, owners)
    reason, header = found or (None, None)
    author = find_author(mail, owners, reason, is_sent=is_sent)
    is_ours = author.role in ("agent", "bot") or author.is_form
    if is_ours and reason in ("auto_reply", "bulk"):
        return Told(author, None, header)
    return Told(author, reason, header)


def take_bytes(places: list[Place], most: int) -> list[Place]:
    """The first places whose texts fit into one answer; at least one."""
    taken: list[Place] = []
    total = 0
    for place in places:
        total += min(place.size, most)
        if taken and total > BYTES_AT_ONCE:
            break
        taken.append(place)
    return taken


def check(source: Source, context: PullContext) -> str:
    options = read_options(source, Options)
    mailbox = Mailbox(source, context, options)
    find_owners(source, options, mailbox.connection)
    try:
        folders = mailbox.list_folders()
        count = sum(mailbox.examine(folder.name)[1] for folder in folders)
    finally:
        mailbox.close()
    return f"{count:,} messages in {', '.join(folder.name for folder in folders)}"


# What the records mean ----------------------------------------------------------------------------

IGNORED = ("references", "from", "to", "cc", "reply_to", "subject", "attachments", "size",
           "is_cut", "text", "text_type", "reason_header")  # fmt: skip

TAGS = {"spam": "[spam]", "auto_reply": "[auto_reply]", "bounce": "[bounced_mail]",
        "bulk": "[bulk_mail]"}  # fmt: skip


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    sent_at = Field("sent_at", "instant")
    author = Field("author.address", is_hashed=True)
    is_kept = When("reason", is_negated=True)
    message = {
        "source_record_id": Field("id"),
        "source_case_id": Field("thread"),
        "author_id": author,
        "author_role": Field("role"),
        "is_public": Field("is_public", "boolean"),
        "channel": Field("channel"),
        "created_at": sent_at,
        "body": Field("said"),
        "attachments": Field("attachment_names", "text_list"),
    }
    case = {
        "source_case_id": Field("thread"),
        "channel": Field("channel"),
        "subject": Field("topic"),
        "source_customer_id": Field("case.customer"),
        "submitter_id": Field("case.opener"),
        "status": Field("case.status"),
        "source_group": Field("group"),
        "assignee_id": Field("case.assignee"),
        "product": Field(const=options.product),
        "opened_at": Field("case.opened_at", "instant"),
        "updated_at": sent_at,
    }
    excluded = {
        "source_record_id": Field("id"),
        "channel": Field(const="email"),
        "source_case_id": Field("thread"),
        "source_customer_id": author,
        "author": Field("author.name"),
        "product": Field(const=options.product),
        "created_at": sent_at,
        "title": Field("subject"),
        "body": Field("said"),
        "tags": Field("reason", values=values(TAGS)),
        "attachments": Field("attachment_names", "text_list"),
    }
    person = {"name": Field("author.name"), "email": Field("author.address"), "updated_at": sent_at}
    ids = ("source_record_id",)
    return [
        Mapping("messages", "messages", message, (is_kept, When("thread")),
                ignored=IGNORED, required=ids),
        Mapping("messages", "cases", case, (is_kept, When("case.opened_at")),
                required=("source_case_id",)),
        Mapping("messages", "feedback", excluded, (When("reason"),), required=ids),
        Mapping("messages", "customers", {"source_customer_id": author, **person},
                (is_kept, When("role", ("customer",)), When("author.address"))),
        Mapping(
            "messages", "agents",
            {"source_agent_id": author, **person, "is_active": Field(const=True),
             "role": Field("role", values=values({"agent": "agent", "bot": "bot"}))},
            (is_kept, When("role", ("agent", "bot")), When("author.address")),
        ),
        Mapping(
            "merges", "case_events",
            {
                "source_event_id": Field("thread", prefix="merged:"),
                "source_case_id": Field("thread"),
                "event_at": Field("at", "instant"),
                "event_type": Field(const="merged"),
                "actor_role": Field(const="system"),
                "to_value": Field("into"),
            },
            required=("source_event_id",),
        ),
    ]  # fmt: skip


KINDS = {
    "imap": Kind(
        "imap",
        "Mailboxes over IMAP, read-only: threads as cases, replies, attachments by name",
        Options,
        ("cases", "messages", "case_events", "customers", "agents", "feedback"),
        pull,
        mappings,
        needs_base_url=True,
        needs_connection=True,
        secrets=(
            Secret("login", "mail address", "your mail provider"),
            Secret("password", "password, an app password where there is one", "your mail provider",
                   is_optional=True),
            Secret(
                "extra.token_url",
                "for XOAUTH2, with client_id, client_secret, refresh_token, scope",
                "Google Cloud console; Microsoft Entra",
                is_optional=True,
            ),
            Secret("extra.access_token", "for XOAUTH2, a token that lasts",
                   "Google Cloud console; Microsoft Entra", is_optional=True),
        ),
        check=check,
        summary_zh="IMAP 邮箱（只读）：邮件往来按会话归为工单，识别客服回复，附件只记名称",
    )
}  # fmt: skip

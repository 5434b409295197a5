"""Mail: from the bytes of a message to a plain record of what was said, by whom, in answer to what.

Attachments are listed and never kept. What a message is (an answer of a machine, a bounce, a
circular) is read from its headers, since each of these says so in a way of its own. Character sets
are taken as declared only where the bytes agree.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.utils import getaddresses, parsedate_to_datetime
from functools import cached_property
from typing import Any

from pipelines.text import clean_line, clean_text, shorten

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
MOST_REFERENCES = 50
MOST_PARTS = 200
MOST_ADDRESSES = 50
MESSAGE_ID = re.compile(r"<\s*([^<>\s]{1,250})\s*>")
WIDE = {"gb2312": "gb18030", "gbk": "gb18030", "cp936": "gb18030", "x-gbk": "gb18030",
        "hz-gb-2312": "hz", "unicode-1-1-utf-7": "utf-7", "utf8mb4": "utf-8"}  # fmt: skip
# These decode any bytes, so that they are believed only where nothing else fits.
TAKE_ALL = {"", "us-ascii", "ascii", "iso-8859-1", "iso8859-1", "latin-1", "windows-1252", "cp1252",
            "unknown-8bit", "8bit", "x-unknown", "default_charset", "ansi_x3.4-1968"}  # fmt: skip
REPLY_PREFIX = re.compile(
    r"^(?:\s*(?:re|fw|fwd|aw|wg|sv|vs|tr|rv|res|enc|回复|答复|转发|回覆|轉寄|轉發)"
    r"\s*(?:\[\d+\]|\(\d+\)|（\d+）)?\s*[:：])+\s*",
    re.IGNORECASE,
)
AUTO_SUBJECT = re.compile(
    r"^\s*(?:automatic reply|auto(?:matic)?[\- ]?(?:reply|response)|out of (?:the )?office"
    r"|自动回复|自动答复|自動回覆)",
    re.IGNORECASE,
)
BOUNCE_SUBJECT = re.compile(
    r"^\s*(?:undeliver(?:able|ed)|delivery status notification|mail delivery (?:failed|failure)"
    r"|delivery (?:has )?failed|failure notice|returned mail|系统退信|退信通知|邮件退回)",
    re.IGNORECASE,
)
MACHINES = re.compile(r"^(?:mailer-daemon|postmaster|mail-daemon|noreply-mailer)$", re.IGNORECASE)
AUTO_HEADERS = ("X-Autoreply", "X-Autorespond", "X-Auto-Response", "X-Autoresponder",
                "X-Mail-Autoreply", "X-Vacation")  # fmt: skip


@dataclass(frozen=True)
class Owners:
    """Whose mailbox it is: addresses, and domains written as ``@acme.example``."""

    addresses: frozenset[str]

    def has(self, address: str) -> bool:
        address = address.lower()
        return address in self.addresses or "@" + address.rpartition("@")[2] in self.addresses

    def has_domain(self, text: str) -> bool:
        """Whether a name such as a List-Id lies in one of the domains."""
        names = {entry.rpartition("@")[2] for entry in self.addresses}
        return any(text == name or text.endswith("." + name) for name in names)


def hash_address(address: str) -> str:
    """What stands for a mail address in ids, as ``Field.is_hashed`` makes it."""
    return hashlib.md5(address.strip().lower().encode(), usedforsecurity=False).hexdigest()


# Character sets -----------------------------------------------------------------------------------


def decode_bytes(data: bytes, declared: str | None) -> str:
    """Text of bytes whose character set may be declared wrongly, or not at all."""
    name = (declared or "").strip().strip("\"'").lower()
    name = WIDE.get(name, name)
    if data.isascii() and not name.startswith(("utf-16", "utf-32", "utf-7", "iso-2022", "hz")):
        return data.decode("ascii")
    for guess in [*([] if name in TAKE_ALL else [name]), "utf-8"]:
        try:
            return data.decode(guess)
        except (ValueError, LookupError):  # the name may be no text itself
            continue
    if looks_chinese(data):
        return data.decode("gb18030", "replace")
    if name in ("utf-8", *TAKE_ALL) and (damaged := data.decode("utf-8", "replace")):
        broken = damaged.count("\ufffd")
        if broken <= 1 + len(damaged) // 100:  # a character that was cut, or a bad byte or two
            return damaged
    try:
        return data.decode("cp1252" if name in ("utf-8", *TAKE_ALL) else name, "replace")
    except (ValueError, LookupError):
        return data.decode("cp1252", "replace")


def looks_chinese(data: bytes) -> bool:
    """Whether nearly all high bytes stand in pairs as those of GB 2312 do."""
    high = sum(byte >= 0x80 for byte in data)
    runs = [len(run) for run in re.findall(rb"(?:[\xa1-\xf7][\xa1-\xfe])+", data)]
    return sum(runs) >= 0.9 * high and max(runs, default=0) >= 4  # "öß" is a pair, too


def decode_text(value: str) -> str:
    """A header's text: encoded words, raw bytes, and words whose character set is wrong."""
    raw = value.encode("ascii", "surrogateescape") if value.isascii() else value.encode(
        "utf-8", "surrogateescape"
    )  # fmt: skip
    if b"=?" not in raw:
        return " ".join(decode_bytes(raw, None).split())
    try:
        found = decode_header(value)
    except (ValueError, LookupError, HeaderParseError):
        return " ".join(decode_bytes(raw, None).split())
    parts = []
    for text, charset in found:
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        parts.append(decode_bytes(data, charset))
    return " ".join("".join(parts).replace("\x00", "").split())


def read_header(message: Message, name: str) -> list[str]:
    """A header's values as they came; bytes that are no ASCII are surrogates."""
    wanted = name.lower()
    return [str(value) for key, value in message.raw_items() if key.lower() == wanted]


def read_addresses(values: list[str]) -> list[dict[str, str]]:
    """Names and addresses of headers; an entry without an address is left out."""
    if not values:
        return []
    texts = []
    for raw in values[:MOST_ADDRESSES]:
        is_bytes = any("\udc80" <= sign <= "\udcff" for sign in raw)
        shown = decode_bytes(raw.encode("utf-8", "surrogateescape"), None) if is_bytes else raw
        texts.append(" ".join(shown.split()))
    found = []
    for name, address in getaddresses(texts)[:MOST_ADDRESSES]:
        if "@" in address:
            entry = {"address": address.strip().strip("'\"").lower()}
            shown = decode_text(name).strip("'\" ")
            if shown and shown.lower() != entry["address"]:
                entry["name"] = shown
            found.append(entry)
    return found


# One message --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mail:
    """A message: its headers, and its parts unless only the headers were read."""

    message: Message
    received_at: datetime
    known: dict[str, list[dict[str, str]]] = field(default_factory=dict)  # addresses by header

    @classmethod
    def read(cls, data: bytes, received_at: datetime) -> Mail:
        return cls(message_from_bytes(data), received_at)

    def text(self, name: str) -> str:
        found = read_header(self.message, name)
        return decode_text(found[0]) if found else ""

    def addresses(self, name: str) -> list[dict[str, str]]:
        found = self.known.get(name)
        if found is None:
            found = self.known[name] = read_addresses(read_header(self.message, name))
        return found

    @cached_property
    def id(self) -> str:
        """The Message-ID; a hash of the headers where there is none."""
        found = MESSAGE_ID.search(self.text("Message-ID"))
        return found[1] if found else f"hash-{self.fingerprint}"

    @cached_property
    def fingerprint(self) -> str:
        """Tells two messages of one Message-ID apart; a copy in another folder has the same."""
        told = [self.text(name) for name in ("From", "Date", "Subject", "To")]
        return hashlib.sha256("\n".join(told).encode("utf-8", "replace")).hexdigest()[:32]

    @cached_property
    def references(self) -> list[str]:
        """What the message answers, the oldest first."""
        found = MESSAGE_ID.findall(self.text("References"))
        found = found[:1] + found[1:][-MOST_REFERENCES:]
        return list(dict.fromkeys([*found, *MESSAGE_ID.findall(self.text("In-Reply-To"))[:5]]))

    @cached_property
    def sent_at(self) -> datetime:
        """When it was written; when it arrived, where the header is missing or lies ahead."""
        try:
            sent = parsedate_to_datetime(self.text("Date"))
            sent = sent.replace(tzinfo=UTC) if sent.tzinfo is None else sent.astimezone(UTC)
        except (ValueError, TypeError, IndexError, OverflowError):
            return self.received_at
        is_odd = sent > self.received_at + timedelta(days=1) or sent.year < 1995
        return self.received_at if is_odd else sent

    @cached_property
    def subject(self) -> str:
        return clean_line(self.text("Subject"))[:998]


def strip_prefix(subject: str) -> str:
    """A subject without "Re:", "回复：" and the like."""
    return REPLY_PREFIX.sub("", subject).strip()


def find_reason(mail: Mail, owners: Owners) -> tuple[str, str] | None:
    """(why a message is no customer's word, the header that says so), or None."""
    message = mail.message
    kind = message.get_content_type()
    report = str(message.get_param("report-type") or "").lower()
    sender = (mail.addresses("From") or [{"address": ""}])[0]["address"].partition("@")[0]
    if kind == "multipart/report" and report == "disposition-notification":
        return "auto_reply", "Content-Type: disposition-notification"
    if kind == "multipart/report" or message.get("X-Failed-Recipients"):
        return "bounce", f"Content-Type: {report or kind}"
    if MACHINES.match(sender) or (
        BOUNCE_SUBJECT.match(mail.subject) and mail.text("Return-Path") == "<>"
    ):
        return "bounce", f"From: {sender}" if MACHINES.match(sender) else "Subject"
    flag = mail.text("X-Spam-Flag") or mail.text("X-Spam-Status").partition(",")[0]
    if flag.strip().lower() == "yes":
        return "spam", "X-Spam-Flag: yes"
    submitted = mail.text("Auto-Submitted").partition(";")[0].strip().lower()
    if submitted not in ("", "no"):
        return "auto_reply", f"Auto-Submitted: {submitted}"
    for name in AUTO_HEADERS:
        if message.get(name) and mail.text(name).lower() != "no":
            return "auto_reply", name
    precedence = mail.text("Precedence").lower()
    if precedence in ("auto_reply", "auto-reply"):
        return "auto_reply", f"Precedence: {precedence}"
    if AUTO_SUBJECT.match(mail.subject):
        return "auto_reply", "Subject"
    listed = re.search(r"<([^<>]+)>\s*$", mail.text("List-Id"))
    is_own_list = listed is not None and owners.has_domain(listed[1].lower())
    is_list = bool(message.get("List-Id") or message.get("List-Unsubscribe"))
    if not is_own_list and (precedence in ("bulk", "list", "junk") or is_list):
        return "bulk", f"Precedence: {precedence}" if precedence else "List-Id, List-Unsubscribe"
    return None


@dataclass(frozen=True)
class Author:
    """Who speaks in a message, and to which customer it belongs."""

    role: str  # customer agent bot
    address: str
    name: str | None
    customer: str | None  # an address
    is_public: bool
    is_form: bool


def find_author(mail: Mail, owners: Owners, reason: str | None, *, is_sent: bool) -> Author:
    """Who speaks. A form on our own site writes as us and names the customer in Reply-To."""
    senders = mail.addresses("From") or mail.addresses("Sender") or [{"address": ""}]
    sender = senders[0]
    receivers = [*mail.addresses("To"), *mail.addresses("Cc"), *mail.addresses("Bcc")]
    others = [one for one in receivers if not owners.has(one["address"])]
    is_own = is_sent or owners.has(sender["address"])
    if not is_own:
        return Author(
            "customer", sender["address"], sender.get("name"), sender["address"] or None, True,
            False,
        )  # fmt: skip
    answers_to = [one for one in mail.addresses("Reply-To") if not owners.has(one["address"])]
    if answers_to and not is_sent and not others and not mail.references:
        customer = answers_to[0]
        name = customer.get("name") or sender.get("name")
        return Author("customer", customer["address"], name, customer["address"], True, True)
    role = "bot" if reason in ("auto_reply", "bulk") else "agent"
    customer_address = others[0]["address"] if others else None
    return Author(
        role, sender["address"], sender.get("name"), customer_address, bool(others), False
    )


# Bodies -------------------------------------------------------------------------------------------


def walk_parts(message: Message) -> Iterator[Message]:
    """The leaves of a message; a message that is attached is one leaf."""
    waiting = [message]
    for _ in range(MOST_PARTS):
        if not waiting:
            return
        part = waiting.pop(0)
        if part.get_content_maintype() == "multipart" and part.is_multipart():
            waiting = [*inner_messages(part), *waiting]
        else:
            yield part


def inner_messages(part: Message) -> list[Message]:
    found = part.get_payload() if part.is_multipart() else []
    return [one for one in found if isinstance(one, Message)]


def read_name(part: Message) -> str:
    """The file name of a part, however it is encoded."""
    for header, parameter in (("Content-Disposition", "filename"), ("Content-Type", "name")):
        found = part.get_param(parameter, header=header)
        if isinstance(found, tuple):  # RFC 2231
            charset, _, text = found
            return decode_bytes(text.encode("latin-1", "replace"), charset)[:250]
        if found:
            return decode_text(found)[:250]
    return ""


def is_attachment(part: Message) -> bool:
    kind = part.get_content_type()
    if part.get_content_disposition() == "attachment" or kind not in ("text/plain", "text/html"):
        return True
    return bool(read_name(part))


def unfold_flowed(text: str, *, drops_space: bool) -> str:
    """Lines that format=flowed has broken, put together again (RFC 3676)."""
    lines: list[str] = []
    is_open = False
    for line in text.replace("\r\n", "\n").split("\n"):
        told = line[1:] if line.startswith(" ") else line
        joins = is_open and not told.startswith(">") and told != "-- "
        if joins:
            before = lines[-1][:-1] if drops_space else lines[-1]
            lines[-1] = before + told
        else:
            lines.append(told)
        is_open = told.endswith(" ") and told != "-- " and not told.startswith(">")
    return "\n".join(lines)


def read_body(message: Message) -> tuple[str, str]:
    """(the text of a message as it was sent, its type); HTML only where there is no plain text."""
    plain: list[str] = []
    rich: list[str] = []
    for part in walk_parts(message):
        if is_attachment(part):
            continue
        data = part.get_payload(decode=True)
        text = decode_bytes(data if isinstance(data, bytes) else b"", part.get_content_charset())
        if part.get_content_type() == "text/html":
            rich.append(text)
            continue
        if str(part.get_param("format") or "").lower() == "flowed":
            drops_space = str(part.get_param("delsp") or "").lower() == "yes"
            text = unfold_flowed(text, drops_space=drops_space)
        plain.append(text)
    told = "\n".join(plain).replace("\x00", "")
    if told.strip() or not rich:
        return told, "text/plain"
    return "\n".join(rich).replace("\x00", ""), "text/html"


def list_attachments(message: Message) -> list[dict[str, Any]]:
    """Name, type and size of what is attached."""
    found: list[dict[str, Any]] = []
    for part in walk_parts(message):
        kind = part.get_content_type()
        if not is_attachment(part) or kind == "message/delivery-status":
            continue
        data = part.get_payload(decode=True)
        size = len(data) if isinstance(data, bytes) else 0
        size += sum(len(bytes(one)) for one in inner_messages(part))
        found.append({"name": read_name(part) or kind.replace("/", "."), "type": kind,
                      "size": size})  # fmt: skip
    return found


def find_bounced(message: Message) -> list[str]:
    """Message-IDs of what a bounce gives back."""
    found: list[str] = []
    for part in walk_parts(message):
        kind = part.get_content_type()
        if kind == "message/rfc822":
            for inner in inner_messages(part):
                found += MESSAGE_ID.findall(Mail(inner, NEVER).text("Message-ID"))
        elif kind in ("text/rfc822-headers", "message/rfc822-headers"):
            data = part.get_payload(decode=True)
            head = message_from_bytes(data if isinstance(data, bytes) else b"")
            found += MESSAGE_ID.findall(Mail(head, NEVER).text("Message-ID"))
    return found


def describe_body(mail: Mail) -> dict[str, Any]:
    """What was said: without quoted mail and signature, and as it came where that differs."""
    text, kind = read_body(mail.message)
    said = shorten(clean_text(text))
    attachments = list_attachments(mail.message)
    names = [one["name"] for one in attachments]
    found: dict[str, Any] = {
        # Who writes nothing says it in the subject, or with what is attached.
        "said": said
        or strip_prefix(mail.subject)
        or " ".join(f"[{name}]" for name in names)
        or "–",
        "attachments": attachments,
        "attachment_names": names,
    }
    if text != said:
        found |= {"text": text, "text_type": kind}
    return found

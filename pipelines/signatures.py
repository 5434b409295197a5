"""Signatures of webhooks: HMAC-SHA256 over the raw body, in the header formats of several vendors.

Where a vendor signs the time as well, a delivery older than the tolerance is refused, so that one
that was overheard cannot be sent again later.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Scheme:
    """How a vendor signs.

    ``signature``: the header with it; ``found``: a regular expression whose group is one signature
    (a header may hold several, while a secret is replaced). ``message`` is what is signed, with
    ``{time}``, ``{id}`` and ``{body}`` in their places. ``time``: the header with the time, or a
    regular expression within the signature's header (``time_found``). ``secret_prefix``: what
    stands before a secret that is base64.
    """

    signature: str
    found: str
    message: str = "{body}"
    is_base64: bool = False
    time: str = ""
    time_found: str = "(.+)"
    id: str = ""
    secret_prefix: str = ""


SCHEMES = {
    "hearback": Scheme(
        "hearback-signature", r"v1=([0-9a-f]{64})", "{time}.{body}", False,
        "hearback-signature", r"\bt=(\d+)",
    ),
    "stripe": Scheme(
        "stripe-signature", r"v1=([0-9a-f]{64})", "{time}.{body}", False,
        "stripe-signature", r"\bt=(\d+)",
    ),
    "standard": Scheme(
        "webhook-signature", r"v1,([A-Za-z0-9+/=]+)", "{id}.{time}.{body}", True,
        "webhook-timestamp", id="webhook-id", secret_prefix="whsec_",
    ),
    "slack": Scheme(
        "x-slack-signature", r"^v0=([0-9a-f]{64})$", "v0:{time}:{body}", False,
        "x-slack-request-timestamp",
    ),
    "zendesk": Scheme(
        "x-zendesk-webhook-signature", r"^([A-Za-z0-9+/=]+)$", "{time}{body}", True,
        "x-zendesk-webhook-signature-timestamp",
    ),
    "github": Scheme("x-hub-signature-256", r"^sha256=([0-9a-f]{64})$"),
    "typeform": Scheme("typeform-signature", r"^sha256=([A-Za-z0-9+/=]+)$", is_base64=True),
    "shopify": Scheme("x-shopify-hmac-sha256", r"^([A-Za-z0-9+/=]+)$", is_base64=True),
    "plain": Scheme("x-signature", r"^(?:sha256=)?([0-9a-f]{64})$"),
}  # fmt: skip


def sign(scheme: Scheme, secret: str, time: str, delivery: str, body: bytes) -> bytes:
    """The signature that a delivery must bear, as bytes. ValueError if the secret is not base64."""
    key = secret.encode()
    if scheme.secret_prefix and secret.startswith(scheme.secret_prefix):
        key = base64.b64decode(secret.removeprefix(scheme.secret_prefix), validate=True)
    # Split before headers are put in: they come from outside and may hold anything.
    head, tail = (
        part.replace("{time}", time).replace("{id}", delivery).encode()
        for part in scheme.message.split("{body}")
    )
    return hmac.digest(key, head + body + tail, hashlib.sha256)


def decode_signature(scheme: Scheme, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if scheme.is_base64 else bytes.fromhex(text)
    except (binascii.Error, ValueError):
        return b""


def read_time(text: str) -> float:
    """Unix seconds from seconds or ISO 8601; NaN if it is neither."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return float("nan")


def find_fault(
    scheme: Scheme,
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    now: float,
    *,
    tolerance: float,
) -> str | None:
    """Why a delivery is refused, None if it is genuine; ``headers`` have names in lower case."""
    found = re.findall(scheme.found, headers.get(scheme.signature, ""))
    if not found:
        return f"header {scheme.signature} holds no signature"
    time = ""
    if scheme.time:
        match = re.search(scheme.time_found, headers.get(scheme.time, ""))
        time = match[1] if match else ""
        if not abs(now - read_time(time or "nan")) <= tolerance:
            return "the time of the delivery is missing or outside the tolerance"
    wanted = sign(scheme, secret, time, headers.get(scheme.id, ""), body)
    # Every signature is compared, and each in constant time.
    same = [hmac.compare_digest(wanted, decode_signature(scheme, text)) for text in found]
    return None if any(same) else "the signature does not fit the body"

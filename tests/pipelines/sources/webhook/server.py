"""The intake on loopback, and a sender that signs as vendors do."""

from __future__ import annotations

import base64
import http.client
import threading
import time
from pathlib import Path

from pipelines.intake import Door, make_server
from pipelines.signatures import SCHEMES, sign

SECRET = "quiet-secret"


class Intake:
    """A running intake with one door, ``desk``; ``post`` signs unless it is given headers."""

    def __init__(self, folder: Path, scheme: str = "hearback", max_bytes: int = 1000) -> None:
        self.told: list[str] = []
        self.scheme = scheme
        door = Door(folder, SCHEMES[scheme], SECRET, 300, max_bytes)
        self.server = make_server({"desk": door}, "127.0.0.1", 0, self.told.append)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def headers(self, body: bytes, at: float | None = None) -> dict[str, str]:
        """The headers of a genuine delivery at a time; the answer to "how does X sign?"."""
        return make_headers(self.scheme, body, str(int(time.time() if at is None else at)))

    def post(self, body: bytes, headers: dict[str, str] | None = None, path: str = "/desk") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=5)
        sent = self.headers(body) if headers is None else headers
        connection.request("POST", path, body, {"Content-Type": "application/json", **sent})
        status = connection.getresponse().status
        connection.close()
        return status


def make_headers(name: str, body: bytes, at: str) -> dict[str, str]:
    scheme = SCHEMES[name]
    raw = sign(scheme, SECRET, at, "msg_1", body)
    text, coded = raw.hex(), base64.b64encode(raw).decode()
    return {
        "hearback": {"Hearback-Signature": f"t={at},v1={text}"},
        "stripe": {"Stripe-Signature": f"t={at},v1={'0' * 64},v1={text},v0=abc"},
        "standard": {
            "webhook-id": "msg_1",
            "webhook-timestamp": at,
            "webhook-signature": f"v1,AAAA v1,{coded}",
        },
        "slack": {"X-Slack-Signature": f"v0={text}", "X-Slack-Request-Timestamp": at},
        "zendesk": {
            "X-Zendesk-Webhook-Signature": coded,
            "X-Zendesk-Webhook-Signature-Timestamp": at,
        },
        "github": {"X-Hub-Signature-256": f"sha256={text}"},
        "typeform": {"Typeform-Signature": f"sha256={coded}"},
        "shopify": {"X-Shopify-Hmac-Sha256": coded},
        "plain": {"X-Signature": text},
    }[name]

"""What the servers of Zoho Desk and Zoho CRM share: tokens that end and are given again."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

REFRESH = "quiet-refresh"
TOKEN_PATH = "/oauth/v2/token"
SCHEME = "Zoho-oauthtoken "


def connection_of(server: VendorServer, refresh: str = REFRESH) -> str:
    extra = {"refresh_token": refresh, "token_url": f"{server.url}{TOKEN_PATH}"}
    return json.dumps({"login": "client", "password": "quiet-secret", "extra": extra})


class ZohoServer(VendorServer):
    """Only the last of ``tokens`` is good. A subclass answers with ``serve`` what is signed."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: list[str] = []

    def allows(self, request: Request) -> bool:
        if request.path == TOKEN_PATH:
            return True
        token = request.headers.get("authorization", "").removeprefix(SCHEME)
        return bool(self.tokens) and token == self.tokens[-1]

    def respond(self, request: Request) -> Answer:
        if request.path == TOKEN_PATH:
            return self.give_token(dict(parse_qsl(str(request.body))))
        return self.serve(request)

    def serve(self, request: Request) -> Answer:
        """The answer to a request that is signed."""
        raise AssertionError("a service of Zoho says what it answers")

    def give_token(self, form: dict[str, str]) -> Answer:
        """Zoho says by 200 that credentials are wrong."""
        if form.get("refresh_token") != REFRESH or form.get("grant_type") != "refresh_token":
            return Answer({"error": "invalid_code"})
        self.tokens.append(f"1000.token{len(self.tokens)}")
        given = {"access_token": self.tokens[-1], "expires_in": 3600, "token_type": "Bearer"}
        return Answer(given | {"api_domain": self.url})

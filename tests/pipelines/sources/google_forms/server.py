"""Google Forms on loopback: filters and page tokens as documented, strict about both."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt

from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

PAYLOADS = Path(__file__).parent / "payloads"
TOKEN = "ya29.right"
GRANT = {
    "grant_type": "refresh_token",
    "client_id": "app",
    "client_secret": "hush",
    "refresh_token": "1//r",
}


def read_payload(name: str) -> Any:
    return json.loads((PAYLOADS / name).read_text(encoding="utf-8"))


def error(code: int, status: str) -> Answer:
    return Answer({"error": {"code": code, "message": "", "status": status}}, code)


class GoogleForms(VendorServer):
    """Forms by id, responses by form; pages hold ``page_size`` responses, in no order."""

    def __init__(self, page_size: int = 2) -> None:
        super().__init__()
        self.page_size = page_size
        self.forms: dict[str, Any] = {"form-en": read_payload("form.json")}
        self.responses: dict[str, list[Any]] = {"form-en": read_payload("responses.json")}
        self.before_page: Callable[[int], None] = lambda place: None
        self.public_key = ""
        self.generation = 0  # tokens of an older one have expired

    def allows(self, request: Request) -> bool:
        is_signed = request.headers.get("authorization") == f"Bearer {TOKEN}"
        return is_signed or request.path == "/token"

    def refuse(self, request: Request) -> Answer:
        return error(401, "UNAUTHENTICATED")

    def respond(self, request: Request) -> Answer:
        if request.path == "/token":
            form = {name: found[-1] for name, found in parse_qs(str(request.body)).items()}
            if form == GRANT or self.is_account(form):
                return Answer({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
            return Answer({"error": "invalid_grant"}, 400)
        parts = request.path.strip("/").split("/")
        if parts[:2] != ["v1", "forms"] or parts[2] not in self.forms:
            return error(404, "NOT_FOUND")
        if len(parts) == 3:
            return Answer(self.forms[parts[2]])
        if parts[3:] != ["responses"] or set(request.query) - {"pageSize", "pageToken", "filter"}:
            return error(400, "INVALID_ARGUMENT")
        if not 0 < int(request.query["pageSize"]) <= 5000:
            return error(400, "INVALID_ARGUMENT")
        return self.list_responses(parts[2], request.query)

    def is_account(self, form: dict[str, str]) -> bool:
        """Whether a form is a grant by the service account whose public key we have."""
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return False
        try:
            told = jwt.decode(
                form["assertion"],
                self.public_key,
                ["RS256"],
                audience="https://oauth2.googleapis.com/token",
                issuer="robot@acme.iam.gserviceaccount.com",
                options={"require": ["exp", "iat", "iss", "aud"]},
            )
        except jwt.PyJWTError:
            return False
        wanted = {
            f"https://www.googleapis.com/auth/forms.{n}.readonly" for n in ("body", "responses")
        }
        is_short = 0 < told["exp"] - told["iat"] <= 3600
        names_key = jwt.get_unverified_header(form["assertion"]).get("kid") == "key-1"
        return is_short and names_key and set(told["scope"].split()) == wanted

    def list_responses(self, form: str, query: dict[str, str]) -> Answer:
        wanted = query.get("filter", "")
        place = 0
        if "pageToken" in query:
            generation, place_text, was_wanted = query["pageToken"].split("|")
            place = int(place_text)
            if int(generation) != self.generation or was_wanted != wanted:
                return error(400, "INVALID_ARGUMENT")
        self.before_page(place)
        rows = self.responses.get(form, [])
        if wanted:
            if not wanted.startswith("timestamp >= ") or not wanted.endswith("Z"):
                return error(400, "INVALID_ARGUMENT")
            since = wanted.removeprefix("timestamp >= ").rstrip("Z")
            rows = [row for row in rows if row["lastSubmittedTime"].rstrip("Z") >= since]
        page = rows[place : place + self.page_size]
        body: dict[str, Any] = {"responses": page} if page else {}
        if place + self.page_size < len(rows):
            body["nextPageToken"] = f"{self.generation}|{place + self.page_size}|{wanted}"
        return Answer(body)

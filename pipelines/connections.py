"""Secrets: Airflow connections, read from AIRFLOW_CONN_<ID> as a URI or as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from pipelines.errors import HearbackError


@dataclass(frozen=True)
class Connection:
    """What a source needs to sign in. ``password`` and ``extra`` never show in a repr or a log."""

    id: str
    host: str | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    extra: dict[str, str] = field(default_factory=dict, repr=False)
    conn_type: str | None = None
    port: int | None = None
    schema: str | None = None  # Airflow's word for the name or number of a database


def get_connection(connection_id: str) -> Connection:
    """The connection of that id; HearbackError that says which variable to set if there is none."""
    variable = f"AIRFLOW_CONN_{connection_id.upper()}"
    text = os.environ.get(variable)
    if not text:
        raise HearbackError(
            f"connection {connection_id!r} is not set; export {variable} "
            '({"conn_type": "http", "login": "…", "password": "…"}) or add it in Airflow'
        )
    if text.lstrip().startswith("{"):
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise HearbackError(
                f"{variable} is not valid JSON (character {error.pos}); mend the variable"
            ) from None
        extra = data.get("extra") or {}
        if isinstance(extra, str):
            extra = json.loads(extra)
        return Connection(
            connection_id,
            data.get("host"),
            data.get("login"),
            data.get("password"),
            extra,
            data.get("conn_type"),
            int(data["port"]) if data.get("port") else None,
            data.get("schema"),
        )
    parts = urlsplit(text)
    return Connection(
        connection_id,
        parts.hostname,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
        dict(parse_qsl(parts.query)),
        parts.scheme or None,
        parts.port,
        unquote(parts.path.lstrip("/")) or None,
    )

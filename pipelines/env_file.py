"""``.env`` beside hearback.toml: secrets of one installation, kept apart from its configuration.

What the environment holds already wins. The file is readable by its owner only, and a variable that
is in it is never overwritten.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import HearbackError, UsageError

NAME = ".env"
HEAD = "# Secrets of this installation, read by every command. Keep it out of version control.\n"


def env_file(config: Path) -> Path:
    """The .env of a configuration: beside it."""
    return config.absolute().parent / NAME


def read_env_file(path: Path) -> dict[str, str]:
    """The variables of a .env file; none if there is no such file."""
    from dotenv import dotenv_values

    if not path.is_file():
        return {}
    try:
        # Without interpolation: a password may hold a $.
        found = dotenv_values(path, interpolate=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({type(error).__name__}); mend it") from None
    return {name: value for name, value in found.items() if value is not None}


def load_env_file(config: Path) -> None:
    """Put what the .env beside a configuration holds into the environment, which wins."""
    for name, value in read_env_file(env_file(config)).items():
        os.environ.setdefault(name, value)


def connection_variable(connection: str) -> str:
    return f"AIRFLOW_CONN_{connection.upper()}"


def write_connection(config: Path, connection: str, fields: Mapping[str, Any]) -> Path:
    """Add a connection to the .env beside a configuration; returns the file.

    UsageError, and nothing written, if the file has the connection already.
    """
    path, variable = env_file(config), connection_variable(connection)
    if variable in read_env_file(path):
        raise UsageError(
            f"{path} has {variable} already and is not overwritten; edit it there, or choose "
            "another name with --set connection=…"
        )
    text = encode_connection(fields)
    ignore_in_git(path.parent)
    try:
        is_new = not path.exists()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with open(handle, "a", encoding="utf-8") as file:
            os.fchmod(handle, 0o600)
            ends = is_new or path.read_bytes()[-1:] in (b"", b"\n")
            file.write((HEAD if is_new else "") + ("" if ends else "\n"))
            file.write(f"{variable}='{text}'\n")
    except OSError as error:
        raise HearbackError(
            f"cannot write {path}: {error.strerror}; mend its permissions"
        ) from None
    return path


def encode_connection(fields: Mapping[str, Any]) -> str:
    """A connection as JSON that shells, Docker and dotenv all read alike within single quotes."""
    text = json.dumps({"conn_type": "http", **fields}, ensure_ascii=False)
    # json.loads turns these back; no backslash before a quote or another backslash is left.
    text = text.replace("\\\\", "\\u005c").replace('\\"', "\\u0022")
    return text.replace("'", "\\u0027").replace("$", "\\u0024")


def ignore_in_git(folder: Path) -> None:
    """See to it that .gitignore names .env."""
    path = folder / ".gitignore"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if NAME in lines or f"/{NAME}" in lines:
        return
    with open(path, "a", encoding="utf-8") as file:
        last = lines and path.read_bytes()[-1:] != b"\n"
        file.write(("\n" if last else "") + f"{NAME}\n")


def is_private(path: Path) -> bool:
    """Whether nobody but its owner may read a file."""
    return not path.stat().st_mode & 0o077

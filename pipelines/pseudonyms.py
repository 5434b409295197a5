"""Keyed hashes: the same person gets the same key, and nobody without the secret can tell who."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.storage import explain_disk_errors

KEY_VARIABLE = "HEARBACK_PSEUDONYM_KEY"
KEY_FILE = "pseudonym_key"


def load_key(state: Path) -> bytes:
    """The secret of HEARBACK_PSEUDONYM_KEY, else of a file in state that only its owner reads.

    The file is made on first use. Whoever loses it gets other keys for the same addresses.
    """
    given = os.environ.get(KEY_VARIABLE)
    if given:
        return given.encode()
    path = state / KEY_FILE
    if not path.exists():
        with explain_disk_errors(KEY_FILE):
            state.mkdir(parents=True, exist_ok=True)
            # Made aside and renamed: a killed run leaves no empty key.
            aside = path.with_name(f"{KEY_FILE}.{secrets.token_hex(4)}")
            handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
    return path.read_text().strip().encode()


def hash_emails(emails: pa.Array, key: bytes) -> pa.Array:
    """HMAC-SHA256 of each lower-case address, 32 hex digits; NULL where there is no address."""
    folded = pc.utf8_lower(pc.utf8_trim_whitespace(emails))
    return pa.array(
        [
            hmac.new(key, email.encode(), hashlib.sha256).hexdigest()[:32] if email else None
            for email in folded.to_pylist()
        ],
        pa.string(),
    )

"""Webhooks: what other systems push, from the folder that ``hearback intake`` fills.

The intake checks each delivery's signature and writes it as a file of its own. A pull reads the
files by the time of their arrival and removes those that an earlier pull has safely captured. A
delivery is known by the id in its body (``id``), else by its text, so that one which was sent twice
is one record. A body that is a list gives a record for each item.

What pushing does not give: what happened before the webhook was set up, and what the sender gave up
on while the intake was down.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic import Field as Option

from pipelines.entities import KEYS, SCHEMAS
from pipelines.errors import HearbackError
from pipelines.mapping import RECORD_ID, Field, Mapping, When, columns_to_fields, values
from pipelines.settings import Source, nearest
from pipelines.signatures import SCHEMES
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.deletions import split_marks
from pipelines.sources.rest import Target, as_path, map_target

BATCH_ROWS = 1000
OVERLAP_NS = 60 * 10**9  # a delivery may be written a little after one that arrived later
NAME = re.compile(r"(\d{19})-[0-9a-f]{16}\.json")


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Option(default="", description="folder; default: data/intake/<name of the source>")
    signature: str = Option(default="hearback", description="how the sender signs")
    header: str | None = Option(default=None, description="header of the signature, if another")
    tolerance_seconds: float = Option(default=300, gt=0, description="age of a signed time")
    max_bytes: int = Option(default=1_000_000, ge=1, description="bigger bodies are refused")
    id: str | None = Option(default=None, description="path of the id in a body; else its text")
    mappings: list[Target] = Option(default_factory=list, description="as those of kind rest")
    ignored: list[str] = Option(default_factory=list, description="fields that are not used")

    @field_validator("signature")
    @classmethod
    def check_signature(cls, name: str) -> str:
        if name not in SCHEMES:
            raise ValueError(
                f"{name!r} is not known{nearest(name, list(SCHEMES))}; there are "
                f"{', '.join(SCHEMES)}"
            )
        return name


def find_folder(source: Source, options: Options, base: Path) -> Path:
    """Where deliveries of a source are kept, below the folder of hearback.toml."""
    return base / (options.path or f"data/intake/{source.name}")


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Deliveries since a minute before the newest one that was captured."""
    options = read_options(source, Options)
    after = int(context.position.get("after", 0)) - OVERLAP_NS
    records: list[Record] = []
    newest = 0
    for path in list_files(find_folder(source, options, context.folder)):
        arrived = int(path.name[:19])
        if arrived < after:
            path.unlink(missing_ok=True)
            continue
        records += read_delivery(path, options)
        newest = arrived
        if len(records) >= BATCH_ROWS:
            yield Batch("events", records, {"after": newest})
            records = []
    if records:
        yield Batch("events", records, {"after": newest})


def check(source: Source, context: PullContext) -> str:
    """The secret is there, and deliveries can be written."""
    options = read_options(source, Options)
    if not context.connection(source).password:
        raise HearbackError(
            f"source {source.name!r}: connection {source.connection!r} needs a password "
            "(the secret that the sender signs with)"
        )
    folder = find_folder(source, options, context.folder)
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(above, os.W_OK):
        raise HearbackError(
            f"source {source.name!r}: not allowed to write {above}; mend its permissions"
        )
    return f"{sum(1 for _ in list_files(folder))} deliveries wait in {folder}"


def list_files(folder: Path) -> Iterator[Path]:
    """Deliveries, oldest first; files of other names are nobody's business here."""
    for day in sorted(folder.glob("????-??-??")):
        yield from sorted(path for path in day.iterdir() if NAME.fullmatch(path.name))


def read_delivery(path: Path, options: Options) -> Iterator[Record]:
    """The records of one delivery; a body that cannot be read keeps its text as a problem."""
    envelope = json.loads(path.read_text(encoding="utf-8"))
    text, kind = envelope["body"], envelope["content_type"]
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    if kind.startswith("application/x-www-form-urlencoded"):
        body: Any = dict(parse_qsl(text, keep_blank_values=True))
    else:
        try:
            body = json.loads(text)
        except ValueError:
            yield Record(digest, text, problem="broken_json")
            return
    items = body if isinstance(body, list) else [body]
    for number, item in enumerate(items):
        payload = item if isinstance(item, dict) else {"value": item}
        suffix = f":{number}" if isinstance(body, list) else ""
        yield Record(read_id(payload, options.id) or digest + suffix, payload)


def read_id(payload: dict[str, Any], path: str | None) -> str | None:
    found: Any = payload
    for part in path.split(".") if path else ():
        found = found.get(part) if isinstance(found, dict) else None
    return str(found) if path and found not in (None, "") else None


def mappings(source: Source) -> list[Mapping]:
    """What the configuration declares; without any, bodies with ``text`` are feedback."""
    options = read_options(source, Options)
    if not options.mappings:
        fields = {
            "source_record_id": Field(RECORD_ID),
            "channel": Field("channel", values=values({n: n for n in CHANNELS}), unknown="other"),
            "author": Field("author"),
            "source_customer_id": Field("customer_id"),
            "product": Field("product"),
            "language": Field("language"),
            "created_at": Field("created_at", "instant"),
            "title": Field("title"),
            "body": Field("text", also=("body",)),
            "rating": Field("rating", "number"),
            "rating_min": Field("rating_min", "number"),
            "rating_max": Field("rating_max", "number"),
        }
        ignored = (*options.ignored, *((options.id or "id").split(".")[:1]))
        return [Mapping("events", "feedback", fields, ignored=ignored)]
    return [
        mapping
        for target in options.mappings
        for mapping in map_target(target, make_mapping(options, target))
    ]


def make_mapping(options: Options, target: Target) -> Mapping:
    columns, _ = split_marks(target.entity, target.columns)
    typed = columns_to_fields(target.entity, dict.fromkeys(columns, ""), {})
    fields = {name: Field(const=value) for name, value in target.constants.items()}
    for name, path in columns.items():
        mapped = values(target.values.get(name, {}))
        fields[name] = Field(as_path(path), typed[name].type, mapped, target.unknown.get(name))
    return Mapping(
        "events",
        target.entity,
        fields,
        when=tuple(
            When(as_path(one.path), tuple(one.among), one.is_negated, one.pattern)
            for one in target.when
        ),
        explode=target.explode,
        ignored=(*options.ignored, *((options.id or "").split(".")[:1])),
        required=tuple(name for name in KEYS[target.entity] if name in target.columns),
    )


CHANNELS = ("phone", "email", "chat", "social", "web_form", "review", "survey", "app_store",
            "forum", "api")  # fmt: skip
KINDS = {
    "webhook": Kind(
        "webhook",
        "What other systems push, signed, to `hearback intake`; signatures of "
        + ", ".join(SCHEMES),
        Options,
        tuple(SCHEMAS),
        pull,
        mappings,
        needs_connection=True,
        check=check,
        is_local=True,
        secrets=(
            Secret(
                "password", "secret that the sender signs with", "the sender's webhook settings"
            ),
        ),
        summary_zh="其他系统推送给 `hearback intake` 的签名消息；支持的签名：" + ", ".join(SCHEMES),
    )
}

"""Collections of MongoDB: new documents by a cursor field, or all of them compared.

With ``cursor`` a pull reads the documents from the last value on, that value included, less
``overlap``, in the order of the field and of ``_id``: documents that share a time, and those that
arrive late, come again, and the raw layer drops what it has. MongoDB compares only values of one
type, so documents whose field is missing or of another type than most are read each time. A time in
the future never moves the position past now. Without ``cursor`` all documents are read each time
and those that changed are captured. ``deletions`` lists every ``_id`` to find what is gone.

Ids and UUIDs become text, dates ISO 8601 in UTC, decimals text with their digits, binary base64.
What a collection does not give: what a document said between two pulls.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
from pydantic import Field as Option
from pydantic import model_validator

from pipelines.entities import SCHEMAS
from pipelines.errors import HearbackError, UsageError
from pipelines.mapping import Mapping, When, split_path
from pipelines.settings import Source, nearest
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.columns import ColumnOptions, check_columns, map_columns, record_key
from pipelines.sources.cursors import (
    OVERLAP_SECONDS,
    cap_at_now,
    read_value,
    subtract,
    write_value,
)
from pipelines.sources.known_ids import DELETED, MARKED, KnownIds, map_gone

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.collection import Collection

Document = dict[str, Any]

BATCH_DOCUMENTS = 1000
SAMPLED_DOCUMENTS = 1000  # in which the fields of the configuration are looked for
WAIT_SECONDS = 20
UNAUTHORIZED = 13
REFUSED_LOGIN = (18, 8000)  # of MongoDB, and of Atlas


class Options(ColumnOptions):
    is_nested: ClassVar[bool] = True

    database: str | None = Option(
        default=None, description="its name; else that of the connection's schema or address"
    )
    collection: str = Option(description="its name")
    filter: dict[str, Any] = Option(
        default_factory=dict, description="which documents to read, as MongoDB's find takes it"
    )
    fields: list[str] = Option(
        default_factory=list, description="fields to read, dots lead inside; else all"
    )
    cursor: str | None = Option(
        default=None, description="field that grows when a document is added or changed, or _id"
    )
    overlap: float | None = Option(
        default=None, ge=0, description="seconds (300) or numbers (1000) read again for late rows"
    )
    optional: list[str] = Option(
        default_factory=list, description="fields that records may lack altogether"
    )
    deletions: bool = Option(default=False, description="list all ids to find rows that are gone")
    allow_empty: bool = Option(default=False, description="all rows may be gone")

    @model_validator(mode="after")
    def check_deletions(self) -> Options:
        if self.deletions and self.entity not in MARKED:
            raise ValueError(f"deletions can be told of {', '.join(MARKED)}")
        if self.deletions and self.columns.get(record_key(self.entity), "_id") != "_id":
            raise ValueError(f"with deletions, {record_key(self.entity)} must be _id")
        return self

    @property
    def projection(self) -> dict[str, int] | None:
        if not self.fields:
            return None
        return dict.fromkeys(["_id", *self.fields, *([self.cursor] if self.cursor else [])], 1)

    @property
    def origin(self) -> str:
        """What a position belongs to: another collection, filter or cursor begins anew."""
        told = json.dumps([self.database, self.collection, self.filter, self.cursor], default=str)
        return hashlib.sha256(told.encode()).hexdigest()[:16]


# opening ----------------------------------------------------------------------------------------


def open_client(source: Source, context: PullContext) -> MongoClient[Document]:
    from pymongo import MongoClient

    connection = context.connection(source)
    extra: dict[str, Any] = dict(connection.extra)
    address = extra.pop("url", None)
    is_srv = str(extra.pop("srv", "")).lower() == "true" or connection.conn_type == "mongodb+srv"
    if address is None:
        host = connection.host or "localhost"
        address = f"mongodb+srv://{host}/" if is_srv else host
    if connection.login:
        extra["username"] = connection.login
    if connection.password:
        extra["password"] = connection.password
    return MongoClient(
        address,
        None if is_srv else connection.port,
        appname="hearback",
        serverSelectionTimeoutMS=WAIT_SECONDS * 1000,
        connectTimeoutMS=WAIT_SECONDS * 1000,
        **extra,
    )


@contextmanager
def open_collection(
    source: Source, options: Options, context: PullContext
) -> Iterator[Collection[Document]]:
    """The collection; all its errors in one line."""
    from bson.binary import UuidRepresentation
    from bson.codec_options import CodecOptions, DatetimeConversion
    from pymongo.errors import ConfigurationError

    codec: CodecOptions[Document] = CodecOptions(
        tz_aware=True,
        uuid_representation=UuidRepresentation.STANDARD,
        unicode_decode_error_handler="backslashreplace",
        datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    )
    with explain_errors(source), open_client(source, context) as client:
        name = options.database or context.connection(source).schema
        try:
            database = client[name] if name else client.get_default_database()
        except ConfigurationError:
            raise UsageError(
                f"source {source.name!r}: say which database: options.database, or schema of "
                f"connection {source.connection!r}"
            ) from None
        names = database.list_collection_names(authorizedCollections=True)
        if options.collection not in names:
            raise HearbackError(
                f"source {source.name!r}: {database.name} has no collection "
                f"{options.collection!r}{nearest(options.collection, names)}; collections are: "
                f"{', '.join(sorted(names)[:30]) or 'none'}"
            )
        yield database.get_collection(options.collection, codec)


@contextmanager
def explain_errors(source: Source) -> Iterator[None]:
    """What the driver or the server said, in one line, and whether waiting may help."""
    from pymongo import errors

    where = f"connection {source.connection!r}"
    try:
        yield
    except (errors.ConfigurationError, errors.InvalidURI) as error:
        raise UsageError(
            f"source {source.name!r}: {where} is no MongoDB address: {shorten(error)}; give host, "
            "port and schema, or extra.url (mongodb://host/database)"
        ) from None
    except errors.CursorNotFound as error:
        raise HearbackError(
            f"source {source.name!r}: MongoDB dropped the cursor while documents were read; the "
            "next run goes on from here",
            heals=True,
        ) from error
    except errors.OperationFailure as error:
        if error.code in REFUSED_LOGIN:
            advice = f"MongoDB refused login and password; check {where} (authSource in its extra)"
        elif error.code == UNAUTHORIZED:
            advice = f"the user of {where} may not read this: {shorten(error)}; give it role read"
        else:
            advice = f"MongoDB refused: {shorten(error)}; check options"
        raise HearbackError(
            f"source {source.name!r}: {advice}", heals=isinstance(error, errors.ExecutionTimeout)
        ) from error
    except errors.ConnectionFailure as error:
        raise HearbackError(
            f"source {source.name!r}: no answer from MongoDB: {shorten(error)}; check {where} and "
            "the network",
            heals=True,
        ) from error


def shorten(error: Exception) -> str:
    """The beginning of what a driver says, without its view of all servers."""
    said = " ".join(str(error).split())
    for mark in (" (configured timeouts", ", full error", ", Timeout:"):
        said = said.split(mark)[0]
    return said[:200]


# reading ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """One pull; ``position`` moves while it goes on."""

    source: Source
    options: Options
    now: datetime
    collection: Collection[Document]
    position: dict[str, Any]

    def read(self, known: KnownIds | None) -> Iterator[Batch]:
        """The documents, each batch with the position that covers it."""
        name = self.options.cursor
        kind = self.find_type()
        if name is None or kind is None:
            yield from self.read_batches({}, known, is_ordered=False)
            return
        yield from self.read_batches({name: {"$not": {"$type": kind}}}, known, is_ordered=False)
        begin = self.find_begin(kind)
        limit = {"$type": kind} if begin is None else {"$type": kind, "$gte": begin}
        yield from self.read_batches({name: limit}, known, is_ordered=True)

    def find_type(self) -> str | None:
        """The type of the cursor's values: that of the position, else that of the last one."""
        if self.options.cursor is None:
            return None
        if "after" in self.position:
            return name_type(read_bson(self.position["after"]))
        name = self.options.cursor
        present = self.where({name: {"$ne": None}})
        newest = self.collection.find_one(present, {name: 1}, sort=[(name, -1)])
        return name_type(dig(newest, name)) if newest else None

    def find_begin(self, kind: str) -> Any:
        """Where to begin: the remembered value less the overlap, or the source's first day."""
        from bson import ObjectId

        if "after" in self.position:
            return subtract_bson(read_bson(self.position["after"]), self.options.overlap)
        if self.source.start is None or kind == "number":
            return None
        start = datetime.combine(self.source.start, time.min, UTC)
        if kind == "objectId":
            return ObjectId.from_datetime(start)
        return start if kind == "date" else self.source.start.isoformat()

    def where(self, condition: Document) -> Document:
        parts = [part for part in (self.options.filter, condition) if part]
        return {"$and": parts} if parts[1:] else (parts or [{}])[0]

    def read_batches(
        self, condition: Document, known: KnownIds | None, *, is_ordered: bool
    ) -> Iterator[Batch]:
        name = self.options.cursor
        found = self.collection.find(
            self.where(condition), self.options.projection, batch_size=BATCH_DOCUMENTS
        )
        if is_ordered and name:
            order = [(name, 1)] if name == "_id" else [(name, 1), ("_id", 1)]
            found = found.sort(order).allow_disk_use(True)
        with found:
            while documents := list(islice(found, BATCH_DOCUMENTS)):
                table = make_table(documents)
                if known:
                    known.add(table["record_id"].combine_chunks())
                if is_ordered and name:
                    self.move_to(dig(documents[-1], name))
                yield Batch(self.options.entity, table, dict(self.position) if is_ordered else None)

    def move_to(self, value: Any) -> None:
        """Never back: a pull that is stopped while it reads the overlap must not lose ground."""
        value = cap_bson(value, self.options.time_zone, self.now)
        before = read_bson(self.position["after"]) if "after" in self.position else None
        if before is None or comparable(value) > comparable(before):
            self.position["after"] = write_bson(value)

    def check_fields(self) -> None:
        """HearbackError if none of many documents has a field that is configured."""
        sample = list(self.collection.find(self.where({}), limit=SAMPLED_DOCUMENTS))
        keys = sorted({key for document in sample for key in document})
        named = [*self.options.named_columns, *([self.options.cursor or "_id"])]
        for path in named:
            is_there = any(has_path(document, path) for document in sample)
            if sample and not is_there and path not in self.options.optional:
                raise HearbackError(
                    f"source {self.source.name!r}: no document of {self.options.collection} has "
                    f"the field {path!r}{nearest(path, keys)}; fields are: {', '.join(keys[:30])}"
                    ". Name it in options.optional if it may be missing"
                )

    def find_deletions(self, known: KnownIds) -> Iterator[Batch]:
        """A record for each id that was known and is not there any more; moves the position."""
        name, count, gone = known.find_gone(self.list_ids())
        for ids in gone:
            if not count and not self.options.allow_empty:
                raise HearbackError(
                    f"source {self.source.name!r}: no document is left, so none was taken for "
                    "deleted; check the filter and what the user may see, or set allow_empty = true"
                )
            yield Batch(self.options.entity, [Record(one, {DELETED: "true"}) for one in ids])
        self.position["ids"] = name

    def list_ids(self) -> Iterator[pa.Array]:
        with self.collection.find(self.where({}), {"_id": 1}, batch_size=BATCH_DOCUMENTS) as found:
            while documents := list(islice(found, BATCH_DOCUMENTS)):
                yield pa.array([make_id(one["_id"]) for one in documents], pa.string())


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Documents from the remembered value of the cursor on, or all of them; then what is gone."""
    options = read_options(source, Options)
    check_columns(source, options)
    position = dict(context.position)
    if position.get("origin") != options.origin:
        position = {"origin": options.origin}
    known = KnownIds(context.state / "ids", position.get("ids")) if options.deletions else None
    with open_collection(source, options, context) as collection:
        reading = Reading(source, options, context.now, collection, position)
        reading.check_fields()
        yield from reading.read(known)
        if known:
            yield from reading.find_deletions(known)
    yield Batch(options.entity, [], dict(position))


def make_table(documents: list[Document]) -> pa.Table:
    """Documents as record_id, payload, url, problem."""
    return pa.table(
        {
            "record_id": pa.array([make_id(one["_id"]) for one in documents], pa.string()),
            "payload": pa.array([write_json(one) for one in documents], pa.string()),
            "url": pa.nulls(len(documents), pa.string()),
            "problem": pa.nulls(len(documents), pa.string()),
        }
    )


def make_id(value: Any) -> str:
    return value if isinstance(value, str) else write_json(value).strip('"')


def write_json(value: Any) -> str:
    write: Callable[..., str] = json.dumps
    try:
        return write(
            value, ensure_ascii=False, separators=(",", ":"), default=to_plain, allow_nan=False
        )
    except ValueError:  # NaN and infinity, which JSON has not
        return write_json(name_infinite(value))


def name_infinite(value: Any) -> Any:
    """The same with NaN and infinity as text."""
    if isinstance(value, dict):
        return {key: name_infinite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [name_infinite(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def to_plain(value: Any) -> Any:
    """What JSON has for a value of BSON."""
    from bson import DBRef, Regex, Timestamp

    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Timestamp):
        return value.as_datetime().isoformat()
    if isinstance(value, DBRef):
        return dict(value.as_doc())
    return value.pattern if isinstance(value, Regex) else str(value)


def dig(document: Any, path: str) -> Any:
    """The value at a dotted path; None if there is none."""
    found = document
    for part in split_path(path):
        if isinstance(found, dict):
            found = found.get(str(part))
        elif isinstance(found, list) and isinstance(part, int) and part < len(found):
            found = found[part]
        else:
            return None
    return found


def has_path(document: Document, path: str) -> bool:
    """Whether a document has a path, be it null; inside of lists of unknown length the list."""
    *parents, leaf = split_path(path)
    parent = dig(document, ".".join(map(str, parents))) if parents else document
    return isinstance(parent, list) or (isinstance(parent, dict) and str(leaf) in parent)


# the cursor ---------------------------------------------------------------------------------------


def name_type(value: Any) -> str | None:
    """MongoDB's name of the type that a cursor has; HearbackError if it has no use as one."""
    from bson import Decimal128, ObjectId
    from bson.datetime_ms import DatetimeMS

    if isinstance(value, datetime | DatetimeMS):
        return "date"
    if isinstance(value, ObjectId):
        return "objectId"
    if isinstance(value, int | float | Decimal | Decimal128) and not isinstance(value, bool):
        return "number"
    if isinstance(value, str):
        return "string"
    raise HearbackError(
        f"options.cursor: a {type(value).__name__} has no order that a pull can go on from; choose "
        "a date, a number or _id"
    )


def write_bson(value: Any) -> Any:
    from bson import Decimal128, ObjectId

    if isinstance(value, ObjectId):
        return {"objectid": str(value)}
    return write_value(value.to_decimal() if isinstance(value, Decimal128) else value)


def read_bson(value: Any) -> Any:
    from bson import ObjectId

    if isinstance(value, dict) and "objectid" in value:
        return ObjectId(value["objectid"])
    return read_value(value)


def comparable(value: Any) -> Any:
    from bson import Decimal128

    return value.to_decimal() if isinstance(value, Decimal128) else value


def subtract_bson(value: Any, overlap: float | None) -> Any:
    """A cursor's value less the overlap, as a query takes it."""
    from bson import Decimal128, ObjectId

    if isinstance(value, ObjectId):
        seconds = OVERLAP_SECONDS if overlap is None else overlap
        if not seconds:
            return value
        lower = max(value.generation_time.timestamp() - seconds, 0)
        return ObjectId.from_datetime(datetime.fromtimestamp(lower, UTC))
    lower = subtract(value, overlap)
    return Decimal128(lower) if isinstance(lower, Decimal) else lower


def cap_bson(value: Any, time_zone: str | None, now: datetime) -> Any:
    """A value that no time of the future takes the place of."""
    from bson import ObjectId
    from bson.datetime_ms import DatetimeMS

    if isinstance(value, ObjectId):
        return min(value, ObjectId.from_datetime(now)) if value.generation_time > now else value
    if isinstance(value, DatetimeMS):  # a year beyond 9999
        return now
    return cap_at_now(value, time_zone, now)


def check(source: Source, context: PullContext) -> str:
    """How many documents there are, and whether they have the configured fields."""
    options = read_options(source, Options)
    check_columns(source, options)
    with open_collection(source, options, context) as collection:
        Reading(source, options, context.now, collection, {}).check_fields()
        rows = collection.estimated_document_count()
    return f"{rows:,} documents"


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    inside = [path.split(".")[0] for path in (options.cursor or "_id", *options.optional)]
    when = (When(DELETED, is_negated=True),) if options.deletions else ()
    found = map_columns(source, options, ignored=("_id", *inside), when=when)
    return [*found, *map_gone(options.entity)] if options.deletions else found


KINDS = {
    "mongodb": Kind(
        "mongodb",
        "MongoDB collections: new documents by a cursor or all of them compared; nested fields; "
        "deletions if asked",
        Options,
        tuple(SCHEMAS),
        pull,
        mappings,
        needs_connection=True,
        secrets=(
            Secret(
                "host", "server, with port, and the database as schema", "who runs the database"
            ),
            Secret("login", "user", "who runs the database", is_optional=True),
            Secret("password", "its password", "who runs the database", is_optional=True),
            Secret(
                "extra.url",
                "mongodb:// or mongodb+srv:// address instead",
                "who runs the database",
                is_optional=True,
                replaces=("host",),
            ),
        ),
        check=check,
        summary_zh="MongoDB 集合：按游标读取新文档，或整个集合比较；可读嵌套字段；"
        "可发现已删除的文档",
    )
}

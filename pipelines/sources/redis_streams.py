"""Redis streams: entries after the last one that was read, each once.

Nothing is written to the server, and no consumer group is used: each stream is read by ``XRANGE``
from the entry after the remembered one to the last that was there when the pull began. The server
counts what was ever added (from Redis 7 on), so entries that were trimmed or deleted before they
were read are known by their number: the run then fails once, says how many, and goes on the next
time. A stream that was made anew is read from its beginning.

What streams do not give: entries that were trimmed before the first pull. Clusters are not read.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field as Option

from pipelines.entities import SCHEMAS
from pipelines.errors import HearbackError, UsageError
from pipelines.mapping import Mapping
from pipelines.settings import Source, nearest
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.columns import ColumnOptions, check_columns, map_columns

if TYPE_CHECKING:
    from redis import Redis

BATCH_ENTRIES = 1000
WAIT_SECONDS = 30
LISTED_KEYS = 1000  # among which the nearest name is looked for
BEGINNING = "0-0"
ADDED = ("_stream", "_id", "_time")  # what each record says of its entry
DECODED = "backslashreplace"  # bytes that are no text show as \xNN


class Options(ColumnOptions):
    is_nested: ClassVar[bool] = True

    streams: list[str] = Option(
        min_length=1, description="keys of streams; * stands for any characters"
    )
    json_field: str | None = Option(
        default=None, description="field whose JSON text is the record, dots lead into it"
    )


def open_client(source: Source, context: PullContext) -> Redis:
    import redis

    connection = context.connection(source)
    if connection.extra.get("url"):
        secret = {"password": connection.password} if connection.password else {}
        try:
            return redis.Redis.from_url(
                connection.extra["url"], socket_timeout=WAIT_SECONDS, **secret
            )
        except ValueError:
            raise UsageError(
                f"source {source.name!r}: extra.url of connection {source.connection!r} is no "
                "address; write redis://host:port/number, or rediss:// for TLS"
            ) from None
    database = connection.schema or connection.extra.get("db") or 0
    if not str(database).isdigit():
        raise UsageError(
            f"source {source.name!r}: schema of connection {source.connection!r} is the number of "
            f"a Redis database, not {database!r}"
        )
    return redis.Redis(
        connection.host or "localhost",
        connection.port or 6379,
        int(database),
        connection.password,
        username=connection.login,
        ssl=connection.conn_type == "rediss" or str(connection.extra.get("ssl")).lower() == "true",
        socket_timeout=WAIT_SECONDS,
    )


@contextmanager
def explain_errors(source: Source) -> Iterator[None]:
    """What the server said, in one line, and whether waiting may help."""
    import redis

    where = f"connection {source.connection!r}"
    try:
        yield
    except (redis.AuthenticationError, redis.exceptions.AuthorizationError) as error:
        raise HearbackError(
            f"source {source.name!r}: Redis refused login and password ({error}); check {where}"
        ) from error
    except redis.exceptions.NoPermissionError as error:
        raise HearbackError(
            f"source {source.name!r}: the user may not do this ({error}); {where} needs +xrange, "
            "+xinfo, +scan and the keys of the streams"
        ) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise HearbackError(
            f"source {source.name!r}: no answer from Redis ({error}); check {where} and the "
            "network",
            heals=True,
        ) from error
    except redis.ResponseError as error:
        raise HearbackError(
            f"source {source.name!r}: Redis refused ({error}); check options.streams and {where} "
            "(a cluster is not read)"
        ) from error


def find_streams(client: Redis, source: Source, options: Options, known: list[str]) -> list[str]:
    """The streams there are; HearbackError names the nearest for one that was never there."""
    found: set[str] = set()
    for name in options.streams:
        if any(sign in name for sign in "*?["):
            found |= {decode(key) for key in client.scan_iter(name, 1000, "stream")}
        elif client.exists(name):
            kind = decode(client.type(name))
            if kind != "stream":
                raise HearbackError(
                    f"source {source.name!r}: {name!r} is a {kind}, not a stream; mend "
                    "options.streams"
                )
            found.add(name)
        elif name not in known:
            raise HearbackError(
                f"source {source.name!r}: there is no stream {name!r}"
                f"{nearest(name, list_streams(client))}; mend options.streams"
            )
    return sorted(found)


def list_streams(client: Redis) -> list[str]:
    found = client.scan_iter(count=1000, _type="stream")
    return [decode(key) for key, _ in zip(found, range(LISTED_KEYS), strict=False)]


def decode(data: Any) -> str:
    return data.decode("utf-8", DECODED) if isinstance(data, bytes) else str(data)


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """New entries of every stream; fails at the end if some were gone before they were read."""
    options = read_options(source, Options)
    check_columns(source, options)
    places: dict[str, dict[str, Any]] = copy.deepcopy(context.position.get("streams", {}))
    losses: list[str] = []
    with explain_errors(source), open_client(source, context) as client:
        for name in find_streams(client, source, options, list(places)):
            yield from read_stream(client, options, name, places, losses)
    if losses:
        raise HearbackError(
            f"source {source.name!r}: trimmed or deleted before they were read: "
            f"{', '.join(losses)}; keep entries longer (MAXLEN, MINID) or capture more often. The "
            "next run goes on behind them"
        )


def read_stream(
    client: Redis,
    options: Options,
    name: str,
    places: dict[str, dict[str, Any]],
    losses: list[str],
) -> Iterator[Batch]:
    """Entries up to the last one there is now.

    A place is: ``after``, the last entry read; ``added``, how many entries the stream had ever had
    at the end of the last complete pull; ``read``, how many were read since.
    """
    info = {decode(key): value for key, value in client.xinfo_stream(name).items()}
    last, added = decode(info["last-generated-id"]), info.get("entries-added")
    place = places.get(name, {"after": BEGINNING, "added": None, "read": 0})
    if parse_id(last) < parse_id(place["after"]):
        place = {"after": BEGINNING, "added": 0, "read": 0}
    while entries := client.xrange(name, follow(place["after"]), last, BATCH_ENTRIES):
        records = [make_record(name, decode(key), fields, options) for key, fields in entries]
        place = place | {"after": decode(entries[-1][0]), "read": place["read"] + len(entries)}
        places[name] = place
        yield Batch(options.entity, records, {"streams": copy.deepcopy(places)})
    if added is not None and place["added"] is not None:
        lost = added - place["added"] - place["read"]
        if lost > 0:
            losses.append(f"{lost} of {name}")
    places[name] = {"after": last, "added": added, "read": 0}
    yield Batch(options.entity, [], {"streams": copy.deepcopy(places)})


def parse_id(text: str) -> tuple[int, int]:
    time, sequence = text.split("-")
    return int(time), int(sequence)


def follow(text: str) -> str:
    """The next id after one: servers before 6.2 have no ranges without their ends."""
    time, sequence = parse_id(text)
    return f"{time}-{sequence + 1}" if sequence < 2**64 - 1 else f"{time + 1}-0"


def make_record(stream: str, key: str, fields: Any, options: Options) -> Record:
    """An entry, with its stream, id and time beside its fields."""
    row: dict[str, Any] = {decode(name): decode(value) for name, value in fields.items()}
    instant = datetime.fromtimestamp(parse_id(key)[0] / 1000, UTC)
    about = dict(zip(ADDED, (stream, key, instant.isoformat(timespec="milliseconds")), strict=True))
    record_id = f"{stream}:{key}"
    if options.json_field is None:
        return Record(record_id, row | about)
    text = row.pop(options.json_field, "")
    try:
        inner = json.loads(text)
    except ValueError:
        inner = None
    if not isinstance(inner, dict):
        return Record(record_id, text, problem="broken_json")
    return Record(record_id, row | inner | about)


def check(source: Source, context: PullContext) -> str:
    """How many entries the streams hold."""
    options = read_options(source, Options)
    check_columns(source, options)
    with explain_errors(source), open_client(source, context) as client:
        names = find_streams(client, source, options, [])
        rows = sum(client.xlen(name) for name in names)
    return f"{len(names)} stream{'s' if names[1:] else ''} with {rows:,} entries"


def mappings(source: Source) -> list[Mapping]:
    return map_columns(source, read_options(source, Options), ignored=ADDED)


KINDS = {
    "redis": Kind(
        "redis",
        "Redis streams: entries after the last one read; says how many were trimmed before",
        Options,
        tuple(SCHEMAS),
        pull,
        mappings,
        needs_connection=True,
        secrets=(
            Secret(
                "host", "server, with port, and the database's number as schema", "who runs Redis"
            ),
            Secret("password", "its password", "who runs Redis", is_optional=True),
            Secret("login", "user", "who runs Redis", is_optional=True),
            Secret(
                "extra.url",
                "redis:// or rediss:// address instead",
                "who runs Redis",
                is_optional=True,
                replaces=("host",),
            ),
        ),
        check=check,
        summary_zh="Redis 流：读取上次之后的条目；说明有多少条目在读取前已被裁剪",
        has_versions=False,
    )
}

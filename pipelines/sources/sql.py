"""Tables and queries of PostgreSQL, MySQL, SQL Server, SQLite, or what SQLAlchemy opens.

With ``cursor`` (a column, or several of which the first that is not NULL counts) a pull reads the
rows from the last value on, that value included, less ``overlap``: rows that share a time, and rows
of transactions that end late, come again, and the raw layer drops what it has. Rows without a
cursor are read each time. A time in the future never moves the position past now. Without
``cursor`` all rows are read each time and those that changed are captured.

``deletions``: after the rows, all ids are listed and compared with those known. A case that is gone
gets the event ``deleted``, an agent is not active, and of all else the deletion is told. A row that
comes back later with its old time stays so, until its time changes.

All of it happens in a transaction that may only read (SQL Server has none: give it a login that may
not write). What a table does not give: what a row said between two pulls.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field as Option
from pydantic import model_validator

from pipelines.connections import Connection
from pipelines.entities import SCHEMAS
from pipelines.errors import HearbackError, UsageError
from pipelines.mapping import Mapping, When
from pipelines.settings import Source, nearest
from pipelines.sources.base import Batch, Kind, PullContext, Record, Secret, read_options
from pipelines.sources.columns import ColumnOptions, check_columns, map_columns, record_key
from pipelines.sources.cursors import cap_at_now, read_time, read_value, subtract, write_value
from pipelines.sources.known_ids import DELETED, MARKED, KnownIds, map_gone

if TYPE_CHECKING:
    from sqlalchemy import Connection as Session
    from sqlalchemy import Engine, FromClause, Select
    from sqlalchemy.engine import URL

BATCH_ROWS = 2000
WAIT_SECONDS = 60  # for a connection, and for a lock on an SQLite file
DRIVERS = {
    "postgres": "postgresql+psycopg2",
    "postgresql": "postgresql+psycopg2",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "mssql": "mssql+pymssql",
    "sqlite": "sqlite",
}
READ_ONLY: dict[str, dict[str, Any]] = {"postgresql": {"postgresql_readonly": True}}
# A reader that stops to write must not be cut off.
AT_CONNECT = {
    "mysql": ("set session transaction read only", "set session net_write_timeout = 3600")
}
REFUSED = re.compile(
    r"authentication|access denied|login failed|no password|does not exist|unknown database"
    r"|unable to open|not a database|permission denied|read.only",
    re.IGNORECASE,
)
NAMELESS = "row-"  # begins the id of a row without one: what follows is the hash of its text


class Options(ColumnOptions):
    is_nested: ClassVar[bool] = True

    path: str | None = Option(
        default=None, description="an SQLite file, from the folder of hearback.toml"
    )
    table: str | None = Option(default=None, description="a table or view; schema.table")
    query: str | None = Option(default=None, description="a select, instead of a table")
    id: str | list[str] = Option(
        default_factory=list, description="columns that identify a row; else the primary key"
    )
    cursor: str | list[str] = Option(
        default_factory=list,
        description="column that grows when a row is added or changed; of several, the first that "
        "is not NULL",
    )
    overlap: float | None = Option(
        default=None, ge=0, description="seconds (300) or numbers (1000) read again for late rows"
    )
    deletions: bool = Option(default=False, description="list all ids to find rows that are gone")
    allow_empty: bool = Option(default=False, description="all rows may be gone")

    @model_validator(mode="after")
    def check_origin(self) -> Options:
        if bool(self.table) == bool(self.query):
            raise ValueError("give either table or query")
        if self.deletions and self.entity not in MARKED:
            raise ValueError(f"deletions can be told of {', '.join(MARKED)}")
        return self

    @property
    def id_columns(self) -> list[str]:
        return [self.id] if isinstance(self.id, str) else self.id

    @property
    def cursor_columns(self) -> list[str]:
        return [self.cursor] if isinstance(self.cursor, str) else self.cursor

    @property
    def origin(self) -> str:
        """What a position belongs to: another table or cursor begins anew."""
        told = json.dumps([self.table, self.query, self.cursor_columns])
        return hashlib.sha256(told.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Relation:
    """The table or query, its columns, which of them identify a row, and which hold JSON text."""

    clause: FromClause
    columns: list[str]
    ids: list[str]
    cursor: list[str]
    parsed: frozenset[str] = frozenset()


# opening ----------------------------------------------------------------------------------------


def find_url(source: Source, options: Options, context: PullContext) -> tuple[URL, str]:
    """The database's address, and the secret in it that no message may show."""
    from sqlalchemy.engine import URL, make_url

    if options.path:
        return URL.create("sqlite", database=str(context.folder / options.path)), ""
    connection = context.connection(source)
    if connection.extra.get("url"):
        url = make_url(connection.extra["url"])
        if url.drivername in DRIVERS:
            url = url.set(drivername=DRIVERS[url.drivername])
        if connection.password and not url.password:
            url = url.set(password=connection.password)
        if url.get_backend_name() == "sqlite" and url.database:
            url = url.set(database=str(context.folder / url.database))
        return url, str(url.password or "")
    return make_connection_url(source, connection, context), connection.password or ""


def make_connection_url(source: Source, connection: Connection, context: PullContext) -> URL:
    from sqlalchemy.engine import URL

    driver = DRIVERS.get(connection.conn_type or "")
    if driver is None:
        raise UsageError(
            f"source {source.name!r}: connection {connection.id!r} has conn_type "
            f"{connection.conn_type!r}; use one of {', '.join(DRIVERS)}, or give extra.url "
            '("dialect+driver://user@host/database")'
        )
    if driver == "sqlite":
        return URL.create(driver, database=str(context.folder / (connection.host or "")))
    return URL.create(
        driver,
        connection.login,
        connection.password,
        connection.host,
        connection.port,
        connection.schema,
        {key: str(value) for key, value in connection.extra.items()},
    )


def open_engine(url: URL) -> Engine:
    """An engine whose connections may only read, where the database has such a thing."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    dialect = url.get_backend_name()
    if dialect == "sqlite":
        file = f"{Path(url.database or '').resolve().as_uri()}?mode=ro"
        return create_engine("sqlite://", creator=lambda: open_sqlite(file), poolclass=NullPool)
    words = {"postgresql": "connect_timeout", "mysql": "connect_timeout", "mssql": "login_timeout"}
    patience = {words[dialect]: WAIT_SECONDS} if dialect in words else {}
    engine = create_engine(url, poolclass=NullPool, connect_args=patience)

    event.listen(engine, "connect", lambda session, _: set_session(dialect, session))
    return engine


def set_session(dialect: str, session: Any) -> None:
    with session.cursor() as cursor:
        for statement in AT_CONNECT.get(dialect, ()):
            cursor.execute(statement)


def open_sqlite(file: str) -> sqlite3.Connection:
    """A connection that cannot write; bytes that are no text show as \\xNN."""
    session = sqlite3.connect(file, uri=True, timeout=WAIT_SECONDS, check_same_thread=False)
    session.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
    return session


@contextmanager
def open_database(
    source: Source, options: Options, context: PullContext
) -> Iterator[tuple[Session, Relation]]:
    """A session that may only read, and what is to be read of it; all its errors in one line."""
    from sqlalchemy import exc

    secret = ""
    try:
        url, secret = find_url(source, options, context)
        engine = open_engine(url)
        with engine.connect() as session:
            ready = session.execution_options(**READ_ONLY.get(engine.dialect.name, {}))
            yield ready, find_relation(source, options, ready)
    except exc.NoSuchModuleError as error:
        raise UsageError(
            f"source {source.name!r}: SQLAlchemy knows no such dialect ({error}); install its "
            f"package, or use one of {', '.join(DRIVERS)}"
        ) from None
    except exc.ArgumentError:
        raise UsageError(
            f"source {source.name!r}: extra.url of connection {source.connection!r} is no "
            "database address; write dialect+driver://user@host/database"
        ) from None
    except ModuleNotFoundError as error:
        raise UsageError(
            f"source {source.name!r}: the driver {error.name!r} is not installed; install it "
            "beside Hearback with pip"
        ) from None
    except exc.DBAPIError as error:
        raise explain_refusal(source, error, secret) from error
    except UnicodeDecodeError as error:
        raise HearbackError(
            f"source {source.name!r}: the database sent bytes that are no text in its encoding "
            f"({error.reason}); set charset in the extra of connection {source.connection!r}"
        ) from error


def explain_refusal(source: Source, error: Any, secret: str) -> HearbackError:
    """What the database said, in one line, and whether waiting may help."""
    from sqlalchemy import exc

    said = " ".join(str(error.orig).split())[:300]
    said = said.replace(secret, "***") if secret else said
    is_down = isinstance(error, exc.OperationalError | exc.InterfaceError)
    where = f"connection {source.connection!r}" if source.connection else "options.path"
    if error.statement is None or error.connection_invalidated:
        heals = is_down and not REFUSED.search(said)
        return HearbackError(
            f"source {source.name!r}: cannot use the database: {said}; check {where}"
            + (" and the network" if heals else ""),
            heals=heals,
        )
    return HearbackError(
        f"source {source.name!r}: the database refused: {said}; check options and what the login "
        f"of {where} may read",
        heals=is_down and "lock" in said.lower(),
    )


def find_relation(source: Source, options: Options, session: Session) -> Relation:
    """What is to be read; HearbackError names the nearest table or column."""
    if options.query:
        clause, columns = describe_query(source, options.query, session)
        key: list[str] = []
        what = "the query"
    else:
        clause, columns, key = describe_table(source, str(options.table), session)
        what = str(options.table)
    mapped = None if options.entity == "survey" else options.columns.get(record_key(options.entity))
    ids = options.id_columns or ([mapped] if mapped else key)
    if not ids:
        raise UsageError(
            f"source {source.name!r}: say which columns of {what} identify a row, such as "
            f'id = "{columns[0]}"'
        )
    named = [*ids, *options.cursor_columns]
    for column in [*named, *options.ignored, *options.named_columns]:
        is_inside = column not in named and column.split(".")[0] in columns
        if column not in columns and not is_inside:
            raise HearbackError(
                f"source {source.name!r}: {what} has no column {column!r}"
                f"{nearest(column, columns)}; its columns are: {', '.join(columns[:30])}"
            )
        if "." in column and column in columns:
            raise UsageError(
                f"source {source.name!r}: a dot leads into a value; give {column!r} another name "
                "in options.query"
            )
    if options.deletions and mapped and ids != [mapped]:
        raise UsageError(
            f"source {source.name!r}: with deletions, {record_key(options.entity)} must be the id "
            f"of the row; take it out of columns or set id = {mapped!r}"
        )
    parsed = {name.split(".")[0] for name in options.named_columns if "." in name}
    return Relation(clause, columns, ids, options.cursor_columns, frozenset(parsed))


def describe_table(
    source: Source, name: str, session: Session
) -> tuple[FromClause, list[str], list[str]]:
    """(table, its columns, its primary key)"""
    import sqlalchemy as sa

    inspector = sa.inspect(session)
    *schemas, table = name.split(".")
    schema = ".".join(schemas) or None
    if schema and schema not in inspector.get_schema_names():
        schemas = inspector.get_schema_names()
        raise HearbackError(
            f"source {source.name!r}: there is no schema {schema!r}{nearest(schema, schemas)}; "
            f"schemas are: {', '.join(schemas[:30])}"
        )
    if not inspector.has_table(table, schema):
        names = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
        raise HearbackError(
            f"source {source.name!r}: there is no table {name!r}{nearest(table, names)}; tables "
            f"are: {', '.join(sorted(names)[:30])}"
        )
    columns = [str(column["name"]) for column in inspector.get_columns(table, schema)]
    key = inspector.get_pk_constraint(table, schema)["constrained_columns"]
    # Columns without a type, so that values come as the driver gives them.
    clause = sa.table(table, *[sa.column(column) for column in columns], schema=schema)
    return clause, columns, key


def describe_query(source: Source, query: str, session: Session) -> tuple[FromClause, list[str]]:
    """(query as a subselect, its columns)"""
    import sqlalchemy as sa

    text = sa.text(re.sub(r":(?=\w)", r"\\:", query.strip().rstrip(";")))
    alias = "hearback_rows"
    everything: Select[Any] = sa.select(sa.literal_column("*")).select_from(
        text.columns().subquery(alias)
    )
    columns = list(session.execute(everything.where(sa.literal(1) == sa.literal(0))).keys())
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise UsageError(
            f"source {source.name!r}: the query gives the column {twice[0]!r} twice; name one of "
            "them otherwise with 'as'"
        )
    return text.columns(*[sa.column(name) for name in columns]).subquery(alias), columns


# reading ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """One pull; ``position`` moves while it goes on."""

    source: Source
    options: Options
    now: datetime
    session: Session
    relation: Relation
    position: dict[str, Any]

    @property
    def cursor(self) -> Any:
        import sqlalchemy as sa

        columns = [self.relation.clause.c[name] for name in self.relation.cursor]
        return columns[0] if len(columns) == 1 else sa.func.coalesce(*columns)

    def plan(self) -> Iterator[tuple[Select[Any], bool]]:
        """The selects, and whether their last column is the cursor, in its order."""
        import sqlalchemy as sa

        everything = sa.select(*[self.relation.clause.c[name] for name in self.relation.columns])
        if not self.relation.cursor:
            yield everything, False
            return
        cursor = self.cursor
        yield everything.where(cursor.is_(None)), False
        ordered = everything.add_columns(cursor.label("hearback_cursor")).order_by(cursor)
        after = self.find_begin()
        if after is None:
            yield ordered.where(cursor.is_not(None)), True
        else:
            yield ordered.where(cursor >= sa.literal(after, sa.types.NullType())), True

    def find_begin(self) -> Any:
        """Where to begin: the remembered value less the overlap, or the source's first day."""
        if "after" in self.position:
            return subtract(read_value(self.position["after"]), self.options.overlap)
        start = self.source.start
        if start is None:
            return None
        found = self.session.execute(self.sample_cursor()).scalar()
        if isinstance(found, datetime):
            return datetime.combine(start, time.min, UTC if found.tzinfo else None)
        if isinstance(found, date):
            return start
        return start.isoformat() if isinstance(found, str) and read_time(found) else None

    def sample_cursor(self) -> Select[Any]:
        import sqlalchemy as sa

        cursor = self.cursor
        return sa.select(cursor).where(cursor.is_not(None)).limit(1)

    def read(self, known: KnownIds | None) -> Iterator[Batch]:
        """The rows, each batch with the position that covers it."""
        for select, has_cursor in self.plan():
            for rows in stream(self.session, select):
                table = make_table(self.relation, rows)
                if known:
                    ids = table["record_id"].combine_chunks()
                    known.add(ids.filter(pc.invert(pc.starts_with(ids, NAMELESS))))
                if has_cursor:
                    self.move_to(cap_at_now(rows[-1][-1], self.options.time_zone, self.now))
                yield Batch(self.options.entity, table, dict(self.position) if has_cursor else None)

    def move_to(self, value: Any) -> None:
        """Never back: a pull that is stopped while it reads the overlap must not lose ground."""
        before = read_value(self.position.get("after"))
        if type(before) is not type(value) or value > before:
            self.position["after"] = write_value(value)

    def find_deletions(self, known: KnownIds) -> Iterator[Batch]:
        """A record for each id that was known and is not there any more; moves the position."""
        name, count, gone = known.find_gone(self.list_ids())
        for ids in gone:
            if not count and not self.options.allow_empty:
                raise HearbackError(
                    f"source {self.source.name!r}: no row is left, so none was taken for deleted; "
                    "check what the login may see, or set allow_empty = true"
                )
            records = [Record(one, {DELETED: "true"}) for one in ids]
            yield Batch(self.options.entity, records)
        self.position["ids"] = name

    def list_ids(self) -> Iterator[pa.Array]:
        import sqlalchemy as sa

        columns = [self.relation.clause.c[name] for name in self.relation.ids]
        for rows in stream(self.session, sa.select(*columns)):
            yield pa.array([found for row in rows if (found := make_id(list(row)))], pa.string())


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """Rows from the remembered value of the cursor on, or all of them; then what is gone."""
    options = read_options(source, Options)
    check_columns(source, options)
    position = dict(context.position)
    if position.get("origin") != options.origin:
        position = {"origin": options.origin}
    known = KnownIds(context.state / "ids", position.get("ids")) if options.deletions else None
    with open_database(source, options, context) as (session, relation):
        reading = Reading(source, options, context.now, session, relation, position)
        yield from reading.read(known)
        if known:
            yield from reading.find_deletions(known)
    yield Batch(options.entity, [], dict(position))


def stream(session: Session, select: Select[Any]) -> Iterator[Sequence[Any]]:
    """Rows of a select in batches; the database keeps what has not been fetched."""
    with session.execution_options(yield_per=BATCH_ROWS).execute(select) as result:
        yield from result.partitions()


def make_table(relation: Relation, rows: Sequence[Any]) -> pa.Table:
    """Rows as record_id, payload, url, problem."""
    names = relation.columns
    places = [names.index(name) for name in relation.ids]
    records = [dict(zip(names, row, strict=False)) for row in rows]
    for name in relation.parsed:
        for record in records:
            record[name] = parse_json(record[name])
    payloads = [write_payload(record) for record in records]
    ids = [
        make_id([row[place] for place in places]) or NAMELESS + hash_text(payload)
        for row, payload in zip(rows, payloads, strict=True)
    ]
    return pa.table(
        {
            "record_id": pa.array(ids, pa.string()),
            "payload": pa.array(payloads, pa.string()),
            "url": pa.nulls(len(ids), pa.string()),
            "problem": pa.nulls(len(ids), pa.string()),
        }
    )


def make_id(values: list[Any]) -> str:
    """The id of a row; empty if a part of it has no value."""
    parts = ["" if value is None else plain_text(value) for value in values]
    if len(parts) == 1 or not all(parts):
        return parts[0] if len(parts) == 1 else ""
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)


def parse_json(value: Any) -> Any:
    """What the text of a JSON column holds, where the driver does not say; other texts stay."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def hash_text(text: str) -> str:
    return hashlib.md5(text.encode("utf-8", "backslashreplace"), usedforsecurity=False).hexdigest()


def plain_text(value: Any) -> str:
    found = value if isinstance(value, str | int | float) else to_plain(value)
    return str(found)


def write_payload(row: dict[str, Any]) -> str:
    """A row as JSON text; decimals keep their digits as text, instants are in UTC."""
    try:
        return json.dumps(
            row, ensure_ascii=False, separators=(",", ":"), default=to_plain, allow_nan=False
        )
    except ValueError:  # NaN and infinity, which JSON has not
        return write_payload(
            {
                name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in row.items()
            }
        )


def to_plain(value: Any) -> Any:
    """What JSON has for a value of a database."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return data[0] if data in (b"\0", b"\1") else base64.b64encode(data).decode()  # BIT(1)
    if isinstance(value, uuid.UUID):
        return str(value)
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def check(source: Source, context: PullContext) -> str:
    """Which columns there are, and what tells new rows."""
    options = read_options(source, Options)
    check_columns(source, options)
    with open_database(source, options, context) as (_, relation):
        way = f"by {', '.join(relation.cursor)}" if relation.cursor else "whole each time"
        return f"{len(relation.columns)} columns, read {way}"


def mappings(source: Source) -> list[Mapping]:
    options = read_options(source, Options)
    ignored = (*options.id_columns, *options.cursor_columns)
    when = (When(DELETED, is_negated=True),) if options.deletions else ()
    found = map_columns(source, options, ignored=ignored, when=when)
    return [*found, *map_gone(options.entity)] if options.deletions else found


KINDS = {
    "sql": Kind(
        "sql",
        "Tables and queries of PostgreSQL, MySQL, SQL Server, SQLite and other databases, new rows "
        "by a cursor or all of them compared; deletions if asked",
        Options,
        tuple(SCHEMAS),
        pull,
        mappings,
        secrets=(
            Secret("login", "user", "who runs the database", is_optional=True),
            Secret("password", "its password", "who runs the database", is_optional=True),
            Secret(
                "host",
                "server, with port, schema and conn_type",
                "who runs the database",
                is_optional=True,
            ),
            Secret(
                "extra.url",
                "an SQLAlchemy address instead",
                "who runs the database",
                is_optional=True,
            ),
        ),
        check=check,
        summary_zh="PostgreSQL、MySQL、SQL Server、SQLite 等数据库的表和查询；"
        "按游标读取新行，或整表比较；可发现已删除的行",
    )
}

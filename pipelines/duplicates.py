"""The same thing said twice: later rows point to the first, and stay.

Exact duplicates have the same text but for case, white space and punctuation, from the same
customer; where the customer is not known, in the same source about the same product under the same
name, and if there is no name, in more than a few words. Two customers who use the same words said
two things. Rows belong together as long as no gap between
two is longer than 30 days. Short texts and stock answers ("Great app", 好评) have no duplicates.

Near duplicates, under the same conditions, say almost the same. A new row is compared with what was
said before and in the same run; what was decided of a stored row stands until the row that it
points to changes its text or goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.facts import BANDS, TEXT_KEYS, Changes, FactStore, day_name
from pipelines.storage import quote, quote_list
from pipelines.text import stock_answers

if TYPE_CHECKING:
    import duckdb

    from models.scanning import Scan

GAP_DAYS = 30
MIN_LENGTH = 8
_NEAR_ROWS = 50_000  # rows compared at once: groups are never split, memory stays flat
_NEAR_WORKERS = 2
_MIX = np.uint64(0x9E3779B97F4A7C15)

# Whose words: one customer's, else those of one display name of a source about a product. One
# customer's reviews of two products are two reviews, also word for word.
_SCOPE = """concat_ws(chr(31), coalesce(customer_ref, concat_ws(chr(31), source, _author)),
    case when customer_ref is null or channel in ('review', 'app_store')
        then coalesce(product, '') end)"""
# Nobody's name stands under it: many people may have found the same few words.
_IS_TELLING = """(customer_ref is not null or _author is not null or length(body) >= 30
    or length(regexp_replace(body, '[^\\p{Han}]', '', 'g')) >= 12)"""


def key_columns() -> str:
    """SQL over feedback rows with ``_same`` and ``_author``: ``text_key`` and ``scope``.

    ``text_key`` is what duplicates have in common, NULL where a row can have none.
    """
    stock = ", ".join(quote(answer) for answer in sorted(stock_answers()))
    return f"""case
            when exclusion_reason is null and length(_same) >= {MIN_LENGTH}
                and _same not in ({stock}) and {_IS_TELLING}
            then md5_number_lower(_same || chr(31) || {_SCOPE})
        end as text_key,
        md5_number_lower({_SCOPE}) as scope"""


def key_bands(found: Scan, scopes: pa.Array, is_wanted: pa.Array) -> pa.Array:
    """Six keys a scanned text; near duplicates share at least one. NULL: not wanted, or short."""
    is_keyed = found.is_signed & is_wanted.to_numpy(zero_copy_only=False)
    minima = found.minima[is_keyed].reshape(-1, BANDS, found.minima.shape[1] // BANDS)
    keys = np.repeat(scopes.to_numpy(zero_copy_only=False)[is_keyed][:, None], BANDS, axis=1)
    keys ^= np.arange(BANDS, dtype=np.uint64) << np.uint64(56)
    for number in range(minima.shape[2]):
        keys = (keys ^ minima[:, :, number]) * _MIX
        keys ^= keys >> np.uint64(29)
    offsets = np.zeros(len(scopes) + 1, np.int32)
    np.cumsum(is_keyed * BANDS, out=offsets[1:])
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(keys.ravel()), mask=pa.array(~is_keyed)
    )


def assign_originals(con: duckdb.DuckDBPyConnection, store: FactStore, changes: Changes) -> None:
    """Fill ``changes`` with the originals of fresh rows and of stored rows that got another one.

    Works from ``verdict_feedback`` and the stored text keys of the groups that the run touches.
    """
    _gather_alike(con, store, changes)
    _find_firsts(con)
    near = _find_near(con, store, changes)
    con.register("near_found", near)
    rows = con.sql(
        """with known as (
            from near_found
            union all by name
            select id, near_of from said_alike where near_of is not null
        ),
        settled as (
            select
                f.id, f.is_fresh, f.said_at, f.duplicate_of, f.near_of,
                coalesce(first_near.near_of, nullif(f.first, f.id)) as original,
                own.near_of as new_near_of
            from firsts as f
            left join known as first_near on f.first = first_near.id
            left join known as own on f.id = own.id
            union all by name
            select
                v.id, true as is_fresh, v.said_at, null as duplicate_of, null as near_of,
                n.near_of as original, n.near_of as new_near_of
            from near_found as n join verdict_feedback as v on n.id = v.id
            where n.id not in (select id from firsts)
        )
        select
            cast(s.said_at as date) as day, s.is_fresh, list(s.id) as ids,
            list(nullif(coalesce(t.original, s.original), s.id)) as originals,
            list(s.new_near_of) as nears
        from settled as s left join settled as t on s.original = t.id
        where (s.is_fresh and s.original is not null)
            or (not s.is_fresh and (
                s.original is distinct from s.duplicate_of
                or s.new_near_of is distinct from s.near_of
            ))
        group by all"""
    ).fetchall()
    con.unregister("near_found")
    for day, is_fresh, ids, originals, nears in rows:
        columns = [pa.array(values, pa.string()) for values in (ids, originals, nears)]
        table = pa.table(columns, names=["id", "duplicate_of", "near_of"])
        (changes.originals if is_fresh else changes.patched)[day_name(day)] = table


def _gather_alike(con: duckdb.DuckDBPyConnection, store: FactStore, changes: Changes) -> None:
    """The table ``said_alike``: fresh rows, and stored rows of the groups that the run touches."""
    con.execute(
        "create or replace table lost_ids as select id from verdict_feedback "
        "where kind = 'changed' union select id from removed_ids"
    )
    con.execute(
        "create or replace table touched_keys as select distinct text_key from verdict_feedback "
        "where kind in ('new', 'changed') and text_key is not null"
    )
    files = store.files(TEXT_KEYS)
    con.execute("create or replace table lost_texts (id varchar)")
    dropped = store.files(TEXT_KEYS, changes.dropped)
    if dropped:
        lost = f"read_parquet({quote_list(dropped)}) where feedback_id in (select id from lost_ids)"
        con.execute(
            f"insert into touched_keys select text_key from {lost} and text_key is not null"
        )
        # A row whose text changed or that goes is nobody's near original any more.
        con.execute(
            f"""insert into lost_texts
            select l.feedback_id from (select feedback_id, text_key from {lost}) as l
            left join verdict_feedback as v on l.feedback_id = v.id
            where l.text_key is distinct from v.text_key"""
        )
        con.execute(
            f"insert into touched_keys select text_key from read_parquet({quote_list(files)}) "
            "where near_of in (select id from lost_texts)"
        )
    con.execute(
        """create or replace table said_alike as
        select
            id, text_key, said_at, null::varchar as duplicate_of, null::varchar as near_of,
            true as is_fresh
        from verdict_feedback where kind in ('new', 'changed') and text_key is not null"""
    )
    if files:
        con.execute(
            f"""insert into said_alike
            select feedback_id, text_key, said_at, duplicate_of, near_of, false
            from read_parquet({quote_list(files)})
            where text_key in (select text_key from touched_keys)
                and feedback_id not in (select id from lost_ids)"""
        )


def _find_firsts(con: duckdb.DuckDBPyConnection) -> None:
    """The table ``firsts``: rows with company, or that point somewhere, and the first of theirs."""
    con.execute(
        f"""create or replace table firsts as
        with repeated as (
            select text_key from said_alike group by text_key
            having count(*) > 1 or max(duplicate_of) is not null
        ),
        gaps as (
            select
                *,
                said_at - lag(said_at) over same_text > interval {GAP_DAYS} days as is_later
            from said_alike
            where text_key in (select text_key from repeated)
            window same_text as (partition by text_key order by said_at nulls last, id)
        ),
        spells as (
            select
                *,
                count(*) filter (where is_later) over (
                    partition by text_key order by said_at nulls last, id
                    rows between unbounded preceding and current row
                ) as spell
            from gaps
        )
        select
            *, first_value(id) over (
                partition by text_key, spell order by said_at nulls last, id
            ) as first
        from spells"""
    )
    con.execute("update said_alike set near_of = null where near_of in (select id from lost_texts)")


def _find_near(con: duckdb.DuckDBPyConnection, store: FactStore, changes: Changes) -> pa.Table:
    """(id, near_of) of fresh rows that say almost what an earlier row says."""
    from models.near_duplicates import find_near_duplicates

    none = pa.table({"id": pa.array([], pa.string()), "near_of": pa.array([], pa.string())})
    fresh = con.sql(
        """select id, said_at, bands from verdict_feedback
        where kind in ('new', 'changed') and bands is not null
            and id not in (select id from firsts where id <> first)"""
    ).to_arrow_table()
    con.execute(
        "create or replace table stored_near (id varchar, day date, band ubigint, original varchar)"
    )
    if not len(fresh):
        return none
    bands = fresh["bands"].combine_chunks().flatten()
    numbers = bands.to_numpy()
    keys = np.sort(numbers)
    shared = np.unique(keys[1:][keys[1:] == keys[:-1]])
    _find_stored_near(con, store, fresh["said_at"], bands)
    stored = con.sql("select distinct band from stored_near").to_arrow_table()["band"]
    shared = np.union1d(shared, stored.to_numpy())
    if not len(shared):
        return none
    is_shared = pc.is_in(bands, value_set=pa.array(shared)).to_numpy(zero_copy_only=False)
    is_shared = is_shared.reshape(-1, BANDS).any(axis=1)
    con.register("near_rows", fresh.select(["id", "said_at"]).filter(pa.array(is_shared)))
    fresh_days = con.sql(
        "select cast(said_at as date) as day, list(id) from near_rows group by day"
    ).fetchall()
    con.unregister("near_rows")
    stored_texts = _read_stored_texts(con, store)

    def compare(part: pa.Table) -> pa.Table:
        groups = pc.unique(part["group_key"])
        known = stored_texts.filter(pc.is_in(stored_texts["group_key"], value_set=groups))
        near = find_near_duplicates(part, known)
        return _drop_distant(near, pa.concat_tables([part, known]))

    texts = pa.concat_tables(_read_fresh_texts(store, fresh_days))
    with ThreadPoolExecutor(_NEAR_WORKERS) as pool:
        found = pa.concat_tables(pool.map(compare, _split_groups(texts)))
    if not len(found):
        return none
    con.register("pairs", found)
    pairs = con.sql(
        """select p.feedback_id as id, any_value(coalesce(s.original, p.duplicate_of)) as near_of
        from pairs as p left join stored_near as s on p.duplicate_of = s.id
        where coalesce(s.original, p.duplicate_of) <> p.feedback_id
        group by p.feedback_id"""
    ).to_arrow_table()
    con.unregister("pairs")
    return pairs


def _find_stored_near(
    con: duckdb.DuckDBPyConnection, store: FactStore, said_at: pa.ChunkedArray, bands: pa.Array
) -> None:
    """Fill ``stored_near`` with stored rows within the gap that share a band with a fresh row."""
    first, last = pc.min_max(said_at).as_py().values()
    if first is None:
        return
    begin = day_name((first - timedelta(days=GAP_DAYS)).date())
    end = day_name((last + timedelta(days=GAP_DAYS)).date())
    files = store.files(TEXT_KEYS, [day for day in store.text_keys if begin <= day <= end])
    if not files:
        return
    con.register("fresh_bands", pa.table({"band": bands}))
    con.execute(
        f"""insert into stored_near
        select feedback_id, cast(said_at as date), band, coalesce(duplicate_of, feedback_id)
        from (
            select feedback_id, said_at, duplicate_of, unnest(bands) as band
            from read_parquet({quote_list(files)})
            where feedback_id not in (select id from lost_ids)
                and feedback_id not in (select id from firsts where id <> first)
        ) where band in (select band from fresh_bands)"""
    )
    con.unregister("fresh_bands")


def _drop_distant(near: pa.Table, rows: pa.Table) -> pa.Table:
    """Only pairs that were said within the gap of each other."""
    times = rows["created_at"].combine_chunks()
    ids = rows["feedback_id"].combine_chunks()
    one, other = (
        times.take(pc.index_in(near[name], value_set=ids).combine_chunks()).cast(pa.int64())
        for name in ("feedback_id", "duplicate_of")
    )
    gap = pc.abs(pc.subtract(one, other))
    return near.filter(pc.less_equal(gap, GAP_DAYS * 86_400_000_000))


def _text_table(table: pa.Table) -> pa.Table:
    """feedback_id, group_key, created_at, text of fact rows."""
    customer, product = table["customer_ref"], pc.fill_null(table["product"], "")
    is_split = pc.or_(
        pc.is_null(customer),
        pc.fill_null(
            pc.is_in(table["channel"], value_set=pa.array(["review", "app_store"])), False
        ),
    )
    scope = pc.binary_join_element_wise(
        pc.coalesce(customer, table["source"]), pc.if_else(is_split, product, ""), "\x1f"
    )
    text = pc.binary_join_element_wise(
        pc.fill_null(table["title"], ""), pc.fill_null(table["body"], ""), "\x1f"
    )
    return pa.table(
        {
            "feedback_id": table["feedback_id"],
            "group_key": scope,
            "created_at": pc.coalesce(table["created_at"], table["captured_at"]),
            "text": text,
        }
    )


_TEXT_COLUMNS = (
    "feedback_id", "customer_ref", "source", "channel", "product", "title", "body", "created_at",
    "captured_at",
)  # fmt: skip


def _read_fresh_texts(store: FactStore, days: list[tuple[Any, list[str]]]) -> list[pa.Table]:
    texts = []
    for day, ids in days:
        wanted = pa.array(ids, pa.string())
        for piece in store.spools["feedback"].read(day_name(day), _TEXT_COLUMNS):
            rows = piece.filter(pc.is_in(piece["feedback_id"], value_set=wanted))
            if len(rows):
                texts.append(_text_table(rows))
    return texts


def _read_stored_texts(con: duckdb.DuckDBPyConnection, store: FactStore) -> pa.Table:
    days = [day_name(day) for (day,) in con.sql("select distinct day from stored_near").fetchall()]
    files = store.files("feedback", days)
    columns = ", ".join(_TEXT_COLUMNS)
    if not files:
        columns = store.relation("feedback", columns, "false")
        return _text_table(con.sql(columns).to_arrow_table())
    return _text_table(
        con.sql(
            f"select {columns} from read_parquet({quote_list(files)}) "
            "where feedback_id in (select id from stored_near)"
        ).to_arrow_table()
    )


def _split_groups(rows: pa.Table) -> Iterator[pa.Table]:
    """Parts of about _NEAR_ROWS rows in which no group is split."""
    if len(rows) <= _NEAR_ROWS:
        yield rows
        return
    rows = rows.sort_by("group_key").combine_chunks()
    groups = pc.run_end_encode(rows["group_key"].combine_chunks()).run_ends.to_numpy()
    begin = 0
    while begin < len(rows):
        end = int(groups[min(np.searchsorted(groups, begin + _NEAR_ROWS), len(groups) - 1)])
        yield rows.slice(begin, end - begin)
        begin = end

"""The same thing said twice: later rows point to the first, and stay.

Exact duplicates have the same text but for case, white space and punctuation, from the same
customer; where the customer is not known, in the same source about the same product. Two known
customers who use the same words said two things. Rows belong together as long as no gap between
two is longer than 30 days. Short texts and stock answers ("Great app", 好评) have no duplicates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from pipelines.facts import TEXT_KEYS, Changes, FactStore, day_name
from pipelines.storage import quote, quote_list
from pipelines.text import STOCK_ANSWERS

if TYPE_CHECKING:
    import duckdb

GAP_DAYS = 30
MIN_LENGTH = 8


def text_key() -> str:
    """SQL over feedback rows with ``_same``: what duplicates have in common, NULL if nothing can.

    One customer's reviews of two products are two reviews, also word for word.
    """
    stock = ", ".join(quote(answer) for answer in sorted(STOCK_ANSWERS))
    return f"""case
        when exclusion_reason is null and length(_same) >= {MIN_LENGTH} and _same not in ({stock})
        then md5_number_lower(concat_ws(chr(31), _same,
            case when customer_ref is null then source else customer_ref end,
            case when customer_ref is null or channel in ('review', 'app_store')
                then coalesce(product, '') end))
    end"""


def assign_originals(con: duckdb.DuckDBPyConnection, store: FactStore, changes: Changes) -> None:
    """Fill ``changes`` with the originals of fresh rows and of stored rows that got another one.

    Works from ``verdict_feedback`` and the stored text keys of the groups that the run touches.
    """
    lost = "select id from verdict_feedback where kind = 'changed' union all select id from removed_ids"
    con.execute(
        "create or replace table touched_keys as select distinct text_key from verdict_feedback "
        "where kind in ('new', 'changed') and text_key is not null"
    )
    near = store.files(TEXT_KEYS, changes.dropped)
    if near:
        con.execute(
            f"insert into touched_keys select text_key from read_parquet({quote_list(near)}) "
            f"where text_key is not null and feedback_id in ({lost})"
        )
    con.execute(
        """create or replace table said_alike as
        select id, text_key, said_at, null::varchar as duplicate_of, true as is_fresh
        from verdict_feedback where kind in ('new', 'changed') and text_key is not null"""
    )
    files = store.files(TEXT_KEYS)
    if files:
        con.execute(
            f"""insert into said_alike
            select feedback_id, text_key, said_at, duplicate_of, false
            from read_parquet({quote_list(files)})
            where text_key in (select text_key from touched_keys) and feedback_id not in ({lost})"""
        )
    rows = con.sql(
        f"""with repeated as (
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
        ),
        found as (
            select
                *,
                nullif(
                    first_value(id) over (
                        partition by text_key, spell order by said_at nulls last, id
                    ),
                    id
                ) as original
            from spells
        )
        select cast(said_at as date) as day, is_fresh, list(id) as ids, list(original) as originals
        from found
        where (is_fresh and original is not null)
            or (not is_fresh and original is distinct from duplicate_of)
        group by day, is_fresh"""
    ).fetchall()
    fresh_ids: list[str] = []
    fresh_originals: list[str] = []
    for day, is_fresh, ids, originals in rows:
        if is_fresh:
            fresh_ids += ids
            fresh_originals += originals
        else:
            changes.patched[day_name(day)] = (
                pa.array(ids, pa.string()),
                pa.array(originals, pa.string()),
            )
    if fresh_ids:
        changes.originals = (
            pa.array(fresh_ids, pa.string()),
            pa.array(fresh_originals, pa.string()),
        )
    con.execute("drop table said_alike")

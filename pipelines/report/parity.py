"""How far the help desks' own figures agree with ours, for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.report.numbers import has_tables

if TYPE_CHECKING:
    import duckdb


def read_parity(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """By source, metric and clock: figures, how many agree, and the causes of the others.

    The most frequent cause stands first. Excluded cases are left out.
    """
    if not has_tables(con, "metric_parity"):
        return []
    rows = con.execute(
        """
        with counted as (
            select source, metric, clock, cause, count(*) as figures
            from metric_parity where not is_excluded group by all
        )
        select
            source, metric, clock, sum(figures)::bigint,
            coalesce(sum(figures) filter (where cause is null), 0)::bigint,
            coalesce(
                list((cause, figures) order by figures desc, cause)
                    filter (where cause is not null), []
            )
        from counted group by source, metric, clock order by source, metric, clock desc
        """
    ).fetchall()
    return [
        {
            "source": source,
            "metric": metric,
            "clock": clock,
            "figures": figures,
            "agreeing": agreeing,
            "causes": causes,
        }
        for source, metric, clock, figures, agreeing, causes in rows
    ]

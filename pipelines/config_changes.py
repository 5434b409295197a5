"""Which cases another configuration may make otherwise: queries of (case_id, is_changed).

``write_config`` leaves what it replaces in schema ``before``; service levels are compared with
those that the step has noted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.build_file import fetch_row, has_table
from pipelines.storage import quote

if TYPE_CHECKING:
    import duckdb

CASE_GROUPS = """
select case_id, source_group from lake.cases
union
select case_id, unnest([from_value, to_value]) as source_group
from lake.case_events where event_type = 'group_changed'
"""
# Groups of sources that belong to another team now, or whose team keeps other hours.
CHANGED_GROUPS = """
create or replace temp table changed_groups as
with old as (select * from before.team_groups inner join before.teams using (team)),
new as (select * from config.team_groups inner join config.teams using (team))
select source_group
from old full join new using (source_group) cross join config.project
where coalesce(old.team, source_group) is distinct from coalesce(new.team, source_group)
or coalesce(old.calendar, project.calendar)
    is distinct from coalesce(new.calendar, project.calendar)
or coalesce(old.time_zone, project.time_zone)
    is distinct from coalesce(new.time_zone, project.time_zone)
"""
# Hours of UTC with other opening times, among those that both expansions cover whole. Those of a
# reading that forgets something (``is_own`` is false) concern only comparisons of figures.
CHANGED_HOURS = """
create or replace temp table changed_hours as
with range as (
    select max(first) + 2 as first, min(last) - 2 as last
    from (from before.calendar_range union all from config.calendar_range)
),
old as (
    select calendar, null as forgotten, hour, open_at, close_at from before.calendar_slots
    union all
    select calendar, forgotten, hour, open_at, close_at from before.calendar_readings
),
new as (
    select calendar, null as forgotten, hour, open_at, close_at from config.calendar_slots
    union all
    select calendar, forgotten, hour, open_at, close_at from config.calendar_readings
)
select distinct
    calendar,
    forgotten is null as is_own,
    make_timestamptz(hour * 3600000000) as begins_at,
    begins_at + interval 1 hour as ends_at
from ((from old except from new) union all (from new except from old)) cross join range
where begins_at >= range.first and begins_at < range.last
"""
# A case's life reaches to its last event, while it is unsolved to the present, and to the
# instants at which its promises are or would have been broken (unknown: beyond the calendar).
TOUCHED_BY_HOURS = """
select calendars.case_id, true as is_changed
from (
    select distinct
        groups.case_id,
        coalesce(teams.calendar, project.calendar) as calendar,
        lives.begun_at,
        lives.ended_at
    from ({case_groups}) as groups
    cross join config.project
    left join config.team_groups using (source_group)
    left join config.teams using (team)
    inner join (
        select case_id, min(begun_at) as begun_at, max(ended_at) as ended_at
        from (
            select case_id, opened_at as begun_at, updated_at as ended_at from lake.cases
            union all
            select case_id, event_at, event_at from lake.case_events
            union all
            select case_id, opened_at, as_of from main.cases
            where status in ('new', 'open', 'pending', 'hold')
            union all
            select case_id, started_at, coalesce(breach_at, 'infinity') from main.sla_events
        )
        group by case_id
    ) as lives using (case_id)
) as calendars
asof inner join (from changed_hours where is_own) as hours
    on calendars.calendar = hours.calendar and calendars.begun_at < hours.ends_at
where hours.begins_at < calendars.ended_at
"""
# Figures that differ are looked for on every calendar, so any of them may explain them now.
TOUCHED_BY_READINGS = """
select case_id, false as is_changed from main.metric_parity
where not is_match and (select min(begins_at) from changed_hours) <= greatest(
    (select as_of from run.current), (select max(event_at) from lake.case_events)
)
"""


def list_team_queries(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Queries of the cases that other teams take to another team, calendar or zone."""
    con.execute(CHANGED_GROUPS)
    if fetch_row(con, "select 1 from changed_groups limit 1") is None:
        return []
    return [
        f"select case_id, true as is_changed from ({CASE_GROUPS}) "
        "where source_group in (from changed_groups)"
    ]


def list_calendar_queries(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Queries of the cases in whose life their calendars have other hours than before."""
    if not has_table(con, "before", "calendar_range"):
        return []  # not expanded anew
    con.execute(CHANGED_HOURS)
    if fetch_row(con, "select 1 from changed_hours limit 1") is None:
        return []
    return [TOUCHED_BY_HOURS.format(case_groups=CASE_GROUPS), TOUCHED_BY_READINGS]


def has_other_zones(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether a zone in which days were counted is no longer one of the teams' zones."""
    return fetch_row(con, "select 1 from before.teams anti join config.teams using (time_zone) "
                     "limit 1") is not None  # fmt: skip


def list_policy_queries(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[str]:
    """Queries of the cases that another list of service levels may judge otherwise.

    A case is judged by the first policy that matches, so only those that a changed policy matches
    or matched come into question; channel and tags tell most of the others apart.
    """
    old, new = ({policy["name"]: policy for policy in policies} for policies in (before, after))
    changed = [
        policies[name]
        for policies in (old, new)
        for name in policies
        if old.get(name) != new.get(name)
    ]
    if [name for name in old if name in new] != [name for name in new if name in old]:
        changed += new.values()  # another order: any of them may come first now
    queries = []
    for policy in changed:
        conditions = ["true"]
        if policy["when"]["channel"]:
            conditions.append(f"channel in ({quote_items(policy['when']['channel'])})")
        if policy["when"]["tag"]:
            conditions.append(f"list_has_any(tags, [{quote_items(policy['when']['tag'])}])")
        where = " and ".join(conditions)
        queries.append(f"select case_id, true as is_changed from lake.cases where {where}")
    return queries


def quote_items(values: list[str]) -> str:
    return ", ".join(quote(value) for value in values)

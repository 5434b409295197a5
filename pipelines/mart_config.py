"""What the marts are told about the project: schema ``config`` of the build file."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from pipelines.build_file import (
    fetch_row,
    has_table,
    write_comments_of,
    write_rows,
    write_table,
)
from pipelines.calendars import expand_calendar, expand_without, slice_hours
from pipelines.errors import HearbackError
from pipelines.settings import Calendar, Settings, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

Rows = list[dict[str, Any]]

# Systems whose customer ids other sources quote as external ids.
RECORD_KINDS = {
    "salesforce", "zoho_crm", "dynamics365", "sql", "mongodb", "csv", "jsonl", "parquet", "excel"
}  # fmt: skip
# Calendars are expanded further than needed, so that the next days need no new expansion.
SPARE_BEFORE, SPARE_AFTER = timedelta(days=31), timedelta(days=93)
TEAM_TABLES = ("teams", "team_groups")
CALENDAR_TABLES = ("calendar_slots", "calendar_readings", "calendar_range")

COLUMNS: dict[str, dict[str, str]] = {
    "project": {"time_zone": "varchar", "calendar": "varchar", "languages": "varchar[]"},
    "sources": {"source": "varchar", "kind": "varchar", "is_system_of_record": "boolean"},
    "teams": {
        "position": "bigint",
        "team": "varchar",
        "source_groups": "varchar[]",
        "needs": "varchar[]",
        "calendar": "varchar",
        "time_zone": "varchar",
        "lead_email": "varchar",
    },
    "team_groups": {"source_group": "varchar", "team": "varchar"},
    "team_members": {
        "team": "varchar",
        "name": "varchar",
        "email": "varchar",
        "languages": "varchar[]",
        "daily_capacity": "bigint",
        "calendar": "varchar",
    },
    "sla_targets": {
        "position": "bigint",
        "policy": "varchar",
        "clock": "varchar",
        "metric": "varchar",
        "priority": "varchar",
        "target_minutes": "double",
        "channels": "varchar[]",
        "needs": "varchar[]",
        "priorities": "varchar[]",
        "segments": "varchar[]",
        "teams": "varchar[]",
        "tags": "varchar[]",
        "pause_statuses": "varchar[]",
        "pauses_do_not_contact": "boolean",
    },
    "follow_up_rules": {
        "rule": "varchar",
        "is_enabled": "boolean",
        "thresholds": "map(varchar, double)",
    },
    "calendar_versions": {
        "calendar": "varchar",
        "time_zone": "varchar",
        "valid_from": "date",
        "valid_from_at": "timestamptz",
        "country": "varchar",
        "has_make_up_days": "boolean",
    },
}


def write_config(
    con: duckdb.DuckDBPyConnection, settings: Settings, first: date, last: date, stamp: str
) -> None:
    """Write the configuration that the marts read, calendars from first to last at least.

    The calendars are left as they are while ``stamp`` is the same and they reach far enough. What
    is replaced and may concern some cases only stays in schema ``before``.
    """
    con.execute("create schema if not exists config")
    con.execute("drop schema if exists before cascade")
    keep_replaced(con, TEAM_TABLES)
    for name, rows in list_rows(settings).items():
        write_rows(con, f"config.{name}", COLUMNS[name], rows)
    if has_table(con, "config", "calendar_range"):
        kept = fetch_row(con, "select fingerprint, first, last from config.calendar_range")
        if kept is not None and kept[0] == stamp and kept[1] <= first and kept[2] >= last:
            return
    keep_replaced(con, CALENDAR_TABLES)
    first, last = first - SPARE_BEFORE, last + SPARE_AFTER
    write_calendars(con, settings, first, last)
    write_rows(
        con,
        "config.calendar_range",
        {"fingerprint": "varchar", "first": "date", "last": "date"},
        [{"fingerprint": stamp, "first": first, "last": last}],
    )
    write_comments_of(
        con,
        "config.calendar_range",
        "The days that the expanded calendars cover. One row per build file.",
        {
            "fingerprint": "Hash of the configuration that they were expanded from.",
            "first": "First day.",
            "last": "Last day.",
        },
    )


def keep_replaced(con: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    """Copy tables of config, those that are there, into schema before."""
    con.execute("create schema if not exists before")
    for name in names:
        if has_table(con, "config", name):
            con.execute(f"create table before.{name} as from config.{name}")


def list_rows(settings: Settings) -> dict[str, Rows]:
    """The rows of each table of ``config`` besides the expanded calendars."""
    project = settings.project
    zones = {calendar.name: calendar.time_zone for calendar in settings.calendars}
    # A group that bears a team's own name belongs to it without being listed.
    groups = {team.name: team.name for team in settings.teams}
    groups |= {group: team.name for team in reversed(settings.teams) for group in team.groups}
    return {
        "project": [project.model_dump(include={"time_zone", "calendar", "languages"})],
        "sources": [
            {
                "source": source.name,
                "kind": source.kind,
                "is_system_of_record": source.kind in RECORD_KINDS,
            }
            for source in settings.sources
        ],
        "teams": [
            {
                "position": position,
                "team": team.name,
                "source_groups": team.groups,
                "needs": team.needs,
                "calendar": team.calendar or project.calendar,
                "time_zone": zones.get(team.calendar or "", project.time_zone),
                "lead_email": team.lead_email,
            }
            for position, team in enumerate(settings.teams)
        ],
        "team_groups": [{"source_group": group, "team": team} for group, team in groups.items()],
        "team_members": [
            {
                "team": team.name,
                "name": member.name,
                "email": member.email,
                "languages": member.languages,
                "daily_capacity": member.daily_capacity,
                "calendar": member.calendar or team.calendar or project.calendar,
            }
            for team in settings.teams
            for member in team.members
        ],
        "sla_targets": [
            {
                "position": position,
                "policy": policy.name,
                "clock": policy.clocks.get(metric, policy.clock),
                "metric": metric,
                "priority": priority,
                "target_minutes": minutes,
                "channels": policy.when.channel,
                "needs": policy.when.need,
                "priorities": policy.when.priority,
                "segments": policy.when.segment,
                "teams": policy.when.team,
                "tags": policy.when.tag,
                "pause_statuses": policy.pause_statuses,
                "pauses_do_not_contact": policy.pause_do_not_contact,
            }
            for position, policy in enumerate(settings.sla_policies)
            for metric, targets in policy.targets.items()
            for priority, minutes in targets.items()
        ],
        "follow_up_rules": [
            {"rule": rule.name, "is_enabled": rule.enabled, "thresholds": rule.thresholds}
            for rule in settings.follow_up_rules
        ],
        "calendar_versions": [
            {
                "calendar": calendar.name,
                "time_zone": calendar.time_zone,
                "valid_from": calendar.valid_from,
                "valid_from_at": datetime.combine(
                    calendar.valid_from or date(1900, 1, 1), time(), ZoneInfo(calendar.time_zone)
                ).astimezone(UTC),
                "country": calendar.country,
                "has_make_up_days": calendar.make_up_days,
            }
            for calendar in settings.calendars
        ],
    }


def write_calendars(
    con: duckdb.DuckDBPyConnection, settings: Settings, first: date, last: date
) -> None:
    """The open intervals of every calendar from first to last, whole and cut at the hours."""
    import pyarrow as pa

    versions: dict[str, list[Calendar]] = {}
    for calendar in settings.calendars:
        versions.setdefault(calendar.name, []).append(calendar)
    tables = [expand_calendar(entries, first, last) for entries in versions.values()]
    nothing = expand_calendar([], first, last)
    write_table(con, "config.calendar_intervals", pa.concat_tables([nothing, *tables]))
    slots = [slice_hours(table, first, last) for table in tables]
    nothing = slice_hours(nothing, first, first)[:0]
    write_table(con, "config.calendar_slots", pa.concat_tables([nothing, *slots]))
    readings = []
    for entries in versions.values():
        for name, table in expand_without(entries, first, last):
            cut = slice_hours(table, first, last)
            readings.append(cut.append_column("forgotten", pa.array([name] * len(cut))))
    nothing = nothing.append_column("forgotten", pa.array([], pa.string()))
    write_table(con, "config.calendar_readings", pa.concat_tables([nothing, *readings]))


def check_rules(settings: Settings, folder: Path) -> None:
    """HearbackError if a configured follow-up rule or threshold is not among those in folder."""
    import yaml  # type: ignore[import-untyped]

    known: dict[str, list[str]] = {}
    for path in sorted(folder.glob("rule_*.sql")):
        text = path.with_suffix(".yml").read_text(encoding="utf-8")
        config = yaml.safe_load(text)["models"][0].get("config", {})
        thresholds = config.get("meta", {}).get("thresholds", {})
        known[path.stem.removeprefix("rule_")] = list(thresholds)
    for rule in settings.follow_up_rules:
        if rule.name not in known:
            raise HearbackError(
                f"{settings.path}: there is no follow-up rule {rule.name!r}"
                f"{nearest(rule.name, list(known))}; rules are: {', '.join(known)}"
            )
        for name in rule.thresholds:
            if name not in known[rule.name]:
                raise HearbackError(
                    f"{settings.path}: rule {rule.name!r} has no threshold {name!r}"
                    f"{nearest(name, known[rule.name])}; "
                    f"thresholds are: {', '.join(known[rule.name]) or 'none'}"
                )

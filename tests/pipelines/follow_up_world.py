"""A small world for the tests of follow_up, publish, deliver, query and tasks: settings with teams,
and a build file with the warehouse's tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from pipelines.context import Run, start_run
from pipelines.settings import Settings, load_settings

NOW = datetime(2026, 11, 18, 4, 0, tzinfo=UTC)  # Wednesday noon in Shanghai

CONFIG = """
[project]
home = "home"
time_zone = "Asia/Shanghai"
calendar = "office"

[[calendars]]
name = "office"
time_zone = "Asia/Shanghai"
[calendars.hours]
monday = ["09:00-12:00", "13:30-18:00"]
tuesday = ["09:00-12:00", "13:30-18:00"]
wednesday = ["09:00-12:00", "13:30-18:00"]
thursday = ["09:00-12:00", "13:30-18:00"]
friday = ["09:00-12:00", "13:30-18:00"]

[[teams]]
name = "support"
needs = ["technical"]
members = [
  { name = "An", email = "an@example.org", languages = ["en", "zh"], daily_capacity = 4 },
  { name = "Bo", email = "bo@example.org", languages = ["en"], daily_capacity = 2 },
]

[[teams]]
name = "售后"
needs = ["after_sales", "other"]
members = [{ name = "陈晨", email = "chen@example.org", languages = ["zh"], daily_capacity = 3 }]
"""

CANDIDATE_COLUMNS = {
    "rule": "VARCHAR",
    "reason": "VARCHAR",
    "reason_zh": "VARCHAR",
    "evidence": "VARCHAR[]",
    "customer_id": "VARCHAR",
    "case_id": "VARCHAR",
    "feedback_id": "VARCHAR",
    "team": "VARCHAR",
    "need": "VARCHAR",
    "priority": "VARCHAR",
    "language": "VARCHAR",
    "score": "DOUBLE",
    "occurred_at": "TIMESTAMPTZ",
    "due_at": "TIMESTAMPTZ",
    "due_basis_at": "TIMESTAMPTZ",
    "due_minutes": "DOUBLE",
    "suggested_action": "VARCHAR",
    "suggested_action_zh": "VARCHAR",
    "url": "VARCHAR",
}


def make_settings(folder: Path, extra: str = "", config: str = CONFIG) -> Settings:
    path = folder / "hearback.toml"
    path.write_text(config + extra, encoding="utf-8")
    return load_settings(path)


def make_run(settings: Settings, now: datetime = NOW, run_id: str = "r1") -> Run:
    return start_run(settings, now=now, run_id=run_id)


def candidate(**values: Any) -> dict[str, Any]:
    """A candidate about case ``c1`` unless values say otherwise."""
    base: dict[str, Any] = {
        "rule": "complaint_open",
        "reason": "A complaint has no answer",
        "reason_zh": "投诉尚未回复",
        "evidence": ["f1"],
        "customer_id": "u1",
        "case_id": "c1",
        "feedback_id": None,
        "team": "support",
        "need": "technical",
        "priority": "high",
        "language": "en",
        "score": 1.0,
        "occurred_at": datetime(2026, 11, 17, 2, 0, tzinfo=UTC),
        "due_at": None,
        "due_basis_at": datetime(2026, 11, 18, 3, 30, tzinfo=UTC),
        "due_minutes": 60.0,
        "suggested_action": "Answer the customer",
        "suggested_action_zh": "回复客户",
        "url": "https://desk.example/c1",
    }
    return {**base, **values}


def write_candidates(settings: Settings, rows: Sequence[dict[str, Any]]) -> None:
    """Replace follow_up_candidates (and nothing else) in the build file."""
    from pipelines.storage import Home

    path = Home(settings).build
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(path)) as con:
        con.execute("set time zone 'UTC'")
        columns = ", ".join(f"{name} {kind}" for name, kind in CANDIDATE_COLUMNS.items())
        con.execute(f"create or replace table follow_up_candidates ({columns})")
        marks = ", ".join("?" * len(CANDIDATE_COLUMNS))
        for row in rows:
            con.execute(
                f"insert into follow_up_candidates values ({marks})",
                [row[name] for name in CANDIDATE_COLUMNS],
            )


def read_build(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    from pipelines.storage import Home

    with duckdb.connect(str(Home(settings).build), read_only=True) as con:
        con.execute("set time zone 'UTC'")
        return con.execute(query).fetchall()


MARTS = """
create or replace table customers as
select 'u' || i as customer_id, 'Customer ' || (1000 + i) as display_name,
    i = 4 as do_not_contact
from range(40) t(i);

create or replace table cases as
select
    'c' || i as case_id, 'desk' as source, 'T-' || i as source_case_id,
    'u' || (i % 40) as customer_id,
    case i % 4 when 0 then '订单 ' || i || ' 一直没有发货' when 1 then 'Kettle leaks since Monday'
        when 2 then 'Refund for order ' || i || ' is late' else '耳机左边没有声音' end as subject,
    case i % 3 when 0 then 'Kettle K2' when 1 then '蓝牙耳机 Pro' else 'Lamp' end as product,
    case i % 2 when 0 then 'support' else '售后' end as team,
    case when i % 5 = 0 then 'open' else 'solved' end as status,
    timestamptz '2026-10-20 02:00:00+00' + to_hours(3 * i) as opened_at,
    opened_at + to_minutes(20 + 7 * (i % 40)) as first_reply_at,
    (20 + 7 * (i % 40))::double as first_reply_minutes,
    (15 + 5 * (i % 40))::double as first_reply_business_minutes,
    case when i % 5 > 0 then opened_at + to_hours(5 + i % 60) end as last_solved_at,
    case when i % 5 > 0 then 60.0 * (5 + i % 60) end as full_resolution_minutes,
    case when i % 5 > 0 then 20.0 * (5 + i % 60) end as full_resolution_business_minutes,
    false as is_excluded
from range(230) t(i);

create or replace table feedback_rows as
select
    'f' || i as feedback_id, 'c' || i as case_id, opened_at as created_at,
    subject as title, product,
    case when i % 2 = 0 then '你好，我的订单还没有收到，客服一直没有回复，请尽快处理，谢谢。'
        else 'Hello, it has been a week and nobody has answered. Please tell me what happens.'
    end as body
from cases, lateral (select substr(case_id, 2)::int as i) s;
create or replace view feedback as select * from feedback_rows;

create or replace table metrics_daily as
with days as (
    select date '2026-08-25' + i::int as cohort_date, i from range(86) t(i)
),
volume as (
    select 'volume' as metric, cohort_date, 'created' as cohort, 'feedback' as counted,
        'desk' as source, c as channel, p as product, l as language, null as team,
        f as feedback_type, null as age_band,
        round(case f when 'complaint' then 3 when 'question' then 4 when 'praise' then 2 else 1 end
            * (1 + (i * 7 + length(c)) % 5) * (case when i % 7 > 4 then 0.4 else 1 end)
            * (case when p = 'Lamp' and f = 'complaint' and i = 85 then 6 else 1 end)
            / (case c when 'email' then 1 when 'chat' then 1.5 else 4 end)) as numerator,
        null::double as denominator, null::double as value_sum_squares
    from days,
        unnest(['email', 'chat', 'review', 'phone', 'app_store']) t1(c),
        unnest(['Kettle K2', '蓝牙耳机 Pro', 'Lamp']) t2(p),
        unnest(['en', 'zh']) t3(l),
        unnest(['complaint', 'question', 'suggestion', 'praise', 'other', null]) t4(f)
),
shares as (
    select m as metric, cohort_date, 'rated' as cohort, 'answer' as counted, 'desk' as source,
        null as channel, null as product, null as language, team, null as feedback_type,
        null as age_band, if(m = 'sla', 'first_reply', null) as sla_metric,
        case m when 'nps' then (i % 5) - 1 else 6 + i % 4 end as numerator,
        case m when 'nps' then 8 else 10 end as denominator,
        case m when 'nps' then 6 end as value_sum_squares
    from days, unnest(['csat', 'nps', 'sla']) t(m), unnest(['support', '售后']) t2(team)
),
backlog as (
    select 'backlog' as metric, cohort_date, 'snapshot' as cohort, 'case' as counted,
        'desk' as source, null as channel, null as product, null as language, 'support' as team,
        null as feedback_type, a as age_band,
        (8 + (i * 3 + length(a)) % 9)::double as numerator, null as denominator,
        null as value_sum_squares
    from days,
        unnest(['0-1 days', '1-3 days', '3-7 days', '7-30 days', '30 days or more']) t(a)
    where cohort_date < date '2026-11-18'
)
select *, 'house' as dialect, 'calendar' as clock, numerator / denominator as value
from (from volume union all by name from shares union all by name from backlog)
where numerator <> 0 or denominator is not null;
create or replace table surges as
select * from (values
    (date '2026-11-18', 'complaint', 'product', 'Lamp', 230, 300, 0.3, 1e-30, true),
    (date '2026-11-18', 'feedback', 'product', 'Lamp', 400, 900, 0.3, 1e-20, true),
    (date '2026-11-17', 'feedback', 'need', 'after_sales', 90, 300, 0.15, 1e-5, true),
    (date '2026-11-16', 'case', 'team', 'support', 90, 300, 0.15, 1e-5, true),
    (date '2026-11-18', 'feedback', 'product', 'Kettle K2', 60, 300, 0.2, 0.5, false)
) t(created_date, counted, dimension, value, k, n, p, p_value, is_alert);
create or replace view csat as select * from metrics_daily where metric = 'csat';
create or replace view volume as
select cohort_date as created_date, product, channel, numerator as record_count
from metrics_daily where metric = 'volume';

create or replace table metric_parity as
select source, metric, clock, cause, cause is null as is_match, is_excluded
from (values
    ('desk', 'first_reply', 'calendar', null, false, 90),
    ('desk', 'first_reply', 'calendar', 'private_note', false, 4),
    ('desk', 'first_reply', 'calendar', 'bot_reply', false, 6),
    ('desk', 'first_reply', 'calendar', 'unknown', true, 9),
    ('desk', 'replies', 'calendar', null, false, 100)
) t(source, metric, clock, cause, is_excluded, n), range(n);

create schema if not exists lake;
create or replace table lake.run_report (
    run_id varchar, run_date date, step varchar, source varchar, entity varchar, count_in bigint,
    count_out bigint, count_quarantined bigint, count_duplicate bigint, count_unchanged bigint,
    is_closed boolean, detail varchar, started_at timestamptz, seconds double,
    peak_memory_mb double
);
create or replace view run_report as select * from lake.run_report;
create or replace table quarantine_summary as
select * from (values
    ('r1', 'desk', 'messages', 'created_at_unreadable', 4::bigint),
    ('r1', 'desk', 'cases', 'status_unknown', 2::bigint)
) t(run_id, source, entity, reason, record_count);
"""


def write_marts(settings: Settings) -> None:
    """The tables of the warehouse that lists and report read, with 230 cases of 30 days."""
    from pipelines.storage import Home

    path = Home(settings).build
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(path)) as con:
        con.execute("set time zone 'UTC'")
        con.execute(MARTS)


def list_candidates() -> list[dict[str, Any]]:
    """Twelve candidates for two teams and for no team, in both languages."""
    rows = []
    for number in range(12):
        is_zh = number % 2 == 1
        rows.append(
            candidate(
                rule="unanswered_complaint" if number % 3 else "low_satisfaction_after_resolution",
                case_id=f"c{number}",
                customer_id=f"u{number}" if number != 4 else "u5",
                team=(["support", "售后"][number % 2] if number < 11 else None),
                need="technical" if number % 2 == 0 else "after_sales",
                priority=["urgent", "high", "normal", "low"][number % 4],
                language="zh" if is_zh else "en",
                score=float(number),
                reason=f"Complaint without a reply for {30 + number} hours (priority high).",
                reason_zh=f"投诉已 {30 + number} 小时无人回复（优先级：高），共 1 条消息待处理。",
                due_at=datetime(2026, 11, 18, 3, 30, tzinfo=UTC) if number == 0 else None,
                due_minutes=60.0 * number,
                url=f"https://desk.example/tickets/{number}",
            )
        )
    return rows

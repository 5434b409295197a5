"""The demo's file sources: good rows as systems export them, and rows no pipeline may accept."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.demo import catalog
from pipelines.demo.company import to_local
from pipelines.demo.truth import Truth
from pipelines.demo.world import OVERSIZED, World

SURVEY_COLUMNS = [
    "response_id",
    "ticket_id",
    "customer_ref",
    "invited_at",
    "answered_at",
    "csat_1_5",
    "nps_0_10",
    "ces_1_7",
    "comment",
    "language",
]
CRM_COLUMNS = [
    "customer_id",
    "full_name",
    "email",
    "phone",
    "language",
    "region",
    "segment",
    "vip",
    "signup_date",
    "birthday",
    "lifetime_value",
    "do_not_contact",
    "updated_at",
]
REVIEW_COLUMNS = [
    "review_id",
    "ticket_id",
    "agent",
    "reviewer",
    "category",
    "selected",
    "lowest",
    "highest",
    "weight",
    "critical",
    "remark",
    "reviewed_at",
]
# What reviewers rate: category, lowest and highest choice, weight, whether critical.
REVIEW_CATEGORIES = (
    ("Tone", 1, 5, 20.0, False),
    ("Solution", 1, 5, 50.0, False),
    ("Process", 1, 4, 30.0, False),
    ("Privacy", 0, 1, 0.05, True),
)
REVIEWED_SHARE = 0.15
PRIVACY_REMARKS = {
    "en": "Gave the order away without asking who called.",
    "zh": "未核实身份就透露了订单信息。",
}
HR_COLUMNS = ["agent_id", "full_name", "email", "team", "languages", "active", "role", "updated_at"]


@dataclass
class Row:
    """One row of a file, already in bytes. ``reason`` is why it must be rejected."""

    at: int
    id: str
    data: bytes
    reason: str | None = None


@dataclass(frozen=True)
class Solve:
    """The first solve of a case: when, by whom, and who leads the team."""

    ticket: int
    at: int
    agent: int
    lead: int
    language: str


def csv_line(values: list[Any]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(values)
    return out.getvalue()


def json_line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


Rows = tuple[list[Row], list[Row]]  # (rows, rows that stand twice)


class Spoiler:
    """Makes rejected rows out of good records, a few of each kind."""

    def __init__(self, rng: random.Random, to_text: Callable[[dict[str, Any]], str], id_key: str):
        self.rng, self.to_text, self.id_key = rng, to_text, id_key
        self.rows: list[Row] = []
        self.number = 0

    def take(self, records: list[tuple[int, dict[str, Any]]]) -> tuple[int, dict[str, Any]]:
        """A copy of one of the records under an id of its own."""
        at, record = self.rng.choice(records)
        self.number += 1
        prefix = str(record[self.id_key])[0]
        return at, {**record, self.id_key: f"{prefix}9{self.number:05d}"}

    def add(self, at: int, record: dict[str, Any], reason: str, data: bytes | None = None) -> None:
        text = self.to_text(record).encode() if data is None else data
        self.rows.append(Row(at, str(record[self.id_key] or ""), text, reason))

    def add_changed(
        self,
        records: list[tuple[int, dict[str, Any]]],
        reason: str,
        key: str,
        values: tuple[Any, ...],
    ) -> None:
        """One rejected row for each wrong value of a column."""
        for value in values:
            at, record = self.take(records)
            self.add(at, {**record, key: value}, reason)

    def add_conflicts(
        self,
        records: list[tuple[int, dict[str, Any]]],
        count: int,
        key: str,
        values: tuple[Any, ...],
    ) -> None:
        """Pairs of rows with one id and one instant that say different things."""
        for number in range(count):
            at, record = self.take(records)
            self.add(at, record, "conflicting_duplicate_id")
            other = values[number % len(values)]
            if other == record[key]:
                other = values[(number + 1) % len(values)]
            self.add(at, {**record, key: other}, "conflicting_duplicate_id")

    def add_encodings(self, records: list[tuple[int, dict[str, Any]]], count: int) -> None:
        """Rows that came out of a Windows program in GB18030 in the middle of a UTF-8 file."""
        chinese = [pair for pair in records if not self.to_text(pair[1]).isascii()]
        for _ in range(count):
            at, record = self.take(chinese)
            text = self.to_text(record)
            encodable = text.encode("gb18030", "ignore")
            self.add(at, record, "wrong_encoding", encodable)


def post_records(world: World, now: int) -> list[tuple[int, dict[str, Any]]]:
    records = []
    for post in world.posts:
        version = post.state(now)
        if version is None or post.customer is None:
            continue
        record: dict[str, Any] = {
            "id": post.id,
            "user": post.customer.id,
            "created": to_local(post.created),
            "updated": to_local(version.at),
            "text": version.text,
        }
        if version.stars is not None:
            record["stars"] = version.stars
        record["product"] = post.product.name("en")
        record["platform"] = post.platform
        record["lang"] = post.language
        records.append((post.created, record))
    return records


def make_post_rows(world: World, now: int, rng: random.Random) -> Rows:
    records = post_records(world, now)
    rows = [Row(at, record["id"], json_line(record).encode()) for at, record in records]
    spoiler = Spoiler(rng, json_line, "id")
    if not records:
        return [], []
    long = [pair for pair in records if len(pair[1]["text"]) > 20]
    for cut in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99):
        at, record = spoiler.take(records)
        text = json_line(record)
        spoiler.add(at, record, "broken_json", text[: int(len(text) * cut)].encode())
    spoiler.add_encodings(records, 6)
    spoiler.add_changed(records, "missing_id", "id", (None, "", None, "", None, ""))
    wrong_days = ("2026-02-30 10:00:00", "2025-13-05 09:12:44", "0000-00-00 00:00:00")
    spoiler.add_changed(
        records,
        "impossible_date",
        "created",
        (*wrong_days, "2026-06-31 25:61:00", "32/12/2026", "n/a"),
    )
    rated = [pair for pair in records if "stars" in pair[1]]
    spoiler.add_changed(rated, "rating_out_of_scale", "stars", (6, 7, 0, -1, 50, 100, 10, 9))
    spoiler.add_changed(records, "empty_text", "text", ("", " ", "\n\n", "\t ", "　", "", "   "))
    for _ in range(5):
        at, record = spoiler.take(long)
        text = record["text"] + " "
        record["text"] = text * (OVERSIZED // len(text) + 1)
        spoiler.add(at, record, "oversized_text")
    for sign in ("\x00", "\x01", "\x02\x03", "\x08", "\x0e", "\x1b[31m", "\x00\x00"):
        at, record = spoiler.take(long)
        middle = len(record["text"]) // 2
        record["text"] = record["text"][:middle] + sign + record["text"][middle:]
        spoiler.add(at, record, "control_characters")
    spoiler.add_conflicts(
        records, 5, "text", ("Please delete my account.", "换了个说法，其实很好用。")
    )
    repeated = rng.sample(rows, min(20, len(rows) // 4))
    return rows + spoiler.rows, repeated


def make_survey_rows(world: World, now: int, rng: random.Random) -> Rows:
    def to_text(record: dict[str, Any]) -> str:
        return csv_line([record[name] for name in SURVEY_COLUMNS])

    records = []
    for row in world.surveys:
        if row.invited > now:
            continue
        is_answered = row.answered is not None and row.answered <= now
        answers = (
            (row.csat, row.nps, row.ces, row.comment) if is_answered else (None, None, None, "")
        )
        values: tuple[Any, ...] = (
            row.id,
            row.ticket.id if row.ticket else "",
            row.customer.id,
            to_local(row.invited),
            to_local(row.answered) if is_answered and row.answered is not None else "",
            *answers,
            row.language,
        )
        shown = ["" if value is None else value for value in values]
        records.append((row.invited, dict(zip(SURVEY_COLUMNS, shown, strict=True))))
    rows = [Row(at, record["response_id"], to_text(record).encode()) for at, record in records]
    answered = [pair for pair in records if pair[1]["answered_at"] and pair[1]["csat_1_5"]]
    if not answered:
        return rows, []
    spoiler = Spoiler(rng, to_text, "response_id")
    spoiler.add_changed(answered, "missing_id", "response_id", ("", "", "", ""))
    wrong_days = (
        "2026-13-01 10:00:00",
        "2026-06-31 12:30:00",
        "2026-02-29 08:00:00",
        "25:00 yesterday",
    )
    spoiler.add_changed(answered, "impossible_date", "answered_at", wrong_days)
    spoiler.add_changed(answered, "rating_out_of_scale", "csat_1_5", (9, 0, 55))
    spoiler.add_changed(answered, "rating_out_of_scale", "nps_0_10", (11, -1, 100))
    spoiler.add_changed(answered, "rating_out_of_scale", "ces_1_7", (0, 8))
    commented = [pair for pair in answered if len(pair[1]["comment"]) > 12]
    if commented:
        spoiler.add_encodings(commented, 4)
        signs = ("so so \x00 really", "不太行\x01\x02，等了很久", "ok\x0e then")
        spoiler.add_changed(commented, "control_characters", "comment", signs)
    spoiler.add_conflicts(answered, 3, "comment", ("Changed my mind.", "改主意了，不满意。"))
    repeated = rng.sample(rows, min(15, len(rows) // 4))
    return rows + spoiler.rows, repeated


def make_customer_rows(world: World, now: int, rng: random.Random) -> Rows:
    def to_text(record: dict[str, Any]) -> str:
        return csv_line([record[name] for name in CRM_COLUMNS])

    records = []
    for customer in world.customers:
        state = customer.state(now)
        if state is None:
            continue
        changed, segment, vip = state
        values = (
            customer.id,
            customer.name,
            customer.email,
            customer.phone,
            customer.language,
            customer.region,
            segment,
            "Y" if vip else "N",
            customer.signup.isoformat(),
            customer.birthday.isoformat(),
            f"{customer.lifetime_value:.2f}",
            "true" if customer.do_not_contact else "false",
            to_local(changed),
        )
        records.append((0, dict(zip(CRM_COLUMNS, values, strict=True))))
    rows = [Row(at, record["customer_id"], to_text(record).encode()) for at, record in records]
    spoiler = Spoiler(rng, to_text, "customer_id")
    spoiler.add_changed(records, "unknown_value", "do_not_contact", ("maybe", "???", "see notes"))
    spoiler.add_changed(records, "unknown_value", "vip", ("platinum", "X", "#N/A"))
    spoiler.add_changed(records, "missing_id", "customer_id", ("", "", ""))
    wrong_days = ("1990-02-31", "1984-00-12", "2001-11-31", "1975-04-31")
    spoiler.add_changed(records, "impossible_date", "birthday", wrong_days)
    spoiler.add_encodings(records, 3)
    spoiler.add_conflicts(records, 3, "email", ("other@example.com", "second@example.org"))
    for row in spoiler.rows:
        row.at = 1
    return rows + spoiler.rows, []


def make_order_rows(world: World, now: int) -> list[Row]:
    rows = []
    for order in world.orders:
        known = [version for version in order.versions if version[0] <= now]
        if not known:
            continue
        changed, status = known[-1]
        record = {
            "order_id": order.id,
            "customer_id": order.customer_id,
            "ordered_at": to_local(order.versions[0][0]),
            "product": order.product.name("en"),
            "quantity": order.quantity,
            "amount": order.amount,
            "currency": order.currency,
            "status": status,
            "updated_at": to_local(changed),
        }
        rows.append(Row(order.versions[0][0], order.id, json_line(record).encode()))
    return rows


def make_agent_rows(start: int) -> list[Row]:
    rows = []
    for agent in catalog.AGENTS:
        values = (
            agent.hr_id,
            agent.name,
            agent.email,
            agent.team,
            ";".join(agent.languages),
            "true" if agent.is_active else "false",
            "agent",
            to_local(start - 40 * 86400),
        )
        rows.append(Row(0, agent.hr_id, csv_line(list(values)).encode()))
    return rows


def make_review_rows(solved: list[Solve], now: int, truth: Truth) -> list[Row]:
    """What team leads rated of some solved cases, a row a category, a day or two afterwards."""
    rows = []
    passed = failed = reviews = 0
    for solve in solved:
        rng = random.Random(f"{truth.seed}/quality/{solve.ticket}")
        reviewed = solve.at + rng.randint(20, 60) * 3600
        if rng.random() >= REVIEWED_SHARE or reviewed > now:
            continue
        reviews += 1
        total = weights = 0.0
        is_failed = False
        for category, lowest, highest, weight, is_critical in REVIEW_CATEGORIES:
            is_bad = rng.random() < (0.04 if is_critical else 0.25)
            selected: int | None = rng.randint(lowest, highest - 1) if is_bad else highest
            if not is_critical and rng.random() < 0.1:
                selected = None
            else:
                total += weight * 100 * ((selected or 0) - lowest) / (highest - lowest)
                weights += weight
            is_failed |= is_critical and selected == lowest
            remark = PRIVACY_REMARKS[solve.language] if is_critical and selected == 0 else ""
            values = (
                f"Q{solve.ticket}",
                solve.ticket,
                solve.agent,
                solve.lead,
                category,
                "" if selected is None else selected,
                lowest,
                highest,
                weight,
                "yes" if is_critical else "no",
                remark,
                to_local(reviewed),
            )
            rows.append(Row(reviewed, f"Q{solve.ticket}", csv_line(list(values)).encode()))
        failed += is_failed
        passed += not is_failed and total / weights >= 80 - 1e-9
    truth.quality = {"reviews": reviews, "passed": passed, "failed_critical": failed}
    return rows


def write_rows(
    path: Path,
    source: str,
    stream: str,
    rows: list[Row],
    truth: Truth,
    *,
    columns: list[str] | None = None,
    repeated: list[Row] | None = None,
) -> None:
    """Write a file whole, by time, and note in ``truth`` what it holds line by line."""
    rejected_ids = {row.id for row in rows if row.reason}
    again = {id(row) for row in repeated or []}
    out = bytearray()
    line = 1
    if columns:
        out += csv_line(list(columns)).encode() + b"\n"
        line = 2
    served = 0
    for row in sorted(rows, key=lambda row: row.at):
        for copy in range(2 if id(row) in again else 1):
            if copy:
                truth.repeated_rows.append({"source": source, "stream": stream, "id": row.id})
            if row.reason:
                truth.invalid_rows.append(
                    {
                        "source": source,
                        "stream": stream,
                        "file": path.name,
                        "line": line,
                        "id": row.id,
                        "reason": row.reason,
                    }
                )
            out += row.data + b"\n"
            line += 1 + row.data.count(b"\n")
            served += 1
    path.write_bytes(out)
    good = {row.id for row in rows if not row.reason}
    readable = {"broken_json", "wrong_encoding", "missing_id"}
    distinct = good | {row.id for row in rows if row.reason and row.reason not in readable}
    truth.counts[f"{source}.{stream}"] = {
        "records_served": served,
        "distinct_ids": len(distinct),
        "valid_ids": len(good - rejected_ids),
    }

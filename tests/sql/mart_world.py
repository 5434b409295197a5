"""A small lake of facts, written as clean and classify would, and the marts built from it."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pipelines import aggregate
from pipelines.context import Run, StepCount
from pipelines.entities import FACT_DAYS, FACTS, LABELS
from pipelines.settings import Settings
from pipelines.storage import FileEntry, Home

AS_OF = datetime(2026, 3, 20, 12, tzinfo=UTC)
OFFICE_HOURS = ["09:00-12:00", "13:30-18:00"]
WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday")


def at(text: str) -> datetime:
    """An instant of UTC in March 2026: "02 10:30" is the 2nd, 10:30; seconds may follow."""
    day, clock = text.split(" ")
    return datetime.fromisoformat(f"2026-03-{day}T{clock}").replace(tzinfo=UTC)


def make_settings(home: Path, **changes: Any) -> Settings:
    """A project in Shanghai with two teams, one of them in Berlin, and three service levels."""
    hours = dict.fromkeys(WEEK, OFFICE_HOURS)
    content: dict[str, Any] = {
        "project": {"home": str(home), "time_zone": "Asia/Shanghai", "calendar": "china"},
        "calendars": [
            {"name": "china", "time_zone": "Asia/Shanghai", "hours": hours},
            {"name": "berlin", "time_zone": "Europe/Berlin", "hours": hours},
        ],
        "teams": [
            {"name": "Billing", "groups": ["billing", "invoices"]},
            {"name": "Europe", "groups": ["eu"], "calendar": "berlin"},
        ],
        "sla_policies": [
            {
                "name": "promises",
                "when": {"tag": ["promised"]},
                "clock": "calendar",
                "first_reply": 60,
                "next_reply": 120,
                "periodic_update": 600,
                "requester_wait": 60,
                "total_resolution": 3000,
            },
            {
                "name": "chat",
                "when": {"channel": ["chat"]},
                "clock": "calendar",
                "first_reply": {"normal": 30},
            },
            {"name": "standard", "first_reply": {"urgent": 60, "normal": 240}},
        ],
        "sources": [
            {"name": "support", "kind": "zendesk"},
            {"name": "crm", "kind": "salesforce"},
        ],
    }
    return Settings.model_validate({**content, **changes, "path": home / "hearback.toml"})


class World:
    """Rows of facts by entity, written to a lake version by version."""

    def __init__(self, home: Path, **changes: Any) -> None:
        self.settings = make_settings(home, **changes)
        self.home = Home(self.settings)
        self.rows: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self.version = 1

    def put(self, entity: str, key: str, **values: Any) -> None:
        """Add or replace a row of facts (or a label, entity ``labels``) under its id."""
        schema = LABELS if entity == "labels" else FACTS[entity]
        unknown = set(values) - set(schema.names)
        assert not unknown, f"{entity} has no {unknown}"
        self.rows[entity][key] = {**values, "changed_in": self.version}

    def remove(self, entity: str, key: str) -> None:
        del self.rows[entity][key]

    def add_case(
        self,
        case_id: str,
        opened: str,
        status: str = "open",
        created_as: str | None = None,
        **values: Any,
    ) -> None:
        """A case that its customer opened by mail, with the opening among the feedback."""
        usual = {
            "case_id": case_id, "source": "support", "source_kind": "zendesk",
            "source_case_id": case_id, "channel": "email", "subject": case_id,
            "customer_ref": f"customer of {case_id}", "priority": "normal", "status": status,
            "source_group": "billing", "opened_at": at(opened), "opened_by_role": "customer",
            "updated_at": at(opened), "is_excluded": False,
        }  # fmt: skip
        case = usual | values
        self.put("cases", case_id, **case)
        self.add_event(case_id, opened, "created", case["opened_by_role"], sequence=-1,
                       to_value=created_as)  # fmt: skip
        if case["opened_by_role"] == "customer":
            self.add_event(case_id, opened, "customer_message", "customer", sequence=0)
            self.add_feedback(f"opening of {case_id}", opened, case_id=case_id, is_opening=True,
                              customer_ref=case["customer_ref"])  # fmt: skip

    def add_event(
        self, case_id: str, when: str, event_type: str, role: str = "agent", **values: Any
    ) -> None:
        """An event of a case; events of one instant keep the order in which they are added."""
        sequence = len(self.rows["case_events"])
        key = f"{case_id} {sequence}"
        usual = {
            "event_id": key, "case_id": case_id, "source": "support", "event_at": at(when),
            "event_type": event_type, "actor_ref": f"{role} 1", "actor_role": role,
            "is_public": True, "sequence": sequence,
        }  # fmt: skip
        self.put("case_events", key, **(usual | values))

    def add_status(self, case_id: str, when: str, old: str, new: str, role: str = "agent") -> None:
        self.add_event(case_id, when, "status_changed", role, from_value=old, to_value=new)

    def add_feedback(self, feedback_id: str, when: str, **values: Any) -> None:
        """A message with the label of a technical question, unless ``label`` says otherwise."""
        label = {
            "feedback_type": "question", "need": "technical", "sentiment": "neutral",
            "priority": "normal", "is_unsure": False,
        } | values.pop("label", {})  # fmt: skip
        usual = {
            "feedback_id": feedback_id, "source": "support", "source_kind": "zendesk",
            "source_record_id": feedback_id, "channel": "email", "language": "en",
            "created_at": at(when), "updated_at": at(when), "captured_at": at(when),
            "body": feedback_id, "text_hash": f"hash of {feedback_id}", "is_opening": False,
            "is_excluded": False,
        }  # fmt: skip
        row = usual | values
        self.put("feedback", feedback_id, **row)
        self.put("labels", feedback_id, feedback_id=feedback_id, text_hash=row["text_hash"],
                 model_version="test", classified_at=row["created_at"], **label)  # fmt: skip

    def add_answer(
        self, response_id: str, when: str, kind: str, score: float | None, **values: Any
    ) -> None:
        """An answer on the kind's usual scale (CSAT 1–5, NPS 0–10, CES 1–7)."""
        low, high = {"csat": (1, 5), "nps": (0, 10), "ces": (1, 7)}[kind]
        usual = {
            "response_id": response_id, "source": "support", "survey_id": kind,
            "question_id": "1", "kind": kind, "score": score, "scale_min": low, "scale_max": high,
            "higher_is_better": True, "offered_at": at(when), "answered_at": at(when),
        }  # fmt: skip
        self.put("survey_responses", response_id, **(usual | values))

    def add_rating(
        self, review_id: str, when: str, category: str, score: float | None, **values: Any
    ) -> None:
        """What a reviewer said of one category, on a scale of 1 to 5."""
        key = f"{review_id} {category}"
        usual = {
            "rating_id": key, "review_id": review_id, "source": "support",
            "source_review_id": review_id, "category": category, "score": score, "scale_min": 1,
            "scale_max": 5, "reviewer_ref": "reviewer", "reviewed_at": at(when),
            "is_excluded": False,
        }  # fmt: skip
        self.put("quality_reviews", key, **(usual | values))

    def commit(self) -> None:
        """Write what changed since the last commit: new files for changed days, then manifests."""
        facts = self.home.lake.facts_manifest()
        for entity, schema in FACTS.items():
            days = facts["partitions"].get(entity, {})
            found = self._write(entity, schema, FACT_DAYS[entity], days)
            facts["partitions"][entity] = found
        self.home.lake.write_facts_manifest(facts | {"version": self.version})
        labels = self.home.lake.labels_manifest()
        found = self._write("labels", LABELS, ("classified_at",), labels["partitions"])
        self.home.lake.write_labels_manifest(
            {**labels, "version": self.version, "model_version": "test", "partitions": found}
        )
        self.version += 1

    def _write(
        self,
        entity: str,
        schema: pa.Schema,
        instants: tuple[str, ...],
        before: dict[str, FileEntry],
    ) -> dict[str, FileEntry]:
        days: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self.rows[entity].values():
            known = next((row[name] for name in instants if row.get(name)), None)
            days[known.date().isoformat() if known else "all"].append(row)
        found = {}
        for day, rows in days.items():
            table = pa.Table.from_pylist(rows, schema=schema)
            entry = before.get(day)
            if entry is None or not self.home.lake.read_table(entry).equals(table):
                folder = self.home.lake.layer_folder("intermediate", entity, day)
                entry = self.home.lake.write_table(folder, entity, table, self.version)
            found[day] = entry
        return found

    def build(
        self, as_of: datetime = AS_OF, *, full_refresh: bool = False, with_tests: bool = False
    ) -> list[StepCount]:
        """Run the step as of an instant."""
        run = Run(self.settings, "test", as_of.date(), as_of, full_refresh=full_refresh)
        return aggregate.run(run, with_tests=with_tests)

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of the build file as dicts, instants in UTC."""
        with duckdb.connect(str(self.home.build), read_only=True) as con:
            con.execute("set time zone 'UTC'")
            return con.sql(sql).to_arrow_table().to_pylist()

    def case(self, case_id: str) -> dict[str, Any]:
        return self.query(f"select * from cases where case_id = '{case_id}'")[0]

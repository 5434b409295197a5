"""Declared mappings: values converted, reasons given, nothing NULL in silence."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.mapping import (
    RECORD_ID,
    Field,
    Lookup,
    Mapping,
    When,
    parse_instant,
    render_select,
    used_fields,
    values,
)
from pipelines.storage import connect_duckdb, quote


def apply(mapping: Mapping, *records: object, setup: str = "") -> list[dict]:
    con = connect_duckdb()
    if setup:
        con.execute(setup)
    con.register(
        "incoming",
        pa.table(
            {
                "source": ["s"] * len(records),
                "source_kind": ["test"] * len(records),
                "record_id": [f"r{n}" for n in range(len(records))],
                "entity": [mapping.raw] * len(records),
                "payload": [json.dumps(record) for record in records],
                "captured_at": [datetime(2026, 1, 1, tzinfo=UTC)] * len(records),
                "run_id": ["run"] * len(records),
                "url": pa.nulls(len(records), pa.string()),
                "problem": pa.nulls(len(records), pa.string()),
                "raw_row": list(range(len(records))),
            }
        ),
    )
    return con.sql(render_select(mapping, "incoming")).to_arrow_table().to_pylist()


def instant(text: str, zone: str = "Asia/Shanghai") -> datetime | None:
    con = connect_duckdb()
    ((found,),) = con.execute(
        f"select epoch_us({parse_instant('x', zone)}) from (select {quote(text)} as x)"
    ).fetchall()
    return None if found is None else datetime.fromtimestamp(found / 1e6, UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-19T10:30:00Z", "2026-11-19T10:30:00+00:00"),
        ("2026-11-19T10:30:00+08:00", "2026-11-19T02:30:00+00:00"),
        ("2026-09-20T09:00:00.000+0000", "2026-09-20T09:00:00+00:00"),
        ("2026-11-19 10:30:00", "2026-11-19T02:30:00+00:00"),
        ("2026-11-19", "2026-11-18T16:00:00+00:00"),
        ("2026/11/19 10:30", "2026-11-19T02:30:00+00:00"),
        ("2026年11月19日", "2026-11-18T16:00:00+00:00"),
        ("19.11.2026", "2026-11-18T16:00:00+00:00"),
        ("Nov 19, 2026", "2026-11-18T16:00:00+00:00"),
        ("1795084200", "2026-11-19T10:30:00+00:00"),
        ("1795084200000", "2026-11-19T10:30:00+00:00"),
    ],
)
def test_instants_are_read(text: str, expected: str):
    found = instant(text)
    assert found is not None
    assert found.isoformat() == expected


@pytest.mark.parametrize("text", ["2026-13-45", "2026-02-30", "yesterday-ish", "0000", "12345"])
def test_impossible_instants_are_null(text: str):
    assert instant(text) is None


@given(st.datetimes(datetime(1995, 1, 1), datetime(2060, 1, 1)), st.integers(-14 * 60, 14 * 60))
@settings(max_examples=60, deadline=None)
def test_iso_instants_keep_their_offset(moment: datetime, minutes: int):
    sign, rest = ("-" if minutes < 0 else "+"), abs(minutes)
    text = f"{moment:%Y-%m-%dT%H:%M:%S}{sign}{rest // 60:02d}:{rest % 60:02d}"
    assert instant(text) == datetime.fromisoformat(text).astimezone(UTC)


CUSTOMER = Mapping(
    "people",
    "customers",
    {
        "source_customer_id": Field("id"),
        "name": Field("profile.name"),
        "birthday": Field("born", "date"),
        "is_vip": Field("vip", "boolean"),
        "segment": Field("tier", values=values({"Gold": "gold"})),
        "lifetime_value": Field("value", "number"),
        "region": Field("area", lookup=Lookup("areas", "id", "name")),
        "external_id": Field("fields", find=("key", "crm", "value")),
        "phone": Field(RECORD_ID, prefix="tel:"),
    },
    when=(When("role", ("customer",)),),
    required=("source_customer_id",),
    ignored=("note",),
)
SETUP = (
    "set variable lookup_areas = map(['s' || chr(31) || '7'], ['North']); "
    "create temp macro lookup_areas(key) as getvariable('lookup_areas')[key]"
)
FULL = {
    "id": 12, "role": "customer", "profile": {"name": "王伟"}, "born": "1990-05-04", "vip": "是",
    "tier": "GOLD", "value": "1,250.5", "area": 7,
    "fields": [{"key": "x", "value": "no"}, {"key": "crm", "value": "C-9"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def mapped() -> dict:
    (row,) = apply(CUSTOMER, FULL, {"id": 1, "role": "agent"}, setup=SETUP)
    return row


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("source_customer_id", "12"),
        ("name", "王伟"),
        ("is_vip", True),
        ("segment", "gold"),
        ("lifetime_value", 1250.5),
        ("region", "North"),
        ("external_id", "C-9"),
        ("phone", "tel:r0"),
        ("reasons", []),
        ("language", None),
    ],
)
def test_mapped_column(mapped: dict, column: str, expected: object):
    assert mapped[column] == expected


def test_mapped_birthday(mapped: dict):
    assert mapped["birthday"].isoformat() == "1990-05-04"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"born": "1990-02-30"}, "impossible_date:birthday"),
        ({"vip": "perhaps"}, "unknown_value:is_vip"),
        ({"tier": "tin"}, "unknown_value:segment"),
        ({"value": "much"}, "not_a_number:lifetime_value"),
        ({"id": None}, "missing_id:source_customer_id"),
        ({"id": ""}, "missing_id:source_customer_id"),
    ],
)
def test_what_cannot_be_converted_has_a_reason(change: dict, reason: str):
    (row,) = apply(CUSTOMER, FULL | change, setup=SETUP)
    assert row["reasons"] == [reason]


def test_a_value_outside_the_map_may_have_a_default():
    mapping = Mapping(
        "t", "cases", {"channel": Field("via", values=values({"web": "web_form"}), unknown="other")}
    )
    assert [row["channel"] for row in apply(mapping, {"via": "Web"}, {"via": "fax"})] == [
        "web_form",
        "other",
    ]


def test_items_of_a_list_become_rows():
    mapping = Mapping(
        "t",
        "case_events",
        {"source_event_id": Field("item.id", suffix=":x"), "source_case_id": Field("case")},
        explode="events",
        when=(When("item.kind", ("a", "b")),),
    )
    record = {"case": 5, "events": [{"id": 1, "kind": "a"}, {"id": 2, "kind": "c"}, {"id": 3}]}
    rows = apply(mapping, record, {"case": 6, "events": []})
    assert [(row["source_event_id"], row["source_case_id"]) for row in rows] == [("1:x", "5")]


def test_negated_condition_keeps_what_is_missing():
    mapping = Mapping(
        "t", "cases", {"source_case_id": Field("id")}, when=(When("s", ("x",), True),)
    )
    assert [r["source_case_id"] for r in apply(mapping, {"id": 1, "s": "x"}, {"id": 2})] == ["2"]


def test_used_fields_are_top_level_names():
    assert used_fields([CUSTOMER], "people") == {
        "id", "profile", "born", "vip", "tier", "value", "area", "fields", "role", "note",
    }  # fmt: skip


def test_hostile_names_stay_data():
    mapping = Mapping("t'; drop table x; --", "cases", {"subject": Field(('it\'s "odd".name',))})
    assert apply(mapping, {'it\'s "odd".name': "fine"})[0]["subject"] == "fine"

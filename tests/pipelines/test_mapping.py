"""Declared mappings: values converted, reasons given, nothing NULL in silence."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.mapping import (
    CAPTURED_AT,
    RECORD_ID,
    Field,
    Lookup,
    Mapping,
    Pick,
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
    "set variable lookup_areas_id_name = map(['s' || chr(31) || '7'], ['North']); "
    "create temp macro lookup_areas_id_name(key) as getvariable('lookup_areas_id_name')[key]"
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


NESTED = {
    "id": "r1",
    "first": "Ann",
    "last": "Lee",
    "mail": "",
    "mails": [{"address": "ann@example.org"}],
    "link": "https://form.example/to/F7?x=1",
    "pages": [{"questions": [{"id": "q1", "answers": [{"choice": "c2"}]}]}, {"questions": []},
              {"questions": [{"id": "q2", "answers": [{"text": "慢"}]}]}],
    "answers": {"a": {"id": "q1", "value": "5"}, "b": {"id": "q2", "value": "ok"}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (Field("mails.0.address"), "ann@example.org"),
        (Field("mails.1.address"), None),
        (Field("mail", also=("mails.0.address", "id")), "ann@example.org"),
        (Field("first", also=("last",), joined_by=" "), "Ann Lee"),
        (Field("first", also=("mail",), joined_by=" "), "Ann"),
        (Field("link", pattern="/to/([^?]+)"), "F7"),
        (Field("link", pattern="/from/([^?]+)"), None),
    ],
)
def test_ways_to_a_text(field: Field, expected: str | None) -> None:
    (row,) = apply(Mapping("t", "customers", {"name": field}), NESTED)
    assert row["name"] == expected


def test_lists_in_lists_are_exploded() -> None:
    fields = {
        "source_response_id": Field("id"),
        "question_id": Field("item.id"),
        "comment": Field("item.answers.0.text", also=("item.answers.0.choice",)),
    }
    mapping = Mapping("t", "survey_responses", fields, explode="pages[*].questions[*]")
    rows = apply(mapping, NESTED)
    assert [(row["source_response_id"], row["question_id"], row["comment"]) for row in rows] == [
        ("r1", "q1", "c2"),
        ("r1", "q2", "慢"),
    ]
    assert used_fields([mapping], "t") == {"id", "pages"}


def test_values_of_an_object_are_exploded() -> None:
    fields = {"question_id": Field("item.id"), "comment": Field("item.value")}
    mapping = Mapping("t", "survey_responses", fields, explode="answers.*")
    rows = apply(mapping, NESTED)
    assert [(row["question_id"], row["comment"]) for row in rows] == [("q1", "5"), ("q2", "ok")]


def test_a_strict_lookup_within_something_is_converted() -> None:
    lookup = Lookup("questions", "key", "score", within="id", is_strict=True)
    mapping = Mapping("t", "survey_responses", {"score": Field("pick", "number", lookup=lookup)})
    setup = (
        "create temp table pairs as select 's' || chr(31) || 'r1/c2' as key, '4' as value; "
        f"create temp macro {lookup.table}(wanted) as (select value from pairs where key = wanted)"
    )
    rows = apply(mapping, {"id": "r1", "pick": "c2"}, {"id": "r1", "pick": "c9"}, setup=setup)
    assert [row["score"] for row in rows] == [4.0, None]
    assert [row["reasons"] for row in rows] == [[], []]
    assert used_fields([mapping], "t") == {"id", "pick"}


def test_when_it_was_captured_is_an_instant() -> None:
    mapping = Mapping("t", "customers", {"updated_at": Field(CAPTURED_AT, "instant")})
    (row,) = apply(mapping, NESTED)
    assert row["updated_at"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert used_fields([mapping], "t") == set()


@pytest.mark.parametrize(
    ("when", "kept"),
    [
        (When("owner", pattern="^00G"), ["q"]),
        (When("owner", is_negated=True, pattern="^00G"), ["p", "nobody"]),
    ],
)
def test_records_are_kept_by_a_pattern(when: When, kept: list[str]) -> None:
    mapping = Mapping("t", "customers", {"name": Field("id")}, when=(when,))
    records = [{"id": "q", "owner": "00G1"}, {"id": "p", "owner": "0051"}, {"id": "nobody"}]
    assert [row["name"] for row in apply(mapping, *records)] == kept


@pytest.mark.parametrize(
    ("record", "minutes", "reasons"),
    [
        ({"a": "2026-01-01T10:00:00Z", "b": "2026-01-01T11:30:30Z"}, 90.5, []),
        ({"a": "2026-01-01T10:00:00Z", "b": None}, None, []),
        ({"a": "2026-01-01T10:00:00Z", "b": "soon"}, None, ["impossible_date:value"]),
        ({"a": "never", "b": "2026-01-01T11:30:30Z"}, None, ["impossible_date:value"]),
    ],
)
def test_minutes_between_two_instants(
    record: dict[str, str | None], minutes: float | None, reasons: list[str]
) -> None:
    mapping = Mapping("raw", "vendor_metrics", {"value": Field("b", "number", since="a")})
    (row,) = apply(mapping, record)
    assert row["value"] == minutes
    assert row["reasons"] == reasons
    assert used_fields([mapping], "raw") == {"a", "b"}


def pairs(lookup: Lookup, **found: str) -> str:
    """SQL that makes a lookup of these keys callable."""
    rows = " union all ".join(
        f"select 's' || chr(31) || {quote(key)} as key, {quote(value)} as value"
        for key, value in found.items()
    )
    return (
        f"create temp table {lookup.table}_pairs as {rows}; create temp macro {lookup.table}"
        f"(wanted) as (select value from {lookup.table}_pairs where key = wanted);"
    )


MAIN = Lookup("forms", "form", "main", is_strict=True)
ANSWERS = {"id": "r1", "form": "f1", "answers": [{"q": "q1", "n": 4}, {"q": "q2", "text": "ok"}]}


@pytest.mark.parametrize(("main", "expected"), [("q1", "4"), ("q2", "ok"), ("q3", None)])
def test_the_item_that_a_form_names_is_picked(main: str, expected: str | None) -> None:
    pick = Pick("answers[*]", "item.q", "form", MAIN)
    mapping = Mapping("t", "customers", {"name": Field("item.n", also=("item.text",), pick=pick)})
    (row,) = apply(mapping, ANSWERS, setup=pairs(MAIN, f1=main))
    assert row["name"] == expected
    assert used_fields([mapping], "t") == {"form", "answers"}


def test_an_item_is_picked_beside_one_that_is_exploded() -> None:
    pick = Pick("answers[*]", "item.q", "form", MAIN)
    fields = {"comment": Field("item.text"), "score": Field("item.n", "number", pick=pick)}
    mapping = Mapping("t", "survey_responses", fields, explode="answers")
    rows = apply(mapping, ANSWERS, setup=pairs(MAIN, f1="q1"))
    assert [(row["comment"], row["score"]) for row in rows] == [(None, 4.0), ("ok", 4.0)]


def test_a_condition_may_be_looked_up() -> None:
    kinds = Lookup("forms", "question", "kind", within="form", is_strict=True)
    mapping = Mapping(
        "t",
        "survey_responses",
        {"question_id": Field("item.q")},
        explode="answers",
        when=(When("item.q", ("open",), lookup=kinds),),
    )
    setup = pairs(kinds, **{"f1/q1": "csat", "f1/q2": "open"})
    rows = apply(mapping, ANSWERS, setup=setup)
    assert [row["question_id"] for row in rows] == ["q2"]


def test_a_lookup_within_a_part_of_the_record_id() -> None:
    names = Lookup("forms", "key", "name", within=RECORD_ID, within_pattern="^(.)", is_strict=True)
    mapping = Mapping("t", "customers", {"name": Field("form", lookup=names)})
    (row,) = apply(mapping, ANSWERS, setup=pairs(names, **{"r/f1": "Form"}))
    assert row["name"] == "Form"


def test_a_mail_address_becomes_an_id_that_hides_it() -> None:
    mapping = Mapping("t", "customers", {"source_customer_id": Field("mail", is_hashed=True)})
    rows = apply(mapping, {"mail": "Ann@Example.org "}, {"mail": "ann@example.org"}, {"mail": ""})
    assert [row["source_customer_id"] for row in rows] == [
        "8b5a6a28fc840441be692d74a81ccd1a",
        "8b5a6a28fc840441be692d74a81ccd1a",
        None,
    ]


def test_each_lookup_is_made_once_however_often_its_value_is_used() -> None:
    who = Lookup("users", "id", "role")
    mapping = Mapping(
        "events",
        "case_events",
        {
            "source_event_id": Field("id"),
            "source_case_id": Field("case"),
            "event_at": Field("at"),
            "event_type": Field(const="assignee_changed"),
            "actor_role": Field("by", lookup=who, values=values({"(a) 'lookup_x(' b": "agent"})),
            "from_value": Field("from", lookup=who),
        },
        when=(When("by", among=("agent",), lookup=who), When("case")),
    )
    sql = render_select(mapping, "incoming")
    assert sql.count(f"{who.table}(") == 2  # the actor's and the former one's
    setup = (
        "create table users as from (values ('s' || chr(31) || '1', 'agent')) t (key, value);"
        f"create macro {who.table}(wanted) as (select value from users where key = wanted)"
    )
    base = {"id": "e", "case": "c", "at": "2026-01-01T00:00:00Z", "from": "1"}
    rows = apply(
        mapping, base | {"by": "1"}, base | {"by": "2"}, {"id": "e", "by": "1"}, setup=setup
    )
    assert [(row["raw_row"], row["from_value"]) for row in rows] == [(0, "agent")]
    assert rows[0]["reasons"] == ["unknown_value:actor_role"]

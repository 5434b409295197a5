"""Customers of several systems become one."""

from __future__ import annotations

from mart_world import World, at


def test_mail_and_external_id_join_into_the_record_of_the_crm(golden: World) -> None:
    rows = golden.query(
        "select customer_ref from intermediate.int_customer_identities "
        "where customer_id = 'crm 7' order by all"
    )
    assert [row["customer_ref"] for row in rows] == ["crm 7", "desk 1", "shop 3"]


def test_joined_customer_has_one_row_with_the_record_first(golden: World) -> None:
    rows = golden.query("select * from customers where customer_id = 'crm 7'")
    assert len(rows) == 1
    assert (rows[0]["display_name"], rows[0]["segment"]) == ("Record", "gold")
    assert rows[0]["is_vip"] is True
    assert rows[0]["last_order_at"] == at("01 00:00")


def test_others_stay_apart(golden: World) -> None:
    rows = golden.query("select customer_id from customers where customer_id <> 'crm 7'")
    assert rows == [{"customer_id": "desk 2"}]


def test_cases_and_feedback_bear_the_joined_id(golden: World) -> None:
    assert golden.case("ignored")["customer_id"] == "crm 7"
    rows = golden.query("select customer_id from feedback where feedback_id = 'ignored complaint'")
    assert rows == [{"customer_id": "crm 7"}]

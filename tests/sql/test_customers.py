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
    rows = golden.query("select customer_id from customers where customer_id <> 'crm 7' "
                        "order by all")  # fmt: skip
    assert [row["customer_id"] for row in rows] == ["desk 2", "desk 5", "desk 8"]


def test_cases_and_feedback_bear_the_joined_id(golden: World) -> None:
    assert golden.case("ignored")["customer_id"] == "crm 7"
    rows = golden.query("select customer_id from feedback where feedback_id = 'ignored complaint'")
    assert rows == [{"customer_id": "crm 7"}]


def test_a_merged_customer_is_the_one_it_was_merged_into(golden: World) -> None:
    said = golden.query("select customer_id from feedback where feedback_id = 'deleted post'")
    assert said == [{"customer_id": "desk 2"}]
    found = golden.query("select * from customers where customer_id = 'desk 2'")[0]
    assert (found["is_excluded"], found["exclusion_reason"]) == (False, None)
    assert (found["display_name"], found["is_vip"]) == ("A", False)
    assert found["signup_at"] == at("01 00:00")
    assert found["do_not_contact"] is False


def test_a_customer_of_whom_nothing_is_left_is_kept_and_not_contacted(golden: World) -> None:
    rows = golden.query(
        "select customer_id, display_name, is_excluded, exclusion_reason, do_not_contact, is_vip "
        "from customers where is_excluded order by all"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("desk 5", "M", True, "merged", True, True),
        ("desk 8", "M", True, "deleted", True, False),
    ]


def test_a_deleted_order_is_shown_and_not_counted(golden: World) -> None:
    rows = golden.query("select order_id, is_excluded, exclusion_reason from orders order by all")
    assert [tuple(row.values()) for row in rows] == [
        ("order 1", False, None),
        ("order 2", True, "deleted"),
    ]
    customer = golden.query("select * from customers where customer_id = 'crm 7'")[0]
    assert (customer["order_count"], customer["last_order_at"]) == (1, at("01 00:00"))


def test_a_deleted_answer_is_shown_and_not_counted(golden: World) -> None:
    rows = golden.query("select response_id from survey_responses where is_excluded order by all")
    assert [row["response_id"] for row in rows] == [
        "csat, deleted", "csat, latest but deleted", "deleted after solve",
    ]  # fmt: skip
    assert golden.case("talkative")["csat_score"] == 5
    counted = (
        "select sum(denominator) as n from metrics_daily "
        "where metric = 'csat' and cohort_date = '2026-03-10'"
    )
    assert golden.query(counted) == [{"n": 10}]
    bad = "select case_id from follow_up_candidates where case_id = 'lunch'"
    assert golden.query(f"{bad} and rule = 'low_satisfaction_after_resolution'") == []


def test_a_deleted_post_is_shown_and_not_counted(golden: World) -> None:
    row = golden.query("select * from feedback where feedback_id = 'deleted post'")[0]
    assert (row["is_excluded"], row["exclusion_reason"]) == (True, "deleted")
    counted = (
        "select count(*) as n from metrics_daily where metric = 'volume' and channel = 'forum'"
    )
    assert golden.query(counted) == [{"n": 0}]

"""A declared API: every way to page and to sign in, cursors, children, and clear refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError, UsageError
from pipelines.settings import Source
from pipelines.sources import find_kind
from tests.pipelines.sources.pulling import (
    ids,
    latest,
    make_context,
    make_source,
    one,
    pull_all,
    pull_stopping,
    quarantined,
    stage,
)
from tests.pipelines.sources.rest.server import Erp
from tests.pipelines.sources.vendor_server import Answer

PAYLOAD = Path(__file__).parent / "payloads" / "staff.json"
ALL = {"E-17", "E-18", "E-19"}
STAFF = {"path": "staff/one", "name": "staff", "id": "no"}
SALES = {
    "path": "sales",
    "params": {"mode": "full"},
    "record_path": "result.rows",
    "paginator": {"type": "page_number", "base_page": 1, "page_param": "page"},
    "cursor": {"field": "modified", "param": "since", "is_sorted": True},
}
NOTES = {
    "path": "sales/{id}/notes",
    "parent": "sales",
    "record_path": "notes",
    "id": ["_sales_id", "id"],
    "include_from_parent": ["id"],
}
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def erp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Erp]:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"login": "me", "password": "quiet"}')
    with Erp(json.loads(PAYLOAD.read_text("utf-8"))) as server:
        assert isinstance(server, Erp)
        yield server


def source_of(erp: Erp, *endpoints: dict[str, Any], **more: Any) -> Source:
    top = {"start": more.pop("start", None)}
    options = {"auth": {"type": "bearer"}, "endpoints": list(endpoints)} | more
    return make_source("rest", erp.url, options=options, **top)


@pytest.mark.parametrize(
    ("way", "paginator", "record_path"),
    [
        ("one", {"type": "none"}, None),
        ("link_header", {"type": "link_header"}, None),
        ("json_link", {"type": "json_link", "next_url_path": "paging.next"}, "data"),
        ("cursor", {"type": "cursor", "cursor_path": "next", "cursor_param": "after"}, "data"),
        (
            "offset",
            {"type": "offset", "limit": 2, "offset_param": "from", "limit_param": "count",
             "total_path": "total"},
            "data",
        ),
        ("page_number", {"type": "page_number", "base_page": 1, "page_param": "p"}, "data"),
    ],
)  # fmt: skip
def test_every_way_to_page(
    erp: Erp, tmp_path: Path, way: str, paginator: dict[str, Any], record_path: str | None
) -> None:
    endpoint = {"path": f"staff/{way}", "name": "staff", "id": "no", "paginator": paginator}
    endpoint |= {"record_path": record_path} if record_path else {}
    found, _ = pull_all(source_of(erp, endpoint), tmp_path)
    assert ids(found, "staff") == ALL
    assert latest(found, "staff")["E-18"] == erp.data["members"][1]


@pytest.mark.parametrize(
    ("auth", "key"),
    [
        ({"type": "bearer"}, ("Authorization", "Bearer quiet")),
        ({"type": "basic"}, ("Authorization", "Basic bWU6cXVpZXQ=")),
        ({"type": "api_key", "name": "X-Key"}, ("X-Key", "quiet")),
        ({"type": "api_key", "name": "key", "location": "query"}, ("key", "quiet")),
        (
            {"type": "oauth2_client_credentials", "token_url": "token",
             "access_token_request_data": {"scope": "read"}},
            ("Authorization", "Bearer fetched"),
        ),
    ],
)  # fmt: skip
def test_every_way_to_sign_in(
    erp: Erp, tmp_path: Path, auth: dict[str, Any], key: tuple[str, str]
) -> None:
    erp.key = key
    found, _ = pull_all(source_of(erp, STAFF, auth=auth), tmp_path)
    assert ids(found, "staff") == ALL


def test_an_empty_answer_means_no_records(erp: Erp, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(erp, STAFF | {"path": "staff/nothing"}), tmp_path)
    assert ids(found, "staff") == set()


def test_a_cursor_asks_for_what_changed_and_a_minute_before(erp: Erp, tmp_path: Path) -> None:
    _, position = pull_all(source_of(erp, SALES, NOTES), tmp_path)
    erp.data["sales"][0]["modified"] = "2026-09-07T10:00:00Z"
    erp.requests.clear()
    found, _ = pull_all(source_of(erp, SALES, NOTES), tmp_path, position)
    assert ids(found, "sales") == {"501", "503"}
    assert ids(found, "notes") == {"501/n1", "503/n1", "503/n2"}
    assert erp.requests[0].query["since"] == "2026-09-06T09:59:00Z"


def test_records_below_others_know_whose_they_are(erp: Erp, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(erp, SALES, NOTES), tmp_path)
    assert ids(found, "notes") == {"501/n1", "503/n1", "503/n2"}
    assert latest(found, "notes")["503/n2"]["_sales_id"] == 503


def test_start_is_the_first_value_of_a_cursor(erp: Erp, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(erp, SALES, start=date(2026, 9, 4)), tmp_path)
    assert ids(found, "sales") == {"502", "503"}


def test_a_cursor_in_the_body_of_a_request(erp: Erp, tmp_path: Path) -> None:
    endpoint = {
        "path": "staff/post",
        "name": "staff",
        "method": "POST",
        "id": "no",
        "record_path": "data",
        "json": {"filter": {"changed_from": "{cursor}"}},
        "cursor": {"field": "changed", "format": "unix", "initial": date(2026, 9, 21)},
    }
    found, position = pull_all(source_of(erp, endpoint), tmp_path)
    assert ids(found, "staff") == {"E-17", "E-18", "E-19"}
    found, _ = pull_all(source_of(erp, endpoint), tmp_path, position)
    assert ids(found, "staff") == {"E-19"}


def test_an_unsorted_cursor_never_passes_the_beginning_of_the_pull(
    erp: Erp, tmp_path: Path
) -> None:
    erp.data["sales"][1]["modified"] = "2999-01-01T00:00:00Z"
    unsorted = SALES | {"cursor": {"field": "modified", "param": "since"}}
    _, position = pull_all(source_of(erp, unsorted), tmp_path)
    assert datetime.fromisoformat(position["sales"]["since"]) <= datetime.now(UTC)


def test_a_pull_that_is_stopped_after_any_batch_loses_nothing(erp: Erp, tmp_path: Path) -> None:
    found = pull_stopping(source_of(erp, STAFF, SALES, NOTES), tmp_path)
    assert ids(found, "staff") == ALL
    assert ids(found, "sales") == {"501", "502", "503"}
    assert ids(found, "notes") == {"501/n1", "503/n1", "503/n2"}


def test_limits_are_kept_in_the_unit_that_is_declared(erp: Erp, tmp_path: Path) -> None:
    limits = {"refusals": [420], "reset_header": "X-Reset", "reset_unit": "milliseconds"}
    erp.limit("/staff", Answer(b"slow", 420, {"X-Reset": "1000"}), seconds=1)
    found, _ = pull_all(source_of(erp, STAFF, limits=limits), tmp_path)
    assert ids(found, "staff") == ALL
    assert erp.violations == []


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ({"parm": {}}, "unknown option 'endpoints.0.parm', did you mean 'params'"),
        ({"cursor": {"feld": "x"}}, "'endpoints.0.cursor.feld', did you mean 'field'"),
        ({"paginator": {"type": "ofset"}}, "'ofset' is no paginator, did you mean 'offset'"),
        (
            {"paginator": {"type": "offset", "limit": 2, "offset_parm": "x"}},
            "paginator offset has no 'offset_parm', did you mean 'offset_param'",
        ),
        ({"paginator": {"type": "offset"}}, "paginator offset: .*'limit'"),
        ({"entity": "custmers"}, "'custmers' is no entity, did you mean 'customers'"),
        (
            {"entity": "agents", "columns": {"source_agent_id": "no", "nam": "full_name"}},
            "agents has no column 'nam', did you mean 'name'",
        ),
        ({"entity": "agents", "columns": {"name": "x"}}, "agents needs the column"),
        (
            {"entity": "agents", "columns": {"source_agent_id": "no"}, "values": {"role": {}}},
            "column 'role' is not in columns",
        ),
        ({"parent": "staf"}, "no endpoint 'staf' stands before it"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_told_with_the_nearest_name(
    erp: Erp, tmp_path: Path, endpoint: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError, match=f"source 'desk': .*{told}"):
        pull_all(source_of(erp, STAFF | endpoint), tmp_path)


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        (STAFF | {"id": "nr"}, "a record of staff has no 'nr', did you mean 'no'"),
        (SALES | {"record_path": "results.rows"}, "has no 'results.rows', did you mean 'result'"),
        (SALES | {"record_path": "result"}, "a record of sales has no 'id'"),
        (
            STAFF | {"entity": "agents", "columns": {"source_agent_id": "no", "name": "fullname"}},
            "staff has no field 'fullname', did you mean 'full_name'",
        ),
        (SALES | {"cursor": {"field": "modify", "param": "since"}}, "did you mean 'modified'"),
        (
            SALES | {"paginator": {"type": "page_number", "base_page": 1, "page_param": "page",
                                   "total_path": "totals"}},
            "paginator of sales: Total `pages` not found",
        ),
        (STAFF | {"params": {"since": "{cursor}"}, "cursor": {"field": "changed"}},
         r"staff wants \{cursor\}; set cursor.initial or the source's start"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_answers_is_told(
    erp: Erp, tmp_path: Path, endpoint: dict[str, Any], told: str
) -> None:
    with pytest.raises(HearbackError, match=f"source 'desk': .*{told}"):
        pull_all(source_of(erp, endpoint), tmp_path)


CURSOR = {
    "path": "staff/cursor",
    "name": "staff",
    "id": "no",
    "record_path": "data",
    "paginator": {"type": "cursor", "cursor_path": "next", "cursor_param": "after"},
}


def test_a_cursor_that_expired_between_pages_begins_the_walk_anew(erp: Erp, tmp_path: Path) -> None:
    erp.fail("/staff/cursor", Answer({"error": "unknown cursor"}, 410), skip=1)
    told: list[str] = []
    source = source_of(erp, CURSOR)
    found, _ = pull_all(source, tmp_path, progress=lambda text, rows: told.append(text))
    assert ids(found, "staff") == ALL
    assert told == ["desk: 410 for page 2 of staff; its cursor may have expired: begun anew"]


def test_a_cursor_that_expires_again_and_again_is_one_line(erp: Erp, tmp_path: Path) -> None:
    erp.fail("/staff/cursor", Answer({"error": "unknown cursor"}, 410), skip=1)
    erp.fail("/staff/cursor", Answer({"error": "unknown cursor"}, 410), skip=1)
    with pytest.raises(HearbackError, match="source 'desk': 410 from /staff/cursor: the server"):
        pull_all(source_of(erp, CURSOR), tmp_path)
    erp.faults.clear()
    assert ids(pull_all(source_of(erp, CURSOR), tmp_path)[0], "staff") == ALL


def test_records_that_change_while_pages_are_read_are_not_lost(erp: Erp, tmp_path: Path) -> None:
    """They leave their page and move all behind them; in the order of change, none is skipped."""
    rows = erp.data["sales"]
    base = max(rows, key=lambda row: row["modified"])
    rows[:] = [base | {"id": n, "modified": f"2026-11-01T10:{n:02}:00+00:00"} for n in range(7)]
    wanted = {str(n) for n in range(7)}

    def change(page: int) -> None:
        if page == 2:
            rows[0]["modified"] = "2026-11-19T10:00:00+00:00"

    erp.before_page = change
    source = source_of(erp, SALES)
    first, position = pull_all(source, tmp_path)
    erp.before_page = lambda page: None
    second, _ = pull_all(source, tmp_path, position)
    assert ids(first, "sales") | ids(second, "sales") == wanted


def test_pages_that_are_not_in_the_order_of_the_cursor_are_told(erp: Erp, tmp_path: Path) -> None:
    erp.is_falling = True
    told = "sales does not come in the order of 'modified'; remove cursor.is_sorted"
    with pytest.raises(UsageError, match=told):
        pull_all(source_of(erp, SALES), tmp_path)


def test_an_api_that_does_not_know_the_parameter_of_the_cursor_is_told(
    erp: Erp, tmp_path: Path
) -> None:
    """Else each page would begin at the first record again."""
    base = erp.data["sales"][0]
    erp.data["sales"][:] = [
        base | {"id": n, "modified": f"2026-11-{n + 1:02}T10:00:00+00:00"} for n in range(9)
    ]
    wrong = SALES | {"cursor": SALES["cursor"] | {"param": "changed_after"}}  # type: ignore[operator]
    told = "sales gives records from long before the time that is asked for; mend cursor.param"
    with pytest.raises(UsageError, match=told):
        pull_all(source_of(erp, wrong), tmp_path)
    assert len(erp.requests) < 9


def test_no_other_host_is_asked(erp: Erp, tmp_path: Path) -> None:
    erp.link_host = "https://elsewhere.example"
    endpoint = STAFF | {"path": "staff/link_header", "paginator": {"type": "link_header"}}
    with pytest.raises(HearbackError, match=r"the next page of staff is at elsewhere\.example"):
        pull_all(source_of(erp, endpoint), tmp_path)


def test_wrong_credentials_are_told_with_their_connection(
    erp: Erp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"password": "wrong-one"}')
    with pytest.raises(HearbackError) as raised:
        pull_all(source_of(erp, STAFF), tmp_path)
    assert "check connection 'desk'" in raised.value.message
    assert "wrong-one" not in raised.value.message


def test_a_connection_without_a_password_says_what_it_needs(
    erp: Erp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"login": "me"}')
    with pytest.raises(HearbackError, match="connection 'desk' needs a password"):
        pull_all(source_of(erp, STAFF), tmp_path)


def test_check_reads_the_first_page(erp: Erp, tmp_path: Path) -> None:
    check = find_kind("rest").check
    assert check is not None
    told = check(source_of(erp, SALES), make_context(tmp_path))
    assert told == "2 records on the first page of sales"
    assert len(erp.requests) == 1


# What comes out -----------------------------------------------------------------------------------

MAPPED = [
    STAFF
    | {
        "entity": "agents",
        "columns": {
            "source_agent_id": "no", "name": "full_name", "email": "mail", "team": "dept",
            "languages": "skills", "is_active": "state", "updated_at": "changed",
        },
        "constants": {"role": "agent"},
        "values": {"is_active": {"active": "true", "left": "false"}},
        "lookups": {"team": {"endpoint": "departments", "value": "label"}},
    },
    {"path": "departments"},
    SALES
    | {
        "entity": "orders",
        "explode": "lines",
        "columns": {
            "source_order_id": "item.sku", "source_customer_id": "buyer.id", "ordered_at": "placed",
            "product": "item.sku", "quantity": "item.qty", "amount": "item.sum",
            "status": "state", "updated_at": "modified",
        },
        "constants": {"currency": "EUR"},
        "mappings": [
            {"entity": "customers",
             "columns": {"source_customer_id": "buyer.id"},
             "when": [{"path": "state", "among": ["open"]}]},
        ],
    },
    NOTES
    | {
        "entity": "feedback",
        "columns": {
            "source_record_id": "@record_id", "source_customer_id": "by", "created_at": "at",
            "body": "text", "channel": "kind",
        },
        "values": {"channel": {"customer": "chat"}},
        "unknown": {"channel": "other"},
        "when": [{"path": "by", "pattern": "^K"}],
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    folder = tmp_path_factory.mktemp("rest")
    with pytest.MonkeyPatch.context() as patch, Erp(json.loads(PAYLOAD.read_text())) as server:
        patch.setenv("AIRFLOW_CONN_DESK", '{"password": "quiet"}')
        assert isinstance(server, Erp)
        source = source_of(server, *MAPPED, time_zone="Asia/Shanghai")
        rows = stage(folder, source)
        assert quarantined(folder, source) == []
    return rows


@pytest.mark.parametrize(
    ("entity", "key", "column", "value"),
    [
        ("agents", {"source_agent_id": "E-17"}, "name", "Mia Lopez"),
        ("agents", {"source_agent_id": "E-17"}, "team", "Support"),
        ("agents", {"source_agent_id": "E-17"}, "languages", ["en", "es"]),
        ("agents", {"source_agent_id": "E-17"}, "role", "agent"),
        ("agents", {"source_agent_id": "E-17"}, "is_active", True),
        ("agents", {"source_agent_id": "E-18"}, "is_active", False),
        (
            "agents", {"source_agent_id": "E-17"}, "updated_at",
            datetime.fromtimestamp(1790000000, UTC),
        ),
        ("orders", {"product": "Grinder"}, "amount", 1250.5),
        ("orders", {"product": "Grinder"}, "quantity", 2.0),
        ("orders", {"product": "Grinder"}, "currency", "EUR"),
        ("orders", {"product": "Grinder"}, "ordered_at", datetime(2026, 9, 1, 2, tzinfo=UTC)),
        ("orders", {"product": "Filter"}, "source_customer_id", "K-2"),
        ("feedback", {"body": "Where is my parcel?"}, "channel", "chat"),
        ("feedback", {"body": "Where is my parcel?"}, "source_customer_id", "K-1"),
    ],
)  # fmt: skip
def test_columns(staged: Rows, entity: str, key: dict[str, Any], column: str, value: Any) -> None:
    assert one(staged[entity], **key)[column] == value


def test_conditions(staged: Rows) -> None:
    assert {row["source_customer_id"] for row in staged["customers"]} == {"K-1", "K-2"}
    assert {row["body"] for row in staged["feedback"]} == {"Where is my parcel?", "Thank you!"}


def test_a_review_is_a_row_for_each_of_its_categories(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"login": "me", "password": "quiet"}')
    review = {
        "no": "R-1", "ticket": "7", "of": "E-17", "by": "E-19", "at": "2026-11-03T08:00:00Z",
        "items": [
            {"name": "Tone", "points": 4, "weight": 2, "must": False, "remark": "curt"},
            {"name": "Privacy", "points": None, "weight": 1, "must": True},
        ],
    }  # fmt: skip
    endpoint = STAFF | {
        "entity": "quality_reviews",
        "explode": "items",
        "columns": {
            "source_review_id": "no",
            "category": "item.name",
            "score": "item.points",
            "weight": "item.weight",
            "is_critical": "item.must",
            "comment": "item.remark",
            "source_case_id": "ticket",
            "source_agent_id": "of",
            "source_reviewer_id": "by",
            "reviewed_at": "at",
        },
        "constants": {"scale_min": 1, "scale_max": 5, "case_source": "desk"},
    }
    with Erp(json.loads(PAYLOAD.read_text("utf-8")) | {"members": [review]}) as server:
        assert isinstance(server, Erp)
        source = source_of(server, endpoint)
        rows = stage(tmp_path, source)
    assert quarantined(tmp_path, source) == []
    tone, privacy = (one(rows["quality_reviews"], category=name) for name in ("Tone", "Privacy"))
    assert (tone["score"], tone["weight"], tone["is_critical"]) == (4, 2, False)
    assert (privacy["score"], privacy["is_critical"], privacy["scale_max"]) == (None, True, 5)
    assert tone["source_review_id"] == privacy["source_review_id"] == "R-1"
    assert (tone["source_case_id"], tone["case_source"], tone["source_agent_id"]) == (
        "7", "desk", "E-17",
    )  # fmt: skip
    assert tone["reviewed_at"] == datetime(2026, 11, 3, 8, tzinfo=UTC)

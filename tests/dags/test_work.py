"""What the tasks find out before they hand over: the day, the sources, the secrets, the faults."""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.errors import HearbackError, UsageError
from pipelines.settings import Settings, load_settings

CONFIG = """
[project]
time_zone = "Asia/Shanghai"
[[sources]]
name = "shop"
kind = "csv"
connection = "shop_login"
[[sources]]
name = "forum"
kind = "csv"
[[sources]]
name = "old"
kind = "csv"
enabled = false
[delivery]
failure_webhook_connection = "alerts"
"""
EVENING = datetime(2026, 3, 1, 17, 30, tzinfo=UTC)  # 01:30 of the 2nd in Shanghai


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    path = tmp_path / "hearback.toml"
    path.write_text(CONFIG, encoding="utf-8")
    monkeypatch.setenv("HEARBACK_CONFIG", str(path))
    return load_settings(path)


def make_context(
    run_type: str = "manual", logical: datetime | None = None, **params: Any
) -> dict[str, Any]:
    dag_run = SimpleNamespace(
        run_id="manual__2026-03-01T17:30:00+00:00",
        run_type=SimpleNamespace(value=run_type),
        logical_date=logical,
        start_date=EVENING,
        run_after=EVENING,
    )
    return {"dag_run": dag_run, "params": params, "ti": make_ti({})}


def make_ti(states: dict[str, str]) -> SimpleNamespace:
    return SimpleNamespace(
        dag_id="feedback_daily",
        run_id="r",
        task_id="extract",
        rendered_map_index="shop",
        get_task_states=lambda dag_id, run_ids: {"r": states},
    )


@pytest.fixture
def use_context(monkeypatch: pytest.MonkeyPatch) -> Any:
    from dags import work

    def use(context: dict[str, Any]) -> None:
        monkeypatch.setattr(work, "get_current_context", lambda: context)

    return use


def test_the_asked_day_comes_first(settings: Settings) -> None:
    from dags.work import find_day

    context = make_context("scheduled", EVENING, date="2025-12-31")
    assert find_day(context, settings) == date(2025, 12, 31)


@pytest.mark.parametrize("run_type", ["scheduled", "backfill", "manual"])
def test_the_day_is_that_of_the_logical_date_in_the_zone(settings: Settings, run_type: str) -> None:
    from dags.work import find_day

    assert find_day(make_context(run_type, EVENING), settings) == date(2026, 3, 2)


@pytest.mark.parametrize("run_type", ["manual", "asset_triggered"])
def test_without_a_logical_date_it_is_today(
    settings: Settings, use_context: Any, run_type: str
) -> None:
    from dags.work import open_run

    use_context(make_context(run_type))
    run = open_run()
    assert run.date == date(2026, 3, 2)
    assert run.now == EVENING


def test_an_earlier_day_is_seen_from_its_end(settings: Settings, use_context: Any) -> None:
    from dags.work import open_run

    use_context(make_context("manual", date="2026-02-27"))
    assert open_run().now == datetime(2026, 2, 27, 15, 59, 59, tzinfo=UTC)


def test_the_run_id_is_a_safe_file_name(settings: Settings, use_context: Any) -> None:
    from dags.work import open_run

    use_context(make_context())
    assert open_run().run_id == "manual__2026-03-01T17-30-00-00-00"


def test_all_enabled_sources_unless_some_are_asked_for(
    settings: Settings, use_context: Any
) -> None:
    from dags.work import list_sources

    use_context(make_context())
    assert list_sources() == ["shop", "forum"]
    use_context(make_context(sources=["forum"]))
    assert list_sources() == ["forum"]


def test_a_source_that_started_the_run_is_not_captured_again(
    settings: Settings, use_context: Any
) -> None:
    from dags.work import list_sources

    use_context(make_context("asset_triggered"))
    assert list_sources() == []


def test_an_unknown_source_is_refused(settings: Settings, use_context: Any) -> None:
    from dags.work import list_sources

    use_context(make_context(sources=["form"]))
    with pytest.raises(UsageError, match="did you mean 'forum'"):
        list_sources()


def test_a_connection_of_airflow_is_handed_on_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow.sdk import Connection

    from dags.work import export_connections
    from pipelines.connections import get_connection

    kept = Connection(
        conn_id="shop_login", conn_type="http", login="ann", password="s3cret", extra='{"k": "v"}'
    )
    monkeypatch.delenv("AIRFLOW_CONN_SHOP_LOGIN", raising=False)
    monkeypatch.setattr(Connection, "get", classmethod(lambda cls, name: kept))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    export_connections({"shop_login"})
    found = get_connection("shop_login")
    assert (found.login, found.password, found.extra) == ("ann", "s3cret", {"k": "v"})
    assert json.loads(os.environ["AIRFLOW_CONN_SHOP_LOGIN"])["conn_type"] == "http"


def test_a_connection_that_nobody_set_is_left_to_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    from dags.work import export_connections

    def refuse(cls: type, name: str) -> None:
        raise AirflowNotFoundException(name)

    monkeypatch.delenv("AIRFLOW_CONN_NOBODY", raising=False)
    monkeypatch.setattr(Connection, "get", classmethod(refuse))
    export_connections({"nobody"})
    assert "AIRFLOW_CONN_NOBODY" not in os.environ


def caused_by(cause: BaseException) -> HearbackError:
    error = HearbackError("source 'shop': failed")
    error.__cause__ = cause
    return error


def answer(status: int) -> Exception:
    import requests

    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (answer(503), True),
        (answer(429), True),
        (answer(401), False),
        (answer(404), False),
        (FileNotFoundError(), False),
        (ValueError(), False),
    ],
)
def test_only_what_heals_by_itself_is_tried_again(cause: BaseException, expected: bool) -> None:
    from pipelines.errors import may_heal

    assert may_heal(caused_by(cause)) is expected


def test_a_refused_password_fails_at_once(
    settings: Settings, use_context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from dags.work import extract_source

    def fail(*_: object) -> int:
        raise caused_by(answer(401))

    use_context(make_context())
    monkeypatch.setattr("pipelines.steps.run_step", fail)
    with pytest.raises(AirflowFailException, match="source 'shop': failed"):
        extract_source("forum")


def test_nothing_new_starts_nothing(
    settings: Settings, use_context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    from dags.work import extract_alone

    use_context(make_context())
    monkeypatch.setattr("pipelines.steps.run_step", lambda *_: 0)
    with pytest.raises(AirflowSkipException, match="nothing new from forum"):
        extract_alone("forum")
    monkeypatch.setattr("pipelines.steps.run_step", lambda *_: 3)
    assert extract_alone("forum") == 3


def test_the_last_task_says_what_failed(settings: Settings, use_context: Any) -> None:
    from dags.work import check_sources, open_run

    context = make_context()
    use_context(context)
    check_sources()
    context["ti"] = make_ti({"extract_0": "success", "extract_1": "failed"})
    with pytest.raises(HearbackError, match="failed: extract_1"):
        check_sources()
    run = open_run()
    run.lake.write_run_error(run.run_id, "extract--shop", "the password was refused")
    with pytest.raises(HearbackError, match="extract--shop: the password was refused"):
        check_sources()


def test_a_notice_says_what_failed_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    from dags.notices import describe_failure

    context = {"ti": make_ti({}), "exception": HearbackError("no such file\nsecond line")}
    assert describe_failure(context) == (
        "Hearback: feedback_daily.extract [shop] failed in run r: no such file"
    )


def test_a_notice_is_posted_to_the_webhook(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx
    from airflow.sdk import Connection

    from dags.notices import FailureNotice

    posted: list[tuple[str, Any]] = []

    def post(url: str, **options: Any) -> httpx.Response:
        posted.append((url, options))
        return httpx.Response(200, request=httpx.Request("POST", url))

    hook = Connection(
        conn_id="alerts", conn_type="http", host="https://hooks.example/x", password="t"
    )
    monkeypatch.setattr(Connection, "get", classmethod(lambda cls, name: hook))
    monkeypatch.setattr(httpx, "post", post)
    FailureNotice()({"ti": make_ti({}), "exception": HearbackError("broken")})
    ((url, options),) = posted
    assert url == "https://hooks.example/x"
    assert options["json"]["text"].endswith("failed in run r: broken")
    assert options["headers"] == {"Authorization": "Bearer t"}


def test_a_notice_that_cannot_be_sent_fails_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow.sdk import Connection

    from dags.notices import FailureNotice

    def refuse(cls: type, name: str) -> None:
        raise ConnectionError("cannot reach https://hooks.example/secret")

    monkeypatch.setattr(Connection, "get", classmethod(refuse))
    FailureNotice()({"ti": make_ti({}), "exception": HearbackError("broken")})
    assert "could not be sent: ConnectionError" in caplog.text
    assert "secret" not in caplog.text

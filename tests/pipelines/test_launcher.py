"""Airflow for as long as one command runs: home, secrets, lock, calls, and the end of a run."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines import launcher
from pipelines.errors import HearbackError
from pipelines.launcher import (
    AirflowApi,
    EmbeddedAirflow,
    TaskState,
    find_free_port,
    name_run,
    read_error,
    run_daily,
    start_airflow,
)
from pipelines.processes import Programs
from pipelines.settings import Settings, load_settings
from pipelines.steps import hold_lock

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "hearback.toml"
    path.write_text("[project]\n", encoding="utf-8")
    return load_settings(path)


@pytest.fixture
def airflow(settings: Settings) -> EmbeddedAirflow:
    return EmbeddedAirflow(settings)


def test_secrets_are_made_once_and_are_the_owners_alone(airflow: EmbeddedAirflow) -> None:
    first = airflow.secrets
    assert len(first["jwt"]) == 64
    path = airflow.folder / "secrets.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert EmbeddedAirflow(airflow.settings).secrets == first


def test_the_port_is_the_same_next_time_unless_it_is_taken(airflow: EmbeddedAirflow) -> None:
    port = airflow.port
    assert port in launcher.PORTS
    assert EmbeddedAirflow(airflow.settings).port == port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (airflow.folder / "port").write_text(str(taken.getsockname()[1]))
        assert EmbeddedAirflow(airflow.settings).port in launcher.PORTS


def test_a_free_port_can_be_taken() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", find_free_port(None)))


def test_the_environment_is_closed_to_the_outside(
    airflow: EmbeddedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__HOST", "0.0.0.0")
    monkeypatch.setenv("AIRFLOW_HOME", "/somewhere/else")
    found = airflow.environment(is_scheduled=False)
    assert found["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert found["AIRFLOW_HOME"] == str(airflow.folder)
    assert found["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert found["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == f"{airflow.address}/execution/"
    assert found["HEARBACK_CONFIG"] == str(airflow.settings.path)
    assert found["AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE"] == "False"
    passwords = Path(found["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    assert stat.S_IMODE(passwords.stat().st_mode) == 0o600
    assert airflow.secrets["password"] in passwords.read_text()


def test_tuning_of_the_user_stays(
    airflow: EmbeddedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "3")
    assert airflow.environment(is_scheduled=True)["AIRFLOW__CORE__PARALLELISM"] == "3"


def test_a_second_airflow_on_the_same_home_is_refused(settings: Settings) -> None:
    airflow = EmbeddedAirflow(settings)
    with (
        hold_lock(airflow.home.lock("airflow"), refusal="taken"),
        pytest.raises(HearbackError, match=rf"already at work on .* \(process {os.getpid()}\)"),
        start_airflow(settings, is_scheduled=False, tell=print),
    ):
        pass
    assert not airflow.database.exists()


def test_what_a_killed_airflow_left_running_is_closed(airflow: EmbeddedAirflow) -> None:
    assert airflow.close_interrupted_runs() == 0
    airflow.folder.mkdir(parents=True)
    con = sqlite3.connect(airflow.database)
    con.executescript(
        """
        create table dag_run (run_id, state, end_date);
        create table task_instance (task_id, state);
        insert into dag_run values ('a', 'running', null), ('b', 'success', 'then');
        insert into task_instance values ('x', 'running'), ('y', 'success'), ('z', null);
        """
    )
    con.commit()
    assert airflow.close_interrupted_runs() == 1
    states = dict(con.execute("select run_id, state from dag_run").fetchall())
    assert states == {"a": "failed", "b": "success"}
    tasks = dict(con.execute("select task_id, state from task_instance").fetchall())
    assert tasks == {"x": "failed", "y": "success", "z": None}
    con.close()


def test_an_interrupted_migration_leaves_no_half_database(
    airflow: EmbeddedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert airflow.secrets

    def fail(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        target = options["env"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].removeprefix("sqlite:///")
        Path(target).write_text("half")
        return subprocess.CompletedProcess(command, 1, "", "no luck")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(HearbackError, match=r"could not be prepared; see .*migrate\.log"):
        airflow.migrate()
    assert not airflow.is_migrated

    def succeed(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        target = options["env"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].removeprefix("sqlite:///")
        assert not Path(target).exists()
        Path(target).write_text("whole")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", succeed)
    airflow.migrate()
    assert airflow.database.read_text() == "whole"
    assert airflow.is_migrated
    airflow.stamp.write_text("another version")
    assert not airflow.is_migrated


class Answers:
    """Airflow's answers by path; a list is given out one by one, its last one for good."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v2/")
        body = json.loads(request.content) if request.content else None
        self.asked.append((request.method, path, body))
        found = self.answers.get(path, httpx.Response(404, text="not found"))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        return found if isinstance(found, httpx.Response) else httpx.Response(200, json=found)


def make_api(airflow: EmbeddedAirflow, answers: Answers) -> AirflowApi:
    assert airflow.secrets
    api = AirflowApi(airflow, Programs())
    api.client = httpx.Client(base_url=airflow.address, transport=httpx.MockTransport(answers))
    return api


def test_a_dag_read_before_the_start_does_not_count(airflow: EmbeddedAirflow) -> None:
    early = {"last_parsed_time": (NOW - timedelta(days=1)).isoformat()}
    late = {"last_parsed_time": (NOW + timedelta(seconds=1)).isoformat()}
    answers = Answers({"dags/feedback_daily": [early, late], "importErrors": {"import_errors": []}})
    api = make_api(airflow, answers)
    assert not api.has_read_dag(NOW)
    assert api.has_read_dag(NOW)


def test_a_broken_dag_file_is_told_at_once(airflow: EmbeddedAirflow) -> None:
    fault = {
        "timestamp": NOW.isoformat(),
        "filename": "feedback_daily.py",
        "stack_trace": "Traceback\n  line\nNameError: name 'x' is not defined\n",
    }
    api = make_api(airflow, Answers({"importErrors": {"import_errors": [fault]}}))
    with pytest.raises(HearbackError, match=r"feedback_daily\.py: NameError: name 'x'"):
        api.has_read_dag(NOW)


def test_missing_pools_are_made(airflow: EmbeddedAirflow) -> None:
    answers = Answers({"pools": {"pools": [{"name": "sources"}]}})
    make_api(airflow, answers).make_pools()
    assert [body for method, _, body in answers.asked if method == "POST"] == [
        {"name": "warehouse_writer", "slots": 1}
    ]


def test_a_paused_dag_is_refused(airflow: EmbeddedAirflow) -> None:
    api = make_api(airflow, Answers({"dags/feedback_daily": {"is_paused": True}}))
    with pytest.raises(HearbackError, match="feedback_daily is paused"):
        api.trigger("r", {})


def test_what_airflow_refuses_is_told(airflow: EmbeddedAirflow) -> None:
    with pytest.raises(HearbackError, match=r"Airflow refused GET pools \(404\): not found"):
        make_api(airflow, Answers({})).make_pools()


def make_task(name: str, state: str | None, label: str | None = None) -> dict[str, Any]:
    return {
        "task_id": name,
        "state": state,
        "rendered_map_index": label,
        "map_index": 0 if label else -1,
        "duration": 1.5,
        "try_number": 1,
    }


def run_to_the_end(
    airflow: EmbeddedAirflow, monkeypatch: pytest.MonkeyPatch, tasks: list[dict[str, Any]]
) -> tuple[launcher.RunEnd, Answers, list[list[TaskState]]]:
    monkeypatch.setattr(launcher, "POLL_SECONDS", 0.0)
    is_success = all(task["state"] == "success" for task in tasks)
    final = "success" if is_success else "failed"
    run = "dags/feedback_daily/dagRuns/r"
    answers = Answers(
        {
            "dags/feedback_daily": {"is_paused": False},
            "dags/feedback_daily/dagRuns": {},
            run: [{"state": "running"}, {"state": final}],
            f"{run}/taskInstances": {"task_instances": tasks},
        }
    )
    seen: list[list[TaskState]] = []
    end = run_daily(
        make_api(airflow, answers),
        run_id="r",
        day=date(2026, 3, 1),
        sources=("shop",),
        full_refresh=True,
        watch=lambda tasks, rows: seen.append(tasks),
    )
    return end, answers, seen


def test_a_run_is_started_with_its_parameters_and_watched(
    airflow: EmbeddedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [make_task("extract", "success", "shop"), make_task("clean", "success")]
    end, answers, seen = run_to_the_end(airflow, monkeypatch, tasks)
    assert end.is_success
    assert end.errors == {}
    assert [task.key for task in seen[-1]] == ["extract--shop", "clean"]
    assert ("POST", "dags/feedback_daily/dagRuns") in [asked[:2] for asked in answers.asked]
    (body,) = [body for method, _, body in answers.asked if method == "POST"]
    assert body == {
        "dag_run_id": "r",
        "logical_date": None,
        "conf": {"sources": ["shop"], "full_refresh": True, "date": "2026-03-01"},
    }


def test_each_failed_task_is_told_with_its_reason_and_its_log(
    airflow: EmbeddedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow.home.lake.write_run_error("r", "extract--shop", "source 'shop': 401; check the token")
    tasks = [
        make_task("extract", "failed", "shop"),
        make_task("clean", "failed"),
        make_task("check_sources", "failed"),
    ]
    end, _, _ = run_to_the_end(airflow, monkeypatch, tasks)
    assert not end.is_success
    assert set(end.errors) == {"extract--shop", "clean"}
    log = airflow.folder / "logs/dag_id=feedback_daily/run_id=r/task_id=extract/map_index=0"
    assert end.errors["extract--shop"] == (
        f"source 'shop': 401; check the token (log: {log / 'attempt=1.log'})"
    )
    assert end.errors["clean"].startswith("stopped without a message, perhaps for want of memory")


def test_the_reason_of_a_task_that_could_not_say_it_is_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "attempt=1.log"
    lines = [
        {"event": "Task failed", "error_detail": [{"exc_type": "OSError", "exc_value": "a\nb"}]},
        {"event": "done"},
    ]
    log.write_text("not json\n" + "\n".join(map(json.dumps, lines)))
    assert read_error(log) == "OSError: a"


def test_a_part_of_airflow_that_stops_ends_the_wait(
    airflow: EmbeddedAirflow, tmp_path: Path
) -> None:
    with Programs() as programs:
        command = [sys.executable, "-c", "pass"]
        programs.start("scheduler", command, env=os.environ, log=tmp_path / "log").wait(timeout=20)
        with pytest.raises(
            HearbackError, match=r"Airflow's scheduler stopped; see .*scheduler\.log"
        ):
            launcher.wait_ready(airflow, programs, NOW)


def test_run_ids_are_safe_names_that_sort(settings: Settings) -> None:
    name = name_run(date(2026, 3, 1), settings)
    assert name.startswith("hearback-20260301-")
    assert name.replace("-", "").isalnum()


STARTER = """
import sys, time
from pipelines import launcher
from pipelines.settings import load_settings
launcher.COMPONENTS = {"api-server": [], "scheduler": []}
launcher.EmbeddedAirflow.migrate = lambda self: self.port
started = launcher.Programs.start
def start(self, name, command, **options):
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    print(started(self, name, command, **options).pid, flush=True)
launcher.Programs.start = start
with launcher.start_airflow(load_settings(sys.argv[1]), is_scheduled=False, tell=lambda text: None):
    pass
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_any_signal_stops_everything_within_seconds(
    settings: Settings, how: signal.Signals
) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(settings.path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert starter.stdout is not None
    with starter.stdout as lines:
        pids = [int(lines.readline()) for _ in range(2)]
        begin = time.monotonic()
        starter.send_signal(how)
        starter.wait(timeout=20)
    assert starter.returncode != 0
    assert time.monotonic() - begin < 10
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with hold_lock(EmbeddedAirflow(settings).home.lock("airflow"), refusal="taken"):
        pass


# Answers as Airflow's server does while a run begins.
SERVER = """
import json, os, sys
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
        self.answer({
            "/execution/health": {},
            "/api/v2/dags/feedback_daily": {"last_parsed_time": later},
            "/api/v2/importErrors": {"import_errors": []},
            "/api/v2/pools": {"pools": []},
        }[self.path])

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"access_token": "t"})

    def answer(self, body):
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

HTTPServer(("127.0.0.1", int(os.environ["AIRFLOW__API__PORT"])), Handler).serve_forever()
"""


def test_airflow_is_handed_over_ready_and_taken_down_after(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Programs.start

    def start(self: Programs, name: str, command: list[str], **options: Any) -> Any:
        return started(self, name, [sys.executable, "-c", SERVER], **options)

    monkeypatch.setattr(Programs, "start", start)
    monkeypatch.setattr(EmbeddedAirflow, "migrate", lambda self: self.port)
    monkeypatch.setattr(launcher, "COMPONENTS", {"api-server": []})
    told: list[str] = []
    done: list[str] = []
    with start_airflow(
        settings,
        is_scheduled=False,
        tell=told.append,
        meanwhile=lambda: done.append("the demo"),
    ) as api:
        assert api.client.headers["Authorization"] == "Bearer t"
        assert done == ["the demo"]
        (pid,) = [program.pid for program in api.programs.running.values()]
    assert told == ["preparing Airflow's database (once)", "starting Airflow"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with start_airflow(settings, is_scheduled=False, tell=told.append):
        pass


@pytest.mark.parametrize(
    ("is_scheduled", "expected"),
    [
        (True, ["api-server", "dag-processor", "ready", "scheduler"]),
        (False, ["api-server", "dag-processor", "scheduler", "ready"]),
    ],
)
def test_schedules_begin_when_tasks_can_be_heard(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, is_scheduled: bool, expected: list[str]
) -> None:
    seen: list[str] = []

    def wait(airflow: EmbeddedAirflow, programs: Programs, began: datetime) -> AirflowApi:
        seen.append("ready")
        return AirflowApi(airflow, programs)

    monkeypatch.setattr(Programs, "start", lambda self, name, command, **_: seen.append(name))
    monkeypatch.setattr(EmbeddedAirflow, "migrate", lambda self: None)
    monkeypatch.setattr(launcher, "wait_ready", wait)
    with start_airflow(settings, is_scheduled=is_scheduled, tell=lambda text: None):
        pass
    assert seen == expected


def test_what_goes_wrong_meanwhile_ends_the_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise HearbackError("the demo is broken")

    monkeypatch.setattr(EmbeddedAirflow, "migrate", lambda self: self.port)
    with (
        pytest.raises(HearbackError, match="the demo is broken"),
        start_airflow(settings, is_scheduled=False, tell=print, meanwhile=fail),
    ):
        pass

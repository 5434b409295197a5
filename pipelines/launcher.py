"""Airflow on one machine, for as long as one command runs.

Starts Airflow's api-server, scheduler and dag-processor on an embedded database under
``home``/state/airflow, runs the daily pipeline through them, and stops everything at the end,
whatever the end is. Airflow is only ever started as a program, never imported.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import HearbackError
from pipelines.processes import Programs
from pipelines.settings import Settings
from pipelines.steps import hold_lock
from pipelines.storage import Home, explain_disk_errors

if TYPE_CHECKING:
    import httpx

DAG_ID = "feedback_daily"
COMPONENTS = {
    "api-server": ["airflow", "api-server"],
    "dag-processor": ["airflow", "dag-processor"],
    "scheduler": ["pipelines.warm", "scheduler"],
}
PORTS = range(18080, 28080)
POOLS = {"sources": 4, "warehouse_writer": 1}
READY_SECONDS = 180.0
POLL_SECONDS = 0.5
USER = "admin"
ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")


@dataclass(frozen=True)
class TaskState:
    """A task of the run as Airflow sees it. ``key`` is ``validate`` or ``extract--shop``."""

    key: str
    state: str | None
    seconds: float | None
    log: Path

    @property
    def is_ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True)
class RunEnd:
    """How a run ended: ``errors`` holds one line for each task that failed, with its log."""

    run_id: str
    is_success: bool
    tasks: list[TaskState]
    errors: dict[str, str] = field(default_factory=dict)


Watcher = Callable[[list[TaskState], dict[str, int]], None]


class EmbeddedAirflow:
    """The folder, the secrets, the port and the environment of one home's own Airflow."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home = Home(settings)
        self.folder = self.home.airflow
        self.database = self.folder / "airflow.db"

    @cached_property
    def secrets(self) -> dict[str, str]:
        """Made once and kept in a file that only its owner can read."""
        return keep_secret(
            self.folder / "secrets.json",
            lambda: {
                "jwt": secrets.token_hex(32),
                "fernet": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                "api": secrets.token_hex(32),
                "password": secrets.token_urlsafe(12),
            },
        )

    @cached_property
    def port(self) -> int:
        """A free port, the same as last time if it is still free."""
        kept = self.folder / "port"
        port = find_free_port(int(kept.read_text()) if kept.exists() else None)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept.write_text(str(port))
        return port

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, *, is_scheduled: bool) -> dict[str, str]:
        """The environment of Airflow's programs. What the caller has set as tuning stays."""
        root = Path(__file__).resolve().parent.parent
        passwords = self.folder / "passwords.json"
        keep_secret(passwords, lambda: {USER: self.secrets["password"]})
        tuning = {
            # A worker lingers for seconds over a task that has ended; spare ones keep tasks from
            # waiting for it. What runs at once is bounded by the pools.
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "600",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "60",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "HEARBACK_RETRY_SECONDS": "60" if is_scheduled else "5",
        }
        own = {
            "AIRFLOW_HOME": str(self.folder),
            "HEARBACK_CONFIG": str(self.settings.path),
            "PYTHONPATH": os.pathsep.join(
                [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "AIRFLOW__CORE__DAGS_FOLDER": str(root / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__FERNET_KEY": self.secrets["fernet"],
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.address}/execution/",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.address,
            "AIRFLOW__API__SECRET_KEY": self.secrets["api"],
            "AIRFLOW__API_AUTH__JWT_SECRET": self.secrets["jwt"],
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": str(is_scheduled),
        }
        return {**tuning, **os.environ, **own}

    @property
    def stamp(self) -> Path:
        """Holds the version of Airflow that the database was made for."""
        return self.folder / "migrated"

    @property
    def is_migrated(self) -> bool:
        if not (self.database.exists() and self.stamp.exists()):
            return False
        return self.stamp.read_text() == version("apache-airflow")

    def migrate(self) -> None:
        """Bring the database to this Airflow's version, aside, then swap it in.

        HearbackError names the log if Airflow could not.
        """
        aside = self.folder / "airflow.db.new"
        aside.unlink(missing_ok=True)
        if self.database.exists():
            shutil.copy2(self.database, aside)
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env={
                **self.environment(is_scheduled=False),
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{aside}",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        log = self.folder / "logs" / "migrate.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(done.stdout + done.stderr, encoding="utf-8")
        if done.returncode:
            raise HearbackError(f"Airflow's database could not be prepared; see {log}")
        aside.replace(self.database)
        self.stamp.write_text(version("apache-airflow"))

    def close_interrupted_runs(self) -> int:
        """Mark what a killed Airflow left running as failed, so that it is not taken up again.

        The next run does the work: every step goes on from what the last one committed.
        Called only while no Airflow runs on this database.
        """
        if not self.database.exists():
            return 0
        with contextlib.closing(sqlite3.connect(self.database)) as con, con:
            con.execute(
                "update task_instance set state = 'failed' where state in ('scheduled', 'queued', "
                "'running', 'restarting', 'up_for_retry', 'up_for_reschedule', 'deferred')"
            )
            closed = con.execute(
                "update dag_run set state = 'failed', end_date = ? "
                "where state in ('queued', 'running')",
                (datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),),
            )
            return closed.rowcount

    def log_of(self, component: str) -> Path:
        return self.folder / "logs" / f"{component}.log"


def keep_secret(path: Path, make: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Read a JSON file of secrets; write it first, readable by its owner only, if there is none."""
    if not path.exists():
        with explain_disk_errors(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            aside = path.with_suffix(f".{os.getpid()}")
            handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(handle, "w", encoding="utf-8") as file:
                json.dump(make(), file)
            aside.replace(path)
    kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def find_free_port(wanted: int | None) -> int:
    """The wanted port on loopback if it is free, else a random free one.

    Random, so that two homes that start at the same moment do not meet; and below those that the
    system gives to outgoing connections, so that it stays free until Airflow takes it.
    """
    for port in filter(None, (wanted, *random.sample(PORTS, 100))):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise HearbackError("no free port on 127.0.0.1; close some programs and run again")


class AirflowApi:
    """The few calls of Airflow's REST interface that a run needs."""

    def __init__(self, airflow: EmbeddedAirflow, programs: Programs) -> None:
        import httpx

        self.airflow = airflow
        self.programs = programs
        self.client = httpx.Client(base_url=airflow.address, timeout=30, trust_env=False)

    def is_up(self) -> bool:
        """Signs in as soon as the server answers."""
        import httpx

        login = {"username": USER, "password": self.airflow.secrets["password"]}
        try:
            answer = self.client.post("/auth/token", json=login)
        except httpx.TransportError:
            return False
        if answer.is_error:
            return False
        self.client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return True

    def warm_up(self) -> None:
        """Let the server build what it builds at the first call of a task, which takes seconds."""
        self.client.get("/execution/health", timeout=READY_SECONDS)

    def check_alive(self) -> None:
        dead = self.programs.find_dead()
        if dead:
            raise HearbackError(f"Airflow's {dead} stopped; see {self.airflow.log_of(dead)}")

    def wait_until_stopped(self) -> None:
        """Wait for Ctrl-C; HearbackError if a part of Airflow stops by itself."""
        while True:
            self.check_alive()
            time.sleep(1)

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One call; HearbackError with Airflow's own words if it is refused."""
        answer = self.client.request(method, f"/api/v2/{path}", **options)
        if answer.is_error:
            raise HearbackError(
                f"Airflow refused {method} {path} ({answer.status_code}): {answer.text[:200]}"
            )
        return answer

    def has_read_dag(self, since: datetime) -> bool:
        """Whether the daily DAG was read since then; HearbackError if a DAG file is broken."""
        found = self.client.get(f"/api/v2/dags/{DAG_ID}")
        if found.is_success:
            read_at = found.json()["last_parsed_time"]
            if read_at and datetime.fromisoformat(read_at) >= since:
                return True
        for fault in self.call("GET", "importErrors").json()["import_errors"]:
            if datetime.fromisoformat(fault["timestamp"]) >= since:
                last = fault["stack_trace"].strip().splitlines()[-1]
                raise HearbackError(f"{fault['filename']}: {last}")
        return False

    def make_pools(self) -> None:
        known = {pool["name"] for pool in self.call("GET", "pools").json()["pools"]}
        for name, slots in POOLS.items():
            if name not in known:
                self.call("POST", "pools", json={"name": name, "slots": slots})

    def trigger(self, run_id: str, conf: dict[str, Any]) -> None:
        if self.call("GET", f"dags/{DAG_ID}").json()["is_paused"]:
            raise HearbackError(
                f"{DAG_ID} is paused in Airflow; run 'hearback ui', switch it on, and run again"
            )
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        self.call("POST", f"dags/{DAG_ID}/dagRuns", json=body)

    def run_state(self, run_id: str) -> str:
        state: str = self.call("GET", f"dags/{DAG_ID}/dagRuns/{run_id}").json()["state"]
        return state

    def task_states(self, run_id: str) -> list[TaskState]:
        path = f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances"
        found = self.call("GET", path, params={"limit": 100}).json()["task_instances"]
        return [self.read_task(run_id, task) for task in found]

    def read_task(self, run_id: str, task: dict[str, Any]) -> TaskState:
        label = task["rendered_map_index"]
        folder = self.airflow.folder / "logs" / f"dag_id={DAG_ID}" / f"run_id={run_id}"
        folder /= f"task_id={task['task_id']}"
        if task["map_index"] >= 0:
            folder /= f"map_index={task['map_index']}"
        return TaskState(
            key=f"{task['task_id']}--{label}" if label else task["task_id"],
            state=task["state"],
            seconds=task["duration"],
            log=folder / f"attempt={max(1, task['try_number'])}.log",
        )


@contextlib.contextmanager
def start_airflow(
    settings: Settings,
    *,
    is_scheduled: bool,
    tell: Callable[[str], None],
    meanwhile: Callable[[], object] = bool,
) -> Iterator[AirflowApi]:
    """A running Airflow, ready to take runs; stopped, with all its children, on the way out.

    ``meanwhile`` is called beside the preparation of the database, before anything is started.
    Raises HearbackError if this home already has one, or if it does not get ready.
    """
    airflow = EmbeddedAirflow(settings)
    refusal = (
        f"Hearback is already at work on {airflow.home.root} (process {{owner}}); "
        "wait for it to end, or stop it"
    )
    with hold_lock(airflow.home.lock("airflow"), refusal=refusal), end_on_signals():
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(meanwhile)
            if not airflow.is_migrated:
                tell("preparing Airflow's database (once)")
                airflow.migrate()
            other.result()
        airflow.close_interrupted_runs()
        with Programs() as programs:
            tell("starting Airflow")
            began = datetime.now(UTC)
            environment = airflow.environment(is_scheduled=is_scheduled)

            def start(component: str) -> None:
                command = [sys.executable, "-m", "airflow", component]
                programs.start(component, command, env=environment, log=airflow.log_of(component))

            # A scheduler with schedules starts runs at once, which fail while the API is not up.
            late = [name for name in COMPONENTS if is_scheduled and name == "scheduler"]
            for component in COMPONENTS:
                if component not in late:
                    start(component)
            api = wait_ready(airflow, programs, began)
            for component in late:
                start(component)
            with contextlib.closing(api.client):
                yield api
        airflow.close_interrupted_runs()


def wait_ready(airflow: EmbeddedAirflow, programs: Programs, began: datetime) -> AirflowApi:
    """Wait until the API answers and the daily DAG has been read."""
    api = AirflowApi(airflow, programs)
    give_up = time.monotonic() + READY_SECONDS
    is_up = False
    while time.monotonic() < give_up:
        api.check_alive()
        if not is_up:
            is_up = api.is_up()
            if is_up:
                api.warm_up()
        if is_up and api.has_read_dag(began):
            api.make_pools()
            return api
        time.sleep(0.2)
    raise HearbackError(
        f"Airflow did not get ready in {READY_SECONDS:.0f} s; see {airflow.folder / 'logs'}"
    )


@contextlib.contextmanager
def end_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does, also in the background."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {kind: signal.signal(kind, interrupt) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)


def run_daily(
    api: AirflowApi,
    *,
    run_id: str,
    day: date | None,
    sources: tuple[str, ...],
    full_refresh: bool,
    watch: Watcher,
) -> RunEnd:
    """Run the daily pipeline and wait for its end."""
    from pipelines.steps import read_progress

    home = api.airflow.home
    conf: dict[str, Any] = {"sources": list(sources), "full_refresh": full_refresh}
    if day:
        conf["date"] = day.isoformat()
    api.trigger(run_id, conf)
    state = "queued"
    while state not in ("success", "failed"):
        time.sleep(POLL_SECONDS)
        api.check_alive()
        tasks = api.task_states(run_id)
        if all(task.is_ended for task in tasks):
            state = api.run_state(run_id)
        watch(tasks, read_progress(home.progress(run_id)))
    shutil.rmtree(home.progress(run_id), ignore_errors=True)
    kept = home.lake.read_run_errors(run_id)
    errors = {
        task.key: f"{kept.get(task.key) or read_error(task.log)} (log: {task.log})"
        for task in tasks
        if task.state == "failed" and not (task.key == "check_sources" and kept)
    }
    return RunEnd(run_id, state == "success", tasks, errors)


def read_error(log: Path) -> str:
    """The error in a task's log, in one line: for a task that died before it could say why."""
    found = "stopped without a message, perhaps for want of memory"
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            for detail in event.get("error_detail") or []:
                text = str(detail.get("exc_value") or "").splitlines()
                found = f"{detail.get('exc_type')}: {text[0] if text else ''}"
    return found


def name_run(day: date | None, settings: Settings) -> str:
    """A run id that sorts by time and is a safe file name."""
    from pipelines.context import start_run

    return f"hearback-{start_run(settings, day=day).run_id}"

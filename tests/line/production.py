"""The services of docker-compose.yml as plain processes on loopback, for as long as a test runs.

Commands, environment and health checks are read from the compose file; only what containers give
for nothing is put in: addresses, ports, folders, secrets. PostgreSQL and Redis are the machine's
own, moto stands for the object store.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml

from pipelines.launcher import DAG_ID, find_free_port
from pipelines.processes import Programs

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(
    (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
)["services"]
PATIENCE_SECONDS = 500.0  # a quiet machine needs a fifth of it
WORKERS = ("one", "two")
PACKAGES = {"postgres": "postgresql", "initdb": "postgresql", "redis-server": "redis-server"}


def find_program(name: str) -> str | None:
    """Path of a program; Debian keeps PostgreSQL's outside of PATH."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return shutil.which(name) or next(map(str, beside), None)


def missing_packages() -> list[str]:
    """Debian packages that this machine lacks for the services."""
    return sorted({package for name, package in PACKAGES.items() if not find_program(name)})


def count_finished(logs: Path) -> list[int]:
    """Tasks that each worker says it has finished.

    A worker writes its line after it has told Airflow, so the last may come after the run's end.
    """
    texts = [(logs / f"worker-{name}.log").read_text("utf-8") for name in WORKERS]
    return [text.count("Workload finished") for text in texts]


def wait_for(what: str, is_ready: Callable[[], bool], programs: Programs, logs: Path) -> None:
    """Wait until a service answers; AssertionError with its log if one ends or takes too long."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not is_ready():
        dead = programs.find_dead()
        if dead or time.monotonic() > give_up:
            log = logs / f"{dead or what}.log"
            told = log.read_text("utf-8", "replace")[-3000:] if log.exists() else "no log"
            raise AssertionError(
                f"{dead or what} {'stopped' if dead else 'did not answer'}: {told}"
            )
        time.sleep(0.3)


def fill_in(text: str, values: Mapping[str, str]) -> str:
    """Compose's substitution: ${NAME}, ${NAME:?…}, ${NAME:-default}, and $$ for $."""

    def value_of(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        default = (match[2] or "").removeprefix(":-")
        return values.get(match[1], default)

    return re.sub(r"\$\$|\$\{(\w+)(:[-?][^}]*)?\}", value_of, text)


@dataclass
class Cluster:
    """The running services. ``environment`` is that of every Airflow service."""

    folder: Path
    ports: dict[str, int]
    values: dict[str, str]
    environment: dict[str, str]
    programs: Programs

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def put_in_addresses(self, text: str) -> str:
        """The same command on loopback."""
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{self.ports['api']}")
        return text.replace("127.0.0.1:8974", f"127.0.0.1:{self.ports['scheduler']}")

    def start(self, name: str, command: list[str], **extra: str) -> None:
        log = self.logs / f"{name}.log"
        self.programs.start(name, command, env={**self.environment, **extra}, log=log)

    def is_healthy(self, service: str, **extra: str) -> bool:
        """Whether the service's own health check of the compose file is content."""
        kind, *words = SERVICES[service]["healthcheck"]["test"]
        words = [self.put_in_addresses(fill_in(word, self.values)) for word in words]
        command = words if kind == "CMD" else ["sh", "-c", *words]
        environment = {**self.environment, **extra}
        return not subprocess.run(
            command, env=environment, capture_output=True, check=False
        ).returncode


def demote() -> list[str]:
    """PostgreSQL refuses to run as root; Debian's package brings a user for it."""
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    return user if os.geteuid() == 0 else []


@contextlib.contextmanager
def start_cluster(config: Path, connections: Mapping[str, str]) -> Iterator[Cluster]:
    """All services, ready to take runs; stopped, with their folder removed, on the way out."""
    from moto.server import ThreadedMotoServer

    folder = Path(tempfile.mkdtemp(prefix="hearback-production-"))
    folder.chmod(0o755)  # PostgreSQL's user has to reach its own folder in it
    objects = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    try:
        objects.start()
        _, object_port = objects.get_host_and_port()
        ports = {name: find_free_port(None) for name in ("postgres", "redis", "api", "scheduler")}
        cluster = plan_cluster(folder, {**ports, "objects": object_port}, config, connections)
        with cluster.programs:
            start_stores(cluster)
            run_init(cluster)
            start_airflow(cluster)
            yield cluster
    finally:
        objects.stop()
        shutil.rmtree(folder)


def plan_cluster(
    folder: Path, ports: dict[str, int], config: Path, connections: Mapping[str, str]
) -> Cluster:
    """Fill in the compose file as a reader of docker/env.example would."""
    text = (ROOT / "docker" / "env.example").read_text(encoding="utf-8")
    values = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"\w+=", line))
    values = {name: value or secrets.token_hex(32) for name, value in values.items()}
    values["WORKER_CONCURRENCY"] = "2"
    values["AIRFLOW_FERNET_KEY"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    environment = {
        name: fill_in(str(value), values)
        .replace("@postgres/", f"@127.0.0.1:{ports['postgres']}/")
        .replace("redis:6379", f"127.0.0.1:{ports['redis']}")
        .replace("http://objects:7070", f"http://127.0.0.1:{ports['objects']}")
        .replace("http://api-server:8080", f"http://127.0.0.1:{ports['api']}")
        for name, value in SERVICES["init"]["environment"].items()
    }
    here = {
        "HOME": str(folder),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(ports["api"]),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(ports["scheduler"]),
        # Switched on, the DAG would first take up the day that its schedule has waiting.
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        "HEARBACK_CONFIG": str(config),
        **connections,
    }
    return Cluster(folder, ports, values, {**environment, **here}, Programs())


def start_stores(cluster: Cluster) -> None:
    """PostgreSQL with the user and the database of the compose file, and Redis."""
    data = cluster.folder / "postgres"
    data.mkdir()
    if os.geteuid() == 0:
        shutil.chown(data, "postgres", "postgres")
    password = cluster.folder / "postgres-password"
    password.write_text(cluster.values["POSTGRES_PASSWORD"])
    password.chmod(0o644)
    login = ["-U", "airflow", "-A", "scram-sha-256", "--pwfile", str(password)]
    subprocess.run(
        [*demote(), str(find_program("initdb")), "--no-sync", *login, "-D", str(data)],
        capture_output=True,
        check=True,
        cwd="/",
    )
    listen = ["-h", "127.0.0.1", "-p", str(cluster.ports["postgres"])]
    quick = ["-c", "fsync=off", "-c", "unix_socket_directories="]
    server = [*demote(), str(find_program("postgres")), "-D", str(data), *listen, *quick]
    cluster.start("postgres", server)
    listen = ["--bind", "127.0.0.1", "--port", str(cluster.ports["redis"])]
    secret = ["--requirepass", cluster.values["REDIS_PASSWORD"]]
    cluster.start("redis", [str(find_program("redis-server")), *listen, "--save", "", *secret])
    wait_for("postgres", lambda: can_make_database(cluster), cluster.programs, cluster.logs)
    wait_for("redis", lambda: answers_ping(cluster), cluster.programs, cluster.logs)


def can_make_database(cluster: Cluster) -> bool:
    """What POSTGRES_DB does for the image: true once the database has been made."""
    import psycopg2

    address = {"host": "127.0.0.1", "port": cluster.ports["postgres"], "user": "airflow"}
    try:
        con = psycopg2.connect(
            **address, password=cluster.values["POSTGRES_PASSWORD"], dbname="postgres"
        )
    except psycopg2.OperationalError:
        return False
    con.autocommit = True
    with contextlib.closing(con):
        con.cursor().execute("create database airflow")
    return True


def answers_ping(cluster: Cluster) -> bool:
    import redis

    client = redis.Redis(port=cluster.ports["redis"], password=cluster.values["REDIS_PASSWORD"])
    with contextlib.closing(client):
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def run_init(cluster: Cluster) -> None:
    """The init service, without the part that gives volumes to the image's user."""
    values = {"AIRFLOW_ADMIN_PASSWORD": cluster.values["AIRFLOW_ADMIN_PASSWORD"]}
    done = subprocess.run(
        [str(ROOT / "docker" / "init.sh")],
        env={**cluster.environment, **values},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def start_airflow(cluster: Cluster) -> None:
    """The Airflow services and two workers; ready when their health checks are content."""
    for service in ("api-server", "scheduler", "dag-processor"):
        cluster.start(service, ["airflow", *SERVICES[service]["command"]])
    for name in WORKERS:
        words = [*SERVICES["worker"]["entrypoint"], *SERVICES["worker"]["command"]]
        command = [*words, "--celery-hostname", name]
        port = find_free_port(None)
        log_port = {"AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(port)}
        cluster.start(f"worker-{name}", command, **log_port)
    for service in ("api-server", "scheduler"):
        is_ready = partial(cluster.is_healthy, service)
        wait_for(service, is_ready, cluster.programs, cluster.logs)


@dataclass
class Desk:
    """Someone who has signed in to the web page of the cluster."""

    cluster: Cluster

    def __post_init__(self) -> None:
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.cluster.ports['api']}", timeout=60, trust_env=False
        )
        password = self.cluster.values["AIRFLOW_ADMIN_PASSWORD"]
        answer = self.client.post(
            "/auth/token", json={"username": "admin", "password": password}
        ).raise_for_status()
        self.client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def call(self, method: str, path: str, **options: Any) -> Any:
        return self.client.request(method, f"/api/v2/{path}", **options).raise_for_status().json()

    def switch_on(self) -> None:
        """DAGs arrive paused, as the compose file wants it."""
        cluster = self.cluster
        read = lambda: self.client.get(f"/api/v2/dags/{DAG_ID}").is_success  # noqa: E731
        wait_for("dag-processor", read, cluster.programs, cluster.logs)
        assert self.call("GET", f"dags/{DAG_ID}")["is_paused"]
        self.call("PATCH", f"dags/{DAG_ID}", json={"is_paused": False})

    def run_daily(self, run_id: str, conf: dict[str, Any]) -> list[dict[str, Any]]:
        """Start the daily DAG and wait for its end; its task instances."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        self.call("POST", f"dags/{DAG_ID}/dagRuns", json=body)
        run = f"dags/{DAG_ID}/dagRuns/{run_id}"
        has_ended = lambda: self.call("GET", run)["state"] in ("success", "failed")  # noqa: E731
        wait_for("scheduler", has_ended, self.cluster.programs, self.cluster.logs)
        found = self.call("GET", f"{run}/taskInstances", params={"limit": 100})
        tasks: list[dict[str, Any]] = found["task_instances"]
        have_told = lambda: sum(count_finished(self.cluster.logs)) >= len(tasks)  # noqa: E731
        wait_for(f"worker-{WORKERS[0]}", have_told, self.cluster.programs, self.cluster.logs)
        return tasks

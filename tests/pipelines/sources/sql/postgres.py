"""A PostgreSQL server of the machine's own on loopback, for as long as tests run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.launcher import find_free_port
from tests.line.production import demote, find_program

PASSWORD = "s3cret/pass@word"


@contextlib.contextmanager
def start_postgres() -> Iterator[dict[str, Any]]:
    """The connection of a fresh server, as Airflow's JSON has it; stopped on the way out."""
    folder = Path(tempfile.mkdtemp(prefix="hearback-postgres-"))
    folder.chmod(0o755)
    data, password = folder / "data", folder / "password"
    data.mkdir()
    password.write_text(PASSWORD)
    password.chmod(0o644)
    if os.geteuid() == 0:
        shutil.chown(data, "postgres", "postgres")
    login = ["-U", "desk", "-A", "scram-sha-256", "--pwfile", str(password), "-E", "UTF8"]
    initdb = [*demote(), str(find_program("initdb")), "--no-sync", *login, "-D", str(data)]
    subprocess.run(initdb, capture_output=True, check=True, cwd="/")
    port = find_free_port(None)
    server = subprocess.Popen(
        [*demote(), str(find_program("postgres")), "-D", str(data), "-h", "127.0.0.1",
         "-p", str(port), "-c", "fsync=off", "-c", "unix_socket_directories="],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    connection = {
        "conn_type": "postgres", "host": "127.0.0.1", "port": port, "login": "desk",
        "password": PASSWORD, "schema": "postgres",
    }  # fmt: skip
    try:
        wait_for_answer(connection)
        yield connection
    finally:
        server.send_signal(signal.SIGINT)  # SIGTERM would wait for open sessions
        server.wait(30)
        shutil.rmtree(folder)


def connect(connection: dict[str, Any]) -> Any:
    import psycopg2

    session = psycopg2.connect(
        host=connection["host"], port=connection["port"], user=connection["login"],
        password=connection["password"], dbname=connection["schema"],
    )  # fmt: skip
    session.autocommit = True
    return session


def wait_for_answer(connection: dict[str, Any]) -> None:
    import psycopg2

    give_up = time.monotonic() + 60
    while True:
        try:
            connect(connection).close()
            return
        except psycopg2.OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)

"""A MariaDB server of the machine's own on loopback, for as long as tests run."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.launcher import find_free_port

PASSWORD = "s3cret/pass@word"
PROGRAMS = ("mariadbd", "mariadb-install-db")


def find_program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def is_installed() -> bool:
    return all(find_program(name) for name in PROGRAMS)


@contextlib.contextmanager
def start_mariadb() -> Iterator[dict[str, Any]]:
    """The connection of a fresh server, as Airflow's JSON has it; stopped on the way out.

    Its tables are in latin1 unless they say otherwise, as of old servers.
    """
    folder = Path(tempfile.mkdtemp(prefix="hearback-mariadb-"))
    data, user = folder / "data", f"--user={getpass.getuser()}"
    small = ["--innodb-log-file-size=5M", "--innodb-buffer-pool-size=32M"]
    server, install = (str(find_program(name)) for name in PROGRAMS)
    subprocess.run(
        [install, "--no-defaults", user, f"--datadir={data}", "--skip-test-db",
         "--auth-root-authentication-method=normal", *small],
        capture_output=True, check=True, cwd="/",
    )  # fmt: skip
    begin = folder / "begin.sql"
    begin.write_text(
        f"create user desk@'127.0.0.1' identified by '{PASSWORD}';\n"
        "grant all on *.* to desk@'127.0.0.1' with grant option;\n"
        "create database crm;\n"
    )
    port = find_free_port(None)
    process = subprocess.Popen(
        [server, "--no-defaults", user, f"--datadir={data}", f"--socket={folder / 's'}",
         f"--port={port}", "--bind-address=127.0.0.1", f"--init-file={begin}",
         "--skip-name-resolve", "--character-set-server=latin1", "--innodb-flush-method=nosync",
         *small],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    connection = {
        "conn_type": "mysql", "host": "127.0.0.1", "port": port, "login": "desk",
        "password": PASSWORD, "schema": "crm",
    }  # fmt: skip
    try:
        wait_for_answer(connection)
        yield connection
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def connect(connection: dict[str, Any]) -> Any:
    import pymysql

    return pymysql.connect(
        host=connection["host"], port=connection["port"], user=connection["login"],
        password=connection["password"], database=connection["schema"], autocommit=True,
    )  # fmt: skip


def wait_for_answer(connection: dict[str, Any]) -> None:
    import pymysql

    give_up = time.monotonic() + 30
    while True:
        try:
            connect(connection).close()
            return
        except pymysql.err.OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)

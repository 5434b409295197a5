"""A Redis server of the machine's own on loopback, for as long as tests run."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from pipelines.launcher import find_free_port
from tests.line.production import find_program

PASSWORD = "s3cret/pass@word"


@contextlib.contextmanager
def start_redis() -> Iterator[dict[str, Any]]:
    """The connection of a fresh server, as Airflow's JSON has it; stopped on the way out."""
    import redis

    with tempfile.TemporaryDirectory(prefix="hearback-redis-") as folder:
        port = find_free_port(None)
        server = subprocess.Popen(
            [str(find_program("redis-server")), "--bind", "127.0.0.1", "--port", str(port),
             "--save", "", "--requirepass", PASSWORD, "--dir", folder],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        connection = {
            "conn_type": "redis", "host": "127.0.0.1", "port": port, "password": PASSWORD,
            "schema": "3",
        }  # fmt: skip
        try:
            give_up = time.monotonic() + 60
            while True:
                with contextlib.suppress(redis.ConnectionError), connect(connection) as client:
                    client.ping()
                    break
                assert time.monotonic() < give_up, "redis-server does not answer"
                time.sleep(0.05)
            yield connection
        finally:
            server.terminate()
            server.wait(30)


def connect(connection: dict[str, Any]) -> Any:
    import redis

    return redis.Redis(
        connection["host"], connection["port"], int(connection["schema"]), connection["password"]
    )

"""A lake on an object store carries every step, and is asked no more often than needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from pipelines.context import Run, start_run
from pipelines.demo import generate, start_servers, write_config
from pipelines.query import open_warehouse
from pipelines.settings import load_settings
from tests.line.world import UNTIL, run_steps

SCALE = 0.01
BUCKET = "hearback-line"  # stand-ins in one process share their buckets


@pytest.fixture(scope="module")
def store() -> Iterator[Counter[str]]:
    """An object store on loopback, set in the environment; counts the requests by method."""
    import s3fs
    from moto.server import ThreadedMotoServer
    from werkzeug.serving import WSGIRequestHandler

    seen: Counter[str] = Counter()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            WSGIRequestHandler, "log_request", lambda self, *_: seen.update([self.command])
        )
        server.start()
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().makedirs(BUCKET)
        yield seen
        server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def run(store: Counter[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The survey and the agents of the demo, raw to lists."""
    folder = tmp_path_factory.mktemp("object-store")
    generate(folder / "demo", until=UNTIL, scale=SCALE)
    with start_servers(folder / "demo") as servers:
        config: Path = write_config(
            folder / "demo", folder / "home", servers, folder / "hearback.toml"
        )
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("[project]\n", f'[project]\nlake = "s3://{BUCKET}/lake"\n'))
    run = start_run(load_settings(config), day=UNTIL)
    for source in ("survey", "hr"):
        import_module("pipelines.extract").run(run, source)
    run_steps(run)
    return run


def test_nothing_of_the_lake_is_on_the_disk(run: Run) -> None:
    assert not (run.home.root / "lake").exists()


def test_the_warehouse_reads_it(run: Run) -> None:
    with open_warehouse(run.settings) as con:
        found = con.execute("select source, count(*) > 0 from feedback group by 1").fetchall()
        closed = con.execute("select bool_and(is_closed) from run_report").fetchall()
    assert found == [("survey", True)]
    assert closed == [(True,)]


def test_lists_are_written(run: Run) -> None:
    assert (run.home.out("report", UNTIL) / "index.html").is_file()


def test_a_data_file_is_asked_about_once(run: Run, store: Counter[str]) -> None:
    lake = run.lake
    lake.fs.invalidate_cache()
    files = [entry["path"] for entry in lake.facts_manifest()["partitions"]["feedback"].values()]
    before = store["HEAD"]
    for _ in range(5):
        assert all(lake.fs.exists(f"{lake.root}/{path}") for path in files)
    assert store["HEAD"] - before <= len(files)

"""docker-compose.yml: what can be known about it without starting it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.launcher import POOLS, EmbeddedAirflow
from pipelines.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
AIRFLOW = ("init", "api-server", "scheduler", "dag-processor", "worker")
SECRET = re.compile(r"PASSWORD|SECRET|_KEY\b|KEY$")
SERVICE_KEYS = {
    "image", "build", "restart", "environment", "env_file", "volumes", "depends_on", "healthcheck",
    "command", "entrypoint", "ports", "user", "stop_grace_period",
}  # fmt: skip


def read_variables() -> Iterator[tuple[str, str]]:
    """Each ${NAME…} of the file with what stands behind the name."""
    yield from re.findall(r"\$\{(\w+)([^}]*)\}", TEXT)


def test_it_holds_only_what_compose_knows() -> None:
    assert set(COMPOSE) == {"x-airflow", "services", "volumes"}
    for service in SERVICES.values():
        assert set(service) <= SERVICE_KEYS


def test_services_depend_on_services_that_can_say_they_are_well() -> None:
    for service in SERVICES.values():
        for name, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]
            else:
                assert wanted["condition"] == "service_completed_successfully"
                assert SERVICES[name]["restart"] == "no"


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "init"])
def test_every_lasting_service_is_checked(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries"} <= set(check)


@pytest.mark.parametrize("name", [name for name in AIRFLOW if name != "init"])
def test_airflow_starts_after_init_has_ended_well(name: str) -> None:
    assert SERVICES[name]["depends_on"]["init"]["condition"] == "service_completed_successfully"


def test_no_secret_has_a_default() -> None:
    secrets = [(name, rest) for name, rest in read_variables() if SECRET.search(name)]
    assert secrets
    assert all(rest.startswith(":?") for _, rest in secrets)


def test_no_secret_is_written_down() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name):
                assert value.startswith("${"), name


def test_the_example_names_every_required_variable_and_fills_in_no_secret() -> None:
    text = (ROOT / "docker" / "env.example").read_text(encoding="utf-8")
    given = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"\w+=", line))
    required = {name for name, rest in read_variables() if rest.startswith(":?")}
    assert required <= set(given)
    assert all(given[name] == "" for name in required)


def test_ports_are_open_on_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_volumes_that_are_used_are_declared() -> None:
    used = {
        mount.split(":")[0]
        for service in SERVICES.values()
        for mount in service.get("volumes", [])
        if not mount.startswith(("$", ".", "/"))
    }
    assert used == set(COMPOSE["volumes"])


def test_images_of_others_are_pinned() -> None:
    for name in set(SERVICES) - set(AIRFLOW):
        assert re.search(r":v?\d", SERVICES[name]["image"])


def test_it_is_the_same_airflow_as_on_one_machine(tmp_path: Path) -> None:
    environment = SERVICES["scheduler"]["environment"]
    airflow = EmbeddedAirflow(Settings(path=tmp_path / "hearback.toml"))
    single = airflow.environment(is_scheduled=True)
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
    assert environment["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    ours = {name for name in environment if name.startswith(("AIRFLOW__CORE", "AIRFLOW__API"))}
    only_here = {"AIRFLOW__CORE__AUTH_MANAGER"}
    assert ours - only_here <= set(single)
    assert "HEARBACK_CONFIG" in environment
    assert "HEARBACK_CONFIG" in single


def test_init_makes_the_pools_of_the_dags() -> None:
    assert "docker/init.sh" in SERVICES["init"]["command"][0]
    assert "pools.json" in (ROOT / "docker" / "init.sh").read_text(encoding="utf-8")
    pools = json.loads((ROOT / "docker" / "pools.json").read_text(encoding="utf-8"))
    assert set(pools) == set(POOLS)
    assert pools["warehouse_writer"]["slots"] == POOLS["warehouse_writer"]


def test_the_image_runs_as_a_user_on_locked_requirements() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert "--require-hashes requirements.lock" in text
    last_stage = text.split("FROM")[-1]
    assert re.search(r"^USER hearback$", last_stage, re.MULTILINE)
    assert "COPY docker/init.sh docker/pools.json docker/" in text
    for room in ("dags", "models", "pipelines", "scrapers", "sql"):
        assert f"COPY {room} {room}" in text
        assert f"!{room}" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()

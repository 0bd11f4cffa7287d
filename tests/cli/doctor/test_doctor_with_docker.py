"""What doctor learns of a real Docker engine and of a real container."""

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from msp_cli.doctor import reading
from msp_cli.doctor.airgap import read_attempts
from msp_cli.doctor.facts import Compose, Engine
from msp_cli.doctor.host_site import HostSite, beside
from msp_cli.doctor.site import Unknown

pytestmark = pytest.mark.stack

REPOSITORY = Path(__file__).resolve().parents[3]
IMAGE = "python:3.13-slim-trixie"


@pytest.fixture
def container() -> Iterator[str]:
    """A container as compose makes them, with no network at all."""
    name = f"doctor-{uuid.uuid4().hex[:8]}"
    labels = {"project": name, "service": "llm", "project.config_files": "/x/docker-compose.yml"}
    given = [
        part for key, value in labels.items() for part in ("--label", f"com.docker.compose.{key}={value}")
    ]
    command = ["docker", "run", "-d", "--rm", "--name", name, "--network", "none", *given, "-e", "A_TOKEN=x"]
    subprocess.run([*command, IMAGE, "sleep", "60"], check=True, capture_output=True)
    try:
        yield name
    finally:
        subprocess.run(["docker", "rm", "-f", name], check=True, capture_output=True)


def test_the_engine_is_understood() -> None:
    engine = reading.engine(HostSite(REPOSITORY).run("docker-info"))
    assert isinstance(engine, Engine)
    assert "runc" in engine.runtimes
    assert engine.root.startswith("/")


def test_a_container_is_understood(container: str) -> None:
    found = reading.containers(HostSite(REPOSITORY).run("containers"))
    assert not isinstance(found, Unknown)
    (mine,) = [c for c in found if c.name == container]
    assert (mine.service, mine.project, mine.runs, mine.image) == ("llm", container, True, IMAGE)
    assert mine.environment["A_TOKEN"] == "x"


def test_the_shipped_compose_files_are_understood(tmp_path: Path) -> None:
    for name in ("docker-compose.yml", "docker-compose.gpu-cluster.yml", ".env.example"):
        (tmp_path / name).write_text((REPOSITORY / name).read_text())
    init = [str(REPOSITORY / "scripts/init-env.sh"), "--file", str(tmp_path / ".env")]
    subprocess.run(init, check=True, capture_output=True)
    site = HostSite(tmp_path)
    standard = reading.compose(site.run("compose-config"))
    cluster = reading.compose(site.run("cluster-config"))
    assert isinstance(standard, Compose)
    assert isinstance(cluster, Compose)
    assert ("0.0.0.0", 8080) in standard.services["gateway"].published
    assert cluster.services["llm-primary"].device_ids == ("0",)
    assert cluster.services["llm-primary"].environment["MODEL_NAME"]


def test_from_within_a_network_without_a_way_out_nothing_is_reached(container: str) -> None:
    source = (REPOSITORY / "cli/src/msp_cli/doctor/airgap_probe.py").read_text()
    done = subprocess.run(
        beside(container, IMAGE), input=source, capture_output=True, text=True, timeout=60, check=True
    )
    attempts = read_attempts(done.stdout)
    assert not isinstance(attempts, Unknown)
    assert len(attempts) == 10
    assert not [attempt for attempt in attempts if attempt.through]

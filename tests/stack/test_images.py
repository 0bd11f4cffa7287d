"""Images: how small ours are, and that the first start makes what is not there."""

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.compose_checkout import Checkout
from support.compose_waiting import leftovers

pytestmark = pytest.mark.stack

BASE = "python:3.13-slim-trixie"
LIMIT_MB = 250
"""Beyond the base image."""

SMALL = ("gateway", "registry", "service-registry")


@pytest.fixture
def fresh(docker_engine: None, tmp_path: Path) -> Iterator[tuple[Checkout, str]]:
    """A clone whose images have a name that nothing here has yet; layers may be in the cache."""
    prefix = f"msp-fresh-{uuid.uuid4().hex[:8]}"
    user = Checkout(tmp_path / "model-service")
    user.types("env")
    user.sets(
        MSP_IMAGE_PREFIX=prefix, MINIO_ROOT_PASSWORD="secret-of-mine", MINIO_SVC_PASSWORD="secret-of-mine"
    )
    # Beside a stack that runs; nothing is started that would want its ports.
    with (user.folder / ".env").open("a") as env:
        env.write(f"COMPOSE_PROJECT_NAME={prefix}\n")
    user.edits("docker-compose.yml", r"^    container_name: model-gateway\n", "")
    try:
        yield user, prefix
    finally:
        user.shell("docker compose down -v")
        for image in images_of(prefix):
            subprocess.run(["docker", "rmi", "-f", image], check=True, capture_output=True)
    assert leftovers(project=prefix) == []


def images_of(prefix: str) -> dict[str, int]:
    """Name → bytes, of all images whose names begin so."""
    listing = [
        "docker",
        "images",
        "--filter",
        f"reference={prefix}/*",
        "--format",
        "{{.Repository}}:{{.Tag}}",
    ]
    names = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()
    return {name: size_of(name) for name in names}


def size_of(image: str) -> int:
    command = ["docker", "image", "inspect", "--format", "{{.Size}}", image]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_the_first_start_builds_what_is_not_there_and_it_is_small(fresh: tuple[Checkout, str]) -> None:
    user, prefix = fresh
    user.shell("docker compose up -d --no-start")
    images = images_of(prefix)
    assert {name.rpartition("/")[2] for name in images} == {f"{n}:0.1.0" for n in (*SMALL, "model-service")}
    beyond = {name: (images[f"{prefix}/{name}:0.1.0"] - size_of(BASE)) / 1e6 for name in SMALL}
    print(beyond)  # noqa: T201
    assert {name: size for name, size in beyond.items() if size >= LIMIT_MB} == {}

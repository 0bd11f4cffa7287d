"""The online side builds our images, although what it carries ends in the form that builds nothing."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import mini_platform
from support.bundle_host import Carrier

pytestmark = pytest.mark.stack

SERVICES = ("registry", "gateway")
OFFLINE = "services:\n" + "".join(f"  {name}:\n    build: !reset null\n" for name in SERVICES)


@pytest.fixture
def bare(docker_engine: None, tmp_path: Path) -> Iterator[Carrier]:
    """An online side with nothing but sources."""
    made = Carrier(tmp_path, f"mini{uuid.uuid4().hex[:8]}")
    try:
        mini_platform.make_image(f"{made.name}/base:1", "1")
        dockerfile = made.repository / "Dockerfile"
        dockerfile.write_text(f"FROM {made.name}/base:1\nARG MEMBER\nLABEL member=$MEMBER\n")
        (made.repository / ".dockerignore").write_text("*\n")
        compose = made.repository / "docker-compose.yml"
        text = compose.read_text()
        for name in SERVICES:
            build = f"build: {{ context: ., args: {{ MEMBER: {name} }} }}"
            text = text.replace(f"  {name}:\n    image:", f"  {name}:\n    {build}\n    image:")
        compose.write_text(text)
        (made.repository / "docker-compose.offline.yml").write_text(OFFLINE)
        yield made
    finally:
        made.remove()


def member_of(image: str) -> str:
    """What the image was built of."""
    template = "{{json .Config.Labels}}"
    inspecting = ["docker", "image", "inspect", "--format", template, image]
    labels = subprocess.run(inspecting, capture_output=True, text=True, check=True).stdout
    return str(json.loads(labels)["member"])


def test_what_is_not_there_is_built(bare: Carrier) -> None:
    command = [str(bare.repository / "scripts/offline-setup.sh"), "--out", str(bare.bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (*SERVICES, "cli"):
        assert member_of(f"{bare.name}/{name}:0.1.0") == name
    assert json.loads((bare.bundle / "bundle.json").read_text())["images"] == len(SERVICES) + 1

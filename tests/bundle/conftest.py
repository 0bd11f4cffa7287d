"""A mini platform, made into a bundle by the real scripts and carried to hosts that have only coreutils."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import mini_platform
from support.bundle_host import Carrier, OfflineHost

pytestmark = pytest.mark.stack


@pytest.fixture(scope="session", autouse=True)
def docker_engine() -> None:
    """Skips, or fails on CI, where no engine with compose v2 or no busybox is at hand."""
    problem = ""
    try:
        for command in (["docker", "compose", "version"], ["docker", "info"]):
            done = subprocess.run(command, capture_output=True, text=True)
            problem = problem or (done.stderr.strip() if done.returncode else "")
    except FileNotFoundError:
        problem = "docker is not installed"
    if not mini_platform.BUSYBOX.exists():
        problem = "there is no /bin/busybox (Debian: apt-get install busybox-static)"
    if problem:
        message = f"no mini platform can be made: {problem}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="session")
def carrier(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Carrier]:
    """The online side, and the bundle that it made, in parts."""
    name = f"mini{uuid.uuid4().hex[:8]}"
    made = Carrier(tmp_path_factory.mktemp("online"), name)
    try:
        made.make_images("1")
        made.setup()
        yield made
    finally:
        made.remove()


@pytest.fixture
def carried(carrier: Carrier, tmp_path: Path) -> Path:
    """The bundle on the other side."""
    target = tmp_path / "a drive" / "the bundle"
    shutil.copytree(carrier.bundle, target, ignore=shutil.ignore_patterns(".setup"))
    return target


@pytest.fixture
def host(carrier: Carrier, tmp_path: Path) -> Iterator[OfflineHost]:
    """An air-gapped host on which nothing was imported yet."""
    made = OfflineHost(tmp_path, carrier.name)
    try:
        yield made
    finally:
        made.remove()

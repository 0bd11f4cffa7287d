"""Stack tests need a Docker engine; on CI its absence is a failure. Ports are as shipped: one stack each."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from support.compose_checkout import Checkout
from support.compose_standins import make_stand_ins, remove_stand_ins
from support.compose_waiting import GATEWAY, leftovers


@pytest.fixture(scope="session", autouse=True)
def docker_engine() -> None:
    """Skips, or fails on CI, where no engine with compose v2 answers."""
    try:
        done = subprocess.run(["docker", "compose", "version"], capture_output=True, text=True)
        engine = subprocess.run(["docker", "info"], capture_output=True, text=True)
        problem = done.stderr or (engine.stderr if engine.returncode else "")
    except FileNotFoundError:
        problem = "docker is not installed"
    if problem:
        message = f"no Docker engine with compose v2: {problem.strip()}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="session")
def stand_ins(docker_engine: None) -> Iterator[None]:
    """Images of other people, where they cannot be pulled."""
    made = make_stand_ins()
    yield
    remove_stand_ins(made)


@pytest.fixture(scope="module")
def checkout(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A clone in which nothing was started; whatever the tests of a file start there is gone afterwards."""
    made = Checkout(tmp_path_factory.mktemp("clone") / "model-service")
    try:
        yield made
    finally:
        if leftovers():
            print(made.shell("docker compose logs --tail 60"))  # noqa: T201
            made.shell(
                "docker compose --profile '*' -f docker-compose.yml -f docker-compose.chatui.yml "
                "down -v --remove-orphans"
            )
    assert leftovers() == []


@pytest.fixture
def client() -> Iterator[openai.OpenAI]:
    """OpenAI's own client, which repeats nothing."""
    with openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def samples() -> Path:
    """The folder of the trained samples."""
    return Path(__file__).resolve().parents[2] / "samples"

"""Stack tests need a Docker engine; on CI its absence is a failure."""

import os
import subprocess

import pytest


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

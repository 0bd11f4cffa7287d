"""S3 servers as processes of their own: finding their programs, and running them until they answer."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3


def _program_of(name: str) -> str | None:
    """The program: MSP_{NAME}_BINARY, else on PATH, else where `go install` puts it."""
    candidates = (
        os.environ.get(f"MSP_{name.upper()}_BINARY"),
        shutil.which(name),
        Path.home() / "go/bin" / name,
    )
    return next((str(c) for c in candidates if c and Path(c).is_file()), None)


def required_program(name: str, module: str) -> str:
    """The program. Without it the test is skipped; in CI it fails."""
    program = _program_of(name)
    if program is not None:
        return program
    reason = f"no {name}: set MSP_{name.upper()}_BINARY, or go install {module}@latest"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], alive_url: str) -> Iterator[None]:
    """The server runs, and `alive_url` is answered with 200, until the block ends."""
    process = subprocess.Popen(
        command,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_alive(process, command[0], alive_url)
        yield
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_alive(process: "subprocess.Popen[bytes]", program: str, url: str) -> None:
    pause = threading.Event()
    with urllib3.PoolManager() as pool:
        for _ in range(300):
            if process.poll() is not None:
                raise RuntimeError(f"{program} ended at once with code {process.returncode}")
            try:
                if pool.request("GET", url, retries=False, timeout=2).status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                pass
            pause.wait(0.1)
    raise RuntimeError(f"{program} did not become ready")

"""Programs that a benchmark starts and ends."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def program(
    command: list[str], environment: dict[str, str], health: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is up once `health` answers at all."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=os.environ | environment, stdout=quiet, stderr=quiet)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(health, timeout=1).close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait()


def pinned(command: list[str], core: int) -> list[str]:
    """The command on one core."""
    return ["taskset", "-c", str(core), *command]


def until_ready(url: str, limit_s: float = 120.0) -> None:
    """Wait for a 200."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except (urllib.error.HTTPError, OSError):
            time.sleep(0.1)
    raise SystemExit(f"{url} did not become ready")

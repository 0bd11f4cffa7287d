"""The program itself, as a process: the watch stream over a real socket, and a clean end."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.service_registry_fakes import lease


@pytest.fixture
def port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def program(port: int, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environ = {**os.environ, "SERVICE_REGISTRY_HOST": "127.0.0.1", "SERVICE_REGISTRY_PORT": str(port)}
    with subprocess.Popen(
        [sys.executable, "-m", "msp_service_registry"],
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "startup complete" in line.lower():
                break
        yield process
        process.kill()


def test_the_watch_stream_tells_of_a_new_worker_and_sigterm_ends_the_program(
    program: subprocess.Popen[str], port: int
) -> None:
    base = f"http://127.0.0.1:{port}"
    with urllib.request.urlopen(f"{base}/workers/watch", timeout=10) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")

        def next_snapshot() -> list[str]:
            while not (line := stream.readline()).startswith(b"data: "):
                assert line
            return [w["id"] for w in json.loads(line[6:])["workers"]]

        assert next_snapshot() == []
        put = urllib.request.Request(
            f"{base}/workers/llm",
            data=lease().model_dump_json().encode(),
            method="PUT",
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(put, timeout=10) as answer:
            assert answer.status == 200
        assert next_snapshot() == ["llm"]
        program.send_signal(signal.SIGTERM)
        assert program.wait(timeout=10) == 0

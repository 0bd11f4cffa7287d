"""The whole platform as real processes on free ports, started the way an operator starts it: `msp up`."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED_CLUSTER = REPOSITORY / "samples/cluster.yaml"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; held together, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def eventually(what: str, holds: Callable[[], bool], timeout_s: float) -> float:
    """Ask until it holds; returns the seconds that took. Processes have no event that a test could await."""
    started = time.monotonic()
    while not holds():
        if time.monotonic() - started > timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - started


@dataclass
class Platform:
    """The shipped sample cluster with other ports."""

    run_dir: Path
    ports: dict[int, int] = field(default_factory=dict)
    """Port in the shipped file → port here."""

    def __post_init__(self) -> None:
        text = SHIPPED_CLUSTER.read_text().replace("${here}", str(SHIPPED_CLUSTER.parent))
        shipped = sorted({int(port) for port in re.findall(r"\b8[0-9]{3}\b", text)})
        self.ports = dict(zip(shipped, free_ports(len(shipped)), strict=True))
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.cluster = self.run_dir / "cluster.yaml"
        self.cluster.write_text(re.sub(r"\b8[0-9]{3}\b", lambda m: str(self.ports[int(m[0])]), text))

    def url(self, shipped_port: int) -> str:
        """Where the program answers that has this port in the shipped file."""
        return f"http://127.0.0.1:{self.ports[shipped_port]}"

    def msp(self, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run the operator's tool on this platform."""
        command = [sys.executable, "-m", "msp_cli", *arguments, "--run-dir", str(self.run_dir)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, cwd=REPOSITORY, env=dict(os.environ)
        )

    def up(self) -> None:
        """Start all, and wait until all is healthy."""
        done = self.msp("up", "--cluster", str(self.cluster), "--detach")
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> None:
        """Stop all."""
        done = self.msp("down")
        assert done.returncode == 0, done.stdout + done.stderr

    def pid(self, name: str) -> int:
        """The process of one service."""
        services: dict[str, Any] = json.loads((self.run_dir / "state.json").read_text())["services"]
        pid: int = services[name]["process"]["pid"]
        return pid

    def kill(self, name: str) -> None:
        """End one service without warning."""
        os.kill(self.pid(name), signal.SIGKILL)

    def worker_status(self, shipped_port: int) -> str:
        """What `/services` of the gateway says of the worker with this port."""
        services = httpx.get(f"{self.url(8080)}/services").json()["services"]
        port = self.ports[shipped_port]
        workers = [s for s in services if s["kind"] == "worker" and str(port) in (s["url"] or "")]
        return str(workers[0]["status"]) if workers else "not listed"

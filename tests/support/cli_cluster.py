"""A folder with a cluster of stand-ins in it, and `msp` run on it as a real process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

SUPPORT = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class ClusterFolder:
    """Writes the file, runs commands, and tells what lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "cluster.yaml"
        self.notes = folder / "notes"
        self.ports: dict[str, int] = {}
        self.described: dict[str, Any] = {"stop_grace_s": 10, "start_timeout_s": 60, "services": {}}

    def add(self, name: str, *, after: list[str] | None = None, **env: str) -> None:
        self.ports[name] = free_port()
        self.described["services"][name] = {
            "module": "cli_standin",
            "port": self.ports[name],
            "env": {"PYTHONPATH": str(SUPPORT), "STANDIN_NOTES": str(self.notes), **env},
            "after": after or [],
        }
        self.write()

    def write(self) -> None:
        self.file.write_text(yaml.safe_dump(self.described))

    def msp(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            self._command(arguments), capture_output=True, text=True, timeout=60, env=self._environ()
        )
        output = done.stdout + done.stderr
        assert done.returncode == code, output
        return output

    def begin(self, *arguments: str) -> "Foreground":
        return Foreground(
            subprocess.Popen(
                self._command(arguments),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=self._environ(),
            )
        )

    def up(self, *, code: int = 0) -> str:
        return self.msp("up", "--cluster", str(self.file), "--detach", code=code)

    def started(self) -> list[str]:
        """The services' ports in the order of their starts."""
        lines = [json.loads(line) for line in self.notes.read_text().splitlines()]
        names = {str(port): name for name, port in self.ports.items()}
        return [names[line["started"]] for line in lines if "started" in line]

    def pids(self) -> dict[str, int]:
        state = json.loads((self.folder / "run" / "state.json").read_text())
        return {name: service["process"]["pid"] for name, service in state["services"].items()}

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "msp_cli", *arguments]

    def _environ(self) -> dict[str, str]:
        # find_spec looks for the stand-in in the environment of msp itself, as an installed module would be.
        return {
            **os.environ,
            "MSP_RUN_DIR": str(self.folder / "run"),
            "PYTHONPATH": str(SUPPORT),
            "COLUMNS": "200",
        }


class Foreground:
    """An `msp` that stays; its output is read as it comes."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.seen = ""

    def read_until(self, text: str) -> None:
        assert self.process.stdout is not None
        while text not in self.seen:
            line = self.process.stdout.readline()
            assert line, f"msp ended before it said {text!r}:\n{self.seen}"
            self.seen += line

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        """Read the rest; returns the exit code."""
        assert self.process.stdout is not None
        with self.process.stdout as rest:
            self.seen += rest.read()
        return self.process.wait(timeout=30)


def runs(pid: int) -> bool:
    """Whether a process lives (one that waits to be reaped does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat[stat.rindex(")") + 2] not in "ZX"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while runs(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.01)


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0

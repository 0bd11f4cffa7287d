"""A real Prometheus, and its `promtool`: Debian's, or those that two variables name."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from support.platform_processes import eventually, free_ports

PATIENCE_S = 60


def program(name: str) -> str:
    """Path of `prometheus` or `promtool`: what MSP_..._BINARY says, else what PATH has."""
    found = os.environ.get(f"MSP_{name.upper()}_BINARY") or shutil.which(name)
    assert found, f"{name} is missing: .ci/provision.sh brings it, or apt-get install prometheus"
    return found


def promtool(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run it; what it says of errors may be on either stream."""
    return subprocess.run(
        [program("promtool"), *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=120
    )


@dataclass(frozen=True)
class Prometheus:
    """One that runs, as its HTTP API shows it."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an instant query brings. Raises AssertionError with what Prometheus says against it."""
        return self._result("query", query=expression)

    def query_range(self, expression: str, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """The series that a panel would draw."""
        return self._result("query_range", query=expression, start=start, end=end, step=step_s)

    def targets(self) -> list[dict[str, Any]]:
        """The active targets."""
        found: list[dict[str, Any]] = self._get("targets", state="active")["activeTargets"]
        return found

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        alerts = self._get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def _result(self, endpoint: str, **parameters: str | float) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self._get(endpoint, **parameters)["result"]
        return result

    def _get(self, endpoint: str, **parameters: str | float) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{endpoint}", params=parameters, timeout=30, trust_env=False)
        told = answer.json()
        assert told["status"] == "success", f"{parameters}: {told.get('error')}"
        return told["data"]


@contextmanager
def running_prometheus(folder: Path, shipped: Path, changes: dict[str, str]) -> Iterator[Prometheus]:
    """Prometheus with the files of `shipped`, its data in `folder`.

    `changes` says what is written otherwise in prometheus.yml: every key must be there. Its own address
    is changed besides.
    """
    (port,) = free_ports(1)
    config = folder / "prometheus"
    shutil.copytree(shipped, config, ignore=shutil.ignore_patterns("grafana"))
    text = (config / "prometheus.yml").read_text()
    for old, new in {"127.0.0.1:9090": f"127.0.0.1:{port}", **changes}.items():
        assert old in text, f"prometheus.yml has no {old}"
        text = re.sub(re.escape(old), new, text)
    (config / "prometheus.yml").write_text(text)
    log = folder / "prometheus.log"
    command = [
        program("prometheus"),
        f"--config.file={config / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus-data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with log.open("wb") as told:
        process = subprocess.Popen(command, stdout=told, stderr=told)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually("Prometheus is ready", lambda: _ready(process, url, log), PATIENCE_S)
        yield Prometheus(url)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _ready(process: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-2000:]
    try:
        return httpx.get(f"{url}/-/ready", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False

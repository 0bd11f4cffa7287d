"""Stock hub clients in processes of their own, as somebody would use them behind an air gap."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.hub_facade import Facade, RequestLog
from support.locked_environments import python_with
from support.registry_files import CARD, safetensors

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venv-hub"
SCRIPTS = ROOT / "tests" / "hub_clients"

AIRGAP = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",
    "HF_HUB_DOWNLOAD_TIMEOUT": "120",
}
"""What we tell users to set besides HF_ENDPOINT."""

OLD = ("0.36", "1.8")
CURRENT = "2.4"
"""The client's version in the development environment."""

TINY = {
    "README.md": CARD,
    "config.json": b'{"model_type": "tiny"}',
    "model.safetensors": safetensors(1000),
    "empty.txt": b"",
    "sub/a b+ü.txt": b"odd",
    "sub/deeper/vocab.json": b"{}",
}
"""Files of `org/tiny`."""

MANY_FILES = 1500
"""In `org/many`: more than a page of a tree holds."""


def python_of(version: str) -> Path:
    """The Python that has a client's version. Raises NoEnvironment."""
    return Path(sys.executable) if version == CURRENT else old_client(version)


def old_client(version: str) -> Path:
    """The Python of an environment with `requirements/hub-client-{version}.txt`. Raises NoEnvironment."""
    return python_with(ROOT / "requirements" / f"hub-client-{version}.txt", ENVIRONMENTS)


@dataclass(frozen=True)
class Client:
    """One generation of clients, pointed at a registry; everything it writes is below `home`."""

    version: str
    python: Path
    endpoint: str
    home: Path

    def run(self, *command: str | Path, token: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program of the client's environment; it may reach nothing but the registry."""
        program = self.python.with_name(str(command[0]))
        return subprocess.run(
            [program, *command[1:]], env=self.environment(token), capture_output=True, text=True, timeout=180
        )

    def call(self, script: str, *arguments: str) -> dict[str, Any]:
        """What a script of `tests/hub_clients` prints as JSON on its last line."""
        ended = self.run("python", SCRIPTS / script, *arguments)
        assert ended.returncode == 0, ended.stderr[-3000:]
        answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return answer

    def strayed(self) -> list[str]:
        """What it tried to reach besides the registry."""
        log = self.home / "airgap.log"
        return log.read_text().splitlines() if log.exists() else []

    def environment(self, token: str | None = None) -> dict[str, str]:
        """Nothing of this process's own, so that no setting of a developer's makes a test pass."""
        return {
            **AIRGAP,
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.home / "hf"),
            "HOME": str(self.home),
            "AIRGAP_LOG": str(self.home / "airgap.log"),
            "PYTHONPATH": f"{SCRIPTS / 'airgap'}:{ROOT / 'tests'}",
            "PATH": os.defpath,
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            **({"HF_TOKEN": token} if token else {}),
        }


@dataclass(frozen=True)
class Served:
    """A client, and the registry that it talks to."""

    client: Client
    facade: Facade

    @property
    def log(self) -> RequestLog:
        """What the registry was asked."""
        return self.facade.log

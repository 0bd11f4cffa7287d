"""A compose project of the real files in a real Docker engine."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


class ComposeFailed(AssertionError):
    """A compose command ended with an error; carries what it printed."""


@dataclass
class ComposeStack:
    """Runs `docker compose` on the repository's files with settings of its own instead of `.env`."""

    files: tuple[str, ...]
    settings: Mapping[str, str]
    env_file: Path
    ran: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.env_file.write_text("".join(f"{k}={v}\n" for k, v in self.settings.items()))

    def run(self, *arguments: str, timeout_s: float = 900) -> str:
        """The command's standard output. Raises ComposeFailed."""
        command = ["docker", "compose", "--env-file", str(self.env_file)]
        command += [part for file in self.files for part in ("-f", file)]
        # Settings come from the file alone: a variable of the caller's environment would win over it.
        environment = {k: v for k, v in os.environ.items() if k not in self.settings}
        done = subprocess.run(
            [*command, *arguments],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        self.ran.append(" ".join(arguments))
        if done.returncode != 0:
            raise ComposeFailed(f"docker compose {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def config(self) -> dict[str, Any]:
        """The files as compose understands them, merged and filled in."""
        parsed: dict[str, Any] = json.loads(self.run("config", "--format", "json"))
        return parsed

    def leftovers(self, project: str) -> list[str]:
        """Containers, volumes and networks that carry the project's label."""
        found = []
        for kind in ("container", "volume", "network"):
            listing = ["docker", kind, "ls", "-q", "--filter", f"label=com.docker.compose.project={project}"]
            if kind == "container":
                listing.insert(3, "-a")
            found += subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
        return found

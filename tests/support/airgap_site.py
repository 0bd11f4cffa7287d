"""Both sides of an air gap with the real images: an engine beside a hub, and one that has nothing."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from support.bundle_host import COREUTILS
from support.sample_hub import SAMPLES, sample_hub
from support.second_engine import SecondEngine
from support.servers import free_port
from support.timed_run import TimedRun, timed_run

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = "model-service-platform"
"""On the offline side: its engine has nothing else."""
GATEWAY_PORT = 8080
KEPT_FOR_A_DELTA = ("bundle.json", "images.lock", "models.lock", "files.lock")
_PROFILES = "multimodal,transcription"
_LIMIT_S = 1500
T = TypeVar("T")


@dataclass
class OnlineSide:
    """Setup on the first engine, beside whatever else runs there: project and addresses are its own."""

    place: Path
    name: str
    images: str = ""
    """The prefix of images that are taken as they are; without one, setup builds them."""
    hub_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.env_file = self.place / "online.env"
        self.models_file = self.place / "models.yaml"
        self.models_file.write_text("models:\n" + "".join(f"  - id: {model}\n" for model in SAMPLES))
        init = [str(REPOSITORY / "scripts/init-env.sh"), "--file", str(self.env_file)]
        subprocess.run(init, check=True, capture_output=True)
        # Of two settings with one name the last one holds.
        with self.env_file.open("a") as file:
            file.writelines(f"{key}={value}\n" for key, value in self._settings().items())

    def make_bundle(self, out: Path, *options: str, moved: str | None = None) -> TimedRun:
        """Runs the real script; `moved` is the model of which `main` has moved on the hub meanwhile."""
        command = [str(REPOSITORY / "scripts/offline-setup.sh"), "--out", str(out)]
        command += ["--env-file", str(self.env_file), "--models", str(self.models_file), *options]
        if self.images:
            command.append("--no-build")
        with sample_hub(self.hub_port, moved):
            return timed_run(f"setup {out.name}", command, self._environment(), limit_s=_LIMIT_S)

    def remove(self) -> None:
        """Containers, volumes and networks of this side; images stay, since others use them."""
        down = ["docker", "compose", "--project-name", self.name, "down", "--volumes", "--timeout", "5"]
        subprocess.run(down, env=self._environment(), check=True, capture_output=True)

    def _settings(self) -> dict[str, str]:
        # Another loopback address, so that the published ports are free whatever runs on 127.0.0.1.
        number = os.getpid()
        return {
            "BIND_ADDRESS": f"127.77.{number // 250 % 250}.{number % 250 + 1}",
            "HF_ENDPOINT": f"http://{_address_for_containers()}:{self.hub_port}",
            "LLM_MODEL": "samples/chat",
            "EMBEDDING_MODEL": "samples/embedding",
            "MULTIMODAL_MODEL": "samples/vision",
            "TRANSCRIPTION_MODEL": "samples/whisper",
            "COMPOSE_PROFILES": _PROFILES,
            **({"MSP_IMAGE_PREFIX": self.images} if self.images else {}),
        }

    def _environment(self) -> dict[str, str]:
        # Compose lets the environment win over the file of settings.
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME") or k.startswith("DOCKER_")}
        return {**kept, "COMPOSE_PROJECT_NAME": self.name}


@dataclass(frozen=True)
class Carried:
    """One bundle's way across."""

    setup: TimedRun
    imported: TimedRun
    page: dict[str, Any]
    """Its bundle.json."""
    commits: dict[str, str]
    """Afterwards: model → the commit that its worker serves."""
    started: dict[str, str]
    """Afterwards: service → when its container was started."""


@dataclass
class AirgapSite:
    """The other side: what was imported runs here, and nothing of the first engine is known."""

    engine: SecondEngine
    place: Path
    base_url: str = ""
    """The gateway, as this process reaches it."""
    carried: list[Carried] = field(default_factory=list)
    project: str = PROJECT

    def __post_init__(self) -> None:
        self.home = self.place / "home"
        self.models = list(SAMPLES)
        self._programs = self.place / "programs"
        self._programs.mkdir()
        for program in (*COREUTILS, "bash", "docker", "ssh-keygen"):
            found = shutil.which(program)
            assert found, program
            (self._programs / program).symlink_to(found)

    def import_bundle(self, bundle: Path) -> TimedRun:
        """Runs the real script out of the bundle, in the namespace, with bash, coreutils and docker alone."""
        script = [shutil.which("bash") or "bash", str(bundle / "scripts/offline-import.sh")]
        command = self.engine.inside([*script, "--home", str(self.home), "--timeout", "600"])
        return timed_run(f"import {bundle.name}", command, self.environment(), limit_s=_LIMIT_S)

    def take_in(self, online: OnlineSide, bundle: Path, *options: str, moved: str | None = None) -> Carried:
        """Makes a bundle on the other side, carries it here, and imports it."""
        setup = online.make_bundle(bundle, *options, moved=moved)
        drive = carry(bundle, bundle.with_name(f"drive-{bundle.name}"))
        imported = self.import_bundle(drive)
        page = json.loads((bundle / "bundle.json").read_text())
        # As where the drive is taken away.
        shutil.rmtree(drive)
        self.carried.append(Carried(setup, imported, page, self.commits(), self.started()))
        return self.carried[-1]

    def environment(self) -> dict[str, str]:
        """Of programs on this side."""
        kept = {k: v for k, v in self.engine.environment().items() if k.startswith("DOCKER_") or k == "HOME"}
        # The first word is looked up here, the script's own words in the folder of few programs.
        return {**kept, "PATH": f"{self._programs}"}

    def compose(self, *arguments: str) -> str:
        """Standard output of the command for everyday that the import left behind."""
        done = subprocess.run(
            ["bash", str(self.home / "compose"), *arguments],
            env={**self.engine.environment()},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"compose {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def setting(self, name: str) -> str:
        """A setting that the import made for this side, such as a secret."""
        lines = (self.home / ".env").read_text().splitlines()
        return dict(line.partition("=")[::2] for line in lines if "=" in line)[name]

    def commits(self) -> dict[str, str]:
        """Model → the commit that its worker serves, as the gateway tells."""
        with self.engine.forwarded_port(GATEWAY_PORT) as port:
            services = httpx.get(f"http://127.0.0.1:{port}/services", timeout=30).json()["services"]
        return {s["model"]["id"]: s["model"]["commit"] for s in services if s["kind"] == "worker"}

    def started(self) -> dict[str, str]:
        """Service → when its container was started."""
        template = '{{index .Config.Labels "com.docker.compose.service"}} {{.State.StartedAt}}'
        containers = self.compose("ps", "-q").split()
        lines = self.engine.docker("inspect", "--format", template, *containers).splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}

    def clients_talk(self, talk: Callable[[str], T]) -> T:
        """What `talk` gives when it is told where the gateway is."""
        return talk(self.base_url)


def carry(bundle: Path, drive: Path) -> Path:
    """The bundle on a drive, without the notes of the online side. Takes no room: the files are shared."""
    shutil.copytree(bundle, drive, ignore=shutil.ignore_patterns(".setup"), copy_function=os.link)
    return drive


def keep_what_a_delta_needs(bundle: Path, place: Path) -> Path:
    """The bundle.json for `--since`, after the bundle itself is gone."""
    place.mkdir()
    for name in KEPT_FOR_A_DELTA:
        shutil.copy(bundle / name, place / name)
    return place / "bundle.json"


@contextmanager
def online_side(place: Path, name: str, images: str = "") -> Iterator[OnlineSide]:
    """A side that is removed at the end."""
    made = OnlineSide(place, name, images)
    try:
        yield made
    finally:
        made.remove()


def _address_for_containers() -> str:
    """An address of this machine that containers of the first engine reach."""
    template = "{{(index .IPAM.Config 0).Gateway}}"
    command = ["docker", "network", "inspect", "bridge", "--format", template]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    socket.inet_aton(found)
    return found

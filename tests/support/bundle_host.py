"""Both sides of an air gap for the bundle's scripts: one Docker engine, two compose projects."""

import os
import shutil
import subprocess
from pathlib import Path

from support import mini_platform

COREUTILS = (
    "basename", "cat", "chmod", "cp", "cut", "dd", "df", "dirname", "du", "echo", "env", "expr",
    "false", "head", "id", "install", "ln", "ls", "mkdir", "mktemp", "mv", "numfmt", "od", "printf",
    "pwd", "readlink", "realpath", "rm", "rmdir", "seq", "sha256sum", "sleep", "sort", "split",
    "stat", "stdbuf", "sync", "tail", "tee", "test", "touch", "tr", "true", "truncate", "uname",
    "uniq", "wc",
)  # fmt: skip

SYNC_THAT_KILLS = """#!/bin/sh
# Ends the whole run, as a power cut would, right after a step was written down.
{sync} "$@" || exit
left=$(($(cat {counter}) - 1))
echo "$left" >{counter}
[ "$left" -ne 0 ] || kill -9 0
"""


DOCKER_THAT_KILLS = """#!/bin/sh
# Ends the whole run at one of its steps, with nothing written down of it.
left=$(($(cat {counter}) - 1))
echo "$left" >{counter}
[ "$left" -ne 0 ] || kill -9 0
exec {docker} "$@"
"""


class Carrier:
    """The online side."""

    def __init__(self, place: Path, name: str) -> None:
        self.name = name
        self.place = place
        self.bundle = place / "bundle"
        self.repository = mini_platform.make_repository(place / "repository", f"{name}-online", name)

    def make_images(self, generation: str, *names: str) -> None:
        """The images that setup finds here."""
        mini_platform.make_images(self.name, generation, names or ("registry", "gateway", "cli"))

    def setup(
        self, *options: str, out: Path | None = None, check: bool = True, path: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs the real script."""
        command = [
            str(self.repository / "scripts/offline-setup.sh"),
            "--no-build",
            "--part-size",
            "200K",
            "--out",
            str(out or self.bundle),
        ]
        return _run([*command, *options], {**os.environ, "PATH": path or os.environ["PATH"]}, check)

    def restore_images(self) -> None:
        """The same images again, after an air-gapped host on the same engine forgot them."""
        parts = sorted((self.bundle / "images").glob("*.tar*"))
        for name in sorted({part.name.split(".tar")[0] for part in parts}):
            tar = b"".join(part.read_bytes() for part in parts if part.name.startswith(f"{name}.tar"))
            subprocess.run(["docker", "load"], input=tar, check=True, capture_output=True)

    def remove(self) -> None:
        """Containers, volumes and images of this test."""
        _remove_project(f"{self.name}-online")
        _remove_images(self.name)


class OfflineHost:
    """An air-gapped host: its PATH has coreutils, bash and docker, nothing else."""

    def __init__(self, place: Path, name: str) -> None:
        self.home = place / "home"
        self.name = name
        self._project = f"{name}-offline"
        self._programs = place / "programs"
        self._programs.mkdir()
        for program in (*COREUTILS, "bash", "docker", "ssh-keygen"):
            found = shutil.which(program)
            assert found, program
            (self._programs / program).symlink_to(found)
        self.forget_images()

    def forget_images(self) -> None:
        """As on a host that never saw them."""
        _remove_project(self._project)
        _remove_images(self.name)

    def run(self, bundle: Path, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs the real script out of the bundle."""
        script = bundle / "scripts/offline-import.sh"
        command = ["bash", str(script), "--home", str(self.home), "--timeout", "120", *options]
        return _run(command, self._environment(), check)

    def kill_after(self, steps: int, place: Path) -> None:
        """From now on a run dies after it wrote down so many steps."""
        counter = place / "counter"
        counter.write_text(str(steps))
        sync = self._programs / "sync"
        sync.unlink()
        sync.write_text(SYNC_THAT_KILLS.format(sync=shutil.which("sync"), counter=counter))
        sync.chmod(0o755)

    def kill_before_docker(self, call: int, place: Path) -> None:
        """From now on a run dies when it calls docker for so many times."""
        counter = place / "counter"
        counter.write_text(str(call))
        docker = self._programs / "docker"
        docker.unlink()
        docker.write_text(DOCKER_THAT_KILLS.format(docker=shutil.which("docker"), counter=counter))
        docker.chmod(0o755)

    def page(self) -> str:
        """What the gateway of the running stack says."""
        return self._inside("gateway", "wget", "-q", "-O-", "http://127.0.0.1:8080/")

    def stored(self) -> set[str]:
        """What the store holds."""
        return set(self._inside("registry", "ls", "/data").split())

    def in_store(self, name: str) -> str:
        """One entry of the store."""
        return self._inside("registry", "cat", f"/data/{name}").strip()

    def lose(self, name: str) -> None:
        """Takes an entry out of the store."""
        self._inside("registry", "rm", f"/data/{name}")

    def setting(self, name: str) -> str:
        """A variable in the registry's container."""
        return self._inside("registry", "sh", "-c", f"echo ${name}").strip()

    def containers(self) -> set[str]:
        """Ids of what runs."""
        listing = ["docker", "ps", "-q", "--filter", f"label=com.docker.compose.project={self._project}"]
        return set(subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split())

    def started(self, service: str) -> str:
        """When a service's container was started."""
        inspecting = ["docker", "inspect", "--format", "{{.State.StartedAt}}", f"{self._project}-{service}-1"]
        return subprocess.run(inspecting, capture_output=True, text=True, check=True).stdout.strip()

    def remove(self) -> None:
        """Containers and volumes of this test."""
        _remove_project(self._project)

    def _inside(self, service: str, *command: str) -> str:
        done = _run(["docker", "exec", f"{self._project}-{service}-1", *command], dict(os.environ), True)
        return done.stdout

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k.startswith("DOCKER_")}
        return {**kept, "PATH": str(self._programs), "COMPOSE_PROJECT_NAME": self._project, "HOME": "/root"}


def _run(command: list[str], environment: dict[str, str], check: bool) -> subprocess.CompletedProcess[str]:
    # A group of its own, so that a kill takes the whole run and nothing else.
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, start_new_session=True, timeout=300
    )
    if check:
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done


def _remove_project(project: str) -> None:
    for kind, remove in (("container", ["rm", "-f"]), ("volume", ["rm"]), ("network", ["rm"])):
        listing = ["docker", kind, "ls", "-q", "--filter", f"label=com.docker.compose.project={project}"]
        if kind == "container":
            listing.insert(3, "-a")
        found = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
        if found:
            subprocess.run(["docker", kind, *remove, *found], capture_output=True, check=True)


def _remove_images(name: str) -> None:
    """All refs of a test's images, those that releases hold included; so the images go too."""
    listing = ["docker", "images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]
    lines = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines()
    pairs = [line.split() for line in lines]
    ours = {image for ref, image in pairs if ref.startswith(f"{name}/")}
    refs = [ref for ref, image in pairs if image in ours and "<none>" not in ref]
    held = [ref for ref, _ in pairs if ref.startswith("msp-held/")]
    refs += [ref for ref in held if ref not in refs and _is_of(ref, name)]
    if refs:
        subprocess.run(["docker", "rmi", "-f", *refs], capture_output=True, check=True)


def _is_of(ref: str, name: str) -> bool:
    history = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{json .Config.Labels}}", ref],
        capture_output=True,
        text=True,
    )
    return f'"mini":"{name}"' in history.stdout

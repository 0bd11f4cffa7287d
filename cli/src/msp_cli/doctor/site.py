"""The installation that is examined, as doctor sees it: commands, files and HTTP answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msp_cli.plan.inventory import QUERY

# A pipe would hide that Docker could not be asked.
_INSPECT = (
    "ids=$(docker ps -aq --filter label=com.docker.compose.project) || exit; "
    '[ -z "$ids" ] || docker inspect $ids'
)

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "nvidia-smi": QUERY,
    "pci-vendors": ("sh", "-c", "cat /sys/bus/pci/devices/*/vendor"),
    "docker-info": ("docker", "info", "--format", "{{json .}}"),
    "compose-version": ("docker", "compose", "version", "--short"),
    "compose-config": ("docker", "compose", "-f", "docker-compose.yml", "config", "--format", "json"),
    "cluster-config": (
        "docker", "compose", "-f", "docker-compose.gpu-cluster.yml", "config", "--format", "json"
    ),
    "containers": ("sh", "-c", _INSPECT),
    "listening": ("ss", "-ltnpH"),
    "disks": ("df", "-Pk"),
    "clock": ("timedatectl", "show", "--property=NTPSynchronized", "--value"),
}  # fmt: skip
"""All that is run on the host, each without a change to anything. scripts/lib/host_facts.sh runs the same."""


@dataclass(frozen=True)
class Unknown:
    """What could not be found out."""

    why: str
    absent: bool = False
    """Whether the thing itself is not there: a program that is not installed, a file that does not exist."""


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Answer:
    """What was answered to a GET."""

    status: int
    body: str
    date: str | None = None
    """The `Date` header: the clock over there."""


@dataclass(frozen=True)
class PathFacts:
    """Who may do what with a file or folder."""

    mode: int
    uid: int
    is_folder: bool


@dataclass(frozen=True)
class Reached:
    """One attempt to reach the outside, from one place."""

    target: str
    through: bool
    detail: str


class Site(Protocol):
    """One installation. No method raises for what is missing or broken: that is what doctor is for."""

    def run(self, name: str) -> Ran | Unknown:
        """One of COMMANDS."""
        ...

    def read(self, path: str) -> str | Unknown:
        """A text file; relative to the installation's folder."""
        ...

    def stat(self, path: str) -> PathFacts | Unknown:
        """Who may do what with a path; relative to the installation's folder."""
        ...

    def get(self, url: str) -> Answer | Unknown:
        """The answer of a service, whatever its status; no proxy is asked."""
        ...

    def logs(self, containers: Sequence[str]) -> Mapping[str, str | Unknown]:
        """By container's name, the last lines that it wrote."""
        ...

    def probes(self, containers: Sequence[str], image: str | None) -> Mapping[str, list[Reached] | Unknown]:
        """What of the outside could be reached, from `host` and from the networks of running containers.

        `image` is one with Python, to try from.
        """
        ...

    def now(self) -> float:
        """Unix time here."""
        ...

"""What doctor knows of an installation. A fact that could not be had is an Unknown, with why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from msp_cli.doctor.site import PathFacts, Unknown
from msp_cli.plan.inventory import PlanGpu
from msp_common.contracts.gpus import GpuStats
from msp_common.contracts.jobs import JobList
from msp_common.contracts.models import ModelList
from msp_common.contracts.workers import Services

T = TypeVar("T")

LOOPBACK = ("127.", "::1", "localhost")
"""How addresses begin that nobody but this host reaches."""


@dataclass(frozen=True)
class Engine:
    """The Docker engine."""

    version: str
    runtimes: frozenset[str]
    root: str
    cgroup_driver: str
    has_cdi_gpus: bool
    default_runtime: str = "runc"


@dataclass(frozen=True)
class ComposeService:
    """One service of a compose configuration."""

    name: str
    environment: Mapping[str, str]
    device_ids: tuple[str, ...]
    runtime: str
    published: tuple[tuple[str, int], ...]
    """Address and port on the host."""


@dataclass(frozen=True)
class Compose:
    """A compose configuration with all variables filled in."""

    project: str
    services: Mapping[str, ComposeService]


@dataclass(frozen=True)
class Container:
    """One container of a compose project."""

    name: str
    service: str
    project: str
    image: str
    status: str
    """`running`, `restarting`, `exited`, `created`, ..."""
    exit_code: int
    health: str | None
    restarts: int
    config_files: str
    published: tuple[tuple[str, int], ...]
    environment: Mapping[str, str]
    oom_killed: bool = False
    networks: frozenset[str] = frozenset()

    @property
    def runs(self) -> bool:
        """Whether its process is there."""
        return self.status == "running"


@dataclass(frozen=True)
class Listener:
    """A TCP socket that waits for connections."""

    address: str
    port: int
    process: str | None


@dataclass(frozen=True)
class Disk:
    """A mounted file system."""

    mount: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class HealthAnswer:
    """What a program's /health says."""

    status: str
    reason: str | None
    parts: Mapping[str, tuple[str, str | None]]
    authentication: str | None = None


@dataclass(frozen=True)
class ChatUi:
    """One Chat UI, as it runs or as it would be started."""

    name: str
    image: str
    env: Mapping[str, str]


@dataclass(frozen=True)
class Facts:
    """All of it."""

    root: str
    gateway_url: str
    cluster_asked: bool
    gpus: list[PlanGpu] | Unknown
    has_nvidia_card: bool | Unknown
    engine: Engine | Unknown
    compose_version: str | Unknown
    standard: Compose | Unknown
    cluster: Compose | Unknown
    containers: list[Container] | Unknown
    listeners: list[Listener] | Unknown
    disks: list[Disk] | Unknown
    clock_synchronised: bool | Unknown
    clocks: Mapping[str, float | Unknown]
    """By service: how many seconds its clock is ahead of this one."""
    env: Mapping[str, str] | Unknown
    env_text: str
    env_path: PathFacts | Unknown
    example: Mapping[str, str] | Unknown
    """What .env.example explains."""
    paths: Mapping[str, PathFacts | Unknown]
    """Of files and folders that .env names, and that containers must be able to read."""
    ca_text: str | Unknown | None
    """Of EXTRA_CA_FILE; None where none is named."""
    gateway: HealthAnswer | Unknown
    services: Services | Unknown
    gpu_stats: GpuStats | Unknown
    registry: HealthAnswer | Unknown
    models: ModelList | Unknown
    jobs: JobList | Unknown
    chat_uis: list[ChatUi] | Unknown
    """Those that run; else the one that chatui.env is for; none where there is neither."""

    @property
    def ours(self) -> list[Container]:
        """The platform's own containers; none where Docker could not be asked."""
        if isinstance(self.containers, Unknown):
            return []
        projects = {c.project for c in (self.standard, self.cluster) if isinstance(c, Compose)}
        projects = projects or {"model-service-platform"}
        return [c for c in self.containers if c.project in projects]

    @property
    def in_cluster_mode(self) -> bool:
        """Whether the GPU cluster's compose file is what this installation uses."""
        return self.cluster_asked or any("gpu-cluster" in c.config_files for c in self.ours)

    @property
    def compose(self) -> Compose | Unknown:
        """The configuration that is in use."""
        return self.cluster if self.in_cluster_mode else self.standard

    @property
    def settings(self) -> Mapping[str, str]:
        """Those of .env; none where it cannot be read."""
        return {} if isinstance(self.env, Unknown) else self.env

    @property
    def runs(self) -> bool:
        """Whether anything of the platform is to be there: it has been started, with Docker or without."""
        return bool(self.ours) or not isinstance(self.gateway, Unknown)


def known(value: T | Unknown, default: T) -> T:
    """The value, or `default` where it is not known."""
    return default if isinstance(value, Unknown) else value

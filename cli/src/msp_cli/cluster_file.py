"""The YAML file that describes a cluster of local processes."""

import graphlib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from string import Template
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from msp_common.model_ids import parse_model_id
from msp_common.strict_yaml import Strict, Unreadable, mistake, read_yaml


class ClusterFileError(Exception):
    """The file cannot be used; one line per mistake."""


class Program(StrEnum):
    """The platform's own programs."""

    REGISTRY = "registry"
    SERVICE_REGISTRY = "service-registry"
    GATEWAY = "gateway"
    MODEL_SERVICE = "model-service"

    @property
    def module(self) -> str:
        """What `python -m` starts."""
        return f"msp_{self.value.replace('-', '_')}"

    @property
    def prefix(self) -> str:
        """What the names of its settings for host and port begin with."""
        return "WORKER" if self is Program.MODEL_SERVICE else self.value.replace("-", "_").upper()


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


EnvText = Annotated[str, BeforeValidator(_as_text)]
ModelId = Annotated[str, AfterValidator(parse_model_id)]
ServiceName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]


class ServiceSpec(Strict):
    """One process."""

    program: Program | None = None
    """Which of the platform's programs it is."""

    module: str | None = Field(default=None, pattern=r"^[A-Za-z_][\w.]*$")
    """A Python module to start instead, as `python -m MODULE`; it is told `HOST` and `PORT`."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = Field(ge=1, le=65535)
    """Port to listen on."""

    env: dict[str, EnvText] = {}
    """Further environment variables."""

    after: list[str] = []
    """Services that must be healthy before this one is started."""

    health: str = Field(default="/health", pattern=r"^/")
    """Path that answers 200 once the service can do its job."""

    @model_validator(mode="after")
    def _one_thing_to_start(self) -> Self:
        if (self.program is None) == (self.module is None):
            raise ValueError("give either program or module")
        return self

    @property
    def module_name(self) -> str:
        """What `python -m` starts."""
        return self.module or (self.program.module if self.program else "")

    @property
    def what(self) -> str:
        """A worker's model, else the program, for people."""
        return self.env.get("MODEL_NAME") or (self.program.value if self.program else self.module_name)

    @property
    def url(self) -> str:
        """Where this machine reaches it."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def health_url(self) -> str:
        """What is asked to know whether it is healthy."""
        return f"{self.url}{self.health}"

    def environment(self, name: str) -> dict[str, str]:
        """What the process is told: where to listen, for a worker who it is, and `env`."""
        prefix = f"{self.program.prefix}_" if self.program else ""
        told = {f"{prefix}HOST": self.host, f"{prefix}PORT": str(self.port)}
        if self.program is Program.MODEL_SERVICE:
            told |= {"WORKER_ID": name, "WORKER_URL": self.url}
        return {**told, **self.env}


class ModelSpec(Strict):
    """A model to bring into the registry."""

    folder: str
    """Folder to import, as the registry sees it."""

    revision: str = "main"
    """The name to import it under."""


class ExampleSpec(Strict):
    """A request that shows that everything works; it is sent once all is healthy."""

    service: str
    path: str = Field(pattern=r"^/")
    body: dict[str, Any]


class Cluster(Strict):
    """The whole file."""

    env: dict[str, EnvText] = {}
    """Environment variables of all services."""

    memory_needed_bytes: int = Field(default=0, ge=0)
    """Memory that must be available before anything is started."""

    start_timeout_s: float = Field(default=600, gt=0)
    """How long all services together may take until they are healthy."""

    stop_grace_s: float = Field(default=30, gt=0)
    """How long a service may take to end before it is killed."""

    services: dict[ServiceName, ServiceSpec] = Field(min_length=1)
    models: dict[ModelId, ModelSpec] = {}
    """Models to import through the registry's API, by id."""

    registry: str = "registry"
    """Name of the service through which `models` are imported."""

    example: ExampleSpec | None = None

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        known = set(self.services)
        for name, service in self.services.items():
            for other in service.after:
                if other not in known:
                    raise ValueError(f"services.{name}.after: there is no service {other!r}")
        if self.models and self.registry not in known:
            raise ValueError(f"models need a registry, and there is no service {self.registry!r}")
        if self.example and self.example.service not in known:
            raise ValueError(f"example.service: there is no service {self.example.service!r}")
        ports: dict[int, str] = {}
        for name, service in self.services.items():
            first = ports.setdefault(service.port, name)
            if first != name:
                raise ValueError(f"port {service.port} is given to both {first} and {name}")
        self.waves()
        return self

    def waves(self) -> dict[str, int]:
        """Service → the earliest wave in which it can start; stopped in reverse. Raises ValueError."""
        sorter = graphlib.TopologicalSorter({n: s.after for n, s in self.services.items()})
        try:
            sorter.prepare()
        except graphlib.CycleError as error:
            raise ValueError(f"services wait for each other: {' → '.join(error.args[1])}") from None
        waves: dict[str, int] = {}
        wave = 0
        while sorter.is_active():
            ready = sorter.get_ready()
            waves.update(dict.fromkeys(ready, wave))
            sorter.done(*ready)
            wave += 1
        return waves


def load(path: Path, run_dir: Path) -> Cluster:
    """Read the file; `${here}` in it is its own folder, `${run_dir}` the folder for what runs.

    Raises ClusterFileError.
    """
    try:
        raw = read_yaml(path)
    except Unreadable as error:
        raise ClusterFileError(str(error)) from None
    places = {"here": str(path.resolve().parent), "run_dir": str(run_dir.resolve())}
    try:
        return Cluster.model_validate(_filled(raw, places))
    except ValidationError as error:
        raise ClusterFileError("\n".join(f"{path}: {mistake(e)}" for e in error.errors())) from None
    except _UnknownPlaceholder as error:
        known = ", ".join(f"${{{name}}}" for name in places)
        raise ClusterFileError(f"{path}: {error.args[0]!r}: only {known} can be filled in") from None


class _UnknownPlaceholder(Exception):
    pass


def _filled(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        try:
            return Template(value).substitute(places)
        except (KeyError, ValueError):
            raise _UnknownPlaceholder(value) from None
    if isinstance(value, dict):
        return {key: _filled(item, places) for key, item in value.items()}
    return [_filled(item, places) for item in value] if isinstance(value, list) else value

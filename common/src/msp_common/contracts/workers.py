"""A worker's lease, the service registry's verdict on it, and the snapshot that the gateway routes by."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from msp_common.contracts.base import Contract
from msp_common.contracts.gpus import GpuReport
from msp_common.contracts.model_type import ModelType

HEARTBEAT_S = 2.0
"""How often a worker renews its lease; it does so at once when its state changes."""

LEASE_S = 10.0
"""How long a lease holds without renewal."""


class WorkerState(StrEnum):
    """What a worker says of itself."""

    STARTING = "starting"
    FETCHING = "fetching"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Verdict(StrEnum):
    """What the service registry makes of a worker: its own word, or `suspect` or `unhealthy` instead."""

    STARTING = "starting"
    FETCHING = "fetching"
    LOADING = "loading"
    READY = "ready"
    SUSPECT = "suspect"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    FAILED = "failed"

    @property
    def routable(self) -> bool:
        """Whether requests may be sent there. A suspect one is asked last."""
        return self in (Verdict.READY, Verdict.SUSPECT)


class ServedModel(Contract):
    """The one model that a worker serves."""

    id: str
    type: ModelType
    revision: str = "main"
    commit: str | None = None
    """40 hex digits; null until the registry has said which commit the revision means."""
    aliases: list[str] = []


class Capabilities(Contract):
    """What a worker can do with its model, for routing and for `/v1/models`."""

    paths: list[str] = []
    input_modalities: list[Literal["text", "image", "audio"]] = ["text"]
    context_length: int | None = None
    """Tokens of prompt and answer together."""
    tools: bool = False
    json_schema: bool = False
    logprobs: bool = False
    dimensions: int | None = None
    """Length of an embedding."""
    engine: str | None = None
    engine_note: str | None = None
    """Why another engine serves the model than one would expect: the fast one cannot, for one."""
    quantization: str | None = None
    """In how few bits the weights are held, and by which method: `bnb-4bit`, `gptq-4bit`, `fp8`; null where
    they are in full."""


class WorkerLoad(Contract):
    """How busy a worker is."""

    in_flight: int = 0
    queued: int = 0
    slots: int = 1
    tokens_per_s: float | None = None
    last_progress_age_s: float | None = None
    """Seconds since the engine last made a token (or a prefill chunk) while it had work; null when idle."""


class WorkerLease(Contract):
    """Body of `PUT /workers/{worker_id}`: all a worker says of itself, whole at every heartbeat."""

    url: str
    """What others reach the worker by, without a trailing slash."""
    host: str
    """The machine's name: GPUs are merged by host and UUID."""
    model: ServedModel
    state: WorkerState
    progress: float | None = Field(default=None, ge=0, le=1)
    reason: str | None = None
    """What the worker is doing, or why it failed."""
    capabilities: Capabilities = Capabilities()
    load: WorkerLoad = WorkerLoad()
    gpu: GpuReport = GpuReport()
    version: str
    started_at: float


class LeaseGranted(Contract):
    """Answer to a heartbeat."""

    lease_s: float
    heartbeat_s: float
    generation: int


class ExternalServer(Contract):
    """What the gateway must know of a server that is none of our workers, to ask it for a model."""

    served_as: str
    """The model's name there."""
    api_key_env: str | None = None
    """The environment variable that holds the server's key, at the service registry and the gateway alike:
    the key itself never crosses a border."""
    metrics_path: str | None = None
    """Where it tells Prometheus its metrics, if it does."""


class Worker(Contract):
    """One worker in a snapshot: its lease and the service registry's verdict on it."""

    id: str
    verdict: Verdict
    verdict_reason: str | None = None
    heartbeat_at: float
    """When the last heartbeat arrived, by the service registry's clock."""
    lease: WorkerLease
    external: ExternalServer | None = None
    """Null for a worker that registered itself."""


class Snapshot(Contract):
    """All known workers at one moment. `generation` grows with every change that routing could notice."""

    generation: int
    taken_at: float
    workers: list[Worker]


class ReportKind(StrEnum):
    """What the gateway saw of a worker."""

    OK = "ok"
    REFUSED = "refused"
    RESET = "reset"
    STALLED = "stalled"
    GARBAGE = "garbage"
    SERVER_ERROR = "server_error"

    @property
    def is_fault(self) -> bool:
        """Whether it counts against the worker's health."""
        return self is not ReportKind.OK


class WorkerReport(Contract):
    """Body of `POST /workers/{worker_id}/reports`."""

    kind: ReportKind
    detail: str | None = None
    request_id: str | None = None


class ServiceStatus(Contract):
    """One line of `GET /services`: a program of the platform, or a worker, and how it is."""

    name: str
    kind: Literal["gateway", "service-registry", "registry", "worker"]
    url: str | None = None
    status: str
    """`ok`, `degraded` or `down` for a service; the verdict for a worker."""
    reason: str | None = None
    progress: float | None = None
    model: ServedModel | None = None
    load: WorkerLoad | None = None
    gpu_uuids: list[str] | None = None
    heartbeat_age_s: float | None = None
    version: str | None = None


class Services(Contract):
    """Answer of `GET /services`."""

    services: list[ServiceStatus]

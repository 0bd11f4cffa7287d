"""What a worker is told, all by the environment."""

import hashlib
import re
import socket
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from msp_common.contracts.model_type import ModelType
from msp_common.model_ids import parse_model_id
from msp_common.settings import HttpUrl, Settings
from msp_model_service.audio.limits import AudioLimits
from msp_model_service.engines.external.server_plan import ServerPlan, read_command, read_environment
from msp_model_service.engines.lifecycle import (
    QUEUE_DEADLINE_S,
    CudaGraphs,
    EngineOptions,
    Quantization,
)

_CHAT_TYPES = (ModelType.LLM, ModelType.MULTIMODAL)
_OF_OWN_ENGINES = ("quantization",)
_OF_SLOT = ("max_running", "prefill_tokens", "queue_deadline_s", "kv_memory_fraction", "cuda_graphs")
_UNSAFE_IN_ID = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Identity:
    """What a worker is known by."""

    worker_id: str
    url: str
    host: str
    """The machine, by which the service registry merges GPUs."""


class WorkerSettings(Settings):
    """Settings of one worker. The defaults fit the compose files: a name and a type are enough."""

    model_config = SettingsConfigDict(env_prefix="", protected_namespaces=())
    # Narrow on purpose: base images and orchestrators set names of their own, such as GPU_DEVICE_ORDINAL.
    owned_prefixes: ClassVar[tuple[str, ...]] = (
        "MODEL_",
        "WORKER_",
        "WORKERS_",
        "ENGINE",
        "VERIFY_ON_",
        "GPU_MEMORY_",
        "EXPECTED_GPU_",
        "AUTO_DOWN",
        "AUDIO_",
        "QUANTI",
        "PREFILL_",
        "QUEUE_DEAD",
        "KV_MEMORY_",
        "MAX_RUNN",
        "CUDA_GR",
    )

    model_name: str
    """The model to serve, by its id in the registry: `org/name`."""

    model_type: ModelType
    """`llm`, `embedding`, `multimodal` or `transcription`; `vision` and `whisper` mean the last two."""

    model_revision: str = Field(default="main", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")
    """Branch, tag, channel or commit to serve."""

    model_aliases: tuple[str, ...] = ()
    """Other names that requests may use for the model, separated by commas."""

    engine: Literal["auto", "slot", "generate", "openai", "fake"] = "auto"
    """What runs the forward pass. `auto` takes the best that fits the type; `openai` is an external server
    that speaks OpenAI's wire (vLLM, SGLang, llama-server); `fake` is for tests."""

    engine_command: tuple[str, ...] = ()
    """With `openai`: the command line of the server to start, as one would type it or as a JSON list; no
    shell reads it. `{model_dir}`, `{model_name}`, `{host}` and `{port}` are filled in."""

    engine_url: HttpUrl | None = None
    """With `openai`: the server that runs already, instead of a command; then no weights are fetched."""

    engine_api_key: SecretStr | None = None
    """The key that the server wants, if it wants one."""

    engine_environment: dict[str, str] = {}
    """What a started server gets into its environment: `NAME=value OTHER='two words'`, or a JSON object. It
    inherits the worker's own, but for the worker's settings and what has the name of a secret."""

    engine_model_name: str | None = None
    """What the server calls the model, with the placeholders of ENGINE_COMMAND. Default: MODEL_NAME if the
    server lists it, else the only model that it lists."""

    engine_ready_path: str = Field(default="/health", pattern=r"^/")
    """Path that answers 200 once the server is ready, and no longer when it is broken."""

    engine_base_path: str = Field(default="/v1", pattern=r"^(/[^?#]*[^/?#])?$")
    """What stands before `/chat/completions` in the server's paths."""

    engine_start_timeout_s: float = Field(default=900, gt=0)
    """How long the server may take until it is ready."""

    engine_slots: int = Field(default=32, ge=1)
    """Requests that the server works on at once, for the worker's load; MAX_QUEUED more are passed on too."""

    engine_context_length: int | None = Field(default=None, ge=1)
    """Tokens of the server's context, where it does not say so itself in `/models`."""

    engine_features: tuple[Literal["tools", "json_schema", "logprobs"], ...] = ()
    """What the server can do beyond plain answers, separated by commas; shown by `/v1/models`."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs. `auto` takes a GPU if one is seen, else the CPU."""

    registry_url: HttpUrl = "http://registry:8090"
    """Where the model's files come from."""

    service_registry_url: HttpUrl = "http://service-registry:8081"
    """Where the worker registers itself."""

    worker_url: HttpUrl | None = None
    """What others reach this worker by; default `http://HOSTNAME:WORKER_PORT`."""

    worker_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    """The worker's name in the cluster; default made of host name, port and model: a restart keeps it."""

    worker_host: str = "0.0.0.0"
    """Address to listen on."""

    worker_port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""

    extra_port: int | None = Field(default=None, ge=1, le=65535)
    """A second port to listen on, such as the one that is published on the host."""

    worker_grace_s: float = Field(default=20, gt=0)
    """How long requests that run may take to finish after SIGTERM; less than the container's own grace."""

    machine_name: str | None = None
    """The machine this worker runs on, for merging what several workers say of one GPU; default HOSTNAME."""

    model_cache_dir: str = Field(default="/cache", pattern=r"^/")
    """Folder for fetched models, shared by the workers of a host; an absolute path."""

    verify_on_load: Literal["full", "size", "off"] = "full"
    """What is checked of files already in the cache: SHA-256 of all bytes, sizes only, or nothing."""

    model_cache_limit_bytes: int | None = Field(default=None, ge=0)
    """Most bytes that the cache may hold; snapshots that no worker uses are then deleted, those unused
    longest first. Unset: no limit, and they are deleted when the disk is full."""

    auto_download: bool = False
    """Ask the registry, once per start, to download the model when it does not hold it."""

    gpu_memory_fraction: float = Field(default=0.9, gt=0, le=1)
    """Share of the GPU's memory that this worker may take."""

    expected_gpu_uuid: str | None = None
    """UUID of the GPU that this worker is pinned to; it refuses to run on another one."""

    cuda_visible_devices: str | None = None
    """GPUs that CUDA shows to this process, by index (PCI order) or UUID; for hosts without containers."""

    threads: int | None = Field(default=None, ge=1)
    """CPU threads of the engine; default the CPU quota divided by WORKERS_PER_HOST. Never above the quota."""

    workers_per_host: int = Field(default=1, ge=1)
    """Workers that share the CPUs counted for THREADS, and the main memory counted for KV_MEMORY_FRACTION."""

    quantization: Quantization = "none"
    """For `llm` and `multimodal`: `bnb-8bit` and `bnb-4bit` hold the weights in 8 or 4 bits, made so by
    bitsandbytes while they are loaded, in half or a third of the memory; answers get a little worse. What is
    stored quantised is served as it is, without this."""

    cluster_token: SecretStr | None = None
    """Shared secret of the cluster; sent with the lease, and when the registry is asked for a download."""

    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    """Largest request body; longer ones are answered 413."""

    max_queued: int = Field(default=64, ge=0)
    """Requests that may wait for the engine; one more is answered 429."""

    max_running: int | None = Field(default=None, ge=1, le=1024)
    """With the `slot` engine: requests that are answered at the same time; more wait. Default 32 on a CPU, 64
    on a GPU; fewer where the memory for keys and values does not suffice."""

    prefill_tokens: int | None = Field(default=None, ge=16, le=1_048_576)
    """With the `slot` engine: tokens of new prompts that are read between two tokens of the answers that are
    being written. More: new requests begin sooner, running answers stutter. Default 256 on a CPU, 2048 on a
    GPU."""

    queue_deadline_s: float = Field(default=QUEUE_DEADLINE_S, gt=0, le=86_400)
    """With the `slot` engine: longest that a request may wait for its turn; then it is answered 503."""

    kv_memory_fraction: float | None = Field(default=None, gt=0, le=0.95)
    """With the `slot` engine: share of the free memory that keys and values may take, which bounds how many
    requests of which length run at once. On a CPU: of the main memory that is free once the weights are
    loaded, within the control group's limit, divided by WORKERS_PER_HOST; default 0.3. On a GPU: of what is
    left within GPU_MEMORY_FRACTION; default 0.8."""

    cuda_graphs: CudaGraphs = "off"
    """With the `slot` engine on a GPU: `auto` records the step that makes the next tokens as CUDA graphs, by
    rows and length, which spares small models the time of launching it; where that fails, or the self-test
    finds other tokens than without, steps run without, and the worker's health says why. `off`: never; the
    default until it has run on a GPU."""

    model_overrides: dict[str, Any] = {}
    """What `model.yaml` beside the weights may say of a chat model under `chat`, as JSON; goes before it."""

    audio_max_file_bytes: int = Field(default=25 * 1024 * 1024, ge=1024)
    """Largest recording as uploaded; more than MAX_BODY_BYTES is of no use without raising that as well."""

    audio_max_duration_s: float = Field(default=2 * 3600, gt=0)
    """Longest recording; longer ones are answered 400."""

    audio_max_held_s: float = Field(default=4 * 3600, gt=0)
    """Seconds of sound that may wait or be transcribed at once; more is answered 429. An hour is 230 MB."""

    audio_decoders: int = Field(default=2, ge=1)
    """Recordings that are decoded at the same time."""

    audio_fall_back: bool = True
    """Write a window of a recording down again, at higher temperatures, where its text is not to be believed.
    Takes up to six times as long for such a window."""

    @field_validator("model_name")
    @classmethod
    def _is_model_id(cls, value: str) -> str:
        return parse_model_id(value)

    @field_validator("engine_command", mode="before")
    @classmethod
    def _read_command(cls, value: object) -> object:
        return read_command(value) if isinstance(value, str) else value

    @field_validator("engine_environment", mode="before")
    @classmethod
    def _read_environment(cls, value: object) -> object:
        return read_environment(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_one_server(self) -> Self:
        given = {"ENGINE_COMMAND": self.engine_command, "ENGINE_URL": self.engine_url}
        named = [name for name, value in given.items() if value]
        if self.engine == "openai":
            if len(named) != 1:
                raise ValueError("ENGINE=openai needs either ENGINE_COMMAND or ENGINE_URL")
            if self.engine_url and "{model_dir}" in (self.engine_model_name or ""):
                raise ValueError("ENGINE_MODEL_NAME: {model_dir} is not known with ENGINE_URL")
        elif named:
            raise ValueError(f"{named[0]} is for ENGINE=openai; ENGINE is {self.engine}")
        return self

    @model_validator(mode="after")
    def _fits_what_is_served(self) -> Self:
        """What would have no effect is refused: it was meant for another worker, or misunderstood."""
        fields = type(self).model_fields
        given = {name for name in self.model_fields_set if getattr(self, name) != fields[name].default}
        for names, engines in (
            (_OF_OWN_ENGINES, ("auto", "slot", "generate")),
            (_OF_SLOT, ("auto", "slot")),
        ):
            for name in (name for name in names if name in given):
                if self.model_type not in _CHAT_TYPES:
                    raise ValueError(
                        f"{name.upper()} is for models of type llm and multimodal; MODEL_TYPE is "
                        f"{self.model_type}"
                    )
                if self.engine not in engines:
                    raise ValueError(
                        f"{name.upper()} is for ENGINE={', '.join(engines)}; ENGINE is {self.engine}"
                        + ("; tell the server in ENGINE_COMMAND" if self.engine == "openai" else "")
                    )
        return self

    @field_validator("model_aliases", "engine_features", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(dict.fromkeys(alias.strip() for alias in value.split(",") if alias.strip()))
        return value

    def server_plan(self) -> ServerPlan:
        """The external server, for ENGINE=openai."""
        return ServerPlan(
            model_id=self.model_name,
            command=self.engine_command,
            # People copy addresses with the path that clients of OpenAI want.
            url=self.engine_url and self.engine_url.removesuffix(self.engine_base_path),
            api_key=self.engine_api_key.get_secret_value() if self.engine_api_key else None,
            environment=self.engine_environment,
            ready_path=self.engine_ready_path,
            base_path=self.engine_base_path,
            start_timeout_s=self.engine_start_timeout_s,
            model_name=self.engine_model_name,
            context_length=self.engine_context_length,
            features=frozenset(self.engine_features),
            slots=self.engine_slots,
            max_queued=self.max_queued,
        )

    def engine_options(self, threads: int) -> EngineOptions:
        """What an engine of ours is told."""
        return EngineOptions(
            device=self.device,
            threads=threads,
            gpu_memory_fraction=self.gpu_memory_fraction,
            max_queued=self.max_queued,
            max_running=self.max_running,
            prefill_tokens=self.prefill_tokens,
            queue_deadline_s=self.queue_deadline_s,
            kv_memory_fraction=self.kv_memory_fraction,
            cuda_graphs=self.cuda_graphs,
            workers_per_host=self.workers_per_host,
            quantization=self.quantization,
            audio_fall_back=self.audio_fall_back,
            overrides=self.model_overrides,
        )

    @property
    def audio_limits(self) -> AudioLimits:
        """What recordings may cost."""
        return AudioLimits(
            max_file_bytes=self.audio_max_file_bytes,
            max_duration_s=self.audio_max_duration_s,
            max_held_s=self.audio_max_held_s,
            decoders=self.audio_decoders,
        )

    @property
    def ports(self) -> list[int]:
        """Ports to listen on, each once."""
        return list(dict.fromkeys(p for p in (self.worker_port, self.extra_port) if p is not None))

    def identity(self, hostname: str | None = None) -> Identity:
        """Who this worker is. The default id is the same after a restart on the same host and port."""
        name = hostname or socket.gethostname()
        digest = hashlib.sha256(f"{name}\n{self.worker_port}\n{self.model_name}".encode()).hexdigest()[:8]
        stem = _UNSAFE_IN_ID.sub("-", f"{name}-{self.worker_port}").strip("-.")[:80] or "worker"
        return Identity(
            worker_id=self.worker_id or f"{stem}-{digest}",
            url=self.worker_url or f"http://{name}:{self.worker_port}",
            host=self.machine_name or name,
        )

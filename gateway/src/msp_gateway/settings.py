"""Settings of the gateway: `GATEWAY_*`, and the names that all programs share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from msp_common.contracts.model_type import ModelType
from msp_common.http_protocol import ConnectionLimits
from msp_common.model_ids import InvalidModelId, parse_model_id
from msp_common.serving import TlsFiles
from msp_common.settings import HttpUrl, Settings
from msp_gateway.keys.database_url import database_url


@dataclass(frozen=True)
class ConfiguredModel:
    """A model that the operator announces, whether or not a worker serves it now."""

    id: str
    type: ModelType


def _models(value: Any) -> Any:
    return tuple(_model(part.strip()) for part in value.split(",")) if isinstance(value, str) else value


def _model(text: str) -> ConfiguredModel:
    model_id, _, kind = text.rpartition(":")
    try:
        return ConfiguredModel(parse_model_id(model_id), ModelType(kind))
    except (InvalidModelId, ValueError):
        kinds = ", ".join(ModelType)
        raise ValueError(f"{text!r} is not id:type; the types are {kinds}") from None


def _secret_url(value: SecretStr) -> SecretStr:
    return SecretStr(database_url(value.get_secret_value()))


def _origins(value: Any) -> Any:
    return tuple(part.strip().rstrip("/") for part in value.split(",")) if isinstance(value, str) else value


class GatewaySettings(Settings):
    """All settings of the gateway."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")
    owned_prefixes: ClassVar[tuple[str, ...]] = ("GATEWAY_",)

    host: str = "0.0.0.0"
    """Address to listen on."""

    port: int = Field(default=8080, ge=1, le=65535)
    """Port to listen on."""

    url: HttpUrl | None = None
    """Where others reach the gateway; only shown in `/services`."""

    service_registry_url: HttpUrl = Field(
        default="http://service-registry:8081", validation_alias="SERVICE_REGISTRY_URL"
    )
    """Where the service registry is: it says which workers exist and how they are."""

    cluster_token: SecretStr | None = Field(default=None, validation_alias="CLUSTER_TOKEN")
    """Shared secret of the cluster; sent with what is reported of workers."""

    models: Annotated[tuple[ConfiguredModel, ...], BeforeValidator(_models)] = ()
    """Models to list and to know even while no worker serves them: `id:type`, separated by commas."""

    default_llm: str | None = None
    """Model id that answers chats and completions which name none."""

    default_embedding: str | None = None
    """Model id that answers embedding requests which name none."""

    default_transcription: str | None = None
    """Model id that answers transcription requests which name none."""

    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    """The largest request body that is taken; a larger one is answered with 413."""

    head_timeout_s: float = Field(default=20, gt=0)
    """How long a client may take for a request's head: method, path and fields."""

    body_gap_s: float = Field(default=60, gt=0)
    """How long a client may pause between two pieces of a request's body, before it is answered with 408."""

    unread_timeout_s: float = Field(default=300, gt=0)
    """How long a client may read nothing of an answer that waits for it, before its request is aborted."""

    connect_timeout_s: float = Field(default=2, gt=0, le=60)
    """How long connecting to a worker may take before another one is tried."""

    extra_ca_file: Path | None = Field(default=None, validation_alias="EXTRA_CA_FILE")
    """PEM file with further certificate authorities that workers at https addresses may be signed by."""

    first_byte_timeout_s: float = Field(default=600, gt=0)
    """How long a worker may take until the first byte of its answer, and how long a stream may be silent
    after it. A non-streamed answer's first byte is its last, so this limits it as a whole."""

    stall_s: float = Field(default=60, gt=0)
    """How long a worker may say nothing before its engine's own progress is looked at: where that stands
    still too, the answer is broken off and reported as the worker's fault."""

    cooldown_s: float = Field(default=5, ge=0, le=300)
    """How long a replica that just failed is asked only after all others."""

    slow_start_s: float = Field(default=20, ge=0, le=600)
    """Within how many seconds a replica that became ready grows into its full share of the requests."""

    routing_file: Path | None = None
    """YAML file with aliases and fallback models; without it OpenAI's own model names mean the defaults."""

    grace_s: float = Field(default=25, ge=1, le=3600)
    """How long open requests may go on after SIGTERM; what is still open then ends with an error."""

    tls_cert: Path | None = None
    """PEM file with the gateway's certificate and its chain; the gateway then speaks https only."""

    tls_key: Path | None = None
    """PEM file with the certificate's private key."""

    auth: Literal["auto", "on", "off"] = "auto"
    """Whether clients need an API key: `auto` lets everybody in until the first key exists."""

    admin_token: SecretStr | None = Field(default=None, min_length=8)
    """Secret of whoever may make and revoke API keys and see usage; without it nobody may."""

    database_url: Annotated[SecretStr, AfterValidator(_secret_url)] | None = None
    """Where API keys and usage are kept: `sqlite:////data/gateway.db`, or
    `postgresql://user:password@host/name`. Without it no keys can be made, and usage is soon forgotten."""

    keys_file: Path | None = None
    """YAML file of API keys, instead of those of the database; it is read anew when it changes."""

    queue_max: int = Field(default=2048, ge=0)
    """How many requests may wait for busy models altogether."""

    queue_max_per_key: int = Field(default=1024, ge=0)
    """How many requests of one API key may wait."""

    queue_max_bytes: int = Field(default=512 * 1024 * 1024, ge=0)
    """How many bytes the bodies of waiting requests may have together; they are kept in memory."""

    queue_deadline_s: float = Field(default=60, gt=0, le=600)
    """How long a request may wait for a busy model before it is answered with 503 and a time to come back."""

    queue_ahead: int = Field(default=4, ge=0, le=1000)
    """How many requests beyond its slots each worker is sent, so that it need not wait for the next one."""

    recent_requests: int = Field(default=2000, ge=0, le=100_000)
    """How many of the newest requests `GET /requests` can explain; without their content."""

    otlp_endpoint: HttpUrl | None = None
    """OpenTelemetry collector that traces are sent to over OTLP/HTTP, such as `http://collector:4318`."""

    trace_share: float = Field(default=1, ge=0, le=1)
    """Which share of the requests is traced, of those whose client traces nothing itself."""

    resume_streams: bool = False
    """Whether another replica of the same model goes on with a stream whose worker died in the middle: for
    chats and completions with one answer, without tools and logprobs. Others end with an error."""

    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_origins)] = ()
    """Origins of web pages that may call the gateway from a browser, separated by commas; `*` is all."""

    @model_validator(mode="after")
    def _tls_files_come_together(self) -> Self:
        if (self.tls_cert is None) is not (self.tls_key is None):
            raise ValueError("GATEWAY_TLS_CERT and GATEWAY_TLS_KEY are set together, or neither is")
        return self

    @property
    def tls(self) -> TlsFiles | None:
        """Certificate and key, where the gateway speaks https."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return TlsFiles(self.tls_cert, self.tls_key)

    @property
    def connection_limits(self) -> ConnectionLimits:
        """What one connection of a client may cost."""
        return ConnectionLimits(
            head_s=self.head_timeout_s, body_gap_s=self.body_gap_s, unread_s=self.unread_timeout_s
        )

    @property
    def defaults(self) -> dict[ModelType, str]:
        """The default model of each type for which the operator chose one."""
        chosen = {
            ModelType.LLM: self.default_llm,
            ModelType.EMBEDDING: self.default_embedding,
            ModelType.TRANSCRIPTION: self.default_transcription,
        }
        return {kind: model_id for kind, model_id in chosen.items() if model_id}

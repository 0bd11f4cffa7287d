"""Settings of the gateway: `GATEWAY_*`, and the names that all programs share."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from msp_common.contracts.model_type import ModelType
from msp_common.model_ids import InvalidModelId, parse_model_id
from msp_common.settings import HttpUrl, Settings


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

    connect_timeout_s: float = Field(default=2, gt=0, le=60)
    """How long connecting to a worker may take before another one is tried."""

    first_byte_timeout_s: float = Field(default=600, gt=0)
    """How long a worker may take until the first byte of its answer. A non-streamed answer's first byte is
    its last, so this also limits whole non-streamed answers."""

    cooldown_s: float = Field(default=5, ge=0, le=300)
    """How long a replica that just failed is asked only after all others."""

    @property
    def defaults(self) -> dict[ModelType, str]:
        """The default model of each type for which the operator chose one."""
        chosen = {
            ModelType.LLM: self.default_llm,
            ModelType.EMBEDDING: self.default_embedding,
            ModelType.TRANSCRIPTION: self.default_transcription,
        }
        return {kind: model_id for kind, model_id in chosen.items() if model_id}

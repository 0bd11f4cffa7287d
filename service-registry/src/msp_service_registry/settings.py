"""Settings of the service registry: `SERVICE_REGISTRY_*`, and the names that all programs share."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from msp_common.settings import HttpUrl, Settings


class ServiceRegistrySettings(Settings):
    """All settings of the service registry."""

    model_config = SettingsConfigDict(env_prefix="SERVICE_REGISTRY_")
    owned_prefixes: ClassVar[tuple[str, ...]] = ("SERVICE_REGISTRY_",)

    host: str = "0.0.0.0"
    """Address to listen on."""

    port: int = Field(default=8081, ge=1, le=65535)
    """Port to listen on."""

    remove_after_s: float = Field(default=86_400, gt=0)
    """How long a worker whose lease ran out stays listed as unhealthy before it is forgotten."""

    probe_timeout_s: float = Field(default=2, gt=0, le=60)
    """How long a program may take to answer `/health` when the service registry asks."""

    cluster_token: SecretStr | None = Field(default=None, validation_alias="CLUSTER_TOKEN")
    """Secret that workers show to register, and the gateway to report what it saw of them. Without one,
    whoever reaches this port can do both."""

    registry_url: HttpUrl | None = Field(default=None, validation_alias="REGISTRY_URL")
    """Where the registry is; it is listed in `/services` and `/targets` when this is set."""

    gateway_url: HttpUrl | None = Field(default=None, validation_alias="GATEWAY_URL")
    """Where the gateway is; it is listed in `/services` and `/targets` when this is set."""

    workers_file: Path | None = None
    """YAML file of OpenAI-compatible servers that cannot register themselves (vLLM, llama-server, TEI)."""

    offline: bool = False
    """Whether there is no way out of this network: servers of the file are then used only where it says
    `when_offline: true`."""

    extra_ca_file: Path | None = Field(default=None, validation_alias="EXTRA_CA_FILE")
    """Certificates (PEM) of further authorities that may vouch for servers of the file."""

    own_url: HttpUrl | None = Field(default=None, validation_alias="SERVICE_REGISTRY_URL")
    """Where others reach the service registry itself; only shown in `/services`."""

"""The forms in which the compose files can be used together, and how to read what compose makes of them."""

from pathlib import Path
from typing import Any

from support.compose_stack import ComposeStack

STANDARD = ("docker-compose.yml",)
CLUSTER = ("docker-compose.gpu-cluster.yml",)
OVERLAY = STANDARD + CLUSTER
FORMS = {"standard": STANDARD, "cluster": CLUSTER, "overlay": OVERLAY}

CHATUI = "docker-compose.chatui.yml"
MONITORING = "docker-compose.monitoring.yml"
OFFLINE = "docker-compose.offline.yml"
ADDITIONS: dict[str, tuple[str, ...]] = {
    "alone": (),
    "chatui": (CHATUI,),
    "monitoring": (MONITORING,),
    "offline": (OFFLINE,),
    "everything": (CHATUI, MONITORING, OFFLINE),
}

WORKERS = {
    "llm",
    "tinyllama",
    "llm-primary",
    "llm-secondary",
    "embedding",
    "multimodal",
    "transcription",
}
INTERFACES = {"chatui", "chatui-current", "open-webui"}

REQUIRED = {
    "MINIO_ROOT_USER": "root",
    "MINIO_ROOT_PASSWORD": "root-password",
    "MINIO_SVC_USER": "service",
    "MINIO_SVC_PASSWORD": "service-password",
}
"""What every form refuses to start without."""

CLUSTER_SECRETS = {
    "CLUSTER_TOKEN": "the-token-of-the-cluster",
    "REGISTRY_ADMIN_TOKEN": "the-token-of-the-registry",
    "GATEWAY_ADMIN_TOKEN": "the-token-of-the-gateway",
    "GATEWAY_AUTH": "auto",
}
"""What cluster mode also refuses to start without."""

SECRETS = {**REQUIRED, **CLUSTER_SECRETS, "GRAFANA_ADMIN_PASSWORD": "the-password-of-grafana"}
EVERY_PROFILE = "all,chatui-current,open-webui"


def stack_config(folder: Path, files: tuple[str, ...], settings: dict[str, str]) -> dict[str, Any]:
    """All that compose understands. `folder` is for its file of settings."""
    template = {"CHATUI_ENV_FILE": "./chatui.env.template"}
    return ComposeStack(files, {**template, **settings}, folder / "env").config()


def services_of(folder: Path, files: tuple[str, ...], **settings: str) -> dict[str, Any]:
    """Name → service, with every secret set."""
    services = stack_config(folder, files, {**SECRETS, **settings})["services"]
    assert isinstance(services, dict)
    return services


def published(services: dict[str, Any]) -> dict[str, str]:
    """Port on the host → service."""
    return {p["published"]: name for name, s in services.items() for p in s.get("ports", [])}


def gpus_of(service: dict[str, Any]) -> list[str]:
    """The GPUs that are reserved for a service."""
    devices = service["deploy"]["resources"]["reservations"]["devices"]
    return [gpu for device in devices for gpu in device["device_ids"]]

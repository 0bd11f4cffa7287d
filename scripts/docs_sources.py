"""Where generated documentation comes from: settings classes, applications, the operator's tool."""

import typer
from fastapi import FastAPI

from msp_common.settings import Settings


def settings_classes() -> dict[str, type[Settings]]:
    """Program → its settings."""
    from msp_gateway.settings import GatewaySettings
    from msp_model_service.settings import WorkerSettings
    from msp_registry.settings import InitStoreSettings, RegistrySettings
    from msp_service_registry.settings import ServiceRegistrySettings

    return {
        "gateway": GatewaySettings,
        "service-registry": ServiceRegistrySettings,
        "registry": RegistrySettings,
        "init-store": InitStoreSettings,
        "model-service": WorkerSettings,
    }


def openapi_apps() -> dict[str, FastAPI]:
    """Program → an application that is never started."""
    from msp_gateway.app import build as gateway
    from msp_model_service.__main__ import build as worker
    from msp_registry.app import create_app as registry
    from msp_service_registry.app import create_app as service_registry

    kinds = settings_classes()

    def worker_of(kind: str) -> FastAPI:
        environment = {"MODEL_NAME": "org/model", "MODEL_TYPE": kind, "ENGINE": "fake"}
        settings = kinds["model-service"].load(environment)
        app, _ = worker(settings, threads=1, on_broken=lambda: None)  # type: ignore[arg-type]
        return app

    return {
        "gateway": gateway(kinds["gateway"].load({})),  # type: ignore[arg-type]
        "registry": registry(kinds["registry"].load({"REGISTRY_STORE": "file:///nowhere"})),  # type: ignore[arg-type]
        "service-registry": service_registry(kinds["service-registry"].load({})),  # type: ignore[arg-type]
        "model-service-chat": worker_of("multimodal"),
        "model-service-embedding": worker_of("embedding"),
        "model-service-transcription": worker_of("transcription"),
    }


def cli_app() -> typer.Typer:
    """The operator's tool."""
    from msp_cli.main import app

    return app

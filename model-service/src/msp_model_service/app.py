"""The worker's HTTP application: the routes of its model's type, and what every worker answers."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

from fastapi import APIRouter, FastAPI
from pydantic import SecretStr

from msp_common.contracts.gpus import GpuReport
from msp_common.contracts.model_type import ModelType
from msp_common.http_app import new_app
from msp_model_service.audio.limits import AudioLimits
from msp_model_service.request_watch import RequestWatchMiddleware
from msp_model_service.routes import health, models, other_types, usage
from msp_model_service.routes.context import E, RouteContext
from msp_model_service.worker import Worker


def create_app(
    worker: Worker,
    *,
    max_body_bytes: int,
    gpus: Callable[[], GpuReport],
    on_started: Callable[[Worker], None] = lambda worker: None,
    audio: AudioLimits | None = None,
    cluster_token: SecretStr | None = None,
) -> FastAPI:
    """The application. Its lifespan is the worker's life; `on_started` is called once that began."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        try:
            on_started(worker)
            yield
        finally:
            await worker.stop()

    model = worker.plan.model
    app = new_app(
        "Model service",
        f"Serves {model.id}, a model of type {model.type}",
        metrics=worker.metrics.registry,
        max_body_bytes=max_body_bytes,
        lifespan=lifespan,
    )
    app.add_middleware(
        RequestWatchMiddleware,
        metrics=worker.metrics,
        paths=frozenset(model.type.paths),
        model=model.id,
        usage=worker.usage,
    )

    def health_now() -> health.WorkerHealth:
        return health.health_of(
            worker.status,
            worker_id=worker.plan.identity.worker_id,
            model=worker.model(),
            version=worker.plan.version,
            lease_problem=worker.lease.problem,
            weights_note=worker.note,
            engine_note=worker.capabilities.engine_note,
            start_phases_s=worker.start_phases_s,
            quantization=worker.capabilities.quantization,
        )

    for routes in _routes_of_type(worker, max_body_bytes, audio):
        app.include_router(routes)
    app.include_router(other_types.router(model))
    app.include_router(models.router(worker))
    app.include_router(health.router(health_now, gpus))
    app.include_router(usage.router(worker.usage, cluster_token))
    return app


def _routes_of_type(worker: Worker, max_body_bytes: int, audio: AudioLimits | None) -> list[APIRouter]:
    """Imported here, so that a worker needs no library of another type.

    The catalogue makes an engine that fits the worker's type; hence the casts.
    """

    def context(engine: Callable[[], E]) -> RouteContext[E]:
        return RouteContext(engine, worker.model, max_body_bytes, usage=worker.metrics)

    if worker.plan.speaks_wire:
        from msp_model_service.engines.wire_engine import WireEngine
        from msp_model_service.routes import relayed

        wire = context(cast(Callable[[], WireEngine], worker.engine))
        return [relayed.router(wire, worker.plan.model.type)]
    match worker.plan.model.type:
        case ModelType.LLM | ModelType.MULTIMODAL:
            from msp_model_service.engines.chat import ChatEngine
            from msp_model_service.routes import chat, completions, responses
            from msp_model_service.routes.conversing import Conversing

            chats = context(cast(Callable[[], ChatEngine], worker.engine))
            talk = Conversing(chats)
            return [chat.router(talk), completions.router(chats), responses.router(talk)]
        case ModelType.EMBEDDING:
            from msp_model_service.engines.embedder import Embedder
            from msp_model_service.routes import embeddings

            return [embeddings.router(context(cast(Callable[[], Embedder], worker.engine)))]
        case ModelType.TRANSCRIPTION:
            from msp_model_service.engines.transcriber import Transcriber
            from msp_model_service.routes import transcriptions

            return [transcriptions.router(context(cast(Callable[[], Transcriber], worker.engine)), audio)]

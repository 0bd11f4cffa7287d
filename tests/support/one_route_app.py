"""An application with the routes of one engine, and what it was told of their use."""

from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry

from msp_common.body_limit import BodyLimitMiddleware
from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import ServedModel
from msp_common.http_app import new_app
from msp_model_service.routes.context import RouteContext

E = TypeVar("E")

MODEL = "org/model"
ALIAS = "another-name"


@dataclass
class RememberedUsage:
    """Remembers what routes report."""

    tokens: list[tuple[int, int]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def observe_tokens(self, prompt: int, completion: int) -> None:
        """Remember."""
        self.tokens.append((prompt, completion))

    def observe_audio(self, seconds: float) -> None:
        """Remember."""
        self.seconds.append(seconds)


def context_for(
    engine: E, type: ModelType, usage: RememberedUsage | None = None, max_body_bytes: int = 32 * 2**20
) -> RouteContext[E]:
    """A context whose engine is ready and whose model is MODEL, alias ALIAS."""
    model = ServedModel(id=MODEL, type=type, aliases=[ALIAS])
    return RouteContext(
        engine=lambda: engine,
        model=lambda: model,
        max_body_bytes=max_body_bytes,
        usage=usage or RememberedUsage(),
    )


def app_with(routes: APIRouter, max_body_bytes: int = 32 * 2**20) -> FastAPI:
    """The application that a worker would be, without its other routes."""
    app = new_app("Worker", "One engine", metrics=CollectorRegistry(), max_body_bytes=64 << 20)
    app.include_router(routes)
    app.add_middleware(BodyLimitMiddleware, limit_bytes=max_body_bytes)
    return app

"""The registry's application: its routes over its parts."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI, Request
from starlette.responses import Response

from msp_common.error_response import error_response
from msp_common.errors import ApiError, InternalError, InvalidRequest, Unavailable
from msp_common.http_app import new_app
from msp_registry.assembly import Collaborators, assemble, run
from msp_registry.metrics import Metrics
from msp_registry.routes import archives, files, health, jobs, maintenance, models, openai_models, refs
from msp_registry.routes.hub import router as hub
from msp_registry.routes.raw_paths import OneSegmentIds
from msp_registry.settings import RegistrySettings
from msp_registry.stores.store import BadKey, StoreError, StoreUnavailable

MAX_BODY_BYTES = 1 << 20
"""Requests only carry names and patterns; uploads of archives have no such limit."""

log = logging.getLogger(__name__)


def create_app(settings: RegistrySettings, given: Collaborators | None = None) -> FastAPI:
    """The application; `given` holds what is not to be made from the settings."""
    metrics = Metrics()
    collaborators = given or Collaborators()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with AsyncExitStack() as stack:
            parts = await assemble(settings, metrics, collaborators, stack)
            app.state.parts = parts
            background = asyncio.create_task(run(parts, collaborators.sleep))
            background.add_done_callback(_tell_if_broken)
            try:
                yield
            finally:
                background.cancel()
                await asyncio.gather(background, return_exceptions=True)
                await parts.jobs.stop()

    app = new_app(
        "Model Service Platform: registry",
        "Models at rest: mirrored or imported, verified, served, deleted; and the Hub's protocol, read-only.",
        metrics=metrics.registry,
        max_body_bytes=MAX_BODY_BYTES,
        takes_stream=archives.takes_stream,
        lifespan=lifespan,
    )
    app.add_middleware(OneSegmentIds)
    app.add_exception_handler(StoreError, _on_store_error)
    # The hub's routes last: they take all of /api/.
    for routes in (models, refs, archives, files, jobs, maintenance, openai_models, health, hub):
        app.include_router(routes.router)
    return app


def _tell_if_broken(background: asyncio.Task[None]) -> None:
    if not background.cancelled() and (error := background.exception()) is not None:
        log.error("what runs beside requests broke: no job of an earlier process, no scrub", exc_info=error)


async def _on_store_error(request: Request, error: Exception) -> Response:
    answer: ApiError
    if isinstance(error, StoreUnavailable):
        answer = Unavailable(f"{error}.", code="store_unavailable", retry_after_s=5)
    elif isinstance(error, BadKey):
        answer = InvalidRequest(f"{error}.")
    else:
        log.error("%s", error)
        answer = InternalError(f"{error}.")
    return error_response(answer)

"""The FastAPI application that every program starts from.

It brings the error envelope for everything that can go wrong, request ids, interactive documentation that
needs no internet, `/livez` and `/metrics`.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import Scope

from msp_common.body_limit import BodyLimitMiddleware, TakesStream
from msp_common.error_response import error_response
from msp_common.errors import ApiError, ErrorEnvelope, InternalError, from_status, from_validation
from msp_common.request_ids import RequestIdMiddleware

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
log = logging.getLogger(__name__)


def platform_version() -> str:
    """The version that all programs of one release share."""
    return version("msp-common")


def new_app(
    title: str,
    summary: str,
    *,
    metrics: CollectorRegistry,
    max_body_bytes: int = 1 << 20,
    takes_stream: TakesStream | None = None,
    lifespan: Lifespan | None = None,
) -> FastAPI:
    """An application with the habits that all programs share; routes are added by the caller.

    Middleware that the caller adds with `add_middleware` goes around the request id; the body limit is
    innermost, so that a refused body is counted and has its id like everything else. `takes_stream` names the
    requests that have no such limit.

    `/metrics` also has what Prometheus's client tells of the process: its start, memory, processor time and
    open files (`process_...`; on Linux).
    """
    ProcessCollector(registry=metrics)
    app: FastAPI = FastAPIOffline(
        title=title,
        summary=summary,
        version=platform_version(),
        lifespan=lifespan,
        responses={"4XX": {"model": ErrorEnvelope}, "5XX": {"model": ErrorEnvelope}},
        separate_input_output_schemas=False,
        # FastAPI looks for OpenTelemetry in every request; where traces are wanted, programs make their own.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.metrics = metrics
    install_error_handlers(app)
    app.add_middleware(BodyLimitMiddleware, limit_bytes=max_body_bytes, takes_stream=takes_stream)
    app.add_middleware(RequestIdMiddleware)

    @app.get("/livez", tags=["health"], summary="Whether the process works")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/metrics", tags=["health"], summary="Metrics in Prometheus's text form", response_class=Response
    )
    async def metrics_page() -> Response:
        return Response(generate_latest(metrics), media_type=CONTENT_TYPE_LATEST)

    return app


def install_error_handlers(app: FastAPI) -> None:
    """Give every error of the application OpenAI's envelope."""

    async def on_api_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, ApiError):
            raise error
        return error_response(error)

    async def on_validation(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise error
        return error_response(from_validation(error.errors()))

    async def on_http(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        known = {
            404: f"No such route: {request.method} {request.url.path}",
            405: f"{request.url.path} does not answer {request.method}.",
        }
        response = error_response(
            from_status(error.status_code, known.get(error.status_code, str(error.detail)))
        )
        response.headers.update(error.headers or {})
        return response

    async def on_bug(request: Request, error: Exception) -> Response:
        return bug_response(request.scope, error)

    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_bug)


def bug_response(scope: Scope, error: Exception) -> Response:
    """Log an error that nobody expected; the answer tells where to find it, and nothing of it."""
    # Starlette answers from outside the middleware, where the context variable is gone already.
    request_id = scope.get("state", {}).get("request_id")
    log.error("unexpected error on %s", scope["path"], exc_info=error, extra={"request_id": request_id})
    response = error_response(
        InternalError(f"Unexpected error; the log has the cause under request id {request_id}.")
    )
    if request_id:
        response.headers["x-request-id"] = request_id
    return response

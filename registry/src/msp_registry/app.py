"""The registry's application: its parts, put together from the settings."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from fastapi import FastAPI, Request
from starlette.responses import Response

from msp_common.error_response import error_response
from msp_common.errors import ApiError, InternalError, InvalidRequest, Unavailable
from msp_common.http_app import new_app
from msp_registry.catalogue import Catalogue
from msp_registry.folder_store import FolderStore
from msp_registry.hub_client import Hub, HubClient, Sleep
from msp_registry.importing import Importer
from msp_registry.jobs import Jobs
from msp_registry.metrics import Metrics
from msp_registry.mirror import Mirror
from msp_registry.raw_paths import OneSegmentIds
from msp_registry.routes import files, health, jobs, models
from msp_registry.routes.context import Parts
from msp_registry.s3_store import S3Store
from msp_registry.settings import RegistrySettings
from msp_registry.store import BadKey, ObjectStore, StoreError, StoreUnavailable
from msp_registry.usage import NobodyAsked, ServiceRegistryUsage, Usage

MAX_BODY_BYTES = 1 << 20
"""Requests only carry names and patterns."""

_RETRY_STORE_S = 2.0

log = logging.getLogger(__name__)


def create_app(
    settings: RegistrySettings,
    *,
    store: ObjectStore | None = None,
    hub: Hub | None = None,
    usage: Usage | None = None,
    sleep: Sleep = asyncio.sleep,
) -> FastAPI:
    """The application. Collaborators that are not handed in are made from the settings.

    `hub` is not used in offline mode.
    """
    metrics = Metrics()
    the_store = store or open_store(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with AsyncExitStack() as stack:
            the_hub = hub or await _hub(settings, stack, sleep)
            if settings.mode == "offline":
                the_hub = None
            the_usage = usage or await _usage(settings, stack)
            catalogue = Catalogue(the_store)
            the_jobs = Jobs(
                the_store,
                parallel=settings.parallel_jobs,
                clock=time.time,
                new_id=lambda: uuid.uuid4().hex,
                metrics=metrics,
            )
            quota = settings.quota_bytes
            app.state.parts = Parts(
                store=the_store,
                catalogue=catalogue,
                jobs=the_jobs,
                importer=Importer(the_store, catalogue, quota_bytes=quota),
                mirror=Mirror(the_hub, the_store, catalogue, quota_bytes=quota) if the_hub else None,
                hub_endpoint=the_hub.endpoint if the_hub else None,
                usage=the_usage,
                metrics=metrics,
                clock=time.time,
                import_roots=settings.import_roots,
                presign_ttl_s=settings.presign_ttl_s if settings.presign == "on" else None,
                admin_token=settings.admin_token.get_secret_value() if settings.admin_token else None,
            )
            readying = asyncio.create_task(_ready(the_store, the_jobs, sleep))
            try:
                yield
            finally:
                readying.cancel()
                await asyncio.gather(readying, return_exceptions=True)
                await the_jobs.stop()

    app = new_app(
        "Model Service Platform: registry",
        "Models at rest: mirrored or imported, verified, served, deleted.",
        metrics=metrics.registry,
        max_body_bytes=MAX_BODY_BYTES,
        lifespan=lifespan,
    )
    app.add_middleware(OneSegmentIds)
    app.add_exception_handler(StoreError, _on_store_error)
    for routes in (models, files, jobs, health):
        app.include_router(routes.router)
    return app


def open_store(settings: RegistrySettings) -> ObjectStore:
    """The store that the settings name."""
    if settings.folder is not None:
        return FolderStore(settings.folder)
    if settings.minio_svc_user is None or settings.minio_svc_password is None:
        raise ValueError("an S3 store needs an account")
    return S3Store(
        settings.s3_endpoint,
        access_key=settings.minio_svc_user,
        secret_key=settings.minio_svc_password.get_secret_value(),
        bucket=settings.minio_bucket,
        region=settings.minio_region,
        prefix=settings.s3_prefix,
    )


async def _hub(settings: RegistrySettings, stack: AsyncExitStack, sleep: Sleep) -> Hub | None:
    if settings.mode == "offline":
        return None
    # The read limit is the time without a single byte, not that of a whole file.
    client = httpx.AsyncClient(timeout=httpx.Timeout(30, connect=10), headers={"User-Agent": "msp-registry"})
    await stack.enter_async_context(client)
    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    return HubClient(settings.hf_endpoint, token, client, sleep)


async def _usage(settings: RegistrySettings, stack: AsyncExitStack) -> Usage:
    if settings.service_registry_url is None:
        return NobodyAsked()
    client = await stack.enter_async_context(httpx.AsyncClient(timeout=5, trust_env=False))
    return ServiceRegistryUsage(settings.service_registry_url, client)


async def _ready(store: ObjectStore, jobs: Jobs, sleep: Sleep) -> None:
    """Prepare the store and read old jobs, as soon as the store lets us; `/health` is down until it does."""
    while True:
        try:
            await store.prepare()
            await jobs.restore()
        except StoreError as error:
            log.error("the store cannot be used yet, trying again in %.0f s: %s", _RETRY_STORE_S, error)
            await sleep(_RETRY_STORE_S)
        else:
            log.info("the store can be used")
            return


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

"""The gateway's application, put together from its parts."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from msp_common.http_app import new_app, platform_version
from msp_gateway import overview
from msp_gateway.accounting import Accounts
from msp_gateway.admission import Admission, Authenticator, OpenAdmission, OpenAuthenticator
from msp_gateway.directory import Directory, WatchedDirectory
from msp_gateway.dispatch import RelayDispatcher
from msp_gateway.httpx_upstream import HttpxUpstream
from msp_gateway.openapi import add_relay_paths
from msp_gateway.paths import RELAY_PATHS
from msp_gateway.pipeline import Pipeline
from msp_gateway.relay import Relay
from msp_gateway.replicas import Replicas
from msp_gateway.reports import QueuedReports, Reports
from msp_gateway.resolve import Catalogue
from msp_gateway.routes import ClusterPages, Views, build_router
from msp_gateway.service_registry import ServiceRegistryClient
from msp_gateway.settings import GatewaySettings
from msp_gateway.upstream import Upstream

CONTROL_TIMEOUT_S = 3.0
"""How long the service registry may take to answer."""

log = logging.getLogger(__name__)


def create_app(
    settings: GatewaySettings,
    *,
    directory: Directory,
    upstream: Upstream,
    reports: Reports,
    cluster: ClusterPages,
    authenticator: Authenticator | None = None,
    admission: Admission | None = None,
    clock: Callable[[], float] = time.monotonic,
    background: Mapping[str, Callable[[], Awaitable[None]]] | None = None,
    resources: AsyncExitStack | None = None,
) -> FastAPI:
    """The application over these parts.

    `background` are tasks that run for ever beside it, by name; `resources` are closed at its end.
    """
    authenticator = authenticator or OpenAuthenticator()
    metrics = CollectorRegistry()
    accounts = Accounts(metrics, clock)
    replicas = Replicas(settings.cooldown_s, clock)
    started, started_at = clock(), time.time()
    tasks: dict[str, asyncio.Task[None]] = {}

    def catalogue() -> Catalogue:
        return Catalogue(directory.workers(), settings.models, settings.defaults, clock() - started)

    def health() -> overview.GatewayHealth:
        broken = [name for name, task in tasks.items() if task.done()]
        return overview.health(directory, authenticator.mode, broken, platform_version())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if authenticator.mode == "off":
            log.warning("authentication is off: whoever reaches this port can use every model")
        async with resources or AsyncExitStack():
            for name, run in (background or {}).items():
                tasks[name] = asyncio.create_task(_telling_if_broken(name, run))
            try:
                yield
            finally:
                for task in tasks.values():
                    task.cancel()
                await asyncio.gather(*tasks.values(), return_exceptions=True)

    app = new_app(
        "Gateway",
        "OpenAI's API over all models of the cluster: finds the worker that answers, and fails over.",
        metrics=metrics,
        lifespan=lifespan,
    )
    app.include_router(build_router(Views(catalogue, directory, cluster, health, started_at, settings.url)))
    add_relay_paths(app.openapi())
    pipeline = Pipeline(
        authenticator=authenticator,
        admission=admission or OpenAdmission(),
        catalogue=catalogue,
        replicas=replicas,
        relay=Relay(upstream, replicas, reports, settings.first_byte_timeout_s, accounts.first_byte),
        accounts=accounts,
        max_body_bytes=settings.max_body_bytes,
        turns=count(),
    )
    app.add_middleware(RelayDispatcher, paths=RELAY_PATHS, serve=pipeline.serve)
    return app


def build(settings: GatewaySettings) -> FastAPI:
    """The application as it runs: over HTTP to the service registry and to the workers."""
    token = settings.cluster_token
    control = httpx.AsyncClient(
        trust_env=False,
        timeout=CONTROL_TIMEOUT_S,
        headers={"Authorization": f"Bearer {token.get_secret_value()}"} if token else None,
    )
    service_registry = ServiceRegistryClient(control, settings.service_registry_url)
    directory = WatchedDirectory(service_registry, time.monotonic)
    reports = QueuedReports(service_registry.report)
    upstream = HttpxUpstream(settings.connect_timeout_s)
    resources = AsyncExitStack()
    resources.push_async_callback(control.aclose)
    resources.push_async_callback(upstream.aclose)
    return create_app(
        settings,
        directory=directory,
        upstream=upstream,
        reports=reports,
        cluster=service_registry,
        background={"directory": directory.run, "reports": reports.run},
        resources=resources,
    )


async def _telling_if_broken(name: str, run: Callable[[], Awaitable[None]]) -> None:
    try:
        await run()
    except Exception:
        log.exception("the background task %s broke", name)
        raise

"""The service registry as an application."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from msp_common.contracts.health import Health
from msp_common.http_app import new_app, platform_version
from msp_common.tls import trust
from msp_service_registry.background import Background
from msp_service_registry.clock import Clock, SystemClock
from msp_service_registry.external.asking import HttpServerAsker, ServerAsker
from msp_service_registry.external.file import ExternalServerEntry, read_workers_file
from msp_service_registry.external.keeping import ExternalServers, usable
from msp_service_registry.judging import keep_judging
from msp_service_registry.metrics import Metrics
from msp_service_registry.neighbours import HealthReader, HttpHealthReader, Kind, Neighbours
from msp_service_registry.probing import HttpProber, Prober, Probing
from msp_service_registry.routes import Parts, build_router
from msp_service_registry.settings import ServiceRegistrySettings
from msp_service_registry.workers import WorkerTable

BODY_LIMIT_BYTES = 1 << 20
"""A lease with eight GPUs and a hundred processes on each is below 100 kB."""

log = logging.getLogger(__name__)


def create_app(
    settings: ServiceRegistrySettings,
    *,
    clock: Clock | None = None,
    prober: Prober | None = None,
    health_reader: HealthReader | None = None,
    servers: Sequence[ExternalServerEntry] = (),
    asker: ServerAsker | None = None,
) -> FastAPI:
    """The application over these external servers.

    Clock, prober, health reader and asker are the real ones unless others are handed in. Raises BadCaFile.
    """
    clock = clock or SystemClock()
    # Workers and services are neighbours: a proxy from the environment would only be in the way.
    client = httpx.AsyncClient(trust_env=False, timeout=settings.probe_timeout_s)
    # A gateway's certificate names what clients call it, not its name in here; no secret is sent along.
    unchecked = httpx.AsyncClient(verify=False, trust_env=False, timeout=settings.probe_timeout_s)  # noqa: S501
    table = WorkerTable(clock, settings.remove_after_s)
    metrics = Metrics(table, clock)
    neighbour_urls: dict[Kind, str] = {}
    if settings.gateway_url:
        neighbour_urls["gateway"] = settings.gateway_url
    if settings.registry_url:
        neighbour_urls["registry"] = settings.registry_url
    own_url = {"service-registry": settings.own_url} if settings.own_url else {}
    neighbours = Neighbours(
        neighbour_urls, health_reader or HttpHealthReader(unchecked, settings.probe_timeout_s), clock
    )
    outside = httpx.AsyncClient(
        verify=trust(settings.extra_ca_file), trust_env=False, timeout=settings.probe_timeout_s
    )
    asker = asker or HttpServerAsker(outside, os.environ, settings.probe_timeout_s)
    external = ExternalServers(table, asker, clock, usable(servers, offline=settings.offline))
    probing = Probing(table, prober or HttpProber(client, settings.probe_timeout_s), clock)
    background = Background()

    def health() -> Health:
        broken = background.ended()
        return Health(
            status="down" if broken else "ok",
            reason=f"background task broke: {', '.join(broken)}; restart this service" if broken else None,
            service="service-registry",
            version=platform_version(),
        )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if settings.cluster_token is None:
            log.warning("CLUSTER_TOKEN is not set: whoever reaches this port can register a worker")
        background.add("judging", asyncio.create_task(keep_judging(table, clock)))
        background.add("probing", asyncio.create_task(probing.run()))
        if servers:
            background.add("external servers", asyncio.create_task(external.run()))
        try:
            yield
        finally:
            await background.stop()
            await neighbours.aclose()
            await client.aclose()
            await outside.aclose()
            await unchecked.aclose()

    app = new_app(
        "Service registry",
        "Which workers exist, how they are, and what they and their GPUs are doing.",
        metrics=metrics.registry,
        max_body_bytes=BODY_LIMIT_BYTES,
        lifespan=lifespan,
    )
    app.include_router(
        build_router(
            Parts(
                table=table,
                clock=clock,
                neighbours=neighbours,
                metrics=metrics,
                health=health,
                cluster_token=settings.cluster_token,
                service_urls={**own_url, **{str(kind): url for kind, url in neighbour_urls.items()}},
                version=platform_version(),
            )
        )
    )
    return app


def build(settings: ServiceRegistrySettings) -> FastAPI:
    """The application as it runs. Raises BadWorkersFile and BadCaFile."""
    servers = read_workers_file(settings.workers_file) if settings.workers_file else []
    for left_out in [s for s in servers if s not in usable(servers, offline=settings.offline)]:
        log.warning(
            "external server %s is left out in offline mode; if it is a machine of your own network, say "
            "`when_offline: true` in %s",
            left_out.name,
            settings.workers_file,
        )
    return create_app(settings, servers=servers)

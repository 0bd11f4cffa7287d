"""The gateway's application, put together from its parts."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from msp_common.contracts.workers import Worker
from msp_common.draining import Draining, RefuseWhileDraining
from msp_common.http_app import new_app, platform_version
from msp_common.tls import trust
from msp_gateway import overview
from msp_gateway.access import Stores, build_access, open_stores
from msp_gateway.accounting import Accounts
from msp_gateway.admission import Admission, Authenticator
from msp_gateway.admission.cors import allow_origins
from msp_gateway.catalogue import Catalogues
from msp_gateway.direct.way import ShortWay
from msp_gateway.directory import Directory, WatchedDirectory, find
from msp_gateway.dispatch import RelayDispatcher, put_relay_outside
from msp_gateway.hf_inference import HfInference
from msp_gateway.http1.client import Http1Upstream
from msp_gateway.lost_paths import LostPaths
from msp_gateway.openapi import add_relay_paths
from msp_gateway.paths import RELAY_PATHS
from msp_gateway.pick import pick
from msp_gateway.pipeline import Pipeline
from msp_gateway.relay import Relay
from msp_gateway.replicas import Replicas
from msp_gateway.reports import QueuedReports, Reports
from msp_gateway.request_log import RequestLog
from msp_gateway.requests.readers import Readers
from msp_gateway.requests.recent import RecentRequests
from msp_gateway.requests.routes import build_router as build_requests_router
from msp_gateway.resume.kept import KeptBytes
from msp_gateway.resume.resuming import Resuming
from msp_gateway.routes import ClusterPages, Views, build_router
from msp_gateway.routing_rules import RoutingRules, load, shipped
from msp_gateway.service_registry import ServiceRegistryClient
from msp_gateway.settings import GatewaySettings
from msp_gateway.stalls import Limits, Progress, progress_of
from msp_gateway.tracing.traces import NoTracing, Tracing
from msp_gateway.usage.collector import HttpUsageSource, UsageSource
from msp_gateway.watchdog import Watchdog

CONTROL_TIMEOUT_S = 3.0
"""How long the service registry may take to answer."""

FIRST_SNAPSHOT_S = 3.0
"""For so long a gateway that starts waits for the service registry to tell it of the workers."""

log = logging.getLogger(__name__)


def create_app(
    settings: GatewaySettings,
    *,
    directory: Directory,
    upstream: Http1Upstream,
    reports: Reports,
    cluster: ClusterPages,
    authenticator: Authenticator | None = None,
    admission: Admission | None = None,
    clock: Callable[[], float] = time.monotonic,
    background: Mapping[str, Callable[[], Awaitable[None]]] | None = None,
    resources: AsyncExitStack | None = None,
    rules: RoutingRules | None = None,
    environ: Mapping[str, str] | None = None,
    stores: Stores | None = None,
    usage_source: UsageSource | None = None,
    request_log: RequestLog | None = None,
    tracing: Tracing | None = None,
    draining: Draining | None = None,
    before_serving: Callable[[], Awaitable[None]] | None = None,
) -> FastAPI:
    """The application over these parts.

    `background` are tasks that run for ever beside it, by name; `resources` are closed at its end. `environ`
    holds the keys of external servers. `authenticator` and `admission` take the place of those that the
    settings say.
    """
    draining = draining or Draining()
    metrics = CollectorRegistry()
    recent = RecentRequests(settings.recent_requests)
    log_request = None if request_log is None else request_log.add
    accounts = Accounts(metrics, clock, on_open=recent.add, log_request=log_request)
    replicas = Replicas(settings.cooldown_s, clock, settings.slow_start_s)
    started_at = time.time()
    catalogue = Catalogues(
        directory.workers, settings.models, settings.defaults, rules or shipped(), clock
    ).now
    turns = count()
    tasks: dict[str, asyncio.Task[None]] = {}
    access = build_access(
        settings,
        stores or Stores(),
        metrics=metrics,
        workers=directory.workers,
        replicas_of=lambda model_id: catalogue().replicas(model_id),
        usage_source=usage_source,
        clock=clock,
    )
    authenticator = authenticator or access.authenticator

    def newest(worker_id: str) -> Worker | None:
        return find(directory, worker_id)

    def progress(worker_id: str) -> Progress:
        return progress_of(newest(worker_id), directory.age_s())

    def replicas_of(model_id: str) -> list[Worker]:
        replicas.observe(catalogue().workers)
        return pick(catalogue().replicas(model_id), replicas.seen(), next(turns))

    def health() -> overview.GatewayHealth:
        broken = [name for name, task in tasks.items() if task.done()]
        away = access.keyring.away
        return overview.health(directory, authenticator.mode, broken, platform_version(), keys_away=away)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with resources or AsyncExitStack():
            await access.keyring.read()
            if authenticator.mode == "off":
                log.warning("authentication is off: whoever reaches this port can use every model")
            for name, run in {**access.background, **(background or {})}.items():
                tasks[name] = asyncio.create_task(_telling_if_broken(name, run))
            if before_serving is not None:
                await before_serving()
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
    views = Views(catalogue, directory, cluster, health, started_at, settings.url, authenticator)
    app.include_router(build_router(views))
    app.include_router(access.admin_routes)
    app.include_router(build_requests_router(recent, Readers(settings.admin_token, authenticator)))
    add_relay_paths(app.openapi())
    pipeline = Pipeline(
        authenticator=authenticator,
        admission=admission or access.admission,
        catalogue=catalogue,
        replicas=replicas,
        relay=Relay(
            upstream,
            replicas,
            reports,
            Watchdog(Limits(settings.stall_s, settings.first_byte_timeout_s), progress),
            newest,
            accounts,
            environ or {},
            access.ledger.told,
            Resuming(replicas_of, KeptBytes()) if settings.resume_streams else None,
        ),
        accounts=accounts,
        tracing=tracing or NoTracing(),
        max_body_bytes=settings.max_body_bytes,
        turns=turns,
    )
    app.state.short_way = ShortWay(pipeline, RELAY_PATHS, upstream.send, draining, upstream.batch)
    app.add_middleware(LostPaths, known={*RELAY_PATHS, "/v1/models"})
    app.add_middleware(RelayDispatcher, paths=RELAY_PATHS, serve=pipeline.serve)
    app.add_middleware(HfInference)
    app.add_middleware(RefuseWhileDraining, draining=draining)
    allow_origins(app, settings.cors_origins)
    put_relay_outside(app)
    return app


def build(settings: GatewaySettings, draining: Draining | None = None) -> FastAPI:
    """The application as it runs: over HTTP to the service registry and to the workers.

    Raises RoutingFileError and StoreAway.
    """
    stores = open_stores(settings)
    token = settings.cluster_token
    control = httpx.AsyncClient(
        trust_env=False,
        timeout=CONTROL_TIMEOUT_S,
        headers={"Authorization": f"Bearer {token.get_secret_value()}"} if token else None,
    )
    service_registry = ServiceRegistryClient(control, settings.service_registry_url)
    directory = WatchedDirectory(service_registry, time.monotonic)
    reports = QueuedReports(service_registry.report)
    upstream = Http1Upstream(settings.connect_timeout_s, trust(settings.extra_ca_file))
    resources = AsyncExitStack()
    resources.push_async_callback(control.aclose)
    resources.push_async_callback(upstream.aclose)
    request_log = RequestLog(settings.log_format) if settings.log_level in ("debug", "info") else None
    if request_log is not None:
        resources.callback(request_log.flush)
    tracing = None
    if settings.otlp_endpoint is not None:
        from msp_gateway.tracing.otel import otlp_tracing

        tracing = otlp_tracing(
            settings.otlp_endpoint, settings.trace_share, platform_version(), time.monotonic
        )
        resources.push_async_callback(asyncio.to_thread, tracing.close)
    return create_app(
        settings,
        directory=directory,
        upstream=upstream,
        reports=reports,
        cluster=service_registry,
        background={"directory": directory.run, "reports": reports.run},
        resources=resources,
        rules=load(settings.routing_file) if settings.routing_file else None,
        environ=os.environ,
        stores=stores,
        usage_source=HttpUsageSource(control),
        request_log=request_log,
        tracing=tracing,
        draining=draining,
        # Who connects meanwhile waits; a gateway that knows no worker yet would have to refuse everybody.
        before_serving=partial(directory.wait_told, FIRST_SNAPSHOT_S),
    )


async def _telling_if_broken(name: str, run: Callable[[], Awaitable[None]]) -> None:
    try:
        await run()
    except Exception:
        log.exception("the background task %s broke", name)
        raise

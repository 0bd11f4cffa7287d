"""The service registry's API."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Response
from fastapi.responses import StreamingResponse
from pydantic import SecretStr

from msp_common import sse
from msp_common.bearer import shows_token
from msp_common.contracts.gpus import GpuStats
from msp_common.contracts.health import Health
from msp_common.contracts.workers import (
    LeaseGranted,
    Services,
    ServiceStatus,
    Snapshot,
    WorkerLease,
    WorkerReport,
)
from msp_common.errors import InvalidRequest, Unauthenticated
from msp_service_registry import gpus, overview, watch
from msp_service_registry.clock import Clock
from msp_service_registry.metrics import Metrics
from msp_service_registry.neighbours import Neighbours
from msp_service_registry.overview import TargetGroup
from msp_service_registry.workers import WorkerTable

WorkerId = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,128}$", description="The worker's own id")]


@dataclass(frozen=True)
class Parts:
    """What the routes work with."""

    table: WorkerTable
    clock: Clock
    neighbours: Neighbours
    metrics: Metrics
    health: Callable[[], Health]
    cluster_token: SecretStr | None
    service_urls: dict[str, str]
    """URLs of the services by name, as far as they are known."""
    version: str


def token_check(token: SecretStr | None) -> Callable[..., Awaitable[None]]:
    """A dependency that lets only those in who show the cluster's token; everybody if there is none."""

    async def check(authorization: Annotated[str | None, Header(include_in_schema=False)] = None) -> None:
        if token is not None and not shows_token(authorization, token.get_secret_value()):
            raise Unauthenticated(
                "This route needs the cluster's token as a bearer token; set CLUSTER_TOKEN to the same value "
                "for the service registry, its workers and the gateway."
            )

    return check


def build_router(parts: Parts) -> APIRouter:
    """All routes over these parts."""
    router = APIRouter()
    trusted = [Depends(token_check(parts.cluster_token))]

    @router.put(
        "/workers/{worker_id}", tags=["workers"], summary="Take or renew a lease", dependencies=trusted
    )
    async def put_worker(worker_id: WorkerId, lease: WorkerLease) -> LeaseGranted:
        if not lease.url.startswith(("http://", "https://")) or lease.url.endswith("/"):
            raise InvalidRequest(
                f"Invalid value for 'url': {lease.url!r} is no http(s) URL without a slash at its end.",
                param="url",
                code="invalid_value",
            )
        parts.metrics.heartbeats.inc()
        return parts.table.heartbeat(worker_id, lease)

    @router.delete(
        "/workers/{worker_id}",
        tags=["workers"],
        summary="Forget a worker",
        status_code=204,
        dependencies=trusted,
    )
    async def delete_worker(worker_id: WorkerId) -> None:
        parts.table.remove(worker_id)

    @router.post(
        "/workers/{worker_id}/reports",
        tags=["workers"],
        summary="Tell what was seen of a worker",
        status_code=204,
        dependencies=trusted,
    )
    async def post_report(worker_id: WorkerId, report: WorkerReport) -> None:
        parts.table.report(worker_id, report)
        parts.metrics.reports.labels(report.kind.value).inc()

    @router.get("/workers", tags=["workers"], summary="All workers at this moment")
    async def get_workers() -> Snapshot:
        return parts.table.snapshot()

    @router.get(
        "/workers/watch",
        tags=["workers"],
        summary="A snapshot now and one at every change, as server-sent events",
        response_class=StreamingResponse,
        responses={200: {"content": {sse.MEDIA_TYPE: {}}}},
    )
    async def watch_workers(
        last_event_id: Annotated[str | None, Header(description="The last event that was seen")] = None,
    ) -> StreamingResponse:
        return StreamingResponse(
            watch.snapshots(parts.table, parts.clock, last_event_id),
            media_type=sse.MEDIA_TYPE,
            headers=sse.HEADERS,
        )

    @router.get("/services", tags=["overview"], summary="All programs and workers, and how they are")
    async def get_services() -> Services:
        own_url = parts.service_urls.get("service-registry")
        own = ServiceStatus(
            name="service-registry",
            kind="service-registry",
            url=own_url,
            status=parts.health().status,
            reason=parts.health().reason,
            version=parts.version,
        )
        neighbours = await parts.neighbours.statuses()
        now = parts.clock.now()
        workers = [overview.worker_status(worker, now) for worker in parts.table.workers()]
        return Services(services=[own, *neighbours, *workers])

    @router.get("/gpu-stats", tags=["overview"], summary="All GPUs that workers report, merged")
    async def get_gpu_stats() -> GpuStats:
        return gpus.merge(parts.table.workers(), parts.clock.now())

    @router.get("/targets", tags=["overview"], summary="What to scrape, in Prometheus's http_sd form")
    async def get_targets() -> list[TargetGroup]:
        return overview.targets(parts.table.workers(), parts.service_urls)

    @router.get("/health", tags=["health"], summary="Whether the service registry can do its job")
    async def get_health(response: Response) -> Health:
        health = parts.health()
        response.status_code = health.http_status
        return health

    return router

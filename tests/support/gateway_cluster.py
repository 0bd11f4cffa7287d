"""A gateway over fake workers: what routing is told, and what it says to the service registry."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI

from msp_common.contracts.gpus import GpuStats
from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import (
    Capabilities,
    ServedModel,
    Services,
    ServiceStatus,
    Verdict,
    Worker,
    WorkerLease,
    WorkerLoad,
    WorkerReport,
    WorkerState,
)
from msp_common.tls import trust
from msp_gateway.access import Stores
from msp_gateway.admission import Admission, Authenticator
from msp_gateway.app import create_app
from msp_gateway.direct.protocol import direct_protocol
from msp_gateway.http1.client import Http1Upstream
from msp_gateway.routing_rules import RoutingRules
from msp_gateway.service_registry import ServiceRegistryAway
from msp_gateway.settings import GatewaySettings
from msp_gateway.tracing.traces import Tracing
from msp_gateway.usage.collector import UsageSource
from support.servers import run_server

LLM = "org/chat"


def worker(
    worker_id: str,
    model: str = LLM,
    type: ModelType = ModelType.LLM,
    *,
    url: str = "http://127.0.0.1:1",
    verdict: Verdict = Verdict.READY,
    load: WorkerLoad | None = None,
    capabilities: Capabilities | None = None,
    aliases: Sequence[str] = (),
    progress: float | None = None,
    started_at: float = 1000.5,
) -> Worker:
    """A worker as a snapshot tells of it."""
    lease = WorkerLease(
        url=url,
        host="host",
        model=ServedModel(id=model, type=type, aliases=list(aliases)),
        state=WorkerState.READY,
        progress=progress,
        capabilities=capabilities or Capabilities(),
        load=load or WorkerLoad(),
        version="1",
        started_at=started_at,
    )
    return Worker(id=worker_id, verdict=verdict, heartbeat_at=1000, lease=lease)


@dataclass
class FakeDirectory:
    """A snapshot that the test sets."""

    told: list[Worker] = field(default_factory=list)
    reason_away: str | None = None
    age: float | None = 0.0

    def workers(self) -> Sequence[Worker]:
        return self.told

    def age_s(self) -> float | None:
        return self.age

    def away(self) -> str | None:
        return self.reason_away


@dataclass
class FakeReports:
    """Remembers what was told."""

    told: list[tuple[str, WorkerReport]] = field(default_factory=list)

    def tell(self, worker_id: str, report: WorkerReport) -> None:
        self.told.append((worker_id, report))

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """Worker and kind of every report."""
        return [(worker_id, report.kind.value) for worker_id, report in self.told]


@dataclass
class FakePages:
    """The service registry's pages; None makes it away."""

    listed: list[ServiceStatus] | None = field(default_factory=list)

    async def services(self) -> Services:
        if self.listed is None:
            raise ServiceRegistryAway("GET /services: ConnectError")
        return Services(services=self.listed)

    async def gpu_stats(self) -> GpuStats:
        if self.listed is None:
            raise ServiceRegistryAway("GET /gpu-stats: ConnectError")
        return GpuStats(reason="no worker reports a GPU")


@dataclass
class GatewayClock:
    """Monotonic seconds that only the test moves."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Cluster:
    """All that stands around a gateway under test."""

    directory: FakeDirectory = field(default_factory=FakeDirectory)
    reports: FakeReports = field(default_factory=FakeReports)
    pages: FakePages = field(default_factory=FakePages)
    clock: GatewayClock = field(default_factory=GatewayClock)
    rules: RoutingRules | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    url: str = ""

    def app(
        self,
        *,
        authenticator: Authenticator | None = None,
        admission: Admission | None = None,
        background: Mapping[str, Callable[[], Awaitable[None]]] | None = None,
        stores: Stores | None = None,
        usage_source: UsageSource | None = None,
        tracing: Tracing | None = None,
        **settings: Any,
    ) -> FastAPI:
        """A gateway over it."""
        chosen = GatewaySettings(**settings)
        upstream = Http1Upstream(chosen.connect_timeout_s, trust(chosen.extra_ca_file))
        resources = AsyncExitStack()
        resources.push_async_callback(upstream.aclose)
        return create_app(
            chosen,
            directory=self.directory,
            upstream=upstream,
            resources=resources,
            reports=self.reports,
            cluster=self.pages,
            clock=self.clock,
            authenticator=authenticator,
            admission=admission,
            background=background,
            stores=stores,
            usage_source=usage_source,
            tracing=tracing,
            rules=self.rules,
            environ=self.environ,
        )


@contextmanager
def serving_gateway(
    *workers: Worker,
    after_start_s: float = 60,
    rules: RoutingRules | None = None,
    environ: Mapping[str, str] | None = None,
    **settings: Any,
) -> Iterator[Cluster]:
    """A gateway on a real port, `after_start_s` after its start."""
    cluster = Cluster(FakeDirectory(list(workers)), rules=rules, environ=environ or {})
    app = cluster.app(**settings)
    cluster.clock.now += after_start_s
    limits = GatewaySettings(**settings).connection_limits
    with run_server(app, http=direct_protocol(app.state.short_way, limits)) as url:
        cluster.url = url
        yield cluster

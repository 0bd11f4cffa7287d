"""The gateway's view of the cluster, while the service registry comes and goes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from msp_common.contracts.workers import ReportKind, WorkerReport
from msp_gateway.app import build
from msp_gateway.directory import WatchedDirectory
from msp_gateway.reports import QUEUE_LENGTH, QueuedReports
from msp_gateway.service_registry import ServiceRegistryAway, ServiceRegistryClient
from msp_gateway.settings import GatewaySettings
from support.fake_worker import FakeWorker, answers, resets
from support.gateway_cluster import GatewayClock, worker
from support.gateway_service_registry import FakeServiceRegistry
from support.servers import run_server

A, B = worker("a"), worker("b")


@asynccontextmanager
async def following(
    registry: FakeServiceRegistry, clock: Callable[[], float]
) -> AsyncIterator[WatchedDirectory]:
    async with httpx.AsyncClient(trust_env=False) as client:
        directory = WatchedDirectory(ServiceRegistryClient(client, registry.url), clock)
        task = asyncio.create_task(directory.run())
        try:
            yield directory
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks go on until the condition holds; fails after 10 s."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (the test has no event for what it waits for)
            await asyncio.sleep(0.005)


def ids(directory: WatchedDirectory) -> list[str]:
    return sorted(w.id for w in directory.workers())


async def test_changes_are_known_as_they_are_told() -> None:
    async with FakeServiceRegistry(A) as registry, following(registry, GatewayClock()) as directory:
        await until(lambda: ids(directory) == ["a"])
        assert directory.away() is None
        await registry.tell([A, B])
        await until(lambda: ids(directory) == ["a", "b"])
        await registry.tell([B])
        await until(lambda: ids(directory) == ["b"])


async def test_the_last_snapshot_is_kept_while_the_service_registry_is_away_and_its_age_is_known() -> None:
    clock = GatewayClock()
    async with FakeServiceRegistry(A) as registry, following(registry, clock) as directory:
        assert directory.age_s() is None
        await until(lambda: ids(directory) == ["a"])
        await registry.die()
        await until(lambda: directory.away() is not None)
        clock.now += 100
        assert ids(directory) == ["a"]
        assert directory.age_s() == 100


async def test_a_restarted_service_registry_has_one_lease_to_hear_its_workers_again() -> None:
    clock = GatewayClock()
    async with FakeServiceRegistry(A, B) as registry, following(registry, clock) as directory:
        await until(lambda: ids(directory) == ["a", "b"])
        await registry.die()
        await until(lambda: directory.away() is not None)
        await registry.come_back()
        await until(lambda: directory.away() is None)
        assert ids(directory) == ["a", "b"]
        await registry.tell([A])
        clock.now += 9.9
        assert ids(directory) == ["a", "b"]
        clock.now += 0.2
        await until(lambda: ids(directory) == ["a"])


async def test_without_a_watch_stream_the_workers_are_asked_for_again_and_again() -> None:
    clock = GatewayClock()
    async with (
        FakeServiceRegistry(A, watches=False) as registry,
        following(registry, clock) as directory,
    ):
        await until(lambda: ids(directory) == ["a"])
        assert directory.away() is None
        await registry.tell([A, B])
        await until(lambda: ids(directory) == ["a", "b"])


async def test_what_is_not_understood_counts_as_away() -> None:
    async with FakeWorker(answers(200, {"workers": "many"})) as odd, httpx.AsyncClient() as client:
        registry = ServiceRegistryClient(client, odd.url)
        with pytest.raises(ServiceRegistryAway, match="not understood"):
            await registry.snapshot()


async def test_reports_are_sent_in_order_and_survive_a_failure() -> None:
    sent: list[str] = []
    done = asyncio.Event()

    async def send(worker_id: str, report: WorkerReport) -> None:
        sent.append(worker_id)
        if worker_id == "a":
            raise ServiceRegistryAway("gone")
        done.set()

    reports = QueuedReports(send)
    reports.tell("a", WorkerReport(kind=ReportKind.RESET))
    reports.tell("b", WorkerReport(kind=ReportKind.OK))
    task = asyncio.create_task(reports.run())
    await asyncio.wait_for(done.wait(), 5)
    task.cancel()
    assert sent == ["a", "b"]


async def test_reports_that_nobody_takes_are_dropped_and_nobody_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def never(worker_id: str, report: WorkerReport) -> None:
        raise AssertionError("nothing is sent before run")

    reports = QueuedReports(never)
    for _ in range(QUEUE_LENGTH + 1):
        reports.tell("a", WorkerReport(kind=ReportKind.RESET))
    assert "report dropped" in caplog.text


async def test_the_whole_gateway_routes_reports_and_carries_on_without_the_service_registry() -> None:
    async with FakeWorker() as one, FakeWorker(resets) as bad:
        good, poor = worker("good", url=one.url), worker("poor", url=bad.url)
        async with FakeServiceRegistry(poor) as registry, httpx.AsyncClient(timeout=10) as client:
            app = build(
                GatewaySettings.load({"SERVICE_REGISTRY_URL": registry.url, "CLUSTER_TOKEN": "secret"})
            )
            with run_server(app) as url:

                async def until_health(status: str) -> dict[str, Any]:
                    async with asyncio.timeout(10):
                        health: dict[str, Any] = {}
                        while health.get("status") != status:
                            health = (await client.get(f"{url}/health")).json()
                    return health

                async def chat() -> int:
                    return (await client.post(f"{url}/v1/chat/completions", json={})).status_code

                await until_health("ok")
                assert await chat() == 502
                worker_id, report = await asyncio.wait_for(registry.reports.get(), 5)
                assert (worker_id, report["kind"]) == ("poor", "reset")
                assert report["request_id"].startswith("req_")
                assert registry.shown == "Bearer secret"

                await registry.tell([good])
                async with asyncio.timeout(10):
                    while await chat() != 200:
                        pass
                assert (await client.get(f"{url}/gpu-stats")).json()["reason"] == "none reported"

                await registry.die()
                health = await until_health("degraded")
                assert health["parts"]["service-registry"]["status"] == "degraded"
                assert await chat() == 200
                assert (await client.get(f"{url}/gpu-stats")).status_code == 503
                services = (await client.get(f"{url}/services")).json()["services"]
                assert [(s["name"], s["status"]) for s in services] == [
                    ("gateway", "degraded"),
                    ("service-registry", "down"),
                    ("good", "ready"),
                ]

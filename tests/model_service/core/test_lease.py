"""A worker keeps its lease alive, says changes at once, and lives on without the service registry."""

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr

from msp_common.contracts.workers import WorkerLease, WorkerState
from msp_model_service.lease import HttpLeaseOffice, LeaseKeeper, LeaseRefused
from support.servers import free_port, run_server
from support.worker_fakes import PATIENCE_S, RecordingOffice, Workbench
from support.worker_registries import FakeServiceRegistry


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def keeper(office: RecordingOffice, bench: Workbench, heartbeat_s: float = 1000) -> LeaseKeeper:
    return LeaseKeeper(office, "w1", bench.worker.describe, heartbeat_s)


async def test_the_lease_over_http_is_whole_and_carries_the_token(bench: Workbench) -> None:
    registry = FakeServiceRegistry()
    with run_server(registry.app) as url:
        office = HttpLeaseOffice(url, SecretStr("secret"))
        granted = await office.renew("w1", bench.worker.describe())
        await office.release("w1")
        await office.close()
    assert granted.lease_s == 10
    (put, delete) = registry.calls
    assert put[:2] == ("PUT", "w1")
    assert put[2]["url"] == "http://w1:8000"
    assert put[2]["model"]["id"] == "org/model"
    assert put[2]["state"] == "starting"
    assert put[2]["capabilities"]["paths"] == ["/v1/embeddings"]
    assert put[2]["gpu"] == {"gpus": None, "reason": "not read yet"}
    assert delete == ("DELETE", "w1", None)
    assert registry.tokens == {"Bearer secret"}


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "check CLUSTER_TOKEN"), (403, "check CLUSTER_TOKEN"), (500, "answered 500: no")],
)
async def test_a_refused_lease_says_why(bench: Workbench, status: int, said: str) -> None:
    registry = FakeServiceRegistry()
    registry.answer_with = status
    with run_server(registry.app) as url:
        office = HttpLeaseOffice(url, None)
        with pytest.raises(LeaseRefused, match=said):
            await office.renew("w1", bench.worker.describe())
        await office.close()
    assert registry.tokens == {None}


async def test_a_lease_that_is_gone_already_counts_as_released() -> None:
    registry = FakeServiceRegistry()
    registry.answer_with = 404
    with run_server(registry.app) as url:
        office = HttpLeaseOffice(url, None)
        await office.release("w1")
        await office.close()


async def test_an_unreachable_service_registry_is_named(bench: Workbench) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    office = HttpLeaseOffice(url, None)
    with pytest.raises(LeaseRefused, match=f"{url} cannot be reached"):
        await office.renew("w1", bench.worker.describe())
    await office.close()


async def test_heartbeats_go_on_by_themselves(bench: Workbench) -> None:
    lease = keeper(bench.office, bench, heartbeat_s=0.01)
    lease.start()
    async with asyncio.timeout(PATIENCE_S):
        while len(bench.office.leases) < 3:
            await bench.office.next_attempt()
    await lease.stop(release=True)
    assert bench.office.released == ["w1"]
    assert bench.office.closed


async def test_a_change_is_told_at_once_and_not_at_the_next_heartbeat(bench: Workbench) -> None:
    lease = keeper(bench.office, bench)
    lease.start()
    await bench.office.until(lambda _: True)
    await bench.worker.drain()
    lease.changed()
    await bench.office.until(lambda told: told.state is WorkerState.DRAINING)
    await lease.stop(release=True)


async def test_a_service_registry_that_comes_and_goes_is_one_line_each(
    bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "msp_model_service.lease")
    lease = keeper(bench.office, bench, heartbeat_s=0.01)
    seen: list[str | None] = []
    bench.office.away = "it is being restarted"
    lease.start()
    for _ in range(5):
        await bench.office.next_attempt()
    seen.append(lease.problem)
    bench.office.away = None
    await bench.office.until(lambda _: True)
    await bench.office.next_attempt()
    seen.append(lease.problem)
    assert seen == ["it is being restarted", None]
    await lease.stop(release=True)
    assert [record.getMessage() for record in caplog.records] == [
        "no lease from the service registry: it is being restarted; trying on",
        "registered as w1",
    ]


async def test_a_worker_ends_also_when_its_lease_cannot_be_released(bench: Workbench) -> None:
    lease = keeper(bench.office, bench)
    lease.start()
    await bench.office.until(lambda _: True)
    bench.office.away = "gone"
    await lease.stop(release=True)
    assert bench.office.closed


async def test_heartbeats_go_on_when_an_engines_figures_fail(
    bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    broken = [True]

    def describe() -> WorkerLease:
        if broken[0]:
            raise ZeroDivisionError("no tokens")
        return bench.worker.describe()

    lease = LeaseKeeper(bench.office, "w1", describe, heartbeat_s=0.01)
    await lease.beat()
    assert lease.problem == "ZeroDivisionError: no tokens"
    broken[0] = False
    lease.start()
    await bench.office.until(lambda _: True)
    await lease.stop(release=False)
    assert bench.office.released == []

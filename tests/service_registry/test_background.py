"""The tasks that judge, probe and tell, driven by a clock that only the test moves."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from msp_common.contracts.workers import ReportKind, Snapshot, Verdict, WorkerReport
from msp_service_registry import probing, watch
from msp_service_registry.judging import keep_judging
from msp_service_registry.probing import HttpProber, Patience, Probing
from msp_service_registry.workers import WorkerTable
from support.service_registry_fakes import FakeClock, FakeProber, lease, settle

RESET = WorkerReport(kind=ReportKind.RESET)


class Cluster:
    """A table with its tasks running."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.table = WorkerTable(self.clock, 3600)
        self.prober = FakeProber(self.clock)
        self.probing = Probing(self.table, self.prober, self.clock, jitter=lambda: 0.0)

    def verdict(self) -> Verdict:
        return self.table.workers()[0].verdict

    async def beat_for(self, seconds: int) -> None:
        for _ in range(seconds // 2):
            await self.clock.advance(2)
            self.table.heartbeat("a", lease())
        await settle()


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    tasks = [
        asyncio.create_task(keep_judging(cluster.table, cluster.clock)),
        asyncio.create_task(cluster.probing.run()),
    ]
    await settle()
    yield cluster
    for task in tasks:
        assert not task.done()
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_worker_that_falls_silent_is_judged_without_anybody_asking(cluster: Cluster) -> None:
    cluster.prober.good = False
    cluster.table.heartbeat("a", lease())
    await cluster.clock.advance(4.2)
    assert cluster.verdict() is Verdict.READY
    await cluster.clock.advance(0.2)
    assert cluster.verdict() is Verdict.SUSPECT
    await cluster.clock.advance(5.7)
    assert cluster.verdict() is Verdict.UNHEALTHY


async def test_a_stall_of_the_service_registry_itself_is_held_against_no_worker(cluster: Cluster) -> None:
    cluster.prober.good = False
    cluster.table.heartbeat("a", lease())
    await cluster.clock.advance(1)
    cluster.clock.at += 60
    await cluster.clock.advance(1.9)
    assert cluster.verdict() is Verdict.READY
    await cluster.clock.advance(0.2)
    assert cluster.verdict() is Verdict.SUSPECT
    await cluster.clock.advance(6)
    assert cluster.verdict() is Verdict.UNHEALTHY


async def test_a_worker_without_traffic_recovers_from_a_fault_by_a_probe(cluster: Cluster) -> None:
    cluster.table.heartbeat("a", lease())
    cluster.table.report("a", RESET)
    await cluster.clock.advance(0.4)
    assert cluster.verdict() is Verdict.SUSPECT
    await cluster.clock.advance(0.2)
    assert cluster.verdict() is Verdict.READY
    assert cluster.prober.asked == [(1000.5, "http://llm:8000")]


async def test_probes_of_a_worker_that_stays_bad_come_ever_more_slowly(cluster: Cluster) -> None:
    cluster.prober.good = False
    cluster.table.heartbeat("a", lease())
    cluster.table.report("a", RESET)
    await cluster.beat_for(120)
    moments = [at for at, _ in cluster.prober.asked]
    assert [later - earlier for earlier, later in itertools.pairwise(moments)] == pytest.approx(
        [1, 2, 4, 8, 16, 30, 30], abs=0.01
    )
    assert cluster.verdict() is Verdict.SUSPECT


async def test_a_worker_that_fails_work_but_answers_health_comes_back_ever_more_slowly(
    cluster: Cluster,
) -> None:
    cluster.table.heartbeat("a", lease())
    for _ in range(40):
        cluster.table.report("a", RESET)
        await cluster.clock.advance(0.5)
        cluster.table.heartbeat("a", lease())
    assert len(cluster.prober.asked) <= 6
    assert cluster.verdict() is Verdict.UNHEALTHY


async def test_patience_is_fresh_again_after_a_quiet_time(cluster: Cluster) -> None:
    cluster.table.heartbeat("a", lease())
    for _ in range(4):
        cluster.table.report("a", RESET)
        await cluster.beat_for(10)
    await cluster.beat_for(80)
    asked = len(cluster.prober.asked)
    cluster.table.report("a", RESET)
    await cluster.clock.advance(0.6)
    assert len(cluster.prober.asked) == asked + 1


async def test_a_slow_probe_is_not_doubled_and_does_not_vouch_for_later_faults(cluster: Cluster) -> None:
    cluster.prober.gate = asyncio.Event()
    cluster.table.heartbeat("a", lease())
    cluster.table.report("a", RESET)
    await cluster.clock.advance(1)
    cluster.table.report("a", RESET)
    assert len(cluster.prober.asked) == 1
    cluster.prober.gate.set()
    await settle()
    assert cluster.verdict() is Verdict.SUSPECT
    await cluster.clock.advance(2)
    assert cluster.verdict() is Verdict.READY


async def test_a_worker_back_from_silence_is_asked_last_until_it_answers(cluster: Cluster) -> None:
    cluster.prober.good = False
    cluster.table.heartbeat("a", lease())
    await cluster.clock.advance(20)
    cluster.table.heartbeat("a", lease())
    assert cluster.verdict() is Verdict.SUSPECT
    cluster.prober.good = True
    await cluster.beat_for(30)
    assert cluster.verdict() is Verdict.READY


def test_jitter_spreads_probes_and_keeps_them_bounded() -> None:
    tired = Patience(attempts=50, next_at=0)
    assert probing.after_probe(tired, 0, -1).next_at == pytest.approx(24)
    assert probing.after_probe(tired, 0, 1).next_at == pytest.approx(36)


@asynccontextmanager
async def watching(cluster: Cluster) -> AsyncIterator[AsyncIterator[bytes]]:
    stream = watch.snapshots(cluster.table, cluster.clock)
    try:
        yield stream
    finally:
        await stream.aclose()  # type: ignore[attr-defined]


def read(event: bytes) -> Snapshot:
    return Snapshot.model_validate_json(event.decode().split("data: ", 1)[1])


async def test_a_watcher_gets_the_snapshot_at_once_and_again_at_every_change(cluster: Cluster) -> None:
    async with watching(cluster) as stream:
        first = read(await anext(stream))
        assert first.workers == []
        following = asyncio.ensure_future(anext(stream))
        await cluster.clock.advance(1)
        assert not following.done()
        cluster.table.heartbeat("a", lease())
        second = read(await following)
        assert [w.id for w in second.workers] == ["a"]
        assert second.generation > first.generation


async def test_a_watcher_that_comes_back_is_told_only_what_is_new(cluster: Cluster) -> None:
    cluster.table.heartbeat("a", lease())
    stream = watch.snapshots(cluster.table, cluster.clock, str(cluster.table.generation))
    following = asyncio.ensure_future(anext(stream))
    await cluster.clock.advance(1)
    assert not following.done()
    cluster.table.heartbeat("b", lease(url="http://b:8000"))
    assert [w.id for w in read(await following).workers] == ["a", "b"]
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_watcher_whose_last_word_is_of_another_time_gets_the_snapshot(cluster: Cluster) -> None:
    stream = watch.snapshots(cluster.table, cluster.clock, str(cluster.table.generation - 1))
    assert read(await anext(stream)).generation == cluster.table.generation
    await stream.aclose()  # type: ignore[attr-defined]


async def test_changes_that_come_together_are_told_together(cluster: Cluster) -> None:
    async with watching(cluster) as stream:
        await anext(stream)
        for name in "abc":
            cluster.table.heartbeat(name, lease(url=f"http://{name}:8000"))
        following = asyncio.ensure_future(anext(stream))
        await cluster.clock.advance(0.06)
        assert len(read(await following).workers) == 3


async def test_a_watcher_that_leaves_is_forgotten(cluster: Cluster) -> None:
    async with watching(cluster) as stream:
        await anext(stream)
        listening = len(cluster.table._listeners)
    assert len(cluster.table._listeners) == listening - 1


async def test_a_comment_is_sent_while_nothing_changes(cluster: Cluster) -> None:
    async with watching(cluster) as stream:
        await anext(stream)
        following = asyncio.ensure_future(anext(stream))
        await cluster.clock.advance(5.1)
        assert (await following).startswith(b":")


@pytest.mark.parametrize(
    ("answer", "good", "said"),
    [
        (httpx.Response(200, text="anything"), True, "200"),
        (httpx.Response(503, json={"status": "down"}), False, "503"),
        (httpx.Response(302, headers={"location": "http://elsewhere/"}), False, "302"),
        (httpx.ConnectError("refused"), False, "refused"),
        (httpx.ReadTimeout(""), False, "ReadTimeout"),
    ],
    ids=["ok", "down", "redirect", "refused", "timeout"],
)
async def test_a_probe_is_good_only_when_health_answers_200(
    answer: httpx.Response | Exception, good: bool, said: str
) -> None:
    asked: list[str] = []

    def worker(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(worker)) as client:
        found = await HttpProber(client, 1).probe("http://llm:8000")
    assert found.good is good
    assert said in found.detail
    assert asked == ["http://llm:8000/health"]

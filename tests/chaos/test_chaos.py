"""Workers are killed, stopped, slowed and restarted under mixed load: nothing is lost, nothing ends short.

20 seconds; `--long` makes it 60.
"""

import asyncio
import logging
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from support.chaos_cluster import CHAT, PATIENCE_S, ChaosCluster, Program, chaos_cluster
from support.chaos_load import Ended, Load
from support.long_runs import LONG, SEED
from support.platform_processes import eventually

SECONDS = 60 if LONG else 20
CLIENTS = 8
KILLINGS = 30 if LONG else 2

log = logging.getLogger(__name__)

Fault = Callable[[ChaosCluster, Program, random.Random], Awaitable[None]]


async def killed(cluster: ChaosCluster, worker: Program, rng: random.Random) -> None:
    await asyncio.to_thread(worker.end)
    await asyncio.sleep(rng.uniform(0, 1))
    await started_again(cluster, worker)


async def ended_gently(cluster: ChaosCluster, worker: Program, rng: random.Random) -> None:
    await asyncio.to_thread(worker.end, signal.SIGTERM)
    await started_again(cluster, worker)


async def stopped_for_a_moment(cluster: ChaosCluster, worker: Program, rng: random.Random) -> None:
    worker.send(signal.SIGSTOP)
    await asyncio.sleep(rng.uniform(0.5, 3))
    worker.send(signal.SIGCONT)
    await ready_again(cluster, worker)


async def slowed(cluster: ChaosCluster, worker: Program, rng: random.Random) -> None:
    for _ in range(20):
        worker.send(signal.SIGSTOP)
        await asyncio.sleep(0.08)
        worker.send(signal.SIGCONT)
        await asyncio.sleep(0.02)
    await ready_again(cluster, worker)


async def service_registry_restarted(cluster: ChaosCluster, worker: Program, rng: random.Random) -> None:
    await asyncio.to_thread(cluster.service_registry.end)
    await asyncio.sleep(rng.uniform(0, 2))
    await started_again(cluster, cluster.service_registry)


FAULTS: list[Fault] = [killed, ended_gently, stopped_for_a_moment, slowed, service_registry_restarted]


async def started_again(cluster: ChaosCluster, program: Program) -> None:
    program.start()
    await ready_again(cluster, program)


async def ready_again(cluster: ChaosCluster, program: Program) -> None:
    """One fault at a time for each model: the next one waits until all of this one's traces are gone."""
    await asyncio.to_thread(eventually, f"{program.name} answers", program.answers, PATIENCE_S)
    await asyncio.to_thread(cluster.wait_ready)


async def make_trouble(cluster: ChaosCluster, rng: random.Random, until: float) -> list[str]:
    """Faults one after the other; what was done, in order."""
    loop = asyncio.get_running_loop()
    done: list[str] = []
    faults = rng.sample(FAULTS, len(FAULTS))
    while loop.time() < until:
        fault = faults[len(done) % len(faults)]
        worker = rng.choice(cluster.workers[CHAT] if rng.random() < 0.5 else cluster.all_workers)
        done.append(f"{worker.name} {fault.__name__}")
        await fault(cluster, worker, rng)
    return done


def at_rest(cluster: ChaosCluster) -> bool:
    """Whether nobody works on anything, by their own words."""
    try:
        gateway = cluster.gateway.metric("msp_gateway_requests_in_flight")
        workers = [
            w.metric("msp_worker_in_flight") + w.metric("msp_worker_queued") for w in cluster.all_workers
        ]
    except httpx.HTTPError:
        return False
    return gateway == 0 and not any(workers)


def test_nothing_is_lost_while_workers_die_and_come_back(tmp_path: Path) -> None:
    log.warning("seed %d (repeat with --seed=%d)", SEED, SEED)
    with chaos_cluster(tmp_path) as cluster:

        async def trouble_under_load() -> tuple[Load, list[str]]:
            load = Load(cluster.gateway.url, SEED)
            loading = asyncio.create_task(load.run(CLIENTS))
            try:
                until = asyncio.get_running_loop().time() + SECONDS
                return load, await make_trouble(cluster, random.Random(SEED), until)
            finally:
                load.stop()
                await loading

        load, done = asyncio.run(trouble_under_load())
        found = load.findings
        counts = {f"{kind}: {ended}": count for (kind, ended), count in sorted(found.counts.items())}
        log.warning("%s; %s", "; ".join(done), counts)
        assert not found.wrong, found.wrong[:5]
        assert not found.errors, found.errors[:5]
        for kind in ("chat", "chat stream", "embedding", "transcription", "bad request"):
            assert found.counts[kind, Ended.RIGHT] > 0, kind
        eventually("all counters are back at zero", lambda: at_rest(cluster), PATIENCE_S)


def test_streams_of_killed_workers_reach_their_ends_where_they_are_resumed(tmp_path: Path) -> None:
    """Only streams, only kills: none may end with an error, since another replica is alive all the time."""
    with chaos_cluster(tmp_path, models={CHAT: "llm"}, GATEWAY_RESUME_STREAMS="true") as cluster:

        async def killing_under_load() -> Load:
            load = Load(cluster.gateway.url, SEED, only="chat stream", most_words=300)
            loading = asyncio.create_task(load.run(CLIENTS))
            try:
                rng, killings = random.Random(SEED), 0
                while killings < KILLINGS:
                    await killed(cluster, cluster.workers[CHAT][killings % 2], rng)
                    killings += 1
                    # A stream at which two workers died ends with an error: no third is risked for it.
                    await load.all_begun_anew()
                return load
            finally:
                load.stop()
                await loading

        found = asyncio.run(killing_under_load()).findings
        resumed = cluster.gateway.metric("msp_gateway_resumes_total")
        log.warning("%d streams, %d resumed (seed %d)", found.total, resumed, SEED)
        assert not found.wrong, found.wrong[:5]
        assert found.counts == {("chat stream", Ended.RIGHT): found.total}
        assert resumed > 0
        eventually("all counters are back at zero", lambda: at_rest(cluster), PATIENCE_S)

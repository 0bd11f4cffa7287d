"""Whoever watches a job sees it now, then its changes, and in any case its end."""

import asyncio

from msp_common.contracts.jobs import Job, JobState
from msp_registry.jobs.jobs import Jobs
from support.registry_jobs import Clock, Gate, asking, failing, jobs_over
from support.registry_memory_store import MemoryStore

HOUR_S = 3600.0


async def seen_to_the_end(jobs: Jobs, job_id: str) -> list[Job]:
    return [job async for job in jobs.watch(job_id)]


async def test_a_watcher_sees_now_then_changes_then_the_end() -> None:
    gate = Gate()
    jobs = jobs_over(MemoryStore(), gate)
    job = await jobs.submit("org/a", asking())
    watching = jobs.watch(job.id)
    assert (await anext(watching)).state is JobState.REQUESTED
    assert (await anext(watching)).state is JobState.DOWNLOADING
    await gate.begun.wait()
    assert gate.progress is not None
    gate.progress.expect([("f", 10)])
    gate.progress.moved("f", 4)
    assert (await anext(watching)).bytes_done == 4
    gate.let_go.set()
    assert [job.state async for job in watching] == [JobState.SUCCEEDED]


async def test_thousands_of_changes_are_few_events_and_the_end_does_not_wait() -> None:
    gate = Gate()
    jobs = jobs_over(MemoryStore(), gate, watch_gap_s=HOUR_S)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    assert gate.progress is not None
    gate.progress.expect([("f", 10_000)])
    watching = jobs.watch(job.id)
    assert (await anext(watching)).bytes_done == 0
    rest = asyncio.create_task(anext(watching))
    for _ in range(5_000):
        gate.progress.moved("f", 1)
    gate.let_go.set()
    assert (await rest).state is JobState.SUCCEEDED
    assert [job async for job in watching] == []


async def test_several_watchers_all_see_the_end_and_one_that_leaves_is_forgotten() -> None:
    gate = Gate()
    jobs = jobs_over(MemoryStore(), gate)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    leaving = jobs.watch(job.id)
    await anext(leaving)
    assert jobs.watchers == 1
    await leaving.aclose()
    assert jobs.watchers == 0
    all_seen = [asyncio.create_task(seen_to_the_end(jobs, job.id)) for _ in range(3)]
    gate.let_go.set()
    for seen in await asyncio.gather(*all_seen):
        assert seen[-1].state is JobState.SUCCEEDED


async def test_an_ended_job_is_told_once() -> None:
    jobs = jobs_over(MemoryStore(), failing(ValueError()))
    job = await jobs.submit("org/a", asking())
    ended = await jobs.wait(job.id)
    assert await seen_to_the_end(jobs, job.id) == [ended]


async def test_a_cancelled_job_ends_the_watching() -> None:
    gate = Gate()
    jobs = jobs_over(MemoryStore(), gate)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    watching = asyncio.create_task(seen_to_the_end(jobs, job.id))
    await jobs.cancel(job.id)
    assert (await watching)[-1].state is JobState.CANCELLED


async def test_a_stop_ends_the_watching_without_an_end_of_the_job() -> None:
    gate = Gate()
    jobs = jobs_over(MemoryStore(), gate)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    watching = jobs.watch(job.id)
    await anext(watching)
    await jobs.stop()
    assert [job.state.ended async for job in watching] in ([], [False])


async def test_nothing_is_told_twice() -> None:
    gate, looked = Gate(), asyncio.Event()

    def clock() -> float:
        looked.set()
        return 1.0

    jobs = jobs_over(MemoryStore(), gate, clock=clock, watch_refresh_s=0)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    watching = asyncio.create_task(seen_to_the_end(jobs, job.id))
    for _ in range(5):
        looked.clear()
        await looked.wait()
    gate.let_go.set()
    assert [seen.state for seen in await watching] == [JobState.DOWNLOADING, JobState.SUCCEEDED]


async def test_a_stalled_job_loses_its_rate_without_any_news_of_it() -> None:
    gate, clock = Gate(), Clock()
    jobs = jobs_over(MemoryStore(), gate, clock=clock, watch_refresh_s=0)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    assert gate.progress is not None
    gate.progress.expect([("f", 10_000)])
    clock.now += 2
    gate.progress.moved("f", 1000)
    watching = jobs.watch(job.id)
    first = await anext(watching)
    assert (first.rate_bytes_per_s, first.eta_s) == (500, 18)
    clock.now += 60
    assert (await anext(watching)).rate_bytes_per_s is None
    await jobs.stop()
    await watching.aclose()

"""What is known of jobs gets into the store, in order, without holding anything up."""

import asyncio

import pytest

from msp_common.contracts.jobs import JobState
from msp_registry.jobs.job_records import KEPT_ENDED_JOBS
from msp_registry.stores.store import StoreUnavailable
from support.registry_jobs import Clock, Gate, StuckStore, Ticks, asking, jobs_over, kept
from support.registry_memory_store import MemoryStore


async def test_a_cancelled_job_is_kept_as_such_however_long_the_store_is_away() -> None:
    store, gate, ticks = MemoryStore(), Gate(), Ticks()
    jobs = jobs_over(store, gate, ticks=ticks, answer_within_s=0.01)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    await ticks.slept.wait()
    store.down = True
    assert (await jobs.cancel(job.id)).state is JobState.CANCELLED
    assert kept(store, job.id).state is JobState.DOWNLOADING
    await ticks.tick()
    store.down = False
    await ticks.tick()
    await jobs.wait(job.id)
    assert kept(store, job.id).state is JobState.CANCELLED


async def test_mere_progress_is_written_by_a_tick_and_not_by_the_work() -> None:
    store, gate, ticks = MemoryStore(), Gate(), Ticks()
    jobs = jobs_over(store, gate, ticks=ticks)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    assert gate.progress is not None
    gate.progress.expect([("f", 1000)])
    before = len(store.puts)
    for _ in range(500):
        gate.progress.moved("f", 1)
    assert len(store.puts) == before
    await ticks.tick()
    assert (len(store.puts), kept(store, job.id).bytes_done) == (before + 1, 500)
    await ticks.tick()  # nothing new, nothing written
    assert len(store.puts) == before + 1
    store.down = True
    gate.progress.moved("f", 1)
    await ticks.tick()
    store.down = False
    await ticks.tick()
    assert kept(store, job.id).bytes_done == 501
    gate.let_go.set()
    assert (await jobs.wait(job.id)).state is JobState.SUCCEEDED


async def test_a_store_that_is_away_holds_up_no_counting_and_no_older_record_comes_last() -> None:
    store, gate, ticks = StuckStore(), Gate(), Ticks()
    jobs = jobs_over(store, gate, ticks=ticks)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    assert gate.progress is not None
    gate.progress.expect([("f", 10)])
    store.answers.clear()
    ticking = asyncio.create_task(ticks.tick())
    await store.waiting.wait()  # the tick's write is under way
    gate.progress.moved("f", 10)
    entering = asyncio.create_task(gate.progress.enter(JobState.PUBLISHING))
    gate.let_go.set()
    async for seen in jobs.watch(job.id):
        if seen.state.ended:
            assert (seen.state, seen.bytes_done) == (JobState.SUCCEEDED, 10)
    store.answers.set()
    await asyncio.gather(entering, ticking)
    await jobs.wait(job.id)
    assert kept(store, job.id).state is JobState.SUCCEEDED


class FirstIsSlow(MemoryStore):
    """A store in which one write takes until it is let through; later ones overtake it."""

    def __init__(self) -> None:
        super().__init__()
        self.slow_next = False
        self.waiting = asyncio.Event()
        self.let_through = asyncio.Event()

    async def put(self, key: str, data: bytes) -> None:
        if self.slow_next:
            self.slow_next = False
            self.waiting.set()
            await self.let_through.wait()
        await super().put(key, data)


async def test_a_write_that_takes_long_is_not_overtaken() -> None:
    store, gate, ticks = FirstIsSlow(), Gate(), Ticks()
    jobs = jobs_over(store, gate, ticks=ticks)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    assert gate.progress is not None
    gate.progress.expect([("f", 10)])
    store.slow_next = True
    ticking = asyncio.create_task(ticks.tick())
    await store.waiting.wait()
    gate.let_go.set()
    assert [seen.state async for seen in jobs.watch(job.id)][-1] is JobState.SUCCEEDED
    store.let_through.set()
    await ticking
    await jobs.wait(job.id)
    assert kept(store, job.id).state is JobState.SUCCEEDED


async def test_a_store_that_is_down_refuses_new_jobs() -> None:
    store = MemoryStore()
    jobs = jobs_over(store)
    store.down = True
    with pytest.raises(StoreUnavailable):
        await jobs.submit("org/a", asking())
    assert jobs.all() == []
    store.down = False
    await jobs.wait((await jobs.submit("org/a", asking())).id)


async def test_who_asks_is_not_kept_waiting_by_a_patient_store() -> None:
    store = StuckStore()
    store.answers.clear()
    jobs = jobs_over(store, answer_within_s=0.01)
    with pytest.raises(StoreUnavailable, match="could not be written"):
        await jobs.submit("org/a", asking())
    assert jobs.all() == []
    async with jobs.exclusive("org/a"):
        pass


async def test_a_job_that_was_refused_is_not_done_by_the_next_process() -> None:
    """Its record reached the store, but the answer came too late for who had asked."""

    class LateAnswer(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.deleted = asyncio.Event()

        async def put(self, key: str, data: bytes) -> None:
            await super().put(key, data)
            await asyncio.Event().wait()

        async def delete(self, key: str) -> None:
            await super().delete(key)
            self.deleted.set()

    store = LateAnswer()
    jobs = jobs_over(store, answer_within_s=0.05)
    with pytest.raises(StoreUnavailable):
        await jobs.submit("org/a", asking())
    assert store.objects
    await jobs.restore()
    assert jobs.running == 0
    await asyncio.wait_for(store.deleted.wait(), 20)
    assert store.objects == {}
    await jobs.stop()


async def test_old_jobs_are_forgotten_here_and_in_the_store() -> None:
    store, clock = MemoryStore(), Clock()
    jobs = jobs_over(store, clock=clock)
    for _ in range(KEPT_ENDED_JOBS + 3):
        clock.now += 1
        await jobs.wait((await jobs.submit("org/a", asking())).id)
    assert len([k for k in store.objects if k.startswith(".registry/jobs/")]) == KEPT_ENDED_JOBS
    assert len(jobs.all()) == KEPT_ENDED_JOBS
    assert jobs.get("job-1") is None


async def test_a_damaged_job_does_not_hide_the_others() -> None:
    store = MemoryStore()
    jobs = jobs_over(store)
    job = await jobs.submit("org/a", asking())
    await jobs.wait(job.id)
    store.objects[".registry/jobs/odd.json"] = b"{"
    restarted = jobs_over(store)
    await restarted.restore()
    assert [j.id for j in restarted.all()] == [job.id]

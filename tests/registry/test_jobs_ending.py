"""Jobs are cancelled for good; what a stop or a kill cut off is carried on with by the next process."""

import asyncio
import logging

import pytest

from msp_common.contracts.jobs import Job, JobState
from msp_registry.failures import WrongBytes
from msp_registry.jobs.jobs import JobEnded
from msp_registry.jobs.progress import Progress
from msp_registry.metrics import Metrics
from support.registry_jobs import ByRevision, Clock, Gate, StuckStore, asking, jobs_over, kept
from support.registry_memory_store import MemoryStore


async def test_a_killed_process_is_followed_by_one_that_carries_on() -> None:
    store, gate = MemoryStore(), Gate()
    killed = jobs_over(store, ByRevision(long=gate), clock=(clock := Clock()))
    done = await killed.submit("org/b", asking())
    await killed.wait(done.id)
    job = await killed.submit("org/a", asking("long"))
    clock.now += 1
    waiting = await killed.submit("org/a", asking("next"))
    await gate.begun.wait()
    left = dict(store.objects)
    await killed.stop()
    store.objects = left  # as a kill would have left them

    work = ByRevision()
    restarted = jobs_over(store, work, first=7, clock=clock)
    clock.now += 100
    await restarted.restore()
    assert restarted.restored.is_set()
    again = restarted.get(job.id)
    assert again is not None
    assert (again.state, again.created_at, again.commit) == (JobState.REQUESTED, 1000.0, None)
    assert (await restarted.submit("org/a", asking("long"))).id == job.id
    for job_id in (job.id, waiting.id):
        assert (await restarted.wait(job_id)).state is JobState.SUCCEEDED
        assert kept(store, job_id).state is JobState.SUCCEEDED
    assert [(given.id, given.request) for given in work.given] == [
        (job.id, asking("long")),
        (waiting.id, asking("next")),
    ]
    assert restarted.get(done.id) == kept(store, done.id)


async def test_a_stop_leaves_jobs_to_the_next_process(caplog: pytest.LogCaptureFixture) -> None:
    store, gate = MemoryStore(), Gate()
    jobs = jobs_over(store, gate, parallel=1)
    running = await jobs.submit("org/a", asking())
    waiting = await jobs.submit("org/b", asking())
    await gate.begun.wait()
    with caplog.at_level(logging.INFO):
        await jobs.stop()
    assert "the next start of the registry carries on" in caplog.text
    assert not kept(store, running.id).state.ended
    assert not kept(store, waiting.id).state.ended
    gate.let_go.set()
    after = jobs_over(store, gate)
    await after.restore()
    assert [(await after.wait(i)).state for i in (running.id, waiting.id)] == [JobState.SUCCEEDED] * 2


async def test_work_that_makes_an_error_of_being_stopped_is_carried_on_with_all_the_same() -> None:
    store, gate = MemoryStore(), Gate()

    async def work(job: Job, progress: Progress) -> None:
        try:
            await gate(job, progress)
        except asyncio.CancelledError:
            raise WrongBytes("cut off") from None

    jobs = jobs_over(store, work)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    await jobs.stop()
    assert kept(store, job.id).state is JobState.DOWNLOADING


async def test_a_stop_does_not_wait_for_a_store_that_is_away() -> None:
    store, gate = StuckStore(), Gate()
    jobs = jobs_over(store, gate)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    store.answers.clear()
    gate.let_go.set()
    await store.waiting.wait()
    await jobs.stop(grace_s=0)
    assert kept(store, job.id).state is JobState.DOWNLOADING


async def test_a_running_job_is_cancelled_and_stays_so() -> None:
    store, gate, metrics = MemoryStore(), Gate(), Metrics()
    jobs = jobs_over(store, gate, metrics=metrics)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    cancelled = await jobs.cancel(job.id)
    assert (cancelled.state, cancelled.error, cancelled.commit) == (JobState.CANCELLED, None, "a" * 40)
    assert kept(store, job.id) == cancelled
    assert metrics.registry.get_sample_value("msp_registry_jobs_ended_total", {"outcome": "cancelled"}) == 1
    with pytest.raises(JobEnded, match="CANCELLED"):
        await jobs.cancel(job.id)
    after = jobs_over(store, gate)
    await after.restore()
    assert after.running == 0


async def test_a_job_that_waits_for_its_turn_is_cancelled_and_the_next_one_has_it() -> None:
    gate = Gate()
    work = ByRevision(long=gate)
    jobs = jobs_over(MemoryStore(), work)
    first = await jobs.submit("org/a", asking("long"))
    second = await jobs.submit("org/a", asking("second"))
    third = await jobs.submit("org/a", asking("third"))
    assert (await jobs.cancel(second.id)).state is JobState.CANCELLED  # before any of them has begun
    await gate.begun.wait()
    gate.let_go.set()
    await jobs.wait(third.id)
    assert [given.id for given in work.given] == [first.id, third.id]


async def test_what_has_just_succeeded_is_not_cancelled() -> None:
    async def work(job: Job, progress: Progress) -> None:
        try:
            await gate(job, progress)
        except asyncio.CancelledError:
            return  # it was past the point of no return

    gate = Gate()
    jobs = jobs_over(MemoryStore(), work)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    assert (await jobs.cancel(job.id)).state is JobState.SUCCEEDED


async def test_what_work_tells_after_its_end_is_not_heard() -> None:
    store, gate = MemoryStore(), Gate()
    jobs = jobs_over(store, gate)
    job = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    watching = jobs.watch(job.id)
    await anext(watching)
    ended = await jobs.cancel(job.id)
    assert gate.progress is not None
    await gate.progress.enter(JobState.PUBLISHING)
    gate.progress.expect([("f", 10)])
    gate.progress.moved("f", 10)
    assert jobs.get(job.id) == kept(store, job.id) == ended
    assert [seen async for seen in watching] == [ended]


async def test_a_job_that_is_just_being_accepted_is_not_taken_for_an_earlier_processs() -> None:
    """Its record is in the store already, and the answer to that write is still on its way."""

    class LateAnswer(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.written, self.answer = asyncio.Event(), asyncio.Event()

        async def put(self, key: str, data: bytes) -> None:
            await super().put(key, data)
            self.written.set()
            await self.answer.wait()

    store, work = LateAnswer(), ByRevision()
    jobs = jobs_over(store, work)
    submitting = asyncio.create_task(jobs.submit("org/a", asking()))
    await store.written.wait()
    await jobs.restore()
    assert jobs.running == 0
    store.answer.set()
    job = await submitting
    assert (await jobs.wait(job.id)).state is JobState.SUCCEEDED
    assert [given.id for given in work.given] == [job.id]


async def test_a_restored_job_waits_until_its_model_is_free() -> None:
    store, gate = MemoryStore(), Gate()
    killed = jobs_over(store, gate)
    job = await killed.submit("org/a", asking())
    await gate.begun.wait()
    await killed.stop()
    work = ByRevision()
    restarted = jobs_over(store, work, first=7)
    other = await restarted.submit("org/b", asking())
    async with restarted.exclusive("org/a"):
        await restarted.restore()
        await restarted.wait(other.id)
        assert [given.repo_id for given in work.given] == ["org/b"]
    await restarted.wait(job.id)
    assert [given.repo_id for given in work.given] == ["org/b", "org/a"]

"""Jobs run a few at once, are not doubled, and are remembered across restarts."""

import asyncio
from itertools import count

import pytest

from msp_common.contracts.jobs import Job, JobState
from msp_registry.failures import WrongBytes
from msp_registry.jobs import KEPT_ENDED_JOBS, SAVE_EVERY_S, Jobs, RepoBusy, Work
from msp_registry.metrics import Metrics
from msp_registry.progress import Progress
from msp_registry.store import StoreUnavailable
from support.registry_memory_store import MemoryStore


class Clock:
    """Tells the time that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def jobs_over(store: MemoryStore, *, parallel: int = 2, clock: Clock | None = None, first: int = 1) -> Jobs:
    numbers = count(first)
    return Jobs(
        store,
        parallel=parallel,
        clock=clock or Clock(),
        new_id=lambda: f"job-{next(numbers)}",
        metrics=Metrics(),
    )


def kept(store: MemoryStore, job_id: str) -> Job:
    return Job.model_validate_json(store.objects[f".registry/jobs/{job_id}.json"])


class Gate:
    """Work that waits until it is let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.let_go = asyncio.Event()

    async def work(self, progress: Progress) -> None:
        await progress.enter(JobState.DOWNLOADING, commit="a" * 40)
        self.begun.set()
        await self.let_go.wait()


async def nothing(progress: Progress) -> None:
    return


def failing(error: Exception) -> Work:
    async def work(progress: Progress) -> None:
        raise error

    return work


async def test_a_job_ends_and_is_kept() -> None:
    store = MemoryStore()
    jobs = jobs_over(store)
    job = await jobs.submit("org/a", "main", "x", nothing)
    assert job.state is JobState.REQUESTED
    assert (await jobs.wait(job.id)).state is JobState.SUCCEEDED
    assert kept(store, job.id).state is JobState.SUCCEEDED


async def test_the_same_request_while_it_runs_is_the_same_job() -> None:
    jobs, gate = jobs_over(MemoryStore()), Gate()
    first = await jobs.submit("org/a", "main", "x", gate.work)
    await gate.begun.wait()
    again = await jobs.submit("org/a", "main", "x", nothing)
    other = await jobs.submit("org/a", "main", "y", nothing)
    assert (again.id, again.state) == (first.id, JobState.DOWNLOADING)
    assert other.id != first.id
    gate.let_go.set()
    await jobs.wait(first.id)
    later = await jobs.submit("org/a", "main", "x", nothing)
    assert later.id not in (first.id, other.id)
    await jobs.wait(later.id)


async def test_only_so_many_run_at_once() -> None:
    jobs, gates = jobs_over(MemoryStore(), parallel=2), [Gate(), Gate(), Gate()]
    ids = [(await jobs.submit(f"org/{n}", "main", "x", gate.work)).id for n, gate in enumerate(gates)]
    await gates[0].begun.wait()
    await gates[1].begun.wait()
    assert not gates[2].begun.is_set()
    gates[0].let_go.set()
    await gates[2].begun.wait()
    for gate in gates:
        gate.let_go.set()
    assert [(await jobs.wait(i)).state for i in ids] == [JobState.SUCCEEDED] * 3


async def test_jobs_of_one_model_take_turns_and_leave_the_slots_to_others() -> None:
    jobs, first, second, other = jobs_over(MemoryStore(), parallel=2), Gate(), Gate(), Gate()
    await jobs.submit("org/a", "main", "x", first.work)
    last = await jobs.submit("org/a", "main", "y", second.work)
    await jobs.submit("org/b", "main", "x", other.work)
    await first.begun.wait()
    await other.begun.wait()
    assert not second.begun.is_set()
    for gate in (first, second, other):
        gate.let_go.set()
    assert (await jobs.wait(last.id)).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (WrongBytes("x: sha256 differs"), "wrong_bytes", True),
        (StoreUnavailable("gone"), "store_failed", True),
        (ZeroDivisionError("secret"), "unexpected", False),
    ],
)
async def test_a_failure_names_its_cause(error: Exception, code: str, retryable: bool) -> None:
    store = MemoryStore()
    jobs = jobs_over(store)
    job = await jobs.submit("org/a", "main", "x", failing(error))
    ended = await jobs.wait(job.id)
    assert ended.state is JobState.FAILED
    assert ended.error is not None
    assert (ended.error.code, ended.error.retryable) == (code, retryable)
    assert "secret" not in ended.error.message
    assert kept(store, job.id) == ended


async def test_a_job_that_ran_at_a_kill_is_told_as_interrupted_by_the_next_process() -> None:
    store, gate = MemoryStore(), Gate()
    killed = jobs_over(store)
    done = await killed.submit("org/b", "main", "x", nothing)
    await killed.wait(done.id)
    job = await killed.submit("org/a", "main", "x", gate.work)
    await gate.begun.wait()
    left = dict(store.objects)
    await killed.stop()
    store.objects = left  # as a kill would have left them

    restarted = jobs_over(store, first=7)
    await restarted.restore()
    found = restarted.get(job.id)
    assert found is not None
    assert found.error is not None
    assert (found.state, found.error.code, found.error.retryable) == (JobState.FAILED, "interrupted", True)
    assert (found.commit, kept(store, job.id)) == ("a" * 40, found)
    assert restarted.get(done.id) == kept(store, done.id)
    again = await restarted.submit("org/a", "main", "x", nothing)
    assert again.id == "job-7"
    await restarted.wait(again.id)


async def test_a_stop_ends_jobs_as_interrupted() -> None:
    store, gate = MemoryStore(), Gate()
    jobs = jobs_over(store)
    job = await jobs.submit("org/a", "main", "x", gate.work)
    await gate.begun.wait()
    await jobs.stop()
    error = kept(store, job.id).error
    assert error is not None
    assert error.code == "interrupted"


async def test_a_damaged_job_does_not_hide_the_others() -> None:
    store = MemoryStore()
    jobs = jobs_over(store)
    job = await jobs.submit("org/a", "main", "x", nothing)
    await jobs.wait(job.id)
    store.objects[".registry/jobs/odd.json"] = b"{"
    restarted = jobs_over(store)
    await restarted.restore()
    assert [j.id for j in restarted.all()] == [job.id]


async def test_mere_progress_is_written_only_so_often() -> None:
    store, clock, moved = MemoryStore(), Clock(), asyncio.Event()
    jobs = jobs_over(store, clock=clock)

    async def work(progress: Progress) -> None:
        await progress.expect(total_bytes=100, files=1)
        before = len(store.puts)
        for _ in range(50):
            await progress.moved(1)
        assert len(store.puts) == before
        clock.now += SAVE_EVERY_S
        store.down = True
        await progress.moved(1)  # what cannot be written now is no reason to fail
        store.down = False
        clock.now += SAVE_EVERY_S
        await progress.moved(1)
        assert len(store.puts) == before + 1
        moved.set()

    job = await jobs.submit("org/a", "main", "x", work)
    ended = await jobs.wait(job.id)
    assert moved.is_set(), ended.error
    assert (ended.bytes_done, ended.bytes_total) == (52, 100)


async def test_a_model_being_deleted_takes_no_job_and_one_being_brought_is_not_deleted() -> None:
    jobs, gate = jobs_over(MemoryStore()), Gate()
    async with jobs.exclusive("org/a"):
        with pytest.raises(RepoBusy, match="being deleted"):
            await jobs.submit("org/a", "main", "x", nothing)
    job = await jobs.submit("org/a", "main", "x", gate.work)
    with pytest.raises(RepoBusy, match=job.id):
        async with jobs.exclusive("org/a"):
            raise AssertionError("entered")
    gate.let_go.set()
    await jobs.wait(job.id)
    async with jobs.exclusive("org/a"):
        pass


async def test_a_store_that_is_down_refuses_new_jobs() -> None:
    store = MemoryStore()
    jobs = jobs_over(store)
    store.down = True
    with pytest.raises(StoreUnavailable):
        await jobs.submit("org/a", "main", "x", nothing)
    assert jobs.all() == []
    store.down = False
    job = await jobs.submit("org/a", "main", "x", nothing)
    await jobs.wait(job.id)


async def test_old_jobs_are_forgotten() -> None:
    store, clock = MemoryStore(), Clock()
    jobs = jobs_over(store, clock=clock)
    for _ in range(KEPT_ENDED_JOBS + 3):
        clock.now += 1
        job = await jobs.submit("org/a", "main", "x", nothing)
        await jobs.wait(job.id)
    assert len(jobs.all()) == len([k for k in store.objects if k.startswith(".registry/jobs/")])
    assert len(jobs.all()) == KEPT_ENDED_JOBS
    assert jobs.get("job-1") is None

"""Jobs run a few at once, are not doubled, keep out of each other's way, and say why they failed."""

import asyncio

import pytest

from msp_common.contracts.jobs import JobState
from msp_registry.failures import WrongBytes
from msp_registry.jobs.jobs import NoSuchJob, RepoBusy
from msp_registry.metrics import Metrics
from msp_registry.stores.store import StoreFull, StoreUnavailable
from support.registry_jobs import ByRevision, Gate, StuckStore, asking, failing, jobs_over, kept
from support.registry_memory_store import MemoryStore


async def test_a_job_ends_and_is_kept() -> None:
    store = MemoryStore()
    jobs = jobs_over(store)
    job = await jobs.submit("org/a", asking())
    assert (job.state, kept(store, job.id).state) == (JobState.REQUESTED, JobState.REQUESTED)
    assert (await jobs.wait(job.id)).state is JobState.SUCCEEDED
    assert kept(store, job.id) == jobs.get(job.id)
    assert jobs.running == 0


async def test_the_same_request_while_it_runs_is_the_same_job() -> None:
    gate = Gate()
    jobs = jobs_over(MemoryStore(), gate)
    first = await jobs.submit("org/a", asking())
    await gate.begun.wait()
    again = await jobs.submit("org/a", asking())
    other = await jobs.submit("org/a", asking("v1"))
    elsewhere = await jobs.submit("org/b", asking())
    assert (again.id, again.state) == (first.id, JobState.DOWNLOADING)
    assert len({first.id, other.id, elsewhere.id}) == 3
    gate.let_go.set()
    await jobs.wait(first.id)
    later = await jobs.submit("org/a", asking())
    assert later.id != first.id


async def test_two_equal_requests_at_the_same_moment_are_one_job() -> None:
    store = StuckStore()
    jobs = jobs_over(store)
    store.answers.clear()
    both = [asyncio.create_task(jobs.submit("org/a", asking())) for _ in range(2)]
    await store.waiting.wait()
    assert jobs.all() == []  # not accepted before it is in the store
    store.answers.set()
    first, second = [await task for task in both]
    assert first.id == second.id


async def test_only_so_many_run_at_once() -> None:
    gates = [Gate(), Gate(), Gate()]
    work = ByRevision(r0=gates[0], r1=gates[1], r2=gates[2])
    jobs = jobs_over(MemoryStore(), work, parallel=2)
    ids = [(await jobs.submit(f"org/{n}", asking(f"r{n}"))).id for n in range(3)]
    await gates[0].begun.wait()
    await gates[1].begun.wait()
    assert not gates[2].begun.is_set()
    gates[0].let_go.set()
    await gates[2].begun.wait()
    for gate in gates:
        gate.let_go.set()
    assert [(await jobs.wait(i)).state for i in ids] == [JobState.SUCCEEDED] * 3


async def test_jobs_of_one_model_take_turns_and_leave_the_slots_to_others() -> None:
    first, second, other = Gate(), Gate(), Gate()
    jobs = jobs_over(MemoryStore(), ByRevision(first=first, second=second, other=other), parallel=2)
    await jobs.submit("org/a", asking("first"))
    last = await jobs.submit("org/a", asking("second"))
    await jobs.submit("org/b", asking("other"))
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
        (StoreFull("no room"), "disk_full", False),
        (ZeroDivisionError("secret"), "unexpected", False),
        (asyncio.CancelledError(), "unexpected", False),
        (
            ExceptionGroup("g", [OSError("secret"), ExceptionGroup("h", [WrongBytes("x")])]),
            "wrong_bytes",
            True,
        ),
        (ExceptionGroup("g", [StoreUnavailable("gone"), StoreFull("no room")]), "disk_full", False),
    ],
)
async def test_a_failure_names_its_cause(error: BaseException, code: str, retryable: bool) -> None:
    store, metrics = MemoryStore(), Metrics()
    jobs = jobs_over(store, failing(error), metrics=metrics)
    job = await jobs.submit("org/a", asking())
    ended = await jobs.wait(job.id)
    assert ended.state is JobState.FAILED
    assert ended.error is not None
    assert (ended.error.code, ended.error.retryable) == (code, retryable)
    assert "secret" not in ended.error.message
    assert kept(store, job.id) == ended
    assert metrics.registry.get_sample_value("msp_registry_jobs_ended_total", {"outcome": code}) == 1


async def test_an_unexpected_failure_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    jobs = jobs_over(MemoryStore(), failing(ZeroDivisionError("broke just there")))
    await jobs.wait((await jobs.submit("org/a", asking())).id)
    assert "broke just there" in caplog.text


async def test_an_unknown_job_is_no_job() -> None:
    jobs = jobs_over(MemoryStore())
    with pytest.raises(NoSuchJob):
        await jobs.cancel("nobody")
    with pytest.raises(NoSuchJob):
        await jobs.wait("nobody")
    with pytest.raises(NoSuchJob):
        await anext(jobs.watch("nobody"))
    assert jobs.get("nobody") is None


async def test_a_model_that_is_changed_takes_no_job_and_one_being_brought_is_not_changed() -> None:
    gate = Gate()
    jobs = jobs_over(MemoryStore(), gate)
    async with jobs.exclusive("org/a"):
        with pytest.raises(RepoBusy, match="another request"):
            await jobs.submit("org/a", asking())
        with pytest.raises(RepoBusy, match="another request"):
            async with jobs.exclusive("org/a"):
                raise AssertionError("entered")
        async with jobs.exclusive("org/b"):
            pass
    job = await jobs.submit("org/a", asking())
    with pytest.raises(RepoBusy, match=job.id):
        async with jobs.exclusive("org/a"):
            raise AssertionError("entered")
    gate.let_go.set()
    await jobs.wait(job.id)
    async with jobs.exclusive("org/a"):
        pass


async def test_a_model_whose_job_is_just_being_accepted_is_not_changed() -> None:
    store = StuckStore()
    jobs = jobs_over(store)
    store.answers.clear()
    submitting = asyncio.create_task(jobs.submit("org/a", asking()))
    await store.waiting.wait()
    with pytest.raises(RepoBusy):
        async with jobs.exclusive("org/a"):
            raise AssertionError("entered")
    store.answers.set()
    await jobs.wait((await submitting).id)

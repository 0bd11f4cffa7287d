"""A cancelled call of a store is not left running behind its caller's back."""

import asyncio
import threading

import anyio
import pytest

from msp_registry.stores.store_threads import StoreThreads


class Work:
    """A call that blocks until it is let go, and remembers that it ended."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()
        self.ended = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        self.let_go.wait(20)
        self.ended.set()
        return "done"


async def begun(task: "asyncio.Task[str]", work: Work) -> None:
    await asyncio.to_thread(work.begun.wait, 20)
    assert not task.done()


async def test_what_the_call_gives_or_raises_is_passed_on() -> None:
    threads = StoreThreads(1)
    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)


async def test_a_cancellation_goes_on_only_when_the_thread_has_ended() -> None:
    work = Work()
    task = asyncio.create_task(StoreThreads(1, grace_s=20).run(work))
    await begun(task, work)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.1)
    assert not done
    work.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended.is_set()


async def test_also_when_a_whole_scope_is_cancelled() -> None:
    work = Work()
    async with anyio.create_task_group() as group:
        group.start_soon(StoreThreads(1, grace_s=20).run, work)
        await asyncio.to_thread(work.begun.wait, 20)
        group.cancel_scope.cancel()
        asyncio.get_running_loop().call_later(0.1, work.let_go.set)
    assert work.ended.is_set()


async def test_a_call_that_can_be_hurried_is() -> None:
    work = Work()
    task = asyncio.create_task(StoreThreads(1, grace_s=20).run_hurried(work.let_go.set, work))
    await begun(task, work)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended.is_set()


async def test_a_call_that_hangs_is_left_after_the_grace_and_keeps_its_thread() -> None:
    work, threads = Work(), StoreThreads(1, grace_s=0.01)
    task = asyncio.create_task(threads.run(work))
    await begun(task, work)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not work.ended.is_set()
    following = asyncio.create_task(threads.run(str, 1))
    done, _ = await asyncio.wait([following], timeout=0.1)
    assert not done
    work.let_go.set()
    assert await following == "1"


async def test_a_call_that_still_waits_for_a_thread_is_cancelled_at_once() -> None:
    first, second, threads = Work(), Work(), StoreThreads(1, grace_s=20)
    running = asyncio.create_task(threads.run(first))
    await begun(running, first)
    waiting = asyncio.create_task(threads.run(second))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    first.let_go.set()
    assert await running == "done"
    assert not second.begun.is_set()

"""One thread, first come first served, bounded; leaving and stopping end work at once."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from msp_common.errors import InvalidRequest, TooManyRequests, Unavailable
from msp_model_service.engines.engine_thread import Abandoned, EngineThread, Job


class Gate:
    """Work that begins, says so, and goes on when it is let through."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = asyncio.Event()
        self.through = threading.Event()
        self.ended = asyncio.Event()
        self.outcome = ""

    def work(self, job: Job[str]) -> str:
        self.loop.call_soon_threadsafe(self.began.set)
        try:
            self.through.wait(10)
            job.step()
            self.outcome = "finished"
        except Abandoned:
            self.outcome = "abandoned"
            raise
        finally:
            self.loop.call_soon_threadsafe(self.ended.set)
        return self.outcome


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def start() -> Iterator[Callable[..., EngineThread]]:
    threads: list[EngineThread] = []

    def begin(max_queued: int = 4, **options: Any) -> EngineThread:
        thread = EngineThread("test", max_queued, **options)
        thread.start()
        threads.append(thread)
        return thread

    yield begin
    for thread in threads:
        thread.stop()


async def waiting(thread: EngineThread, count: int) -> None:
    """Tasks enqueue in their first step, which all take in one turn of the loop."""
    await asyncio.sleep(0)
    assert thread.load_now().queued == count


async def test_work_runs_in_the_order_of_arrival_and_off_the_loop(start: Callable[..., EngineThread]) -> None:
    thread, order = start(max_queued=9), []

    def work(number: int) -> Callable[[Job[int]], int]:
        def run(job: Job[int]) -> int:
            assert threading.current_thread() is not threading.main_thread()
            order.append(number)
            return number * 10

        return run

    assert await asyncio.gather(*(thread.run(work(n)) for n in range(8))) == [n * 10 for n in range(8)]
    assert order == list(range(8))


async def test_errors_go_to_who_asked_and_the_next_is_served(start: Callable[..., EngineThread]) -> None:
    thread = start()

    def fail(job: Job[None]) -> None:
        raise InvalidRequest("not so")

    with pytest.raises(InvalidRequest, match="not so"):
        await thread.run(fail)
    assert await thread.run(lambda job: 1) == 1


@pytest.mark.parametrize("max_queued", [0, 2])
async def test_so_many_may_wait_and_one_more_is_refused(
    start: Callable[..., EngineThread], max_queued: int
) -> None:
    thread, gate = start(max_queued=max_queued), Gate()
    running = asyncio.create_task(thread.run(gate.work))
    await gate.began.wait()
    queued = [asyncio.create_task(thread.run(lambda job: "later")) for _ in range(max_queued)]
    await waiting(thread, max_queued)
    load = thread.load_now()
    assert (load.in_flight, load.queued, load.slots) == (1, max_queued, 1)
    with pytest.raises(TooManyRequests) as refused:
        await thread.run(lambda job: "too many")
    assert refused.value.retry_after_s == 1
    gate.through.set()
    assert await asyncio.gather(running, *queued) == ["finished", *["later"] * max_queued]


async def test_who_leaves_the_queue_is_forgotten(start: Callable[..., EngineThread]) -> None:
    thread, gate = start(max_queued=1), Gate()
    ran: list[str] = []
    running = asyncio.create_task(thread.run(gate.work))
    await gate.began.wait()
    leaver = asyncio.create_task(thread.run(lambda job: ran.append("leaver")))
    await waiting(thread, 1)
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    assert thread.load_now().queued == 0
    stays = asyncio.create_task(thread.run(lambda job: ran.append("stays")))
    gate.through.set()
    await asyncio.gather(running, stays)
    assert ran == ["stays"]


async def test_who_leaves_while_served_ends_the_work_at_its_next_step(
    start: Callable[..., EngineThread],
) -> None:
    thread, gate = start(), Gate()
    running = asyncio.create_task(thread.run(gate.work))
    await gate.began.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    gate.through.set()
    assert await thread.run(lambda job: "next") == "next"
    assert gate.outcome == "abandoned"
    assert thread.problem() is None


async def test_a_stream_gives_items_as_they_are_made(start: Callable[..., EngineThread]) -> None:
    thread, go = start(), threading.Event()

    def work(job: Job[None], emit: Callable[[int], None]) -> None:
        emit(1)
        go.wait(10)
        emit(2)

    items = thread.stream(work)
    assert await anext(items) == 1
    go.set()
    assert [item async for item in items] == [2]


async def test_a_stream_that_fails_raises_after_what_it_made(start: Callable[..., EngineThread]) -> None:
    def work(job: Job[None], emit: Callable[[int], None]) -> None:
        emit(1)
        raise InvalidRequest("no further")

    items = start().stream(work)
    assert await anext(items) == 1
    with pytest.raises(InvalidRequest, match="no further"):
        await anext(items)


async def test_closing_a_stream_ends_its_work(start: Callable[..., EngineThread]) -> None:
    thread, gate = start(), Gate()

    def work(job: Job[Any], emit: Callable[[int], None]) -> None:
        emit(1)
        gate.work(job)

    items = thread.stream(work)
    await anext(items)
    await items.aclose()
    gate.through.set()
    await gate.ended.wait()
    assert gate.outcome == "abandoned"


async def test_stopping_ends_what_waits_and_what_runs(start: Callable[..., EngineThread]) -> None:
    thread, gate = start(), Gate()
    tasks = [asyncio.create_task(thread.run(gate.work))]
    await gate.began.wait()
    tasks.append(asyncio.create_task(thread.run(lambda job: "never")))

    def work(job: Job[None], emit: Callable[[str], None]) -> None:
        emit("never")

    async def first() -> str:
        return await anext(thread.stream(work))

    tasks.append(asyncio.create_task(first()))
    await waiting(thread, 2)
    stopping = asyncio.create_task(asyncio.to_thread(thread.stop))
    await asyncio.wait(tasks[1:])
    gate.through.set()
    await stopping
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    with pytest.raises(Unavailable):
        await thread.run(lambda job: "late")


async def test_stopping_before_the_start_is_fine() -> None:
    thread = EngineThread("test", 1)
    thread.stop()
    with pytest.raises(Unavailable):
        await thread.run(lambda job: "late")


async def test_failures_in_a_row_are_a_problem_and_one_is_not(start: Callable[..., EngineThread]) -> None:
    thread = start()

    def fail(job: Job[None]) -> None:
        raise ZeroDivisionError("bug")

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await thread.run(fail)
    await thread.run(lambda job: None)
    for _ in range(3):
        assert thread.problem() is None
        with pytest.raises(ZeroDivisionError):
            await thread.run(fail)
    assert "3 requests in a row failed" in (thread.problem() or "")


async def test_a_broken_device_is_a_problem_at_once(start: Callable[..., EngineThread]) -> None:
    thread = start(broken_by=(FloatingPointError,))

    def fail(job: Job[None]) -> None:
        raise FloatingPointError("illegal access")

    with pytest.raises(FloatingPointError):
        await thread.run(fail)
    assert "illegal access" in (thread.problem() or "")


async def test_progress_tells_slow_from_stuck(start: Callable[..., EngineThread]) -> None:
    clock = Clock()
    thread, gate, stepped, end = start(clock=clock), Gate(), asyncio.Event(), threading.Event()
    assert thread.load_now().last_progress_age_s is None

    def work(job: Job[Any]) -> None:
        gate.work(job)
        gate.loop.call_soon_threadsafe(stepped.set)
        end.wait(10)

    running = asyncio.create_task(thread.run(work))
    await gate.began.wait()
    clock.now += 7
    assert thread.load_now().last_progress_age_s == 7
    gate.through.set()
    await stepped.wait()
    assert thread.load_now().last_progress_age_s == 0
    end.set()
    await running

"""Exchanges with workers that say nothing."""

import asyncio
from contextlib import ExitStack

import pytest

from msp_gateway.failures import Happened
from msp_gateway.stalls import Limits, Progress
from msp_gateway.watchdog import MAX_WORKERS, Stood, Watchdog, WatchedBlock
from support.gateway_timers import FakeTimers


class Kennel:
    """A watchdog, and what it is told of the engine."""

    def __init__(self, progress: Progress = Progress.MOVES) -> None:
        self.timers = FakeTimers()
        self.progress = progress
        self.asked = 0
        self.dog = Watchdog(Limits(look_after_s=60, give_up_after_s=600), self._progress, lambda: self.timers)

    def _progress(self, worker_id: str) -> Progress:
        self.asked += 1
        return self.progress

    async def silent(self, seconds: float, watch: WatchedBlock) -> None:
        """Wait for a worker that says nothing for so long."""
        with watch:
            self.timers.advance(seconds)
            # What a broken watch leads to comes at the next turn of the loop.
            await asyncio.sleep(0)
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("progress", "before", "after"),
    [
        (Progress.STILL, Happened.STALLED, Happened.STALLED),
        (Progress.MOVES, Happened.NO_FIRST_BYTE, Happened.SILENT),
        (Progress.UNKNOWN, Happened.NO_FIRST_BYTE, Happened.SILENT),
    ],
)
async def test_a_worker_that_says_nothing_is_given_up_at_last(
    progress: Progress, before: Happened, after: Happened
) -> None:
    kennel = Kennel(progress)
    with pytest.raises(Stood) as stood:
        await kennel.silent(601, kennel.dog.over_beginning("a"))
    assert stood.value.what is before
    with pytest.raises(Stood) as stood:
        await kennel.silent(601, kennel.dog.over_rest("a", streams=True))
    assert stood.value.what is after


async def test_a_worker_whose_engine_moves_is_waited_for() -> None:
    kennel = Kennel()
    await kennel.silent(599, kennel.dog.over_beginning("a"))
    assert kennel.asked > 500


async def test_an_engine_that_comes_to_a_stop_is_noticed_within_a_heartbeat() -> None:
    kennel = Kennel()
    watch = kennel.dog.over_beginning("a")
    kennel.timers.call_at(kennel.timers.now + 61, lambda: setattr(kennel, "progress", Progress.STILL))
    with pytest.raises(Stood, match=r"no byte for 6[0-3] s"):
        await kennel.silent(63, watch)


async def test_one_timer_a_second_is_enough_for_all() -> None:
    kennel = Kennel(Progress.STILL)
    with ExitStack() as stack:
        watches = [stack.enter_context(kennel.dog.over_rest("a", streams=True)) for _ in range(100)]
        for _ in range(100):
            kennel.timers.advance(0.1)
            for watch in watches:
                watch.arrived()
                watch.waits()
    assert kennel.asked == 0
    assert len(kennel.timers.armed) <= 11


async def test_many_silent_streams_of_one_worker_are_one_question() -> None:
    kennel = Kennel(Progress.MOVES)
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(kennel.dog.over_beginning("a"))
        kennel.timers.advance(60)
    assert kennel.asked == 1


async def test_the_time_in_which_the_client_takes_nothing_is_not_the_workers() -> None:
    kennel = Kennel(Progress.STILL)
    with kennel.dog.over_rest("a", streams=True) as watch:
        watch.arrived()
        kennel.timers.advance(1000)
        watch.waits()
        kennel.timers.advance(59)
        await asyncio.sleep(0)
    assert kennel.asked == 0


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_stream_of_a_fast_worker_is_looked_at_sooner_than_one_that_is_not_known(
    at_once: bool,
) -> None:
    kennel = Kennel(Progress.STILL)
    with kennel.dog.over_rest("fast", streams=True) as watch:
        for _ in range(200):
            kennel.timers.advance(0.02)
            if at_once:
                watch.heard()
            else:
                watch.arrived()
                watch.waits()
    await kennel.silent(31, kennel.dog.over_rest("new", streams=True))
    await kennel.silent(31, kennel.dog.over_beginning("fast"))
    with pytest.raises(Stood):
        await kennel.silent(31, kennel.dog.over_rest("fast", streams=True))


async def test_nothing_is_armed_once_the_watch_is_over() -> None:
    kennel = Kennel()
    with kennel.dog.over_beginning("a"):
        pass
    with pytest.raises(ValueError, match="no"), kennel.dog.over_rest("a", streams=False):
        raise ValueError("no")
    kennel.timers.advance(2)
    assert kennel.timers.due == []


async def test_an_answer_that_came_in_the_last_moment_is_kept() -> None:
    kennel = Kennel(Progress.STILL)
    with kennel.dog.over_beginning("a"):
        kennel.timers.advance(60)  # the block ends before the loop turns
    await asyncio.sleep(0)


async def test_a_cancelled_exchange_is_cancelled_not_stalled() -> None:
    kennel = Kennel()

    async def exchange() -> None:
        with kennel.dog.over_beginning("a"):
            await asyncio.Event().wait()

    task = asyncio.create_task(exchange())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_workers_that_come_and_go_do_not_pile_up() -> None:
    kennel = Kennel()
    for number in range(2 * MAX_WORKERS):
        kennel.dog.over_rest(f"w{number}", streams=True)
    assert len(kennel.dog._gaps) <= MAX_WORKERS

"""The shared window of bytes: first come, first served, and nothing lost when somebody gives up waiting."""

import asyncio
from contextlib import AsyncExitStack

from msp_registry.transfers.window import ByteWindow


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def hold(window: ByteWindow, n_bytes: int, got: list[int], until: asyncio.Event) -> None:
    async with window.share(n_bytes):
        got.append(n_bytes)
        await until.wait()


async def test_shares_are_given_in_the_order_of_asking_and_a_large_one_is_not_overtaken() -> None:
    window, end = ByteWindow(10), asyncio.Event()
    got: list[int] = []
    async with asyncio.TaskGroup() as group:
        async with window.share(8):
            for n_bytes in (6, 2, 1):
                group.create_task(hold(window, n_bytes, got, end))
            await settle()
            assert got == []
        await settle()
        assert got == [6, 2, 1]
        end.set()
    assert window.used_bytes == 0


async def test_who_gives_up_waiting_no_longer_stands_before_the_others() -> None:
    window, end = ByteWindow(10), asyncio.Event()
    got: list[int] = []
    async with asyncio.TaskGroup() as group, window.share(8):
        large = group.create_task(hold(window, 9, got, end))
        group.create_task(hold(window, 2, got, end))
        await settle()
        large.cancel()
        await settle()
        assert got == [2]
        end.set()
    assert window.used_bytes == 0


async def test_a_share_that_is_given_in_the_moment_of_a_cancellation_is_given_back() -> None:
    window, end = ByteWindow(10), asyncio.Event()
    got: list[int] = []
    async with AsyncExitStack() as first:
        await first.enter_async_context(window.share(10))
        second = asyncio.create_task(hold(window, 10, got, end))
        await settle()
        await first.aclose()  # gives the share to the second, which has not run since
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
    assert (got, window.used_bytes) == ([], 0)


async def test_a_share_larger_than_the_window_gets_all_of_it() -> None:
    window = ByteWindow(10)
    async with window.share(1000):
        assert window.used_bytes == 10
    assert window.used_bytes == 0

"""A thread that reads from a stream never gets its end before the stream has ended well."""

import asyncio
import threading
from collections.abc import AsyncGenerator

import pytest

from msp_registry.thread_feed import FeedCut, ReaderGone, ThreadFeed


async def test_all_bytes_arrive_in_order_through_a_narrow_pipe() -> None:
    feed = ThreadFeed(limit_bytes=10)

    async def stream() -> AsyncGenerator[bytes, None]:
        for n in range(200):
            yield bytes([n]) * (n % 17)

    reading = asyncio.create_task(asyncio.to_thread(feed.read, 10_000))
    await feed.pump(stream())
    assert await reading == b"".join([bytes([n]) * (n % 17) for n in range(200)])
    assert feed.read(1) == b""


async def test_a_reader_that_knows_the_length_waits_for_the_streams_verdict() -> None:
    feed = ThreadFeed(limit_bytes=1000)
    returned = threading.Event()

    def read() -> bytes:
        try:
            return feed.read(10)
        finally:
            returned.set()

    reading = asyncio.create_task(asyncio.to_thread(read))

    async def wrong_at_the_end() -> AsyncGenerator[bytes, None]:
        yield b"01234"
        yield b"56789"
        # Long enough for a reader that could already have all ten bytes.
        assert not await asyncio.to_thread(returned.wait, 0.3)
        raise ZeroDivisionError("the hash differs")

    with pytest.raises(ZeroDivisionError):
        await feed.pump(wrong_at_the_end())
    with pytest.raises(FeedCut):
        await reading


async def test_a_reader_that_gives_up_ends_the_stream() -> None:
    feed = ThreadFeed(limit_bytes=10)

    async def endless() -> AsyncGenerator[bytes, None]:
        while True:
            yield b"x" * 10

    def give_up() -> None:
        feed.read(25)
        feed.reader_ended()

    reading = asyncio.create_task(asyncio.to_thread(give_up))
    with pytest.raises(ReaderGone):
        await feed.pump(endless())
    await reading

"""Handing an asynchronous stream of bytes to a thread that wants a file to read from."""

import asyncio
import threading
from collections.abc import AsyncIterable


class ReaderGone(Exception):
    """The reading thread ended before the stream did."""


class FeedCut(Exception):
    """What the thread gets from `read` when the stream failed: its upload must not be completed."""


class ThreadFeed:
    """A bounded pipe: `pump` fills it on the event loop, `read` drains it in a thread.

    The last chunk is held back until the stream has ended without an error, since a reader that knows the
    length stops after the last byte and would not see an error that comes behind it.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._changed = threading.Condition()
        self._pending = bytearray()
        self._ended = False
        self._cut = False
        self._reader_gone = False

    async def pump(self, data: AsyncIterable[bytes]) -> None:
        """Pass the stream on to its end. Raises what the stream raises, and ReaderGone."""
        held = b""
        try:
            async for chunk in data:
                await self._push(held)
                held = chunk
            await self._push(held)
        except BaseException:
            self._end(cut=True)
            raise
        self._end(cut=False)

    def read(self, n: int) -> bytes:
        """In the thread: `n` bytes, fewer only at the end. Raises FeedCut."""
        taken = bytearray()
        while len(taken) < n:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._ended or self._cut)
                if self._cut:
                    raise FeedCut("the stream that was being stored failed")
                if not self._pending:
                    break
                some = min(len(self._pending), n - len(taken))
                taken += self._pending[:some]
                del self._pending[:some]
            self._loop.call_soon_threadsafe(self._room.set)
        return bytes(taken)

    def reader_ended(self) -> None:
        """In the thread, when it reads no more."""
        with self._changed:
            self._reader_gone = True
        self._loop.call_soon_threadsafe(self._room.set)

    async def _push(self, chunk: bytes) -> None:
        while True:
            self._room.clear()
            with self._changed:
                if self._reader_gone:
                    raise ReaderGone
                if not self._pending or len(self._pending) + len(chunk) <= self._limit_bytes:
                    self._pending += chunk
                    self._changed.notify()
                    return
            await self._room.wait()

    def _end(self, *, cut: bool) -> None:
        with self._changed:
            self._ended, self._cut = True, cut
            self._changed.notify()

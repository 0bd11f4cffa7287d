"""What is written to many connections in one turn of the event loop, sent together.

To send wakes whoever sleeps at the other end, which takes the kernel longer than the sending itself. Where
many requests are under way, and each write is followed by some work on the next request, the other end has
fallen asleep again before the next write comes. So only what a turn writes first is sent at once, as it may
be all; the rest follows together, and finds the other end awake.
"""

import asyncio
from typing import Any, cast

TOGETHER = 16
"""So many writes wait for each other at most, however many connections have something to tell in one turn."""

LARGE_BYTES = 16 * 1024
"""Writes from here on are sent at once: they take longer than the waking."""


class WriteBatch:
    """The writes of one event loop that wait for each other."""

    __slots__ = ("_held", "begun")

    def __init__(self) -> None:
        self.begun = False
        """Whether writes wait until the end of this turn."""
        self._held: list[BatchedTransport] = []

    def over(self, transport: asyncio.BaseTransport) -> asyncio.Transport:
        """The same transport, whose writes wait for those to others."""
        return cast(asyncio.Transport, BatchedTransport(cast(asyncio.Transport, transport), self))

    def begin(self) -> None:
        """A request or an answer was sent: for the rest of this turn writes wait for each other.

        For a part of a stream it is not worth it: those come one by one.
        """
        if not self.begun:
            self.begun = True
            asyncio.get_running_loop().call_soon(self._end)

    def hold(self, transport: "BatchedTransport") -> None:
        """Flush this one soon."""
        self._held.append(transport)
        if len(self._held) >= TOGETHER:
            self._flush()

    def _end(self) -> None:
        self.begun = False
        self._flush()

    def _flush(self) -> None:
        held, self._held = self._held, []
        for transport in held:
            transport.flush()


class BatchedTransport:
    """As the transport beneath. Whatever else is asked of it, what was written before goes first."""

    __slots__ = ("_batch", "_data", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, batch: WriteBatch) -> None:
        self._transport = transport
        self._batch = batch
        self._data: bytes | None = None
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """As the transport's, but perhaps only after the loop's other events."""
        if self._data is not None:
            self.flush()
        if self._batch.begun and len(data) < LARGE_BYTES:
            self._data = data
            self._batch.hold(self)
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Send what waits."""
        data, self._data = self._data, None
        if data is not None and not self.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        """As the transport's: what was not sent is lost."""
        self._data = None
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        # `close`, `writelines`, `get_write_buffer_size` and whatever else a transport has.
        self.flush()
        return getattr(self._transport, name)

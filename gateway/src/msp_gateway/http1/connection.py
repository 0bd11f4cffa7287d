"""One connection to a worker, carrying one exchange after the other."""

import asyncio
import socket
from collections.abc import Callable, Sequence

from msp_gateway.batched_writes import WriteBatch
from msp_gateway.http1.answer import AnswerParser
from msp_gateway.upstream import UpstreamGarbage, UpstreamReset

BUFFERED_BYTES = 64 * 1024
"""So much of an answer waits here for a slow client; then the worker is held back."""

# A worker's host that is gone without a word: noticed within half a minute, also in the midst of a stream.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
_UNACKNOWLEDGED_MS = 30_000


class Connection(asyncio.Protocol):
    """Used by one task at a time: `begin`, `write`, `head`, `read` until it is empty, then `release`.

    Or by none: who calls `on_change` is told whenever anything came, and finds it in `answer` and `error`.
    Then the first exchange may begin while the connection is still being made.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_lost_idle: Callable[["Connection"], None],
        batch: WriteBatch,
    ) -> None:
        """`on_lost_idle` is called when the connection ends while no exchange is going on."""
        self._loop = loop
        self._batch = batch
        self._on_lost_idle = on_lost_idle
        self._transport: asyncio.Transport | None = None
        self._making: asyncio.Task[None] | None = None
        self._early: Sequence[bytes] | None = None
        """A request that is to be sent when the connection is made."""
        self._parser = AnswerParser()
        self._answer: AnswerParser | None = None
        self.error: Exception | None = None
        """Why the exchange cannot go on; what came before may still be taken."""
        self._waiter: asyncio.Future[None] | None = None
        self._on_change: Callable[[], None] | None = None
        self.reading_paused = False
        """Whether the worker is held back."""
        self._writing_paused = False
        self._sent_whole = False
        self.idle_since = 0.0

    def made_by(self, task: asyncio.Task[None]) -> None:
        """This task makes the connection, or calls `fail`."""
        self._making = task

    @property
    def open(self) -> bool:
        """Whether another exchange may begin, as far as is known on this side."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def answer(self) -> AnswerParser:
        """The answer of the present exchange."""
        assert self._answer is not None  # noqa: S101
        return self._answer

    def on_change(self, call: Callable[[], None] | None) -> None:
        """Call this whenever something came, instead of waking a task."""
        self._on_change = call

    def fail(self, error: Exception) -> None:
        """End the exchange with this error, and the connection with it."""
        if self.error is None:
            self.error = error
        self.abort()
        self._wake()

    def begin(self) -> None:
        """An exchange begins."""
        self._answer, self.error, self._sent_whole = self._parser, None, False
        self._answer.begin()
        if self._transport is None and self._making is None:
            self.error = UpstreamReset("the worker closed the connection")

    def write_whole(self, request: Sequence[bytes]) -> None:
        """Send all of a request, as soon as there is a connection."""
        if self._making is not None:
            self._early = request
        elif self._transport is not None:
            if len(request) == 1:
                self._transport.write(request[0])
            else:
                self._transport.writelines(request)
            self._sent_whole = True

    def write(self, parts: Sequence[bytes], *, last: bool) -> None:
        """Send these, unless the answer or the end is there already."""
        if self._transport is not None and self._takes_more():
            self._transport.writelines(parts)
            self._sent_whole = last

    async def written(self) -> bool:
        """Wait until more may be sent. False if that is of no use, as the answer or the end is there."""
        while self._writing_paused and self._takes_more():
            await self._changed()
        return self._takes_more()

    async def head(self) -> None:
        """Wait for the head of the answer. Raises UpstreamError."""
        answer = self.answer
        while not answer.head_done:
            if self.error is not None:
                raise self.error
            await self._changed()

    async def read(self) -> bytes:
        """The body's bytes that are there, at least one; empty at its end. Raises UpstreamError."""
        answer = self._answer
        assert answer is not None  # noqa: S101
        while not answer.buffered_bytes:
            if answer.complete:
                return b""
            if self.error is not None:
                raise self.error
            await self._changed()
        return self.take()

    def take(self) -> bytes:
        """The body's bytes that are there; empty when there are none."""
        taken = self.answer.take()
        if self.reading_paused:
            self.read_on()
        return taken

    def read_on(self) -> None:
        """Read again where reading was paused, if enough was taken."""
        if self.answer.buffered_bytes <= BUFFERED_BYTES and self._transport is not None:
            self.reading_paused = False
            self._transport.resume_reading()

    def release(self) -> bool:
        """The exchange is over. True if the connection may be kept for another, else it is closed now."""
        self._on_change = None
        answer, self._answer = self._answer, None
        if answer is not None and answer.reusable and self._sent_whole and self.open:
            if self.reading_paused and self._transport is not None:
                # What was not read is thrown away; only from a reading connection is its end learnt.
                self.reading_paused = False
                self._transport.resume_reading()
            return True
        self.abort()
        return False

    def abort(self) -> None:
        """Close at once, whatever is still to be sent or read: the worker sees it."""
        if self._transport is not None:
            self._transport.abort()
        elif self._making is not None:
            making, self._making, self._early = self._making, None, None
            making.cancel()
            self._parser.discard()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = self._batch.over(transport)
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
        self._making = None
        if self._early is not None:
            early, self._early = self._early, None
            self.write_whole(early)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        answer = self._answer
        if answer is None:
            self.abort()  # nobody asked
            return
        try:
            answer.feed(data)
        except UpstreamGarbage as error:
            self.error = error
            self.abort()
        if answer.buffered_bytes > BUFFERED_BYTES and not self.reading_paused and self._transport:
            self.reading_paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop, once."""
        self._transport = None
        answer = self._answer
        if answer is None:
            self._on_lost_idle(self)
        elif self.error is None and not (answer.complete or (exc is None and answer.end())):
            self.error = UpstreamReset(str(exc) if exc else "the worker closed the connection")
        self._parser.discard()
        self._wake()

    def pause_writing(self) -> None:
        """Called by the transport when much waits to be sent."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Called by the transport when most of it is sent."""
        self._writing_paused = False
        self._wake()

    def _takes_more(self) -> bool:
        return self.error is None and not self.answer.head_done

    def _changed(self) -> asyncio.Future[None]:
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._on_change is not None:
            self._on_change()
            return
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

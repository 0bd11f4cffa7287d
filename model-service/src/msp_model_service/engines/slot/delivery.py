"""Events from the engine's thread to the event loops, in one go per step.

Waking an event loop costs a system call and the interpreter's lock: with 32 rows that would be 32 of each
between two forward passes.
"""

import asyncio
import contextlib
from collections.abc import Callable

from msp_common.errors import ApiError
from msp_model_service.engines.chat import TokenEvent
from msp_model_service.engines.event_stream import EventStream

_Told = tuple["BatchedStream", TokenEvent | ApiError]


class Outbox:
    """What a step has to tell. For the engine's thread."""

    def __init__(self) -> None:
        self._told: dict[asyncio.AbstractEventLoop, list[_Told]] = {}

    def add(self, loop: asyncio.AbstractEventLoop, told: _Told) -> None:
        """Keep until `flush`."""
        self._told.setdefault(loop, []).append(told)

    def flush(self) -> None:
        """Pass everything on."""
        waiting, self._told = self._told, {}
        for loop, told in waiting.items():
            # A loop that has closed has no readers left.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_deliver, told)


def _deliver(told: list[_Told]) -> None:
    for stream, item in told:
        stream.receive(item)


class BatchedStream(EventStream):
    """A Generation whose events arrive through an Outbox; a Reader of the engine's thread."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox
        self.on_over: Callable[[], None] = lambda: None
        """Called in the engine's thread with the last thing told."""

    def put(self, event: TokenEvent) -> None:
        """See Reader."""
        self._outbox.add(self._loop, (self, event))
        if event.finish is not None:
            self.on_over()

    def fail(self, error: ApiError) -> None:
        """See Reader."""
        self._outbox.add(self._loop, (self, error))
        self.on_over()

    def receive(self, item: TokenEvent | ApiError) -> None:
        """On the event loop."""
        self._receive(item)

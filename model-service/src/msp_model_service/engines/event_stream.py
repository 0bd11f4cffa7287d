"""Events from an engine's thread to the event loop, and the client's leaving the other way."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from msp_common.errors import ApiError, InternalError
from msp_model_service.engines.chat import TokenEvent


class EventStream:
    """A Generation that a thread writes and the event loop reads. Made on the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._events: deque[TokenEvent | ApiError] = deque()
        self._ended = False
        self._on_close: Callable[[], None] = lambda: None

    def on_close(self, give_up: Callable[[], None]) -> None:
        """`give_up` is called when nobody reads any more, whether the work has ended or not."""
        self._on_close = give_up

    def put(self, event: TokenEvent) -> None:
        """Pass one event on. From any thread."""
        self._pass_on(event)

    def end_as(self, work: "Future[None]") -> None:
        """Pass on how the work failed, if it did. From any thread."""
        error = None if work.cancelled() else work.exception()
        if isinstance(error, ApiError):
            self._pass_on(error)
        elif error is not None:
            self._pass_on(InternalError("The model failed on this request; the log has the cause."))

    def _pass_on(self, item: TokenEvent | ApiError) -> None:
        # A loop that has closed has no readers left.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._receive, item)

    def _receive(self, item: TokenEvent | ApiError) -> None:
        self._events.append(item)
        self._arrived.set()

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> TokenEvent:
        if self._ended:
            raise StopAsyncIteration
        while not self._events:
            self._arrived.clear()
            await self._arrived.wait()
        item = self._events.popleft()
        if isinstance(item, ApiError):
            self._ended = True
            raise item
        self._ended = item.finish is not None
        return item

    async def aclose(self) -> None:
        """See Generation."""
        self._ended = True
        self._on_close()

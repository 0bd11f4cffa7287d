"""How many bytes of files are in memory at once, whoever holds them."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class ByteWindow:
    """Shares of a number of bytes, given out in the order in which they were asked for.

    A share larger than the whole window gets all of it, so that it waits long but not for ever.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def share(self, n_bytes: int) -> AsyncGenerator[None, None]:
        """Holds so many bytes of the window while the block runs; waits until they are free."""
        n_bytes = min(n_bytes, self.limit_bytes)
        await self._take(n_bytes)
        try:
            yield
        finally:
            self._give(n_bytes)

    async def _take(self, n_bytes: int) -> None:
        if not self._waiting and self.used_bytes + n_bytes <= self.limit_bytes:
            self.used_bytes += n_bytes
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((n_bytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._admit()  # whoever waited behind this one may fit now
            else:
                self._give(n_bytes)  # the share was given in the moment of the cancellation
            raise

    def _give(self, n_bytes: int) -> None:
        self.used_bytes -= n_bytes
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            n_bytes, turn = self._waiting[0]
            if not turn.cancelled():
                if self.used_bytes + n_bytes > self.limit_bytes:
                    return
                self.used_bytes += n_bytes
                turn.set_result(None)
            self._waiting.popleft()

"""The requests that ended last, kept for whoever accounts for them: numbered, and bounded in number."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from msp_common.contracts.usage import RequestUsage, UsageReport

KEPT = 4096
"""Requests that are remembered; 20 s of 200 requests/s, and about 4 MB."""

_TOLD_AT_ONCE = 512
_GATHER_S = 0.2
"""So long a report waits for more: under load it would otherwise be a report for each request."""


class UsageLog:
    """One worker's log. Belongs to the event loop; noting costs a request microseconds and never waits."""

    def __init__(self, epoch: float, *, kept: int = KEPT, gather_s: float = _GATHER_S) -> None:
        """`epoch`: when the worker started."""
        self._epoch = epoch
        self._ended: deque[RequestUsage] = deque(maxlen=kept)
        self._last = 0
        """The number of the last request that ended."""
        self._running = 0
        self._closing = False
        self._gather_s = gather_s
        self._news = asyncio.Event()

    def begun(self) -> None:
        """A request has arrived; `ended` follows."""
        self._running += 1

    def ended(self, usage: RequestUsage) -> None:
        """A request is over."""
        self._running -= 1
        self._last += 1
        self._ended.append(usage)
        self._wake()

    def close(self) -> None:
        """The worker ends. Readers are let go at once; while requests still run, when the last one is over,
        for there will be no other chance to tell of it."""
        self._closing = True
        self._wake()

    async def report(self, after: int, wait_s: float, epoch: float | None = None) -> UsageReport:
        """What ended after the number `after`; waits until there is something, but no longer than `wait_s`.

        `after` counts in the life of the worker that `epoch` names; null is taken for this one.
        """
        if after > self._last or epoch not in (None, self._epoch):
            after = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._something(after)
        return self._since(after)

    async def _something(self, after: int) -> None:
        await self._until(lambda: self._closing or self._last > after)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._gather_s):
                await self._until(lambda: self._closing)
        if self._closing:
            await self._until(lambda: self._running == 0)

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _since(self, after: int) -> UsageReport:
        oldest = self._last - len(self._ended)
        start = max(after, oldest)
        skipped = start - oldest
        told = [self._ended[i] for i in range(skipped, min(skipped + _TOLD_AT_ONCE, len(self._ended)))]
        return UsageReport(
            epoch=self._epoch, next=start + len(told), requests=told, lost=max(0, oldest - after)
        )

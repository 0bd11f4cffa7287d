"""Time, as an argument."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the service registry needs of time."""

    def now(self) -> float:
        """Seconds since the Unix epoch, for people and for other programs."""

    def monotonic(self) -> float:
        """Seconds that never jump; leases are counted by these."""

    async def wait(self, event: asyncio.Event, until: float | None) -> bool:
        """Wait for the event, at most until the monotonic moment; whether the event came."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, until: float | None) -> bool:
        """Wait for the event, at most until the monotonic moment; whether the event came."""
        if until is None:
            return await event.wait()
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                return await event.wait()
        except TimeoutError:
            return event.is_set()

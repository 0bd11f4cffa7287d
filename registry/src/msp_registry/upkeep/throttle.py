"""A limit on bytes per second: a bucket that fills with time and is emptied by reading."""

from collections.abc import Awaitable, Callable

# A pause shorter than this costs more in timers than it evens out.
_SHORTEST_PAUSE_S = 0.05


class Throttle:
    """Holds its callers back so that over time no more than `bytes_per_s` pass."""

    def __init__(
        self,
        bytes_per_s: float,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    async def passed(self, n_bytes: int) -> None:
        """So many bytes were read; returns when the next may be."""
        # Unused time is not saved up: after a pause there is no burst.
        self._free_at = max(self._free_at, self._clock()) + n_bytes / self._bytes_per_s
        pause = self._free_at - self._clock()
        if pause >= _SHORTEST_PAUSE_S:
            await self._sleep(pause)

"""How fast bytes arrive and how long the rest will take: pure, with the time handed in at every call."""

from collections import deque

WINDOW_S = 10.0
"""What "the last seconds" are: long enough to even out parts of 16 MiB, short enough to see a stall."""

_SETTLED_S = 1.0
"""Before, a rate would be that of the first buffers, not of the line."""

_BUCKET_S = 0.5


class TransferRate:
    """Bytes per second over the last WINDOW_S."""

    def __init__(self, now: float) -> None:
        self._begun = now
        self._buckets: deque[tuple[float, int]] = deque()

    def moved(self, now: float, n_bytes: int) -> None:
        """So many bytes have arrived. Cheap: it is told of every chunk."""
        if self._buckets and 0 <= now - self._buckets[-1][0] < _BUCKET_S:
            at, before = self._buckets[-1]
            self._buckets[-1] = (at, before + n_bytes)
            return
        self._buckets.append((now, n_bytes))
        while self._buckets[0][0] <= now - WINDOW_S:
            self._buckets.popleft()

    def bytes_per_s(self, now: float) -> float | None:
        """None when nothing arrived in the window, and while it is too early to tell."""
        over_s = min(WINDOW_S, now - self._begun)
        recent = sum(n_bytes for at, n_bytes in self._buckets if at > now - WINDOW_S)
        return recent / over_s if recent and over_s >= _SETTLED_S else None


def eta_s(bytes_left: int, bytes_per_s: float | None) -> float | None:
    """Seconds until the rest has arrived at this rate; None without a rate."""
    return None if not bytes_per_s else max(0, bytes_left) / bytes_per_s

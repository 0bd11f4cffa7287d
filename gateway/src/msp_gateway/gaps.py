"""How long a worker's streams usually pause between two chunks."""

from collections.abc import Callable

_BUCKETS = 24  # the last one begins at 2**22 ms, more than an hour
_ENOUGH = 100
"""A 99th percentile of fewer gaps would be their largest."""
_HALVE_AT = 4096
"""Old gaps count less and less, so that a worker that got slower is known to be slow."""


class Gaps:
    """A histogram of one worker's gaps, with buckets that double in width."""

    __slots__ = ("_counts", "_new", "_total", "note")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._total = 0
        self._new: list[float] = []
        self.note: Callable[[float], None] = self._new.append
        """One more gap, in seconds. Called for every chunk; whoever does must `count` now and then."""

    def count(self) -> None:
        """Take in what was noted."""
        for gap_s in self._new:
            self._counts[min(int(gap_s * 1000).bit_length(), _BUCKETS - 1)] += 1
            self._total += 1
            if self._total >= _HALVE_AT:
                self._counts = [count // 2 for count in self._counts]
                self._total = sum(self._counts)
        self._new.clear()

    def p99_s(self) -> float | None:
        """A gap that 99 of 100 do not exceed, rounded up by less than twice; None while too few are known."""
        self.count()
        if self._total < _ENOUGH:
            return None
        above = self._total // 100
        for bucket in reversed(range(_BUCKETS)):
            if self._counts[bucket] > above:
                return float(2**bucket) / 1000
            above -= self._counts[bucket]
        return None

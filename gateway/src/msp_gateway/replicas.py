"""What this gateway itself knows of each replica: requests in flight, and failures of a moment ago."""

from collections import Counter
from collections.abc import Callable, Mapping


class Replicas:
    """Counters by worker id. The verdict on a worker's health is the service registry's, not kept here."""

    def __init__(self, cooldown_s: float, clock: Callable[[], float]) -> None:
        self._cooldown_s = cooldown_s
        self._clock = clock
        self._in_flight: Counter[str] = Counter()
        self._cool_until: dict[str, float] = {}
        self._failed: set[str] = set()

    @property
    def in_flight(self) -> Mapping[str, int]:
        """Requests that were sent to each worker and have not ended."""
        return self._in_flight

    def started(self, worker_id: str) -> None:
        """A request goes there."""
        self._in_flight[worker_id] += 1

    def ended(self, worker_id: str) -> None:
        """A request that went there has ended, in whatever way."""
        self._in_flight[worker_id] -= 1
        if not self._in_flight[worker_id]:
            del self._in_flight[worker_id]

    def failed(self, worker_id: str) -> None:
        """It failed a request: ask it last for the cool-down."""
        self._failed.add(worker_id)
        self._cool_until[worker_id] = self._clock() + self._cooldown_s

    def answered(self, worker_id: str) -> bool:
        """It answered well, which ends the cool-down. True if its last request had failed."""
        self._cool_until.pop(worker_id, None)
        had_failed = worker_id in self._failed
        self._failed.discard(worker_id)
        return had_failed

    def cooling(self) -> frozenset[str]:
        """Workers whose cool-down is not over."""
        now = self._clock()
        self._cool_until = {w: until for w, until in self._cool_until.items() if until > now}
        return frozenset(self._cool_until)

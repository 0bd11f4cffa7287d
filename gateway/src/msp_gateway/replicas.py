"""What this gateway itself knows of each replica: requests in flight, failures of a moment ago, newcomers."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from msp_common.contracts.workers import Worker
from msp_gateway.pick import Seen

SMALLEST_SHARE = 0.1
"""What a newcomer begins with, in parts of what a settled replica gets."""


@dataclass(slots=True)
class _Routable:
    """One process that requests may be sent to."""

    process_started_at: float
    since: float
    """When it became so."""
    heartbeat_at: float = 0.0
    elsewhere: int = 0
    most_in_flight: int = 0
    """Requests of this gateway, at most, since the heartbeat before."""

    def take(self, worker: Worker, in_flight: int) -> None:
        """Take in what the worker says of its load, if it is new.

        What it counted lies up to a heartbeat back and holds our own requests, which we know better: most of
        them have ended since. So what we may have had there is left out.
        """
        if worker.heartbeat_at != self.heartbeat_at:
            self.heartbeat_at = worker.heartbeat_at
            load = worker.lease.load
            self.elsewhere = max(0, load.in_flight + load.queued - self.most_in_flight)
            self.most_in_flight = in_flight


class Replicas:
    """Counters by worker id. The verdict on a worker's health is the service registry's, not kept here.

    All that is held against a worker ends by time alone, so that nothing can get stuck.
    """

    def __init__(self, cooldown_s: float, clock: Callable[[], float], slow_start_s: float = 0) -> None:
        """A replica that failed is asked last for `cooldown_s`; one that became ready gets its full share
        only after `slow_start_s`."""
        self._cooldown_s = cooldown_s
        self._slow_start_s = slow_start_s
        self._clock = clock
        self._in_flight: dict[str, int] = {}
        self._cool_until: dict[str, float] = {}
        self._failed: set[str] = set()
        self._observed: Sequence[Worker] | None = None
        self._routable: dict[str, _Routable] = {}
        self._elsewhere: dict[str, int] = {}
        self._last_newcomer = -math.inf

    @property
    def in_flight(self) -> Mapping[str, int]:
        """Requests that were sent to each worker and have not ended."""
        return self._in_flight

    def observe(self, workers: Sequence[Worker]) -> None:
        """Take in a snapshot; of the same one again nothing is looked at."""
        if workers is self._observed:
            return
        # Those that were there first are all equally new: no reason to hold back.
        since = self._clock() if self._observed else -math.inf
        self._observed = workers
        before, self._routable = self._routable, {}
        for worker in workers:
            if worker.verdict.routable:
                known = before.get(worker.id)
                if known is None or known.process_started_at != worker.lease.started_at:
                    known = _Routable(worker.lease.started_at, since)
                known.take(worker, self._in_flight.get(worker.id, 0))
                self._routable[worker.id] = known
        self._elsewhere = {worker_id: known.elsewhere for worker_id, known in self._routable.items()}
        self._last_newcomer = max((known.since for known in self._routable.values()), default=-math.inf)
        self._failed.intersection_update(worker.id for worker in workers)

    def started(self, worker_id: str) -> None:
        """A request goes there."""
        count = self._in_flight[worker_id] = self._in_flight.get(worker_id, 0) + 1
        if (known := self._routable.get(worker_id)) is not None and count > known.most_in_flight:
            known.most_in_flight = count

    def ended(self, worker_id: str) -> None:
        """A request that went there has ended, in whatever way."""
        if self._in_flight[worker_id] == 1:
            del self._in_flight[worker_id]
        else:
            self._in_flight[worker_id] -= 1

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

    def seen(self) -> Seen:
        """What `pick` takes into account, as it is now."""
        return Seen(self._in_flight, self.cooling(), self._shares(), self._elsewhere)

    def cooling(self) -> frozenset[str]:
        """Workers whose cool-down is not over."""
        if not self._cool_until:
            return frozenset()
        now = self._clock()
        self._cool_until = {w: until for w, until in self._cool_until.items() if until > now}
        return frozenset(self._cool_until)

    def _shares(self) -> dict[str, float]:
        """The newcomers' shares; others have a whole one."""
        now = self._clock()
        if now - self._last_newcomer >= self._slow_start_s:
            return {}
        return {
            worker_id: max(SMALLEST_SHARE, (now - known.since) / self._slow_start_s)
            for worker_id, known in self._routable.items()
            if now - known.since < self._slow_start_s
        }

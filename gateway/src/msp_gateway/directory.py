"""Which workers exist: the service registry's last snapshot, kept while it is away."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from msp_common.contracts.workers import LEASE_S, Snapshot, Worker
from msp_gateway.service_registry import ServiceRegistryAway

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 3.0

log = logging.getLogger(__name__)


class Directory(Protocol):
    """What routing asks about the cluster. Answers at once, from memory."""

    def workers(self) -> Sequence[Worker]:
        """All known workers; empty before the first snapshot."""

    def age_s(self) -> float | None:
        """Seconds since the service registry was last heard; None before the first snapshot."""

    def away(self) -> str | None:
        """Why the service registry cannot be heard now; None while it can."""


def find(directory: Directory, worker_id: str) -> Worker | None:
    """A worker as it was heard of last; None when it is not known, or no longer."""
    return next((worker for worker in directory.workers() if worker.id == worker_id), None)


class SnapshotSource(Protocol):
    """Where snapshots come from. Both raise ServiceRegistryAway."""

    def watch(self, heard: Callable[[], None]) -> AsyncIterator[Snapshot]:
        """One at once and one at every change; `heard` is called for every sign of life."""

    async def snapshot(self) -> Snapshot:
        """The present one."""


class WatchedDirectory:
    """Follows the watch stream; `run` is a background task.

    A service registry that was just restarted has forgotten all workers until their next heartbeats. So
    those known when the stream was lost stay, beside the ones told since, for one lease after it is back.
    """

    def __init__(self, source: SnapshotSource, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._workers: Sequence[Worker] = ()
        self._before_loss: Sequence[Worker] = ()
        self._kept_until: float | None = None
        self._heard_at: float | None = None
        self._away: str | None = "it was not asked yet"
        self._told = asyncio.Event()

    def workers(self) -> Sequence[Worker]:
        """All known workers; empty before the first snapshot."""
        self._forget_old()
        if not self._before_loss:
            return self._workers
        told = {w.id for w in self._workers}
        return [*self._workers, *(w for w in self._before_loss if w.id not in told)]

    def age_s(self) -> float | None:
        """Seconds since the service registry was last heard; None before the first snapshot."""
        return None if self._heard_at is None else self._clock() - self._heard_at

    def away(self) -> str | None:
        """Why the service registry cannot be heard now; None while it can."""
        return self._away

    async def wait_told(self, at_most_s: float) -> None:
        """Wait for the first snapshot, but no longer than this."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._told.wait()
        except TimeoutError:
            log.warning("the service registry has told nothing in %g s; workers are not known yet", at_most_s)

    async def run(self) -> None:
        """Follow the service registry for ever: watch, and while that fails ask, with growing pauses."""
        delay_s = FIRST_DELAY_S
        while True:
            try:
                async for snapshot in self._source.watch(self._heard):
                    self._take(snapshot)
                    delay_s = FIRST_DELAY_S
                reason = "the watch stream ended"
            except ServiceRegistryAway as error:
                reason = str(error)
            self._lose_stream()
            try:
                self._take(await self._source.snapshot())
            except ServiceRegistryAway:
                if self._away is None:
                    log.warning("service registry is away, the last snapshot is kept: %s", reason)
                self._away = reason
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)

    def _heard(self) -> None:
        self._heard_at = self._clock()

    def _take(self, snapshot: Snapshot) -> None:
        self._heard()
        if self._away is not None:
            log.info("service registry is heard, it knows %d workers", len(snapshot.workers))
        if self._before_loss and self._kept_until is None:
            self._kept_until = self._clock() + LEASE_S
        self._workers, self._away = snapshot.workers, None
        self._told.set()

    def _lose_stream(self) -> None:
        self._forget_old()
        if not self._before_loss:
            self._before_loss = self._workers

    def _forget_old(self) -> None:
        if self._kept_until is not None and self._clock() >= self._kept_until:
            self._before_loss, self._kept_until = (), None

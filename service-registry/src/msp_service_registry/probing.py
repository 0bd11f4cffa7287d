"""Probes: asking a doubted worker's `/health`, with growing patience."""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import httpx

from msp_service_registry.clock import Clock
from msp_service_registry.workers import WorkerTable

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
JITTER = 0.2
"""Share by which a delay varies, so that workers that failed together are not probed together."""

QUIET_S = 60.0
"""A worker that needed no probe for so long is met with fresh patience. Until then delays go on growing, so
that one whose `/health` answers while its work fails comes back less and less often."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProbeAnswer:
    """What a probe found."""

    good: bool
    detail: str


class Prober(Protocol):
    """What asks a worker how it is."""

    async def probe(self, url: str) -> ProbeAnswer:
        """Ask the worker at this base URL; never raises for what a network or a worker can do."""


class HttpProber:
    """Asks `GET /health`; 200 is good, whatever the body says."""

    def __init__(self, client: httpx.AsyncClient, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    async def probe(self, url: str) -> ProbeAnswer:
        """Ask the worker at this base URL."""
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream("GET", f"{url}/health") as answer,
            ):
                return ProbeAnswer(answer.status_code == 200, f"/health answered {answer.status_code}")
        except TimeoutError:
            return ProbeAnswer(False, f"/health gave no answer within {self._timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return ProbeAnswer(False, f"/health: {str(error) or type(error).__name__}")


@dataclass(frozen=True)
class Patience:
    """How one worker's probes are spaced."""

    attempts: int
    next_at: float


def patience(before: Patience | None, now: float) -> Patience:
    """The patience with a worker that is doubted at `now`."""
    if before is None or now - before.next_at > QUIET_S:
        return Patience(0, now + FIRST_DELAY_S)
    return before


def after_probe(before: Patience, now: float, jitter: float) -> Patience:
    """The patience once a probe was sent; `jitter` is from -1 to 1."""
    delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(before.attempts + 1, 10))
    return Patience(before.attempts + 1, now + delay_s * (1 + JITTER * jitter))


class Probing:
    """Sends the probes; `run` is the task."""

    def __init__(
        self,
        table: WorkerTable,
        prober: Prober,
        clock: Clock,
        jitter: Callable[[], float] = lambda: random.uniform(-1, 1),
    ) -> None:
        self._table = table
        self._prober = prober
        self._clock = clock
        self._jitter = jitter
        self._patience: dict[str, Patience] = {}
        self._asking: set[str] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Probe whatever is in doubt. Runs until cancelled."""
        unsubscribe = self._table.subscribe(self._wake.set)
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._wake.clear()
                    next_at = self._start_due(group)
                    await self._clock.wait(self._wake, next_at)
        finally:
            unsubscribe()

    def _start_due(self, group: asyncio.TaskGroup) -> float | None:
        """Start the probes that are due; returns when the next one will be."""
        now = self._clock.monotonic()
        doubted = {i: url for i, url in self._table.in_doubt().items() if i not in self._asking}
        for worker_id, url in doubted.items():
            self._patience[worker_id] = patience(self._patience.get(worker_id), now)
            if now >= self._patience[worker_id].next_at:
                self._patience[worker_id] = after_probe(self._patience[worker_id], now, self._jitter())
                self._asking.add(worker_id)
                group.create_task(self._ask(worker_id, url))
        for worker_id in [i for i, p in self._patience.items() if now - p.next_at > QUIET_S]:
            del self._patience[worker_id]
        return min((self._patience[i].next_at for i in doubted), default=None)

    async def _ask(self, worker_id: str, url: str) -> None:
        asked_at = self._clock.monotonic()
        try:
            answer = await self._prober.probe(url)
        finally:
            self._asking.discard(worker_id)
            self._wake.set()
        level = logging.INFO if answer.good else logging.DEBUG
        log.log(level, "probed a doubted worker", extra={"worker_id": worker_id, "answer": answer.detail})
        if answer.good:
            self._table.answered_probe(worker_id, url, asked_at)
